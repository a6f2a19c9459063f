"""Where an appearance is: its coordinates at the positions of a sample, their statistics over a dataset, and masks.

The coordinate of appearance j at a position with features z (C,) is a_j'z: row j of A'Z_i, laid out on the grid
(PandA, ICLR 2023, concept localisation). A threshold over the dataset turns it into a mask of the concept.
Letters: N samples, H, W grid, C channels, k chosen appearances, (h, w) pixels of an image.
"""

import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.solver.factors import Factors

METHODS = ('mean', 'otsu')
BINS = 4096
WHITE = 1.0


def checked_appearances(appearances: int | Sequence[int], count: int) -> list[int]:
  """The chosen appearances as a list of 0-based indices, each below `count` and named once.

  Raises:
    InputError: the list is empty, or an index is out of range or given twice.
  """
  chosen: list[Any] = [appearances] if isinstance(appearances, int | numbers.Real) else list(appearances)
  remedy = f'give one or more from 0 to {count - 1}'
  if not chosen:
    raise InputError('appearance', 'none', 'nothing is chosen', remedy)
  for j in chosen:
    if not isinstance(j, numbers.Integral) or isinstance(j, bool) or not 0 <= int(j) < count:
      raise InputError('appearance', j, f'there are {count} appearances', remedy)
  if len(set(chosen)) < len(chosen):
    raise InputError('appearance', ','.join(map(str, chosen)), 'one is named twice', remedy)
  return [int(j) for j in chosen]


def checked_threshold(method: str | float) -> str | float:
  """'mean', 'otsu', or a finite number; the number may be given as text.

  Raises:
    InputError: something else.
  """
  if isinstance(method, str) and method in METHODS:
    return method
  try:
    number = float(method)
  except (TypeError, ValueError):
    number = np.nan
  if isinstance(method, bool) or not np.isfinite(number):
    raise InputError('threshold', method, 'unknown', f'give {" or ".join(METHODS)}, or a finite number')
  return number


@jax.jit
def _products(Z, A, mean):
  return jnp.matmul(Z - mean, A, precision='highest')


def title(whose: str, white: str) -> str:
  """The title of heat maps of coordinates; it says what they show, since scales differ."""
  return f'Coordinates of {whose}: red is above, blue below {white}.'


def coordinates(features: ArrayLike, factors: Factors, appearances: int | Sequence[int]) -> np.ndarray:
  """Coordinates a_j'z of each position of each sample.

  Args:
    features: (N, H, W, C), or (N, S, C); of a generator, or of anything else the factors were fitted on.
    factors: appearances are used as stored; a mean that they were fitted without is subtracted first.
    appearances: one or more, 0-based.

  Returns:
    (N, H, W, k) float32.

  Raises:
    InputError: an appearance out of range, or features of another size.
    NonFiniteError: a sample holds NaN or infinity.

  Example:
    >>> panda_jax.saliency(features, factors, [0, 2]).shape
    (40, 4, 4, 2)
  """
  chosen = checked_appearances(appearances, factors.appearances.shape[1])
  (H, W), C = factors.grid, factors.appearances.shape[0]
  shape = np.shape(features)
  if shape[1:] not in ((H, W, C), (H * W, C)) or not shape[0]:
    text = 'x'.join(map(str, shape))
    raise InputError('features', f'shape {text}', 'they do not fit the factors', f'give shape (N, {H}, {W}, {C})')
  Z = jnp.asarray(features, jnp.float32).reshape(-1, H * W, C)
  mean = np.zeros((1, 1, C), np.float32) if factors.mean is None else factors.mean[None]
  values = np.asarray(_products(Z, factors.appearances[:, chosen], mean))
  bad = ~np.isfinite(values).all(axis=(1, 2))
  if bad.any():
    raise NonFiniteError('features', f'sample {int(np.argmax(bad))}', 'it holds NaN or infinity', 'leave it out')
  return values.reshape(-1, H, W, len(chosen))


class _Histogram:
  """Counts in BINS cells of equal width. The range doubles when a value lies beyond it: exact, and one pass."""

  def __init__(self, values: np.ndarray):
    self.low, top = float(values.min()), float(values.max())
    floor = max(abs(self.low), abs(top), float(np.finfo(np.float32).tiny)) * 1e-6  # for values that are all the same
    self.width = max(top - self.low, floor) * (1 + 1e-12) / BINS
    self.counts = np.zeros(BINS, np.int64)

  def add(self, values: np.ndarray) -> None:
    least, top = float(values.min()), float(values.max())
    while least < self.low or top >= self.low + BINS * self.width:
      pairs = self.counts.reshape(-1, 2).sum(axis=1)
      nothing = np.zeros_like(pairs)
      if least < self.low:
        self.low -= BINS * self.width
        self.counts = np.concatenate([nothing, pairs])
      else:
        self.counts = np.concatenate([pairs, nothing])
      self.width *= 2
    cells = ((values.reshape(-1).astype(np.float64) - self.low) / self.width).astype(np.int64)
    self.counts += np.bincount(np.clip(cells, 0, BINS - 1), minlength=BINS)

  def otsu(self) -> float:
    """The border of two cells that best separates the values below from those above (Otsu 1979)."""
    weight = self.counts / self.counts.sum()
    centre = self.low + self.width * (np.arange(BINS) + 0.5)
    below, moment = np.cumsum(weight)[:-1], np.cumsum(weight * centre)[:-1]
    mean = np.sum(weight * centre)
    mixed = np.maximum(below * (1 - below), np.finfo(np.float64).tiny)
    between = np.where((below > 0) & (below < 1), (mean * below - moment) ** 2 / mixed, 0)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))  # several where cells are empty: take the middle
    return float(self.low + self.width * (best[0] + best[-1] + 2) / 2)


class Statistics:
  """Mean, deviation, range and histogram of coordinates, gathered batch by batch in memory that does not grow.

  Attributes:
    samples: number of samples so far.
    count: number of positions so far.
    mean, std, low, high: (k,) float64; empty before the first batch.
  """

  def __init__(self) -> None:
    self.samples = self.count = 0
    self._histograms: list[_Histogram] = []

  def add(self, values: np.ndarray) -> None:
    """Adds coordinates (N, H, W, k)."""
    fibres = np.asarray(values).reshape(-1, values.shape[-1])
    wide = fibres.astype(np.float64)
    n, mean = len(wide), wide.mean(axis=0)
    squares = ((wide - mean[None]) ** 2).sum(axis=0)
    low, high = wide.min(axis=0), wide.max(axis=0)
    if not self.count:
      self.mean, self._squares, self.low, self.high = mean, squares, low, high
      self._histograms = [_Histogram(column) for column in wide.T]
    else:  # Chan, Golub and LeVeque 1979
      apart, both = mean - self.mean, self.count + n
      self._squares = self._squares + squares + apart**2 * self.count * n / both
      self.mean = self.mean + apart * n / both
      self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
    for histogram, column in zip(self._histograms, wide.T, strict=True):
      histogram.add(column)
    self.count += n
    self.samples += len(values)

  @property
  def std(self) -> np.ndarray:
    return np.sqrt(self._squares / self.count)

  def thresholds(self, method: str | float = 'mean') -> np.ndarray:
    """Thresholds (k,): 'mean' over all samples and positions, as published; 'otsu'; or a number for all.

    Raises:
      InputError: no such method, or no coordinates were added.
    """
    if not self.count:
      raise InputError('samples', 0, 'there are no statistics yet', 'add coordinates first')
    method = checked_threshold(method)
    if isinstance(method, float):
      return np.full(len(self.mean), method)
    return self.mean.copy() if method == 'mean' else np.array([h.otsu() for h in self._histograms])


def dataset_statistics(batches: Iterable[np.ndarray], factors: Factors, appearances: int | Sequence[int]) -> Statistics:
  """`Statistics` over batches of features (n, H, W, C) or (n, S, C), one batch in memory at a time."""
  statistics = Statistics()
  for batch in batches:
    statistics.add(coordinates(batch, factors, appearances))
  return statistics


def resized(maps: np.ndarray, size: tuple[int, int], margin: int | tuple[int, int] = 0) -> np.ndarray:
  """Maps (N, H, W) on the feature grid at image size (N, h, w), by Pillow's Lanczos filter as published.

  Args:
    maps: float32 or uint8; the result has the same type.
    size: (h, w).
    margin: cells of the grid beyond the image at each edge (StyleGAN3), or (above and below, at the sides). They are
      cut off; the filter still sees them.
  """
  from PIL import Image

  H, W = maps.shape[1:]
  rows, columns = np.broadcast_to(margin, 2).tolist()
  inside = columns, rows, W - columns, H - rows
  lanczos = Image.Resampling.LANCZOS
  maps = maps if maps.dtype == np.uint8 else np.asarray(maps, np.float32)
  return np.stack([np.asarray(Image.fromarray(m).resize(size[::-1], lanczos, box=inside)) for m in maps])


def heat_maps(
  values: np.ndarray, low: float, high: float, size: tuple[int, int], margin: int | tuple[int, int] = 0
) -> np.ndarray:
  """Coordinates (N, H, W) as grey levels (N, h, w) uint8, black at `low` and white at `high` of the dataset.

  As published, except that values beyond the dataset's range are clipped: the published cast to bytes wraps round.
  """
  scaled = (values - np.float32(low)) / max(float(high) - float(low), float(np.finfo(np.float32).tiny))
  return resized((np.clip(scaled, 0, 1) * 255).astype(np.uint8), size, margin)


def masks(
  values: np.ndarray, threshold: float, size: tuple[int, int] | None = None, margin: int | tuple[int, int] = 0
) -> np.ndarray:
  """Where coordinates (N, H, W) reach the threshold: (N, h, w) bool, resized before they are compared, as published.

  Without a size the masks stay on the grid (N, H, W).
  """
  return (np.asarray(values) if size is None else resized(values, size, margin)) >= threshold


def cut_outs(images: np.ndarray, inside: np.ndarray) -> np.ndarray:
  """Images (N, h, w, channels), -1 black and 1 white, with white wherever `inside` (N, h, w) is False.

  Raises:
    InputError: the masks do not have the size of the images.
  """
  check_same_size(inside, np.shape(images)[:3], 'images')
  return np.where(inside[..., None], images, np.float32(WHITE))


def check_same_size(given: np.ndarray, expected: Sequence[int], of: str) -> None:
  """Raises InputError unless masks have the shape of the images or masks that they are compared with."""
  if np.shape(given) != tuple(expected):
    found, wanted = ('x'.join(map(str, shape)) for shape in (np.shape(given), expected))
    raise InputError('masks', f'shape {found}', f'the {of} have {wanted}', 'give masks (N, h, w) of that size')


def intersection_over_union(found: np.ndarray, given: np.ndarray) -> np.ndarray:
  """Overlap of two sets of masks (N, h, w), sample by sample: (N,) in [0, 1]; 1 where both are empty.

  Args:
    found: bool.
    given: bool, or numbers that count as inside where they are above half their type's usual top: 0.5, or 127 for
      uint8.

  Raises:
    InputError: they differ in size.
  """
  check_same_size(given, np.shape(found), 'masks found')
  given = as_masks(given)
  both, either = (found & given).sum(axis=(1, 2)), (found | given).sum(axis=(1, 2))
  return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def as_masks(given: np.ndarray) -> np.ndarray:
  """Masks as bool from bool, from grey levels (uint8: inside above 127), or from other numbers (inside above 0.5).

  In uint8 masks that hold only zeros and ones, 1 is inside.
  """
  given = np.asarray(given)
  if given.dtype == np.bool_:
    return given
  levels = given.dtype == np.uint8 and given.size and given.max() > 1
  return given > (127 if levels else 0.5)
