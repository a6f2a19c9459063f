"""The arrays for measurements of the solver: real feature maps from files, synthetic ones for the larger sizes."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

SYNTHETIC = {  # name: (samples, side, channels, parts)
  'conv128': (1000, 16, 128, 8),
  'wide': (1000, 32, 256, 8),
  'large': (2000, 32, 256, 8),  # N S C = 5.2e8, 2.1 GB in float32
}
FILES = {'small': 8, 'cats': 12}  # name: parts
GENERATED = 'generated'  # features that a generator makes from seeds
NAMES = (*FILES, *SYNTHETIC, GENERATED)


@dataclass(frozen=True)
class Case:
  name: str
  features: np.ndarray  # (N, S, C) float32, positions row-major
  grid: tuple[int, int]  # (H, W), S = H * W
  parts: int
  source: object = None  # the GeneratorSource that made them, if any


def from_file(name: str, path: str) -> Case:
  """A .npy of (N, H, W, C), any float dtype."""
  features = np.load(path)
  if features.ndim != 4:
    raise ValueError(f'--{name}={path}: has {features.ndim} dimensions; give a .npy of (N, H, W, C)')
  N, H, W, C = features.shape
  return Case(name, features.reshape(N, H * W, C).astype(np.float32), (H, W), FILES[name])


def _images(key: jax.Array, blobs: jax.Array, samples: int) -> jax.Array:
  """(samples, H, W, 3): fixed blobs in random colours over smooth noise, similar to parts of aligned pictures.

  blobs: (k, H, W). Without structure at fixed places, K would be that of a stationary field and have no parts.
  """
  colours, noise = jax.random.split(key)
  H, W = blobs.shape[1:]
  layout = jnp.einsum('nkc,khw->nhwc', jax.random.normal(colours, (samples, len(blobs), 3)), blobs)
  return layout + jax.image.resize(0.5 * jax.random.normal(noise, (samples, 4, 4, 3)), (samples, H, W, 3), 'cubic')


def _blobs(key: jax.Array, count: int, side: int) -> jax.Array:
  """(count, side, side): Gaussian bumps at random places, of random widths and aspect ratios."""
  places, widths = jax.random.split(key)
  centre = jax.random.uniform(places, (count, 2, 1), minval=0.1, maxval=0.9)
  width = jax.random.uniform(widths, (count, 2, 1), minval=0.05, maxval=0.15)
  at = (jnp.arange(side).reshape(1, 1, side) + 0.5) / side
  bump = jnp.exp(-0.5 * ((at - centre) / width) ** 2)
  return bump[:, 0, :, None] * bump[:, 1, None, :]


def _network(weights: list[tuple[jax.Array, jax.Array]], images: jax.Array) -> jax.Array:
  """3 x 3 convolutions, biases and leaky ReLUs; (n, H, W, 3) to (n, H, W, C)."""
  x = images
  for kernel, bias in weights:
    x = jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    x = jax.nn.leaky_relu(x + bias.reshape(1, 1, 1, -1), 0.2)
  return x


def conv_features(samples: int, side: int, channels: int, seed: int = 0, chunk: int = 50) -> np.ndarray:
  """(samples, side * side, channels) float32: random pictures through a fixed random two-layer network."""
  layout, first, second, pictures = jax.random.split(jax.random.key(seed), 4)
  blobs = _blobs(layout, 40, side)

  def layer(key, inputs, outputs):
    kernel, bias = jax.random.split(key)
    scale = np.sqrt(2 / (9 * inputs))
    return scale * jax.random.normal(kernel, (3, 3, inputs, outputs)), 0.1 * jax.random.normal(bias, (outputs,))

  weights = [layer(first, 3, 64), layer(second, 64, channels)]
  make = jax.jit(lambda key: _network(weights, _images(key, blobs, chunk)))
  features = np.empty((samples, side * side, channels), np.float32)
  for i in range(0, samples, chunk):
    block = np.asarray(make(jax.random.fold_in(pictures, i))).reshape(chunk, side * side, channels)
    features[i : i + chunk] = block[: samples - i]
  return features


def from_generator(folder: str, layer: int, samples: int, parts: int = 12) -> Case:
  """Features of seeds 0 .. samples - 1 at a layer of the generator in a folder."""
  import panda_jax
  from panda_jax.generators.source import GeneratorSource

  source = GeneratorSource(panda_jax.load_generator(folder), layer, samples, name=Path(folder).name)
  features = np.concatenate(list(source.blocks(samples)))
  return Case(GENERATED, features, source.grid, parts, source)


def make(name: str, path: str = '') -> Case | str:
  """The case, or a sentence with the reason why it is left out."""
  if name in SYNTHETIC:
    samples, side, channels, parts = SYNTHETIC[name]
    return Case(name, conv_features(samples, side, channels), (side, side), parts)
  if name == GENERATED:
    return f'{name}: skipped, no --generator=FOLDER'
  if not path or not Path(path).exists():
    return f'{name}: skipped, no file at --{name}={path}'
  return from_file(name, path)
