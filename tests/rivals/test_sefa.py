"""SeFa: stored numbers of the published code, and generators whose solution is a singular value decomposition."""

import types

import numpy as np
import pytest
from flax import nnx

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators.base import WPlus
from panda_jax.generators.progan import ProGAN, ProGANOptions
from panda_jax.rivals import METHODS, load, sefa
from panda_jax.rivals.movement import Mover
from tests import planted_generators
from tests.rivals import references

CASES = ('pggan__all', 'stylegan__all', 'stylegan__2to5', 'stylegan2__all', 'stylegan2__1to3', 'stylegan2__0_4')
COSINE = 1 - 1e-6


@pytest.mark.parametrize('published', [False, True])
@pytest.mark.parametrize('case', CASES)
def test_stored_eigenvalues_and_directions(case, published):
  stored = {key: references.numbers('sefa')[f'{case}__{key}'] for key in ('layers', 'eigenvalues', 'directions')}
  net, chosen = case.split('__')
  layers = None if chosen == 'all' else stored['layers'].tolist()
  found = sefa.discover(references.generator(net), layers=layers, published=published)
  values, vectors = found.scores['eigenvalue'], found.vectors
  if published:
    order = np.argsort(-values, kind='stable')
    values, vectors = values[order], vectors[order]
    assert (order[:5] == np.arange(5)).all()  # as the code that was run had it; further down the CPU decides
  rank = 48 if case == 'stylegan2__0_4' else 64  # so many columns, and thus directions that move something
  assert len(values) == (64 if published else rank)
  np.testing.assert_allclose(values[:rank], stored['eigenvalues'][:rank], rtol=0, atol=1e-5 * values[0])
  assert references.cosines(vectors[:rank], stored['directions'][:rank]).min() > COSINE
  assert found.layers == (None if layers is None else tuple(layers))


def test_fixed_order_is_decreasing_where_the_published_one_is_not():
  generator = references.generator('stylegan')
  fixed = sefa.discover(generator).scores['eigenvalue']
  published = sefa.discover(generator, published=True).scores['eigenvalue']
  assert (np.diff(fixed) <= 0).all()
  assert (np.diff(published) > 0).any()


@pytest.mark.parametrize('net', ['pggan', 'stylegan', 'stylegan2'])
def test_stored_edits(net):
  stored = references.numbers('sefa')
  generator, layers = references.generator(net), {'stylegan': [2, 3, 4, 5], 'stylegan2': [0, 4], 'pggan': None}[net]
  found = sefa.discover(generator, layers=layers)
  case = {'stylegan': 'stylegan__2to5', 'stylegan2': 'stylegan2__0_4', 'pggan': 'pggan__all'}[net]
  sign = np.sign(found.vectors[1] @ stored[f'{case}__directions'][1])
  options = {} if net == 'pggan' else {'truncation': 0.7, 'truncation_layers': 8}
  latents = generator.map(stored[f'{net}__edit__z'], **options)
  code = latents.wplus if isinstance(latents, WPlus) else latents
  np.testing.assert_allclose(code, stored[f'{net}__edit__code'], atol=1e-5)
  image = Mover(generator, found.space, found.layers).images(latents, found.step(1), 2.0 * sign)
  np.testing.assert_allclose(references.nchw(image), stored[f'{net}__edit__image'], atol=1e-4)


def left_vectors(weight, normalise=True):
  weight = np.asarray(weight, np.float64)
  if normalise:
    weight = weight / np.linalg.norm(weight, axis=0)
  u, values, _ = np.linalg.svd(weight, full_matrices=False)
  return values**2, u.T


@pytest.mark.parametrize('normalise', [False, True])
def test_stylegan3_is_an_svd_of_its_styles(normalise):
  generator = references.generator('stylegan3')
  found = sefa.discover(generator, normalise=normalise, k=5)
  affine = list(generator.affine_weights().values())
  values, vectors = left_vectors(np.concatenate(affine[1:], axis=1), normalise)
  np.testing.assert_allclose(found.scores['eigenvalue'], values[:5], rtol=1e-5)
  assert references.cosines(found.vectors, vectors[:5]).min() > COSINE
  assert found.layers == tuple(range(1, len(affine)))
  # Row 0 turns and shifts the Fourier input: four numbers, looked at when asked for.
  both = sefa.discover(generator, normalise=normalise, layers=(0, 3))
  values, _ = left_vectors(np.concatenate([affine[0], affine[3]], axis=1), normalise)
  np.testing.assert_allclose(both.scores['eigenvalue'], values[: len(both)], rtol=1e-5)
  assert both.layers == (0, 3)


def test_biggan_is_an_svd_of_what_takes_z():
  generator = references.biggan()
  d = generator.z_dim
  blocks = {1: generator.entries[0], 2: generator.entries[1], 4: generator.entries[3]}  # 3 is the attention
  columns = {0: np.asarray(generator.gen_z[...])[:d]}
  for number, block in blocks.items():
    norms = (block.bn_0, block.bn_1, block.bn_2, block.bn_3)
    columns[number] = np.concatenate([np.asarray(w[...])[:d] for bn in norms for w in (bn.scale, bn.offset)], axis=1)
  for layers in (None, (0,), (1, 4)):
    found = sefa.discover(generator, layers=layers)
    values, vectors = left_vectors(np.concatenate([columns[i] for i in layers or columns], axis=1))
    np.testing.assert_allclose(found.scores['eigenvalue'], values, rtol=1e-5)
    assert references.cosines(found.vectors[:3], vectors[:3]).min() > COSINE
    assert (found.space, found.layers) == ('z', None)
  with pytest.raises(InputError, match=r'layers=3: no such map takes the latents; give some of 0, 1, 2, 4'):
    sefa.discover(generator, layers=(3,))


def test_maps_of_biggan_that_see_a_piece_of_z_move_that_alone():
  generator = references.biggan_of_pieces()
  pieces, entries = generator.options.pieces, (None, *generator.entries)
  columns = {}
  for number, piece in {0: pieces[0], 1: pieces[1], 3: pieces[2]}.items():  # 2 is the attention
    norms = (entries[number].bn_0, entries[number].bn_1) if number else ()
    maps = [w for bn in norms for w in (bn.scale, bn.offset)] or [generator.gen_z]
    columns[number] = np.concatenate([np.asarray(w[...])[: piece.stop - piece.start] for w in maps], axis=1)
  for number, piece in ((0, pieces[0]), (1, pieces[1]), (3, pieces[2])):
    found = sefa.discover(generator, layers=(number,))
    values, vectors = left_vectors(columns[number])
    np.testing.assert_allclose(found.scores['eigenvalue'], values, rtol=1e-5)
    assert references.cosines(found.vectors[:, piece], vectors).min() > COSINE
    assert not np.delete(found.vectors, np.r_[piece], axis=1).any()
  # A map of one piece says nothing of another, so that all maps together are each for itself.
  together = sorted(value for number in columns for value in left_vectors(columns[number])[0])
  np.testing.assert_allclose(sorted(sefa.discover(generator).scores['eigenvalue']), together, rtol=1e-5)
  with pytest.raises(InputError, match='layers=2'):
    sefa.discover(generator, layers=(2,))


def test_label_of_a_progan_is_not_moved():
  generator = references.filled(lambda: ProGAN(ProGANOptions(8, (4, 4, 4, 4), 6, num_classes=3), nnx.Rngs(0)))
  found = sefa.discover(generator)
  values, vectors = left_vectors(np.asarray(generator.affine_weights()['layer0'])[:6])
  np.testing.assert_allclose(found.scores['eigenvalue'], values, rtol=1e-5)
  assert references.cosines(found.vectors, vectors).min() > COSINE


def test_users_generator_whose_first_layer_is_affine():
  generator = references.dcgan()
  found = sefa.discover(generator, k=3)
  # Its first layer is a transposed convolution of one pixel: a matrix for each of 16 positions, then a factor each.
  weight = generator.weights[0].reshape(100, -1)
  values, vectors = left_vectors(weight)
  np.testing.assert_allclose(found.scores['eigenvalue'], values[:3], rtol=1e-4)
  assert references.cosines(found.vectors, vectors[:3]).min() > 1 - 1e-5
  assert found.space == 'z'


def test_users_generator_with_matrices_of_its_own():
  rng = np.random.default_rng(0)
  matrices = {'a': rng.standard_normal((4, 6)), 'b': rng.standard_normal((4, 5))}
  generator = types.SimpleNamespace(affine_weights=lambda: matrices, z_dim=4)
  for layers, chosen in ((None, ['a', 'b']), ((1,), ['b'])):
    values, vectors = left_vectors(np.concatenate([matrices[name] for name in chosen], axis=1))
    found = sefa.discover(generator, layers=layers)
    np.testing.assert_allclose(found.scores['eigenvalue'], values, rtol=1e-5)
    assert references.cosines(found.vectors, vectors).min() > COSINE


def test_planted_directions_are_found_in_order():
  """Orthogonal columns of known lengths: without normalisation the directions are the axes, by length."""
  lengths = np.array([1.0, 3.0, 0.0, 2.0])
  generator = types.SimpleNamespace(affine_weights=lambda: {'first': np.diag(lengths)}, z_dim=4)
  found = sefa.discover(generator, normalise=False)
  np.testing.assert_allclose(found.scores['eigenvalue'], [9, 4, 1], rtol=1e-6)
  np.testing.assert_allclose(found.vectors, np.eye(4)[[1, 3, 0]], atol=1e-6)


def test_where_it_is_not_defined():
  nonlinear = planted_generators.PartsGenerator([0.0, 1.0], saturation=0.1)
  nonlinear.run_to = lambda latents, layer: types.SimpleNamespace(features=latents**2)
  for generator, match in (
    (
      nonlinear,
      r'features of its first layer, 1, are not an affine map of latents; give its class a method affine_weights',
    ),
    (planted_generators.LinearGenerator(np.ones((2, 4, 4, 3, 5))), r'no weights that latents go through first'),
  ):
    with pytest.raises(InputError, match=match):
      sefa.discover(generator)
  with pytest.raises(InputError, match=r'layers=10: there are 10 rows'):
    sefa.discover(references.generator('stylegan2'), layers=[1, 10])
  with pytest.raises(InputError, match=r'k=0: no direction would be left'):
    sefa.discover(references.generator('stylegan2'), k=0)
  with pytest.raises(InputError, match='one kind of latents'):
    sefa.discover(references.dcgan(), layers=[0])
  for matrix, error in ((np.zeros((3, 4)), InputError), (np.full((3, 4), np.nan), NonFiniteError)):
    with pytest.raises(error):
      sefa.discover(types.SimpleNamespace(affine_weights=lambda matrix=matrix: {'first': matrix}, z_dim=3))


def test_a_unit_without_weights_does_no_harm():
  matrix = np.random.default_rng(1).standard_normal((4, 6))
  with_dead = np.concatenate([matrix, np.zeros((4, 2))], axis=1)
  found = [
    sefa.discover(types.SimpleNamespace(affine_weights=lambda m=m: {'first': m}, z_dim=4)) for m in (matrix, with_dead)
  ]
  np.testing.assert_array_equal(found[0].vectors, found[1].vectors)


def test_it_is_in_the_table_and_can_be_written(tmp_path):
  said = []
  found = METHODS['sefa'](references.generator('stylegan2'), k=4, on_progress=lambda *what: said.append(what))
  found.save(tmp_path)
  again = load(tmp_path)
  np.testing.assert_array_equal(again.vectors, found.vectors)
  assert again.provenance == found.provenance
  assert said[-1] == ('weights', 1, 1)
  assert set(METHODS) == {'sefa', 'ganspace', 'stylespace', 'lowrankgan', 'resefa'}
  with pytest.raises(KeyError):
    METHODS['pca']
