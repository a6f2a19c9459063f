"""PandA in JAX: parts and appearances of what an image generator has learnt."""

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.factors import Factors
from panda_jax.features import ArraySource, FeatureSource, IterableSource, NpySource
from panda_jax.fitting import FitResult, fit
from panda_jax.generators import load_generator

__all__ = [
  'ArraySource',
  'Factors',
  'FeatureSource',
  'FitResult',
  'InputError',
  'IterableSource',
  'NonFiniteError',
  'NpySource',
  'fit',
  'load_generator',
]
