"""Robust PCA of symmetric matrices, compiled: M = L + S with L of low rank and S sparse.

    minimise ||L||_* + lam ||S||_1   subject to   L + S = M      (Candes, Li, Ma and Wright 2011, equation 1.1)

by alternating directions: L = SVT(M - S + Y/mu, 1/mu), S = shrink(M - L + Y/mu, lam/mu), Y <- Y + mu (M - L - S). The
matrices here are Grams, so L stays symmetric and singular values are magnitudes of eigenvalues: one eigendecomposition
per iteration, in float64.

Two rules, since they end at different places:

* As published with LowRankGAN: mu = numel / (4 x largest column sum), stop when ||M - L - S|| <= 1e-7 ||M||. This
  checks only the constraint. With a small lam, S soon holds the rest M - L, and the iteration stops far from the
  optimum: on the fixture with lam = 1/60 at an objective 4 % above that of L = 0, with a rank of 1.
* Ours: mu = numel / (4 x sum of all entries), as the textbook intends, over-relaxation (Eckstein and Bertsekas 1992),
  and a certificate: Y scaled until ||Y||_2 <= 1 and |Y| <= lam is a point of the dual problem

    maximise <M, Y>   subject to   ||Y||_2 <= 1,  |Y_ij| <= lam,

  so the objective at (L, M - L) minus <M, Y> bounds its distance from the optimum. The iteration stops when this is
  below `tolerance` of the objective.

Letters: d latent size.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.runtime.environment import one_blas_thread, small_matrices_in_float64

STOP = 1e-7  # of ||M||, as published
PUBLISHED_ITERATIONS, ITERATIONS = 10_000, 20_000
TOLERANCE = 1e-6
OVER = 1.7  # relaxation: two thirds of the iterations that 1 needs, on Grams of cats64 and of the fixture
EVERY = 10  # iterations between certificates; each costs two eigendecompositions more


class Split(NamedTuple):
  """M = L + S.

  Attributes:
    low: L (d, d); the last thresholding set its small eigenvalues to zero.
    sparse: S (d, d): M - L, so that the sum is exactly M; as published, S of the iteration, whose sum is M to 1e-7.
    rank: of L: number of eigenvalues after the last thresholding.
    iterations: number taken.
    converged: whether the criterion of the rule was met.
    objective: ||L||_* + lam ||M - L||_1.
    gap: upper bound of the objective's distance from the optimum, relative to the objective.
  """

  low: np.ndarray
  sparse: np.ndarray
  rank: int
  iterations: int
  converged: bool
  objective: float
  gap: float


class _State(NamedTuple):
  L: jax.Array
  S: jax.Array
  Y: jax.Array
  rank: jax.Array
  iteration: jax.Array
  error: jax.Array


def default_weight(d: int) -> float:
  """lam = 1 / sqrt(d), with which recovery is proven (theorem 1.1 there); LowRankGAN takes 1/60 for d = 512."""
  return 1 / np.sqrt(d)


def robust_pca(
  M: np.ndarray,
  lam: float | None = None,
  *,
  published: bool = False,
  tolerance: float = TOLERANCE,
  iterations: int | None = None,
) -> Split:
  """Splits a symmetric matrix M (d, d).

  Args:
    lam: weight of the sparse part; `default_weight` if left out. Up to 1 / d the solution is L = 0 for any M.
    published: use the published rule, which has no `tolerance`.
    tolerance: relative duality gap at which our rule stops.
    iterations: at most; the default depends on the rule.

  Raises:
    InputError: M is not symmetric, or lam is not positive.
    NonFiniteError: an entry of M is not finite.
  """
  M = np.asarray(M, np.float64)
  if M.ndim != 2 or M.shape[0] != M.shape[1]:
    raise InputError('M', f'shape {M.shape}', 'it is not a square matrix', 'give a Gram matrix (d, d)')
  if not np.isfinite(M).all():
    where = tuple(int(i) for i in np.argwhere(~np.isfinite(M))[0])
    raise NonFiniteError('M', f'entry {where}', 'it is not finite', 'check the Jacobian')
  scale = np.abs(M).max()
  if np.abs(M - M.T).max() > 1e-6 * scale:
    raise InputError('M', f'shape {M.shape}', 'it is not symmetric', 'give a Gram matrix')
  d = len(M)
  lam = default_weight(d) if lam is None else lam
  if not np.isfinite(lam) or lam <= 0:
    raise InputError('lam', lam, 'it is not a positive number', f'give one such as {default_weight(d):.3g}')
  if not scale:
    return Split(M.copy(), M.copy(), 0, 0, True, 0.0, 0.0)
  most = (PUBLISHED_ITERATIONS if published else ITERATIONS) if iterations is None else int(iterations)
  unit = 1.0 if published else np.linalg.norm(M)  # our rule scales to ||M|| = 1, so that nothing depends on the scale
  total = np.abs(M).sum(axis=0).max() if published else np.abs(M).sum()
  mu = M.size / (4 * total / unit)
  symmetric = (M + M.T) / (2 * unit)
  with small_matrices_in_float64(), one_blas_thread():
    stop = STOP * np.linalg.norm(M) if published else tolerance
    numbers = [np.float64(x) for x in (lam, mu, stop)]  # always of one type, so that nothing is compiled again
    found = (_published if published else _relaxed)(symmetric, *numbers, np.int64(most))
    L, S, Y, rank, taken, error = (np.asarray(x) for x in found)
  L, error = unit * L.astype(np.float64), float(error)
  S = S.astype(np.float64) if published else M - L
  if not np.isfinite(L).all():
    raise NonFiniteError('L', f'iteration {int(taken)}', 'it is not finite', 'scale M')
  objective, gap = certificate(M, L, Y.astype(np.float64), lam)
  return Split(L, S, int(rank), int(taken), bool(error <= stop), objective, gap)


def certificate(M: np.ndarray, L: np.ndarray, Y: np.ndarray, lam: float) -> tuple[float, float]:
  """(objective at L and M - L, bound of its relative distance from the optimum), see the module."""
  objective = np.abs(np.linalg.eigvalsh(L)).sum() + lam * np.abs(M - L).sum()
  outside = max(np.abs(np.linalg.eigvalsh((Y + Y.T) / 2)).max(), np.abs(Y).max() / lam, 1)
  bound = np.sum(Y * M) / outside
  return float(objective), float((objective - bound) / objective)


def _thresholded(X: jax.Array, by: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Symmetric X (d, d) with its singular values reduced by `by`, not below zero, and how many stay above zero."""
  values, vectors = jnp.linalg.eigh((X + X.T) / 2)
  values = _shrunk(values, by)
  L = jnp.matmul(vectors * values[None, :], vectors.T, precision=jax.lax.Precision.HIGHEST)
  return L, jnp.sum(values != 0)


def _shrunk(X: jax.Array, by: jax.Array) -> jax.Array:
  return jnp.sign(X) * jnp.maximum(jnp.abs(X) - by, 0)


def _start(M: jax.Array) -> _State:
  zero = jnp.zeros_like(M)
  return _State(zero, zero, zero, jnp.array(0), jnp.array(0), jnp.array(jnp.inf, M.dtype))


def _iterated(step, state: _State, stop: jax.Array, most: jax.Array) -> _State:
  def wanted(state: _State):
    return (state.error > stop) & (state.iteration < most)

  return jax.lax.while_loop(wanted, step, state)


@jax.jit
def _published(M: jax.Array, lam: jax.Array, mu: jax.Array, stop: jax.Array, most: jax.Array) -> _State:
  def step(state: _State) -> _State:
    L, rank = _thresholded(M - state.S + state.Y / mu, 1 / mu)
    S = _shrunk(M - L + state.Y / mu, lam / mu)
    residual = M - L - S
    return _State(L, S, state.Y + mu * residual, rank, state.iteration + 1, jnp.linalg.norm(residual))

  return _iterated(step, _start(M), stop, most)


@jax.jit
def _relaxed(M: jax.Array, lam: jax.Array, mu: jax.Array, stop: jax.Array, most: jax.Array) -> _State:
  def gap(L: jax.Array, Y: jax.Array) -> jax.Array:
    objective = jnp.abs(jnp.linalg.eigvalsh(L)).sum() + lam * jnp.abs(M - L).sum()
    outside = jnp.maximum(jnp.abs(jnp.linalg.eigvalsh((Y + Y.T) / 2)).max(), jnp.abs(Y).max() / lam)
    return (objective - jnp.sum(Y * M) / jnp.maximum(outside, 1)) / objective

  def step(state: _State) -> _State:
    L, rank = _thresholded(M - state.S + state.Y / mu, 1 / mu)
    beyond = OVER * L + (1 - OVER) * (M - state.S)
    S = _shrunk(M - beyond + state.Y / mu, lam / mu)
    Y = state.Y + mu * (M - beyond - S)
    iteration = state.iteration + 1
    error = jax.lax.cond(iteration % EVERY == 0, lambda: gap(L, Y), lambda: jnp.array(jnp.inf, M.dtype))
    return _State(L, S, Y, rank, iteration, error)

  return _iterated(step, _start(M), stop, most)
