"""The A block: the best appearances for given parts, in closed form where one exists."""

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.solver.block import minimise_block
from panda_jax.solver.precision import dot

# Weight of the proximal term relative to the largest eigenvalue of N. Directions with less energy than this are lost in
# the rounding of float32 sums; there W stays as it was (our derivation).
PROXIMAL = 1e-6
# Proximal steps, in closed form, from W = I that give the final W, whatever path the iteration took.
FINAL_PROXIMAL_STEPS = 10

MODES = ('full', 'low', 'orthonormal', 'identity')


def mode_for(channels: int, appearances: int, orthonormal: bool) -> str:
  """The update to use: 'full' W (R_C = C), 'low' rank, 'orthonormal' A, or 'identity' (orthonormal, R_C = C)."""
  if orthonormal:
    return 'identity' if appearances == channels else 'orthonormal'
  return 'full' if appearances == channels else 'low'


def outer(X: jax.Array, mode: str) -> jax.Array:
  """W = A A' (C, C) from the X of the iteration, which is W itself or A (C, R_C)."""
  return X if mode in ('full', 'identity') else dot(X, X.T)


def lyapunov(M: jax.Array, N: jax.Array, W: jax.Array) -> jax.Array:
  """The W minimising -2 tr(WM) + tr(W^2 N) + e ||W - W_previous||^2, from N W + W N + 2 e W = 2 M + 2 e W_previous.

  One eigendecomposition of N solves it (our derivation). M, N, W: (C, C), positive semi-definite; so is the result.
  The proximal term, with e = PROXIMAL times the largest eigenvalue of N, does not change the fixed point, and the
  objective does not increase.
  """
  values, V = jnp.linalg.eigh(N)
  values = jnp.maximum(values, 0)
  epsilon = PROXIMAL * jnp.maximum(values[-1], jnp.finfo(N.dtype).tiny)
  right = dot(V.T, dot(2 * M + 2 * epsilon * W, V))
  W = dot(V, dot(right / (values[:, None] + values[None, :] + 2 * epsilon), V.T))
  return (W + W.T) / 2


def settled(M: np.ndarray, N: np.ndarray) -> np.ndarray:
  """W as a function of M and N alone: `FINAL_PROXIMAL_STEPS` proximal steps from W = I, in closed form, on the host.

  In the eigenbasis of N a step maps x to r x + (1 - r) x* with r = 2 e / (d_i + d_j + 2 e), so k steps from I give
  r^k I + (1 - r^k) x*. It equals the minimiser where the data has energy and I where it has none. So two runs with the
  same P have the same W, however many steps each took (our derivation).
  """
  values, V = np.linalg.eigh(N)
  values = np.maximum(values, 0)
  epsilon = PROXIMAL * max(values[-1], np.finfo(np.float64).tiny)
  pairs = values[:, None] + values[None, :]
  left = (2 * epsilon / (pairs + 2 * epsilon)) ** FINAL_PROXIMAL_STEPS
  best = 2 * (V.T @ M @ V) / np.where(pairs > 0, pairs, 1)
  W = V @ (np.where(pairs > 0, (1 - left) * best, 0) + left * np.eye(len(N))) @ V.T
  return (W + W.T) / 2


def leading_vectors(T: jax.Array, rank: int) -> jax.Array:
  """The `rank` leading eigenvectors of a symmetric T (C, C), largest first: (C, rank), orthonormal."""
  return jnp.linalg.eigh(T)[1][:, ::-1][:, :rank]


def update(M: jax.Array, N: jax.Array, X: jax.Array, mode: str) -> jax.Array:
  """The next W or A for given moments; the objective does not increase.

  Args:
    M, N: (C, C).
    X: W (C, C) in modes 'full' and 'identity', A (C, R_C) in modes 'low' and 'orthonormal'.
    mode: see `mode_for`. 'low' runs the block solver without projection, warm-started; 'orthonormal' takes the
      leading eigenvectors of 2 M - N, the exact minimiser under A'A = I.
  """
  if mode == 'identity':
    return X
  if mode == 'full':
    return lyapunov(M, N, X)
  if mode == 'orthonormal':
    return leading_vectors(2 * M - N, X.shape[1])
  return minimise_block(M, N, X, steps=12, tolerance=1e-9, nonnegative=False).X


def objective(M: jax.Array, N: jax.Array, W: jax.Array) -> jax.Array:
  """The objective minus sum ||Z||^2 for given parts: -2 tr(WM) + tr(W^2 N)."""
  return -2 * jnp.sum(W * M) + jnp.sum(dot(W, W) * N)
