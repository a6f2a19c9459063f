// Lists of pictures as one stop of the Tab key each: arrow keys move in them.

import {find} from './dom.js';

const stop = (list, to) => { for (const one of list.querySelectorAll('button')) one.tabIndex = one === to ? 0 : -1; };

// The picture that a key leads to; those of a row are at one height.
function reached(list, from, key) {
  const all = [...list.children], at = all.indexOf(from);
  if (key === 'Home') return all[0];
  if (key === 'End') return all.at(-1);
  if (key === 'ArrowLeft') return all[at - 1];
  if (key === 'ArrowRight') return all[at + 1];
  const above = (one) => one.offsetTop < from.offsetTop && one.offsetLeft === from.offsetLeft;
  const below = (one) => one.offsetTop > from.offsetTop && one.offsetLeft === from.offsetLeft;
  if (key === 'ArrowUp') return all.findLast(above);
  if (key === 'ArrowDown') return all.find(below);
  return undefined;
}

for (const list of ['samples', 'film'].map(find)) {
  list.addEventListener('keydown', (event) => {
    const to = reached(list, event.target, event.key);
    if (!to) return;
    event.preventDefault();
    to.focus({focusVisible: true});
    if (list.id === 'samples') to.click(); // an edit to try is shown while it has the focus
  });
  list.addEventListener('focusin', ({target}) => stop(list, target));
  const changed = () => {
    const current = list.querySelector('[tabindex="0"]') ?? list.querySelector('[aria-pressed=true]');
    stop(list, current ?? list.querySelector('button'));
  };
  new MutationObserver(changed).observe(list, {childList: true});
}
