"""Where feature maps come from: arrays, .npy files of any size, and any object that can be iterated over repeatedly.

A source yields samples in order, as host arrays (n, S, C) in their stored dtype, always channels last; whole numbers
become floating point. Nothing here looks at values.
"""

import contextlib
import copy
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from panda_jax.errors import InputError, refusal
from panda_jax.features.checks import (
  as_array,
  checked_grid,
  checked_layout,
  checked_samples,
  checked_shape,
  notes,
  readable_dtype,
  stacked,
  widened,
)
from panda_jax.files.access import open_regular
from panda_jax.files.arrays import NUMBERS, SAVED, read_header

Source = TypeVar('Source', bound='FeatureSource')


class FeatureSource:
  """Samples that can be passed over as often as needed.

  Attributes:
    samples: N, or None if only a pass can find it.
    grid: (H, W).
    channels: how many, C.
    dtype: that of the stored values.
    kind: 'array', 'file', 'iterable' or 'generator'.
    defined: True: its hash is that of how the features are made; False: that of their values.
    layout: of the given features, 'NHWC' or 'NCHW'; blocks are channels last.
    notes: sentences for the user about the given features.

  Example:
    >>> source = panda_jax.ArraySource(features)
    >>> isinstance(source, panda_jax.FeatureSource), source.name()
    (True, 'array')
    >>> [block.shape for block in source.blocks(size=25)]
    [(25, 16, 3), (15, 16, 3)]
    >>> source.take(np.array([0, 39])).shape
    (2, 16, 3)
    >>> source.window(10, 20).samples, source.part(10, 20).samples
    (10, 10)
    >>> sha256 = source.digest()  # of all values, once a pass has added them
    >>> for block in source.blocks(size=25):
    ...   sha256.update(source.hashed(block))
    >>> sha256.hexdigest() == factors.provenance['sha256']
    True
  """

  samples: int | None
  grid: tuple[int, int]
  channels: int
  dtype: np.dtype
  kind: str
  defined: bool = False
  layout: str = 'NHWC'
  notes: tuple[str, ...] = ()

  @property
  def positions(self) -> int:
    return self.grid[0] * self.grid[1]

  @property
  def sample_bytes(self) -> int:
    return self.positions * self.channels * self.dtype.itemsize

  def digest(self):
    """A new hash object; unless the source is `defined`, a pass adds the bytes of every block to it."""
    return hashlib.sha256(f'{self.grid} {self.channels} {self.dtype.name} '.encode())

  def hashed(self, block: np.ndarray) -> np.ndarray:
    """What the hash is to see of samples (n, S, C) that `blocks` gave."""
    return block

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

  def window(self, first: int, last: int) -> 'FeatureSource':
    """The samples from `first` to `last` as a source of its own, with a hash of its own; see `part`."""
    return self.part(first, last)

  def take(self, indices: np.ndarray) -> np.ndarray:
    """The samples at sorted `indices`, (len(indices), S, C)."""
    wanted, found, first = set(indices.tolist()), [], 0
    for block in self.blocks(max(1, min(len(indices), 256))):
      inside = [i for i in range(len(block)) if first + i in wanted]
      if inside:
        found.append(np.asarray(block)[inside])
      first += len(block)
    return np.concatenate(found)


def limited(source: Source, samples: int, **changes) -> Source:
  """A copy with another number of samples and other attributes."""
  part = copy.copy(source)
  vars(part).update(samples=samples, **changes)
  return part


class ArraySource(FeatureSource):
  """An array in memory; numpy, JAX, or anything numpy can view.

  Args:
    features: (N, H, W, C), or (N, S, C) with a grid; with layout 'NCHW' (N, C, H, W), or (N, C, S). Whole numbers are
      taken too.
    grid: (H, W).
    samples: only the first `samples` samples.
    layout: 'NHWC' or 'NCHW'; 'NHWC' if left out, with a note if the shape looks like the other.

  Raises:
    InputError: features of another type or shape, or another argument that does not fit.

  Example:
    >>> source = panda_jax.ArraySource(features, samples=30)
    >>> source.samples, source.grid, source.channels
    (30, (4, 4), 3)
    >>> panda_jax.ArraySource.of_samples(features[:0].reshape(0, 16, 3), grid=(4, 4)).samples  # there may be none
    0
  """

  kind = 'array'
  samples: int

  def __init__(
    self, features, grid: tuple[int, int] | None = None, samples: int | None = None, layout: str | None = None
  ):
    first, grid, array = checked_layout(layout), checked_grid(grid), as_array(features)
    stored = readable_dtype(array.dtype, 'features')
    if not array.dtype.isnative and array.dtype.kind in 'fiu':
      array = array.astype(stored := stored.newbyteorder('='))
    N, H, W, C = checked_shape(array.shape, grid, 'features', first)
    self.samples = checked_samples(samples, N)
    self.grid, self.channels, self.dtype = (H, W), C, widened(stored)
    self.layout, self.notes = 'NCHW' if first else 'NHWC', notes(array.shape, grid, layout)
    array = array.view(stored)
    array = array.reshape(N, C, H * W).transpose(0, 2, 1) if first else array.reshape(N, H * W, C)
    self._array = array[: self.samples]

  @classmethod
  def of_samples(cls, array: np.ndarray, grid: tuple[int, int]) -> 'ArraySource':
    """Of checked samples (N, S, C); of several processes, one may have none."""
    source = cls(np.zeros((1, *array.shape[1:]), array.dtype), grid)
    return limited(source, len(array), _array=array)

  def part(self, first, last):
    return limited(self, last - first, _array=self._array[first:last])

  def _given(self, samples: np.ndarray) -> np.ndarray:
    """Samples (n, S, C) with channels last and in floating point: copied only if they were not."""
    samples = samples.astype(self.dtype, copy=False)
    return np.ascontiguousarray(samples) if self.layout == 'NCHW' else samples

  def blocks(self, size):
    for first in range(0, self.samples, size):
      yield self._given(self._array[first : first + size])

  def take(self, indices):
    return self._given(self._array[indices])


class NpySource(FeatureSource):
  """A .npy file, read in blocks (never mapped, so that the process shows the memory that it really uses).

  Args:
    path: of an array as `ArraySource` takes it.
    grid, samples, layout: see `ArraySource`. Channels that come first are moved block by block.

  Raises:
    InputError: see `ArraySource`; there is no such file, it is not numpy's, or not in this machine's byte order.

  Example:
    >>> np.save('features.npy', features)
    >>> source = panda_jax.NpySource('features.npy')
    >>> source.name(), source.samples
    ('features.npy', 40)
  """

  kind = 'file'
  samples: int

  def __init__(
    self,
    path: str | os.PathLike,
    grid: tuple[int, int] | None = None,
    samples: int | None = None,
    layout: str | None = None,
  ):
    first, grid = checked_layout(layout), checked_grid(grid)
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
    self._stored = readable_dtype(header.dtype, 'features')
    if not self._stored.isnative:
      raise InputError('features', path, 'its bytes are in the other order', 'save it in native byte order')
    if header.fortran:
      raise InputError(
        'features', path, 'it is stored in Fortran order', 'save numpy.ascontiguousarray(features) instead'
      )
    N, H, W, C = checked_shape(header.shape, grid, 'features', first)
    self.grid, self.channels, self.dtype = (H, W), C, widened(self._stored)
    self.layout, self.notes = 'NCHW' if first else 'NHWC', notes(header.shape, grid, layout)
    self.samples = checked_samples(samples, N)

  @property
  def _stored_bytes(self) -> int:
    """Bytes of one sample in the file."""
    return self.positions * self.channels * self._stored.itemsize

  def hashed(self, block):
    block = block.astype(self._stored, copy=False)
    return block.transpose(0, 2, 1) if self.layout == 'NCHW' else block

  def name(self):
    return self.path.name

  def part(self, first, last):
    return limited(self, last - first, _offset=self._offset + first * self._stored_bytes)

  def digest(self):
    return hashlib.sha256(self._header)  # with all samples read, the result is the SHA-256 of the file

  def _found(self) -> tuple[int, int]:
    """Size and time of the last change of the file."""
    found = self.path.stat()
    return found.st_size, found.st_mtime_ns

  @contextlib.contextmanager
  def _opened(self):
    """The open file. It must stay as it was at first: this is checked at the beginning and the end of every pass."""

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
      raise refusal('features', self.path, 'it can no longer be read', error, remedy) from error

  def _read(self, file, count: int) -> np.ndarray:
    sizes = (self.channels, self.positions) if self.layout == 'NCHW' else (self.positions, self.channels)
    block = np.empty((count, *sizes), self._stored)
    memory, done = block.view(np.uint8).reshape(-1), 0
    while done < block.nbytes:  # one read takes 2 GB at most, and some file systems give fewer
      read = file.readinto(memory[done:])
      if not read:
        raise InputError('features', self.path, 'it became shorter while it was read', 'do not change it during a fit')
      done += read
    if self.layout == 'NCHW':
      block = block.transpose(0, 2, 1)
    return np.ascontiguousarray(block, self.dtype)

  def blocks(self, size):
    with self._opened() as file:
      file.seek(self._offset)
      for first in range(0, self.samples, size):
        yield self._read(file, min(size, self.samples - first))

  def take(self, indices):
    out = np.empty((len(indices), self.positions, self.channels), self.dtype)
    with self._opened() as file:
      for row, index in zip(out, indices, strict=True):
        file.seek(self._offset + int(index) * self._stored_bytes)
        row[...] = self._read(file, 1)[0]
    return out


class IterableSource(FeatureSource):
  """Any object whose iteration yields batches, the same ones each time.

  A list of arrays, a data loader, or a class with `__iter__`. A generator can be passed over only once: wrap it in a
  function and give the function; it is called for every pass.

  Args:
    batches: it; each batch is an array as `ArraySource` takes it.
    grid, samples, layout: see `ArraySource`.

  Raises:
    InputError: see `ArraySource`; there is no batch, or it can be passed over only once.

  Example:
    >>> source = panda_jax.IterableSource([features[:20], features[20:]])
    >>> sum(len(block) for block in source.blocks(size=16))
    40
  """

  kind = 'iterable'

  def __init__(
    self,
    batches: Iterable | Callable[[], Iterable],
    grid: tuple[int, int] | None = None,
    samples: int | None = None,
    layout: str | None = None,
  ):
    channels_first, grid = checked_layout(layout), checked_grid(grid)
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
    first = as_array(first)
    self._stored = readable_dtype(first.dtype, 'features')
    self.dtype = widened(self._stored)
    _, H, W, self.channels = checked_shape(first.shape, grid, 'features', channels_first)
    self.grid = (H, W)
    self.layout, self.notes = 'NCHW' if channels_first else 'NHWC', notes(first.shape, grid, layout)
    self.samples = None
    self._limit = math.inf if samples is None else checked_samples(samples, math.inf)

  def _checked(self, batch) -> np.ndarray:
    """A batch as (n, S, C).

    Raises:
      InputError: it differs from the first in shape or type.
    """
    batch = as_array(batch)
    S, C, grid = self.positions, self.channels, self.grid
    sizes = ((C, S), (C, *grid)) if self.layout == 'NCHW' else ((S, C), (*grid, C))
    if readable_dtype(batch.dtype, 'features') != self._stored or batch.shape[1:] not in sizes:
      raise InputError(
        'features',
        f'batch of shape {batch.shape} and type {batch.dtype}',
        f'the first had grid {self.grid}, {self.channels} channels and type {self._stored}',
        'make all batches alike',
      )
    batch = batch.view(self._stored).astype(self.dtype, copy=False).reshape(-1, *sizes[0])
    return np.ascontiguousarray(batch.transpose(0, 2, 1)) if self.layout == 'NCHW' else batch

  def blocks(self, size):
    held, seen = [], 0
    for batch in self._make():
      batch = self._checked(batch)
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


def _is_whole_file(mapped: np.memmap) -> bool:
  """Whether a mapped array is the whole of a .npy file, unchanged.

  Such a file is read, not mapped: if it were cut while mapped, the next access would kill the process.
  """
  if mapped.filename is None or mapped.mode == 'c' or not mapped.flags.c_contiguous:
    return False
  try:
    file = np.load(mapped.filename, mmap_mode='r')
  except (OSError, ValueError):
    return False
  return (file.shape, file.dtype, file.offset) == (mapped.shape, mapped.dtype, mapped.offset)


def as_source(
  features, grid: tuple[int, int] | None = None, samples: int | None = None, layout: str | None = None
) -> FeatureSource:
  """A `FeatureSource` for whatever the caller has.

  Args:
    features: an array (N, H, W, C) or (N, S, C); a list of maps (H, W, C) of one shape; the path of a .npy file, or
      `numpy.load(path, mmap_mode='r')`, which is read like it; a `FeatureSource`; or an object that can be iterated
      over repeatedly and yields batches (a function that returns an iterator counts).
    grid: (H, W), needed for (N, S, C) only.
    samples: use only the first `samples` samples.
    layout: 'NHWC' (channels last) or 'NCHW' (channels first: (N, C, H, W), or (N, C, S) with a grid); 'NHWC' if left
      out, with a note if the shape looks like the other.

  Raises:
    InputError: wrong type, shape, grid or layout; an object that can be passed over only once; a `FeatureSource` of
      another grid, number of samples or layout than requested.
  """
  grid = checked_grid(grid)
  checked_layout(layout)
  if isinstance(features, FeatureSource):
    asked = {'grid': grid, 'samples': samples, 'layout': layout}
    for name, value in asked.items():
      if value is not None and value != getattr(features, name):
        problem = f'the source has {getattr(features, name)}'
        raise InputError(name, value, problem, 'leave it out, or give it where the source is made')
    return features
  if isinstance(features, str | os.PathLike):
    return NpySource(features, grid, samples, layout)
  if isinstance(features, np.memmap) and features.filename is not None and _is_whole_file(features):
    return NpySource(features.filename, grid, samples, layout)
  if isinstance(features, list | tuple):
    whole = stacked(features, grid)
    features = features if whole is None else whole
  if hasattr(features, '__array__'):
    return ArraySource(features, grid, samples, layout)
  if callable(features) or hasattr(features, '__iter__'):
    return IterableSource(features, grid, samples, layout)
  raise InputError(
    'features', type(features).__name__, 'it is neither an array, a path nor batches', 'give one of those'
  )
