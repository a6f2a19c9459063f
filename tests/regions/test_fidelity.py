"""PSNR and SSIM outside of a region, against direct implementations of their definitions."""

import numpy as np
import pytest

from panda_jax.regions import fidelity, metrics

N, H, W = 3, 18, 22


def pictures(seed=0, spread=0.3):
  return np.tanh(spread * np.random.default_rng(seed).standard_normal((N, H, W, 3))).astype(np.float32)


@pytest.fixture
def mask():
  return metrics.box_mask((4, 10, 5, 14), (H, W))


def test_psnr_is_that_of_the_pixels_outside(mask):
  x, y = pictures(), pictures(1)
  for n, psnr in enumerate(fidelity.outside(x, y, mask)[0]):
    errors = np.square(np.float64(x[n]) - y[n])[~mask]
    assert psnr == pytest.approx(20 * np.log10(2) - 10 * np.log10(errors.mean()), abs=1e-3)  # dB; float32


def test_ssim_is_the_mean_of_its_map_outside(mask):
  x, y = pictures(), pictures(1)
  pasted = np.float64(fidelity.restored(x, y, mask))
  offsets = np.arange(-5, 6)
  window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
  window /= window.sum()
  wide = [np.pad(image, ((5, 5), (5, 5), (0, 0)), mode='symmetric') for image in (np.float64(x[0]), pasted[0])]
  total = []
  for i, j in zip(*np.nonzero(~mask), strict=True):
    for c in range(3):
      a, b = (image[i : i + 11, j : j + 11, c] for image in wide)
      mean_a, mean_b = (window * a).sum(), (window * b).sum()
      variance_a, variance_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
      covariance = (window * (a - mean_a) * (b - mean_b)).sum()
      light = (2 * mean_a * mean_b + 0.02**2) / (mean_a**2 + mean_b**2 + 0.02**2)
      total.append(light * (2 * covariance + 0.06**2) / (variance_a + variance_b + 0.06**2))
  # Variances are differences of float32 means, to 1e-7 each; beside the least denominator of 0.0036 that is 1e-4.
  assert fidelity.outside(x, y, mask)[1][0] == pytest.approx(np.mean(total), abs=1e-4)


def test_what_changes_inside_is_not_seen(mask):
  x = pictures()
  y = np.where(mask[None, ..., None], -x, x)
  np.testing.assert_allclose(fidelity.outside(x, y, mask), [[126.02] * N, [1] * N], rtol=1e-4)  # rounding


def test_images_are_clipped_as_they_are_looked_at(mask):
  x = pictures()
  assert np.array_equal(
    fidelity.outside(np.full_like(x, 1.0), np.full_like(x, 3.0), mask), fidelity.outside(x, x, mask)
  )


def test_large_images_are_averaged_down_with_the_region():
  mask = metrics.box_mask((8, 20, 10, 28), (2 * H, 2 * W))
  large = [np.repeat(np.repeat(pictures(seed), 2, axis=1), 2, axis=2) for seed in (0, 1)]
  small = fidelity.outside(pictures(), pictures(1), metrics.box_mask((4, 10, 5, 14), (H, W)))
  np.testing.assert_allclose(fidelity.outside(*large, mask, size=W), small, rtol=1e-4)  # float32, as above
