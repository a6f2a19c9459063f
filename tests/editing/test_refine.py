"""Refinement finds moved planted parts, makes no sample worse, and gives the result of the block solver."""

import dataclasses

import numpy as np
import pytest

from panda_jax.editing.refine import Refined, refine, refine_batch
from panda_jax.errors import InputError, NonFiniteError
from panda_jax.runtime.compatibility import enable_x64
from panda_jax.solver import block
from panda_jax.solver.factors import Factors
from tests import planted

GRID, WIDTH = (16, 16), 4


def moved_parts(seed=0, samples=6, C=24, R_C=None, noise=0.0, farthest=WIDTH // 2):
  """Four square parts; in each sample each part is moved by up to `farthest` cells, and the supports stay disjoint.

  Returns features (N, H, W, C), the global factors, and the true parts (N, S, 4).
  """
  rng = np.random.default_rng(seed)
  corners = [(r, c) for r in (2, 10) for c in (2, 10)]
  values = rng.uniform(0.5, 1.5, (4, WIDTH, WIDTH))

  def drawn(moves):
    P = np.zeros((*GRID, 4))
    for k, ((r, c), (down, right)) in enumerate(zip(corners, moves, strict=True)):
      P[r + down : r + down + WIDTH, c + right : c + right + WIDTH, k] = values[k]
    P = P.reshape(-1, 4)
    return P / np.linalg.norm(P, axis=0, keepdims=True)

  A = np.linalg.qr(rng.standard_normal((C, C)))[0][:, :R_C]
  true = [drawn(rng.integers(-farthest, farthest + 1, (4, 2)) if i else [(farthest,) * 2] * 4) for i in range(samples)]
  core = rng.standard_normal((samples, 4, A.shape[1])) * np.linspace(1, 3, 4).reshape(1, 4, 1)
  Z = np.stack(true) @ core @ A.T
  Z = Z + noise * Z.std() * rng.standard_normal(Z.shape)
  factors = Factors(A, drawn([(0, 0)] * 4), GRID)
  return Z.reshape(samples, *GRID, C).astype(np.float32), factors, np.stack(true)


def overlaps(found, true, above=0.2):
  """IoU of each part's cells above a share of its maximum with the true support, (N, R_S)."""
  found, true = found > above * found.max(axis=1, keepdims=True), true > 0
  return (found & true).sum(axis=1) / (found | true).sum(axis=1)


def errors_of(features, factors, parts):
  """Relative errors (N,) in float64."""
  pairs = zip(features, parts, strict=True)
  return np.array([dataclasses.replace(factors, parts=p).relative_error(z[None]) for z, p in pairs])


@pytest.mark.parametrize(
  ('C', 'R_C', 'noise'), [(24, None, 0), (6, None, 0), (40, 10, 0), (300, None, 0), (24, None, 0.2)]
)
def test_finds_parts_that_moved_by_half_their_width(C, R_C, noise):
  for seed in range(3):
    features, factors, true = moved_parts(seed, C=C, R_C=R_C, noise=noise)
    refined = refine(features, factors)
    assert overlaps(refined.parts, true).min() > 0.9
    assert refined.errors[:, 1].max() < (1e-5 if noise == 0 else 0.05)
    if noise == 0 and C > 6:  # and nothing remains at their old place
      assert overlaps(refined.parts, true, above=0).min() > 0.9


def test_no_sample_gets_worse_and_errors_are_those_of_the_parts():
  features = planted.structured(N=12, grid=(8, 8), C=16)
  rng = np.random.default_rng(0)
  factors = Factors(np.linalg.qr(rng.standard_normal((16, 16)))[0][:, :9], rng.uniform(0, 0.2, (64, 5)), (8, 8))
  refined = refine(features, factors)
  assert refined.parts.min() >= 0
  assert refined.parts.dtype == refined.errors.dtype == np.float32
  before = errors_of(features, factors, np.broadcast_to(factors.parts, refined.parts.shape))
  after = errors_of(features, factors, refined.parts)
  np.testing.assert_allclose(refined.errors, np.stack([before, after], axis=1), rtol=1e-5)
  assert (after <= before).all()
  assert after.mean() < 0.9 * before.mean()


@pytest.mark.parametrize(('features_unit', 'parts_unit'), [(1e-25, 1), (1e25, 1), (1, 1e-4), (1, 1e3)])
def test_units_do_not_matter(features_unit, parts_unit):
  features, factors, _ = moved_parts(samples=3, noise=0.1)
  expected = refine(features, factors)
  other = dataclasses.replace(factors, parts=factors.parts * parts_unit, appearances=factors.appearances / parts_unit)
  refined = refine((features * np.float64(features_unit)).astype(np.float32), other)
  np.testing.assert_allclose(refined.errors, expected.errors, rtol=1e-4)
  np.testing.assert_allclose(refined.parts / parts_unit, expected.parts, atol=2e-3 * expected.parts.max())


def test_parts_that_suit_the_sample_already_are_kept_to_the_bit():
  features, factors, _ = moved_parts(farthest=0)
  refined = refine(features, factors)
  np.testing.assert_array_equal(refined.parts, np.broadcast_to(factors.parts, refined.parts.shape))
  np.testing.assert_array_equal(refined.errors[:, 0], refined.errors[:, 1])
  with_noise, _, _ = moved_parts(noise=0.1)
  assert (refine(with_noise, factors, proximal=1e30).parts == factors.parts).all()


@pytest.mark.parametrize('channels', [12, 100])  # thin products, and Gram matrices since S = 64 < R_C
def test_ends_where_the_block_solver_ends(channels):
  features = planted.structured(N=3, grid=(8, 8), C=channels, seed=1)
  rng = np.random.default_rng(1)
  A = np.linalg.qr(rng.standard_normal((channels, channels)))[0] * rng.uniform(0.8, 1.2, channels)[None]
  factors = Factors(A, rng.uniform(0, 0.2, (64, 3)), (8, 8))
  refined = refine(features, factors, tolerance=1e-6, steps=2000)
  for i, z in enumerate(features.reshape(3, 64, channels).astype(np.float64)):
    Y = z @ A
    with enable_x64(True):
      K1, K2 = Y @ Y.T, Y @ A.T @ A @ Y.T
      end = block.minimise_block(K1, K2, factors.parts.astype(np.float64), steps=2000, tolerance=1e-8, nonnegative=True)
    expected = errors_of(features[i : i + 1], factors, np.asarray(end.X)[None])[0]
    assert refined.errors[i, 1] == pytest.approx(expected, rel=1e-4)


def test_the_pull_keeps_parts_near_the_global_ones():
  features, factors, _ = moved_parts(noise=0.1)
  far = [np.linalg.norm(refine(features, factors, proximal=p).parts - factors.parts) for p in (0, 0.1, 1, 100)]
  assert far == sorted(far, reverse=True)
  assert far[3] < 0.05 * far[0]


def test_batches_and_neighbours_do_not_matter():
  features, factors, _ = moved_parts(samples=5, noise=0.1)
  one = refine(features, factors, batch=1)
  for batch in (2, 5, 64):
    other = refine(features, factors, batch=batch)
    np.testing.assert_allclose(other.parts, one.parts, atol=2e-3 * one.parts.max())
    np.testing.assert_allclose(other.errors, one.errors, rtol=1e-4)
  np.testing.assert_allclose(refine(features[3:4], factors).parts[0], one.parts[3], atol=1e-6)


def test_one_program_serves_other_samples_factors_and_settings():
  features, factors, _ = moved_parts(samples=4, noise=0.1)
  refine(features, factors, batch=2)
  compiled = refine_batch._cache_size()
  other = dataclasses.replace(factors, parts=factors.parts[:, ::-1] * 1.1)
  refine(features[1:], other, 0.3, steps=7, tolerance=1e-2, batch=2)
  assert refine_batch._cache_size() == compiled


def test_dead_parts_and_empty_samples_stay_what_they_are():
  features, factors, _ = moved_parts(noise=0.1)
  parts = factors.parts.copy()
  parts[:, 2] = 0
  features[1] = 0
  refined = refine(features, dataclasses.replace(factors, parts=parts))
  assert not refined.parts[:, :, 2].any()
  np.testing.assert_array_equal(refined.errors[1], 0)
  assert np.isfinite(refined.parts).all()


def test_a_mean_that_the_fit_subtracted_is_subtracted():
  features, factors, true = moved_parts()
  mean = np.random.default_rng(3).standard_normal((256, 24)).astype(np.float32)
  centred = dataclasses.replace(factors, mean=mean)
  refined = refine(features + mean.reshape(1, *GRID, 24), centred)
  assert overlaps(refined.parts, true).min() > 0.9
  assert refined.of_sample(2).mean is mean


def test_each_sample_gives_factors_for_edits():
  features, factors, _ = moved_parts(samples=3)
  refined = refine(features.reshape(3, 256, 24), factors)
  assert isinstance(refined, Refined)
  np.testing.assert_array_equal(refined.of_sample(1).parts, refined.parts[1])
  np.testing.assert_array_equal(refined.of_sample(1).appearances, factors.appearances)
  with pytest.raises(InputError, match='sample=3'):
    refined.of_sample(3)


@pytest.mark.parametrize(
  ('changes', 'text'),
  [
    ({'features': np.zeros((2, 16, 15, 24))}, 'features=shape 2x16x15x24'),
    ({'features': np.zeros((0, 16, 16, 24))}, 'features=shape 0x'),
    ({'proximal': -1}, 'proximal=-1'),
    ({'proximal': np.nan}, 'proximal=nan'),
    ({'steps': 0}, 'steps=0'),
    ({'tolerance': 'x'}, 'tolerance=x'),
    ({'batch': 0}, 'batch=0'),
  ],
)
def test_says_in_one_line_what_cannot_be_used(changes, text):
  features, factors, _ = moved_parts(samples=2)
  with pytest.raises(InputError, match=text) as error:
    refine(**{'features': features, 'factors': factors} | changes)
  assert '\n' not in str(error.value)


def test_names_a_sample_that_is_not_finite():
  features, factors, _ = moved_parts(samples=4)
  features[2, 3, 3, 1] = np.inf
  with pytest.raises(NonFiniteError, match='sample 2'):
    refine(features, factors)
