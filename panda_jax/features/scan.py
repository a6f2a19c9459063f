"""The first pass over a source: checks that every value is finite, computes the energies and hashes the source.

With several processes each scans its own share, and all end with the same result.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.features.sources import FeatureSource
from panda_jax.runtime import processes
from panda_jax.runtime.processes import GRAINS, Shares

CENTERS = ('none', 'position', 'channel')
BLOCK_BYTES = 64 << 20  # bytes of stored features read at a time
GRAINED = 'grains-'  # prefix of a hash that is made of hashes
IN_RANGE = 60  # largest exponent of an entry for which squares, and sums of them, stay in float32's range
NOTHING = -5000  # exponent of samples that are all zero: below that of any number


@dataclasses.dataclass(frozen=True)
class Scan:
  """The results of one pass over a source.

  Attributes:
    samples: N.
    energies: (N,) float64, ||Z_i||^2 before any centring, in units of 4^exponent.
    mean: what centring subtracts, (S, C) or (1, C) float64; None without centring.
    scale: a power of two, about 1 / rms, by which features are multiplied on their way to the devices: exact, and it
      makes the fit the same for features in any unit.
    sha256: of the source, None if it was not requested.
    exponent: 0, unless the features are so small or large that sums of their squares would leave float64's range.
  """

  samples: int
  energies: np.ndarray
  mean: np.ndarray | None
  scale: float
  sha256: str | None
  exponent: int = 0


def _bytes(samples: np.ndarray) -> memoryview:
  return np.ascontiguousarray(samples).view(np.uint8).data


class WholeHash:
  """SHA-256 of the source's description and all samples in order; for a whole file, the hash of the file."""

  def __init__(self, source: FeatureSource):
    self._digest, self._source = source.digest(), source

  def add(self, block: np.ndarray, first: int) -> None:
    """Adds samples (n, S, C) that begin at number `first`; calls come in order."""
    self._digest.update(_bytes(self._source.hashed(block)))

  def hexdigest(self) -> str:
    return self._digest.hexdigest()


class GrainHash:
  """A hash that processes can share: SHA-256 of the source's description and of the SHA-256s of its grains.

  Grain k begins at sample N k / GRAINS. The result does not depend on the number of processes. It differs from that of
  `WholeHash`, for which one process would have to read everything; the prefix `GRAINED` distinguishes the two.
  """

  def __init__(self, source: FeatureSource, alone: bool = False):
    """`source`: all samples. `alone`: this process adds all of them and does not ask the others for theirs."""
    self._digest, self._source, self._samples, self._alone = source.digest(), source, source.samples, alone
    self._done, self._grain, self._open = [], -1, None

  def add(self, block: np.ndarray, first: int) -> None:
    """Adds samples (n, S, C) that begin at number `first`; calls come in order, and the first begins a grain."""
    at = 0
    while at < len(block):
      # The last grain that begins at or before this sample; if N < GRAINS, some grains before it are empty.
      grain = ((first + at + 1) * GRAINS - 1) // self._samples
      if grain != self._grain:
        self._close()
        self._grain, self._open = grain, hashlib.sha256()
      end = min(len(block), (grain + 1) * self._samples // GRAINS - first)
      self._open.update(_bytes(self._source.hashed(block[at:end])))
      at = end

  def _close(self):
    if self._open is not None:
      self._done.append(self._open.digest())
      self._open = None

  def hexdigest(self) -> str:
    """Every process must call this, unless this one is alone."""
    self._close()
    own = b''.join(self._done)
    self._digest.update(own if self._alone else b''.join(processes.gathered(own)))
    return GRAINED + self._digest.hexdigest()


def _energies(block: np.ndarray, first: int) -> tuple[np.ndarray, int]:
  """||Z_i||^2 of (n, S, C) samples as float64, in units of 4^exponent, and that exponent.

  The exponent is 0 if squares stay in range, and `NOTHING` if all samples are zero.

  Raises:
    NonFiniteError: a value is NaN or infinite; the text says where.
  """
  rows = block.reshape(len(block), -1)
  rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)
  with np.errstate(all='ignore'):
    energies = np.vecdot(rows, rows).astype(np.float64)
  unsure = np.flatnonzero(~(np.isfinite(energies) & (energies > 1e-30)))
  if not len(unsure):
    return energies, 0
  for i in unsure:
    finite = np.isfinite(rows[i])
    if not finite.all():
      where = int(np.argmin(finite))
      raise NonFiniteError(
        'features',
        f'{rows[i, where]} in sample {first + i}',
        f'at position {where // block.shape[2]}, channel {where % block.shape[2]} the value is not finite',
        'remove or repair that sample',
      )
  largest = float(np.max(np.abs(rows)))
  exponent = math.frexp(largest)[1] if largest else NOTHING
  if abs(exponent) <= IN_RANGE:
    for i in unsure:
      energies[i] = np.vecdot(rows[i].astype(np.float64), rows[i].astype(np.float64))
    return energies, 0
  for i, row in enumerate(rows):
    row = np.ldexp(row.astype(np.float64), -exponent)
    energies[i] = np.vecdot(row, row)
  return energies, exponent


def prefetched(iterator: Iterator) -> Iterator:
  """The same items; a thread fetches the next one while the caller uses the last."""
  with ThreadPoolExecutor(1) as pool:
    following = pool.submit(next, iterator, None)
    while (item := following.result()) is not None:
      following = pool.submit(next, iterator, None)
      yield item


def block_size(source: FeatureSource, batch: int | None = None) -> int:
  """Samples to read at a time: `batch`, or as many as fill a block, both as stored and as float32."""
  return batch or max(1, BLOCK_BYTES // max(source.sample_bytes, 4 * source.positions * source.channels))


def sha256_of(source: FeatureSource, like: str | None = None) -> str:
  """The hash that `scan` computes, computed by this process alone, in a pass over all samples if that is needed.

  `like`: a hash to compare with; the result is of the same kind.
  """
  if source.defined:
    return source.digest().hexdigest()
  digest, first = GrainHash(source, alone=True) if is_grained(like) else WholeHash(source), 0
  for block in source.blocks(block_size(source)):
    digest.add(block, first)
    first += len(block)
  return digest.hexdigest()


def is_grained(sha256: str | None) -> bool:
  return sha256 is not None and sha256.startswith(GRAINED)


def scan(
  source: FeatureSource,
  center: str = 'none',
  on_samples: Callable[[int], None] = lambda n: None,
  *,
  own: FeatureSource | None = None,
  batch: int | None = None,
  hashed: bool = True,
  like: str | None = None,
) -> Scan:
  """One pass: checks that values are finite and computes energies, mean and, if `hashed`, the hash.

  Args:
    source: all samples.
    center: see CENTERS.
    on_samples: called with how many samples of this process are done.
    own: the samples of this process, if they are in memory already.
    batch: samples at a time.
    hashed: whether the hash is needed now; the hash of an array can be computed later.
    like: the hash of an earlier scan; the result is of the same kind. If left out, several processes share the hashing.

  Raises:
    NonFiniteError: with the sample, position and channel.
    InputError: all features are zero (or, centred, all the same).
  """
  if center not in CENTERS:
    raise InputError('center', center, 'unknown', f'give one of {", ".join(CENTERS)}')
  several = processes.several()
  own = own or processes.own_share(source)
  hashed = hashed and not source.defined
  grained = is_grained(like) or (several and like is None)
  digest = (GrainHash(source) if grained else WholeHash(source)) if hashed and (grained or not several) else None
  first = Shares.of(source.samples).first if several else 0
  energies, exponents, sums = [np.zeros(0)], [NOTHING], {}  # sums over samples, by the exponent of their unit

  def read():
    done = 0
    for block in prefetched(own.blocks(block_size(source, batch))):
      if digest is not None:
        digest.add(block, first + done)
      found, exponent = _energies(block, first + done)
      energies.append(found)
      exponents.append(exponent)
      if center != 'none':
        scaled = np.ldexp(block.astype(np.float64), -exponent) if exponent else block
        sums[exponent] = sums.get(exponent, 0) + np.sum(scaled, axis=0, dtype=np.float64)
      done += len(block)
      on_samples(done)

  processes.together(read)
  exponent = -processes.least(-max(exponents))
  energies = [np.ldexp(found, 2 * (e - exponent)) for found, e in zip(energies, exponents, strict=True)]
  energies = processes.gathered_array(np.concatenate(energies))
  N = len(energies)
  if not N:
    raise InputError('features', source.name(), 'it yields no sample', 'give at least one')
  if digest is not None:
    sha256 = digest.hexdigest()
  else:  # one process reads everything, since one process made the earlier hash
    sha256 = processes.from_first(processes.on_first(lambda: sha256_of(source).encode())).decode() if hashed else None
  size = source.positions * source.channels
  uncentred = total = float(energies.sum())
  mean = None
  if center != 'none':
    own_sums = sum((np.ldexp(x, e - exponent) for e, x in sums.items()), np.zeros((source.positions, source.channels)))
    mean = processes.gathered_array(own_sums[None]).sum(axis=0) / N
    mean = mean if center == 'position' else mean.mean(axis=0, keepdims=True)
    full = np.broadcast_to(mean, (source.positions, source.channels))
    total = uncentred - N * float(np.sum(full * full))
    mean = np.ldexp(mean, exponent)
  if uncentred == 0 or total <= 1e-12 * uncentred:
    problem = 'all features are zero' if uncentred == 0 else f'with center={center} nothing is left'
    raise InputError('features', source.name(), problem, 'give features that vary')
  rms = np.sqrt(total / (N * size))
  scale = 2.0 ** float(np.clip(-np.round(np.log2(rms)) - exponent, -1022, 1023))
  return Scan(N, energies, mean, scale, sha256, exponent)
