"""The quasi-Newton memory: the L-BFGS matrix by its definition, held entries, pairs without curvature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from panda_jax.solver import block, secant

SHAPE = (9, 3)
SIZE = SHAPE[0] * SHAPE[1]


def definite(seed):
  root = np.random.default_rng(seed).standard_normal((SIZE, SIZE))
  return root @ root.T + np.eye(SIZE)


def textbook(pairs, gradient):
  """H g with H from the update formula itself, applied to the scaled identity (Nocedal and Wright, equation 7.16)."""
  s, y = pairs[-1]
  H = np.eye(len(s)) * (s @ y) / (y @ y)
  for s, y in pairs:
    V = np.eye(len(s)) - np.outer(y, s) / (s @ y)
    H = V.T @ H @ V + np.outer(s, s) / (s @ y)
  return H @ gradient


def remembered(pairs, free=None):
  memory = secant.empty(SHAPE)
  free = jnp.ones(SHAPE, bool) if free is None else free
  for k, (s, y) in enumerate(pairs):
    memory = secant.remember(memory, jnp.int32(k), jnp.asarray(s.reshape(SHAPE)), jnp.asarray(y.reshape(SHAPE)), free)
  return memory


@pytest.mark.parametrize('count', [1, 2, secant.MEMORY, secant.MEMORY + 1, 2 * secant.MEMORY + 3])
def test_direction_is_the_matrix_of_the_last_pairs(count):
  rng = np.random.default_rng(count)
  H = definite(0)
  pairs = [(s, H @ s) for s in rng.standard_normal((count, SIZE))]
  gradient = rng.standard_normal(SIZE)
  found, known = secant.direction(remembered(pairs), jnp.int32(count), jnp.asarray(gradient.reshape(SHAPE)))
  expected = textbook(pairs[-secant.MEMORY :], gradient)
  assert known
  # float32 sums over 27 entries, through two triangular solves with condition numbers of some tens
  np.testing.assert_allclose(np.ravel(found), expected, atol=3e-5 * np.abs(expected).max())


def test_without_pairs_there_is_no_direction():
  _, known = secant.direction(secant.empty(SHAPE), jnp.int32(0), jnp.ones(SHAPE))
  assert not known


def test_pairs_without_curvature_are_passed_over():
  rng = np.random.default_rng(3)
  H = definite(1)
  pairs = [(s, H @ s) for s in rng.standard_normal((3, SIZE))]
  bent = [pairs[0], (pairs[0][0], -pairs[0][1]), pairs[1], (np.zeros(SIZE), np.zeros(SIZE)), pairs[2]]
  gradient = rng.standard_normal(SIZE)
  found, _ = secant.direction(remembered(bent), jnp.int32(len(bent)), jnp.asarray(gradient.reshape(SHAPE)))
  expected = textbook(pairs, gradient)
  np.testing.assert_allclose(np.ravel(found), expected, atol=3e-5 * np.abs(expected).max())


def test_held_entries_take_no_part():
  rng = np.random.default_rng(4)
  H = definite(2)
  free = rng.uniform(size=SIZE) > 0.4
  pairs = [(s, H @ s) for s in rng.standard_normal((4, SIZE)) * free]
  gradient = rng.standard_normal(SIZE) * free
  found, _ = secant.direction(
    remembered(pairs, jnp.asarray(free.reshape(SHAPE))), jnp.int32(4), jnp.asarray(gradient.reshape(SHAPE))
  )
  expected = np.zeros(SIZE)
  expected[free] = textbook([(s[free], y[free]) for s, y in pairs], gradient[free])
  np.testing.assert_allclose(np.ravel(found), expected, atol=3e-5 * np.abs(expected).max())


def test_starts_in_lockstep_are_the_starts_alone():
  rng = np.random.default_rng(5)
  root = rng.standard_normal((40, 12))
  B = jnp.asarray(root @ root.T, jnp.float32)
  starts = jnp.asarray(rng.uniform(0, 0.2, (6, 40, 3)), jnp.float32)
  solve = jax.jit(lambda X: block.minimise_block(B, None, X, steps=400, tolerance=1e-4, nonnegative=True))
  together, alone = solve(starts), [solve(X) for X in starts]
  # They follow the same path until rounding, which differs with the products' shapes, has grown; the minima agree.
  np.testing.assert_allclose(together.value, [s.value for s in alone], atol=1e-5)
  assert np.all(np.asarray(together.stationarity) <= 1e-4)
  assert len(set(np.asarray(together.i).tolist())) > 1  # each stopped at a step of its own
