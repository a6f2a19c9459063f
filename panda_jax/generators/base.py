"""Shared by the families: stored arrays that are not learnt, w+ latents, and the checks of a user's arguments.

Letters as in protocol.py; L is the number of w+ rows.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from panda_jax.errors import InputError
from panda_jax.generators.labels import checked as checked_labels


class Buffer(nnx.Variable):
  """An array that is stored with the weights and is not learnt: constant noise, mean latents, statistics."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WPlus:
  """Latents of the families with a mapping network.

  Attributes:
    wplus: (N, L, w_dim), one row per style input, after truncation.
  """

  wplus: jax.Array

  def replace(self, **changes) -> 'WPlus':
    """A copy with some fields changed."""
    return dataclasses.replace(self, **changes)


def is_concrete(array) -> bool:
  """Whether the values of an array are known (not while JAX traces a function)."""
  return not isinstance(array, jax.core.Tracer)


def checked_z(z: ArrayLike, z_dim: int, dtype) -> jax.Array:
  """z (N, z_dim) in the generator's dtype.

  Raises:
    InputError: z has another shape.
  """
  shape = np.shape(z)
  if len(shape) != 2 or shape[1] != z_dim:
    text = 'x'.join(map(str, shape))
    raise InputError('z', f'shape {text}', f'this generator draws from {z_dim} numbers', f'give shape (N, {z_dim})')
  return jnp.asarray(z).astype(dtype)


def checked_w(w: ArrayLike, width: int, dtype) -> jax.Array:
  """w (N, width), as the mapping network returns it, in the generator's dtype.

  Raises:
    InputError: w has another shape.
  """
  shape = np.shape(w)
  if len(shape) != 2 or shape[1] != width:
    text = 'x'.join(map(str, shape))
    raise InputError('w', f'shape {text}', f'w of this generator has {width} numbers', f'give shape (N, {width})')
  return jnp.asarray(w).astype(dtype)


def label_rows(labels: ArrayLike | None, num_classes: int, samples: int, dtype=jnp.float32) -> jax.Array | None:
  """Labels as rows (N, num_classes), from class indices (N,) or from rows; None for an unconditional generator.

  Raises:
    InputError: labels are missing, superfluous, out of range, or not one per sample.
  """
  if num_classes == 0:
    if labels is None or np.shape(labels) == (samples, 0):
      return None
    raise InputError('labels', _brief(labels), 'this generator is unconditional', 'leave the labels out')
  remedy = (
    f'give indices from 0 to {num_classes - 1}, or rows (N, {num_classes}), one for each sample; '
    f'--labels=0 is one for all, a fit takes --labels=0-{num_classes - 1} in turn'
  )
  if labels is None:
    raise InputError('labels', None, f'not given, and this generator has {num_classes} classes', remedy)
  rows = checked_labels(labels, remedy) if is_concrete(labels) else cast(jax.Array, labels)
  text = 'x'.join(map(str, rows.shape))
  if len(rows) != samples:
    raise InputError('labels', f'shape {text}', f'there must be one label per sample, {samples}', remedy)
  if rows.ndim == 2:
    if rows.shape[1] != num_classes:
      raise InputError('labels', f'shape {text}', f'rows of this generator have {num_classes} numbers', remedy)
    return jnp.asarray(rows).astype(dtype)
  if is_concrete(rows) and rows.max() >= num_classes:
    raise InputError('labels', rows.max(), 'there is no such class', remedy)
  return jax.nn.one_hot(jnp.asarray(rows), num_classes, dtype=dtype)


def _brief(value) -> str:
  text = str(value)
  return text if len(text) <= 40 else f'{text[:37]}...'


def checked_layer(layer: int, layers: dict[int, tuple[int, int, int]]) -> int:
  """The layer, if the generator can be split there.

  Raises:
    InputError: it is not among `layers`; the text gives their range.
  """
  if isinstance(layer, numbers.Integral) and not isinstance(layer, bool) and int(layer) in layers:
    return int(layer)
  valid = sorted(layers)
  unbroken = valid == list(range(valid[0], valid[-1] + 1))
  text = f'{valid[0]} to {valid[-1]}' if unbroken else ', '.join(map(str, valid))
  raise InputError('layer', layer, 'this generator cannot be split there', f'give one of the layers {text}')


def checked_features(features: ArrayLike, samples: int, size: tuple[int, int, int], layer: int, dtype) -> jax.Array:
  """Feature maps (N, H, W, C) that a caller passes in at a layer, in the generator's dtype; `size` is its (C, H, W).

  Raises:
    InputError: they have another shape.
  """
  channels, height, width = size
  expected, found = (samples, height, width, channels), np.shape(features)
  if found != expected:
    texts = ['x'.join(map(str, shape)) for shape in (found, expected)]
    raise InputError(
      'features',
      f'shape {texts[0]}',
      f'layer {layer} has {texts[1]} for these latents',
      'give (N, H, W, C) of that size',
    )
  return jnp.asarray(features).astype(dtype)


def checked_wplus(latents: WPlus, rows: int, w_dim: int, dtype) -> jax.Array:
  """The rows of w+ (N, L, w_dim) in the generator's dtype.

  Raises:
    InputError: they are not `WPlus`, or of another shape.
  """
  if not isinstance(latents, WPlus):
    raise InputError('latents', type(latents).__name__, 'they are not w+ latents', 'give what `map` returns, or WPlus')
  shape = np.shape(latents.wplus)
  if len(shape) != 3 or shape[1:] != (rows, w_dim):
    text = 'x'.join(map(str, shape))
    raise InputError('latents', f'shape {text}', 'w+ of another generator', f'give shape (N, {rows}, {w_dim})')
  return jnp.asarray(latents.wplus).astype(dtype)


def checked_resolution(resolution: int) -> int:
  """The resolution, a power of two of at least 8.

  Raises:
    InputError: it is not.
  """
  if not isinstance(resolution, numbers.Integral) or resolution < 8 or resolution & (resolution - 1):
    raise InputError('resolution', resolution, 'it must be a power of two from 8', 'give one such as 256')
  return int(resolution)


def check_widths(resolution: int, widths: Sequence[int], count: int) -> None:
  """Raises InputError unless a resolution is a power of two of at least 8 and there are `count` widths."""
  checked_resolution(resolution)
  if len(widths) != count:
    raise InputError('widths', widths, f'a resolution of {resolution} needs {count} of them', 'give that many')


def checked_noise(noise: str | jax.Array) -> str | jax.Array:
  """'const', 'none' or a PRNG key.

  Raises:
    InputError: it is something else.
  """
  if isinstance(noise, str):
    if noise in ('const', 'none'):
      return noise
  elif isinstance(noise, jax.Array):
    old_style = noise.dtype == jnp.uint32 and noise.ndim >= 1
    if old_style or jnp.issubdtype(noise.dtype, jax.dtypes.prng_key):
      return noise
  raise InputError('noise', _brief(noise), 'there is no such noise', "give 'const', 'none' or a key of jax.random")


def checked_truncation(truncation: float, truncation_layers: int | None, rows: int) -> tuple[float, int]:
  """The factor, and the number of first w+ rows that it acts on (at most all of them).

  Raises:
    InputError: the factor is not a finite number, or the count is negative.
  """
  if isinstance(truncation, bool) or not isinstance(truncation, numbers.Real) or not math.isfinite(truncation):
    raise InputError(
      'truncation', _brief(truncation), 'it must be a finite number', 'give one such as 0.7, or 1 for none'
    )
  if truncation_layers is None:
    return float(truncation), rows
  if (
    not isinstance(truncation_layers, numbers.Integral) or isinstance(truncation_layers, bool) or truncation_layers < 0
  ):
    raise InputError(
      'truncation_layers', _brief(truncation_layers), 'it must be a count of w+ rows', f'give one from 0 to {rows}'
    )
  return float(truncation), min(int(truncation_layers), rows)


def truncated(wplus: jax.Array, w_avg: jax.Array, truncation: float, count: int) -> jax.Array:
  """Rows of w+ (N, L, w_dim), the first `count` moved towards the mean: w_avg + truncation (w - w_avg).

  The mean is (w_dim,) or (L, w_dim), or (N, 1, w_dim) if each sample has its own. With truncation 1 nothing is
  computed, so that w+ is exactly the output of the mapping.
  """
  if truncation == 1 or count == 0:
    return wplus
  _, L, w_dim = wplus.shape
  centre = w_avg if w_avg.ndim == 3 else w_avg.reshape(1, -1, w_dim)
  centre = jnp.broadcast_to(centre, (len(centre), L, w_dim))[:, :count]
  drawn = centre + truncation * (wplus[:, :count] - centre)
  return jnp.concatenate([drawn, wplus[:, count:]], axis=1)


def sample_normal(key: jax.Array, n: int, z_dim: int, num_classes: int) -> tuple[jax.Array, jax.Array | None]:
  """n draws of z (n, z_dim), standard normal, and of class indices (n,), uniform; None without classes."""
  z_key, label_key = jax.random.split(key)
  z = jax.random.normal(z_key, (n, z_dim), jnp.float32)
  return z, jax.random.randint(label_key, (n,), 0, num_classes, jnp.int32) if num_classes else None


class DrivenByZ:
  """Methods of a generator without mapping network and w: its input is z, and a class if it has classes.

  The generator has `dtype`, and `_latents`: checked z (N, z_dim) and label rows (N, num_classes) or None to latents.
  """

  family: str
  dtype: Any
  _latents: Callable[[jax.Array, jax.Array | None], jax.Array]
  w_dim = 0

  def _begin(self, options) -> None:
    """Checks the options and takes the sizes from them."""
    options.check()
    self.options = options
    self.z_dim, self.num_classes = options.z_dim, options.num_classes
    self.resolution, self.image_channels = options.resolution, options.image_channels
    self.image_size = options.resolution, options.resolution

  def sample(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array | None]:
    """n draws of z, standard normal, and of class indices, uniform; None without classes."""
    return sample_normal(key, n, self.z_dim, self.num_classes)

  def map(
    self,
    z: ArrayLike,
    labels: ArrayLike | None = None,
    truncation: float = 1.0,
    truncation_layers: int | None = None,
  ) -> jax.Array:
    """z (N, z_dim) and labels to the latents that the class docstring describes.

    Raises:
      InputError: a truncation other than 1, as there is no mean to truncate towards; wrong shapes and labels.
    """
    truncation, _ = checked_truncation(truncation, truncation_layers, 1)
    if truncation != 1:
      problem = f'a generator of the family {self.family} has no mapping network to truncate'
      raise InputError('truncation', truncation, problem, 'give 1')
    z = checked_z(z, self.z_dim, self.dtype)
    return self._latents(z, label_rows(labels, self.num_classes, z.shape[0], self.dtype))
