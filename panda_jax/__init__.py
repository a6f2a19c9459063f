"""PandA in JAX: parts and appearances of what an image generator has learnt.

Public is what this module, `panda_jax.pictures` and `panda_jax.catalog` list in `__all__`, with the attributes and
methods that have no leading underscore, and what the README imports from another module. Everything else is private: it
may change in any release. So `panda_jax.fit` is public, and the module `panda_jax.solver.fit` is not.
"""

import importlib

__version__ = '0.1.0'

# Where each public name is: 'module', or 'module:name' where it has another name there. They are imported at their
# first use: JAX takes a second, and not every use needs it. No submodule may have one of these names.
_PLACES = {
  'ArraySource': 'features.sources',
  'Compiled': 'generators.base',
  'Editor': 'editing.editor',
  'Factors': 'factors',
  'FeatureSource': 'features.sources',
  'FitResult': 'solver.fit',
  'InputError': 'errors',
  'IterableSource': 'features.sources',
  'NonFiniteError': 'errors',
  'NpySource': 'features.sources',
  'PandA': 'estimator',
  'RegionEdit': 'regions.region_edit',
  'compose': 'editing.edits',
  'fit': 'solver.fit',
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


def __getattr__(name: str):
  if name not in _PLACES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  place, _, there = _PLACES[name].partition(':')
  value = globals()[name] = getattr(importlib.import_module(f'{__name__}.{place}'), there or name)
  return value


def __dir__():
  return sorted({*globals(), *__all__})
