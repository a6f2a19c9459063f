"""StyleGAN2 in its three file layouts: stored outputs of the original codes, and variants against plain numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from panda_jax.converters.dialects import stylegan2 as converter
from panda_jax.errors import InputError
from panda_jax.generators.base import WPlus
from panda_jax.generators.structure import Compiled
from panda_jax.generators.stylegan2 import StyleGAN2, StyleGAN2Options
from tests.generators import checkpoints, reference_numpy
from tests.generators.checkpoints import checkpoint, generator
from tests.generators.parity import check_computed, check_stored

RNG = np.random.default_rng(1)


def one_hot(labels, classes):
  return np.eye(classes, dtype=np.float32)[labels]


@pytest.mark.parametrize(
  'source',
  [
    'stylegan2/checkpoint.pth',
    'stylegan2_nvlabs/network.pkl',
    'stylegan2_rosinality/checkpoint.pt',
    'stylegan2_human/network.pkl',
    'stylegan2_initres/network.pkl',
  ],
)
def test_stored_outputs_of_the_original(source):
  check_stored(generator(converter, source), source.split('/')[0])


WIDE = (6, 5, 7, 4, 3, 8)  # up to 16x16
NVLABS = {
  'skip': {},
  'resnet': {'architecture': 'resnet', 'widths': WIDE},
  'resnet, clamped': {'architecture': 'resnet', 'widths': WIDE, 'clamp': 0.5},
  'orig': {'architecture': 'orig', 'widths': WIDE},
  'clamped': {'clamp': 0.4},
  'conditional': {'c_dim': 3, 'embed': 5},
  'conditional without z': {'c_dim': 3, 'z_dim': 0},
  'gray': {'channels': 1},
  'alpha': {'channels': 4},
  'one mapping layer': {'depth': 1},
  'no mapping layer': {'depth': 0, 'z_dim': 8},
  'no noise': {'noise': False},
  'no mean': {'mean': False},
  'activation': {'activation': 'swish', 'mapping_activation': 'relu'},
  'lr': {'lr': 0.1},
  'eight taps': {'taps': (1, 2, 3, 4, 4, 3, 2, 1), 'widths': WIDE},
  'eight taps, resnet': {'taps': (1, 2, 3, 4, 4, 3, 2, 1), 'architecture': 'resnet'},
  'three taps': {'taps': (1, 2, 1)},
  'lopsided taps': {'taps': (1, 2, 4, 1)},
  'inseparable filter': {'taps': ((1, 2, 0, 1), (2, 4, 3, 1), (1, 3, 2, 0), (0, 1, 5, 1))},
  'stylegan3 code': {'flat': True, 'clamp': 0.4},
  'no attributes': {'attributes': False, 'clamp': 0.4, 'activation': 'relu', 'lr': 0.02},
  'tiny weights': {'scale': 1e-4},
}


@pytest.mark.parametrize(
  ('name', 'noise'), [*((name, 'const') for name in NVLABS), ('skip', 'none'), ('resnet', 'none')]
)
def test_nvlabs_variants(name, noise):
  given = NVLABS[name]
  module = checkpoints.stylegan2_nvlabs(**given)
  made = generator(converter, {'G_ema': module, 'G': None})
  z = RNG.standard_normal((2, given.get('z_dim', 9)))
  labels = one_hot([2, 0], 3) if 'c_dim' in given else None
  shared = {
    key: given[key] for key in ('architecture', 'clamp', 'activation', 'mapping_activation', 'lr') if key in given
  }
  psis = [(1.0, None)] if given.get('mean') is False else [(1.0, None), (0.6, None), (1.3, 2)]
  for psi, cutoff in psis:
    reference = reference_numpy.stylegan2_nvlabs(
      module.state_dict, z, labels, psi=psi, cutoff=cutoff, noise=noise, **shared
    )
    latents = made.map(z, labels, truncation=psi, truncation_layers=cutoff)
    np.testing.assert_allclose(made.mapping(z, labels), reference['w'], atol=1e-5)
    np.testing.assert_allclose(latents.wplus, reference['wplus'], atol=1e-5)
    check_computed(made, reference, latents, noise=noise)
  if given.get('mean') is False:
    with pytest.raises(InputError, match=r'truncation=0\.5'):
      made.map(z, labels, truncation=0.5)


def test_clamp_is_active_in_the_variants():
  """Otherwise the tests above would not test the clamp."""
  z = RNG.standard_normal((2, 9))
  arrays = checkpoints.stylegan2_nvlabs(clamp=0.4).state_dict
  free, bound = (reference_numpy.stylegan2_nvlabs(arrays, z, clamp=clamp)['image'] for clamp in (None, 0.4))
  assert np.abs(free - bound).max() > 0.1


def test_the_default_clamp_is_that_of_the_code():
  """Without attributes and arguments: none in stylegan2-ada-pytorch, 256 in stylegan3's StyleGAN2."""
  for flat, clamp in ((False, None), (True, 256.0)):
    module = checkpoints.stylegan2_nvlabs(flat=flat, attributes=False)
    arguments = module.init_kwargs if flat else module.init_kwargs['synthesis_kwargs']
    del arguments['conv_clamp']
    assert converter.convert(checkpoint({'G_ema': module})).options.clamp == clamp


GENFORCE = {
  'skip': {},
  'conditional': {'label': 3},
  'a w per row': {'own': True},
  'orig': {'skip': False, 'widths': WIDE},
  'channel noise': {'channel_noise': True},
  'tanh': {'final_tanh': True},
  'no demodulation': {'demodulate': False},
  'lr': {'lr': 0.1},
  'gray': {'channels': 1, 'depth': 1},
  'lopsided taps': {'taps': (1, 2, 4, 1)},
}


@pytest.mark.parametrize('name', GENFORCE)
def test_genforce_variants(name):
  given = GENFORCE[name]
  behaviour = {key: given[key] for key in ('final_tanh', 'demodulate', 'lr') if key in given}
  built = {key: value for key, value in given.items() if key not in ('final_tanh', 'demodulate')}
  arrays = checkpoints.stylegan2_genforce(**built)
  names = {'lr': 'mapping_lr_mul'}
  options = {names.get(key, key): str(value) for key, value in behaviour.items()}
  made = generator(converter, {'generator_smooth': arrays, 'discriminator': {}}, **options)
  z, labels = RNG.standard_normal((2, 9)), one_hot([2, 0], 3) if 'label' in given else None
  for psi, count, noise in ((1.0, None, 'const'), (0.7, 3, 'const'), (0.5, None, 'none')):
    reference = reference_numpy.stylegan2_genforce(
      arrays, z, labels, psi=psi, count=99 if count is None else count, noise=noise, **behaviour
    )
    latents = made.map(z, labels, truncation=psi, truncation_layers=count)
    np.testing.assert_allclose(latents.wplus, reference['wplus'], atol=1e-5)
    check_computed(made, reference, latents, noise=noise)


@pytest.mark.parametrize(
  'given',
  [{}, {'depth': 1, 'w_dim': 5}, {'widths': (3, 4, 5, 6, 7, 8, 2, 2)}, {'mean': False}, {'taps': (1, 2, 3, 2, 1)}],
)
def test_rosinality_variants(given):
  tree = checkpoints.stylegan2_rosinality(**given)
  made = generator(converter, tree)
  z = RNG.standard_normal((2, made.z_dim))
  for psi in (1.0, 0.7) if given.get('mean', True) else (1.0,):
    reference = reference_numpy.stylegan2_rosinality(tree['g_ema'], tree.get('latent_avg'), z, psi=psi)
    check_computed(made, reference, made.map(z, truncation=psi))


def test_raw_weights():
  first, second = (checkpoints.stylegan2_nvlabs(seed=seed) for seed in (0, 1))
  z = RNG.standard_normal((1, 9))
  for weights, module in (('ema', first), ('raw', second)):
    made = generator(converter, {'G_ema': first, 'G': second}, weights=weights)
    check_computed(made, reference_numpy.stylegan2_nvlabs(module.state_dict, z), made.map(z))
  with pytest.raises(InputError, match='no G;'):
    converter.convert(checkpoint({'G_ema': first, 'G': None}), 'raw', {})
  arrays = checkpoints.stylegan2_genforce()
  assert 'averaged' in ' '.join(converter.convert(checkpoint({'generator': arrays}), 'ema', {}).notes)
  with pytest.raises(InputError, match='no generator;'):
    converter.convert(checkpoint({'generator_smooth': arrays}), 'raw', {})


def problems(tree, **options):
  return converter.convert(checkpoint(tree), 'ema', options).problems


def test_every_problem_is_told_and_names_its_key():
  arrays = checkpoints.stylegan2_genforce()
  assert problems({'generator': arrays}) == []
  for key in arrays:
    without = {name: value for name, value in arrays.items() if name != key}
    assert any(problem.startswith(f'{key}: missing') for problem in problems({'generator': without})), key
    longer = {**arrays, key: np.concatenate([arrays[key].ravel(), [0]])}
    assert any(problem.startswith(f'{key}: expected') for problem in problems({'generator': longer})), key
  assert problems({'generator': {**arrays, 'synthesis.extra': np.zeros(3)}}) == ['synthesis.extra: unknown key']


@pytest.mark.parametrize('architecture', ['skip', 'resnet', 'orig'])
def test_every_key_of_a_pickle_counts(architecture):
  module = checkpoints.stylegan2_nvlabs(architecture=architecture, c_dim=2)
  # Each missing key is named in a problem, or is not needed. The constructor's arguments show a missing embedding.
  idle = {'synthesis.b4.resample_filter', 'synthesis.b4.conv1.resample_filter', 'synthesis.b8.conv1.resample_filter'}
  if architecture != 'skip':
    idle.add('synthesis.b8.resample_filter')
  conversion = converter.convert(checkpoint({'G_ema': module}))
  assert conversion.problems == []
  assert idle <= set(conversion.unused)
  for key in module.state_dict:
    without = {name: value for name, value in module.state_dict.items() if name != key}
    found = problems({'G_ema': dataclasses.replace(module, state_dict=without)})
    assert (found == []) == (key in idle), key


def test_every_key_of_rosinality_counts():
  tree = checkpoints.stylegan2_rosinality()
  assert problems(tree) == []
  for key in tree['g_ema']:
    without = {name: value for name, value in tree['g_ema'].items() if name != key}
    assert any(problem.startswith(f'{key}: missing') for problem in problems({**tree, 'g_ema': without})), key


@pytest.mark.parametrize(
  ('change', 'problem'),
  [
    ({'img_resolution': 16}, 'img_resolution=16'),
    ({'z_dim': 10}, 'z_dim=10'),
    ({'w_dim': 10}, 'w_dim=10'),
    ({'c_dim': 2}, 'c_dim=2'),
    ({'img_channels': 1}, 'img_channels=1'),
    ({'synthesis_kwargs': {'architecture': 'resnet'}}, 'architecture=resnet'),
    ({'synthesis_kwargs': {'conv_clamp': 3}}, 'conv_clamp=3'),
    ({'mapping_kwargs': {'lr_multiplier': 3}}, 'lr_multiplier=3'),
  ],
)
def test_a_pickle_that_contradicts_itself(change, problem):
  module = checkpoints.stylegan2_nvlabs()
  altered = dataclasses.replace(module, init_kwargs=module.init_kwargs | change)
  assert any(text.startswith(problem) for text in problems({'G_ema': altered}))


# Attributes of the original: the value in a network of these sizes, and a value of another network.
ATTRIBUTES = {
  'num_ws': (4, 3),
  'img_resolution': (8, 16),
  'mapping.num_layers': (2, 3),
  'mapping.fc0.weight_gain': (0.01 / np.sqrt(5), 1.0),
  'mapping.fc1.bias_gain': (0.01, 0.02),
  'synthesis.img_channels': (3, 1),
  'synthesis.block_resolutions': ([4, 8], [4, 16]),
  'synthesis.b8.in_channels': (6, 7),
  'synthesis.b8.is_last': (True, False),
  'synthesis.b8.num_torgb': (1, 0),
  'synthesis.b8.conv0.up': (2, 1),
  'synthesis.b8.conv1.up': (1, 2),
  'synthesis.b8.conv1.use_noise': (True, False),
  'synthesis.b8.conv1.act_gain': (np.sqrt(2), 3.0),
  'synthesis.b8.conv1.padding': (1, 0),
  'synthesis.b8.conv1.activation': ('lrelu', 'relu'),
  'synthesis.b8.conv1.affine.activation': ('linear', 'lrelu'),
  'synthesis.b8.conv1.affine.weight_gain': (1 / np.sqrt(7), 1.0),
  'synthesis.b8.torgb.weight_gain': (1 / np.sqrt(7), 1.0),
  'synthesis.b8.torgb.conv_clamp': (None, 256),
}


@pytest.fixture(scope='module')
def small_nvlabs():
  return checkpoints.stylegan2_nvlabs(widths=(6, 6, 5, 7), z_dim=5, w_dim=7, hidden=7, depth=2)


def with_attributes(module, changes):
  told = {name: value.item() if isinstance(value, np.generic) else value for name, value in changes.items()}
  return problems({'G_ema': dataclasses.replace(module, attributes=module.attributes | told)})


def test_attributes_of_the_original_are_accepted(small_nvlabs):
  assert with_attributes(small_nvlabs, {name: right for name, (right, _) in ATTRIBUTES.items()}) == []


@pytest.mark.parametrize('name', ATTRIBUTES)
def test_every_attribute_that_the_original_computes_with_is_compared(small_nvlabs, name):
  found = with_attributes(small_nvlabs, {name: ATTRIBUTES[name][1]})
  assert any(name in text and str(ATTRIBUTES[name][1]) in text for text in found)


@pytest.mark.parametrize('told', [{'mapping.num_layers': 2}, {}])
def test_layers_of_the_mapping_that_are_missing_are_told(small_nvlabs, told):
  arrays = {key: array for key, array in small_nvlabs.state_dict.items() if not key.startswith('mapping.fc1.')}
  attributes = {name: value for name, value in small_nvlabs.attributes.items() if '.fc1.' not in name} | told
  cut = dataclasses.replace(small_nvlabs, state_dict=arrays, attributes=attributes)
  assert any('num_layers=2' in text for text in problems({'G_ema': cut}))


def test_layers_that_differ_where_ours_do_not():
  module = checkpoints.stylegan2_nvlabs(clamp=1.0)
  altered = dataclasses.replace(module, attributes=module.attributes | {'synthesis.b8.conv1.conv_clamp': 2.0})
  assert any('synthesis.b8.conv1.conv_clamp' in text for text in problems({'G_ema': altered}))
  arrays = checkpoints.stylegan2_genforce(widths=WIDE)
  arrays['synthesis.layer3.filter.kernel'] = 2 * arrays['synthesis.layer3.filter.kernel']
  assert problems({'generator': arrays}) == [
    'synthesis.layer3.filter.kernel: another filter than synthesis.layer1.filter.kernel'
  ]


def test_options_are_checked():
  tree = {'generator': checkpoints.stylegan2_genforce()}
  for options, text in (
    ({'final_tan': 'true'}, 'there is no such option'),
    ({'final_tanh': 'yes'}, 'neither true nor false'),
    ({'mapping_lr_mul': '-1'}, 'not a positive number'),
  ):
    with pytest.raises(InputError, match=text):
      converter.convert(checkpoint(tree), 'ema', options)
  with pytest.raises(InputError, match='so it has none'):
    converter.convert(checkpoint({'G_ema': checkpoints.stylegan2_nvlabs()}), 'ema', {'final_tanh': 'true'})


def test_recognised_from_few_keys():
  assert converter.recognise(checkpoint({'models': {'generator': checkpoints.stylegan2_genforce()}})) == 'genforce'
  assert converter.recognise(checkpoint(checkpoints.stylegan2_genforce())) == 'genforce'
  assert converter.recognise(checkpoint(checkpoints.stylegan2_nvlabs())) == 'nvlabs'
  assert converter.recognise(checkpoint(checkpoints.stylegan2_rosinality()['g_ema'])) == 'rosinality'
  for tree in (None, [], {}, {'a': 1}, {'generator': 3}, {1: 2}, checkpoints.stylegan(), checkpoints.progan()):
    assert converter.recognise(checkpoint(tree)) is None


@pytest.mark.parametrize('architecture', ['skip', 'resnet', 'orig'])
def test_styles_stand_for_wplus(architecture):
  made = generator(converter, {'G_ema': checkpoints.stylegan2_nvlabs(architecture=architecture, widths=WIDE)})
  latents = WPlus(jnp.asarray(RNG.standard_normal((2, 6, 8)), jnp.float32))
  styles = made.styles(latents)
  assert [style.shape[1] for style in styles.convs] == list(WIDE[:-1])
  assert len(styles.rgbs) == (3 if architecture == 'skip' else 1)
  image = made(latents)
  np.testing.assert_array_equal(made(styles), image)
  for layer in made.layers:
    state = made.run_to(styles, layer)
    np.testing.assert_allclose(made.run_from(styles, state, layer), image, atol=1e-6)
  changed = styles.replace(rgbs=tuple(style + 1 for style in styles.rgbs))
  assert np.abs(made(changed) - image).max() > 0.01
  # A style is the affine map of its row of w+, without its layer's gain.
  weights = made.affine_weights()
  order = ['conv0', 'rgb0', 'conv1', 'conv2', 'rgb1', 'conv3', 'conv4', 'rgb2']
  assert list(weights) == [name for name in order if architecture == 'skip' or name not in ('rgb0', 'rgb1')]
  moved = made.styles(WPlus(latents.wplus.at[:, 5].add(1.0)))
  np.testing.assert_allclose(moved.rgbs[-1] - styles.rgbs[-1], np.tile(weights['rgb2'].sum(axis=0), (2, 1)), atol=1e-5)
  np.testing.assert_allclose(moved.convs[4], styles.convs[4])


def test_rgb_belongs_to_the_state():
  made = generator(converter, {'G_ema': checkpoints.stylegan2_nvlabs(widths=WIDE)})
  latents = made.map(RNG.standard_normal((2, 9)))
  whole = made(latents)
  for layer, size in ((1, 4), (2, 4), (3, 8), (4, 8)):
    state = made.run_to(latents, layer)
    assert state.rgb.shape == (2, size, size, 3)
    dropped = made.run_from(latents, state, layer, drop_rgb=True)
    assert np.abs(dropped - whole).max() > 0.1
    np.testing.assert_array_equal(dropped, made.run_from(latents, state.replace(rgb=None), layer, drop_rgb=True))
    with pytest.raises(InputError, match='rgb=None'):
      made.run_from(latents, state.replace(rgb=None), layer)
    with pytest.raises(InputError, match='state=rgb'):
      made.run_from(latents, state.replace(rgb=jnp.zeros((2, 32, 32, 3))), layer)


def test_layer_table_of_the_largest_official_network():
  options = StyleGAN2Options(1024, (*[512] * 10, 256, 256, 128, 128, 64, 64, 32, 32), 512, 512, (512,) * 8)
  layers = nnx.eval_shape(lambda: StyleGAN2(options, nnx.Rngs(0))).layers
  wide = {1: 4, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 32, 8: 64, 9: 64}
  narrow = {
    10: (256, 128),
    11: (256, 128),
    12: (128, 256),
    13: (128, 256),
    14: (64, 512),
    15: (64, 512),
    16: (32, 1024),
  }
  expected = {layer: (512, size) for layer, size in wide.items()} | narrow
  assert layers == {layer: (channels, size, size) for layer, (channels, size) in expected.items()}


def test_compute_dtype_is_that_of_the_arrays():
  made = Compiled(generator(converter, {'G_ema': checkpoints.stylegan2_nvlabs()}))
  latents = made.map(RNG.standard_normal((2, 9)))
  graphdef, state = nnx.split(made.generator)
  half = Compiled(nnx.merge(graphdef, jax.tree.map(lambda a: a.astype(jnp.bfloat16), state)))
  image = half(half.map(RNG.standard_normal((2, 9))))
  assert image.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(half(latents), np.float32), made(latents), atol=0.3)
