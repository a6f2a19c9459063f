"""Limited-memory BFGS on several problems: each ends as it would alone, and its error falls at every step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from panda_jax.inversion import minimiser


def quadratics(N=3, d=6):
  rng = np.random.default_rng(0)
  roots = rng.normal(size=(N, d, d)).astype(np.float32) * np.array([1, 10, 0.1], np.float32).reshape(-1, 1, 1)
  return jnp.asarray(roots), jnp.asarray(rng.normal(size=(N, d)), jnp.float32)


def evaluation(values):
  def evaluate(x):
    found, back = jax.vjp(values, x)
    return found, back(jnp.ones_like(found))[0]

  return evaluate


def run(values, x, steps, tolerance=0.0):
  evaluate = evaluation(values)
  advance = jax.jit(functools.partial(minimiser.advance, evaluate))
  search, history = minimiser.begin(x), []
  for _ in range(steps):
    search = advance(search, tolerance)
    history.append(np.asarray(search.value))
  return search, np.stack(history)


def test_it_ends_where_the_least_is_and_never_rises():
  roots, least = quadratics()

  def values(x):
    return 1 + jnp.sum(jnp.einsum('nij,nj->ni', roots, x - least) ** 2, axis=1)

  search, history = run(values, jnp.zeros_like(least), 80)
  assert (np.diff(history, axis=0) <= 0).all()
  np.testing.assert_allclose(search.value, 1, rtol=1e-5)


def test_rosenbrocks_valley():
  def values(x):
    return jnp.sum(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2, axis=1)

  search, _ = run(values, jnp.asarray([[-1.2, 1.0, -1.2], [2.0, 2.0, 2.0]]), 150)
  np.testing.assert_allclose(search.x, 1, atol=1e-2)  # float32 ends the fall there


def test_one_problem_does_not_disturb_another():
  """The first alone takes the same path as beside one that never finds a better point."""

  def alone(x):
    return jnp.sum((x - 1) ** 4, axis=1)

  def beside(x):
    return jnp.stack([jnp.sum((x[0] - 1) ** 4), jnp.where((x[1] == 0).all(), 0.0, jnp.inf) + x[1].sum()])

  x = jnp.zeros((1, 3))
  one, _ = run(alone, x, 20)
  two, _ = run(beside, jnp.concatenate([x, x]), 20)
  np.testing.assert_allclose(two.x[0], one.x[0], rtol=1e-5)
  assert two.reason[1] == 2
  np.testing.assert_array_equal(two.x[1], 0)


def test_what_no_longer_falls_is_done():
  search, _ = run(lambda x: 1 + jnp.sum(x**2, axis=1), jnp.ones((2, 4)), 40, tolerance=0.01)
  assert {minimiser.REASONS[i] for i in np.asarray(search.reason)} <= {'converged', 'stalled'}
  flat, _ = run(lambda x: 0 * x.sum(axis=1), jnp.ones((2, 4)), 2)
  assert (np.asarray(flat.reason) == 1).all()


@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf])
def test_points_that_are_not_finite_are_never_taken(bad):
  def values(x):
    return jnp.sum(jnp.where(x > 0.5, bad, (x - 0.6) ** 2), axis=1)

  search, _ = run(values, jnp.zeros((1, 2)), 30)
  assert np.isfinite(search.value).all()
  assert (np.asarray(search.x) <= 0.5).all()


def test_directions_are_those_of_the_two_loops_over_vectors():
  """Weights of pairs and gradient against Liu and Nocedal's recursion, once slots have been used again."""
  rng = np.random.default_rng(1)
  count, d, m = minimiser.MEMORY + 7, 80, minimiser.MEMORY
  steps = rng.normal(size=(count, d))
  changes = steps * rng.uniform(0.5, 2, d)
  gradient = q = rng.normal(size=d)
  pairs, taken = np.zeros((2 * m, d)), []
  for i in range(count):
    pairs[i % m], pairs[m + i % m] = steps[i], changes[i]
  for i in reversed(range(count - m, count)):
    taken.append(steps[i] @ q / (steps[i] @ changes[i]))
    q = q - taken[-1] * changes[i]
  q = q * (steps[-1] @ changes[-1]) / (changes[-1] @ changes[-1])
  for i in range(count - m, count):
    q = q + (taken.pop() - changes[i] @ q / (steps[i] @ changes[i])) * steps[i]
  given = (jnp.asarray(x, jnp.float32) for x in (pairs @ pairs.T, pairs @ gradient))
  weights, own = minimiser._weights(*given, jnp.int32((count - 1) % m), jnp.int32(m))
  found = np.asarray(weights, np.float64) @ pairs + float(own) * gradient
  assert np.linalg.norm(found + q) < 1e-3 * np.linalg.norm(q)  # float32 products of 30 pairs
