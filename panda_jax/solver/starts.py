"""Starting parts: many seeded clusterings of the positions, refined together on the small matrices.

From random entries every column starts near the same leading eigenvector, and most steps only separate the columns.
Clusters of positions whose fibres point the same way are separate from the first step, and they need only K.
"""

from functools import partial

import jax
import jax.numpy as jnp

from panda_jax.solver.block import minimise_block
from panda_jax.solver.precision import dot

ROUNDS = 8  # the starts are refined an eighth at a time
# Steps that all starts take, and the most steps of the better eighth.
SCHEDULE = (15, 150)
EARLY_SCHEDULE = (10, 20)
SWEEPS = 10
TOLERANCE = 3e-5  # projected gradient relative to the parts; float32 does not fall much lower


def seed_parts(key: jax.Array, K: jax.Array, parts: int) -> jax.Array:
  """Parts from a spherical k-means of the positions, in terms of K = sum_i Z_i' W Z_i alone (our derivation).

  Position s has the fibre (Z_1[:, s], ..., Z_N[:, s]), of squared length K[s, s] and inner products K[s, t]. Seeds are
  drawn by k-means++ (Arthur and Vassilvitskii 2007) with distance 1 - cosine, weighted by energy; a sweep assigns each
  position to the cluster whose summed fibre is closest in angle. A part is the positions of a cluster, weighted by
  their projection on its sum.

  Args:
    key: a PRNG key.
    K: (S, S).
    parts: R_S.

  Returns:
    P (S, R_S) >= 0 with unit columns; an empty cluster becomes its seed position.
  """
  S, dtype = K.shape[0], K.dtype
  tiny = jnp.finfo(dtype).tiny
  energy = jnp.maximum(jnp.diag(K), 0)
  length = jnp.sqrt(jnp.maximum(energy, tiny))
  cosine = K / length[:, None] / length[None, :]
  floor = jnp.finfo(dtype).eps * jnp.max(energy) + tiny

  def draw(r, carry):
    seeds, distance = carry
    seed = jax.random.categorical(jax.random.fold_in(key, r), jnp.log(energy * distance + floor))
    return seeds.at[r].set(seed.astype(jnp.int32)), jnp.minimum(distance, jnp.maximum(1 - cosine[seed], 0))

  seeds, _ = jax.lax.fori_loop(0, parts, draw, (jnp.zeros(parts, jnp.int32), jnp.ones(S, dtype)))
  label = jnp.argmax(cosine[seeds], axis=0)

  def sums(label):
    E = jax.nn.one_hot(label, parts, dtype=dtype)
    KE = dot(K, E)
    return E, KE, jnp.sqrt(jnp.maximum(jnp.sum(E * KE, axis=0), 0))

  def sweep(_, label):
    _, KE, norm = sums(label)
    return jnp.argmax(jnp.where(norm[None, :] > 0, KE / jnp.maximum(norm, tiny)[None, :], -jnp.inf), axis=1)

  label = jax.lax.fori_loop(0, SWEEPS, sweep, label)
  E, KE, _ = sums(label)
  P = E * jnp.maximum(KE, 0)
  norm = jnp.linalg.norm(P, axis=0)
  alone = jax.nn.one_hot(seeds, S, dtype=dtype, axis=0)
  return jnp.where(norm[None, :] > 0, P / jnp.maximum(norm, tiny)[None, :], alone)


def _distinct_best(value: jax.Array, keep: int) -> jax.Array:
  """Indices of the `keep` lowest values; values that repeat a lower one (to 1e-5) come last: (keep,)."""
  order = jnp.argsort(value)
  ranked = value[order]
  repeat = jnp.concatenate([jnp.zeros(1, bool), jnp.diff(ranked) < 1e-5 * jnp.abs(ranked[1:])])
  return order[jnp.argsort(repeat, stable=True)[:keep]]


@partial(jax.jit, static_argnames=('parts', 'keep', 'room'))
def search_parts(
  B: jax.Array, seed: jax.Array, restarts: jax.Array, schedule: jax.Array, *, parts: int, keep: int, room: int
) -> tuple[jax.Array, jax.Array]:
  """The best of many starts of the P block.

  All starts take a few steps, then the better eighth of `room` continues to convergence.

  Args:
    B: (S, S), as for `minimise_block` with D = B: A A' is a projector before the joint phase.
    seed: a whole number; the starts depend only on it and on B.
    restarts: how many starts, at most `room`: one program serves any number.
    schedule: (2,), the steps of all starts, and the most steps of the better eighth.
    parts, keep: R_S, how many starts to return.
    room: the most starts of the program.

  Returns:
    P (keep, S, R_S), best first, and h(P) / tr(B) of each, (keep,).
  """

  # float32 is enough to rank starts and halves the time; the starts that are kept are refined in the joint phase.
  result_dtype = B.dtype
  scale = jnp.maximum(jnp.trace(B), jnp.finfo(B.dtype).tiny)
  B = (B / scale).astype(jnp.float32)
  # Each round runs `width` starts, and a last round runs the best of them: one loop, compiled once. Starts that only
  # fill up a round are never chosen.
  width = max(keep, -(-room // ROUNDS))
  rounds = (restarts + width - 1) // width
  keys = jax.random.split(jax.random.key(seed), -(-room // width) * width)

  def run(r, carry):
    P, value = carry
    chosen = jnp.where(r < rounds, r * width + jnp.arange(width), _distinct_best(value, width))
    seeds = jax.vmap(lambda k: seed_parts(k, B, parts))(keys[chosen])
    begin, steps = jnp.where(r < rounds, seeds, P[chosen]), jnp.where(r < rounds, schedule[0], schedule[1])
    state = minimise_block(B, None, begin, steps=steps, tolerance=TOLERANCE, nonnegative=True)
    real = chosen < restarts
    return P.at[chosen].set(state.X), value.at[chosen].set(jnp.where(real, state.value, jnp.inf))

  P, value = jnp.zeros((len(keys), len(B), parts), jnp.float32), jnp.full(len(keys), jnp.inf, jnp.float32)
  P, value = jax.lax.fori_loop(0, rounds + 1, run, (P, value))
  order = _distinct_best(value, keep)
  return P[order].astype(result_dtype), value[order].astype(result_dtype)
