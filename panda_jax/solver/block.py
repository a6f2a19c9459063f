"""One solver for both blocks: projected gradient with an exact line search.

With the other factor fixed, the PandA objective is, up to a constant (our derivation),

    h(X) = -2 tr(X'BX) + tr(X'X . X'DX),

with B, D symmetric positive semi-definite: X = P >= 0 with B = K1, D = K2 (S x S), or X = A with B = M, D = N (C x C).
Along X + tV it is a quartic in t whose coefficients are traces of small products, so the best step is found
exactly and h does not increase at any step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from panda_jax.solver import secant
from panda_jax.solver.line_search import Forms, best_step, quartic_of
from panda_jax.solver.precision import dot, vdot

STEEPEST_ANGLE = 1e-5  # least cosine between a direction and the negative gradient


def spectral_step(dX: jax.Array, dg: jax.Array, previous: jax.Array, i: jax.Array) -> jax.Array:
  """Barzilai-Borwein step length, its two forms in turn (Barzilai and Borwein 1988; Birgin, Martinez and Raydan 2000).

  If the last step saw no positive curvature, or did not move, the previous length is kept or cut to a quarter.
  """
  tiny = jnp.finfo(dX.dtype).tiny
  xx, xg, gg = vdot(dX, dX), vdot(dX, dg), vdot(dg, dg)
  long, short = xx / jnp.maximum(xg, tiny), xg / jnp.maximum(gg, tiny)
  length = jnp.where(i % 2 == 0, long, short)
  usable = (xg > 0) & (gg > 0) & jnp.isfinite(length) & (length > 0)
  return jnp.where(usable, length, jnp.where(xx > 0, previous, previous / 4))


def descent(X: jax.Array, gradient: jax.Array, length: jax.Array, nonnegative: bool) -> jax.Array:
  """The feasible direction max(X - length * gradient, 0) - X; if not `nonnegative`, without projection."""
  if not nonnegative:
    return -length * gradient
  return jnp.maximum(X - length * gradient, 0) - X


def stationarity(X: jax.Array, gradient: jax.Array, nonnegative: bool) -> jax.Array:
  """Relative size of the projected gradient, ||max(X - g, 0) - X|| / ||X||, for an objective scaled to order one."""
  tiny = jnp.finfo(X.dtype).tiny
  moved = descent(X, gradient, jnp.ones((), X.dtype), nonnegative)
  return jnp.sqrt(vdot(moved, moved)) / jnp.maximum(jnp.sqrt(vdot(X, X)), tiny)


class BlockState(NamedTuple):
  """The state of the block solver; with a leading axis of starts if there are several."""

  X: jax.Array  # (n, R)
  BX: jax.Array  # (n, R)
  DX: jax.Array  # (n, R)
  gram: jax.Array  # (R, R)  X'X
  inner: jax.Array  # (R, R)  X'DX
  gradient: jax.Array  # (n, R)
  memory: secant.Memory
  length: jax.Array  # ()  of a step along the plain gradient
  value: jax.Array  # ()  h(X) / tr(B)
  stationarity: jax.Array  # ()
  stuck: jax.Array  # ()  steps in a row that found no descent
  i: jax.Array  # ()  steps taken


def first_length(X: jax.Array, gradient: jax.Array) -> jax.Array:
  """A first trial step that moves X by about a tenth of its largest entry; the line search corrects it."""
  tiny = jnp.finfo(X.dtype).tiny
  return 0.1 * jnp.max(jnp.abs(X)) / jnp.maximum(jnp.max(jnp.abs(gradient)), tiny)


def held(X: jax.Array, gradient: jax.Array, nonnegative: bool) -> jax.Array:
  """Entries at their bound whose gradient pushes them across it: (n, R) bool."""
  return (X <= 0) & (gradient > 0) if nonnegative else jnp.zeros(X.shape, bool)


def feasible_direction(
  X: jax.Array, gradient: jax.Array, memory: secant.Memory, k: jax.Array, length: jax.Array, nonnegative: bool
) -> tuple[jax.Array, jax.Array]:
  """The quasi-Newton direction V (n, R), or the gradient's if that does not descend; and whether it is quasi-Newton."""
  free = jnp.where(held(X, gradient, nonnegative), 0, gradient)
  newton, known = secant.direction(memory, k, free)
  newton = jnp.where(held(X, gradient, nonnegative), 0, newton)
  V = descent(X, newton, jnp.ones((), X.dtype), nonnegative)
  slope = vdot(V, free)
  good = known & (slope < -STEEPEST_ANGLE * jnp.sqrt(vdot(V, V) * vdot(free, free)))
  return jnp.where(good, V, descent(X, gradient, length, nonnegative)), good


def minimise_block(
  B: jax.Array,
  D: jax.Array | None,
  X: jax.Array,
  *,
  steps: int | jax.Array,
  tolerance: float | jax.Array = 0.0,
  nonnegative: bool,
) -> BlockState:
  """Minimises h(X; B, D) from X by projected quasi-Newton directions with the exact line search.

  Directions are those of `secant`; one that does not descend is replaced by the spectral projected gradient's (Birgin,
  Martinez and Raydan 2000). Several starts advance in lockstep and share every product with B and D; a stopped start
  does not change any more.

  Args:
    B: (n, n), symmetric positive semi-definite.
    D: (n, n) likewise, or None for D = B (W is a projector): one matrix product per step instead of two.
    X: (n, R), the start, or (L, n, R), several; non-negative if `nonnegative`.
    steps: the most steps.
    tolerance: stop when `stationarity` falls to it.
    nonnegative: keep X >= 0.

  Returns:
    The last state. `value` is h(X) / tr(B); it does not increase, up to rounding. Runs under jit and vmap.
  """
  if X.ndim == 2:
    state = minimise_block(B, D, X[None], steps=steps, tolerance=tolerance, nonnegative=nonnegative)
    return jax.tree.map(lambda x: x[0], state)
  scale = jnp.trace(B)
  scale = jnp.where(scale > 0, scale, 1)
  B = B / scale
  D = None if D is None else D / scale

  def images(V):
    BV = dot(B, V)
    return BV, (BV if D is None else dot(D, V))

  def gradient_of(X, BX, DX, gram, inner):
    return -4 * BX + 2 * dot(DX, gram) + 2 * dot(X, inner)

  def goes_on(s: BlockState):
    return (s.i < steps) & (s.stationarity > tolerance) & (s.stuck < 8) & jnp.isfinite(s.value)

  def begin(X):
    BX, DX = images(X)
    gram, inner = dot(X.T, X), dot(X.T, DX)
    gradient = gradient_of(X, BX, DX, gram, inner)
    return BlockState(
      X=X,
      BX=BX,
      DX=DX,
      gram=gram,
      inner=inner,
      gradient=gradient,
      memory=secant.empty(X.shape),
      length=first_length(X, gradient),
      value=-2 * vdot(X, BX) + jnp.sum(gram * inner),
      stationarity=jnp.full((), jnp.inf, X.dtype),
      stuck=jnp.zeros((), jnp.int32),
      i=jnp.zeros((), jnp.int32),
    )

  def step(s: BlockState, k: jax.Array) -> BlockState:
    moving = goes_on(s)
    V, newton = feasible_direction(s.X, s.gradient, s.memory, k, s.length, nonnegative)
    BV, DV = images(V)
    forms = Forms(dot(s.X.T, s.BX), dot(s.X.T, BV), dot(V.T, BV), s.inner, dot(s.X.T, DV), dot(V.T, DV))
    g1, g2 = dot(s.X.T, V), dot(V.T, V)
    c = quartic_of(s.gram, g1, g2, forms)
    t = jnp.where(moving, best_step(c), 0)
    gain = (((c[3] * t + c[2]) * t + c[1]) * t + c[0]) * t
    X, BX, DX = s.X + t * V, s.BX + t * BV, s.DX + t * DV
    gram = s.gram + t * (g1 + g1.T) + t * t * g2
    inner = s.inner + t * (forms.d01 + forms.d01.T) + t * t * forms.d11
    gradient = gradient_of(X, BX, DX, gram, inner)
    change = gradient - s.gradient
    # If the direction had to be replaced, it came from pairs that no longer fit: empty the memory.
    memory = s.memory._replace(usable=s.memory.usable & newton)
    return BlockState(
      X=X,
      BX=BX,
      DX=DX,
      gram=gram,
      inner=inner,
      gradient=gradient,
      memory=secant.remember(memory, k, t * V, change, ~held(X, gradient, nonnegative)),
      length=spectral_step(t * V, change, s.length, s.i),
      value=s.value + jnp.minimum(gain, 0),
      stationarity=jnp.where(moving, stationarity(X, gradient, nonnegative), s.stationarity),
      stuck=jnp.where(gain < 0, 0, s.stuck + 1),
      i=s.i + moving.astype(s.i.dtype),
    )

  def body(carry):
    k, s = carry
    return k + 1, jax.vmap(step, in_axes=(0, None))(s, k)

  # One counter for all starts: their memories are then written at the same slot, in place.
  start = (jnp.zeros((), jnp.int32), jax.vmap(begin)(X))
  return jax.lax.while_loop(lambda carry: jnp.any(goes_on(carry[1])), body, start)[1]
