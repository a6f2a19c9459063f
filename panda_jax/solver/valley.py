"""The last steps of a small or flat problem: quasi-Newton steps in float64 on an error that always has a minimum.

If the parts see few fibres, as those of a single sample, the error has no minimum: it falls for ever, ever more slowly,
while some parts shrink and W grows to compensate. Alternating steps then gain less than the rounding of float32 long
before the valley ends. Here W is eliminated, f(P) = min_W L(W, P), and a small ridge term gives f a minimum:

    f(P) = min_W L(W, P) / sum ||Z||^2 + RIDGE ||s W - I||^2,   s = ||P||^2 / R_S,

This does not depend on the common scale of P either, and gives W = I / s where the data has no energy. Its gradient is
that of L at the best W plus that of the ridge (envelope theorem). SciPy's L-BFGS-B (Byrd, Lu, Nocedal and Zhu 1995)
minimises it over P >= 0. Each round first scales the columns of P to one length, since the valley is narrow if their
lengths differ (our derivation).

Everything is numpy, on the host of process 0: only small problems come here.
"""

import dataclasses
from functools import cached_property

import numpy as np

# Directions of W with less than this fraction of the energy are not trusted: float32 features round to 4e-15 of it.
# Eigenvalues of W reach some hundreds, which float32 factors can still represent.
RIDGE = 1e-13
ROUND = 200  # steps between two scalings of the columns
PAIRS = 10
SETTLED = 3e-8  # the descent has converged if a round gains less than this fraction
OPERATIONS = 2e10  # budget of operations: a few seconds of one core
OVERHEAD = 5e5  # operations that the overhead of an evaluation corresponds to: about thirty calls of numpy
CHEAP, WORTHWHILE = 500, 30  # evaluations that the budget must allow: for any problem, and for a flat one


@dataclasses.dataclass(frozen=True)
class Problem:
  """L over P, with the best W for it.

  Attributes:
    Z: (S, N, C) float64, sum ||Z||^2 = 1.
    mode: of the appearances, see `appearances.mode_for`.
    parts, appearances: R_S, R_C.
  """

  Z: np.ndarray
  mode: str
  parts: int
  appearances: int

  @cached_property
  def closed(self) -> bool:
    """Whether the best W for given parts has a closed form: its rank is at most that of Y."""
    _, N, C = self.Z.shape
    return self.mode != 'low' or N * self.parts <= self.appearances < C

  @cached_property
  def _rows(self) -> np.ndarray:
    return self.Z.reshape(len(self.Z), -1)

  def seen(self, P: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Y = P'Z as rows (R_S N, C), in the coordinates of a basis (C, R_S N) of their span where that is smaller."""
    Y = (P.T @ self._rows).reshape(-1, self.Z.shape[2])
    if self.mode not in ('full', 'low') or not self.closed or len(Y) >= Y.shape[1]:
      return Y, None
    basis = np.linalg.qr(Y.T)[0]
    return Y @ basis, basis

  def best(self, M: np.ndarray, D: np.ndarray, s: float) -> np.ndarray:
    """The W of this mode that minimises -2 tr(WM) + tr(W^2 D), with the ridge in modes 'full' and 'low'."""
    if self.mode == 'identity':
      return np.eye(len(M))
    if self.mode == 'orthonormal':
      A = np.linalg.eigh(2 * M - D)[1][:, -self.appearances :]
      return A @ A.T
    values, V = np.linalg.eigh(D)
    values = np.maximum(values, 0) + RIDGE * s * s
    right = V.T @ M @ V + RIDGE * s * np.eye(len(M))
    return V @ (2 * right / (values[:, None] + values[None, :])) @ V.T

  def weighed(self, P: np.ndarray, A: np.ndarray | None = None) -> tuple[float, np.ndarray, np.ndarray, tuple]:
    """The error with the ridge, its gradients in P (S, R_S) and in W, and W with its basis.

    `A`: (C, R_C); if given, W = AA' is used in place of the best W.
    """
    Y, basis = self.seen(P)
    gram = P.T @ P
    s = np.trace(gram) / self.parts
    weighted = (gram @ Y.reshape(self.parts, -1)).reshape(Y.shape)
    M, D = Y.T @ Y, Y.T @ weighted
    D = (D + D.T) / 2
    W = self.best(M, D, s) if A is None else A @ A.T
    WY = Y @ W
    error = 1 - 2 * np.sum(W * M) + np.sum((W @ W) * D)
    WWY, WY = ((WY @ W).reshape(self.parts, -1), WY.reshape(self.parts, -1))
    U = 2 * gram @ WWY - 4 * WY
    U = U if basis is None else (U.reshape(len(Y), -1) @ basis.T).reshape(self.parts, -1)
    off = (s * W - np.eye(len(W))) * (self.mode in ('full', 'low'))
    in_P = self._rows @ U.T + 2 * P @ (WY @ WY.T) + (4 * RIDGE / self.parts * np.sum(off * W)) * P
    in_W = -2 * M + W @ D + D @ W + (2 * RIDGE * s) * off
    return error + RIDGE * np.sum(off * off), in_P, in_W, (W, basis)

  def round(self, P: np.ndarray, A: np.ndarray, steps: int = ROUND) -> tuple[float, np.ndarray, np.ndarray]:
    """At most this many steps from P and A: the error with the ridge, P, and W (C, C) or A (C, R_C); see `carried`.

    `A`: the solver's; it is a starting point only if W has no closed form.
    """
    P = P * np.sqrt(self.parts / np.sum(P * P)) if self.closed else P
    lengths = np.linalg.norm(P, axis=0)
    lengths = np.where(lengths > 0, lengths, 1)

    def split(x):
      return x[: P.size].reshape(P.shape) * lengths, None if self.closed else x[P.size :].reshape(A.shape)

    def function(x):
      parts, free = split(x)
      value, in_P, in_W, _ = self.weighed(parts, free)
      gradient = (in_P * lengths).ravel()
      return value, gradient if free is None else np.concatenate([gradient, (2 * in_W @ free).ravel()])

    start = (P / lengths).ravel() if self.closed else np.concatenate([(P / lengths).ravel(), A.ravel()])
    bounds = [(0, None)] * P.size + [(None, None)] * (len(start) - P.size)
    options = {'maxiter': steps, 'maxfun': 2 * steps, 'maxcor': PAIRS, 'ftol': 1e-15, 'gtol': 1e-12}
    from scipy import optimize  # only here: it takes long to import

    found = optimize.minimize(function, start, jac=True, method='L-BFGS-B', bounds=bounds, options=options)
    P, A = split(found.x)
    value, _, _, (W, basis) = self.weighed(P, A)
    return value, P, self.carried(W, basis, np.sum(P * P) / self.parts) if A is None else A

  def carried(self, W: np.ndarray, basis: np.ndarray | None, s: float) -> np.ndarray:
    """The solver's X in this mode: W (C, C), equal to I / s on directions that no part sees, or A (C, R_C)."""
    C = self.Z.shape[2]
    if self.mode in ('full', 'identity'):
      return W if basis is None else basis @ W @ basis.T + (np.eye(C) - basis @ basis.T) / s
    values, V = np.linalg.eigh(W)
    A = (V * np.sqrt(np.maximum(values, 0)))[:, ::-1][:, : self.appearances]
    if basis is None:
      return A
    # The remaining rank goes to the directions of most energy that no part sees; they do not change the error.
    beside = self.Z.reshape(-1, C) @ (np.eye(C) - basis @ basis.T)
    rest = np.linalg.eigh(beside.T @ beside)[1][:, ::-1][:, : self.appearances - A.shape[1]]
    return np.concatenate([basis @ A, rest], axis=1)


def evaluations(samples: int, positions: int, channels: int, parts: int, mode: str) -> int:
  """How many evaluations of f are worth it; 0 if the problem is neither small nor flat."""
  N, S, C, R = samples, positions, channels, parts
  width = C if mode in ('identity', 'orthonormal') else min(C, N * R)
  cost = OVERHEAD + 8 * N * S * C * R + 6 * N * R * C * width + 30 * width**3
  affordable = int(OPERATIONS // cost)
  least = WORTHWHILE if N * R <= C else CHEAP
  return affordable if affordable >= least else 0


def gap(errors: list[float]) -> float:
  """An estimate of how much slowing errors will still fall: the rest of a geometric series (Aitken 1926).

  errors: at equal intervals. A ratio of gains close to 1 says little, so at most 19 times the last gain is expected.
  """
  if len(errors) < 3:
    return 0.0
  before, last = errors[-3] - errors[-2], errors[-2] - errors[-1]
  if last <= 0:
    return 0.0
  ratio = min(last / before, 0.95) if before > 0 else 0.95
  return last * ratio / (1 - ratio)
