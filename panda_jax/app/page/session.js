// The choice, with undo and redo. Everything on the page follows from `session.now`.

const MOST = 100; // steps that can be undone
const KEPT = 'panda-explorer'; // key of the browser's storage: a page that is loaded again continues
const LATER = 200; // milliseconds between a change and its storage
const LONG = 100; // letters: longer texts (masks and pictures) are stored once for all steps
const EMPTY = {
  seeds: [], seed: 0, truncation: null, photograph: null, refined: false, place: null, edits: [], chosen: null,
};

export const session = {fit: null, now: EMPTY, past: [], future: [], sliding: null};
const listeners = [];

export const follow = (listener) => listeners.push(listener);

function moved() {
  clearTimeout(keeping);
  keeping = setTimeout(keep, LATER);
  for (const listener of listeners) listener(session.now);
}

// Steps are stored in the tab, not on the server. So each tab has its own, and they survive a restart of the server.
// If there is not enough space for all steps, the oldest are dropped.

let keeping = null;

function keep() {
  if (!session.fit) return;
  const {fit: {fit, digest}, now} = session;
  for (let most = MOST; most >= 0; most = most > 0 ? most >> 1 : -1) {
    const [past, future] = [most ? session.past.slice(-most) : [], session.future.slice(0, most)];
    try {
      sessionStorage.setItem(KEPT, packed({fit, digest, now, past, future}));
      return;
    } catch { /* storage is full or not allowed: a reload starts from the beginning */ }
  }
}

addEventListener('pagehide', keep);

function packed(values) {
  const texts = new Map();
  const short = JSON.stringify(values, (key, value) => {
    if (typeof value !== 'string' || value.length < LONG) return value;
    if (!texts.has(value)) texts.set(value, texts.size);
    return {text: texts.get(value)};
  });
  return JSON.stringify({texts: [...texts.keys()], short});
}

function unpacked({texts, short}) {
  return JSON.parse(short, (key, value) => (Number.isInteger(value?.text) ? texts[value.text] : value));
}

// Makes one step. Successive changes with the same `slide` are one step.
export function change(changes, slide = null) {
  const next = {...session.now, ...changes};
  if (JSON.stringify(next) === JSON.stringify(session.now)) return;
  if (slide === null || slide !== session.sliding) session.past = [...session.past, session.now].slice(-MOST);
  Object.assign(session, {now: next, future: [], sliding: slide});
  moved();
}

// Changes the sample in view. This is not a step: undo does not change it back.
export function turn(changes) {
  Object.assign(session, {now: {...session.now, ...changes}, sliding: null});
  moved();
}

// An earlier or later step, with the sample that is in view now.
function seen(step) {
  const {seed, place, photograph} = session.now;
  const same = !step.photograph || step.photograph.key === photograph?.key; // unless the step has another one
  return {
    ...step,
    seed: step.seeds.includes(seed) ? seed : step.seed,
    place: place?.mask || step.place?.mask ? step.place : place,
    photograph: same ? photograph : step.photograph,
  };
}

export function undo() {
  if (!session.past.length) return;
  const [past, future] = [session.past.slice(0, -1), [session.now, ...session.future]];
  Object.assign(session, {now: seen(session.past.at(-1)), past, future, sliding: null});
  moved();
}

export function redo() {
  if (!session.future.length) return;
  const [step, ...future] = session.future;
  Object.assign(session, {now: seen(step), future, past: [...session.past, session.now], sliding: null});
  moved();
}

// The steps of a fit in the browser's storage, or null.
export function kept() {
  try {
    return unpacked(JSON.parse(sessionStorage.getItem(KEPT)));
  } catch {
    return null;
  }
}

// Begins with a fit, and with its stored steps if they are of these factors.
export function begin(fit, seeds, seed) {
  const fresh = {...EMPTY, seeds, seed}, before = kept();
  const {now, past, future} = before?.fit === fit.fit && before.digest === fit.digest ? before : {past: [], future: []};
  Object.assign(session, {fit, now: {...fresh, ...now}, past, future, sliding: null});
  moved();
}

// Edits.

export const editOf = (id) => session.now.edits.find((edit) => edit.id === id) ?? null;
export const chosenEdit = () => editOf(session.now.chosen);
export const samePlace = (one, two) => JSON.stringify(placeOf(one)) === JSON.stringify(placeOf(two));
export const placeOf = (term) => term && (term.mask ? {mask: term.mask} : {part: term.part});
export const fresh = () => Math.random().toString(36).slice(2, 10);

export function replaced(id, changes, slide = null) {
  change({edits: session.now.edits.map((edit) => (edit.id === id ? {...edit, ...changes} : edit))}, slide);
}

export function deleted(id) {
  const edits = session.now.edits.filter((edit) => edit.id !== id);
  change({edits, chosen: session.now.chosen === id ? edits.at(-1)?.id ?? null : session.now.chosen});
}

// The choice for the server, with the chosen edit last.
export function choiceOf(now) {
  const acting = now.edits.filter((edit) => edit.on);
  acting.sort((one, two) => (one.id === now.chosen) - (two.id === now.chosen));
  const terms = acting.map((edit) => edit.term);
  const choice = {seeds: [now.seed], terms, refined: now.refined};
  if (now.photograph?.shown) return {...choice, photograph: now.photograph.key};
  return {...choice, truncation: now.truncation};
}

// Whether a name is that of a side of the picture, or missing.
const SIDE = /^(top|bottom|left|right|centre|sides|border|picture)$|^(top|bottom) /;
export const isSide = (name) => !name || SIDE.test(name);

// Words for a place: the name of a part, and its number if several parts have this name.
export function called(place) {
  if (!place) return '';
  if (place.mask) return 'painted area';
  const {names, parts} = session.fit, name = names[place.part[0]], number = `part ${place.part.join(' and ')}`;
  if (!name) return number;
  return parts.filter((part) => names[part] === name).length > 1 ? `${name} (${number})` : name;
}
