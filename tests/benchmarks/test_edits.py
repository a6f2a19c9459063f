"""The benchmark of edits runs as a user runs it, and its numbers are what their names say."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from flax import nnx

from panda_jax.generators import registry
from panda_jax.generators.disk import save_generator
from tests.editing.test_editor import SMALL_OPTIONS

ROOT = Path(__file__).parents[2]


def run(*arguments):
  command = [sys.executable, '-m', 'benchmarks.edits', *map(str, arguments)]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
  folder = tmp_path_factory.mktemp('benchmark')
  rngs = nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))
  save_generator(registry.create('stylegan2', SMALL_OPTIONS, rngs), folder / 'small')
  numbers = ['--layer=3', '--samples=24', '--parts=2', '--batches=1,3', '--seconds=0', '--refined=2']
  done = run(f'--generator={folder / "small"}', f'--out={folder}', *numbers)
  assert done.returncode == 0, done.stderr
  return json.loads((folder / 'edits-small-3.json').read_text()), done.stdout


def test_edits_are_measured_against_plain_resumes(measured):
  record, said = measured
  assert [row['batch'] for row in record['edits']] == [1, 3]
  for row in record['edits']:
    assert row['compiled_again'] == 0
    assert row['calls'] >= 5
    assert row['first_seconds']['edited'] > row['seconds']['edited'] > 0
    assert row['per_second']['plain'] == pytest.approx(row['batch'] / row['seconds']['plain'])
    assert row['extra'] == pytest.approx(row['seconds']['edited'] / row['seconds']['plain'] - 1)
  assert 'edits/s' in said


def test_refinement_is_measured_against_the_published_loop(measured):
  record, said = measured
  rows = {row['method']: row for row in record['refinement']}
  ours = rows['ours, tolerance 0.0001']
  published = rows['published, as_published, rate 1e-05']
  assert ours['error'] <= published['error'] * (1 + 1e-6) <= record['global_error'] * (1 + 1e-5)
  assert any('best rate' in name for name in rows)
  assert all(row['seconds'] > 0 for row in rows.values())
  assert said.count('published') >= 5


def test_unknown_arguments_are_refused():
  done = run('--batchs=1')
  assert done.returncode != 0
  assert 'batchs' in done.stderr
