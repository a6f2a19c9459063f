"""The canonical form: one choice among the factors of equal error, since the objective depends on A A' and P P' only.

L does not change under A -> A R for orthogonal R, nor under A c, P / c, nor under the order and sign of columns. One
representative is chosen (our choice), and `Findings` lists what remains undetermined.
"""

import dataclasses

import numpy as np

TIED = 0.01  # two appearances whose energies differ by less than this fraction can mix freely
DEAD = 1e-12  # fraction of the total energy: an appearance with less explains nothing
UNSIGNED = 1e-3  # fraction of the sum of absolute cubes: a smaller third moment does not determine a sign


@dataclasses.dataclass(frozen=True)
class Findings:
  """Factors that are missing or that the canonical form does not determine. Indices are 0-based exported columns.

  Attributes:
    dead_parts: all zero.
    dead_appearances: explain no energy.
    tied_appearances: pairs of neighbours whose energies differ by less than 1 %, so that they may mix.
    unsigned_appearances: sign set by the largest entry, since the coordinates' third moment is too small.
    nested_parts: pairs (j, k) where part j is non-zero only where k is: a small rotation of the two keeps P >= 0 and
      the error, so neither is unique.
  """

  dead_parts: tuple[int, ...] = ()
  dead_appearances: tuple[int, ...] = ()
  tied_appearances: tuple[tuple[int, int], ...] = ()
  unsigned_appearances: tuple[int, ...] = ()
  nested_parts: tuple[tuple[int, int], ...] = ()

  def sentences(self) -> list[str]:
    """Each finding as a warning for a person."""
    said = []

    def say(items, text, limit=8):
      if items:
        shown = ', '.join(map(str, items[:limit])) + (f' and {len(items) - limit} more' if len(items) > limit else '')
        said.append(text.format(shown))

    say(self.dead_parts, 'dead parts (all zero): {}; fewer parts explain as much')
    say(self.dead_appearances, 'dead appearances (explain no energy): {}')
    say(self.tied_appearances, 'appearances of nearly the same energy (within 1 %), whose mixtures fit as well: {}')
    say(self.unsigned_appearances, 'appearances whose sign is a convention only: {}')
    say(self.nested_parts, 'parts inside another one, determined only up to a small rotation with it: {}')
    return said


def balanced(P: np.ndarray, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Scales P (S, R_S) and W (C, C) oppositely so that tr(P'P) is the number of parts that are not all zero."""
  P = np.maximum(P, 0)
  live = int(np.sum(np.any(P > 0, axis=0)))
  norm = np.sum(P * P)
  if not live or not norm:
    return P, W
  c = np.sqrt(live / norm)
  return P * c, W / c**2


def appearances_of(W: np.ndarray, T: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
  """A (C, rank) with A A' = W whose coordinates have a diagonal second moment A'TA, decreasing.

  Args:
    W: (C, C) positive semi-definite of at most that rank.
    T: (C, C) = sum_i Z_i Z_i'.

  Returns:
    A and the energies diag(A'TA), (rank,). For W = I this is the published initialisation, the eigenvectors of T.
  """
  values, vectors = np.linalg.eigh(W)
  root = vectors[:, ::-1][:, :rank] * np.sqrt(np.maximum(values[::-1][:rank], 0))
  energy, rotation = np.linalg.eigh(root.T @ T @ root)
  return root @ rotation[:, ::-1], np.maximum(energy[::-1], 0)


def signs(A: np.ndarray, cubes: np.ndarray, absolute_cubes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The sign of each column (R_C,), and which columns' third moment is too small to determine it (R_C,) bool."""
  unsure = np.abs(cubes) <= UNSIGNED * absolute_cubes
  largest = A[np.argmax(np.abs(A), axis=0), np.arange(A.shape[1])]
  sign = np.where(unsure, np.sign(largest), np.sign(cubes))
  return np.where(sign == 0, 1.0, sign), unsure


def nested(P: np.ndarray) -> tuple[tuple[int, int], ...]:
  """Pairs (j, k), j != k, with the support of part j inside that of part k."""
  support = (P > 0).astype(np.int64)
  sizes = support.sum(axis=0)
  common = support.T @ support
  return tuple(
    (int(j), int(k)) for j, k in np.argwhere(common == sizes[:, None]) if j != k and sizes[j] and sizes[k] >= sizes[j]
  )


def varimax(x: np.ndarray, steps: int = 200, tolerance: float = 1e-7) -> np.ndarray:
  """The orthogonal rotation (R, R) of coordinates x (n, R) that makes their squares vary most (Kaiser 1958).

  Each step takes the orthogonal polar factor of the gradient of sum_j var(x_j^2), an ascent step for this criterion.
  The objective does not change, since it does not under A -> A R.
  """
  R = np.eye(x.shape[1])
  last = 0.0
  for _ in range(steps):
    y = x @ R
    gradient = x.T @ (y**3 - y * np.mean(y * y, axis=0))
    u, s, vt = np.linalg.svd(gradient)
    R = u @ vt
    if s.sum() <= last * (1 + tolerance):
      break
    last = s.sum()
  return R


def findings(P, A, energies, unsure, total, rotated: bool) -> Findings:
  """Collects the dead, tied, unsigned and nested factors. `energies` are those of the appearances."""
  dead = energies <= DEAD * total
  gaps = np.abs(np.diff(energies)) <= TIED * np.maximum(energies[:-1], energies[1:])
  ties = [] if rotated else [(i, i + 1) for i in np.flatnonzero(gaps & ~dead[1:]).tolist()]
  return Findings(
    dead_parts=tuple(np.flatnonzero(~np.any(P > 0, axis=0)).tolist()),
    dead_appearances=tuple(np.flatnonzero(dead).tolist()),
    tied_appearances=tuple(ties),
    unsigned_appearances=tuple(np.flatnonzero(unsure & ~dead).tolist()),
    nested_parts=nested(P),
  )
