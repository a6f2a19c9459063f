"""Names that differ in older versions of jax, under the names of the newest one. generators/ has those of flax.

The marked tests of .ci/run pass with the oldest versions that pyproject.toml allows; an unneeded entry is removed.
"""

import functools

import jax
import numpy as np

if hasattr(jax, 'enable_x64'):
  enable_x64 = jax.enable_x64
else:  # before jax 0.8
  from jax.experimental import enable_x64  # type: ignore[attr-defined,no-redef]  # noqa: F401  # only there

if hasattr(jax, 'shard_map'):
  shard_map = jax.shard_map
else:  # before jax 0.6

  def shard_map(f, *, mesh, in_specs, out_specs, check_vma: bool = True):  # type: ignore[misc]  # fewer arguments
    """`jax.shard_map`; variation over the mesh is not checked, since old versions have no `pcast`."""
    from jax.experimental.shard_map import shard_map as experimental

    return experimental(f, mesh, in_specs, out_specs, check_rep=False)


@functools.cache
def simple_kernels() -> dict[str, str | bool]:
  """Compiler options for XLA's older CPU kernels, from before its fusion emitters; none if it has no such options.

  Found by compiling a trivial program: an unknown option is an error.
  """
  options: dict[str, str | bool] = {'xla_cpu_use_fusion_emitters': False}
  try:
    jax.jit(lambda: 0).lower().compile(options)
  except RuntimeError:
    return {}
  return options


def varying(x: jax.Array, axis: str) -> jax.Array:
  """`jax.lax.pcast` to a value that varies over devices, if this version distinguishes such values."""
  return jax.lax.pcast(x, axis, to='varying') if hasattr(jax.lax, 'pcast') else x


def data_mesh(devices: list[jax.Device], axis: str) -> jax.sharding.Mesh:
  """A mesh of one axis over which the compiler shards automatically."""
  kinds = getattr(jax.sharding, 'AxisType', None)  # before jax 0.5 all axes are like this
  return jax.sharding.Mesh(np.asarray(devices), (axis,), **({'axis_types': (kinds.Auto,)} if kinds else {}))
