"""Parts of one sample: the block problem in P on that sample alone, solved for many samples at once.

For one sample Z (S, C) and fixed appearances A, the parts minimise

    ||Z - P P'Z W||^2 / ||Z||^2  +  proximal * ||P - P_0||^2 / ||P_0||^2,      P >= 0,  W = A A',

from the global parts P_0. The first term is that of solver/block.py with the sample's own K1 = Y Y' and
K2 = Y (A'A) Y', Y = Z A. The second (our addition) is quadratic, so the objective along a line is still a quartic and
the best step length is exact. Published PandA instead takes a fixed number of plain gradient steps at a rate that the
user gives (`benchmarks.published.refine`). All samples advance in lockstep; a converged sample does not move.
"""

import dataclasses
import math
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.solver import block, line_search, secant
from panda_jax.solver.factors import Factors
from panda_jax.solver.precision import dot

STEPS, TOLERANCE = 300, 1e-4
CHUNK_BYTES = 1 << 30  # of memory for one chunk of samples on an accelerator
MOST_AT_ONCE = 64  # samples in such a chunk: more samples do not make a step cheaper per sample
WORTH = 1e-6, 1e-12  # smaller relative and absolute gains are rounding: then the global parts are kept
CLEARING = 0.01  # of the tolerance
CUTS = (1e-4, 1e-3, 1e-2)  # of the largest entry of a part: smaller entries become zero if the objective allows it


@dataclasses.dataclass(frozen=True)
class Refined:
  """Parts of each sample.

  Attributes:
    parts: (N, S, R_S) float32, non-negative; column k began as the global part k.
    errors: (N, 2) float32, relative error of the sample with the global parts and with its own; never larger.
    steps: (N,) steps taken.
    factors: the global ones.

  Example:
    >>> refined = panda_jax.refine(features[:2], factors, proximal=0.03)
    >>> refined.of_sample(1).parts.shape  # as factors of their own
    (16, 4)
  """

  parts: np.ndarray
  errors: np.ndarray
  steps: np.ndarray
  factors: Factors

  def of_sample(self, i: int) -> Factors:
    """The factors of sample i: its own parts with the appearances, grid and mean that all samples share."""
    if not -len(self.parts) <= i < len(self.parts):
      raise InputError('sample', i, 'there is none', f'give one from 0 to {len(self.parts) - 1}')
    return dataclasses.replace(self.factors, parts=self.parts[i])


class _Sample(NamedTuple):
  """The matrices of one sample, divided by ||Z||. Either Y is None, or B and D are."""

  Y: jax.Array | None  # (S, R_C)
  B: jax.Array | None  # (S, S)  K1
  D: jax.Array | None  # (S, S)  K2

  def images(self, G: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
    """K1 V and K2 V (m = S), or in their place Y'V and (A'A) Y'V (m = R_C), before Y is applied; each (m, R_S).

    This is one product with the sample's own matrices. `forms` and `lifted` compute from it what a step needs.
    """
    if self.Y is None:
      assert self.B is not None
      assert self.D is not None
      return dot(self.B, V), dot(self.D, V)
    thin = dot(self.Y.T, V)
    return thin, dot(G, thin)

  def forms(self, P: '_Image', V: '_Image') -> line_search.Forms:
    """The six quadratic forms of K1 and K2 in P and V."""
    P_left, V_left = (x.X if self.Y is None else x.b for x in (P, V))
    return line_search.Forms(
      dot(P_left.T, P.b),
      dot(P_left.T, V.b),
      dot(V_left.T, V.b),
      dot(P_left.T, P.d),
      dot(P_left.T, V.d),
      dot(V_left.T, V.d),
    )

  def gradient(self, P: '_Image', P0: jax.Array, pull: jax.Array) -> jax.Array:
    """-4 K1 P + 2 K2 P P'P + 2 P P'K2 P, plus the gradient of the proximal term."""
    left = P.X if self.Y is None else P.b
    inner = 2 * dot(P.d, dot(P.X.T, P.X)) - 4 * P.b
    lifted = inner if self.Y is None else dot(self.Y, inner)
    return lifted + 2 * dot(P.X, dot(left.T, P.d)) + 2 * pull * (P.X - P0)


class _Image(NamedTuple):
  """A matrix (S, R_S) with its images, see `_Sample.images`."""

  X: jax.Array  # (S, R_S)
  b: jax.Array  # (m, R_S)
  d: jax.Array  # (m, R_S)


class _Progress(NamedTuple):
  P: _Image
  gradient: jax.Array  # (S, R_S)
  memory: secant.Memory
  length: jax.Array  # ()  of a step along the plain gradient
  stationarity: jax.Array  # ()
  stuck: jax.Array  # ()  steps in a row without descent
  steps: jax.Array  # ()


def _begin(sample, G, P0):
  P = _Image(P0, *sample.images(G, P0))
  gradient = sample.gradient(P, P0, 0.0)
  return _Progress(
    P=P,
    gradient=gradient,
    memory=secant.empty(P0.shape),
    length=block.first_length(P0, gradient),
    stationarity=jnp.full((), jnp.inf, P0.dtype),
    stuck=jnp.zeros((), jnp.int32),
    steps=jnp.zeros((), jnp.int32),
  )


def _step(sample, s, k, G, P0, pull, moving):
  direction, newton = block.feasible_direction(s.P.X, s.gradient, s.memory, k, s.length, nonnegative=True)
  V = _Image(direction, *sample.images(G, direction))
  towards = jnp.stack([2 * pull * jnp.sum((s.P.X - P0) * V.X), pull * jnp.sum(V.X * V.X)])
  c = line_search.quartic(s.P.X, V.X, sample.forms(s.P, V)) + jnp.concatenate([towards, jnp.zeros(2, P0.dtype)])
  t = jnp.where(moving, line_search.best_step(c), 0)
  P = _Image(*(p + t * v for p, v in zip(s.P, V, strict=True)))
  gradient = sample.gradient(P, P0, pull)
  change = gradient - s.gradient
  memory = s.memory._replace(usable=s.memory.usable & newton)
  return _Progress(
    P=P,
    gradient=gradient,
    memory=secant.remember(memory, k, t * V.X, change, ~block.held(P.X, gradient, True)),
    length=block.spectral_step(t * V.X, change, s.length, s.steps),
    stationarity=jnp.where(moving, block.stationarity(P.X, gradient, nonnegative=True), s.stationarity),
    stuck=jnp.where(t > 0, 0, s.stuck + 1),
    steps=s.steps + moving.astype(s.steps.dtype),
  )


def _cleared(objective, P, slack):
  """P (n, S, R_S) with small useless entries set to zero.

  Where a sample has no features under an entry, the entry's best value is zero. It changes the objective only by its
  square, so any solver stops before it reaches zero. A sample takes a cut if the cut raises its objective by no more
  than `slack`, the loss that stopping early may have caused.
  """
  least = objective(P) + slack
  for cut in CUTS:
    trial = jnp.where(cut * jnp.max(P, axis=1, keepdims=True) > P, 0, P)
    value = objective(trial)
    taken = value <= least
    P = jnp.where(taken[:, None, None], trial, P)
  return P


def _relative_errors(Z, A, P):
  """||Z - P P'Z A A'||^2 / ||Z||^2 of each sample; Z (n, S, C), P (n, S, R_S). 0 for a sample that is all zero."""
  core = jnp.einsum('nsr,nsc->nrc', P, Z, precision='highest')
  rest = Z - jnp.matmul(P, dot(dot(core, A), A.T), precision='highest')
  return jnp.sum(rest * rest, axis=(1, 2)) / _or_one(jnp.sum(Z * Z, axis=(1, 2)))


def _or_one(x):
  """x, or 1 where it is 0: a divisor for sums that may be empty."""
  return jnp.where(x > 0, x, 1)


@jax.jit
def refine_batch(
  Z: jax.Array,
  A: jax.Array,
  P0: jax.Array,
  proximal: jax.Array | float,
  steps: jax.Array | int,
  tolerance: jax.Array | float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The parts of n samples, all at once; `refine` on device arrays, without checks.

  Args:
    Z: (n, S, C) float32, minus the mean if the factors were fitted without it.
    A: (C, R_C). P0: (S, R_S), non-negative.
    proximal, steps, tolerance: as of `refine`.

  Returns:
    parts (n, S, R_S), errors (n, 2), steps taken (n,).
  """
  S, given = Z.shape[1], P0
  Z = Z / _or_one(jnp.max(jnp.abs(Z), axis=(1, 2), keepdims=True))  # the scale is free; squares may overflow
  Z = Z / _or_one(jnp.sqrt(jnp.sum(Z * Z, axis=(1, 2), keepdims=True)))
  # Scales of parts and appearances can be exchanged too; the tolerance is for parts of unit length.
  unit = _or_one(jnp.sqrt(jnp.sum(P0 * P0) / jnp.maximum(jnp.sum(jnp.any(P0 > 0, axis=0)), 1)))
  P0, A = P0 / unit, A * unit
  G, Y = dot(A.T, A), jnp.matmul(Z, A, precision='highest')
  # A step reads Y twice and A'A once, or K1 and K2 once. Forming K1 and K2 takes about as long as R_C / R_S steps.
  if A.shape[1] > S:
    samples = _Sample(None, jnp.matmul(Y, Y.mT, precision='highest'), jnp.matmul(dot(Y, G), Y.mT, precision='highest'))
  else:
    samples = _Sample(Y, None, None)
  pull = proximal / _or_one(jnp.sum(P0 * P0))

  def goes_on(s):
    return (s.steps < steps) & (s.stationarity > tolerance) & (s.stuck < 8) & jnp.isfinite(s.length)

  def body(carry):
    k, s = carry
    moving = goes_on(s)
    return k + 1, jax.vmap(lambda sample, s, moving: _step(sample, s, k, G, P0, pull, moving))(samples, s, moving)

  # One counter for all samples: each writes to the same slot of its memory.
  start = jax.vmap(lambda sample: _begin(sample, G, P0))(samples)
  _, end = jax.lax.while_loop(lambda carry: jnp.any(goes_on(carry[1])), body, (jnp.zeros((), jnp.int32), start))

  def objective(P):
    return _relative_errors(Z, A, P) + pull * jnp.sum((P - P0[None]) ** 2, axis=(1, 2))

  P = _cleared(objective, end.P.X, CLEARING * tolerance)
  errors = jnp.stack([_relative_errors(Z, A, jnp.broadcast_to(P0, P.shape)), _relative_errors(Z, A, P)], axis=1)
  better = errors[:, 1] < (1 - WORTH[0]) * errors[:, 0] - WORTH[1]
  parts = jnp.where(better[:, None, None], P * unit, given[None])
  return parts, errors.at[:, 1].set(jnp.where(better, errors[:, 1], errors[:, 0])), end.steps


def _bytes_each(S: int, C: int, R_C: int, R_S: int) -> int:
  """Bytes of a sample in `refine_batch`: features and their residual, Y or K1 and K2, and the solver's arrays."""
  return 4 * (2 * S * C + min(2 * S * R_C, 3 * S * S) + (2 * secant.MEMORY + 12) * S * R_S)


def _checked(value, argument: str, least: float) -> float:
  if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value) or value < least:
    raise InputError(argument, value, f'it must be a finite number from {least:g} on', 'give another, or leave it out')
  return float(value)


def checked_numbers(proximal, steps, tolerance) -> tuple[float, int, float]:
  """The numbers of `refine`, in its types.

  Raises:
    InputError: one is not finite, or too small.
  """
  return (
    _checked(proximal, 'proximal', 0),
    int(_checked(steps, 'steps', 1)),
    _checked(tolerance, 'tolerance', 0),
  )


def refine(
  features: ArrayLike,
  factors: Factors,
  proximal: float = 0.0,
  *,
  steps: int = STEPS,
  tolerance: float = TOLERANCE,
  batch: int | None = None,
) -> Refined:
  """Sample-specific parts: the global parts moved to where each sample has them, appearances fixed.

  Args:
    features: (N, H, W, C), or (N, S, C).
    factors: the global ones. A mean that they were fitted without is subtracted from the features.
    proximal: weight of ||P - P_0||^2 / ||P_0||^2 against the sample's relative error. 0 lets the parts go where they
      explain most, which on features of real networks may be elsewhere altogether; 0.03 to 0.1 keeps most of the gain
      and most parts what they were (cosine 0.9 with the global ones); 1 hardly lets them move.
    steps: at most so many.
    tolerance: stop when the projected gradient, relative to the parts, falls to it.
    batch: samples that advance together; if left out, one on a CPU, elsewhere up to 64. It changes speed only.

  Returns:
    `Refined`. No sample's error is larger than with the global parts. A part that is all zero stays so.

  Raises:
    InputError: features and factors do not fit, or a number cannot be used.
    NonFiniteError: a sample holds NaN or infinity.

  Example:
    >>> refined = panda_jax.refine(features[:2], factors, proximal=0.03)
    >>> refined.parts.shape, bool((refined.errors[:, 1] <= refined.errors[:, 0]).all())
    ((2, 16, 4), True)
  """
  A, P0 = factors.appearances, factors.parts
  S, C = P0.shape[0], A.shape[0]
  Z = _as_fibres(features, factors)
  proximal, steps, tolerance = checked_numbers(proximal, steps, tolerance)
  N = len(Z)
  if batch is None and jax.default_backend() == 'cpu':
    batch = 1  # one sample's arrays stay in cache: 3 to 8 times faster than 32 in lockstep
  elif batch is None:
    batch = min(MOST_AT_ONCE, max(1, CHUNK_BYTES // _bytes_each(S, C, A.shape[1], P0.shape[1])))
  batch = min(N, int(_checked(batch, 'batch', 1)))
  mean = None if factors.mean is None else np.broadcast_to(factors.mean, (S, C))
  results = []
  for first in range(0, N, batch):
    rows = np.minimum(np.arange(first, first + batch), N - 1)  # the last chunk is padded: one program serves all
    chunk = np.asarray(Z[rows], np.float32)
    if not np.isfinite(chunk).all():
      bad = first + int(np.argmin(np.isfinite(chunk).all(axis=(1, 2))))
      raise NonFiniteError('features', f'sample {bad}', 'it holds NaN or infinity', 'leave that sample out')
    if mean is not None:
      chunk = chunk - mean[None]
    out = refine_batch(chunk, A, P0, np.float32(proximal), np.int32(steps), np.float32(tolerance))
    results.append([np.asarray(x)[: N - first] for x in out])
  parts, errors, taken = (np.concatenate(x) for x in zip(*results, strict=True))
  return Refined(parts, errors, taken, factors)


def _as_fibres(features, factors: Factors) -> np.ndarray:
  """(N, S, C) from (N, H, W, C) or (N, S, C), which must be those of the factors."""
  shape, (H, W) = np.shape(features), factors.grid
  S, C = H * W, factors.appearances.shape[0]
  if shape[1:] not in ((H, W, C), (S, C)) or not shape[0]:
    text = 'x'.join(map(str, shape))
    raise InputError('features', f'shape {text}', 'they do not fit the factors', f'give shape (N, {H}, {W}, {C})')
  return np.asarray(features).reshape(-1, S, C)
