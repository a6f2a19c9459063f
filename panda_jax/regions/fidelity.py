"""What an edit leaves as it was outside of a region, in measures that are known elsewhere: PSNR and SSIM.

Pixels inside the region are put back first (`restored`), so that its change reaches no window that overlaps it. Images
are clipped to [-1, 1], as they are looked at. Letters: N samples, h, w image.
"""

import numpy as np
from scipy.ndimage import correlate1d

from panda_jax.regions.metrics import LEAST_CHANGE, compared_mask, downsampled

RANGE = 2.0  # from black to white
WINDOW = np.exp(-np.square(np.arange(-5, 6)) / (2 * 1.5**2))  # of SSIM: 11 pixels, a normal distribution of width 1.5
WINDOW /= WINDOW.sum()
K1, K2 = 0.01, 0.03  # of SSIM


def restored(original: np.ndarray, edited: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Edited images (N, h, w, channels) with the pixels of the originals inside a region (h, w) bool."""
  return np.where(mask[None, ..., None], original, edited)


def outside(original: np.ndarray, edited: np.ndarray, mask: np.ndarray, size: int | None = None) -> np.ndarray:
  """PSNR in decibels and SSIM of edited images against originals, outside of a region: (2, N) float64.

  PSNR is of the pixels outside; where they change by less than rounding, that of rounding (126 dB). SSIM is the mean of
  its map there (Wang et al. 2004: windows of 11 pixels, colours averaged).

  Args:
    original, edited: (N, h, w, channels).
    mask: (h, w) bool, true inside.
    size: images whose longer side is above it are averaged down to it first, as of `metrics.norms`.
  """
  edited = restored(original, edited, mask)
  x, y = (np.asarray(downsampled(np.clip(images, -1, 1), size), np.float64) for images in (original, edited))
  weights = 1 - compared_mask(mask, size).astype(np.float64)
  weights /= weights.sum()
  errors = np.einsum('hw,nhwc->n', weights, np.square(x - y)) / x.shape[-1]
  psnr = 10 * np.log10(RANGE**2 / np.maximum(errors, LEAST_CHANGE**2))
  return np.stack([psnr, np.einsum('hw,nhwc->n', weights, _ssim_map(x, y)) / x.shape[-1]])


def _ssim_map(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """SSIM of the window around each pixel, for each colour; images are mirrored at their borders."""

  def mean(images: np.ndarray) -> np.ndarray:
    return correlate1d(correlate1d(images, WINDOW, axis=1), WINDOW, axis=2)

  a, b = mean(x), mean(y)
  variance_x, variance_y, covariance = mean(x * x) - a * a, mean(y * y) - b * b, mean(x * y) - a * b
  c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
  return (2 * a * b + c1) * (2 * covariance + c2) / ((a * a + b * b + c1) * (variance_x + variance_y + c2))
