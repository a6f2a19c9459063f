"""Where the features are kept during a fit, and how they are moved to the devices.

After the scan of a source (`scan`), features are held on the devices, in host memory, or read again for each pass.
The devices are preferred; if features do not fit there, measured rates decide between the other two.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from panda_jax.errors import InputError
from panda_jax.features import throughput
from panda_jax.features.scan import BLOCK_BYTES, Scan, block_size, prefetched
from panda_jax.features.sharding import Layout, made_on_devices, to_devices
from panda_jax.features.sources import ArraySource, FeatureSource
from panda_jax.runtime import processes
from panda_jax.runtime.processes import Shares

STORES = ('auto', 'device', 'host', 'source')
STORAGES = ('float32', 'bfloat16')
WAYS = {
  'device': 'on the devices',
  'host': 'in host memory',
  'source': 'one batch at a time (read again for each pass)',
}
IN_FLIGHT = 4  # pieces that are read and moved ahead of the sums over them


def strata(energies: np.ndarray, count: int) -> np.ndarray:
  """Sorted indices of `count` samples, evenly spaced in the order of their energies.

  The subset depends on content, not on position, so it is the same for any order of the samples.
  """
  order = np.argsort(energies, kind='stable')
  places = ((np.arange(count) + 0.5) * (len(energies) / count)).astype(np.int64)
  return np.sort(order[places])


def free_bytes() -> int:
  """Bytes that this process could still take on its devices: their own memory, or the machine's for CPU devices."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'bytes_limit' in stats:
    return (stats['bytes_limit'] - stats.get('bytes_in_use', 0)) * jax.local_device_count()
  return free_host_bytes()


def free_host_bytes() -> int:
  """Bytes of host memory that this process could still take."""
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
  """The choice of store, and what each store would take.

  Attributes:
    store: 'device', 'host' or 'source'.
    needs: bytes of memory of each store, in all processes together.
    budget: bytes that 'auto' lets features take on the devices of all processes.
    dtype: of the features on the devices, 'float32' or 'bfloat16'.
    seconds: of streaming, by store, if that decided.
  """

  store: str
  needs: dict[str, int]
  budget: int
  dtype: str = 'float32'
  seconds: dict[str, float] | None = None

  def brief(self) -> str:
    """What was chosen, in one line."""
    return f'held {WAYS[self.store]}, {self.needs[self.store] / 1e6:,.0f} MB'

  def __str__(self) -> str:
    """What was chosen, and the alternatives."""
    sizes = ', '.join(f'{WAYS[k]} {v / 1e6:,.0f} MB' for k, v in self.needs.items())
    text = f'held {sizes}; budget {self.budget / 1e6:,.0f} MB; chosen: {WAYS[self.store]}'
    if self.seconds:
      text += f' ({throughput.PASSES} passes: ' + ', '.join(f'{k} {v:,.1f} s' for k, v in self.seconds.items()) + ')'
    return text


def plan(
  source: FeatureSource,
  samples: int,
  store: str,
  budget: int | None = None,
  dtype: str = 'float32',
  own: FeatureSource | None = None,
) -> Plan:
  """Chooses where features are kept.

  'auto': on the devices if they fit the budget there. If not, and host memory has room, `throughput.measured` decides
  between host memory and reading (or making) them again for each pass.

  The budget is an eighth of the free memory of a CPU machine, since the user works on it too, and half of an
  accelerator's and of its host's. A subset of the samples, within the budget too, is always held on the devices.

  Args:
    source: all samples.
    samples: N.
    store: see STORES.
    budget: bytes on the devices; measured if left out.
    dtype: see STORAGES.
    own: the samples of this process, of which a block is timed. Without it, and for an iterable, no rate is known; an
      array is in host memory already, so 'source' is chosen.

  Raises:
    InputError: there is no such store or dtype.
  """
  for name, value, known in (('store', store, STORES), ('storage', dtype, STORAGES)):
    if value not in known:
      raise InputError(name, value, 'unknown', f'give one of {", ".join(known)}')
  count = jax.process_count()
  share = 2 if on_accelerator() else 8
  given = budget is not None
  if not given:  # the same in every process: the least free memory of all
    budget = count * processes.least(free_bytes() // share)
  layout = Layout.of(samples, source.positions, source.channels, jax.device_count(), dtype=dtype)
  needs = {
    'device': layout.nbytes,
    'host': samples * source.sample_bytes,
    'source': 3 * BLOCK_BYTES * count,
  }
  if store != 'auto' or needs['device'] <= budget:
    return Plan('device' if store == 'auto' else store, needs, budget, dtype)
  room = budget if given and not on_accelerator() else count * processes.least(free_host_bytes() // share)
  if own is None or own.kind in ('array', 'iterable') or needs['host'] > room:
    return Plan('source', needs, budget, dtype)
  found, nbytes = throughput.measured(own), needs['host'] // count
  return Plan('host' if found.host_is_worth_it(nbytes) else 'source', needs, budget, dtype, found.seconds(nbytes))


def held_in_memory(source: FeatureSource, on_samples: Callable[[int], None] = lambda n: None) -> ArraySource:
  """All samples in host memory, by one pass."""
  blocks, seen = [], 0
  for block in source.blocks(block_size(source)):
    blocks.append(block)
    seen += len(block)
    on_samples(seen)
  if not blocks:  # with several processes, one may have no sample
    blocks.append(np.zeros((0, source.positions, source.channels), source.dtype))
  return ArraySource.of_samples(np.concatenate(blocks), source.grid)


class Store:
  """The features of one fit: subsets and all samples on the devices, or a stream of pieces.

  Attributes:
    scan, plan: results of the scan and the choice of store; the same in every process.
    source: the samples of this process.
    shares: which process has which samples.
    mesh: all devices.
  """

  def __init__(self, source: FeatureSource, scan: Scan, plan: Plan, mesh: jax.sharding.Mesh, batch: int | None = None):
    self.scan, self.plan, self.mesh, self._batch = scan, plan, mesh, batch
    self.shares = Shares.of(scan.samples)
    self.source = source
    if plan.store == 'host' and source.kind != 'array':
      self.source = processes.together(lambda: held_in_memory(source))

  @property
  def streamed(self) -> bool:
    return self.plan.store != 'device'

  def _layout(self, most: int) -> Layout:
    """The layout if no process has more than `most` samples."""
    s = self.source
    return Layout.of(most * jax.process_count(), s.positions, s.channels, self.mesh.size, self._batch, self.plan.dtype)

  def _load(self, read, samples, layout) -> jax.Array:
    return to_devices(read, samples, layout, self.mesh, self.source.dtype, self.scan.scale, self.scan.mean)

  def _make(self, indices, layout) -> jax.Array:
    s = self.source
    return made_on_devices(s.made, s.step, indices, layout, self.mesh, self.scan.scale, self.scan.mean)

  @property
  def _on_devices(self) -> bool:
    """Whether each device makes its own samples."""
    return self.source.kind == 'generator' and self.source.defined

  def subset(self, count: int) -> jax.Array:
    """`count` samples spread over the order of energies, on the devices; each process contributes its own."""
    indices, most = self.shares.own(strata(self.scan.energies, count))
    if self._on_devices:
      return self._make(indices, self._layout(most))
    if self.source.kind == 'iterable':  # each read would be a pass
      samples = self.source.take(indices)
      return self._load(lambda first, last: samples[first:last], count, self._layout(most))
    return self._load(lambda first, last: self.source.take(indices[first:last]), len(indices), self._layout(most))

  def whole(self) -> jax.Array:
    """All samples on the devices, whatever was planned."""
    own, layout = self.shares.last - self.shares.first, self._layout(self.shares.most)
    if self._on_devices:
      return self._make(np.arange(own), layout)
    if isinstance(self.source, ArraySource):
      everything = next(self.source.blocks(max(1, own)), None)
      return self._load(lambda first, last: everything[first:last], own, layout)
    blocks, held = self.source.blocks(block_size(self.source)), np.empty((0,))

    def read(first, last):
      nonlocal held
      out, missing = [], last - first
      while missing:
        held = held if len(held) else next(blocks)
        out.append(held[:missing])
        held, missing = held[missing:], missing - len(out[-1])
      return out[0] if len(out) == 1 else np.concatenate(out)

    return self._load(read, own, layout)

  def pieces(self, on_samples: Callable[[int], None] = lambda n: None) -> Iterator[jax.Array]:
    """All samples on the devices, in pieces of one fixed shape; every process has the same number of pieces."""
    s, own, most = self.source, self.shares.last - self.shares.first, self.shares.most
    size = min(block_size(s, self._batch), most)
    if self._on_devices:
      yield from self._made_pieces(-(-size // s.step) * s.step, on_samples)
      return
    layout, nothing = self._layout(size), np.zeros((0, s.positions, s.channels), s.dtype)
    blocks, seen = prefetched(s.blocks(size)), 0
    for first in range(0, most, size):
      block = next(blocks, nothing)  # the shares of processes may differ by a few samples
      yield self._load(lambda first, last, block=block: block[first:last], len(block), layout)
      seen += len(block)
      on_samples(min(self.scan.samples, (first + size) * jax.process_count()))
    seen += sum(map(len, blocks))  # none, unless the source has changed
    if seen != own:
      raise InputError('features', s.name(), f'a pass gave {seen} samples, the first {own}', 'give the same each time')

  def _made_pieces(self, size: int, on_samples: Callable[[int], None]) -> Iterator[jax.Array]:
    own, layout = self.shares.last - self.shares.first, self._layout(size)
    for first in range(0, self.shares.most, size):
      yield self._make(np.arange(min(first, own), min(first + size, own)), layout)
      on_samples(min(self.scan.samples, (first + size) * jax.process_count()))
