"""Unknowns scaled by the change that they make: moments of matrices, noise of the metric, zero gradients."""

import math

import jax.numpy as jnp
import numpy as np

from panda_jax.inversion import kronecker
from panda_jax.inversion.losses import distances, noise
from panda_jax.inversion.preconditioner import _inverse


def test_roots_undo_the_moments_of_a_kronecker_product():
  rng = np.random.default_rng(0)
  left, right = rng.normal(size=(5, 5)), rng.normal(size=(4, 4))
  x = left @ rng.normal(size=(40_000, 5, 4)) @ right.T
  found = kronecker.moments(x)
  white = (
    kronecker.inverse_root(found.rows, 0).T @ x @ kronecker.inverse_root(found.columns, 0) / math.sqrt(found.scale)
  )
  covariance = np.cov(white.reshape(len(x), -1), rowvar=False)
  np.testing.assert_allclose(covariance / covariance.trace() * 20, np.eye(20), atol=0.1)  # of 40 000 matrices
  root = kronecker.root(found.rows, 0.5)
  np.testing.assert_allclose(root @ root.T, found.rows + 0.5 * np.eye(5), atol=1e-12)


def test_many_rows_vary_each_on_their_own(monkeypatch):
  monkeypatch.setattr(kronecker, 'MOST_ROWS', 3)
  x = np.random.default_rng(0).normal(size=(2000, 4, 2)) * np.array([1, 2, 3, 4]).reshape(1, -1, 1)
  found = kronecker.moments(x)
  np.testing.assert_allclose(found.rows * found.scale, [1, 4, 9, 16], rtol=0.15)  # of 4000 numbers each
  change = kronecker.Kronecker(jnp.asarray(found.rows, jnp.float32), jnp.eye(2))
  np.testing.assert_allclose(change(jnp.ones((1, 4, 2)))[0, :, 1], found.rows, rtol=1e-5)


def test_products_of_noise_with_a_picture_have_the_variance_of_its_distance():
  shape = (12, 8, 3)
  picture = np.random.default_rng(0).normal(size=shape).astype(np.float32) * 0.1
  products = [np.vdot(noise(np.random.RandomState(i), shape), picture) for i in range(4000)]
  wanted = distances(jnp.asarray(picture[None]), jnp.zeros((1, *shape)))[0]
  np.testing.assert_allclose(np.mean(np.square(products)), wanted, rtol=0.1)  # of 4000 draws: 2 % is one deviation


def test_pictures_that_answer_to_nothing_leave_unknowns_finite():
  change = _inverse(np.zeros((8, 3, 4), np.float32))
  assert np.isfinite(change.left).all()
  assert np.isfinite(change.right).all()
