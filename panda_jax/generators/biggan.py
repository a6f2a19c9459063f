"""BigGAN and BigGAN-deep, with their spectral norms folded into the weights.

Source: Brock, Donahue and Simonyan 2019, Large Scale GAN Training for High Fidelity Natural Image Synthesis, appendix B
(both architectures). Where the paper leaves details open, the published weights decide: the deep ones of TFHub, with
batch-norm statistics for each truncation; those of BigGAN-PyTorch and PyTorch-StudioGAN, with one set of statistics.
Letters: N samples, H, W grid, C channels, T rows of batch-norm statistics, one per truncation.
"""

import dataclasses
import itertools
import math
import numbers
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from panda_jax.errors import InputError
from panda_jax.generators import bounds
from panda_jax.generators.base import (
  checked_features,
  checked_layer,
  checked_truncation,
  checked_z,
  label_rows,
  sample_normal,
)
from panda_jax.generators.biggan_blocks import Attention, BatchNorm, Convolution, DeepBlock, PlainBlock, normal
from panda_jax.generators.bounds import LARGEST_RESOLUTION, LATER, Classes, Repeated, Size, SizeOrZero, Within
from panda_jax.generators.compatibility import List
from panda_jax.generators.layers import matmul
from panda_jax.generators.protocol import State

BLOCKS = 'deep', 'deep_convolved', 'plain'
CONDITIONING = 'joint', 'split', 'class'


class Part(NamedTuple):
  """A residual block, or a self-attention, which has `block` None and keeps its channels."""

  block: int | None
  up: bool
  inputs: int
  outputs: int


@dataclasses.dataclass(frozen=True)
class BigGANOptions:
  """Everything that fixes a BigGAN.

  Attributes:
    z_dim: numbers in z.
    num_classes: 0 for an unconditional one.
    channel_width: the unit of widths.
    blocks: (up, in, out) of each block, widths in units of channel_width; `up` doubles the grid.
    attention_position: a self-attention comes before this block, none if the number is beyond the blocks; or a tuple,
      with one before each of these blocks, where the number of blocks stands for the end.
    n_stats: T, the truncations from 0 to 1 for which batch-norm statistics are stored; with 1 they do not depend on it.
    eps: epsilon of the batch norms in blocks.
    image_channels: the number of channels of the last convolution that are kept.
    block: 'deep': four convolutions, the short cut keeps the first channels; 'deep_convolved': the same, but the short
      cut is a convolution; 'plain': two convolutions, and a convolution as the short cut.
    conditioning: 'joint': the first linear map and each block see z and the class; 'split': each sees a piece of z of
      its own, and blocks see the class too; 'class': the first linear map sees z, and blocks see the class.
    embedding_dim: numbers in the embedding of a class; None for z_dim; 0 for the row of the label itself.
    last_eps: epsilon of the last batch norm; None for `eps`.
  """

  z_dim: Size
  num_classes: Classes
  channel_width: Size
  blocks: Annotated[tuple[tuple[bool, Size, Size], ...], Repeated(1, 128)]
  attention_position: SizeOrZero | Annotated[tuple[SizeOrZero, ...], Within(0, 129)]
  n_stats: Annotated[int, Within(1, 1024)]
  eps: Annotated[float, Within(0, 1)]
  image_channels: Size = 3
  block: str = dataclasses.field(default='deep', metadata=LATER)
  conditioning: str = dataclasses.field(default='joint', metadata=LATER)
  embedding_dim: SizeOrZero | None = dataclasses.field(default=None, metadata=LATER)
  last_eps: Annotated[float, Within(0, 1)] | None = dataclasses.field(default=None, metadata=LATER)

  @property
  def resolution(self) -> int:
    """Of the image."""
    return 4 * 2 ** sum(up for up, _, _ in self.blocks)

  @property
  def label_width(self) -> int:
    """Numbers of the class input: those of its embedding, or of the label itself."""
    width = self.z_dim if self.embedding_dim is None else self.embedding_dim
    return width or self.num_classes

  @property
  def pieces(self) -> list[slice]:
    """The numbers of z that the first linear map sees, then those that each block sees."""
    d, count = self.z_dim, len(self.blocks)
    if self.conditioning == 'split':
      width = d // (count + 1)
      return [slice(i * width, (i + 1) * width) for i in range(count + 1)]
    return [slice(0, d)] + [slice(0, d if self.conditioning == 'joint' else 0)] * count

  def parts(self) -> Iterator[Part]:
    """The blocks and the attention, in order."""
    position, ch = self.attention_position, self.channel_width
    attended = position if isinstance(position, tuple) else (position,)
    for i, (up, inputs, outputs) in enumerate(self.blocks):
      if i in attended:
        yield Part(None, False, ch * inputs, ch * inputs)
      yield Part(i, up, ch * inputs, ch * outputs)
    if isinstance(position, tuple) and len(self.blocks) in position:
      last = ch * self.blocks[-1][2]
      yield Part(None, False, last, last)

  def check(self) -> None:
    """Raises InputError if the options do not fit together."""
    bounds.check(self)
    for name, value, known in (
      ('block', self.block, BLOCKS),
      ('conditioning', self.conditioning, CONDITIONING),
    ):
      if value not in known:
        raise InputError(name, value, 'there is none of this name', f'give one of {", ".join(known)}')
    width = self.blocks[0][1]
    for up, inputs, outputs in self.blocks:
      if inputs != width or (self.block == 'deep' and outputs not in (inputs, inputs // 2)):
        kept = ', and keep or halve it' if self.block == 'deep' else ''
        raise InputError(
          'blocks',
          (up, inputs, outputs),
          f'it does not continue the width {width} of the block before{kept}',
          'give (up, in, out) of each block in order',
        )
      width = outputs
    if self.resolution > LARGEST_RESOLUTION:
      raise InputError(
        'blocks', f'{len(self.blocks)} of them', 'they double the grid too often', f'make {LARGEST_RESOLUTION} at most'
      )
    places = self.attention_position
    if isinstance(places, tuple) and (sorted(set(places)) != list(places) or max(places, default=0) > len(self.blocks)):
      raise InputError('attention_position', places, 'they are not places among the blocks', 'give them in order')
    if self.conditioning == 'split' and self.z_dim % (len(self.blocks) + 1):
      pieces = len(self.blocks) + 1
      raise InputError(
        'z_dim', self.z_dim, f'it cannot be split into {pieces} equal pieces', f'give {pieces} times one'
      )
    if not self.num_classes and (self.embedding_dim != 0 or self.conditioning == 'class'):
      raise InputError('num_classes', 0, 'blocks see an embedding of the class', 'give the number of classes')


def deep_options(resolution: int = 256, channel_width: int = 128, num_classes: int = 1000) -> BigGANOptions:
  """The published architectures for 128, 256 and 512 pixels."""
  widths = {128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1), 512: (16, 16, 8, 8, 4, 2, 1, 1)}
  if resolution not in widths:
    raise InputError('resolution', resolution, 'no BigGAN-deep of that size was published', 'give 128, 256 or 512')
  blocks = []
  for before, after in zip(widths[resolution][:-1], widths[resolution][1:], strict=True):
    blocks += [(False, before, before), (True, before, after)]
  return BigGANOptions(128, num_classes, channel_width, tuple(blocks), 8, 51, 1e-4)


def plain_options(resolution: int = 128, channel_width: int = 96, num_classes: int = 1000) -> BigGANOptions:
  """The published architectures that are not deep, for 128 and 256 pixels: 20 numbers of z for each piece."""
  widths = {128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}
  if resolution not in widths:
    raise InputError('resolution', resolution, 'no BigGAN of that size was published', 'give 128 or 256')
  blocks = tuple((True, *pair) for pair in itertools.pairwise(widths[resolution]))
  return BigGANOptions(
    z_dim=20 * (len(blocks) + 1),
    num_classes=num_classes,
    channel_width=channel_width,
    blocks=blocks,
    attention_position=(4,),  # at 64 pixels
    n_stats=1,
    eps=1e-5,
    block='plain',
    conditioning='split',
    embedding_dim=128,
  )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassLatents:
  """Latents of BigGAN.

  Attributes:
    z: (N, z_dim), after truncation.
    embedding: (N, label_width), of the class.
    statistics: (N, T), weights of the rows of batch-norm statistics, from the truncation of each sample.
  """

  z: jax.Array
  embedding: jax.Array
  statistics: jax.Array

  @property
  def condition(self) -> jax.Array:
    """(N, z_dim + label_width), everything that a block can see."""
    return jnp.concatenate([self.z, self.embedding], axis=1)

  def replace(self, **changes) -> 'ClassLatents':
    """A copy with some fields changed."""
    return dataclasses.replace(self, **changes)


def statistics_mixture(truncation: float, n_stats: int) -> np.ndarray:
  """(n_stats,): the weight of each row of batch-norm statistics at a truncation.

  Between two rows the published code swaps the weights of a linear interpolation: with f the fraction of truncation
  over step, row i has f and row i + 1 has 1 - f. The division is in double precision there and here, and its rounding
  matters: 0.14 / 0.02 leaves a fraction of 1e-15, so that row 8 is used in place of row 7.
  """
  fraction, row = math.modf(truncation / (1.0 / (n_stats - 1)))
  mixture, row = np.zeros(n_stats), int(row)
  if fraction == 0 or row + 1 == n_stats:
    mixture[min(row, n_stats - 1)] = 1
  else:
    mixture[row], mixture[row + 1] = fraction, 1 - fraction
  return mixture


class BigGAN(nnx.Module):
  """The BigGAN generator, deep or not, following panda_jax.generators.protocol.

  A layer counts the residual blocks and the attention before the split point. With statistics for each truncation, the
  layers are PandA's: not before the first block, since the first feature maps depend on z alone, and not after the
  last; truncation scales z and chooses the statistics, and must be in (0, 1]. With one set of statistics both of these
  layers exist, truncation scales z alone, and z is drawn from the whole normal distribution.

  Args:
    options: those of the architecture.
    rngs: where random weights come from.

  Raises:
    InputError: options that do not fit together.
  """

  family = 'biggan'
  w_dim = 0

  def __init__(self, options: BigGANOptions, rngs: nnx.Rngs):
    options.check()
    self.options = options
    self.z_dim, self.num_classes = options.z_dim, options.num_classes
    self.image_channels = options.image_channels
    self.resolution, self.image_size = options.resolution, (options.resolution, options.resolution)
    first, last = (options.channel_width * width for width in (options.blocks[0][1], options.blocks[-1][2]))
    inputs, *widths = (piece.stop - piece.start for piece in options.pieces)
    inputs += options.label_width if options.conditioning == 'joint' else 0
    if options.embedding_dim != 0:
      self.embedding = nnx.Param(normal(rngs, options.num_classes, options.label_width))
    self.gen_z = nnx.Param(normal(rngs, inputs, 16 * first))
    self.gen_z_bias = nnx.Param(jnp.zeros(16 * first))
    entries = []
    for part in options.parts():
      if part.block is None:
        entries.append(Attention(part.inputs, rngs))
        continue
      sizes = *part[1:], widths[part.block] + options.label_width, options.n_stats, options.eps, rngs
      plain = options.block == 'plain'
      entries.append(PlainBlock(*sizes) if plain else DeepBlock(*sizes, options.block == 'deep_convolved'))
    self.entries = List(entries)
    eps = options.eps if options.last_eps is None else options.last_eps
    self.bn = BatchNorm(last, None, options.n_stats, eps, rngs)
    self.conv_to_rgb = Convolution(3, last, options.image_channels, rngs)

  @property
  def prior(self) -> str:
    """The distribution of z: 'truncated_normal', on [-2, 2], or 'normal'."""
    return 'truncated_normal' if self.options.n_stats > 1 else 'normal'

  @property
  def layers(self) -> dict[int, tuple[int, int, int]]:
    """{layer: (channels, height, width)}."""
    size = 4
    sizes = [(self.options.channel_width * self.options.blocks[0][1], size, size)]
    for part in self.options.parts():
      size *= 2 if part.up else 1
      sizes.append((part.outputs, size, size))
    numbered = dict(enumerate(sizes))
    if self.options.n_stats == 1:
      return numbered
    return {layer: numbered[layer] for layer in range(1, len(sizes) - 1)}

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
    if self.options.n_stats == 1:
      truncation, _ = checked_truncation(truncation, None, 0)
    elif not number or not 0 < truncation <= 1:
      raise InputError('truncation', truncation, 'BigGAN has statistics from 0 to 1 only', 'give one in (0, 1]')
    dtype = self.gen_z.dtype
    z = checked_z(z, self.z_dim, dtype)
    rows = label_rows(labels, self.num_classes, z.shape[0], dtype)
    if rows is None:
      embedding = jnp.zeros((z.shape[0], 0), dtype)
    else:
      embedding = rows if self.options.embedding_dim == 0 else matmul(rows, self.embedding[...])
    return ClassLatents(z * truncation, embedding, self._statistics(float(truncation), z.shape[0]))

  def _statistics(self, truncation: float, samples: int) -> jax.Array:
    T = self.options.n_stats
    mixture = jnp.asarray(statistics_mixture(truncation, T) if T > 1 else np.ones(1), self.gen_z.dtype)
    return jnp.broadcast_to(mixture[None], (samples, T))

  def _checked(self, latents: ClassLatents) -> ClassLatents:
    if not isinstance(latents, ClassLatents):
      raise InputError('latents', type(latents).__name__, 'they are not latents of BigGAN', 'give what `map` returns')
    widths = {'z': self.z_dim, 'embedding': self.options.label_width, 'statistics': self.options.n_stats}
    shapes = {name: np.shape(getattr(latents, name)) for name in widths}
    N = shapes['z'][:1]
    for name, width in widths.items():
      if shapes[name] != (*N, width):
        text = 'x'.join(map(str, shapes[name]))
        raise InputError(f'latents.{name}', f'shape {text}', 'another generator made it', f'give shape (N, {width})')
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(self.gen_z.dtype), latents)

  def first_maps(self, latents: ClassLatents) -> jax.Array:
    """(N, 4, 4, C), the output of the first linear map."""
    sees_class = self.options.conditioning == 'joint'
    x = matmul(
      latents.condition if sees_class else latents.z[:, self.options.pieces[0]],
      self.gen_z[...],
    )
    return (x + self.gen_z_bias[...].reshape(1, -1)).reshape(x.shape[0], 4, 4, -1)

  def _run(self, latents: ClassLatents, x: jax.Array, first: int, last: int | None) -> jax.Array:
    """Runs the entries from `first` up to, not including, `last`."""
    pieces = self.options.pieces[1:]
    for entry, part in list(zip(self.entries, self.options.parts(), strict=True))[first:last]:
      if part.block is None:
        x = entry(x)
      else:
        condition = jnp.concatenate([latents.z[:, pieces[part.block]], latents.embedding], axis=1)
        x = entry(x, latents.statistics, condition)
    return x

  def _finish(self, latents: ClassLatents, x: jax.Array, layer: int) -> jax.Array:
    x = self._run(latents, x, layer, None)
    return jnp.tanh(self.conv_to_rgb(jax.nn.relu(self.bn(x, latents.statistics))))

  def run_to(self, latents: ClassLatents, layer: int, noise: str | jax.Array = 'const') -> State:
    """The feature maps before entry `layer` of blocks and attention; InputError if it cannot be split."""
    layer, latents = checked_layer(layer, self.layers), self._checked(latents)
    return State(self._run(latents, self.first_maps(latents), 0, layer))

  def run_from(
    self,
    latents: ClassLatents,
    state: State,
    layer: int,
    noise: str | jax.Array = 'const',
    drop_rgb: bool = False,
  ) -> jax.Array:
    """From feature maps at a layer to images (N, H, W, image_channels); InputError if they do not fit."""
    layer, latents = checked_layer(layer, self.layers), self._checked(latents)
    x = checked_features(state.features, latents.z.shape[0], self.layers[layer], layer, self.gen_z.dtype)
    return self._finish(latents, x, layer)

  def __call__(self, latents: ClassLatents, noise: str | jax.Array = 'const') -> jax.Array:
    """Images (N, H, W, image_channels) in [-1, 1]."""
    latents = self._checked(latents)
    return self._finish(latents, self.first_maps(latents), 0)

  def sample(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array | None]:
    """z (n, z_dim) of the prior, and classes (n,), uniform; None without classes."""
    if self.prior == 'normal':
      return sample_normal(key, n, self.z_dim, self.num_classes)
    z_key, label_key = jax.random.split(key)
    z = jax.random.truncated_normal(z_key, -2.0, 2.0, (n, self.z_dim), jnp.float32)
    return z, jax.random.randint(label_key, (n,), 0, self.num_classes, jnp.int32)
