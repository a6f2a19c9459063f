// Saving: the browser downloads the picture; the server keeps the edit and its command in the folder of the fit.

import {button, commandWords, find, make} from './dom.js';
import {bring, phone} from './scrolling.js';
import {ask, Refusal} from './server.js';
import {choiceOf, follow, session} from './session.js';
import {acts, wordsOf} from './stack.js';
import {say, wrong} from './status.js';

const LARGE = 512; // pixels of the longer side of an enlarged picture, or a little more

const link = (address, name, words) => make('a', {href: address, download: name, textContent: words});
const download = (address, name) => link(address, name, name).click();

async function tried(work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.message.startsWith('name: ')) wrong(find('name'), error.message);
    else say(error.message, 'error');
  }
}

let kept = ''; // what was saved last

// The parts of a choice that are saved. Edits are sorted: their order does not change the picture.
function savedOf(now) {
  const choice = choiceOf(now);
  return JSON.stringify([session.fit.fit, {...choice, terms: choice.terms.map((term) => JSON.stringify(term)).sort()}]);
}

export const save = () => tried(async () => {
  if (find('save').disabled) return say(hint(session.now));
  const now = session.now;
  const values = {fit: session.fit.fit, choice: choiceOf(now), name: find('name').value, words: wordsOf(now)};
  const done = await ask('saved', values, 'Saving …');
  wrong(find('name'), '');
  const picture = done.files.find((file) => file.name === done.picture);
  const times = find('sizing').hidden ? 1 : Number(find('size').value), [w, h] = done.size.map((side) => side * times);
  download(times === 1 ? picture.address : await enlarged(picture.address, w, h), `${done.name}.png`);
  const said = `Saved to your downloads: ${done.name}.png, ${w}x${h} pixels`;
  const links = done.files.flatMap((file) => [', ', link(file.address, `${done.name}-${file.name}`, file.name)]);
  const code = make('code', {}, ...commandWords(done.command)), box = find('saved');
  box.replaceChildren(
    make('p', {textContent: said}),
    make('details', {},
      make('summary', {textContent: 'Details'}),
      make('p', {textContent: `It is also kept in ${done.folder}. The command that makes it again:`}),
      make('pre', {}, code),
      make('p', {}, 'Files: ', ...links.slice(1), '.'),
      button({textContent: 'Copy command', onclick: () => copied(done.command, code)})),
  );
  kept = savedOf(now);
  follows(session.now);
  // What the user looks at stays in its place; on a phone the note comes whole into view if a part of it is.
  if (phone.matches && box.getBoundingClientRect().top < innerHeight) bring(box);
  say(said);
});

async function enlarged(address, width, height) {
  const image = make('img', {src: address}), canvas = make('canvas', {width, height}), pen = canvas.getContext('2d');
  await image.decode().catch(() => { throw new Refusal('The server does not answer. Save again.'); });
  pen.imageSmoothingQuality = 'high';
  pen.drawImage(image, 0, 0, width, height);
  return canvas.toDataURL('image/png');
}

async function copied(text, code) {
  try {
    await navigator.clipboard.writeText(text);
    say('Copied.');
  } catch { // browsers do not copy over plain HTTP: the user copies by hand
    getSelection().selectAllChildren(code);
    say('Press Ctrl+C to copy it.');
  }
}

find('save').addEventListener('click', save);
find('name').addEventListener('input', () => wrong(find('name'), ''));
find('name').addEventListener('keydown', (event) => { if (event.key === 'Enter' && !find('save').disabled) save(); });

// Says why there is nothing to save, or what is saved of a photograph.
function hint(now) {
  if (!now.edits.length) return 'Choose an edit first, then save the picture.';
  if (!now.edits.some(acts)) return 'Every edit is off or at 0: there is nothing to save.';
  if (now.photograph?.shown) return 'All of your photograph is saved, with the edits in it.';
  return '';
}

// What a picture can be saved as: as the generator makes it, or enlarged.
function sized({photograph}) {
  const [h, w] = session.fit.size, times = Math.ceil(LARGE / Math.max(h, w)), of = `${w}x${h}`;
  find('sizing').hidden = Boolean(photograph?.shown) || times === 1;
  if (find('size').dataset.of === of) return;
  find('size').dataset.of = of;
  const choices = {1: `${of}, as made`, [times]: `${w * times}x${h * times}, enlarged`};
  const options = Object.entries(choices).map(([value, textContent]) => make('option', {value, textContent}));
  find('size').replaceChildren(...options);
}

// The note on the last save is shown while the picture is the saved one.
function follows(now) {
  find('saved').hidden = !kept || savedOf(now) !== kept;
  find('save').disabled = !now.edits.some(acts);
  find('save-said').textContent = hint(now);
  sized(now);
}

follow(follows);
