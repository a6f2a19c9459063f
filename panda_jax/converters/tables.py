"""Conversion by table: each key of the file goes to one target, through one named transform.

A family's table yields entries (key, target, shape in the file, transform). Everything that does not fit is collected,
so that the user sees all of it at once.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from panda_jax.converters.assembly import Conversion, type_problem
from panda_jax.converters.limits import Unknown
from panda_jax.errors import InputError, described
from panda_jax.generators.bounds import LARGEST_RESOLUTION
from panda_jax.generators.layers import ACTIVATIONS

LARGEST_FILTER = 32 * 32
LARGEST_NUMBER = LARGEST_RESOLUTION  # in the name of a block; layers have smaller ones

FUSED_FROM = 128  # resolution from which StyleGAN's fused_scale='auto' fuses
MOST_BLOCKS = LARGEST_RESOLUTION.bit_length() - 2  # from 4x4 up, each doubles the resolution

# name: from the file's layout to ours. Kernels are (out, in, k, k) in PyTorch's files and (k, k, in, out) here.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'as it is': lambda a: a,
  'matrix': lambda a: a.T,
  'kernel': lambda a: a.reshape(a.shape[-4:]).transpose(2, 3, 1, 0),
  'kernel turned': lambda a: a.reshape(a.shape[-4:]).transpose(2, 3, 1, 0)[::-1, ::-1],
  'kernel swapped': lambda a: a.transpose(2, 3, 0, 1),
  'kernel of a pixel': lambda a: a.reshape(a.shape[-4:-2]).T,
  'constant': lambda a: a.reshape(a.shape[-3:]).transpose(1, 2, 0),
  'map': lambda a: a.reshape(*a.shape[-2:], 1),
  'row': lambda a: a.reshape(-1),
  'vector': lambda a: a.reshape(1, 1, -1),
  'scalar': lambda a: a.reshape(()),
  'about one': lambda a: np.asarray(a, np.float32) + 1,
  # For kernels that are (k, k, in, out) already, as TensorFlow's are.
  'turned': lambda a: a[::-1, ::-1],
  'swapped': lambda a: a.swapaxes(2, 3),
  'pixel': lambda a: a[0, 0],
  'matrix to 4x4': lambda a: a.reshape(len(a), -1, 4, 4).transpose(2, 3, 0, 1),
}

# name: from our layout back to the file's, without axes of size one, which the shape in the file adds.
INVERSES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'as it is': lambda a: a,
  'matrix': lambda a: a.T,
  'kernel': lambda a: a.transpose(3, 2, 0, 1),
  'kernel turned': lambda a: a[::-1, ::-1].transpose(3, 2, 0, 1),
  'kernel swapped': lambda a: a.transpose(2, 3, 0, 1),
  'kernel of a pixel': lambda a: a.T,
  'constant': lambda a: a.transpose(2, 0, 1),
  'map': lambda a: a,
  'row': lambda a: a,
  'vector': lambda a: a,
  'scalar': lambda a: a,
  'about one': lambda a: a - 1,
}


class Entry(NamedTuple):
  """One line of a table: the array `key` of the file has `shape` and goes to `target` through `transform`."""

  key: str
  target: str
  shape: tuple[int, ...]
  transform: str = 'as it is'


def backwards(entries: Iterable[Entry], tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """{key in the file: array} of a table, from {target: array} in the generator's layout: inverse of `Table.take`."""
  return {
    key: np.ascontiguousarray(INVERSES[transform](tensors[target])).reshape(shape)
    for key, target, shape, transform in entries
  }


class Table:
  """Takes arrays out of a state dict and records what does not fit.

  Args:
    arrays: {key: array} of the file.

  Attributes:
    tensors, sources, unused, problems, notes, lacking: see assembly.Conversion.
  """

  def __init__(self, arrays: Mapping[str, object]):
    self._arrays = {key: value for key, value in arrays.items() if isinstance(value, np.ndarray)}
    self.tensors: dict[str, np.ndarray] = {}
    self.sources: dict[str, str] = {}
    self.unused: dict[str, str] = {}
    self.problems = [
      f'{key}: {f"{value}, which is not allowed" if isinstance(value, Unknown) else "not an array"}'
      for key, value in arrays.items()
      if key not in self._arrays
    ]
    self.notes: list[str] = []
    self.lacking: dict[str, str] = {}
    self._known: set[str] = set()

  def take(self, entries: Iterable[Entry]) -> None:
    """Converts every entry, or records what is wrong with its key."""
    for key, target, shape, transform in entries:
      array = self.checked(key, shape)
      if array is not None:
        self.tensors[target] = TRANSFORMS[transform](array)
        self.sources[target] = key

  def checked(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array of a key if it exists with this shape and in floating point; else None, and a problem."""
    self._known.add(key)
    array = self._arrays.get(key)
    if array is None:
      self.problems.append(f'{key}: missing')
    elif array.shape != tuple(shape):
      self.problems.append(f'{key}: expected {tuple(shape)}, found {array.shape}')
      return None
    elif problem := type_problem(array):
      self.problems.append(f'{key}: {problem}')
      return None
    return array

  def lacks(self, key: str, axes: int) -> None:
    """Records that a key needed to infer sizes is missing, or does not have this number of axes."""
    found = self._arrays.get(key)
    self.problems.append(
      f'{key}: missing' if found is None else f'{key}: expected an array with {axes} axes, found {found.shape}'
    )

  def leave(self, key: str, reason: str) -> None:
    """Records why a key may be left out."""
    if key in self._arrays:
      self.unused[key] = reason

  def conversion(self, family: str, dialect: str, options: object) -> Conversion:
    """The result; every key that is neither used nor known to be unnecessary is a problem."""
    left = [key for key in self._arrays if key not in self._known and key not in self.unused]
    # If sizes could not be inferred, no key was looked up, so none counts as left over.
    problems = self.problems + ([f'{key}: unknown key' for key in left] if options is not None else [])
    problems = list(dict.fromkeys(problems))
    return Conversion(
      family, dialect, options, self.tensors, self.sources, self.unused, problems, self.notes, self.lacking
    )


def check_grown(table: Table, arrays: Mapping[str, np.ndarray], key: str) -> None:
  """Checks the level of detail: 0 in a network grown to its full size; no other is supported."""
  lod = arrays.get(key)
  if not isinstance(lod, np.ndarray) or lod.size != 1:
    table.problems.append(f'{key}: missing' if lod is None else f'{key}: expected one number')
  elif not float(lod.reshape(())) <= 0:
    grown = float(lod.reshape(()))
    table.problems.append(f'{key}: {grown}, so the network is still growing; give a later file, in which {key} is 0')
  table.leave(key, 'it is 0: the network is grown to its full size')


def number(value: object, whole: bool = False) -> int | float:
  """A number in a file, as Python's own type; numpy's numbers are accepted, and 256.0 is the whole number 256.

  Raises:
    ValueError: it is not a number, not finite, or not whole although it must be.
  """
  if isinstance(value, np.ndarray) and value.shape == ():
    value = value.item()
  if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
    raise ValueError
  if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
    value = int(value)
  if whole and not isinstance(value, int):
    raise ValueError
  return value


def fits(options: object, problems: list[str]) -> bool:
  """Whether a network with these options can exist, so that tables can be made; problems are recorded."""
  try:
    options.check()
  except InputError as error:
    problems.append(f'{error.argument}={described(error.value)}: {error.problem}')
    return False
  return True


def shape_of(arrays: Mapping[str, object], key: str, rank: int) -> tuple[int, ...] | None:
  """The shape of an array if it exists with this number of axes, else None."""
  value = arrays.get(key)
  return value.shape if isinstance(value, np.ndarray) and value.ndim == rank else None


def size_of(arrays: Mapping[str, object], *places: tuple[str, int, int]) -> int | None:
  """A size on which several arrays of a file should agree: the most frequent value, at a tie the first.

  Args:
    arrays: {key: array}.
    places: (key, number of axes, axis) at which the size is found.
  """
  found = [shape[axis] for key, rank, axis in places if (shape := shape_of(arrays, key, rank)) is not None]
  return Counter(found).most_common(1)[0][0] if found else None


def indices(arrays: Iterable[str], pattern: str) -> list[int]:
  """The sorted numbers in the group of a pattern among the keys; numbers beyond any network are left out."""
  found = {int(match[1]) for key in arrays if (match := re.fullmatch(pattern, str(key))) and len(match[1]) < 6}
  return sorted(number for number in found if number <= LARGEST_NUMBER)


def filter_taps(kernel: np.ndarray, gain: float = 1.0) -> tuple:
  """The taps of a stored filter divided by its gain: along one axis if it is separable, else its rows.

  Args:
    kernel: (taps,) of a separable filter, or (rows, columns).
  """
  kernel = np.asarray(kernel, np.float64)
  if kernel.ndim == 1:
    return tuple(map(float, kernel / gain))
  kernel = kernel / gain
  total, rows, columns = kernel.sum(), kernel.sum(axis=1), kernel.sum(axis=0)
  same = rows.shape == columns.shape and total > 0 and np.allclose(rows, columns, rtol=1e-9, atol=0)
  if same and np.abs(np.outer(rows, columns) / total - kernel).max() <= 1e-7 * np.abs(kernel).max():
    return tuple(map(float, rows / np.sqrt(total)))
  return tuple(tuple(map(float, row)) for row in kernel)


def filter_kernel(taps: tuple, gain: float = 1.0) -> np.ndarray:
  """The rows of a filter with its gain, float32, from its taps: the inverse of `filter_taps`."""
  kernel = np.asarray(taps, np.float64)
  kernel = np.outer(kernel, kernel) if kernel.ndim == 1 else kernel
  return np.asarray(kernel * gain, np.float32)


def common_taps(
  table: Table,
  arrays: Mapping[str, np.ndarray],
  keys: Iterable[str],
  *,
  axes: tuple[int, ...],
  gain: float,
  turned: bool = False,
):
  """The taps that all filters of a network share; differences are problems. None if there are no filters.

  Args:
    table: collects the problems.
    arrays: {key: array}.
    keys: of the filters.
    axes: the allowed numbers of axes; axes beyond two have size 1, and the filter is square.
    gain: that they include.
    turned: whether the network correlates with them where ours convolves.
  """
  found = {}
  for key in keys:
    value = arrays.get(key)
    if not isinstance(value, np.ndarray):
      table.problems.append(f'{key}: missing')
      continue
    kernel = value.reshape(value.shape[-2:]) if value.ndim > 2 and set(value.shape[:-2]) == {1} else value
    if (
      value.ndim not in axes
      or kernel.ndim > 2
      or type_problem(value)
      or not 0 < kernel.size <= LARGEST_FILTER
      or not np.isfinite(kernel).all()
    ):
      table.problems.append(
        f'{key}: expected a finite filter with {axes[-1]} axes, found {value.shape} of {value.dtype}'
      )
      table.leave(key, 'a filter')
      continue
    found[key] = filter_taps(kernel[(slice(None, None, -1),) * kernel.ndim] if turned else kernel, gain)
    table.leave(key, 'a fixed filter, kept as an option of the generator')
  if not found:
    return None
  first, taps = next(iter(found.items()))
  table.problems += [f'{key}: another filter than {first}' for key, value in found.items() if value != taps]
  return taps


def chosen_options(options: Mapping[str, str], known: Mapping[str, Callable[[str, str], object]]) -> dict[str, object]:
  """The user's --option values, parsed.

  Args:
    options: {key: text}.
    known: {key: parser of (key, text)} of this dialect.

  Raises:
    InputError: an unknown key or a malformed value.
  """
  values = {}
  for key, text in options.items():
    if key not in known:
      remedy = f'this layout knows {", ".join(known)}' if known else 'this layout tells everything, so it has none'
      raise InputError('--option', f'{key}={text}', 'there is no such option', remedy)
    values[key] = known[key](key, text)
  return values


def parsed_bool(key: str, text: str) -> bool:
  if text.lower() not in ('true', 'false'):
    raise InputError('--option', f'{key}={text}', 'it is neither true nor false', f'give {key}=true or {key}=false')
  return text.lower() == 'true'


def parsed_positive(key: str, text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = float('nan')
  if not 0 < value < float('inf'):
    raise InputError('--option', f'{key}={text}', 'it is not a positive number', f'give one such as {key}=0.01')
  return value


def parsed_count(key: str, text: str) -> int:
  if not text.isascii() or not text.isdigit() or len(text) > 9:
    raise InputError('--option', f'{key}={text}', 'it is not a count', f'give one such as {key}=10')
  return int(text)


def parsed_bound(key: str, text: str) -> float | None:
  return None if text.lower() == 'none' else parsed_positive(key, text)


def parsed_activation(key: str, text: str) -> str:
  if text not in ACTIVATIONS:
    raise InputError('--option', f'{key}={text}', 'there is no such function', f'give one of {", ".join(ACTIVATIONS)}')
  return text
