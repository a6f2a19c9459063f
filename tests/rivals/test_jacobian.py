"""Jacobians and Grams: the stored ones of a StyleGAN2, analytic ones, reverse mode, and regions as sums of cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from panda_jax.converters.checkpoint import read
from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators.base import WPlus
from panda_jax.generators.source import Draws
from panda_jax.generators.structure import Compiled
from panda_jax.regions.metrics import region_mask
from panda_jax.rivals import jacobian as service
from panda_jax.rivals.grams import cell_grams, edges_of, gram
from panda_jax.rivals.jacobian import Jacobian, area_weights, nearest_indices, reduced_mask, reference_latents
from panda_jax.runtime.compatibility import enable_x64
from tests.generators import checkpoints
from tests.planted_generators import LinearGenerator, random_jacobian
from tests.rivals import references

SINGLE = 5e-6  # bound of the fixture's README for float32; float32 autograd of the reference itself is off by 3e-7


@pytest.fixture(scope='module')
def stored():
  return references.numbers('jacobian')


def latents_of(w, L=10):
  """w+ of single w's, copied to all rows as the reference does."""
  w = np.atleast_2d(w)
  return WPlus(np.broadcast_to(w[:, None], (len(w), L, w.shape[1])))


def planted(rows=0, seed=0, **options):
  return LinearGenerator(random_jacobian(rows=rows, seed=seed, **options))


def test_stored_jacobian_through_our_generator(stored):
  generator = references.generator('stylegan2')
  latents = generator.map(stored['z'])
  np.testing.assert_allclose(latents.wplus[:, 0], stored['w'], atol=1e-5)
  jacobian = Jacobian(generator, resolution=32, resize='nearest')
  columns = jacobian.columns(latents_of(stored['w'][0]))
  assert (columns.shape, jacobian.image, jacobian.size) == ((64, 32, 32, 3), (64, 64), (32, 32))
  ours = columns.transpose(3, 1, 2, 0)
  np.testing.assert_allclose(ours, stored['jacobian_rgb'], atol=SINGLE)
  total = gram(columns)
  np.testing.assert_allclose(total, stored['gram_all_rgb'], atol=1e-5 * np.abs(total).max())
  # The rules that join channels, and another resolution, are those of the same columns.
  np.testing.assert_allclose(ours.mean(axis=0)[::2, ::2], stored['jacobian_mean_nearest16'], atol=SINGLE)


def test_stored_derivatives_in_float64(stored):
  """Through the mapping network too; what is left is rounding in float64."""
  with enable_x64(True):
    generator = in_float64()
    latents = latents_of(stored['w'][0].astype(np.float64))
    found = Jacobian(generator, chunk=2).products(latents, stored['w_tangents'])
    assert found.dtype == np.float64
    np.testing.assert_allclose(references.nchw(found), stored['fullres_jvp_w'], atol=1e-12)
    through = Jacobian(generator, 'z', chunk=2).products(
      Draws(stored['z'][:1].astype(np.float64), None), stored['z_tangents']
    )
    np.testing.assert_allclose(references.nchw(through), stored['jvp_z'], atol=1e-12)


def in_float64():
  """The fixture's generator in float64; the biases of its styles with the 1 that the converter adds in float32."""
  graphdef, state = nnx.split(references.generator('stylegan2'))
  generator = nnx.merge(graphdef, jax.tree.map(lambda x: jax.device_put(np.asarray(x, np.float64)), state))
  arrays = read(checkpoints.stored('stylegan2/checkpoint.pth')).tree['generator_smooth']
  for name, layers in (('layer', generator.convs), ('output', generator.rgbs)):
    for i, layer in enumerate(layers):
      layer.affine.bias[...] = jnp.asarray(np.asarray(arrays[f'synthesis.{name}{i}.style.bias'], np.float64) + 1)
  return generator


@pytest.mark.parametrize('channels', ['rgb', 'mean', 'sum'])
@pytest.mark.parametrize('resize', ['area', 'nearest'])
def test_an_analytic_jacobian_under_every_rule(resize, channels):
  generator = planted(rows=3, size=8)
  latents = generator.map(np.zeros((1, 6)))
  found = Jacobian(generator, layers=(0, 2), resolution=4, resize=resize, channels=channels, chunk=4).columns(latents)
  moved = generator.jacobian[0] + generator.jacobian[2]
  if resize == 'area':
    reduced = moved.reshape(4, 2, 4, 2, 3, 6).mean(axis=(1, 3))
  else:
    reduced = moved[::2, ::2]
  if channels != 'rgb':
    reduced = getattr(np, channels)(reduced, axis=2, keepdims=True)
  np.testing.assert_allclose(found, np.moveaxis(reduced, -1, 0), atol=1e-6)


@pytest.mark.parametrize('name', ['pggan', 'biggan', 'dcgan'])
def test_latents_without_rows_against_reverse_mode(name):
  """u'(J t) = (J'u)'t, the right side by JAX from the image to the latents themselves."""
  generator = {'biggan': references.biggan, 'dcgan': references.dcgan}.get(name, lambda: references.generator(name))()
  labels = [2] if generator.num_classes else None
  latents = reference_latents(generator, [3], labels)
  jacobian = Jacobian(generator)
  assert (jacobian.space, jacobian.d) == ('z', generator.z_dim)
  rng = np.random.default_rng(0)
  t = rng.standard_normal((1, jacobian.d)).astype(np.float32)
  found = jacobian.products(latents, t)
  u = rng.standard_normal(found.shape).astype(np.float32)

  def image(z):
    return generator(latents.replace(z=z) if name == 'biggan' else z)

  pulled = jax.jit(lambda z, u: jax.vjp(image, z)[1](u)[0])(latents.z if name == 'biggan' else latents, u)
  rounding = 1e-5 * np.linalg.norm(found) * np.linalg.norm(u)
  np.testing.assert_allclose(np.sum(u * found), np.sum(np.asarray(pulled) * t), atol=rounding)


def test_nothing_is_compiled_again():
  generator = references.generator('stylegan2')
  options = {'layers': (0, 1), 'resolution': 8, 'chunk': 32}
  rng = np.random.default_rng(1)
  w = rng.standard_normal((3, generator.w_dim)).astype(np.float32)
  Jacobian(generator, **options).columns(latents_of(w[0]))
  before = service.compilations()
  again = Jacobian(Compiled(generator), **{**options, 'layers': [0, 1]})
  assert again.generator is generator
  grams = cell_grams(again, latents_of(w), [(0, 8, 0, 8)])
  grams.region((0, 16, 16, 32))
  assert service.compilations() == before


REGIONS = [(1, 6, 2, 7), (3, 4, 5, 6), (0, 8, 0, 3), np.random.default_rng(5).random((8, 8)) > 0.6]


@pytest.mark.parametrize('cells', [1, 3, 16])
@pytest.mark.parametrize('resolution', [8, 4, 3])
def test_grams_of_any_region_are_sums_over_cells(cells, resolution):
  """Against the whole Jacobian of every image at once; at 3 of 8 pixels, regions cover shares of pixels."""
  generator = planted()
  latents = generator.map(np.random.default_rng(2).standard_normal((2, 6)))
  jacobian = Jacobian(generator, resolution=resolution)
  grams = cell_grams(jacobian, latents, cells=cells)
  columns = jacobian.columns(latents[:1]).astype(np.float64)  # of all images, since the generator is linear
  for region in REGIONS:
    mask = reduced_mask(region_mask(region, (8, 8)), jacobian.size, 'area')
    found = grams.region(region)
    for side, share in enumerate((mask, 1 - mask)):
      expected = gram(columns * share[None, :, :, None])
      np.testing.assert_allclose(found[side], expected, atol=1e-5 * np.abs(expected).max())
      np.testing.assert_allclose(found[2 + side], 3 * np.sum(share**2))


def test_regions_known_before_need_no_jacobian_kept():
  generator = planted()
  latents = generator.map(np.zeros((2, 6)))
  box = (1, 6, 2, 7)
  kept = cell_grams(Jacobian(generator), latents, cells=2)
  grams = cell_grams(Jacobian(generator), latents, [box], cells=2, keep_bytes=0)
  assert len(kept.jacobians) == 2
  assert not grams.jacobians
  assert grams.cells.shape[:2] == (4, 4)  # edges 0, 1, 4, 6, 8 and 0, 2, 4, 7, 8
  np.testing.assert_allclose(grams.region(box).inside, kept.region(box).inside, rtol=1e-5)
  with pytest.raises(InputError, match=r'^region=0,3,0,3: it cuts through cells; give the region where'):
    grams.region((0, 3, 0, 3))


def test_progress_counts_the_columns_of_all_images():
  generator, told = planted(), []
  cell_grams(Jacobian(generator, chunk=4), generator.map(np.zeros((2, 6))), on_progress=lambda *x: told.append(x))
  assert told == [('Jacobian', done, 12) for done in (4, 6, 10, 12)]


def test_edges_follow_boxes_and_even_cells():
  mask = region_mask((2, 5, 0, 8), (8, 8)).astype(float)
  np.testing.assert_array_equal(edges_of(8, 2, [mask.T]), [0, 2, 4, 5, 8])
  np.testing.assert_array_equal(edges_of(8, 3, []), [0, 2, 5, 8])
  np.testing.assert_array_equal(edges_of(3, 16, []), [0, 1, 2, 3])


@pytest.mark.parametrize(('size', 'smaller'), [(8, 4), (8, 3), (64, 32), (100, 99), (5, 1)])
def test_reducing(size, smaller):
  weights = area_weights(size, smaller)
  np.testing.assert_allclose(weights.sum(axis=1), 1)
  np.testing.assert_allclose(weights.sum(axis=0), smaller / size)  # every pixel counts alike
  indices = nearest_indices(size, smaller)
  assert (indices == np.floor(np.arange(smaller) * (size / smaller))).all()


def test_a_region_lost_between_pixels_is_told():
  generator = planted()
  jacobian = Jacobian(generator, resolution=4, resize='nearest')
  grams = cell_grams(jacobian, generator.map(np.zeros((1, 6))))
  with pytest.raises(InputError, match=r'^region=1,2,1,2: at 4x4 pixels nothing is inside of it; give a larger'):
    grams.region((1, 2, 1, 2))


class Untraceable(LinearGenerator):
  def __call__(self, latents, noise='const'):
    return super().__call__(latents + float(np.asarray(latents)[0, 0]))


class Infinite(LinearGenerator):
  def __call__(self, latents, noise='const'):
    return super().__call__(jnp.sqrt(latents))


def test_mistakes():
  generator, rows = planted(), planted(rows=2)
  for options, said in [
    ({'space': 's'}, 'space=s'),
    ({'space': 'w'}, 'space=w'),
    ({'layers': (0,)}, r'layers=\(0,\): there are no rows'),
    ({'resize': 'cubic'}, 'resize=cubic'),
    ({'channels': 'bgr'}, 'channels=bgr'),
    ({'resolution': 0}, 'resolution=0'),
    ({'chunk': 2.5}, 'chunk=2.5'),
  ]:
    with pytest.raises(InputError, match=f'^{said}'):
      Jacobian(generator, **options)
  with pytest.raises(InputError, match=r'^layers=2: there are 2 rows of w\+'):
    Jacobian(rows, layers=(2,)).columns(rows.map(np.zeros((1, 6))))
  with pytest.raises(InputError, match=r'^latents=2 samples: a Jacobian is of one image'):
    Jacobian(generator).columns(generator.map(np.zeros((2, 6))))
  with pytest.raises(InputError, match=r'^tangents=shape \(1, 5\): the latent has 6 numbers'):
    Jacobian(generator).products(generator.map(np.zeros((1, 6))), np.zeros((1, 5)))
  with pytest.raises(InputError, match=r'^seeds='):
    reference_latents(generator, [])
  plain = random_jacobian()
  with pytest.raises(InputError, match=r'^generator=Untraceable: JAX cannot trace it'):
    Jacobian(Untraceable(plain)).columns(np.zeros((1, 6), np.float32))
  with pytest.raises(NonFiniteError, match=r'^jacobian=column 0: a derivative is not finite'):
    Jacobian(Infinite(plain)).columns(jnp.zeros((1, 6)))
