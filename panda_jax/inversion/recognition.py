"""Whether a crop shows a generator's kind of picture, to detect a photograph without a face in the box.

A linear classifier of the activations of `regions.realism`, fitted by ridge regression to samples of the generator (+1)
and to the same samples out of place (-1): a part of a sample, a shifted, rotated or distant one, and noise with the
spectrum of one. Colour, contrast, blur and grain are random for both, since photographs differ from samples in these.
No photograph is needed. It is stored as recognition.npz beside generator.json. Letters as in encoder.py.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import npz_bytes, read_npz
from panda_jax.generators.disk import file_beside
from panda_jax.generators.seeds import draws
from panda_jax.generators.structure import Compiled
from panda_jax.inversion.coordinates import is_mapped
from panda_jax.inversion.encoder import REMEDY, reduced
from panda_jax.regions.realism import MANY, SMALLEST, activations

FILE = 'recognition.npz'
SIDE = 64  # pixels to which pictures are reduced, approximately
SAMPLES, HELD_OUT = 4096, 1024  # for the fit, and for the threshold
BATCH = 64
RIDGE = 0.1  # fraction of the mean diagonal of the Gram matrix
MISSED = 0.03  # fraction of held-out samples, changed at random, below the threshold
SLACK, TILT = 0.1, 0.17  # fraction of the side, and radians, by which samples count as in place


@dataclasses.dataclass(frozen=True)
class Recognition:
  """A classifier of pictures; see the module docstring.

  Attributes:
    size: (h, w) that pictures are reduced to.
    weights: (number of activations,).
    offset: added to the weighted sum.
    threshold: of the score; a picture below it is not of the generator's kind.
    sha256: of the generator's weights.
  """

  size: tuple[int, int]
  weights: np.ndarray
  offset: float
  threshold: float
  sha256: str

  def scores(self, images: np.ndarray) -> np.ndarray:
    """Scores (N,) of pictures (N, h, w, channels) from -1 to 1: near 1 for samples, near -1 for others."""
    small = np.asarray(reduced(jnp.asarray(images, jnp.float32), self.size))
    return activations(small) @ self.weights + self.offset

  def knows(self, images: np.ndarray) -> np.ndarray:
    """Whether each of the pictures (N, h, w, channels), uint8 or from -1 to 1, may be one of the generator's: (N,)."""
    signed = images.astype(np.float32) / 127.5 - 1 if images.dtype == np.uint8 else images
    return self.scores(signed) >= self.threshold


def fitted(generator: Any, sha256: str, seed: int = 0, on_images: Callable[[str, int], None] = lambda name, n: None):
  """The `Recognition` of a generator, from its samples; None if its pictures are smaller than 32 pixels.

  Args:
    generator: see the protocol.
    sha256: of its weights.
    seed: of the random changes, and the first seed of the samples.
    on_images: called with how many samples are done.
  """
  h, w = generator.image_size
  factor = max(1, min(h, w) // SIDE)
  size = h // factor, w // factor
  if min(size) < SMALLEST:
    return None
  run, rng, rows = Compiled(generator), np.random.default_rng(seed), ([], [])
  for first in range(0, SAMPLES + HELD_OUT, BATCH):
    images = _samples(run, range(seed + first, seed + first + BATCH))
    images = np.asarray(reduced(jnp.clip(images, -1, 1), size))
    for kind, change in zip(rows, (_in_place, _out_of_place), strict=True):
      kind.append(activations(np.stack([_photographed(change(x, rng), rng) for x in images])))
    on_images('samples', first + BATCH)
  own, others = (np.concatenate(kind) for kind in rows)
  x, held = np.concatenate([own[:SAMPLES], others[:SAMPLES]]), own[SAMPLES:]
  mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
  x = (x - mean[None]) / scale[None]
  gram = (x @ x.T).astype(np.float64) / x.shape[1]
  gram[np.diag_indices_from(gram)] += RIDGE
  signs = np.repeat([1.0, -1.0], SAMPLES)
  weights = (x.T @ np.linalg.solve(gram, signs).astype(np.float32)) / x.shape[1] / scale
  offset = -float(mean @ weights)
  threshold = float(np.quantile(held @ weights + offset, MISSED))
  return Recognition(size, weights.astype(np.float32), offset, threshold, sha256)


def _samples(run: Compiled, seeds: range) -> jax.Array:
  """The pictures of seeds, without noise; with classes in turn."""
  z = draws(run, seeds)
  labels = np.arange(seeds.start, seeds.stop) % run.num_classes if run.num_classes else None
  latents = run.wplus(run.mapping(z, labels)) if is_mapped(run) else run.map(z, labels)
  return run(latents, noise='none')


def _in_place(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A sample near its place, mirrored or not."""
  image = image[:, ::-1] if rng.random() < 0.5 else image
  return window(image, 1 + rng.uniform(-SLACK, SLACK), rng.uniform(-SLACK, SLACK, 2), rng.uniform(-TILT, TILT))


def _out_of_place(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A part of a sample, a shifted, rotated or distant one, or noise of its spectrum."""
  match rng.integers(5):
    case 0:
      side = 0.55 * 0.03 ** rng.random()  # down to a soft gradient
      return window(image, side, rng.uniform(-0.5, 0.5, 2) * (1 - side))
    case 1:
      angle = rng.uniform(0, 2 * np.pi)
      return window(image, rng.uniform(0.7, 1), rng.uniform(0.4, 0.75) * np.array([np.cos(angle), np.sin(angle)]))
    case 2:
      turned = np.rot90(image, rng.integers(1, 4))
      return turned if turned.shape == image.shape else image[::-1, ::-1]
    case 3:
      return window(image, rng.uniform(1.7, 2.7), rng.uniform(-0.45, 0.45, 2))
    case _:
      phases = np.angle(np.fft.fft2(rng.random(image.shape[:2])))[..., None]
      noise = np.fft.ifft2(np.abs(np.fft.fft2(image, axes=(0, 1))) * np.exp(1j * phases), axes=(0, 1))
      return np.clip(noise.real, -1, 1)


def window(image: np.ndarray, side: float, shift: np.ndarray, turn: float = 0) -> np.ndarray:
  """The part of a picture in a window: side and shift in sides of the picture, turn in radians; mirrored edges."""
  from scipy.ndimage import map_coordinates

  h, w = image.shape[:2]
  y, x = np.meshgrid((np.arange(h) + 0.5) / h - 0.5, ((np.arange(w) + 0.5) / w - 0.5) * (w / h), indexing='ij')
  y, x = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)  # in heights
  grid = [(0.5 + shift[0] + side * y) * h - 0.5, (0.5 + shift[1]) * w + side * x * h - 0.5]
  planes = [map_coordinates(image[..., c], grid, order=1, mode='reflect') for c in range(image.shape[2])]
  return np.stack(planes, axis=-1)


def _photographed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A picture with random colour, contrast, blur and grain."""
  from scipy.ndimage import gaussian_filter

  channels, mean = image.shape[2], image.mean(axis=(0, 1), keepdims=True)
  shift = (0.25 * rng.standard_normal() + 0.12 * rng.standard_normal(channels)).reshape(1, 1, -1)
  image = np.clip((image - mean) * np.exp(0.35 * rng.standard_normal()) + mean + shift, -1, 1)
  blur = rng.uniform(0, 1.2) if rng.random() < 0.3 else 0
  image = gaussian_filter(image, (blur, blur, 0)) if blur else image
  grain = rng.uniform(0, 0.1) * rng.standard_normal((*image.shape[:2], 1))
  return np.clip(image + grain, -1, 1).astype(np.float32)


def save_recognition(recognition: Recognition, path: str | os.PathLike) -> None:
  """Writes a recognition, with weights as float16.

  Raises:
    InputError: it cannot be written.
  """
  scale = float(np.abs(recognition.weights).max())
  arrays = {
    'weights': (recognition.weights / scale).astype(np.float16),
    'numbers': np.array([scale, recognition.offset, recognition.threshold]),
    'size': np.array(recognition.size),
    'sha256': np.asarray(recognition.sha256),
  }
  write_atomically(path, npz_bytes(**arrays), 'out')


def load_recognition(path: str | os.PathLike, sha256: str | None = None) -> Recognition:
  """Reads what `save_recognition` wrote.

  Args:
    path: of the file.
    sha256: of the generator's weights that it must belong to; None for any.

  Raises:
    InputError: it is missing or damaged, or belongs to another generator.
  """
  data = read_npz(path, 'recognition', texts=['sha256'], packed=False, remedy=REMEDY)
  numbers, size, weights = (data.get(name, np.zeros(0)) for name in ('numbers', 'size', 'weights'))
  sides = [int(x) for x in size] if size.shape == (2,) and size.dtype.kind in 'iu' else [0, 0]
  whole = {*data} == {'sha256', 'numbers', 'size', 'weights'} and numbers.shape == (3,) and weights.shape == (MANY,)
  if not whole or not all(SMALLEST <= side <= 8 * SIDE for side in sides):
    raise InputError('recognition', path, 'it is damaged (its arrays are none of a recognition)', REMEDY)
  if not all(np.isfinite(x).all() for x in (numbers, weights)):
    raise InputError('recognition', path, 'it is damaged (not all numbers are finite)', REMEDY)
  if sha256 is not None and str(data['sha256']) != sha256:
    raise InputError('recognition', path, 'it belongs to another generator', REMEDY)
  scale, offset, threshold = map(float, numbers)
  return Recognition((sides[0], sides[1]), weights.astype(np.float32) * scale, offset, threshold, str(data['sha256']))


def recognition_of(generator: str | os.PathLike) -> Path | None:
  """The recognition file in a generator's folder, or None."""
  return file_beside(generator, FILE)
