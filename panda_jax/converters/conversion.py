"""All steps from a checkpoint to a folder: read, recognise, convert, assemble, save."""

import contextlib
import dataclasses
import importlib
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from panda_jax.converters import report
from panda_jax.converters.assembly import assemble
from panda_jax.converters.checkpoint import Checkpoint, Module, TensorFlowNetwork, read
from panda_jax.converters.dialects import FAMILIES, own
from panda_jax.converters.limits import shown
from panda_jax.converters.means import check_count, with_mean
from panda_jax.converters.networks import under, weights_taken
from panda_jax.converters.projects import Project, project_of
from panda_jax.converters.trees import check_known
from panda_jax.errors import InputError
from panda_jax.files.stores import quiet
from panda_jax.generators.disk import check_free, save_generator


def convert(
  source: str | os.PathLike,
  destination: str | os.PathLike,
  family: str = 'auto',
  weights: str = 'ema',
  options: Mapping[str, str] | None = None,
  overwrite: bool = False,
  key: str | None = None,
  mean_w: int | None = None,
) -> list[str]:
  """Converts a checkpoint into a folder that `load_generator` reads. Nothing in the file is run.

  Args:
    source: a .pth, .pt, .bin, .pkl or .safetensors file, or a folder that holds one.
    destination: a new folder.
    family: one of `FAMILIES`; 'auto': recognised from the file.
    weights: 'ema', the averaged ones, or 'raw', those of the last step.
    options: options of the family that the file does not contain.
    overwrite: replace the generator at `destination`.
    key: place of the generator in the file, with dots between; needed only if there are several.
    mean_w: number of draws from which the mean of w is estimated if the file has none; None: no estimate.

  Returns:
    The lines of a report.

  Raises:
    InputError: the file cannot be read or has no known layout, something in it is missing, superfluous or wrong, or the
      folder cannot be written.
  """
  if mean_w is not None:
    check_count(mean_w)
  check_free(destination, overwrite)  # before the work, and again after it
  # Strange numbers in a file make numpy and JAX warn; the checks report them if they matter.
  with quiet(), warnings.catch_warnings(action='ignore'):
    checkpoint = read(source)
    if key is not None:
      with _promised(checkpoint):
        checkpoint = under(checkpoint, key)
    conversion, generator = converted(checkpoint, family, weights, dict(options or {}))
    if checkpoint.path != Path(source):
      taken = f'{checkpoint.path.name} is the checkpoint in the folder'
      conversion = dataclasses.replace(conversion, notes=[taken, *conversion.notes])
    conversion = with_mean(conversion, generator, mean_w)
    if conversion.mean:
      generator = assemble(conversion, checkpoint.path)
    which = weights_taken(conversion.notes, weights)
    said = report.description(checkpoint, conversion, which)
    save_generator(generator, destination, said, overwrite=overwrite)
  return report.lines(checkpoint, conversion, generator, destination, which)


def converted(checkpoint: Checkpoint, family: str, weights: str, options: dict[str, str]):
  """The conversion and the generator.

  Raises:
    InputError: no known layout, or not that of the requested family; an unknown option; missing, superfluous or wrong
      contents.
  """
  with _promised(checkpoint):
    told = own.recognise(checkpoint)
    if told is not None and family in ('auto', told):
      conversion = own.convert(checkpoint, weights, options)
      return conversion, assemble(conversion, checkpoint.path)
    found = recognised(checkpoint, FAMILIES if family == 'auto' else (family,))
    conversion = _dialects(found).convert(checkpoint, weights, options)
    return conversion, assemble(conversion, checkpoint.path)


@contextlib.contextmanager
def _promised(checkpoint: Checkpoint) -> Iterator[None]:
  """Every error of the contents of a file becomes an InputError."""
  try:
    yield
  except InputError:
    raise
  except Exception as error:  # a file is recognised by a few keys; the others may hold anything
    problem = f'its contents are not what their names promise: {type(error).__name__}: {shown(str(error))}'
    raise InputError('source', checkpoint.path, problem, 'give an unaltered checkpoint') from error


def recognised(checkpoint: Checkpoint, families: tuple[str, ...]) -> str:
  """The first family whose layout the file has.

  Raises:
    InputError: none of them; or the layout is only a part of the network in the file.
  """
  whole = project_of(checkpoint.tree, contains=True)
  if whole is not None:
    raise _foreign(checkpoint, whole)
  for name in families:
    if _dialects(name).recognise(checkpoint):
      return name
  if families != FAMILIES:
    _check_family(checkpoint, *families)
  known = project_of(checkpoint.tree)
  if known is not None and families == FAMILIES:
    raise _foreign(checkpoint, known)
  check_known(checkpoint.tree, checkpoint.path)
  other = ', or leave --family out' if len(families) == 1 else ''
  raise InputError(
    'source',
    checkpoint.path,
    'it has no known layout of a generator; it holds',
    f'give a generator of a layout that convert --list tells{other}',
    _contents(checkpoint.tree),
  )


def _check_family(checkpoint: Checkpoint, asked: str) -> None:
  """Raises InputError if the file is of another family than the requested one."""
  found = own.recognise(checkpoint)
  found = found or next((name for name in FAMILIES if _dialects(name).recognise(checkpoint)), None)
  if found is not None:
    problem, remedy = f'the file looks like a {found}', f'give --family={found}, or leave the flag out'
    raise InputError('--family', asked, problem, remedy)


def _dialects(family: str) -> ModuleType:
  """The module with the dialects of a family."""
  return importlib.import_module(f'panda_jax.converters.dialects.{family}')


def _foreign(checkpoint: Checkpoint, project: Project) -> InputError:
  return InputError(
    'source', checkpoint.path, f'by its keys it is {project.name}, which is not converted', project.remedy
  )


def _contents(tree: object) -> list[str]:
  if isinstance(tree, list) and any(isinstance(item, TensorFlowNetwork) for item in tree):
    return [_kind(item) for item in tree]
  if not isinstance(tree, dict):
    return [_kind(tree)]
  return [f'{shown(key, 40)}: {_kind(value)}' for key, value in tree.items()] or ['nothing']


def _kind(value: object) -> str:
  if isinstance(value, Module):
    return f'a module {shown(value.class_name, 40)} of {len(value.state_dict)} arrays'
  if isinstance(value, TensorFlowNetwork):
    return f'a network {shown(value.told("name"), 40)} of {shown(value.told("build_func_name"), 40) or "nothing"}'
  if isinstance(value, np.ndarray):
    return f'an array {value.shape}'
  if isinstance(value, dict | list):
    return f'{len(value)} entries'
  return 'nothing' if value is None else f'a {type(value).__name__}'
