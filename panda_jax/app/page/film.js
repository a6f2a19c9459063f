// The filmstrip: edits to try at the place that is chosen, each as it would look.

import {ask, Refusal} from './server.js';
import {called, change, choiceOf, chosenEdit, deleted, follow, fresh, samePlace, session} from './session.js';
import {endOf} from './stack.js';
import {preview, whenSettled} from './stage.js';
import {say} from './status.js';

const strip = document.getElementById('film'), title = document.getElementById('film-title'), said = document.getElementById('film-said');
const known = new Map();
const HOW = 'Point at one to see it. Click to take or drop it.';
let shown = '', frames = [], named = null;

// The edit that a frame would replace: the chosen one, if it is of this place.
const replaces = () => {
  const edit = chosenEdit();
  return edit && session.now.place && samePlace(edit.term, session.now.place) ? edit : null;
};

function withFrame(frame) {
  const old = replaces(), name = frame.name.includes(' · ') ? frame.name : `${called(session.now.place)} · ${frame.name}`;
  const id = old?.id ?? fresh();
  const added = {id, name, term: frame.term, end: endOf(frame.term), on: true};
  const edits = old ? session.now.edits.map((edit) => (edit === old ? added : edit)) : [...session.now.edits, added];
  return {edits, chosen: id};
}

export function take(i) {
  const frame = frames[i], old = replaces();
  if (!frame) return;
  preview(null);
  if (isTaken(frame, old)) deleted(old.id);
  else change(withFrame(frame));
}

// What a name says of the edit, without its part.
const brief = (name) => (name.includes(' · ') ? name.split(' · ').slice(1).join(' ') : name).replace(/(^| )-$/, '$1−');

function drawn() {
  const old = replaces();
  strip.replaceChildren(...frames.map((frame, i) => {
    const button = document.createElement('button'), picture = document.createElement('img');
    const words = document.createElement('span');
    button.type = 'button';
    button.title = frame.name;
    picture.src = frame.picture;
    picture.alt = '';
    picture.draggable = false;
    words.textContent = brief(frame.name);
    button.append(picture, words);
    button.setAttribute('aria-pressed', String(isTaken(frame, old)));
    const look = () => preview(withFrame(frame));
    button.addEventListener('pointerenter', (event) => { if (event.pointerType === 'mouse') look(); });
    button.addEventListener('focus', () => { if (button.matches(':focus-visible')) look(); });
    for (const kind of ['pointerleave', 'blur']) button.addEventListener(kind, () => preview(null));
    button.addEventListener('click', () => take(i));
    return button;
  }));
}

const isTaken = (frame, old) => Boolean(old) && old.term.appearance === frame.term.appearance &&
  Math.sign(old.term.alpha) === Math.sign(frame.term.alpha);

function marked() {
  const old = replaces();
  [...strip.children].forEach((button, i) => button.setAttribute('aria-pressed', String(isTaken(frames[i], old))));
}

async function look(now) {
  const words = called(now.place);
  if (!now.place) {
    [shown, frames] = ['', []];
    strip.replaceChildren();
    said.textContent = 'Click a part of the picture, or paint where to edit.';
    return;
  }
  const old = replaces(), choice = choiceOf({...now, edits: now.edits.filter((edit) => edit !== old)});
  const place = {...now.place, appearance: session.fit.appearances[0], alpha: 1};
  const key = JSON.stringify([session.fit.fit, choice, place]);
  if (key === shown) return marked();
  if (named !== words) { // of another place: the old ones are misleading
    named = words;
    strip.replaceChildren();
    said.textContent = 'Looking for edits …';
  }
  shown = key;
  strip.classList.add('waiting');
  try {
    if (!known.has(key)) known.set(key, (await ask('frames', {fit: session.fit.fit, choice, place}, 'Trying edits …')).frames);
    if (known.size > 40) known.delete(known.keys().next().value);
    if (shown !== key) return;
    frames = known.get(key) ?? [];
    said.textContent = frames.length ? HOW : 'Nothing changes there.';
    drawn();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (shown === key) shown = '';
    say(error.message, 'error');
  } finally {
    if (shown === key || !shown) strip.classList.remove('waiting');
  }
}

follow((now) => { title.textContent = now.place ? `Try on ${now.place.part ? '' : 'the '}${called(now.place)}` : 'Try'; });
whenSettled(look);
