"""The result of an inversion, and its progress.

Letters: N photographs, (h, w) pixels, L rows of w+, K times at which the errors were read.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.generators.protocol import Held, State
from panda_jax.generators.spaces import latents_of

SPACES = 'z', 'w', 'wplus', 'features'


class Curve(NamedTuple):
  """The progress of an inversion.

  Attributes:
    seconds: (K,) since it began, without compilation.
    values: (K, N), the error of each photograph plus its prior.
  """

  seconds: np.ndarray
  values: np.ndarray

  def then(self, more: 'Curve') -> 'Curve':
    """This curve, followed by `more`."""
    return Curve(
      np.concatenate([self.seconds, self.seconds[-1] + more.seconds]), np.concatenate([self.values, more.values])
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Inversion:
  """Photographs as a generator's latents, and features where these were free.

  Attributes:
    space: the space of the search: 'z', 'w', 'wplus', or 'features'.
    array: the latents, (N, z_dim), (N, w_dim) or (N, L, w_dim); with features z or w+.
    labels: class rows (N, num_classes) that go with z, or None.
    layer: the layer where features were free, or None.
    features: (N, H, W, C) at the layer, or None.
    rgb: (N, h, w, channels) accumulated before the layer, or None if the family has none.
    skips: more feature maps of earlier layers, as in `State`.
    noise: noise inputs of the generator's layers: 'none' or 'const'.
    weights: SHA-256 (hex) of the generator's options and weights.
    images: (N, h, w, channels) float32, the generator's images from the latents and features, not clipped.
    photographs: (N, h, w, channels) float32 in [-1, 1], the inverted photographs.
    reasons: why each ended: 'converged'; 'stalled', no step lowers the error; 'steps', the evaluations were used up.
    curve: how the error fell: `seconds` (K,) since the start and `values` (K, N).

  Example:
    >>> found = panda_jax.invert(quarters, images[:2], evaluations=50)
    >>> found.images.shape, bool((found.psnr > 60).all())
    ((2, 8, 8, 3), True)
    >>> bool(np.allclose(quarters(found.latents(quarters)), found.images, atol=1e-6))
    True
    >>> found.array_space, found.chosen([1]).array.shape
    ('z', (1, 12))
  """

  space: str
  array: np.ndarray
  labels: np.ndarray | None
  layer: int | None
  features: np.ndarray | None
  rgb: np.ndarray | None
  skips: tuple[np.ndarray, ...]
  noise: str
  weights: str
  images: np.ndarray
  photographs: np.ndarray
  reasons: tuple[str, ...]
  curve: Curve

  def __len__(self) -> int:
    return len(self.array)

  def __repr__(self) -> str:
    found = ', '.join(f'{x:.1f}' for x in self.psnr[:8])
    return f'Inversion of {len(self)} photographs in {self.space}; PSNR {found}{" ..." * (len(self) > 8)} dB'

  @property
  def psnr(self) -> np.ndarray:
    """(N,) peak signal-to-noise ratio of the clipped images, dB."""
    return psnr(self.images, self.photographs)

  @property
  def array_space(self) -> str:
    """'z', 'w' or 'wplus', the space of `array`."""
    return self.space if self.space != 'features' else ('z', 'wplus')[self.array.ndim - 2]

  def latents(self, generator: Any):
    """The generator's input that gives `images`: latents, or features held at the layer."""
    labels = None if self.labels is None else jnp.asarray(self.labels)
    found = latents_of(generator, jnp.asarray(self.array), self.array_space, labels)
    if self.features is None or self.layer is None:
      return found
    state = State(*jax.tree.map(jnp.asarray, (self.features, self.rgb, self.skips)))
    return Held(found, state, self.layer, self.noise)

  def chosen(self, rows: Sequence[int]) -> 'Inversion':
    """The inversion of some of the photographs, by their numbers."""
    rows = list(rows)
    arrays = {name: getattr(self, name) for name in ('array', 'labels', 'features', 'rgb', 'images', 'photographs')}
    return dataclasses.replace(
      self,
      **{name: None if x is None else x[rows] for name, x in arrays.items()},
      skips=tuple(x[rows] for x in self.skips),
      reasons=tuple(self.reasons[i] for i in rows),
      curve=Curve(self.curve.seconds, self.curve.values[:, rows]),
    )


def psnr(images: np.ndarray, photographs: np.ndarray) -> np.ndarray:
  """(N,) dB, of images (N, h, w, channels) clipped to [-1, 1]."""
  errors = np.mean(np.square(np.clip(images, -1, 1) - photographs, dtype=np.float64), axis=(1, 2, 3))
  return 10 * np.log10(4 / np.maximum(errors, 1e-12))


def joined(curves: Sequence[Curve]) -> Curve:
  """The curve of batches one after the other: as many points as the longest has; shorter ones keep their last value."""
  most = max(len(curve.seconds) for curve in curves)
  values = [np.pad(c.values, ((0, most - len(c.values)), (0, 0)), 'edge') for c in curves]
  longest = max(curves, key=lambda c: len(c.seconds)).seconds
  return Curve(longest, np.concatenate(values, axis=1))
