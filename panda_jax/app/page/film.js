// The filmstrip: edits to try at the chosen place, each with a picture of its result.

import {button, find, make} from './dom.js';
import {bring} from './scrolling.js';
import {ask, Refusal} from './server.js';
import {
  called, change, choiceOf, chosenEdit, deleted, editOf, follow, fresh, isSide, samePlace, session, turn,
} from './session.js';
import {taken} from './stack.js';
import {painting, preview, whenSettled} from './stage.js';
import {say} from './status.js';

const strip = find('film'), title = find('film-title'), said = find('film-said');
const known = new Map();
const mouse = matchMedia('(hover: hover)').matches;
const HOW = mouse ? 'Point at one to see it, click to apply or undo it. ' : 'Tap one to apply it, and again to undo it. ';
const MOST = 40; // films that are kept
const BLANK = 8; // frames of most films
let shown = '', shownOf = '', frames = []; // the last request; its place; its answer

// The edit that a frame would replace: the chosen edit, if it is of this place and does not remove it.
const replaces = () => {
  const edit = chosenEdit();
  return edit && !edit.whole && session.now.place && samePlace(edit.term, session.now.place) ? edit : null;
};

// An edit's name with its place, for a list of several places.
const named = ({name}) => (name.includes(' · ') ? name : `${called(session.now.place)} · ${name}`);

function withFrame(frame) {
  const old = replaces(), id = old?.id ?? fresh();
  const added = taken(id, named(frame), frame.term);
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

// An edit's name without its part.
const brief = (name) => name.replace(/^.*? · /, '').replaceAll(' · ', ' ');

const about = () => button({textContent: 'Names', title: 'What the names mean', className: 'link', onclick: explained});

function explained() {
  find('helping').showModal();
  find('effects-title').scrollIntoView();
}

// Where the mouse was last. An element that scrolls below a resting mouse is entered, though nobody points at it.
let at = null;
const moved = ({clientX, clientY}) => at?.join() !== [clientX, clientY].join();
addEventListener('pointermove', ({clientX, clientY}) => { at = [clientX, clientY]; });

function drawn() {
  strip.replaceChildren(...frames.map((frame, i) => {
    const picture = make('img', {src: frame.picture, alt: '', draggable: false});
    const [first, ...more] = brief(frame.name).split(' and ');
    const words = make('span', {textContent: first});
    if (more.length) words.append(make('small', {textContent: ` and ${more.join(' and ')}`}));
    const key = make('kbd', {textContent: i + 1, ariaHidden: 'true'});
    const one = button({title: frame.name, onclick: () => take(i)}, picture, key, words);
    const look = () => preview(withFrame(frame), brief(frame.name));
    one.addEventListener('focus', () => {
      if (!one.matches(':focus-visible')) return;
      bring(one);
      look();
    });
    let seen = false; // whether the mouse is on it and has shown it
    for (const kind of ['pointerenter', 'pointermove']) {
      one.addEventListener(kind, (event) => {
        if (seen || event.pointerType !== 'mouse' || !moved(event)) return;
        seen = true;
        look();
      });
    }
    for (const kind of ['pointerleave', 'blur']) {
      one.addEventListener(kind, () => {
        seen = false;
        preview(null);
      });
    }
    return one;
  }));
  marked();
}

const isTaken = (frame, old) => Boolean(old) && old.term.appearance === frame.term.appearance &&
  Math.sign(old.term.alpha) === Math.sign(frame.term.alpha);

function marked() {
  const old = replaces();
  [...strip.children].forEach((one, i) => one.setAttribute('aria-pressed', String(isTaken(frames[i], old))));
}

// If the chosen edit moved to a new mask and is among the frames there, it gets that frame's name.
function renamed({id}) {
  const edit = editOf(id);
  if (!edit?.moved) return;
  const frame = frames.find((one) => isTaken(one, edit)), name = frame ? named(frame) : edit.name;
  turn({edits: session.now.edits.map((one) => (one === edit ? {...one, name, moved: false} : one))});
  say(`“${name}” acts on the new area now.`);
}

const DRAW = 'Draw on the picture where to edit.';

// Says what can be chosen, with names that this fit has: first those that say more than a side of the picture.
function nowhere() {
  const names = [...new Set(session.fit.parts.map((part) => session.fit.names[part]).filter(Boolean))];
  const first = names.sort((one, two) => isSide(one) - isSide(two)).slice(0, 2).map((name) => `the ${name}`);
  const some = first.length ? `${first.join(', ')} or another part` : 'a part';
  return `${mouse ? 'Click' : 'Tap'} ${some}, or paint.`;
}

// Another place has other frames: until they arrive, no frames are shown.
function placed({place}) {
  const of = JSON.stringify([session.fit.fit, place]);
  title.textContent = place ? `Try on ${place.part ? '' : 'the '}${called(place)}` : 'Try';
  if (!place) said.textContent = painting() ? DRAW : nowhere();
  if (of === shownOf) return;
  [shownOf, shown, frames] = [of, '', []];
  // Blank frames keep the place of those that come, so that nothing moves.
  strip.replaceChildren(...Array.from({length: BLANK}, () => make('div', {className: 'blank'})));
  strip.classList.toggle('idle', !place);
  if (place) said.textContent = 'Looking for edits …';
}

async function look(now) {
  if (!now.place) return;
  const old = replaces(), choice = choiceOf({...now, edits: now.edits.filter((edit) => edit !== old)});
  const place = {...now.place, appearance: session.fit.appearances[0], alpha: 1};
  const values = {fit: session.fit.fit, choice, place}, key = JSON.stringify(values);
  if (key === shown) {
    marked();
    return;
  }
  shown = key;
  strip.classList.add('waiting');
  try {
    if (!known.has(key)) known.set(key, (await ask('frames', values, 'Trying edits …')).frames);
    if (known.size > MOST) known.delete(known.keys().next().value);
    if (shown !== key) return;
    frames = known.get(key);
    said.replaceChildren(...(frames.length ? [HOW, about()] : ['Nothing changes there.']));
    drawn();
    if (old) renamed(old);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (shown === key) shown = '';
    say(error.message, 'error');
  } finally {
    if (shown === key || !shown) strip.classList.remove('waiting');
  }
}

follow(placed);
whenSettled(look);
