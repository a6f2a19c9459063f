"""Where feature maps come from: arrays, .npy files of any size, and anything that can be passed over repeatedly.

A source yields samples in order, as host arrays (n, S, C) in their stored dtype. Nothing here looks at values.
"""

import contextlib
import copy
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from panda_jax.errors import InputError, refusal
from panda_jax.files.access import open_regular
from panda_jax.files.arrays import NUMBERS, SAVED, read_header

FLOATS = ('float16', 'bfloat16', 'float32', 'float64')


def _checked_dtype(dtype: np.dtype, argument: str) -> np.dtype:
  """The dtype to read as. numpy stores bfloat16 as two opaque bytes, so those are read as bfloat16."""
  dtype = np.dtype(dtype)
  if dtype.kind == 'V' and dtype.itemsize == 2 and dtype.names is None:
    return np.dtype(ml_dtypes.bfloat16)
  if dtype.name in FLOATS:
    return dtype
  raise InputError(argument, dtype.name, 'features must be floating point', f'save them as one of {", ".join(FLOATS)}')


def _checked_shape(shape: tuple[int, ...], grid: tuple[int, int] | None, argument: str) -> tuple[int, int, int, int]:
  """(N, H, W, C) from a shape and the grid that an (N, S, C) shape needs."""
  text = 'x'.join(map(str, shape))
  if len(shape) not in (3, 4):
    raise InputError(
      argument,
      f'shape {text}',
      f'features have {len(shape)} dimensions',
      'give (N, H, W, C), channels last, or (N, S, C) with a grid',
    )
  if 0 in shape:
    raise InputError(
      argument, f'shape {text}', 'there is nothing in it', 'give at least one sample, position and channel'
    )
  if len(shape) == 4:
    if grid is not None and tuple(grid) != tuple(shape[1:3]):
      raise InputError(
        'grid', f'{grid[0]},{grid[1]}', f'the features have the grid {shape[1]},{shape[2]}', 'leave the grid out'
      )
    return tuple(shape)
  if grid is None:
    raise InputError(
      argument, f'shape {text}', 'the grid of flattened positions is not known', f'give grid=H,W with H*W={shape[1]}'
    )
  if grid[0] * grid[1] != shape[1]:
    raise InputError(
      'grid', f'{grid[0]},{grid[1]}', f'the features have {shape[1]} positions', 'give H,W whose product is that'
    )
  return shape[0], grid[0], grid[1], shape[2]


class FeatureSource:
  """Samples that can be passed over as often as needed.

  Attributes:
    samples: N, or None if only a pass can tell.
    grid: (H, W).
    channels: C.
    dtype: of the stored values.
    kind: 'array', 'file', 'iterable' or 'generator'.
    defined: its hash is of how the features are made; otherwise it is of their values.
  """

  samples: int | None
  grid: tuple[int, int]
  channels: int
  dtype: np.dtype
  kind: str
  defined: bool = False

  @property
  def positions(self) -> int:
    return self.grid[0] * self.grid[1]

  @property
  def sample_bytes(self) -> int:
    return self.positions * self.channels * self.dtype.itemsize

  def digest(self):
    """A fresh hash object, to which a pass adds the bytes of every block it reads unless the source is `defined`."""
    return hashlib.sha256(f'{self.grid} {self.channels} {self.dtype.name} '.encode())

  def name(self) -> str:
    """What the provenance calls this source."""
    return self.kind

  def blocks(self, size: int) -> Iterator[np.ndarray]:
    """All samples in order, (n, S, C) with n <= size."""
    raise NotImplementedError

  def part(self, first: int, last: int) -> 'FeatureSource':
    """The samples from `first` to `last` as a source; of several processes each reads its own part only.

    Raises:
      InputError: this kind of source can only be read from its beginning.
    """
    raise InputError('features', self.name(), 'it cannot be shared out between processes', 'save it as a .npy file')

  def take(self, indices: np.ndarray) -> np.ndarray:
    """The samples at sorted `indices`, (len(indices), S, C)."""
    wanted, found, first = set(indices.tolist()), [], 0
    for block in self.blocks(max(1, min(len(indices), 256))):
      inside = [i for i in range(len(block)) if first + i in wanted]
      if inside:
        found.append(np.asarray(block)[inside])
      first += len(block)
    return np.concatenate(found)


def limited(source: FeatureSource, samples: int, **changes) -> FeatureSource:
  """A copy with another number of samples and other attributes."""
  part = copy.copy(source)
  vars(part).update(samples=samples, **changes)
  return part


class ArraySource(FeatureSource):
  """An array in memory, (N, H, W, C), or (N, S, C) with a grid; numpy, JAX or anything numpy can view."""

  kind = 'array'

  def __init__(self, features, grid: tuple[int, int] | None = None, samples: int | None = None):
    if np.ma.is_masked(features):
      raise InputError(
        'features', 'masked array', 'entries that are masked have no value', 'fill them, or leave them out'
      )
    array = np.asarray(features)
    dtype = _checked_dtype(array.dtype, 'features')
    if not array.dtype.isnative and array.dtype.kind == 'f':
      array = array.astype(dtype := dtype.newbyteorder('='))
    N, H, W, C = _checked_shape(array.shape, grid, 'features')
    self.samples = _checked_samples(samples, N)
    self.grid, self.channels, self.dtype = (H, W), C, dtype
    self._array = array.view(dtype).reshape(N, H * W, C)[: self.samples]

  @classmethod
  def of_samples(cls, array: np.ndarray, grid: tuple[int, int]) -> 'ArraySource':
    """Of checked samples (N, S, C); of several processes, one may have none."""
    source = cls(np.zeros((1, *array.shape[1:]), array.dtype), grid)
    return limited(source, len(array), _array=array)

  def part(self, first, last):
    return limited(self, last - first, _array=self._array[first:last])

  def blocks(self, size):
    for first in range(0, self.samples, size):
      yield self._array[first : first + size]

  def take(self, indices):
    return self._array[indices]


class NpySource(FeatureSource):
  """A .npy file, read in blocks (never mapped, so that memory in use is what is seen to be in use)."""

  kind = 'file'

  def __init__(self, path: str | os.PathLike, grid: tuple[int, int] | None = None, samples: int | None = None):
    self.path = Path(path)
    if not os.path.exists(path):
      raise InputError('features', path, 'there is no such file', 'give the path of a .npy file')
    with open_regular(path, 'features', SAVED) as file:
      self._state = self._found()
      try:
        header = read_header(file, self._state[0], NUMBERS + 'V')
        self._offset = header.offset
        file.seek(0)
        self._header = file.read(self._offset)
      except (OSError, ValueError) as error:
        raise refusal('features', path, 'it cannot be read', error, SAVED) from error
    self.dtype = _checked_dtype(header.dtype, 'features')
    if not self.dtype.isnative:
      raise InputError('features', path, 'its bytes are in the other order', 'save it in native byte order')
    if header.fortran:
      raise InputError(
        'features', path, 'it is stored in Fortran order', 'save numpy.ascontiguousarray(features) instead'
      )
    N, H, W, C = _checked_shape(header.shape, grid, 'features')
    self.grid, self.channels = (H, W), C
    self.samples = _checked_samples(samples, N)

  def name(self):
    return self.path.name

  def part(self, first, last):
    return limited(self, last - first, _offset=self._offset + first * self.sample_bytes)

  def digest(self):
    return hashlib.sha256(self._header)  # with all samples read, the result is the SHA-256 of the file

  def _found(self) -> tuple[int, int]:
    """Size and time of the last change."""
    found = self.path.stat()
    return found.st_size, found.st_mtime_ns

  @contextlib.contextmanager
  def _opened(self):
    """The open file, which must be the same at every pass, and at its end, as it was at first."""

    def check():
      now = self._found()
      if now != self._state:
        size = 'its size is the same' if now[0] == self._state[0] else f'from {self._state[0]} to {now[0]} bytes'
        raise InputError(
          'features',
          self.path,
          f'it changed during the fit ({size})',
          'start again with the file as it is now, or with a copy of what it was',
        )

    try:
      with self.path.open('rb', buffering=0) as file:
        check()
        yield file
      check()
    except OSError as error:
      remedy = 'start again once it is back'
      raise refusal('features', self.path, 'it cannot be read any more', error, remedy) from error

  def _read(self, file, count: int) -> np.ndarray:
    block = np.empty((count, self.positions, self.channels), self.dtype)
    memory, done = block.view(np.uint8).reshape(-1), 0
    while done < block.nbytes:  # one read takes 2 GB at most, and some file systems give less
      read = file.readinto(memory[done:])
      if not read:
        raise InputError('features', self.path, 'it became shorter while it was read', 'do not change it during a fit')
      done += read
    return block

  def blocks(self, size):
    with self._opened() as file:
      file.seek(self._offset)
      for first in range(0, self.samples, size):
        yield self._read(file, min(size, self.samples - first))

  def take(self, indices):
    out = np.empty((len(indices), self.positions, self.channels), self.dtype)
    with self._opened() as file:
      for row, index in zip(out, indices, strict=True):
        file.seek(self._offset + int(index) * self.sample_bytes)
        row[...] = self._read(file, 1)[0]
    return out


class IterableSource(FeatureSource):
  """Any object whose iteration yields batches, (n, H, W, C) or (n, S, C) with a grid, the same ones every time.

  A list of arrays, a data loader, or a class with `__iter__`. A generator can be passed over only once: wrap it in a
  function and give the function; it is called for every pass.
  """

  kind = 'iterable'

  def __init__(
    self,
    batches: Iterable | Callable[[], Iterable],
    grid: tuple[int, int] | None = None,
    samples: int | None = None,
  ):
    self._make = batches if callable(batches) else lambda: batches
    if not callable(batches) and iter(batches) is batches:
      raise InputError(
        'features',
        type(batches).__name__,
        'it can be passed over only once, and a fit needs several passes',
        'give a list of batches, or a function that returns a new iterator at each call',
      )
    first = next(iter(self._make()), None)
    if first is None:
      raise InputError('features', type(batches).__name__, 'it yields no batch', 'give at least one sample')
    first = np.asarray(first)
    self.dtype = _checked_dtype(first.dtype, 'features')
    _, H, W, self.channels = _checked_shape(first.shape, grid, 'features')
    self.grid = (H, W)
    self.samples = None
    self._limit = math.inf if samples is None else _checked_samples(samples, math.inf)

  def blocks(self, size):
    held, seen = [], 0
    for batch in self._make():
      batch = np.asarray(batch)
      if _checked_dtype(batch.dtype, 'features') != self.dtype or batch.shape[1:] not in (
        (self.positions, self.channels),
        (*self.grid, self.channels),
      ):
        raise InputError(
          'features',
          f'batch of shape {batch.shape} and type {batch.dtype}',
          f'the first had grid {self.grid}, {self.channels} channels and type {self.dtype}',
          'make all batches alike',
        )
      batch = batch.view(self.dtype).reshape(-1, self.positions, self.channels)
      batch = batch[: int(min(len(batch), self._limit - seen))]
      seen += len(batch)
      held.append(batch)
      while sum(map(len, held)) >= size:
        joined = held[0] if len(held) == 1 else np.concatenate(held)
        yield joined[:size]
        held = [joined[size:]] if len(joined) > size else []
      if seen >= self._limit:
        break
    if held and sum(map(len, held)):
      yield np.concatenate(held)


def _checked_samples(samples, available):
  if samples is None:
    return available
  if isinstance(samples, bool) or not isinstance(samples, int | np.integer):
    raise InputError('samples', samples, 'it is not a whole number', f'give a number from 1 to {available}')
  if samples < 1 or (samples > available):
    raise InputError('samples', samples, f'{available} are there', 'give a number from 1 to that, or leave it out')
  return samples


def _is_whole_file(mapped: np.memmap) -> bool:
  """Whether a mapped array is all of a .npy file, and as it is there.

  Such a file is read instead: were it cut while it is mapped, the process would be killed at the next access.
  """
  if mapped.filename is None or mapped.mode == 'c' or not mapped.flags.c_contiguous:
    return False
  try:
    file = np.load(mapped.filename, mmap_mode='r')
  except (OSError, ValueError):
    return False
  return (file.shape, file.dtype, file.offset) == (mapped.shape, mapped.dtype, mapped.offset)


def as_source(features, grid: tuple[int, int] | None = None, samples: int | None = None) -> FeatureSource:
  """A `FeatureSource` for whatever the caller has.

  Args:
    features: an array (N, H, W, C) or (N, S, C); the path of a .npy file, or `numpy.load(path, mmap_mode='r')`, which
      is read like it; a `FeatureSource`; or an object that can be
      iterated over repeatedly and yields batches (a function that returns an iterator counts).
    grid: (H, W), needed for (N, S, C) only.
    samples: use the first so many samples only.

  Raises:
    InputError: wrong type, shape, or grid; an object that can be passed over only once.
  """
  if isinstance(features, FeatureSource):
    return features
  whole = isinstance(grid, tuple | list) and all(isinstance(n, int | np.integer) and n is not True for n in grid)
  if grid is not None and not (whole and len(grid) == 2 and min(grid) > 0):
    raise InputError('grid', grid, 'it is not two positive whole numbers', 'give (H, W)')
  if isinstance(features, str | os.PathLike):
    return NpySource(features, grid, samples)
  if isinstance(features, np.memmap) and _is_whole_file(features):
    return NpySource(features.filename, grid, samples)
  if hasattr(features, '__array__'):
    return ArraySource(features, grid, samples)
  if callable(features) or hasattr(features, '__iter__'):
    return IterableSource(features, grid, samples)
  raise InputError(
    'features', type(features).__name__, 'it is neither an array, a path nor batches', 'give one of those'
  )
