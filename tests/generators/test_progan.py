"""ProGAN from genforce's files: stored outputs of the original code, and variants against plain numpy."""

import numpy as np
import pytest
from flax import nnx

from panda_jax.converters.dialects import progan as converter
from panda_jax.errors import InputError
from panda_jax.generators.progan import ProGAN, ProGANOptions
from tests.generators import checkpoints, reference_numpy
from tests.generators.checkpoints import checkpoint, generator
from tests.generators.parity import check_computed, check_stored

pytestmark = pytest.mark.oldest

RNG = np.random.default_rng(2)


def test_stored_outputs_of_the_original():
  check_stored(generator(converter, 'pggan/checkpoint.pth'), 'pggan')


VARIANTS = {
  'plain': {},
  'larger': {'widths': (12, 12, 10, 10, 9, 9, 70, 8), 'z_dim': 5},
  'fused': {'fused': True},
  'fused, alike': {'fused': True, 'widths': (6, 6, 6, 6)},
  'alike': {'widths': (6, 6, 6, 6)},
  'label': {'label': 3},
  'tanh': {'final_tanh': True},
  'gray': {'channels': 1},
}


@pytest.mark.parametrize('name', VARIANTS)
def test_variants(name):
  given = VARIANTS[name]
  arrays = checkpoints.progan(**{key: value for key, value in given.items() if key != 'final_tanh'})
  options = {'final_tanh': 'true'} if 'final_tanh' in given else {}
  options |= {'label_size': '3'} if 'label' in given else {}
  options |= {'fused_scale': 'true'} if name == 'fused, alike' else {}  # nothing in the file shows it
  made = generator(converter, {'generator_smooth': arrays}, **options)
  z, labels = RNG.standard_normal((2, made.z_dim)), np.eye(3)[[2, 0]] if 'label' in given else None
  behaviour = {'fused': given.get('fused', False), 'final_tanh': given.get('final_tanh', False)}
  check_computed(made, reference_numpy.progan(arrays, z, labels, **behaviour), made.map(z, labels))


def test_fused_scale_is_read_from_the_kernels():
  for fused in (True, False):
    tree = checkpoint({'generator': checkpoints.progan(fused=fused)})
    assert f'fused_scale={fused}: shown by the kernels' in converter.convert(tree).notes
    problems = converter.convert(tree, 'ema', {'fused_scale': str(not fused)}).problems
    assert problems == [f'fused_scale={not fused}: the kernels show that it is {fused}']


def test_every_problem_is_told_and_names_its_key():
  arrays = checkpoints.progan()
  conversion = converter.convert(checkpoint({'generator': arrays}))
  assert conversion.problems == []
  assert set(conversion.unused) == {'lod', 'output0.weight', 'output0.bias'}
  for key in set(arrays) - {'output0.weight', 'output0.bias'}:
    for change, text in (({}, 'missing'), ({key: np.zeros((2, 3, 7), np.float32)}, 'expected')):
      changed = {name: value for name, value in arrays.items() if name != key} | change
      problems = converter.convert(checkpoint({'generator': changed})).problems
      assert any(problem.startswith(f'{key}: {text}') for problem in problems), key
  growing = arrays | {'lod': np.asarray(1.5, np.float32)}
  assert any('lod: 1.5' in text for text in converter.convert(checkpoint({'generator': growing})).problems)
  assert converter.convert(checkpoint(arrays | {'extra': np.zeros(3)})).problems == ['extra: unknown key']


def test_recognised_only_from_its_own_keys():
  assert converter.recognise(checkpoint({'generator': checkpoints.progan()})) == 'genforce'
  for tree in (None, [], {}, {'generator': 3}, checkpoints.stylegan(), checkpoints.stylegan2_genforce()):
    assert converter.recognise(checkpoint(tree)) is None


def test_truncation_is_refused():
  made = ProGAN(ProGANOptions(8, (4, 4, 4, 4), 3), nnx.Rngs(0))
  z = RNG.standard_normal((2, 3))
  with pytest.raises(InputError, match=r'truncation=0\.7'):
    made.map(z, truncation=0.7)
  np.testing.assert_allclose(np.square(made.map(z, truncation=1, truncation_layers=3)).mean(axis=1), 1, rtol=1e-4)


def test_first_matrix_maps_latents_to_features():
  made = generator(converter, {'generator': checkpoints.progan()})
  (weight,) = made.affine_weights().values()
  latents = made.map(RNG.standard_normal((2, 9)))
  before = (latents @ weight).reshape(2, 4, 4, 6) + made.first.bias[...].reshape(1, 1, 1, 6)
  np.testing.assert_allclose(made._start(latents), np.where(before < 0, 0.2 * before, before), atol=1e-5)


def test_layer_table_of_the_official_network():
  widths = [min(16384 // size, 512) for size in (4, 8, 16, 32, 64, 128, 256, 512, 1024) for _ in range(2)]
  layers = nnx.eval_shape(lambda: ProGAN(ProGANOptions(1024, tuple(widths), 512), nnx.Rngs(0))).layers
  assert layers == {l: (min(16384 // 2 ** (l - 1), 512), 2 ** (l - 1), 2 ** (l - 1)) for l in range(3, 11)}  # noqa: E741
