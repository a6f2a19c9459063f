"""Convolutions, filters and dense layers shared by ProGAN, StyleGAN and StyleGAN2; channels last.

The way each is written was chosen by measurement on two CPU cores (float32; N x H x W, channels in to out):

* Up-sampling convolution, 1x64x64, 256 to 128: transposed convolution then FIR 12 + 3 ms; the four phases apart
  26 ms; the phases as one 2x2 convolution 16 + 3 ms; the FIR folded into a 6x6 kernel, polyphase, 41 ms. With
  8x16x16, 96 to 96: 2.5 + 1.2, 2.6, 3.0 and 7.1 ms. Hence the first. XLA is slow at its gradient by the weights (2267
  and 98 ms): the rule below, nine matrix products, takes 33 and 6 ms.
* Convolution, gradient by the weights, 32x64x64, 24 to 24 channels: XLA's own 77 ms, nine matrix products of the
  unshifted maps with cotangents shifted 29 ms, of shifted maps 55 ms, patches and one product 89 ms. With 32x16x16,
  96 to 96: 16, 10, 12 and 25 ms. Hence, on a CPU, the second.
* FIR: separable, as sums of shifted arrays 2 ms, as a depthwise convolution 86 ms (1x129x129, 128 channels). Its
  transpose by XLA takes 15 ms, by the rule below 3 ms.
* Doubling pixels and convolving, as such or as one transposed convolution with a 4x4 kernel: 1x64x64, 256 to 128: 78
  or 46 ms; 1x16x16, 512 to 512: 34 or 24 ms; 1x4x4, 512 to 512: 5 or 12 ms; 1x256x256, 64 to 32: 70 or 128 ms.
* Modulated convolution: see modulation.py.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from panda_jax.generators.bounds import Taps

# The precision of all products, so that TF32 never replaces float32 on a GPU. No effect on a CPU.
PRECISION = lax.Precision.HIGHEST
LAYOUT = ('NHWC', 'HWIO', 'NHWC')

# From this size and number of channels up, a 4x4 transposed convolution is faster than doubling and convolving.
SMEAR_SIZE, SMEAR_CHANNELS = 16, 64


def as_one(*static: str) -> Callable:
  """Decorates a function of arrays: called alone it is compiled as one program; inside another jit it is inlined.

  Without this, each of its operations would be compiled for each shape.

  Args:
    static: names of the arguments that are not arrays.
  """
  return functools.partial(jax.jit, static_argnames=static, inline=True)


@as_one()
def leaky(x: jax.Array) -> jax.Array:
  """Leaky ReLU of slope 0.2, as a product: its derivative costs one select where jax.nn's costs two and a sum."""
  return x * jnp.where(x >= 0, 1.0, 0.2).astype(x.dtype)


# name: (function, the gain that keeps the variance of its output)
ACTIVATIONS = {
  'linear': (lambda x: x, 1.0),
  'relu': (jax.nn.relu, math.sqrt(2)),
  'lrelu': (leaky, math.sqrt(2)),
  'tanh': (jnp.tanh, 1.0),
  'sigmoid': (jax.nn.sigmoid, 1.0),
  'elu': (jax.nn.elu, 1.0),
  'selu': (jax.nn.selu, 1.0),
  'softplus': (jax.nn.softplus, 1.0),
  'swish': (jax.nn.swish, math.sqrt(2)),
}


def matmul(x: jax.Array, y: jax.Array) -> jax.Array:
  return jnp.matmul(x, y, precision=PRECISION)


@jax.custom_jvp
def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Correlation of (N, H, W, I) with an odd kernel (k, k, I, O); zero padding keeps the size."""
  pad = kernel.shape[0] // 2
  return lax.conv_general_dilated(
    x, kernel, (1, 1), ((pad, pad), (pad, pad)), dimension_numbers=LAYOUT, precision=PRECISION
  )


@conv.defjvp
def _conv_jvp(primals, tangents):
  (x, kernel), (dx, dkernel) = primals, tangents
  return conv(x, kernel), conv(dx, kernel) + lax.platform_dependent(x, dkernel, cpu=_shifted, default=conv.fun)


def _shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """The same as one matrix product per kernel element; its transpose by the kernel consists of such products too."""
  k = kernel.shape[0]
  zero, pad = jnp.zeros((), x.dtype), k // 2
  result = 0
  for i in range(k):
    for j in range(k):
      edges = [(0, 0, 0)] + [(pad - a, a - pad, 0) for a in (i, j)] + [(0, 0, 0)]
      result = result + lax.pad(_by_position(x, kernel[i, j]), zero, edges)
  return result


def _by_position(x: jax.Array, matrix: jax.Array) -> jax.Array:
  # Flattened first: a product of XLA over several contracted axes copies each transposed operand.
  return matmul(x.reshape(-1, x.shape[-1]), matrix).reshape(*x.shape[:-1], matrix.shape[1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def conv_transpose(x: jax.Array, kernel: jax.Array, crop: int = 0) -> jax.Array:
  """Zeros between the pixels of (N, H, W, I), then full true convolution with (k, k, I, O), minus a cropped border.

  Returns:
    (N, 2 H + k - 2 - 2 crop, 2 W + k - 2 - 2 crop, O).
  """
  pad = kernel.shape[0] - 1 - crop
  return lax.conv_general_dilated(
    x,
    kernel[::-1, ::-1],
    (1, 1),
    ((pad, pad), (pad, pad)),
    lhs_dilation=(2, 2),
    dimension_numbers=LAYOUT,
    precision=PRECISION,
  )


@conv_transpose.defjvp
def _conv_transpose_jvp(crop, primals, tangents):
  (x, kernel), (dx, dkernel) = primals, tangents
  return conv_transpose(x, kernel, crop), conv_transpose(dx, kernel, crop) + _scattered(x, dkernel, crop)


def _scattered(x: jax.Array, kernel: jax.Array, crop: int) -> jax.Array:
  """The same as one matrix product per kernel element; its transpose by the kernel consists of such products too."""
  k = kernel.shape[0]
  zero = jnp.zeros((), x.dtype)
  result = 0
  for i in range(k):
    for j in range(k):
      edges = [(0, 0, 0)] + [(a - crop, k - 1 - a - crop, 1) for a in (i, j)] + [(0, 0, 0)]
      result = result + lax.pad(_by_position(x, kernel[i, j]), zero, edges)
  return result


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _correlate(x: jax.Array, taps: tuple[float, ...], axis: int, edges: tuple[int, int]) -> jax.Array:
  """Correlation along one axis, after padding it with zeros (or cropping, if negative) at both ends."""
  pads = [(0, 0, 0)] * x.ndim
  pads[axis] = (*edges, 0)
  x = lax.pad(x, jnp.zeros((), x.dtype), pads)
  size = x.shape[axis] - len(taps) + 1
  return sum(tap * lax.slice_in_dim(x, k, k + size, axis=axis) for k, tap in enumerate(taps))


@_correlate.defjvp
def _correlate_jvp(taps, axis, edges, primals, tangents):
  (x,), (dx,) = primals, tangents
  # The same linear map, written so that its transpose is shifts of a padded array, as above, and not sums of pads.
  last = len(taps) - 1
  zero = jnp.zeros((), dx.dtype)
  spread = 0
  for k, tap in enumerate(taps):
    pads = [(0, 0, 0)] * dx.ndim
    pads[axis] = (last - k, k, 0)
    spread = spread + tap * lax.pad(dx, zero, pads)
  crop = [(0, 0, 0)] * dx.ndim
  crop[axis] = (edges[0] - last, edges[1] - last, 0)
  return _correlate(x, taps, axis, edges), lax.pad(spread, zero, crop)


@as_one('taps', 'edges', 'gain')
def fir(x: jax.Array, taps: Taps, edges: tuple[int, int], gain: float = 1.0) -> jax.Array:
  """True convolution of the maps (N, H, W, C) with a filter, after padding both axes by `edges`.

  Args:
    x: (N, H, W, C).
    taps: of a separable filter, applied along both axes; or the rows of a filter that is not separable.
    edges: zeros before and after each axis; negative ones crop.
    gain: factor of the whole filter.
  """
  if isinstance(taps[0], tuple):
    return _fir_rows(x, taps, edges, gain)
  scaled = tuple(math.sqrt(gain) * tap for tap in reversed(taps))
  return _correlate(_correlate(x, scaled, 1, edges), scaled, 2, edges)


def _fir_rows(x, rows, edges, gain):
  turned = [tuple(gain * tap for tap in reversed(row)) for row in reversed(rows)]
  filtered = [_correlate(x, row, 2, edges) for row in turned]
  last = len(rows) - 1
  # Row k of the filter reads the map k rows further down.
  return sum(_correlate(y, tuple(float(k == at) for at in range(last + 1)), 1, edges) for k, y in enumerate(filtered))


@as_one('taps')
def upsample_fir(x: jax.Array, taps: Taps) -> jax.Array:
  """(N, H, W, C) to (N, 2 H, 2 W, C): zeros between the pixels, then the filter with gain 4."""
  count = len(taps)
  # A zero is inserted after every pixel, also after the last; hence one more at the end of an axis.
  edges = (count + 1) // 2, (count - 2) // 2
  x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, 1, 1), (0, 1, 1), (0, 0, 0)))
  return fir(x, taps, edges, gain=4.0)


@as_one('taps')
def conv_up(x: jax.Array, kernel: jax.Array, taps: Taps) -> jax.Array:
  """(N, H, W, I) to (N, 2 H, 2 W, O): transposed convolution with a 3x3 kernel, then the filter with gain 4."""
  count = len(taps)
  return fir(conv_transpose(x, kernel), taps, ((count + 1) // 2 - 1, (count - 2) // 2), gain=4.0)


@as_one()
def conv_nearest(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """(N, H, W, I) to (N, 2 H, 2 W, O): every pixel doubled, then true convolution with a 3x3 kernel."""
  N, H, W, I = x.shape  # noqa: E741
  if H >= SMEAR_SIZE and min(kernel.shape[2:]) >= SMEAR_CHANNELS:
    # Doubling is a convolution of the zero-interleaved map with a 2x2 kernel of ones. Both kernels combined are 4x4,
    # and a transposed convolution with it takes 16 products per pixel and pair of channels instead of 36.
    smeared = sum(jnp.pad(kernel, ((a, 1 - a), (b, 1 - b), (0, 0), (0, 0))) for a in (0, 1) for b in (0, 1))
    return conv_transpose(x, smeared, 1)
  x = jnp.broadcast_to(x[:, :, None, :, None], (N, H, 2, W, 2, I)).reshape(N, 2 * H, 2 * W, I)
  return conv(x, kernel[::-1, ::-1])


@as_one()
def second_moment_norm(x: jax.Array) -> jax.Array:
  """Scaled so that the mean square over the last axis is 1."""
  return x * lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-8)


def per_channel(values: jax.Array) -> jax.Array:
  """(C,) as (1, 1, 1, C)."""
  return values.reshape(1, 1, 1, -1)


@as_one('gain', 'lr')
def _affine(x, weight, bias, gain, lr):
  bias = bias if lr == 1 else bias * lr
  return matmul(x, weight * gain) + bias.reshape(1, -1)


class Dense(nnx.Module):
  """Affine map with the learning rate of its weights equalised: x W gain lr / sqrt(inputs) + b lr.

  Args:
    inputs, outputs: sizes.
    lr: multiplier of the learning rate; the stored weights are larger than the effective ones by 1 / lr.
    bias: initial effective value.
    gain: factor of the weights.
  """

  def __init__(
    self, inputs: int, outputs: int, rngs: nnx.Rngs, *, lr: float = 1.0, bias: float = 0.0, gain: float = 1.0
  ):
    self.weight = nnx.Param(jax.random.normal(rngs.params(), (inputs, outputs)) / lr)
    self.bias = nnx.Param(jnp.full((outputs,), bias / lr))
    self.lr = lr
    self.gain = gain * lr / math.sqrt(max(inputs, 1))

  def __call__(self, x: jax.Array) -> jax.Array:
    """(N, inputs) to (N, outputs)."""
    return _affine(x, self.weight[...], self.bias[...], self.gain, self.lr)

  def effective_weight(self) -> jax.Array:
    """(inputs, outputs), the gain included."""
    return self.weight[...] * self.gain
