"""A comparison on a planted generator: four quadrants, and channels with known spread."""

import numpy as np
import pytest

from panda_jax.compare.settings import default_config
from tests.planted_generators import PartsGenerator

# Each quadrant is drawn by channels of its own place; the first spreads least.
SPREADS = (0.0, 1.0, 2.0, 4.0)


@pytest.fixture(scope='session')
def generator():
  return PartsGenerator(SPREADS, uneven=0.2, size=32)


def small_config(**changes):
  config = default_config()
  config.regions = {'upper left': (0, 16, 0, 16), 'lower': (16, 32, 0, 32)}
  config.layer, config.parts, config.samples = 1, 4, 64
  config.candidates, config.heldout, config.test = 4, 16, 24
  config.seed, config.batch, config.bootstrap, config.realism_samples = 1000, 8, 50, 128
  config.methods = ('panda', 'random_direction')
  config.isolated = False
  for name, value in changes.items():
    config[name] = value
  return config


def recorded(table, method, region):
  """The cell of a table."""
  return next(cell for cell in table['cells'] if (cell['method'], cell['region']) == (method, region))


def is_png(path):
  return path.read_bytes()[:8] == b'\x89PNG\r\n\x1a\n' and np.asarray(path.stat().st_size) > 1000
