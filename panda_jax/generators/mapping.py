"""Shared by the families with a mapping network: from z, and a label if there are classes, to w, and from w to w+.

StyleGAN and StyleGAN2, which grow from a constant by doublings, also share their sizes and options.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from panda_jax.errors import InputError
from panda_jax.generators import bounds
from panda_jax.generators.base import (
  Buffer,
  WPlus,
  check_widths,
  checked_truncation,
  checked_w,
  checked_z,
  label_rows,
  sample_normal,
  truncated,
)
from panda_jax.generators.bounds import (
  LARGEST_RESOLUTION,
  LATER,
  Classes,
  Resolution,
  Scale,
  Side,
  Size,
  SizeOrZero,
  Sizes,
)
from panda_jax.generators.compatibility import List
from panda_jax.generators.layers import ACTIVATIONS, Dense, matmul, second_moment_norm

LABEL_INPUTS = ('none', 'joint', 'separate')


@dataclasses.dataclass(frozen=True)
class MappingOptions:
  """Everything that fixes a mapping network.

  Attributes:
    z_dim: numbers in z.
    w_dim: numbers in one row of w+.
    widths: outputs of each layer; the last is w_dim, or rows * w_dim if each row has a w of its own.
    num_classes: 0 if there are no classes.
    embed_dim: numbers in the embedding of a label.
    label_input: how the label joins z: 'none'; 'joint', concatenated, then normalised together (genforce); 'separate',
      each normalised, then concatenated (NVlabs).
    lr_multiplier: of the layers.
    activation: of the layers, a key of layers.ACTIVATIONS.
    embed_activation: of the embedding of a label, if `label_input` is 'separate'.
    gain_first: whether the activation's gain is in the weights (StyleGAN) and not on the output (StyleGAN2).
  """

  z_dim: int
  w_dim: int
  widths: tuple[int, ...]
  num_classes: int = 0
  embed_dim: int = 0
  label_input: str = 'none'
  lr_multiplier: float = 0.01
  activation: str = 'lrelu'
  embed_activation: str = 'linear'
  gain_first: bool = False

  @property
  def outputs(self) -> int:
    """Numbers in w."""
    return self.widths[-1] if self.widths else self.z_dim + self.embed_dim

  def check(self, rows: int) -> None:
    """Raises InputError if the options do not fit together."""
    if self.outputs not in (self.w_dim, rows * self.w_dim):
      problem = f'the mapping network ends with {self.outputs} numbers'
      raise InputError('mapping_widths', self.widths, problem, f'its last width must be {self.w_dim}')
    if self.label_input not in LABEL_INPUTS:
      raise InputError('label_input', self.label_input, 'unknown', f'give one of {", ".join(LABEL_INPUTS)}')
    if (self.label_input == 'none') != (self.num_classes == 0) or (self.num_classes == 0) != (self.embed_dim == 0):
      raise InputError(
        'label_input',
        self.label_input,
        f'there are {self.num_classes} classes, embedded in {self.embed_dim} numbers',
        "give 'none', 0 and 0 for an unconditional generator",
      )
    if self.activation not in ACTIVATIONS:
      raise InputError('activation', self.activation, 'no such function', f'give one of {", ".join(ACTIVATIONS)}')


class Mapping(nnx.Module):
  """Dense layers from the normalised z to w."""

  def __init__(self, options: MappingOptions, rngs: nnx.Rngs):
    self.options = options
    if options.label_input == 'separate':
      self.embed = Dense(options.num_classes, options.embed_dim, rngs)
    elif options.label_input == 'joint':
      self.label_weight = nnx.Param(jax.random.normal(rngs.params(), (options.num_classes, options.embed_dim)))
    sizes = (options.z_dim + options.embed_dim, *options.widths)
    gain = ACTIVATIONS[options.activation][1]
    before, self.gain_after = (gain, 1.0) if options.gain_first else (1.0, gain)
    self.layers = List(
      [Dense(sizes[i], sizes[i + 1], rngs, lr=options.lr_multiplier, gain=before) for i in range(len(options.widths))]
    )

  def __call__(self, z: jax.Array, labels: jax.Array | None) -> jax.Array:
    """z (N, z_dim) and label rows (N, num_classes) or None to w (N, widths[-1])."""
    function, _ = ACTIVATIONS[self.options.activation]
    if self.options.label_input == 'joint':
      x = second_moment_norm(jnp.concatenate([z, matmul(labels, self.label_weight[...])], axis=1))
    elif self.options.label_input == 'separate':
      activation, gain = ACTIVATIONS[self.options.embed_activation]
      label = activation(self.embed(labels))
      label = second_moment_norm(label if gain == 1 else label * gain)
      # The label may be the only input of a generator.
      x = jnp.concatenate([second_moment_norm(z), label], axis=1) if self.options.z_dim else label
    else:
      x = second_moment_norm(z)
    for layer in self.layers:
      x = function(layer(x))
      if self.gain_after != 1:
        x = x * self.gain_after
    return x


@dataclasses.dataclass(frozen=True)
class GrownOptions:
  """The first options of StyleGAN and StyleGAN2.

  Attributes:
    resolution: of the image if it is square, a power of two from 8.
    widths: channels, 2 log2(resolution) - 2 numbers; each family says of which maps.
    z_dim, w_dim: sizes of the latents.
    mapping_widths: outputs of each layer of the mapping network; the last is w_dim, or (2 log2(resolution) - 2) w_dim
      if each row of w+ has a w of its own.
    image_channels: 3 for RGB.
    num_classes, embed_dim, label_input: see MappingOptions.
    mapping_lr_multiplier: see MappingOptions.
    start: (h, w) of the constant; the image has resolution / 4 times that.
  """

  resolution: Resolution
  widths: Sizes
  z_dim: SizeOrZero
  w_dim: Size
  mapping_widths: Sizes
  image_channels: Size = 3
  num_classes: Classes = 0
  embed_dim: SizeOrZero = 0
  label_input: str = 'none'
  mapping_lr_multiplier: Scale = 0.01
  start: tuple[Side, Side] = dataclasses.field(default=(4, 4), metadata=LATER)

  @property
  def image_size(self) -> tuple[int, int]:
    """(h, w)."""
    return self.size(self.rows - 1)

  def size(self, layer: int) -> tuple[int, int]:
    """(h, w) of the output of a StyleGAN's synthesis layer, and of the input of a StyleGAN2's convolution."""
    h, w = self.start
    return h * 2 ** (layer // 2), w * 2 ** (layer // 2)

  @property
  def rows(self) -> int:
    """L, the rows of w+."""
    return 2 * int(math.log2(self.resolution)) - 2

  def mapping(self) -> MappingOptions:
    """The options of the mapping network."""
    return MappingOptions(
      z_dim=self.z_dim,
      w_dim=self.w_dim,
      widths=self.mapping_widths,
      num_classes=self.num_classes,
      embed_dim=self.embed_dim,
      label_input=self.label_input,
      lr_multiplier=self.mapping_lr_multiplier,
    )

  def check(self) -> None:
    """Raises InputError if the options do not fit together."""
    bounds.check(self)
    check_widths(self.resolution, self.widths, self.rows)
    if max(self.image_size) > LARGEST_RESOLUTION:
      problem = f'images would have {self.image_size[0]} x {self.image_size[1]} pixels'
      raise InputError('start', self.start, problem, f'give one that makes at most {LARGEST_RESOLUTION}')
    self.mapping().check(self.rows)

  def room_for_mean(self) -> Buffer:
    """An empty array for the mean of w: (w_dim,), or (L, w_dim) if each row has its own."""
    own = self.mapping_widths and self.mapping_widths[-1] != self.w_dim
    return Buffer(jnp.zeros((self.rows, self.w_dim) if own else (self.w_dim,)))


class Mapped:
  """Methods of a generator with a mapping network.

  The generator has `dtype`, `rows` (L, of w+), `mapping_network` and, if the mean of w is known, `w_avg`.
  """

  def _begin(self, options) -> None:
    """Checks the options and takes the sizes from them."""
    options.check()
    self.options = options
    self.z_dim, self.w_dim, self.num_classes = options.z_dim, options.w_dim, options.num_classes
    self.resolution, self.image_size = options.resolution, options.image_size
    self.image_channels = options.image_channels

  def sample(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array | None]:
    """n draws of z (n, z_dim), standard normal, and of class indices (n,), uniform, or None without classes."""
    return sample_normal(key, n, self.z_dim, self.num_classes)

  def mapping(self, z: ArrayLike, labels: ArrayLike | None = None) -> jax.Array:
    """z (N, z_dim) and labels to w before truncation: (N, w_dim), or (N, L w_dim) if each row has its own w."""
    z = checked_z(z, self.z_dim, self.dtype)
    return self.mapping_network(z, label_rows(labels, self.num_classes, z.shape[0], self.dtype))

  def wplus(self, w: ArrayLike, truncation: float = 1.0, truncation_layers: int | None = None) -> WPlus:
    """w, as `mapping` returns it, to w+ (N, L, w_dim), the first `truncation_layers` rows moved towards the mean of w.

    Raises:
      InputError: w of another shape; a truncation that is not a number, or other than 1 if the mean is not known.
    """
    truncation, count = checked_truncation(truncation, truncation_layers, self.rows)
    w = checked_w(w, self.mapping_network.options.outputs, self.dtype)
    rows = w.reshape(w.shape[0], w.shape[1] // self.w_dim, self.w_dim)
    rows = jnp.broadcast_to(rows, (w.shape[0], self.rows, self.w_dim))
    if truncation == 1 or count == 0:  # exactly the output of the mapping
      return WPlus(rows)
    if not hasattr(self, 'w_avg'):
      problem = 'the mean of w is not known for this generator'
      raise InputError('truncation', truncation, problem, 'give 1, or convert its file again with --mean_w=10000')
    return WPlus(truncated(rows, self.w_avg[...], truncation, count))

  def map(
    self,
    z: ArrayLike,
    labels: ArrayLike | None = None,
    truncation: float = 1.0,
    truncation_layers: int | None = None,
  ) -> WPlus:
    """z (N, z_dim) and labels to w+ (N, L, w_dim): `wplus` of `mapping`."""
    return self.wplus(self.mapping(z, labels), truncation, truncation_layers)


class Grown(Mapped):
  """Methods of a generator that grows from a learnt constant, `const` (4, 4, C) if images are square, by doublings."""

  @property
  def rows(self) -> int:
    """L, the rows of w+."""
    return self.options.rows

  @property
  def dtype(self):
    return self.const[...].dtype

  def _constant(self, samples: int) -> jax.Array:
    const = self.const[...]
    return jnp.broadcast_to(const[None], (samples, *const.shape))
