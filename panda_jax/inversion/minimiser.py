"""Limited-memory BFGS for many problems side by side, each at its own pace.

Every call of `advance` costs one evaluation, in which each problem tries the next point of its own line search, so no
problem waits for another. There is no learning rate: directions are those of Liu and Nocedal (1989), steps start at 1
and are shortened by interpolation until the value falls enough (Armijo). A direction is a weighted sum of the pairs in
memory and the gradient; the weights depend only on their inner products (Chen, Wang and Zhou 2014). So a step reads the
memory, which is far larger than anything else here, only twice. A problem ends for one of `REASONS`.
Letters: N problems, d unknowns, m pairs in memory.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

MEMORY = 30
ENOUGH = 1e-4  # fraction of the fall that the slope predicts
TRIES = 8  # of one line search
WINDOW = 10  # steps over which the fall is measured
REASONS = 'steps', 'converged', 'stalled'  # 'steps': the evaluations were used up


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Search:
  """The state of N problems.

  Attributes:
    x, gradient: (N, d) the best point so far, and its gradient.
    value: (N,) at x.
    direction: (N, d), slope: (N,) along it, length: (N,) of the step that is tried next.
    pairs: (N, 2 m, d) steps of x, then changes of the gradient, in slots that the oldest leaves to the newest.
    products: (N, 2 m, 2 m) inner products of the pairs.
    newest: (N,) slot of the newest pair.
    remembered: (N,) number of pairs.
    tries: (N,) evaluations in this line search.
    taken: (N,) steps so far; -1 before the first evaluation.
    earlier: (N,) the value at the start of this window of steps.
    reason: (N,) index into REASONS, 0 while it goes on.
  """

  x: jax.Array
  gradient: jax.Array
  value: jax.Array
  direction: jax.Array
  slope: jax.Array
  length: jax.Array
  pairs: jax.Array
  products: jax.Array
  newest: jax.Array
  remembered: jax.Array
  tries: jax.Array
  taken: jax.Array
  earlier: jax.Array
  reason: jax.Array


Evaluation = Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # (N, d) to values (N,) and gradients (N, d)


def _dot(x: jax.Array, y: jax.Array) -> jax.Array:
  return jnp.sum(x * y, axis=-1)


def begin(x: jax.Array) -> Search:
  """The search before its first evaluation, which is at x (N, d) itself; until then the value is infinite."""
  N, d = x.shape
  numbers, zeros = jnp.zeros((N,), x.dtype), jnp.zeros_like(x)
  counts, infinite = jnp.zeros((N,), jnp.int32), jnp.full((N,), jnp.inf, x.dtype)
  return Search(
    x=x,
    gradient=zeros,
    value=infinite,
    direction=jnp.zeros_like(x),
    slope=numbers,
    length=jnp.zeros_like(numbers),
    pairs=jnp.zeros((N, 2 * MEMORY, d), x.dtype),
    products=jnp.zeros((N, 2 * MEMORY, 2 * MEMORY), x.dtype),
    newest=jnp.zeros_like(counts),
    remembered=counts,
    tries=jnp.zeros_like(counts),
    taken=counts - 1,
    earlier=jnp.full((N,), jnp.inf, x.dtype),
    reason=jnp.zeros_like(counts),
  )


def _first_length(squared: jax.Array) -> jax.Array:
  """Length of a step along the plain gradient: the step is the gradient, but at most one unit of the unknowns long."""
  return 1 / jnp.maximum(jnp.sqrt(squared), 1)


def _weights(products, with_gradient, newest, remembered) -> tuple[jax.Array, jax.Array]:
  """The quasi-Newton direction of one problem: weights (2 m,) of the pairs, and the weight of the gradient.

  Args:
    products: (2 m, 2 m) inner products of the pairs.
    with_gradient: (2 m,) inner products of the pairs with the gradient.
    newest, remembered: see `Search`.
  """
  slots = (newest - jnp.arange(MEMORY)) % MEMORY
  order = jnp.concatenate([slots, slots + MEMORY])
  products, with_gradient = products[order][:, order], with_gradient[order]
  curvature = jnp.diagonal(products[:MEMORY, MEMORY:])
  known = (jnp.arange(MEMORY) < remembered) & (curvature > 0)
  rates = jnp.where(known, 1 / jnp.where(known, curvature, 1), 0)

  def older(i, found):
    weights, taken = found
    share = rates[i] * (jnp.vdot(weights, products[i]) + with_gradient[i])
    return weights.at[MEMORY + i].add(-share), taken.at[i].set(share)

  def newer(k, weights):
    i = MEMORY - 1 - k
    share = rates[i] * (jnp.vdot(weights, products[MEMORY + i]) + scale * with_gradient[MEMORY + i])
    return weights.at[i].add(taken[i] - share)

  zeros = jnp.zeros_like(with_gradient)
  weights, taken = jax.lax.fori_loop(0, MEMORY, older, (zeros, zeros[:MEMORY]))
  scale = jnp.where(known[0], curvature[0] / jnp.maximum(products[MEMORY, MEMORY], 1e-30), 1)
  weights = jax.lax.fori_loop(0, MEMORY, newer, scale * weights)
  return zeros.at[order].set(-weights), -scale


def advance(evaluate: Evaluation, s: Search, tolerance: jax.Array | float) -> Search:
  """One more evaluation. `tolerance`: a problem ends if `WINDOW` steps lower its value by less than this fraction."""
  going = s.reason == 0
  x = s.x + s.length[:, None] * s.direction
  value, gradient = evaluate(x)
  promised = s.length * s.slope
  better = going & (value <= s.value + ENOUGH * promised) & (value < s.value)
  step, change = x - s.x, gradient - s.gradient
  curved = better & (_dot(step, change) > 1e-8 * jnp.sqrt(_dot(step, step) * _dot(change, change)))

  problems = jnp.arange(len(going))
  newest = jnp.where(curved, (s.newest + 1) % MEMORY, s.newest)
  pairs = s.pairs
  for slot, new in ((newest, step), (newest + MEMORY, change)):
    pairs = pairs.at[problems, slot].set(jnp.where(curved[:, None], new, pairs[problems, slot]))
  remembered = jnp.where(curved, jnp.minimum(s.remembered + 1, MEMORY), s.remembered)
  lost = going & ~better & (s.tries + 1 >= TRIES)  # the memory misleads: try again along the plain gradient
  stalled = lost & (s.remembered == 0)
  remembered = jnp.where(lost, 0, remembered)

  def chosen(new, old):
    return jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

  x, value_, gradient_ = chosen(x, s.x), chosen(value, s.value), chosen(gradient, s.gradient)
  anew = better | lost
  told = jnp.einsum('nid,ndk->nik', pairs, jnp.stack([step, change, gradient_], axis=-1), precision='highest')
  products = s.products
  for slot, row in ((newest, told[..., 0]), (newest + MEMORY, told[..., 1])):
    row = jnp.where(curved[:, None], row, products[problems, slot])
    products = products.at[problems, slot].set(row).at[problems, :, slot].set(row)
  weights, own = jax.vmap(_weights)(products, told[..., 2], newest, remembered)
  direction = jnp.einsum('nid,ni->nd', pairs, weights, precision='highest') + own[:, None] * gradient_
  slope = _dot(direction, gradient_)
  plain = (slope >= 0) | (remembered == 0)
  squared = _dot(gradient_, gradient_)
  direction = jnp.where(plain[:, None], -gradient_, direction)
  slope = jnp.where(plain, -squared, slope)
  first = jnp.where(plain, _first_length(squared), 1.0)
  # The minimum of the parabola through the value, its slope and the tried value.
  bend = value - s.value - promised
  shorter = jnp.where(jnp.isfinite(bend) & (bend > 0), -promised / (2 * bend), 0.1)
  shorter = s.length * jnp.clip(shorter, 0.1, 0.5)
  taken = s.taken + better
  closing = better & (taken % WINDOW == 0)
  still = closing & (s.earlier - value_ <= tolerance * jnp.where(jnp.isfinite(s.earlier), s.earlier, -1))
  flat = better & (squared == 0)
  return Search(
    x=x,
    gradient=gradient_,
    value=value_,
    direction=jnp.where(anew[:, None], direction, s.direction),
    slope=jnp.where(anew, slope, s.slope),
    length=jnp.where(anew, first, jnp.where(going, shorter, s.length)),
    pairs=pairs,
    products=products,
    newest=newest,
    remembered=remembered,
    tries=jnp.where(anew, 0, s.tries + going),
    taken=taken,
    earlier=jnp.where(closing, value_, s.earlier),
    reason=jnp.where(stalled, 2, jnp.where(still | flat, 1, s.reason)),
  )
