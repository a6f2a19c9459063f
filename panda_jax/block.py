"""One solver for both blocks: projected gradient with an exact line search.

With the other factor fixed, the PandA objective is, up to a constant (design section 4.1, our derivation),

    h(X) = -2 tr(X'BX) + tr(X'X . X'DX),

with B, D symmetric positive semi-definite: X = P >= 0 with B = K1, D = K2 (S x S), or X = A with B = M, D = N (C x C).
Along X + tV it is a quartic in t whose coefficients are traces of small products, so the best step is found
exactly and no step increases h.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from optax.projections import projection_non_negative

HIGHEST = jax.lax.Precision.HIGHEST

# Starting points of Newton's method for the line search: even ones, and short ones for steps that are much too long.
_TRIALS = tuple(sorted({i / 16 for i in range(17)} | {2.0**-k for k in range(5, 31)}))


def small_dtype() -> jnp.dtype:
  """The dtype of the small matrices: float64 where the caller has enabled it, else float32."""
  return jax.dtypes.canonicalize_dtype(jnp.float64)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """Matrix product at full precision: small matrices are never worth rounding."""
  return jnp.matmul(a, b, precision=HIGHEST)


class Forms(NamedTuple):
  """Quadratic forms X'BX, X'BV, V'BV and the same for D, each (R, R), that fix h along X + tV."""

  b00: jax.Array
  b01: jax.Array
  b11: jax.Array
  d00: jax.Array
  d01: jax.Array
  d11: jax.Array


def quartic(X: jax.Array, V: jax.Array, forms: Forms) -> jax.Array:
  """Coefficients (c1, c2, c3, c4) of h(X + tV) - h(X) = c1 t + c2 t^2 + c3 t^3 + c4 t^4.

  X, V: (n, R). Derivation: expand tr(G(t) D(t)) with G(t) = (X+tV)'(X+tV) and D(t) = (X+tV)'D(X+tV).
  """
  g0, g1, g2 = dot(X.T, X), dot(X.T, V), dot(V.T, V)
  g1 = g1 + g1.T
  d1 = forms.d01 + forms.d01.T
  c1 = -4 * jnp.trace(forms.b01) + jnp.sum(g0 * d1) + jnp.sum(g1 * forms.d00)
  c2 = -2 * jnp.trace(forms.b11) + jnp.sum(g0 * forms.d11) + jnp.sum(g1 * d1) + jnp.sum(g2 * forms.d00)
  c3 = jnp.sum(g1 * forms.d11) + jnp.sum(g2 * d1)
  c4 = jnp.sum(g2 * forms.d11)
  return jnp.stack([c1, c2, c3, c4])


def best_step(c: jax.Array) -> jax.Array:
  """The t in [0, 1] with the least c1 t + c2 t^2 + c3 t^3 + c4 t^4; 0 where nothing in [0, 1] lies below 0."""

  def value(t):
    return (((c[3] * t + c[2]) * t + c[1]) * t + c[0]) * t

  trials = jnp.asarray(_TRIALS, c.dtype)
  t = trials[jnp.argmin(value(trials))]
  for _ in range(4):  # from a grid point next to the minimum, Newton is exact to rounding after four steps
    slope = ((4 * c[3] * t + 3 * c[2]) * t + 2 * c[1]) * t + c[0]
    bend = (12 * c[3] * t + 6 * c[2]) * t + 2 * c[1]
    moved = jnp.clip(t - slope / jnp.where(bend > 0, bend, jnp.inf), 0, 1)
    t = jnp.where(value(moved) < value(t), moved, t)
  return t


def spectral_step(dX: jax.Array, dg: jax.Array, previous: jax.Array, i: jax.Array) -> jax.Array:
  """Barzilai-Borwein step length, its two forms in turn (Barzilai and Borwein 1988; Birgin, Martinez and Raydan 2000).

  Where the last step saw no positive curvature, or did not move, the previous length is kept or cut to a quarter.
  """
  tiny = jnp.finfo(dX.dtype).tiny
  xx, xg, gg = jnp.sum(dX * dX), jnp.sum(dX * dg), jnp.sum(dg * dg)
  long, short = xx / jnp.maximum(xg, tiny), xg / jnp.maximum(gg, tiny)
  length = jnp.where(i % 2 == 0, long, short)
  usable = (xg > 0) & (gg > 0) & jnp.isfinite(length) & (length > 0)
  return jnp.where(usable, length, jnp.where(xx > 0, previous, previous / 4))


def descent(X: jax.Array, gradient: jax.Array, length: jax.Array, nonnegative: bool) -> jax.Array:
  """The feasible direction max(X - length * gradient, 0) - X (no projection unless `nonnegative`)."""
  if not nonnegative:
    return -length * gradient
  return projection_non_negative(X - length * gradient) - X


def stationarity(X: jax.Array, gradient: jax.Array, nonnegative: bool) -> jax.Array:
  """Relative size of the projected gradient, ||max(X - g, 0) - X|| / ||X||, for an objective scaled to order one."""
  tiny = jnp.finfo(X.dtype).tiny
  return jnp.linalg.norm(descent(X, gradient, jnp.ones((), X.dtype), nonnegative)) / jnp.maximum(
    jnp.linalg.norm(X), tiny
  )


class BlockState(NamedTuple):
  X: jax.Array  # (n, R)
  BX: jax.Array  # (n, R)
  DX: jax.Array  # (n, R)
  X_previous: jax.Array  # (n, R)
  gradient_previous: jax.Array  # (n, R)
  length: jax.Array  # ()
  value: jax.Array  # ()  h(X) / tr(B)
  stationarity: jax.Array  # ()
  stuck: jax.Array  # ()  steps in a row that found no descent
  i: jax.Array  # ()


def first_length(X: jax.Array, gradient: jax.Array) -> jax.Array:
  """A first trial step that moves X by about a tenth of its largest entry; the line search corrects it."""
  tiny = jnp.finfo(X.dtype).tiny
  return 0.1 * jnp.max(jnp.abs(X)) / jnp.maximum(jnp.max(jnp.abs(gradient)), tiny)


def minimise_block(
  B: jax.Array,
  D: jax.Array | None,
  X: jax.Array,
  *,
  steps: int | jax.Array,
  tolerance: float | jax.Array = 0.0,
  nonnegative: bool,
) -> BlockState:
  """Minimises h(X; B, D) from X by spectral projected gradient with the exact line search.

  Args:
    B: (n, n), symmetric positive semi-definite.
    D: (n, n) likewise, or None for D = B (W is a projector): one matrix product a step instead of two.
    X: (n, R), the start; non-negative if `nonnegative`.
    steps: at most so many.
    tolerance: stop when `stationarity` falls to it.
    nonnegative: keep X >= 0.

  Returns:
    The last state. `value` is h(X) / tr(B), non-increasing over the steps to rounding. Runs under jit and vmap.
  """
  scale = jnp.trace(B)
  scale = jnp.where(scale > 0, scale, 1)
  B = B / scale
  D = None if D is None else D / scale

  def images(V):
    BV = dot(B, V)
    return BV, (BV if D is None else dot(D, V))

  def gradient_of(X, BX, DX):
    return -4 * BX + 2 * dot(DX, dot(X.T, X)) + 2 * dot(X, dot(X.T, DX))

  def body(s: BlockState) -> BlockState:
    gradient = gradient_of(s.X, s.BX, s.DX)
    length = jnp.where(
      s.i == 0,
      first_length(s.X, gradient),
      spectral_step(s.X - s.X_previous, gradient - s.gradient_previous, s.length, s.i),
    )
    V = descent(s.X, gradient, length, nonnegative)
    BV, DV = images(V)
    forms = Forms(dot(s.X.T, s.BX), dot(s.X.T, BV), dot(V.T, BV), dot(s.X.T, s.DX), dot(s.X.T, DV), dot(V.T, DV))
    c = quartic(s.X, V, forms)
    t = best_step(c)
    gain = (((c[3] * t + c[2]) * t + c[1]) * t + c[0]) * t
    return BlockState(
      X=s.X + t * V,
      BX=s.BX + t * BV,
      DX=s.DX + t * DV,
      X_previous=s.X,
      gradient_previous=gradient,
      length=length,
      value=s.value + jnp.minimum(gain, 0),
      stationarity=stationarity(s.X, gradient, nonnegative),
      stuck=jnp.where(gain < 0, 0, s.stuck + 1),
      i=s.i + 1,
    )

  def go_on(s: BlockState):
    return (s.i < steps) & (s.stationarity > tolerance) & (s.stuck < 8) & jnp.isfinite(s.value)

  BX, DX = images(X)
  start = BlockState(
    X=X,
    BX=BX,
    DX=DX,
    X_previous=X,
    gradient_previous=jnp.zeros_like(X),
    length=jnp.ones((), X.dtype),
    value=-2 * jnp.sum(X * BX) + jnp.sum(dot(X.T, X) * dot(X.T, DX)),
    stationarity=jnp.full((), jnp.inf, X.dtype),
    stuck=jnp.zeros((), jnp.int32),
    i=jnp.zeros((), jnp.int32),
  )
  return jax.lax.while_loop(go_on, body, start)
