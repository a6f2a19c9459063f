// The stack of edits: strength, on or off, order, deletion.

import {button, find, icon, make} from './dom.js';
import {change, deleted, follow, placeOf, replaced, session, turn} from './session.js';

const list = find('edits'), said = find('stack-said');
const LARGEST = 1e6; // strength that can be typed
const STEPS = 100; // of a slider, from 0 to its end
const BEYOND = 1.5; // times the strength that an edit begins with: where its slider ends

const written = (x) => String(Number(x.toPrecision(3)));

// An edit that is taken. With the sign of alpha that it then has it is what it is called; on the page that is above 0.
export function taken(id, name, term) {
  return {id, name, term, sign: Math.sign(term.alpha) || 1, end: endOf(term), on: true};
}

export const strengthOf = ({sign, term}) => sign * term.alpha;

// Where the slider of an edit ends that begins at a strength.
function endOf(term) {
  const found = session.fit.reaches[term.appearance] ?? Math.max(...Object.values(session.fit.reaches));
  return Math.max(found, Number((BEYOND * Math.abs(term.alpha)).toPrecision(2)));
}

export function strengthen(id, strength) {
  const edit = session.now.edits.find((one) => one.id === id);
  if (edit) replaced(id, {term: {...edit.term, alpha: edit.sign * Number(strength.toPrecision(4))}}, `strength ${id}`);
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
  const tool = (kind, label, act) => {
    const one = button({className: `bare ${kind}`, title: label, onclick: act}, icon(kind));
    one.setAttribute('aria-label', label);
    return one;
  };
  const slider = make('input', {type: 'range', oninput: () => strengthen(id, Number(slider.value))});
  const number = make('input', {type: 'text', inputMode: 'decimal', onchange: () => {
    const value = Number(number.value.replace('−', '-').replace(',', '.'));
    if (number.value.trim() && Math.abs(value) <= LARGEST) strengthen(id, value);
    shown(session.now);
  }});
  for (const field of [slider, number]) field.addEventListener('focus', () => choose(id));
  const tools = [
    tool('eye', 'On', () => toggle(id)),
    button({className: 'bare name', onclick: () => choose(id)}),
    tool('up', 'Move up', () => move(id, -1)),
    tool('down', 'Move down', () => move(id, 1)),
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
    eye.setAttribute('aria-pressed', String(edit.on));
    eye.querySelector('use').setAttribute('href', edit.on ? '#icon-eye' : '#icon-shut');
    Object.assign(slider, {min: -end, max: end, step: end / STEPS});
    const moved = Math.abs(slider.value - strength) > end / STEPS; // else it is being dragged
    if (moved || document.activeElement !== slider) slider.value = strength;
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
