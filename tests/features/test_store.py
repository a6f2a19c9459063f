"""Where features are kept and in which dtype: the choice by measured rates, and sums over features in bfloat16."""

import time

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import panda_jax
from panda_jax.features import throughput
from panda_jax.features.sources import as_source
from panda_jax.features.store import plan
from panda_jax.features.throughput import Rates
from panda_jax.solver import moments
from tests import planted

FEATURES = planted.structured(60, (6, 6), 16)


@pytest.fixture
def half(tmp_path):
  """A file of float16, which takes half the room in host memory that it takes on devices."""
  np.save(tmp_path / 'z.npy', FEATURES.astype(np.float16))
  return as_source(tmp_path / 'z.npy')


@pytest.mark.parametrize(
  ('found', 'chosen'),
  [
    (Rates(source=1e6, transfer=1e8), 'host'),
    (Rates(source=1e9, transfer=1e8), 'source'),  # the transfer takes as long either way
    (Rates(source=1e6, transfer=1e6, made_there=True), 'source'),  # made as fast as it could be moved
    (Rates(source=1e6, transfer=1e8, made_there=True), 'host'),
  ],
)
def test_rates_choose_between_host_memory_and_the_source(half, monkeypatch, found, chosen):
  monkeypatch.setattr(throughput, 'measured', lambda own: found)
  needs = plan(half, 60, 'device').needs
  budget = (needs['device'] + needs['host']) // 2
  assert plan(half, 60, 'auto', budget, own=half).store == chosen
  assert plan(half, 60, 'auto', needs['device'], own=half).store == 'device'
  assert plan(half, 60, 'auto', needs['host'] - 1, own=half).store == 'source'  # there is no room
  assert plan(half, 60, 'source', budget, own=half).store == 'source'


def test_seconds_are_those_of_the_slower_of_reading_and_moving():
  assert Rates(source=10, transfer=20).seconds(100) == {'source': 21 * 10, 'host': 10 + 20 * 5}
  assert Rates(source=20, transfer=10).seconds(100) == {'source': 21 * 10, 'host': 10 + 20 * 10}
  assert Rates(source=20, transfer=10, made_there=True).seconds(100) == {'source': 21 * 5, 'host': 5 + 20 * 10}


def test_a_slow_source_is_measured_to_be_slow(half, monkeypatch):
  take = type(half).take

  def slowly(self, indices):
    time.sleep(0.2)
    return take(self, indices)

  monkeypatch.setattr(type(half), 'take', slowly)
  found = throughput.measured(half)
  assert found.source <= 60 * half.sample_bytes / 0.2
  assert found.transfer > found.source


def test_what_is_chosen_is_said(half, monkeypatch):
  monkeypatch.setattr(throughput, 'measured', lambda own: Rates(source=1e5, transfer=1e8))
  said = []
  panda_jax.fit(half.path, parts=3, budget=100_000, on_plan=lambda chosen: said.append(str(chosen)))
  assert 'chosen: in host memory (20 passes: source' in said[0]


def test_bfloat16_takes_half_the_room():
  source = as_source(FEATURES)
  whole, half = (plan(source, 60, 'auto', dtype=dtype).needs['device'] for dtype in ('float32', 'bfloat16'))
  assert half * 2 == whole
  with pytest.raises(panda_jax.InputError, match='storage=float16: unknown; give one of float32, bfloat16'):
    panda_jax.fit(FEATURES, parts=3, storage='float16')


@pytest.fixture(scope='module')
def groups():
  rng = np.random.default_rng(0)
  return rng.standard_normal((3, 6, 4, 5)).astype(ml_dtypes.bfloat16), rng.random((6, 2)), rng.random((3, 2, 4, 5))


def test_sums_over_bfloat16_are_float32_sums_of_the_rounded_features(groups):
  Z, P, U = groups
  W = P.T @ P
  W = np.pad(W, ((0, 3), (0, 3))) + np.eye(5)

  @jax.jit
  def sums(Z):
    return (
      moments.position_moments(Z, W),
      moments.channel_moments(Z, P),
      moments.channel_scatter(Z),
      moments.part_products(Z, P),
      moments.pull_back(Z, U),
      moments.final_sums(Z, W.astype(np.float32), P.astype(np.float32)),
    )

  for half, whole in zip(*(jax.tree.leaves(sums(x)) for x in (Z, Z.astype(np.float32))), strict=True):
    # Rounding of float32 sums of at most 72 products; factors that were rounded to bfloat16 would be off by 4e-3.
    np.testing.assert_allclose(half, whole, rtol=2e-6, atol=2e-6 * np.abs(whole).max())


def test_no_float32_copy_of_bfloat16_features_is_asked_for(groups):
  Z, P, _ = groups
  text = str(jax.make_jaxpr(lambda Z: moments.part_products(Z, P))(Z))
  assert 'bf16[3,6,20]' in text
  assert 'f32[3,6,20]' not in text


@pytest.fixture(scope='module')
def fits():
  """Of the features, and of the features rounded to bfloat16 beforehand."""
  return [panda_jax.fit(Z, parts=5) for Z in (FEATURES, FEATURES.astype(ml_dtypes.bfloat16).astype(np.float32))]


@pytest.mark.parametrize('options', [{}, {'store': 'source', 'budget': 40_000, 'batch': 9}])
def test_factors_of_features_stored_as_bfloat16(fits, tmp_path, options):
  np.save(tmp_path / 'z.npy', FEATURES)
  exact, before = fits
  rounded = panda_jax.fit(tmp_path / 'z.npy', parts=5, storage='bfloat16', **options)
  # Features are rounded by 2e-3 of themselves at random, the factors average over 60 samples.
  assert abs(rounded.relative_error - exact.relative_error) < 1e-3 * exact.relative_error
  difference = np.abs(rounded.factors.parts - exact.factors.parts).max() / exact.factors.parts.max()
  assert 0 < difference < 2e-2
  assert rounded.factors.provenance['settings']['storage'] == 'bfloat16'
  planted.assert_same_factors(rounded.factors, before.factors)


def test_small_dtype_of_sums_does_not_follow_the_storage(groups):
  Z, P, _ = groups
  assert moments.part_products(jnp.asarray(Z), P).dtype == jnp.float32
  assert moments.channel_scatter(jnp.asarray(Z)).dtype == moments.small_dtype()
