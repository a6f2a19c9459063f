"""StyleGAN3: parity with the original code's outputs, and variants against a plain float64 implementation."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import signal

from panda_jax.converters.assembly import assemble
from panda_jax.converters.checkpoint import Checkpoint, Module, read
from panda_jax.converters.dialects import stylegan3 as converter
from panda_jax.errors import InputError
from panda_jax.generators import registry
from panda_jax.generators.base import WPlus
from panda_jax.generators.filters import lowpass
from panda_jax.generators.protocol import State
from panda_jax.generators.structure import Compiled
from panda_jax.generators.stylegan3_geometry import layer_geometry, published_options
from panda_jax.runtime.compatibility import enable_x64
from tests.generators import plain_stylegan3, unpacked

IMAGE, FEATURES = 3e-5, 1e-4

SMALL = {
  'z_dim': 5,
  'c_dim': 0,
  'w_dim': 6,
  'img_resolution': 16,
  'img_channels': 3,
  'channel_base': 64,
  'channel_max': 4,
  'num_layers': 4,
  'first_cutoff': 1,
  'first_stopband': 2.5,
  'margin_size': 3,
}
VARIANTS = {
  'turned': {'conv_kernel': 1, 'use_radial_filters': True},
  'translated': {},
  'conditional': {'c_dim': 3, 'mapping_kwargs': {'num_layers': 3, 'lr_multiplier': 0.1}, 'num_critical': 1},
  'separable 1x1': {'conv_kernel': 1, 'margin_size': 2, 'output_scale': 0.7, 'filter_size': 4},
  'radial 3x3': {'use_radial_filters': True, 'num_critical': 0, 'first_cutoff': 1.5, 'conv_clamp': None},
  'clamped': {'conv_clamp': 0.6, 'num_layers': 5, 'num_critical': 3, 'img_channels': 1},
  'sampled four times': {'lrelu_upsampling': 4, 'filter_size': 2, 'last_stopband_rel': 1.6},
  'sampled once': {'lrelu_upsampling': 1, 'first_stopband': 3.1, 'z_dim': 7},
  'falling rate': {'first_cutoff': 2, 'first_stopband': 7.9, 'last_stopband_rel': 0.5, 'use_radial_filters': True},
  'half as wide': {'square': False, 'margin_size': 4},
  'half as wide, turned': {'square': False, 'conv_kernel': 1, 'use_radial_filters': True},
  'no power of two': {'img_resolution': 20, 'margin_size': 5, 'mapping_kwargs': {'num_layers': 1}},
}


def snapshot(state: dict, weights: str = 'G_ema', attributes: dict | None = None, **arguments) -> Checkpoint:
  module = Module('Generator', [], arguments, state, attributes or {})
  return Checkpoint('nvlabs', {'G': None, 'G_ema': None, weights: module}, Path('network.pkl'), '', 0, None)


def plain_and_ours(name: str):
  """A variant as the plain network and as our generator, with the same weights."""
  arguments = SMALL | VARIANTS[name]
  state = plain_stylegan3.random_checkpoint(np.random.default_rng(3), **arguments)
  conversion = converter.convert(snapshot(state, **arguments))
  assert conversion.problems == []
  assert set(conversion.sources.values()) == set(state)
  return plain_stylegan3.Plain(state, **arguments), assemble(conversion)


def in_float64(generator):
  graphdef, state = nnx.split(generator)
  return nnx.merge(graphdef, jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float64)), state))


@pytest.fixture(scope='module', params=['stylegan3_t', 'stylegan3_r'])
def loaded(request):
  """A reference checkpoint's generator and outputs."""
  conversion = converter.convert(read(unpacked.checkpoint(request.param) / 'network.pkl'))
  assert conversion.problems == []
  assert conversion.unused == {}
  return assemble(conversion), unpacked.outputs(request.param)


class TestFixtures:
  def rows(self, generator, outputs, key):
    psi = key.rpartition('psi')[2]
    cutoff = 4 if '_' in psi else None
    return generator.map(outputs['z'], truncation=float(psi.split('_')[0]), truncation_layers=cutoff).wplus

  def test_latents(self, loaded):
    generator, outputs = loaded
    np.testing.assert_allclose(generator.mapping(outputs['z']), outputs['w'], atol=5e-6)
    for key in ('ws_psi0.7', 'ws_psi0.5_cutoff4'):
      np.testing.assert_allclose(self.rows(generator, outputs, key), outputs[key], atol=5e-6)

  def test_features_and_images(self, loaded):
    generator, outputs = loaded

    def everything(rows, matrix):
      module = generator.with_transform(matrix)
      maps = [module.run_to(WPlus(rows), 0).features]
      for i, layer in enumerate(module.convs):
        maps.append(layer(maps[-1], rows[:, i + 1]))
      return maps, maps[-1] * module.options.output_scale

    checked = 0
    for psi in ('psi1.0', 'psi0.7', 'psi0.5_cutoff4', 'transformed'):
      moved = psi == 'transformed'
      matrix = outputs['transform'] if moved else np.eye(3, dtype=np.float32)
      maps, image = everything(self.rows(generator, outputs, 'psi1.0' if moved else psi), matrix)
      unpacked.assert_image(image, outputs['image_transformed_psi1.0' if moved else f'image_{psi}'], IMAGE)
      for layer, features in enumerate(maps):
        key = f'feat_transformed_l{layer}_psi1.0' if moved else f'feat_l{layer}_{psi}'
        if key in outputs:
          unpacked.assert_features(features, outputs[key], FEATURES)
          checked += 1
    assert checked == sum(key.startswith('feat') for key in outputs) == 4

  def test_resumed_and_edited_image(self, loaded):
    generator, outputs = loaded
    (key,) = (key for key in outputs if key.startswith('image_edited'))
    _, _, layer, psi = key.split('_')
    layer, latents = int(layer[1:]), WPlus(self.rows(generator, outputs, psi))
    state = generator.run_to(latents, layer)
    unpacked.assert_image(generator.run_from(latents, state, layer), outputs[f'image_{psi}'], IMAGE)
    delta = np.moveaxis(outputs[f'delta_l{layer}'], 1, -1)
    edited = generator.run_from(latents, state.replace(features=state.features + jnp.asarray(delta)), layer)
    unpacked.assert_image(edited, outputs[key], IMAGE)


def test_stored_outputs_of_an_image_half_as_wide_as_high():
  """StyleGAN-Human: the margin is halved with the width."""
  conversion = converter.convert(read(unpacked.checkpoint('stylegan3_human') / 'network.pkl'))
  assert (conversion.problems, conversion.unused) == ([], {})
  generator, outputs = assemble(conversion), unpacked.outputs('stylegan3_human')
  assert generator.image_size == (64, 32)
  assert (generator.layers[4], generator.margins[4]) == ((8, 84, 42), (10, 5))
  latents, drawn, some = (
    generator.map(outputs['z'], truncation=psi, truncation_layers=count)
    for psi, count in ((1, None), (0.7, None), (0.7, 3))
  )
  np.testing.assert_allclose(generator.mapping(outputs['z']), outputs['w'], atol=5e-6)
  np.testing.assert_allclose(some.wplus, outputs['ws_psi0.7_cutoff3'], atol=5e-6)

  def assert_close(ours, key, atol):
    np.testing.assert_allclose(np.moveaxis(np.asarray(ours), -1, 1), outputs[key], rtol=0, atol=atol)

  assert_close(generator(latents), 'image_psi1.0', IMAGE)
  assert_close(generator(drawn), 'image_psi0.7', IMAGE)
  for layer in (0, 4):  # in late layers of this network float32 errs by 4e-5
    state = generator.run_to(latents, layer)
    assert_close(state.features, f'feat_l{layer}_psi1.0', 1.5e-4 * outputs[f'feat_l{layer}_psi1.0'].std())
  edited = state.replace(features=state.features + np.moveaxis(outputs['delta_l4'], 1, -1))
  assert_close(generator.run_from(latents, edited, 4), 'image_edited_l4_psi1.0', IMAGE)
  moved = generator.with_transform(outputs['transform'])
  assert_close(moved(latents), 'image_transformed_psi1.0', IMAGE)


class TestVariants:
  @pytest.mark.parametrize('name', VARIANTS)
  def test_agrees_with_plain_implementation(self, name):
    plain, generator = plain_and_ours(name)
    z, c = np.random.default_rng(5).standard_normal((2, plain.arguments['z_dim'])), None
    if generator.num_classes:
      c = np.eye(3)[[2, 0]]
    w = plain.mapping(z, c)
    rows = plain.wplus(w, 0.6, 2)
    maps = plain.features(rows)
    assert generator.layers == {layer: m.shape[1:] for layer, m in enumerate(maps[:-1])}
    with enable_x64(True):
      generator = in_float64(generator)
      np.testing.assert_allclose(generator.mapping(z, c), w, rtol=1e-9, atol=1e-9)
      latents = generator.map(z, c, truncation=0.6, truncation_layers=2)
      np.testing.assert_allclose(latents.wplus, rows, rtol=1e-9, atol=1e-9)
      found = [generator.run_to(latents, layer).features for layer in generator.layers]
      found.append(generator.run_from(latents, State(found[-1]), len(maps) - 2))
      for ours, expected in zip(found, maps, strict=True):
        assert ours.dtype == np.float64
        atol = 1e-7 * np.abs(expected).max()
        np.testing.assert_allclose(np.moveaxis(np.asarray(ours), -1, 1), expected, atol=atol, rtol=0)

  @pytest.mark.parametrize('name', ['turned', 'clamped', 'falling rate'])
  @pytest.mark.parametrize('index', [-1, 2])
  def test_derivatives(self, name, index):
    _, generator = plain_and_ours(name)
    rng = np.random.default_rng(1)
    with enable_x64(True):
      generator = in_float64(generator)
      channels, height, width = generator.layers[max(index, 0)]
      shapes = ((2, height, width, channels), (2, generator.w_dim))
      (x, w), (dx, dw) = ([jnp.asarray(rng.standard_normal(shape)) for shape in shapes] for _ in range(2))
      run = jax.jit(lambda x, w: generator.input(w) if index < 0 else generator.convs[index](x, w))
      y, tangent = jax.jit(lambda: jax.jvp(run, (x, w), (dx, dw)))()
      finite = (run(x + 1e-6 * dx, w + 1e-6 * dw) - run(x - 1e-6 * dx, w - 1e-6 * dw)) / 2e-6
      np.testing.assert_allclose(tangent, finite, atol=2e-6 * float(jnp.abs(finite).max()), rtol=0)
      back = jax.jit(lambda: jax.vjp(run, x, w)[1](y))()
      np.testing.assert_allclose(jnp.vdot(back[0], dx) + jnp.vdot(back[1], dw), jnp.vdot(y, tangent), rtol=1e-8)

  def test_a_sample_does_not_depend_on_its_batch(self):
    plain, generator = plain_and_ours('turned')
    z = np.random.default_rng(2).standard_normal((3, plain.arguments['z_dim'])).astype(np.float32)
    latents = generator.map(z)
    compiled = Compiled(generator)
    together, alone = compiled(latents), compiled(jax.tree.map(lambda leaf: leaf[1:2], latents))
    tolerance = 1e-6 * float(jnp.abs(alone).max())
    np.testing.assert_allclose(together[1:2], alone, atol=tolerance)
    mapped = jax.jit(jax.vmap(lambda rows: generator(WPlus(rows))))(latents.wplus[:, None])
    np.testing.assert_allclose(mapped[:, 0], together, atol=tolerance)


class TestGenerator:
  @pytest.fixture
  def small(self):
    options = dataclasses.replace(published_options(16), z_dim=4, w_dim=5, widths=(3,) * 4, margin_size=2)
    return registry.create('stylegan3', options)

  @pytest.mark.parametrize(
    ('variant', 'expected'),
    [
      ('t', {0: (512, 36), 2: (512, 36), 4: (512, 52), 5: (512, 84), 7: (512, 148), 8: (323, 276), 9: (203, 276)}),
      (
        'r',
        {0: (1024, 36), 2: (1024, 36), 4: (1024, 52), 5: (1024, 84), 7: (1024, 148), 8: (645, 276), 14: (64, 1024)},
      ),
    ],
  )
  def test_published_networks(self, variant, expected):
    generator = registry.abstract('stylegan3', published_options(1024, variant))
    assert list(generator.layers) == list(range(15))
    assert {layer: generator.layers[layer][:2] for layer in expected} == expected
    graphdef, state = nnx.split(generator)
    images = jax.eval_shape(
      lambda state, z: nnx.merge(graphdef, state)(nnx.merge(graphdef, state).map(z, truncation=0.5)),
      state,
      jax.ShapeDtypeStruct((2, 512), jnp.float32),
    )
    assert images.shape == (2, 1024, 1024, 3)

  def test_the_256_pixel_networks_have_half_the_channels(self):
    assert published_options(256, 't').widths[-1] == 64
    assert layer_geometry(published_options(256, 'r'))[-2].name == 'L13_256_128'

  @pytest.mark.parametrize(
    ('taps', 'cutoff', 'width', 'rate'), [(12, 2.0, 5.0, 32), (24, 16.0, 30.0, 128), (6, 4, 9, 16)]
  )
  def test_filters_of_random_networks(self, taps, cutoff, width, rate):
    expected = signal.firwin(taps, cutoff, width=width, fs=rate)
    np.testing.assert_allclose(lowpass(taps, cutoff, width, rate), expected, atol=1e-12)
    radial = lowpass(taps, cutoff, width, rate, radial=True)
    np.testing.assert_allclose(radial.sum(), 1)
    np.testing.assert_allclose(radial, radial.T[::-1, ::-1], atol=1e-15)

  def test_affine_weights(self, small):
    weights = small.affine_weights()
    assert list(weights) == ['input', *(g.name for g in layer_geometry(small.options))]
    assert [w.shape for w in weights.values()] == [(5, 4)] + [(5, 3)] * 5
    np.testing.assert_allclose(weights['L0_20_3'], small.convs[0].affine.weight[...] / np.sqrt(5), rtol=1e-6)

  def test_wrong_arguments(self, small):
    z = np.zeros((2, 4), np.float32)
    latents = small.map(z)
    with pytest.raises(InputError, match=r'layer=5.*0 to 4'):
      small.run_to(latents, 5)
    with pytest.raises(InputError, match=r'latents=shape 2x3x5'):
      small(WPlus(jnp.zeros((2, 3, 5))))
    with pytest.raises(InputError, match=r'labels=.*unconditional'):
      small.map(z, labels=[1, 2])
    with pytest.raises(InputError, match='transform=shape 2x3'):
      small.with_transform(np.zeros((2, 3)))
    with pytest.raises(InputError, match='transform=NaN'):
      small.with_transform(np.full((3, 3), np.nan))
    with pytest.raises(InputError, match='num_critical=4'):
      registry.abstract('stylegan3', dataclasses.replace(small.options, num_critical=4))

  @pytest.mark.parametrize(('cutoff', 'stopband'), [(1000.0, 2.5), (2.6, 2.5), (8.5, 9.0)])
  def test_a_cutoff_that_no_layer_can_have(self, small, cutoff, stopband):
    options = dataclasses.replace(small.options, first_cutoff=cutoff, first_stopband=stopband)
    with pytest.raises(InputError, match='first_cutoff='):
      options.check()

  def test_transforms_can_be_mapped_over(self, small):
    latents = small.map(np.ones((1, 4), np.float32))
    turns = jnp.stack([jnp.eye(3), jnp.asarray([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])])
    graphdef, state = nnx.split(small)
    render = jax.jit(jax.vmap(lambda matrix: nnx.merge(graphdef, state).with_transform(matrix)(latents)))
    images = render(turns)
    np.testing.assert_allclose(images[1], Compiled(small.with_transform(turns[1]))(latents), atol=1e-5)
    assert float(jnp.abs(images[1] - images[0]).max()) > 1e-3

  def test_bfloat16(self, small):
    graphdef, state = nnx.split(small)
    halved = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state))
    z = np.ones((1, 4), np.float32)
    image = Compiled(halved)(halved.map(z, truncation=0.7))
    assert image.dtype == jnp.bfloat16
    exact = Compiled(small)(small.map(z, truncation=0.7))
    assert float(jnp.abs(image - exact).max()) < 0.1 * float(jnp.abs(exact).max())


class TestConverter:
  @pytest.fixture
  def state(self):
    return plain_stylegan3.random_checkpoint(np.random.default_rng(0), **SMALL)

  def test_recognises_only_its_own(self, state):
    assert converter.recognise(snapshot(state, **SMALL)) == 'nvlabs'
    assert converter.recognise(snapshot({'synthesis.b4.const': np.zeros(1)}, **SMALL)) is None
    for tree in ([1], None, {'generator': {}}, {1: 2}):
      assert converter.recognise(Checkpoint('zip', tree, Path('x'), '', 0, None)) is None

  def test_every_problem_is_named(self, state):
    state['synthesis.L0_14_4.bias'] = np.zeros(9, np.float32)
    del state['mapping.w_avg']
    state['synthesis.L1_22_4.noise'] = np.zeros(3, np.float32)
    problems = converter.convert(snapshot(state, **SMALL)).problems
    assert len(problems) == 3
    for text in ('L0_14_4.bias: expected (4,), found (9,)', 'mapping.w_avg: missing', 'L1_22_4.noise: unknown'):
      assert sum(text in problem for problem in problems) == 1

  @pytest.mark.parametrize(
    ('changes', 'text'),
    [
      ({'num_layers': 5}, 'num_layers=5'),
      ({'margin_size': 4}, 'L0_14_4 should be called L0_16_4'),
      ({'num_critical': 4}, 'num_critical=4'),
      ({'img_resolution': 32}, 'img_resolution=32'),
      ({'img_resolution': '16'}, 'img_resolution=16: not the value'),
      ({'use_radial_filters': True}, 'down_filter: expected'),
      ({'conv_kernel': 1}, 'weight: expected'),
      ({'conv_clamp': -1}, 'conv_clamp'),
      ({'style_mixing': True}, 'given style_mixing'),
      ({'mapping_kwargs': {'activation': 'relu'}}, 'given mapping.activation'),
      ({'attributes': {'synthesis.L2_22_4.up_factor': 3}}, 'up_factor=3'),
      ({'attributes': {'synthesis.output_scale': 0.5}, 'output_scale': 0.25}, 'output_scale is 0.5'),
      ({'attributes': {'synthesis.L0_14_4.is_torgb': True}}, 'is_torgb=True: expected False'),
      ({'attributes': {'synthesis.L0_14_4.down_radial': True}}, 'down_radial=True'),
      ({'attributes': {'synthesis.L0_14_4.out_cutoff': 9.0}}, 'out_cutoff=9.0'),
      ({'attributes': {'synthesis.L0_14_4.affine.weight_gain': 9.0}}, 'affine.weight_gain=9.0'),
      ({'attributes': {'synthesis.input.sampling_rate': 9.0}}, 'sampling_rate=9.0'),
      ({'attributes': {'mapping.fc0.activation': 'relu'}}, 'activation=relu'),
      ({'attributes': {'synthesis.L0_14_4.conv_clamp': 9}}, 'conv_clamp'),
    ],
  )
  def test_arguments_must_fit_the_layers(self, state, changes, text):
    conversion = converter.convert(snapshot(state, **(SMALL | changes)))
    assert any(text in problem for problem in conversion.problems), conversion.problems
    with pytest.raises(InputError):
      assemble(conversion)

  def test_attributes_tell_what_the_arguments_do_not(self, state):
    attributes = {'synthesis.output_scale': 0.5, 'mapping.fc0.bias_gain': 0.02}
    attributes |= {
      f'synthesis.{layer["name"]}.conv_clamp': None for layer in plain_stylegan3.Plain(state, **SMALL).layers
    }
    options = converter.convert(snapshot(state, attributes=attributes, **SMALL)).options
    assert (options.output_scale, options.mapping_rate, options.conv_clamp) == (0.5, 0.02, None)

  def test_choice_of_weights(self, state):
    raw = converter.convert(snapshot(state, 'G', **SMALL), 'raw')
    assert 'weights of G' in raw.notes
    assert 'weights of G: the file has no averaged ones' in converter.convert(snapshot(state, 'G', **SMALL)).notes
    with pytest.raises(InputError, match='--weights=raw: the file has no G;'):
      converter.convert(snapshot(state, 'G_ema', **SMALL), 'raw')
    with pytest.raises(InputError, match='--option'):
      converter.convert(snapshot(state, **SMALL), 'ema', {'clamp': '3'})

  @pytest.mark.parametrize('name', VARIANTS)
  def test_a_state_dict_tells_what_its_shapes_tell_and_the_user_the_rest(self, name):
    arguments = SMALL | VARIANTS[name]
    arrays = plain_stylegan3.random_checkpoint(np.random.default_rng(0), **arguments)
    expected = converter.convert(snapshot(arrays, **arguments)).options
    module = Checkpoint('zip', {'G_ema': {f'module.{key}': a for key, a in arrays.items()}}, Path('x'), '', 0, None)
    told = arguments | arguments.get('mapping_kwargs', {})
    given = {option: str(told[name]) for option, (_, name) in converter.STATED.items() if name in told}
    conversion = converter.convert(module, 'ema', given)
    assert conversion.problems == []
    assert conversion.options == expected
    assert len([note for note in conversion.notes if note.endswith(': not in the file')]) == len(converter.STATED)
    with pytest.raises(InputError, match='there is no such option'):
      converter.convert(module, 'ema', {'conv_kernel': '3'})

  def test_positional_arguments(self, state):
    names = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels')
    named = {name: value for name, value in SMALL.items() if name not in names}
    module = Module('Generator', [SMALL[name] for name in names], named, state, {})
    conversion = converter.convert(Checkpoint('nvlabs', {'G_ema': module}, Path('x'), '', 0, None))
    assert conversion.problems == []
    assert conversion.options == converter.convert(snapshot(state, **SMALL)).options
