"""StyleGAN-XL: StyleGAN3 layers, of a stem or of super-resolution heads on a stem, driven by a class.

A head replaces the last layers of the network that it extends. So the options list the sampling of each layer, while
that of a StyleGAN3 follows from a few numbers. The embedding of a class was learnt by another network, and each class
has its own mean of w.

Source: Sauer, Schwarz and Geiger 2022, StyleGAN-XL: Scaling StyleGAN to large diverse datasets.
"""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from panda_jax.errors import InputError
from panda_jax.generators import bounds
from panda_jax.generators.base import Buffer, WPlus, checked_truncation, checked_z, label_rows, truncated
from panda_jax.generators.bounds import LARGEST_RESOLUTION, Classes, Count, Repeated, Scale, Size, SizeOrZero, Within
from panda_jax.generators.mapping import MappingOptions
from panda_jax.generators.stylegan3 import StyleGAN3
from panda_jax.generators.stylegan3_geometry import LARGEST_MARGIN, Frequency, LayerGeometry, Sampling, chained

LARGEST_SIZE = LARGEST_RESOLUTION + 2 * LARGEST_MARGIN
Entry = tuple[
  Size,
  Annotated[int, Within(1, LARGEST_SIZE)],
  Annotated[int, Within(1, LARGEST_RESOLUTION)],
  Frequency,
  Annotated[float, Within(0, 1e4)],
  Annotated[int, Within(1, 15)],
  bool,
  Scale | None,
]


@dataclasses.dataclass(frozen=True)
class StyleGANXLOptions:
  """Everything that fixes a StyleGAN-XL.

  Attributes:
    z_dim: numbers in z.
    w_dim: numbers in w.
    num_classes: 0 if unconditional.
    embed_dim: numbers in the embedding of a class; 0 if unconditional.
    layers: of each layer, the last makes the image: the numbers of a `Sampling`, and the largest magnitude after the
      leaky ReLU, or None.
    mapping_layers, mapping_rate, output_scale, filter_size, lrelu_upsampling: see StyleGAN3Options.
  """

  z_dim: Size
  w_dim: Size
  num_classes: Classes
  embed_dim: SizeOrZero
  layers: Annotated[tuple[Entry, ...], Repeated(2, 128)]
  mapping_layers: Count
  mapping_rate: Scale
  output_scale: Scale
  filter_size: Annotated[int, Within(1, 64)]
  lrelu_upsampling: Annotated[int, Within(1, 16)]

  @property
  def resolution(self) -> int:
    """Of the image."""
    return self.layers[-1][1]

  @property
  def image_size(self) -> tuple[int, int]:
    """(h, w)."""
    return self.size(self.resolution)

  @property
  def image_channels(self) -> int:
    """Of the image."""
    return self.layers[-1][0]

  def size(self, height: int) -> tuple[int, int]:
    """(H, W) of maps of this height."""
    return height, height

  def geometry(self) -> tuple[LayerGeometry, ...]:
    """Every layer in order; raises InputError if a filter would be too long."""
    outputs = [Sampling(*entry[:-1]) for entry in self.layers]
    return chained(outputs, self.size, self.filter_size, self.lrelu_upsampling)

  def check(self) -> None:
    """Raises InputError if the options do not fit together."""
    bounds.check(self)
    outputs = [Sampling(*entry[:-1]) for entry in self.layers]
    *inner, _, _ = outputs  # the last two are as large as the image, the others share one margin
    margin = inner[0].size - inner[0].rate if inner else 0
    if not 0 <= margin <= 2 * LARGEST_MARGIN:
      problem = f'layer 0 has {inner[0].rate} samples, and a margin is from 0 to {LARGEST_MARGIN}'
      raise InputError('layers', inner[0].size, problem, 'give a size with such a margin on both sides')
    for i, layer in enumerate(outputs):
      if layer.rate & (layer.rate - 1):
        raise InputError('layers', layer.rate, 'a sampling rate is a power of two', 'give one such as 256')
      if layer.cutoff > layer.rate / 2:
        problem = f'layer {i} has {layer.rate} samples, too few for such a cutoff'
        raise InputError('layers', layer.cutoff, problem, f'give a cutoff up to {layer.rate / 2:g}')
      size = layer.rate + margin if i < len(inner) else self.resolution
      if layer.size != size:
        raise InputError('layers', layer.size, f'by the other layers, layer {i} is {size} high', f'give {size}')
    if bool(self.num_classes) != bool(self.embed_dim):
      raise InputError('embed_dim', self.embed_dim, f'there are {self.num_classes} classes', 'give both, or neither')


class StyleGANXL(StyleGAN3):
  """The StyleGAN-XL generator, following panda_jax.generators.protocol.

  Layers are those of a StyleGAN3: layer l is the output of the first l layers, l = 0 the Fourier input.

  Truncation moves w towards the mean of the sample's own class. w alone does not show the class, so a conditional
  generator truncates only from z and labels.

  Args:
    options: those of the architecture.
    rngs: where random weights come from.

  Raises:
    InputError: options that fit no network.
  """

  family = 'stylegan_xl'

  def __init__(self, options: StyleGANXLOptions, rngs: nnx.Rngs):
    self._begin(options)
    conditional = options.num_classes > 0
    mapping = MappingOptions(
      z_dim=options.z_dim,
      w_dim=options.w_dim,
      widths=(options.w_dim,) * options.mapping_layers,
      num_classes=options.embed_dim,  # the label of this mapping network is the embedding
      embed_dim=options.z_dim if conditional else 0,
      label_input='separate' if conditional else 'none',
      lr_multiplier=options.mapping_rate,
      embed_activation='lrelu',
    )
    shape = options.num_classes, options.embed_dim
    self.embedding = nnx.Param(jax.random.normal(rngs.params(), shape)) if conditional else None
    self._build(options.geometry(), mapping, [entry[-1] for entry in options.layers], rngs)
    self.w_avg = Buffer(jnp.zeros((options.num_classes, options.w_dim) if conditional else options.w_dim))

  @property
  def class_means(self) -> bool:
    """Whether each class has its own mean of w, so that w alone cannot be truncated."""
    return self.num_classes > 0

  def mapping(self, z: ArrayLike, labels: ArrayLike | None = None) -> jax.Array:
    """z (N, z_dim) and labels to w (N, w_dim) before truncation. In a row of labels only the largest entry counts."""
    z = checked_z(z, self.z_dim, self.dtype)
    classes = self._classes(labels, len(z))
    return self.mapping_network(z, None if classes is None else self.embedding[...][classes])

  def wplus(self, w: ArrayLike, truncation: float = 1.0, truncation_layers: int | None = None) -> WPlus:
    """w, as `mapping` returns it, to w+ (N, L, w_dim), the first `truncation_layers` rows moved towards the mean of w.

    Raises:
      InputError: w of another shape; a truncation that is not a number, or other than 1 if each class has a mean.
    """
    number, count = checked_truncation(truncation, truncation_layers, self.rows)
    if self.class_means and number != 1 and count:
      problem = 'each class of this generator has a mean of w of its own, and w does not say which class'
      raise InputError('truncation', truncation, problem, 'give z and labels, or leave it out')
    return super().wplus(w, truncation, truncation_layers)

  def map(
    self,
    z: ArrayLike,
    labels: ArrayLike | None = None,
    truncation: float = 1.0,
    truncation_layers: int | None = None,
  ) -> WPlus:
    """z (N, z_dim) and labels to w+ (N, L, w_dim), the first `truncation_layers` rows moved towards the mean of w."""
    w = self.mapping(z, labels)
    number, count = checked_truncation(truncation, truncation_layers, self.rows)
    classes = self._classes(labels, len(w))
    if classes is None:
      return self.wplus(w, truncation, truncation_layers)
    whole = self.wplus(w).wplus
    return WPlus(truncated(whole, self.w_avg[...][classes][:, None], number, count))

  def _classes(self, labels: ArrayLike | None, samples: int) -> jax.Array | None:
    """Class indices (N,), or None without classes."""
    rows = label_rows(labels, self.num_classes, samples, self.dtype)
    return None if rows is None else jnp.argmax(rows, axis=1)
