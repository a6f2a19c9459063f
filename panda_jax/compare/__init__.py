"""The benchmark: every method on one generator, with the same samples, regions and strengths (`run.py compare`)."""

from panda_jax.compare.run import compare_into
from panda_jax.compare.settings import default_config

__all__ = ['compare_into', 'default_config']
