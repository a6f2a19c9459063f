"""ProGAN (Karras et al. 2018), grown to its full size.

Layer l is the state after the block at resolution 2^(l - 1), l from 3; the published numbering of blocks begins at 2.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx

from panda_jax.generators import bounds
from panda_jax.generators.base import (
  DrivenByZ,
  check_widths,
  checked_features,
  checked_layer,
  checked_noise,
  checked_z,
)
from panda_jax.generators.bounds import Classes, Resolution, Size, Sizes
from panda_jax.generators.compatibility import List
from panda_jax.generators.layers import as_one, conv, conv_nearest, matmul, per_channel, second_moment_norm
from panda_jax.generators.protocol import State


@dataclasses.dataclass(frozen=True)
class ProGANOptions:
  """Everything that fixes a ProGAN.

  Attributes:
    resolution: of the image, a power of two from 8.
    widths: channels of the output of each of the 2 log2(resolution) - 2 layers.
    z_dim: numbers in z.
    image_channels: 3 for RGB.
    num_classes: numbers of the label that is appended to z; 0 if there are no classes.
    final_tanh: whether the image goes through tanh.
    joint_norm: z and the label are only normalised together (the original); if False, z alone first as well (genforce).
  """

  resolution: Resolution
  widths: Sizes
  z_dim: Size
  image_channels: Size = 3
  num_classes: Classes = 0
  final_tanh: bool = False
  joint_norm: bool = dataclasses.field(default=False, metadata=bounds.LATER)

  @property
  def count(self) -> int:
    """The number of layers without the one that makes the RGB."""
    return 2 * int(math.log2(self.resolution)) - 2

  def check(self) -> None:
    """Raises InputError if the options do not fit together."""
    bounds.check(self)
    check_widths(self.resolution, self.widths, self.count)


class Kernel(nnx.Module):
  """A weight (k, k, inputs, outputs) and a bias; the gain of its equalised learning rate."""

  def __init__(self, size: int, inputs: int, outputs: int, rngs: nnx.Rngs, gain: float):
    self.weight = nnx.Param(jax.random.normal(rngs.params(), (size, size, inputs, outputs)))
    self.bias = nnx.Param(jnp.zeros((outputs,)))
    self.gain = gain / math.sqrt(size * size * inputs)

  def effective(self) -> jax.Array:
    return self.weight[...] * self.gain


@as_one('gain', 'up')
def _convolved(x, weight, bias, gain, up):
  convolve = conv_nearest if up else conv
  return jax.nn.leaky_relu(convolve(second_moment_norm(x), weight * gain) + per_channel(bias), 0.2)


class ProGAN(DrivenByZ, nnx.Module):
  """A ProGAN generator under the protocol of protocol.py.

  Its latents are z, followed by the label if there are classes, normalised: (N, z_dim + num_classes).

  It computes in the dtype of its arrays: cast them to bfloat16 (or, with x64 on, to float64) to compute in that.

  Args:
    options: sizes and variants.
    rngs: of the random weights.

  Raises:
    InputError: the options do not fit together.
  """

  family = 'progan'

  def __init__(self, options: ProGANOptions, rngs: nnx.Rngs):
    self._begin(options)
    inputs, widths = options.z_dim + options.num_classes, options.widths
    # The first convolution sees one pixel, so each of its 16 positions has a matrix of its own.
    self.first = Kernel(4, inputs, widths[0], rngs, math.sqrt(2))
    self.convs = List([Kernel(3, widths[i - 1], widths[i], rngs, math.sqrt(2)) for i in range(1, options.count)])
    self.rgb = Kernel(1, widths[-1], options.image_channels, rngs, 1.0)

  @property
  def layers(self) -> dict[int, tuple[int, int, int]]:
    """{layer: (channels, height, width)}."""
    last = int(math.log2(self.resolution))
    return {layer: self._size(layer) for layer in range(3, last + 1)}

  def _size(self, layer: int) -> tuple[int, int, int]:
    return self.options.widths[2 * layer - 5], 2 ** (layer - 1), 2 ** (layer - 1)

  @property
  def dtype(self):
    return self.rgb.bias[...].dtype

  def _latents(self, z: jax.Array, labels: jax.Array | None) -> jax.Array:
    if labels is None:
      return second_moment_norm(z)
    if self.options.joint_norm:
      return second_moment_norm(jnp.concatenate([z, labels], axis=1))
    # With a label the length of z matters: genforce makes it that of z_dim independent numbers of variance z_dim.
    return jnp.concatenate([second_moment_norm(z) * math.sqrt(self.z_dim), labels], axis=1)

  def affine_weights(self) -> dict[str, jax.Array]:
    """{'layer0': (z_dim, 16 C)}: the matrix from latents to the first features, in the role of a style's matrix."""
    kernel = self.first.effective()
    return {'layer0': kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)}

  def run_to(self, latents: jax.Array, layer: int, noise: str | jax.Array = 'const') -> State:
    """The state after the block at resolution 2^(layer - 1); see protocol.py."""
    layer = checked_layer(layer, self.layers)
    checked_noise(noise)
    return State(self._run(self._start(latents), 1, 2 * layer - 4))

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
    features = checked_features(state.features, latents.shape[0], self._size(layer), layer, self.dtype)
    return self._image(self._run(features, 2 * layer - 4, self.options.count))

  def __call__(self, latents: jax.Array, noise: str | jax.Array = 'const') -> jax.Array:
    """The image (N, H, W, channels)."""
    checked_noise(noise)
    return self._image(self._run(self._start(latents), 1, self.options.count))

  def _start(self, latents: jax.Array) -> jax.Array:
    latents = checked_z(latents, self.z_dim + self.num_classes, self.dtype)
    x = matmul(second_moment_norm(latents), self.affine_weights()['layer0'])
    x = x.reshape(-1, 4, 4, self.options.widths[0])
    return jax.nn.leaky_relu(x + per_channel(self.first.bias[...]), 0.2)

  def _run(self, x: jax.Array, first: int, end: int) -> jax.Array:
    """Layers `first` to `end` - 1; even ones double the resolution."""
    for i in range(first, end):
      layer = self.convs[i - 1]
      x = _convolved(x, layer.weight[...], layer.bias[...], layer.gain, up=i % 2 == 0)
    return x

  def _image(self, x: jax.Array) -> jax.Array:
    image = matmul(second_moment_norm(x), self.rgb.effective()[0, 0]) + per_channel(self.rgb.bias[...])
    return jnp.tanh(image) if self.options.final_tanh else image
