"""How images respond to edits of the features at a layer: energies of changes, first derivatives, Gram matrices.

An edit adds q a' to the features, with a mask q (S,) and an appearance a (C,). Around an edit the image of sample i
changes by J_i t for a small step t in the edit's parameters. Each column of J_i is one forward-mode derivative of the
layers after the edit only. Nothing of the size of the image is kept. With R the pixels of a region and D_i the change
by the present edit, the search needs only the energies |R (D_i + J_i t)|^2 and |(1 - R)(D_i + J_i t)|^2. These are
quadratic forms of (t, 1) in the Gram matrices of (J_i, D_i) inside and outside.
One reverse-mode derivative gives the slopes of the mean ratio at a finite edit by mask and appearance, over all samples
at once.
Letters: N samples, S positions, C channels, (h, w) pixels, n samples of a batch, k parameters.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.editing.editor import samples_of
from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators.base import checked_layer
from panda_jax.generators.structure import Structure, plain
from panda_jax.generators.structure import split as parted
from panda_jax.regions import metrics

JACOBIAN_BYTES = 128 << 20  # bytes for the columns of a batch of samples; its Grams need all of them at once
BATCH, COLUMNS = 16, 128  # samples at a time; and samples times directions of derivatives at a time
FEW, FEW_COLUMNS = 4, 16  # the same on a CPU, where more does not fit the caches
CHUNK = 16  # directions of a call
HIGHEST = jax.lax.Precision.HIGHEST


class Grams(NamedTuple):
  """Gram matrices of (J_i, D_i) per sample, (N, k + 1, k + 1) float64; the last row and column are of D_i.

  Attributes:
    inside, outside: of the pixels in the region and of the others.
    gained: (N, k + 1) derivative of an attribute along the parameters, and its change by D_i; None without one.
  """

  inside: np.ndarray
  outside: np.ndarray
  gained: np.ndarray | None


class Energies(NamedTuple):
  """Squared norms of changes inside and outside, (N,) float64 each; the attribute's change, or None without one."""

  inside: np.ndarray
  outside: np.ndarray
  gained: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class _Split:
  """Everything that a compiled program depends on; equal ones share programs. Weights are arguments."""

  structure: Structure
  layer: int
  noise: str
  size: int | None
  attribute: Callable | None
  at_once: int  # samples times directions of derivatives

  def images(self, arrays, latents, state, added) -> jax.Array:
    """Images after (S, C) or (n, S, C) is added to the features."""
    features = state.features + added.reshape(-1, *state.features.shape[1:]).astype(state.features.dtype)
    generator = self.structure.generator(arrays)
    return generator.run_from(latents, state.replace(features=features), self.layer, noise=self.noise)

  def compared(self, images, original) -> tuple[jax.Array, jax.Array]:
    """Change of images at the compared size, and change of the attribute."""
    gained = jnp.zeros(len(images)) if self.attribute is None else self.attribute(images) - self.attribute(original)
    return metrics.downsampled(images.astype(jnp.float32) - original.astype(jnp.float32), self.size), gained

  def changed(self, arrays, batch, added) -> tuple[jax.Array, jax.Array]:
    """The changes, see `compared`, if (S, C) or (n, S, C) is added to the features."""
    latents, state, original = batch
    return self.compared(self.images(arrays, latents, state, added), original)


@functools.partial(jax.jit, static_argnums=0)
def _start(split: _Split, arrays, latents):
  return split.structure.generator(arrays).run_to(latents, split.layer, noise=split.noise)


@functools.partial(jax.jit, static_argnums=0)
def _images(split: _Split, arrays, latents, state, mask, direction):
  return split.images(arrays, latents, state, mask[:, None] * direction[None])


@functools.partial(jax.jit, static_argnums=0)
def _energies(split: _Split, images, original, inside):
  change, gained = split.compared(images, original)
  squares = jnp.square(change).sum(axis=-1)
  weights = jnp.square(inside), jnp.square(1 - inside)
  return *((squares * weight[None]).sum(axis=(1, 2)) for weight in weights), gained


@functools.partial(jax.jit, static_argnums=0)
def _slopes(split: _Split, arrays, batch, mask, direction, extra, weights, inside):
  """As `Responses.slopes`, but weighted sums over samples."""

  def changed(added):
    return split.changed(arrays, batch, added)[0]

  change, pull = jax.vjp(changed, mask[:, None] * direction[None])
  squares = jnp.square(change).sum(axis=-1)
  within, without = jnp.square(inside)[None], jnp.square(1 - inside)[None]
  m = jnp.maximum((squares * within).sum(axis=(1, 2)), jnp.finfo(squares.dtype).tiny)
  o = (squares * without).sum(axis=(1, 2)) + extra
  ratios = jnp.sqrt(o / m)
  by_extra = 0.5 / jnp.sqrt(jnp.maximum(o, jnp.finfo(o.dtype).tiny) * m)
  by_energies = 2 * by_extra.reshape(-1, 1, 1) * without - (ratios / m).reshape(-1, 1, 1) * within
  (back,) = pull((weights.reshape(-1, 1, 1) * by_energies)[..., None] * change)
  return weights @ ratios, weights @ by_extra, back


@functools.partial(jax.jit, static_argnums=0)
def _columns(split: _Split, arrays, batch, mask, direction, masks, directions):
  """Changes by mask direction', and their derivatives along masks[k] direction' + mask directions[k]'.

  masks (c, S) and directions (c, C) give images (c + 1, n, h, w, channels), the changes themselves last, and the
  attribute (c + 1, n).
  """
  added = mask[:, None] * direction[None]
  now, along = jax.linearize(lambda added: split.changed(arrays, batch, added), added)
  n = len(now[1])

  def derivative(parameter):
    by_mask, by_direction = parameter
    return along(by_mask[:, None] * direction[None] + mask[:, None] * by_direction[None])

  found = jax.lax.map(derivative, (masks, directions), batch_size=max(1, split.at_once // n))
  return tuple(jnp.concatenate([columns, last[None]]) for columns, last in zip(found, now, strict=True))


@jax.jit
def _gram(columns, inside):
  """Gram matrices (n, k + 1, k + 1), inside and outside, of chunks of columns; all chunks end with the same column."""
  joined = jnp.concatenate([*(chunk[:-1] for chunk in columns), columns[0][-1:]])

  def gram(weight):
    rows = (joined * weight[None, None, :, :, None]).reshape(*joined.shape[:2], -1)
    return jnp.einsum('anx,bnx->nab', rows, rows, precision=HIGHEST)

  return gram(inside), gram(1 - inside)


@functools.partial(jax.jit, static_argnums=0)
def _probed(split: _Split, arrays, batch, probes, masks, directions, regions):
  """probes (n, q, h, w, channels), masks (S, K), directions (C, r), regions (K, h, w): see `Responses.probed`."""
  n, (S, C) = len(probes), (len(masks), len(directions))
  _, pull = jax.vjp(lambda added: split.changed(arrays, batch, added)[0], jnp.zeros((n, S, C)))

  def scored(probe, where):
    (back,) = pull(probe)
    return jnp.einsum('nsc,sk,cj->nkj', back, where, directions, precision=HIGHEST)

  def of_probe(probe):
    def of_part(part):
      where, region = part
      return scored(probe * region[None, :, :, None], where[:, None])[:, 0]

    return scored(probe, masks), jnp.moveaxis(jax.lax.map(of_part, (masks.T, regions)), 0, 1)

  return [jnp.moveaxis(found, 0, 1) for found in jax.lax.map(of_probe, jnp.moveaxis(probes, 1, 0))]


class Responses:
  """Samples of a generator, split at a layer, and a region of their images. Each method is compiled once.

  Args:
    generator: of one of our families, plain or `Compiled`, or any object with the methods of the protocol that JAX can
      differentiate.
    latents: of N samples, as of `generator.map`.
    layer: where features are edited.
    region: (h, w) mask of the image's size, or a box (r0, r1, c0, c1); None for an empty region.
    attribute: images (n, h, w, channels) before clipping to (n,), differentiable; or None.
    size: images are averaged down to this longer side before their changes are measured.
    noise: 'const' or 'none'.

  Attributes:
    samples: N.
    channels, grid: C and (H, W) of the layer.
    features: (N, S, C) float32 of the samples.
    inside: (h, w) bool, the region.
    image_channels: of the images.
    entries: pixels inside times channels at the compared size.

  Raises:
    InputError: no such layer or region, the generator cannot be differentiated, or the attribute gives no (n,).
    NonFiniteError: images or features are not finite.
  """

  def __init__(
    self,
    generator,
    latents,
    layer: int,
    region,
    *,
    attribute: Callable[[jax.Array], jax.Array] | None = None,
    size: int | None = 128,
    noise: str = 'const',
  ):
    generator = plain(generator)
    self.layer = checked_layer(layer, generator.layers)
    self.channels, *grid = generator.layers[self.layer]
    self.grid, self.samples, self._attribute = tuple(grid), len(jax.tree.leaves(latents)[0]), attribute
    structure, self._arrays = parted(generator, shared=True)
    few = jax.default_backend() == 'cpu'
    self._split = _Split(structure, self.layer, noise, size, attribute, FEW_COLUMNS if few else COLUMNS)
    try:
      self._batches = self._prepared(latents)
    except jax.errors.JAXTypeError as error:
      name = type(generator).__name__
      raise InputError('generator', name, 'JAX cannot differentiate it', 'write its methods with jax.numpy') from error
    images = self._batches[0][2]
    shape = images.shape
    if attribute is not None and (scores := jax.eval_shape(attribute, images)).shape != shape[:1]:
      text = f'shape {scores.shape} for {len(images)} images'
      raise InputError('attribute', text, 'it does not give one number for each image', 'return shape (n,)')
    self.image_channels = shape[-1]
    self.inside = np.zeros(shape[1:3], bool) if region is None else metrics.region_mask(region, shape[1:3])
    self._inside = metrics.compared_mask(self.inside, size)
    self.entries = metrics.entries(self.inside, size) * shape[-1]

  def _prepared(self, latents) -> list[tuple]:
    """[(latents, state, original images)] of batches of one size, the last one padded; also sets their features."""
    one = jax.tree.map(lambda leaf: leaf[:1], latents)
    S = self.grid[0] * self.grid[1]
    nothing = np.zeros(S, np.float32), np.zeros(self.channels, np.float32)

    def originals(latents):
      state = _start(self._split, self._arrays, latents)
      return state, _images(self._split, self._arrays, latents, state, *nothing)

    pixels = jax.eval_shape(originals, one)[1].size
    most = FEW if self._split.at_once == FEW_COLUMNS else BATCH
    n = max(1, min(most, self.samples, JACOBIAN_BYTES // (4 * COLUMNS * pixels)))
    batches, features = [], []
    for first in range(0, self.samples, n):
      index = np.minimum(first + np.arange(n), self.samples - 1)
      chosen = samples_of(latents, index)
      state, images = originals(chosen)
      batches.append((chosen, state, images))
      features.append(np.asarray(state.features, np.float32))
      for name, array in (('features', features[-1]), ('images', images)):
        finite = np.isfinite(np.asarray(array)).reshape(n, -1).all(axis=1)
        if not finite.all():
          sample = int(index[np.argmin(finite)])
          raise NonFiniteError(name, f'sample {sample}', f'they are not finite at layer {self.layer}', 'use others')
    self.features = np.concatenate(features)[: self.samples].reshape(self.samples, -1, self.channels)
    return batches

  def _over_batches(self, results: Callable, *args, most: int | None = None) -> list[np.ndarray]:
    """`results` of each batch and the `args`, as float32, for the samples before `most`, or for all."""
    count, n = self.samples if most is None else min(most, self.samples), len(self._batches[0][2])
    args = tuple(np.asarray(x, np.float32) for x in args)
    found = [results(batch, *args) for batch in self._batches[: -(-count // n)]]
    return [np.concatenate([np.asarray(x, np.float64) for x in xs])[:count] for xs in zip(*found, strict=True)]

  def energies(self, mask: np.ndarray, direction: np.ndarray, most: int | None = None) -> Energies:
    """Energies of samples (those before `most`) when mask (S,) times direction (C,), strength included, is added."""

    def of_batch(batch, mask, direction):
      latents, state, original = batch
      edited = _images(self._split, self._arrays, latents, state, mask, direction)
      return _energies(self._split, edited, original, self._inside)

    inside, outside, gained = self._over_batches(of_batch, mask, direction, most=most)
    return Energies(inside, outside, None if self._attribute is None else gained)

  def slopes(
    self, mask: np.ndarray, direction: np.ndarray, extra: float, kept: np.ndarray
  ) -> tuple[float, float, np.ndarray]:
    """Mean over samples of sqrt((o + extra) / m), m and o the energies inside and outside, at a finite edit.

    Args:
      mask, direction: (S,) and (C,), strength included.
      extra: an energy added to that outside.
      kept: (N,) bool, the samples that count.

    Returns:
      The mean, its derivative by `extra`, and its derivative by the array added to features, (S, C) float64.
    """
    n = len(self._batches[0][2])
    weights = np.zeros(len(self._batches) * n, np.float32)
    weights[: self.samples] = kept / max(1, np.sum(kept))
    args = [np.asarray(x, np.float32) for x in (mask, direction, extra)]
    found = [
      _slopes(self._split, self._arrays, batch, *args, weights[b * n : b * n + n], self._inside)
      for b, batch in enumerate(self._batches)
    ]
    mean, by_extra, back = (sum(np.asarray(x, np.float64) for x in xs) for xs in zip(*found, strict=True))
    return float(mean), float(by_extra), back

  def grams(
    self,
    mask: np.ndarray,
    direction: np.ndarray,
    basis: np.ndarray,
    tiles: np.ndarray | None = None,
    *,
    most: int | None = None,
  ) -> Grams:
    """First-order changes around the edit (mask + tiles u) (direction + basis b)' at u = 0, b = 0.

    Args:
      mask, direction: (S,) and (C,), strength included; a direction of zeros gives changes from the original.
      basis: (C, r).
      tiles: (S, G); G = 0 if left out.
      most: only samples before this number.

    Returns:
      Grams of k = r + G parameters, those of the appearance first.

    Raises:
      NonFiniteError: a derivative is not finite.
    """
    tiles = np.zeros((len(mask), 0)) if tiles is None else tiles
    r, k = basis.shape[1], basis.shape[1] + tiles.shape[1]
    # Padded to whole chunks, so that one program serves all numbers of parameters.
    parameters = np.zeros((-(-k // CHUNK) * CHUNK, len(mask) + len(direction)))
    parameters[:r, len(mask) :], parameters[r:k, : len(mask)] = basis.T, tiles.T
    kept = np.append(np.arange(k), len(parameters))

    def of_batch(batch, mask, direction, parameters):
      found = [
        _columns(self._split, self._arrays, batch, mask, direction, chunk[:, : len(mask)], chunk[:, len(mask) :])
        for chunk in parameters.reshape(-1, CHUNK, parameters.shape[1])
      ]
      columns, gained = zip(*found, strict=True)
      slopes = np.concatenate([*(x[:-1] for x in gained), gained[0][-1:]]).T
      grams = (np.asarray(gram)[:, kept[:, None], kept] for gram in _gram(columns, self._inside))
      return *grams, slopes[:, kept]

    inside, outside, gained = self._over_batches(of_batch, mask, direction, parameters, most=most)
    for name, array in (('inside', inside), ('outside', outside), ('attribute', gained)):
      finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
      if not finite.all():
        where = f'sample {int(np.argmin(finite))}'
        raise NonFiniteError('derivatives', where, f'the change of the {name} is not finite', 'leave the sample out')
    return Grams(inside, outside, None if self._attribute is None else gained)

  def probed(
    self, masks: np.ndarray, directions: np.ndarray, regions: np.ndarray, probes: Callable[[int], np.ndarray]
  ) -> tuple[np.ndarray, np.ndarray]:
    """<e, D> and <R_k e, D> of probes e with the first-order change D by each mask_k direction_j'. They take only
    vector-Jacobian products: one product, contracted with all masks and directions, serves all pairs.

    Args:
      masks: (S, K).
      directions: (C, r).
      regions: (K, h, w) at the compared size: R_k is the inside for mask k.
      probes: sample number to its probes (q, h, w, channels).

    Returns:
      Two arrays (N, q, K, r) float32.

    Raises:
      NonFiniteError: a derivative is not finite.
    """
    args, found = [np.asarray(x, np.float32) for x in (masks, directions, regions)], []
    n = len(self._batches[0][2])
    for b, batch in enumerate(self._batches):
      numbers = np.minimum(b * n + np.arange(n), self.samples - 1)
      drawn = np.stack([np.asarray(probes(int(i)), np.float32) for i in numbers])
      found.append([np.asarray(x) for x in _probed(self._split, self._arrays, batch, drawn, *args)])
    whole, inside = (np.concatenate(x)[: self.samples] for x in zip(*found, strict=True))
    finite = np.isfinite(whole).reshape(len(whole), -1).all(axis=1)
    if not finite.all():
      where = f'sample {int(np.argmin(finite))}'
      raise NonFiniteError('derivatives', where, 'they are not finite', 'leave the sample out')
    return whole, inside


def compilations() -> int:
  """How often this process compiled the functions above. New samples, regions, masks or directions compile nothing."""
  return sum(program._cache_size() for program in (_start, _images, _energies, _slopes, _columns, _probed))
