"""The search of region_edit.py, on small matrices in float64: objectives over appearances and masks, and minimisers.

Letters: N samples, S positions, C channels, r dimensions of an appearance, G of a mask, k = r + G parameters.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import linalg, optimize

from panda_jax.errors import InputError
from panda_jax.regions.responses import Grams

WEIGHTS = 0.003, 0.01, 0.03, 0.1, 0.3, 1.0  # of the shrinkage; cross-validation chooses among them
FOLDS = 4
TOLERATED = 1.05
STARTS = 4  # leading eigenvectors that the search starts from
ITERATIONS, FLAT = 500, 1e-10  # a step that gains less than the share FLAT is the last
STRENGTH = 10.0  # weight of the squared change of log energy inside: it keeps the strength in a joint step
DAMPING = 0.02  # of the first joint step
LEAST_GAIN = 0.003  # relative; steps that gain less are the last
FARTHEST = 4  # a step of the appearance, in lengths of it: a model of first derivatives is wrong beyond
MOST_TILES = 96  # parameters of a mask
ROUNDING = 1e-7
SILENT = 1e-12  # a sample with less than this share of the largest energy does not respond
RIDGE = 0.1  # of the correlation of positions, before it is inverted


class Natural(NamedTuple):
  """How features vary at a mask: the appearances that occur there.

  Attributes:
    basis: (C, r), principal components of the fibres, each as long as one standard deviation of the features along it,
      so that a direction `basis @ b` of |b| = sqrt(r) is as large as a feature fibre typically differs from the mean.
    kept: share of the variance that the components explain.
  """

  basis: np.ndarray
  kept: float


def natural_appearances(features: np.ndarray, mask: np.ndarray, most: int, share: float) -> Natural:
  """Principal components of the fibres under a mask, about the mean fibre of their position.

  Args:
    features: (N, S, C).
    mask: (S,), weights of the positions.
    most: r at most.
    share: of the variance; only as many components as explain it.
  """
  where = np.flatnonzero(mask > 0.01 * mask.max())
  weights = np.sqrt(mask[where] / mask[where].sum())
  fibres = features[:, where].astype(np.float64)
  fibres = (fibres - fibres.mean(axis=0, keepdims=True)) * weights[None, :, None]
  rows = fibres.reshape(-1, fibres.shape[-1])
  values, vectors = np.linalg.eigh(rows.T @ rows / max(1, len(features) - 1))
  values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
  total = values.sum()
  if not total > 0:  # one sample, or constant features: all appearances are equally natural
    return Natural(np.eye(len(values))[:, :most], 1.0)
  shares = np.cumsum(values) / total
  r = min(most, int(np.searchsorted(shares, share)) + 1, int(np.sum(values > 1e-9 * values[0])))
  return Natural(vectors[:, :r] * np.sqrt(values[:r])[None], float(shares[r - 1]))


def answering(grams: Grams) -> Grams:
  """The samples whose images respond inside the region; the others have no ratio.

  Raises:
    InputError: no sample responds.
  """
  energies = np.trace(grams.inside, axis1=1, axis2=2)
  kept = energies > SILENT * energies.max()
  if not kept.any():
    raise InputError('mask', 'given', 'no change there reaches the region', 'give a mask that lies at the region')
  return Grams(*(None if x is None else x[kept] for x in grams))


def around(grams: Grams, b: np.ndarray) -> Grams:
  """Grams around an edit b (r,), to first order, from Grams around the original."""
  r = len(b)
  to = np.eye(r + 1)
  to[:, -1] = np.append(b, 0)
  inside, outside = (to.T @ x @ to for x in grams[:2])
  return Grams(inside, outside, None if grams.gained is None else grams.gained @ to)


def shrinkage(grams: Grams, r: int, weight: float) -> float:
  """s, the energy added outside for each squared standard deviation: a share of the mean of natural appearances.

  O + s I, s = weight tr(O) / r, shrinks the matrix towards one in which all directions leak alike. The weight is at
  least the rounding of O.
  """
  return max(weight, ROUNDING) * float(np.mean(np.trace(grams.outside[:, :r, :r], axis1=1, axis2=2))) / r


def mean_ratio(x: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> tuple[float, np.ndarray]:
  """mean_i sqrt(x'O_i x / x'M_i x) and its gradient, for matrices (N, k, k)."""
  Mx, Ox = inside @ x, outside @ x
  m, o = np.maximum(Mx @ x, 1e-300), np.maximum(Ox @ x, 0)
  ratios = np.sqrt(o / m)
  slopes = Ox / np.maximum(np.sqrt(o * m), 1e-300)[:, None] - Mx * (ratios / m)[:, None]
  return float(ratios.mean()), slopes.mean(axis=0)


def mean_gain(x: np.ndarray, gained: np.ndarray, outside: np.ndarray) -> tuple[float, np.ndarray]:
  """-mean_i g_i'x / sqrt(x'O_i x) and its gradient, for g (N, k): minus the attribute's gain per change of the rest."""
  Ox = outside @ x
  o = np.sqrt(np.maximum(Ox @ x, 1e-300))
  g = gained @ x
  slopes = gained / o[:, None] - Ox * (g / o**3)[:, None]
  return -float((g / o).mean()), -slopes.mean(axis=0)


def eigenvectors(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """max x'Mx / x'Ox by whitening: with O = LL', x = L^-T y, an ordinary eigenproblem of L^-1 M L^-T.

  Args:
    inside, outside: M and O (k, k), O positive definite.

  Returns:
    Ratios (k,), largest first, and vectors X as columns (k, k), with X'OX = I.
  """
  L = np.linalg.cholesky(outside)
  half = linalg.solve_triangular(L, inside, lower=True)
  white = linalg.solve_triangular(L, half.T, lower=True)
  values, vectors = np.linalg.eigh((white + white.T) / 2)
  return values[::-1], linalg.solve_triangular(L.T, vectors[:, ::-1], lower=False)


def _summed(matrices: np.ndarray, scales: np.ndarray) -> np.ndarray:
  return np.tensordot(scales, matrices, 1)


def best_appearance(grams: Grams, weight: float, starts: int = STARTS) -> tuple[np.ndarray, float]:
  """The b (r,) of least mean ROIR to first order, with each sample's energy outside shrunk; and that ROIR, not shrunk.

  A quasi-Newton search minimises the mean of the ratios, where every sample counts alike, whatever its contrast; no
  eigenproblem gives it. The search starts from the leading solutions of the generalised eigenproblem of the summed
  energies. All solutions together are its coordinates, in which the sums are diagonal.
  """
  r = grams.inside.shape[1] - 1
  inside, outside = grams.inside[:, :r, :r], grams.outside[:, :r, :r]
  shrunk = outside + (shrinkage(grams, r, weight) + 1e-30) * np.eye(r)[None]
  scales = 1 / np.maximum(np.trace(inside, axis1=1, axis2=2), 1e-30)
  _, vectors = eigenvectors(_summed(inside, scales), _summed(shrunk, scales))
  within, without = (vectors.T @ x @ vectors for x in (inside, shrunk))
  found = [_minimised(mean_ratio, y, within, without) for y in np.eye(r)[:starts]]
  b = vectors @ min(found, key=lambda y: mean_ratio(y, within, without)[0])
  return b / np.linalg.norm(b), mean_ratio(b, inside, outside)[0]


def cross_validated(grams: Grams) -> float:
  """The weight of the shrinkage: the largest whose mean ROIR on samples left out is within 5 % of the least.

  Few samples, or samples that respond differently, need more shrinkage. The weight with the least ROIR is not taken,
  since more shrinkage makes edits more natural.
  """
  N, r = len(grams.inside), grams.inside.shape[1] - 1
  fold = np.arange(N) % min(FOLDS, N)
  ratios = []
  for weight in WEIGHTS:
    left_out = []
    for k in range(fold.max() + 1):
      inside, outside = (x[fold == k, :r, :r] for x in grams[:2])
      # A single sample cannot be left out, so it validates its own result.
      kept = fold != k if N > 1 else fold == k
      b, _ = best_appearance(Grams(grams.inside[kept], grams.outside[kept], None), weight, starts=1)
      left_out.append(mean_ratio(b, inside, outside)[0] * np.sum(fold == k))
    ratios.append(sum(left_out) / N)
  allowed = [weight for weight, ratio in zip(WEIGHTS, ratios, strict=True) if ratio <= TOLERATED * min(ratios)]
  return max(allowed)


def best_for_attribute(grams: Grams, weight: float) -> tuple[np.ndarray, float]:
  """The b (r,) of the greatest mean gain of the attribute per change outside, to first order; and that gain.

  The search starts from (sum O)^-1 sum g, the solution where all samples are alike.

  Raises:
    InputError: the attribute does not depend on b.
  """
  r = grams.inside.shape[1] - 1
  outside, g = grams.outside[:, :r, :r], grams.gained[:, :r]
  shrunk = outside + (shrinkage(grams, r, weight) + 1e-30) * np.eye(r)[None]
  if not g.any():
    raise InputError('attribute', 'given', 'no change under the mask moves it', 'give another mask or attribute')
  start = np.linalg.solve(shrunk.mean(axis=0), g.mean(axis=0))
  b = _minimised(mean_gain, start / np.linalg.norm(start), g, shrunk)
  return b / np.linalg.norm(b), -mean_gain(b, g, shrunk)[0]


def _minimised(function, x: np.ndarray, *args) -> np.ndarray:
  """Quasi-Newton on a function of the direction of x; (|x|^2 - 1)^2 keeps the length and does not move a minimum."""
  scale = abs(function(x, *args)[0])

  def held(x):
    value, slope = function(x, *args)
    excess = x @ x - 1
    return value + scale * excess**2, slope + 4 * scale * excess * x

  options = {'maxiter': ITERATIONS, 'ftol': FLAT, 'gtol': 1e-7 * scale}
  found = optimize.minimize(held, x, jac=True, method='L-BFGS-B', options=options)
  return found.x if np.isfinite(found.x).all() and found.fun <= function(x, *args)[0] else x


class Masks(NamedTuple):
  """The masks that may be chosen, least <= q <= 1, and their cost q'Kq, K the inverse correlation of positions.

  Attributes:
    least: (S,).
    tiles: (S, G) 0 or 1, the positions that may change, one by one or in squares.
    roughness: K (S, S), zero for positions in no tile; q'Kq is 1 for the mask it was made for.
  """

  least: np.ndarray
  tiles: np.ndarray
  roughness: np.ndarray


def masks_near(features: np.ndarray, natural: Natural, mask: np.ndarray, least: np.ndarray, grid) -> Masks:
  """The masks that may be chosen in place of `mask`.

  Args:
    features: (N, S, C).
    natural: appearances; their coordinates give the correlation of positions.
    mask: (S,), at least `least` (S,) and at most 1; positions where it is 0 stay 0.
    grid: (H, W).
  """
  where = np.flatnonzero(mask > 0)
  lengths = np.maximum(np.square(natural.basis).sum(axis=0), 1e-300)
  coordinates = (features[:, where] - features[:, where].mean(axis=0, keepdims=True)) @ (natural.basis / lengths)
  correlation = np.einsum('nsr,ntr->st', coordinates, coordinates, optimize=True)
  correlation /= max(np.trace(correlation) / len(where), 1e-300)
  K = np.zeros((len(mask), len(mask)))
  K[np.ix_(where, where)] = np.linalg.inv(correlation + RIDGE * np.eye(len(where)))
  side = 1
  rows, columns = np.divmod(where, grid[1])
  while True:  # larger squares of positions, until there are at most MOST_TILES parameters
    _, tile = np.unique(rows // side * grid[1] + columns // side, return_inverse=True)
    if tile.max() < MOST_TILES:
      break
    side += 1
  tiles = np.zeros((len(mask), tile.max() + 1))
  tiles[where, tile] = 1
  return Masks(least, tiles, K / (mask @ K @ mask))


def fixed_mask(mask: np.ndarray) -> Masks:
  """`Masks` that allow only this mask (S,)."""
  return Masks(mask, np.zeros((len(mask), 0)), np.outer(mask, mask) / np.square(mask @ mask))


class Model:
  """The mean ratio around an edit, as a function of changes t = (t_b, t_u) of appearance and mask:

    mean_i sqrt((o_i(t) + s |b + t_b|^2 q'Kq) / m_i(t)), q = mask + T t_u, o_i and m_i the energies.

  A few samples give it, to first order in the images. The true slope over all samples at a point corrects it.

  Args:
    grams: of a few samples, around mask times (basis b)'.
    b: (r,) with strength.
    mask: (S,).
    masks: those that may be chosen.
    shrink: s.
  """

  def __init__(self, grams: Grams, b: np.ndarray, mask: np.ndarray, masks: Masks, shrink: float):
    self._grams, self._b, self._mask, self._masks, self._shrink = grams, b, mask, masks, shrink
    self._present = np.maximum(grams.inside[:, -1, -1], 1e-300)
    self.start = np.zeros(len(b) + masks.tiles.shape[1])
    farthest = FARTHEST * float(np.linalg.norm(b))
    self._bounds: list[tuple] = [(-farthest, farthest)] * len(b)
    for tile in (column > 0 for column in masks.tiles.T):
      low, high = np.max((masks.least - mask)[tile], initial=-1), np.min(1 - mask[tile], initial=1)
      self._bounds.append((min(0, low), max(0, high)))

  def edit(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """b (r,) and mask (S,) after the change t."""
    r = len(self._b)
    return self._b + t[:r], self._mask + self._masks.tiles @ t[r:]

  def extra(self, t: np.ndarray) -> float:
    """The energy outside that the shrinkage adds."""
    b, q = self.edit(t)
    return self._shrink * (b @ b) * (q @ self._masks.roughness @ q)

  def along(self, t: np.ndarray, by_b: np.ndarray, by_q: np.ndarray, by_extra: float) -> np.ndarray:
    """Slopes by t of a function, from its slopes by appearance, mask and extra energy."""
    b, q = self.edit(t)
    Kq = self._masks.roughness @ q
    by_b = by_b + 2 * self._shrink * by_extra * (q @ Kq) * b
    return np.append(by_b, self._masks.tiles.T @ (by_q + 2 * self._shrink * by_extra * (b @ b) * Kq))

  def __call__(self, t: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean ratio of the few samples, and its slopes."""
    x = np.append(t, 1)
    Mx, Ox = self._grams.inside @ x, self._grams.outside @ x
    m = np.maximum(Mx @ x, 1e-300)
    o = np.maximum(Ox @ x, 0) + self.extra(t) + ROUNDING**2 * m  # where nothing leaks, the slope stays finite
    ratios = np.sqrt(o / m)
    slope = (Ox / np.sqrt(o * m)[:, None] - Mx * (ratios / m)[:, None]).mean(axis=0)[:-1]
    r = len(self._b)
    by_extra = float(np.mean(0.5 / np.sqrt(o * m)))
    shrunk = self.along(t, np.zeros(r), np.zeros(len(self._mask)), by_extra)
    return float(ratios.mean()), slope + shrunk

  def step(self, t: np.ndarray, correction: np.ndarray, damping: float) -> np.ndarray:
    """The t of least corrected ratio, with least <= q <= 1, damped around the given t, at constant strength.

    Damping weighs |t_b|^2 / |b|^2 + |T t_u|^2 / |mask|^2. The mean of log m_i measures the strength.
    """
    r = len(self._b)
    counts = self._masks.tiles.sum(axis=0)
    weights = np.append(np.full(r, 1 / (self._b @ self._b)), counts / (self._mask @ self._mask))

    def function(x):
      value, slope = self(x)
      one = np.append(x, 1)
      Mx = self._grams.inside @ one
      m = np.maximum(Mx @ one, 1e-300)
      drift, moved = float(np.mean(np.log(m / self._present))), x - t
      value += correction @ moved + STRENGTH * drift**2 + damping * (weights @ np.square(moved))
      slope = slope + correction + 2 * damping * weights * moved
      return value, slope + 4 * STRENGTH * drift * (Mx / m[:, None]).mean(axis=0)[:-1]

    options = {'maxiter': ITERATIONS}
    found = optimize.minimize(function, t, jac=True, method='L-BFGS-B', bounds=self._bounds, options=options)
    return found.x if np.isfinite(found.x).all() else t


Slopes = Callable[[np.ndarray, np.ndarray, float], tuple[float, float, np.ndarray, np.ndarray]]


def descended(model: Model, slopes: Slopes, most: int) -> tuple[np.ndarray, np.ndarray]:
  """The appearance b (r,) and mask (S,) of least mean ratio in true images of all samples, near those of a model.

  Each step minimises the model, with its slope at the current point corrected to the true slope. A step is accepted if
  the true ratio falls, else damped.

  Args:
    slopes: function of (b, mask, extra energy) to the true mean ratio and its slopes by the extra, b and mask.
    most: steps at most.
  """

  def seen(t):
    mean, by_extra, by_b, by_q = slopes(*model.edit(t), model.extra(t))
    return mean, model.along(t, by_b, by_q, by_extra)

  t, damping = model.start, DAMPING
  best, slope = seen(t)
  for _ in range(most):
    tried = model.step(t, slope - model(t)[1], damping)
    value, found = seen(tried)
    if np.isfinite(found).all() and value < best:
      gain = 1 - value / best
      t, best, slope = tried, value, found
      damping /= 2
      if gain < LEAST_GAIN:
        break
    else:
      damping *= 8
  return model.edit(t)
