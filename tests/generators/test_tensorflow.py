"""TensorFlow pickles: stored outputs of the original code through `convert`, and variants against plain numpy."""

import json
import re

import numpy as np
import pytest

import panda_jax
from panda_jax.converters.conversion import convert
from panda_jax.converters.dialects import progan, stylegan, stylegan2
from tests.generators import checkpoints, reference_numpy, tensorflow_files, unpacked
from tests.generators.checkpoints import generator
from tests.generators.parity import check_computed, close, middle

# Absolute, for images of standard deviation 0.5: four times the float32 difference between two implementations.
IMAGE, LATENTS = 5e-5, 1e-5
FEATURES = 1e-4  # relative to the standard deviation; instance norm magnifies rounding where a map is nearly constant
DEFAULTS = {'stylegan': (0.7, 8), 'stylegan2': (0.5, None)}  # the original's default truncation
STORED = (
  *('progan_tf', 'progan_tf_unfused', 'stylegan_tf', 'stylegan_tf_fused128'),
  *('stylegan2_tf_skip', 'stylegan2_tf_resnet', 'stylegan2_tf_revised', 'stylegan2_ada_tf', 'stylegan2_ada_tf_cond'),
)


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
  """Converts a stored file; returns the generator loaded from the folder, and its description."""

  def run(name, weights='ema'):
    folder = tmp_path_factory.mktemp(name) / 'generator'
    said = convert(unpacked.checkpoint(name) / 'network.pkl', folder, weights=weights)
    assert any('dialect      tensorflow' in line for line in said)
    return panda_jax.load_generator(folder), json.loads((folder / 'generator.json').read_text())

  return run


@pytest.mark.parametrize('name', STORED)
def test_stored_outputs_of_the_original(converted, name):
  made, _ = converted(name)
  stored = unpacked.outputs(name)
  z, labels = stored['z'], stored.get('c')
  left = set(stored) - {'z', 'c'}

  def compare(key, ours):
    if key in stored:
      close(ours, stored[key], LATENTS, key)
      left.discard(key)

  if made.w_dim:
    compare('w', made.mapping(z, labels))
  for key in sorted(key for key in stored if key.startswith('image')):
    kind = key.removeprefix('image').removeprefix('_')
    psi, count = DEFAULTS.get(made.family, (1.0, None))
    if kind.startswith('psi'):
      psi, count = float(kind.split('_')[0][3:]), int(kind.split('cutoff')[1]) if 'cutoff' in kind else count
    psi = psi if kind else 1.0
    latents = made.map(z, labels, truncation=psi, truncation_layers=count)
    for prefix in ('wp', 'ws'):
      if f'{prefix}_{kind}' in stored:
        compare(f'{prefix}_{kind}', latents.wplus)
    whole = made(latents)
    unpacked.assert_image(whole, stored[key], IMAGE)
    left.discard(key)
    if psi != 1:
      continue
    for layer in made.layers:
      state = made.run_to(latents, layer)
      unpacked.assert_features(state.features, stored[f'feat_l{layer}'], FEATURES)
      left.discard(f'feat_l{layer}')
      if state.rgb is not None:
        rgb = np.moveaxis(np.asarray(state.rgb), -1, 1)[:1]
        key = f'rgb_{rgb.shape[2]}x{rgb.shape[3]}'
        close(rgb, stored[key], IMAGE, key)
        left.discard(key)
      if layer == middle(made):
        close(made.run_from(latents, state, layer), whole, 1e-5, f'resumed {layer}')
  assert not left


def test_the_averaged_network_is_taken_unless_told_otherwise(converted):
  stored = unpacked.outputs('stylegan2_tf_revised')
  raw, description = converted('stylegan2_tf_revised', 'raw')
  assert 'weights of G' in description['report']['notes']
  assert np.abs(np.asarray(raw.mapping(stored['z'])) - stored['w']).max() > 0.1


def test_what_the_file_tells_besides_is_noted(converted):
  _, description = converted('stylegan_tf')
  notes = description['report']['notes']
  assert any('--truncation=0.7 --truncation_layers=8' in note for note in notes)
  assert 'lod' in description['report']['unused']
  _, description = converted('progan_tf_unfused')
  assert 'arguments without effect on the image: mbstd_group_size' in description['report']['notes']


RNG = np.random.default_rng(7)
WIDE = (6, 5, 7, 4, 3, 8)

PROGAN = {
  'plain': {},
  'fused': {'fused': True},
  'larger': {'widths': (12, 12, 10, 10, 9, 9, 70, 8), 'z_dim': 5},
  'label': {'label': 3},
  'gray': {'channels': 1},
  'unscaled': {'unscaled': True, 'fused': True},
  'unscaled, not fused': {'unscaled': True},
}


@pytest.mark.parametrize('name', PROGAN)
def test_progan_variants(name):
  given = dict(PROGAN[name])
  options = {key: given.pop(key) for key in ('unscaled',) if key in given}
  label, fused = given.get('label', 0), given.get('fused', False)
  arrays = checkpoints.progan(**given)
  made = generator(progan, [None, None, tensorflow_files.progan(arrays, fused, label, **options)])
  z = 3 * RNG.standard_normal((2, made.z_dim))  # an unusual length: the label is weighted against it
  latents = z
  labels = np.eye(3)[[2, 0]] if label else None
  if label:
    latents = np.concatenate([z, labels], axis=1)
  reference = reference_numpy.progan(arrays, latents, fused=fused)  # normalises z and label together
  check_computed(made, reference, made.map(z, labels))


STYLEGAN = {
  'plain': {},
  'larger': {'widths': (6, 6, 5, 5, 4, 3)},
  'fused': {'fused_scale': True},
  'not fused': {'fused_scale': False},
  'conditional': {'label': 3},
  'gray, one mapping layer': {'channels': 1, 'depth': 1},
  'lr': {'lr': 0.1},
  'unscaled': {'unscaled': True, 'label': 3, 'fused_scale': True},
  'lopsided blur': {'blur_filter': [1, 2, 4]},
  'longer blur': {'blur_filter': [1, 4, 6, 4, 1]},
  'even blur': {'blur_filter': [1, 2, 3, 1]},
  'blur of rows': {'blur_filter': [[1, 2, 1], [0, 3, 1], [2, 1, 1]]},
  'no blur': {'blur_filter': None},
  'rectangular': {'start': (3, 5), 'init_res': [3, 5]},
  'high and narrow': {'start': (64, 3), 'resolution_h': 128},  # narrow maps are not fused
}


def blurred(arrays, taps):
  """The arrays with another blur, as a correlation with one kernel: an even one has no pixel in the middle."""
  kernel = np.asarray([1] if taps is None else taps, np.float64)
  kernel = np.outer(kernel, kernel) if kernel.ndim == 1 else kernel
  size = 2 * (len(kernel) // 2) + 1
  whole = np.zeros((5, 5))
  first = 2 - (len(kernel) - 1) // 2
  whole[first : first + len(kernel), first : first + len(kernel)] = kernel / kernel.sum()
  assert size <= 5
  return {
    key: np.tile(whole.astype(np.float32), (len(value), 1, 1, 1)) if key.endswith('blur.kernel') else value
    for key, value in arrays.items()
  }


@pytest.mark.parametrize('name', STYLEGAN)
def test_stylegan_variants(name):
  given = dict(STYLEGAN[name])
  kwargs = {
    key: given.pop(key)
    for key in ('fused_scale', 'blur_filter', 'unscaled', 'init_res', 'resolution_h')
    if key in given
  }
  arrays, lr = checkpoints.stylegan(**given), given.get('lr', 0.01)
  made = generator(stylegan, [None, None, tensorflow_files.stylegan(arrays, lr, **kwargs)])
  z, labels = RNG.standard_normal((2, 9)), np.eye(3)[[2, 0]] if 'label' in given else None
  if 'blur_filter' in kwargs:
    arrays = blurred(arrays, kwargs['blur_filter'])
  for psi, count in ((1.0, None), (0.7, 3)):
    reference = reference_numpy.stylegan(
      arrays, z, labels, psi=psi, count=99 if count is None else count, fused=kwargs.get('fused_scale', 'auto'), lr=lr
    )
    latents = made.map(z, labels, truncation=psi, truncation_layers=count)
    np.testing.assert_allclose(latents.wplus, reference['wplus'], atol=1e-5)
    check_computed(made, reference, latents, image=1e-4, features=3e-4)


STYLEGAN2 = {
  'skip': {},
  'orig': {'skip': False, 'widths': WIDE},
  'revised': {'skip': False, 'widths': WIDE, 'revised': True},
  'conditional': {'label': 3},
  'gray': {'channels': 1},
  'one mapping layer': {'depth': 1},
  'lr': {'lr': 0.1},
  'three taps': {'taps': (1, 2, 1)},
  'lopsided taps': {'taps': (1, 2, 4, 1)},
}


@pytest.mark.parametrize('name', STYLEGAN2)
def test_stylegan2_variants(name):
  given = dict(STYLEGAN2[name])
  revised, taps, lr = given.pop('revised', False), given.get('taps'), given.get('lr', 0.01)
  arrays = checkpoints.stylegan2_genforce(**given)
  if revised:  # coarse RGB layers are not used
    arrays |= {f'synthesis.output{k}.{part}': arrays[f'synthesis.output2.{part}'] for k in (0, 1) for part in RGB}
  kwargs = {'resample_kernel': list(taps)} if taps else {}
  made = generator(stylegan2, [None, None, tensorflow_files.stylegan2(arrays, lr, revised=revised, **kwargs)])
  if revised:
    arrays = {key: value for key, value in arrays.items() if not re.match(r'synthesis\.output[01]\.', key)}
  if taps:  # genforce correlates with its filters
    arrays = {key: value[..., ::-1, ::-1] if '.kernel' in key else value for key, value in arrays.items()}
  z, labels = RNG.standard_normal((2, 9)), np.eye(3)[[2, 0]] if 'label' in given else None
  for psi, count in ((1.0, None), (0.7, 3)):
    reference = reference_numpy.stylegan2_genforce(
      arrays, z, labels, psi=psi, count=99 if count is None else count, lr=lr
    )
    latents = made.map(z, labels, truncation=psi, truncation_layers=count)
    np.testing.assert_allclose(latents.wplus, reference['wplus'], atol=1e-5)
    check_computed(made, reference, latents)


RGB = 'weight', 'bias', 'style.weight', 'style.bias'
ADA = {
  'skip': {},
  'resnet, clamped': {'architecture': 'resnet', 'widths': WIDE, 'clamp': 0.5},
  'orig': {'architecture': 'orig', 'widths': WIDE},
  'clamped': {'clamp': 0.4},
  'conditional': {'c_dim': 3, 'embed': 5},
  'no mapping layer': {'depth': 0, 'z_dim': 8},
  'no noise': {'noise': False},
  'activation': {'activation': 'swish', 'mapping_activation': 'relu'},
  'lr': {'lr': 0.1},
}


@pytest.mark.parametrize('name', ADA)
def test_stylegan2_ada_variants(name):
  given = ADA[name]
  module = checkpoints.stylegan2_nvlabs(**given)
  kwargs = {} if given.get('noise', True) else {'use_noise': False}
  made = generator(stylegan2, [None, None, tensorflow_files.stylegan2_ada(module, **kwargs)])
  z, labels = RNG.standard_normal((2, given.get('z_dim', 9))), np.eye(3)[[2, 0]] if 'c_dim' in given else None
  names = 'architecture', 'clamp', 'activation', 'mapping_activation', 'lr'
  shared = {key: given[key] for key in names if key in given}
  for psi, cutoff in ((1.0, None), (0.6, 2)):
    reference = reference_numpy.stylegan2_nvlabs(module.state_dict, z, labels, psi=psi, cutoff=cutoff, **shared)
    latents = made.map(z, labels, truncation=psi, truncation_layers=cutoff)
    np.testing.assert_allclose(latents.wplus, reference['wplus'], atol=1e-5)
    check_computed(made, reference, latents)
