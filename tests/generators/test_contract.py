"""The contract of every family, on one table of small generators: split and resume, derivatives, vmap, compilation.

A new family adds one row per variant to CASES.
"""

import dataclasses
import re
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from panda_jax.errors import InputError
from panda_jax.generators import registry
from panda_jax.generators.base import Buffer, WPlus
from panda_jax.generators.compatibility import value_of
from panda_jax.generators.disk import leaves
from panda_jax.generators.protocol import Generator
from panda_jax.generators.structure import Compiled
from panda_jax.generators.stylegan3_geometry import published_options
from panda_jax.runtime.compatibility import enable_x64

KEYS = [jax.random.key(seed, impl='unsafe_rbg') for seed in (0, 1)]  # threefry takes far longer to compile


@dataclasses.dataclass(frozen=True)
class Case:
  """A small generator.

  Attributes:
    family: a key of registry.FAMILIES.
    options: keyword arguments of the family's options.
    noisy: whether noise changes the image.
    stored: whether there are stored noise maps for 'const'; without them 'const' equals 'none'.
    truncates: whether a truncation other than 1 is possible.
    layer: at which derivatives by features are taken.
    fresh: starts from the arrays that the family makes, and draws only constant ones; for families with arrays that
      cannot have arbitrary values. Otherwise all are drawn, which takes less time.
    tune: changes the generator in place.
    bound: of the difference between a resumed image and the whole one.
  """

  family: str
  options: dict
  noisy: bool = True
  stored: bool = True
  truncates: bool = True
  layer: int = 3
  fresh: bool = False
  tune: Callable | None = None
  bound: float = 1e-5


STYLEGAN2 = {'resolution': 8, 'widths': (6, 6, 5, 5), 'z_dim': 7, 'w_dim': 8, 'mapping_widths': (8,)}
CONDITIONAL = {'num_classes': 3, 'embed_dim': 7, 'label_input': 'joint'}
STYLEGAN3 = dataclasses.asdict(published_options(16)) | {
  'z_dim': 5,
  'w_dim': 6,
  'widths': (4, 3),
  'num_critical': 1,
  'first_cutoff': 1,
  'first_stopband': 2.5,
  'margin_size': 2,
  'output_scale': 1.0,
  'use_radial_filters': True,
  'num_classes': 3,
}
BIGGAN = {
  'z_dim': 5,
  'num_classes': 3,
  'channel_width': 8,
  'blocks': ((True, 2, 2), (False, 2, 1)),
  'attention_position': 1,
  'n_stats': 3,
  'eps': 1e-4,
}
PIECES = {'block': 'plain', 'conditioning': 'split', 'z_dim': 6, 'embedding_dim': 4, 'attention_position': (1, 2)}
PIECES |= {'blocks': ((True, 2, 1), (True, 1, 1)), 'n_stats': 1, 'last_eps': 1e-5, 'image_channels': 1}
DEEP = {'block': 'deep_convolved', 'n_stats': 1, 'attention_position': ()}


R3GAN = {'widths': (6, 4), 'blocks': (1, 2), 'inner': (8, 6), 'groups': (2, 3), 'z_dim': 5}
STYLEGAN_XL = {
  'z_dim': 5,
  'w_dim': 6,
  'num_classes': 3,
  'embed_dim': 4,
  'layers': (
    (4, 12, 8, 1.0, 3.0, 3, True, None),
    (4, 12, 8, 1.0, 3.0, 1, False, 256.0),
    (3, 16, 16, 8.0, 1.8, 3, False, 256.0),
    (3, 16, 16, 8.0, 1.8, 1, False, 256.0),
  ),
  'mapping_layers': 2,
  'mapping_rate': 0.01,
  'output_scale': 1.0,
  'filter_size': 6,
  'lrelu_upsampling': 2,
}
FASTGAN = {'resolution': 64, 'widths': (5, 4, 4, 3, 3), 'convolutions': (2, 1, 2, 1), 'z_dim': 5}


def spread_statistics(generator):
  key = jax.random.key(2)
  for _, variable in nnx.to_flat_state(nnx.state(generator, Buffer)):
    key = jax.random.fold_in(key, 0)
    variable[...] = variable[...] + jax.random.uniform(key, variable[...].shape)


CASES = {
  'progan': Case('progan', {'resolution': 8, 'widths': (8, 8, 7, 7), 'z_dim': 7}, noisy=False, truncates=False),
  'progan, labels': Case(
    'progan',
    {'resolution': 8, 'widths': (8, 8, 7, 7), 'z_dim': 7, 'num_classes': 3, 'final_tanh': True},
    noisy=False,
    truncates=False,
  ),
  'progan, labels normalised with z': Case(
    'progan',
    {'resolution': 8, 'widths': (8, 8, 7, 7), 'z_dim': 7, 'num_classes': 3, 'joint_norm': True},
    noisy=False,
    truncates=False,
  ),
  'stylegan': Case('stylegan', STYLEGAN2 | {'mapping_widths': (8, 8)}),
  'stylegan, labels, rectangular': Case('stylegan', STYLEGAN2 | CONDITIONAL | {'start': (3, 5)}),
  'stylegan2': Case('stylegan2', STYLEGAN2 | {'mapping_widths': (8, 8)}, layer=2),
  'stylegan2, residual': Case(
    'stylegan2',
    STYLEGAN2 | {'resolution': 16, 'widths': (6, 6, 5, 5, 4, 4), 'architecture': 'resnet', 'clamp': 256.0},
  ),
  'stylegan2, plain, labels': Case(
    'stylegan2', STYLEGAN2 | CONDITIONAL | {'architecture': 'orig', 'label_input': 'separate'}, layer=2
  ),
  'stylegan2, rectangular': Case('stylegan2', STYLEGAN2 | {'start': (3, 5)}, layer=2),
  'stylegan3': Case('stylegan3', STYLEGAN3, noisy=False, layer=1, fresh=True),
  'stylegan_xl': Case('stylegan_xl', STYLEGAN_XL, noisy=False, layer=1, fresh=True),
  'stylegan_xl, no labels': Case(
    'stylegan_xl', STYLEGAN_XL | {'num_classes': 0, 'embed_dim': 0}, noisy=False, layer=2, fresh=True
  ),
  # After the attention: a dead block before it gives equal numbers, where its pooling has no derivative.
  'biggan': Case('biggan', BIGGAN, noisy=False, layer=2, fresh=True, tune=spread_statistics),
  'biggan, pieces of z': Case('biggan', BIGGAN | PIECES, noisy=False, layer=2, fresh=True, tune=spread_statistics),
  'biggan, a table of classes': Case(
    'biggan', BIGGAN | PIECES | {'conditioning': 'class', 'embedding_dim': 0}, False, layer=2, fresh=True
  ),
  'biggan, deep, short cut convolved, no classes': Case(
    'biggan', BIGGAN | DEEP | {'num_classes': 0, 'embedding_dim': 0}, noisy=False, layer=0, fresh=True
  ),
  'r3gan': Case('r3gan', R3GAN, noisy=False, truncates=False, fresh=True),
  'r3gan, labels': Case(
    'r3gan',
    R3GAN | {'widths': (5, 5), 'groups': (1, 6), 'kernel': 5, 'num_classes': 3, 'embed_dim': 4},
    noisy=False,
    truncates=False,
    fresh=True,
  ),
  # Its variances must be positive.
  'fastgan': Case('fastgan', FASTGAN, stored=False, truncates=False, fresh=True),
  'fastgan, labels': Case(
    'fastgan', FASTGAN | {'num_classes': 3, 'embed_dim': 4}, stored=False, truncates=False, fresh=True
  ),
}


def made(name):
  """The generator of a case. Nothing stays zero, which would hide mistakes; `fresh` keeps what cannot be drawn."""
  case = CASES[name]
  options = registry.options_class(case.family)(**case.options)
  if case.fresh:
    generator = registry.create(case.family, options, nnx.Rngs(jax.random.key(0, impl='unsafe_rbg')))
  else:
    generator = registry.abstract(case.family, options)
  graphdef, state = nnx.split(generator)
  rng = np.random.default_rng(0)

  def filled(path, variable):
    value = value_of(variable)
    if case.fresh and (np.asarray(value) != np.ravel(value)[:1]).any():
      return variable
    scale = 100 if 'mapping_network' in path and 'layers' in path else 1  # their learning rate is 1/100
    about = np.asarray(value) if case.fresh else 0
    spread = 0.2 if case.fresh else 1
    drawn = np.asarray(about + spread * scale * rng.standard_normal(value.shape), np.float32)
    return variable.replace(jax.device_put(drawn))

  flat = [(path, filled(path, variable)) for path, variable in nnx.to_flat_state(state)]
  generator = nnx.merge(graphdef, nnx.from_flat_state(flat))
  if case.tune is not None:
    case.tune(generator)
  return generator


@pytest.fixture(scope='module', params=CASES)
def named(request):
  """The name of a case, its generator and the compiled generator, which the tests share."""
  generator = made(request.param)
  return request.param, generator, Compiled(generator)


def draws(generator):
  return generator.sample(jax.random.key(5), 2)


def in_float64(generator):
  """The same generator with all its arrays in float64; call it under jax.enable_x64."""
  graphdef, state = nnx.split(generator)

  def cast(a):  # with NumPy: JAX would compile a program for each shape
    return jax.device_put(np.asarray(a, np.float64)) if jnp.issubdtype(a.dtype, jnp.floating) else a

  return nnx.merge(graphdef, jax.tree.map(cast, state))


def test_it_is_a_generator(named):
  name, generator, _ = named
  assert isinstance(generator, Generator)
  assert generator.family == CASES[name].family
  for attribute in ('options', 'z_dim', 'w_dim', 'num_classes', 'resolution', 'image_channels'):
    assert hasattr(generator, attribute)
  assert CASES[name].layer in generator.layers
  z, labels = draws(generator)
  assert z.shape == (2, generator.z_dim)
  assert (labels is None) == (generator.num_classes == 0)


def test_options_survive_json(named):
  _, generator, _ = named
  again = registry.options_from_json(generator.family, registry.options_to_json(generator.options))
  assert again == generator.options
  abstract = registry.abstract(generator.family, again)
  shapes = lambda g: jax.tree.map(lambda a: a.shape, nnx.state(g))  # noqa: E731
  assert shapes(abstract) == shapes(generator)


def test_buffers_are_not_parameters(named):
  _, generator, _ = named
  kinds = {type(variable) for _, variable in nnx.to_flat_state(nnx.state(generator))}
  assert all(issubclass(kind, nnx.Param) or issubclass(kind, Buffer) for kind in kinds)


def test_resumed_at_every_layer_it_is_the_whole(named):
  name, generator, _ = named  # not compiled as a whole: its layers are shared by all splits
  case = CASES[name]
  latents = generator.map(*draws(generator))
  # Drawn noise is the hardest to repeat, so it is tested at all layers; stored noise is tested at one.
  for noise, layers in (
    ((KEYS[0], generator.layers), ('const', [case.layer])) if case.noisy else (('const', generator.layers),)
  ):
    image = generator(latents, noise=noise)
    assert image.shape == (2, *generator.image_size, generator.image_channels)
    assert image.dtype == jnp.float32
    assert np.abs(image[0] - image[1]).max() > 1e-3
    for layer in layers:
      channels, height, width = generator.layers[layer]
      state = generator.run_to(latents, layer, noise=noise)
      assert state.features.shape == (2, height, width, channels)
      np.testing.assert_allclose(
        generator.run_from(latents, state, layer, noise=noise), image, atol=case.bound, err_msg=str(layer)
      )
      edited = state.replace(features=state.features + 1)
      assert np.abs(generator.run_from(latents, edited, layer, noise=noise) - image).max() > 1e-4


def test_kinds_of_noise_differ(named):
  name, _, generator = named
  latents = generator.map(*draws(generator))
  images = [generator(latents, noise=noise) for noise in ('none', 'const', KEYS[0], KEYS[1])]
  for i, image in enumerate(images):
    for j, other in enumerate(images[:i]):
      differ = CASES[name].noisy and (CASES[name].stored or (i, j) != (1, 0))
      assert (np.abs(image - other).max() > 1e-5) == differ
  with pytest.raises(InputError, match='noise=loud'):
    generator(latents, noise='loud')


def test_samples_do_not_see_each_other(named):
  name, _, generator = named
  latents = generator.map(*draws(generator))
  one = jax.tree.map(lambda a: a[1:2], latents)
  # Random weights give values above 10; sums of another batch size then differ by some 1e-6 of the value.
  np.testing.assert_allclose(generator(latents)[1:2], generator(one), rtol=2e-6, atol=max(1e-5, CASES[name].bound))


def test_vmap_over_a_leading_axis(named):
  name, plain, generator = named
  latents = generator.map(*draws(generator))
  apart = lambda tree: jax.tree.map(lambda a: a[:, None], tree)  # noqa: E731
  whole = np.asarray(generator(latents))[:, None]
  mapped = jax.vmap(lambda a: generator(a))(apart(latents))
  np.testing.assert_allclose(mapped, whole, atol=max(1e-5, CASES[name].bound))
  layer = CASES[name].layer
  state = plain.run_to(latents, layer)
  resumed = jax.vmap(lambda a, s: generator.run_from(a, s, layer))(apart(latents), apart(state))
  np.testing.assert_allclose(resumed, whole, atol=max(1e-5, CASES[name].bound))


def test_derivatives_in_float64(named):
  """For z, weights and an edit of features together: jvp against central differences on a line, vjp against jvp."""
  name, generator, _ = named
  z, labels = draws(generator)
  layer, rng = CASES[name].layer, np.random.default_rng(0)
  channels, height, width = generator.layers[layer]
  truncation = 0.7 if CASES[name].truncates else 1.0
  with enable_x64(True):
    graphdef, params, others = nnx.split(in_float64(generator), nnx.Param, ...)
    # Doubled pixels are equal, and there the pooling of BigGAN's attention has no derivative.
    edit = 0.1 * rng.standard_normal((2, height, width, channels))
    leaves, tree = jax.tree.flatten((np.asarray(z, np.float64), params, edit))
    leaves = [np.asarray(leaf) for leaf in leaves]  # NumPy's arithmetic compiles nothing
    length = np.sqrt(sum(leaf.size for leaf in leaves))
    directions = [rng.standard_normal(leaf.shape) / length for leaf in leaves]

    def image(leaves):
      z, params, edit = jax.tree.unflatten(tree, leaves)
      generator = nnx.merge(graphdef, params, others)
      latents = generator.map(z, labels, truncation=truncation)
      state = generator.run_to(latents, layer)
      return generator.run_from(latents, state.replace(features=state.features + edit), layer)

    @jax.jit  # one program for all: most of the time of this test is compilation
    def evaluated(leaves, cotangent):
      out, tangent = jax.jvp(image, (leaves,), (directions,))
      return out, tangent, jax.vjp(image, leaves)[1](cotangent)[0]

    cotangent = rng.standard_normal(jax.eval_shape(image, leaves).shape)
    step = 1e-7  # so short that hardly any activation passes its kink
    ahead, behind = (
      np.asarray(evaluated([a + t * d for a, d in zip(leaves, directions, strict=True)], cotangent)[0])
      for t in (step, -step)
    )
    out, tangent, pulled = jax.device_get(evaluated(leaves, cotangent))
  assert out.dtype == np.float64
  expected = (ahead - behind) / (2 * step)
  scale = float(np.abs(expected).max())
  assert scale > 1e-8
  np.testing.assert_allclose(tangent / scale, expected / scale, atol=5e-6)
  product = sum(np.vdot(a, b) for a, b in zip(pulled, directions, strict=True))
  np.testing.assert_allclose(product, np.vdot(cotangent, tangent), rtol=1e-8)


def test_nothing_is_compiled_twice(named):
  name, _, generator = named
  layer = CASES[name].layer

  def run(seed, noise):
    z, labels = generator.sample(jax.random.key(seed), 2)
    latents = generator.map(np.asarray(z, np.float64), labels)
    state = generator.run_to(latents, layer, noise=noise)
    generator.run_from(latents, state.replace(features=state.features * 2), layer, noise=noise)
    return generator(latents, noise=noise)

  noisy = CASES[name].noisy
  run(0, KEYS[0] if noisy else 'const')
  counts = generator.compilations()
  run(1, KEYS[1] if noisy else 'const')
  assert generator.compilations() == counts


def test_others_of_its_structure_compile_nothing_and_have_weights_of_their_own(named):
  _, module, generator = named
  z, labels = draws(generator)
  image = generator(generator.map(z, labels))
  counts = generator.compilations()
  graphdef, state = nnx.split(module)
  halved = jax.tree.map(lambda a: jax.device_put((np.asarray(a) / 2).astype(a.dtype)), state)
  other = Compiled(nnx.merge(graphdef, halved))
  assert other.compilations() == counts > 0  # of both
  changed = other(other.map(z, labels))
  assert other.compilations() == counts
  assert np.abs(np.asarray(changed) - np.asarray(image)).max() > 1e-3 * np.abs(image).max()


def test_a_module_that_cannot_be_hashed_compiles_for_itself():
  class Scaled(nnx.Module):
    def __init__(self):
      self.weight = nnx.Param(jax.device_put(np.float32(2)))
      self.settings = SimpleNamespace(unit=3.0)  # it has no hash

    def map(self, z, labels=None, truncation=1.0, truncation_layers=None):
      return z * self.weight[...] * self.settings.unit

  np.testing.assert_array_equal(Compiled(Scaled()).map(np.ones(2, np.float32)), [6, 6])


def test_truncation_draws_towards_the_mean(named):
  name, _, generator = named
  z, labels = draws(generator)
  with pytest.raises(InputError, match='truncation=nan'):
    generator.map(z, labels, truncation=float('nan'))
  with pytest.raises(InputError, match='truncation=half'):
    generator.map(z, labels, truncation='half')
  if not CASES[name].truncates:
    return
  whole = generator.map(z, labels)
  if not isinstance(whole, WPlus):
    return
  labels = None if labels is None else np.full_like(labels, labels[0])  # each class may have its own mean
  whole, w = generator.map(z, labels), generator.mapping(z, labels)
  half = generator.map(z, labels, truncation=0.5)
  none = generator.map(z, labels, truncation=0.0)
  np.testing.assert_array_equal(whole.wplus, np.broadcast_to(w[:, None], whole.wplus.shape))
  np.testing.assert_allclose(half.wplus, (whole.wplus + none.wplus) / 2, atol=1e-6)
  np.testing.assert_allclose(none.wplus[0], none.wplus[1])
  first = generator.map(z, labels, truncation=0.5, truncation_layers=2)
  np.testing.assert_array_equal(first.wplus[:, :2], half.wplus[:, :2])
  np.testing.assert_array_equal(first.wplus[:, 2:], whole.wplus[:, 2:])
  np.testing.assert_array_equal(generator.map(z, labels, truncation=0.5, truncation_layers=99).wplus, half.wplus)
  with pytest.raises(InputError, match='truncation_layers=-1'):
    generator.map(z, labels, truncation=0.5, truncation_layers=-1)


def test_labels(named):
  _, generator, shared = named
  z, labels = draws(generator)
  classes = generator.num_classes
  if classes == 0:
    with pytest.raises(InputError, match='unconditional'):
      generator.map(z, np.array([0, 1]))
    return
  rows = np.eye(classes, dtype=np.float32)[np.asarray(labels)]
  for compiled in (generator, shared):
    for one, other in zip(
      jax.tree.leaves(compiled.map(z, labels)), jax.tree.leaves(compiled.map(z, rows)), strict=True
    ):
      np.testing.assert_allclose(one, other, atol=1e-6)
    for wrong, text in (
      (None, f'{classes} classes'),
      (np.array([0, classes]), 'no such class'),
      (np.array([0, -1]), 'no such class'),
      (np.array([0]), 'one label per sample'),
      (np.array([0.5, 1.0]), 'integers'),
    ):
      with pytest.raises(InputError, match=text):
        compiled.map(z, wrong)


def test_wrong_arguments_are_named(named):
  name, _, generator = named
  layer = CASES[name].layer
  with pytest.raises(InputError, match=r'z=shape 2x\d+'):
    generator.map(np.zeros((2, generator.z_dim + 1)))
  latents = generator.map(*draws(generator))
  state = generator.run_to(latents, layer)
  valid = str(max(generator.layers))
  for wrong in (-1, 99, 2.5, True, None):
    with pytest.raises(InputError, match=rf'layer={wrong}: .*{valid}'):
      generator.run_to(latents, wrong)
    with pytest.raises(InputError, match=rf'layer={wrong}: .*{valid}'):
      generator.run_from(latents, state, wrong)
  with pytest.raises(InputError, match='features=shape'):
    generator.run_from(latents, state.replace(features=state.features[:, 1:]), layer)


def test_nothing_is_multiplied_in_float64_where_a_program_has_switched_x64_on(named):
  name, generator, _ = named
  layer = CASES[name].layer

  def run(z, labels):
    latents = generator.map(z, labels)
    state = generator.run_to(latents, layer)
    return state.features, generator.run_from(latents, state, layer)

  expected = draws(generator)
  with enable_x64(True):
    z, labels = draws(generator)
    np.testing.assert_array_equal(z, expected[0])
    steps = jax.make_jaxpr(run)(z, labels)
  assert {array.dtype for array in steps.out_avals} == {np.dtype(np.float32)}
  assert not re.findall(r'f64\[.* = (?:dot_general|conv_general_dilated)', str(steps))


@pytest.mark.parametrize(
  'family', ['progan', 'stylegan', 'stylegan2', 'stylegan3', 'stylegan_xl', 'biggan', 'r3gan', 'fastgan']
)
def test_weights_are_drawn_alike_with_x64_on(family):
  case = CASES[family]
  options = registry.options_class(case.family)(**case.options)
  narrow = leaves(registry.create(case.family, options))
  with enable_x64(True):
    wide = leaves(registry.create(case.family, options))
    shapes = leaves(registry.abstract(case.family, options))
  for name, array in narrow.items():
    assert wide[name].dtype == shapes[name].dtype == array.dtype
    np.testing.assert_array_equal(wide[name], array)
