"""The Jacobian of an image with respect to its latents: columns by forward mode, at a chosen resolution.

LowRankGAN (Zhu et al. 2021, section 3.1) and ReSeFa (Zhu et al. 2022, section 3) start from J of one image with respect
to one w that drives all rows of w+, or to z. Here J may be with respect to some rows only, those that edits move later.
The primal runs once per chunk, and the linear map is applied to a chunk of tangents at a time. On two CPU cores, cats64
with 16 columns of 64 x 64 pixels takes 5.5 ms per column; 13 ms if the primal is batched with the tangents, 15 ms with
a primal for each tangent.

Letters: N samples, d latent size, h, w pixels of the Jacobian's image, c its channels (3, or 1 if they are joined).
"""

import functools
import numbers
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators import seeds as numbered
from panda_jax.generators.labels import in_turn
from panda_jax.generators.source import Draws
from panda_jax.generators.structure import Structure, plain, split
from panda_jax.rivals.movement import checked_rows, latent_space, moved

RESIZES = ('area', 'nearest')
CHANNELS = ('rgb', 'mean', 'sum')
CHUNK_PIXELS, MOST_COLUMNS = 1 << 21, 32  # of full-size images in one chunk


def nearest_indices(size: int, smaller: int) -> np.ndarray:
  """(smaller,): the pixels of `size` that the nearest rule keeps: floor(i size / smaller), as in the published code."""
  return np.arange(smaller) * size // smaller


def area_weights(size: int, smaller: int) -> np.ndarray:
  """(smaller, size), rows that sum to 1: the weight of each pixel in the mean over a larger pixel."""
  edges = np.arange(smaller + 1) * (size / smaller)
  pixels = np.arange(size)
  upper = np.minimum(edges[1:, None], pixels[None] + 1)
  overlap = np.maximum(upper - np.maximum(edges[:-1, None], pixels[None]), 0)
  return overlap / overlap.sum(axis=1, keepdims=True)


def reduced_size(size: tuple[int, int], resolution: int | None) -> tuple[int, int]:
  """(h, w) with a longer side of `resolution` at most. Images are never enlarged: that would only repeat pixels."""
  if resolution is None or max(size) <= resolution:
    return size
  return tuple(max(1, round(side * resolution / max(size))) for side in size)


def reduced_mask(mask: np.ndarray, size: tuple[int, int], resize: str) -> np.ndarray:
  """A mask (H, W) of the image on the Jacobian's pixels (h, w), float64 in [0, 1]."""
  mask = np.asarray(mask, np.float64)
  if resize == 'nearest':
    rows, columns = (nearest_indices(a, b) for a, b in zip(mask.shape, size, strict=True))
    return mask[rows][:, columns]
  down, across = (area_weights(a, b) for a, b in zip(mask.shape, size, strict=True))
  return np.clip(np.round(down @ mask @ across.T, 9), 0, 1)  # whole pixels are exactly 0 or 1


def reference_latents(
  generator,
  seeds: Sequence[int],
  labels=None,
  truncation: float = 1.0,
  truncation_layers: int | None = None,
):
  """Latents of the images whose Jacobians are computed, from seeds; see `generators.seeds.draws`.

  Args:
    labels: class indices or rows; image i has labels[i mod len(labels)].

  Raises:
    InputError: no seeds, or labels or truncation that do not fit the generator.
  """
  if not len(seeds):
    raise InputError('seeds', '()', 'there is no reference image', 'give one seed or more')
  labels = in_turn(labels, range(len(seeds)))
  z = numbered.draws(generator, seeds)
  return generator.map(z, labels, truncation=truncation, truncation_layers=truncation_layers)


class Jacobian:
  """dI/d(latent) of single images, a chunk of columns per compiled call; latents and tangents are its arguments.

  Another image, region or seed compiles nothing, nor does another Jacobian of the same structure and rules.

  Attributes:
    space, d: of the latent, 'w' or 'z', and its size.
    size: (h, w).
    image: (H, W), the generator's own size.
    channels: c.

  Args:
    generator: of one of our families, plain or `Compiled`, or any object with the methods of the protocol that JAX can
      trace.
    space: 'w', one w added to `layers`; 'z', added to latents without a mapping network, or through the mapping network
      where latents are given as `Draws`. The generator's own by default.
    layers: rows of w+ that move; all by default.
    resolution: of the longer side; larger images are reduced to it.
    resize: 'area' averages pixels; 'nearest' drops pixels, as published, which causes aliasing.
    channels: 'rgb' keeps them; 'mean' and 'sum' join them, as published, and changes of opposite sign cancel.
    truncation, truncation_layers: of the mapping of `Draws`.
    noise: 'const' or 'none'.
    chunk: columns at a time; by size if left out.

  Raises:
    InputError: the space, layers, resolution or rule does not exist, or JAX cannot trace the generator.
  """

  def __init__(
    self,
    generator,
    space: str | None = None,
    layers: Sequence[int] | None = None,
    *,
    resolution: int | None = None,
    resize: str = 'area',
    channels: str = 'rgb',
    truncation: float = 1.0,
    truncation_layers: int | None = None,
    noise: str = 'const',
    chunk: int | None = None,
  ):
    self.generator = plain(generator)
    own, self.d = latent_space(self.generator)
    self.space = own if space is None else space
    if self.space not in ('w', 'z') or (self.space == 'w' and own == 'z'):
      raise InputError('space', self.space, 'this generator has no such latents', "give 'w' or 'z' of its own")
    if self.space == 'z':
      self.d = self.generator.z_dim
      if layers is not None:
        raise InputError('layers', tuple(layers), 'there are no rows of w+ in z', 'leave them out')
    for name, value, known in (('resize', resize, RESIZES), ('channels', channels, CHANNELS)):
      if value not in known:
        raise InputError(name, value, 'there is no such rule', f'give one of {", ".join(known)}')
    for name, value in (('resolution', resolution), ('chunk', chunk)):
      if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1):
        raise InputError(name, value, 'it is not a number of pixels or columns', 'give one from 1')
    self.layers = None if layers is None else tuple(layers)
    self.resize, self.joined = resize, channels
    self._rule = _Rule(self.space, self.layers, resize, channels, noise, float(truncation), truncation_layers)
    self._chunk, self._resolution = chunk, resolution
    self.image = self.size = self.channels = None
    self._structure, self._arrays = split(self.generator)

  def prepare(self, latents) -> None:
    """Finds the sizes of images, from latents of any number of samples; other methods call it on first use.

    Raises:
      InputError: JAX cannot trace the generator.
    """
    if self.size is not None:
      return
    if self.space == 'w' and self.layers is not None:
      checked_rows(self.layers, latents.wplus.shape[1])
    step = jnp.zeros(self.d, self._dtype(latents))
    try:
      image = functools.partial(_image, self._structure, self._rule, None)
      H, W, self.channels = jax.eval_shape(image, self._arrays, one_of(latents, 0), step).shape
    except jax.errors.JAXTypeError as error:
      raise untraceable(self.generator) from error
    self.image, self.size = (H, W), reduced_size((H, W), self._resolution)
    self._chunk = self._chunk or int(np.clip(CHUNK_PIXELS // (H * W), 1, MOST_COLUMNS))

  def _dtype(self, latents):
    return next(leaf.dtype for leaf in jax.tree.leaves(latents) if jnp.issubdtype(leaf.dtype, jnp.floating))

  def products(self, latents, tangents, on_columns: Callable[[int], None] = lambda done: None) -> np.ndarray:
    """J applied to tangents: (K, h, w, c), in the generator's dtype.

    Args:
      latents: of one sample, as of `generator.map`, or `Draws` of one sample.
      tangents: (K, d).
      on_columns: called with the number of columns done.

    Raises:
      InputError: latents of another number of samples, tangents of another size.
      NonFiniteError: a column is not finite.
    """
    self.prepare(latents)
    N, tangents = jax.tree.leaves(latents)[0].shape[0], np.asarray(tangents, self._dtype(latents))
    if N != 1:
      raise InputError('latents', f'{N} samples', 'a Jacobian is of one image', 'give one at a time')
    if tangents.ndim != 2 or tangents.shape[1] != self.d:
      raise InputError('tangents', f'shape {tangents.shape}', f'the latent has {self.d} numbers', 'give (K, d)')
    found, K = np.empty((len(tangents), *self.size, self.channels), tangents.dtype), self._chunk
    for first in range(0, len(tangents), K):
      chunk = tangents[first : first + K]
      filled = np.concatenate([chunk, np.zeros((K - len(chunk), self.d), chunk.dtype)])  # one program for all chunks
      found[first : first + K] = self._push(latents, filled)[: len(chunk)]
      finite = np.isfinite(found[first : first + K]).all(axis=(1, 2, 3))
      if not finite.all():
        where = f'column {first + int(np.argmin(finite))}'
        raise NonFiniteError('jacobian', where, 'a derivative is not finite', 'check the generator at this sample')
      on_columns(min(first + K, len(tangents)))
    return found

  def columns(self, latents, on_columns: Callable[[int], None] = lambda done: None) -> np.ndarray:
    """All columns of J: (d, h, w, c). Arguments and errors as of `products`."""
    return self.products(latents, np.eye(self.d), on_columns)

  def _push(self, latents, tangents: np.ndarray) -> jax.Array:
    return _pushed(self._arrays, latents, tangents, self._structure, self._rule, self.size)


def untraceable(generator) -> InputError:
  """The error for a generator that JAX cannot trace, and so cannot differentiate."""
  return InputError('generator', type(generator).__name__, 'JAX cannot trace it', 'write its methods in jax.numpy')


def one_of(latents, i: int):
  """Sample i of latents, as latents of one sample."""
  return jax.tree.map(lambda leaf: leaf[i : i + 1], latents)


def compilations() -> int:
  """How often Jacobians were compiled so far in this process."""
  return _pushed._cache_size()


class _Rule(NamedTuple):
  """The latent that J is with respect to, and how the image is reduced."""

  space: str
  layers: tuple[int, ...] | None
  resize: str
  joined: str
  noise: str
  truncation: float
  truncation_layers: int | None


def _image(structure: Structure, rule: _Rule, size: tuple[int, int] | None, arrays, latents, step) -> jax.Array:
  """The image (h, w, c) after its latents are moved by step (d,); not reduced if size is None."""
  generator = structure.generator(arrays)
  if isinstance(latents, Draws):
    options = {'truncation': rule.truncation, 'truncation_layers': rule.truncation_layers}
    latents = generator.map(latents.z + step[None], latents.labels, **options)
  else:
    latents = moved(generator, latents, rule.space, rule.layers, step)
  picture = generator(latents, noise=rule.noise)[0]
  if rule.joined != 'rgb':
    join = jnp.mean if rule.joined == 'mean' else jnp.sum
    picture = join(picture, axis=2, keepdims=True)
  if size is None or picture.shape[:2] == size:
    return picture
  sides = list(zip(picture.shape[:2], size, strict=True))
  if rule.resize == 'nearest':
    rows, columns = (nearest_indices(*side) for side in sides)
    return picture[rows][:, columns]
  down, across = (jnp.asarray(area_weights(*side), picture.dtype) for side in sides)
  return jnp.einsum('ah,hwc,bw->abc', down, picture, across, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.jit, static_argnames=('structure', 'rule', 'size'))
def _pushed(arrays, latents, tangents: jax.Array, structure: Structure, rule: _Rule, size: tuple[int, int]):
  """J applied to tangents (K, d): (K, h, w, c)."""
  image = functools.partial(_image, structure, rule, size, arrays, latents)
  push = jax.linearize(image, jnp.zeros_like(tangents[0]))[1]
  return jax.vmap(push)(tangents)
