"""Folders of runs, as fits write them, made without fits."""

import itertools
import json

import numpy as np
import pytest

from panda_jax.solver.factors import Factors
from panda_jax.workdir.config import default_config

GRID, CHANNELS = (4, 4), 3


def finished(folder, P, error, held_out=None, **settings):
  """A finished run with parts P (S, R)."""
  folder.mkdir(parents=True)
  config = default_config().to_dict() | {'features': 'z.npy', 'parts': P.shape[1], 'sha256': '0'} | settings
  Factors(np.eye(CHANNELS), P, GRID, {'sha256': '0'}).save(folder / 'factors.npz')
  summary = {'relative_error': error, 'reason': 'converged', 'warnings': [], 'seconds': {'total': 2.5}}
  summary |= {'counts': {'iterations': 7}, 'memory': {'process': 3_000_000}}
  summary |= {} if held_out is None else {'held_out': {'samples': 5, 'relative_error': held_out}}
  (folder / 'config.json').write_text(json.dumps(config))
  (folder / 'summary.json').write_text(json.dumps(summary))


def parts(count, seed=0):
  """P (16, count), disjoint."""
  rng = np.random.default_rng(seed)
  P = np.zeros((16, count))
  P[np.arange(16), rng.permutation(np.arange(16) % count)] = rng.uniform(0.5, 1, 16)
  return P


@pytest.fixture
def folder(tmp_path):
  """Eight finished runs, one that failed, one that was stopped, and folders that are not runs."""
  for R, layer, seed in itertools.product((2, 3), (3, 5), (0, 1)):
    P = parts(R, seed=layer)[:, :: 1 if seed else -1]  # the same parts, in another order
    error = 0.5 - 0.1 * R + 0.01 * seed
    finished(tmp_path / f'layer={layer},parts={R},seed={seed}', P, error, error + 0.02, layer=layer, seed=seed)
  config = default_config().to_dict() | {'features': 'z.npy', 'parts': 4, 'layer': 3}
  (tmp_path / 'stopped').mkdir()
  (tmp_path / 'stopped' / 'config.json').write_text(json.dumps(config))
  (tmp_path / 'failing').mkdir()
  (tmp_path / 'failing' / 'failure.json').write_text(json.dumps({'error': 'parts=99: too | many', 'config': config}))
  other = tmp_path / 'compare'
  other.mkdir()
  (other / 'config.json').write_text('{"methods": ["sefa"]}')
  (tmp_path / 'layer=3,parts=2,seed=0' / 'edits' / 'eyes').mkdir(parents=True)
  (tmp_path / 'layer=3,parts=2,seed=0' / 'edits' / 'eyes' / 'config.json').write_text(json.dumps(config))
  return tmp_path
