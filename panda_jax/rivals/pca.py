"""Principal components of rows in blocks: exact, incremental as in scikit-learn, and for very long rows.

Letters: N rows of D numbers, k components.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from panda_jax.errors import NonFiniteError
from panda_jax.rivals.spectra import oriented

NOTHING = 1e-10  # of the largest variance: smaller ones are rounding errors of float32 rows
OVERSAMPLE = 16
STEADY = 1e-3  # relative change of each leading deviation between two passes, at which iteration stops
PASSES = 8


class Components(NamedTuple):
  """Principal components.

  Attributes:
    mean: (D,).
    vectors: (k, D) orthonormal rows, by decreasing variance; the largest entry of each is positive.
    stdev: (k,), the rows' standard deviations along them.
    total: variance of all D numbers together.
  """

  mean: np.ndarray
  vectors: np.ndarray
  stdev: np.ndarray
  total: float

  def first(self, k: int) -> 'Components':
    """The first k components, without those of zero variance."""
    live = int(np.sum(self.stdev**2 > NOTHING * self.stdev[0] ** 2)) if len(self.stdev) else 0
    k = min(k, live)
    return self._replace(vectors=self.vectors[:k], stdev=self.stdev[:k])


def exact(blocks: Iterable[np.ndarray]) -> Components:
  """All D components from mean and covariance (divided by N), summed in float64 about the mean of the first block.

  Raises:
    NonFiniteError: a row holds NaN or infinity.
  """
  pilot, count, total, moment = None, 0, 0.0, 0.0
  for block in blocks:
    rows = checked(np.asarray(block, np.float64), count)
    pilot = rows.mean(axis=0) if pilot is None else pilot
    rows = rows - pilot[None]
    total = total + rows.sum(axis=0)
    moment = moment + rows.T @ rows
    count += len(rows)
  shift = total / count
  return from_covariance(pilot + shift, moment / count - np.outer(shift, shift))


def from_covariance(mean: np.ndarray, covariance: np.ndarray) -> Components:
  """All components of a covariance (D, D)."""
  values, vectors = np.linalg.eigh(covariance)
  values = np.maximum(values[::-1], 0)
  return Components(mean, oriented(vectors[:, ::-1].T), np.sqrt(values), float(np.trace(covariance)))


def incremental(blocks: Iterable[np.ndarray], k: int) -> Components:
  """The first k components as `sklearn.decomposition.IncrementalPCA` estimates them (Ross et al. 2008).

  Each block is stacked on a summary of the earlier blocks: k singular values times their components, and the shift of
  the mean. Then only k singular vectors are kept. Variances are divided by N - 1.

  Raises:
    NonFiniteError: a row holds NaN or infinity.
  """
  mean, kept, count, squares = 0.0, None, 0, 0.0
  for block in blocks:
    rows = checked(np.asarray(block, np.float64), count)
    own, n = rows.mean(axis=0), len(rows)
    squares += np.sum((rows - own[None]) ** 2) + np.sum((own - mean) ** 2) * (count * n / (count + n))
    stacked = rows - own[None]
    if kept is not None:
      stacked = np.concatenate([kept, stacked, np.sqrt(count * n / (count + n)) * (mean - own)[None]])
    mean = own if kept is None else (count * mean + n * own) / (count + n)
    count += n
    _, values, vectors = np.linalg.svd(stacked, full_matrices=False)
    values, vectors = values[:k], vectors[:k]
    kept = values[:, None] * vectors
  freedom = max(count - 1, 1)
  return Components(mean, oriented(vectors), values / np.sqrt(freedom), float(squares) / freedom)


def long_rows(moments: Callable, D: int, k: int, seed: int = 0) -> Components:
  """The first k components of rows too long for a covariance, by subspace iteration (Halko et al. 2011, section 4.5).

  A random subspace of k + 16 dimensions is multiplied with the covariance, one pass over the rows each time, until the
  deviations along its axes converge, at most 8 times.

  Args:
    moments: moments(Q) for Q (D, l) gives C Q (D, l), the mean (D,) and tr C, with C the covariance divided by N.
    D: length of a row.
    k: number of components.
    seed: of the first subspace.
  """
  width = min(D, k + OVERSAMPLE)
  Q = np.linalg.qr(np.random.RandomState(seed).randn(D, width))[0]
  last = np.zeros(width)
  for _ in range(PASSES):
    product, mean, trace = moments(Q)
    # Rayleigh-Ritz: the axes of the covariance within the subspace are the components so far.
    values, axes = np.linalg.eigh(Q.T @ product)
    values, vectors = np.maximum(values[::-1], 0), (Q @ axes[:, ::-1]).T
    if np.all(np.abs(values - last)[:k] <= 2 * STEADY * values[:k] + NOTHING * values[0]):
      break
    last, Q = values, np.linalg.qr(product)[0]
  return Components(mean, oriented(vectors[:k]), np.sqrt(values[:k]), trace)


def checked(rows: np.ndarray, first: int) -> np.ndarray:
  """The rows, if all are finite; `first` is the number of the first row, for the error.

  Raises:
    NonFiniteError: one of them holds NaN or infinity.
  """
  if not np.isfinite(rows).all():
    where = first + int(np.argwhere(~np.isfinite(rows))[0][0])
    raise NonFiniteError('generator', f'sample {where}', 'it makes NaN or infinity of it', 'check the checkpoint')
  return rows
