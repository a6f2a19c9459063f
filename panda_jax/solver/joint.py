"""The joint phase: parts and appearances together, by two thin products with the data per step.

For given parts the best W is known in closed form, so the joint problem is one in P alone, f(P) = min_W L(W, P), whose
gradient is that of L at the best W (envelope theorem). Each step moves P along a projected quasi-Newton direction of f
(`secant`), by the exact line search on L(W, .) at the current W, which bounds f from above and touches it, so f does
not increase; then W is solved again. No step forms an S x S matrix: with Y = P'Z, everything is thin in R_S.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.solver import appearances, block, line_search, moments, secant
from panda_jax.solver.precision import dot, small_dtype

CHUNK = 32  # the most steps that one call takes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class JointState:
  """Everything that a further step depends on, except the data."""

  P: jax.Array  # (S, R_S)
  X: jax.Array  # (C, C) W, or (C, R_C) A
  P_previous: jax.Array  # (S, R_S)
  gradient_previous: jax.Array  # (S, R_S)
  memory: secant.Memory
  length: jax.Array  # ()
  error: jax.Array  # ()  relative error after the last step
  stationarity: jax.Array  # ()
  stuck: jax.Array  # ()  steps in a row without descent
  i: jax.Array  # ()  steps since the start of the level

  def replace(self, **changes) -> 'JointState':
    """A copy with some fields changed."""
    return dataclasses.replace(self, **changes)


def begin(P: jax.Array, X: jax.Array) -> JointState:
  """A new state at P and X: no step taken, no memory of earlier gradients."""
  # numpy scalars: outside jit they need no compilation, inside jit they are constants
  number = np.dtype(P.dtype).type
  return JointState(
    P=P,
    X=X,
    P_previous=P,
    gradient_previous=np.zeros(P.shape, P.dtype),
    memory=jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(lambda: secant.empty(P.shape))),
    length=number(1),
    error=number(np.inf),
    stationarity=number(np.inf),
    stuck=np.int32(0),
    i=np.int32(0),
  )


def _forms(Y, V, W, precision, axis_name):
  """The six quadratic forms of `line_search.Forms` from Y = P'Z, V = direction'Z, both (G, R_S, m, C)."""
  G, R, m, C = Y.shape
  T = jnp.concatenate([Y, V], axis=1)
  WT = jnp.matmul(T.reshape(-1, C), W, precision=precision).reshape(G, 2 * R, m * C)
  columns = WT.transpose(0, 2, 1)
  with_b = jnp.matmul(T.reshape(G, 2 * R, m * C), columns, precision=precision)
  with_d = jnp.matmul(WT, columns, precision=precision)
  b, d = moments.over_shards(tuple(jnp.sum(x.astype(small_dtype()), axis=0) for x in (with_b, with_d)), axis_name)
  return line_search.Forms(b[:R, :R], b[:R, R:], b[R:, R:], d[:R, :R], d[:R, R:], d[R:, R:])


def _gradient(Z, Y, P, W, precision, axis_name):
  """Gradient of L in P, (S, R_S), from one product with the data: sum Z'(2 W^2 Y P'P - 4 W Y) + 2 P (Y'W^2 Y)."""
  G, R, m, C = Y.shape
  gram = dot(P.T, P)
  WY = jnp.matmul(Y.reshape(-1, C), W, precision=precision)
  WWY = jnp.matmul(WY, W, precision=precision).reshape(G, R, m * C)
  WY = WY.reshape(G, R, m * C)
  d00 = jnp.matmul(WY, WY.transpose(0, 2, 1), precision=precision).astype(small_dtype())
  d00 = moments.over_shards(jnp.sum(d00, axis=0), axis_name)
  mixed = jnp.matmul(jnp.broadcast_to(gram.astype(Y.dtype), (G, R, R)), WWY, precision=precision)
  U = (2 * mixed - 4 * WY).reshape(G, R, m, C)
  return moments.pull_back(Z, U, precision=precision, axis_name=axis_name) + 2 * dot(P, d00)


def _step(Z, state, Y, total, mode, precision, axis_name):
  P = state.P
  W = appearances.outer(state.X, mode).astype(Y.dtype)
  gradient = _gradient(Z, Y, P, W, precision, axis_name) / total
  moved, change = P - state.P_previous, gradient - state.gradient_previous
  length = jnp.where(
    state.i == 0, block.first_length(P, gradient), block.spectral_step(moved, change, state.length, state.i)
  )
  # The pair of the previous step. The very first gradient was that of L at a W that was not solved for these parts.
  memory = secant.remember(state.memory, state.i, moved, change, ~block.held(P, gradient, True))
  memory = memory._replace(usable=memory.usable & (state.i > 1))
  direction, newton = block.feasible_direction(P, gradient, memory, state.i + 1, length, nonnegative=True)
  memory = memory._replace(usable=memory.usable & newton)
  V = moments.part_products(Z, direction, precision=precision)
  c = line_search.quartic(P, direction, _forms(Y, V, W, precision, axis_name))
  t = line_search.best_step(c)
  moved = P + t * direction
  Y = Y + t.astype(Y.dtype) * V
  M, N = moments.product_moments(Y, dot(moved.T, moved), precision=precision, axis_name=axis_name)
  M, N = M / total, N / total
  X = appearances.update(M, N, state.X, mode)
  error = 1 + appearances.objective(M, N, appearances.outer(X, mode))
  return (
    JointState(
      P=moved,
      X=X,
      P_previous=P,
      gradient_previous=gradient,
      memory=memory,
      length=length,
      error=error,
      # At the first step W is not yet solved for these parts, so a small gradient in P alone means nothing.
      stationarity=jnp.where(state.i == 0, jnp.inf, block.stationarity(P, gradient, nonnegative=True)),
      stuck=jnp.where(t == 0, state.stuck + 1, 0),
      i=state.i + 1,
    ),
    Y,
  )


@partial(jax.jit, static_argnames=('mode', 'precision', 'axis_name'))
def advance(
  Z: jax.Array,
  state: JointState,
  total: jax.Array,
  limit: jax.Array,
  tolerance: jax.Array,
  *,
  mode: str,
  precision: str,
  axis_name: str | None = None,
) -> tuple[JointState, jax.Array]:
  """Up to `limit` (at most CHUNK) steps; stops early if the stationarity falls to `tolerance` or nothing moves.

  Args:
    Z: (G, S, m, C) float32 or bfloat16, sharded over groups or not.
    state: `JointState`.
    total: sum ||Z||^2, by which the objective is divided.
    mode: of the appearances, see `appearances.mode_for`.

  Returns:
    The new state and the relative errors of the steps taken, (CHUNK,), padded with NaN. Errors never increase.
  """

  def go_on(carry):
    s, _, k, _ = carry
    return (k < limit) & (s.stationarity > tolerance) & (s.stuck < 6) & ~jnp.isnan(s.error)

  def body(carry):
    s, Y, k, errors = carry
    s, Y = _step(Z, s, Y, total, mode, precision, axis_name)
    return s, Y, k + 1, errors.at[k].set(s.error)

  Y = moments.part_products(Z, state.P, precision=precision)
  errors = jnp.full(CHUNK, jnp.nan, small_dtype())
  state, _, _, errors = jax.lax.while_loop(go_on, body, (state, Y, jnp.zeros((), jnp.int32), errors))
  return state, errors
