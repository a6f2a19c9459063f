"""How far a picture is from a photograph, without a network: squared differences at several scales.

The picture's difference is halved by means over 2x2 pixels as long as its sides are even and it has more than
`SMALLEST` pixels a side; each scale counts by its mean square, times `SHARE` for each halving. Coarse scales show an
optimiser the way to what is far.
Letters: N pictures, (h, w) pixels.
"""

import jax
import jax.numpy as jnp

SMALLEST = 4
SHARE = 0.5
WHITE = 1 - 1 / 255  # half a grey level below white, above which a photograph tells a bound and no value


def scales(difference: jax.Array) -> list[jax.Array]:
  """A difference (N, h, w, channels) at each scale, the finest first."""
  found = [difference]
  while True:
    N, h, w, c = found[-1].shape
    if h % 2 or w % 2 or min(h, w) <= SMALLEST:
      return found
    found.append(found[-1].reshape(N, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4)))


def differences(images: jax.Array, photographs: jax.Array) -> jax.Array:
  """Pictures less photographs; nothing where both are beyond white, or beyond black, as photographs are clipped."""
  apart = images - photographs
  apart = jnp.where(photographs > WHITE, jnp.minimum(apart, 0), apart)
  return jnp.where(photographs < -WHITE, jnp.maximum(apart, 0), apart)


def distances(images: jax.Array, photographs: jax.Array) -> jax.Array:
  """(N,): the weighted sum over scales of the mean square of the difference of pictures (N, h, w, channels)."""
  found = scales(differences(images, photographs))
  return sum(SHARE**k * jnp.mean(jnp.square(x), axis=(1, 2, 3)) for k, x in enumerate(found))
