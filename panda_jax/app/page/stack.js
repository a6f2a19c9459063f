// The stack of edits: strength, on or off, order, deletion.

import {button, find, icon, make} from './dom.js';
import {change, chosenEdit, deleted, editOf, follow, placeOf, replaced, session, turn} from './session.js';
import {say} from './status.js';

const list = find('edits'), said = find('stack-said');
const LARGEST = 1e6; // the largest strength that can be typed
const STEPS = 100; // of a slider, from 0 to its end
const NOTCH = 0.06; // share of a slider's end: closer to 0, a drag stays at 0
const WHOLE = 0.99; // share of the strength that removes a part: below it, the removal is partial
const BEYOND = 1.5; // a slider's end, times the strength with which its edit begins

const ORDER = ': the order of this list and of names of files. The picture stays the same.'; // edits are added up

const written = (x) => String(Number(x.toPrecision(3)));

// A new edit. Its name describes the sign that alpha has now; the page shows strengths of this sign as positive.
export function taken(id, name, term) {
  return {id, name, term, sign: Math.sign(term.alpha) || 1, end: endOf(term), on: true};
}

// An edit that removes a part. With less than its first strength it removes the part only partly.
export function removing(id, name, term) {
  return {...taken(id, `${name} · removed`, term), whole: Math.abs(term.alpha)};
}

const strengthOf = ({sign, term}) => sign * term.alpha;

// Whether an edit changes anything.
export const acts = (edit) => edit.on && edit.term.alpha !== 0;

// How an edit differs from its name.
function stateOf(edit) {
  const strength = strengthOf(edit);
  if (strength === 0) return 'no effect at 0';
  if (strength < 0) return 'reversed';
  return strength < WHOLE * edit.whole ? 'only partly' : '';
}

// Names of the edits that act, and how each differs from its name.
export const wordsOf = (now) =>
  now.edits.filter(acts).map((edit) => [edit.name, stateOf(edit)].filter(Boolean).join(', '));

// The end of an edit's slider, from the edit's first strength.
function endOf(term) {
  const found = session.fit.reaches[term.appearance] ?? Math.max(...Object.values(session.fit.reaches));
  return Math.max(found, Number((BEYOND * Math.abs(term.alpha)).toPrecision(2)));
}

function strengthen(id, strength) {
  const edit = editOf(id);
  const alpha = edit && edit.sign * Number(strength.toPrecision(4)) || 0; // 0 in place of -0
  if (edit) replaced(id, {term: {...edit.term, alpha}}, `strength ${id}`);
}

// The new value of a moved strength: it is 0 if the move crosses 0 or ends closer to 0 than `near`.
const stopped = (from, to, near) => (from * to < 0 || Math.abs(to) < near ? 0 : to);

// Makes the chosen edit one step stronger or weaker; a held key stops at 0.
export function stronger(by, held) {
  const edit = chosenEdit(), strength = edit && strengthOf(edit);
  if (!edit || (held && strength === 0)) return;
  const to = Math.max(-edit.end, Math.min(edit.end, strength + by * edit.end / 20));
  strengthen(edit.id, stopped(strength, to, edit.end / STEPS));
}

export function toggle(id) {
  const edit = editOf(id);
  if (edit) replaced(id, {on: !edit.on});
}

function move(id, by) {
  const edits = [...session.now.edits], from = edits.findIndex((edit) => edit.id === id), to = from + by;
  if (to < 0 || to >= edits.length) return;
  edits.splice(to, 0, ...edits.splice(from, 1));
  change({edits});
  cards.get(id).querySelector(by < 0 ? '.up' : '.down').focus();
}

function choose(id) {
  const edit = editOf(id);
  if (edit && session.now.chosen !== id) turn({chosen: id, place: placeOf(edit.term)});
}

let dragging = false; // whether a pointer drags a slider
for (const kind of ['pointerup', 'pointercancel']) addEventListener(kind, () => { dragging = false; });

const cards = new Map(); // by edit, so that a slider is not replaced while it is dragged

function made(id) {
  const tool = (kind, label, act, more = '') => {
    const one = button({className: `bare ${kind}`, title: `${label}${more}`, onclick: act}, icon(kind));
    one.setAttribute('aria-label', label);
    return one;
  };
  const slider = make('input', {type: 'range', oninput: () => {
    const edit = editOf(id), near = edit.end * (dragging ? NOTCH : 0.5 / STEPS);
    strengthen(id, stopped(strengthOf(edit), Number(slider.value), near));
  }});
  slider.addEventListener('pointerdown', () => { dragging = true; });
  slider.addEventListener('keydown', (event) => { // a held key stops at 0
    const edit = editOf(id);
    if (event.repeat && event.key.startsWith('Arrow') && strengthOf(edit) === 0) event.preventDefault();
  });
  const number = make('input', {type: 'text', inputMode: 'decimal', onchange: () => {
    const value = Number(number.value.replace('−', '-').replace(',', '.'));
    if (number.value.trim() && Math.abs(value) <= LARGEST) strengthen(id, value);
    else say(`“${number.value}” is not a strength. Type a number, such as 2.5.`, 'error');
    shown(session.now);
  }});
  for (const field of [slider, number]) field.addEventListener('focus', () => choose(id));
  const tools = [
    tool('eye', 'On', () => toggle(id)),
    button({className: 'bare name', onclick: () => choose(id)}),
    make('span', {className: 'state'}),
    tool('up', 'Move up', () => move(id, -1), ORDER),
    tool('down', 'Move down', () => move(id, 1), ORDER),
    tool('bin', 'Delete', () => deleted(id)),
  ];
  return make('li', {className: 'card'},
    make('div', {className: 'line'}, ...tools), make('div', {className: 'line'}, slider, number));
}

function shown(now) {
  for (const [id, card] of cards) {
    if (!now.edits.some((edit) => edit.id === id)) {
      const next = card.nextElementSibling ?? card.previousElementSibling;
      const inside = card.contains(document.activeElement);
      card.remove();
      cards.delete(id);
      if (inside) (next?.querySelector('.name') ?? find('do-undo')).focus();
    }
  }
  now.edits.forEach((edit, i) => {
    if (!cards.has(edit.id)) cards.set(edit.id, made(edit.id));
    const card = cards.get(edit.id), {term, end} = edit, strength = strengthOf(edit);
    if (list.children[i] !== card) list.insertBefore(card, list.children[i] ?? null);
    const [slider, number] = card.querySelectorAll('input');
    const [name, eye] = ['.name', '.eye'].map((kind) => card.querySelector(kind));
    card.classList.toggle('chosen', edit.id === now.chosen);
    card.classList.toggle('off', !edit.on);
    name.textContent = edit.name;
    name.title = [
      ...(term.part ?? []).map((part) => `part ${part}`),
      `appearance ${term.appearance}`,
      `alpha ${written(term.alpha)}`,
    ].join(', ');
    name.setAttribute('aria-pressed', String(edit.id === now.chosen));
    card.querySelector('.state').textContent = stateOf(edit);
    eye.setAttribute('aria-pressed', String(edit.on));
    eye.querySelector('use').setAttribute('href', edit.on ? '#icon-eye' : '#icon-shut');
    Object.assign(slider, {min: -end, max: end, step: end / STEPS});
    const moved = Math.abs(slider.value - strength) > end / STEPS; // else the user is dragging it
    if (moved || document.activeElement !== slider) slider.value = strength;
    slider.style.setProperty('--at', Math.max(0, Math.min(1, (1 + strength / end) / 2)));
    slider.setAttribute('aria-label', `Strength of ${edit.name}`);
    number.setAttribute('aria-label', `Strength of ${edit.name}, as a number`);
    number.value = written(strength);
    card.querySelector('.up').disabled = i === 0;
    card.querySelector('.down').disabled = i === now.edits.length - 1;
  });
  said.hidden = now.edits.length > 0;
  list.setAttribute('aria-label', `${now.edits.length} edits`);
}

follow(shown);
