// Joins the parts of the page: the fit, the tools, the chosen place, and the keys.

import {find, make} from './dom.js';
import {take} from './film.js';
import {save} from './keeping.js';
import {inOrder} from './maps.js';
import './photograph.js';
import {firstSeeds, next, random} from './samples.js';
import './scrolling.js';
import {ask, packed, Refusal} from './server.js';
import {
  begin, called, change, choiceOf, deleted, follow, fresh, kept, redo, session, turn, undo,
} from './session.js';
import {choosePart, emptied, filled, hold, mount, paint, painting, setMask, setView} from './stage.js';
import {removing, stronger, toggle} from './stack.js';
import {say} from './status.js';
import './strips.js';

const LARGEST_MASK = 8 * 2 ** 20; // bytes of a file

async function tried(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    say(error.message, 'error');
    return null;
  }
}

// The fit.

const open = (name) => tried(async () => {
  emptied('Asking the server');
  const fit = await ask('fit', name ? {fit: name} : {}, '', emptied).catch((error) => {
    filled();
    throw error;
  });
  emptied('Making the first picture');
  const same = session.fit && session.fit.first_seed === fit.first_seed;
  const {seeds, seed} = same ? session.now : {seeds: firstSeeds(fit), seed: fit.typical_seed};
  session.maps = null;
  begin(fit, seeds, seed);
  mount();
  const parts = inOrder().map((part) => new Option(called({part: [part]}), part));
  find('part').replaceChildren(new Option('choose …', ''), ...parts);
  find('fits').hidden = fit.fits.length < 2;
  find('fit').replaceChildren(...fit.fits.map((one) => new Option(one, one, false, one === fit.fit)));
  find('about').textContent = fit.fits.length < 2 ? fit.fit : '';
  find('appearances').textContent = fit.appearances.length;
  find('layer').textContent = fit.layer;
  find('words').replaceChildren(...fit.words.map(([words, meaning]) =>
    make('tr', {}, make('th', {scope: 'row', textContent: words}), make('td', {textContent: meaning}))));
  find('least').textContent = fit.least;
  turn({});
  for (const id of ['tools', 'choose', 'panel']) find(id).inert = false;
  document.body.classList.add('ready');
  if (fit.warning) say(fit.warning, 'error');
});

find('fit').addEventListener('change', (event) => open(event.target.value));

// The place.

find('part').addEventListener('change', (event) => {
  const {value} = event.target; // read before the page resets the field
  paint(false);
  choosePart(value === '' ? null : Number(value));
});
const remove = () => tried(async () => {
  const why = whyNoRemoval(session.now);
  if (why) return say(why);
  const {now, fit} = session, name = called(now.place);
  const place = {...now.place, appearance: fit.appearances[0], alpha: 1};
  const {term} = await ask('removal', {fit: fit.fit, place, choice: choiceOf(now)}, `Removing ${name} …`);
  const edit = removing(fresh(), name, term);
  change({edits: [...session.now.edits, edit], chosen: edit.id});
  return say('Removed. If something is left, paint over it and remove that.');
});
find('remove').addEventListener('click', remove);

find('paint').addEventListener('click', () => paint(!painting()));
find('clear-mask').addEventListener('click', () => setMask(null));
find('mask-file').addEventListener('change', (event) => tried(async () => {
  const [file] = event.target.files;
  if (!file) return;
  const sent = await packed(file, LARGEST_MASK);
  event.target.value = '';
  setMask((await ask('mask', {fit: session.fit.fit, ...sent}, 'Reading the mask …')).mask);
}));
find('refine').addEventListener('change', (event) => change({refined: event.target.checked}));

function whyNoRemoval({place, edits}) {
  if (!place) return 'Choose a part first, or paint over what to remove.';
  const {most_terms: most} = session.fit;
  return edits.length < most ? '' : `There are ${most} edits, which are the most: delete one first.`;
}

// Samples.

find('before-sample').addEventListener('click', () => next(-1));
find('after-sample').addEventListener('click', () => next(1));

// History.

find('do-undo').addEventListener('click', undo);
find('do-redo').addEventListener('click', redo);
function reset() {
  if (find('do-reset').disabled) return;
  const {place} = session.now;
  change({edits: [], chosen: null, place: place?.mask ? null : place});
  say('');
}
find('do-reset').addEventListener('click', () => {
  reset();
  if (document.activeElement === document.body) find('do-undo').focus(); // a disabled button loses the focus
});

follow((now) => {
  find('do-undo').disabled = !session.past.length;
  find('do-redo').disabled = !session.future.length;
  find('do-reset').disabled = !now.edits.length && !now.place?.mask;
  find('part').value = now.place?.part?.[0] ?? '';
  const why = whyNoRemoval(now);
  find('remove').disabled = Boolean(why);
  find('remove').title = find('remove-why').textContent = why;
  find('refine').checked = now.refined;
  find('refining').hidden = Boolean(now.place?.mask); // it has no part to fit
});

// Keys.

const help = find('helping');
const openHelp = () => {
  help.showModal();
  help.scrollTop = 0;
};
find('help').addEventListener('click', openHelp);
find('help-close').addEventListener('click', () => help.close());

function otherPart(by) {
  const parts = inOrder(), at = parts.indexOf(session.now.place?.part?.[0]);
  paint(false);
  choosePart(at < 0 ? parts[by > 0 ? 0 : parts.length - 1] : parts[(at + by + parts.length) % parts.length]);
}

// On the picture arrow keys choose a part, and Enter goes to its edits.
find('stage').addEventListener('keydown', (event) => {
  const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  if (event.target !== find('stage') || !(by || event.key === 'Enter')) return;
  event.preventDefault();
  if (by) otherPart(by);
  else toFilm();
});

const toFilm = () => find('film').querySelector('[tabindex="0"]')?.focus();

const KEYS = {
  '[': () => otherPart(-1), ']': () => otherPart(1), ',': () => next(-1), '.': () => next(1),
  '-': ({repeat}) => stronger(-1, repeat), '+': ({repeat}) => stronger(1, repeat),
  '=': ({repeat}) => stronger(1, repeat),
  b: () => hold(true), c: () => setView('compare'), d: () => setView('difference'), r: random, s: save,
  h: () => toggle(session.now.chosen), p: () => paint(!painting()), '?': openHelp,
  t: toFilm, x: remove, n: reset,
  Delete: () => deleted(session.now.chosen), Backspace: () => deleted(session.now.chosen),
};

document.addEventListener('keydown', (event) => {
  if (!session.fit || document.querySelector('dialog[open]')) return;
  const letters = event.target.matches('select') && /^[a-z]$/i.test(event.key); // letters choose from the list
  const typing = event.target.matches('input[type=text]') || (letters && !event.ctrlKey && !event.metaKey);
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'z' && !typing) {
    event.preventDefault();
    (event.shiftKey ? redo : undo)();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (/^[1-9]$/.test(event.key)) take(Number(event.key) - 1);
  else if (act && !(event.repeat && !'-+=[].,'.includes(event.key))) act(event);
  else return;
  event.preventDefault();
});
document.addEventListener('keyup', (event) => { if (event.key.toLowerCase() === 'b') hold(false); });

const before = kept()?.fit ?? null;
if (await open(before) === null && before) await open(null);
