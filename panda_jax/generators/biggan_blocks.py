"""The parts of BigGAN and BigGAN-deep, with their spectral norms folded into the weights.

Letters: N samples, H, W grid, C channels, T rows of batch-norm statistics, K numbers in the condition of a block.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from panda_jax.generators.base import Buffer
from panda_jax.generators.layers import as_one, conv, conv_nearest, matmul, per_channel


def normal(rngs: nnx.Rngs, *shape: int) -> jax.Array:
  """Random weights (..., out) that keep the variance."""
  return jax.random.normal(rngs.params(), shape) / math.sqrt(max(math.prod(shape[:-1]), 1))


@as_one()
def doubled(x: jax.Array) -> jax.Array:
  """Nearest-neighbour up-sampling by two."""
  N, H, W, C = x.shape
  return jnp.broadcast_to(x[:, :, None, :, None, :], (N, H, 2, W, 2, C)).reshape(N, 2 * H, 2 * W, C)


class Convolution(nnx.Module):
  """A convolution k x k with zero padding; weight (k, k, in, out), bias (out,)."""

  def __init__(self, size: int, inputs: int, outputs: int, rngs: nnx.Rngs):
    self.weight = nnx.Param(normal(rngs, size, size, inputs, outputs))
    self.bias = nnx.Param(jnp.zeros(outputs))

  def __call__(self, x: jax.Array) -> jax.Array:
    return _convolved(x, self.weight[...], self.bias[...])

  def of_doubled(self, x: jax.Array) -> jax.Array:
    """The same for 3 x 3, of x with every pixel doubled."""
    return conv_nearest(x, self.weight[...][::-1, ::-1]) + per_channel(self.bias[...])


@as_one()
def _convolved(x, weight, bias):
  y = matmul(x, weight[0, 0]) if weight.shape[0] == 1 else conv(x, weight)
  return y + per_channel(bias)


class BatchNorm(nnx.Module):
  """Batch norm with stored statistics for each truncation; scale and offset are learnt, or linear in the condition.

  means, variances: (T, C); scale, offset: (C,), or (K, C) with the factor 1 + condition @ scale. Arguments of a call:
  x (N, H, W, C), the weights of the rows of statistics (N, T), and the condition (N, K).
  """

  def __init__(self, channels: int, condition: int | None, n_stats: int, eps: float, rngs: nnx.Rngs):
    self.eps = eps
    self.means = Buffer(jnp.zeros((n_stats, channels)))
    self.variances = Buffer(jnp.ones((n_stats, channels)))
    if condition is None:
      self.scale, self.offset = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))
    else:
      self.scale = nnx.Param(0.5 * normal(rngs, condition, channels))
      self.offset = nnx.Param(0.5 * normal(rngs, condition, channels))

  def __call__(self, x: jax.Array, statistics: jax.Array, condition: jax.Array | None = None) -> jax.Array:
    arrays = self.means[...], self.variances[...], self.scale[...], self.offset[...]
    return _normalised(x, statistics, condition, *arrays, self.eps)


@as_one('eps')
def _normalised(x, statistics, condition, means, variances, scale, offset, eps):
  mean, variance = (matmul(statistics, rows) for rows in (means, variances))
  if condition is None:
    scale, offset = scale.reshape(1, -1), offset.reshape(1, -1)
  else:
    scale, offset = 1 + matmul(condition, scale), matmul(condition, offset)
  factor = scale / jnp.sqrt(variance + eps)
  mean, factor, offset = (a[:, None, None, :] for a in (mean, factor, jnp.broadcast_to(offset, mean.shape)))
  return (x - mean) * factor + offset


class DeepBlock(nnx.Module):
  """A residual block of four convolutions, the middle ones a quarter as wide.

  Its short cut keeps the first channels, or is a 1x1 convolution if `convolved`.
  """

  def __init__(
    self, up: bool, inputs: int, outputs: int, condition: int, n_stats: int, eps: float, rngs: nnx.Rngs, convolved: bool
  ):
    self.up, self.outputs, self.convolved = up, outputs, convolved
    middle = inputs // 4
    self.bn_0 = BatchNorm(inputs, condition, n_stats, eps, rngs)
    self.conv_0 = Convolution(1, inputs, middle, rngs)
    self.bn_1 = BatchNorm(middle, condition, n_stats, eps, rngs)
    self.conv_1 = Convolution(3, middle, middle, rngs)
    self.bn_2 = BatchNorm(middle, condition, n_stats, eps, rngs)
    self.conv_2 = Convolution(3, middle, middle, rngs)
    self.bn_3 = BatchNorm(middle, condition, n_stats, eps, rngs)
    self.conv_3 = Convolution(1, middle, outputs, rngs)
    if convolved:
      self.conv_short = Convolution(1, inputs, outputs, rngs)

  def __call__(self, x: jax.Array, statistics: jax.Array, condition: jax.Array) -> jax.Array:
    y = self.conv_0(jax.nn.relu(self.bn_0(x, statistics, condition)))
    y = jax.nn.relu(self.bn_1(y, statistics, condition))
    y = self.conv_1(doubled(y) if self.up else y)
    y = self.conv_2(jax.nn.relu(self.bn_2(y, statistics, condition)))
    y = self.conv_3(jax.nn.relu(self.bn_3(y, statistics, condition)))
    # A 1x1 convolution and the doubling of pixels commute; in this order it costs a quarter.
    short = self.conv_short(x) if self.convolved else x[..., : self.outputs]
    return y + (doubled(short) if self.up else short)


class PlainBlock(nnx.Module):
  """A residual block of two convolutions 3 x 3, with a 1x1 convolution as its short cut."""

  def __init__(self, up: bool, inputs: int, outputs: int, condition: int, n_stats: int, eps: float, rngs: nnx.Rngs):
    self.up = up
    self.bn_0 = BatchNorm(inputs, condition, n_stats, eps, rngs)
    self.conv_0 = Convolution(3, inputs, outputs, rngs)
    self.bn_1 = BatchNorm(outputs, condition, n_stats, eps, rngs)
    self.conv_1 = Convolution(3, outputs, outputs, rngs)
    self.conv_short = Convolution(1, inputs, outputs, rngs)

  def __call__(self, x: jax.Array, statistics: jax.Array, condition: jax.Array) -> jax.Array:
    y = jax.nn.relu(self.bn_0(x, statistics, condition))
    y = self.conv_0.of_doubled(y) if self.up else self.conv_0(y)
    y = self.conv_1(jax.nn.relu(self.bn_1(y, statistics, condition)))
    short = self.conv_short(x)
    return y + (doubled(short) if self.up else short)


class Attention(nnx.Module):
  """Self-attention in which keys and values are max-pooled over 2x2 positions; weights (C, ·), gamma ()."""

  def __init__(self, channels: int, rngs: nnx.Rngs):
    self.theta = nnx.Param(normal(rngs, channels, channels // 8))
    self.phi = nnx.Param(normal(rngs, channels, channels // 8))
    self.g = nnx.Param(normal(rngs, channels, channels // 2))
    self.out = nnx.Param(normal(rngs, channels // 2, channels))
    self.gamma = nnx.Param(jnp.ones(()))

  def __call__(self, x: jax.Array) -> jax.Array:
    return _attended(x, *(weight[...] for weight in (self.theta, self.phi, self.g, self.out, self.gamma)))


@as_one()
def _attended(x, theta, phi, g, out, gamma):
  N, H, W, C = x.shape
  flat = x.reshape(N, H * W, C)

  def pooled(weight):
    y = matmul(flat, weight).reshape(N, H // 2, 2, W // 2, 2, -1)
    return y.max((2, 4)).reshape(N, H * W // 4, -1)

  keys, values = pooled(phi), pooled(g)
  attention = jax.nn.softmax(matmul(matmul(flat, theta), keys.swapaxes(1, 2)), axis=-1)
  return x + gamma * matmul(matmul(attention, values), out).reshape(x.shape)
