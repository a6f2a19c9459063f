"""StyleGAN2 (Karras et al. 2020) with skip, residual or plain synthesis, conditional or not.

Layers count convolutions: layer l is the state after convolutions 0 to l - 1, the input of convolution l. Convolution
0 works at the size of the constant, 4x4 if images are square; convolutions 2k - 1 (which up-samples) and 2k at 2^k
times that. Convolution i reads row i of w+, the ToRGB of block k reads row 2k + 1.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx

from panda_jax.errors import InputError
from panda_jax.generators.base import (
  WPlus,
  checked_features,
  checked_layer,
  checked_noise,
  checked_wplus,
)
from panda_jax.generators.bounds import Scale, Taps
from panda_jax.generators.compatibility import List
from panda_jax.generators.layers import ACTIVATIONS, conv, upsample_fir
from panda_jax.generators.mapping import Grown, GrownOptions, Mapping, MappingOptions
from panda_jax.generators.modulation import NOISES, ModulatedConv, ToRGB
from panda_jax.generators.protocol import State

ARCHITECTURES = ('skip', 'resnet', 'orig')


@dataclasses.dataclass(frozen=True)
class StyleGAN2Options(GrownOptions):
  """Everything that fixes a StyleGAN2; `widths` are the channels of the constant, then of each convolution's output.

  Attributes:
    mapping_activation: see mapping.MappingOptions.
    mean_w: whether the mean of w is known; without it nothing can be truncated.
    architecture: 'skip' (RGB of all blocks summed), 'resnet' (residual blocks) or 'orig' (neither).
    resample_filter: of all up-sampling; the taps of a separable filter, or the rows of another; they sum to 1.
    noise: see modulation.ModulatedConv.
    activation: of the convolutions.
    clamp: bound of the output of each convolution and ToRGB, or None.
    demodulate, scaled_epsilon: see modulation.ModulatedConv.
    final_tanh: whether the image goes through tanh.
  """

  mapping_activation: str = 'lrelu'
  mean_w: bool = True
  architecture: str = 'skip'
  resample_filter: Taps = (0.125, 0.375, 0.375, 0.125)
  noise: str = 'spatial'
  activation: str = 'lrelu'
  clamp: Scale | None = None
  demodulate: bool = True
  scaled_epsilon: bool = False
  final_tanh: bool = False

  def mapping(self) -> MappingOptions:
    return dataclasses.replace(super().mapping(), activation=self.mapping_activation)

  def check(self) -> None:
    """Raises InputError if the options do not fit together."""
    super().check()
    for name, known in (('architecture', ARCHITECTURES), ('noise', NOISES), ('activation', ACTIVATIONS)):
      if getattr(self, name) not in known:
        raise InputError(name, getattr(self, name), 'there is none of this name', f'give one of {", ".join(known)}')


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Styles:
  """Latents as style vectors (StyleSpace), affine maps of w+ rows, before any gain of the layer they drive.

  Attributes:
    convs: one (N, C) per convolution, C its input channels.
    rgbs: one (N, C) per ToRGB, in the order of the blocks.
  """

  convs: tuple[jax.Array, ...]
  rgbs: tuple[jax.Array, ...]

  def replace(self, **changes) -> 'Styles':
    """A copy with some fields changed."""
    return dataclasses.replace(self, **changes)


class StyleGAN2(Grown, nnx.Module):
  """A StyleGAN2 generator under the protocol of protocol.py.

  It computes in the dtype of its arrays: cast them to bfloat16 (or, with x64 on, to float64) to compute in that.
  `Styles` are accepted wherever `WPlus` is.

  Args:
    options: sizes and variants.
    rngs: of the random weights.

  Raises:
    InputError: the options do not fit together.
  """

  family = 'stylegan2'

  def __init__(self, options: StyleGAN2Options, rngs: nnx.Rngs):
    self._begin(options)
    self.mapping_network = Mapping(options.mapping(), rngs)
    if options.mean_w:
      self.w_avg = options.room_for_mean()
    widths = options.widths
    self.const = nnx.Param(jax.random.normal(rngs.params(), (*options.start, widths[0])))
    convs, rgbs, skips = [], [], []
    for i in range(options.rows - 1):
      convs.append(
        ModulatedConv(
          widths[i],
          widths[i + 1],
          options.w_dim,
          options.size(i + 1),
          rngs,
          up=options.resample_filter if i % 2 else None,
          noise=options.noise,
          activation=options.activation,
          clamp=options.clamp,
          demodulate=options.demodulate,
          scaled_epsilon=options.scaled_epsilon,
        )
      )
      if self._has_rgb(i):
        rgbs.append(ToRGB(widths[i + 1], options.image_channels, options.w_dim, rngs, clamp=options.clamp))
      if options.architecture == 'resnet' and i % 2:
        skips.append(nnx.Param(jax.random.normal(rngs.params(), (1, 1, widths[i], widths[i + 2]))))
    self.convs, self.rgbs, self.skips = List(convs), List(rgbs), List(skips)

  def _has_rgb(self, i: int) -> bool:
    """Whether convolution i is followed by a ToRGB."""
    return i % 2 == 0 and (self.options.architecture == 'skip' or i == self.options.rows - 2)

  def _size(self, layer: int) -> tuple[int, int, int]:
    return self.options.widths[layer], *self.options.size(layer)

  @property
  def layers(self) -> dict[int, tuple[int, int, int]]:
    """{layer: (channels, height, width)}; residual blocks cannot be split inside, so 'resnet' has only odd layers."""
    step = 2 if self.options.architecture == 'resnet' else 1
    return {layer: self._size(layer) for layer in range(1, self.options.rows - 1, step)}

  def styles(self, latents: WPlus | Styles) -> Styles:
    """The style vectors of w+."""
    if isinstance(latents, Styles):
      return latents
    wplus = checked_wplus(latents, self.options.rows, self.w_dim, self.dtype)
    convs = tuple(layer.affine(wplus[:, i]) for i, layer in enumerate(self.convs))
    first = len(self.convs) - 2 * (len(self.rgbs) - 1)
    rgbs = tuple(layer.affine(wplus[:, first + 2 * k]) for k, layer in enumerate(self.rgbs))
    return Styles(convs, rgbs)

  def affine_weights(self) -> dict[str, jax.Array]:
    """{'conv0': (w_dim, C), 'rgb0': ..., 'conv1': ...}: the matrices from w to styles, in the order of the layers."""
    weights, rgbs = {}, iter(self.rgbs)
    for i, layer in enumerate(self.convs):
      weights[f'conv{i}'] = layer.affine.effective_weight()
      if self._has_rgb(i):
        weights[f'rgb{i // 2}'] = next(rgbs).affine.effective_weight()
    return weights

  def run_to(self, latents: WPlus | Styles, layer: int, noise: str | jax.Array = 'const') -> State:
    """The state before convolution `layer`; see protocol.py."""
    layer = checked_layer(layer, self.layers)
    styles = self.styles(latents)
    return self._run(self._start(styles), styles, 0, layer, checked_noise(noise))

  def run_from(
    self,
    latents: WPlus | Styles,
    state: State,
    layer: int,
    noise: str | jax.Array = 'const',
    drop_rgb: bool = False,
  ) -> jax.Array:
    """The image (N, H, W, channels) from the state before convolution `layer`; see protocol.py."""
    layer = checked_layer(layer, self.layers)
    styles = self.styles(latents)
    samples = styles.convs[0].shape[0]
    features = checked_features(state.features, samples, self._size(layer), layer, self.dtype)
    rgb = None
    if self.options.architecture == 'skip' and not drop_rgb:
      if state.rgb is None:
        raise InputError(
          'state',
          'rgb=None',
          f'the RGB accumulated before layer {layer} is missing',
          'replace the features of a state that run_to gave, or ask for drop_rgb',
        )
      if state.rgb.shape != (samples, *self.options.size(layer - 1), self.image_channels):
        text = 'x'.join(map(str, state.rgb.shape))
        raise InputError(
          'state', f'rgb of shape {text}', 'it is of another layer', f'give what run_to({layer}) returns'
        )
      rgb = state.rgb.astype(self.dtype)
    state = self._run(State(features, rgb), styles, layer, len(self.convs), checked_noise(noise))
    return self._image(state)

  def __call__(self, latents: WPlus | Styles, noise: str | jax.Array = 'const') -> jax.Array:
    """The image (N, H, W, channels)."""
    styles = self.styles(latents)
    return self._image(self._run(self._start(styles), styles, 0, len(self.convs), checked_noise(noise)))

  def _start(self, styles: Styles) -> State:
    return State(self._constant(styles.convs[0].shape[0]))

  def _run(self, state: State, styles: Styles, first: int, end: int, noise: str | jax.Array) -> State:
    """From before convolution `first` to before convolution `end`, with every ToRGB in between."""
    x, rgb = state.features, state.rgb
    residual = None
    for i in range(first, end):
      gain = 1.0
      if self.options.architecture == 'resnet' and i > 0:
        if i % 2:
          residual = self._skip(x, i // 2)
        else:
          gain = math.sqrt(0.5)
      x = self.convs[i](x, styles.convs[i].astype(self.dtype), noise, i, gain)
      if residual is not None and i % 2 == 0:
        x = x + residual
      if self._has_rgb(i):
        k = i // 2 if self.options.architecture == 'skip' else 0
        y = self.rgbs[k](x, styles.rgbs[k].astype(self.dtype))
        rgb = y if rgb is None else upsample_fir(rgb, self.options.resample_filter) + y
    return State(x, rgb)

  def _skip(self, x: jax.Array, k: int) -> jax.Array:
    kernel = self.skips[k][...]
    x = conv(x, kernel * math.sqrt(0.5 / kernel.shape[2]))
    return upsample_fir(x, self.options.resample_filter)

  def _image(self, state: State) -> jax.Array:
    return jnp.tanh(state.rgb) if self.options.final_tanh else state.rgb
