"""R3GAN (Huang et al. 2024): a learnt basis scaled by z, then residual blocks with grouped convolutions.

It has no normalisation, modulation, truncation or noise. It computes in float32, while the authors' code runs the
larger stages in bfloat16.

Layer l is the state after the first l modules: the basis is 1, and each up-sampling and each block is one more.

Source: Huang, Gokaslan, Kuleshov and Tompkin 2024, The GAN is dead; long live the GAN! A modern baseline GAN.
"""

import dataclasses
import math
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from panda_jax.errors import InputError
from panda_jax.generators import bounds
from panda_jax.generators.base import (
  DrivenByZ,
  checked_features,
  checked_layer,
  checked_noise,
  checked_z,
)
from panda_jax.generators.bounds import LARGEST_RESOLUTION, Classes, Repeated, Size, SizeOrZero, Sizes, Taps, Within
from panda_jax.generators.compatibility import List
from panda_jax.generators.layers import LAYOUT, PRECISION, as_one, conv, leaky, matmul, per_channel, upsample_fir
from panda_jax.generators.protocol import State

MOST_BLOCKS = 128  # of all stages together; published networks have up to 14


@dataclasses.dataclass(frozen=True)
class R3GANOptions:
  """Everything that fixes an R3GAN. Each stage except the first doubles the grid, which begins at 4x4.

  Attributes:
    widths: channels of each stage.
    blocks: residual blocks of each stage.
    inner: channels within the blocks of each stage; twice the widths in published networks.
    groups: of the middle convolution of these blocks.
    z_dim: numbers in z.
    num_classes: 0 if there are no classes.
    embed_dim: numbers in the embedding of a class, which follow those of z; 0 if there are no classes.
    kernel: of the middle convolution, odd.
    taps: of the filter that smooths the up-sampled maps.
    image_channels: 3 for RGB.
  """

  widths: Sizes
  blocks: Annotated[tuple[SizeOrZero, ...], Repeated(0, 128)]
  inner: Sizes
  groups: Sizes
  z_dim: Size
  num_classes: Classes = 0
  embed_dim: SizeOrZero = 0
  kernel: Annotated[int, Within(1, 15)] = 3
  taps: Taps = (0.125, 0.375, 0.375, 0.125)
  image_channels: Size = 3

  @property
  def resolution(self) -> int:
    """Of the image."""
    return 4 * 2 ** (len(self.widths) - 1)

  def check(self) -> None:
    """Raises InputError if the options do not fit together."""
    bounds.check(self)
    stages = len(self.widths)
    if not 1 <= stages <= LARGEST_RESOLUTION.bit_length() - 2:
      remedy = f'give those of 4x4 to {LARGEST_RESOLUTION} at most'
      raise InputError('widths', self.widths, f'{stages} stages make no image that we know', remedy)
    for name in ('blocks', 'inner', 'groups'):
      if len(getattr(self, name)) != stages:
        raise InputError(name, getattr(self, name), f'there are {stages} stages', 'give as many numbers')
    if sum(self.blocks) > MOST_BLOCKS:
      raise InputError('blocks', self.blocks, f'there are more than {MOST_BLOCKS} of them', 'give fewer')
    for inner, groups in zip(self.inner, self.groups, strict=True):
      if inner % groups:
        raise InputError(
          'groups', groups, f'{inner} channels cannot be divided into them', f'give a divisor of {inner}'
        )
    if self.kernel % 2 == 0:
      raise InputError('kernel', self.kernel, 'an even kernel has no middle', 'give an odd number')
    if bool(self.num_classes) != bool(self.embed_dim):
      raise InputError('embed_dim', self.embed_dim, f'there are {self.num_classes} classes', 'give both, or neither')


def _normal(rngs: nnx.Rngs, *shape: int) -> jax.Array:
  return jax.random.normal(rngs.params(), shape) / math.sqrt(math.prod(shape[:-1]))


class Basis(nnx.Module):
  """The start: channel c is a learnt 4x4 pattern times a number that is linear in the latents.

  weight: (z_dim + embed_dim, C); patterns: (4, 4, C).
  """

  def __init__(self, inputs: int, channels: int, rngs: nnx.Rngs):
    self.weight = nnx.Param(_normal(rngs, inputs, channels))
    self.patterns = nnx.Param(jax.random.normal(rngs.params(), (4, 4, channels)))

  def __call__(self, latents: jax.Array) -> jax.Array:
    return self.patterns[...][None] * matmul(latents, self.weight[...])[:, None, None, :]


class Up(nnx.Module):
  """Doubles the grid with a smoothing filter; a matrix (in, out) comes before if the widths differ."""

  def __init__(self, inputs: int, outputs: int, taps: Taps, rngs: nnx.Rngs):
    self.taps = taps
    self.weight = nnx.Param(_normal(rngs, inputs, outputs)) if inputs != outputs else None

  def __call__(self, x: jax.Array) -> jax.Array:
    return upsample_fir(x if self.weight is None else matmul(x, self.weight[...]), self.taps)


class Block(nnx.Module):
  """x + W3 lrelu(W2 * lrelu(W1 x + b1) + b2), the middle one a grouped convolution.

  first: (C, M); middle: (k, k, M / groups, M); last: (M, C); first_bias, middle_bias: (M,).
  """

  def __init__(self, channels: int, inner: int, groups: int, kernel: int, rngs: nnx.Rngs):
    self.groups = groups
    self.first = nnx.Param(_normal(rngs, channels, inner))
    self.first_bias = nnx.Param(jnp.zeros(inner))
    self.middle = nnx.Param(_normal(rngs, kernel, kernel, inner // groups, inner))
    self.middle_bias = nnx.Param(jnp.zeros(inner))
    self.last = nnx.Param(_normal(rngs, inner, channels))

  def __call__(self, x: jax.Array) -> jax.Array:
    arrays = self.first, self.first_bias, self.middle, self.middle_bias, self.last
    return _residual(x, *(array[...] for array in arrays), self.groups)


@as_one('groups')
def _residual(x, first, first_bias, middle, middle_bias, last, groups):
  y = leaky(matmul(x, first) + per_channel(first_bias))
  y = leaky(grouped(y, middle, groups) + per_channel(middle_bias))
  return x + matmul(y, last)


def grouped(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
  """Correlation of (N, H, W, M) with an odd kernel (k, k, M / groups, M), each group of channels separately.

  On a CPU one group after the other. Measured on two cores, 1x64x64, 768 channels in 48 groups: XLA's own grouped
  convolution 102 ms, and 16 s for its gradient by the kernel; the groups in a loop 16 and 102 ms; a product for each
  element of the kernel 232 ms, patches and one product 279 ms.
  """
  if groups == 1:
    return conv(x, kernel)
  if jax.default_backend() == 'cpu':
    parts = lax.map(lambda part: conv(*part), (_split(x, groups), _split(kernel, groups)))
    return jnp.moveaxis(parts, 0, -2).reshape(x.shape)
  pad = kernel.shape[0] // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    ((pad, pad), (pad, pad)),
    dimension_numbers=LAYOUT,
    feature_group_count=groups,
    precision=PRECISION,
  )


def _split(x: jax.Array, groups: int) -> jax.Array:
  """(..., M) as (groups, ..., M / groups)."""
  return jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)


class R3GAN(DrivenByZ, nnx.Module):
  """An R3GAN generator under the protocol of protocol.py.

  Its latents are z, followed by the embedding of the class if there are classes: (N, z_dim + embed_dim).

  It computes in the dtype of its arrays: cast them to bfloat16 (or, with x64 on, to float64) to compute in that.

  Args:
    options: sizes and variants.
    rngs: of the random weights.

  Raises:
    InputError: the options do not fit together.
  """

  family = 'r3gan'

  def __init__(self, options: R3GANOptions, rngs: nnx.Rngs):
    self._begin(options)
    self.embedding = nnx.Param(_normal(rngs, options.num_classes, options.embed_dim)) if options.num_classes else None
    self.basis = Basis(options.z_dim + options.embed_dim, options.widths[0], rngs)
    entries = []
    for i, width in enumerate(options.widths):
      if i:
        entries.append(Up(options.widths[i - 1], width, options.taps, rngs))
      sizes = width, options.inner[i], options.groups[i], options.kernel
      entries += [Block(*sizes, rngs) for _ in range(options.blocks[i])]
    self.entries = List(entries)
    self.rgb = nnx.Param(_normal(rngs, options.widths[-1], options.image_channels))

  @property
  def layers(self) -> dict[int, tuple[int, int, int]]:
    """{layer: (channels, height, width)}."""
    sizes = []
    for i, (width, blocks) in enumerate(zip(self.options.widths, self.options.blocks, strict=True)):
      sizes += [(width, 4 * 2**i, 4 * 2**i)] * (1 + blocks)
    return dict(enumerate(sizes, 1))

  @property
  def dtype(self):
    return self.rgb[...].dtype

  def _latents(self, z: jax.Array, labels: jax.Array | None) -> jax.Array:
    # A row of labels mixes the embeddings of the classes.
    return z if labels is None else jnp.concatenate([z, matmul(labels, self.embedding[...])], axis=1)

  def affine_weights(self) -> dict[str, jax.Array]:
    """{'basis': (z_dim + embed_dim, C)}: the matrix from latents to the scales of the first features."""
    return {'basis': self.basis.weight[...]}

  def run_to(self, latents: jax.Array, layer: int, noise: str | jax.Array = 'const') -> State:
    """The state after the first `layer` modules; see protocol.py."""
    layer = checked_layer(layer, self.layers)
    checked_noise(noise)
    return State(self._run(self._start(latents), 1, layer))

  def run_from(
    self,
    latents: jax.Array,
    state: State,
    layer: int,
    noise: str | jax.Array = 'const',
    drop_rgb: bool = False,
  ) -> jax.Array:
    """The image (N, H, W, channels) from a state, which is all it depends on; see protocol.py."""
    layer = checked_layer(layer, self.layers)
    checked_noise(noise)
    features = checked_features(state.features, latents.shape[0], self.layers[layer], layer, self.dtype)
    return self._image(self._run(features, layer, 1 + len(self.entries)))

  def __call__(self, latents: jax.Array, noise: str | jax.Array = 'const') -> jax.Array:
    """The image (N, H, W, channels)."""
    checked_noise(noise)
    return self._image(self._run(self._start(latents), 1, 1 + len(self.entries)))

  def _start(self, latents: jax.Array) -> jax.Array:
    return self.basis(checked_z(latents, self.z_dim + self.options.embed_dim, self.dtype))

  def _run(self, x: jax.Array, done: int, wanted: int) -> jax.Array:
    """The modules after the first `done` ones, until `wanted` have run."""
    for entry in self.entries[done - 1 : wanted - 1]:
      x = entry(x)
    return x

  def _image(self, x: jax.Array) -> jax.Array:
    return matmul(x, self.rgb[...])
