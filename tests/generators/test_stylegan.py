"""StyleGAN from genforce's files: stored outputs of the original code, and variants against plain numpy."""

import numpy as np
import pytest
from flax import nnx

from panda_jax.converters.dialects import stylegan as converter
from panda_jax.errors import InputError
from panda_jax.generators.stylegan import StyleGAN, StyleGANOptions
from tests.generators import checkpoints, reference_numpy
from tests.generators.checkpoints import checkpoint, generator
from tests.generators.parity import check_computed, check_stored

RNG = np.random.default_rng(3)
BOUNDS = {'image': 1e-4, 'features': 3e-4}


def test_stored_outputs_of_the_original():
  """The network reaches 128, where 'auto' begins to fuse the up-sampling."""
  check_stored(generator(converter, 'stylegan_fused128/checkpoint.pth'), 'stylegan_fused128', 18, **BOUNDS)


VARIANTS = {
  'plain': {},
  'larger': {'widths': (6, 6, 5, 5, 4, 3)},
  'fused': {'fused': True},
  'not fused': {'fused': False},
  'conditional': {'label': 3},
  'a w per row': {'own': True},
  'channel noise': {'channel_noise': True},
  'tanh': {'final_tanh': True},
  'gray, one mapping layer': {'channels': 1, 'depth': 1},
  'lr': {'lr': 0.1},
}


@pytest.mark.parametrize('name', VARIANTS)
def test_variants(name):
  given = VARIANTS[name]
  behaviour = {key: given[key] for key in ('fused', 'final_tanh', 'lr') if key in given}
  arrays = checkpoints.stylegan(**{key: value for key, value in given.items() if key not in ('fused', 'final_tanh')})
  names = {'lr': 'mapping_lr_mul', 'fused': 'fused_scale'}
  options = {names.get(key, key): str(value) for key, value in behaviour.items()}
  made = generator(converter, {'generator_smooth': arrays}, **options)
  z, labels = RNG.standard_normal((2, 9)), np.eye(3)[[2, 0]] if 'label' in given else None
  channel = given.get('channel_noise', False)
  for psi, count, noise in ((1.0, None, 'const'), (0.7, 3, 'none')):
    reference = reference_numpy.stylegan(
      arrays, z, labels, psi=psi, count=99 if count is None else count, noise=noise, channel=channel, **behaviour
    )
    latents = made.map(z, labels, truncation=psi, truncation_layers=count)
    np.testing.assert_allclose(latents.wplus, reference['wplus'], atol=1e-5)
    check_computed(made, reference, latents, noise=noise, **BOUNDS)


def test_every_problem_is_told_and_names_its_key():
  arrays = checkpoints.stylegan()
  conversion = converter.convert(checkpoint({'generator': arrays}))
  assert conversion.problems == []
  idle = {f'synthesis.output0.{part}' for part in ('weight', 'bias')}
  assert set(conversion.unused) == {'synthesis.lod', 'synthesis.layer2.blur.kernel', *idle}
  for key in set(arrays) - idle:
    for change, text in (({}, 'missing'), ({key: np.zeros((2, 3, 7), np.float32)}, 'expected')):
      changed = {name: value for name, value in arrays.items() if name != key} | change
      problems = converter.convert(checkpoint({'generator': changed})).problems
      assert any(problem.startswith(f'{key}: {text}') for problem in problems), key
  growing = arrays | {'synthesis.lod': np.asarray(2, np.float32)}
  assert any('lod: 2.0' in text for text in converter.convert(checkpoint({'generator': growing})).problems)
  assert converter.convert(checkpoint(arrays | {'extra': np.zeros(3)})).problems == ['extra: unknown key']


def test_a_network_that_starts_from_w_is_refused():
  arrays = checkpoints.stylegan()
  arrays['synthesis.layer0.weight'] = np.zeros((6, 8, 4, 4), np.float32)
  assert any('starts from w' in text for text in converter.convert(checkpoint({'generator': arrays})).problems)


def test_recognised_only_from_its_own_keys():
  assert converter.recognise(checkpoint({'generator': checkpoints.stylegan()})) == 'genforce'
  for tree in (None, [], {}, {'generator': 3}, checkpoints.progan(), checkpoints.stylegan2_genforce()):
    assert converter.recognise(checkpoint(tree)) is None
  with pytest.raises(InputError, match='none of auto, true and false'):
    converter.convert(checkpoint(checkpoints.stylegan()), 'ema', {'fused_scale': '1'})


def test_affine_weights_act_on_rows():
  made = generator(converter, {'generator': checkpoints.stylegan()})
  weights = made.affine_weights()
  assert [matrix.shape for matrix in weights.values()] == [(8, 12), (8, 12), (8, 10), (8, 14)]


def test_layer_table_of_the_official_network():
  widths = [min(16384 // size, 512) for size in (4, 8, 16, 32, 64, 128, 256, 512, 1024) for _ in range(2)]
  options = StyleGANOptions(1024, tuple(widths), 512, 512, (512,) * 8)
  layers = nnx.eval_shape(lambda: StyleGAN(options, nnx.Rngs(0))).layers
  assert layers == {l: (min(16384 // 2 ** (l - 1), 512), 2 ** (l - 1), 2 ** (l - 1)) for l in range(3, 11)}  # noqa: E741
