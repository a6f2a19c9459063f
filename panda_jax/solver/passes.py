"""Passes over sharded features: a function of `moments` on every shard, and one all-reduce.

Features on the devices take one program. Of a stream, each device adds up its own sums, and only the last step sends.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as Spec

from panda_jax.features.sharding import AXIS
from panda_jax.runtime.compatibility import shard_map, varying
from panda_jax.solver import moments


@partial(jax.jit, static_argnames=('function', 'mesh', 'precision'))
def over_mesh(Z: jax.Array, *small: jax.Array, function: Callable, mesh: jax.sharding.Mesh, precision: str):
  """A function of `moments` over all shards: each sums its own groups, one all-reduce adds them up."""
  return shard_map(
    partial(function, precision=precision, axis_name=AXIS),
    mesh=mesh,
    in_specs=(Spec(AXIS), *(Spec() for _ in small)),
    out_specs=Spec(),
  )(Z, *small)


@partial(jax.jit, static_argnames=('function', 'mesh', 'precision'), donate_argnums=0)
def add_on_shards(sums, Z: jax.Array, *small: jax.Array, function: Callable, mesh: jax.sharding.Mesh, precision: str):
  """Adds a function of `moments` of each shard to that shard's own sums; the devices exchange nothing."""

  def one(sums, Z, *small):
    return jax.tree.map(lambda old, new: old + new[None], sums, function(Z, *small, precision=precision))

  specs = Spec(AXIS), Spec(AXIS), *(Spec() for _ in small)
  return shard_map(one, mesh=mesh, in_specs=specs, out_specs=Spec(AXIS))(sums, Z, *small)


@partial(jax.jit, static_argnames='mesh')
def reduce_over_mesh(sums, *, mesh: jax.sharding.Mesh):
  """The sums of all shards added up, by one all-reduce."""

  def one(sums):
    return moments.over_shards(jax.tree.map(lambda x: x[0], sums), AXIS)

  return shard_map(one, mesh=mesh, in_specs=Spec(AXIS), out_specs=Spec())(sums)


@partial(jax.jit, static_argnames=('function', 'mesh', 'precision'))
def nothing_yet(Z: jax.Array, *small: jax.Array, function: Callable, mesh: jax.sharding.Mesh, precision: str):
  """Zeros with which the sums of each shard begin."""

  def one(Z, *small):
    shapes = jax.eval_shape(partial(function, precision=precision), Z, *small)
    return jax.tree.map(lambda x: varying(jnp.zeros((1, *x.shape), x.dtype), AXIS), shapes)

  in_specs = Spec(AXIS), *(Spec() for _ in small)
  return shard_map(one, mesh=mesh, in_specs=in_specs, out_specs=Spec(AXIS))(Z, *small)


def energy(Z, *, precision, axis_name=None):
  del precision  # no products
  return moments.over_groups(lambda group: jnp.sum(group * group), Z, axis_name)
