"""A family of one layer, for tests of code that all families share: registry, disk and assembly."""

import dataclasses

import jax.numpy as jnp
from flax import nnx

from panda_jax.generators.base import Buffer
from panda_jax.generators.compatibility import List
from panda_jax.generators.registry import FAMILIES, Family


@dataclasses.dataclass(frozen=True)
class TinyOptions:
  z_dim: int
  widths: tuple[int, ...]
  clamp: float | None


class Tiny(nnx.Module):
  family = 'tiny'
  w_dim, num_classes, resolution, image_channels = 0, 0, 4, 3

  def __init__(self, options: TinyOptions, *, rngs: nnx.Rngs):
    self.options, self.z_dim = options, options.z_dim
    self.layers_list = List([nnx.Linear(options.z_dim, width, rngs=rngs) for width in options.widths])
    self.strength = nnx.Param(jnp.zeros(()))
    self.mean = Buffer(jnp.zeros(options.z_dim))

  @property
  def layers(self):
    return {1: (self.options.widths[0], 1, 1)}


def register(monkeypatch) -> None:
  """Registers the family until the test ends."""
  monkeypatch.setitem(FAMILIES, 'tiny', Family('tests.generators.tiny', 'Tiny', 'TinyOptions'))


OPTIONS = TinyOptions(z_dim=3, widths=(5, 2), clamp=None)
