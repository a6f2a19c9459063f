"""catalog.html: every edit of a catalog with pictures from strength 0 to its own, in one file, for any browser."""

import io
import json
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.catalog.measurement import FLAT, LIMIT, REACHES
from panda_jax.catalog.names import ALIKE, LEAST, OTHER, SECOND
from panda_jax.catalog.screening import REGION
from panda_jax.catalog.search import FRAMES, Candidate, Found
from panda_jax.catalog.sheet import where
from panda_jax.pictures import colours, pages
from panda_jax.pictures.figures import middling, to_bytes
from panda_jax.pictures.sheets import resized, written
from panda_jax.pictures.strips import ALPHA
from panda_jax.runtime import notebook
from panda_jax.runtime.invocation import program_name
from panda_jax.workdir.finished_fit import FinishedFit

LARGEST = 14_000_000  # bytes of the page, with its pictures as text
# Longest side of a frame, samples, and WebP quality: the first that fits.
SIZES = (128, 3, 82), (96, 3, 78), (64, 3, 78), (64, 2, 70), (48, 1, 60), (32, 1, 40)
PART_SIDE = 96  # pixels of the picture that shows a part

SCORES = {  # key: heading, meaning
  'score': ('score', 'How edits are ranked: change times locality times consistency. Higher is better.'),
  'change': (
    'change',
    "Root mean square change of the pixels in the part's region, from 0 to 2 (black to white). Higher is stronger.",
  ),
  'locality': (
    'locality',
    "Share of the change's energy that lies in the part's region. 100 %: nothing else changes.",
  ),
  'consistency': (
    'consistency',
    "Mean product of two samples' changes in the region, over their mean energy. 100 %: the same change in all "
    'samples; 0 %: changes that have nothing in common.',
  ),
  'realism': (
    'unreality',
    'Squared Fréchet distance of edited to unedited images of the same samples in the space of realism.py, whose '
    'total variance is 1. Lower is more real. What people think was not measured.',
  ),
  'alpha': (
    f'largest useful {ALPHA}',
    f'The strength from which on unreality exceeds {LIMIT:g}, or the change grows less than {FLAT:.0%} as fast as at '
    'first; or the strongest that was tried.',
  ),
}


MEASURED = (
  "Measured on held-out samples at the edit's full strength, on clipped pictures. catalog.json also has the scores on "
  'the samples from which the edit was chosen, for comparison.'
)
SCREENED = (
  f'Strength per {ALPHA}, locality and consistency of the first derivative, estimated with random probes, and the '
  "deviation of the appearance's coordinate at the part over samples; their product ranks pairs. Not shown on cards; "
  'in catalog.json and, of all pairs, in screened.npz.'
)
NAMED = (
  "The first words say where the part is: the generator's place (or else the area of the picture) that fits it best "
  'and holds at least half of its core, the pixels with at least half of its largest entry. Left is the left of the '
  'picture. The other words say what the edit does. Several measures of the pixels in the region (lightness, warmth, '
  'tint, saturation, contrast, sharpness, share of dark area; CIELAB) change; each mean change is divided by the '
  'standard deviation of the measure over unedited samples. Motion and growth of what is in the region are found from '
  'the two pictures and divided by a fixed share of its size. The largest effect is named if it is '
  f'{LEAST:g} or more and {ALIKE:.0%} of the samples change that way, and a second one if it is at least {SECOND:.0%} '
  'of that. Otherwise the name is '
  f'"{OTHER}". catalog.json has the numbers.'
)
RANDOM = (
  'A random appearance, of those that change anything, with a random sign. Its strength and its scores were found like '
  'those of all other edits.'
)


def page(found: Found, opened: FinishedFit, record: Mapping[str, Any], names: Mapping[str, str], path: Path) -> str:
  """The whole page.

  Args:
    found: the edits to show.
    opened: the fit.
    record: see `catalog_into`.
    names: titles of edits, by `Candidate.name`.
    path: of the zoo, for commands.
  """
  parts = sorted({one.part for one in (*found.edits, *found.random)})
  drawn = _first_of_each(found.random)
  sprites, side, samples = packed([one.frames for one in (*found.edits, *drawn)])
  cards = {
    part: ''.join(
      _card(one, names.get(one.name, one.title), sprite, samples, one in drawn)
      for one, sprite in zip((*found.edits, *drawn), sprites, strict=True)
      if one.part == part
    )
    for part in parts
  }
  made = opened.config.get('generator')
  title = 'Catalog of edits' + (f': {Path(str(made)).name}, layer {opened.layer}' if made else '')
  about = {
    'frames': FRAMES,
    'factors': opened.digest_factors,
    'layer': opened.layer,
    'program': program_name(),
    'workdir': shlex.quote(str(opened.folder or path.parent)),
    'zoo': shlex.quote(str(path)),
  }
  script = (resources.files('panda_jax.catalog') / 'page.js').read_text(encoding='utf-8')
  sections = [_section(part, found, cards[part]) for part in parts]
  h, w = found.original.shape[1:3]
  width, height = max(1, round(side * w / max(h, w))), max(1, round(side * h / max(h, w)))
  frame = f':root {{ --frames: {FRAMES}; --shape: {samples * width} / {height}; }}'
  data = json.dumps(about, ensure_ascii=False).replace('<', '\\u003c')
  policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
  return (
    '<!doctype html><html lang=en><head><meta charset=utf-8>'
    f'<meta http-equiv=Content-Security-Policy content="{policy}">'
    '<meta name=viewport content="width=device-width, initial-scale=1">'
    f'<title>{pages.text(title)}</title><link rel=icon href="data:,"><style>{pages.STYLE}\n{frame}</style>'
    f'</head><body class="paper catalog"><header><div><h1>{pages.text(title)}</h1>{_head(found, record, samples)}'
    '</div></header>'
    f'<main>{_bar(parts)}{"".join(sections)}<div class=cards id=list></div></main>'
    f'<footer><div>{_foot(record)}</div></footer><div id=said role=status aria-live=polite></div>'
    f'<script type="application/json" id=about>{data}</script><script>{script}</script></body></html>\n'
  )


def packed(frames: Sequence[np.ndarray]) -> tuple[list[str], int, int]:
  """Frames (FRAMES, n, h, w, channels) of each edit as one picture, strengths below each other, samples side by side.

  Returns:
    Data URLs, the longest side of a frame, and the number of samples, the largest that keep the page small enough.
  """
  sprites: list[str] = []
  side, samples = SIZES[0][:2]
  for side, samples, quality in SIZES:
    sprites, side = [], min([side, *(max(x.shape[2:4]) for x in frames[:1])])
    samples = min([samples, *(x.shape[1] for x in frames[:1])])
    for each in frames:
      sprites.append(_sprite(each[:, :samples], side, quality))
    if sum(map(len, sprites)) <= LARGEST:
      break
  return sprites, side, samples


def _sprite(frames: np.ndarray, side: int, quality: int) -> str:
  from PIL import Image

  T, n, h, w, _ = frames.shape
  size = max(1, round(side * h / max(h, w))), max(1, round(side * w / max(h, w)))
  tiles = resized(to_bytes(frames.reshape(T * n, h, w, -1)), size)
  tiles = tiles.reshape(T, n, *size, 3).swapaxes(1, 2).reshape(T * size[0], n * size[1], 3)
  buffer = io.BytesIO()
  Image.fromarray(tiles).save(buffer, 'WEBP', quality=quality, method=4)
  return pages.address(buffer.getvalue(), 'webp')


def _first_of_each(random: Sequence[Candidate]) -> list[Candidate]:
  first: dict[int, Candidate] = {}
  for one in random:
    first.setdefault(one.part, one)
  return list(first.values())


def _value(one: Candidate, key: str) -> float | None:
  return abs(one.alpha) if key == 'alpha' else getattr(one.heldout, key)


def said(key: str, value: float | None) -> str:
  """A score as text for readers."""
  if value is None:
    return '-'
  if key in ('locality', 'consistency'):
    return f'{100 * value:.0f} %'.replace('-', '\u2212')
  return written(value, 3 if key == 'alpha' else 2)


def _card(one: Candidate, title: str, sprite: str, samples: int, random: bool) -> str:
  values = {key: _value(one, key) for key in SCORES}
  data = ' '.join(f'data-{key}="{_plain(x)}"' for key, x in values.items() if key != 'alpha')
  lines = ''.join(f'<div><dt>{SCORES[key][0]}</dt><dd>{said(key, x)}</dd></div>' for key, x in values.items())
  name, title = pages.text(one.name), pages.text(title)
  return (
    f'<article class="card{" random" if random else ""}" data-name="{name}" data-part={one.part} '
    f'data-appearance={one.appearance} data-alpha={one.alpha:g} data-reach={values["alpha"]:g} {data} '
    f'style="--s: url({sprite})"><h3>{title}</h3>'
    f'<p class=soft>{"random pair: " if random else ""}{name}</p>'
    f'<div class=pics role=img aria-label="{samples} samples, above as they are, below with {title}">'
    '<div class=view></div><div class="view edited"></div></div>'
    f'<label class=strength>{ALPHA} <input type=range min=0 max={FRAMES - 1} step=1 value={FRAMES - 1} '
    f'aria-label="strength of {name}"><output></output></label>'
    f'<dl>{lines}</dl><div class=buttons><button type=button data-copy=command>Copy command</button>'
    '<button type=button data-copy=json>Copy JSON</button></div></article>'
  )


def _plain(value: float | None) -> str:
  return '' if value is None else f'{value:.6g}'


def _section(part: int, found: Found, cards: str) -> str:
  edits, random = ([one for one in some if one.part == part] for some in (found.edits, found.random))
  source = pages.address(notebook.png(where(found, part, _part_size(found), middling(found.original))), 'png')
  title = pages.text(f'Part {part} · {found.places[part]}')
  told = f'{len(edits)} edit{"s" * (len(edits) != 1)}'
  if edits and random:
    means = (np.mean([one.heldout.score for one in some]) for some in (edits, random))
    told += ', score {} on average; {}: {}'.format(
      said('score', next(means)),
      '1 random pair' if len(random) == 1 else f'{len(random)} random pairs',
      said('score', next(means)),
    )
  return (
    f'<section class=part data-part={part} aria-labelledby=part-{part}><div class=head>'
    f'<img src="{source}" alt="Where part {part} is"><div><h2 id=part-{part}>{title}</h2>'
    f'<p class=soft>{pages.text(told)}.</p></div></div><div class=cards id=cards-{part}>{cards}</div></section>'
  )


def _part_size(found: Found) -> tuple[int, int]:
  h, w = found.original.shape[1:3]
  return max(1, round(PART_SIDE * h / max(h, w))), max(1, round(PART_SIDE * w / max(h, w)))


def _head(found: Found, record: Mapping[str, Any], samples: int) -> str:
  s = record['settings']
  counts = (
    f'All {record["pairs"]:,} pairs of a part and an appearance were screened by first derivatives on {s["screened"]} '
    f'samples. Of each part the {s["pairs"]} best were measured: {record["measured_edits"]} edits, both signs, made '
    f'for real on {s["measured"]} other samples. There the strengths of the {s["followed"]} most promising of a part '
    f'were set, and the {record["kept_edits"]} below chosen, at most {s["top"]} of a part, none of which does what a '
    f'better one does. The scores shown, their order, and the pictures are of {s["heldout"]} samples that nothing was '
    'chosen on.'
  )
  how = (
    'Above the original, below the edit. Move the pointer over a picture, or the slider (arrow keys), to change its '
    'strength. The command copied is that of the strength at which the slider stands.'
  )
  dead = record['dead_parts']
  more = [f'Dead parts, all zero, have no edits: {", ".join(map(str, dead))}.'] if dead else []
  return ''.join(
    [
      *(pages.paragraph(words) for words in (counts, how, *more)),
      _baseline(found),
      pages.details('What the scores mean', _meanings()),
      pages.details('What screening saw', _map(found)),
    ]
  )


def _baseline(found: Found) -> str:
  rows = []
  for name, some in (
    (f'these {len(found.edits)} edits', found.edits),
    (f'{len(found.random)} random pairs', found.random),
  ):
    if some:
      values = [[_value(one, key) for one in some] for key in SCORES]
      rows.append(
        [
          f'{name}, mean',
          *(said(k, None if None in v else float(np.mean(v))) for k, v in zip(SCORES, values, strict=True)),
        ]
      )
  return pages.table(rows, ['', *(heading for heading, _ in SCORES.values())])


def _meanings() -> str:
  rows = [
    *(list(said) for said in SCORES.values()),
    ['region', f'Pixels where the part, enlarged to the image, has {REGION:.0%} of its largest entry or more.'],
    ['measured', MEASURED],
    ['screened', SCREENED],
    ['random pair', RANDOM],
    ['name', NAMED],
    ['why strength ends', '; '.join(f'{name}: {meaning}' for name, meaning in REACHES.items()) + '.'],
  ]
  return pages.table(rows)


def _map(found: Found) -> str:
  from matplotlib import colormaps

  score = found.screened.score
  shown = np.sqrt(score / max(float(score.max()), 1e-30))
  pixels = colormaps[colours.PARTS](shown, bytes=True)[..., :3].repeat(8, axis=0).repeat(4, axis=1)
  source = pages.address(notebook.png(np.ascontiguousarray(pixels)), 'png')
  words = 'Screened score of every pair: a row for each part, a column for each appearance, from 0; darker is higher.'
  return f'<img class=map src="{source}" alt="{pages.text(words)}">{pages.paragraph(words, soft=True)}'


def _bar(parts: Sequence[int]) -> str:
  chosen = ''.join(f'<option value={k}>part {k}</option>' for k in parts)
  keys = {key: heading for key, (heading, _) in SCORES.items()} | {'appearance': 'number of the appearance'}
  keys = {'reach' if key == 'alpha' else key: heading for key, heading in keys.items()}
  order = ''.join(f'<option value={key}>{pages.text(heading)}</option>' for key, heading in keys.items())
  return (
    '<div class=bar role=group aria-label="What is shown">'
    f'<label>Part <select id=part><option value="">all</option>{chosen}</select></label>'
    f'<label>Sort by <select id=sort>{order}</select></label>'
    '<label><input type=checkbox id=grouped checked> grouped by part</label>'
    f'<label>All strengths <input type=range id=all min=0 max={FRAMES - 1} step=1 value={FRAMES - 1}></label>'
    '<span class=soft id=count role=status></span></div>'
  )


def _foot(record: Mapping[str, Any]) -> str:
  seeds = '; '.join(f'{name} {numbers}' for name, numbers in record['seeds'].items())
  words = f'Seeds: {seeds}. {record["seconds"]:.0f} s. Factors {record["settings"]["factors"]}.'
  return pages.paragraph(words) + pages.paragraph(
    'Rename an edit by changing its words in names.json beside this page; `panda-jax edit --zoo` takes it by them, on '
    'these factors only, and the next catalog of this fit shows them.'
  )
