"""The recommended number of parts: found if it was planted, and not given if it cannot be known."""

import re

import numpy as np
import pytest

import panda_jax
from panda_jax.experiments.agreement import mutual
from panda_jax.experiments.recommendation import Level, by_number, recommended
from tests import planted

S = 64


def levels(errors, seeds=1.0, halves=None):
  """{parts: held-out error}."""
  values = seeds if isinstance(seeds, dict) else dict.fromkeys(errors, seeds)
  return [Level(parts, error, error, values.get(parts), halves) for parts, error in errors.items()]


def noise(parts, error, until):
  """Further errors: each additional part lowers the error as much as it would for noise."""
  return {more: error * (S - more) / (S - parts) for more in range(parts, until)}


def test_the_number_beyond_which_parts_take_noise_only():
  said = recommended(levels({3: 0.4, 4: 0.2} | noise(5, 0.1, 10)), S)
  assert said.parts == 5
  assert 'from 4 to 5' in said.reason
  assert 'at most 1.0 times' in said.reason
  assert 'with other seeds (agreement 1.00)' in said.reason


def test_a_row_for_each_number_of_parts():
  found = [
    Level(2, 0.5, 0.5, 1.0, None),
    Level(4, 0.4, None, None, 0.9),
    *levels({5: 0.4} | noise(6, 0.4 * 58 / 59, 8)),
  ]
  columns, cells = by_number(found, S)
  assert columns == ['parts', 'error', 'held out', 'seeds', 'halves', 'times noise']
  assert cells[0] == ['2', '0.50000', '0.50000', '1.000', '', '']
  assert cells[1] == ['4', '0.40000', '', '', '0.900', '']
  assert [row[-1] for row in cells] == ['', '', '', '1.0', '1.0']


@pytest.mark.parametrize(
  ('found', 'said'),
  [
    (levels({3: 0.4, 4: 0.2, 5: 0.1}), 'up to 5: parts still pay'),
    (levels({3: 0.4, 4: 0.2, 6: 0.1}), r'All of them come back with other seeds .* or sweep --parts=8 too\.$'),
    (levels({56: 0.4, 61: 0.01}), r'8 to 16 are usual for edits; or sweep --parts=64 too\.$'),  # as many as positions
    (levels({3: 0.4, 4: 0.2, 5: 0.1}, {3: 1.0, 4: 0.95, 5: 0.4}), r'4 parts come back .*0.95\), 5 do not \(0.40\)'),
    (levels({3: 0.4, 4: 0.2, 5: 0.1}, None, halves=0.3), r'None of them come back in both halves of the samples \('),
    (levels({3: 0.4, 4: 0.2, 5: 0.1}, 0.97, halves=0.93), r'with other seeds and in both halves .*0.93 or more'),
    (levels(noise(5, 0.1, 10)), 'the fewest that were tried'),
    (levels({4: 0.2} | noise(8, 0.1, 12), 0.5), 'they overlap, or are fewer: try those between 4 and 8'),
    (levels({7: 0.2} | noise(8, 0.1, 12), 1.0, halves=0.3), r'in both halves of the samples \(agreement 0.30\)'),
    (levels({6: 0.1064} | noise(7, 0.1025, 12)), 'falls slowly'),
    (levels({4: 0.2}), 'fewer than two'),
    ([Level(2, 0.3, None, 1.0, None), Level(3, 0.2, None, 1.0, None)], '--held_out=N'),
    ([], 'fewer than two'),
  ],
)
def test_what_cannot_be_known_is_said(found, said):
  answer = recommended(found, S)
  assert answer.parts is None
  assert str(answer).startswith('No best number is known')
  assert re.search(said, answer.reason)
  assert ('halves' in answer.reason) == any(level.halves for level in found)  # only if halves were fitted


def test_one_seed_and_one_part():
  said = recommended(levels(noise(1, 0.1, 4), None), S)
  assert said.parts == 1
  assert 'With one seed it is not known' in said.reason


def test_all_explained_is_no_division_by_zero():
  assert recommended(levels({2: 0.1, 3: 0.0, 4: 0.0}), S).parts == 3


def test_planted_parts_are_found():
  """One draw with a noise share of a fifth; benchmarks/parts.py has many draws."""
  Z, _, _ = planted.disjoint(N=90, grid=(6, 6), C=8, parts=4, noise=0.2, seed=3)
  found = []
  for parts in (3, 4, 5):
    fits = [panda_jax.fit(Z[:60], parts=parts, seed=seed, restarts=8, joint=False) for seed in (0, 1)]
    best = min(fits, key=lambda fit: fit.relative_error)
    same = mutual([fit.factors.parts for fit in fits])
    found.append(Level(parts, best.relative_error, best.factors.relative_error(Z[60:]), same, None))
  assert recommended(found, 36).parts == 4
  assert np.diff([level.held_out for level in found]).max() < 0
