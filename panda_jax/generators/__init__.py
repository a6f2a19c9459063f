"""Image generators that can be stopped at a layer and resumed from edited features.

protocol.py defines a generator. registry.py lists the families: progan.py, stylegan.py, stylegan2.py, stylegan3.py
(with stylegan3_geometry.py), stylegan_xl.py, biggan.py (with biggan_blocks.py), r3gan.py and fastgan.py. They are built
from layers.py, modulation.py, filters.py, slide.py and mapping.py (mapping networks). base.py checks arguments,
structure.py compiles, bounds.py limits the options, disk.py loads and saves, compatibility.py has names of older flax.
Inputs of a generator: seeds.py, labels.py, spaces.py (z, w and w+), latent_files.py. source.py makes feature maps for a
fit. Generators do not depend on checkpoint formats.
"""

from typing import TYPE_CHECKING

from panda_jax.generators.disk import load_generator, save_generator

if TYPE_CHECKING:
  from panda_jax.generators.protocol import Generator, State

__all__ = ['Generator', 'State', 'load_generator', 'save_generator']


def __getattr__(name: str):
  if name not in ('Generator', 'State'):
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  from panda_jax.generators import protocol  # it imports JAX, which reading a generator's description does not need

  return getattr(protocol, name)
