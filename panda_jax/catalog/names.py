"""Names of edits in words: where the part is, and what the edit does to the pixels there, "nose · darker".

Where. A place is a box of the picture. It names a part if it holds at least half of the part's core: the pixels with
half of its largest entry or more, as in the outlines of overlays. If there are several places, the one that fits the
core best is taken (Dice's coefficient). The folder of a generator may define its own places, as `places` in
generator.json: {"nose": [left, top, right, bottom], ...} in pixels; "left eye" and "right eye" together are "eyes".
Left is the left of the picture. If no such place holds the part, its name is a position in the picture: top left,
centre, border, ...

What. `MEASURES` are numbers of the pixels of a region, in CIELAB. The mean change of each measure over samples, from
the original to the edited picture, is divided by the standard deviation of the measure over unedited samples (Glass's
delta). So all measures have one unit: how much samples differ anyway. Motion and growth compare two pictures, see
deformation.py, and cannot be measured on one; their units are fixed, and move edges equally far. The largest effect
gives the word, if it is `LEAST` or more and a share `ALIKE` of the samples changes in this direction. A second word, of
another kind, follows if its effect is almost as large; of both, that of a shape comes first. Else the edit is an "other
change".

The words are for all samples, at the strength that the catalog shows.
Letters: N samples, (h, w) pixels, M pixels of a region.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from panda_jax.catalog.deformation import deformation
from panda_jax.errors import InputError
from panda_jax.files.records import misfit

CORE = 0.5  # of a part's largest entry
LEAST = 0.3  # standard deviations: between a small and a medium effect (Cohen 1988: 0.2 and 0.5)
ALIKE = 0.75  # least share of samples that change in the direction of the mean
SECOND = 0.7  # of the largest effect, for a second word
FLAT = 1.0  # a region with a smaller deviation of L* has no shapes: its sharpness and dark area are rounding
OTHER = 'other change'
BETWEEN = ' · '

Box = tuple[float, float, float, float]  # left, top, right, bottom

PLACES = {'places?': {str: [float]}}
LONGEST, MOST = 40, 64  # letters of a place, and places of a generator

_THIRDS, _HALVES = (0, 1 / 3, 2 / 3, 1), (0, 1 / 2, 1)
_ROWS, _COLUMNS = ('top', '', 'bottom'), ('left', '', 'right')


class Measure(NamedTuple):
  """A number of the pixels of a region that an edit may change.

  Attributes:
    more, less: the words for an edit that raises or lowers it.
    least: lower bound of the deviation over samples, about the smallest visible difference; of motion and growth the
      unit.
    meaning: for readers.
    kind: of the measures of a kind, which say much the same, only one is named.
  """

  more: str
  less: str
  least: float
  meaning: str
  kind: str = ''


MEASURES = {
  'lightness': Measure('lighter', 'darker', 2.0, 'mean lightness (L* of CIELAB)'),
  'warmth': Measure('warmer', 'colder', 2.0, 'more yellow, or more blue (mean of b*)'),
  'tint': Measure('redder', 'greener', 2.0, 'more red, or more green (mean of a*)'),
  'saturation': Measure('more saturated', 'less saturated', 2.0, 'mean distance of colours from grey'),
  'contrast': Measure('more contrast', 'less contrast', 1.0, 'how much lightness varies (standard deviation of L*)'),
  'sharpness': Measure(
    'sharper', 'softer', 0.02, 'steps of lightness between pixels, over those at twice the distance'
  ),
  'dark area': Measure(
    'larger dark area', 'smaller dark area', 0.04, 'share of pixels darker than the middle, such as a pupil'
  ),
  'size': Measure('larger', 'smaller', 0.2, 'grows or shrinks in both directions', 'size'),
  'width': Measure('wider', 'narrower', 0.25, 'grows or shrinks from side to side', 'size'),
  'height': Measure(
    'taller', 'flatter', 0.25, 'grows or shrinks from top to bottom, such as an eye that opens', 'size'
  ),
  'across': Measure('further right', 'further left', 0.125, 'moves sideways', 'place'),
  'down': Measure('lower', 'higher', 0.125, 'moves down or up', 'place'),
}
GROWTH = 'size', 'width', 'height'
OPENING, OPENED = {'eye', 'eyes', 'mouth'}, Measure('more open', 'more closed', 0.25, 'the height of eyes or a mouth')


def known_places(description: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Box]:
  """{name: box} in shares of the picture (h, w), from generator.json; {} if it has no places.

  Raises:
    InputError: a place is not a box inside the picture.
  """
  wrong, known, (h, w) = misfit(description, PLACES), {}, size
  if wrong is None:
    for name, box in description.get('places', {}).items():
      if not 0 < len(name) <= LONGEST or not name.isprintable() or len(known) == MOST:
        wrong = f'there are more than {MOST}, or {name[:LONGEST]!r} is not a name'
      elif len(box) != 4 or not (0 <= box[0] < box[2] <= w and 0 <= box[1] < box[3] <= h):
        wrong = f'{name!r} is not left, top, right, bottom within {w}x{h} pixels'
      else:
        known[name] = (box[0] / w, box[1] / h, box[2] / w, box[3] / h)
  if wrong is not None:
    problem = f'the places that it names cannot be used ({wrong})'
    raise InputError('generator', description.get('family'), problem, 'correct generator.json')
  return known


def where(region: np.ndarray, places: Mapping[str, Box]) -> str:
  """The name of the place of a region (h, w) bool; see the module.

  Args:
    region: with a pixel at least.
    places: of the generator, see `known_places`.
  """
  shapes = [(name, _inside(box, region.shape)) for name, box in places.items()]
  masks = dict(shapes)
  for name in places:
    side, _, thing = name.partition(' ')
    other = f'right {thing}'
    if side == 'left' and other in masks:
      shapes.append((f'{thing}s', masks[name] | masks[other]))
  return _fitting(region, shapes) or _fitting(region, of_the_picture(region.shape)) or 'picture'


def _fitting(region: np.ndarray, shapes: Iterable[tuple[str, np.ndarray]]) -> str | None:
  best, name = 0.0, None
  for words, mask in shapes:
    common = np.count_nonzero(region & mask)
    dice = 2 * common / (np.count_nonzero(region) + np.count_nonzero(mask))
    if 2 * common >= np.count_nonzero(region) and dice > best:
      best, name = dice, words
  return name


def of_the_picture(size: tuple[int, ...]) -> Iterable[tuple[str, np.ndarray]]:
  """Ninths, thirds, quarters and halves of the picture, the middle, the border, both sides, and the whole."""

  def box(*edges):
    return _inside(edges, size)

  for i, row in enumerate(_ROWS):
    for j, column in enumerate(_COLUMNS):
      name = f'{row} {column}'.strip() or 'centre'
      yield name, box(_THIRDS[j], _THIRDS[i], _THIRDS[j + 1], _THIRDS[i + 1])
      if row and column:
        yield name, box(_HALVES[j // 2], _HALVES[i // 2], _HALVES[j // 2 + 1], _HALVES[i // 2 + 1])
  for count in (_THIRDS, _HALVES):
    yield 'top', box(0, 0, 1, count[1])
    yield 'bottom', box(0, count[-2], 1, 1)
    yield 'left', box(0, 0, count[1], 1)
    yield 'right', box(count[-2], 0, 1, 1)
  middle = box(1 / 6, 1 / 6, 5 / 6, 5 / 6)
  yield 'centre', box(1 / 4, 1 / 4, 3 / 4, 3 / 4)
  yield 'centre', middle
  yield 'border', ~middle
  yield 'sides', box(0, 0, 1 / 6, 1) | box(5 / 6, 0, 1, 1)
  yield 'sides', box(0, 0, 1 / 3, 1) | box(2 / 3, 0, 1, 1)
  yield 'top and bottom', box(0, 0, 1, 1 / 6) | box(0, 5 / 6, 1, 1)
  yield 'picture', box(0, 0, 1, 1)


def _inside(box: Iterable[float], size: tuple[int, ...]) -> np.ndarray:
  """(h, w) bool: pixels with their centres in a box, which is in shares of the picture."""
  left, top, right, bottom = box
  y, x = ((np.arange(n) + 0.5) / n for n in size)
  return ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None]


def lab(images: np.ndarray) -> np.ndarray:
  """CIELAB (..., 3) under D65 of sRGB images (..., 3) in [-1, 1]; IEC 61966-2-1, ISO/CIE 11664-4."""
  encoded = np.clip((images.astype(np.float64) + 1) / 2, 0, 1)
  linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
  to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
  ratio = linear @ (to_xyz / to_xyz.sum(axis=1, keepdims=True)).T
  f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
  X, Y, Z = np.moveaxis(f, -1, 0)
  return np.stack([116 * Y - 16, 500 * (X - Y), 200 * (Y - Z)], axis=-1)


def _cropped(images: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """CIELAB (3, N, ...) of images and a region, within the region's box; images without colours are grey."""
  rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
  crop = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
  images = images[:, *crop]
  if images.shape[3] != 3:
    images = np.repeat(images.mean(axis=3, keepdims=True), 3, axis=3)
  return np.moveaxis(lab(images), -1, 0), region[crop]


def measured(images: np.ndarray, region: np.ndarray) -> dict[str, np.ndarray]:
  """`MEASURES` (N,), but motion and growth, of images (N, h, w, channels) in [-1, 1] at a region (h, w) bool.

  Without colours, those of L*. Measures that need contrast are NaN in a region without contrast.
  """
  (L, a, b), region = _cropped(images, region)
  coloured = images.shape[3] == 3
  inside = L[:, region]
  contrast = inside.std(axis=1)
  fine, coarse = (_steps(L, region, apart) for apart in (1, 2))
  shaped = contrast >= FLAT
  low, high = np.quantile(inside, [0.02, 0.98], axis=1)
  found = {
    'lightness': inside.mean(axis=1),
    'contrast': contrast,
    'sharpness': np.divide(fine, coarse, out=np.full_like(contrast, np.nan), where=shaped & (coarse > 0)),
    'dark area': np.where(shaped, np.mean(inside < ((low + high) / 2)[:, None], axis=1), np.nan),
  }
  if coloured:
    a, b = a[:, region], b[:, region]
    found |= {'warmth': b.mean(axis=1), 'tint': a.mean(axis=1), 'saturation': np.hypot(a, b).mean(axis=1)}
  return found


def _steps(L: np.ndarray, region: np.ndarray, apart: int) -> np.ndarray:
  """Root mean square differences (N,) of pixels of a region at this distance, down and across; 0 without pairs."""
  down = (L[:, apart:] - L[:, :-apart])[:, region[apart:] & region[:-apart]]
  across = (L[:, :, apart:] - L[:, :, :-apart])[:, region[:, apart:] & region[:, :-apart]]
  steps = np.concatenate([down, across], axis=1)
  return np.sqrt(np.mean(np.square(steps), axis=1)) if steps.size else np.zeros(len(L))


def effects(
  original: np.ndarray, edited: np.ndarray, region: np.ndarray, unedited: Mapping[str, np.ndarray] | None = None
) -> dict[str, float]:
  """Standardised effects on each measure, the largest first; 0 where samples do not change alike. See the module.

  Args:
    original, edited: (N, h, w, channels) in [-1, 1].
    region: (h, w) bool, with a pixel at least.
    unedited: what `measured` gives for the samples whose deviations are the units; of `original` if left out.
  """
  before, after = measured(original, region), measured(edited, region)
  changes = {name: after[name] - values for name, values in before.items()}
  units = {name: _deviation(values) for name, values in (before if unedited is None else unedited).items()}
  (first, inside), (second, _) = _cropped(original, region), _cropped(edited, region)
  changes |= deformation(first, second, inside)
  found = {name: _alike(change) / max(units.get(name, 0.0), MEASURES[name].least) for name, change in changes.items()}
  return dict(sorted(found.items(), key=lambda item: -abs(item[1])))


def _deviation(values: np.ndarray) -> float:
  known = values[np.isfinite(values)]
  return float(known.std()) if len(known) else 0.0


def _alike(change: np.ndarray) -> float:
  """The mean of the known changes (N,), or 0 if they are not alike."""
  known = change[np.isfinite(change)]
  mean = known.sum() / max(len(known), 1)
  return float(mean) if np.sum(np.sign(known) == np.sign(mean)) >= ALIKE * len(change) else 0.0


def growth(found: Mapping[str, float]) -> float:
  """The largest effect on a size; 0 if it is too small to be named beside the other `effects`."""
  size = max((abs(found.get(name, 0.0)) for name in GROWTH), default=0.0)
  return size if size >= max(LEAST, SECOND * max(map(abs, found.values()), default=0.0)) else 0.0


def what(found: Mapping[str, float], place: str = '', second: float = SECOND) -> str:
  """The words for `effects`, the largest first.

  Args:
    found: the effects.
    place: where the region is, in words: eyes and mouths open.
    second: a second word is given if its effect is at least this share of the largest.
  """
  if any(abs(found.get(name, 0.0)) >= LEAST for name in GROWTH):  # a dark area then grows because its shape does
    found = {name: effect for name, effect in found.items() if name != 'dark area'}
  largest = max(map(abs, found.values()), default=0.0)
  if largest < LEAST:
    return OTHER
  said: dict[str, str] = {}  # {kind: word}
  for name, effect in found.items():
    measure = OPENED if name == 'height' and OPENING & {*place.split()} else MEASURES[name]
    if abs(effect) >= max(LEAST, second * largest):
      said.setdefault(MEASURES[name].kind or name, measure.more if effect > 0 else measure.less)
  words = list(said)[:2]
  words.sort(key=lambda kind: kind != 'size')  # shape first: it is what one looks for
  return ' and '.join(said[kind] for kind in words)


def is_of_size(title: str) -> bool:
  """Whether a title names a change of size, such as "eyes · larger and lower 2"."""
  words = re.sub(r' \d+$', '', title.rpartition(BETWEEN)[2]).split(' and ')
  sizes = [*(MEASURES[name] for name in GROWTH), OPENED]
  return any(word in (size.more, size.less) for word in words for size in sizes)


def numbered(part: int, appearance: int, alpha: float) -> str:
  """What an edit is called before it has words."""
  return f'part {part} · appearance {appearance} · {"+" if alpha > 0 else "-"}'


def distinct(titles: Iterable[str]) -> list[str]:
  """The titles, with a number for each repeated one: "nose · darker 2"."""
  seen: dict[str, int] = {}
  found = []
  for title in titles:
    seen[title] = seen.get(title, 0) + 1
    found.append(title if seen[title] == 1 else f'{title} {seen[title]}')
  return found
