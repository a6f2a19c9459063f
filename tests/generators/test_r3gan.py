"""R3GAN from its authors' snapshots: stored outputs of the original code, and variants against plain numpy."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import panda_jax
from panda_jax.converters.checkpoint import Module
from panda_jax.converters.conversion import convert, converted, recognised
from panda_jax.converters.dialects import FAMILIES
from panda_jax.converters.dialects import r3gan as converter
from panda_jax.errors import InputError
from panda_jax.generators import registry
from panda_jax.generators.r3gan import R3GANOptions, grouped
from panda_jax.rivals import sefa
from tests.converters.writers import Call, write_nvlabs
from tests.generators import plain_r3gan, unpacked
from tests.generators.checkpoints import checkpoint, generator
from tests.generators.parity import check_computed, close, nhwc

# Absolute, for images of standard deviation 0.7, and relative to that of features: float32 errs by 1e-6 and 2e-6.
IMAGE, FEATURES = 1e-5, 1e-5
RNG = np.random.default_rng(3)


def module(arrays: dict, **attributes) -> Module:
  return Module('training.networks.Generator', [], {}, arrays, attributes)


@pytest.mark.parametrize('name', ['r3gan', 'r3gan_cond'])
def test_stored_outputs_of_the_original(tmp_path, name):
  convert(unpacked.checkpoint(name) / 'network.pkl', tmp_path / 'generator')
  made = panda_jax.load_generator(tmp_path / 'generator')
  stored = unpacked.outputs(name)
  latents = made.map(stored['z'], stored.get('c'))
  left = set(stored) - {'z', 'c', 'image'}
  whole = made(latents)
  unpacked.assert_image(whole, stored['image'], IMAGE)
  for layer in made.layers:
    state = made.run_to(latents, layer)
    unpacked.assert_features(state.features, stored[f'feat_l{layer}'], FEATURES)
    close(made.run_from(latents, state, layer), whole, 1e-6, f'resumed {layer}')
    left.discard(f'feat_l{layer}')
    if f'delta_l{layer}' in stored:
      edited = state.replace(features=state.features + nhwc(stored[f'delta_l{layer}']))
      unpacked.assert_image(made.run_from(latents, edited, layer), stored[f'image_edited_l{layer}'], IMAGE)
      left -= {f'delta_l{layer}', f'image_edited_l{layer}'}
  assert not left
  notes = json.loads((tmp_path / 'generator' / 'generator.json').read_text())['report']['notes']
  assert any('3 of its stages run in half precision' in note for note in notes)


VARIANTS = {
  'plain': {},
  'labels': {'classes': 3, 'embed': 2},
  'one stage': {'widths': (6,), 'blocks': (2,), 'inner': (6,), 'groups': (6,)},
  'no blocks between': {'blocks': (1, 0, 2), 'widths': (6, 4, 5), 'inner': (18, 8, 10), 'groups': (2, 1, 5)},
  'all alike': {'widths': (4, 4, 4), 'groups': (4, 4, 4), 'inner': (8, 8, 8)},
  'another filter': {'taps': (1, 2, 4), 'kernel': 5},
  'gray': {'channels': 1},
}


@pytest.mark.parametrize('name', VARIANTS)
def test_variants(name):
  arrays = plain_r3gan.arrays(**VARIANTS[name])
  made = generator(converter, {'G_ema': module(arrays)})
  z = RNG.standard_normal((2, made.z_dim))
  labels = np.array([2, 0]) if made.num_classes else None
  reference = plain_r3gan.run(arrays, z, None if labels is None else np.eye(3)[labels])
  assert list(made.layers) == list(reference['features'])
  check_computed(made, reference, made.map(z, labels))


@pytest.mark.parametrize('period', plain_r3gan.PERIODS)
def test_class_names_of_both_periods(tmp_path, period):
  arrays = plain_r3gan.arrays()
  path = tmp_path / 'snapshot.pkl'
  path.write_bytes(write_nvlabs({'G': None, 'G_ema': plain_r3gan.pickled(arrays, period, z_dim=5, img_resolution=16)}))
  made = generator_of(path)
  z = RNG.standard_normal((1, 5))
  check_computed(made, plain_r3gan.run(arrays, z), made.map(z))


def generator_of(path):
  convert(path, path.with_name('generator'))
  return panda_jax.load_generator(path.with_name('generator'))


def test_the_raw_weights_are_others():
  tree = {'G': module(plain_r3gan.arrays(seed=1)), 'G_ema': module(plain_r3gan.arrays())}
  z = RNG.standard_normal((1, 5))
  for weights, seed in (('ema', 0), ('raw', 1)):
    made = generator(converter, tree, weights)
    close(made(made.map(z)), nhwc(plain_r3gan.run(plain_r3gan.arrays(seed=seed), z)['image']), 1e-5, weights)


def test_every_problem_is_told_and_names_its_key():
  arrays = plain_r3gan.arrays(classes=3, embed=2)
  assert converter.convert(checkpoint({'G_ema': module(arrays)})).problems == []
  basis = 'Model.MainLayers.0.Layers.0.Basis'
  for key in arrays:
    for change, text in (({}, 'missing'), ({key: np.zeros((2, 3, 7, 1, 1), np.float32)}, 'expected')):
      if change == {} and key in (basis, 'Model.EmbeddingLayer.weight'):
        continue  # without these it is another network
      changed = {name: value for name, value in arrays.items() if name != key} | change
      problems = converter.convert(checkpoint({'G_ema': module(changed)})).problems
      assert any(problem.startswith(f'{key}: {text}') for problem in problems), (key, problems)
  problems = converter.convert(checkpoint({'G_ema': module(arrays | {'Model.extra': np.zeros(3)})})).problems
  assert problems == ['Model.extra: unknown key']


CONTRADICTIONS = {
  'img_resolution': (64, 'img_resolution=64: its arrays make it 16'),
  'c_dim': (2, 'c_dim=2: its arrays make it 0'),
  'z_dim': (6, 'z_dim=6: its arrays make it 5'),
  'Model.MainLayers.0.Layers.1.LinearLayer2.Layer.groups': (4, 'groups=4: its arrays make it 3'),
  'Model.MainLayers.0.Layers.1.LinearLayer2.Layer.padding_mode': ('reflect', 'padding_mode=reflect'),
}


@pytest.mark.parametrize('name', CONTRADICTIONS)
def test_what_attributes_contradict(name):
  value, text = CONTRADICTIONS[name]
  tree = {'G_ema': module(plain_r3gan.arrays(), **{name: value})}
  (problem,) = converter.convert(checkpoint(tree)).problems
  assert text in problem


def test_numbers_that_skip_are_told():
  arrays = plain_r3gan.arrays()
  renamed = {key.replace('MainLayers.2', 'MainLayers.7'): value for key, value in arrays.items()}
  (problem,) = converter.convert(checkpoint({'G_ema': module(renamed)})).problems
  assert problem == 'Model.MainLayers: they are not numbered one by one to 11 at most: 0, 1, 7'


def test_what_nobody_knows_is_refused_where_it_is_needed(tmp_path):
  arrays = plain_r3gan.arrays()
  bias = 'Model.MainLayers.1.Layers.2.NonLinearity1.Bias'
  strange = Call('timm.layers', 'Attention', ('harm',))
  changes = {
    'a parameter': (arrays | {bias: strange}, {}, f'{bias}: a timm.layers.Attention'),
    'a module': (arrays, {bias.removesuffix('.Bias'): strange}, 'a timm.layers.Attention, which is not allowed'),
  }
  for what, (state, modules, text) in changes.items():
    path = tmp_path / f'{what}.pkl'
    made = plain_r3gan.pickled(state)
    for name, value in modules.items():
      place_in(made, name, value)
    path.write_bytes(write_nvlabs({'D': strange, 'G_ema': made}))
    with pytest.raises(InputError) as caught:
      generator_of(path)
    assert text in caught.value.problem


def place_in(made: Call, name: str, value: Call) -> None:
  """Replaces a module within a module."""
  first, _, rest = name.partition('.')
  if rest:
    place_in(made.state['_modules'][first], rest, value)
  else:
    made.state['_modules'][first] = value


def test_recognised_only_from_its_own_keys():
  assert recognised(checkpoint({'G_ema': module(plain_r3gan.arrays())}), FAMILIES) == 'r3gan'
  for tree in (None, [], {}, {'G': 3}, {'G_ema': module({'Model.x': np.zeros(1)})}):
    assert converter.recognise(checkpoint(tree)) is None


def test_options_and_other_weights_are_refused():
  tree = checkpoint({'G_ema': module(plain_r3gan.arrays())})
  with pytest.raises(InputError, match='there is no such option'):
    converter.convert(tree, 'ema', {'clamp': '1'})
  with pytest.raises(InputError, match='the file has no G'):
    converter.convert(tree, 'raw')


FITTING = R3GANOptions((4, 4), (1, 1), (8, 8), (2, 2), 3)
UNFIT = {
  'widths': ((), 'make no image'),
  'blocks': ((100, 100), 'more than 128'),
  'inner': ((8,), 'there are 2 stages'),
  'groups': ((3, 2), 'cannot be divided'),
  'kernel': (4, 'has no middle'),
  'embed_dim': (2, 'there are 0 classes'),
}


@pytest.mark.parametrize('name', UNFIT)
def test_options_that_do_not_fit(name):
  value, text = UNFIT[name]
  with pytest.raises(InputError, match=text):
    dataclasses.replace(FITTING, **{name: value}).check()


def test_truncation_is_refused():
  made = registry.create('r3gan', FITTING)
  with pytest.raises(InputError, match=r'truncation=0\.7'):
    made.map(np.zeros((1, 3)), truncation=0.7)


def test_the_first_matrix_maps_latents_to_scales():
  made = generator(converter, {'G_ema': module(plain_r3gan.arrays(classes=3, embed=2))})
  (weight,) = made.affine_weights().values()
  latents = made.map(RNG.standard_normal((2, 5)), np.array([0, 2]))
  features = made.run_to(latents, 1).features
  np.testing.assert_allclose(
    features, np.asarray(made.basis.patterns[...]) * np.asarray(latents @ weight)[:, None, None], atol=1e-5
  )
  found = sefa.discover(made)
  assert found.space == 'z'
  assert found.vectors.shape[1] == 5


def test_layer_table_of_the_published_networks():
  options = R3GANOptions(
    widths=(*[768] * 4, 384, 192, 96),
    blocks=(2,) * 7,
    inner=(*[1536] * 4, 768, 384, 192),
    groups=(*[96] * 4, 48, 24, 12),
    z_dim=64,
  )
  layers = registry.abstract('r3gan', options).layers
  assert len(layers) == 21
  assert layers[1] == (768, 4, 4)
  assert layers[4] == (768, 8, 8)
  assert layers[21] == (96, 256, 256)


def test_a_network_is_told_through_the_command(tmp_path):
  conversion, made = converted(checkpoint({'G_ema': module(plain_r3gan.arrays())}), 'auto', 'ema', {})
  assert (conversion.family, conversion.dialect) == ('r3gan', 'r3gan')
  assert made.options.taps == (0.125, 0.375, 0.375, 0.125)


@pytest.mark.parametrize('groups', [1, 3, 12])
def test_groups_one_after_the_other_as_all_at_once(monkeypatch, groups):
  rng = np.random.default_rng(0)
  x, kernel = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 7, 5, 12), (3, 3, 12 // groups, 12)))

  def value_and_gradients():
    convolved = jax.jit(lambda x, kernel: grouped(x, kernel, groups))
    value, pullback = jax.vjp(convolved, x, kernel)
    return value, *pullback(value)

  alone = value_and_gradients()
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')  # where all are computed at once
  for one, other in zip(alone, value_and_gradients(), strict=True):
    # Sums of at most 108 products, and of 70 of these for the kernel, in another order.
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(np.abs(other).max()))
