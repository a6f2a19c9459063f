"""The solver: restarts on a small subset, joint steps on growing subsets, then on all samples, and a reason to stop.

Every level starts from the factors of the last one, so most steps cost a fraction of a pass over the data, and all
samples are needed only for the last few digits. Subsets are chosen by content (`store.strata`), so the order of samples
does not matter.
"""

from collections.abc import Callable, Iterable
from functools import partial

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as Spec

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.features.store import IN_FLIGHT, Store
from panda_jax.runtime import processes
from panda_jax.runtime.clock import Clock
from panda_jax.solver import appearances, block, joint, moments, valley
from panda_jax.solver.effort import compiler_options
from panda_jax.solver.passes import add_on_shards, energy, nothing_yet, over_mesh, reduce_over_mesh
from panda_jax.solver.precision import small_dtype
from panda_jax.solver.starts import EARLY_SCHEDULE, SCHEDULE, SWEEPS, search_parts
from panda_jax.solver.state import MEMORY, Settings, SolverState

TOLERANCE = 1e-5  # projected gradient relative to the parts: below it the last level has converged
SUBSET_TOLERANCE, SUBSET_STEPS = 1e-4, 40  # a better optimum of a subset is useless: it moves with the subset
STALL_STEPS, STALL = 30, 1e-7  # stop if so many steps gain less than this fraction: float32 sums round more
KEEP = 1  # candidates of the restarts that are compared on the first level, with the early one if there is one
CONTEST_STEPS = 16  # the sum of FIRST_STEPS
# If even the first level takes long, a few starts on a few samples soon give factors that are nearly as good; they are
# compared with the better candidates on the first level. Smaller features are not worth the compilation.
EARLY_SAMPLES, EARLY_RESTARTS, EARLY_STEPS, EARLY_SIZE = 64, 16, 20, 10_000_000
FIRST_STEPS = (4, 6, 6)  # steps of the early factors on the first level, before the restarts there; reported after each
GROWTH = 8  # ratio of the sizes of successive subsets
LEAST_SAMPLES = 64
SUBSET_BYTES = 128 << 20  # bytes of the largest subset if features are streamed

# Cost model of the joint phase, constants measured on two CPU cores (benchmarks/results): large square products run at
# about twice the rate of thin ones. Far from the optimum an outer iteration on Gram matrices gains as much as about
# four thin steps. Near it, extrapolated, it gains as much as tens: it is used there if it costs at most 20.
SQUARE_RATE, FAR_GAIN, NEAR_GAIN = 2.0, 4.0, 20.0
Samples = jax.Array | Iterable[jax.Array]  # all of them on the devices, or one piece after the other
GRAM_STEPS, GRAM_STALL, GRAM_TOLERANCE = 100, 1e-7, 2e-5


@partial(jax.jit, static_argnames=('steps',))
def _parts_block(B, D, P, tolerance, *, steps):
  return block.minimise_block(B, D, P, steps=steps, tolerance=tolerance, nonnegative=True)


@partial(jax.jit, static_argnames=('mode',))
def _appearances_block(M, N, total, X, *, mode):
  M, N = M / total, N / total
  X = appearances.update(M, N, X, mode)
  return X, appearances.objective(M, N, appearances.outer(X, mode))


@partial(jax.jit, static_argnames=('rank',))
def _leading(T, *, rank):
  return appearances.leading_vectors(T, rank)


def extrapolated(tried: list[np.ndarray], mapped: list[np.ndarray]) -> np.ndarray:
  """Anderson's next point for the fixed point of a map known at some points (Anderson 1965; Walker and Ni 2011).

  tried, mapped: points P_k (S, R_S) and their images, oldest first. The result is the combination with the least
  residual, kept non-negative and zero where the last image is zero.
  """
  points, images = (np.stack([x.ravel() for x in xs]) for xs in (tried, mapped))
  residuals = images - points
  if len(points) == 1:
    return mapped[-1]
  weights = np.linalg.lstsq(np.diff(residuals, axis=0).T, residuals[-1], rcond=1e-8)[0]
  point = images[-1] - weights @ np.diff(images, axis=0)
  return np.where(mapped[-1] > 0, np.maximum(point.reshape(mapped[-1].shape), 0), 0)


def level_sizes(samples: int, positions: int, channels: int, settings: Settings, most: int) -> list[int]:
  """Sizes of the subsets; the last is min(samples, most).

  On the first, forming K costs about as much as the restarts that use it (2 n C S^2 operations against
  restarts x steps x 4 S^2 R_S). It is large enough for K to have full rank four times over, and at least LEAST_SAMPLES.
  """
  work = 2 * settings.restarts * (SCHEDULE[0] + SWEEPS) * settings.parts
  first = max(LEAST_SAMPLES, -(-4 * positions // channels), -(-work // channels))
  last = min(samples, most)
  sizes = []
  while first < last / 2:
    sizes.append(first)
    first *= GROWTH
  return [*sizes, last]


def steps_per_outer(positions: int, channels: int, parts: int) -> float:
  """The cost of an outer iteration on Gram matrices, in thin steps: operations per sample at their measured rates."""
  S, C, R = positions, channels, parts
  thin = 4 * C * S * R + 12 * C * C * R
  gram = (2 * C * C * S + 4 * S * S * C) / SQUARE_RATE
  return gram / thin


class Solver:
  """Runs one fit. `solve` calls the steps in order; the other methods are the steps."""

  def __init__(
    self,
    store: Store,
    settings: Settings,
    clock: Clock,
    on_state: Callable[[SolverState], None] = lambda state: None,
    on_samples: Callable[[str, int], None] = lambda name, n: None,
  ):
    self.store, self.settings, self.clock = store, settings, clock
    self._on_state, self._on_samples = on_state, on_samples
    source = store.source
    self.S, self.C, self.N = source.positions, source.channels, store.scan.samples
    self.mode = appearances.mode_for(self.C, settings.appearances, settings.orthonormal)
    most = self.N
    if store.streamed:
      most = max(1, min(store.plan.budget, SUBSET_BYTES) // (4 * self.S * self.C))
    self.sizes = level_sizes(self.N, self.S, self.C, settings, most)
    self._compiler_options = compiler_options(self.N, self.S, self.C, settings.parts)
    self._replicated = NamedSharding(store.mesh, Spec())

  def run(self, program: jax.stages.Wrapped, *args, **static):
    """program(*args, **static), compiled for a fit of this size."""
    return self.clock.call(program, *args, compiler_options=self._compiler_options, **static)

  def sums(self, function: Callable, Z: jax.Array, *small):
    static = {'function': function, 'mesh': self.store.mesh, 'precision': self.settings.precision}
    return self.run(over_mesh, Z, *small, **static)

  def total(self, function: Callable, pieces: Samples, *small):
    """Sum over all samples: of one array, or of pieces; each device adds up its own pieces first."""
    if isinstance(pieces, jax.Array):
      return self.sums(function, pieces, *small)
    static = {'function': function, 'mesh': self.store.mesh, 'precision': self.settings.precision}
    sums = None
    for k, Z in enumerate(pieces):
      if sums is None:
        sums = self.run(nothing_yet, Z, *small, **static)
      sums = self.run(add_on_shards, sums, Z, *small, **static)
      if k % IN_FLIGHT == IN_FLIGHT - 1:  # otherwise a fast source fills the devices ahead of the sums
        jax.block_until_ready(sums)
    return self.run(reduce_over_mesh, sums, mesh=self.store.mesh)

  def passes(self, name: str, Z: jax.Array | None) -> Samples:
    """One pass over all samples: the array on the devices, or a stream of pieces."""
    return Z if Z is not None else self.store.pieces(partial(self._on_samples, name))

  def load(self, level: int) -> jax.Array:
    with self.clock.phase('features'):
      size = self.sizes[level]
      return self.store.whole() if size == self.N else self.store.subset(size)

  def report(self, state: SolverState, entries: Iterable[dict] = ()):
    state.history.extend(entries)
    state.seconds = self.clock.elapsed
    state.store, state.budget = self.store.plan.store, self.store.plan.budget
    with self.clock.phase('callback'):
      self._on_state(state)

  def search(
    self, pieces: Callable[[str], Samples], restarts: int, schedule: tuple[int, int] = SCHEDULE
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Candidates P (KEEP, S, R_S), the start of W or A, and K, on these pieces; arguments: see `search_parts`."""
    s = self.settings
    with self.clock.phase('moments'):
      if self.mode in ('full', 'identity'):
        X = np.eye(self.C, dtype=small_dtype())
        K = self.total(moments.position_moments, pieces('K'))[0]
      else:
        T = self.total(moments.channel_scatter, pieces('scatter'))
        X = self.run(_leading, T, rank=s.appearances)
        K = self.total(moments.position_moments, pieces('K'), np.asarray(X) @ np.asarray(X).T)[0]
      jax.block_until_ready(K)
    with self.clock.phase('solve'):
      numbers = np.int64(s.seed), np.int32(restarts), np.asarray(schedule, np.int32)
      sizes = {'parts': s.parts, 'keep': min(KEEP, s.restarts), 'room': s.restarts}
      P, _ = jax.block_until_ready(self.run(search_parts, K, *numbers, **sizes))
    return P, X, K

  def early(self) -> joint.JointState:
    """Quick factors from a few samples."""
    with self.clock.phase('features'):
      Z = self.store.subset(EARLY_SAMPLES)
    restarts = min(EARLY_RESTARTS, self.settings.restarts)
    P, X, _ = self.search(lambda name: Z, restarts, EARLY_SCHEDULE)
    start = joint.begin(np.asarray(P[0]), np.asarray(X))
    return self.advance(Z, start, self.sums(energy, Z), EARLY_STEPS, 0.0)[0]

  def start(self) -> tuple[SolverState, jax.Array]:
    """Restarts on the first level: the candidate that is best after a few joint steps, and the data of that level."""
    s = self.settings
    size = self.N * self.S * self.C
    state = SolverState(0, 'early', self.sizes[0], None, self.mode, 0.0, [])
    if self.sizes[0] > 2 * EARLY_SAMPLES and size >= EARLY_SIZE:
      state.inner, state.samples = self.early(), EARLY_SAMPLES
      self.check([float(state.inner.error)], state, 0)
      self.report(state, [self.entry(state, EARLY_STEPS, self.clock.elapsed, float(state.inner.error))])
    Z = self.load(0)
    total = self.sums(energy, Z)
    if state.inner is not None:
      state.inner, state.samples = joint.begin(state.inner.P, state.inner.X), self.sizes[0]
      for steps in FIRST_STEPS:
        state.inner, _ = self.advance(Z, state.inner, total, steps, 0.0)
        error = float(state.inner.error)
        self.check([error], state, 0)
        self.report(state, [self.entry(state, int(state.inner.i), self.clock.elapsed, error)])
    P, X, _ = self.search(lambda name: Z, s.restarts)
    # The early factors have had their steps on this level; the new candidates are compared after the same number.
    best, ladder = state.inner, (CONTEST_STEPS,) if state.inner is None else FIRST_STEPS
    for P_k in np.asarray(P):
      inner = joint.begin(P_k, np.asarray(X))
      for steps in ladder:
        inner, _ = self.advance(Z, inner, total, steps, 0.0)
        if best is None or float(inner.error) < float(best.error):
          best = inner
          if state.inner is not None:
            state.inner = inner
            self.report(state, [self.entry(state, int(inner.i), self.clock.elapsed, float(inner.error))])
    state.inner, state.samples, state.phase = best, self.sizes[0], 'search'
    self.check([float(best.error)], state, 0)
    self.report(state, [self.entry(state, int(best.i), self.clock.elapsed, float(best.error))])
    return state, Z

  def steps_per_call(self) -> int:
    """Steps per call: about a second of work on a slow machine, so that progress is shown and signals are handled."""
    size = self.S * self.C * self.sizes[-1]
    return int(np.clip(2e9 // size, 1, 16))

  def advance(
    self, Z: jax.Array, inner: joint.JointState, total: jax.Array, steps: int, tolerance: float
  ) -> tuple[joint.JointState, np.ndarray]:
    """At most this many thin steps: the new iterate and the error after each."""
    with self.clock.phase('solve'):
      inner = jax.tree.map(partial(processes.replicated, sharding=self._replicated), inner)
      done = int(inner.i)
      inner, errors = self.run(
        joint.advance,
        Z,
        inner,
        total,
        np.int32(min(steps, joint.CHUNK)),
        np.asarray(tolerance, total.dtype),
        mode=self.mode,
        precision=self.settings.precision,
      )
      return inner, np.asarray(errors)[: int(inner.i) - done]

  def level(self, state: SolverState, Z: jax.Array, last: bool) -> str:
    """Thin joint steps on one level until it stops; returns the reason."""
    total = self.sums(energy, Z)
    tolerance = TOLERANCE if last else SUBSET_TOLERANCE
    most = self.settings.max_iterations if last else SUBSET_STEPS
    state.phase, state.samples = 'joint', self.sizes[state.level]
    while True:
      # Checked before a call, so that a run that is resumed at its end stops there too.
      done, errors = int(state.inner.i), state.errors()
      if errors and float(state.inner.stationarity) <= tolerance:
        return 'converged'
      window, least = (STALL_STEPS, STALL) if last else (6, 3e-4)
      fallen = errors[-1 - window] - errors[-1] if len(errors) > window else np.inf
      if errors and (int(state.inner.stuck) >= 6 or fallen <= least * max(errors[-1], 1e-6)):
        return 'stalled'
      if done >= most:
        return 'max_iterations'
      before = self.clock.elapsed
      inner, new = self.advance(Z, state.inner, total, min(self.steps_per_call(), most - done), tolerance)
      self.check(new, state, done)
      if not len(new):  # no step was taken: the start was stationary, or nothing moved
        return 'converged' if float(inner.stationarity) <= tolerance else 'stalled'
      state.inner = inner
      after = self.clock.elapsed
      times = before + (after - before) * (np.arange(len(new)) + 1) / len(new)
      self.report(
        state,
        [self.entry(state, done + k + 1, t, e) for k, (t, e) in enumerate(zip(times, new, strict=True))],
      )

  def gram(self, state: SolverState, Z: jax.Array | None) -> str:
    """Outer iterations on all samples by Gram matrices: two passes and many inner steps each, extrapolated.

    An iteration is a map of P: the best W for P (one pass), then the best P for that W (another). Anderson's
    extrapolation approaches its fixed point. If an extrapolated P raises the error, the map's own result is used
    instead, which cannot raise it.
    """
    resumed = state.phase == 'gram'
    if not resumed:
      state.phase, state.samples = 'gram', self.N
      state.tried = state.mapped = np.zeros((0, *state.inner.P.shape))
    with self.clock.phase('moments'):
      total = self.total(energy, self.passes('energy', Z))
    P, X = np.asarray(state.inner.P), state.inner.X
    while True:
      i = int(state.inner.i)
      if not resumed:  # a saved state already has its W
        if i >= self.settings.max_iterations:
          return 'max_iterations'
        with self.clock.phase('moments'):
          M, N = self.total(moments.channel_moments, self.passes('channels', Z), P)
        with self.clock.phase('solve'):
          moved_X, value = self.run(_appearances_block, M, N, total, X, mode=self.mode)
          error = 1 + float(value)
        self.check([error], state, i)
        if len(state.mapped) > 1 and error > state.errors()[-1] * (1 + 1e-7):
          P, state.tried, state.mapped = state.mapped[-1], state.tried[:0], state.mapped[:0]
          continue
        X = moved_X
        fresh = joint.begin(P, np.asarray(X))
        state.inner = fresh.replace(i=np.int32(i + 1), error=np.asarray(error, P.dtype))
        self.report(state, [self.entry(state, i + 1, self.clock.elapsed, error)])
      resumed, errors = False, state.errors()
      # Extrapolation gains in jumps, so the gain is taken over as many iterations as the extrapolation uses.
      before = errors[-MEMORY - 2] if len(errors) > MEMORY + 1 else np.inf
      stalled = before - errors[-1] <= GRAM_STALL * max(errors[-1], 1e-6)
      with self.clock.phase('moments'):
        W = appearances.outer(X, self.mode)
        K1, K2 = self.total(moments.position_moments, self.passes('positions', Z), W)
      with self.clock.phase('solve'):
        best = self.run(_parts_block, K1, K2, P, np.asarray(1e-8, P.dtype), steps=GRAM_STEPS)
        best = np.asarray(best.X)
      moved = np.max(np.abs(best - P)) / np.max(best)
      if moved <= GRAM_TOLERANCE or stalled:
        state.inner = state.inner.replace(P=best)
        return 'converged' if moved <= GRAM_TOLERANCE else 'stalled'
      state.tried, state.mapped = (
        np.concatenate([points, new[None]])[-MEMORY:] for points, new in ((state.tried, P), (state.mapped, best))
      )
      P = extrapolated([*state.tried], [*state.mapped])

  def valley(self, state: SolverState, Z: jax.Array | None, reason: str) -> str:
    """Steps in float64 if they are worth it, see module `valley`; returns the new reason, or the given one."""
    worth = valley.evaluations(self.N, self.S, self.C, self.settings.parts, self.mode)
    if not worth or reason == 'max_iterations':
      return reason
    Z = self.store.whole() if Z is None else Z
    samples = processes.whole_array(Z).astype(np.float64).transpose(1, 0, 2, 3).reshape(self.S, -1, self.C)
    samples = samples[:, np.any(samples, axis=(0, 2))]  # without the unused places
    problem = valley.Problem(
      samples / np.linalg.norm(samples), self.mode, self.settings.parts, self.settings.appearances
    )
    if state.phase != 'valley':
      state.phase, state.samples = 'valley', self.N
      state.inner = state.inner.replace(i=np.int32(0))
    while True:
      done = int(state.inner.i)
      if state.errors():
        before, last = (entry['relative_error'] for entry in state.history[-2:])
        if before - last <= valley.SETTLED * max(last, 1e-6):
          return 'converged'
      if done * valley.ROUND >= worth:
        return 'stalled'
      with self.clock.phase('solve'):
        P, X = (np.asarray(x, np.float64) for x in (state.inner.P, state.inner.X))
        error, P, X = problem.round(P, X, min(valley.ROUND, worth))
        # Other kinds of machine round differently: all processes continue with the result of process 0.
        P, X, error = (processes.array_of_first(np.asarray(x)) for x in (P, X, error))
      self.check([error], state, done)
      P, X, error = (x.astype(small_dtype()) for x in (P, X, error))
      state.inner = joint.begin(P, X).replace(i=np.int32(done + 1), error=error)
      self.report(state, [self.entry(state, done + 1, self.clock.elapsed, float(error))])

  def check(self, errors, state: SolverState, done: int):
    bad = np.flatnonzero(~np.isfinite(errors))
    if len(bad):
      raise NonFiniteError(
        'features',
        self.store.source.name(),
        f'the error became {errors[bad[0]]} in step {done + bad[0] + 1}, {state.phase} phase, {state.samples} samples',
        'check the features for extreme values, or use precision=highest',
      )

  def entry(self, state: SolverState, iteration: int, seconds: float, error: float) -> dict:
    return {
      'iteration': iteration,
      'phase': state.phase,
      'samples': state.samples,
      'seconds': round(float(seconds), 4),
      'relative_error': float(max(error, 0.0)),
    }

  def parts_only(self) -> tuple[SolverState, str, jax.Array | None]:
    """Without the joint phase: restarts and block steps on the K of all samples; A stays at its start."""
    Z = None if self.store.streamed else self.load(len(self.sizes) - 1)
    P, X, K = self.search(lambda name: self.passes(name, Z), self.settings.restarts)
    with self.clock.phase('solve'):
      steps, tolerance = self.settings.max_iterations, TOLERANCE / 10
      result = self.run(_parts_block, K, None, P[0], np.asarray(tolerance, K.dtype), steps=steps)
      total = float(self.total(energy, self.passes('energy', Z)))
      error = 1 + float(result.value) * float(np.trace(K)) / total
    inner = joint.begin(result.X, X).replace(i=result.i, error=np.asarray(error, small_dtype()))
    state = SolverState(0, 'search', self.N, inner, self.mode, 0.0, [])
    self.check([error], state, 0)
    self.report(state, [self.entry(state, int(result.i), self.clock.elapsed, error)])
    if float(result.stationarity) <= tolerance:
      return state, 'converged', Z
    return state, 'max_iterations' if int(result.i) >= steps else 'stalled', Z

  def solve(self, state: SolverState | None = None) -> tuple[SolverState, str, jax.Array | None]:
    """Continues a given state, or starts. Returns the last state, the reason, and all features if they are held."""
    if not self.settings.joint:
      return self.parts_only()
    state, reason, Z = self.descend(state)
    return state, self.valley(state, Z, reason), Z

  def descend(self, state: SolverState | None) -> tuple[SolverState, str, jax.Array | None]:
    """Levels, then Gram iterations where they are worth it; for arguments and results see `solve`."""
    last = len(self.sizes) - 1
    everything = self.sizes[last] == self.N
    cost = steps_per_outer(self.S, self.C, self.settings.parts)
    finish = not everything or cost <= NEAR_GAIN
    Z = None
    if state is None:
      state, Z = self.start()
    elif not state.belongs(self.S, self.C, self.settings, self.mode, len(self.sizes)):
      problem = 'the saved state is not of this fit'
      raise InputError('checkpoint', state.phase, problem, 'use --overwrite to start again')
    while state.phase not in ('gram', 'valley'):
      whole = state.level == last and everything
      if Z is None:
        Z = self.load(state.level)
      if not (whole and cost < FAR_GAIN):
        reason = self.level(state, Z, whole and not finish)
        if whole and not finish:
          return state, reason, Z
      if state.level == last:
        break
      Z = None  # frees the subset before the next is made
      state.level += 1
      state.inner = joint.begin(state.inner.P, state.inner.X)
    if not everything:
      Z = None
    elif Z is None:
      Z = self.load(last)
    if state.phase == 'valley':  # resumed there
      return state, 'stalled', Z
    if state.phase != 'gram':
      state.inner = joint.begin(state.inner.P, state.inner.X)
    return state, self.gram(state, Z), Z
