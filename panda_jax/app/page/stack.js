// The stack of edits: strength, on or off, order, deletion.

import {change, deleted, follow, placeOf, replaced, session, turn} from './session.js';

const list = document.getElementById('edits'), said = document.getElementById('stack-said');
const LARGEST = 1e6; // strength that can be typed
const STEPS = 100; // of a slider, from 0 to its end
const BEYOND = 1.5; // times the strength that an edit begins with: where its slider ends

const icon = (name) => {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
};

const written = (x) => String(Number(x.toPrecision(3)));

// Where the slider of an edit ends that begins at a strength.
export function endOf(term) {
  const found = session.fit.reaches[term.appearance] ?? Math.max(...Object.values(session.fit.reaches));
  return Math.max(found, Number((BEYOND * Math.abs(term.alpha)).toPrecision(2)));
}

export function strengthen(id, alpha) {
  const edit = session.now.edits.find((one) => one.id === id);
  if (edit) replaced(id, {term: {...edit.term, alpha: Number(alpha.toPrecision(4))}}, `strength ${id}`);
}

export function toggle(id) {
  const edit = session.now.edits.find((one) => one.id === id);
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
  const edit = session.now.edits.find((one) => one.id === id);
  if (edit && session.now.chosen !== id) turn({chosen: id, place: placeOf(edit.term)});
}

const cards = new Map(); // by edit, so that a slider is not replaced while it is dragged

function made(id) {
  const card = document.createElement('li');
  card.className = 'card';
  const button = (kind, label, act) => {
    const found = document.createElement('button');
    found.type = 'button';
    found.className = `bare ${kind}`;
    found.setAttribute('aria-label', label);
    found.title = label;
    found.append(icon(kind));
    found.addEventListener('click', (event) => { event.stopPropagation(); act(); });
    return found;
  };
  const name = document.createElement('button'), slider = document.createElement('input');
  const number = document.createElement('input'), top = document.createElement('div'), row = document.createElement('div');
  name.type = 'button';
  name.className = 'bare name';
  name.addEventListener('click', () => choose(id));
  slider.type = 'range';
  slider.addEventListener('input', () => strengthen(id, Number(slider.value)));
  number.type = 'text';
  number.inputMode = 'decimal';
  number.addEventListener('change', () => {
    const value = Number(number.value.replace('−', '-').replace(',', '.'));
    if (number.value.trim() && Math.abs(value) <= LARGEST) strengthen(id, value);
    shown(session.now);
  });
  for (const field of [slider, number]) field.addEventListener('focus', () => choose(id));
  card.addEventListener('click', () => choose(id));
  const eye = button('eye', 'On', () => toggle(id));
  top.className = row.className = 'line';
  top.append(eye, name, button('up', 'Move up', () => move(id, -1)), button('down', 'Move down', () => move(id, 1)),
    button('bin', 'Delete', () => deleted(id)));
  row.append(slider, number);
  card.append(top, row);
  return card;
}

function shown(now) {
  for (const [id, card] of cards) {
    if (!now.edits.some((edit) => edit.id === id)) {
      const next = card.nextElementSibling ?? card.previousElementSibling, inside = card.contains(document.activeElement);
      card.remove();
      cards.delete(id);
      if (inside) (next?.querySelector('.name') ?? document.getElementById('do-undo')).focus();
    }
  }
  now.edits.forEach((edit, i) => {
    if (!cards.has(edit.id)) cards.set(edit.id, made(edit.id));
    const card = cards.get(edit.id), {term, end} = edit;
    if (list.children[i] !== card) list.insertBefore(card, list.children[i] ?? null);
    const [slider, number] = card.querySelectorAll('input'), name = card.querySelector('.name'), eye = card.querySelector('.eye');
    card.classList.toggle('chosen', edit.id === now.chosen);
    card.classList.toggle('off', !edit.on);
    name.textContent = edit.name;
    name.setAttribute('aria-pressed', String(edit.id === now.chosen));
    eye.setAttribute('aria-pressed', String(edit.on));
    eye.querySelector('use').setAttribute('href', edit.on ? '#icon-eye' : '#icon-shut');
    Object.assign(slider, {min: -end, max: end, step: end / STEPS});
    if (Math.abs(slider.value - term.alpha) > end / STEPS || document.activeElement !== slider) slider.value = term.alpha;
    slider.setAttribute('aria-label', `Strength of ${edit.name}`);
    number.setAttribute('aria-label', `Strength of ${edit.name}, as a number`);
    number.value = written(term.alpha);
    card.querySelector('.up').disabled = i === 0;
    card.querySelector('.down').disabled = i === now.edits.length - 1;
  });
  said.hidden = now.edits.length > 0;
  list.setAttribute('aria-label', `${now.edits.length} edits`);
}

follow(shown);
