"""A fit of a small network with random weights, and the explorer's engine on it."""

import json
from collections.abc import Generator
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx

from panda_jax.app.answers import ACTIONS
from panda_jax.app.engine import Engine
from panda_jax.generators import registry, save_generator
from panda_jax.solver.factors import Factors
from panda_jax.workdir.finished_fit import open_workdir

LAYER, CELLS, CHANNELS, PARTS = 3, 8, 5, 4
POINTS = {'left eye': [4, 6], 'right eye': [11, 6], 'nose': [8, 10]}


def quadrants() -> np.ndarray:
  """Parts (S, 5): the four quarters of the grid, row by row, with strengths 1 to 4; the fifth part is dead."""
  half = np.arange(CELLS) >= CELLS // 2
  number = (2 * half[:, None] + half[None]).reshape(-1, 1)
  return np.where(number == np.arange(PARTS + 1)[None], number + 1.0, 0)


@pytest.fixture(scope='session')
def fitted(tmp_path_factory):
  """A folder with factors.npz and config.json, as a fit leaves it."""
  options = {
    'resolution': 16,
    'widths': (6, 6, CHANNELS, CHANNELS, 4, 4),
    'z_dim': 7,
    'w_dim': 8,
    'mapping_widths': (8,),
  }
  rngs = nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))  # threefry takes far longer to compile
  folder = tmp_path_factory.mktemp('explorer')
  generator = registry.create('stylegan2', registry.options_class('stylegan2')(**options), rngs)
  save_generator(generator, folder / 'network', {'points': POINTS})
  channels, *grid = generator.layers[LAYER]
  assert (channels, *grid) == (CHANNELS, CELLS, CELLS)
  A = np.linalg.qr(np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS)))[0]
  made = {'path': str(folder / 'network'), 'seed': 0}
  fit = folder / 'fit'
  fit.mkdir()
  Factors(A, quadrants(), tuple(grid), {'layer': LAYER, 'generator': made}).save(fit / 'factors.npz')
  (fit / 'config.json').write_text('{}')
  return fit


@pytest.fixture(scope='session')
def shared_engine(fitted):
  return Engine(open_workdir(fitted))


@pytest.fixture
def engine(shared_engine, tmp_path):
  """The same engine, compiled once, with its own workdir."""
  before = shared_engine.opened.folder
  shared_engine.opened.folder = tmp_path / 'fit'
  shared_engine.opened.folder.mkdir()
  shared_engine._results.clear()
  yield shared_engine
  shared_engine.opened.folder = before


class Asked:
  """Calls actions as requests of the page do, on a server with one fit.

  Attributes:
    said: the progress lines of the last action.
  """

  def __init__(self, engine):
    self.engine, self.said = engine, []
    self._fits = SimpleNamespace(names=['fit'], number=lambda name: 0)
    self._fits.engine = self._fits.prepared = lambda name: engine

  def __call__(self, action, **values):
    made = ACTIONS[action](self._fits, {'fit': 'fit'} | values)
    self.said = []
    while isinstance(made, Generator):
      try:
        self.said.append(next(made))
      except StopIteration as done:
        made = done.value
    return json.loads(json.dumps(made, allow_nan=False))


@pytest.fixture
def asked(engine):
  return Asked(engine)
