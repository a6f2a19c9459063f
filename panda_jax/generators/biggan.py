"""BigGAN-deep as published for 128, 256 and 512 pixels, with its spectral norms folded into the weights.

Source: Brock, Donahue and Simonyan 2019, Large Scale GAN Training for High Fidelity Natural Image Synthesis, appendix B
(the deep architecture), and the published weights' own ways where the paper leaves them open.
Letters: N samples, H, W grid, C channels, T rows of batch-norm statistics, one per truncation.
"""

import dataclasses
import math
import numbers
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from panda_jax.errors import InputError
from panda_jax.generators import bounds
from panda_jax.generators.base import Buffer, checked_features, checked_layer, checked_z, label_rows
from panda_jax.generators.bounds import LARGEST_RESOLUTION, Repeated, Size, SizeOrZero, Within
from panda_jax.generators.layers import conv, matmul, per_channel
from panda_jax.generators.protocol import State
from panda_jax.runtime.compatibility import List, register_dataclass


@dataclasses.dataclass(frozen=True)
class BigGANOptions:
  """What fixes a BigGAN-deep.

  Attributes:
    z_dim: numbers in z, and in the embedding of a class.
    num_classes: of the embedding.
    channel_width: channels of the last block; other widths are multiples of it.
    blocks: (up, in, out) of each block, widths in units of channel_width; `up` doubles the grid.
    attention_position: the self-attention comes before this block; none if there is no such block.
    n_stats: T, the truncations from 0 to 1 for which batch-norm statistics are stored.
    eps: of all batch norms.
    image_channels: kept of the last convolution.
  """

  z_dim: Size
  num_classes: Annotated[int, Within(1, 1 << 20)]
  channel_width: Size
  blocks: Annotated[tuple[tuple[bool, Size, Size], ...], Repeated(1, 128)]
  attention_position: SizeOrZero
  n_stats: Annotated[int, Within(2, 1024)]
  eps: Annotated[float, Within(0, 1)]
  image_channels: Size = 3

  @property
  def resolution(self) -> int:
    """Of the image."""
    return 4 * 2 ** sum(up for up, _, _ in self.blocks)

  def check(self) -> None:
    """Raises InputError where the options do not fit together."""
    bounds.check(self)
    width = self.blocks[0][1]
    for up, inputs, outputs in self.blocks:
      if inputs != width or outputs not in (inputs, inputs // 2):
        raise InputError(
          'blocks',
          (up, inputs, outputs),
          f'it does not continue the width {width} of the block before, and keep or halve it',
          'give (up, in, out) of each block in order',
        )
      width = outputs
    if self.resolution > LARGEST_RESOLUTION:
      raise InputError(
        'blocks', f'{len(self.blocks)} of them', 'they double the grid too often', f'make {LARGEST_RESOLUTION} at most'
      )


def deep_options(resolution: int = 256, channel_width: int = 128, num_classes: int = 1000) -> BigGANOptions:
  """The published architectures for 128, 256 and 512 pixels."""
  widths = {128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1), 512: (16, 16, 8, 8, 4, 2, 1, 1)}
  if resolution not in widths:
    raise InputError('resolution', resolution, 'no BigGAN-deep of that size was published', 'give 128, 256 or 512')
  blocks = []
  for before, after in zip(widths[resolution][:-1], widths[resolution][1:], strict=True):
    blocks += [(False, before, before), (True, before, after)]
  return BigGANOptions(128, num_classes, channel_width, tuple(blocks), 8, 51, 1e-4)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassLatents:
  """Latents of BigGAN.

  Attributes:
    z: (N, z_dim), after truncation.
    embedding: (N, z_dim), of the class.
    statistics: (N, T), how the rows of batch-norm statistics are mixed for the truncation of each sample.
  """

  z: jax.Array
  embedding: jax.Array
  statistics: jax.Array

  @property
  def condition(self) -> jax.Array:
    """(N, 2 z_dim), what every block sees."""
    return jnp.concatenate([self.z, self.embedding], axis=1)

  def replace(self, **changes) -> 'ClassLatents':
    """A copy with some fields changed."""
    return dataclasses.replace(self, **changes)


def statistics_mixture(truncation: float, n_stats: int) -> np.ndarray:
  """(n_stats,): how much of each row of batch-norm statistics is used at a truncation.

  Between two rows the published code weights them the other way round than a linear interpolation would: with f the
  fraction of truncation over step, row i by f and row i + 1 by 1 - f. The division is in double precision there and
  here, and its rounding matters: 0.14 / 0.02 leaves a fraction of 1e-15, so that row 8 is used in place of row 7.
  """
  fraction, row = math.modf(truncation / (1.0 / (n_stats - 1)))
  mixture, row = np.zeros(n_stats), int(row)
  if fraction == 0 or row + 1 == n_stats:
    mixture[min(row, n_stats - 1)] = 1
  else:
    mixture[row], mixture[row + 1] = fraction, 1 - fraction
  return mixture


def _normal(rngs: nnx.Rngs, *shape: int) -> jax.Array:
  fan_in = math.prod(shape[:-1])
  return jax.random.normal(rngs.params(), shape) / math.sqrt(fan_in)


class Convolution(nnx.Module):
  """A convolution k x k with zero padding; weight (k, k, in, out), bias (out,)."""

  def __init__(self, size: int, inputs: int, outputs: int, rngs: nnx.Rngs):
    self.weight = nnx.Param(_normal(rngs, size, size, inputs, outputs))
    self.bias = nnx.Param(jnp.zeros(outputs))

  def __call__(self, x: jax.Array) -> jax.Array:
    weight = self.weight[...]
    y = matmul(x, weight[0, 0]) if weight.shape[0] == 1 else conv(x, weight)
    return y + per_channel(self.bias[...])


class BatchNorm(nnx.Module):
  """Batch norm with stored statistics for each truncation, and scale and offset learnt (C,) or made from the condition.

  means, variances: (T, C); scale, offset: (condition, C), where the factor is 1 + condition @ scale, or (C,).
  """

  def __init__(self, channels: int, condition: int | None, n_stats: int, eps: float, rngs: nnx.Rngs):
    self.eps = eps
    self.means = Buffer(jnp.zeros((n_stats, channels)))
    self.variances = Buffer(jnp.ones((n_stats, channels)))
    if condition is None:
      self.scale, self.offset = nnx.Param(jnp.ones(channels)), nnx.Param(jnp.zeros(channels))
    else:
      self.scale = nnx.Param(0.5 * _normal(rngs, condition, channels))
      self.offset = nnx.Param(0.5 * _normal(rngs, condition, channels))

  def __call__(self, x: jax.Array, latents: ClassLatents) -> jax.Array:
    mean, variance = (matmul(latents.statistics, rows[...]) for rows in (self.means, self.variances))
    if self.scale[...].ndim == 1:
      scale, offset = self.scale[...].reshape(1, -1), self.offset[...].reshape(1, -1)
    else:
      scale, offset = 1 + matmul(latents.condition, self.scale[...]), matmul(latents.condition, self.offset[...])
    factor = scale * jax.lax.rsqrt(variance + self.eps)
    mean, factor, offset = (a[:, None, None, :] for a in (mean, factor, jnp.broadcast_to(offset, mean.shape)))
    return (x - mean) * factor + offset


def _doubled(x: jax.Array) -> jax.Array:
  """Nearest-neighbour up-sampling by two."""
  N, H, W, C = x.shape
  return jnp.broadcast_to(x[:, :, None, :, None, :], (N, H, 2, W, 2, C)).reshape(N, 2 * H, 2 * W, C)


class Block(nnx.Module):
  """A residual block of four convolutions, the middle ones a quarter as wide; the short cut drops half the channels."""

  def __init__(self, up: bool, inputs: int, outputs: int, options: BigGANOptions, rngs: nnx.Rngs):
    self.up, self.outputs = up, outputs
    middle, condition = inputs // 4, 2 * options.z_dim
    self.bn_0 = BatchNorm(inputs, condition, options.n_stats, options.eps, rngs)
    self.conv_0 = Convolution(1, inputs, middle, rngs)
    self.bn_1 = BatchNorm(middle, condition, options.n_stats, options.eps, rngs)
    self.conv_1 = Convolution(3, middle, middle, rngs)
    self.bn_2 = BatchNorm(middle, condition, options.n_stats, options.eps, rngs)
    self.conv_2 = Convolution(3, middle, middle, rngs)
    self.bn_3 = BatchNorm(middle, condition, options.n_stats, options.eps, rngs)
    self.conv_3 = Convolution(1, middle, outputs, rngs)

  def __call__(self, x: jax.Array, latents: ClassLatents) -> jax.Array:
    y = self.conv_0(jax.nn.relu(self.bn_0(x, latents)))
    y = jax.nn.relu(self.bn_1(y, latents))
    y = self.conv_1(_doubled(y) if self.up else y)
    y = self.conv_2(jax.nn.relu(self.bn_2(y, latents)))
    y = self.conv_3(jax.nn.relu(self.bn_3(y, latents)))
    short = x[..., : self.outputs]
    return y + (_doubled(short) if self.up else short)


class Attention(nnx.Module):
  """Self-attention in which keys and values are max-pooled over 2x2 positions; weights (C, ·), gamma ()."""

  def __init__(self, channels: int, rngs: nnx.Rngs):
    self.theta = nnx.Param(_normal(rngs, channels, channels // 8))
    self.phi = nnx.Param(_normal(rngs, channels, channels // 8))
    self.g = nnx.Param(_normal(rngs, channels, channels // 2))
    self.out = nnx.Param(_normal(rngs, channels // 2, channels))
    self.gamma = nnx.Param(jnp.ones(()))

  def __call__(self, x: jax.Array, latents: ClassLatents) -> jax.Array:
    N, H, W, C = x.shape
    flat = x.reshape(N, H * W, C)

    def pooled(weight):
      y = matmul(flat, weight).reshape(N, H // 2, 2, W // 2, 2, -1)
      return y.max((2, 4)).reshape(N, H * W // 4, -1)

    keys, values = pooled(self.phi[...]), pooled(self.g[...])
    attention = jax.nn.softmax(matmul(matmul(flat, self.theta[...]), keys.swapaxes(1, 2)), axis=-1)
    return x + self.gamma[...] * matmul(matmul(attention, values), self.out[...]).reshape(x.shape)


class BigGAN(nnx.Module):
  """The BigGAN-deep generator, following panda_jax.generators.protocol.

  A layer counts the residual blocks and the attention before the split point; there is none before the first block, as
  the first feature maps depend on z alone, nor after the last. Truncation scales z and chooses the batch-norm
  statistics, and must be in (0, 1].

  Args:
    options: what fixes the architecture.
    rngs: where random weights come from.

  Raises:
    InputError: options that do not fit together.
  """

  family = 'biggan'
  prior = 'truncated_normal'  # of z, on [-2, 2]
  w_dim = 0

  def __init__(self, options: BigGANOptions, rngs: nnx.Rngs):
    options.check()
    self.options = options
    self.z_dim, self.num_classes = options.z_dim, options.num_classes
    self.image_channels = options.image_channels
    self.resolution, self.image_size = options.resolution, (options.resolution, options.resolution)
    ch, first = options.channel_width, options.channel_width * options.blocks[0][1]
    self.embedding = nnx.Param(_normal(rngs, options.num_classes, options.z_dim))
    self.gen_z = nnx.Param(_normal(rngs, 2 * options.z_dim, 16 * first))
    self.gen_z_bias = nnx.Param(jnp.zeros(16 * first))
    entries = []
    for i, (up, inputs, outputs) in enumerate(options.blocks):
      if i == options.attention_position:
        entries.append(Attention(ch * inputs, rngs))
      entries.append(Block(up, ch * inputs, ch * outputs, options, rngs))
    self.entries = List(entries)
    last = ch * options.blocks[-1][2]
    self.bn = BatchNorm(last, None, options.n_stats, options.eps, rngs)
    self.conv_to_rgb = Convolution(3, last, options.image_channels, rngs)

  @property
  def layers(self) -> dict[int, tuple[int, int, int]]:
    """{layer: (channels, height, width)}."""
    options, size, sizes = self.options, 4, []
    for i, (up, inputs, outputs) in enumerate(options.blocks):
      if i == options.attention_position:
        sizes.append((options.channel_width * inputs, size, size))
      size *= 2 if up else 1
      sizes.append((options.channel_width * outputs, size, size))
    return dict(enumerate(sizes[:-1], 1))

  def map(
    self,
    z: ArrayLike,
    labels: ArrayLike | None = None,
    truncation: float = 1.0,
    truncation_layers: int | None = None,
  ) -> ClassLatents:
    """z (N, z_dim), not yet truncated, and class indices (N,) or rows (N, num_classes) to latents.

    Raises:
      InputError: z, labels or truncation that do not fit; `truncation_layers`, which has no meaning here.
    """
    if truncation_layers is not None:
      raise InputError(
        'truncation_layers', truncation_layers, 'BigGAN has no w+ whose rows could be truncated', 'leave it out'
      )
    number = isinstance(truncation, numbers.Real) and not isinstance(truncation, bool)
    if not number or not 0 < truncation <= 1:
      raise InputError('truncation', truncation, 'BigGAN has statistics from 0 to 1 only', 'give one in (0, 1]')
    dtype = self.embedding.dtype
    z = checked_z(z, self.z_dim, dtype)
    rows = label_rows(labels, self.num_classes, z.shape[0], dtype)
    mixture = jnp.asarray(statistics_mixture(float(truncation), self.options.n_stats), dtype)
    statistics = jnp.broadcast_to(mixture[None], (z.shape[0], mixture.shape[0]))
    return ClassLatents(z * truncation, matmul(rows, self.embedding[...]), statistics)

  def _checked(self, latents: ClassLatents) -> ClassLatents:
    if not isinstance(latents, ClassLatents):
      raise InputError('latents', type(latents).__name__, 'they are not latents of BigGAN', 'give what `map` returns')
    widths = {'z': self.z_dim, 'embedding': self.z_dim, 'statistics': self.options.n_stats}
    shapes = {name: np.shape(getattr(latents, name)) for name in widths}
    N = shapes['z'][:1]
    for name, width in widths.items():
      if shapes[name] != (*N, width):
        text = 'x'.join(map(str, shapes[name]))
        raise InputError(f'latents.{name}', f'shape {text}', 'another generator made it', f'give shape (N, {width})')
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(self.embedding.dtype), latents)

  def _start(self, latents: ClassLatents) -> jax.Array:
    x = matmul(latents.condition, self.gen_z[...]) + self.gen_z_bias[...].reshape(1, -1)
    return x.reshape(x.shape[0], 4, 4, -1)

  def _finish(self, latents: ClassLatents, x: jax.Array, layer: int) -> jax.Array:
    for entry in self.entries[layer:]:
      x = entry(x, latents)
    return jnp.tanh(self.conv_to_rgb(jax.nn.relu(self.bn(x, latents))))

  def run_to(self, latents: ClassLatents, layer: int, noise: str | jax.Array = 'const') -> State:
    """The feature maps before entry `layer` of blocks and attention; InputError where it cannot be split."""
    layer, latents = checked_layer(layer, self.layers), self._checked(latents)
    x = self._start(latents)
    for entry in self.entries[:layer]:
      x = entry(x, latents)
    return State(x)

  def run_from(
    self,
    latents: ClassLatents,
    state: State,
    layer: int,
    noise: str | jax.Array = 'const',
    drop_rgb: bool = False,
  ) -> jax.Array:
    """From feature maps at a layer to images (N, H, W, image_channels); InputError where they do not fit."""
    layer, latents = checked_layer(layer, self.layers), self._checked(latents)
    x = checked_features(state.features, latents.z.shape[0], self.layers[layer], layer, self.embedding.dtype)
    return self._finish(latents, x, layer)

  def __call__(self, latents: ClassLatents, noise: str | jax.Array = 'const') -> jax.Array:
    """Images (N, H, W, image_channels) in [-1, 1]."""
    latents = self._checked(latents)
    return self._finish(latents, self._start(latents), 0)

  def sample(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """z (n, z_dim), standard normal truncated to [-2, 2], and classes (n,), uniform."""
    z_key, label_key = jax.random.split(key)
    z = jax.random.truncated_normal(z_key, -2.0, 2.0, (n, self.z_dim), jnp.float32)
    return z, jax.random.randint(label_key, (n,), 0, self.num_classes, jnp.int32)
