"""Convolutions and filters against loops over pixels, and their derivative rules against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from panda_jax.generators import layers
from tests.generators import reference_numpy
from tests.generators.parity import nhwc

RNG = np.random.default_rng(0)
FILTERS = {
  'usual': (0.125, 0.375, 0.375, 0.125),
  'odd': (0.2, 0.5, 0.3),
  'long': tuple(np.linspace(0.1, 0.4, 8).tolist()),
  'two': (0.5, 0.5),
  'one': (1.0,),
  'inseparable': ((0.1, 0.2, 0.0), (0.3, 0.1, 0.5), (0.2, 0.7, 0.1)),
}


def maps(n, channels, height, width):
  return RNG.standard_normal((n, channels, height, width))


def oihw(kernel):
  return np.asarray(kernel, np.float64).transpose(3, 2, 0, 1)


@pytest.mark.parametrize('crop', [0, 1])
@pytest.mark.parametrize('k', [3, 4])
def test_conv_transpose(k, crop):
  x, kernel = maps(2, 3, 4, 5), RNG.standard_normal((k, k, 3, 6))
  ours = layers.conv_transpose(jnp.asarray(nhwc(x)), jnp.asarray(kernel), crop)
  reference = reference_numpy.transposed(x, oihw(kernel).transpose(1, 0, 2, 3), crop)
  np.testing.assert_allclose(ours, nhwc(reference), atol=1e-5)


def test_conv():
  for k in (1, 3):
    x, kernel = maps(2, 3, 4, 5), RNG.standard_normal((k, k, 3, 6))
    ours = layers.conv(jnp.asarray(nhwc(x)), jnp.asarray(kernel))
    np.testing.assert_allclose(ours, nhwc(reference_numpy.correlate(x, oihw(kernel), k // 2)), atol=1e-5)


@pytest.mark.parametrize('name', FILTERS)
def test_filters(name):
  taps = np.asarray(FILTERS[name])
  square = np.outer(taps, taps) if taps.ndim == 1 else taps
  x = maps(2, 3, 5, 6)
  for edges in ((1, 1), (2, 0), (3, 2)):
    ours = layers.fir(jnp.asarray(nhwc(x)), FILTERS[name], edges, 4.0)
    np.testing.assert_allclose(ours, nhwc(reference_numpy.filtered(x, 4 * square, *edges)), atol=1e-5)
  cropped = layers.fir(jnp.asarray(nhwc(x)), FILTERS[name], (len(taps) - 1, -1))
  whole = layers.fir(jnp.asarray(nhwc(x)), FILTERS[name], (len(taps) - 1, 0))
  rest = layers.fir(jnp.asarray(nhwc(x))[:, :-1, :-1], FILTERS[name], (len(taps) - 1, 0))
  np.testing.assert_allclose(cropped, rest, atol=1e-6)  # sums of float32 that are compiled for another size
  assert whole.shape[1] == 5
  ours = layers.upsample_fir(jnp.asarray(nhwc(x)), FILTERS[name])
  if len(taps) > 1:
    np.testing.assert_allclose(ours, nhwc(reference_numpy.upsampled(x, square)), atol=1e-5)
  kernel = RNG.standard_normal((3, 3, 3, 4))
  assert ours.shape == (2, 10, 12, 3)
  assert layers.conv_up(jnp.asarray(nhwc(x)), jnp.asarray(kernel), FILTERS[name]).shape == (2, 10, 12, 4)


@pytest.mark.parametrize('channels', [(3, 4), (64, 96)])
@pytest.mark.parametrize('size', [4, 16])
def test_conv_nearest_both_ways(size, channels):
  x = maps(1, channels[0], size, size)
  kernel = RNG.standard_normal((3, 3, *channels)) / np.sqrt(9 * channels[0])
  ours = layers.conv_nearest(jnp.asarray(nhwc(x)), jnp.asarray(kernel))
  turned = oihw(kernel)[:, :, ::-1, ::-1]
  np.testing.assert_allclose(ours, nhwc(reference_numpy.correlate(reference_numpy.doubled(x), turned, 1)), atol=1e-5)


def plain_transpose(x, kernel):
  return lax.conv_general_dilated(
    x, kernel[::-1, ::-1], (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2), dimension_numbers=layers.LAYOUT
  )


def plain_fir(x, taps):
  x = jnp.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
  kernel = jnp.outer(jnp.asarray(taps), jnp.asarray(taps))[::-1, ::-1, None, None]
  kernel = jnp.broadcast_to(kernel, (*kernel.shape[:2], 1, x.shape[-1]))
  return lax.conv_general_dilated(
    x, kernel, (1, 1), 'VALID', dimension_numbers=layers.LAYOUT, feature_group_count=x.shape[-1]
  )


def derivatives(f, *args):
  """Gradient, directional derivative, and the gradient of the squared gradient, as a gradient penalty needs it."""
  loss = lambda *a: jnp.sum(jnp.sin(f(*a)))  # noqa: E731
  grad = jax.grad(loss, tuple(range(len(args))))

  def penalty(*a):
    return sum(jnp.sum(jnp.square(g)) for g in grad(*a))

  directions = tuple(jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape) for a in args)
  along = jax.jvp(f, args, directions)[1]
  return [*grad(*args), along, *jax.grad(penalty, tuple(range(len(args))))(*args)]


def test_derivatives_of_our_rules_are_those_of_jax():
  x, kernel = (
    jnp.asarray(nhwc(maps(2, 3, 4, 5)), jnp.float32),
    jnp.asarray(RNG.standard_normal((3, 3, 3, 2)), jnp.float32),
  )
  taps = (0.1, 0.4, 0.3, 0.2)
  for ours, plain, args in (
    (layers.conv_transpose, plain_transpose, (x, kernel)),
    (lambda x: layers.fir(x, taps, (1, 2)), lambda x: plain_fir(x, taps), (x,)),
  ):
    theirs = jax.jit(lambda *a, f=plain: derivatives(f, *a))(*args)
    for compile in (lambda f: f, jax.jit):
      for got, expected in zip(compile(lambda *a, f=ours: derivatives(f, *a))(*args), theirs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_rules_map_over_leading_axes():
  x, kernel = (
    jnp.asarray(nhwc(maps(4, 3, 4, 4)), jnp.float32),
    jnp.asarray(RNG.standard_normal((4, 3, 3, 3, 2)), jnp.float32),
  )
  grad = jax.grad(lambda x, k: jnp.sum(jnp.sin(layers.conv_up(x[None], k, FILTERS['usual']))), (0, 1))
  for mapped, alone in zip(jax.jit(jax.vmap(grad))(x, kernel), jax.jit(grad)(x[1], kernel[1]), strict=True):
    np.testing.assert_allclose(mapped[1], alone, atol=1e-5)


def test_dense_gains():
  import flax.nnx as nnx

  layer = layers.Dense(6, 4, nnx.Rngs(0), lr=0.01, bias=1.0, gain=2.0)
  x = jnp.ones((3, 6))
  np.testing.assert_allclose(layer(jnp.zeros((3, 6))), 1.0, rtol=1e-6)
  np.testing.assert_allclose(layer(x) - 1, x @ layer.effective_weight(), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(layer.effective_weight(), layer.weight[...] * 0.02 / np.sqrt(6), rtol=1e-6)
