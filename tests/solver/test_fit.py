"""`fit` as a whole: recovery, descent, invariances, every shape, every option."""

import functools
import os

import jax
import ml_dtypes
import numpy as np
import pytest

import panda_jax
from panda_jax.runtime import clock
from panda_jax.runtime.compatibility import enable_x64
from tests import planted
from tests.simulated import QUICK, run_with_devices

FEATURES = planted.structured()  # (48, 8, 8, 16)
KINDS = {kind: FEATURES.astype(getattr(ml_dtypes, kind, kind)) for kind in ('float16', 'bfloat16', 'float64')}
CASES = {  # features, options
  'all': (FEATURES, {'parts': 5}),
  'streamed': (FEATURES, {'parts': 5, 'store': 'source', 'budget': 80_000, 'batch': 10}),
  'low': (FEATURES, {'parts': 5, 'appearances': 4, 'center': 'position'}),
  'odd': (FEATURES[:47], {'parts': 5}),
  'few': (FEATURES[:3], {'parts': 2}),
  **{kind: (features, {'parts': 5}) for kind, features in KINDS.items()},
}


@functools.cache
def fitted(name):
  features, options = CASES[name]
  return panda_jax.fit(features, **options)


@pytest.fixture(scope='module')
def result():
  return fitted('all')


def test_planted_parts_are_recovered_exactly():
  Z, P, basis = planted.disjoint(rank=6)
  fitted = panda_jax.fit(Z, parts=4, appearances=6)
  _, _, cosines = planted.matched(P, fitted.factors.parts)
  ours = fitted.factors.parts / np.linalg.norm(fitted.factors.parts, axis=0)
  P, ours, cosines = planted.matched(P, ours)
  np.testing.assert_allclose(ours, P, atol=1e-3)
  A = np.linalg.qr(fitted.factors.appearances)[0]
  np.testing.assert_allclose(A @ A.T, basis @ basis.T, atol=1e-3)  # the range of A, as a projector
  assert cosines.min() > 1 - 1e-6
  assert fitted.relative_error < 1e-6


def test_planted_parts_are_recovered_under_noise():
  Z, P, _ = planted.disjoint(N=80, noise=0.2)
  _, _, cosines = planted.matched(P, panda_jax.fit(Z, parts=4).factors.parts)
  assert cosines.min() > 0.98


def test_overlapping_parts_cost_no_more_than_the_planted_ones():
  rng = np.random.default_rng(0)
  P = np.linalg.qr(rng.uniform(0, 1, (36, 3)))[0]
  P = np.abs(rng.uniform(0, 1, (36, 3)) * (rng.uniform(0, 1, (36, 3)) > 0.4))
  Z = np.einsum('sr,nrc->nsc', P, rng.standard_normal((60, 3, 8)))
  Z = (Z + 0.1 * rng.standard_normal(Z.shape)).astype(np.float32)
  scale = 1 / np.linalg.norm(P, 2)
  at_planted = panda_jax.Factors(np.eye(8), P * scale, (6, 6)).relative_error(Z)
  assert panda_jax.fit(Z, parts=3, grid=(6, 6)).relative_error <= at_planted


def test_better_than_parts_alone(result):
  alone = panda_jax.fit(FEATURES, parts=5, joint=False)
  assert result.relative_error < alone.relative_error
  A = alone.factors.appearances
  np.testing.assert_allclose(A.T @ A * np.trace(A @ A.T) ** -1 * 16, np.eye(16), atol=1e-4)  # W = I but for scale


def test_reported_error_is_that_of_the_exported_factors(result):
  assert result.factors.relative_error(FEATURES) == pytest.approx(result.relative_error, rel=1e-5)


def test_error_never_increases(result):
  errors = [h['relative_error'] for h in result.history if h['phase'] != 'search']
  assert len(errors) > 3
  assert np.diff(errors).max() <= 1e-6  # rounding of float32 sums


def test_canonical_form(result):
  A, P = result.factors.appearances.astype(np.float64), result.factors.parts.astype(np.float64)
  Z = FEATURES.reshape(48, 64, 16).astype(np.float64)
  assert np.sum(P * P) == pytest.approx(5, rel=1e-5)
  assert P.min() >= 0
  coordinates = Z.reshape(-1, 16) @ A
  moment = coordinates.T @ coordinates
  np.testing.assert_allclose(moment, np.diag(np.diag(moment)), atol=1e-4 * moment[0, 0])
  assert np.all(np.diff(np.diag(moment)) <= 0)
  cubes, absolute = (coordinates**3).sum(0), np.abs(coordinates**3).sum(0)
  assert np.all((cubes > 0) | (np.abs(cubes) <= 2e-3 * absolute))
  assert np.all(np.diff(result.part_energy) <= 0)
  energy = np.einsum('nkc,nkc->k', *([np.einsum('sk,nsc,cr->nkr', P, Z, A)] * 2)) / np.sum(Z * Z)
  np.testing.assert_allclose(result.part_energy, energy, rtol=1e-4)


def test_same_factors_for_permuted_samples(result):
  order = np.random.default_rng(1).permutation(48)
  planted.assert_same_factors(result.factors, panda_jax.fit(FEATURES[order], parts=5).factors)


@pytest.mark.parametrize('unit', [1e-4, 1e4])
def test_same_factors_in_any_unit(result, unit):
  planted.assert_same_factors(result.factors, panda_jax.fit(FEATURES * np.float32(unit), parts=5).factors)


@pytest.mark.parametrize('center', ['none', 'position'])
@pytest.mark.parametrize(
  ('unit', 'dtype'),
  [
    (2.0**-126, 'float32'),  # most entries are denormal
    (2.0**-120, 'bfloat16'),
    (2.0**120, 'float32'),
    (2.0**-12, 'float16'),
    (2.0**-1000, 'float64'),
    (2.0**1010, 'float64'),
  ],
)
def test_the_unit_of_the_features_does_not_matter(center, unit, dtype, tmp_path):
  """Powers of two, so that features in range are the same to the last bit, and what rounds is denormal storage."""
  dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
  one = FEATURES.astype(dtype).astype(np.float64)
  scaled = (one * unit).astype(dtype)
  assert np.isfinite(scaled.astype(np.float64)).all()
  first, second = (panda_jax.fit(Z, parts=5, center=center) for Z in (one.astype(dtype), scaled))
  # Denormal numbers keep fewer bits: 2^-149 beside 2^-126, the rms, is a relative 1e-7.
  assert second.relative_error == pytest.approx(first.relative_error, rel=2e-5)
  planted.assert_same_factors(first.factors, second.factors)
  assert second.factors.relative_error(scaled) == pytest.approx(second.relative_error, rel=1e-4)
  if center == 'position':
    mean = first.factors.mean.astype(np.float64) * unit
    np.testing.assert_allclose(second.factors.mean, mean, rtol=0, atol=1e-4 * np.abs(mean).max())
    second.factors.save(tmp_path / 'f.npz')
    np.testing.assert_array_equal(panda_jax.Factors.load(tmp_path / 'f.npz').mean, second.factors.mean)


@pytest.mark.parametrize('batch', [1, 7, 100])
def test_same_factors_for_any_batch(result, batch):
  planted.assert_same_factors(result.factors, panda_jax.fit(FEATURES, parts=5, batch=batch).factors)


@pytest.mark.parametrize('store', ['host', 'source'])
def test_same_factors_from_every_store(result, store, tmp_path):
  np.save(tmp_path / 'z.npy', FEATURES)
  fitted = panda_jax.fit(tmp_path / 'z.npy', parts=5, store=store, budget=64 * 16 * 4 * 20, batch=9)
  assert {h['phase'] for h in fitted.history} >= {'gram'}  # it was streamed
  planted.assert_same_factors(result.factors, fitted.factors)


def test_a_file_that_is_cut_during_the_fit_ends_it_with_a_sentence(tmp_path):
  np.save(tmp_path / 'z.npy', FEATURES)

  def cut(state):
    os.truncate(tmp_path / 'z.npy', 10_000)

  with pytest.raises(panda_jax.InputError, match=r'z\.npy: it changed during the fit \(from 196736 to 10000 bytes\)'):
    panda_jax.fit(tmp_path / 'z.npy', parts=5, store='source', budget=64 * 16 * 4 * 20, batch=9, on_state=cut)


def test_same_columns_of_a_where_energies_are_apart(result):
  other = panda_jax.fit(FEATURES[::-1], parts=5)
  tied = {i for pair in result.findings.tied_appearances for i in pair}
  clear = [i for i in range(16) if i not in tied | set(result.findings.unsigned_appearances)]
  A, B = result.factors.appearances[:, clear], other.factors.appearances[:, clear]
  assert len(clear) > 5
  # Rotations by float32 rounding (1e-6) over a relative gap of at least 1e-2, with margin for weak directions of W.
  assert np.abs(A - B).max() <= 1e-2 * np.abs(A).max()


# Three samples in two parts determine W in six directions of the 16 channels, and the error is flat around its minimum.
LOOSE = {'parts': 5e-3, 'outer': np.inf}


def save(folder, names):
  """What a process of its own does, for `assert_saved` to compare."""
  for name in names:
    fitted(name).factors.save(f'{folder}/{name}.npz')


def assert_saved(folder, names):
  """Asserts that the factors there are those that are found here."""
  for name in names:
    here, there = fitted(name), panda_jax.Factors.load(folder / f'{name}.npz')
    planted.assert_same_factors(here.factors, there, **(LOOSE if name == 'few' else {}))
    assert there.provenance['relative_error'] == pytest.approx(here.relative_error, rel=1e-5), name
    assert there.provenance['reason'] == here.reason == 'converged', name


@pytest.mark.slow
def test_same_factors_on_several_devices(tmp_path):
  names = 'odd', 'streamed', 'few'  # no multiple of the devices, and fewer than those
  code = """
    import sys
    import jax
    from tests.solver import test_fit
    assert jax.device_count() == 8
    test_fit.save(sys.argv[1], sys.argv[2:])
    """
  run_with_devices(8, code, str(tmp_path), *names)
  assert_saved(tmp_path, names)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('instructions', 'flags', 'blas', 'names', 'flat'),
  [
    ('AVX2', '', 'Haswell', ['low', 'few'], ['parts near positions', 'three channels of rank']),
    ('SSE4_2', QUICK, 'Nehalem', ['all', 'streamed', *KINDS], ['one sample, more parts']),  # has no AVX, and no float16
  ],
)
def test_same_factors_with_fewer_instructions(instructions, flags, blas, names, flat, tmp_path, monkeypatch):
  """Products and sums round otherwise there; in float64, in which flat ends are sought, those of NumPy and LAPACK too.

  With AVX2 compiled as users' fits are, while those here are compiled quickly: these are the same factors too.
  """
  monkeypatch.setenv('XLA_FLAGS', f'{flags} --xla_cpu_max_isa={instructions}')
  monkeypatch.setenv('OPENBLAS_CORETYPE', blas)
  code = """
    import sys
    from tests.solver import test_fit, test_valley
    folder, names, flat = sys.argv[1:]
    test_fit.save(folder, names.split(';'))
    for case in flat.split(';'):
      test_valley.check_end(case)
    """
  run_with_devices(1, code, str(tmp_path), ';'.join(names), ';'.join(flat))
  assert_saved(tmp_path, names)


@pytest.mark.parametrize('kind', KINDS)
def test_storage_types_agree_to_their_precision(result, kind):
  other = fitted(kind)
  precision = float(ml_dtypes.finfo(KINDS[kind].dtype).eps)
  assert other.relative_error == pytest.approx(result.relative_error, rel=max(1e-5, precision))
  # Rounded features are other features: parts move by a few times the relative rounding.
  planted.assert_same_factors(
    result.factors, other.factors, parts=max(1e-3, 6 * precision), outer=max(1e-2, 20 * precision)
  )


SHAPES = [
  # N, H, W, C, R_S, R_C
  (1, 4, 4, 6, 2, None),
  (20, 1, 12, 5, 3, 2),
  (12, 2, 3, 20, 6, 20),
  (12, 4, 4, 3, 16, 1),
  (12, 4, 4, 3, 1, 3),
  (12, 1, 1, 4, 1, 2),
  (5, 3, 3, 1, 2, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(('N', 'H', 'W', 'C', 'R_S', 'R_C'), SHAPES)
def test_every_shape_gives_an_answer_no_worse_than_any_simple_one(N, H, W, C, R_S, R_C):
  Z = planted.structured(N, (H, W), C)
  fitted = panda_jax.fit(Z, parts=R_S, appearances=R_C)
  A, P = fitted.factors.appearances, fitted.factors.parts
  assert A.shape == (C, R_C or C)
  assert P.shape == (H * W, R_S)
  assert np.isfinite(A).all()
  assert P.min() >= 0
  assert fitted.factors.relative_error(Z) == pytest.approx(fitted.relative_error, rel=1e-4, abs=1e-6)
  # A simple answer: leading eigenvectors in channels, and the first positions as parts of their own.
  flat = Z.reshape(N, H * W, C).astype(np.float64)
  vectors = np.linalg.eigh(np.einsum('nsc,nsd->cd', flat, flat))[1][:, ::-1][:, : R_C or C]
  simple = panda_jax.Factors(vectors, np.eye(H * W)[:, :R_S], (H, W)).relative_error(Z)
  assert fitted.relative_error <= simple + 1e-5


def test_as_many_parts_as_positions_leave_nothing():
  assert panda_jax.fit(planted.structured(12, (2, 3), 5), parts=6).relative_error < 1e-6


def test_dead_parts_are_named_never_nan():
  Z = np.zeros((10, 4, 4, 3), np.float32)
  Z[:, 0, 0] = np.random.default_rng(0).standard_normal((10, 3))  # a single live position
  fitted = panda_jax.fit(Z, parts=3)
  assert np.isfinite(fitted.factors.parts).all()
  dead = [k for k in range(3) if not fitted.factors.parts[:, k].any()]
  assert list(fitted.findings.dead_parts) == dead
  assert fitted.relative_error < 1e-6


def test_rank_deficient_constant_and_zero_samples():
  Z = planted.structured(20, (4, 4), 6)
  Z[..., 3] = 2.0  # constant channel
  Z[..., 4] = Z[..., 1]  # repeated channel
  Z[..., 5] = 0  # dead channel
  Z[7] = 0  # empty sample
  fitted = panda_jax.fit(Z, parts=3)
  assert np.isfinite(fitted.factors.appearances).all()
  assert fitted.findings.dead_appearances  # two channels carry nothing of their own
  assert fitted.factors.relative_error(Z) == pytest.approx(fitted.relative_error, rel=1e-4)


def test_nested_parts_are_said():
  factors = np.zeros((6, 2))
  factors[:, 0], factors[:2, 1] = 1, 1
  from panda_jax.solver import gauge

  assert gauge.nested(factors) == ((1, 0),)


def test_orthonormal():
  for rank in (None, 4):
    A = panda_jax.fit(FEATURES, parts=5, appearances=rank, orthonormal=True).factors.appearances
    gram = A.T @ A
    np.testing.assert_allclose(gram / gram[0, 0], np.eye(rank or 16), atol=1e-4)  # but for the common scale


@pytest.mark.parametrize('center', ['position', 'channel'])
def test_centring_fits_what_is_left(center):
  Z = FEATURES.astype(np.float64)
  mean = Z.mean(axis=0) if center == 'position' else Z.mean(axis=(0, 1, 2), keepdims=True)
  by_hand = panda_jax.fit(Z - mean, parts=5)
  fitted = panda_jax.fit(FEATURES, parts=5, center=center)
  assert fitted.relative_error == pytest.approx(by_hand.relative_error, rel=1e-4)
  planted.assert_same_factors(by_hand.factors, fitted.factors)
  np.testing.assert_allclose(fitted.factors.mean.ravel(), np.ravel(mean), atol=1e-5)


def test_varimax_is_free_and_makes_coordinates_sparser(result):
  rotated = panda_jax.fit(FEATURES, parts=5, rotation='varimax')
  assert rotated.relative_error == pytest.approx(result.relative_error, rel=1e-5)
  Z = FEATURES.reshape(-1, 16)

  def spread(A):
    return np.var((Z @ A) ** 2, axis=0).sum()

  assert spread(rotated.factors.appearances) > spread(result.factors.appearances)


def test_a_second_fit_compiles_nothing(result):
  before = clock.programs_compiled()
  again = panda_jax.fit(FEATURES + 0, parts=5, seed=3)
  assert clock.programs_compiled() == before
  assert again.seconds['compile'] == 0


def test_works_whatever_the_users_switch_for_float64():
  inside = panda_jax.fit(FEATURES[:8], parts=2)
  assert jax.numpy.zeros(1, dtype=float).dtype == np.float32  # and leaks nothing
  with enable_x64(True):
    planted.assert_same_factors(inside.factors, panda_jax.fit(FEATURES[:8], parts=2).factors)


def test_gram_and_thin_joint_phases_agree():
  Z = planted.structured(30, (3, 3), 24)  # many parts of few positions: the cost model takes Gram matrices
  gram = panda_jax.fit(Z, parts=7)
  assert {h['phase'] for h in gram.history} >= {'gram'}
  errors = [h['relative_error'] for h in gram.history if h['phase'] == 'gram']
  assert np.diff(errors).max(initial=0) <= 1e-6
