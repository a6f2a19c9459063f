"""SciPy's L-BFGS-B as a yardstick for the parts at W = I.

It minimises h(P) = tr K - 2 tr(P'KP) + tr(P'P P'KP) over P >= 0, K = sum_i Z_i'Z_i (S, S): the reconstruction error
when A is square and orthogonal. Float64 numpy, analytic gradient, one start after the other.
"""

import time
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

# Tighter than SciPy's defaults (ftol 2.2e-9, gtol 1e-5): even with ftol 1e-11 some starts end 0.1 % above the minimum
# that they reach with these, in about the same time.
OPTIONS = {'maxiter': 6000, 'maxfun': 9000, 'ftol': 1e-13, 'gtol': 1e-8}


class Run(NamedTuple):
  P: np.ndarray  # (S, R), float64
  error: float  # h(P) / tr K
  seconds: float
  evaluations: int


def position_scatter(features: np.ndarray, chunk: int = 32) -> np.ndarray:
  """K (S, S) float64 of features (N, S, C): float32 products per chunk, summed in float64."""
  K = np.zeros((features.shape[1],) * 2)
  for i in range(0, len(features), chunk):
    rows = np.ascontiguousarray(np.swapaxes(features[i : i + chunk], 0, 1)).reshape(len(K), -1)
    K += rows @ rows.T
  return K


def relative_error(P: np.ndarray, K: np.ndarray) -> tuple[float, np.ndarray]:
  """h(P) / tr K and its gradient (S, R); K (S, S) must already be divided by its trace."""
  KP, G = K @ P, P.T @ P
  inner = P.T @ KP
  value = 1 - 2 * np.trace(inner) + np.sum(G * inner)
  return value, -4 * KP + 2 * (P @ inner + KP @ G)


def random_starts(starts: int, positions: int, parts: int, seed: int = 0) -> np.ndarray:
  """(starts, S, R) float64, uniform(0, 1), each divided by its largest singular value so that P P' is a contraction."""
  P = np.random.RandomState(seed).uniform(0, 1, (starts, positions, parts))
  return P / np.linalg.norm(P, ord=2, axis=(1, 2), keepdims=True)


def minimise(K: np.ndarray, starts: np.ndarray, limit: float = np.inf) -> list[Run]:
  """One run from each of starts (n, S, R); begins no further run once `limit` seconds have passed.

  It uses one BLAS thread: for products as thin as K P a second thread is not faster, and on a busy machine two threads
  wait for each other (measured on two cores: 1.8 s for 32 starts with one thread, 1.8 to 17 s with two).
  """
  K = K / np.trace(K)
  runs, spent = [], 0.0
  for start in starts:
    if spent > limit:
      break
    began = time.perf_counter()

    def objective(x, shape=start.shape):
      value, gradient = relative_error(x.reshape(shape), K)
      return value, gradient.ravel()

    bounds = [(0, None)] * start.size
    with threadpool_limits(1, user_api='blas'):
      found = minimize(objective, start.ravel(), jac=True, method='L-BFGS-B', bounds=bounds, options=OPTIONS)
    seconds = time.perf_counter() - began
    spent += seconds
    runs.append(Run(found.x.reshape(start.shape), float(found.fun), seconds, int(found.nfev)))
  return runs
