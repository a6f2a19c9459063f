"""The end of a fit where the error is flat: it has the least error, it is always the same, and its reason is true."""

import numpy as np
import pytest
import scipy.optimize

import panda_jax
from panda_jax.runtime.environment import one_blas_thread
from panda_jax.solver import valley
from tests import planted

FEATURES = planted.structured(8, (6, 8), 12)  # (8, 6, 8, 12): S = 48, C = 12


@pytest.fixture(autouse=True)
def quiet_blas():
  """As in a fit: small products are slower with several threads."""
  with one_blas_thread():
    yield


def problem(mode, samples=3, parts=4, appearances=5):
  Z = FEATURES[:samples].astype(np.float64).reshape(samples, 48, 12).transpose(1, 0, 2)
  return valley.Problem(Z / np.linalg.norm(Z), mode, parts, 12 if mode in ('full', 'identity') else appearances)


MODES = [('full', 3), ('full', 1), ('low', 3), ('low', 1), ('orthonormal', 3), ('identity', 3)]


@pytest.mark.parametrize(('mode', 'samples'), MODES)
def test_value_and_gradients_are_those_of_the_error_with_its_ridge(mode, samples, monkeypatch):
  monkeypatch.setattr(valley, 'RIDGE', 1e-3)  # so that it shows in every digit
  rng = np.random.default_rng(0)
  p = problem(mode, samples)
  P = np.abs(rng.standard_normal((48, 4)))
  A = None if p.closed else rng.standard_normal((12, 5))
  value, in_P, in_W, (W, basis) = p.weighed(P, A)
  W = W if basis is None else basis @ W @ basis.T
  Z = p.Z.transpose(1, 0, 2)
  ridge = valley.RIDGE * np.sum((np.sum(P * P) / 4 * W - (np.eye(12) if basis is None else basis @ basis.T)) ** 2)
  expected = np.sum((Z - P @ (P.T @ Z @ W)) ** 2) + ridge * (mode in ('full', 'low'))
  assert value == pytest.approx(expected, rel=1e-10)
  # Central differences: their own error is about 1e-9 of the value's scale at this step.
  V, step = rng.standard_normal(P.shape), 1e-6
  slope = (p.weighed(P + step * V, A)[0] - p.weighed(P - step * V, A)[0]) / (2 * step)
  assert np.sum(in_P * V) == pytest.approx(slope, rel=1e-5)
  if A is not None:
    V = rng.standard_normal(A.shape)
    slope = (p.weighed(P, A + step * V)[0] - p.weighed(P, A - step * V)[0]) / (2 * step)
    assert np.sum(2 * in_W @ A * V) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(('mode', 'samples'), MODES)
def test_a_round_descends_and_hands_back_what_the_solver_carries(mode, samples):
  rng = np.random.default_rng(1)
  p = problem(mode, samples)
  A = rng.standard_normal((12, p.appearances))
  start = np.abs(rng.standard_normal((48, 4)))
  value, P, X = p.round(start, np.linalg.qr(A)[0] if mode == 'orthonormal' else A, 60)
  assert P.min() >= 0
  assert value < p.weighed(start, None if p.closed else A)[0]
  assert X.shape == (12, p.appearances)
  W = X if mode in ('full', 'identity') else X @ X.T
  Z = p.Z.transpose(1, 0, 2)
  assert np.sum((Z - P @ (P.T @ Z @ W)) ** 2) == pytest.approx(value, rel=1e-6)
  if mode == 'orthonormal':
    np.testing.assert_allclose(X.T @ X, np.eye(5), atol=1e-12)


def least_error(Z, A, P, steps=3000):
  """The error of these factors, and where L-BFGS-B on A and P >= 0 together ends from them, in float64."""
  (S, R), (C, R_C) = P.shape, A.shape
  Z = Z.astype(np.float64).reshape(len(Z), S, C).transpose(1, 0, 2)
  Z = Z / np.linalg.norm(Z)
  rows = Z.reshape(S, -1)

  def error(x):
    A, P = x[: C * R_C].reshape(C, R_C), x[C * R_C :].reshape(S, R)
    Y = (P.T @ rows).reshape(R, -1, C)
    X = Y @ A
    residual = rows - P @ (X @ A.T).reshape(R, -1)
    pulled = (P.T @ residual).reshape(R, -1, C)  # P' times the residual
    in_A = -2 * (np.einsum('rnc,rnk->ck', pulled, X) + np.einsum('rnc,rnd,dk->ck', Y, pulled, A, optimize=True))
    in_P = -2 * (residual @ (X @ A.T).reshape(R, -1).T + rows @ (pulled @ A @ A.T).reshape(R, -1).T)
    return np.sum(residual**2), np.concatenate([in_A.ravel(), in_P.ravel()])

  start = np.concatenate([A.ravel(), P.ravel()]).astype(np.float64)
  bounds = [(None, None)] * A.size + [(0, None)] * P.size
  options = {'maxiter': steps, 'maxfun': 2 * steps, 'maxcor': 20, 'ftol': 1e-15, 'gtol': 1e-11}
  found = scipy.optimize.minimize(error, start, jac=True, method='L-BFGS-B', bounds=bounds, options=options)
  return float(error(start)[0]), float(found.fun)


FLAT = {
  'one sample': (FEATURES[:1], {'parts': 2}),
  'one sample, more parts': (FEATURES[:1], {'parts': 5}),
  'one sample, few appearances': (FEATURES[:1], {'parts': 2, 'appearances': 4}),
  'one sample, fewer appearances than it has fibres': (FEATURES[:1], {'parts': 4, 'appearances': 3}),
  'two samples': (FEATURES[:2], {'parts': 5}),
  'three samples, few appearances': (FEATURES[:3], {'parts': 5, 'appearances': 4}),
  'parts near positions': (np.abs(FEATURES.reshape(-1, 4, 4, 12)), {'parts': 14}),
  'three channels of rank': (
    FEATURES @ np.random.default_rng(2).standard_normal((12, 3)) @ np.eye(3, 12),
    {'parts': 4},
  ),
}


def check_end(case):
  """Asserts that the fit of a case of FLAT ends where no other solver goes on.

  In some of them rounding decides which end it is, so test_fit.py also comes here with fewer instructions.
  """
  Z, options = FLAT[case]
  fitted = panda_jax.fit(Z.astype(np.float32), **options)
  here, there = least_error(Z, fitted.factors.appearances, fitted.factors.parts)
  # The ridge and the gain of a last round: some 1e-7 each. How the CPU rounds decides what further rounds would gain:
  # up to 3e-6 was seen. Near zero, float32 factors round to 1e-9.
  assert here - there <= 5e-6 * here + 1e-9, (case, fitted.reason)
  assert fitted.reason == 'converged'
  assert fitted.gap <= 1e-6 * here + 1e-9
  errors = [entry['relative_error'] for entry in fitted.history if entry['phase'] == 'valley']
  assert (np.diff(errors) <= 1e-12).all()  # rounding of float64


@pytest.mark.parametrize('case', FLAT)
def test_it_ends_where_no_other_solver_goes_on(case):
  check_end(case)


def test_an_end_that_is_not_reached_is_named(monkeypatch):
  monkeypatch.setattr(valley, 'OPERATIONS', 100 * valley.OPERATIONS / valley.evaluations(1, 48, 12, 5, 'full'))
  monkeypatch.setattr(valley, 'ROUND', 25)
  fitted = panda_jax.fit(FEATURES[:1], parts=5)
  _, least = least_error(FEATURES[:1], fitted.factors.appearances, fitted.factors.parts)
  assert fitted.reason == 'stalled'
  # An estimate of a fall that slows down: its order of magnitude, either way.
  assert (fitted.relative_error - least) / 20 < fitted.gap < 20 * (fitted.relative_error - least)
  assert any('the error would still fall' in warning for warning in fitted.warnings)


def test_the_gap_is_the_rest_of_a_geometric_series():
  errors = [0.3 + 0.01 * 0.5**k for k in range(6)]
  assert valley.gap(errors) == pytest.approx(errors[-1] - 0.3)
  assert valley.gap([0.4]) == valley.gap([0.3, 0.3, 0.3]) == 0
  assert valley.gap([0.3, 0.29, 0.28]) == pytest.approx(0.19)  # no ratio above 0.95 is believed


def test_large_problems_that_are_not_flat_are_left_alone():
  assert valley.evaluations(400, 256, 48, 8, 'full') == 0
  assert valley.evaluations(1, 1024, 512, 8, 'full') > 100  # a single sample of a large network
  assert valley.evaluations(47, 64, 16, 5, 'full') > valley.CHEAP
