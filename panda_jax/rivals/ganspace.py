"""GANSpace (Härkönen et al. 2020, Discovering Interpretable GAN Controls): principal components of samples.

With a mapping network from z to w, the directions are the components of w (section 2.1 of the paper). Without one, z is
isotropic and has no preferred axes. Then the components are those of flattened feature maps, and least squares carries
them back to the latents: with x_ik the coordinate of sample i on component k in units of its deviation and z_i its
latents, the directions are the rows u_k of U in min sum_i |z_i - x_i U|^2 (equation 4), scaled to unit length.

Letters: N samples, d latent size, D numbers in a feature map, k directions.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.errors import InputError
from panda_jax.generators.base import WPlus, checked_layer
from panda_jax.generators.structure import plain, split
from panda_jax.rivals import pca
from panda_jax.rivals.directions import Directions
from panda_jax.rivals.draws import Blocks, Report, silent
from panda_jax.rivals.movement import checked_rows, latent_space
from panda_jax.rivals.pca import Components
from panda_jax.rivals.spectra import first

ESTIMATORS = ('exact', 'incremental')
SAMPLES = {'w': 300_000, 'features': 10_000}
FRESH = 5000  # samples from which the published code takes the deviations in w
ROWS = {'w': 10_000}  # rows of w at a time, as published
BLOCK_BYTES = 128 << 20  # bytes of feature maps at a time
COVARIANCE = 1024  # the covariance of longer rows is never formed


def discover(
  generator,
  *,
  layer: int | None = None,
  layers: Sequence[int] | None = None,
  k: int | None = 80,
  samples: int | None = None,
  seed: int = 1,
  truncation: float = 1.0,
  labels: Sequence[int] | None = None,
  estimator: str | None = None,
  batch: int | None = None,
  published: bool = False,
  on_progress: Report = silent,
) -> Directions:
  """Principal components of w, or of feature maps carried back to the latents.

  Args:
    generator: of one of our families, or with the methods of the protocol.
    layer: the layer of the feature maps; None for w where there is a mapping network, else for the first layer (of
      BigGAN layer 0: the maps after its first linear map, as published).
    layers: rows of w+ that the directions move; None for all.
    k: number of directions at most.
    samples: N; by default 300 000 of w, and 10 000 feature maps.
    seed: of the stream of z; seed + 1 and seed + 2 are for deviations and regression, as published.
    truncation: as of `generator.map`; 1 as published.
    labels: class indices; sample i has labels[i mod len(labels)].
    estimator: 'exact' (mean and covariance of all samples), or 'incremental', the approximation that the published code
      uses by default; None for the default, which depends on `published`.
    batch: samples at a time; the incremental estimate depends on it. 10 000 of w, as published.
    published: the incremental estimator by default; deviations in w from 5000 fresh samples, and a deviation of 1
      where there is no w; a regression on 10 000 samples or more, without a constant. Without it, deviations are always
      those of all samples, and the regression fits a constant: the latents at which all coordinates are zero.
    on_progress: called in every pass.

  Returns:
    Directions of unit length; strength 1 is one standard deviation. 'stdev' and 'variance_ratio' are those of w or of
    the feature maps. `provenance['mean']` is the mean of w, for `coordinates`.

  Raises:
    InputError: an argument does not fit the generator, or each row of w+ has a w of its own.
    NonFiniteError: the generator gives NaN or infinity for a sample.
  """
  generator = plain(generator)
  estimator = estimator or ('incremental' if published else 'exact')
  if estimator not in ESTIMATORS:
    raise InputError('estimator', estimator, 'there is none of this name', f'give one of {", ".join(ESTIMATORS)}')
  space, d = latent_space(generator)
  source = _Source(generator, labels, float(truncation), batch)
  moved = None
  if space == 'w':
    rows = source.rows_of_w()
    moved = checked_rows(layers, rows)
  elif layers is not None:
    raise InputError('layers', tuple(layers), 'its latents are not w+, all layers share them', 'leave it out')
  inside_w = space == 'w' and layer is None
  if not inside_w:
    source.layer = _checked_first(generator, layer)
  samples = SAMPLES['w' if inside_w else 'features'] if samples is None else samples
  count = first(k, d if inside_w else min(source.length, samples))
  if inside_w:
    found = _components_of_w(source, samples, seed, estimator, count, on_progress)
    vectors, units = found.vectors, found.stdev
    if published:
      fresh = np.concatenate(list(source.blocks(FRESH, seed + 1, on_progress, 'deviations')))
      units = (fresh.astype(np.float64) @ vectors.T).std(axis=0)
  else:
    found = _components_of_features(source, samples, seed, estimator, count, on_progress)
    vectors, spread = _carried_back(source, found, samples, seed + 2, published, on_progress)
    units = np.ones(len(vectors)) if published else spread
  provenance = {
    'family': getattr(generator, 'family', type(generator).__name__),
    'found_in': 'w' if inside_w else f'features of layer {source.layer}',
    'samples': int(samples),
    'seed': int(seed),
    'truncation': float(truncation),
    'labels': None if labels is None else np.asarray(labels).tolist(),
    'estimator': estimator,
    'batch': source.size(samples),
    'published': bool(published),
    'mean': [float(x) for x in found.mean] if inside_w else None,
  }
  return Directions(
    method='ganspace',
    space=space,
    layers=moved,
    vectors=vectors,
    units=units,
    unit='sigma',
    scores={'stdev': found.stdev, 'variance_ratio': found.stdev**2 / found.total},
    provenance=provenance,
  )


def coordinates(directions: Directions, w: np.ndarray) -> np.ndarray:
  """Coordinates (N, k) of rows w (N, d) along directions found in w, in units of the directions.

  A slider that uses alpha minus the coordinate is absolute, as in the published editor.

  Raises:
    InputError: the directions were not found in w.
  """
  mean = directions.provenance.get('mean')
  if mean is None:
    raise InputError('directions', directions.method, 'no mean of w is stored with them', 'find them in w, by ganspace')
  rows = np.asarray(w, np.float64) - np.asarray(mean)[None]
  return rows @ directions.vectors.T.astype(np.float64) / directions.units[None].astype(np.float64)


class _Source:
  """Blocks of rows of w (n, d), or of feature maps (n, D) at a layer with their latents (n, d)."""

  def __init__(self, generator, labels, truncation: float, batch: int | None):
    self.generator, self.labels, self.truncation = generator, labels, truncation
    self.structure, self.arrays = split(generator)
    self.layer: int | None = None
    self._batch = batch
    if batch is not None and batch < 1:
      raise InputError('batch', batch, 'it must be positive', 'give 1 or more')

  def size(self, samples: int) -> int:
    default = ROWS['w'] if self.layer is None else int(np.clip(BLOCK_BYTES // (4 * self.length), 1, ROWS['w']))
    return min(samples, self._batch or default)

  @property
  def length(self) -> int:
    """D."""
    if self.layer == 0 and _is_biggan(self.generator):
      return self.generator.gen_z[...].shape[1]
    return int(np.prod(self.generator.layers[self.layer]))

  def draws(self, samples: int, seed: int) -> Blocks:
    return Blocks(self.generator, samples, seed, self.labels, self.size(samples))

  def rows_of_w(self) -> int:
    """L; raises InputError where rows of w+ have a w each."""
    block = next(iter(Blocks(self.generator, 2, 0, self.labels)))
    latents = self.generator.map(block.z, block.labels)
    if not isinstance(latents, WPlus):
      problem = f'w_dim is {self.generator.w_dim}, yet its latents are {type(latents).__name__}'
      raise InputError('generator', type(self.generator).__name__, problem, 'let `map` return WPlus')
    if np.ptp(np.asarray(latents.wplus), axis=1).any():
      raise InputError(
        'generator', type(self.generator).__name__, 'each row of w+ has a w of its own', 'use sefa, or give a layer'
      )
    return latents.wplus.shape[1]

  def each(self, samples: int, seed: int, on_progress: Report, name: str):
    """Blocks of draws; calls `on_progress`."""
    done = 0
    for block in self.draws(samples, seed):
      yield block
      done += block.count
      on_progress(name, done, samples)

  def blocks(self, samples: int, seed: int, on_progress: Report, name: str):
    """Rows of w (n, d), or feature maps (n, D)."""
    for block in self.each(samples, seed, on_progress, name):
      if self.layer is None:
        rows = _rows_of_w(self.structure, self.arrays, block.z, block.labels, truncation=self.truncation)
      else:
        rows, _ = self.made(block)
      yield np.asarray(rows)[: block.count]

  def made(self, block):
    return _features(self.structure, self.arrays, block.z, block.labels, self.layer, truncation=self.truncation)


def _is_biggan(generator) -> bool:
  return getattr(generator, 'family', '') == 'biggan'


def _checked_first(generator, layer: int | None) -> int:
  if _is_biggan(generator) and layer in (None, 0):
    return 0
  return min(generator.layers) if layer is None else checked_layer(layer, generator.layers)


@functools.partial(jax.jit, static_argnames=('structure', 'truncation'))
def _rows_of_w(structure, arrays, z, labels, truncation: float) -> jax.Array:
  return structure.generator(arrays).map(z, labels, truncation=truncation).wplus[:, 0]


def _features_and_latents(structure, arrays, z, labels, layer: int, truncation: float):
  """Feature maps (n, D) at a layer, and the latents (n, d) that the directions move."""
  generator = structure.generator(arrays)
  latents = generator.map(z, labels, truncation=truncation)
  if _is_biggan(generator):
    moved = latents.z
    if layer == 0:
      return generator.first_maps(latents).reshape(len(moved), -1), moved
  else:
    moved = latents.wplus[:, 0] if isinstance(latents, WPlus) else latents[:, : generator.z_dim]
  features = generator.run_to(latents, layer).features
  return features.reshape(len(features), -1), moved


_features = jax.jit(_features_and_latents, static_argnames=('structure', 'layer', 'truncation'))


@functools.partial(jax.jit, static_argnames=('structure', 'layer', 'truncation'))
def _moments(structure, arrays, z, labels, count, pilot, Q, layer: int, truncation: float):
  """Sums of y y'Q (D, l), y (D,) and |y|^2 over the first `count` of a block; y are feature maps minus the pilot."""
  rows, _ = _features_and_latents(structure, arrays, z, labels, layer, truncation)
  rows = jnp.where((jnp.arange(len(rows)) < count)[:, None], rows - pilot[None], 0)
  product = jnp.matmul(rows.T, jnp.matmul(rows, Q, precision='highest'), precision='highest')
  return product, rows.sum(axis=0), jnp.sum(rows**2)


@functools.partial(jax.jit, static_argnames=('structure', 'layer', 'truncation'))
def _coordinates(structure, arrays, z, labels, mean, scaled, layer: int, truncation: float):
  """Coordinates (n, k) of feature maps in units of their deviations, and the latents (n, d)."""
  rows, moved = _features_and_latents(structure, arrays, z, labels, layer, truncation)
  return jnp.matmul(rows - mean[None], scaled.T, precision='highest'), moved


def _components_of_w(source: _Source, samples, seed, estimator, k, on_progress) -> Components:
  blocks = source.blocks(samples, seed, on_progress, 'components of w')
  found = pca.exact(blocks) if estimator == 'exact' else pca.incremental(blocks, k)
  return found.first(k)


def _components_of_features(source: _Source, samples, seed, estimator, k, on_progress) -> Components:
  name = f'components of layer {source.layer}'
  if estimator == 'incremental':
    return pca.incremental(source.blocks(samples, seed, on_progress, name), k).first(k)
  if source.length <= COVARIANCE:
    return pca.exact(source.blocks(samples, seed, on_progress, name)).first(k)
  pilot_rows = np.asarray(source.made(next(iter(source.draws(samples, seed))))[0])
  pilot = pca.checked(pilot_rows, 0).mean(axis=0)
  options = {'layer': source.layer, 'truncation': source.truncation}

  def moments(Q):
    product, total, squares, first_row = 0.0, 0.0, 0.0, 0
    for block in source.each(samples, seed, on_progress, name):
      parts = _moments(
        source.structure, source.arrays, block.z, block.labels, block.count, pilot, Q.astype(np.float32), **options
      )
      parts = [np.asarray(part, np.float64) for part in parts]
      pca.checked(parts[2].reshape(1, 1), first_row)
      product, total, squares = product + parts[0], total + parts[1], squares + parts[2]
      first_row += block.count
    shift = total / samples
    mean = pilot.astype(np.float64) + shift
    return product / samples - np.outer(shift, shift @ Q), mean, float(squares / samples - shift @ shift)

  return pca.long_rows(moments, source.length, k, seed).first(k)


def _carried_back(source: _Source, found: Components, samples, seed, published, on_progress):
  """Latent directions (k, d) of unit length, and the latents' deviations (k,) along them."""
  samples = max(samples, SAMPLES['features']) if published else samples
  scaled = (found.vectors / found.stdev[:, None]).astype(np.float32)
  mean, x, z = found.mean.astype(np.float32), [], []
  for block in source.each(samples, seed, on_progress, 'regression'):
    options = {'layer': source.layer, 'truncation': source.truncation}
    made = _coordinates(source.structure, source.arrays, block.z, block.labels, mean, scaled, **options)
    for kept, rows in zip((x, z), made, strict=True):
      kept.append(np.asarray(rows, np.float64)[: block.count])
  x, z = np.concatenate(x), np.concatenate(z)
  design = x if published else np.concatenate([x, np.ones((len(x), 1))], axis=1)
  solution = np.linalg.lstsq(design, z, rcond=None)[0][: x.shape[1]]
  lengths = np.linalg.norm(solution, axis=1, keepdims=True)
  vectors = solution / np.where(lengths > 0, lengths, 1)
  return vectors, (z @ vectors.T).std(axis=0)
