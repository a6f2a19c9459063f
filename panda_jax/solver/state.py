"""The settings of a fit and the state of its solver, from which a fit can be resumed to the last bit."""

import dataclasses
import itertools

import jax
import numpy as np

from panda_jax.solver import joint

PHASES = 'search', 'joint', 'gram', 'valley'  # phases in which a fit is saved
MEMORY = 5  # points from which the gram phase extrapolates


@dataclasses.dataclass(frozen=True)
class Settings:
  """The settings that a user may choose.

  Attributes:
    parts: R_S.
    appearances: R_C.
    seed: of the restarts.
    restarts: how many starts.
    joint: refine parts and appearances together; without it A stays at its start and only parts are fitted.
    orthonormal: keep A'A = I.
    precision: of products with the data, 'highest', 'high' or 'default' (jax.lax.Precision).
    max_iterations: the most steps on all samples.
  """

  parts: int
  appearances: int
  seed: int = 0
  restarts: int = 64
  joint: bool = True
  orthonormal: bool = False
  precision: str = 'highest'
  max_iterations: int = 2000


@dataclasses.dataclass
class SolverState:
  """The state of the solver: with the data and the settings, enough to go on.

  Attributes:
    level: index into the levels.
    phase: 'early' (before the restarts: not resumable), 'search', 'joint', 'gram' or 'valley'.
    samples: number of samples of this level.
    inner: the iterate.
    mode: of the appearances.
    seconds: since the start of the fit, without compilation and callbacks.
    history: one dict per iteration.
    tried, mapped: points P (k, S, R_S) of the gram phase and their images, from which it extrapolates.
    store, budget: where features are kept, from the plan: streamed sums round differently.
  """

  level: int
  phase: str
  samples: int
  inner: joint.JointState
  mode: str
  seconds: float
  history: list[dict]
  tried: np.ndarray | None = None
  mapped: np.ndarray | None = None
  store: str = 'device'
  budget: int = 0

  @property
  def P(self) -> np.ndarray:
    return np.asarray(self.inner.P)

  @property
  def W(self) -> np.ndarray:
    X = np.asarray(self.inner.X)
    return X if self.mode in ('full', 'identity') else X @ X.T

  def errors(self) -> list[float]:
    """Relative errors of this phase on this level, oldest first; they decide when it stops, also after a resume."""
    own = itertools.takewhile(
      lambda entry: (entry['phase'], entry['samples']) == (self.phase, self.samples), reversed(self.history)
    )
    return [entry['relative_error'] for entry in own][::-1]

  def belongs(self, positions: int, channels: int, settings: Settings, mode: str, levels: int) -> bool:
    """Whether it is a complete state of a fit of these sizes; a saved state may be damaged."""
    X = (channels, channels if mode in ('full', 'identity') else settings.appearances)
    fresh = joint.begin(np.zeros((positions, settings.parts)), np.zeros(X))
    same = jax.tree.map(np.shape, self.inner) == jax.tree.map(np.shape, fresh)
    finite = all(np.isfinite(x).all() for x in (self.inner.P, self.inner.X, self.tried, self.mapped))
    known = 0 <= self.level < levels and self.phase in PHASES and self.mode == mode
    told = self.phase == 'search' or (self.errors() and len(self.history) > 1)
    memory = self.tried.shape[1:] == self.mapped.shape[1:] == fresh.P.shape
    return bool(same and finite and known and told and memory)
