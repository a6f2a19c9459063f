"""How far a picture is from a photograph, without a network: squared differences at several scales.

The picture's difference is halved by means over 2x2 pixels as long as its sides are even and it has more than
`SMALLEST` pixels a side; each scale counts by its mean square. Coarse scales show an optimiser the way to what is far.
Letters: N pictures, (h, w) pixels.
"""

import jax
import jax.numpy as jnp

SMALLEST = 4


def scales(difference: jax.Array) -> list[jax.Array]:
  """A difference (N, h, w, channels) at each scale, the finest first."""
  found = [difference]
  while True:
    N, h, w, c = found[-1].shape
    if h % 2 or w % 2 or min(h, w) <= SMALLEST:
      return found
    found.append(found[-1].reshape(N, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4)))


def distances(images: jax.Array, photographs: jax.Array) -> jax.Array:
  """(N,): the sum over scales of the mean square of the difference of pictures (N, h, w, channels)."""
  return sum(jnp.mean(jnp.square(x), axis=(1, 2, 3)) for x in scales(images - photographs))
