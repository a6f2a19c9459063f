"""Edits: exact where nothing is added, linear, in any order, compiled once; published edits are reproduced."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from panda_jax.converters.dialects import biggan, progan, stylegan, stylegan2, stylegan3
from panda_jax.editing.editor import Edit, Editor, added, compose, layer_rms, make_edit, offset
from panda_jax.errors import InputError
from panda_jax.generators import registry, seeds
from panda_jax.generators.protocol import State
from panda_jax.generators.structure import Compiled
from panda_jax.generators.stylegan2 import StyleGAN2Options
from panda_jax.solver.factors import Factors
from tests.generators.checkpoints import DATA, generator

STORED = {  # a fixture of each family, at a layer in its middle
  'progan': (progan, 'pggan/checkpoint.pth', 4),
  'stylegan': (stylegan, 'stylegan_fused128/checkpoint.pth', 5),
  'stylegan2': (stylegan2, 'stylegan2/checkpoint.pth', 5),
  'stylegan3': (stylegan3, 'stylegan3_t/network.pkl', 6),
  'stylegan3, half as wide': (stylegan3, 'stylegan3_human/network.pkl', 4),
  'biggan': (biggan, 'biggan/pytorch_model.bin', 3),
}
SMALL_OPTIONS = StyleGAN2Options(resolution=16, widths=(6, 6, 5, 5, 4, 4), z_dim=7, w_dim=8, mapping_widths=(8, 8))
LAYER = 3


@functools.cache
def stored(family):
  converter, source, layer = STORED[family]
  return Compiled(generator(converter, source)), layer


def random_factors(grid, channels, seed=0, parts=4):
  rng = np.random.default_rng(seed)
  P = np.maximum(0, rng.standard_normal((grid[0] * grid[1], parts)))
  return Factors(rng.standard_normal((channels, channels)), P, grid)


@pytest.fixture(scope='module')
def small():
  rngs = nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))  # threefry takes far longer to compile
  return Compiled(registry.create('stylegan2', SMALL_OPTIONS, rngs))


@pytest.fixture(scope='module')
def factors(small):
  channels, height, width = small.layers[LAYER]
  return random_factors((height, width), channels)


@pytest.fixture(scope='module')
def editor(small):
  return Editor(small, LAYER)


def latents_of(generator, numbers, labels=None):
  z = seeds.draws(generator, numbers)
  return generator.map(z, labels)


@pytest.mark.parametrize('family', STORED)
def test_original_is_the_whole_generator_and_alpha_0_the_original(family):
  generator, layer = stored(family)
  channels, height, width = generator.layers[layer]
  factors = random_factors((height, width), channels)
  labels = np.arange(3) % generator.num_classes if generator.num_classes else None
  latents = latents_of(generator, [3, 4, 5], labels)
  editor = Editor(generator, layer)
  edit = make_edit(factors, [0, 2], 1, [-2, 0, 3])
  result = editor.images(latents, edit)
  np.testing.assert_allclose(result.original, generator(latents), atol=1e-5)
  assert result.edited.shape == (3, 3, *result.original.shape[1:])
  np.testing.assert_array_equal(result.edited[:, 1], result.original)
  np.testing.assert_array_equal(result.difference, result.edited - result.original[:, None])
  assert np.all(np.abs(result.difference[:, [0, 2]]).max(axis=(2, 3, 4)) > 1e-3)
  assert editor.compilations() == 1
  if family != 'stylegan2':
    return
  state = editor.state(latents)  # each picture equals that of its sample, edited by hand
  for k, alpha in ((0, -2), (2, 3)):
    change = offset(edit.replace(alpha=np.float32(alpha))).reshape(1, height, width, channels)
    changed = state.replace(features=state.features + change)
    np.testing.assert_allclose(result.edited[:, k], generator.run_from(latents, changed, layer), atol=2e-5)


def test_nothing_is_compiled_anew(small, factors, editor):
  editor.images(latents_of(small, [0, 1, 2]), make_edit(factors, 0, 0, 1.0))
  before = editor.compilations()
  others = random_factors(factors.grid, factors.appearances.shape[0], seed=1, parts=2)
  for numbers, edit in [
    ([0, 1, 2], make_edit(factors, 1, 0, 1.0)),
    ([0, 1, 2], make_edit(factors, [1, 2], 4, -30)),
    ([7, 8, 9], make_edit(others, 0, 2, 1.0, convention='published')),
    ([7, 8, 9], make_edit(others, 0, 2, 1.0) + make_edit(factors, 3, 1, 2.0)),
    ([7, 8, 9], make_edit(others, 0, 2, 1.0, parts=np.ones((3, others.parts.shape[0], 1)))),
  ]:
    editor.images(latents_of(small, numbers), edit)
  assert editor.compilations() == before


def test_edits_add_in_any_order(small, factors, editor):
  one, two, three = (make_edit(factors, k, k, 2.0 + k, convention='paper') for k in range(3))
  latents = latents_of(small, [0, 1])
  forth, back = editor.images(latents, (one + two) + three), editor.images(latents, compose([three, one, two]))
  np.testing.assert_array_equal(forth.edited, back.edited)
  np.testing.assert_allclose(offset(one + two), offset(one) + offset(two), atol=1e-6)
  twice = offset(one.replace(alpha=2 * one.alpha))
  np.testing.assert_allclose(twice, 2 * offset(one), rtol=1e-6)
  undone = editor.images(latents, one + one.replace(alpha=-one.alpha))
  np.testing.assert_allclose(undone.edited, undone.original, atol=1e-5)


def test_outside_the_mask_features_keep_their_bits():
  rng = np.random.default_rng(0)
  Z = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
  Z[:, 0, 0] = -0.0
  where = np.zeros((2, 4, 12), np.float32)
  where[:, 0, 5:7] = 1, 0.5
  directions = rng.standard_normal((2, 4, 5)).astype(np.float32) * 1e6
  for dtype in (np.float32, jnp.bfloat16):
    features = jnp.asarray(Z, dtype)
    changed = jax.jit(added)(features, where, directions)
    assert changed.dtype == features.dtype
    kept = (where[:, 0] == 0).reshape(2, 3, 4)
    bits = (np.asarray(x).view(np.uint16 if dtype == jnp.bfloat16 else np.uint32)[kept] for x in (features, changed))
    np.testing.assert_array_equal(*bits)
    assert np.all(np.asarray(changed, np.float32)[~kept] != np.asarray(features, np.float32)[~kept])


def test_a_sweep_is_its_strengths_one_by_one(small, factors):
  latents = latents_of(small, range(5))
  edits = [make_edit(factors, k, k, [-3, 0, 1, 8]) for k in range(3)]
  whole = Editor(small, LAYER, batch=7).images(latents, edits)  # calls end in the middle of samples
  assert whole.edited.shape == (5, 3, 4, 16, 16, 3)
  assert whole.difference.shape == whole.edited.shape
  np.testing.assert_array_equal(whole.edited[:, :, 1], np.broadcast_to(whole.original[:, None], (5, 3, 16, 16, 3)))
  single = Editor(small, LAYER, batch=10)
  for j, edit in enumerate(edits):
    for k, alpha in enumerate(edit.alpha):
      one = single.images(latents, edit.replace(alpha=alpha))
      np.testing.assert_allclose(one.original, whole.original, atol=1e-5)
      np.testing.assert_allclose(one.edited, whole.edited[:, j, k], atol=1e-5)
  assert single.compilations() == 1


def test_every_sample_may_have_its_own_mask(small, factors, editor):
  latents = latents_of(small, [0, 1, 2])
  refined = np.stack([factors.parts, np.roll(factors.parts, 3, axis=0), 0 * factors.parts])
  own = editor.images(latents, make_edit(factors, 1, 0, 4.0, parts=refined))
  for i, parts in enumerate(refined[:2]):
    alone = editor.images(latents, make_edit(factors, 1, 0, 4.0, parts=parts))
    np.testing.assert_allclose(own.edited[i], alone.edited[i], atol=1e-5)
  np.testing.assert_array_equal(own.edited[2], own.original[2])
  state = editor.state(latents)
  resumed = editor.resumed(latents, state, make_edit(factors, 1, 0, 4.0, parts=refined))
  np.testing.assert_allclose(resumed, own.edited, atol=1e-5)


class Plain:
  """A user's generator that is not an NNX module; `traceable` or of NumPy's functions, which JAX cannot trace."""

  z_dim, num_classes = 3, 0
  layers = {1: (2, 3, 4)}  # noqa: RUF012, not square

  def __init__(self, traceable):
    self.np = jnp if traceable else np

  def map(self, z, labels=None, truncation=1.0, truncation_layers=None):
    return self.np.asarray(z)

  def run_to(self, latents, layer, noise='const'):
    x = self.np.asarray(latents)
    return State(self.np.outer(x[:, 0], self.np.ones(24, np.float32)).reshape(-1, 3, 4, 2))

  def run_from(self, latents, state, layer, noise='const', drop_rgb=False):
    x = self.np.asarray(state.features)
    return self.np.tanh(x.repeat(2, axis=1).repeat(2, axis=2))

  def __call__(self, latents, noise='const'):
    return self.run_from(latents, self.run_to(latents, 1), 1)


@pytest.mark.parametrize('traceable', [True, False])
def test_a_users_own_generator(traceable):
  own = Plain(traceable)
  z = np.float32([[0.1, 0, 0], [-0.2, 0, 0]])
  factors = random_factors((3, 4), 2)
  editor = Editor(own, 1)
  edit = make_edit(factors, 0, 1, [0.5, 0])
  result = editor.images(own.map(z), edit)
  np.testing.assert_allclose(result.original, own(z), atol=1e-6)
  change = offset(edit)[0].reshape(1, 3, 4, 2)
  expected = np.tanh((z[:, :1, None, None] + change).repeat(2, axis=1).repeat(2, axis=2))
  np.testing.assert_allclose(result.edited[:, 0], expected, atol=1e-6)
  np.testing.assert_array_equal(result.edited[:, 1], result.original)
  assert editor.compilations() == int(traceable)


def test_rms_is_a_unit(small, factors, editor):
  features = np.asarray(editor.state(latents_of(small, range(4))).features)
  rms = layer_rms(features)
  assert rms == pytest.approx(np.sqrt(np.mean(features.astype(np.float64) ** 2)), rel=1e-6)
  scaled, plain = make_edit(factors, 0, 1, 2.0, alpha_unit='rms', rms=rms), make_edit(factors, 0, 1, 2 * rms)
  np.testing.assert_allclose(offset(scaled), offset(plain), rtol=1e-6)
  with pytest.raises(InputError, match='rms=None'):
    make_edit(factors, 0, 1, 2.0, alpha_unit='rms')


def test_unit_edits_have_alpha_at_the_peak(factors):
  change = offset(make_edit(factors, 2, 1, 7.0))
  lengths = np.linalg.norm(change, axis=1)
  assert lengths.max() == pytest.approx(7, rel=1e-6)
  assert np.argmax(lengths) == np.argmax(factors.parts[:, 2])
  np.testing.assert_array_equal(lengths == 0, factors.parts[:, 2] == 0)
  paper = offset(make_edit(factors, 2, 1, 7.0, convention='paper'))
  np.testing.assert_allclose(paper, 7 * np.outer(factors.parts[:, 2], factors.appearances[:, 1]), rtol=1e-5)


def test_directions_replace_appearances(factors):
  rows = np.random.default_rng(0).standard_normal((3, factors.appearances.shape[0])).astype(np.float32)
  edit = make_edit(factors, 0, 2, 1.0, directions=rows)
  np.testing.assert_allclose(edit.direction, rows[2] / np.linalg.norm(rows[2]), rtol=1e-6)
  with pytest.raises(InputError, match='directions='):
    make_edit(factors, 0, 0, 1.0, directions=rows[:, :-1])


def test_a_drawn_mask_alone_or_inside_a_part(factors):
  drawn = np.zeros(factors.grid, np.float32)
  drawn[2:4, 1:5] = 1
  alone = make_edit(factors, None, 1, 1.0, mask=drawn)
  np.testing.assert_array_equal(alone.mask, drawn.reshape(-1))
  inside = make_edit(factors, 1, 1, 1.0, mask=drawn)
  np.testing.assert_array_equal(inside.mask, make_edit(factors, 1, 1, 1.0).mask * drawn.reshape(-1))


MISTAKES = [
  ({'part': 4}, 'part=4: there are 4 parts; give one from 0 to 3'),
  ({'appearance': 99}, 'appearance=99: there are 5 appearances; give one from 0 to 4'),
  ({'appearance': -1}, 'appearance=-1'),
  ({'appearance': None}, 'appearance=None'),
  ({'part': None}, 'part: not given'),
  ({'alpha': float('nan')}, 'alpha=nan: it is not finite'),
  ({'alpha': [1, float('inf')]}, 'it is not finite'),
  ({'alpha': 1e300}, 'it is not finite'),
  ({'alpha': 'strong'}, 'alpha=strong: it is not a number'),
  ({'alpha': [[1.0]]}, 'neither a number nor a list'),
  ({'alpha': []}, 'neither a number nor a list'),
  ({'convention': 'own'}, 'convention=own'),
  ({'alpha_unit': 'sigma'}, 'alpha_unit=sigma'),
  ({'mask': np.ones((3, 3))}, 'mask=shape 3x3'),
  ({'parts': np.ones((2, 3, 4))}, 'parts=shape (2, 3, 4)'),
]


@pytest.mark.parametrize(('changes', 'said'), MISTAKES, ids=[said for _, said in MISTAKES])
def test_mistakes_cost_one_line(factors, changes, said):
  arguments = {'part': 0, 'appearance': 1, 'alpha': 1.0} | changes
  with pytest.raises(InputError) as caught:
    make_edit(factors, **arguments)
  assert said in str(caught.value)
  assert '\n' not in str(caught.value)


def test_edits_that_do_not_fit_are_told(small, factors, editor):
  latents = latents_of(small, [0, 1])
  edit = make_edit(factors, 0, 1, 1.0)
  dead = Factors(np.zeros((5, 2)), factors.parts, factors.grid)
  cases = [
    (lambda: editor.images(latents, Edit(np.ones(4), edit.mask, edit.alpha)), '4 channels'),
    (lambda: editor.images(latents, Edit(edit.direction, np.ones(7), edit.alpha)), '7 positions'),
    (lambda: editor.images(latents, Edit(edit.direction, np.ones((3, 64)), edit.alpha)), 'there are 2 samples'),
    (lambda: editor.images(latents, []), 'nothing to do'),
    (lambda: editor.images(latents, [edit.replace(alpha=np.ones(2)), edit.replace(alpha=np.ones(3))]), 'alpha=[2, 3]'),
    (lambda: edit.replace(alpha=np.ones(2)) + edit.replace(alpha=np.ones(3)), 'alpha=[2, 3]'),
    (lambda: compose([]), 'nothing to add'),
    (lambda: compose([edit, Edit(np.ones(4), edit.mask, edit.alpha)]), 'of different layers'),
    (lambda: make_edit(dead, 0, 1, 1.0), 'appearance=1: it is dead'),
    (lambda: Editor(small, 99), 'layer=99'),
    (lambda: Editor(small, LAYER, noise='random'), 'noise=random'),
    (lambda: Editor(small, LAYER, batch=0), 'batch=0'),
  ]
  for call, said in cases:
    with pytest.raises(InputError) as caught:
      call()
    assert said in str(caught.value)


# Settings of the stored cases: edits of random generators by the authors' code.
EDITS = {'one': [([1], 2, 3.0)], 'sum': [([0, 3], 5, -4.5)], 'two': [([2], 0, 3.0), ([1, 3], 4, -6.0)]}
PUBLISHED = {
  'stylegan2': ('stylegan2', {}, 5),
  'stylegan2b': ('stylegan2', {'truncation': 0.6, 'truncation_layers': 4}, 7),
  'pggan': ('progan', {}, 5),
  'stylegan': (None, {}, 5),  # its checkpoint is not among the fixtures here: offsets only
}


@pytest.fixture(scope='module')
def behaviour():
  with np.load(DATA / 'behaviour' / 'published_edit.npz') as file:
    return dict(file)


def as_published(images):
  """The authors' last step: uint8 pictures at 256 pixels."""
  levels = np.clip((images.astype(np.float64) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)
  return np.stack([np.asarray(Image.fromarray(x).resize((256, 256)), np.int64) for x in levels])


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_published_convention(behaviour, name):
  family, truncation, layer = PUBLISHED[name]
  A, P = behaviour[f'{name}__Uc'], behaviour[f'{name}__Us']
  side = round(np.sqrt(len(P)))
  factors = Factors(A, P, (side, side))
  checked = 0
  for case, settings in EDITS.items():
    key = f'{name}__{case}'
    if f'{key}__direc' not in behaviour:
      continue
    edit = compose([make_edit(factors, k, j, alpha, convention='published') for k, j, alpha in settings])
    np.testing.assert_allclose(offset(edit).T.reshape(-1, side, side), behaviour[f'{key}__direc'], rtol=0, atol=1e-6)
    checked += 1
    if f'{key}__x_edited_raw' not in behaviour:
      continue
    generator, _ = stored(family)
    latents = generator.map(behaviour[f'{key}__z'], None, **truncation)
    # The published code leaves out the RGB of earlier layers.
    result = Editor(generator, layer, drop_rgb=True).images(latents, edit)
    for suffix, ours in (('x_raw', result.original), ('x_edited_raw', result.edited)):
      if f'{key}__{suffix}' in behaviour:
        np.testing.assert_allclose(np.moveaxis(ours, -1, 1), behaviour[f'{key}__{suffix}'], rtol=0, atol=1e-4)
    for suffix, ours in (('image_256', result.original), ('image_edited_256', result.edited)):
      if f'{key}__{suffix}' in behaviour:
        levels = np.abs(as_published(ours)[0, ::2, ::2] - behaviour[f'{key}__{suffix}'])
        assert levels.max() <= 1
        assert np.mean(levels > 0) < 0.005
  assert checked >= 2
