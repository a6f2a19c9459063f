"""Where feature maps come from: arrays, .npy files of any size, and anything that can be passed over repeatedly.

A source yields samples in order, as host arrays (n, S, C), channels last whatever the layout of what it was given, in
their stored dtype; whole numbers become floating point. Nothing here looks at values.
"""

import contextlib
import copy
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import ml_dtypes
import numpy as np

from panda_jax.errors import InputError, refusal
from panda_jax.files.access import open_regular
from panda_jax.files.arrays import NUMBERS, SAVED, read_header

FLOATS = ('float16', 'bfloat16', 'float32', 'float64')
LAYOUTS = ('NHWC', 'NCHW')


def _readable_dtype(dtype: np.dtype, argument: str) -> np.dtype:
  """The dtype to read as. numpy stores bfloat16 as two opaque bytes, so those are read as bfloat16."""
  dtype = np.dtype(dtype)
  if dtype.kind == 'V' and dtype.itemsize == 2 and dtype.names is None:
    return np.dtype(ml_dtypes.bfloat16)
  if dtype.name in FLOATS or dtype.kind in 'iu':
    return dtype
  remedy = f'save them as one of {", ".join(FLOATS)}, or as whole numbers'
  raise InputError(argument, dtype.name, 'features must be real numbers', remedy)


def _widened(dtype: np.dtype) -> np.dtype:
  """The dtype of samples: whole numbers become the floating point that holds them exactly (up to 2^53)."""
  if dtype.kind not in 'iu':
    return dtype
  return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def _checked_grid(grid) -> tuple[int, int] | None:
  """(H, W), or None where no grid is given.

  Raises:
    InputError: it is not two positive whole numbers.
  """
  if grid is None:
    return None
  numbers = [grid] if isinstance(grid, str) or not hasattr(grid, '__len__') else list(grid)
  whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in numbers)
  if len(numbers) != 2 or not whole or min(numbers) < 1:
    raise InputError('grid', grid, 'it is not two positive whole numbers', 'give (H, W), such as (8, 8)')
  return int(numbers[0]), int(numbers[1])


def _checked_layout(layout: str | None) -> bool:
  """Whether features are channels first.

  Raises:
    InputError: there is no such layout.
  """
  if layout is not None and layout not in LAYOUTS:
    raise InputError('layout', layout, 'unknown', f'give one of {", ".join(LAYOUTS)}')
  return layout == 'NCHW'


def looks_channels_first(shape: tuple[int, ...]) -> bool:
  """Whether (N, d1, d2, d3) is rather (N, C, H, W): the last two axes are equal, and the one before them differs."""
  return len(shape) == 4 and shape[2] == shape[3] != shape[1]


def _notes(shape: tuple[int, ...], grid: tuple[int, int] | None, layout: str | None) -> tuple[str, ...]:
  """What a person should look at; nothing where the layout or the grid was given."""
  if layout is not None or grid is not None or not looks_channels_first(shape):
    return ()
  return (
    f'features of shape {"x".join(map(str, shape))} look like channels first; transpose them with '
    "features.transpose(0, 2, 3, 1), or give layout='NCHW' (if they are channels last, layout='NHWC')",
  )


def _checked_shape(
  shape: tuple[int, ...], grid: tuple[int, int] | None, argument: str, first: bool = False
) -> tuple[int, int, int, int]:
  """(N, H, W, C) from a shape and the grid that an (N, S, C) shape needs; channels `first`: (N, C, H, W), (N, C, S)."""
  text = 'x'.join(map(str, shape))
  whole, flat = ('(N, C, H, W), channels first', '(N, C, S)') if first else ('(N, H, W, C), channels last', '(N, S, C)')
  if len(shape) not in (3, 4):
    one = ', features[None] for one sample' if len(shape) == 2 else ''
    raise InputError(
      argument, f'shape {text}', f'features have {len(shape)} dimensions', f'give {whole}, or {flat} with a grid{one}'
    )
  if 0 in shape:
    raise InputError(
      argument, f'shape {text}', 'there is nothing in it', 'give at least one sample, position and channel'
    )
  # Where the other layout would fit a given grid, that is what is wrong.
  other = "'NHWC'" if first else "'NCHW'"
  if len(shape) == 4:
    N, H, W, C = (shape[0], *shape[2:], shape[1]) if first else shape
    if grid is not None and grid != (H, W):
      turned = grid == (shape[1:3] if first else shape[2:])
      remedy = f'give layout={other}' if turned else 'leave the grid out'
      raise InputError('grid', f'{grid[0]},{grid[1]}', f'the features have the grid {H},{W}', remedy)
    return N, H, W, C
  S, C = (shape[2], shape[1]) if first else shape[1:]
  if grid is None:
    remedy = f'give grid=H,W with H*W={S}, or features[None] where this is one map'
    raise InputError(argument, f'shape {text}', 'the grid of flattened positions is not known', remedy)
  if grid[0] * grid[1] != S:
    remedy = f'give layout={other}' if grid[0] * grid[1] == C else 'give H,W whose product is that'
    raise InputError('grid', f'{grid[0]},{grid[1]}', f'the features have {S} positions', remedy)
  return shape[0], *grid, C


def _as_array(features, argument: str = 'features') -> np.ndarray:
  """A numpy array of anything that numpy can view, such as an array of JAX or PyTorch.

  Raises:
    InputError: it cannot.
  """
  if np.ma.is_masked(features):
    raise InputError(argument, 'masked array', 'entries that are masked have no value', 'fill them, or leave them out')
  try:
    return np.asarray(features)
  except Exception as error:  # of other libraries
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise InputError(
      argument, type(features).__name__, f'it cannot be made an array ({said[:80]})', 'give a numpy array'
    ) from error


Source = TypeVar('Source', bound='FeatureSource')


class FeatureSource:
  """Samples that can be passed over as often as needed.

  Attributes:
    samples: N, or None if only a pass can tell.
    grid: (H, W).
    channels: C.
    dtype: of the stored values.
    kind: 'array', 'file', 'iterable' or 'generator'.
    defined: its hash is of how the features are made; otherwise it is of their values.
    layout: of what it was given, see `LAYOUTS`.
    notes: sentences for a person about what it was given.
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
    """A fresh hash object, to which a pass adds the bytes of every block it reads unless the source is `defined`."""
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
    samples: only the first so many.
    layout: 'NHWC' or 'NCHW'; 'NHWC' if left out, with a note where the shape looks like the other.

  Raises:
    InputError: features of another type or shape, or another argument that does not fit.
  """

  kind = 'array'

  def __init__(
    self, features, grid: tuple[int, int] | None = None, samples: int | None = None, layout: str | None = None
  ):
    first, grid, array = _checked_layout(layout), _checked_grid(grid), _as_array(features)
    stored = _readable_dtype(array.dtype, 'features')
    if not array.dtype.isnative and array.dtype.kind in 'fiu':
      array = array.astype(stored := stored.newbyteorder('='))
    N, H, W, C = _checked_shape(array.shape, grid, 'features', first)
    self.samples = _checked_samples(samples, N)
    self.grid, self.channels, self.dtype = (H, W), C, _widened(stored)
    self.layout, self.notes = 'NCHW' if first else 'NHWC', _notes(array.shape, grid, layout)
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
    """Samples (n, S, C) as they are passed on: where they were channels first or whole numbers, a copy."""
    samples = samples.astype(self.dtype, copy=False)
    return np.ascontiguousarray(samples) if self.layout == 'NCHW' else samples

  def blocks(self, size):
    for first in range(0, self.samples, size):
      yield self._given(self._array[first : first + size])

  def take(self, indices):
    return self._given(self._array[indices])


class NpySource(FeatureSource):
  """A .npy file, read in blocks (never mapped, so that memory in use is what is seen to be in use).

  Args:
    path: of an array as `ArraySource` takes it.
    grid, samples, layout: as of `ArraySource`. Channels that come first are moved block by block.

  Raises:
    InputError: as of `ArraySource`; there is no such file, it is none of numpy's, or not in this machine's byte order.
  """

  kind = 'file'

  def __init__(
    self,
    path: str | os.PathLike,
    grid: tuple[int, int] | None = None,
    samples: int | None = None,
    layout: str | None = None,
  ):
    first, grid = _checked_layout(layout), _checked_grid(grid)
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
    self._stored = _readable_dtype(header.dtype, 'features')
    if not self._stored.isnative:
      raise InputError('features', path, 'its bytes are in the other order', 'save it in native byte order')
    if header.fortran:
      raise InputError(
        'features', path, 'it is stored in Fortran order', 'save numpy.ascontiguousarray(features) instead'
      )
    N, H, W, C = _checked_shape(header.shape, grid, 'features', first)
    self.grid, self.channels, self.dtype = (H, W), C, _widened(self._stored)
    self.layout, self.notes = 'NCHW' if first else 'NHWC', _notes(header.shape, grid, layout)
    self.samples = _checked_samples(samples, N)

  @property
  def _stored_bytes(self) -> int:
    """Of one sample in the file."""
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
    sizes = (self.channels, self.positions) if self.layout == 'NCHW' else (self.positions, self.channels)
    block = np.empty((count, *sizes), self._stored)
    memory, done = block.view(np.uint8).reshape(-1), 0
    while done < block.nbytes:  # one read takes 2 GB at most, and some file systems give less
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
  """Any object whose iteration yields batches, the same ones every time.

  A list of arrays, a data loader, or a class with `__iter__`. A generator can be passed over only once: wrap it in a
  function and give the function; it is called for every pass.

  Args:
    batches: it; each batch is an array as `ArraySource` takes it.
    grid, samples, layout: as of `ArraySource`.

  Raises:
    InputError: as of `ArraySource`; there is no batch, or it can be passed over only once.
  """

  kind = 'iterable'

  def __init__(
    self,
    batches: Iterable | Callable[[], Iterable],
    grid: tuple[int, int] | None = None,
    samples: int | None = None,
    layout: str | None = None,
  ):
    channels_first, grid = _checked_layout(layout), _checked_grid(grid)
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
    first = _as_array(first)
    self._stored = _readable_dtype(first.dtype, 'features')
    self.dtype = _widened(self._stored)
    _, H, W, self.channels = _checked_shape(first.shape, grid, 'features', channels_first)
    self.grid = (H, W)
    self.layout, self.notes = 'NCHW' if channels_first else 'NHWC', _notes(first.shape, grid, layout)
    self.samples = None
    self._limit = math.inf if samples is None else _checked_samples(samples, math.inf)

  def _checked(self, batch) -> np.ndarray:
    """A batch as (n, S, C).

    Raises:
      InputError: it is not like the first.
    """
    batch = _as_array(batch)
    S, C, grid = self.positions, self.channels, self.grid
    sizes = ((C, S), (C, *grid)) if self.layout == 'NCHW' else ((S, C), (*grid, C))
    if _readable_dtype(batch.dtype, 'features') != self._stored or batch.shape[1:] not in sizes:
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


def _stacked(maps: list | tuple, grid: tuple[int, int] | None) -> np.ndarray | None:
  """A list of single maps, (H, W, C) each or (S, C) with a grid, as one array; None for a list of batches.

  Raises:
    InputError: maps of different shapes.
  """
  first = _as_array(maps[0]) if len(maps) else np.zeros(())
  if first.ndim != (3 if grid is None else 2):
    return None
  arrays = [first, *map(_as_array, maps[1:])]
  for number, array in enumerate(arrays):
    if array.shape != first.shape:
      found, wanted = ('x'.join(map(str, shape)) for shape in (array.shape, first.shape))
      problem = f'the first has shape {wanted}'
      raise InputError('features', f'map {number} of shape {found}', problem, 'give maps of one shape')
  return np.stack(arrays)


def as_source(
  features, grid: tuple[int, int] | None = None, samples: int | None = None, layout: str | None = None
) -> FeatureSource:
  """A `FeatureSource` for whatever the caller has.

  Args:
    features: an array (N, H, W, C) or (N, S, C); a list of maps (H, W, C) of one shape; the path of a .npy file, or
      `numpy.load(path, mmap_mode='r')`, which is read like it; a `FeatureSource`; or an object that can be iterated
      over repeatedly and yields batches (a function that returns an iterator counts).
    grid: (H, W), needed for (N, S, C) only.
    samples: use the first so many samples only.
    layout: 'NHWC' (channels last) or 'NCHW' (channels first: (N, C, H, W), or (N, C, S) with a grid); 'NHWC' if left
      out, with a note where the shape looks like the other.

  Raises:
    InputError: wrong type, shape, grid or layout; an object that can be passed over only once; a `FeatureSource` of
      another grid, number of samples or layout than asked for.
  """
  grid = _checked_grid(grid)
  _checked_layout(layout)
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
    stacked = _stacked(features, grid)
    features = features if stacked is None else stacked
  if hasattr(features, '__array__'):
    return ArraySource(features, grid, samples, layout)
  if callable(features) or hasattr(features, '__iter__'):
    return IterableSource(features, grid, samples, layout)
  raise InputError(
    'features', type(features).__name__, 'it is neither an array, a path nor batches', 'give one of those'
  )
