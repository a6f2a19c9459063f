"""Regions of images, how much edits change inside and outside of them, and strengths at which edits are comparable.

ROIR is the measure of PandA (ICLR 2023, Table 1): the norm of an edit's change outside a region over that inside, mean
over samples; lower is better. It depends on the strength, so methods are compared at the same median change inside
(`match_strength`; our protocol). Letters: N samples, (h, w) pixels. Images are float, before clipping.
"""

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.errors import InputError

LEAST_CHANGE = 1e-6  # a smaller root mean square change inside a region is rounding


def box_mask(box: Sequence[int], size: tuple[int, int]) -> np.ndarray:
  """(h, w) bool: true in the rows r0 to r1 - 1 and the columns c0 to c1 - 1 of a box (r0, r1, c0, c1).

  Raises:
    InputError: the box is none, is empty, reaches out of the image, or leaves nothing of it outside.

  Example:
    >>> from panda_jax.regions.metrics import box_mask
    >>> int(box_mask((2, 4, 1, 3), (8, 8)).sum())
    4
  """
  h, w = size
  remedy = f'give r0,r1,c0,c1 with 0 <= r0 < r1 <= {h} and 0 <= c0 < c1 <= {w}'
  values = list(box) if isinstance(box, Sequence | np.ndarray) and not isinstance(box, str) else []
  if len(values) != 4 or not all(isinstance(x, numbers.Integral) and not isinstance(x, bool) for x in values):
    raise InputError('region', box, 'a box is four whole numbers', remedy)
  r0, r1, c0, c1 = (int(x) for x in values)
  text = f'{r0},{r1},{c0},{c1}'
  if not (0 <= r0 < r1 <= h and 0 <= c0 < c1 <= w):
    raise InputError('region', text, f'it is not a box in an image of {h} x {w} pixels', remedy)
  mask = np.zeros((h, w), bool)
  mask[r0:r1, c0:c1] = True
  return _with_outside(mask, text)


def region_mask(region, size: tuple[int, int]) -> np.ndarray:
  """A region as a mask (h, w) bool: a box through `box_mask`, or an array of the image's size as it is.

  Raises:
    InputError: it is neither, or nothing is inside or outside of it.
  """
  if not isinstance(region, np.ndarray | jax.Array) or region.ndim < 2:
    return box_mask(region, size)
  mask = np.asarray(region)
  text = f'mask of shape {"x".join(map(str, mask.shape))}'
  if mask.shape != tuple(size):
    raise InputError('region', text, f'the images have {size[0]} x {size[1]} pixels', 'give a mask of that size')
  if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
    raise InputError('region', text, 'its entries are not all 0 or 1', 'give true and false')
  return _with_outside(mask.astype(bool), text)


def _with_outside(mask: np.ndarray, text: str) -> np.ndarray:
  if not mask.any() or mask.all():
    where = 'outside' if mask.any() else 'inside'
    raise InputError('region', text, f'nothing is {where} of it', 'give a region that is a part of the image')
  return mask


def area_weights(n: int, m: int) -> np.ndarray:
  """(m, n) float32: row i averages the i-th of m equal intervals of n cells; a cell at its edge counts in part."""
  edges = np.linspace(0, n, m + 1)
  cells = np.arange(n)
  covered = np.minimum(edges[1:, None], cells[None] + 1) - np.maximum(edges[:-1, None], cells[None])
  return (np.maximum(covered, 0) * m / n).astype(np.float32)


def compared_size(shape: tuple[int, int], size: int | None) -> tuple[int, int]:
  """The size at which images (h, w) are compared: longer side at most `size`, never enlarged; None keeps the size."""
  longest = max(shape)
  if size is None or longest <= size:
    return tuple(shape)
  return max(1, round(shape[0] * size / longest)), max(1, round(shape[1] * size / longest))


def downsampled(images: jax.Array, size: int | None) -> jax.Array:
  """Images (N, h, w, channels) averaged over areas to `compared_size`; unchanged if they have that size."""
  shape = images.shape[1:3]
  wanted = compared_size(shape, size)
  if wanted == shape:
    return images
  rows, columns = (area_weights(n, m) for n, m in zip(shape, wanted, strict=True))
  highest = jax.lax.Precision.HIGHEST
  return jnp.einsum('rh,nhwc,sw->nrsc', rows, images, columns, precision=highest)


def compared_mask(mask: np.ndarray, size: int | None) -> np.ndarray:
  """A mask (h, w) averaged over areas to the compared size; float32, between 0 and 1 where a region cuts a pixel."""
  mask = np.asarray(mask, np.float32)
  if mask.ndim != 2:
    raise InputError('region', f'shape {mask.shape}', 'it is not a mask of the image', 'give shape (h, w)')
  rows, columns = (area_weights(n, m) for n, m in zip(mask.shape, compared_size(mask.shape, size), strict=True))
  return rows @ mask @ columns.T


def entries(mask: np.ndarray, size: int | None = None) -> float:
  """The sum of squares of a mask (h, w) at the compared size: for a boolean mask, the number of pixels inside."""
  return float(np.square(compared_mask(mask, size), dtype=np.float64).sum())


@functools.partial(jax.jit, static_argnames='size')
def _norms(original, edited, mask, size):
  squares = jnp.square(downsampled(edited.astype(jnp.float32) - original.astype(jnp.float32), size)).sum(axis=-1)
  inside, outside = jnp.square(mask)[None], jnp.square(1 - mask)[None]
  return jnp.sqrt((squares * inside).sum(axis=(1, 2))), jnp.sqrt((squares * outside).sum(axis=(1, 2)))


def norms(original, edited, mask: np.ndarray, size: int | None = None) -> tuple[jax.Array, jax.Array]:
  """||m (X - X')|| and ||(1 - m)(X - X')||, each (N,): L2 over pixels and channels.

  Args:
    original, edited: X and X', (N, h, w, channels).
    mask: m (h, w), true or 1 inside.
    size: images with a longer side above it are averaged down to it first, and the mask with them.

  Raises:
    InputError: shapes do not fit.
  """
  if np.shape(original) != np.shape(edited) or np.ndim(original) != 4 or np.shape(original)[1:3] != np.shape(mask):
    texts = ['x'.join(map(str, np.shape(x))) for x in (original, edited, mask)]
    problem = f'the originals are {texts[0]} and the mask {texts[2]}'
    raise InputError('edited', texts[1], problem, 'give (N, h, w, channels) twice and (h, w)')
  return _norms(original, edited, compared_mask(mask, size), size)


def ratio(inside, outside, count: float) -> np.ndarray:
  """(N,) float64, outside / inside; NaN marks samples in which nothing changes inside.

  Args:
    inside, outside: norms (N,), see `norms`.
    count: pixels inside times channels; a norm below sqrt(count) LEAST_CHANGE counts as no change.
  """
  inside, outside = (np.asarray(x, np.float64) for x in (inside, outside))
  changed = inside > LEAST_CHANGE * math.sqrt(count)
  return np.where(changed, outside / np.where(changed, inside, 1), np.nan)


def roir(original, edited, mask: np.ndarray, size: int | None = None) -> np.ndarray:
  """ROIR of each sample, (N,) float64: ||(1 - m)(X - X')|| / ||m (X - X')||. PandA (ICLR 2023), Table 1, has its mean.

  NaN marks a sample in which nothing changes inside; `summary` counts them. Arguments and errors as of `norms`.
  """
  inside, outside = norms(original, edited, mask, size)
  return ratio(inside, outside, entries(mask, size) * np.shape(original)[-1])


def in_region_change(original, edited, mask: np.ndarray, size: int | None = None) -> np.ndarray:
  """Root mean square change inside a region, (N,) float64; arguments and errors as of `norms`."""
  inside, _ = norms(original, edited, mask, size)
  return np.asarray(inside, np.float64) / math.sqrt(entries(mask, size) * np.shape(original)[-1])


def leakage_map(original, edited) -> np.ndarray:
  """(h, w) float32: where images change. Root mean square over channels, mean over samples (N, h, w, channels)."""
  squares = np.square(np.asarray(edited, np.float32) - np.asarray(original, np.float32))
  return np.sqrt(squares.mean(axis=-1)).mean(axis=0)


class Match(NamedTuple):
  """The strength at which an edit changes a region by the target.

  Attributes:
    alpha: the strength; if the target is not reached, that of the largest change seen.
    change: the median change at alpha.
    reached: whether the change is the target, to the tolerance.
    evaluations: number of strengths tried.
  """

  alpha: float
  change: float
  reached: bool
  evaluations: int


def match_strength(
  change_at: Callable[[float], np.ndarray],
  target: float,
  *,
  start: float = 1.0,
  tolerance: float = 0.005,
  patience: int = 5,
  most: int = 60,
) -> Match:
  """Finds alpha > 0 at which the median of the changes is the target: linear guesses, then bisection.

  The strength grows from `start`, along the line through 0, to bracket the target. If the change stops growing, smaller
  strengths are tried, since the curve may fall again. Interpolation, or else halving, then narrows the bracket.

  Args:
    change_at: alpha to changes (N,) >= 0 of held-out samples; for a negative direction give it -alpha.
    target: of the median.
    start: a first strength; any positive number works.
    tolerance: relative to the target.
    patience: the target counts as unreachable after this number of growths without 1 % more change.
    most: evaluations at most.

  Raises:
    InputError: target, start or tolerance is not positive.
  """
  for name, value in (('target', target), ('start', start), ('tolerance', tolerance)):
    if not (isinstance(value, numbers.Real) and math.isfinite(value) and value > 0):
      raise InputError(name, value, 'it must be a positive number', 'give one above 0')
  seen: dict[float, float] = {0.0: 0.0}

  def at(alpha: float) -> float:
    change = float(np.median(np.asarray(change_at(alpha), np.float64)))
    seen[alpha] = change if math.isfinite(change) else -math.inf  # so strong that images are not finite
    return seen[alpha]

  def result() -> Match:
    reached = [alpha for alpha, change in seen.items() if abs(change - target) <= tolerance * target]
    alpha = min(reached, default=max(seen, key=seen.get))
    return Match(alpha, seen[alpha], bool(reached), len(seen) - 1)

  high = _bracketed(at, target, start, patience, tolerance)
  if high is None or result().reached:
    return result()
  low = max(alpha for alpha in seen if alpha < high and seen[alpha] < target)
  last = 0
  while len(seen) <= most and not result().reached and high - low > 1e-9 * high:
    step = (target - seen[low]) / (seen[high] - seen[low])
    if abs(last) >= 2:  # interpolation moved the same end each time
      step, last = 0.5, 0
    alpha = low + (high - low) * min(max(step, 0.02), 0.98)
    if at(alpha) < target:
      low, last = alpha, min(last, 0) - 1
    else:
      high, last = alpha, max(last, 0) + 1
  return result()


def _bracketed(at, target: float, start: float, patience: int, tolerance: float) -> float | None:
  """The first strength, growing from `start`, whose change is the target or more; None if there is none."""
  alpha, finite, wall, largest, waited = start, 0.0, math.inf, 0.0, 0
  while waited < (patience if largest > 0 else 2 * patience):  # a strength that changes nothing may be much too weak
    change = at(alpha)
    if change >= target * (1 - tolerance):
      return alpha
    waited = 0 if change > 1.01 * largest else waited + 1
    largest = max(largest, change)
    if math.isfinite(change):
      finite = alpha
      alpha *= min(max(1.05 * target / change, 1.5), 8) if change > 0 else 8
    else:
      wall = alpha
    alpha = min(alpha, (finite + wall) / 2)
  for power in range(1, 7):
    if at(start * 2.0**-power) >= target:
      return start * 2.0**-power
  return None


@dataclasses.dataclass(frozen=True)
class Summary:
  """Statistics of a number over samples; None where no sample has the number.

  Attributes:
    n: samples with a number.
    flagged: samples without one (NaN): nothing changed inside the region.
    mean, std, median: std with n in the denominator.
    low, high: 95 % bootstrap interval of the mean (percentiles of the means of resamples).
    median_low, median_high: the same of the median.
  """

  n: int
  flagged: int
  mean: float | None
  std: float | None
  median: float | None
  low: float | None
  high: float | None
  median_low: float | None
  median_high: float | None


def summary(values: np.ndarray, *, resamples: int = 1000, seed: int = 0, level: float = 0.95) -> Summary:
  """Mean, spread and bootstrap intervals of values (N,); the seed makes the intervals repeatable."""
  values = np.asarray(values, np.float64)
  kept = values[np.isfinite(values)]
  n = len(kept)
  if not n:
    return Summary(0, len(values), *(None,) * 7)
  rng = np.random.default_rng(seed)
  means, medians = np.empty(resamples), np.empty(resamples)
  for i in range(resamples):  # one at a time: all at once would take resamples x N numbers
    drawn = kept[rng.integers(0, n, n)]
    means[i], medians[i] = drawn.mean(), np.median(drawn)
  ends = (1 - level) / 2, (1 + level) / 2
  low, high = np.quantile(means, ends)
  median_low, median_high = np.quantile(medians, ends)
  numbers_ = (kept.mean(), kept.std(), np.median(kept), low, high, median_low, median_high)
  return Summary(n, len(values) - n, *(float(x) for x in numbers_))
