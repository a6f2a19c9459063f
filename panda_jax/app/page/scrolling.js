// Scrolling: a list that continues fades at its end; on a phone the picture becomes smaller, with its tools beside it.

import {find} from './dom.js';

export const phone = matchMedia('(max-width: 800px)');
const look = find('look'), main = document.querySelector('main');
const [AWAY, BACK] = [90, 50]; // pixels below the page's head: the picture is small from AWAY, large again at BACK

function sized() {
  const from = main.offsetTop, small = look.classList.contains('small');
  if (phone.matches && scrollY > from + (small ? BACK : AWAY)) {
    if (small) return;
    look.style.height = `${look.offsetHeight}px`; // the page keeps its length, so nothing jumps
    look.classList.add('small');
  } else if (small) {
    look.classList.remove('small');
    look.style.removeProperty('height');
  }
}

addEventListener('scroll', sized, {passive: true});
phone.addEventListener('change', sized);

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
  const list = find(id), look = () => faded(list), resized = new ResizeObserver(look);
  list.addEventListener('scroll', look, {passive: true});
  resized.observe(list);
  const contained = () => { for (const child of list.children) resized.observe(child); };
  new MutationObserver(contained).observe(list, {childList: true});
  contained();
}
