"""A generator as arguments of compiled functions: its structure is fixed, its arrays are not.

Functions that take a structure as a static argument are compiled once for all NNX generators of that structure,
whichever object holds them, and not again at the next call. Of a generator of another kind nothing tells whether its
weights changed since; it is compiled anew.
"""

import dataclasses
from typing import Any

import jax
from flax import nnx

from panda_jax.generators.base import Compiled


@dataclasses.dataclass(frozen=True)
class _ModuleStructure:
  graphdef: Any
  tree: Any

  def generator(self, arrays):
    return nnx.merge(self.graphdef, jax.tree.unflatten(self.tree, arrays))


@dataclasses.dataclass(frozen=True, eq=False)
class _ObjectStructure:
  """Any other generator: its weights are constants of what is compiled, so each `split` of it is another structure."""

  object: Any

  def generator(self, arrays):
    return self.object


Structure = _ModuleStructure | _ObjectStructure


def plain(generator):
  """The generator itself, if it is wrapped in `Compiled`."""
  return generator.generator if isinstance(generator, Compiled) else generator


def split(generator) -> tuple[Structure, list[jax.Array]]:
  """(structure, arrays): `structure` can be hashed, and `structure.generator(arrays)` is the generator."""
  generator = plain(generator)
  if not isinstance(generator, nnx.Module):
    return _ObjectStructure(generator), []
  graphdef, state = nnx.split(generator)
  arrays, tree = jax.tree.flatten(state)
  return _ModuleStructure(graphdef, tree), arrays
