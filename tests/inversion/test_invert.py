"""Inversions: a photograph that is a sample is recovered; edits start from inversions; files and messages."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from panda_jax.editing.editor import Editor, make_edit
from panda_jax.errors import InputError, NonFiniteError
from panda_jax.files.arrays import npz_bytes
from panda_jax.generators import registry
from panda_jax.generators.protocol import Held, State
from panda_jax.generators.seeds import draws
from panda_jax.generators.structure import Compiled
from panda_jax.inversion.coordinates import coordinates
from panda_jax.inversion.encoder import Encoder, load_encoder, save_encoder, sizes_for
from panda_jax.inversion.files import Inverted, load_inverted, save_inverted
from panda_jax.inversion.invert import Inverter, invert
from panda_jax.inversion.placement import whole
from panda_jax.solver.factors import Factors
from tests.generators.test_contract import made

LAYER = 2
LEVEL = 1 / 127.5  # a grey level: images reach from -1 to 1


def pictures(generator, seeds, labels=None):
  """Samples as photographs: clipped, in eight bits."""
  run = Compiled(generator)
  images = np.asarray(run(run.map(draws(generator, seeds), labels), noise='none'))
  return np.round((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)


@pytest.fixture(scope='module')
def small():
  options = {'resolution': 8, 'widths': (6, 6, 5, 5), 'z_dim': 9, 'w_dim': 6, 'mapping_widths': (6,)}
  rngs = nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))
  return registry.create('stylegan2', registry.options_class('stylegan2')(**options), rngs)


@pytest.fixture(scope='module')
def found(small):
  """Two photographs that no latents make exactly: features at a layer."""
  images = pictures(small, (500, 501))
  images[:, 2:4, 2:4] = 255 - images[:, 2:4, 2:4]
  return Inverter(small, layer=LAYER, evaluations=40)(images)


# The exact answer is one of the latents, so that nothing but the evaluations bounds the error. Half a level is the
# rounding of the photograph.
@pytest.mark.parametrize(
  ('name', 'labels', 'layer'),
  [
    ('stylegan2, rectangular', None, None),
    ('stylegan2, rectangular', None, 2),
    ('progan, labels', [1, 2], None),
    ('biggan, pieces of z', [1], 2),
    ('r3gan', None, 1),
  ],
)
def test_a_sample_comes_back(name, labels, layer):
  generator = made(name)
  images = pictures(generator, (500, 501), None if labels is None else np.resize(labels, 2))
  back = invert(generator, images, labels=labels, layer=layer)
  assert back.space == ('features' if layer else 'wplus' if generator.w_dim else 'z')
  assert np.abs(np.clip(back.images, -1, 1) - back.photographs).max() <= 1.5 * LEVEL
  remade = Editor(generator, layer or min(generator.layers), noise='none')
  latents = back.latents(generator)
  np.testing.assert_allclose(remade.generator(getattr(latents, 'latents', latents), noise='none').shape, images.shape)


def test_classes_are_found_where_none_are_given():
  generator = made('progan, labels')
  back = invert(generator, pictures(generator, (500, 501), np.array([2, 0])), evaluations=1)
  assert back.labels.sum(axis=1).tolist() == [1, 1]
  assert back.array.shape == (2, generator.z_dim)


def test_coordinates_of_samples_are_standard_normal(small):
  run, where = Compiled(small), coordinates(small)
  z = draws(small, range(5000, 7000))
  x = where.of(np.asarray(run.wplus(run.mapping(z)).wplus))
  np.testing.assert_allclose(np.asarray(where.wplus(x)), run.wplus(run.mapping(z)).wplus, atol=1e-4)
  assert np.abs(x[:, 0].mean(axis=0)).max() < 0.2  # 2000 against 4096 samples
  assert np.abs(np.cov(x[:, 0], rowvar=False) - np.eye(6)).max() < 0.3


def test_features_are_nearer_than_latents_and_the_regulariser_binds_them(small, found):
  images = ((found.photographs + 1) * 127.5).astype(np.uint8)
  latents = invert(small, images, evaluations=40)
  bound = invert(small, images, layer=LAYER, evaluations=40, regulariser=100.0)
  assert (found.psnr > latents.psnr + 1).all()
  assert (bound.psnr < found.psnr - 1).all()


def test_the_preconditioner_saves_evaluations(small, found, monkeypatch):
  """As many evaluations lead nearer than in unknowns that are the changes themselves."""
  from panda_jax.inversion import invert as module
  from panda_jax.inversion.preconditioner import identity

  with_it = Inverter(small, layer=LAYER, evaluations=40, tolerance=0)(found.photographs)
  monkeypatch.setattr(module, 'estimated', lambda kind, *_: identity(kind))
  without = Inverter(small, layer=LAYER, evaluations=40, tolerance=0)(found.photographs)
  assert (with_it.curve.values[-1] < 0.7 * without.curve.values[-1]).all()


def test_it_is_the_same_alone_and_among_others(small, found):
  alone, beside = (Inverter(small, evaluations=6, batch=n)(found.photographs) for n in (1, 2))
  np.testing.assert_allclose(alone.images, beside.images, atol=1e-3)  # rounding grows from step to step


def test_edits_go_on_from_the_state_that_is_held(small, found):
  """Without an edit the picture is the inversion; with one it is that of edited features; another layer is refused."""
  C, H, W = small.layers[LAYER]
  rng = np.random.default_rng(0)
  factors = Factors(rng.normal(size=(C, 3)).astype(np.float32), rng.random((H * W, 2)).astype(np.float32), (H, W), {})
  latents = found.latents(small)
  assert isinstance(latents, Held)
  editor = Editor(small, LAYER, noise='none')
  still = editor.images(latents, make_edit(factors, 0, 1, alpha=0.0))
  np.testing.assert_allclose(still.original, found.images, atol=1e-5)
  np.testing.assert_array_equal(still.edited, still.original)
  edit = make_edit(factors, 0, 1, alpha=2.0)
  mask, direction = edit.mask.reshape(1, H, W, 1), np.asarray(edit.direction).reshape(1, 1, 1, C)
  state = latents.state.replace(features=latents.state.features + 2 * mask * direction)
  expected = small.run_from(latents.latents, state, LAYER, noise='none')
  np.testing.assert_allclose(editor.images(latents, edit).edited, expected, atol=1e-4)
  with pytest.raises(InputError, match='inverted with noise none'):
    Editor(small, LAYER).state(latents)
  with pytest.raises(InputError, match=f'features at layer {LAYER}'):
    Editor(small, LAYER - 1, noise='none').state(latents)


def test_nothing_compiles_twice(small, found):
  from panda_jax.inversion import objective

  inverter = Inverter(small, layer=LAYER, evaluations=3)
  inverter(found.photographs)
  counts = objective.draw._cache_size(), objective.advance._cache_size()
  inverter(found.photographs[::-1])
  Inverter(small, layer=LAYER, evaluations=4, regulariser=0.5)(found.photographs)
  assert (objective.draw._cache_size(), objective.advance._cache_size()) == counts


def saved(path, found, names=('a.png', 'b.png'), **options):
  save_inverted(path, Inverted(found, names, (whole((9, 9), (8, 8)),) * len(names)), **options)
  return path


def test_it_is_read_as_it_was_written(small, found, tmp_path):
  again = load_inverted(saved(tmp_path / 'latents.npz', found), small)
  assert again.names == ('a.png', 'b.png')
  for name in ('array', 'features', 'rgb', 'images'):
    np.testing.assert_array_equal(getattr(again.inversion, name), getattr(found, name))
  np.testing.assert_allclose(again.inversion.photographs, found.photographs, atol=1e-6)
  for name in ('space', 'layer', 'noise', 'weights', 'reasons'):
    assert getattr(again.inversion, name) == getattr(found, name)
  assert again.chosen([1]).names == ('b.png',)
  np.testing.assert_array_equal(again.chosen([1]).inversion.features, found.features[1:])


def test_an_inversion_is_the_same_file_whenever_it_is_made(found, tmp_path):
  later = dataclasses.replace(found, curve=found.curve._replace(seconds=found.curve.seconds + 1))
  files = [saved(tmp_path / name, x).read_bytes() for name, x in (('a', found), ('b', later))]
  assert files[0] == files[1]


def damaged(path, change):
  """The file with its arrays or its description changed."""
  with np.load(path) as stored:
    arrays = dict(stored)
  said = json.loads(str(arrays.pop('description')))
  change(said, arrays)
  path.write_bytes(npz_bytes(description=np.asarray(json.dumps(said)), **arrays))
  return path


@pytest.mark.parametrize(
  'change',
  [
    lambda said, arrays: said.update(inversion=9),
    lambda said, arrays: said.update(layer=999),
    lambda said, arrays: said.update(layer=None),
    lambda said, arrays: said.update(space='wplus'),
    lambda said, arrays: said.update(space='x'),
    lambda said, arrays: said.update(noise='key'),
    lambda said, arrays: said.update(names=['a.png']),
    lambda said, arrays: said.update(names=['../a.png', 'b.png']),
    lambda said, arrays: said.update(names=['a.png', 'a.png']),
    lambda said, arrays: said.update(reasons=['because', 'converged']),
    lambda said, arrays: said.update(weights=7),
    lambda said, arrays: arrays.pop('latents'),
    lambda said, arrays: arrays.update(more=np.zeros(3)),
    lambda said, arrays: arrays.update(features=arrays['features'][:1]),
    lambda said, arrays: arrays.update(latents=arrays['latents'] * np.nan),
    lambda said, arrays: arrays.update(latents=arrays['latents'][:, :, :2]),
    lambda said, arrays: arrays.update(matrices=np.zeros((2, 2, 2))),
    lambda said, arrays: arrays.update(photographs=arrays['images']),
    lambda said, arrays: arrays.update(rgb=arrays['rgb'].astype(np.complex64)),
    lambda said, arrays: arrays.update(values=arrays['values'][:, :1]),
    lambda said, arrays: arrays.update(values=np.float32(0)),
    lambda said, arrays: arrays.update(seconds=np.zeros(())),
    lambda said, arrays: arrays.update(features=arrays['features'].astype(np.int32)),
    lambda said, arrays: arrays.update(images=arrays['images'] > 0),
    lambda said, arrays: arrays.pop('rgb'),
    lambda said, arrays: arrays.update(rgb=arrays['rgb'][:, :1, :1]),
    lambda said, arrays: arrays.update(skips0=np.zeros((2, 2, 2, 2), np.float32)),
    lambda said, arrays: arrays.update(labels=np.zeros((2, 0), np.float32)),
    lambda said, arrays: arrays.update(matrices=0 * arrays['matrices']),
    lambda said, arrays: arrays.update(matrices=1e20 * arrays['matrices']),
    lambda said, arrays: arrays.update(matrices=arrays['matrices'] + [[0, 1, 0], [1, 0, 0]]),
  ],
)
def test_a_file_that_lies_is_refused(small, found, tmp_path, change):
  path = damaged(saved(tmp_path / 'latents.npz', found, curve=True), change)
  with pytest.raises(InputError, match='latents='):
    load_inverted(path, small)


def test_latents_of_another_generator_are_refused(small, found, tmp_path):
  with pytest.raises(InputError, match='of another generator'):
    load_inverted(saved(tmp_path / 'latents.npz', found), made('stylegan2, rectangular'))


def test_an_encoder_is_read_as_it_was_written_and_starts_an_inversion(small, found, tmp_path):
  encoder = Encoder(sizes_for(small, (4, 6)), nnx.Rngs(0))
  save_encoder(encoder, tmp_path / 'encoder.npz', found.weights)
  again = load_encoder(tmp_path / 'encoder.npz', found.weights)
  images = found.photographs
  np.testing.assert_allclose(again(images), encoder(images), atol=0.02)  # float16
  start = invert(small, images, encoder=again, evaluations=1)
  np.testing.assert_allclose(start.array, coordinates(small).wplus(again(images)), atol=1e-4)
  assert (invert(small, images, encoder=again, evaluations=30).psnr > start.psnr).all()
  with pytest.raises(InputError, match='another generator'):
    load_encoder(tmp_path / 'encoder.npz', 'other')
  with pytest.raises(InputError, match='another generator'):
    invert(made('stylegan2, rectangular'), np.zeros((1, 6, 10, 3)), encoder=again)


@pytest.mark.parametrize(
  'change',
  [
    lambda said, arrays: said.update(size=[10**9, 8]),
    lambda said, arrays: said.update(widths=[4] * 60),
    lambda said, arrays: said.update(widths=[]),
    lambda said, arrays: said.update(output=[-1, 2]),
    lambda said, arrays: said.update(hidden='x'),
    lambda said, arrays: said.pop('size'),
    lambda said, arrays: arrays.popitem(),
    lambda said, arrays: arrays.update(more=np.zeros(3, np.float16)),
  ],
)
def test_an_encoder_that_lies_is_refused(small, tmp_path, change):
  path = tmp_path / 'encoder.npz'
  save_encoder(Encoder(sizes_for(small, (4, 6)), nnx.Rngs(0)), path, 'hash')
  with pytest.raises(InputError, match='encoder='):
    load_encoder(damaged(path, change))


@pytest.mark.parametrize(
  ('options', 'said'),
  [
    ({'space': 'x'}, 'space=x'),
    ({'space': 'z'}, 'give w'),
    ({'space': 'features'}, 'layer'),
    ({'space': 'w', 'layer': 2}, 'belongs to no layer'),
    ({'layer': 99}, 'layer=99'),
    ({'noise': 'random'}, 'noise'),
    ({'regulariser': float('nan')}, 'regulariser'),
    ({'regulariser': -1}, 'regulariser'),
    ({'evaluations': 0}, 'evaluations'),
    ({'evaluations': 2.5}, 'whole number'),
    ({'regulariser': 1e39}, 'regulariser'),
    ({'tolerance': 'x'}, 'tolerance'),
    ({'batch': 1.5}, 'whole number'),
    ({'encoder': 'encoder.npz'}, 'not an encoder'),
    ({'loss': lambda images, photographs: (images - photographs).mean()}, 'loss=<lambda>: of 2 pictures'),
    ({'loss': lambda images, photographs: (images - photographs)[:, 0, 0]}, 'loss'),
    ({'loss': lambda images, photographs: 'near'}, 'loss'),
    ({'loss': lambda images, photographs: float(images.sum())}, 'cannot be traced'),
    ({'loss': lambda images: images}, 'cannot be traced'),
    ({'loss': 'squares'}, 'cannot be traced'),
    ({'tolerance': True}, 'tolerance'),
    ({'batch': 0}, 'batch'),
    ({'labels': [1]}, 'labels'),
  ],
)
def test_what_does_not_fit_is_said(small, options, said):
  with pytest.raises(InputError, match=said):
    invert(small, np.zeros((1, 8, 8, 3), np.uint8), **options)


@pytest.mark.parametrize(
  'images',
  [
    np.zeros((8, 8, 3)),
    np.zeros((1, 8, 9, 3)),
    np.zeros((0, 8, 8, 3)),
    np.full((1, 8, 8, 3), 2.0),
    np.full((1, 8, 8, 3), np.nan),
    [[1, 2], [3]],
    np.zeros((1, 8, 8, 3), bool),
    np.zeros((1, 8, 8, 3), complex),
    np.full((1, 8, 8, 3), 200),
    None,
  ],
)
def test_images_of_another_kind_are_refused(small, images):
  with pytest.raises(InputError, match='images='):
    invert(small, images)


def test_an_error_that_is_not_finite_stops_it(small):
  with pytest.raises(NonFiniteError, match='photograph 0'):
    invert(small, np.zeros((1, 8, 8, 3)), loss=lambda images, photographs: images.sum(axis=(1, 2, 3)) * np.nan)


def test_a_user_gives_the_loss(small, found):
  def middle(images, photographs):
    return ((images - photographs)[:, 3:5, 3:5] ** 2).mean(axis=(1, 2, 3))

  apart = [
    np.abs(x.images - x.photographs)[:, 3:5, 3:5].mean()
    for x in (
      invert(small, found.photographs, evaluations=25, loss=middle),
      invert(small, found.photographs, evaluations=25),
    )
  ]
  assert apart[0] < apart[1]


class Plain:
  """Somebody's own generator: a matrix, and no module."""

  z_dim, num_classes, layers = 4, 0, {1: (2, 4, 4)}

  def __init__(self):
    rng = np.random.default_rng(0)
    self.first, self.second = rng.normal(size=(4, 32)) / 3, rng.normal(size=(2, 3)) / 3

  def map(self, z, labels=None, truncation=1.0, truncation_layers=None):
    return jnp.asarray(z)

  def run_to(self, latents, layer, noise='const'):
    return State((latents @ self.first).reshape(-1, 4, 4, 2))

  def run_from(self, latents, state, layer, noise='const', drop_rgb=False):
    return jnp.tanh(state.features @ self.second)

  def __call__(self, latents, noise='const'):
    return self.run_from(latents, self.run_to(latents, 1), 1)

  def sample(self, key, n):
    return jax.random.normal(key, (n, 4)), None


@pytest.mark.parametrize('layer', [None, 1])
def test_a_generator_of_a_user_is_inverted(layer):
  generator = Plain()
  images = pictures(generator, (500, 501))
  back = invert(generator, images, layer=layer)
  assert back.space == ('features' if layer else 'z')
  assert np.abs(back.images - back.photographs).max() <= 1.5 * LEVEL  # of rounding


def test_what_is_no_generator_is_said():
  with pytest.raises(InputError, match='generator=dict: it is not a generator'):
    invert({}, np.zeros((1, 4, 4, 3)))


def test_some_of_an_inversion(found):
  one = found.chosen([1])
  assert len(one) == 1
  assert one.reasons == found.reasons[1:]
  assert dataclasses.replace(one).psnr == pytest.approx(found.psnr[1:])
  assert 'dB' in repr(found)
