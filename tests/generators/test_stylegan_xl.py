"""StyleGAN-XL from its authors' snapshots: stored outputs of the original code, and variants against plain numpy."""

import dataclasses

import numpy as np
import pytest

import panda_jax
from panda_jax.converters.checkpoint import Module
from panda_jax.converters.conversion import convert, recognised
from panda_jax.converters.dialects import FAMILIES
from panda_jax.converters.dialects import stylegan_xl as converter
from panda_jax.converters.limits import Unknown
from panda_jax.errors import InputError
from panda_jax.rivals import sefa
from panda_jax.workdir.sample import sample_into
from tests.generators import plain_stylegan_xl, unpacked
from tests.generators.checkpoints import checkpoint, generator
from tests.generators.parity import close, nhwc

# Absolute, for images of standard deviation 0.06 to 1, and relative to that of features: float32 errs by 2e-6.
IMAGE, LATENTS, FEATURES = 1e-5, 1e-5, 3e-5
RNG = np.random.default_rng(5)


def module(plain: plain_stylegan_xl.Plain, arrays: dict | None = None, **attributes) -> Module:
  return Module('SuperresGenerator', [], {}, plain.arrays if arrays is None else arrays, plain.told | attributes)


@pytest.mark.parametrize('name', ['stylegan_xl_stem', 'stylegan_xl_superres'])
def test_stored_outputs_of_the_original(tmp_path, name):
  convert(unpacked.checkpoint(name) / 'network.pkl', tmp_path / 'generator')
  made = panda_jax.load_generator(tmp_path / 'generator')
  stored = unpacked.outputs(name)
  z, labels = stored['z'], stored['c']
  left = set(stored) - {'z', 'c', 'transform'}

  def image(ours, key):
    unpacked.assert_image(ours, stored[key], IMAGE)
    left.discard(key)

  close(made.mapping(z, labels), stored['w'], LATENTS, 'w')
  for kind in [key.removeprefix('ws_') for key in stored if key.startswith('ws_')]:
    psi, count = float(kind.split('_')[0][3:]), int(kind.split('cutoff')[1]) if 'cutoff' in kind else None
    latents = made.map(z, labels, truncation=psi, truncation_layers=count)
    close(latents.wplus, stored[f'ws_{kind}'], LATENTS, kind)
    image(made(latents), f'image_{kind}')
    left.discard(f'ws_{kind}')
  latents = made.map(z, labels)
  whole = made(latents)
  image(made.with_transform(stored['transform'])(latents), 'image_transformed_psi1.0')
  for layer in made.layers:
    state = made.run_to(latents, layer)
    unpacked.assert_features(state.features, stored[f'feat_l{layer}_psi1.0'], FEATURES)
    close(made.run_from(latents, state, layer), whole, 1e-6, f'resumed {layer}')
    left.discard(f'feat_l{layer}_psi1.0')
    if f'delta_l{layer}' in stored:
      edited = state.replace(features=state.features + nhwc(stored[f'delta_l{layer}']))
      image(made.run_from(latents, edited, layer), f'image_edited_l{layer}_psi1.0')
      left.discard(f'delta_l{layer}')
  assert left == {'w'}


TURNED = {'conv_kernel': 1, 'use_radial_filters': True}
VARIANTS = {
  'stem': {},
  'turned': TURNED,
  'unconditional': {'c_dim': 0},
  'one head': {'heads': ((4, 32),)},
  'a head on a head': {'heads': ((4, 32), (3, 64)), 'c_dim': 0},
  'a head on what is turned': {'heads': ((5, 32),), 'conv_clamp': None, **TURNED},
  'clamped below a head': {'heads': ((4, 64),), 'conv_clamp': 0.6, 'output_scale': 0.5},
}


@pytest.mark.parametrize('name', VARIANTS)
def test_variants(name):
  plain = plain_stylegan_xl.Plain(**VARIANTS[name])
  made = generator(converter, {'G_ema': module(plain)})
  z = RNG.standard_normal((1, 5))
  labels = np.array([2]) if made.num_classes else None
  w = plain.mapping(z, labels)
  close(made.mapping(z, labels), w, 1e-5, 'w')
  latents = made.map(z, labels, truncation=0.6, truncation_layers=3)
  rows = plain.rows(w, labels, 0.6, 3)
  close(latents.wplus, rows, 1e-5, 'w+')
  *features, image = plain.features(rows)
  scale = max(1.0, float(np.abs(image).max()))
  whole = made(latents)
  close(whole, nhwc(image), 2e-5 * scale, 'image')
  assert list(made.layers) == list(range(len(features)))
  for layer, expected in enumerate(features):
    state = made.run_to(latents, layer)
    close(state.features, nhwc(expected), 1e-4, f'features {layer}', relative=True)
    close(made.run_from(latents, state, layer), whole, 1e-6 * scale, f'resumed {layer}')


def test_each_class_has_a_mean_of_its_own():
  plain = plain_stylegan_xl.Plain()
  made = generator(converter, {'G_ema': module(plain)})
  z, labels = RNG.standard_normal((2, 5)), np.array([0, 2])
  latents = made.map(z, labels, truncation=0)
  close(latents.wplus[:, 0], plain.arrays['mapping.w_avg'][labels], 1e-6, 'means')
  np.testing.assert_array_equal(latents.wplus, made.map(z, np.eye(3)[labels] * 0.7 + 0.1, truncation=0).wplus)
  w = made.mapping(z, labels)
  np.testing.assert_array_equal(made.wplus(w).wplus, made.map(z, labels).wplus)
  with pytest.raises(InputError, match=r'truncation=0\.5: each class of this generator has a mean'):
    made.wplus(w, truncation=0.5)


def test_samples_are_truncated_towards_their_class(tmp_path):
  plain = plain_stylegan_xl.Plain()
  made = generator(converter, {'G_ema': module(plain)})
  z, labels = RNG.standard_normal((2, 5)).astype(np.float32), np.array([0, 2])
  sample_into(tmp_path / 'out', made, z, labels, truncation=0.5)
  wplus = np.load(tmp_path / 'out' / 'wplus.npy')
  close(wplus, made.map(z, labels, truncation=0.5).wplus, 1e-6, 'w+')
  close(np.load(tmp_path / 'out' / 'w.npy'), made.mapping(z, labels), 1e-6, 'w')


def test_an_embedding_with_more_rows_than_classes_is_noted():
  notes = converter.convert(checkpoint({'G_ema': module(plain_stylegan_xl.Plain())})).notes
  assert 'mapping.embed.weight: of its 4 rows the first 3 are those of classes' in notes
  conversion = converter.convert(checkpoint({'G_ema': module(plain_stylegan_xl.Plain(c_dim=0))}))
  assert conversion.unused['mapping.embed.weight'] == 'an unconditional generator does not use its embedding'
  problems = converter.convert(checkpoint({'G_ema': module(plain_stylegan_xl.Plain(rows=2))})).problems
  assert problems == ['mapping.w_avg has 3 classes, and mapping.embed.weight only 2 rows']


def changed(key: str, value: object) -> list[str]:
  """The problems when the first attribute with this ending has another value."""
  plain = plain_stylegan_xl.Plain(heads=((4, 32),))
  name = next(name for name in plain.told if name.endswith(key))
  return converter.convert(checkpoint({'G_ema': module(plain, **{name: value})})).problems


CONTRADICTIONS = {
  'padding': ([1, 1, 1, 1], ': expected '),
  'in_cutoff': (1.5, ': expected '),
  'out_channels': (5, 'its name tells 4 channels'),
  'out_cutoff': ('wide', 'it must be a number'),
  'out_sampling_rate': (12, 'a sampling rate is a power of two'),
  'conv_kernel': (1, 'weight: expected'),
  'conv_clamp': (Unknown('posix.system'), 'conv_clamp=a posix.system: it must be a number'),
  'down_radial': ('no', 'it must be true or false'),
  'filter_size': (4, 'filter_size is 4'),
  'synthesis.layer_names': (['L0_14_4'], 'is not the order of the layers'),
  'img_resolution': (64, 'img_resolution=64: expected 32'),
  'bias_gain': (0.1, 'mapping.fc0.bias_gain is 0.1'),
  'activation': ('relu', 'activation=relu'),
}
# Attributes that the original has, but the plain networks here do not.
MORE = {
  'num_ws': 3,
  'mapping.num_layers': 3,
  'mapping.fc0.weight_gain': 9.0,
  'mapping.embed.max_norm': 1.0,
  'mapping.embed_proj.weight_gain': 9.0,
  'synthesis.input.affine.bias_gain': 9.0,
  'synthesis.{first}.affine.activation': 'lrelu',
  'synthesis.{first}.w_dim': 9,
}


@pytest.mark.parametrize('key', CONTRADICTIONS)
def test_what_attributes_contradict(key):
  value, text = CONTRADICTIONS[key]
  problems = changed(key, value)
  assert any(text in problem for problem in problems), problems


@pytest.mark.parametrize('name', MORE)
def test_every_attribute_that_the_original_computes_with_is_compared(name):
  plain = plain_stylegan_xl.Plain()
  first = next(key for key in plain.told if key.endswith('.in_cutoff')).split('.')[1]
  changed = {name.format(first=first): MORE[name]}
  found = converter.convert(checkpoint({'G_ema': module(plain, **changed)})).problems
  assert [text.split(':')[0] for text in found] == [f'{key}={value}' for key, value in changed.items()]


def test_layers_of_the_mapping_that_are_missing_are_told():
  made = module(plain_stylegan_xl.Plain())
  cut = dataclasses.replace(made, init_kwargs={'mapping_kwargs': {'num_layers': 5}})
  assert any('num_layers=5' in text for text in converter.convert(checkpoint({'G_ema': cut})).problems)


def test_every_problem_is_told_and_names_its_key():
  plain = plain_stylegan_xl.Plain(heads=((4, 32),))
  assert converter.convert(checkpoint({'G_ema': module(plain)})).problems == []
  for key in plain.arrays:
    if key == 'mapping.embed_proj.weight' or key.startswith('mapping.fc'):
      continue  # without it, the network is another one
    arrays = plain.arrays | {key: np.zeros((2, 3, 7, 1, 1), np.float32)}
    problems = converter.convert(checkpoint({'G_ema': module(plain, arrays)})).problems
    assert any(problem.startswith(f'{key}: expected') for problem in problems), (key, problems)
    if key == converter.EMBEDDING:
      continue  # it distinguishes this family from StyleGAN3
    del arrays[key]
    problems = converter.convert(checkpoint({'G_ema': module(plain, arrays)})).problems
    assert problems, key
  for attribute in ('out_cutoff', 'down_radial', 'z_dim', 'conv_clamp'):
    told = {name: value for name, value in plain.told.items() if not name.endswith(attribute)}
    tree = {'G_ema': Module('Generator', [], {}, plain.arrays, told)}
    assert any(attribute in problem for problem in converter.convert(checkpoint(tree)).problems)


def test_recognised_only_from_its_own_keys():
  assert recognised(checkpoint({'G_ema': module(plain_stylegan_xl.Plain())}), FAMILIES) == 'stylegan_xl'
  for tree in (None, [], {}, {'G': 3}, {'G_ema': Module('Generator', [], {}, {'mapping.embed.weight': 3}, {})}):
    assert converter.recognise(checkpoint(tree)) is None


def test_options_that_do_not_fit():
  options = generator(converter, {'G_ema': module(plain_stylegan_xl.Plain())}).options
  layers = options.layers

  def with_layer(place: int, entry: int, value: object) -> dict:
    changed = list(layers[place])
    changed[entry] = value
    return {'layers': (*layers[:place], tuple(changed), *layers[place + 1 :])}

  for change, text in (
    ({'embed_dim': 0}, 'there are 3 classes'),
    ({'layers': options.layers[:1]}, 'must have from 2'),
    (with_layer(1, 2, 12), 'a power of two'),
    (with_layer(0, 1, 4096), 'a margin is from 0 to 128'),
    (with_layer(1, 1, 64), 'by the other layers, layer 1 is'),
    (with_layer(len(layers) - 2, 1, 64), 'by the other layers, layer'),
    (with_layer(0, 3, 4096.0), 'too few for such a cutoff'),
  ):
    with pytest.raises(InputError, match=text):
      dataclasses.replace(options, **change).check()


def test_directions_leave_the_input_alone_as_in_stylegan3():
  found = sefa.discover(generator(converter, {'G_ema': module(plain_stylegan_xl.Plain())}))
  assert found.space == 'w'
  assert found.layers == (1, 2, 3, 4, 5, 6)
