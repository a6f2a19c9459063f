"""z, w and w+ of every family give the same images, and inputs that a generator cannot use give an error sentence."""

import jax
import numpy as np
import pytest
from flax import nnx

from panda_jax.errors import InputError
from panda_jax.generators import protocol, registry
from panda_jax.generators.spaces import latents_of, shapes, space_of
from panda_jax.generators.structure import Compiled
from tests.generators.test_contract import BIGGAN, CONDITIONAL, STYLEGAN2, STYLEGAN3
from tests.planted_generators import LinearGenerator, random_jacobian

OWN_ROWS = STYLEGAN2 | {'mapping_widths': (4 * 8,)}
MAPPED = {
  'stylegan': ('stylegan', STYLEGAN2, None),
  'stylegan2': ('stylegan2', STYLEGAN2, None),
  'conditional': ('stylegan2', STYLEGAN2 | CONDITIONAL, np.array([2, 0, 1])),
  'a w for each row': ('stylegan2', OWN_ROWS, None),
  'stylegan3': ('stylegan3', STYLEGAN3, np.eye(3, dtype=np.float32)),
}


def made(family, options):
  rngs = nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))
  generator = registry.create(family, registry.options_class(family)(**options), rngs)
  if hasattr(generator, 'w_avg'):
    shape = generator.w_avg.shape
    generator.w_avg[...] = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
  return Compiled(generator)


@pytest.mark.parametrize('name', MAPPED)
def test_every_space_gives_the_same_latents(name):
  family, options, labels = MAPPED[name]
  generator = made(family, options)
  z = np.random.default_rng(0).standard_normal((3, generator.z_dim)).astype(np.float32)
  w = generator.mapping(z, labels)
  assert shapes(generator) == {
    'z': (generator.z_dim,),
    'w': w.shape[1:],
    'wplus': (generator.rows, generator.w_dim),
  }
  for truncation in ({}, {'truncation': 0.6}, {'truncation': 0.6, 'truncation_layers': 2}):
    expected = latents_of(generator, z, 'z', labels, **truncation).wplus
    np.testing.assert_allclose(latents_of(generator, w, 'w', **truncation).wplus, expected, atol=1e-6)
    np.testing.assert_array_equal(latents_of(generator, expected, 'wplus').wplus, expected)
    if truncation:
      assert np.abs(np.asarray(expected) - latents_of(generator, z, 'z', labels).wplus).max() > 0.01


def test_rows_of_their_own():
  """w+ is used as given: each row drives its own layer."""
  generator = made('stylegan2', STYLEGAN2)
  wplus = np.random.default_rng(0).standard_normal((2, generator.rows, generator.w_dim)).astype(np.float32)
  images = generator(latents_of(generator, wplus, 'wplus'))
  other = wplus.copy()
  other[:, -1] += 1
  assert np.abs(np.asarray(generator(latents_of(generator, other, 'wplus'))) - images).max() > 1e-3
  assert isinstance(generator.generator, protocol.Mapped)


@pytest.mark.parametrize('family', ['biggan', 'custom'])
def test_without_a_mapping_network_there_is_z_alone(family):
  generator = made('biggan', BIGGAN) if family == 'biggan' else LinearGenerator(random_jacobian(rows=3))
  assert shapes(generator) == {'z': (generator.z_dim,)}
  assert space_of(generator, (4, generator.z_dim)) == 'z'
  for space, shape in (('w', (2, 6)), ('wplus', (2, 3, 6))):
    with pytest.raises(InputError, match=f'space={space}: this generator has no mapping network, only z; give z as'):
      latents_of(generator, np.zeros(shape, np.float32), space)
  with pytest.raises(InputError, match=r'give z as \(N, \d\)'):
    space_of(generator, (2, 3, 6))


SAME = STYLEGAN2 | CONDITIONAL | {'z_dim': 8}


@pytest.mark.parametrize(
  ('shape', 'given', 'recorded', 'expected'),
  [
    ((5, 4, 8), None, None, 'wplus'),
    ((5, 8), 'z', None, 'z'),
    ((5, 8), None, 'w', 'w'),
    ((5, 8), 'z', 'w', 'z'),  # the user's word is preferred
    ((5, 8), None, None, 'z and w of this generator .* give --space=z or --space=w'),
    ((5, 7), None, None, r'shape 5x7, .* give z as \(N, 8\), w as \(N, 8\), wplus as \(N, 4, 8\)'),
    ((4, 8), 'wplus', None, r'give wplus as \(N, 4, 8\)'),
    ((5, 3, 8), None, 'wplus', r'give wplus as \(N, 4, 8\)'),
    ((5, 8), 'w+', None, 'space=w.: there is no such space'),
    ((5, 8), None, 'styles', 'there is no such space'),
  ],
)
def test_what_an_array_holds(shape, given, recorded, expected):
  generator = made('stylegan2', SAME)
  if expected in ('z', 'w', 'wplus'):
    assert space_of(generator, shape, given, recorded, 'file.npy') == expected
    return
  with pytest.raises(InputError, match=expected):
    space_of(generator, shape, given, recorded, 'file.npy')


def test_what_w_holds_already():
  generator = made('stylegan2', SAME)
  w, wplus = np.zeros((2, 8), np.float32), np.zeros((2, 4, 8), np.float32)
  for space, array in (('w', w), ('wplus', wplus)):
    with pytest.raises(InputError, match=r'labels=given: .* holds the class'):
      latents_of(generator, array, space, np.array([0, 1]))
  for options in ({'truncation': 0.5}, {'truncation_layers': 2}):
    with pytest.raises(InputError, match='truncated already'):
      latents_of(generator, wplus, 'wplus', **options)
