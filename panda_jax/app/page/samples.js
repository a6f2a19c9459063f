// The samples below the picture: the list, and the sample in view.

import {button, find, make} from './dom.js';
import {pictures} from './pictures.js';
import {Refusal} from './server.js';
import {change, choiceOf, follow, session, turn} from './session.js';
import {whenSettled} from './stage.js';
import {say, wrong} from './status.js';

const strip = find('samples'), seeds = find('seeds'), truncation = find('truncation');
const MOST_RANDOM = 10_000; // larger seeds would not fit below the pictures

// Reads numbers such as 3, 7 and 0-4, and says what is wrong with them.
function numbers(text) {
  const {most_seed: greatest, most_seeds: most} = session.fit, found = new Set();
  const such = 'Type whole numbers, such as 3 or 0-7.';
  for (const piece of text.split(/[\s,;]+/).filter(Boolean)) {
    const range = /^(\d+)(?:-(\d+))?$/.exec(piece), shown = piece.length > 30 ? `${piece.slice(0, 30)}…` : piece;
    if (!range) return {problem: `“${shown}” is not a seed. ${such}`};
    const [first, last] = [Number(range[1]), Number(range[2] ?? range[1])];
    if (last < first) return {problem: `“${shown}” goes backwards. Type ${last}-${first}.`};
    for (let n = first; n <= Math.min(last, first + most, greatest); n++) found.add(n);
    if (last - first >= most || found.size > most) return {problem: `Too many: ${most} samples are shown at most.`};
    if (last > greatest) return {problem: `“${shown}” is too large: ${greatest} is the last.`};
  }
  return found.size ? {found: [...found]} : {problem: such};
}

const text = (list) => {
  const whole = list.length > 2 && list.every((n, i) => n === list[0] + i);
  return whole ? `${list[0]}-${list.at(-1)}` : list.join(', ');
};

const some = (first) => {
  const most = session.fit.most_seed - first + 1;
  return Array.from({length: Math.min(session.fit.shown, most)}, (_, i) => first + i);
};
export const firstSeeds = (fit) => {
  session.fit = fit;
  return some(fit.first_seed);
};

// Consecutive seeds: they fit into the field, and their samples are as different as those of any seeds.
export function random() {
  const most = Math.min(MOST_RANDOM, session.fit.most_seed + 2 - session.fit.shown);
  look(some(Math.floor(Math.random() * Math.max(1, most))));
}

// Said once: that edits stay when another sample comes into view.
let told = false;

export function follows() {
  if (told || !session.now.edits.length) return;
  told = true;
  say('Your edits act on every picture. Reset deletes them.');
}

function look(list) {
  follows();
  change({seeds: list, seed: list[0], photograph: session.now.photograph && {...session.now.photograph, shown: false}});
}

// The sample after or before the one in view.
export function next(by) {
  const {seeds: all, seed, photograph} = session.now, keys = [...(photograph ? [photograph.key] : []), ...all];
  const at = keys.indexOf(photograph?.shown ? photograph.key : seed);
  choose(keys[(at + by + keys.length) % keys.length]);
}

function choose(key) {
  const {photograph} = session.now;
  follows();
  if (photograph && key === photograph.key) turn({photograph: {...photograph, shown: true}});
  else turn({seed: key, photograph: photograph && {...photograph, shown: false}});
}

find('random').addEventListener('click', random);
seeds.addEventListener('change', () => {
  const {found, problem} = numbers(seeds.value);
  wrong(seeds, problem ?? '');
  if (found) look(found);
});
truncation.addEventListener('input', () => {
  const value = Number(truncation.value);
  change({truncation: value === session.fit.truncation ? null : value}, 'truncation');
});

const buttons = new Map();

const made = (key, name) => button(
  {title: name, onclick: () => choose(key)},
  make('img', {alt: '', draggable: false}),
  make('span', {textContent: name}),
);

function shown(now) {
  const {photograph} = now, names = new Map(photograph ? [[photograph.key, photograph.name]] : []);
  for (const seed of now.seeds) names.set(seed, `${session.fit.seeds_are} ${seed}`);
  for (const [key, one] of buttons) if (!names.has(key)) { one.remove(); buttons.delete(key); }
  [...names].forEach(([key, name], i) => {
    if (!buttons.has(key)) buttons.set(key, made(key, name));
    const one = buttons.get(key), current = photograph?.shown ? key === photograph.key : key === now.seed;
    if (strip.children[i] !== one) strip.insertBefore(one, strip.children[i] ?? null);
    if (current && one.ariaPressed !== 'true') inSight(one);
    one.ariaPressed = String(current);
  });
  if (document.activeElement !== seeds || seeds.ariaInvalid !== 'true') seeds.value = text(now.seeds);
  wrong(seeds, '');
  find('truncating').hidden = session.fit.truncation === null;
  const psi = now.truncation ?? session.fit.truncation ?? 1;
  truncation.max = Math.max(1, session.fit.truncation ?? 1);
  if (Number(truncation.value) !== psi) truncation.value = psi;
  find('psi').textContent = psi.toFixed(2);
}

// Scrolls the list, not the page.
function inSight(one) {
  const {left, right} = strip.getBoundingClientRect(), box = one.getBoundingClientRect();
  strip.scrollLeft += Math.min(0, box.left - left) + Math.max(0, box.right - right);
}

let asked = '';

// The same edits on every sample.
async function filled(now) {
  const choice = {...choiceOf({...now, photograph: null}), seeds: now.seeds};
  const key = JSON.stringify([session.fit.fit, choice]);
  if (now.photograph?.picture && buttons.has(now.photograph.key)) {
    buttons.get(now.photograph.key).querySelector('img').src = now.photograph.picture;
  }
  if (key === asked) return;
  asked = key;
  try {
    const {edited} = await pictures(choice, ['edited'], true);
    if (asked !== key) return;
    now.seeds.forEach((seed, i) => {
      const picture = buttons.get(seed)?.querySelector('img');
      if (picture) picture.src = edited[i];
    });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    asked = '';
  }
}

follow(shown);
whenSettled(filled);
