// Script of the catalog's page: moves strengths, filters, sorts, copies. It makes no requests.
'use strict';
const about = JSON.parse(document.getElementById('about').textContent);
const find = id => document.getElementById(id);
const cards = [...document.querySelectorAll('.card')];
const sections = [...document.querySelectorAll('section.part')];
const last = about.frames - 1;

function strength(card) {
  const step = Number(card.querySelector('input').value);
  return step === last ? Number(card.dataset.alpha) : Number((card.dataset.alpha * step / last).toPrecision(3));
}
function show(card, step) {
  const slider = card.querySelector('input');
  slider.value = step;
  card.querySelector('.edited').style.backgroundPosition = `0 ${100 * slider.value / last}%`;
  const text = String(strength(card)).replace('-', '\u2212');
  card.querySelector('output').textContent = text;
  slider.setAttribute('aria-valuetext', `alpha ${text}`);
}
for (const card of cards) {
  const slider = card.querySelector('input'), pics = card.querySelector('.pics');
  let kept = slider.value;
  slider.addEventListener('input', () => { kept = slider.value; show(card, kept); });
  pics.addEventListener('pointermove', event => {
    const box = pics.getBoundingClientRect();
    show(card, Math.round(last * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))));
  });
  for (const name of ['pointerleave', 'pointercancel']) pics.addEventListener(name, () => show(card, kept));
  card.addEventListener('all', event => { kept = event.detail; show(card, kept); });
  for (const button of card.querySelectorAll('button'))
    button.addEventListener('click', () => copy(button.dataset.copy === 'json' ? json(card) : command(card)));
  show(card, kept);
}
find('all').addEventListener('input', event => {
  for (const card of cards) card.dispatchEvent(new CustomEvent('all', {detail: event.target.value}));
});

const quoted = text => "'" + text.replaceAll("'", "'\\''") + "'";
function command(card) {
  const start = `${about.program} edit --workdir=${about.workdir}`;
  if (strength(card) === Number(card.dataset.alpha) && !card.classList.contains('random'))
    return `${start} --zoo=${about.zoo} --name=${quoted(card.dataset.name)}`;
  return `${start} --part=${card.dataset.part} --appearance=${card.dataset.appearance} --alpha=${strength(card)}`;
}
function json(card) {
  const term = {part: [Number(card.dataset.part)], appearance: Number(card.dataset.appearance), alpha: strength(card)};
  const edit = {factors: about.factors, layer: about.layer, terms: [term]};
  return JSON.stringify({format: 1, edits: {[card.dataset.name]: edit}}, null, 2) + '\n';
}
let timer;
async function copy(text) {
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    const before = document.activeElement, area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand('copy');
    area.remove();
    before.focus();
  }
  find('said').textContent = done ? `Copied: ${text.split('\n').length > 2 ? 'JSON of the edit' : text}` : text;
  clearTimeout(timer);
  timer = setTimeout(() => { find('said').textContent = ''; }, done ? 4000 : 30000);
}

function arrange() {
  const part = find('part').value, key = find('sort').value, grouped = find('grouped').checked;
  const up = key === 'realism' || key === 'appearance' ? 1 : -1;
  const value = card => card.dataset[key] === '' ? Infinity : up * Number(card.dataset[key]);
  const random = card => grouped && card.classList.contains('random');
  const sorted = [...cards].sort((a, b) => random(a) - random(b) || value(a) - value(b));
  let shown = 0;
  for (const card of sorted) {
    card.hidden = part !== '' && card.dataset.part !== part;
    shown += !card.hidden;
    (grouped ? find(`cards-${card.dataset.part}`) : find('list')).append(card);
  }
  for (const section of sections) section.hidden = !grouped || (part !== '' && section.dataset.part !== part);
  find('count').textContent = `${shown} shown`;
}
for (const id of ['part', 'sort', 'grouped']) find(id).addEventListener('change', arrange);
arrange();
