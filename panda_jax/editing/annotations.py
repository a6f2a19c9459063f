"""The authors' annotated directions: a Python file with one literal, read as a literal and never run."""

import ast
import dataclasses
import os
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from panda_jax.editing.zoo import NamedEdit, Spec, is_number, whole_numbers
from panda_jax.errors import InputError
from panda_jax.files.access import read_bytes
from panda_jax.solver.factors import Factors, digest_of

LARGEST = 1 << 20  # bytes of such a file; parsing takes some hundred times as much memory


class Annotated(NamedTuple):
  """One of the authors' annotated directions.

  Attributes:
    layer, ranks: as annotated, ranks (R_C, R_S).
    terms: edits in the published convention.
    us, uc: the files of its factors, as written there.
  """

  layer: int
  ranks: tuple[int, int]
  terms: tuple[Spec, ...]
  us: str
  uc: str

  def factors(self, folder: str | os.PathLike) -> Factors:
    """Its factors, from a folder that holds them, at their paths as annotated or side by side.

    Raises:
      InputError: a file is not there, or its rank is another.
    """
    paths = _found(folder, self.uc), _found(folder, self.us)
    factors = Factors.load_published(*paths)
    for matrix, rank, path in zip((factors.appearances, factors.parts), self.ranks, paths, strict=True):
      if matrix.shape[1] != rank:
        raise InputError('zoo', path, f'it has rank {matrix.shape[1]}, annotated is {rank}', 'give the annotated file')
    return dataclasses.replace(factors, provenance=factors.provenance | {'layer': self.layer})

  def named(self, digest: str) -> NamedEdit:
    """The same edit for a zoo, for factors of this hash."""
    return NamedEdit(digest, self.layer, self.terms, f'annotated by the authors on {PurePosixPath(self.us).name}')


def read_annotated(path: str | os.PathLike) -> dict[str, Annotated]:
  """The authors' annotated directions, {'generator/name': ...}, from their Python file. Nothing in it is run.

  Only dict literals count: the file is one dict, or assigns dicts to names. Each maps generator -> name ->
  {parameters: [part, appearance, alpha], layer, ranks: [R_C, R_S], checkpoints_path: [Us, Uc]}.

  Raises:
    InputError: it is too large, is not Python, or holds no such directions.
  """
  remedy = 'give a file of annotated directions: generator -> name -> {parameters, layer, ranks, checkpoints_path}'
  content = read_bytes(path, 'zoo', remedy, LARGEST)
  try:
    with warnings.catch_warnings(action='ignore'):  # of invalid escapes, in code that is not ours
      body = ast.parse(content.decode()).body
    values = [node.value for node in body if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr)]
    nodes = [node for node in values if isinstance(node, ast.Dict)]
    literals = []
    for node in nodes:
      try:
        literals.append(ast.literal_eval(node))
      except ValueError as error:
        if len(nodes) == 1:
          raise InputError('zoo', path, 'its dict is not a literal', remedy) from error
  except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
    if isinstance(error, InputError):
      raise
    raise InputError('zoo', path, f'it cannot be parsed ({type(error).__name__})', remedy) from error
  found = {}
  for literal in literals:
    for generator, names in literal.items():
      for name, entry in names.items() if isinstance(names, dict) else ():
        if isinstance(entry, dict) and 'parameters' in entry:
          found[f'{generator}/{name}'] = _annotated(entry, str(name), path)
  if not found:
    raise InputError('zoo', path, 'there are no annotated directions in it', remedy)
  return found


def shared_factors(chosen: Mapping[str, Annotated], folder: str | os.PathLike) -> Factors:
  """The factors that the chosen directions share, from a folder that holds them.

  Raises:
    InputError: the directions have different factors; and as `Annotated.factors`.
  """
  found = [entry.factors(folder) for entry in chosen.values()]
  if len({digest_of(one) for one in found}) > 1:
    raise InputError('name', ','.join(chosen), 'these were annotated on different factors', 'run them one by one')
  return found[0]


def _annotated(entry: dict, name: str, path) -> Annotated:
  try:
    part, appearance, alpha = entry['parameters']
    several = list(zip(part, appearance, alpha, strict=True)) if isinstance(appearance, list | tuple) else None
    terms = []
    for parts, one, strength in several or [(part, appearance, alpha)]:
      parts = whole_numbers(parts if isinstance(parts, list | tuple) else [parts], 'part')
      if not parts or not is_number(strength):
        raise ValueError('parameters')
      index = whole_numbers([one], 'appearance')[0]
      terms.append(Spec(parts, index, strength, convention='published'))
    ranks = whole_numbers(entry['ranks'], 'ranks')
    us, uc = (str(x) for x in entry['checkpoints_path'])
    if len(ranks) != 2 or not terms:
      raise ValueError('ranks')
    f'{name}{us}{uc}'.encode()  # raises for a lone surrogate, which cannot be printed
    return Annotated(whole_numbers([entry['layer']], 'layer')[0], ranks, tuple(terms), us, uc)
  except (KeyError, TypeError, ValueError) as error:
    said = f'{error.argument}={error.value}' if isinstance(error, InputError) else str(error)
    raise InputError(
      'zoo',
      path,
      f'{name[:60]!r} is not as expected ({said[:100]})',
      'give parameters [part, appearance, alpha], layer, ranks [R_C, R_S] and checkpoints_path [Us, Uc]',
    ) from error


def _found(folder: str | os.PathLike, name: str) -> Path:
  relative = PurePosixPath(name)
  tried = [Path(folder) / relative.name] if relative.is_absolute() else [Path(folder) / relative]
  tried.append(Path(folder) / relative.name)
  for path in tried:
    if os.path.isfile(path):
      return path
  raise InputError('zoo', name, f'there is no such file in {folder}', 'put the Us and Uc files beside the annotations')
