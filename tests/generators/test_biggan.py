"""BigGAN-deep: parity with the original code's outputs, and variants against a plain float64 implementation."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from panda_jax.converters.assembly import assemble
from panda_jax.converters.checkpoint import Checkpoint, read
from panda_jax.converters.dialects import biggan as converter
from panda_jax.errors import InputError
from panda_jax.generators import registry
from panda_jax.generators.biggan import ClassLatents, deep_options, statistics_mixture
from panda_jax.runtime.compatibility import enable_x64
from tests.generators import plain_biggan, unpacked

IMAGE, FEATURES = 1e-4, 1e-4

BLOCKS = [[True, 16, 16], [False, 16, 8], [True, 8, 4], [False, 4, 4], [False, 4, 2], [True, 2, 1]]
SMALL = {
  'output_dim': 32,
  'z_dim': 5,
  'class_embed_dim': 5,
  'channel_width': 4,
  'num_classes': 4,
  'layers': BLOCKS,
  'attention_layer_position': 2,
  'eps': 1e-4,
  'n_stats': 51,
}
VARIANTS = {
  'attention in the middle': ({}, (1.0, 0.5, 0.14)),
  'attention first': ({'attention_layer_position': 0, 'eps': 0.05}, (0.58, 0.003)),
  'no attention': ({'attention_layer_position': 8, 'channel_width': 3}, (0.435,)),
  'few statistics': ({'n_stats': 4, 'attention_layer_position': 5, 'channel_width': 8}, (0.9, 1 / 3)),
}


def stored(state: dict, config: dict | None) -> Checkpoint:
  return Checkpoint('legacy', state, Path('pytorch_model.bin'), '', 0, config)


@pytest.fixture(scope='module')
def loaded():
  """The reference checkpoint's conversion, generator and outputs."""
  conversion = converter.convert(read(unpacked.checkpoint('biggan')))
  assert conversion.problems == []
  return conversion, assemble(conversion), unpacked.outputs('biggan')


class TestFixture:
  @pytest.mark.parametrize('t', [1.0, 0.7, 0.435, 0.56])
  def test_images(self, loaded, t):
    _, generator, outputs = loaded
    latents = generator.map(outputs['z'], outputs['class_onehot'], truncation=t)
    unpacked.assert_image(generator(latents), outputs[f'image_t{t}'], IMAGE)
    # A class given by its index gives the same.
    by_index = generator.map(outputs['z'], outputs['class_onehot'].argmax(1), truncation=t)
    np.testing.assert_array_equal(by_index.condition, latents.condition)
    if t == 0.7:
      np.testing.assert_allclose(latents.condition, outputs['cond_t0.7'], atol=1e-6)

  def test_features(self, loaded):
    _, generator, outputs = loaded
    keys = [key for key in outputs if key.startswith('feat')]
    assert len(keys) == 4
    for key in keys:
      _, layer, t = key.split('_')
      latents = generator.map(outputs['z'], outputs['class_onehot'], truncation=float(t[1:]))
      unpacked.assert_features(generator.run_to(latents, int(layer[1:])).features, outputs[key], FEATURES)

  def test_resumed_and_edited_images(self, loaded):
    _, generator, outputs = loaded
    keys = [key for key in outputs if key.startswith('image_edited')]
    assert len(keys) == 2
    for key in keys:
      _, _, layer, t = key.split('_')
      latents = generator.map(outputs['z'], outputs['class_onehot'], truncation=float(t[1:]))
      state = generator.run_to(latents, int(layer[1:]))
      unpacked.assert_image(generator.run_from(latents, state, int(layer[1:])), outputs[f'image_{t}'], IMAGE)
      delta = np.moveaxis(outputs[f'delta_{layer}'], 1, -1)
      edited = generator.run_from(latents, state.replace(features=state.features + jnp.asarray(delta)), int(layer[1:]))
      unpacked.assert_image(edited, outputs[key], IMAGE)

  def test_every_key_is_accounted_for(self, loaded):
    conversion, _, _ = loaded
    keys = set(read(unpacked.checkpoint('biggan')).tree)
    assert keys == set(conversion.sources.values()) | set(conversion.unused)
    assert {key[-9:] for key in conversion.unused} == {'.weight_u', '.weight_v'}
    assert any('conv_to_rgb: of its 8 channels only 3' in note for note in conversion.notes)


class TestVariants:
  @pytest.mark.parametrize('name', VARIANTS)
  def test_agrees_with_plain_implementation(self, name):
    changes, truncations = VARIANTS[name]
    config = SMALL | changes
    rng = np.random.default_rng(3)
    state = plain_biggan.random_checkpoint(rng, config)
    plain = plain_biggan.Plain(state, config)
    conversion = converter.convert(stored(state, config))
    generator = assemble(conversion)
    z, labels = rng.standard_normal((2, 5)), np.array([[0, 0, 1.0, 0], [0.5, 0.25, 0, 0.25]])
    for truncation in truncations:
      maps = plain.features(z, labels, truncation)
      assert generator.layers == {layer: m.shape[1:] for layer, m in enumerate(maps[:-1]) if 0 < layer < len(maps) - 2}
      latents = generator.map(z.astype(np.float32), labels.astype(np.float32), truncation=truncation)
      for ours, expected in zip(_everything(generator, latents), maps, strict=True):
        found = np.moveaxis(np.asarray(ours), -1, 1)
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max(), rtol=0)
      layer = len(maps) // 2
      resumed = generator.run_from(latents, generator.run_to(latents, layer), layer)
      np.testing.assert_allclose(np.moveaxis(np.asarray(resumed), -1, 1), maps[-1], atol=3e-5)

  def test_derivatives_of_attention(self):
    state = plain_biggan.random_checkpoint(np.random.default_rng(3), SMALL)
    graphdef, arrays = nnx.split(assemble(converter.convert(stored(state, SMALL))).entries[2])
    rng = np.random.default_rng(1)
    with enable_x64(True):
      attention = nnx.merge(graphdef, jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), arrays))
      run = jax.jit(attention)
      x, v = (jnp.asarray(rng.standard_normal((2, 4, 4, 32))) for _ in range(2))
      y, tangent = jax.jvp(run, (x,), (v,))
      finite = (run(x + 1e-6 * v) - run(x - 1e-6 * v)) / 2e-6
      np.testing.assert_allclose(tangent, finite, atol=1e-6 * float(jnp.abs(finite).max()), rtol=0)
      np.testing.assert_allclose(jnp.vdot(jax.vjp(run, x)[1](y)[0], v), jnp.vdot(y, tangent), rtol=1e-9)

  def test_samples_of_different_truncation_go_together(self):
    state = plain_biggan.random_checkpoint(np.random.default_rng(3), SMALL)
    generator = assemble(converter.convert(stored(state, SMALL)))
    z = np.random.default_rng(0).standard_normal((1, 5)).astype(np.float32)
    latents = [generator.map(z, [1], truncation=t) for t in (0.3, 0.58)]
    together = generator(jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *latents))
    for i, one in enumerate(latents):
      np.testing.assert_allclose(together[i : i + 1], generator(one), atol=1e-5)


def _everything(generator, latents):
  maps = [generator.first_maps(latents)]
  for i in range(len(generator.entries)):
    maps.append(generator._run(latents, maps[-1], i, i + 1))
  return [*maps, generator(latents)]


class TestStatistics:
  # The published lookup: cases where rounding gives a fraction of 0 or almost 1; its interpolation is reversed.
  @pytest.mark.parametrize(
    ('truncation', 'expected'),
    [
      (1.0, {50: 1.0}),
      (0.5, {25: 1.0}),
      (0.02, {1: 1.0}),
      (0.435, {21: 0.75, 22: 0.25}),
      (0.14, {8: 1.0}),
      (0.28, {15: 1.0}),
      (0.56, {29: 1.0}),
      (0.58, {28: 1.0}),
      (0.94, {46: 1.0}),
      (0.005, {0: 0.25, 1: 0.75}),
    ],
  )
  def test_mixture(self, truncation, expected):
    mixture = statistics_mixture(truncation, 51)
    np.testing.assert_allclose(mixture, [expected.get(row, 0) for row in range(51)], atol=1e-12)

  def test_the_last_row_has_no_next(self):
    for n_stats in range(2, 200):
      assert statistics_mixture(1.0, n_stats).sum() == 1


class TestGenerator:
  @pytest.mark.parametrize(
    ('resolution', 'expected'),
    [
      (128, {1: (2048, 4, 4), 8: (256, 64, 64), 9: (256, 64, 64), 10: (256, 64, 64)}),
      (
        256,
        {1: (2048, 4, 4), 2: (2048, 8, 8), 5: (1024, 16, 16), 7: (1024, 32, 32), 8: (512, 64, 64), 12: (256, 128, 128)},
      ),
      (512, {12: (256, 128, 128), 13: (128, 256, 256), 14: (128, 256, 256)}),
    ],
  )
  def test_published_networks(self, resolution, expected):
    generator = registry.abstract('biggan', deep_options(resolution))
    assert generator.resolution == resolution
    assert list(generator.layers) == list(range(1, len(generator.options.blocks) + 1))
    assert {layer: generator.layers[layer] for layer in expected} == expected
    graphdef, state = nnx.split(generator)

    def render(state, z, labels):
      module = nnx.merge(graphdef, state)
      return module(module.map(z, labels, truncation=0.5))

    arguments = jax.ShapeDtypeStruct((2, 128), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    assert jax.eval_shape(render, state, *arguments).shape == (2, resolution, resolution, 3)

  def test_wrong_arguments(self):
    generator = registry.create('biggan', dict(converter_options()))
    z = np.zeros((2, 5), np.float32)
    for truncation in (0, -0.5, 1.01, float('nan'), True):
      with pytest.raises(InputError, match='truncation='):
        generator.map(z, [0, 1], truncation=truncation)
    with pytest.raises(InputError, match='truncation_layers=3'):
      generator.map(z, [0, 1], truncation_layers=3)
    latents = generator.map(z, [0, 1])
    with pytest.raises(InputError, match=r'latents\.statistics=shape 2x3'):
      generator(latents.replace(statistics=jnp.zeros((2, 3))))
    with pytest.raises(InputError, match='latents=list'):
      generator.run_to([1], 1)
    for layer in (0, 7):
      with pytest.raises(InputError, match=f'layer={layer}.*1 to 6'):
        generator.run_to(latents, layer)

  def test_draws(self):
    generator = registry.create('biggan', dict(converter_options()))
    z, labels = generator.sample(jax.random.key(0), 500)
    assert z.shape == (500, 5)
    assert float(jnp.abs(z).max()) <= 2
    np.testing.assert_allclose(z.std(), 0.88, atol=0.03)  # the normal distribution truncated at 2
    assert set(np.asarray(labels)) == {0, 1, 2, 3}
    assert isinstance(generator.map(z[:1], labels[:1]), ClassLatents)


def converter_options():
  state = plain_biggan.random_checkpoint(np.random.default_rng(0), SMALL)
  return registry.options_to_json(converter.convert(stored(state, SMALL)).options)


class TestConverter:
  @pytest.fixture
  def state(self):
    return plain_biggan.random_checkpoint(np.random.default_rng(0), SMALL)

  def test_recognises_only_its_own(self, state):
    assert converter.recognise(stored(state, SMALL)) == 'huggingface'
    for tree in ({'generator': {}, 'embeddings.weight': np.zeros(1)}, [1], None, {1: 2}):
      assert converter.recognise(stored(tree, None)) is None

  def test_every_problem_is_named(self, state):
    del state['generator.gen_z.weight_u']
    state['generator.bn.weight'] = np.zeros(3, np.float32)
    state['generator.layers.0.bn_0.gain'] = np.zeros(3, np.float32)
    state['generator.layers.2.gamma'] = 3
    state['generator.conv_to_rgb.weight_v'] *= 0
    problems = converter.convert(stored(state, SMALL)).problems
    for text in (
      'gen_z.weight_u: missing',
      'bn.weight: expected (4,), found (3,)',
      'bn_0.gain: unknown',
      'layers.2.gamma',
      'conv_to_rgb.weight_v: the spectral norm that they give is 0.0',
    ):
      assert any(text in problem for problem in problems), (text, problems)

  def test_not_finite(self, state):
    state['generator.gen_z.weight_orig'][3, 4] = np.nan
    with pytest.raises(InputError, match=r'generator\.gen_z\.weight_orig'):
      assemble(converter.convert(stored(state, SMALL)))

  @pytest.mark.parametrize(
    ('changes', 'text'),
    [
      ({'layers': None}, 'layers is missing'),
      ({'layers': [[True, 16]]}, 'not a list'),
      ({'layers': [[True, 16, 8], [True, 4, 1]]}, 'does not continue'),
      ({'layers': BLOCKS[:-1]}, 'width 1'),
      ({'n_stats': 1}, 'n_stats'),
      ({'eps': 'small'}, 'eps'),
      ({'channel_width': 8}, 'expected'),
      ({'num_classes': 5}, 'embeddings.weight: expected (5, 5)'),
      ({'attention_layer_position': 3}, 'missing'),
    ],
  )
  def test_config_must_fit(self, state, changes, text):
    conversion = converter.convert(stored(state, SMALL | changes))
    assert any(text in problem for problem in conversion.problems), conversion.problems
    with pytest.raises(InputError):
      assemble(conversion)

  def test_what_config_leaves_out(self, state):
    config = {key: value for key, value in SMALL.items() if key not in ('eps', 'n_stats')} | {'output_dim': 128}
    conversion = converter.convert(stored(state, json.loads(json.dumps(config))))
    assert conversion.problems == []
    assert conversion.options.eps == 1e-4
    for text in ('eps: 0.0001', 'n_stats: 51', 'output_dim of 128, but its layers make 32'):
      assert any(text in note for note in conversion.notes)

  def test_without_config_or_with_other_weights(self, state):
    with pytest.raises(InputError, match=r'config\.json'):
      converter.convert(stored(state, None))
    with pytest.raises(InputError, match='--weights=raw'):
      converter.convert(stored(state, SMALL), 'raw')
    with pytest.raises(InputError, match='--option'):
      converter.convert(stored(state, SMALL), 'ema', {'a': 'b'})
