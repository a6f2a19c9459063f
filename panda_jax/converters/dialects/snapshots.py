"""Shared by dialects of snapshots: networks of modules that keep their options as attributes."""

import math
import re
from collections.abc import Iterator, Mapping

from panda_jax.converters.checkpoint import Checkpoint, Module
from panda_jax.converters.limits import shown
from panda_jax.converters.networks import chosen
from panda_jax.converters.tables import Table, chosen_options


def opened(
  checkpoint: Checkpoint, signature: str, weights: str, given: dict[str, str], classes: str
) -> tuple[Module, Table]:
  """The requested generator, and the table of its arrays, with notes.

  Args:
    checkpoint: with such a generator.
    signature: see networks.networks.
    weights: 'ema' or 'raw'.
    given: the user's --option values; these dialects have none.
    classes: see networks.chosen.

  Raises:
    InputError: see networks.chosen; any --option.
  """
  chosen_options(given, {})
  network, notes = chosen(checkpoint, signature, weights, 'G_ema', 'G', classes)
  table = Table(network.arrays)
  table.notes += notes
  return network.module, table


def disagreements(module: Module, expected: Mapping[str, object]) -> Iterator[str]:
  """Problems: attributes in the file that contradict its arrays.

  Args:
    module: the generator.
    expected: {pattern of dotted names: value}.
  """
  for pattern, value in expected.items():
    for name, found in module.attributes.items():
      if re.fullmatch(pattern, name) and found != value:
        yield f'{name}={shown(found)}: its arrays make it {shown(value)}'


def contradictions(module: Module, expected: Mapping[str, object]) -> Iterator[str]:
  """Problems: attributes that the original computes with, and that contradict our options.

  Attributes that older files lack are not checked.

  Args:
    module: the generator.
    expected: {dotted name: value}.
  """
  for name, value in expected.items():
    found = module.attributes.get(name, value)
    if not _agree(found, value):
      yield f'{name}={shown(found)}: expected {shown(value)}'


def _agree(found: object, value: object) -> bool:
  if isinstance(value, float) and isinstance(found, int | float):
    return math.isclose(found, value, rel_tol=1e-6)  # computed, possibly in another order or in float32
  return found == value


def dense_attributes(
  name: str, inputs: int, outputs: int, activation: str = 'linear', rate: float = 1.0
) -> dict[str, object]:
  """{dotted name: value} of a fully connected layer of NVlabs' code, whose learning-rate multiplier is `rate`."""
  return {
    f'{name}.in_features': inputs,
    f'{name}.out_features': outputs,
    f'{name}.activation': activation,
    f'{name}.weight_gain': float(rate) / math.sqrt(inputs),
    f'{name}.bias_gain': float(rate),
  }
