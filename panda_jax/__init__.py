"""PandA in JAX: parts and appearances of what an image generator has learnt."""

import importlib

__version__ = '0.1.0'

# Where each public name is. They are imported at their first use: JAX takes a second, and not every use needs it.
_PLACES = {
  'ArraySource': 'features.sources',
  'Factors': 'factors',
  'FeatureSource': 'features.sources',
  'FitResult': 'solver.fit',
  'InputError': 'errors',
  'IterableSource': 'features.sources',
  'NonFiniteError': 'errors',
  'NpySource': 'features.sources',
  'fit': 'solver.fit',
  'load_generator': 'generators',
}
__all__ = [*_PLACES]


def __getattr__(name: str):
  if name not in _PLACES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  value = globals()[name] = getattr(importlib.import_module(f'{__name__}.{_PLACES[name]}'), name)
  return value


def __dir__():
  return sorted({*globals(), *__all__})
