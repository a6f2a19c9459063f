"""The exact line search of both blocks.

Along X + tV the objective h of block.py is a quartic in t. Its coefficients are traces of small products, so the best
step in [0, 1] is found exactly, and h does not increase at any step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from panda_jax.solver.precision import dot

# Starting points of Newton's method for the line search: evenly spaced, and small ones for a V that is much too long.
_TRIALS = tuple(sorted({i / 16 for i in range(17)} | {2.0**-k for k in range(5, 31)}))


class Forms(NamedTuple):
  """Quadratic forms X'BX, X'BV, V'BV and the same for D, each (R, R), that determine h along X + tV."""

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
  return quartic_of(dot(X.T, X), dot(X.T, V), dot(V.T, V), forms)


def quartic_of(g0: jax.Array, g1: jax.Array, g2: jax.Array, forms: Forms) -> jax.Array:
  """`quartic` where X'X, X'V and V'V, each (R, R), are known."""
  g1 = g1 + g1.T
  d1 = forms.d01 + forms.d01.T
  c1 = -4 * jnp.trace(forms.b01) + jnp.sum(g0 * d1) + jnp.sum(g1 * forms.d00)
  c2 = -2 * jnp.trace(forms.b11) + jnp.sum(g0 * forms.d11) + jnp.sum(g1 * d1) + jnp.sum(g2 * forms.d00)
  c3 = jnp.sum(g1 * forms.d11) + jnp.sum(g2 * d1)
  c4 = jnp.sum(g2 * forms.d11)
  return jnp.stack([c1, c2, c3, c4])


def best_step(c: jax.Array) -> jax.Array:
  """The t in [0, 1] with the least c1 t + c2 t^2 + c3 t^3 + c4 t^4; 0 if that is nowhere below 0 in [0, 1]."""

  def value(t):
    return (((c[3] * t + c[2]) * t + c[1]) * t + c[0]) * t

  trials = jnp.asarray(_TRIALS, c.dtype)

  def newton(_, t):
    slope = ((4 * c[3] * t + 3 * c[2]) * t + 2 * c[1]) * t + c[0]
    bend = (12 * c[3] * t + 6 * c[2]) * t + 2 * c[1]
    moved = jnp.clip(t - slope / jnp.where(bend > 0, bend, jnp.inf), 0, 1)
    return jnp.where(value(moved) < value(t), moved, t)

  # From a grid point next to the minimum, Newton is exact to rounding after four steps. They are a loop, whose result
  # is stored: otherwise the compiler repeats all of them in every function that reads t.
  return jax.lax.fori_loop(0, 4, newton, trials[jnp.argmin(value(trials))])
