"""How far images are from real ones, in a feature space that needs no download.

The space has three random convolutions (fixed by a seed) with pooling. It takes means and deviations of their
activations in a 4x4 grid of cells, divides each by its deviation over real images, and keeps the leading principal
components over the real images. It sees colour, texture and layout, not semantics. Distances compare generators of one
data set with each other and with held-out real images. They are not the published FID, whose network sees objects.
Letters: N images, H, W their grid, d dimensions of the space.
"""

import dataclasses
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.spatial.distance import cdist

from panda_jax.errors import InputError
from panda_jax.generators.layers import LAYOUT, PRECISION

WIDTHS = (32, 64, 128)
CELLS = 4
SMALLEST = CELLS * 2 ** len(WIDTHS)
MANY = 2 * CELLS**2 * sum(WIDTHS)  # activations of an image
SEED = 20231122
BATCH = 16  # images at a time: more do not fit the caches of a CPU


def _kernels(channels: int) -> list[np.ndarray]:
  # NumPy guarantees that the stream of its Mersenne twister never changes.
  rng = np.random.RandomState(SEED)
  sizes = (channels, *WIDTHS)
  return [(rng.randn(5, 5, a, b) * np.sqrt(2 / (25 * a))).astype(np.float32) for a, b in itertools.pairwise(sizes)]


def _pooled(x: jax.Array, cells: int) -> jax.Array:
  """(N, H, W, C) to means (N, cells, cells, C), cropped at the end where the cells do not divide the grid."""
  N, H, W, C = x.shape
  h, w = H // cells, W // cells
  return x[:, : h * cells, : w * cells].reshape(N, cells, h, cells, w, C).mean(axis=(2, 4))


@jax.jit
def _activations(images: jax.Array, kernels: list[jax.Array]) -> jax.Array:
  rows, x = [], images
  for kernel in kernels:
    x = lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=LAYOUT, precision=PRECISION)
    x = jax.nn.relu(x)
    mean = _pooled(x, CELLS)
    variance = _pooled(jnp.square(x), CELLS) - jnp.square(mean)
    rows += [mean.reshape(len(x), -1), jnp.sqrt(jnp.maximum(variance, 0)).reshape(len(x), -1)]
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean(axis=(2, 4))
  return jnp.concatenate(rows, axis=1)


def activations(images: np.ndarray) -> np.ndarray:
  """Activations (N, many) float32 of the random convolutions, for images (N, H, W, channels). They are uint8, or float
  and then clipped to [-1, 1].

  Raises:
    InputError: the images are smaller than 32 pixels, or not images.
  """
  if np.ndim(images) != 4 or min(images.shape[1:3]) < SMALLEST or not len(images):
    text = 'x'.join(map(str, np.shape(images)))
    raise InputError('images', f'shape {text}', f'sides of {SMALLEST} pixels are needed', 'give (N, H, W, channels)')
  kernels = _kernels(images.shape[3])
  size = min(BATCH, 1 << (len(images) - 1).bit_length())
  rows = []
  for first in range(0, len(images), BATCH):
    batch = np.asarray(images[first : first + BATCH])
    if batch.dtype == np.uint8:
      batch = batch.astype(np.float32) / 127.5 - 1
    filled = np.resize(np.clip(batch, -1, 1), (size, *batch.shape[1:]))  # padded: one program serves the last batch too
    rows.append(np.asarray(_activations(filled.astype(np.float32), kernels))[: len(batch)])
  return np.concatenate(rows)


@dataclasses.dataclass(frozen=True)
class Embedding:
  """The feature space of some real images; see the module.

  Attributes:
    mean, scale: (many,) of the activations over the real images.
    basis: (many, d) principal components, scaled so that the real images have a total variance of 1.
  """

  mean: np.ndarray
  scale: np.ndarray
  basis: np.ndarray

  def __call__(self, images: np.ndarray) -> np.ndarray:
    """(N, H, W, channels) to (N, d) float64."""
    return ((activations(images) - self.mean[None]) / self.scale[None]).astype(np.float64) @ self.basis


def embedding(real: np.ndarray, dimensions: int = 64) -> Embedding:
  """The feature space of real images (N, H, W, channels), N well above `dimensions`.

  Raises:
    InputError: there are too few images.
  """
  if len(real) < 2 * dimensions:
    raise InputError('real', f'{len(real)} images', 'too few for the space', f'give {2 * dimensions} or more')
  rows = activations(real)
  mean = rows.mean(axis=0)
  scale = np.maximum(rows.std(axis=0), 1e-6)
  rows = (rows - mean[None]) / scale[None]
  _, values, axes = np.linalg.svd(rows, full_matrices=False)
  kept = values[:dimensions].astype(np.float64)
  basis = axes[:dimensions].T / np.sqrt(np.sum(kept**2) / len(rows))
  return Embedding(mean, scale, basis.astype(np.float64))


def _factor(rows: np.ndarray) -> np.ndarray:
  """F (at most d, d) with F'F the covariance of rows (N, d)."""
  centred = (rows - rows.mean(axis=0, keepdims=True)) / np.sqrt(len(rows) - 1)
  return centred if len(centred) <= centred.shape[1] else np.linalg.qr(centred, mode='r')


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
  """Squared Fréchet (2-Wasserstein) distance of the normal distributions fitted to rows (N, d) and (M, d).

  Dowson and Landau 1982: |m - n|^2 + tr(S + T - 2 (S^1/2 T S^1/2)^1/2). With S = F'F and T = G'G the last trace is the
  sum of the singular values of F G', which is cheap for few rows.
  """
  F, G = _factor(x), _factor(y)
  cross = np.linalg.svd(F @ G.T, compute_uv=False).sum()
  apart = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
  return float(apart + np.square(F).sum() + np.square(G).sum() - 2 * cross)


class Coverage(NamedTuple):
  """Precision: share of generated rows in the balls of real rows; recall: of real rows in those of generated rows."""

  precision: float
  recall: float


def precision_recall(real: np.ndarray, generated: np.ndarray, neighbours: int = 3) -> Coverage:
  """Coverage of rows (N, d) and (M, d) by balls to each row's k-th nearest neighbour (Kynkäänniemi et al. 2019)."""

  def within(rows, balls):
    # The nearest neighbour of a row in its own set is the row.
    radii = np.partition(cdist(balls, balls), neighbours, axis=1)[:, neighbours]
    return float(np.mean((cdist(rows, balls) <= radii[None]).any(axis=1)))

  return Coverage(within(generated, real), within(real, generated))


def nearest(rows: np.ndarray, among: np.ndarray, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
  """For each of `rows` (N, d), the nearest of `among` (M, d): indices (N, count) and distances (N, count)."""
  chunks = [cdist(rows[i : i + 256], among) for i in range(0, len(rows), 256)]
  found = [np.argpartition(chunk, min(count, chunk.shape[1] - 1), axis=1)[:, :count] for chunk in chunks]
  indices, distances = np.concatenate(found), []
  for chunk, index in zip(chunks, found, strict=True):
    distances.append(np.take_along_axis(chunk, index, axis=1))
  distances = np.concatenate(distances)
  order = np.argsort(distances, axis=1)
  return np.take_along_axis(indices, order, axis=1), np.take_along_axis(distances, order, axis=1)
