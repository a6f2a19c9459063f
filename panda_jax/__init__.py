"""PandA in JAX: parts and appearances of what an image generator has learnt.

Public is what this module, `panda_jax.pictures` and `panda_jax.catalog` list in `__all__`, with the attributes and
methods that have no leading underscore, and what docs/reference/api shows of other modules. Everything else is private:
it may change in any release. So `panda_jax.fit` is public, and the module `panda_jax.solver.fit` is not.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = '0.1.0'

# Where each public name is: 'module', or 'module:name' where it has another name there. They are imported at their
# first use: JAX takes a second, and not every use needs it. No submodule may have one of these names.
_PLACES = {
  'ArraySource': 'features.sources',
  'Compiled': 'generators.structure',
  'Editor': 'editing.editor',
  'Factors': 'solver.factors',
  'FeatureSource': 'features.sources',
  'FitResult': 'solver.fit',
  'InputError': 'errors',
  'Inversion': 'inversion.inversion',
  'Inverter': 'inversion.invert',
  'IterableSource': 'features.sources',
  'NonFiniteError': 'errors',
  'NpySource': 'features.sources',
  'PandA': 'solver.estimator',
  'RegionEdit': 'regions.region_edit',
  'compose': 'editing.edits',
  'fit': 'solver.fit',
  'invert': 'inversion.invert',
  'load_edit': 'editing.zoo',
  'load_generator': 'generators.disk',
  'make_edit': 'editing.edits',
  'open_workdir': 'workdir.finished_fit',
  'refine': 'editing.refine',
  'region_edit': 'regions.region_edit',
  'remove': 'editing.removal',
  'saliency': 'editing.saliency:coordinates',
}
__all__ = ['__version__', *_PLACES]

if TYPE_CHECKING:  # the same for type checkers and editors, which run nothing
  from panda_jax.editing.editor import Editor as Editor
  from panda_jax.editing.edits import compose as compose
  from panda_jax.editing.edits import make_edit as make_edit
  from panda_jax.editing.refine import refine as refine
  from panda_jax.editing.removal import remove as remove
  from panda_jax.editing.saliency import coordinates
  from panda_jax.editing.zoo import load_edit as load_edit
  from panda_jax.errors import InputError as InputError
  from panda_jax.errors import NonFiniteError as NonFiniteError
  from panda_jax.features.sources import ArraySource as ArraySource
  from panda_jax.features.sources import FeatureSource as FeatureSource
  from panda_jax.features.sources import IterableSource as IterableSource
  from panda_jax.features.sources import NpySource as NpySource
  from panda_jax.generators.disk import load_generator as load_generator
  from panda_jax.generators.structure import Compiled as Compiled
  from panda_jax.inversion.inversion import Inversion as Inversion
  from panda_jax.inversion.invert import Inverter as Inverter
  from panda_jax.inversion.invert import invert as invert
  from panda_jax.regions.region_edit import RegionEdit as RegionEdit
  from panda_jax.regions.region_edit import region_edit as region_edit
  from panda_jax.solver.estimator import PandA as PandA
  from panda_jax.solver.factors import Factors as Factors
  from panda_jax.solver.fit import FitResult as FitResult
  from panda_jax.solver.fit import fit as fit
  from panda_jax.workdir.finished_fit import open_workdir as open_workdir

  saliency = coordinates


def __getattr__(name: str):
  if name not in _PLACES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  place, _, there = _PLACES[name].partition(':')
  value = globals()[name] = getattr(importlib.import_module(f'{__name__}.{place}'), there or name)
  return value


def __dir__():
  return sorted({*globals(), *__all__})
