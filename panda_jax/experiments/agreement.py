"""Whether runs found the same parts, and statistics of parts: cosines, zeros, overlap.

Letters: S positions, R, Q numbers of parts.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from panda_jax.experiments.runs import Run


def cosines(P: np.ndarray, Q: np.ndarray) -> np.ndarray:
  """Cosines (R, Q), from 0 to 1, of each part of P (S, R) with each of Q (S, Q); 0 for dead parts."""
  P, Q = (x / np.maximum(np.linalg.norm(x, axis=0), np.finfo(float).tiny) for x in (np.float64(P), np.float64(Q)))
  return P.T @ Q


def matches(P: np.ndarray, Q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Pairs of parts, each in one pair at most, with the largest sum of cosines: indices into P and Q, and the cosines.

  The optimal assignment (Kuhn 1955; SciPy's is by Crouse 2016).
  """
  from scipy.optimize import linear_sum_assignment  # here, since its import is slow

  found = cosines(P, Q)
  rows, columns = linear_sum_assignment(-found)
  return rows, columns, found[rows, columns]


def agreement(P: np.ndarray, Q: np.ndarray) -> float:
  """Mean cosine of matched parts; a part without a match counts as 0. 1: the same parts, in any order and scale."""
  return float(matches(P, Q)[2].sum() / max(P.shape[1], Q.shape[1]))


def mutual(parts: Sequence[np.ndarray]) -> float | None:
  """Mean agreement of all pairs; None for fewer than two."""
  pairs = [agreement(parts[i], parts[j]) for i in range(len(parts)) for j in range(i)]
  return float(np.mean(pairs)) if pairs else None


def between_halves(runs: Iterable[Run]) -> float | None:
  """Mean agreement of the parts from one half of the samples with those from the other half."""
  halves: dict[str, dict[str, np.ndarray]] = {}
  for run in runs:
    if run.config['half'] != 'none':
      halves.setdefault(run.settings('half'), {})[run.config['half']] = run.parts
  pairs = [agreement(both['first'], both['second']) for both in halves.values() if len(both) == 2]
  return float(np.mean(pairs)) if pairs else None


def zeros(P: np.ndarray) -> float:
  """Share of entries that are exactly 0."""
  return float(np.mean(P == 0))


def overlap(P: np.ndarray) -> float:
  """Mean cosine of two different parts; 0 where supports are disjoint, or there is one part."""
  R = P.shape[1]
  return float((cosines(P, P) * (1 - np.eye(R))).sum() / (R * (R - 1))) if R > 1 else 0.0
