"""Image generators that can be stopped at a layer and resumed from edited features.

The families are in modules of their own, imported when one is made: see `registry`.
"""

from panda_jax.generators.disk import load_generator, save_generator
from panda_jax.generators.protocol import Generator, State

__all__ = ['Generator', 'State', 'load_generator', 'save_generator']
