"""The options of a StyleGAN3, and the sampling rates, sizes, filters and paddings of its layers that follow from them.

Source: Karras et al. 2021, Alias-Free Generative Adversarial Networks, section 3.2 and appendices C and F; frequencies
are in cycles per image, rates in samples per image.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import numpy as np

from panda_jax.errors import InputError
from panda_jax.generators import bounds
from panda_jax.generators.bounds import (
  LATER,
  MOST_TAPS,
  Classes,
  Count,
  Resolution,
  Scale,
  Size,
  SizeOrZero,
  Sizes,
  Within,
)
from panda_jax.generators.filters import centred_padding

LARGEST_MARGIN = 128  # samples beyond an edge
Frequency = Annotated[float, Within(1e-3, 1e4)]


@dataclasses.dataclass(frozen=True)
class StyleGAN3Options:
  """Everything that fixes a StyleGAN3.

  Attributes:
    z_dim: numbers in z.
    w_dim: numbers in w.
    num_classes: 0 if unconditional.
    resolution: of the image, its height.
    image_channels: of the image.
    widths: channels after each layer except the last, which makes the image; the input has those of the first.
    mapping_layers: fully connected layers from z to w.
    mapping_rate: learning-rate multiplier by which they scale their weights.
    num_critical: number of critically sampled layers at the end, not counting the one that makes the image.
    first_cutoff: frequency where the pass band of the first layer ends.
    first_stopband: frequency where its stop band begins.
    last_stopband_rel: stop band of the last layer, relative to its cutoff, which is half the resolution.
    margin_size: samples beyond each edge of the image; if it is not square, half as many at the left and right.
    output_scale: factor of the image.
    conv_kernel: side of the convolutions (3 in -T, 1 in -R).
    filter_size: taps of a filter per factor of its resampling.
    lrelu_upsampling: factor by which the leaky ReLU runs above the rate of its layer.
    use_radial_filters: rotationally symmetric down-sampling filters in layers that are not critically sampled (-R).
    conv_clamp: largest magnitude after each leaky ReLU, or None.
    square: False for images and feature maps half as wide as high (StyleGAN-Human).
  """

  z_dim: SizeOrZero
  w_dim: Size
  num_classes: Classes
  resolution: Resolution
  image_channels: Size
  widths: Sizes
  mapping_layers: Count
  mapping_rate: Scale
  num_critical: Count
  first_cutoff: Frequency
  first_stopband: Frequency
  last_stopband_rel: Frequency
  margin_size: Annotated[int, Within(0, LARGEST_MARGIN)]
  output_scale: Scale
  conv_kernel: Annotated[int, Within(1, 15)]
  filter_size: Annotated[int, Within(1, 64)]
  lrelu_upsampling: Annotated[int, Within(1, 16)]
  use_radial_filters: bool
  conv_clamp: Scale | None
  square: bool = dataclasses.field(default=True, metadata=LATER)

  @property
  def image_size(self) -> tuple[int, int]:
    """(h, w)."""
    return self.size(self.resolution)

  def size(self, height: int) -> tuple[int, int]:
    """(H, W) of maps of this height."""
    return height, height if self.square else height // 2

  def check(self) -> None:
    """Raises InputError if an option has a wrong type or range; `layer_geometry` raises if they do not fit together."""
    bounds.check(self)
    most = min(self.first_stopband, self.resolution / 2)
    if self.first_cutoff > most:
      problem = f'the stop band begins at {self.first_stopband:g}, and the image ends at {self.resolution / 2:g}'
      raise InputError('first_cutoff', self.first_cutoff, problem, f'give a number up to {most:g}')


class Sampling(NamedTuple):
  """The output of a layer, and its filters.

  Attributes:
    channels, size: of its feature maps; the size is their height.
    rate: samples per image.
    cutoff, half_width: where the pass band ends, and half the width of the transition band.
    kernel: side of its convolution.
    radial: whether a filter that down-samples is rotationally symmetric.
  """

  channels: int
  size: int
  rate: int
  cutoff: float
  half_width: float
  kernel: int
  radial: bool


@dataclasses.dataclass(frozen=True)
class LayerGeometry:
  """One layer: its input and output, and how it resamples.

  Attributes:
    name: L{index}_{width}_{out_channels}, as the published code calls it.
    to_image: whether it is the last one, a linear 1x1 convolution.
    in_channels, out_channels: of its feature maps.
    in_size, out_size: (H, W) of these.
    in_rate, out_rate, inner_rate: samples per image before, after and at the leaky ReLU.
    in_cutoff, in_width, out_cutoff, out_width: pass band and transition band of its input and output.
    kernel: side of its convolution.
    up, down: factors of its resampling.
    up_taps, down_taps: lengths of the filters, 1 if nothing is filtered.
    radial: whether the down-sampling filter is two-dimensional.
    padding: zeros before and after the zero-filled rows, and the same for columns; negative numbers crop.
  """

  name: str
  to_image: bool
  in_channels: int
  out_channels: int
  in_size: tuple[int, int]
  out_size: tuple[int, int]
  in_rate: int
  out_rate: int
  inner_rate: int
  in_cutoff: float
  in_width: float
  out_cutoff: float
  out_width: float
  kernel: int
  up: int
  down: int
  up_taps: int
  down_taps: int
  radial: bool
  padding: tuple[tuple[int, int], tuple[int, int]]


def cutoffs(resolution: int, num_layers: int, num_critical: int, first_cutoff: float) -> np.ndarray:
  """(num_layers + 1,): the cutoff of each layer, a geometric progression that ends at half the resolution.

  Raises:
    InputError: all layers would be critically sampled.
  """
  if not 0 <= num_critical < num_layers:
    raise InputError(
      'num_critical', num_critical, f'there are {num_layers} layers', f'give a number from 0 to {num_layers - 1}'
    )
  exponents = np.minimum(np.arange(num_layers + 1) / (num_layers - num_critical), 1)
  return first_cutoff * (resolution / 2 / first_cutoff) ** exponents


def published_widths(
  resolution: int,
  num_layers: int = 14,
  num_critical: int = 2,
  first_cutoff: float = 2,
  channel_base: float = 32768,
  channel_max: float = 512,
) -> tuple[int, ...]:
  """The channels after each layer by the published rule: channel_base / 2 / cutoff, at most channel_max."""
  by_cutoff = channel_base / 2 / cutoffs(resolution, num_layers, num_critical, first_cutoff)
  return tuple(int(width) for width in np.rint(np.minimum(by_cutoff, channel_max))[:-1])


def published_options(resolution: int = 1024, variant: str = 't') -> StyleGAN3Options:
  """The published -T and -R networks of 1024 and 512 pixels; published ones of 256 have half the channels."""
  if variant not in ('t', 'r'):
    raise InputError('variant', variant, 'there are StyleGAN3-T and -R', "give 't' or 'r'")
  radial = variant == 'r'
  base, most = (65536, 1024) if radial else (32768, 512)
  widths = published_widths(resolution, channel_base=base if resolution > 256 else base // 2, channel_max=most)
  return StyleGAN3Options(
    z_dim=512,
    w_dim=512,
    num_classes=0,
    resolution=resolution,
    image_channels=3,
    widths=widths,
    mapping_layers=2,
    mapping_rate=0.01,
    num_critical=2,
    first_cutoff=2,
    first_stopband=2**2.1,
    last_stopband_rel=2**0.3,
    margin_size=10,
    output_scale=0.25,
    conv_kernel=1 if radial else 3,
    filter_size=6,
    lrelu_upsampling=2,
    use_radial_filters=radial,
    conv_clamp=256,
  )


def layer_geometry(options: StyleGAN3Options) -> tuple[LayerGeometry, ...]:
  """Every layer in order; the last one makes the image. The input has the sampling of the first layer.

  Raises:
    InputError: options that fit no network.
  """
  N, resolution = len(options.widths), options.resolution
  cutoff = cutoffs(resolution, N, options.num_critical, options.first_cutoff)
  last_stopband = resolution / 2 * options.last_stopband_rel
  exponents = np.minimum(np.arange(N + 1) / (N - options.num_critical), 1)
  stopband = options.first_stopband * (last_stopband / options.first_stopband) ** exponents
  rate = np.exp2(np.ceil(np.log2(np.minimum(2 * stopband, resolution)))).astype(int)
  if rate.min() < 1:
    raise InputError('first_stopband', options.first_stopband, 'a layer would have no samples', 'give a larger one')
  half_width = np.maximum(stopband, rate / 2) - cutoff
  size = rate + 2 * options.margin_size
  size[-2:] = resolution
  channels = (*options.widths, options.image_channels)
  outputs = []
  for i in range(N + 1):
    kernel = 1 if i == N else options.conv_kernel
    radial = options.use_radial_filters and i < N - options.num_critical
    outputs.append(
      Sampling(channels[i], int(size[i]), int(rate[i]), float(cutoff[i]), float(half_width[i]), kernel, radial)
    )
  return chained(outputs, options.size, options.filter_size, options.lrelu_upsampling)


def chained(
  outputs: Sequence[Sampling], size: Callable[[int], tuple[int, int]], filter_size: int, upsampling: int
) -> tuple[LayerGeometry, ...]:
  """Layers in a chain, from the output of each; the last one makes the image.

  Args:
    outputs: of each layer. The input of the first has the same sampling as its output.
    size: (H, W) of maps of a height.
    filter_size, upsampling: `filter_size` and `lrelu_upsampling` of `StyleGAN3Options`.

  Raises:
    InputError: a filter would be too long.
  """
  layers = []
  for i, after in enumerate(outputs):
    before, to_image = outputs[max(i - 1, 0)], i == len(outputs) - 1
    inner = max(before.rate, after.rate) * (1 if to_image else upsampling)
    up, down = inner // before.rate, inner // after.rate
    taps = tuple(1 if to_image or factor == 1 else filter_size * factor for factor in (up, down))
    if max(taps) > MOST_TAPS:
      raise InputError(
        'filter_size',
        filter_size,
        f'a filter would have {max(taps)} taps',
        f'give one that makes at most {MOST_TAPS}',
      )
    in_size, out_size = size(before.size), size(after.size)
    layers.append(
      LayerGeometry(
        name=f'L{i}_{out_size[1]}_{after.channels}',
        to_image=to_image,
        in_channels=before.channels,
        out_channels=after.channels,
        in_size=in_size,
        out_size=out_size,
        in_rate=before.rate,
        out_rate=after.rate,
        inner_rate=inner,
        in_cutoff=before.cutoff,
        in_width=2 * before.half_width,
        out_cutoff=after.cutoff,
        out_width=2 * after.half_width,
        kernel=after.kernel,
        up=up,
        down=down,
        up_taps=taps[0],
        down_taps=taps[1],
        radial=after.radial and taps[1] > 1,
        padding=tuple(
          centred_padding(n, up, down, taps, after.kernel, m) for n, m in zip(in_size, out_size, strict=True)
        ),
      )
    )
  return tuple(layers)
