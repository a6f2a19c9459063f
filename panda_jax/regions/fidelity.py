"""How well an edit preserves the image outside of a region, in two standard measures: PSNR and SSIM.

Pixels inside the region are first set back to the original (`restored`), so that their change does not count in windows
that overlap the region. Images are clipped to [-1, 1], as when they are shown. Letters: N samples, h, w image.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.regions.metrics import LEAST_CHANGE, compared_mask, downsampled

RANGE = 2.0  # from black to white
REACH, WIDTH = 5, 1.5  # of SSIM's windows, in pixels: 11 across, weighted by a normal distribution
K1, K2 = 0.01, 0.03  # of SSIM


def restored(original, edited, mask: np.ndarray) -> np.ndarray:
  """Edited images (N, h, w, channels) with the pixels of the originals inside a region (h, w) bool."""
  return np.where(mask[None, ..., None], original, edited)


def outside(original, edited, mask: np.ndarray, size: int | None = None) -> np.ndarray:
  """PSNR in decibels and SSIM of edited images against originals, outside of a region: (2, N) float32.

  PSNR is over the pixels outside. If they change by less than rounding, it is that of rounding (126 dB). SSIM is the
  mean of its map over these pixels (Wang et al. 2004: windows of 11 pixels, colours averaged).

  Args:
    original, edited: (N, h, w, channels).
    mask: (h, w) bool, true inside.
    size: images with a longer side above it are averaged down to it first, as in `metrics.norms`.
  """
  weights = 1 - compared_mask(mask, size)
  return np.asarray(_outside(original, restored(original, edited, mask), weights / weights.sum(), size))


@functools.partial(jax.jit, static_argnames='size')
def _outside(original, edited, weights, size):
  x, y = (downsampled(jnp.clip(images.astype(jnp.float32), -1, 1), size) for images in (original, edited))

  def mean(values):
    return jnp.einsum('hw,nhwc->n', weights, values) / values.shape[-1]

  psnr = 10 * jnp.log10(RANGE**2 / jnp.maximum(mean(jnp.square(x - y)), LEAST_CHANGE**2))
  return jnp.stack([psnr, mean(_ssim_map(x, y))])


def _ssim_map(x: jax.Array, y: jax.Array) -> jax.Array:
  """SSIM of the window around each pixel, for each colour; images are mirrored at their borders."""
  rows, columns = _windows(x.shape[1]), _windows(x.shape[2])

  def mean(images):
    return jnp.einsum('ah,nhwc,bw->nabc', rows, images, columns, precision=jax.lax.Precision.HIGHEST)

  a, b = mean(x), mean(y)
  variance_x, variance_y, covariance = mean(x * x) - a * a, mean(y * y) - b * b, mean(x * y) - a * b
  c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
  return (2 * a * b + c1) * (2 * covariance + c2) / ((a * a + b * b + c1) * (variance_x + variance_y + c2))


def _windows(n: int) -> np.ndarray:
  """(n, n) float32, the window around each of n pixels."""
  window = np.exp(-np.square(np.arange(-REACH, REACH + 1)) / (2 * WIDTH**2))
  mirrored = np.pad(np.arange(n), REACH, mode='symmetric')
  weights = np.zeros((n, n))
  for offset, weight in enumerate(window / window.sum()):
    np.add.at(weights, (np.arange(n), mirrored[offset : offset + n]), weight)
  return weights.astype(np.float32)
