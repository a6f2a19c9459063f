"""Features that a generator makes from seeds: equal to features made in other ways, with the same factors."""

import numpy as np
import pytest
from flax import nnx
from scipy.stats import truncnorm

import panda_jax
from panda_jax.converters.dialects import stylegan2
from panda_jax.errors import InputError
from panda_jax.features.scan import sha256_of
from panda_jax.generators import seeds
from panda_jax.generators.source import GeneratorSource
from panda_jax.generators.structure import Compiled
from tests.generators.checkpoints import generator
from tests.simulated import run_with_devices

LAYER = 4


@pytest.fixture(scope='module')
def network():
  return generator(stylegan2, 'stylegan2_rosinality/checkpoint.pt')


@pytest.fixture(scope='module')
def compiled(network):
  return Compiled(network)


def test_seeds_are_the_published_draws():
  class Any:
    z_dim = 5

  z = seeds.draws(Any, [0, 19])
  np.testing.assert_array_equal(z[1], np.random.RandomState(19).randn(1, 5)[0].astype(np.float32))

  class Truncated(Any):
    prior = 'truncated_normal'

  z = seeds.draws(Truncated, [3])
  expected = truncnorm.rvs(-2, 2, size=(1, 5), random_state=np.random.RandomState(3))
  np.testing.assert_array_equal(z, expected.astype(np.float32))
  Any.prior = 'uniform'
  expected = np.random.RandomState(4).uniform(-1, 1, (1, 5))
  np.testing.assert_array_equal(seeds.draws(Any, [4]), expected.astype(np.float32))
  with pytest.raises(InputError, match='seeds=-1'):
    seeds.draws(Any, [-1])


def test_blocks_and_single_samples_are_those_of_the_generator(network, compiled):
  source = GeneratorSource(network, LAYER, samples=7, seed=11, truncation=0.6, batch=3)
  everything = np.concatenate(list(source.blocks(2)))
  z = seeds.draws(network, range(11, 18))
  expected = np.asarray(compiled.run_to(compiled.map(z, truncation=0.6), LAYER).features)
  assert [len(block) for block in source.blocks(2)] == [2, 2, 2, 1]
  # float32 convolutions in batches of another size: some 20 roundings of the largest entry
  atol = 2e-6 * np.abs(expected).max()
  np.testing.assert_allclose(everything.reshape(expected.shape), expected, atol=atol)
  np.testing.assert_allclose(source.take(np.array([0, 5])), everything[[0, 5]], atol=atol)


def test_the_hash_is_of_what_makes_the_features(network):
  def source(network=network, layer=LAYER, **options):
    return GeneratorSource(network, layer, **({'samples': 4} | options))

  reference = sha256_of(source())
  assert sha256_of(source(batch=2)) == reference
  others = [source(seed=1), source(samples=5), source(truncation=0.5), source(layer=LAYER - 1)]
  changed = nnx.merge(*nnx.split(network))
  changed.const.set_value(changed.const.get_value() * 1.5)
  others.append(source(changed))
  assert len({reference, *map(sha256_of, others)}) == 6


@pytest.mark.slow
def test_devices_make_their_own_samples():
  run_with_devices(
    4,
    """
    import jax, numpy as np
    from panda_jax.converters.dialects import stylegan2
    from panda_jax.features import sharding
    from panda_jax.generators.source import GeneratorSource
    from panda_jax.features.scan import Scan
    from panda_jax.features.store import Store, plan, strata
    from tests.generators.checkpoints import generator
    network = generator(stylegan2, 'stylegan2_rosinality/checkpoint.pt')
    source = GeneratorSource(network, 4, samples=21, batch=8)
    expected = network.run_to(network.map(source.draws(np.arange(21)).z), 4).features
    Z = np.asarray(expected).reshape(21, source.positions, -1)
    close = {'atol': 2e-6 * np.abs(Z).max()}  # float32 convolutions in batches of another size
    made = source.made(np.arange(8))
    assert source.step == 8 and len(made.sharding.device_set) == 4
    program = source._make.func.lower(*source._make.args, source.draws(np.arange(8)).z, None).compile()
    assert 'all-' not in program.as_text()  # nothing is sent
    np.testing.assert_allclose(made, Z[:8], **close)
    np.testing.assert_allclose(np.concatenate(list(source.blocks(5))), Z, **close)
    found = Scan(21, (Z * Z).sum(axis=(1, 2), dtype=np.float64), None, 0.5, None)
    def in_order(held, Z):  # (G, S, m, C), zeros where no sample is
      rows = np.asarray(Z).transpose(0, 2, 1, 3).reshape(-1, *Z.shape[1::2])
      return 2 * rows[np.any(rows != 0, axis=(1, 2))]
    for batch in (None, 4):
      held = Store(source, found, plan(source, 21, 'source'), sharding.data_mesh(), batch)
      with jax.transfer_guard_device_to_host('disallow'):
        whole, subset, pieces = held.whole(), held.subset(6), [*held.pieces()]
      assert len(whole.sharding.device_set) == 4
      np.testing.assert_allclose(in_order(held, whole), Z, **close)
      np.testing.assert_allclose(np.concatenate([in_order(held, piece) for piece in pieces]), Z, **close)
      own = held.shares.own(strata(found.energies, 6))[0]
      np.testing.assert_allclose(in_order(held, subset), Z[own], **close)
      assert source._make.func._cache_size() == 1  # one program, whatever is made
    """,
  )


@pytest.mark.parametrize('store', ['device', 'source'])
def test_fit_is_that_of_the_saved_features(network, tmp_path, store):
  source = GeneratorSource(network, LAYER, samples=24, batch=8, name='network')
  np.save(tmp_path / 'features.npy', np.concatenate(list(source.blocks(24))).reshape(24, *source.grid, -1))
  made = panda_jax.fit(source, parts=3, store=store)
  read = panda_jax.fit(tmp_path / 'features.npy', parts=3)
  assert made.factors.provenance['source'] == 'network'
  assert made.factors.provenance['sha256'] == sha256_of(source)
  assert made.relative_error == pytest.approx(read.relative_error, rel=1e-5)
  P, Q = made.factors.parts, read.factors.parts
  np.testing.assert_allclose(P, Q, atol=1e-3 * Q.max())  # the bound for two runs


def test_a_generator_of_the_users_own_is_hashed_by_its_features(network, compiled):
  class Own:
    z_dim, layers = network.z_dim, network.layers

    def map(self, z, labels=None, truncation=1.0, truncation_layers=None):
      return z

    def run_to(self, latents, layer, noise='const'):
      return compiled.run_to(compiled.map(latents), layer)

  source = GeneratorSource(Own(), LAYER, samples=3, batch=3)
  assert not source.defined
  result = panda_jax.fit(source, parts=2)
  assert result.factors.provenance['sha256'] == sha256_of(source)


def test_what_does_not_fit_is_said_at_once(network):
  for options, match in (
    ({'layer': 99}, 'layer=99'),
    ({'samples': 0}, 'samples=0'),
    ({'labels': [1]}, 'unconditional'),
    ({'truncation': np.inf}, 'truncation=inf'),
    ({'seed': -4}, 'seeds=-4'),
  ):
    with pytest.raises(InputError, match=match):
      GeneratorSource(network, **({'layer': LAYER, 'samples': 2} | options))
