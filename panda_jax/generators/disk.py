"""Generators on disk: a folder with generator.json, which describes the generator, and the weights in Orbax's format.

JAX, Flax and Orbax are imported at the first use, since that takes a second.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.errors import InputError, brief, described, refusal
from panda_jax.files import stores
from panda_jax.files.access import read_bytes
from panda_jax.files.records import misfit, parsed_json
from panda_jax.files.swaps import appearing
from panda_jax.generators import bounds
from panda_jax.runtime import pages

FORMAT = 1
DESCRIPTION, WEIGHTS = 'generator.json', 'weights'
LARGEST_DESCRIPTION = 4 << 20  # bytes; the largest published networks have 100 kB
MOST_TOLD = 8  # leaves that an error lists
SIZES = {  # keys of generator.json for callers that do not load the generator
  **dict.fromkeys(('z_dim', 'w_dim', 'num_classes', 'image_channels', 'parameters'), int),
  'family': str,
  'options': dict,
  'image_size?': [int],
  'layers': {str: [int]},
}


def save_generator(
  generator,
  folder: str | os.PathLike,
  description: dict | None = None,
  overwrite: bool = False,
  storage: str = 'float32',
):
  """Writes a generator of one of our families, in one step: if it is killed, the old folder stays.

  Args:
    generator: an NNX module of panda_jax.generators.registry. Weights are stored as float32, bfloat16 among them.
    folder: its parents are made if need be.
    description: more entries of generator.json, JSON values only: source, licence, report.
    overwrite: replace the generator that is in the folder.
    storage: 'float32', or 'float16' for half the size: weights are rounded to it, and read as float32 again.

  Raises:
    InputError: the folder is there (see `check_free`) or cannot be written; weights of a type that float32 cannot hold,
      or too large for `storage`.
  """
  from panda_jax.generators import registry
  from panda_jax.runtime.environment import versions

  check_free(folder, overwrite)
  if storage not in ('float32', 'float16'):
    raise InputError('storage', storage, 'there is none of this name', 'give float32 or float16')
  arrays = {name: _storable(name, value, storage) for name, value in leaves(generator).items()}
  entries = {
    'format': FORMAT,
    'family': generator.family,
    'options': registry.options_to_json(generator.options),
    **{name: getattr(generator, name) for name in ('z_dim', 'w_dim', 'num_classes', 'resolution', 'image_channels')},
    'image_size': list(getattr(generator, 'image_size', (generator.resolution, generator.resolution))),
    'layers': {str(layer): list(size) for layer, size in generator.layers.items()},
    'parameters': count_parameters(generator),
    'versions': versions(),
    **(description or {}),
  }
  text = json.dumps(entries, indent=2, allow_nan=False) + '\n'
  if len(text) > LARGEST_DESCRIPTION:
    raise InputError('description', f'{len(text)} bytes', 'it could not be read again', 'save less with the generator')
  try:
    with appearing(Path(folder), replace=overwrite) as partial:
      stores.write(partial / WEIGHTS, arrays)
      (partial / DESCRIPTION).write_text(text)
  except OSError as error:
    raise refusal('destination', folder, 'it could not be written', error) from error


def check_free(folder: str | os.PathLike, overwrite: bool) -> None:
  """Raises InputError if something is at `folder` that must not be replaced.

  Without `overwrite` that is anything at all; with it, anything but an empty folder or one that holds a generator and
  nothing else.
  """
  folder = Path(folder)
  if not os.path.lexists(folder):
    return
  if not overwrite:
    raise InputError('destination', folder, 'it is there already', 'choose another folder or use --overwrite')
  if not folder.is_dir():
    raise InputError('destination', folder, 'it is not a folder', 'choose another name')
  names = sorted(os.listdir(folder))
  if names and DESCRIPTION not in names:
    raise InputError('destination', folder, 'it is a folder without generator.json', 'choose another folder')
  more = [name for name in names if name not in (DESCRIPTION, WEIGHTS)]
  if more:
    raise InputError(
      'destination', folder, f'besides a generator it holds {more[0]}', 'move that away or choose another folder'
    )


def embedded() -> dict[str, Path]:
  """{name: folder} of the generators that come with the package."""
  assets = Path(__file__).parents[1] / 'assets'
  return {path.parent.name: path.parent for path in sorted(assets.glob(f'*/{DESCRIPTION}'))}


def file_beside(generator: str | os.PathLike, name: str) -> Path | None:
  """The file of that name in a generator's folder, or None if there is none."""
  path = folder_of(generator) / name
  return path if path.is_file() else None


def folder_of(generator: str | os.PathLike) -> Path:
  """The folder at a path; if there is none, the folder of the embedded generator of that name."""
  path = Path(generator)
  return path if os.path.exists(path) else embedded().get(str(generator), path)


def load_generator(folder: str | os.PathLike):
  """The generator in a folder that `panda-jax convert` or `save_generator` wrote, float32.

  Args:
    folder: its path, or the name of a generator that comes with the package: 'cats64'. A folder of that name in the
      working directory takes precedence.

  Raises:
    InputError: there is none, or it is damaged: generator.json and the weights do not agree.

  Example:
    >>> generator = panda_jax.load_generator('cats64')
    >>> generator.layers[5]  # channels, height, width
    (96, 16, 16)
  """
  import jax
  from flax import nnx

  from panda_jax.generators.compatibility import value_of

  folder = folder_of(folder)
  graphdef, state = nnx.split(abstract_generator(folder))
  variables = {_dotted(path): (path, variable) for path, variable in nnx.to_flat_state(state)}
  try:
    arrays = stores.read(folder / WEIGHTS, variables)
  except ValueError as error:
    raise _unreadable(folder, error) from error
  # Not `jnp.asarray`, which compiles a program for each shape.
  read = lambda name, kind: jax.device_put(np.asarray(arrays.pop(name), kind.dtype))  # noqa: E731
  values = [(path, v.replace(read(name, value_of(v)))) for name, (path, v) in variables.items()]
  generator = nnx.merge(graphdef, nnx.from_flat_state(values))
  if generator.resolution >= pages.LARGE:
    pages.use(True)
  return generator


def abstract_generator(folder: str | os.PathLike):
  """The generator in a folder with shapes in place of arrays, without the second that reading the arrays takes.

  Raises:
    InputError: as `load_generator`, except for damage inside arrays.
  """
  folder = folder_of(folder)
  description, stored = read_description(folder), stored_arrays(folder)
  generator = _abstract(folder, description, len(stored))
  kinds = {name: stores.Kind(tuple(kind.shape), np.dtype(kind.dtype)) for name, kind in leaves(generator).items()}
  _compare(folder, kinds, stored)
  return generator


def read_sizes(folder: str | os.PathLike) -> dict:
  """The content of generator.json, which has all keys of `SIZES`; does not import JAX or the network (a second).

  Raises:
    InputError: as `read_description`, or one of these keys is not as `save_generator` writes it.
  """
  description = read_description(folder)
  wrong = misfit(description, SIZES, DESCRIPTION)
  layers = description['layers'].items() if not wrong else ()
  if any(not name.isdecimal() or len(size) != 3 for name, size in layers):
    wrong = 'layers is not channels, height and width by number'
  elif len(description.get('image_size', (0, 0))) != 2:
    wrong = 'image_size is not height and width'
  if wrong:
    raise _damaged(folder_of(folder), f'{DESCRIPTION}: {wrong}')
  return description | {'image_size': description.get('image_size') or abstract_generator(folder).image_size}


def stored_arrays(folder: str | os.PathLike) -> dict[str, stores.Kind]:
  """{dotted path: shape and type} of the weights in a generator's folder.

  Raises:
    InputError: there are none, or they are not as `save_generator` writes them.
  """
  folder = folder_of(folder)
  if not (folder / WEIGHTS).is_dir():
    raise _damaged(folder, f'there is no folder {WEIGHTS} in it')
  try:
    return stores.stored(folder / WEIGHTS)
  except ValueError as error:
    raise _unreadable(folder, error) from error


def _abstract(folder: Path, description: dict, arrays: int):
  """The generator of a description, with shapes in place of arrays.

  Args:
    folder: for errors.
    description: from `read_description`.
    arrays: how many are stored; limits how many parts there can be.
  """
  from panda_jax.generators import registry

  try:
    options = registry.options_from_json(description['family'], description['options'])
    bounds.check_stored(options, arrays)
    return registry.abstract(description['family'], options)
  except InputError as error:
    if error.argument in ('family', 'options'):
      raise _damaged(folder, f'{error.argument} in {DESCRIPTION}: {error.problem}') from error
    field = f'{error.argument}={brief(described(error.value), 60)}'
    raise _damaged(folder, f'options in {DESCRIPTION}: {field}: {error.problem}') from error
  except Exception as error:  # altered options may raise any error
    raise _damaged(folder, f'options in {DESCRIPTION}: {error}') from error


def read_description(folder: str | os.PathLike) -> dict:
  """The content of generator.json in a folder.

  Raises:
    InputError: there is no such folder or file, or it is damaged or of a later version.
  """
  folder = folder_of(folder)
  path = folder / DESCRIPTION
  remedy = f'give a folder that `panda-jax convert` wrote, or one of {", ".join(embedded())}'
  if not os.path.exists(folder):  # also False for a name that no folder can have
    raise InputError('generator', folder, 'there is no such folder', remedy)
  if not os.path.lexists(path):
    raise InputError('generator', folder, f'there is no {DESCRIPTION} in it', remedy)
  content = read_bytes(path, 'generator', 'convert or copy it again', LARGEST_DESCRIPTION)
  try:
    description = parsed_json(content, {'format': object})
  except ValueError as error:
    raise _damaged(folder, f'{DESCRIPTION}: {error}') from error
  if description['format'] != FORMAT:
    raise InputError(
      'generator', folder, f'it is of format {description["format"]!r}, not {FORMAT}', 'use the version that wrote it'
    )
  for name in ('family', 'options'):
    if name not in description:
      raise _damaged(folder, f'{DESCRIPTION} has no {name}')
  return description


def leaves(generator) -> dict[str, Any]:
  """{dotted path: array} of everything that a generator stores."""
  from flax import nnx

  from panda_jax.generators.compatibility import value_of

  flat = nnx.to_flat_state(nnx.split(generator)[1])
  return {_dotted(path): value_of(variable) for path, variable in flat}


def count_parameters(generator) -> int:
  """The number of learnt parameters; constants, statistics and filters are not counted."""
  from flax import nnx

  from panda_jax.generators.compatibility import value_of

  flat = nnx.to_flat_state(nnx.split(generator, nnx.Param, ...)[1])
  return sum(math.prod(value_of(variable).shape) for _, variable in flat)


def _dotted(path: tuple) -> str:
  return '.'.join(map(str, path))


def _damaged(folder: Path, problem: str) -> InputError:
  return InputError('generator', folder, f'it is damaged: {problem}', 'convert or copy it again')


def _unreadable(folder: Path, error: ValueError) -> InputError:
  return _damaged(folder, f'the weights cannot be read ({error})')


def _storable(name: str, value, storage: str) -> np.ndarray:
  value = np.asarray(value)
  if value.dtype.kind in 'biu':
    return value
  if value.dtype.name not in ('float16', 'bfloat16', 'float32'):
    raise InputError('generator', name, f'its weights are {value.dtype}', 'cast them to float32 first')
  value = value.astype(np.float32)
  if storage == 'float32':
    return value
  largest = float(np.abs(value).max(initial=0))
  if not largest <= float(np.finfo(np.float16).max):
    raise InputError('storage', storage, f'{name} has an entry of {largest:g}', 'store it as float32')
  return value.astype(np.float16)


def _compare(folder: Path, expected: dict, stored: dict) -> None:
  """Raises InputError unless both have the same names with the same (shape, dtype)."""
  wrong = [f'{name} is missing' for name in expected if name not in stored]
  wrong += [f'{name} is none of it' for name in stored if name not in expected]
  for name in expected:
    if name in stored and stored[name] not in (expected[name], _halved(expected[name])):
      wrong.append(f'{name}: expected {expected[name]}, found {stored[name]}')
  if wrong:
    more = f', and {len(wrong) - MOST_TOLD} more' if len(wrong) > MOST_TOLD else ''
    raise _damaged(folder, f'the weights are not those of {DESCRIPTION}: {", ".join(wrong[:MOST_TOLD])}{more}')


def _halved(kind: stores.Kind) -> stores.Kind:
  """The kind of a leaf that is stored with `storage='float16'`."""
  return kind._replace(dtype=np.dtype(np.float16)) if kind.dtype == np.float32 else kind


__all__ = [
  'abstract_generator',
  'check_free',
  'count_parameters',
  'embedded',
  'folder_of',
  'leaves',
  'load_generator',
  'read_description',
  'read_sizes',
  'save_generator',
  'stored_arrays',
]
