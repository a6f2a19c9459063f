"""Robust PCA: the published iteration step by step, and the optimum by a certificate and by planted splits."""

import jax
import numpy as np
import pytest

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.rivals import robust_pca as module
from panda_jax.rivals.robust_pca import certificate, default_weight, robust_pca
from tests.rivals import references

# Iterations and ranks of the published code, inside then outside; from meta.json of the fixtures.
PUBLISHED = {
  ('mean60', '', 60): ((1317, 1), (525, 1)),
  ('mean20', '', 20): ((1177, 4), (1925, 3)),
  ('mean8', '', 8): ((113, 31), (241, 33)),
  ('rgb60', 'rgb__', 60): ((678, 2), (428, 2)),
}


@pytest.fixture(scope='module')
def stored():
  return references.numbers('lowrankgan')


@pytest.mark.parametrize(('case', 'prefix', 'weight'), PUBLISHED)
def test_published_iteration(stored, case, prefix, weight):
  for side, expected in zip('fb', PUBLISHED[case, prefix, weight], strict=True):
    found = robust_pca(stored[f'{prefix}M_{side}'], 1 / weight, published=True)
    assert (found.iterations, found.rank) == expected
    assert np.linalg.matrix_rank(found.low) == found.rank  # what the published code counts
    assert found.converged
    if f'{case}__L_{side}' in stored:
      low = stored[f'{case}__L_{side}']
      np.testing.assert_allclose(found.low, low, atol=1e-6 * np.abs(low).max())


@pytest.mark.parametrize('iterations', [1, 10])
def test_published_steps(stored, iterations):
  found = robust_pca(stored['M_f'], 1 / 60, published=True, iterations=iterations)
  assert (found.iterations, found.converged) == (iterations, False)
  np.testing.assert_allclose(found.low, stored[f'mean60__L_f_iter{iterations}'], atol=1e-12)
  np.testing.assert_allclose(found.sparse, stored[f'mean60__S_f_iter{iterations}'], atol=1e-12)


@pytest.mark.parametrize('weight', [60, 20, 8])
def test_ours_reaches_the_optimum_where_the_published_rule_stops_before(stored, weight):
  M = stored['M_f']
  ours, theirs = robust_pca(M, 1 / weight), robust_pca(M, 1 / weight, published=True)
  assert ours.converged
  assert ours.gap < 1e-6
  assert ours.objective <= theirs.objective * (1 + 1e-6)
  np.testing.assert_allclose(ours.low + ours.sparse, M, atol=1e-15)
  if weight == 60:  # L = 0, whose objective is lam times the sum of all entries
    assert (ours.rank, np.abs(ours.low).max()) == (0, 0)
    np.testing.assert_allclose(ours.objective, np.abs(M).sum() / 60)
    assert theirs.objective > 1.04 * ours.objective
  if weight == 8:  # the README: the published one is at the optimum to 1e-6 of L, measured by going on
    assert ours.rank == theirs.rank == 31
    np.testing.assert_allclose(ours.low, theirs.low, atol=2e-5 * np.abs(theirs.low).max())


def test_no_point_beats_the_certificate(stored):
  """Any L bounds the optimum from above, and our bound from below must hold for all of them."""
  M, lam = stored['M_b'], 1 / 10
  found = robust_pca(M, lam)
  bound = found.objective * (1 - found.gap)
  rng = np.random.default_rng(0)
  for scale in (1e-4, 1e-3, 1e-2):
    noise = rng.standard_normal(M.shape) * scale * np.abs(M).max()
    L = found.low + noise + noise.T
    assert certificate(M, L, np.zeros_like(M), lam)[0] >= bound


def low_rank_and_sparse(d=48, rank=3, entries=0.05, seed=0):
  rng = np.random.default_rng(seed)
  U = rng.standard_normal((d, rank))
  S = np.triu(rng.random((d, d)) < entries / 2) * rng.choice([-4.0, 4.0], (d, d))
  return U @ U.T, S + S.T


@pytest.mark.parametrize('scale', [1, 1e-7, 1e7])
def test_a_planted_split_is_recovered(scale):
  """Candes et al., theorem 1.1: exactly, for few and scattered entries of any size."""
  L, S = low_rank_and_sparse()
  found = robust_pca(scale * (L + S), tolerance=1e-8)
  assert found.rank == 3
  np.testing.assert_allclose(found.low, scale * L, atol=1e-5 * scale * np.abs(L).max())


def test_small_weights_leave_nothing_of_low_rank():
  M = low_rank_and_sparse()[0]
  assert robust_pca(M, 1 / len(M)).rank == 0
  assert robust_pca(np.zeros((4, 4))).rank == 0
  assert default_weight(64) == 1 / 8


def test_compiled_once_and_float64_stays_inside():
  L, S = low_rank_and_sparse()
  for published in (False, True):
    robust_pca(L + S, published=published, iterations=20)
  before = module._relaxed._cache_size(), module._published._cache_size()
  for published in (False, True):
    robust_pca(L - S, 0.2, published=published, iterations=30)
  assert (module._relaxed._cache_size(), module._published._cache_size()) == before
  assert not jax.config.jax_enable_x64


def test_mistakes():
  with pytest.raises(InputError, match=r'^M=shape \(2, 3\): it is not a square matrix'):
    robust_pca(np.ones((2, 3)))
  with pytest.raises(InputError, match='it is not symmetric'):
    robust_pca(np.array([[1.0, 2.0], [0.0, 1.0]]))
  with pytest.raises(NonFiniteError, match=r'^M=entry \(0, 1\)'):
    robust_pca(np.array([[1.0, np.nan], [np.nan, 1.0]]))
  with pytest.raises(InputError, match=r'^lam=0: it is not a positive number'):
    robust_pca(np.eye(3), 0)
