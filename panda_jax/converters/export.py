"""From a generator to a file for the code from which it came: state dicts in torch's zip files, or safetensors.

The tables of a conversion are read backwards, so converting the written file gives the same bits again. Only arrays
are written, never classes: the user of the file builds the network with the arguments that the report lists.
"""

import importlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from panda_jax.converters.dialects import FAMILIES, FORMATS
from panda_jax.converters.foreign import Exported
from panda_jax.converters.safetensors import write_safetensors
from panda_jax.converters.torchwriter import write_torch
from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.generators.disk import leaves, load_generator, read_description

OWN = 'safetensors'
SUFFIX = '.safetensors'
TORCH = '.pt', '.pth', '.bin', '.ckpt'  # endings of files of torch.save
OTHERS = '.pkl', '.pickle', '.npz', '.npy', '.h5', '.onnx'  # endings of files that are not written
METADATA = 'panda_jax'  # name of the text that describes the arrays
VERSION = 1


def export(
  generator: str | os.PathLike, destination: str | os.PathLike, form: str, overwrite: bool = False
) -> list[str]:
  """Writes the weights of a generator for other code.

  Args:
    generator: a folder that `convert` wrote, or the name of an embedded generator.
    destination: the file to write. Its ending `.safetensors` chooses that container for all of `FORMATS`.
    form: one of `FORMATS`; 'safetensors' has our own names, which all families have.
    overwrite: replace what is at `destination`.

  Returns:
    The lines of a report.

  Raises:
    InputError: there is no such generator or format; the file's ending is of another container; the format's own code
      lacks a feature that the generator needs; something is at `destination`, or it cannot be written.
  """
  if form not in FORMATS:
    raise InputError('--format', form, 'there is no such format', f'give one of {", ".join(FORMATS)}')
  path = Path(destination)
  if os.path.lexists(path) and (path.is_dir() or not overwrite):
    remedy = 'choose another name' if path.is_dir() else 'choose another name or use --overwrite'
    raise InputError('destination', path, 'it is there already', remedy)
  if not path.parent.is_dir():
    raise InputError('destination', path, 'its folder is not there', 'make the folder, or give another path')
  description = read_description(generator)
  _check_ending(path, form, description['family'])
  loaded = load_generator(generator)
  made = exported(loaded, form)
  licence = str(description.get('licence', ''))
  file = io.BytesIO()
  if path.suffix == SUFFIX or form == OWN:
    metadata = {METADATA: _own_metadata(loaded)} if form == OWN else {}
    write_safetensors(file, _flat(made.tree), metadata | ({'licence': licence} if licence else {}))
  else:
    write_torch(file, made.tree)
  write_atomically(path, file.getvalue(), 'destination')
  return _lines(path, form, loaded, made, licence)


def _check_ending(path: Path, form: str, family: str) -> None:
  """Raises InputError if the ending of a file does not suit the format."""
  ending = path.suffix.lower()
  others = ' or '.join(f'--format={name}' for name in _exports(family))
  named = f'name it {path.stem}{SUFFIX}'
  if ending in TORCH and form == OWN:
    problem = f'the format {OWN} is not that of a {ending} file'
    raise InputError('destination', path, problem, f'{named}, or give {others}' if others else named)
  if ending in OTHERS:
    problem = f'no {ending} file is written: it would be of torch.save or safetensors'
    raise InputError('destination', path, problem, named if form == OWN else f'name it {path.stem}.pt')


def _exports(family: object) -> Mapping[str, Callable[..., Exported]]:
  """The `EXPORTS` of a family; {} for an unknown family."""
  if family not in FAMILIES:
    return {}
  return importlib.import_module(f'panda_jax.converters.dialects.{family}').EXPORTS


def exported(generator, form: str) -> Exported:
  """The contents of a file of a format.

  Args:
    generator: of one of our families.
    form: one of `FORMATS`.

  Raises:
    InputError: the format's own code lacks a feature that the generator needs.
  """
  tensors = {name: np.asarray(array) for name, array in leaves(generator).items()}
  if form == OWN:
    return Exported(tensors, {})
  exports = _exports(generator.family)
  if form not in exports:
    known = ', '.join([OWN, *exports])
    raise InputError('--format', form, f'it has no {generator.family}', f'give one of {known}')
  return exports[form](generator.options, tensors)


def _own_metadata(generator) -> str:
  from panda_jax.generators.registry import options_to_json

  return json.dumps(
    {'version': VERSION, 'family': generator.family, 'options': options_to_json(generator.options)}, allow_nan=False
  )


def _flat(tree: Mapping[str, object], prefix: str = '') -> dict[str, np.ndarray]:
  """{dotted key: array} of nested dicts."""
  flat: dict[str, np.ndarray] = {}
  for key, value in tree.items():
    flat |= _flat(value, f'{prefix}{key}.') if isinstance(value, Mapping) else {f'{prefix}{key}': np.asarray(value)}
  return flat


def _loading(path: Path, tree: Mapping[str, object]) -> str:
  """The line with which a PyTorch network loads the file."""
  holder = next((key for key, value in tree.items() if isinstance(value, Mapping)), None)
  if path.suffix == SUFFIX:
    before = f' with {holder}. taken off its keys' if holder else ''
    return f'network.load_state_dict(safetensors.torch.load_file({path.name!r})){before}'
  return f'network.load_state_dict(torch.load({path.name!r}){f"[{holder!r}]" if holder else ""})'


def _lines(path: Path, form: str, generator, made: Exported, licence: str) -> list[str]:
  flat = _flat(made.tree)
  shown = [
    ('family', generator.family),
    ('format', form),
    ('arrays', f'{len(flat)}, {sum(array.nbytes for array in flat.values())} bytes'),
  ]
  shown += [('argument', f'{name}={value!r}') for name, value in made.arguments.items()]
  shown += [('load', _loading(path, made.tree))] * (form != OWN) + [('note', note) for note in made.notes]
  shown += [('licence', licence)] * bool(licence) + [('written', str(path))]
  return [f'{name:<12} {text}' for name, text in shown]
