"""The distance of a picture from a photograph, without a network: squared differences at several scales.

The difference is halved by means over 2x2 pixels as long as its sides are even and it has more than `SMALLEST` pixels
a side. Each scale counts with its mean square, times `SHARE` for each halving. Coarse scales guide an optimiser if the
picture is still far off.
Letters: N pictures, (h, w) pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np

SMALLEST = 4
SHARE = 0.5
WHITE = 1 - 1 / 255  # half a grey level below white; above it a photograph gives only a bound, not a value


def scales(difference: jax.Array) -> list[jax.Array]:
  """A difference (N, h, w, channels) at each scale, the finest first."""
  found = [difference]
  while True:
    N, h, w, c = found[-1].shape
    if h % 2 or w % 2 or min(h, w) <= SMALLEST:
      return found
    found.append(found[-1].reshape(N, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4)))


def differences(images: jax.Array, photographs: jax.Array) -> jax.Array:
  """Pictures minus photographs; 0 if both are at or beyond white (or black), since photographs are clipped."""
  apart = images - photographs
  apart = jnp.where(photographs > WHITE, jnp.minimum(apart, 0), apart)
  return jnp.where(photographs < -WHITE, jnp.maximum(apart, 0), apart)


def distances(images: jax.Array, photographs: jax.Array) -> jax.Array:
  """(N,): the weighted sum over scales of the mean square of the difference of pictures (N, h, w, channels)."""
  found = scales(differences(images, photographs))
  return sum(SHARE**k * jnp.mean(jnp.square(x), axis=(1, 2, 3)) for k, x in enumerate(found))


def noise(rng: np.random.RandomState, shape: tuple[int, int, int]) -> np.ndarray:
  """Noise (h, w, channels) whose product with a picture D has the variance `distances(D, 0)`, if nothing clips.

  Each scale has its own random signs; each sign is spread over the pixels whose mean the scale takes.
  """
  total, k, side = np.zeros(shape, np.float32), 0, 1
  while True:
    h, w = shape[0] // side, shape[1] // side
    signs = rng.randint(0, 2, (h, w, shape[2])) * 2 - 1
    total += np.float32(np.sqrt(SHARE**k / signs.size) / side**2) * signs.repeat(side, axis=0).repeat(side, axis=1)
    if h % 2 or w % 2 or min(h, w) <= SMALLEST:
      return total
    k, side = k + 1, side * 2
