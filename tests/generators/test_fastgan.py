"""FastGAN from Projected GANs' snapshots: stored outputs of the original code, and variants against plain numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import panda_jax
from panda_jax.converters.checkpoint import Module
from panda_jax.converters.conversion import convert, recognised
from panda_jax.converters.dialects import FAMILIES
from panda_jax.converters.dialects import fastgan as converter
from panda_jax.errors import InputError
from panda_jax.generators import fastgan, registry
from panda_jax.generators.fastgan import FastGANOptions
from panda_jax.rivals import sefa
from tests.generators import plain_fastgan, unpacked
from tests.generators.checkpoints import checkpoint, generator
from tests.generators.parity import close, nhwc

# Absolute, for images of standard deviation 0.2, and relative to that of features: float32 errs by 2e-7 and 2e-6.
IMAGE, FEATURES = 3e-6, 1e-5
RNG = np.random.default_rng(4)


def module(arrays: dict, resolution=64, **attributes) -> Module:
  return Module('pg_modules.Generator', [], {}, arrays, {'img_resolution': resolution} | attributes)


def test_stored_outputs_of_the_original(tmp_path, monkeypatch):
  convert(unpacked.checkpoint('fastgan') / 'network.pkl', tmp_path / 'generator')
  made = panda_jax.load_generator(tmp_path / 'generator')
  stored = unpacked.outputs('fastgan')
  latents = made.map(stored['z'])
  whole = made(latents, noise='none')
  unpacked.assert_image(whole, stored['image_nonoise'], IMAGE)
  left = set(stored) - {'z', 'image_nonoise', 'image_noise'}
  for layer in made.layers:
    state = made.run_to(latents, layer)
    unpacked.assert_features(state.features, stored[f'feat_l{layer}_nonoise'], FEATURES)
    close(made.run_from(latents, state, layer), whole, 1e-6, f'resumed {layer}')
    left.discard(f'feat_l{layer}_nonoise')
    if f'delta_l{layer}' in stored:
      edited = state.replace(features=state.features + nhwc(stored[f'delta_l{layer}']))
      key = f'image_edited_l{layer}_nonoise'
      unpacked.assert_image(made.run_from(latents, edited, layer)[:1], stored[key], IMAGE)
      left -= {f'delta_l{layer}', key}
  assert not left

  def given(noise, i, samples, size, dtype):  # the maps that the original was given
    return jnp.asarray(np.random.RandomState(561 + i).randn(1, *size, 1), dtype)

  monkeypatch.setattr(fastgan, 'noise_map', given)
  unpacked.assert_image(made(latents[:1], noise=jax.random.key(0)), stored['image_noise'], IMAGE)


ONE = (1,) * 6
VARIANTS = {
  'two convolutions': {},
  'one': {'convolutions': ONE},
  'in turn': {'convolutions': (2, 1, 2, 1, 2, 1)},  # as in older code
  'labels': {'classes': 3},
  'labels, one': {'classes': 3, 'convolutions': ONE, 'resolution': 128},
  'labels, in turn': {'classes': 3, 'convolutions': (2, 1, 2, 1, 2, 1)},
  'larger': {'resolution': 256},
  'all gates': {'resolution': 1024, 'widths': (5, 4, 3, 4, 3, 3, 3, 3, 2), 'convolutions': (2, 1, 2, 1, 2, 1, 2, 1)},
  'gray': {'channels': 1},
}


@pytest.mark.parametrize('name', VARIANTS)
def test_variants(name, monkeypatch):
  given = VARIANTS[name]
  arrays, resolution = plain_fastgan.arrays(**given), given.get('resolution', 64)
  made = generator(converter, {'G_ema': module(arrays, resolution)})
  samples = 1 if resolution > 256 else 2
  z = RNG.standard_normal((samples, made.z_dim))
  labels = np.array([2, 0]) if made.num_classes else None
  latents = made.map(z, labels)
  drawn = {}

  def remembered(noise, i, samples, size, dtype):
    if not isinstance(noise, str):
      drawn[i] = RNG.standard_normal((samples, *size, 1)) if i not in drawn else drawn[i]
    return None if isinstance(noise, str) else jnp.asarray(drawn[i], dtype)

  monkeypatch.setattr(fastgan, 'noise_map', remembered)
  key = jax.random.key(0)
  for noise in ('none', key) if 2 in given.get('convolutions', (2,)) else ('none',):
    whole = made(latents, noise=noise)
    maps = None if noise == 'none' else [drawn[i].transpose(0, 3, 1, 2) for i in range(len(drawn))]
    reference = plain_fastgan.Plain(arrays, resolution, maps).run(z, labels)
    scale = max(1.0, float(np.abs(reference['image']).max()))
    close(whole, nhwc(reference['image']), 1e-5 * scale, 'image')
    assert list(made.layers) == list(reference['features'])
    for layer in made.layers:
      state = made.run_to(latents, layer, noise=noise)
      close(state.features, nhwc(reference['features'][layer]), 1e-4, f'features {layer}', relative=True)
      close(made.run_from(latents, state, layer, noise=noise), whole, 1e-6 * scale, f'resumed {layer}')


def test_an_edit_reaches_the_gates_that_read_the_map():
  made = generator(converter, {'G_ema': module(plain_fastgan.arrays())})
  latents = made.map(RNG.standard_normal((1, made.z_dim)))
  states = {layer: made.run_to(latents, layer) for layer in made.layers}
  assert [len(states[layer].skips) for layer in made.layers] == [0, 1, 1, 1, 0]
  np.testing.assert_array_equal(states[4].skips[0], states[1].features)
  first = states[1].replace(features=states[1].features + 1)
  image = made.run_from(latents, first, 1)
  # The same by hand: the later maps and the gate both come from the edited map.
  later = made._run(latents, {0: first.features}, 4, 'none')
  state = states[4].replace(features=later[3], skips=(first.features,))
  np.testing.assert_allclose(made.run_from(latents, state, 4), image, atol=1e-6)
  without = states[4].replace(features=later[3])
  assert np.abs(made.run_from(latents, without, 4) - image).max() > 1e-3


def test_skips_that_do_not_fit_are_named():
  made = generator(converter, {'G_ema': module(plain_fastgan.arrays())})
  latents = made.map(RNG.standard_normal((1, made.z_dim)))
  state = made.run_to(latents, 3)
  for skips in ((), (state.skips[0][:, 1:],), state.skips * 2):
    with pytest.raises(InputError, match=r'skips=.*layer 3 read earlier maps, of shape 1x4x4x5'):
      made.run_from(latents, state.replace(skips=skips), 3)


def test_only_the_largest_entry_of_a_label_counts():
  arrays = plain_fastgan.arrays(classes=5)
  made = generator(converter, {'G_ema': module(arrays, c_dim=3)})  # the code makes rows for more classes
  assert made.num_classes == 3
  z = RNG.standard_normal((2, made.z_dim))
  latents = made.map(z, np.array([[0.2, 0.5, 0.3], [4, 0, 0]]))
  np.testing.assert_array_equal(latents, made.map(z, np.array([1, 0])))
  problems = converter.convert(checkpoint({'G_ema': module(arrays, c_dim=6)})).problems
  assert problems == ['c_dim=6: synthesis.embed.weight has 5 rows']


def test_the_resolution_is_told_by_widths_where_no_attribute_does():
  for resolution in (64, 128, 256):
    widths = (5, 4, 3, 4, 3, 2, 1)
    arrays = plain_fastgan.arrays(resolution, widths=widths)
    tree = {'G_ema': Module('Generator', [], {}, arrays, {})}
    assert generator(converter, tree).resolution == resolution
  tree = {'G_ema': Module('Generator', [], {}, plain_fastgan.arrays(128), {})}
  assert converter.convert(checkpoint(tree)).problems == ['img_resolution: the file does not tell it']


CONTRADICTIONS = {
  'img_resolution': (128, 'synthesis.to_big.weight_orig: expected'),
  'synthesis.img_resolution': (32, 'img_resolution=32: it must be a power of two from 64'),
  'img_channels': (1, 'img_channels=1: its arrays make it 3'),
  'synthesis.feat_8.0.mode': ('bilinear', 'mode=bilinear'),
  'synthesis.feat_8.3.eps': ('small', 'eps of the batch norms: not one number'),
}


@pytest.mark.parametrize('name', CONTRADICTIONS)
def test_what_attributes_contradict(name):
  value, text = CONTRADICTIONS[name]
  tree = {'G_ema': module(plain_fastgan.arrays(), **{name: value})}
  assert any(text in problem for problem in converter.convert(checkpoint(tree)).problems)


def test_another_epsilon_is_used():
  made = generator(converter, {'G_ema': module(plain_fastgan.arrays(), **{'synthesis.feat_8.3.eps': 1e-3})})
  assert made.options.eps == 1e-3


def test_every_problem_is_told_and_names_its_key():
  arrays = plain_fastgan.arrays(classes=3)
  conversion = converter.convert(checkpoint({'G_ema': module(arrays)}))
  assert conversion.problems == []
  dead = {key for key, reason in conversion.unused.items() if reason == 'of a map beyond the image'}
  assert {key.split('.')[1] for key in dead} == {'feat_128', 'feat_256', 'se_128', 'se_256'}
  needed = set(arrays) - dead - {'synthesis.embed.weight', 'synthesis.init.init.0.weight_orig'}
  for key in sorted(needed):
    changed = arrays | {key: np.zeros((2, 3, 7, 1, 1), np.float32)}
    problems = converter.convert(checkpoint({'G_ema': module(changed)})).problems
    counted = key.endswith('num_batches_tracked')
    assert counted or any(problem.startswith(f'{key}: expected') for problem in problems), key
    del changed[key]
    problems = converter.convert(checkpoint({'G_ema': module(changed)})).problems
    place = key.split('.')[1]
    assert counted or any(problem.startswith((f'{key}: missing', f'synthesis.{place}:')) for problem in problems), key
  problems = converter.convert(checkpoint({'G_ema': module(arrays | {'synthesis.x': np.zeros(3)})})).problems
  assert problems == ['synthesis.x: unknown key']


def test_a_norm_of_zero_is_told():
  arrays = plain_fastgan.arrays()
  arrays['synthesis.to_big.weight_u'] = 0 * arrays['synthesis.to_big.weight_u']
  problems = converter.convert(checkpoint({'G_ema': module(arrays)})).problems
  assert problems == ['synthesis.to_big.weight_u, synthesis.to_big.weight_v: the spectral norm that they give is 0.0']


def test_recognised_only_from_its_own_keys():
  assert recognised(checkpoint({'G_ema': module(plain_fastgan.arrays())}), FAMILIES) == 'fastgan'
  for tree in (None, [], {}, {'G': 3}, {'G_ema': module({'synthesis.x': np.zeros(1)})}):
    assert converter.recognise(checkpoint(tree)) is None


FITTING = FastGANOptions(64, (4, 4, 4, 4, 4), (1, 1, 1, 2), 3)
UNFIT = {
  'resolution': (48, 'power of two'),
  'widths': ((4, 4), 'needs 5 of them'),
  'convolutions': ((1, 1), 'needs 4 numbers'),
  'embed_dim': (2, 'there are 0 classes'),
}


@pytest.mark.parametrize('name', UNFIT)
def test_options_that_do_not_fit(name):
  value, text = UNFIT[name]
  with pytest.raises(InputError, match=text):
    dataclasses.replace(FITTING, **{name: value}).check()


def test_truncation_is_refused():
  with pytest.raises(InputError, match=r'truncation=0\.7'):
    registry.create('fastgan', FITTING).map(np.zeros((1, 3)), truncation=0.7)


def test_directions_move_z_and_not_the_class():
  made = generator(converter, {'G_ema': module(plain_fastgan.arrays(classes=3))})
  found = sefa.discover(made)
  assert found.space == 'z'
  assert found.vectors.shape[1] == made.z_dim
