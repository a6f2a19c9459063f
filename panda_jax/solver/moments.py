"""The sums over samples that the solver needs, each a pure function of one shard.

Features lie on the devices in blocks, (G, S, m, C): G groups of m samples, positions before samples, so that both thin
products of a step, P'Z and ZU', and the Gram matrices over positions are plain matrix products without a transposition.
The groups are the sharded axis. Each group is summed in float32 and the groups in the small dtype (float64 where
enabled), so that rounding does not grow with N. Unused places hold zero samples, which add nothing to any sum.
Features may be stored as bfloat16; products and sums have the accuracy of float32 all the same.

Every function takes an optional `axis_name`, over which it adds up the shards: the same code runs under jit,
jax.shard_map and jax.pmap.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.solver.precision import small_dtype


def over_shards(sums, axis_name: str | None):
  """Adds a tree of per-shard sums over a mapped axis, if there is one: a single all-reduce for the whole tree."""
  if axis_name is None:
    return sums
  leaves, tree = jax.tree.flatten(sums)
  joined = jax.lax.psum(jnp.concatenate([x.ravel() for x in leaves]), axis_name)
  parts = jnp.split(joined, np.cumsum([x.size for x in leaves])[:-1].tolist())
  return jax.tree.unflatten(tree, [part.reshape(x.shape) for part, x in zip(parts, leaves, strict=True)])


def over_groups(function: Callable, Z: jax.Array, axis_name: str | None):
  """The sum of function(group) over the groups of Z (G, S, m, C), one at a time, and over shards.

  `function` maps (S, m, C) to a tree of arrays. With one group at a time temporaries are no larger than a group.
  """
  each = jax.lax.map(lambda group: function(group.astype(jnp.float32)), Z)
  return over_shards(jax.tree.map(lambda x: jnp.sum(x.astype(small_dtype()), axis=0), each), axis_name)


def stored_product(Z: jax.Array, x: jax.Array, product: Callable, *, precision: str) -> jax.Array:
  """product(Z, x, precision) of stored features and a float32 array, without a float32 copy of bfloat16 features.

  A float32 number is the sum of three bfloat16 numbers, and a product of two bfloat16 numbers is exact in float32. So
  three products of bfloat16 are added up in float32.
  """
  x = x.astype(jnp.float32)
  if Z.dtype != jnp.bfloat16:
    return product(Z, x, precision)
  total = 0.0
  for _ in range(3):
    piece = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)  # the compiler may remove a cast alone
    total = total + product(Z, piece.astype(jnp.bfloat16), None)
    x = x - piece
  return total


def position_moments(
  Z: jax.Array, W: jax.Array | None = None, *, precision: str = 'highest', axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
  """K1 = sum_i Z_i' W Z_i and K2 = sum_i Z_i' W^2 Z_i (paper's orientation), all that the P block needs of the data.

  Args:
    Z: (G, S, m, C) float32 or bfloat16.
    W: (C, C), or None for the identity: then K1 = K2, at half the cost.

  Returns:
    K1, K2: (S, S).
  """

  def one(group):
    rows = group.reshape(group.shape[0], -1)
    if W is None:
      return jnp.matmul(rows, rows.T, precision=precision)
    weighted = jnp.matmul(group.reshape(-1, group.shape[2]), W.astype(group.dtype), precision=precision)
    weighted = weighted.reshape(rows.shape)
    return (
      jnp.matmul(rows, weighted.T, precision=precision),
      jnp.matmul(weighted, weighted.T, precision=precision),
    )

  sums = over_groups(one, Z, axis_name)
  K1, K2 = (sums, sums) if W is None else sums
  return (K1 + K1.T) / 2, (K2 + K2.T) / 2


def channel_scatter(Z: jax.Array, *, precision: str = 'highest', axis_name: str | None = None) -> jax.Array:
  """sum_i Z_i Z_i' (C, C), uncentred unless the features were, from Z (G, S, m, C)."""

  def one(group):
    rows = group.reshape(-1, group.shape[2])
    return jnp.matmul(rows.T, rows, precision=precision)

  return over_groups(one, Z, axis_name)


def part_products(Z: jax.Array, P: jax.Array, *, precision: str = 'highest') -> jax.Array:
  """Y = P'Z, (G, R_S, m, C), from Z (G, S, m, C) and P (S, R_S): all that the A block needs of the data."""
  G, S, m, C = Z.shape

  def product(Z, Pt, precision):
    # Written with an explicit batch of P': contracting Z from the left is several times slower on a CPU.
    Pt = jnp.broadcast_to(Pt, (G, *Pt.shape))
    return jnp.matmul(Pt, Z.reshape(G, S, m * C), precision=precision, preferred_element_type=jnp.float32)

  return stored_product(Z, P.T, product, precision=precision).reshape(G, -1, m, C)


def pull_back(Z: jax.Array, U: jax.Array, *, precision: str = 'highest', axis_name: str | None = None) -> jax.Array:
  """sum_i Z_i' U_i over samples, (S, R_S), from Z (G, S, m, C) and U (G, R_S, m, C)."""
  G, S, m, C = Z.shape

  def product(Z, columns, precision):
    return jnp.matmul(Z.reshape(G, S, m * C), columns, precision=precision, preferred_element_type=jnp.float32)

  columns = U.reshape(G, -1, m * C).transpose(0, 2, 1)
  each = stored_product(Z, columns, product, precision=precision)
  return over_shards(jnp.sum(each.astype(small_dtype()), axis=0), axis_name)


def product_moments(
  Y: jax.Array, gram: jax.Array, *, precision: str = 'highest', axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
  """M = sum_i Y_i Y_i' and N = sum_i Y_i (P'P) Y_i', (C, C), from Y = P'Z (G, R_S, m, C) and P'P (R_S, R_S)."""
  G, R, m, C = Y.shape
  weighted = jnp.matmul(jnp.broadcast_to(gram.astype(Y.dtype), (G, R, R)), Y.reshape(G, R, m * C), precision=precision)
  rows = Y.reshape(G, R * m, C).transpose(0, 2, 1)
  M = jnp.matmul(rows, Y.reshape(G, R * m, C), precision=precision)
  N = jnp.matmul(rows, weighted.reshape(G, R * m, C), precision=precision)
  M, N = over_shards(tuple(jnp.sum(x.astype(small_dtype()), axis=0) for x in (M, N)), axis_name)
  return (M + M.T) / 2, (N + N.T) / 2


def channel_moments(
  Z: jax.Array, P: jax.Array, *, precision: str = 'highest', axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
  """M = sum_i Z_i Q Z_i' and N = sum_i Z_i Q^2 Z_i' with Q = PP', (C, C), all that the A block needs of the data.

  Z: (G, S, m, C); P: (S, R_S). Thin: costs about 2 S C R_S + 4 C^2 R_S operations per sample.
  """
  gram = jnp.matmul(P.T, P, precision='highest')
  Y = part_products(Z, P, precision=precision)
  return product_moments(Y, gram, precision=precision, axis_name=axis_name)


def final_sums(
  Z: jax.Array, A: jax.Array, P: jax.Array, *, precision: str = 'highest', axis_name: str | None = None
) -> dict[str, jax.Array]:
  """The sums over the data for the canonical form and the reported error, of the float32 factors as exported.

  Args:
    Z: (G, S, m, C); A: (C, R_C); P: (S, R_S).

  Returns:
    `residual`: sum_i ||Z_i - A A' Z_i P P'||^2, summed from the residual itself and so not a small difference of large
    numbers; `energy`: sum_i ||Z_i||^2; `part_energy` (R_S,): p_k' K1 p_k; `cubes` and `absolute_cubes` (R_C,): sums
    over samples and positions of the coordinates A'Z to the third power, with and without their sign.
  """

  def one(group):
    S, m, C = group.shape
    Y = jnp.matmul(P.T, group.reshape(S, m * C), precision=precision)
    coordinates = jnp.matmul(Y.reshape(-1, C), A, precision=precision)
    back = jnp.matmul(coordinates, A.T, precision=precision).reshape(-1, m * C)
    residual = group.reshape(S, m * C) - jnp.matmul(P, back, precision=precision)
    x = jnp.matmul(group.reshape(-1, C), A, precision=precision)
    cube = x * x * x
    return {
      'residual': jnp.sum(residual * residual),
      'energy': jnp.sum(group * group),
      'part_energy': jnp.sum((coordinates * coordinates).reshape(P.shape[1], -1), axis=1),
      'cubes': jnp.sum(cube, axis=0),
      'absolute_cubes': jnp.sum(jnp.abs(cube), axis=0),
    }

  return over_groups(one, Z, axis_name)


def residual_sums(
  Z: jax.Array, A: jax.Array, P: jax.Array, *, precision: str = 'highest', axis_name: str | None = None
) -> dict[str, jax.Array]:
  """`residual` and `energy` of `final_sums` alone: enough for the error of given factors.

  The residual itself is summed. From moments the error would be (sum ||Z||^2 - 2 tr(WM) + tr(W^2 N)) / sum ||Z||^2 at
  half the operations, but it is a small difference of large float32 sums if the factors fit well (our derivation).
  """

  def one(group):
    S, m, C = group.shape
    Y = jnp.matmul(P.T, group.reshape(S, m * C), precision=precision).reshape(-1, C)
    back = jnp.matmul(jnp.matmul(Y, A, precision=precision), A.T, precision=precision).reshape(-1, m * C)
    residual = group.reshape(S, m * C) - jnp.matmul(P, back, precision=precision)
    return {'residual': jnp.sum(residual * residual), 'energy': jnp.sum(group * group)}

  return over_groups(one, Z, axis_name)
