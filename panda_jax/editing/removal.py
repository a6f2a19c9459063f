"""Context-aware removal: the background's appearance in place of a part, as strong as in the background around it.

PandA (ICLR 2023) finds that one appearance stands for background, and that adding it at a part removes the object
there. Its authors chose the appearance and the strength by eye. The rules here are our derivation. Letters: N samples,
H, W grid, S positions, C channels, R_C appearances.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from panda_jax.editing import masks
from panda_jax.editing.edits import Edit, Recipe, checked_alpha, direction_of
from panda_jax.editing.saliency import METHODS, Statistics
from panda_jax.errors import InputError
from panda_jax.solver.factors import Factors

CLEAR, CORE = 0.95, 0.5  # see `clearing`


class Background(NamedTuple):
  """Which appearance stands for background.

  Attributes:
    appearance: its index.
    scores: (R_C,) how much more of its energy is at the border than in the centre, see `find_background`.
  """

  appearance: int
  scores: np.ndarray


class Removal(NamedTuple):
  """The edit that removes a part, and what it does to the background's coordinate c = a_b'z (a_b of unit length).

  Attributes:
    edit: background direction, mask of the part, strength.
    appearance: the background's.
    scores: (R_C,) of all appearances; None where the appearance was given.
    alphas: (N,) the strength that each sample would take; NaN for samples without background. The edit has `strength`
      times their median.
    threshold: a position is background where c is on the border's side of it.
    side: 1 if background is where c is above the threshold, -1 if it is below.
    clear: what c is in the clearest background, see `clearing`.
    covered: (2, N), the fraction of the part that is background, before and after; positions weighted by the mask.
  """

  edit: Edit
  appearance: int
  scores: np.ndarray | None
  alphas: np.ndarray
  threshold: float
  side: float
  clear: float
  covered: np.ndarray


def border_and_centre(grid: tuple[int, int], margin: int | tuple[int, int] = 0) -> tuple[np.ndarray, np.ndarray]:
  """Two regions (S,) bool: a ring along the image's border, an eighth of its width, and the middle half each way."""
  ring, middle = np.zeros(grid, bool), np.zeros(grid, bool)
  down, across = np.broadcast_to(margin, 2).tolist()  # where the image begins
  rows, columns = grid[0] - 2 * down, grid[1] - 2 * across
  inner = np.ones((rows, columns), bool)
  wide = max(1, rows // 8), max(1, columns // 8)
  inner[wide[0] : rows - wide[0], wide[1] : columns - wide[1]] = False
  ring[down : down + rows, across : across + columns] = inner
  half = (slice(first + n // 4, first + -(-3 * n // 4)) for first, n in ((down, rows), (across, columns)))
  middle[tuple(half)] = True
  return ring.reshape(-1), middle.reshape(-1) & ~ring.reshape(-1)


def find_background(features: ArrayLike, factors: Factors, margin: int | tuple[int, int] = 0) -> Background:
  """The appearance whose energy is at the border of the image rather than in its centre.

  With B_j the mean over samples of the squared mean coordinate a_j'z along the border, a_j of unit length, and C_j the
  same in the centre, the score is (B - C) |B - C| / (B + C): the excess of energy times the contrast. So neither a
  strong appearance that is everywhere nor a weak one that is nowhere else wins. Coordinates are averaged over a region
  before they are squared, because an object's details cancel in the mean and the background does not.

  Args:
    features: (N, H, W, C), not centred.
    factors: of that layer.
    margin: cells of the map beyond the image at each edge (StyleGAN3).

  Raises:
    InputError: features of another size, or a grid without a centre.
  """
  Z = as_fibres(features, factors)
  ring, middle = border_and_centre(factors.grid, margin)
  if not middle.any():
    raise InputError(
      'appearance', None, 'the feature map is too small to have a centre', 'give the index of the background appearance'
    )
  A = _unit_columns(factors.appearances)
  B, C = (
    np.mean([np.square(z[region].mean(axis=0, dtype=np.float64) @ A) for z in Z], axis=0) for region in (ring, middle)
  )
  scores = (B - C) * np.abs(B - C) / np.maximum(B + C, np.finfo(np.float64).tiny)
  return Background(int(np.argmax(scores)), scores)


def remove(
  features: ArrayLike,
  factors: Factors,
  part: int | Sequence[int] | None = None,
  appearance: int | None = None,
  strength: float = 1.0,
  *,
  separate: str = 'otsu',
  margin: int | tuple[int, int] = 0,
  combine: str | None = None,
  threshold: float | None = None,
  feather: float | None = None,
  drawn: np.ndarray | None = None,
) -> Removal:
  """The edit that puts background in place of a part.

  In a sample, alpha brings the part-weighted mean of the background's coordinate inside the part, sum m c / sum m, to
  its mean over the background outside: alpha = (c_background - c_part) sum m / sum m^2. The median over samples is
  taken.

  Args:
    features: (N, H, W, C) of the samples that the rule and the median run over, not centred.
    factors: of that layer.
    part: one, several joined, or None for `drawn` alone.
    appearance: the background's; found by `find_background` if left out.
    strength: multiplies alpha.
    separate: where c is background: 'otsu' or 'mean', a threshold over all samples and positions.
    margin: as of `find_background`.
    combine, threshold, feather, drawn: the mask, as of `make_edit`.

  Raises:
    InputError: an index out of range, a dead part or appearance, features of another size, a strength that is no
      number, neither a part nor a mask, or a mask below 0.

  Example:
    >>> removal = panda_jax.remove(features, factors, part=2)
    >>> removal.edit.mask.shape
    (16,)
  """
  Z = as_fibres(features, factors)
  if separate not in METHODS:
    raise InputError('separate', separate, 'unknown', f'give one of {", ".join(METHODS)}')
  times = checked_alpha(strength)
  if times.ndim:
    raise InputError('strength', times, 'it is not a single number', 'give one such as 1')
  if drawn is not None:
    drawn = masks.as_mask(drawn, factors.grid)
    if (drawn < 0).any():
      raise InputError('mask', float(drawn.min()), 'it is below 0', 'give numbers from 0 to 1')
  mask = masks.mask_of(
    factors.parts, factors.grid, part, drawn, combine=combine, threshold=threshold, feather=feather
  ).astype(np.float64)
  if appearance is None:
    index, scores = find_background(features, factors, margin)
  else:
    index, scores = appearance, None
  direction = direction_of(factors.appearances, index)
  c = np.stack([z @ direction for z in Z]).astype(np.float64)  # (N, S)
  ring, _ = border_and_centre(factors.grid, margin)
  side = -1.0 if c[:, ring].mean() < 0 else 1.0
  statistics = Statistics()
  statistics.add((side * c).astype(np.float32).reshape(len(c), *factors.grid, 1))
  level = float(statistics.thresholds(separate)[0])
  background = side * c >= level
  alphas = _alphas(c, background, mask)
  if np.isnan(alphas).all():
    raise InputError('appearance', index, 'no sample has background outside the part', 'choose another appearance')
  alpha = np.float32(times * np.nanmedian(alphas))
  after = side * (c + float(alpha) * mask[None]) >= level
  covered = np.stack([x @ mask / mask.sum() for x in (background, after)])
  recipe: dict[str, Any] = {'part': part, 'appearance': index, 'alpha': alpha, 'mask': drawn}
  recipe |= {'combine': combine, 'threshold': threshold, 'feather': feather}
  edit = Edit(direction, mask.astype(np.float32), alpha, Recipe(factors, recipe))
  clear = side * float(np.quantile(side * c[background], CLEAR))
  return Removal(edit, int(index), scores, alphas, side * level, side, clear, covered)


def clearing(
  removal: Removal, features: ArrayLike, factors: Factors, most: float, mask: np.ndarray | None = None
) -> np.ndarray:
  """The strengths (N,) that make a place background at first sight, each for one sample.

  The strength of a removal brings the mean of the place to that of the background. What is far from the background may
  then still be seen. Here almost the whole core of the place, where the mask is half of its maximum or more, gets as
  much of the background's coordinate as the clearest background has: a fraction `CLEAR` of the core reaches the
  coordinate that a fraction `CLEAR` of the background stays below.

  Args:
    removal: as of `remove`.
    features: (N, H, W, C) of the samples, not centred.
    factors: of that layer.
    most: the largest strength to take. A sample takes the strength of the removal if that is larger than its own.
    mask: (S,) in place of that of the removal, such as a refined part.

  Raises:
    InputError: features of another size.
  """
  c = (as_fibres(features, factors) @ np.asarray(removal.edit.direction, np.float32)).astype(np.float64)
  m = np.asarray(removal.edit.mask if mask is None else mask, np.float64)
  core, side = m >= CORE * m.max(), removal.side
  own = np.quantile(side * (removal.clear - c[:, core]) / m[core], CLEAR, axis=1)
  return side * np.maximum(side * float(removal.edit.alpha), np.minimum(own, most))


def _alphas(c: np.ndarray, background: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """The strength (N,) that brings the part's mean to the background's, from coordinates (N, S)."""
  weight = background * (1 - np.minimum(mask, 1))[None]  # the background, less where the part is
  sums = weight.sum(axis=1)
  outside = np.where(sums > 0, (weight * c).sum(axis=1) / np.where(sums > 0, sums, 1), np.nan)
  inside = c @ mask / mask.sum()
  return (outside - inside) * mask.sum() / np.sum(mask * mask)


def as_fibres(features: ArrayLike, factors: Factors) -> np.ndarray:
  """Features (N, S, C) float32 from (N, H, W, C).

  Raises:
    InputError: they are of another size than the factors.
  """
  expected = *factors.grid, factors.appearances.shape[0]
  found = np.shape(features)
  if len(found) != 4 or found[1:] != expected or not found[0]:
    texts = ['x'.join(map(str, shape)) for shape in (found, ('N', *expected))]
    raise InputError('features', f'shape {texts[0]}', f'these factors are of {texts[1]}', 'give features of that layer')
  return np.asarray(features, np.float32).reshape(found[0], -1, found[3])


def _unit_columns(A: np.ndarray) -> np.ndarray:
  lengths = np.linalg.norm(A, axis=0, keepdims=True)
  return A / np.where(lengths > 0, lengths, 1)
