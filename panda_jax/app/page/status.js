// The line that says what is running, what was done, and what went wrong.

import {follow} from './session.js';

const PATIENCE = 300; // milliseconds until a wait is shown
const SHORT = 6000; // milliseconds that a note stays
const line = document.getElementById('status');
const waits = new Set();
let timer = null;

export function say(words, kind = 'note') {
  clearTimeout(timer);
  line.className = kind;
  line.textContent = words;
  if (kind === 'note') timer = setTimeout(() => { line.textContent = ''; line.className = ''; }, SHORT);
}

// Shows below a field what is wrong with it; empty words clear it.
export function wrong(field, words) {
  document.getElementById(`${field.id}-wrong`).textContent = words;
  field.setAttribute('aria-invalid', String(Boolean(words)));
}

// Counts seconds in an element until the returned function is called.
export function counted(element) {
  const began = performance.now();
  const count = () => { element.textContent = `${Math.round((performance.now() - began) / 1000)} s`; };
  count();
  const counting = setInterval(count, 1000);
  return () => {
    clearInterval(counting);
    element.textContent = '';
  };
}

// An error is cleared when the choice changes.
follow(() => { if (line.className === 'error') say(''); });

// Shows that something is running, if it is slow, until the returned function is called.
export function working(words) {
  const wait = {words, shown: false};
  waits.add(wait);
  const due = setTimeout(() => {
    wait.shown = true;
    shown();
    const noted = line.className === 'note' && line.textContent; // it stays: the page's edge shows the wait too
    if (words && !noted) say(words, 'busy');
  }, PATIENCE);
  return () => {
    clearTimeout(due);
    waits.delete(wait);
    shown();
    if (wait.shown && line.className === 'busy' && line.textContent === wait.words) say('');
  };
}

line.addEventListener('click', () => say(''));

function shown() {
  document.body.classList.toggle('working', [...waits].some((wait) => wait.shown));
}
