"""Projected limited-memory quasi-Newton directions, shared by the block solver and the joint phase.

Two-metric projection (Bertsekas 1982): entries at their bound whose gradient pushes them across it are held. On the
other entries the gradient is multiplied by an L-BFGS matrix (Nocedal 1980). Any such direction, projected onto the
feasible set, descends for short steps, since a principal submatrix of a positive definite matrix is positive definite.

A pair is stored on the entries that were free at its step, so once the active set has settled the pairs describe the
free entries alone. They are stored in float32 whatever the iterate's dtype: they only shape the direction, and reading
them is most of its cost. Products between pairs are stored too, so that a direction reads the pairs twice and not
2 x MEMORY times (the compact form of the matrix: Byrd, Nocedal and Schnabel 1994, theorem 2.2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

MEMORY = 5  # pairs: with three the restarts on real layers need a tenth more steps, with eight no fewer than with five
FLATTEST = 1e-10  # least cosine between a step and its change of gradient; a pair below it is not used
_HIGHEST = jax.lax.Precision.HIGHEST


class Memory(NamedTuple):
  """The last pairs. The large arrays are ring buffers, slot k % MEMORY for step k; the small ones are oldest first."""

  pairs: jax.Array  # (2, MEMORY, n, R) float32: steps, and changes of the gradient
  step_change: jax.Array  # (MEMORY, MEMORY): inner products step_i . change_j
  change_change: jax.Array  # (MEMORY, MEMORY): change_i . change_j
  usable: jax.Array  # (MEMORY,) bool


def empty(shape: tuple[int, int]) -> Memory:
  """No pairs yet, for an iterate (n, R)."""
  products = jnp.zeros((MEMORY, MEMORY), jnp.float32)
  return Memory(jnp.zeros((2, MEMORY, *shape), jnp.float32), products, products, jnp.zeros(MEMORY, bool))


def _turned(x: jax.Array, by: jax.Array) -> jax.Array:
  """x (2, MEMORY, ...) with its columns rotated so that column `by` comes first; 0 <= by <= MEMORY."""
  return jax.lax.dynamic_slice_in_dim(jnp.concatenate([x, x], axis=1), by, MEMORY, axis=1)


def _products(pairs: jax.Array, x: jax.Array, oldest: jax.Array) -> jax.Array:
  """Inner products of the pairs with vectors x (m, n R), oldest first: (2, MEMORY, m)."""
  rows = pairs.reshape(2 * MEMORY, -1)
  return _turned(jnp.matmul(rows, x.T, precision=_HIGHEST).reshape(2, MEMORY, -1), oldest)


def _grown(products: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
  """Drops the oldest row and column of (MEMORY, MEMORY) and appends new ones, which share their last entry."""
  return jnp.concatenate([jnp.concatenate([products[1:, 1:], column[:-1, None]], axis=1), row[None, :]], axis=0)


def remember(memory: Memory, k: jax.Array, step: jax.Array, change: jax.Array, free: jax.Array) -> Memory:
  """Replaces the oldest pair. step, change, free: (n, R); k: number of the step, which gives the slot."""
  slot = k % MEMORY
  pair = jnp.where(free, jnp.stack([step, change]), 0).astype(jnp.float32)
  rows = pair.reshape(2, -1)
  own = jnp.matmul(rows, rows.T, precision=_HIGHEST)
  with_pair = jnp.concatenate([_products(memory.pairs, rows, slot)[:, 1:], own[:, None]], axis=1)
  curvature = own[0, 1]
  steep = curvature > FLATTEST * jnp.sqrt(own[0, 0] * own[1, 1])
  return Memory(
    jax.lax.dynamic_update_slice_in_dim(memory.pairs, pair[:, None], slot, axis=1),
    _grown(memory.step_change, with_pair[1, :, 0], with_pair[0, :, 1]),
    _grown(memory.change_change, with_pair[1, :, 1], with_pair[1, :, 1]),
    jnp.concatenate([memory.usable[1:], (steep & jnp.isfinite(curvature))[None]]),
  )


def direction(memory: Memory, k: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The L-BFGS matrix times a gradient (n, R), zero on held entries, and whether there is any usable pair.

  k: how many pairs have been remembered in all.
  """
  usable, slot = memory.usable, k % MEMORY
  both = usable[:, None] & usable[None, :]
  # Unused pairs become rows of the identity, and their products with the gradient become zero.
  sy, yy = jnp.where(both, memory.step_change, jnp.eye(MEMORY)), jnp.where(both, memory.change_change, 0)
  gradients = gradient.astype(jnp.float32).reshape(1, -1)
  sg, yg = jnp.where(usable, _products(memory.pairs, gradients, slot)[..., 0], 0)
  places = jnp.arange(MEMORY)
  curvature = jnp.sum(jnp.where(jnp.eye(MEMORY, dtype=bool), sy, 0), axis=1)
  newest = usable & (places == jnp.max(jnp.where(usable, places, 0)))
  flattest = jnp.sum(jnp.where(newest[:, None] & newest[None, :], yy, 0))
  scale = jnp.sum(jnp.where(newest, curvature, 0)) / jnp.maximum(flattest, jnp.finfo(yy.dtype).tiny)
  down = solve_triangular(sy, sg)  # reads the upper triangle
  middle = curvature * down + scale * (jnp.matmul(yy, down, precision=_HIGHEST) - yg)
  up = solve_triangular(sy, middle, trans='T')
  weights = _turned(jnp.stack([up, -scale * down]), MEMORY - slot).reshape(-1)
  combined = jnp.matmul(weights, memory.pairs.reshape(2 * MEMORY, -1), precision=_HIGHEST).reshape(gradient.shape)
  return scale.astype(gradient.dtype) * gradient + combined.astype(gradient.dtype), jnp.any(usable)
