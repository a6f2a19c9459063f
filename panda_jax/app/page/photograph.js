// The user's photograph: dropped or chosen, marked with points or a box, inverted, and then used like a sample.

import {commandWords, find} from './dom.js';
import {ask, packed, Refusal} from './server.js';
import {follows} from './samples.js';
import {change, session, turn} from './session.js';
import {counted, say} from './status.js';

const dialog = find('photograph'), picture = find('photo'), canvas = find('marks'), said = find('photo-said');
const LARGEST = 14 * 2 ** 20; // bytes of a file
const FAR = 6; // pixels that a pointer moves before it drags
let held = null; // {key, name, aspect}

const told = (sentence, wrong = false) => {
  said.textContent = sentence;
  said.className = wrong ? 'error' : '';
};

async function tried(work, where = told) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    where(error.message, true);
    return null;
  }
}

export const given = (files) => tried(async () => {
  if (!files.length || !session.fit) return;
  const sent = await packed(files[0], LARGEST, files.length);
  const found = await ask('photograph', {fit: session.fit.fit, ...sent}, 'Reading the photograph …');
  held = found;
  picture.src = found.picture;
  await picture.decode();
  for (const id of ['points', 'box']) find(id).value = '';
  inverting(false);
  show(false);
  told(found.said);
  say('');
  if (!dialog.open) dialog.showModal();
  await mark({});
  tried(() => ask('ready', {fit: session.fit.fit}));
}, (sentence) => say(sentence, 'error'));

// Shows the marks, or the result of the inversion.
function show(inverted) {
  for (const id of ['marking', 'marking-fields', 'invert', 'photo-clear']) find(id).hidden = inverted;
  find('inverted').hidden = !inverted;
  find('photo-close').textContent = inverted ? 'Edit it' : 'Close';
  find('photo-close').classList.toggle('main', inverted);
}

const mark = (more) => tried(async () => {
  const values = {fit: session.fit.fit, key: held.key, points: find('points').value, box: find('box').value, ...more};
  const found = await ask('marks', values);
  find('points').value = found.points;
  find('box').value = found.box;
  told(found.said, found.wrong);
  drawn(found);
});

function drawn({marks, corners}) {
  const {width, height} = Object.assign(canvas, {width: picture.clientWidth, height: picture.clientHeight});
  const pen = canvas.getContext('2d');
  for (const [colour, line] of [['#1d1f24', 5], ['#fff', 2]]) {
    Object.assign(pen, {strokeStyle: colour, lineWidth: line});
    pen.beginPath();
    if (corners) [...corners, corners[0]].forEach(([x, y], i) => pen[i ? 'lineTo' : 'moveTo'](x * width, y * height));
    for (const [x, y] of marks) {
      pen.moveTo(x * width - 9, y * height);
      pen.lineTo(x * width + 9, y * height);
      pen.moveTo(x * width, y * height - 9);
      pen.lineTo(x * width, y * height + 9);
    }
    pen.stroke();
  }
}

const within = (x) => Math.min(1, Math.max(0, x));
const place = (event) => {
  const box = picture.getBoundingClientRect();
  return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
};
let drag = null;
const area = find('marking');
area.addEventListener('pointerdown', (event) => {
  if (event.button) return;
  event.preventDefault();
  area.setPointerCapture(event.pointerId);
  drag = {start: place(event), from: [event.clientX, event.clientY], far: false};
});
area.addEventListener('pointermove', (event) => {
  if (!drag) return;
  drag.far ||= Math.hypot(event.clientX - drag.from[0], event.clientY - drag.from[1]) > FAR;
  if (!drag.far) return;
  const [x, y] = drag.start, [dx, dy] = place(event).map((v, i) => v - drag.start[i]);
  const {width, height} = canvas, wide = Math.min(Math.abs(dx) * width, Math.abs(dy) * height * held.aspect);
  const [right, bottom] = [x + Math.sign(dx) * wide / width, y + Math.sign(dy) * wide / held.aspect / height];
  drawn({marks: [], corners: [[x, y], [right, y], [right, bottom], [x, bottom]]});
});
area.addEventListener('pointerup', (event) => {
  if (!drag) return;
  const {start, far} = drag, end = place(event);
  drag = null;
  mark(far ? {dragged: [start, end]} : {click: end});
});
area.addEventListener('pointercancel', () => { drag = null; });
for (const id of ['points', 'box']) find(id).addEventListener('change', () => mark({}));
find('photo-clear').addEventListener('click', () => {
  for (const id of ['points', 'box']) find(id).value = '';
  mark({});
});
find('photo-close').addEventListener('click', () => dialog.close());

function inverting(on) {
  find('invert').disabled = find('photo-clear').disabled = on;
  dialog.classList.toggle('working', on);
}

find('invert').addEventListener('click', () => tried(async () => {
  inverting(true);
  const counting = counted(find('photo-waited'));
  try {
    const values = {fit: session.fit.fit, key: held.key, points: find('points').value, box: find('box').value};
    const found = await ask('inversion', values, '', (sentence) => told(`${sentence} …`));
    for (const [id, i] of [['crop', 0], ['made', 1]]) find(id).src = found.pictures[i];
    find('near').textContent = found.near;
    find('photo-command').replaceChildren(...commandWords(found.command));
    show(true);
    told(found.said);
    const photograph = {key: found.photograph, name: found.name, picture: found.pictures[0], shown: true};
    (session.now.photograph ? change : turn)({photograph}); // no step: undo keeps it
    follows();
    find('photo-close').focus();
  } finally {
    counting();
    inverting(false);
  }
}));

// A file that was dropped anywhere or chosen.
const files = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
document.addEventListener('dragover', (event) => {
  if (!files(event)) return;
  event.preventDefault();
  document.body.classList.add('dropping');
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) document.body.classList.remove('dropping');
});
document.addEventListener('drop', (event) => {
  if (!files(event)) return;
  event.preventDefault();
  document.body.classList.remove('dropping');
  given(event.dataTransfer.files);
});
find('photo-file').addEventListener('change', async (event) => {
  await given(event.target.files);
  event.target.value = '';
});
