"""Distances between sets of images: known cases, and distances that must grow as images get worse."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from panda_jax.errors import InputError
from panda_jax.regions import realism
from tests.examples.pictures import made


def test_frechet_distance_of_normal_rows():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(200_000, 2)) * np.array([[1.0, 2.0]])
  y = rng.normal(size=(200_000, 2)) * np.array([[3.0, 2.0]]) + np.array([[0.0, 1.0]])
  # Diagonal covariances: |difference of means|^2 + |difference of deviations|^2 = 1 + 4, to the noise of the draws.
  assert realism.frechet_distance(x, y) == pytest.approx(5, abs=0.06)
  assert realism.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
  assert realism.frechet_distance(x, y) == pytest.approx(realism.frechet_distance(y, x), rel=1e-9)


def test_precision_and_recall():
  rng = np.random.default_rng(1)
  real = rng.normal(size=(300, 4))
  assert realism.precision_recall(real, real) == (1, 1)
  assert realism.precision_recall(real, real + 100) == (0, 0)
  precision, recall = realism.precision_recall(real, 0.3 * rng.normal(size=(300, 4)))
  assert precision > 0.95  # inside the real ones, and far from covering them
  assert recall < 0.4


def test_nearest_are_those_of_all_distances():
  rng = np.random.default_rng(2)
  rows, among = rng.normal(size=(300, 3)), rng.normal(size=(50, 3))
  indices, distances = realism.nearest(rows, among, 4)
  every = np.linalg.norm(rows[:, None] - among[None], axis=2)
  np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :4], rtol=1e-12)
  np.testing.assert_array_equal(indices, np.argsort(every, axis=1)[:, :4])


def test_worse_images_are_further_away():
  real, other = made(400, 32), made(400, 32, seed=1)
  space = realism.embedding(real, 32)
  rows = space(real)
  # What the principal components leave out is little here.
  assert 0.95 < np.sum(rows.var(axis=0)) <= 1.0001
  steps = [realism.frechet_distance(rows, space(other))]
  rng = np.random.default_rng(0)
  for level in (5, 15, 40):
    noisy = np.clip(other + rng.normal(0, level, other.shape), 0, 255).astype(np.uint8)
    steps.append(realism.frechet_distance(rows, space(noisy)))
  assert steps == sorted(steps)
  blurred = [gaussian_filter(other, (0, width, width, 0)) for width in (1, 2, 4)]
  steps = [realism.frechet_distance(rows, space(images)) for images in blurred]
  assert steps == sorted(steps)


def test_bytes_and_floats_are_the_same_images():
  images = made(130, 32)  # more than two batches
  floats = images.astype(np.float32) / 127.5 - 1
  np.testing.assert_array_equal(realism.activations(images), realism.activations(floats))
  # Batches are of no consequence but to rounding.
  np.testing.assert_allclose(realism.activations(images)[70:71], realism.activations(images[70:71]), atol=1e-5)


def test_refusals():
  with pytest.raises(InputError, match='32 pixels'):
    realism.activations(made(2, 16))
  with pytest.raises(InputError, match='too few'):
    realism.embedding(made(60, 32))
