"""The discriminator of StyleGAN2 (Karras et al. 2020): residual blocks, then the deviation over a few images.

Letters: N images, H, W their grid, C channels.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from panda_jax.generators.layers import LAYOUT, PRECISION, Dense, conv, fir, leaky, matmul, per_channel

TAPS = (0.125, 0.375, 0.375, 0.125)
GROUP = 4  # images with a common deviation


@jax.custom_jvp
def conv_down(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Correlation of (N, 2 h + 1, 2 w + 1, I) with (3, 3, I, O) at every second position: (N, h, w, O)."""
  return lax.conv_general_dilated(x, kernel, (2, 2), ((0, 0), (0, 0)), dimension_numbers=LAYOUT, precision=PRECISION)


@conv_down.defjvp
def _conv_down_jvp(primals, tangents):
  (x, kernel), (dx, dkernel) = primals, tangents
  by_kernel = lax.platform_dependent(x, dkernel, cpu=_gathered, default=conv_down.fun)
  return conv_down(x, kernel), conv_down(dx, kernel) + by_kernel


def _gathered(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """As `conv_down`, by nine matrix products. On a CPU their derivative by the kernel takes half the time of XLA's."""
  N, H, W, C = x.shape
  h, w = (H - 1) // 2, (W - 1) // 2
  result = 0
  for i in range(3):
    for j in range(3):
      picked = lax.slice(x, (0, i, j, 0), (N, i + 2 * h - 1, j + 2 * w - 1, C), (1, 2, 2, 1))
      result = result + matmul(picked.reshape(-1, C), kernel[i, j])
  return result.reshape(N, h, w, -1)


def activated(x: jax.Array, gain: float = math.sqrt(2)) -> jax.Array:
  return leaky(x) * gain


class Conv(nnx.Module):
  """A k x k convolution with equalised learning rate; it may halve the grid."""

  def __init__(self, inputs: int, outputs: int, size: int, rngs: nnx.Rngs, *, down: bool = False, bias: bool = True):
    self.weight = nnx.Param(jax.random.normal(rngs.params(), (size, size, inputs, outputs)))
    if bias:
      self.bias = nnx.Param(jnp.zeros((outputs,)))
    self.down, self.biased = down, bias
    self.gain = 1 / (size * math.sqrt(inputs))

  def __call__(self, x: jax.Array) -> jax.Array:
    """(N, H, W, inputs) to (N, H, W, outputs), or to half of the grid."""
    kernel = self.weight[...] * self.gain
    if self.down and kernel.shape[0] == 3:
      x = conv_down(fir(x, TAPS, (2, 2)), kernel)
    elif self.down:
      x = conv(fir(x, TAPS, (1, 1))[:, ::2, ::2], kernel)
    else:
      x = conv(x, kernel)
    return x + per_channel(self.bias[...]) if self.biased else x


class Block(nnx.Module):
  """Two convolutions, the second halves the grid, plus a linear path; the sum has the variance of each path."""

  def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
    self.first = Conv(inputs, inputs, 3, rngs)
    self.second = Conv(inputs, outputs, 3, rngs, down=True)
    self.skip = Conv(inputs, outputs, 1, rngs, down=True, bias=False)

  def __call__(self, x: jax.Array) -> jax.Array:
    return activated(self.second(activated(self.first(x))), 1.0) + self.skip(x) * math.sqrt(0.5)


def with_spread(x: jax.Array) -> jax.Array:
  """Adds a channel: the standard deviation over `GROUP` consecutive images, averaged over grid and channels.

  (N, H, W, C) to (N, H, W, C + 1), for N below GROUP or a multiple of it. Karras et al. 2018, section 3.
  """
  N, H, W, C = x.shape
  group = min(GROUP, N)
  y = x.astype(jnp.float32).reshape(N // group, group, H, W, C)
  y = y - y.mean(axis=1, keepdims=True)
  spread = jnp.sqrt(jnp.mean(jnp.square(y), axis=1) + 1e-8).mean(axis=(1, 2, 3))
  spread = jnp.repeat(spread, group).astype(x.dtype).reshape(N, 1, 1, 1)
  return jnp.concatenate([x, jnp.broadcast_to(spread, (N, H, W, 1))], axis=-1)


class Discriminator(nnx.Module):
  """Images (N, H, W, channels) to logits (N,), high for real ones; it computes in the dtype of its arrays.

  Args:
    widths: channels at each size from the images' own down to 4x4.
    image_channels: 3 for RGB.
  """

  def __init__(self, widths: tuple[int, ...], image_channels: int, rngs: nnx.Rngs):
    self.entry = Conv(image_channels, widths[0], 1, rngs)
    self.blocks = nnx.List([Block(a, b, rngs) for a, b in itertools.pairwise(widths)])
    last = widths[-1]
    self.conv = Conv(last + 1, last, 3, rngs)
    self.dense = Dense(16 * last, last, rngs)
    self.exit = Dense(last, 1, rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    x = activated(self.entry(images.astype(self.entry.weight[...].dtype)))
    for block in self.blocks:
      x = block(x)
    x = activated(self.conv(with_spread(x)))
    x = activated(self.dense(x.reshape(x.shape[0], -1)))
    return self.exit(x)[:, 0].astype(jnp.float32)
