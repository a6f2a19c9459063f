"""Paired differences: which methods differ clearly, which do not, and that pairs are used."""

import numpy as np
import pytest

from panda_jax.compare.differences import MEASURES, differences

N, RESAMPLES = 200, 500


def samples(spread=1.0, seed=0):
  return spread * np.random.default_rng(seed).standard_normal(N)


def test_methods_are_paired_sample_by_sample():
  """Samples differ much, methods little: unpaired, the difference would drown in the spread of the samples."""
  common = 2 + samples(0.5)
  values = {'best': common, 'near': common + 0.1 + samples(0.05, 1), 'far': common + 1}
  found = differences(values, MEASURES['roir'], RESAMPLES)
  assert [said.best for said in found.values()] == ['best'] * 3
  assert {method: said.same for method, said in found.items()} == {'best': True, 'near': False, 'far': False}
  assert 0 < found['near'].low < found['near'].mean < found['near'].high < 0.12
  assert found == differences(values, MEASURES['roir'], RESAMPLES)


def test_what_matching_leaves_open_and_what_chance_does_is_no_difference():
  common = 2 + samples(0.5)
  values = {'best': common, 'matched': common + 0.005, 'chance': common + 0.01 + samples(0.5, 1)}
  assert all(said.same for said in differences(values, MEASURES['roir'], RESAMPLES).values())


def test_larger_is_better_where_it_is():
  values = {'low': 30 + samples(0.1), 'high': 31 + samples(0.1)}
  found = differences(values, MEASURES['psnr'], RESAMPLES)
  assert found['low'].best == 'high'
  assert not found['low'].same
  assert found['low'].mean == pytest.approx(-1)


def test_samples_without_a_number_are_left_out_in_pairs():
  values = {'best': 2 + samples(0.1), 'other': 3 + samples(0.1), 'none': np.full(N, np.nan)}
  values['best'][:3] = np.nan
  values['other'][2:5] = np.inf
  found = differences(values, MEASURES['roir'], RESAMPLES)
  assert set(found) == {'best', 'other'}
  assert found['other'].mean == pytest.approx(np.mean((values['other'] - values['best'])[5:]))
  assert differences({'none': values['none']}, MEASURES['roir'], RESAMPLES) == {}


def test_intervals_hold_as_often_as_they_say():
  """Of 100 draws of two methods that are alike, 95 % are not told apart; 4 standard deviations of chance allowed."""
  rng = np.random.default_rng(3)
  same = [
    differences(
      {'a': 1 + rng.standard_normal(50), 'b': 1 + rng.standard_normal(50)},
      MEASURES['roir']._replace(slack=lambda best: 0.0),
      100,
    ).values()
    for _ in range(100)
  ]
  assert np.mean([all(said.same for said in some) for some in same]) > 0.86
