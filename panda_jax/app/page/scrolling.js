// Scrolling: a list that continues fades at its end. On a phone the picture becomes smaller as the page scrolls, until
// its tools are beside it, and what was touched last stays in its place when things above it grow.

import {find} from './dom.js';

export const phone = matchMedia('(max-width: 800px)');
const look = find('look'), shown = find('shown'), main = document.querySelector('main');
const GAP = 24; // pixels that open below the picture when its tools go beside it: without them it would be tiny before
let turning = 0; // pixels below the page's head from which the tools are beside the picture

// The picture loses as much height as the page scrolls. So nothing jumps, and nothing stays empty below it.
function sized() {
  if (!phone.matches) return;
  const gone = Math.max(0, scrollY - main.offsetTop);
  look.classList.toggle('small', gone >= turning);
  look.style.setProperty('--gone', `${gone}px`);
}

// Measures again, after something has changed the picture's size.
export function resized() {
  look.classList.remove('small');
  look.removeAttribute('style');
  if (!phone.matches) return;
  const full = look.offsetHeight;
  look.classList.add('small');
  turning = full - shown.offsetHeight - GAP;
  look.style.height = `${full}px`; // the page keeps its length
  sized();
}

addEventListener('scroll', sized, {passive: true});
addEventListener('resize', resized);
resized();

// What was touched last, or else the first box below the picture, and where it is.

const boxes = ['try', 'stack', 'place', 'choose', 'keep'].map(find); // in the order on a phone
let held = null;

const topOf = (element) => element.getBoundingClientRect().top;

function hold({target}) {
  const below = shown.getBoundingClientRect().bottom;
  const element = target.closest?.('#edits li, .box, #choose') ??
    boxes.find((box) => box.getBoundingClientRect().bottom > below);
  held = element ? {element, top: topOf(element)} : null;
}

function keep() {
  if (!phone.matches || !held?.element.isConnected) return;
  scrollBy({top: topOf(held.element) - held.top, behavior: 'instant'});
  sized();
}

for (const kind of ['pointerdown', 'keydown']) addEventListener(kind, hold, {capture: true, passive: true});
addEventListener('scroll', () => { if (held) held.top = topOf(held.element); }, {passive: true});
const kept = new ResizeObserver(keep);
for (const box of boxes) kept.observe(box);

// Scrolls as little as brings an element into view.
export function bring(element) {
  held = null;
  element.scrollIntoView({block: 'nearest', inline: 'nearest'});
}

// Fades the side on which a list continues.
function faded(list) {
  const {scrollTop, scrollLeft, clientHeight, clientWidth, scrollHeight, scrollWidth} = list;
  const [before, after] = list.id === 'panel'
    ? [scrollTop, scrollHeight - clientHeight - scrollTop]
    : [scrollLeft, scrollWidth - clientWidth - scrollLeft];
  list.classList.toggle('more-before', before > 2);
  list.classList.toggle('more-after', after > 2);
}

for (const id of ['samples', 'film', 'panel']) {
  const list = find(id), look = () => faded(list), sizes = new ResizeObserver(look);
  list.addEventListener('scroll', look, {passive: true});
  sizes.observe(list);
  const contained = () => { for (const child of list.children) sizes.observe(child); };
  new MutationObserver(contained).observe(list, {childList: true});
  contained();
}
