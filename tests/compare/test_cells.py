"""Cells of the comparison: the chosen edits, their strengths, their samples, and the numbers."""

import numpy as np
import pytest

from panda_jax.compare.cells import Cell, Setting, choose, load_cell, measure
from panda_jax.compare.protocol import Applier, Bench, Candidate, Samples
from panda_jax.editing.editor import Edit
from panda_jax.regions import metrics
from tests.planted_generators import PartsGenerator

TARGET = 0.1
MAPPING = {'truncation': 1.0, 'truncation_layers': None}


def samples(generator, first, count):
  return Samples(generator, range(first, first + count), 8, MAPPING)


def channel(generator, c, part=0, scale=1.0):
  """The edit of one channel at one part."""
  direction = np.zeros(generator.layers[1][0], np.float32)
  direction[c] = scale
  return Candidate(f'channel {c}', edit=Edit(direction, generator.parts[:, part].astype(np.float32), np.float32(1)))


def setting(generator, part=0, target=TARGET):
  return Setting('region', generator.region(part), target, (0.5, 1.0, 2.0), 50)


@pytest.fixture(scope='module')
def bench(generator):
  return Bench(Applier(generator, 1), 256)


@pytest.fixture(scope='module')
def sets(generator):
  """Held-out and test samples; 20 of them, which no batch of 8 divides."""
  return samples(generator, 0, 20), samples(generator, 50, 20)


@pytest.fixture(scope='module')
def cell(generator, bench, sets):
  return measure(bench, *sets, [channel(generator, c) for c in (3, 1, 0, 2)], setting(generator), None)


def test_the_channel_that_leaks_least_is_chosen_at_the_strength_that_matches(cell):
  assert cell.record['label'] == 'channel 0'
  assert cell.record['reached']
  assert abs(cell.record['heldout']['change'] / TARGET - 1) <= 0.005  # the tolerance of match_strength
  assert cell.record['roir']['mean'] < 1e-5  # it spreads nowhere; rounding of float32
  assert len(cell.record['tried']) == 8  # four candidates, two signs


def test_every_candidate_is_compared_at_the_same_change(cell):
  tried = cell.record['tried']
  assert all(abs(record['change'] / TARGET - 1) <= 0.005 for record in tried)
  by_spread = [np.mean([r['roir'] for r in tried if r['label'] == f'channel {c}']) for c in range(4)]
  assert by_spread == sorted(by_spread)


def test_the_numbers_are_those_of_the_images(generator, bench, sets):
  offered = [channel(generator, 2)]
  cell = measure(bench, *sets, offered, setting(generator), None)
  latents = generator.map(np.concatenate([np.random.RandomState(t).randn(1, generator.z_dim) for t in range(50, 70)]))
  state = generator.run_to(latents, 1)
  step = cell.record['alpha'] * generator.parts[:, 0].reshape(8, 8, 1) * np.eye(4)[2].reshape(1, 1, 4)
  change = generator.run_from(latents, state.replace(features=state.features + step[None]), 1) - generator(latents)
  change = np.asarray(change, np.float64)
  mask = generator.region(0)[None, ..., None]
  norms = [np.sqrt(np.sum((change * region) ** 2, axis=(1, 2, 3))) for region in (~mask, mask)]
  # float32 images: relative differences of 1e-5
  assert cell.record['roir']['mean'] == pytest.approx(np.mean(norms[0] / norms[1]), rel=1e-4)
  assert cell.record['roir']['median'] == pytest.approx(np.median(norms[0] / norms[1]), rel=1e-4)
  inside = norms[1] / np.sqrt(mask.sum() * 3)
  assert cell.record['test']['change'] == pytest.approx(np.median(inside), rel=1e-4)
  assert cell.record['test']['change'] == pytest.approx(TARGET, rel=0.01)  # the tolerance of the test samples
  np.testing.assert_allclose(cell.arrays['leakage'], np.sqrt(np.mean(change**2, -1)).mean(0), atol=1e-5)


def test_nothing_is_chosen_on_test_samples(generator, bench, sets):
  """Other test samples change no choice and no strength."""
  offered = [channel(generator, c) for c in (1, 2)]
  found = [
    measure(bench, sets[0], samples(generator, first, 10), offered, setting(generator), None) for first in (500, 900)
  ]
  assert found[0].record['tried'] == found[1].record['tried']
  assert found[0].record['candidate'] == found[1].record['candidate']
  assert found[0].record['heldout'] == found[1].record['heldout']
  assert found[0].record['roir'] != found[1].record['roir']


def test_a_change_that_cannot_be_reached_is_told(sets):
  generator = PartsGenerator((0.0, 1.0), saturation=0.05, size=32)
  heldout, test = (samples(generator, first, 8) for first in (0, 50))
  bench = Bench(Applier(generator, 1), 256)
  cell = measure(bench, heldout, test, [channel(generator, 0), channel(generator, 1)], setting(generator), None)
  assert not cell.record['reached']
  assert 0 < cell.record['heldout']['change'] < TARGET


def test_an_edit_without_effect_is_no_number(generator, bench, sets):
  cell = measure(bench, *sets, [channel(generator, 0, scale=0.0)], setting(generator), None)
  assert not cell.record['reached']
  assert cell.record['roir']['mean'] is None
  assert cell.record['roir']['flagged'] == 20


def test_an_edit_of_latents_is_measured_alike(generator, bench, sets):
  """Moving z by one number of the core is the same as adding its part to the features."""
  step = np.zeros(generator.z_dim, np.float32)
  step[2] = 1  # part 0, channel 2
  still = PartsGenerator((0.0, 1.0, 2.0, 4.0), size=32)  # the same gains for all samples
  bench = Bench(Applier(still, 1), 256)
  heldout = samples(still, 0, 8)
  chosen = [
    choose(bench, heldout, [candidate], setting(still))
    for candidate in (Candidate('z', step=step, space='z'), channel(still, 2))
  ]
  assert abs(chosen[0].alpha) == pytest.approx(abs(chosen[1].alpha), rel=1e-4)
  assert chosen[0].tried[0]['roir'] == pytest.approx(chosen[1].tried[0]['roir'], rel=1e-4)


def test_other_strengths_and_candidates_compile_nothing(generator, bench, sets):
  mask = generator.region(0)
  candidates = [channel(generator, c) for c in range(4)]
  bench.change(sets[0], candidates[0], 0.1, mask)
  before = bench.applier.editor.compilations(), metrics._norms._cache_size()
  for candidate in candidates:
    for alpha in (0.3, -2.0):
      bench.change(sets[1], candidate, alpha, mask)
  assert (bench.applier.editor.compilations(), metrics._norms._cache_size()) == before


def test_a_cell_comes_back_from_disk(cell, tmp_path):
  cell.save(tmp_path, 'name')
  again = load_cell(tmp_path, 'name')
  assert again.record == cell.record
  assert {k: v.tobytes() for k, v in again.arrays.items()} == {k: v.tobytes() for k, v in cell.arrays.items()}
  (tmp_path / 'name.json').write_text('{"half')
  assert load_cell(tmp_path, 'name') is None
  assert isinstance(cell, Cell)
