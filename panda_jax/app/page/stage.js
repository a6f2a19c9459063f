// The picture: before and after, parts under the pointer, and the brush.

import {find} from './dom.js';
import {drawn, mapsOfMask, outlines, packedMask, partAt, unpacked, unpackedMask} from './maps.js';
import {pictures} from './pictures.js';
import {bring, resized} from './scrolling.js';
import {ask, Refusal} from './server.js';
import {called, change, choiceOf, chosenEdit, follow, session, turn} from './session.js';
import {wordsOf} from './stack.js';
import {counted, say} from './status.js';

const stage = find('stage'), after = find('after'), before = find('before'), canvas = find('parts'), tag = find('tag');
const brush = find('brush');
const SIDE = 512; // pixels of a side of the drawing of parts
const PAINT = [255, 150, 40];
const HINTED = 1500; // milliseconds that all parts are shown
const AIMED = 5000; // after they moved, so that one can be chosen
const SETTLED = 150; // milliseconds without a change before the other pictures are made

// Shows the picture of the newest choice; older choices that still wait are skipped.

let wanted = null, running = false, tried = null, trying = '', settled = null;
const rest = [];
export const whenSettled = (listener) => rest.push(listener);

const view = () => document.querySelector('input[name=view]:checked').value;

function show() {
  const choice = choiceOf({...session.now, ...tried});
  wanted = {choice, original: {...choice, terms: []}, difference: view() === 'difference'};
  if (!running) run();
  clearTimeout(settled);
  if (!tried) settled = setTimeout(() => { for (const listener of rest) listener(session.now); }, SETTLED);
}

async function run() {
  running = true;
  try {
    while (wanted) await showOne();
  } finally {
    running = false;
  }
}

async function showOne() {
  const {choice, original, difference} = wanted;
  wanted = null;
  try {
    const edited = await pictures(choice, [difference ? 'difference' : 'edited']);
    const plain = await pictures(original, ['original']);
    draw(difference ? edited.difference[0] : edited.edited[0], plain.original[0]);
    if (!difference) return;
    tag.hidden = false;
    tag.textContent = edited.brightest ? `brightest: ${edited.brightest.toPrecision(2)} of 2` : 'no difference';
  } catch (error) {
    refused(error);
  }
}

// Until there is a picture: says what the page waits for, and for how many seconds.

let counting = null;

export function emptied(words) {
  find('waiting-for').textContent = `${words} …`;
  counting ??= counted(find('waited'));
  stage.classList.add('empty');
}

export function filled() {
  counting?.();
  counting = null;
  stage.classList.remove('empty');
}

function draw(edited, original) {
  filled();
  if (after.src !== edited) after.src = edited;
  if (before.src !== original) before.src = original;
  const words = wordsOf(session.now).join(', ') || 'no edits';
  const {photograph, seed} = session.now;
  const what = photograph?.shown ? photograph.name : `${session.fit.seeds_are} ${seed}`;
  after.alt = `${what}: ${words}`;
  before.alt = `${what}, before`;
}

function refused(error) {
  if (!(error instanceof Refusal)) throw error;
  filled();
  if (session.now.photograph?.shown && /photograph/.test(error.message)) turn({photograph: null});
  say(error.message, 'error');
}

// A preview of changes to the choice, which are called `name`, while the pointer is on them; null for none.
export function preview(changes, name = '') {
  if (!changes && !tried) return;
  [tried, trying] = [changes, name];
  stage.classList.toggle('trying', Boolean(changes));
  outline();
  show();
}

// Parts.

let refinedMaps = null, refinedOf = '';
let pointed = null, stroke = null; // the part under the pointer; the path of the brush
export const maps = () => refinedMaps ?? session.maps;

async function refine(now) {
  const choice = choiceOf({...now, edits: []}), of = now.refined ? JSON.stringify([session.fit.fit, choice]) : '';
  if (of === refinedOf) return;
  const first = !refinedOf; // later ones, of other samples, go without saying
  [refinedOf, refinedMaps] = [of, null];
  if (!of) return;
  try {
    const found = await ask('refined', {fit: session.fit.fit, choice}, 'Refining the parts for this picture …');
    if (refinedOf !== of) return;
    refinedMaps = unpacked(found.maps);
    if (first) say('Fitted: outlines and edits are where the parts are in each picture.');
    hint(first ? AIMED : HINTED);
  } catch (error) {
    refused(error);
  }
}

const pictured = new WeakMap(); // {maps: {what: its picture}}

function picture(of, what, make) {
  if (!pictured.has(of)) pictured.set(of, new Map());
  const all = pictured.get(of);
  if (!all.has(what)) all.set(what, make());
  return all.get(what);
}

function outline() {
  const {width, height} = canvas, pen = canvas.getContext('2d'), place = session.now.place, of = maps();
  const {parts, colours} = session.fit;
  pen.clearRect(0, 0, width, height);
  if (painting() || (place?.mask && pointed === null)) {
    const mask = stroke?.mask ?? (place?.mask && unpackedMask(place.mask));
    if (mask) {
      const masks = mapsOfMask(mask);
      const fill = stroke || (painting() && stage.matches(':hover')) ? 0.5 : 0; // else it would hide the edit's effect
      pen.drawImage(drawn(masks, masks.maps[0], width, height, PAINT, fill, 2), 0, 0);
    }
  } else {
    if (stage.matches('.pointed, .hinted, .inviting')) {
      pen.drawImage(picture(of, 'all', () => outlines(of, width, height)), 0, 0);
    }
    const chosen = place?.part?.[0] ?? null;
    for (const part of new Set([chosen, pointed])) {
      if (part === null) continue;
      const i = parts.indexOf(part), fill = part === pointed ? 0.35 : 0, line = part === chosen ? 3 : 2;
      const make = () => drawn(of, of.maps[i], width, height, colours[i % colours.length], fill, line);
      pen.drawImage(picture(of, `${part} ${fill} ${line}`, make), 0, 0);
    }
  }
  if (view() !== 'difference') {
    const where = painting() ? 'Draw where to edit' : called(pointed === null ? place : {part: [pointed]});
    tag.textContent = stage.classList.contains('held') ? 'Before' : tried ? `Trying: ${trying}` : where;
    tag.hidden = !tag.textContent || view() === 'compare';
  }
}

// Shows all parts for a moment, because they have changed.
function hint(time) {
  stage.classList.add('hinted');
  outline();
  setTimeout(() => {
    stage.classList.remove('hinted');
    outline();
  }, time);
}

let outlined = null; // the edits during which the place is outlined without a pointer on it

// Outlines the place until the edits change; later the outline would hide their effect.
function outlining() {
  outlined = session.now.edits;
  canvas.classList.add('shown');
}

export function choosePart(part) {
  turn({place: part === null ? null : {part: [part]}});
  outlining();
  bring(find('try'));
}

const within = (x) => Math.min(1, Math.max(0, x));

function placeIn(event) {
  const box = stage.getBoundingClientRect();
  return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
}

stage.addEventListener('pointermove', (event) => {
  if (event.pointerType === 'touch' || stroke || painting() || view() === 'compare') return;
  const found = partAt(maps(), ...placeIn(event));
  if (found === pointed && stage.classList.contains('pointed')) return;
  pointed = found;
  stage.classList.add('pointed');
  outline();
});
stage.addEventListener('pointerenter', outline);
stage.addEventListener('pointerleave', () => {
  pointed = null;
  stage.classList.remove('pointed');
  outline();
});
stage.addEventListener('click', (event) => {
  if (painting() || view() === 'compare') return;
  const part = partAt(maps(), ...placeIn(event));
  if (part === null) say('No part is there. Choose another place.');
  else choosePart(part);
});

// The brush.

export const painting = () => find('paint').getAttribute('aria-pressed') === 'true';

// Switches the brush on or off. The divider is then off: a stroke would move it.
export function paint(on) {
  if (on === painting()) return;
  find('paint').setAttribute('aria-pressed', String(on));
  find('painting').hidden = !on;
  stage.classList.toggle('painting', on);
  brush.hidden = true;
  if (on && view() === 'compare') setView('after');
  turn(on && !session.now.place?.mask ? {place: null} : {});
  if (!on) outlining();
}

// The brush paints cells of the grid whose centre is within the brush's width of the pointer's path.

const reachOf = ([H, W]) => Math.max(0.71, find('brush-size').value / 32 * Math.max(H, W)); // in cells

// Shows the brush where the pointer is, or in the middle of the picture while its width changes.
function ring([x, y]) {
  const {grid, margin: [, left]} = session.fit;
  const radius = reachOf(grid) / (grid[1] - 2 * left) * stage.clientWidth;
  Object.assign(brush.style, {
    left: `${x * stage.clientWidth}px`, top: `${y * stage.clientHeight}px`, width: `${2 * radius}px`,
  });
  brush.hidden = false;
}

stage.addEventListener('pointermove', (event) => { if (painting()) ring(placeIn(event)); });
stage.addEventListener('pointerleave', () => { brush.hidden = true; });
find('brush-size').addEventListener('input', () => ring([0.5, 0.5]));
find('brush-size').addEventListener('change', () => { brush.hidden = true; });

function dab(mask, [x, y], value) {
  const [H, W] = session.fit.grid, [top, left] = session.fit.margin;
  const row = top + y * (H - 2 * top) - 0.5, column = left + x * (W - 2 * left) - 0.5;
  const reach = reachOf([H, W]);
  const [first, last] = [Math.max(top, Math.floor(row - reach)), Math.min(H - top - 1, Math.ceil(row + reach))];
  const [start, end] = [Math.max(left, Math.floor(column - reach)), Math.min(W - left - 1, Math.ceil(column + reach))];
  for (let r = first; r <= last; r++) {
    for (let c = start; c <= end; c++) {
      if (Math.hypot(r - row, c - column) <= reach) mask[r * W + c] = value;
    }
  }
}

function painted(to) {
  const [x, y] = stroke.at, [H, W] = session.fit.grid;
  const steps = Math.max(1, Math.ceil(2 * Math.max(H, W) * Math.max(Math.abs(to[0] - x), Math.abs(to[1] - y))));
  for (let k = 1; k <= steps; k++) {
    dab(stroke.mask, [x + (to[0] - x) * k / steps, y + (to[1] - y) * k / steps], find('erase').checked ? 0 : 1);
  }
  stroke.at = to;
  outline();
}

stage.addEventListener('pointerdown', (event) => {
  if (!painting() || event.button) return;
  event.preventDefault();
  stage.setPointerCapture(event.pointerId);
  const [H, W] = session.fit.grid, place = session.now.place;
  stroke = {mask: place?.mask ? unpackedMask(place.mask) : new Float32Array(H * W), at: placeIn(event)};
  painted(stroke.at);
});
stage.addEventListener('pointermove', (event) => { if (stroke) painted(placeIn(event)); });
for (const kind of ['pointerup', 'pointercancel']) {
  stage.addEventListener(kind, () => {
    if (!stroke) return;
    const {mask} = stroke;
    stroke = null;
    setMask(mask.some((x) => x > 0) ? packedMask(mask) : null);
  });
}

// Takes a mask in place of the part. If the chosen edit was of the mask before, it moves, and may need another name.
export function setMask(mask) {
  const edit = chosenEdit(), was = session.now.place;
  if (mask && was?.mask && edit?.term.mask === was.mask) {
    const moved = {...edit, term: {...edit.term, mask}, moved: true};
    change({place: {mask}, edits: session.now.edits.map((one) => (one === edit ? moved : one))});
  } else {
    change({place: mask ? {mask} : null});
  }
}

// Before and after.

const divider = find('divider');

function divided() {
  const thumb = 40, width = stage.clientWidth, at = thumb / 2 + (width - thumb) * divider.value / 100;
  const held = stage.classList.contains('held');
  before.style.clipPath = held ? 'none' : view() === 'compare' ? `inset(0 ${width - at}px 0 0)` : 'inset(0 100% 0 0)';
  stage.classList.toggle('compared', view() === 'compare' && !held);
  divider.hidden = view() !== 'compare' || held;
}

export function hold(on) {
  stage.classList.toggle('held', on);
  divided();
  outline();
}

// Without edits there is only one picture to show.
export function setView(name) {
  if (find('views').disabled && name !== 'after') {
    say('Choose an edit first. Then there is a picture before and after.');
    return;
  }
  const to = view() === name ? 'after' : name;
  document.querySelector(`input[name=view][value=${to}]`).checked = true;
  viewed();
  if (!divider.hidden) divider.focus({preventScroll: true});
}

function viewed() {
  if (view() === 'compare') {
    paint(false);
    pointed = null;
  }
  divided();
  outline();
  show();
}

divider.addEventListener('input', divided);
new ResizeObserver(divided).observe(stage);
for (const radio of document.querySelectorAll('input[name=view]')) radio.addEventListener('change', viewed);

const holder = find('hold');
holder.addEventListener('pointerdown', (event) => { holder.setPointerCapture(event.pointerId); hold(true); });
for (const kind of ['pointerup', 'pointercancel', 'blur', 'keyup']) holder.addEventListener(kind, () => hold(false));
holder.addEventListener('keydown', (event) => { if (event.key === ' ' || event.key === 'Enter') hold(true); });
holder.addEventListener('contextmenu', (event) => event.preventDefault());

// Of another fit.
export function mount() {
  const [h, w] = session.fit.size;
  document.documentElement.style.setProperty('--aspect', w / h);
  canvas.width = Math.round(SIDE * Math.min(1, w / h));
  canvas.height = Math.round(SIDE * Math.min(1, h / w));
  session.maps = unpacked(session.fit.maps);
  [refinedMaps, refinedOf, pointed] = [null, '', null];
  resized();
  viewed();
}

follow((now) => {
  if (!session.maps) return;
  const bare = !now.edits.length; // then nothing hides an effect
  if (now.edits !== outlined || bare) canvas.classList.toggle('shown', bare && Boolean(now.place));
  stage.classList.toggle('inviting', !now.place && bare); // until the first choice all parts are shown
  find('views').disabled = find('hold').disabled = bare;
  if (bare && view() !== 'after') setView('after');
  refine(now);
  outline();
  divided();
  show();
});
