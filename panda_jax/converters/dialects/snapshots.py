"""What dialects of snapshots share: pickled dicts of whole networks, `G`, `D` and `G_ema`, as NVlabs' code has them."""

import re
from collections.abc import Iterator, Mapping

from panda_jax.converters.checkpoint import Checkpoint, Module
from panda_jax.converters.limits import shown
from panda_jax.converters.tables import Table, chosen_options, chosen_weights

AVERAGED, LATEST = 'G_ema', 'G'


def generators(checkpoint: Checkpoint) -> dict[str, Module]:
  """The generators in a file by name: averaged, latest, or '' for a lone module."""
  if isinstance(checkpoint.tree, Module):
    return {'': checkpoint.tree}
  if not isinstance(checkpoint.tree, dict):
    return {}
  return {name: checkpoint.tree[name] for name in (AVERAGED, LATEST) if isinstance(checkpoint.tree.get(name), Module)}


def chosen(checkpoint: Checkpoint, weights: str) -> tuple[Module, list[str]]:
  """The module that the user asked for, and notes.

  Raises:
    InputError: the latest weights are asked for and not there.
  """
  return chosen_weights(generators(checkpoint), weights, AVERAGED, LATEST, 'module')


def opened(
  checkpoint: Checkpoint, weights: str, options: Mapping[str, str] | None, known: str, family: str
) -> tuple[Module, Table]:
  """The generator that the user asked for and the table of its arrays, with notes, and problems of strange modules.

  Args:
    checkpoint: with such a generator.
    weights: 'ema' or 'raw'.
    options: the user's --option values, of which these dialects have none.
    known, family: see `strangers`.

  Raises:
    InputError: the latest weights are asked for and not there; an option.
  """
  chosen_options(dict(options or {}), {})
  module, notes = chosen(checkpoint, weights)
  table = Table(module.state_dict)
  table.notes += notes
  table.problems += strangers(module, known, family)
  return module, table


def has(checkpoint: Checkpoint, pattern: str) -> bool:
  """Whether an array of a generator in the file has a name of this pattern."""
  return any(re.fullmatch(pattern, key) for module in generators(checkpoint).values() for key in module.state_dict)


def strangers(module: Module, known: str, family: str) -> Iterator[str]:
  """Problems: the modules whose class, the package left aside, is not of a pattern. Nobody knows what these compute."""
  for name, path in {'the generator': module.class_name, **module.classes}.items():
    if not re.fullmatch(known, path.rsplit('.', 1)[-1]):
      yield f'{name}: a {shown(path)}, which no {family} has'


def disagreements(module: Module, expected: Mapping[str, object]) -> Iterator[str]:
  """Problems: the attributes that the file keeps and that contradict what its arrays tell.

  Args:
    module: the generator.
    expected: {pattern of dotted names: value}.
  """
  for pattern, value in expected.items():
    for name, found in module.attributes.items():
      if re.fullmatch(pattern, name) and found != value:
        yield f'{name}={shown(found)}: its arrays make it {shown(value)}'
