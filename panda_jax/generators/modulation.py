"""The two layers of StyleGAN2: the modulated convolution with its noise, and the layer that makes the RGB.

A sample's style scales the input channels of its kernel, and demodulation scales the output channels so that the
outputs keep unit variance (Karras et al. 2020, section 2.2). Scaling the activations before and after one convolution
with shared weights is the same map. Times on two CPU cores, float32, of this, a grouped convolution with a kernel per
sample, and one convolution per sample: 8x16x16, 96 to 96 channels: 2.7, 24 and 4.1 ms; 1x16x16, 512 to 512: 12, 15 and
14 ms. The sum of squares over kernel positions is written as a sum of nine slices: with 512 to 512 channels it takes
0.3 ms, as a reduction of XLA 20 ms.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from panda_jax.generators.base import Buffer
from panda_jax.generators.bounds import Taps
from panda_jax.generators.layers import ACTIVATIONS, PRECISION, Dense, as_one, conv, conv_up, per_channel

NOISES = ('spatial', 'channel', 'none')


def per_sample(values: jax.Array) -> jax.Array:
  """(N, C) as (N, 1, 1, C)."""
  return values.reshape(values.shape[0], 1, 1, -1)


def clamped(x: jax.Array, bound: float | None) -> jax.Array:
  return x if bound is None else jnp.clip(x, -bound, bound)


def noise_map(stored: jax.Array, noise: str | jax.Array, layer: int, samples: int) -> jax.Array | None:
  """The noise of a layer: its stored map (1, h, w, c), maps (N, h, w, c) drawn with a key, or None.

  Args:
    stored: (h, w, c).
    noise: 'const', 'none' or a PRNG key.
    layer: index that is folded into the key.
    samples: N.
  """
  if isinstance(noise, str):
    return stored[None] if noise == 'const' else None
  return jax.random.normal(jax.random.fold_in(noise, layer), (samples, *stored.shape), stored.dtype)


class ModulatedConv(nnx.Module):
  """Style, 3x3 convolution (up-sampling or not), demodulation, noise, bias, activation, clamp.

  Args:
    inputs, outputs: channels.
    w_dim: of the row of w+ from which the style comes.
    size: (h, w) of the output.
    up: the filter of an up-sampling layer, else None.
    noise: 'spatial', one map for all channels; 'channel', one number per channel; or 'none'.
    activation: a key of layers.ACTIVATIONS.
    clamp: bound of the output, or None.
    demodulate: whether the styled kernel is normalised.
    scaled_epsilon: the epsilon of that normalisation is added to the kernel with its gain (genforce, rosinality), not
      to the stored one (NVlabs).
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    w_dim: int,
    size: tuple[int, int],
    rngs: nnx.Rngs,
    *,
    up: Taps | None,
    noise: str,
    activation: str,
    clamp: float | None,
    demodulate: bool,
    scaled_epsilon: bool,
  ):
    self.affine = Dense(w_dim, inputs, rngs, bias=1.0)
    self.weight = nnx.Param(jax.random.normal(rngs.params(), (3, 3, inputs, outputs)))
    self.bias = nnx.Param(jnp.zeros((outputs,)))
    if noise != 'none':
      shape = (*size, 1) if noise == 'spatial' else (1, 1, outputs)
      self.noise = Buffer(jax.random.normal(rngs.params(), shape))
      self.noise_strength = nnx.Param(jnp.zeros(()))
    self.up = up
    self.noisy = noise != 'none'
    self.activation = activation
    self.clamp = clamp
    self.demodulate = demodulate
    fan_in = 9 * inputs
    self.gain = 1 / math.sqrt(fan_in)
    self.epsilon = 1e-8 * (fan_in if scaled_epsilon else 1)

  def __call__(self, x: jax.Array, style: jax.Array, noise: str | jax.Array, layer: int, gain: float = 1.0):
    """Maps (N, H, W, inputs) and styles (N, inputs) to (N, h, w, outputs); `gain` scales output and clamp."""
    x = _modulated(x, style, self.weight[...], self.up, self.gain, self.epsilon if self.demodulate else None)
    drawn = noise_map(self.noise[...], noise, layer, x.shape[0]) if self.noisy else None
    if drawn is not None:
      x = x + drawn * self.noise_strength[...]
    return _activated(x, self.bias[...], self.activation, gain, self.clamp)


@as_one('up', 'gain', 'epsilon')
def _modulated(x, style, kernel, up, gain, epsilon):
  scale = None
  if epsilon is None:
    style = style * gain
  else:
    energy = sum(jnp.square(kernel[i, j]) for i in range(3) for j in range(3))
    scale = lax.rsqrt(jnp.matmul(jnp.square(style), energy, precision=PRECISION) + epsilon)
  x = x * per_sample(style)
  x = conv(x, kernel) if up is None else conv_up(x, kernel, up)
  return x if scale is None else x * per_sample(scale)


@as_one('activation', 'gain', 'clamp')
def _activated(x, bias, activation, gain, clamp):
  function, own_gain = ACTIVATIONS[activation]
  x = function(x + per_channel(bias))
  if own_gain * gain != 1:
    x = x * (own_gain * gain)
  return clamped(x, None if clamp is None else clamp * gain)


class ToRGB(nnx.Module):
  """Modulated 1x1 convolution to the image's channels, without demodulation; bias, clamp."""

  def __init__(self, inputs: int, outputs: int, w_dim: int, rngs: nnx.Rngs, *, clamp: float | None):
    self.affine = Dense(w_dim, inputs, rngs, bias=1.0)
    self.weight = nnx.Param(jax.random.normal(rngs.params(), (inputs, outputs)))
    self.bias = nnx.Param(jnp.zeros((outputs,)))
    self.clamp = clamp
    self.gain = 1 / math.sqrt(inputs)

  def __call__(self, x: jax.Array, style: jax.Array) -> jax.Array:
    """Maps (N, H, W, inputs) and styles (N, inputs) to (N, H, W, outputs)."""
    return _rgb(x, style, self.weight[...], self.bias[...], self.gain, self.clamp)


@as_one('gain', 'clamp')
def _rgb(x, style, weight, bias, gain, clamp):
  # Here a kernel per sample: it is tiny, and the activations need no copy.
  kernel = (style * gain)[:, :, None] * weight[None]
  x = jnp.einsum('nhwi,nio->nhwo', x, kernel, precision=PRECISION)
  return clamped(x + per_channel(bias), clamp)
