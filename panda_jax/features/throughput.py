"""How fast features arrive from their source, and from host memory on a device; measured on a block of each."""

import dataclasses
import time

import jax
import numpy as np

from panda_jax.features.scan import BLOCK_BYTES, block_size
from panda_jax.features.sources import FeatureSource
from panda_jax.runtime import processes

PASSES = 20  # over streamed features: two for each outer iteration, and some at the start and the end
WORTH = 1.2  # host memory is taken if it is at least this many times faster


@dataclasses.dataclass(frozen=True)
class Rates:
  """Bytes of stored features per second, of the slowest process.

  Attributes:
    source: reading the file, or running the generator.
    transfer: from host memory to a device.
    made_there: the devices make the samples themselves, and nothing is transferred.
  """

  source: float
  transfer: float
  made_there: bool = False

  def seconds(self, nbytes: int) -> dict[str, float]:
    """Seconds of the first pass and PASSES more over `nbytes`, by store. Reading, transfer and computing overlap."""
    read = nbytes / self.source
    moved = nbytes / self.transfer
    again = read if self.made_there else max(read, moved)
    return {'source': (PASSES + 1) * again, 'host': again + PASSES * moved}

  def host_is_worth_it(self, nbytes: int) -> bool:
    seconds = self.seconds(nbytes)
    return WORTH * seconds['host'] <= seconds['source']


def measured(own: FeatureSource) -> Rates:
  """Times reading a block from the middle of this process's samples, and moving as many bytes to a device.

  Args:
    own: samples of this process, of any kind but 'iterable', which cannot be read from the middle.
  """
  made_there = own.kind == 'generator' and own.defined
  count = own.step if own.kind == 'generator' else min(own.samples, block_size(own))
  first = max(0, own.samples - count) // 2
  indices = np.arange(first, first + count)
  if own.samples:
    indices = np.minimum(indices, own.samples - 1)
  take = own.made if made_there else own.take
  if own.kind == 'generator':
    jax.block_until_ready(take(indices))  # compiles
  began = time.perf_counter()
  jax.block_until_ready(take(indices))
  # With several processes, one that has no sample must not be the slowest.
  source = count * own.sample_bytes / max(1e-9, time.perf_counter() - began) if count else 1e15
  block, seconds = np.ones(BLOCK_BYTES // 4, np.float32), []
  for _ in range(2):
    began = time.perf_counter()
    jax.block_until_ready(jax.device_put(block, jax.local_devices()[0]))
    seconds.append(time.perf_counter() - began)
  transfer = BLOCK_BYTES / max(1e-9, min(seconds))
  return Rates(*(float(processes.least(max(1, int(rate)))) for rate in (source, transfer)), made_there)
