"""The block solver: exact line search, descent, and agreement with L-BFGS-B."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from panda_jax.runtime.compatibility import enable_x64
from panda_jax.solver import block, line_search
from panda_jax.solver.precision import small_dtype
from tests import planted

pytestmark = pytest.mark.oldest


@pytest.fixture
def float64():
  with enable_x64(True):
    yield


def value(X, B, D):
  return -2 * np.sum(X * (B @ X)) + np.sum((X.T @ X) * (X.T @ D @ X))


def psd(n, rank, seed):
  root = np.random.default_rng(seed).standard_normal((n, rank))
  return root @ root.T


@pytest.mark.parametrize('seed', range(5))
def test_quartic_is_the_objective_along_a_line(float64, seed):
  rng = np.random.default_rng(seed)
  B, D = psd(7, 7, seed), psd(7, 5, seed + 1)
  X, V = rng.standard_normal((2, 7, 3))
  forms = line_search.Forms(X.T @ B @ X, X.T @ B @ V, V.T @ B @ V, X.T @ D @ X, X.T @ D @ V, V.T @ D @ V)
  c = np.asarray(line_search.quartic(jnp.asarray(X), jnp.asarray(V), forms))
  for t in (0.1, 0.7, 1.0):
    expected = value(X + t * V, B, D) - value(X, B, D)
    assert np.polyval([*c[::-1], 0], t) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize('seed', range(20))
def test_best_step_is_the_least_of_a_fine_grid(float64, seed):
  rng = np.random.default_rng(seed)
  c = np.array(
    [-abs(rng.standard_normal()) * 10 ** rng.uniform(-6, 0), *rng.standard_normal(2), abs(rng.standard_normal())]
  )
  t = float(line_search.best_step(jnp.asarray(c)))
  grid = np.linspace(0, 1, 200_001)
  assert 0 <= t <= 1
  lowest = np.polyval([*c[::-1], 0], grid).min()
  assert np.polyval([*c[::-1], 0], t) <= lowest + 1e-9 * abs(lowest) + 1e-13  # the grid itself is not finer


def test_no_step_where_every_step_is_up(float64):
  assert float(line_search.best_step(jnp.asarray([1.0, 1.0, 0.0, 1.0]))) == 0


@pytest.mark.parametrize(('enabled', 'rounding'), [(True, 1e-12), (False, 1e-6)])
@pytest.mark.parametrize('nonnegative', [True, False])
def test_no_step_increases_the_objective(enabled, rounding, nonnegative):
  B, D = psd(30, 30, 0), psd(30, 20, 1)
  X = np.abs(np.random.default_rng(2).standard_normal((30, 4))) * 0.1
  with enable_x64(enabled):
    B, D, X = (jnp.asarray(x, small_dtype()) for x in (B, D, X))
    values = []
    run = jax.jit(partial(block.minimise_block, nonnegative=nonnegative))
    for steps in range(60):
      state = run(B, D, X, steps=steps)
      values.append(value(*(np.asarray(x, np.float64) for x in (state.X, B, D))) / float(jnp.trace(B)))
      assert not nonnegative or float(state.X.min()) >= 0
  assert np.all(np.diff(values) <= rounding)
  assert values[-1] < values[0]


def test_agrees_with_lbfgsb_from_the_same_starts(float64):
  Z = planted.structured().reshape(48, 64, 16).astype(np.float64)
  K = np.einsum('nsc,ntc->st', Z, Z)
  K /= np.trace(K)
  starts = np.random.default_rng(0).uniform(0, 1, (32, 64, 5))
  starts *= np.sqrt(5) / np.linalg.norm(starts, axis=(1, 2), keepdims=True)

  def objective(x):
    P = x.reshape(64, 5)
    KP, G = K @ P, P.T @ P
    return value(P, K, K), (-4 * KP + 2 * KP @ G + 2 * P @ (P.T @ KP)).ravel()

  theirs = [
    scipy.optimize.minimize(objective, x.ravel(), jac=True, method='L-BFGS-B', bounds=[(0, None)] * x.size).fun
    for x in starts
  ]
  ours = jax.vmap(
    lambda X: block.minimise_block(jnp.asarray(K), None, X, steps=3000, tolerance=1e-8, nonnegative=True)
  )(jnp.asarray(starts)).value
  theirs, ours = 1 + np.sort(theirs), 1 + np.sort(np.asarray(ours))
  assert np.median(ours) <= np.median(theirs) * 1.001
  assert ours[0] <= theirs[0] * 1.003


def test_stationary_point_stays(float64):
  B = psd(10, 10, 3)
  first = block.minimise_block(B, None, jnp.abs(jnp.ones((10, 2))) * 0.1, steps=5000, tolerance=1e-10, nonnegative=True)
  again = block.minimise_block(B, None, first.X, steps=50, tolerance=0.0, nonnegative=True)
  np.testing.assert_allclose(again.X, first.X, atol=1e-7)  # the first was stationary to 1e-10 in the gradient
