"""The compiler's effort changes how soon a fit begins, not its result."""

import jax
import numpy as np
import pytest

import panda_jax
from panda_jax.runtime.compatibility import enable_x64
from panda_jax.solver import effort
from panda_jax.solver.starts import search_parts
from tests.planted import assert_same_factors, disjoint


def test_small_problems_are_compiled_without_optimisation():
  small, large = effort.compiler_options(20, 16, 6, 2), effort.compiler_options(1000, 256, 96, 12)
  assert small['xla_backend_optimization_level'] == '0'
  assert large['xla_backend_optimization_level'] == '1'
  for options in (small, large):
    assert jax.jit(lambda x: x + 1).lower(1.0).compile(options)(1.0) == 2


def test_accelerators_are_left_alone(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert effort.compiler_options(20, 16, 6, 2) == {}


def test_the_result_does_not_depend_on_it(monkeypatch):
  Z = disjoint(N=20, grid=(4, 5), C=6, parts=2)[0]
  found = panda_jax.fit(Z, 2, restarts=8)
  monkeypatch.setattr(effort, 'SMALL_PARTS', 0)
  again = panda_jax.fit(Z, 2, restarts=8)
  # The same optimum, to what two machines may differ by.
  assert again.relative_error == pytest.approx(found.relative_error, rel=1e-4, abs=1e-9)
  assert_same_factors(again.factors, found.factors)


def test_one_program_searches_with_few_starts_and_with_many():
  rows = np.random.default_rng(0).random((12, 40)) ** 4
  schedule = np.asarray((15, 150), np.int32)
  search_parts.clear_cache()  # of what other tests compiled
  with enable_x64(True):
    values = [
      float(search_parts(rows @ rows.T, np.int64(0), np.int32(n), schedule, parts=3, keep=1, room=16)[1][0])
      for n in (1, 2, 16)
    ]
  assert search_parts._cache_size() == 1
  assert values[2] < values[0]  # of several starts the first is not the best
