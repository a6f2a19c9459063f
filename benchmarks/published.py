"""The published PandA rule, the yardstick of the solver.

Update (Oldfield et al., ICLR 2023; shared/methods.md 1.2 and 1.3), for L = sum_i ||Z_i - A A'Z_i P P'||^2 over a batch:
P <- max(P - lr dL/dP, 0), then A <- A - lr dL/dA at the new P; gradients summed, not averaged, over the batch; one
fixed learning rate, no momentum, no stopping rule.

Two variants compute the same gradients in different orders of multiplication:
  `as_published`  every product of matrices from left to right, with C x C and S x S intermediate matrices;
  `thin`          everything through Z P, which has R_S columns (our reordering, equal up to rounding).

Here Z is in the paper's orientation, (n, C, S), positions row-major; A is (C, R_C), P is (S, R_S), all float32.
"""

from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from optax.projections import projection_non_negative

_dot = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Factors(NamedTuple):
  A: jax.Array  # (C, R_C)
  P: jax.Array  # (S, R_S)


def _chain(*matrices: jax.Array) -> jax.Array:
  """Product of the matrices from left to right; three-dimensional ones carry the batch in front."""
  return reduce(_dot, matrices)


def reconstruct(Z: jax.Array, A: jax.Array, P: jax.Array) -> jax.Array:
  """A A'Z P P', (n, C, S), from left to right."""
  return _chain(A, A.T, Z, P, P.T)


class AsPublished:
  """Gradients from left to right. XLA may share equal prefixes of terms; nothing else is reordered."""

  @staticmethod
  def parts(Z: jax.Array, A: jax.Array, P: jax.Array) -> jax.Array:
    """dL/dP, (S, R_S)."""
    T = jnp.swapaxes(Z, 1, 2)
    linear = _chain(T, A, A.T, Z, P)
    cubic = _chain(P, P.T, T, A, A.T, A, A.T, Z, P) + _chain(T, A, A.T, A, A.T, Z, P, P.T, P)
    return jnp.sum(-4 * linear + 2 * cubic, axis=0)

  @staticmethod
  def appearances(Z: jax.Array, A: jax.Array, P: jax.Array) -> jax.Array:
    """dL/dA, (C, R_C)."""
    T = jnp.swapaxes(Z, 1, 2)
    linear = _chain(Z, P, P.T, T, A)
    cubic = _chain(A, A.T, Z, P, P.T, P, P.T, T, A) + _chain(Z, P, P.T, P, P.T, T, A, A.T, A)
    return jnp.sum(-4 * linear + 2 * cubic, axis=0)


class Thin:
  """The same gradients through Y = Z P (n, C, R_S) and M = A'Y (n, R_C, R_S), without C x C or S x S matrices.

  With U = A M and V = A (A'U):  dL/dP = sum_i 2 P (U_i'U_i) + Z_i'(2 V_i P'P - 4 U_i)
                                 dL/dA = sum_i 2 A (M_i P'P M_i') + Y_i (2 P'P (A'U_i)' - 4 M_i')
  """

  @staticmethod
  def parts(Z: jax.Array, A: jax.Array, P: jax.Array) -> jax.Array:
    """dL/dP, (S, R_S)."""
    U = _dot(A, _dot(A.T, _dot(Z, P)))
    V = _dot(A, _dot(A.T, U))
    through_data = jnp.einsum('ncs,ncr->sr', Z, 2 * _dot(V, _dot(P.T, P)) - 4 * U, precision='highest')
    return through_data + 2 * _dot(P, jnp.einsum('ncr,ncq->rq', U, U, precision='highest'))

  @staticmethod
  def appearances(Z: jax.Array, A: jax.Array, P: jax.Array) -> jax.Array:
    """dL/dA, (C, R_C)."""
    Y = _dot(Z, P)
    M = _dot(A.T, Y)
    weighted = _dot(M, _dot(P.T, P))  # M P'P
    left = jnp.einsum('nar,nbr->ab', weighted, M, precision='highest')
    right = 2 * _dot(_dot(A.T, A), weighted) - 4 * M
    return 2 * _dot(A, left) + jnp.einsum('ncr,nar->ca', Y, right, precision='highest')


VARIANTS = {'as_published': AsPublished, 'thin': Thin}


def step(variant: str, Z: jax.Array, factors: Factors, rate: jax.Array) -> Factors:
  """One iteration on the batch Z (n, C, S): parts first and clamped at 0, then appearances with the new parts."""
  gradients = VARIANTS[variant]
  A, P = factors
  P = projection_non_negative(P - rate * gradients.parts(Z, A, P))
  return Factors(A - rate * gradients.appearances(Z, A, P), P)


@partial(jax.jit, static_argnames='variant')
def advance(
  Z: jax.Array, factors: Factors, rate: jax.Array, order: jax.Array, start: jax.Array, stop: jax.Array, *, variant: str
) -> Factors:
  """Stochastic iterations start..stop-1.

  Args:
    Z: (N, C, S), all samples.
    rate: learning rate, float32 scalar.
    order: (iterations, batch) int32, the samples of each iteration.
    start, stop: traced, so that a run in pieces, for snapshots, compiles once.
    variant: 'as_published' or 'thin'.
  """

  def body(t, factors):
    return step(variant, Z[order[t]], factors, rate)

  return jax.lax.fori_loop(start, stop, body, factors)


@partial(jax.jit, static_argnames='variant')
def advance_fixed(Z: jax.Array, factors: Factors, rate: jax.Array, iterations: jax.Array, *, variant: str) -> Factors:
  """Full-gradient iterations, each on the whole fixed batch Z (n, C, S)."""
  return jax.lax.fori_loop(0, iterations, lambda _, factors: step(variant, Z, factors, rate), factors)


@partial(jax.jit, static_argnames='variant')
def refine(
  Z: jax.Array, factors: Factors, rate: jax.Array, iterations: jax.Array, *, variant: str = 'as_published'
) -> jax.Array:
  """The published refinement: parts (S, R_S) after plain projected gradient steps on Z (n, C, S) alone, A fixed.

  All columns start from the global parts. Samples given together share one P, and their gradients are summed
  (shared/methods.md 1.5). The authors call it with one sample, at a rate of 1e-5 and for 100 iterations.
  """
  gradients = VARIANTS[variant]

  def body(_, P):
    return projection_non_negative(P - rate * gradients.parts(Z, factors.A, P))

  return jax.lax.fori_loop(0, iterations, body, factors.P)


def initial_parts(positions: int, parts: int) -> np.ndarray:
  """P ~ U(0, 0.01) with numpy's legacy generator at seed 0, as published; (S, R_S) float32."""
  return np.random.RandomState(0).uniform(0, 0.01, (positions, parts)).astype(np.float32)


def initial_factors(Z: jax.Array, parts: int, appearances: int | None = None) -> Factors:
  """The published start: A = leading left singular vectors of the uncentred channel scatter of Z (N, C, S)."""
  N, C, S = Z.shape
  scatter = np.zeros((C, C))
  for i in range(0, N, 64):  # in blocks, so that neither products of all samples nor a copy of the data are in memory
    block = Z[i : i + 64]
    scatter += np.asarray(jnp.einsum('nas,nbs->ab', block, block, precision='highest'))
  A = np.linalg.svd(scatter / N)[0][:, : appearances or C]
  return Factors(jnp.asarray(A, jnp.float32), jnp.asarray(initial_parts(S, parts)))


def sample_order(samples: int, iterations: int, batch: int = 1, seed: int = 0) -> np.ndarray:
  """(iterations, batch) int32: epochs of random permutations, in place of a new sample in every iteration."""
  random = np.random.RandomState(seed)
  epochs = -(-iterations * batch // samples)
  order = np.concatenate([random.permutation(samples) for _ in range(epochs)])
  return order[: iterations * batch].reshape(iterations, batch).astype(np.int32)
