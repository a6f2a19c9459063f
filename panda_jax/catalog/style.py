"""Style and script of the catalog's page. The script moves strengths, filters, sorts, copies; it requests nothing."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d1f24; --soft: #5b606b; --line: #d5d9e0; --back: #f4f5f8; --card: #fff;
  --mark: #005cb2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaee; --soft: #a3a9b5; --line: #3b404a; --back: #191b20; --card: #23262d; --mark: #7ab8ff; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 90px; }
body { margin: 0; color: var(--ink); background: var(--back); font: 16px/1.5 system-ui, -apple-system, 'Segoe UI',
  Roboto, 'DejaVu Sans', sans-serif; }
header, main, footer { max-width: 1320px; margin: 0 auto; padding: 0 18px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 26px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0; }
h3 { font-size: 0.98rem; margin: 0 0 6px; overflow-wrap: anywhere; }
p { margin: 6px 0 10px; max-width: 80ch; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--mark); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 3px 16px 3px 0; border-bottom: 1px solid var(--line); }
thead th, tbody th { color: var(--soft); font-weight: 600; }
.map { width: 100%; max-width: 960px; height: auto; image-rendering: pixelated; border: 1px solid var(--line); }
.bar { position: sticky; top: 0; z-index: 2; background: var(--back); border-bottom: 1px solid var(--line);
  display: flex; flex-wrap: wrap; gap: 6px 18px; align-items: center; padding: 9px 0; margin: 14px 0 0; }
.bar label { display: flex; gap: 6px; align-items: center; font-size: 0.92rem; }
select, button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: 3px 8px; }
button { cursor: pointer; font-size: 0.86rem; }
button:hover { border-color: var(--mark); }
input[type=range] { accent-color: var(--mark); }
.head { display: flex; gap: 14px; align-items: center; margin: 26px 0 10px; }
.head img { width: 72px; height: auto; border-radius: 6px; display: block; }
.head p { margin: 0; font-size: 0.9rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 288px), 1fr)); gap: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 12px; min-width: 0; }
.card.random { border-style: dashed; }
.pics { cursor: ew-resize; touch-action: pan-y; border-radius: 6px; overflow: hidden; }
.view { background: var(--s) 0 0 / 100% calc(100% * var(--frames)) no-repeat; width: 100%;
  aspect-ratio: var(--shape); }
.view + .view { margin-top: 3px; }
.strength { display: flex; gap: 8px; align-items: center; font-size: 0.9rem; margin: 6px 0 4px;
  font-variant-numeric: tabular-nums; }
.strength input { flex: 1; min-width: 0; }
.strength output { min-width: 6ch; text-align: right; }
dl { display: grid; grid-template-columns: repeat(3, 1fr); gap: 2px 10px; margin: 0 0 8px; font-size: 0.84rem; }
dl div { min-width: 0; }
dt { color: var(--soft); }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.buttons { display: flex; gap: 8px; flex-wrap: wrap; }
[hidden] { display: none !important; }
#said { position: fixed; left: 50%; bottom: 18px; transform: translateX(-50%); background: var(--ink);
  color: var(--back); border-radius: 8px; padding: 6px 14px; font-size: 0.9rem; max-width: 92vw;
  overflow-wrap: anywhere; z-index: 3; }
#said:empty { display: none; }
footer { color: var(--soft); font-size: 0.88rem; padding-top: 16px; padding-bottom: 34px; }
@media (max-width: 640px) {
  header, main, footer { padding-left: 12px; padding-right: 12px; }
  h1 { font-size: 1.35rem; }
  .bar { gap: 5px 12px; padding: 6px 0; }
  html { scroll-padding-top: 130px; }
}
@media print { .bar, .buttons { display: none; } .card { break-inside: avoid; } }
""".strip()

SCRIPT = """
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
  const text = String(strength(card)).replace('-', '\\u2212');
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

const quoted = text => "'" + text.replaceAll("'", "'\\\\''") + "'";
function command(card) {
  const start = `${about.program} edit --workdir=${about.workdir}`;
  if (strength(card) === Number(card.dataset.alpha) && !card.classList.contains('random'))
    return `${start} --zoo=${about.zoo} --name=${quoted(card.dataset.name)}`;
  return `${start} --part=${card.dataset.part} --appearance=${card.dataset.appearance} --alpha=${strength(card)}`;
}
function json(card) {
  const term = {part: [Number(card.dataset.part)], appearance: Number(card.dataset.appearance), alpha: strength(card)};
  const edit = {factors: about.factors, layer: about.layer, terms: [term]};
  return JSON.stringify({format: 1, edits: {[card.dataset.name]: edit}}, null, 2) + '\\n';
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
  find('said').textContent = done ? `Copied: ${text.split('\\n').length > 2 ? 'JSON of the edit' : text}` : text;
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
""".strip()
