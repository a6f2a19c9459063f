// The samples below the picture: which are there, and which one is looked at.

import {button, find, make} from './dom.js';
import {pictures} from './pictures.js';
import {Refusal} from './server.js';
import {change, choiceOf, follow, session, turn} from './session.js';
import {whenSettled} from './stage.js';
import {say} from './status.js';

const strip = find('samples'), seeds = find('seeds'), truncation = find('truncation');
const COUNT = 8; // samples at a time
const MOST_RANDOM = 100_000;

// Numbers such as 3, 7 and 0-4; null where they are none.
function numbers(text) {
  const found = [];
  for (const piece of text.split(/[\s,]+/).filter(Boolean)) {
    const range = /^(\d+)(?:-(\d+))?$/.exec(piece);
    if (!range) return null;
    const [first, last] = [Number(range[1]), Number(range[2] ?? range[1])];
    for (let n = first; n <= last && found.length <= session.fit.most_seeds; n++) if (!found.includes(n)) found.push(n);
  }
  return found.length ? found : null;
}

const text = (list) => {
  const whole = list.length > 2 && list.every((n, i) => n === list[0] + i);
  return whole ? `${list[0]}-${list.at(-1)}` : list.join(', ');
};

const some = (first) => {
  const most = session.fit.most_seed - first + 1;
  return Array.from({length: Math.min(COUNT, most)}, (_, i) => first + i);
};
export const firstSeeds = (fit) => {
  session.fit = fit;
  return some(fit.first_seed);
};

export function random() {
  const most = Math.min(MOST_RANDOM, session.fit.most_seed + 1), found = new Set();
  while (found.size < Math.min(COUNT, most)) found.add(Math.floor(Math.random() * most));
  look([...found]);
}

function look(list) {
  change({seeds: list, seed: list[0], photograph: session.now.photograph && {...session.now.photograph, shown: false}});
}

// The sample after or before the one that is looked at.
export function next(by) {
  const {seeds: all, seed, photograph} = session.now, keys = [...all, ...(photograph ? [photograph.key] : [])];
  const at = keys.indexOf(photograph?.shown ? photograph.key : seed);
  choose(keys[(at + by + keys.length) % keys.length]);
}

function choose(key) {
  const {photograph} = session.now;
  if (photograph && key === photograph.key) turn({photograph: {...photograph, shown: true}});
  else turn({seed: key, photograph: photograph && {...photograph, shown: false}});
}

find('random').addEventListener('click', random);
seeds.addEventListener('change', () => {
  const found = numbers(seeds.value), most = session.fit.most_seeds, last = session.fit.most_seed;
  if (!found || found.length > most || found.some((n) => n > last)) {
    say(`Seeds are whole numbers up to ${last}, such as 3 or 0-7; no more than ${most} of them.`, 'error');
    seeds.setAttribute('aria-invalid', 'true');
  } else {
    look(found);
  }
});
truncation.addEventListener('input', () => {
  const value = Number(truncation.value);
  change({truncation: value === session.fit.truncation ? null : value}, 'truncation');
});

const buttons = new Map();

const made = (key, name) => button(
  {onclick: () => choose(key)}, make('img', {alt: '', draggable: false}), make('span', {textContent: name}),
);

function shown(now) {
  const names = new Map(now.seeds.map((seed) => [seed, `${session.fit.seeds_are} ${seed}`]));
  if (now.photograph) names.set(now.photograph.key, now.photograph.name);
  for (const [key, one] of buttons) if (!names.has(key)) { one.remove(); buttons.delete(key); }
  [...names].forEach(([key, name], i) => {
    if (!buttons.has(key)) buttons.set(key, made(key, name));
    const one = buttons.get(key), current = now.photograph?.shown ? key === now.photograph.key : key === now.seed;
    if (strip.children[i] !== one) strip.insertBefore(one, strip.children[i] ?? null);
    one.setAttribute('aria-pressed', String(current));
  });
  if (document.activeElement !== seeds || seeds.getAttribute('aria-invalid') !== 'true') seeds.value = text(now.seeds);
  seeds.removeAttribute('aria-invalid');
  find('truncating').hidden = session.fit.truncation === null;
  const psi = now.truncation ?? session.fit.truncation ?? 1;
  truncation.max = Math.max(1, session.fit.truncation ?? 1);
  if (Number(truncation.value) !== psi) truncation.value = psi;
  find('psi').textContent = psi.toFixed(2);
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
