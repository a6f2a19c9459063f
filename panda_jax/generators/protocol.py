"""What the rest of the package needs of a generator: a few methods, and the state between two layers.

Any class with the methods of `Generator` is one (examples/custom_generator.py shows it for a DCGAN). One that also has
those of `Mapped` accepts w and w+ in place of z. Letters: N samples, H, W grid, C channels of a layer, L rows of w+.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.typing import ArrayLike

Latents = Any  # a pytree that drives the generator; every leaf has a leading axis N


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """All that is needed to go on from a layer.

  Attributes:
    features: (N, H, W, C), the feature maps Z at the layer.
    rgb: (N, h, w, channels), the image accumulated by the layers before it, or None if the family has none.
    skips: (N, h, w, c) each, feature maps of earlier layers that later ones read besides, the smallest first; none in
      most families. The map at the layer itself is not among them: whoever reads it later reads `features`.

  Example:
    >>> state = quarters.run_to(latents, 1)
    >>> edited = quarters.run_from(latents, state.replace(features=2 * state.features), 1)
  """

  features: jax.Array
  rgb: jax.Array | None = None
  skips: tuple[jax.Array, ...] = ()

  def replace(self, **changes) -> 'State':
    """A copy with some fields changed: `state.replace(features=...)` is an edited state."""
    return dataclasses.replace(self, **changes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Held:
  """Latents with a state that replaces the output of the layers before it: inverted features.

  Attributes:
    latents: of N samples, which drive the layers after the state.
    state: at the layer.
    layer: the split point of the state.
    noise: 'const' or 'none', the noise with which the state gives the inverted picture.
  """

  latents: Latents
  state: State
  layer: int = dataclasses.field(metadata={'static': True})
  noise: str = dataclasses.field(metadata={'static': True})


def driving(latents: Latents) -> Latents:
  """The input of the layers after a state: the latents themselves, without the state that they may hold."""
  return latents.latents if isinstance(latents, Held) else latents


@runtime_checkable
class Generator(Protocol):
  """The protocol of an image generator; images are (N, H, W, channels), -1 black and 1 white.

  They are not clipped: values may lie beyond, and whoever draws them clips.

  `noise` chooses the per-layer noise of the families that have it: 'const' (the stored maps), 'none', or a PRNG key,
  from which the noise of layer i is drawn with `jax.random.fold_in(key, i)`, so that `run_to` and `run_from` agree.
  Families without noise accept the argument and ignore it.

  Example:
    >>> from panda_jax.generators.protocol import Generator
    >>> isinstance(quarters, Generator), quarters.layers  # {layer: (channels, height, width)}
    (True, {1: (3, 4, 4)})
    >>> z, labels = quarters.sample(jax.random.key(0), 40)
    >>> latents = quarters.map(z, labels)
    >>> state = quarters.run_to(latents, 1)
    >>> bool((quarters.run_from(latents, state, 1) == quarters(latents)).all())
    True
  """

  z_dim: int
  num_classes: int  # 0 where the generator is unconditional

  @property
  def layers(self) -> dict[int, tuple[int, int, int]]:
    """(channels, height, width) of each layer at which the generator can be split, by its number as PandA counts."""

  def map(
    self,
    z: ArrayLike,
    labels: ArrayLike | None = None,
    truncation: float = 1.0,
    truncation_layers: int | None = None,
  ) -> Latents:
    """(N, z_dim) to latents. Labels are class indices (N,) or one-hot rows (N, num_classes)."""

  def run_to(self, latents: Latents, layer: int, noise: str | jax.Array = 'const') -> State:
    """Runs the layers before the split point."""

  def run_from(
    self, latents: Latents, state: State, layer: int, noise: str | jax.Array = 'const', drop_rgb: bool = False
  ) -> jax.Array:
    """Goes on from the split point to the image; `drop_rgb` forgets the accumulated RGB, as published PandA does."""

  def __call__(self, latents: Latents, noise: str | jax.Array = 'const') -> jax.Array:
    """The whole generator; equals run_from(latents, run_to(latents, l), l) for every l."""

  def sample(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array | None]:
    """n draws from the family's own prior: z (n, z_dim), and class indices (n,) where there are classes, else None."""


@runtime_checkable
class Mapped(Generator, Protocol):
  """A generator with a mapping network: `map(z)` is `wplus(mapping(z))`, latents are `base.WPlus`.

  Example:
    >>> from panda_jax.generators.protocol import Mapped
    >>> isinstance(generator, Mapped), isinstance(quarters, Mapped)
    (True, False)
    >>> compiled = panda_jax.Compiled(generator)
    >>> w = compiled.mapping(np.zeros((2, generator.z_dim)))
    >>> compiled.wplus(w, truncation=0.7).wplus.shape  # N, L, w_dim
    (2, 10, 128)
  """

  w_dim: int

  def mapping(self, z: ArrayLike, labels: ArrayLike | None = None) -> jax.Array:
    """z and labels to w before truncation: (N, w_dim), or (N, L w_dim) if each row of w+ has its own w."""

  def wplus(self, w: ArrayLike, truncation: float = 1.0, truncation_layers: int | None = None) -> Latents:
    """w to w+ (N, L, w_dim), the first `truncation_layers` rows drawn towards the mean of w."""


def image_shape(generator: Any) -> tuple[int, int, int]:
  """(h, w, channels) of a generator's images."""
  size, channels = getattr(generator, 'image_size', None), getattr(generator, 'image_channels', None)
  if size is not None and channels is not None:
    return (*size, channels)
  labels = np.zeros(1, np.int32) if generator.num_classes else None
  z = np.zeros((1, generator.z_dim), np.float32)
  return jax.eval_shape(lambda z: generator(generator.map(z, labels)), z).shape[1:]
