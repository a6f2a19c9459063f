"""Comparison of a generator with stored or computed references, by the largest error."""

import numpy as np

from panda_jax.generators.structure import Compiled
from tests.generators.checkpoints import DATA

IMAGE, FEATURES = 3e-5, 1e-4  # absolute; relative to the standard deviation


def nhwc(array):
  return np.transpose(array, (0, 2, 3, 1))


def close(ours, reference, bound, what, relative=False):
  ours, reference = np.asarray(ours), np.asarray(reference)
  assert ours.shape == reference.shape, what
  error = float(np.abs(ours - reference).max())
  limit = bound * (float(reference.std()) if relative else 1)
  assert error <= limit, f'{what}: {error:.2e} > {limit:.2e}'


def middle(generator) -> int:
  """The middle one of the layers at which a generator can be split."""
  return sorted(generator.layers)[len(generator.layers) // 2]


def check_computed(generator, reference, latents, noise='const', image=IMAGE, features=FEATURES):
  """Compares with reference_numpy: image, features and RGB at every layer, and resuming in the middle.

  test_contract.py resumes at every layer.
  """
  whole = generator(latents, noise=noise)
  scale = max(1.0, float(np.abs(reference['image']).max()) / 4)
  close(whole, nhwc(reference['image']), image * scale, 'image')
  assert generator.layers
  for layer, size in generator.layers.items():
    state = generator.run_to(latents, layer, noise=noise)
    channels, height, width = size
    assert state.features.shape == (whole.shape[0], height, width, channels)
    close(state.features, nhwc(reference['features'][layer]), features, f'features {layer}', relative=True)
    if reference.get('rgb', {}).get(layer) is not None:
      close(state.rgb, nhwc(reference['rgb'][layer]), image * scale, f'rgb {layer}')
    else:
      assert state.rgb is None
    if layer == middle(generator):
      resumed = generator.run_from(latents, state, layer, noise=noise)
      close(resumed, whole, 1e-6 * scale, f'resumed {layer}')


def check_stored(generator, name, truncation_layers=None, image=IMAGE, features=FEATURES):
  """Compares with tests/data/NAME/reference.npz, made by the original code; returns the names of compared arrays."""
  with np.load(DATA / name / 'reference.npz') as file:
    stored = dict(file)
  left, generator = set(stored) - {'z'}, Compiled(generator)  # uncompiled, each operation would be compiled alone

  def compare(key, ours, bound=image, relative=False):
    if key in stored:
      reference = stored[key]
      close(ours, nhwc(reference) if reference.ndim == 4 else reference, bound, key, relative)
      left.discard(key)

  if 'w' in stored:
    compare('w', generator.mapping(stored['z']), 1e-5)
    kinds = [key.split('_', 1) for key in stored if key.startswith(('wp_', 'ws_'))]
  else:
    kinds = [('', '')]
  for prefix, kind in kinds:
    if kind:
      count = int(kind.split('cutoff')[1]) if 'cutoff' in kind else truncation_layers
      psi = float(kind.split('_')[0].removeprefix('psi'))
      latents = generator.map(stored['z'], truncation=psi, truncation_layers=count)
      compare(f'{prefix}_{kind}', latents.wplus, 1e-5)
    else:
      latents = generator.map(stored['z'])
    end = f'_{kind}' if kind else ''
    compare(f'image{end}', generator(latents))
    compare(f'image_nonoise{end}', generator(latents, noise='none'))
    for layer in generator.layers:
      if f'delta_l{layer}' not in stored:
        continue
      state = generator.run_to(latents, layer)
      compare(f'feat_l{layer}{end}', state.features, features, relative=True)
      compare(f'skip_l{layer}{end}', state.rgb)
      compare(f'image_resumed_l{layer}{end}', generator.run_from(latents, state, layer, drop_rgb=True))
      edited = state.replace(features=state.features + nhwc(stored[f'delta_l{layer}']))
      compare(f'image_edited_l{layer}{end}', generator.run_from(latents, edited, layer, drop_rgb=True))
      compare(f'image_edited_keepskip_l{layer}{end}', generator.run_from(latents, edited, layer))
      left.discard(f'delta_l{layer}')
  assert not left
