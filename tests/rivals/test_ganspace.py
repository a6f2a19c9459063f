"""GANSpace: stored numbers of the published code, and generators whose principal components are known."""

import jax
import numpy as np
import pytest
from flax import nnx

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators.base import WPlus
from panda_jax.generators.structure import Compiled
from panda_jax.generators.stylegan2 import StyleGAN2, StyleGAN2Options
from panda_jax.rivals import ganspace, pca
from panda_jax.rivals.draws import Blocks
from panda_jax.rivals.movement import Mover
from tests.planted_generators import LinearGenerator, random_jacobian
from tests.rivals import references


@pytest.fixture(scope='module')
def stylegan2():
  return references.generator('stylegan2')


@pytest.fixture(scope='module')
def as_published(stylegan2):
  """With the exact estimator, whose numbers are stored."""
  return ganspace.discover(stylegan2, samples=5000, seed=1, k=None, estimator='exact', published=True)


def test_stored_components(as_published):
  stored = references.numbers('ganspace')
  cosines = references.cosines(as_published.vectors, stored['components'])
  assert cosines[:10].min() > 1 - 1e-6
  assert cosines.min() > 1 - 1e-5
  np.testing.assert_allclose(as_published.provenance['mean'], stored['mean'], atol=5e-5)
  np.testing.assert_allclose(as_published.scores['stdev'], stored['act_stdev'], rtol=1e-5)
  np.testing.assert_allclose(as_published.scores['variance_ratio'], stored['var_ratio'], rtol=1e-5)
  np.testing.assert_allclose(as_published.units, stored['lat_stdev'], rtol=1e-5)


def test_stored_incremental_components(stylegan2):
  """The published default, an approximation that depends on the blocks."""
  stored = references.numbers('ganspace')
  found = ganspace.discover(stylegan2, samples=5000, seed=1, k=20, batch=2000, published=True)
  assert references.cosines(found.vectors, stored['ipca20_components']).min() > 1 - 1e-6
  np.testing.assert_allclose(found.scores['stdev'], stored['ipca20_stdev'], rtol=1e-5)
  exact = references.cosines(found.vectors, stored['components'][:20])
  assert exact.min() < 1 - 1e-3  # so the exact ones are another thing


def test_stored_edit(stylegan2, as_published):
  stored = references.numbers('ganspace')
  w = stylegan2.map(stored['z_first8'])
  np.testing.assert_allclose(w.wplus[:, 0], stored['w_first8'], atol=2e-5)
  step = as_published.step(2) * np.sign(as_published.vectors[2] @ stored['components'][2])
  image = Mover(stylegan2, 'w', (3, 4, 5, 6)).images(WPlus(w.wplus[3:4]), step, 2.5)
  np.testing.assert_allclose(references.nchw(image), stored['edit__image'], atol=1e-4)


def test_fixed_deviations_are_those_of_all_samples(stylegan2, as_published):
  found = ganspace.discover(stylegan2, samples=5000, seed=1, k=10, layers=(3, 4))
  np.testing.assert_array_equal(found.vectors, as_published.vectors[:10])
  np.testing.assert_allclose(found.units, found.scores['stdev'], rtol=1e-6)
  assert found.layers == (3, 4)
  assert found.provenance['estimator'] == 'exact'


def test_batches_and_wrapping_change_nothing(stylegan2):
  found = [
    ganspace.discover(generator, samples=700, k=5, batch=batch)
    for generator, batch in ((stylegan2, None), (stylegan2, 300), (Compiled(stylegan2), 700))
  ]
  for other in found[1:]:
    # Directions are stored in float32, and products with blocks of another size round otherwise.
    assert references.cosines(other.vectors, found[0].vectors).min() > 1 - 1e-6
    np.testing.assert_allclose(other.units, found[0].units, rtol=1e-6)


def test_nothing_is_compiled_again(stylegan2):
  ganspace.discover(stylegan2, samples=400, batch=200)
  before = ganspace._rows_of_w._cache_size()
  other = references.checkpoints.generator(*references.SOURCES['stylegan2'])  # the same structure in another object
  ganspace.discover(stylegan2, samples=500, batch=200, seed=3)
  ganspace.discover(other, samples=500, batch=200)
  assert ganspace._rows_of_w._cache_size() == before


def test_coordinates_are_in_deviations_from_the_mean(stylegan2, as_published):
  draws = Blocks(stylegan2, 5000, 1, size=5000)
  w = np.asarray(stylegan2.mapping(next(iter(draws)).z))
  found = ganspace.coordinates(as_published, w)
  np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
  ratio = as_published.scores['stdev'] / as_published.units
  np.testing.assert_allclose(found.std(axis=0), ratio, rtol=1e-4)
  with pytest.raises(InputError, match='no mean of w is stored'):
    ganspace.coordinates(ganspace.discover(references.biggan(), labels=[0], samples=50), w)


def test_planted_covariance_of_w():
  """w = z Q: the components are those of the sample covariance of z, mapped, and approach those of Q'Q."""
  rng = np.random.default_rng(0)
  U, V = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
  deviations = np.array([3, 2, 1, 0.5, 0.0])
  generator = LinearGenerator(random_jacobian(4, 5, 2), mapping=(U * deviations) @ V)
  found = ganspace.discover(generator, samples=20_000, seed=4)
  z = np.concatenate([block.z[: block.count] for block in Blocks(generator, 20_000, 4, size=10_000)])
  w = z.astype(np.float64) @ ((U * deviations) @ V)
  values, vectors = np.linalg.eigh(np.cov(w, rowvar=False, ddof=0))
  assert len(found) == 4  # along the fifth nothing varies
  np.testing.assert_allclose(found.units, np.sqrt(values[::-1][:4]), rtol=1e-5)
  assert references.cosines(found.vectors, vectors[:, ::-1].T[:4]).min() > 1 - 1e-6
  assert references.cosines(found.vectors, V[:4]).min() > 0.999  # 20 000 samples
  np.testing.assert_allclose(found.units, deviations[:4], rtol=0.02)


def planted_features(D=12, seed=0):
  """A generator without w whose features are A z with known singular values, and its right singular vectors (d, d)."""
  rng = np.random.default_rng(seed)
  size = (D // 3, 1, 3)
  U = np.linalg.qr(rng.standard_normal((D, 4)))[0]
  V = np.linalg.qr(rng.standard_normal((4, 4)))[0]
  return LinearGenerator(((U * [4, 3, 2, 1]) @ V).reshape(*size, 4), offset=rng.standard_normal(size)), V


@pytest.mark.parametrize('D', [12, 2100])
def test_planted_features_are_carried_back(D):
  """Features A z: the latent directions are the right singular vectors of A; with D = 2100 by subspace iteration."""
  generator, V = planted_features(D)
  generator.layers = {1: (3, D // 3, 1)}
  found = ganspace.discover(generator, samples=2000, seed=2)
  assert found.space == 'z'
  assert len(found) == 4
  np.testing.assert_allclose(found.scores['stdev'], [4, 3, 2, 1], rtol=0.06)  # 2000 samples
  assert references.cosines(found.vectors, V).min() > 0.99
  np.testing.assert_allclose(found.units, 1, rtol=0.06)
  if D == 12:
    published = ganspace.discover(generator, samples=5000, seed=2, batch=1000, published=True)
    assert references.cosines(published.vectors[:4], V).min() > 0.995
    np.testing.assert_array_equal(published.units, 1)


def test_subspace_iteration_against_exact():
  rng = np.random.default_rng(1)
  x = rng.standard_normal((400, 60)) * 0.8 ** np.arange(60) + rng.standard_normal(60)
  exact = pca.exact([x[:150], x[150:]])
  centred = x - x.mean(axis=0)
  covariance = centred.T @ centred / len(x)

  def moments(Q):
    return covariance @ Q, x.mean(axis=0), np.trace(covariance)

  found = pca.long_rows(moments, 60, 8)
  np.testing.assert_allclose(found.stdev, exact.stdev[:8], rtol=1e-4)
  assert references.cosines(found.vectors, exact.vectors[:8]).min() > 1 - 1e-4
  np.testing.assert_allclose(found.total, exact.total)
  np.testing.assert_allclose(exact.stdev, np.linalg.svd(centred)[1] / 20, rtol=1e-10)
  whole = pca.incremental([x[:150], x[150:]], 60)  # nothing is forgotten: exact, but for the division by N - 1
  np.testing.assert_allclose(whole.stdev * np.sqrt(399 / 400), exact.stdev, rtol=1e-10)
  np.testing.assert_allclose(whole.total * 399 / 400, exact.total)


def test_first_maps_of_biggan_are_an_svd():
  generator = references.biggan()
  found = ganspace.discover(generator, labels=[3], samples=20_000, k=5)
  weight = np.asarray(generator.gen_z[...])[: generator.z_dim]
  values = np.linalg.svd(weight)[1]
  # z is normal truncated to [-2, 2], of variance 0.7737.
  np.testing.assert_allclose(found.scores['stdev'], values[:5] * np.sqrt(0.7737), rtol=0.02)
  np.testing.assert_allclose(found.units, np.sqrt(0.7737), rtol=0.02)
  # Each moves the maps as far as the left singular vector of that number would, close to it where values are apart.
  np.testing.assert_allclose(np.linalg.norm(found.vectors @ weight, axis=1), values[:5], rtol=0.02)
  later = ganspace.discover(generator, labels=[3, 1], layer=1, samples=300, k=3, truncation=0.5)
  assert later.provenance['found_in'] == 'features of layer 1'
  np.testing.assert_allclose(later.units, 0.5 * np.sqrt(0.7737), rtol=0.1)


def test_features_of_a_generator_with_w(stylegan2):
  found = ganspace.discover(stylegan2, layer=1, samples=300, k=3, layers=(0, 1))
  assert (found.space, found.layers, found.vectors.shape) == ('w', (0, 1), (3, 64))
  assert found.provenance['mean'] is None


def test_first_maps_of_a_piece_of_z():
  generator = references.biggan_of_pieces()
  piece = generator.options.pieces[0]
  found = ganspace.discover(generator, labels=[3], samples=20_000)
  values = np.linalg.svd(np.asarray(generator.gen_z[...]))[1]
  assert len(found.vectors) == piece.stop - piece.start == len(values)  # nothing moves along any other direction
  np.testing.assert_allclose(found.scores['stdev'], values, rtol=0.02)
  # What the regression finds of the other pieces is the noise of 20 000 samples.
  assert np.abs(np.delete(found.vectors, np.r_[piece], axis=1)).max() < 0.05


def test_blocks_are_one_stream(stylegan2):
  for generator in (stylegan2, references.biggan(), references.generator('pggan')):
    labels = [0, 2] if generator.num_classes else None
    drawn = [
      np.concatenate([block.z[: block.count] for block in Blocks(generator, 7, 5, labels, size)]) for size in (7, 3)
    ]
    np.testing.assert_array_equal(*drawn)
  *_, last = Blocks(references.biggan(), 7, 5, [0, 2], 3)
  assert (last.count, last.z.shape, last.labels.shape) == (1, (3, 10), (3, 5))
  assert (np.argmax(last.labels, axis=1) == 0).all()  # of sample 6, repeated
  own = next(iter(Blocks(references.dcgan(), 4, 0)))  # a generator of another kind has its own prior, here uniform
  assert np.abs(own.z).max() <= 1


def test_wrong_arguments(stylegan2):
  for arguments, match in (
    ({'estimator': 'ica'}, 'estimator=ica'),
    ({'samples': 0}, 'samples=0'),
    ({'seed': -1}, 'seed=-1'),
    ({'batch': 0}, 'batch=0'),
    ({'k': 0}, 'k=0'),
    ({'layer': 99}, 'layer=99'),
    ({'layers': (12,)}, 'layers=12'),
    ({'labels': [1]}, 'labels='),
  ):
    with pytest.raises(InputError, match=match):
      ganspace.discover(stylegan2, **{'samples': 20} | arguments)
  with pytest.raises(InputError, match='its latents are not w'):
    ganspace.discover(references.generator('pggan'), layers=(1,), samples=20)
  with pytest.raises(InputError, match='labels: not given'):
    ganspace.discover(references.biggan(), samples=20)


def test_a_w_for_each_row_is_refused():
  options = StyleGAN2Options(8, (4,) * 4, 4, 4, (16,), mean_w=False)
  generator = references.filled(lambda: StyleGAN2(options, nnx.Rngs(0)))
  with pytest.raises(InputError, match='has a w of its own'):
    ganspace.discover(generator, samples=20)


def test_a_sample_that_is_not_finite_is_named():
  generator, _ = planted_features()
  generator.sample = lambda key, n: (jax.numpy.full((n, 4), np.nan), None)
  with pytest.raises(NonFiniteError, match='sample 0'):
    ganspace.discover(generator, samples=20)
