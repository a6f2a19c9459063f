"""StyleGAN (Karras et al. 2019), grown to its full size.

Layer l is the state after the block at resolution 2^(l - 1), l from 3, as in progan.py. Synthesis layer i reads row i
of w+; layers 2b and 2b + 1 work at 2^b times the size of the constant, which is 4x4 if images are square.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from panda_jax.errors import InputError
from panda_jax.generators.base import (
  Buffer,
  WPlus,
  checked_features,
  checked_layer,
  checked_noise,
  checked_wplus,
)
from panda_jax.generators.bounds import Taps
from panda_jax.generators.compatibility import List
from panda_jax.generators.layers import Dense, as_one, conv, conv_nearest, fir, matmul, per_channel
from panda_jax.generators.mapping import Grown, GrownOptions, Mapping, MappingOptions
from panda_jax.generators.modulation import noise_map, per_sample
from panda_jax.generators.protocol import State


@dataclasses.dataclass(frozen=True)
class StyleGANOptions(GrownOptions):
  """Everything that fixes a StyleGAN; `widths` are the channels of the output of each layer.

  Attributes:
    blur_filter: after each up-sampling; the taps of a separable filter, or the rows of one that is not separable.
    noise: 'spatial', a map with a strength per channel; or 'channel', a number per channel with a map of strengths.
    final_tanh: whether the image goes through tanh.
  """

  blur_filter: Taps = (0.25, 0.5, 0.25)
  noise: str = 'spatial'
  final_tanh: bool = False

  def mapping(self) -> MappingOptions:
    return dataclasses.replace(super().mapping(), gain_first=True)

  def check(self) -> None:
    """Raises InputError if the options do not fit together."""
    super().check()
    if self.noise not in ('spatial', 'channel'):
      raise InputError('noise', self.noise, 'there is none of this name', 'give spatial or channel')


class StyledLayer(nnx.Module):
  """Convolution (with or without doubling, or none), noise, bias, leaky ReLU, instance norm, style.

  Args:
    inputs: channels, None for the layer that follows the constant and has no convolution.
    outputs: channels.
    w_dim: of the row of w+ from which the style comes.
    size: (h, w) of the output.
    blur: the filter of a layer that doubles the resolution, else None.
    noise: see StyleGANOptions.
  """

  def __init__(
    self,
    inputs: int | None,
    outputs: int,
    w_dim: int,
    size: tuple[int, int],
    rngs: nnx.Rngs,
    *,
    blur: Taps | None,
    noise: str,
  ):
    if inputs is not None:
      self.weight = nnx.Param(jax.random.normal(rngs.params(), (3, 3, inputs, outputs)))
      self.gain = math.sqrt(2) / math.sqrt(9 * inputs)
    self.convolves = inputs is not None
    shapes = [(*size, 1), (1, 1, outputs)]
    stored, strength = shapes if noise == 'spatial' else reversed(shapes)
    self.noise = Buffer(jax.random.normal(rngs.params(), stored))
    self.noise_strength = nnx.Param(jnp.zeros(strength))
    self.bias = nnx.Param(jnp.zeros((outputs,)))
    self.style = Dense(w_dim, 2 * outputs, rngs)
    self.blur = blur

  def __call__(self, x: jax.Array, w: jax.Array, noise: str | jax.Array, layer: int) -> jax.Array:
    """Maps (N, H, W, inputs) and w (N, w_dim) to (N, h, w, outputs)."""
    if self.convolves:
      x = _convolved(x, self.weight[...], self.gain, self.blur)
    drawn = noise_map(self.noise[...], noise, layer, x.shape[0])
    if drawn is not None:
      x = x + drawn * self.noise_strength[...][None]
    return _styled(x, self.bias[...], self.style(w))


@as_one('gain', 'blur')
def _convolved(x, weight, gain, blur):
  kernel = weight * gain
  if blur is None:
    return conv(x, kernel)
  taps = len(blur)
  return fir(conv_nearest(x, kernel), blur, (taps // 2, (taps - 1) // 2))


@as_one()
def _styled(x, bias, style):
  x = jax.nn.leaky_relu(x + per_channel(bias), 0.2)
  x = x - jnp.mean(x, axis=(1, 2), keepdims=True)
  x = x * lax.rsqrt(jnp.mean(jnp.square(x), axis=(1, 2), keepdims=True) + 1e-8)
  scale, shift = jnp.split(style, 2, axis=1)
  return x * per_sample(scale + 1) + per_sample(shift)


class StyleGAN(Grown, nnx.Module):
  """A StyleGAN generator under the protocol of protocol.py.

  It computes in the dtype of its arrays: cast them to bfloat16 (or, with x64 on, to float64) to compute in that.

  Args:
    options: sizes and variants.
    rngs: of the random weights.

  Raises:
    InputError: the options do not fit together.
  """

  family = 'stylegan'

  def __init__(self, options: StyleGANOptions, rngs: nnx.Rngs):
    self._begin(options)
    self.mapping_network = Mapping(options.mapping(), rngs)
    self.w_avg = options.room_for_mean()
    widths = options.widths
    self.const = nnx.Param(jnp.ones((*options.start, widths[0])))
    self.synthesis_layers = List(
      [
        StyledLayer(
          widths[i - 1] if i else None,
          widths[i],
          options.w_dim,
          options.size(i),
          rngs,
          blur=options.blur_filter if i and i % 2 == 0 else None,
          noise=options.noise,
        )
        for i in range(options.rows)
      ]
    )
    self.rgb_weight = nnx.Param(jax.random.normal(rngs.params(), (widths[-1], options.image_channels)))
    self.rgb_bias = nnx.Param(jnp.zeros((options.image_channels,)))

  @property
  def layers(self) -> dict[int, tuple[int, int, int]]:
    """{layer: (channels, height, width)}."""
    last = int(math.log2(self.resolution))
    return {layer: self._size(layer) for layer in range(3, last + 1)}

  def _size(self, layer: int) -> tuple[int, int, int]:
    return self.options.widths[2 * layer - 5], *self.options.size(2 * layer - 5)

  def affine_weights(self) -> dict[str, jax.Array]:
    """{'layer0': (w_dim, 2 C), ...}: the matrices from w to scales and shifts, in the order of the layers."""
    return {f'layer{i}': layer.style.effective_weight() for i, layer in enumerate(self.synthesis_layers)}

  def run_to(self, latents: WPlus, layer: int, noise: str | jax.Array = 'const') -> State:
    """The state after the block at resolution 2^(layer - 1); see protocol.py."""
    layer = checked_layer(layer, self.layers)
    wplus = checked_wplus(latents, self.options.rows, self.w_dim, self.dtype)
    return State(self._run(self._constant(wplus.shape[0]), wplus, 0, 2 * layer - 4, checked_noise(noise)))

  def run_from(
    self,
    latents: WPlus,
    state: State,
    layer: int,
    noise: str | jax.Array = 'const',
    drop_rgb: bool = False,
  ) -> jax.Array:
    """The image (N, H, W, channels) from a state; no RGB is accumulated, so `drop_rgb` has no effect."""
    layer = checked_layer(layer, self.layers)
    wplus = checked_wplus(latents, self.options.rows, self.w_dim, self.dtype)
    features = checked_features(state.features, wplus.shape[0], self._size(layer), layer, self.dtype)
    return self._image(self._run(features, wplus, 2 * layer - 4, self.options.rows, checked_noise(noise)))

  def __call__(self, latents: WPlus, noise: str | jax.Array = 'const') -> jax.Array:
    """The image (N, H, W, channels)."""
    wplus = checked_wplus(latents, self.options.rows, self.w_dim, self.dtype)
    return self._image(self._run(self._constant(wplus.shape[0]), wplus, 0, self.options.rows, checked_noise(noise)))

  def _run(self, x: jax.Array, wplus: jax.Array, first: int, end: int, noise: str | jax.Array) -> jax.Array:
    for i in range(first, end):
      x = self.synthesis_layers[i](x, wplus[:, i], noise, i)
    return x

  def _image(self, x: jax.Array) -> jax.Array:
    weight = self.rgb_weight[...] / math.sqrt(self.options.widths[-1])
    image = matmul(x, weight) + per_channel(self.rgb_bias[...])
    return jnp.tanh(image) if self.options.final_tanh else image
