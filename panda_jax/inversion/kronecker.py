"""Second moments of matrices, one over rows and one over columns, and linear maps by such a pair.

Letters: N matrices of a rows and b columns.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MOST_ROWS = 1024  # with more rows, the moment is diagonal: a root of the whole one would take longer than an inversion


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kronecker:
  """A linear map of matrices.

  Attributes:
    left: (a, a), or (a,) for a diagonal.
    right: (b, b).
  """

  left: jax.Array
  right: jax.Array

  def __call__(self, x: jax.Array) -> jax.Array:
    """X (N, a, b) to left X right'."""
    x = jnp.matmul(x, self.right.T, precision='highest')
    if self.left.ndim == 1:
      return x * self.left.reshape(1, -1, 1)
    return jnp.einsum('st,ntc->nsc', self.left, x, precision='highest')


class Moments(NamedTuple):
  """Second moments of matrices: `scale` times the Kronecker product of `rows` and `columns`.

  Attributes:
    rows: (a, a), or (a,) if there are more than `MOST_ROWS`; the mean of the diagonal is 1.
    columns: (b, b), likewise.
    scale: mean square of all numbers; 1 if all are zero.
  """

  rows: np.ndarray
  columns: np.ndarray
  scale: float


def moments(x: np.ndarray) -> Moments:
  """The moments of matrices (N, a, b)."""
  N, a, b = x.shape
  scale = float(np.mean(np.square(x), dtype=np.float64)) or 1.0
  columns = np.einsum('nsc,nsd->cd', x, x, optimize=True) / (N * a * scale)
  if a <= MOST_ROWS:
    rows = np.einsum('nsc,ntc->st', x, x, optimize=True) / (N * b * scale)
  else:
    rows = np.mean(np.square(x), axis=(0, 2)) / scale
  return Moments(rows.astype(np.float64), columns.astype(np.float64), scale)


def root(moment: np.ndarray, ridge: float) -> np.ndarray:
  """A matrix R with R R' = moment + ridge; for a diagonal (a,), the root of its entries."""
  if moment.ndim == 1:
    return np.sqrt(moment + ridge)
  return np.linalg.cholesky(moment + ridge * np.eye(len(moment)))


def inverse_root(moment: np.ndarray, ridge: float) -> np.ndarray:
  """A matrix R with R R' = (moment + ridge)^-1."""
  found = root(moment, ridge)
  return 1 / found if found.ndim == 1 else np.linalg.inv(found).T
