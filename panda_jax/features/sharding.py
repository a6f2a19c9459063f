"""How samples are laid out on the devices, and how they are moved there.

One mesh axis, `data`, runs over the devices of all processes; each process places its own samples on its own devices.
One program fills all devices in step, so that a source is read once and in order.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as Spec

from panda_jax.runtime import compatibility
from panda_jax.runtime.compatibility import shard_map
from panda_jax.runtime.processes import replicated

AXIS = 'data'
# Columns of a group's plain matrix products, and the most bytes of a group: wide enough for full speed, small enough
# that temporaries of a group's size do not matter.
GROUP_COLUMNS, GROUP_BYTES = 32_768, 64 << 20
CHUNK_BYTES = 64 << 20  # of float32 features that a process places at a time
ON_DEVICES = 60  # largest binary exponent by which devices scale: an entry they lose is 2^-60 of the rms or less


def data_mesh() -> jax.sharding.Mesh:
  """All devices along one axis, `data`, over which samples are split; those of a process are neighbours."""
  devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
  return compatibility.data_mesh(devices, AXIS)


@dataclasses.dataclass(frozen=True)
class Layout:
  """How `samples` samples are stored as an array (G, S, m, C): G groups of m samples, G a multiple of the devices.

  `dtype`: 'float32', or 'bfloat16' for half the memory; features are rounded to it after scaling and centring.
  """

  groups: int
  positions: int
  places: int
  channels: int
  dtype: str = 'float32'

  @classmethod
  def of(
    cls,
    samples: int,
    positions: int,
    channels: int,
    devices: int,
    batch: int | None = None,
    dtype: str = 'float32',
  ) -> 'Layout':
    wide = batch or min(GROUP_COLUMNS // channels, GROUP_BYTES // (4 * positions * channels))
    places = max(1, min(wide, -(-samples // devices)))
    groups = -(-samples // places)
    groups = -(-groups // devices) * devices
    return cls(groups, positions, -(-samples // groups), channels, dtype)

  @property
  def shape(self):
    return self.groups, self.positions, self.places, self.channels

  @property
  def nbytes(self) -> int:
    return jnp.dtype(self.dtype).itemsize * math.prod(self.shape)


@partial(jax.jit, static_argnames=('layout', 'mesh'))
def _nothing(*, layout, mesh):
  return jax.lax.with_sharding_constraint(jnp.zeros(layout.shape, layout.dtype), NamedSharding(mesh, Spec(AXIS)))


def _grouped(rows, live, mean, scale, m: int):
  """Stored samples (n, S, C) as float32 groups (n / m, S, m, C), scaled and centred; zero after the first `live`."""
  n, S, C = rows.shape
  x = (rows.astype(jnp.float32) * scale - mean[None]) * (jnp.arange(n) < live)[:, None, None]
  return x.reshape(-1, m, S, C).transpose(0, 2, 1, 3)


@partial(jax.jit, static_argnames='mesh', donate_argnums=0)
def _place(buffer, chunk, live, mean, scale, first, *, mesh):
  """Writes stored samples as groups into the buffer; on each device, all after the first `live` become zero.

  buffer: (G, S, m, C); chunk: (devices * k * m, S, C); live: (devices,); mean: (S or 1, C); first: group of a device.
  """

  def one(buffer, chunk, live, mean, scale, first):
    x = _grouped(chunk, live, mean, scale, buffer.shape[2]).astype(buffer.dtype)
    return jax.lax.dynamic_update_slice_in_dim(buffer, x, first, axis=0)

  specs = Spec(AXIS), Spec(AXIS), Spec(AXIS), Spec(), Spec(), Spec()
  return shard_map(one, mesh=mesh, in_specs=specs, out_specs=Spec(AXIS))(buffer, chunk, live, mean, scale, first)


def sharded(shards: list[jax.Array], mesh: jax.sharding.Mesh) -> jax.Array:
  """One array, sharded over its first axis, from the shards on this process's devices and those of other processes."""
  shape = (len(shards[0]) * mesh.size, *shards[0].shape[1:])
  return jax.make_array_from_single_device_arrays(shape, NamedSharding(mesh, Spec(AXIS)), shards)


def own_devices(mesh: jax.sharding.Mesh) -> list[jax.Device]:
  """The devices of this process, in the order of the mesh."""
  return [device for device in mesh.devices.flat if device.process_index == jax.process_index()]


@partial(jax.jit, static_argnames=('groups', 'places', 'dtype', 'mesh'))
def _arrange(batches, live, mean, scale, *, groups, places, dtype, mesh):
  """Batches (devices * b, S, C) on the devices, rearranged there as `groups` groups of `places` samples each."""

  def one(batches, live, mean, scale):
    rows = jnp.concatenate(batches)[: groups * places]
    rows = jnp.pad(rows, ((0, groups * places - len(rows)), (0, 0), (0, 0)))
    return _grouped(rows, live, mean, scale, places).astype(dtype)

  specs = Spec(AXIS), Spec(AXIS), Spec(), Spec()
  return shard_map(one, mesh=mesh, in_specs=specs, out_specs=Spec(AXIS))(batches, live, mean, scale)


def made_on_devices(
  make: Callable[[np.ndarray], jax.Array],
  step: int,
  indices: np.ndarray,
  layout: Layout,
  mesh: jax.sharding.Mesh,
  scale: float,
  mean: np.ndarray | None,
) -> jax.Array:
  """Like `to_devices`, for samples that the devices compute: they stay on the device that made them.

  Args:
    make: `make(indices)` gives `step` samples, (step, S, C) float32, the same number on each own device, in order.
    step: see `make`.
    indices: of the samples of this process.
    layout, mesh, scale, mean: see `to_devices`.
  """
  devices = own_devices(mesh)
  G, _, m, C = layout.shape
  room, batch = G // mesh.size * m, step // len(devices)
  runs = [indices[k * room : (k + 1) * room] for k in range(len(devices))]  # the samples that each device makes
  filled = -(-max(map(len, runs)) // batch) * batch
  # Shorter runs are filled up with any samples, which are masked.
  wanted = np.stack([np.resize(run if len(run) else [0], max(batch, filled)) for run in runs])
  made = [make(wanted[:, k : k + batch].reshape(-1)) for k in range(0, max(batch, filled), batch)]
  batches = [sharded([shard.data for shard in _in_order(x)], mesh) for x in made]
  live = sharded(
    [jax.device_put(np.asarray([len(run)], np.int32), d) for run, d in zip(runs, devices, strict=True)], mesh
  )
  everywhere = NamedSharding(mesh, Spec())
  shift = replicated(np.zeros((1, C), np.float32) if mean is None else np.float32(mean * scale), everywhere)
  factor = replicated(np.float32(np.clip(scale, 2.0**-126, 2.0**126)), everywhere)
  return _arrange(batches, live, shift, factor, groups=G // mesh.size, places=m, dtype=layout.dtype, mesh=mesh)


def _in_order(x: jax.Array) -> list:
  """The shards of an array that is split over its rows, in the order of the rows."""
  return sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)


def _device_scale(dtype: np.dtype, scale: float) -> tuple[float, float]:
  """The scale as a factor for the host and one for the devices; their product is the scale.

  The host scales what devices cannot: float64, and values so far from 1 that they or the scale are near the ends of
  float32's range, where devices treat denormal numbers as zero.
  """
  return (scale, 1.0) if dtype == np.float64 or abs(math.log2(scale)) > ON_DEVICES else (1.0, scale)


def to_devices(
  read: Callable[[int, int], np.ndarray],
  samples: int,
  layout: Layout,
  mesh: jax.sharding.Mesh,
  dtype: np.dtype,
  scale: float,
  mean: np.ndarray | None,
) -> jax.Array:
  """Places the samples of this process on its devices, scaled and centred: its shards of an array (G, S, m, C).

  Args:
    read: `read(first, last)` gives stored samples (last - first, S, C) of this process; it is called for one piece
      after the other, in order, so no second copy of the whole is made.
    samples: how many samples this process has; the remaining places hold zero samples.
    layout: of all processes; each process has as many places as the one with the most samples needs.
    mesh: all devices.
    dtype: stored.
    scale: factor of the features.
    mean: subtracted before scaling, (S, C) or (1, C), or None.
  """
  devices = own_devices(mesh)
  G, S, m, C = layout.shape
  local = G // mesh.size  # groups of a device
  most = max(1, min(local, CHUNK_BYTES // (4 * S * m * C * len(devices))))
  step = max(k for k in range(1, most + 1) if local % k == 0)  # chunks of one shape
  on_host, on_device = _device_scale(dtype, scale)
  # XLA has no float16 on processors without instructions for it.
  widened = dtype == np.float64 or (dtype == np.float16 and jax.default_backend() == 'cpu')
  everywhere = NamedSharding(mesh, Spec())
  shift = replicated(np.zeros((1, C), np.float32) if mean is None else np.float32(mean * scale), everywhere)
  factor = replicated(np.float32(on_device), everywhere)
  buffer = _nothing(layout=layout, mesh=mesh)
  done = 0
  for group in range(0, local, step):
    chunks, live = [], []
    for device in devices:
      count = min(step * m, samples - done)
      chunk = np.zeros((step * m, S, C), np.float32 if on_host != 1 or widened else dtype)
      if count:
        piece = read(done, done + count)
        chunk[:count] = piece.astype(np.float64) * on_host if on_host != 1 else piece
      chunks.append(jax.device_put(chunk, device))
      live.append(jax.device_put(np.asarray([count], np.int32), device))
      done += count
    first = replicated(np.int32(group), everywhere)
    buffer = _place(buffer, sharded(chunks, mesh), sharded(live, mesh), shift, factor, first, mesh=mesh)
  return buffer
