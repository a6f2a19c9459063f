"""Where the features live during a fit, and how they get onto the devices.

A first pass (`scan`) checks every value, weighs every sample and hashes the source. Then features are held on the
devices, in host memory, or read again for each pass, whichever fits (design section 4.9).
"""

import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as Spec

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.features import ArraySource, FeatureSource

AXIS = 'data'
CENTERS = ('none', 'position', 'channel')
STORES = ('auto', 'device', 'host', 'source')
# A group's plain matrix products have this many columns, and it takes at most this many bytes: wide enough for full
# speed, small enough for temporaries of a group's size not to matter.
GROUP_COLUMNS, GROUP_BYTES = 32_768, 64 << 20
BLOCK_BYTES = 64 << 20  # of stored features read at a time


def data_mesh() -> jax.sharding.Mesh:
  """All devices along one axis, `data`, over which samples are split."""
  return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


@dataclasses.dataclass(frozen=True)
class Scan:
  """What one pass over a source tells.

  Attributes:
    samples: N.
    energies: (N,) float64, ||Z_i||^2 as given, before any centring.
    mean: what centring subtracts, (S, C) or (1, C) float64; None without centring.
    scale: a power of two, about 1 / rms, by which features are multiplied on the devices: exact, and it makes the fit
      the same for features in any unit.
    sha256: of the source, None if not asked for.
  """

  samples: int
  energies: np.ndarray
  mean: np.ndarray | None
  scale: float
  sha256: str | None


def _energies(block: np.ndarray, first: int) -> np.ndarray:
  """||Z_i||^2 of (n, S, C) samples, float64; raises on NaN and infinity with the sample's number."""
  rows = block.reshape(len(block), -1)
  rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)
  with np.errstate(all='ignore'):
    energies = np.vecdot(rows, rows).astype(np.float64)
  for i in np.flatnonzero(~(np.isfinite(energies) & (energies > 1e-30))):
    finite = np.isfinite(rows[i])
    if not finite.all():
      where = int(np.argmin(finite))
      raise NonFiniteError(
        'features',
        f'{rows[i, where]} in sample {first + i}',
        f'at position {where // block.shape[2]}, channel {where % block.shape[2]} the value is not finite',
        'remove or repair that sample',
      )
    energies[i] = np.vecdot(rows[i].astype(np.float64), rows[i].astype(np.float64))
  return energies


def prefetched(iterator: Iterator) -> Iterator:
  """The same items, the next one being fetched by a thread while the last is used."""
  with ThreadPoolExecutor(1) as pool:
    following = pool.submit(next, iterator, None)
    while (item := following.result()) is not None:
      following = pool.submit(next, iterator, None)
      yield item


def block_size(source: FeatureSource, batch: int | None = None) -> int:
  """Samples to read at a time: `batch`, or what fills a block, in stored and in device form."""
  return batch or max(1, BLOCK_BYTES // max(source.sample_bytes, 4 * source.positions * source.channels))


def sha256_of(source: FeatureSource) -> str:
  """The hash that `scan` finds, in a pass of its own if it takes one."""
  digest = source.digest()
  if source.defined:
    return digest.hexdigest()
  for block in source.blocks(block_size(source)):
    digest.update(np.ascontiguousarray(block).view(np.uint8).data)
  return digest.hexdigest()


def scan(
  source: FeatureSource,
  center: str = 'none',
  on_samples: Callable[[int], None] = lambda n: None,
  *,
  batch: int | None = None,
  hashed: bool = True,
) -> Scan:
  """One pass: values are finite, energies, mean, hash (unless not `hashed`: an array can be hashed at leisure).

  Raises:
    NonFiniteError: with the sample, position and channel.
    InputError: all features are zero (or, centred, all the same).
  """
  if center not in CENTERS:
    raise InputError('center', center, 'unknown', f'give one of {", ".join(CENTERS)}')
  digest, energies, sums, first = source.digest(), [], 0.0, 0
  for block in prefetched(source.blocks(block_size(source, batch))):
    if hashed and not source.defined:
      digest.update(np.ascontiguousarray(block).view(np.uint8).data)
    energies.append(_energies(block, first))
    if center != 'none':
      sums = sums + np.sum(block, axis=0, dtype=np.float64)
    first += len(block)
    on_samples(first)
  if not first:
    raise InputError('features', source.name(), 'it yields no sample', 'give at least one')
  energies = np.concatenate(energies)
  size = source.positions * source.channels
  uncentred = total = float(energies.sum())
  mean = None
  if center != 'none':
    mean = sums / first
    mean = mean if center == 'position' else mean.mean(axis=0, keepdims=True)
    full = np.broadcast_to(mean, (source.positions, source.channels))
    total = uncentred - first * float(np.sum(full * full))
  if uncentred == 0 or total <= 1e-12 * uncentred:
    problem = 'all features are zero' if uncentred == 0 else f'with center={center} nothing is left'
    raise InputError('features', source.name(), problem, 'give features that vary')
  rms = np.sqrt(total / (first * size))
  scale = float(2.0 ** -np.clip(np.round(np.log2(rms)), -120, 120))
  return Scan(first, energies, mean, scale, digest.hexdigest() if hashed else None)


def strata(energies: np.ndarray, count: int) -> np.ndarray:
  """Sorted indices of `count` samples spread evenly over the order of their energies.

  A subset chosen by content, not by place, so it is the same whatever the order of the samples.
  """
  order = np.argsort(energies, kind='stable')
  places = ((np.arange(count) + 0.5) * (len(energies) / count)).astype(np.int64)
  return np.sort(order[places])


@dataclasses.dataclass(frozen=True)
class Layout:
  """How `samples` samples lie in an array (G, S, m, C): G groups of m, G a multiple of the devices."""

  groups: int
  positions: int
  places: int
  channels: int

  @classmethod
  def of(cls, samples: int, positions: int, channels: int, devices: int, batch: int | None = None) -> 'Layout':
    wide = batch or min(GROUP_COLUMNS // channels, GROUP_BYTES // (4 * positions * channels))
    places = max(1, min(wide, -(-samples // devices)))
    groups = -(-samples // places)
    groups = -(-groups // devices) * devices
    return cls(groups, positions, -(-samples // groups), channels)

  @property
  def shape(self):
    return self.groups, self.positions, self.places, self.channels

  @property
  def nbytes(self) -> int:
    return 4 * self.groups * self.positions * self.places * self.channels


@partial(jax.jit, donate_argnums=0)
def _place(buffer, chunk, mean, scale, live, first):
  """Writes (k * m, S, C) stored samples as float32 groups into the buffer; samples past `live` become zero."""
  _, S, m, C = buffer.shape
  x = (chunk.astype(jnp.float32) * scale - mean[None]) * (jnp.arange(len(chunk)) < live)[:, None, None]
  x = x.reshape(-1, m, S, C).transpose(0, 2, 1, 3)
  return jax.lax.dynamic_update_slice_in_dim(buffer, x, first, axis=0)


def _device_scale(dtype: np.dtype, scale: float) -> tuple[float, float]:
  """Split of the scale into a factor for the host (float64 sources, before they are rounded) and the device."""
  return (scale, 1.0) if dtype == np.float64 else (1.0, scale)


def to_device(
  read: Callable[[int, int], np.ndarray],
  samples: int,
  layout: Layout,
  mesh: jax.sharding.Mesh,
  dtype: np.dtype,
  scale: float,
  mean: np.ndarray | None,
) -> jax.Array:
  """Samples as a sharded device array (G, S, m, C) float32, scaled, centred and padded with zero samples.

  `read(first, last)` gives stored samples (last - first, S, C); it is asked for one piece after the other, in order, so
  no second copy of everything is made.
  """
  devices = list(mesh.devices.flat)
  G, S, m, C = layout.shape
  local = G // len(devices)
  most = max(1, min(local, BLOCK_BYTES // (4 * S * m * C)))
  step = max(k for k in range(1, most + 1) if local % k == 0)  # pieces of one shape
  on_host, on_device = _device_scale(dtype, scale)
  shift = np.zeros((1, C), np.float32) if mean is None else np.float32(mean * scale)
  shards = []
  for number, device in enumerate(devices):
    buffer = jax.device_put(jnp.zeros((local, S, m, C), jnp.float32), device)
    for group in range(0, local, step):
      first = (number * local + group) * m
      last = min(first + step * m, samples)
      live = max(0, last - first)
      chunk = np.zeros((step * m, S, C), np.float32 if dtype == np.float64 else dtype)
      if live:
        piece = read(first, last)
        chunk[:live] = piece * on_host if on_host != 1 else piece
      put = partial(jax.device_put, device=device)
      buffer = _place(
        buffer,
        put(chunk),
        put(shift),
        put(np.float32(on_device)),
        put(np.int32(live)),
        put(np.int32(group)),
      )
    shards.append(buffer)
  return jax.make_array_from_single_device_arrays(layout.shape, NamedSharding(mesh, Spec(AXIS)), shards)


def free_bytes() -> int:
  """Bytes that this process could still take on its devices: their own memory, or the machine's for CPU devices."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'bytes_limit' in stats:
    return (stats['bytes_limit'] - stats.get('bytes_in_use', 0)) * jax.device_count()
  free = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  meminfo = Path('/proc/meminfo')
  if meminfo.exists():
    lines = dict(line.split(':') for line in meminfo.read_text().splitlines())
    free = int(lines['MemAvailable'].split()[0]) * 1024
  limit = Path('/sys/fs/cgroup/memory.max')
  if limit.exists() and (text := limit.read_text().strip()) != 'max':
    free = min(free, int(text))
  return free


def on_accelerator() -> bool:
  return jax.default_backend() != 'cpu'


@dataclasses.dataclass(frozen=True)
class Plan:
  """The choice of store and what each would take.

  Attributes:
    store: 'device', 'host' or 'source'.
    needs: bytes of memory that each way would hold.
    budget: bytes that 'auto' lets features take on the devices.
  """

  store: str
  needs: dict[str, int]
  budget: int

  def __str__(self) -> str:
    ways = {'device': 'on the devices', 'host': 'in host memory', 'source': 'nowhere (read again for each pass)'}
    sizes = ', '.join(f'{ways[k]} {v / 1e6:,.0f} MB' for k, v in self.needs.items())
    return f'features held {sizes}; budget {self.budget / 1e6:,.0f} MB; chosen: {ways[self.store]}'


def plan(source: FeatureSource, samples: int, store: str, budget: int | None = None) -> Plan:
  """Chooses where features live. 'auto': on the devices if float32 features fit the budget, else read again per pass.

  The budget is an eighth of the free memory of a CPU machine, which the user shares, and half of an accelerator's. A
  subset of the samples, within the budget too, is always held on the devices.
  """
  if store not in STORES:
    raise InputError('store', store, 'unknown', f'give one of {", ".join(STORES)}')
  if budget is None:
    budget = free_bytes() // (2 if on_accelerator() else 8)
  layout = Layout.of(samples, source.positions, source.channels, jax.device_count())
  needs = {
    'device': layout.nbytes,
    'host': samples * source.sample_bytes,
    'source': 3 * BLOCK_BYTES,
  }
  if store == 'auto':
    store = 'device' if needs['device'] <= budget else 'source'
  return Plan(store, needs, budget)


def held_in_memory(source: FeatureSource, on_samples: Callable[[int], None] = lambda n: None) -> ArraySource:
  """All samples in host memory, by one pass."""
  blocks, seen = [], 0
  for block in source.blocks(block_size(source)):
    blocks.append(block)
    seen += len(block)
    on_samples(seen)
  return ArraySource(np.concatenate(blocks), source.grid)


class Store:
  """The features of one fit: subsets and the whole on the devices, or a stream of pieces.

  Attributes:
    scan, plan: what was found and chosen.
    source: where features come from.
    mesh: the devices.
  """

  def __init__(self, source: FeatureSource, scan: Scan, plan: Plan, mesh: jax.sharding.Mesh, batch: int | None = None):
    self.scan, self.plan, self.mesh, self._batch = scan, plan, mesh, batch
    self.source = source
    if plan.store == 'host' and source.kind != 'array':
      self.source = held_in_memory(source)

  @property
  def streamed(self) -> bool:
    return self.plan.store != 'device'

  def _load(self, read, samples) -> jax.Array:
    s = self.source
    layout = Layout.of(samples, s.positions, s.channels, self.mesh.size, self._batch)
    return to_device(read, samples, layout, self.mesh, s.dtype, self.scan.scale, self.scan.mean)

  def subset(self, count: int) -> jax.Array:
    """`count` samples spread over the order of energies, on the devices."""
    indices = strata(self.scan.energies, count)
    if self.source.kind == 'iterable':  # each read would be a pass
      samples = self.source.take(indices)
      return self._load(lambda first, last: samples[first:last], count)
    return self._load(lambda first, last: self.source.take(indices[first:last]), count)

  def whole(self) -> jax.Array:
    """All samples on the devices, whatever was planned."""
    if isinstance(self.source, ArraySource):
      everything = next(self.source.blocks(self.scan.samples))
      return self._load(lambda first, last: everything[first:last], self.scan.samples)
    blocks, held = self.source.blocks(block_size(self.source)), np.empty((0,))

    def read(first, last):
      nonlocal held
      out, missing = [], last - first
      while missing:
        held = held if len(held) else next(blocks)
        out.append(held[:missing])
        held, missing = held[missing:], missing - len(out[-1])
      return out[0] if len(out) == 1 else np.concatenate(out)

    return self._load(read, self.scan.samples)

  def pieces(self, on_samples: Callable[[int], None] = lambda n: None) -> Iterator[jax.Array]:
    """All samples, one piece of fixed shape after the other, on the devices."""
    s = self.source
    size = min(block_size(s, self._batch), self.scan.samples)
    layout = Layout.of(size, s.positions, s.channels, self.mesh.size, self._batch)
    seen = 0
    for block in prefetched(s.blocks(size)):
      yield to_device(
        lambda first, last, block=block: block[first:last],
        len(block),
        layout,
        self.mesh,
        s.dtype,
        self.scan.scale,
        self.scan.mean,
      )
      seen += len(block)
      on_samples(seen)
