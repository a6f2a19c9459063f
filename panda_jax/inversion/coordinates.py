"""Latents as coordinates in which a generator's own samples are standard normal.

Mapping networks end with a leaky ReLU. When it is inverted, w is nearly normal; minus its mean and divided by a root of
its covariance, it is nearly standard normal (Wulff and Torralba 2020, who divide by principal components; we use a
Cholesky factor, since it hardly depends on rounding). So the space of an optimiser is round, and the length of a point
shows how unusual it is. For a generator without a mapping network the coordinates are z.

Letters: N samples, L rows of w+, D numbers in a row of w+ or in z.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.generators.base import WPlus, label_rows
from panda_jax.generators.labels import each
from panda_jax.generators.protocol import Latents
from panda_jax.generators.seeds import draws
from panda_jax.generators.spaces import shapes
from panda_jax.generators.structure import Compiled, plain

DRAWS = 4096  # samples of w from which mean and covariance are estimated
BATCH = 512
SLOPE = 0.2  # of the leaky ReLU of every family's mapping network
LEAST = 1e-6  # fraction of the largest variance: samples do not vary in directions with less


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Coordinates:
  """Coordinates (N, L, D) of w+, or (N, 1, D) of one w for all rows.

  Attributes:
    mean: (D,) of the rows of w+, before the leaky ReLU.
    basis: (D, D), lower triangular: a root of their covariance.
    rows: L.
  """

  mean: jax.Array
  basis: jax.Array
  rows: int = dataclasses.field(metadata={'static': True})

  def wplus(self, x: jax.Array) -> jax.Array:
    """(N, L or 1, D) to w+ (N, L, D)."""
    v = self.mean.reshape(1, 1, -1) + jnp.matmul(x, self.basis.T, precision='highest')
    w = jnp.where(v < 0, SLOPE * v, v)
    return jnp.broadcast_to(w, (len(x), self.rows, w.shape[-1]))

  def of(self, wplus: np.ndarray) -> np.ndarray:
    """w+ (N, L, D) to coordinates (N, L, D) float32."""
    from scipy.linalg import solve_triangular

    v = bent_back(np.asarray(wplus, np.float64)) - np.asarray(self.mean, np.float64)
    flat = solve_triangular(np.asarray(self.basis, np.float64), v.reshape(-1, v.shape[-1]).T, lower=True)
    return flat.T.reshape(v.shape).astype(np.float32)

  def latents(self, generator: Any, x: jax.Array, labels: jax.Array | None) -> Latents:
    """The generator's latents."""
    del generator, labels  # w+ holds the class
    return WPlus(self.wplus(x))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draws:
  """Coordinates (N, D) of z: z itself."""

  def of(self, z: np.ndarray) -> np.ndarray:
    """z as coordinates."""
    return np.asarray(z, np.float32)

  def latents(self, generator: Any, x: jax.Array, labels: jax.Array | None) -> Latents:
    """The generator's latents, from class rows (N, num_classes) if it has classes."""
    return generator.map(x, labels)


def bent_back(w: np.ndarray) -> np.ndarray:
  """w before the leaky ReLU."""
  return np.where(w < 0, w / SLOPE, w)


def is_mapped(generator: Any) -> bool:
  """Whether a generator has a mapping network."""
  return 'w' in shapes(generator)


def class_rows(generator: Any, labels, count: int) -> np.ndarray | None:
  """Rows (N, num_classes) of the labels of photographs, one for all or one each; None if there are no classes.

  Raises:
    InputError: see `labels.each` and `base.label_rows`.
  """
  given = None if labels is None else each(labels, count, 'photographs')
  rows = label_rows(given, plain(generator).num_classes, count)
  return None if rows is None else np.asarray(rows)


def coordinates(generator: Any) -> Coordinates | Draws:
  """The coordinates of a generator, from the w of seeds 0 to 4095, with all classes in turn if it has classes."""
  if not is_mapped(generator):
    return Draws()
  run = generator if isinstance(generator, Compiled) else Compiled(generator)
  rows = []
  classes = plain(generator).num_classes
  for first in range(0, DRAWS, BATCH):
    z = draws(generator, range(first, first + BATCH))
    given = np.arange(first, first + BATCH) % classes if classes else None
    rows.append(np.asarray(run.wplus(run.mapping(z, given)).wplus, np.float64))
  wplus = np.concatenate(rows)
  L, D = wplus.shape[1:]
  v = bent_back(wplus[:, :1] if np.array_equal(wplus[:, :1], wplus[:, -1:]) else wplus).reshape(-1, D)
  covariance = np.cov(v, rowvar=False).reshape(D, D)
  floor = max(LEAST * float(np.diag(covariance).max()), 1e-30)
  basis = np.linalg.cholesky(covariance + floor * np.eye(D))
  return Coordinates(jnp.asarray(v.mean(axis=0), jnp.float32), jnp.asarray(basis, jnp.float32), L)
