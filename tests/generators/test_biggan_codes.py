"""BigGAN of BigGAN-PyTorch and PyTorch-StudioGAN: stored outputs of the original codes, and variants in plain numpy."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import panda_jax
from panda_jax.converters.assembly import assemble
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.conversion import convert, converted
from panda_jax.converters.dialects import biggan as converter
from panda_jax.errors import InputError
from panda_jax.generators import registry
from panda_jax.generators.biggan import BigGANOptions, plain_options
from panda_jax.generators.seeds import draws
from tests.generators import unpacked
from tests.generators.plain_biggan_codes import Network, Plain, balanced, random_checkpoint

# Absolute, and relative to the standard deviation: twice the difference of float32 and float64 in the deep network.
IMAGE, FEATURES = 2e-5, 2e-5
STORED = {
  'biggan_pytorch': ('G_ema.pth', 'ajbrock'),
  'studiogan_biggan': ('model.pth', 'studiogan'),
  'studiogan_biggan_deep': ('model.pth', 'studiogan'),
}
VARIANTS = {
  'ajbrock': Network(),
  'ajbrock, several attentions, the last behind all': Network(widths=(16, 16, 8), attention=(1, 2), channels=1),
  'ajbrock, eps': Network(eps=0.03, attention=()),
  'ajbrock, not hierarchical': Network(split=False, chunk=7),
  'ajbrock, a table for each norm': Network(split=False, shared=0, chunk=7),
  'ajbrock, no spectral norm': Network(normed=False),
  'ajbrock, a table for each norm, no spectral norm': Network(split=False, shared=0, normed=False),
  'ajbrock, its own batch norm': Network(own_norm=True),
  'studiogan': Network('studiogan', (24, 12, 6), attention=(1,)),
  'studiogan, attention before all': Network('studiogan', attention=(0, 2)),
  'studiogan, no classes': Network('studiogan', shared=0, classes=0),
  'studiogan, no spectral norm': Network('studiogan', normed=False),
  'deep, legacy': Network('deep_legacy', (16, 8, 8)),
  'deep, legacy, no classes': Network('deep_legacy', (16, 8), shared=0, classes=0, chunk=6),
  'deep': Network('deep_studiogan', (16, 8, 8), attention=(3,), channels=1),
  'deep, no spectral norm': Network('deep_studiogan', (16, 8), attention=(), normed=False),
}


def checkpoint(state) -> Checkpoint:
  return Checkpoint('zip', state, Path('G_ema.pth'), '0' * 64, 0, None)


def made(state, **options):
  return assemble(converter.convert(checkpoint(state), 'ema', options))


def channels_first(array) -> np.ndarray:
  return np.moveaxis(np.asarray(array), -1, 1)


@pytest.fixture(scope='module', params=STORED)
def loaded(request, tmp_path_factory):
  """A stored file, converted and loaded from its folder, and the outputs of the original code."""
  file, dialect = STORED[request.param]
  folder = tmp_path_factory.mktemp(request.param) / 'generator'
  said = convert(unpacked.checkpoint(request.param) / file, folder)
  assert f'dialect      {dialect}' in said
  return panda_jax.load_generator(folder), unpacked.outputs(request.param)


class TestStored:
  def test_images_and_features(self, loaded):
    generator, outputs = loaded
    latents = generator.map(outputs['z'], outputs['y'])
    np.testing.assert_allclose(latents.embedding, outputs['embedding'], atol=1e-6)
    unpacked.assert_image(generator(latents), outputs['image'], IMAGE)
    assert {f'feat_l{layer}' for layer in generator.layers} == {key for key in outputs if key.startswith('feat')}
    for layer in generator.layers:
      state = generator.run_to(latents, layer)
      unpacked.assert_features(state.features, outputs[f'feat_l{layer}'], FEATURES)
      unpacked.assert_image(generator.run_from(latents, state, layer), outputs['image'], IMAGE)

  def test_truncation_scales_z(self, loaded):
    generator, outputs = loaded
    latents = generator.map(outputs['z'], outputs['y'], truncation=0.6)
    unpacked.assert_image(generator(latents), outputs['image_z_scaled0.6'], IMAGE)
    np.testing.assert_array_equal(latents.z, generator.map(0.6 * outputs['z'], outputs['y']).z)

  def test_edited_images(self, loaded):
    generator, outputs = loaded
    latents = generator.map(outputs['z'], outputs['y'])
    layers = [int(key.removeprefix('delta_l')) for key in outputs if key.startswith('delta')]
    assert len(layers) == 2
    for layer in layers:
      state = generator.run_to(latents, layer)
      edited = state.replace(features=state.features + np.moveaxis(outputs[f'delta_l{layer}'], 1, -1))
      unpacked.assert_image(generator.run_from(latents, edited, layer), outputs[f'image_edited_l{layer}'], IMAGE)


@pytest.mark.parametrize('name', VARIANTS)
def test_variants_agree_with_a_plain_implementation(name):
  network = VARIANTS[name]
  rng = np.random.default_rng(3)
  z = np.asarray(rng.standard_normal((2, network.z_dim)), np.float32)
  labels = np.eye(network.classes, dtype=np.float32)[[4, 1]] if network.classes else np.zeros((2, 0), np.float32)
  state = balanced(random_checkpoint(rng, network), network, z, labels)
  generator = made(state, **({'bn_eps': str(network.eps)} if network.eps else {}))
  maps = Plain(state, network).features(z.astype(np.float64), labels.astype(np.float64))
  assert generator.z_dim == network.z_dim
  assert generator.layers == {layer: found.shape[1:] for layer, found in enumerate(maps[:-1])}
  assert (np.abs(maps[-1]) < 0.9).mean() > 0.3  # on grey pixels differences are visible
  latents = generator.map(z, labels)
  # Float32 rounds to some 1e-6 of the largest value; tanh has a slope of 1 at most.
  np.testing.assert_allclose(channels_first(generator(latents)), maps[-1], atol=3e-5)
  for layer in generator.layers:
    found = generator.run_to(latents, layer)
    scale = np.abs(maps[layer]).max()
    np.testing.assert_allclose(channels_first(found.features), maps[layer], atol=1e-5 * scale, err_msg=str(layer))
    np.testing.assert_allclose(channels_first(generator.run_from(latents, found, layer)), maps[-1], atol=3e-5)


class TestFiles:
  @pytest.mark.parametrize('name', ['ajbrock', 'deep, legacy'])
  def test_wrapped_state_dicts(self, name):
    state = random_checkpoint(np.random.default_rng(0), VARIANTS[name])
    bare = converter.convert(checkpoint(state))
    parallel = {f'module.{key}': value for key, value in state.items()}
    for tree in (parallel, {'state_dict': state, 'optimizer': {'a': 1}}, {'state_dict': parallel}):
      other = converter.convert(checkpoint(tree))
      assert other.problems == []
      assert other.tensors.keys() == bare.tensors.keys()
      for target, tensor in bare.tensors.items():
        np.testing.assert_array_equal(other.tensors[target], tensor)

  @pytest.mark.parametrize('name', ['ajbrock', 'studiogan'])
  def test_averaged_weights_and_those_of_the_last_step(self, name):
    averaged, last = (random_checkpoint(np.random.default_rng(seed), VARIANTS[name]) for seed in (0, 1))
    tree = {'G': last, 'G_ema': averaged, 'D': {'blocks.0.0.conv1.weight': np.ones((4, 3, 3, 3), np.float32)}}
    for weights, expected in (('ema', averaged), ('raw', last)):
      conversion = converter.convert(checkpoint(tree), weights)
      np.testing.assert_array_equal(conversion.tensors['embedding'], expected['shared.weight'])

  @pytest.mark.parametrize('name', VARIANTS)
  def test_every_key_is_accounted_for(self, name):
    state = random_checkpoint(np.random.default_rng(0), VARIANTS[name])
    conversion = converter.convert(checkpoint(state))
    assert conversion.problems == []
    assert set(state) == set(conversion.sources.values()) | set(conversion.unused)
    conversion = converter.convert(checkpoint(state | {'more': np.ones(3, np.float32)}))
    assert conversion.problems == ['more: unknown key']

  @pytest.mark.parametrize('name', ['ajbrock', 'ajbrock, a table for each norm', 'studiogan', 'deep', 'deep, legacy'])
  def test_every_missing_key_is_named(self, name):
    state = random_checkpoint(np.random.default_rng(0), VARIANTS[name])
    left = set(converter.convert(checkpoint(state)).unused)
    left = {key for key in left if not key.endswith(('.u0', '_u', '_v'))}
    for key in state:
      if key in left or (key == 'shared.weight' and name.startswith('deep')):
        continue  # without it a deep network looks unconditional; a note says so
      less = {other: value for other, value in state.items() if other != key}
      conversion = converter.convert(checkpoint(less))
      assert conversion.problems, key
      if key != 'shared.weight':  # without it the file is of another kind
        assert any(key in problem for problem in conversion.problems), (key, conversion.problems)

  @pytest.mark.parametrize('name', ['ajbrock', 'studiogan'])
  def test_a_wrong_shape_and_what_is_not_finite(self, name):
    state = random_checkpoint(np.random.default_rng(0), VARIANTS[name])
    conv = next(key for key in state if key.startswith('blocks.0.0.conv') and state[key].ndim == 4)
    wrong = state | {conv: state[conv][:, :, :1]}
    with pytest.raises(InputError, match=re.escape(conv)):
      made(wrong)
    wrong = state | {conv: np.full_like(state[conv], np.nan)}
    with pytest.raises(InputError, match=rf'{re.escape(conv)}: (\d+) of \1 values are not finite'):
      made(wrong)
    zero = next(key for key in state if key.startswith('blocks.0.0.conv') and key.endswith(('.u0', '_u')))
    with pytest.raises(InputError, match=rf'{re.escape(zero)}.*l norm that they give is (0\.0|nan)'):
      made(state | {zero: np.zeros_like(state[zero])})
    with pytest.raises(InputError, match='type int64'):
      made(state | {conv: np.ones(state[conv].shape, np.int64)})

  def test_more_singular_values_than_one_change_nothing(self):
    state = random_checkpoint(np.random.default_rng(0), VARIANTS['ajbrock'])
    more = {re.sub('0$', '1', key): 3 * value for key, value in state.items() if key.endswith(('.u0', '.sv0'))}
    conversion = converter.convert(checkpoint(state | more))
    assert conversion.problems == []
    assert set(more) <= set(conversion.unused)

  @pytest.mark.parametrize(
    ('code', 'more', 'text'),
    [
      ('ajbrock', {'blocks.0.0.conv3.weight': (4, 4, 3, 3)}, r'BigGANdeep\.py'),
      ('ajbrock', {'blocks.0.0.bn1.bn.running_mean': (16,)}, '--cross_replica'),
      ('ajbrock', {'blocks.0.0.bn1.bn.accumulation_counter': (1,)}, 'sums that were not divided'),
      ('ajbrock', {'blocks.3.0.bn1.stored_mean': (8,)}, r'blocks\.3\.0: the one before it is missing'),
      ('studiogan', {'info_mix_linear.weight': (4, 4)}, 'InfoGAN'),
      ('studiogan', {'info_proj_linear.bias': (4,)}, 'InfoGAN'),
      ('studiogan', {'blocks.0.0.deconv0.weight_orig': (4, 4, 4, 4)}, 'deep_conv'),
      ('studiogan', {'blocks.0.0.bn1.weight': (16,)}, 'resnet'),
      ('studiogan', {'blocks.0.0.bn1.gain.weight_orig': (16, 5), 'blocks.0.0.bn2.gain.weight_orig': (8, 5)}, 'resnet'),
    ],
  )
  def test_other_networks_are_refused_by_name(self, code, more, text):
    network = Network(code, (16, 8), attention=())
    state = random_checkpoint(np.random.default_rng(0), network)
    with pytest.raises(InputError, match=text):
      made(state | {key: np.ones(shape, np.float32) for key, shape in more.items()})

  def test_norms_without_stored_statistics(self):
    state = random_checkpoint(np.random.default_rng(0), VARIANTS['ajbrock'])
    with pytest.raises(InputError, match='norm styles other than bn'):
      made({key: value for key, value in state.items() if not key.startswith('blocks') or 'stored' not in key})

  def test_a_deep_network_of_half_a_size(self):
    state = random_checkpoint(np.random.default_rng(0), Network('deep_legacy', (16, 16), attention=()))
    with pytest.raises(InputError, match='blocks: 1 of them, where the deep backbone has 2'):
      made({key: value for key, value in state.items() if not key.startswith('blocks.1.')})

  def test_a_deep_network_of_another_depth(self):
    state = random_checkpoint(np.random.default_rng(0), Network('deep_studiogan', (16, 8), attention=()))
    turned = {re.sub(r'^blocks\.([01])', lambda m: f'blocks.{1 - int(m[1])}', key): a for key, a in state.items()}
    with pytest.raises(InputError, match='the first of 2 changes the width'):
      made(turned)

  def test_options_of_the_command(self):
    state = random_checkpoint(np.random.default_rng(0), VARIANTS['ajbrock'])
    assert 'bn_eps=1e-05: not in the file' in converter.convert(checkpoint(state)).notes
    for wrong in ('0', '-1', 'small'):
      with pytest.raises(InputError, match=f'bn_eps={wrong}: it is not a positive number'):
        made(state, bn_eps=wrong)
    with pytest.raises(InputError, match=r'eps=1e-3: there is no such option; this layout knows bn_eps'):
      made(state, eps='1e-3')

  def test_a_discriminator_is_no_generator(self):
    arrays = {
      'blocks.0.0.conv1.weight': np.ones((4, 3, 3, 3), np.float32),
      'linear.weight': np.ones((1, 4), np.float32),
    }
    with pytest.raises(InputError, match='the discriminator of a BigGAN, which is not converted; give the generator'):
      converted(checkpoint(arrays), 'auto', 'ema', {})


@pytest.mark.parametrize(
  ('resolution', 'z_dim', 'expected'),
  [
    (128, 120, {0: (1536, 4, 4), 1: (1536, 8, 8), 4: (192, 64, 64), 5: (192, 64, 64), 6: (96, 128, 128)}),
    (256, 140, {0: (1536, 4, 4), 3: (768, 32, 32), 5: (384, 64, 64), 6: (192, 128, 128), 7: (96, 256, 256)}),
  ],
)
def test_published_networks(resolution, z_dim, expected):
  generator = registry.abstract('biggan', plain_options(resolution))
  assert (generator.resolution, generator.z_dim) == (resolution, z_dim)
  assert {layer: generator.layers[layer] for layer in expected} == expected
  assert max(generator.layers) == max(expected)
  graphdef, state = nnx.split(generator)

  def render(state, z, labels):
    module = nnx.merge(graphdef, state)
    return module(module.map(z, labels, truncation=0.5))

  arguments = jax.ShapeDtypeStruct((2, z_dim), np.float32), jax.ShapeDtypeStruct((2,), np.int32)
  assert jax.eval_shape(render, state, *arguments).shape == (2, resolution, resolution, 3)


OPTIONS = {'z_dim': 6, 'num_classes': 3, 'channel_width': 8, 'blocks': ((True, 2, 1),), 'n_stats': 1, 'eps': 1e-4}


class TestOptions:
  @pytest.mark.parametrize(
    ('changes', 'text'),
    [
      ({'block': 'flat'}, 'block=flat'),
      ({'conditioning': 'none'}, 'conditioning=none'),
      ({'attention_position': (1, 0)}, 'attention_position'),
      ({'attention_position': (0, 0)}, 'attention_position'),
      ({'attention_position': (2,)}, 'attention_position'),
      ({'conditioning': 'split', 'z_dim': 7}, 'z_dim=7: it cannot be split into 2 equal pieces'),
      ({'num_classes': 0}, 'num_classes=0'),
      ({'num_classes': 0, 'embedding_dim': 0, 'conditioning': 'class'}, 'num_classes=0'),
      ({'blocks': ((True, 2, 3),)}, 'keep or halve'),
      ({'last_eps': 2.0}, 'last_eps=2.0'),
    ],
  )
  def test_what_does_not_fit_is_named(self, changes, text):
    with pytest.raises(InputError, match=text):
      BigGANOptions(**({'attention_position': ()} | OPTIONS | changes)).check()

  def test_folders_from_before_are_read(self):
    options = BigGANOptions(attention_position=1, **(OPTIONS | {'n_stats': 3}))
    values = registry.options_to_json(options)
    for name in ('block', 'conditioning', 'embedding_dim', 'last_eps'):
      del values[name]
    assert registry.options_from_json('biggan', values) == options

  def test_z_is_of_the_whole_normal_distribution_where_there_is_one_set_of_statistics(self):
    generator = registry.create('biggan', BigGANOptions(attention_position=(), **OPTIONS))
    np.testing.assert_array_equal(draws(generator, [7]), np.float32(np.random.RandomState(7).randn(1, 6)))
    z = np.ones((1, 6), np.float32)
    np.testing.assert_array_equal(generator.map(z, [0], truncation=1.5).z, 1.5 * z)
