"""StyleGAN3: -T, -R and mixtures of the two.

Source: Karras et al. 2021, Alias-Free Generative Adversarial Networks. All buffers of a file are used as stored: the
random frequencies and phases of the input, the filters, the magnitudes.
Letters: N samples, H, W grid, C channels, I, O channels in and out of a layer, L rows of w+ (one for the input, one for
each layer).
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from panda_jax.errors import InputError
from panda_jax.generators.base import (
  Buffer,
  WPlus,
  checked_features,
  checked_layer,
  checked_wplus,
  is_concrete,
)
from panda_jax.generators.compatibility import List
from panda_jax.generators.filters import filtered_lrelu, lowpass
from panda_jax.generators.layers import LAYOUT, PRECISION, Dense, as_one, matmul, per_channel
from panda_jax.generators.mapping import Mapped, Mapping, MappingOptions
from panda_jax.generators.protocol import State
from panda_jax.generators.stylegan3_geometry import LayerGeometry, StyleGAN3Options, layer_geometry

__all__ = ['StyleGAN3', 'StyleGAN3Options']

SQRT2 = math.sqrt(2)


class FourierInput(nnx.Module):
  """The input: sinusoids of fixed random frequencies, translated and rotated by w, then mixed; (N, H, W, C).

  freqs: (C, 2), x first; phases: (C,); weight: (C, C), in by out. `transform` (3, 3) is the user's, the inverse of the
  image's transform, in homogeneous coordinates in which the image spans (-0.5, 0.5).
  """

  def __init__(self, first: LayerGeometry, w_dim: int, rngs: nnx.Rngs):
    C = first.in_channels
    self.size, self.rate, self.bandwidth = first.in_size, first.in_rate, first.in_cutoff
    freqs = jax.random.normal(rngs.params(), (C, 2))
    radii = jnp.linalg.norm(freqs, axis=1, keepdims=True)
    self.freqs = Buffer(freqs / (radii * jnp.exp(radii**2 / 4)) * self.bandwidth)  # uniform in a disc
    self.phases = Buffer(jax.random.uniform(rngs.params(), (C,)) - 0.5)
    self.transform = Buffer(jnp.eye(3))
    self.weight = nnx.Param(jax.random.normal(rngs.params(), (C, C)))
    self.affine = Dense(w_dim, 4, rngs)
    self.affine.weight = nnx.Param(jnp.zeros((w_dim, 4)))
    self.affine.bias = nnx.Param(jnp.asarray([1.0, 0.0, 0.0, 0.0]))  # neither rotated nor translated

  def __call__(self, w: jax.Array) -> jax.Array:
    arrays = self.freqs[...], self.phases[...], self.transform[...], self.weight[...]
    return _sinusoids(self.affine(w), *arrays, self.size, self.rate, self.bandwidth)


@as_one('size', 'rate', 'bandwidth')
def _sinusoids(affine, freqs, phases, transform, weight, size, rate, bandwidth):
  dtype = weight.dtype
  wide = jnp.promote_types(dtype, jnp.float32)  # sines of bfloat16 angles would be noise
  t = affine.astype(wide)
  cosine, sine, shift_x, shift_y = jnp.moveaxis(t / jnp.linalg.norm(t[:, :2], axis=1, keepdims=True), 1, 0)
  zero, one = jnp.zeros_like(cosine), jnp.ones_like(cosine)
  turn = jnp.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], axis=1).reshape(-1, 3, 3)
  move = jnp.stack([one, zero, -shift_x, zero, one, -shift_y, zero, zero, one], axis=1).reshape(-1, 3, 3)
  matrix = matmul(matmul(turn, move), transform.astype(wide))  # (N, 3, 3)

  freqs = freqs.astype(wide)
  phases = matmul(freqs, matrix[:, :2, 2].T).T + phases.astype(wide).reshape(1, -1)  # (N, C)
  freqs = jnp.einsum('ck,nkj->njc', freqs, matrix[:, :2, :2], precision=PRECISION)  # (N, 2, C)
  beyond = (jnp.linalg.norm(freqs, axis=1) - bandwidth) / (rate / 2 - bandwidth)
  amplitude = jnp.clip(1 - beyond, 0, 1)[:, None, None, :]  # fades out frequencies that the transform made too high

  at = (((2 * np.arange(n) + 1) / n - 1) * (0.5 * n / rate) for n in size)
  y, x = (jnp.asarray(places, wide) for places in at)
  along_x = x.reshape(1, 1, -1, 1) * freqs[:, None, None, 0]
  along_y = y.reshape(1, -1, 1, 1) * freqs[:, None, None, 1]
  x = jnp.sin(2 * math.pi * (along_x + along_y + phases[:, None, None, :])) * amplitude
  return matmul(x.astype(dtype), weight / math.sqrt(weight.shape[0]))


def _full_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Correlation of (N, H, W, I) with (k, k, I, O), over every position where the two overlap."""
  k = kernel.shape[0]
  if k == 1:
    return matmul(x, kernel[0, 0])
  pads = ((k - 1, k - 1), (k - 1, k - 1))
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=LAYOUT, precision=PRECISION)


class Layer(nnx.Module):
  """A modulated convolution and its filtered leaky ReLU; weight (k, k, I, O), bias (O,)."""

  def __init__(self, geometry: LayerGeometry, w_dim: int, clamp: float | None, rngs: nnx.Rngs):
    g = self.geometry = geometry
    self.clamp = clamp
    self.affine = Dense(w_dim, g.in_channels, rngs, bias=1.0)
    self.weight = nnx.Param(jax.random.normal(rngs.params(), (g.kernel, g.kernel, g.in_channels, g.out_channels)))
    self.bias = nnx.Param(jnp.zeros(g.out_channels))
    self.magnitude_ema = Buffer(jnp.ones(()))
    up = lowpass(g.up_taps, g.in_cutoff, g.in_width, g.inner_rate)
    down = lowpass(g.down_taps, g.out_cutoff, g.out_width, g.inner_rate, g.radial)
    self.up_filter = None if up is None else Buffer(jnp.asarray(up, jnp.float32))
    self.down_filter = None if down is None else Buffer(jnp.asarray(down, jnp.float32))

  def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
    g = self.geometry
    arrays = self.affine(w), self.weight[...], self.magnitude_ema[...], self.bias[...]
    x = _modulated_conv(x, *arrays, demodulate=not g.to_image)
    return filtered_lrelu(
      x,
      None if self.up_filter is None else self.up_filter[...],
      None if self.down_filter is None else self.down_filter[...],
      up=g.up,
      down=g.down,
      padding=g.padding,
      slope=1.0 if g.to_image else 0.2,
      gain=1.0 if g.to_image else SQRT2,
      clamp=self.clamp,
    )


@as_one('demodulate')
def _modulated_conv(x, style, weight, magnitude, bias, demodulate):
  scale = jax.lax.rsqrt(magnitude).reshape(1, 1)
  if demodulate:
    # The published code scales the style by its mean square over the whole batch. The scale cancels in the
    # demodulation, so the mean square of the sample serves as well, and no image depends on its neighbours.
    weight = weight * jax.lax.rsqrt(jnp.mean(weight**2, axis=(0, 1, 2), keepdims=True))
    style = style * jax.lax.rsqrt(jnp.mean(style**2, axis=1, keepdims=True))
    scale = scale * jax.lax.rsqrt(matmul(style**2, jnp.sum(weight**2, axis=(0, 1))) + 1e-8)
  else:
    style = style / math.sqrt(math.prod(weight.shape[:3]))
  # Scaling the samples before and after the convolution lets the whole batch share one convolution.
  x = _full_conv(x * style[:, None, None, :], weight)
  return x * scale[:, None, None, :] + per_channel(bias)


class StyleGAN3(Mapped, nnx.Module):
  """The StyleGAN3 generator, following panda_jax.generators.protocol.

  Layer l is the output of the first l layers, l = 0 the Fourier input. Feature maps reach `margin_size` samples beyond
  the image on each side, except those of the last layer. There is no noise: the argument is ignored.

  Args:
    options: those of the architecture.
    rngs: where random weights come from.

  Raises:
    InputError: options that fit no network.
  """

  family = 'stylegan3'

  def __init__(self, options: StyleGAN3Options, rngs: nnx.Rngs):
    self._begin(options)
    geometry = layer_geometry(options)
    conditional = options.num_classes > 0
    mapping = MappingOptions(
      z_dim=options.z_dim,
      w_dim=options.w_dim,
      widths=(options.w_dim,) * options.mapping_layers,
      num_classes=options.num_classes,
      embed_dim=options.w_dim if conditional else 0,
      label_input='separate' if conditional else 'none',
      lr_multiplier=options.mapping_rate,
    )
    self._build(geometry, mapping, [options.conv_clamp] * len(geometry), rngs)
    self.w_avg = Buffer(jnp.zeros(options.w_dim))

  def _build(
    self,
    geometry: Sequence[LayerGeometry],
    mapping: MappingOptions,
    clamps: Sequence[float | None],
    rngs: nnx.Rngs,
  ) -> None:
    self.mapping_network = Mapping(mapping, rngs)
    self.mapping_network.options.check(len(geometry) + 1)
    self.input = FourierInput(geometry[0], mapping.w_dim, rngs)
    self.convs = List([Layer(g, mapping.w_dim, clamp, rngs) for g, clamp in zip(geometry, clamps, strict=True)])

  @property
  def layers(self) -> dict[int, tuple[int, int, int]]:
    """{layer: (channels, height, width)}."""
    geometry = [layer.geometry for layer in self.convs]
    first = geometry[0]
    sizes = [(first.in_channels, first.in_size), *((g.out_channels, g.out_size) for g in geometry[:-1])]
    return {layer: (C, *size) for layer, (C, size) in enumerate(sizes)}

  @property
  def rows(self) -> int:
    """L, the rows of w+."""
    return len(self.convs) + 1

  @property
  def dtype(self):
    return self.input.weight.dtype

  @property
  def margins(self) -> dict[int, tuple[int, int]]:
    """{layer: cells of its feature maps beyond the image, (above and below, left and right)}."""
    geometry = [layer.geometry for layer in self.convs]
    first = geometry[0]
    sizes = [(first.in_size, first.in_rate), *((g.out_size, g.out_rate) for g in geometry[:-1])]
    pairs = [zip(size, self.options.size(rate), strict=True) for size, rate in sizes]
    return {layer: tuple(max(0, n - m) // 2 for n, m in pair) for layer, pair in enumerate(pairs)}

  def with_transform(self, matrix: ArrayLike) -> 'StyleGAN3':
    """The same generator with another user transform; its other arrays are shared with this one.

    Args:
      matrix: (3, 3), in homogeneous coordinates in which the image spans (-0.5, 0.5): the inverse of the image's
        transform, which files store as `synthesis.input.transform`.

    Raises:
      InputError: the matrix has another shape or is not finite.
    """
    remedy = 'give a finite matrix of shape (3, 3), inverse with respect to the image'
    if np.shape(matrix) != (3, 3):
      raise InputError('transform', f'shape {"x".join(map(str, np.shape(matrix)))}', 'it is not a 3x3 matrix', remedy)
    if is_concrete(matrix) and not np.all(np.isfinite(np.asarray(matrix))):
      raise InputError('transform', 'NaN or infinity', 'it cannot be applied', remedy)
    other = nnx.merge(*nnx.split(self))
    other.input.transform = Buffer(jnp.asarray(matrix, self.input.transform.dtype))
    return other

  def affine_weights(self) -> dict[str, jax.Array]:
    """{name: (w_dim, C)} of the input and each layer, in their order: the matrices from w to a style."""
    affines = {'input': self.input.affine} | {layer.geometry.name: layer.affine for layer in self.convs}
    return {name: affine.effective_weight() for name, affine in affines.items()}

  def _rows(self, latents: WPlus) -> jax.Array:
    return checked_wplus(latents, len(self.convs) + 1, self.w_dim, self.input.weight.dtype)

  def _go_on(self, rows: jax.Array, x: jax.Array, first: int, end: int) -> jax.Array:
    for i in range(first, end):
      x = self.convs[i](x, rows[:, i + 1])
    return x

  def run_to(self, latents: WPlus, layer: int, noise: str | jax.Array = 'const') -> State:
    """The feature maps after the first `layer` layers; InputError if it cannot be split."""
    layer = checked_layer(layer, self.layers)
    rows = self._rows(latents)
    return State(self._go_on(rows, self.input(rows[:, 0]), 0, layer))

  def run_from(
    self,
    latents: WPlus,
    state: State,
    layer: int,
    noise: str | jax.Array = 'const',
    drop_rgb: bool = False,
  ) -> jax.Array:
    """From feature maps at a layer to images (N, H, W, image_channels); InputError if they do not fit."""
    layer = checked_layer(layer, self.layers)
    rows = self._rows(latents)
    x = checked_features(state.features, rows.shape[0], self.layers[layer], layer, rows.dtype)
    return self._go_on(rows, x, layer, len(self.convs)) * self.options.output_scale

  def __call__(self, latents: WPlus, noise: str | jax.Array = 'const') -> jax.Array:
    """Images (N, H, W, image_channels)."""
    rows = self._rows(latents)
    return self._go_on(rows, self.input(rows[:, 0]), 0, len(self.convs)) * self.options.output_scale
