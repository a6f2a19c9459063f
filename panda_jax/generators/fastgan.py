"""FastGAN (Liu et al. 2021) as Projected GANs use it, with its spectral norms folded into the weights.

Layer l is the state after the l-th grid: 4x4 is 1, and each later one has twice the size. The maps from 64x64 to
512x512 are gated, each by the map that is 16 times smaller, so the state also holds the earlier maps that later gates
read. If a map is edited, its gate reads the edited map.

Sources: Liu, Zhu, Song and Elgammal 2021, Towards faster and stabilized GAN training; Sauer, Chitta, Müller and Geiger
2021, Projected GANs converge faster, appendix B.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from panda_jax.errors import InputError
from panda_jax.generators import bounds
from panda_jax.generators.base import (
  Buffer,
  DrivenByZ,
  check_widths,
  checked_features,
  checked_layer,
  checked_noise,
  checked_z,
)
from panda_jax.generators.bounds import Classes, Repeated, Resolution, Size, SizeOrZero, Sizes, Within
from panda_jax.generators.compatibility import List
from panda_jax.generators.layers import as_one, conv, conv_nearest, matmul, per_channel, second_moment_norm
from panda_jax.generators.protocol import State

GATED = range(4, 8)  # indices of the gated maps, counted from 0: those of 64, 128, 256 and 512 pixels
BACK = 4  # distance from a gated map back to the map that gates it


@dataclasses.dataclass(frozen=True)
class FastGANOptions:
  """Everything that fixes a FastGAN.

  Attributes:
    resolution: of the image, a power of two from 8.
    widths: channels of the map of each size, from 4x4 up.
    convolutions: of each map from 8x8 up: 2 with noise after each, or 1 without noise.
    z_dim: numbers in z.
    num_classes: 0 if there are no classes.
    embed_dim: numbers in the embedding of a class, which the batch norms see; 0 if there are no classes.
    eps: epsilon of all batch norms.
    image_channels: 3 for RGB.
  """

  resolution: Resolution
  widths: Sizes
  convolutions: Annotated[tuple[Annotated[int, Within(1, 2)], ...], Repeated(0, 128)]
  z_dim: Size
  num_classes: Classes = 0
  embed_dim: SizeOrZero = 0
  eps: Annotated[float, Within(0, 1)] = 1e-5
  image_channels: Size = 3

  def check(self) -> None:
    """Raises InputError if the options do not fit together."""
    bounds.check(self)
    check_widths(self.resolution, self.widths, self.resolution.bit_length() - 2)
    if len(self.convolutions) != len(self.widths) - 1:
      problem = f'a resolution of {self.resolution} needs {len(self.widths) - 1} numbers'
      raise InputError('convolutions', self.convolutions, problem, 'give that many')
    if bool(self.num_classes) != bool(self.embed_dim):
      raise InputError('embed_dim', self.embed_dim, f'there are {self.num_classes} classes', 'give both, or neither')


def _normal(rngs: nnx.Rngs, *shape: int) -> jax.Array:
  return jax.random.normal(rngs.params(), shape) / math.sqrt(math.prod(shape[:-1]))


@as_one()
def glu(x: jax.Array) -> jax.Array:
  """(..., 2 C) to (..., C): the first half of the channels, gated by the sigmoid of the second."""
  value, gate = jnp.split(x, 2, axis=-1)
  return value * jax.nn.sigmoid(gate)


def noise_map(noise: str | jax.Array, i: int, samples: int, size: tuple[int, int], dtype) -> jax.Array | None:
  """The i-th map of noise (N, H, W, 1), drawn from a key; None if there is no noise."""
  if isinstance(noise, str):
    return None
  return jax.random.normal(jax.random.fold_in(noise, i), (samples, *size, 1), dtype)


class BatchNorm(nnx.Module):
  """Batch norm with stored statistics; scale and offset learnt, or linear in the embedding of a class.

  mean, variance, scale, offset: (C,). With an embedding, class_scale and class_offset are (E, C), the factor is
  1 + embedding @ class_scale + scale, and the offset is embedding @ class_offset + offset.
  """

  def __init__(self, channels: int, embed_dim: int, eps: float, rngs: nnx.Rngs):
    self.eps = eps
    self.mean, self.variance = Buffer(jnp.zeros(channels)), Buffer(jnp.ones(channels))
    self.scale = nnx.Param(jnp.zeros(channels) if embed_dim else jnp.ones(channels))
    self.offset = nnx.Param(jnp.zeros(channels))
    self.class_scale = nnx.Param(_normal(rngs, embed_dim, channels)) if embed_dim else None
    self.class_offset = nnx.Param(_normal(rngs, embed_dim, channels)) if embed_dim else None

  def __call__(self, x: jax.Array, embedding: jax.Array | None) -> jax.Array:
    scale, offset = self.scale[...].reshape(1, -1), self.offset[...].reshape(1, -1)
    if self.class_scale is not None:
      scale = 1 + matmul(embedding, self.class_scale[...]) + scale
      offset = matmul(embedding, self.class_offset[...]) + offset
    return _normalised(x, self.mean[...], self.variance[...], scale, offset, self.eps)


@as_one('eps')
def _normalised(x, mean, variance, scale, offset, eps):
  factor = scale * jax.lax.rsqrt(variance + eps).reshape(1, -1)
  return (x - per_channel(mean)) * factor[:, None, None] + offset[:, None, None]


class Start(nnx.Module):
  """z to the 4x4 map; weight (4, 4, z_dim, 2 C)."""

  def __init__(self, z_dim: int, channels: int, eps: float, rngs: nnx.Rngs):
    self.weight = nnx.Param(jax.random.normal(rngs.params(), (4, 4, z_dim, 2 * channels)) / math.sqrt(z_dim))
    self.norm = BatchNorm(2 * channels, 0, eps, rngs)

  def matrix(self) -> jax.Array:
    """(z_dim, 16 times 2 C)."""
    weight = self.weight[...]
    return weight.transpose(2, 0, 1, 3).reshape(weight.shape[2], -1)

  def __call__(self, z: jax.Array) -> jax.Array:
    x = matmul(z, self.matrix()).reshape(len(z), 4, 4, -1)
    return glu(self.norm(x, None))


class Up(nnx.Module):
  """A map to one of twice the size: doubled pixels, then one or two convolutions (3, 3, in, 2 out) with their norms.

  strengths: () of the noise after each convolution; empty if there is one convolution.
  """

  def __init__(self, inputs: int, outputs: int, convolutions: int, options: FastGANOptions, rngs: nnx.Rngs):
    widths = [inputs, outputs][:convolutions]
    self.kernels = List([nnx.Param(_normal(rngs, 3, 3, width, 2 * outputs)) for width in widths])
    self.norms = List([BatchNorm(2 * outputs, options.embed_dim, options.eps, rngs) for _ in widths])
    self.strengths = List([nnx.Param(jnp.zeros(())) for _ in widths if convolutions > 1])

  def __call__(self, x: jax.Array, embedding: jax.Array | None, noise: str | jax.Array, first: int) -> jax.Array:
    """Args: x, (N, H, W, in); embedding, (N, E) or None; noise, as in the protocol; first, index of its first noise."""
    for i, (kernel, norm) in enumerate(zip(self.kernels, self.norms, strict=True)):
      x = conv(x, kernel[...]) if i else conv_nearest(x, kernel[...])  # the latter is a true convolution
      if len(self.strengths):
        drawn = noise_map(noise, first + i, len(x), x.shape[1:3], x.dtype)
        x = x if drawn is None else x + self.strengths[i][...] * drawn
      x = glu(norm(x, embedding))
    return x


class Gate(nnx.Module):
  """Factors (N, 1, 1, C) in (0, 1) from a smaller map; first: (4, 4, in, C); second: (C, C)."""

  def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
    self.first = nnx.Param(_normal(rngs, 4, 4, inputs, outputs))
    self.second = nnx.Param(_normal(rngs, outputs, outputs))

  def __call__(self, x: jax.Array) -> jax.Array:
    return _gate(x, self.first[...], self.second[...])


@as_one()
def _gate(x, first, second):
  N, H, W, C = x.shape
  pooled = x.reshape(N, 4, H // 4, 4, W // 4, C).mean(axis=(2, 4)).reshape(N, -1)
  y = jax.nn.swish(matmul(pooled, first.reshape(pooled.shape[1], -1)))
  return jax.nn.sigmoid(matmul(y, second))[:, None, None]


class FastGAN(DrivenByZ, nnx.Module):
  """A FastGAN generator under the protocol of protocol.py.

  Its latents are z, followed by the embedding of the class if there are classes: (N, z_dim + embed_dim). z is
  normalised before the first map.

  The original draws new noise for every image and stores none, so 'const' is the same as 'none'.

  It computes in the dtype of its arrays: cast them to bfloat16 (or, with x64 on, to float64) to compute in that.

  Args:
    options: sizes and variants.
    rngs: of the random weights.

  Raises:
    InputError: the options do not fit together.
  """

  family = 'fastgan'

  def __init__(self, options: FastGANOptions, rngs: nnx.Rngs):
    self._begin(options)
    C = options.widths
    self.embedding = nnx.Param(_normal(rngs, options.num_classes, options.embed_dim)) if options.num_classes else None
    self.start = Start(options.z_dim, C[0], options.eps, rngs)
    self.ups = List([Up(C[i], C[i + 1], count, options, rngs) for i, count in enumerate(options.convolutions)])
    self.gates = List([Gate(C[i - BACK], C[i], rngs) for i in GATED if i < len(C)])
    self.rgb = nnx.Param(_normal(rngs, 3, 3, C[-1], options.image_channels))
    self.rgb_bias = nnx.Param(jnp.zeros(options.image_channels))

  @property
  def layers(self) -> dict[int, tuple[int, int, int]]:
    """{layer: (channels, height, width)}."""
    return {i + 1: (width, 4 * 2**i, 4 * 2**i) for i, width in enumerate(self.options.widths)}

  @property
  def dtype(self):
    return self.rgb[...].dtype

  def _latents(self, z: jax.Array, labels: jax.Array | None) -> jax.Array:
    # In a row of labels only the largest entry counts.
    return z if labels is None else jnp.concatenate([z, self.embedding[...][jnp.argmax(labels, axis=1)]], axis=1)

  def affine_weights(self) -> dict[str, jax.Array]:
    """{'start': (z_dim, 16 times 2 C)}: the matrix from z to the first map, before its norm and gates."""
    return {'start': self.start.matrix()}

  def run_to(self, latents: jax.Array, layer: int, noise: str | jax.Array = 'const') -> State:
    """The state after the map of 4 2^(layer - 1) pixels; see protocol.py."""
    layer = checked_layer(layer, self.layers)
    maps = self._run(latents, self._start(latents), layer, checked_noise(noise))
    return State(maps[layer - 1], skips=tuple(maps[i] for i in self._kept(layer)))

  def run_from(
    self,
    latents: jax.Array,
    state: State,
    layer: int,
    noise: str | jax.Array = 'const',
    drop_rgb: bool = False,
  ) -> jax.Array:
    """The image (N, H, W, channels) from a state, and from the class if there are classes; see protocol.py."""
    layer, latents = checked_layer(layer, self.layers), self._checked(latents)
    noise = checked_noise(noise)
    maps = {layer - 1: checked_features(state.features, len(latents), self.layers[layer], layer, self.dtype)}
    maps |= self._checked_skips(state.skips, len(latents), layer)
    return self._image(self._run(latents, maps, len(self.options.widths), noise))

  def __call__(self, latents: jax.Array, noise: str | jax.Array = 'const') -> jax.Array:
    """The image (N, H, W, channels)."""
    noise = checked_noise(noise)
    return self._image(self._run(latents, self._start(latents), len(self.options.widths), noise))

  def _checked(self, latents: jax.Array) -> jax.Array:
    return checked_z(latents, self.z_dim + self.options.embed_dim, self.dtype)

  def _kept(self, layer: int) -> list[int]:
    """The earlier maps, counted from 0, that gates after this layer still read."""
    read = (i - BACK for i in GATED if layer <= i < len(self.options.widths))
    return [i for i in read if i < layer - 1]

  def _checked_skips(self, skips: Sequence[jax.Array], samples: int, layer: int) -> dict[int, jax.Array]:
    kept = self._kept(layer)
    sizes = [(samples, *self.layers[i + 1][1:], self.layers[i + 1][0]) for i in kept]
    if [np.shape(skip) for skip in skips] != sizes:
      given, wanted = (', '.join('x'.join(map(str, shape)) for shape in a) for a in (map(np.shape, skips), sizes))
      problem = f'gates behind layer {layer} read earlier maps, of shape {wanted or "none"}'
      raise InputError('skips', given or 'none', problem, 'give those of the state that `run_to` returned')
    return {i: jnp.asarray(skip).astype(self.dtype) for i, skip in zip(kept, skips, strict=True)}

  def _start(self, latents: jax.Array) -> dict[int, jax.Array]:
    return {0: self.start(second_moment_norm(self._checked(latents)[:, : self.z_dim]))}

  def _run(self, latents: jax.Array, maps: dict[int, jax.Array], wanted: int, noise) -> dict[int, jax.Array]:
    """Adds maps, by number counted from 0, until there are `wanted` of them."""
    embedding = self._checked(latents)[:, self.z_dim :] if self.num_classes else None
    for i in range(max(maps) + 1, wanted):
      drawn = sum(len(up.strengths) for up in self.ups[: i - 1])
      x = self.ups[i - 1](maps[i - 1], embedding, noise, drawn)
      maps = maps | {i: x * self.gates[i - GATED[0]](maps[i - BACK]) if i in GATED else x}
    return maps

  def _image(self, maps: dict[int, jax.Array]) -> jax.Array:
    return conv(maps[max(maps)], self.rgb[...]) + per_channel(self.rgb_bias[...])
