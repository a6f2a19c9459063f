"""`fit`: from feature maps to canonical factors."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np

from panda_jax.errors import InputError, NonFiniteError, brief
from panda_jax.features import intake
from panda_jax.features.sources import FeatureSource, as_source
from panda_jax.features.store import Plan
from panda_jax.runtime import notebook, processes
from panda_jax.runtime.clock import Clock
from panda_jax.runtime.environment import one_blas_thread, small_matrices_in_float64, versions
from panda_jax.runtime.progress import Progress, wanted
from panda_jax.solver import appearances as appearance_block
from panda_jax.solver import gauge, moments, valley
from panda_jax.solver.factors import Factors, checked_provenance
from panda_jax.solver.multilevel import Solver
from panda_jax.solver.precision import small_dtype
from panda_jax.solver.state import Settings, SolverState

ROTATIONS = ('none', 'varimax')
PRECISIONS = ('highest', 'high', 'default')
WORTH_SAYING = 1e-5  # least remaining gap, as a fraction of the error, that a warning mentions
LONGEST_NOTE, MOST_NOTES = 200, 4  # characters of a note, and notes, in a result's text
ROTATION_FIBRES = 20_000  # coordinates from which a rotation is computed


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FitResult:
  """What a fit gives. Results are compared by identity; compare their factors.

  Attributes:
    factors: canonical float32 factors with provenance.
    relative_error: sum ||Z - A A' Z P P'||^2 / sum ||Z||^2 over all samples, of exactly these factors.
    reason: why the solver stopped: 'converged', 'max_iterations' or 'stalled' (steps gain next to nothing each).
    gap: about how far the relative error would still fall, judged by how its fall slowed down.
    history: one dict per iteration: phase, iteration (of this phase on so many samples), samples, seconds,
      relative_error (on those samples).
    warnings: sentences for a person; `findings` has them as data.
    findings: which factors are dead, of equal energy, without a sign of their own, or nested in others.
    part_energy: (R_S,) share of sum ||Z||^2 in each part's coordinates, decreasing.
    appearance_energy: (R_C,) likewise, decreasing unless rotated.
    eigenvalues: (C,) of W = A A', decreasing.
    seconds: wall time by phase.

  Example:
    >>> result.reason
    'converged'
    >>> result.part_energy.shape, result.appearance_energy.shape, result.eigenvalues.shape
    ((4,), (3,), (3,))
  """

  factors: Factors
  relative_error: float
  reason: str
  gap: float
  history: list[dict]
  warnings: list[str]
  findings: gauge.Findings
  part_energy: np.ndarray
  appearance_energy: np.ndarray
  eigenvalues: np.ndarray
  seconds: dict[str, float]

  def __repr__(self) -> str:
    took = f'{len(self.history)} iterations, {self.seconds.get("total", 0):.1f} s'
    lines = [f'FitResult: relative error {self.relative_error:.5f}, {self.reason}, {took}']
    lines += [f'  {line}' for line in self.factors.summary(outcome=False)]
    lines += [f'  note: {brief(warning, LONGEST_NOTE)}' for warning in self.warnings[:MOST_NOTES]]
    if len(self.warnings) > MOST_NOTES:
      lines.append(f'  and {len(self.warnings) - MOST_NOTES} more notes in .warnings')
    return '\n'.join(lines)

  def _repr_html_(self) -> str:
    shares = [f' · {100 * share:.1f} %' for share in self.part_energy]
    return notebook.page(repr(self), self.factors.tiles(shares))


def _checked_count(argument: str, value, most: int, of: str) -> int:
  if isinstance(value, bool) or not isinstance(value, int | np.integer):
    raise InputError(argument, value, 'it is not a whole number', f'give one from 1 to {most}')
  if not 1 <= value <= most:
    raise InputError(argument, value, f'there are {most} {of}', f'give a number from 1 to {most}')
  return int(value)


def _checked_choice(argument: str, value, choices) -> None:
  if value not in choices:
    raise InputError(argument, value, 'unknown', f'give one of {", ".join(choices)}')


def check_record(seed, joint, orthonormal, provenance) -> None:
  """Checks the arguments that need no source: seed, switches, and that the provenance can be saved at the end."""
  if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not -(2**63) <= seed < 2**63:
    raise InputError('seed', seed, 'it is not a whole number of 64 bits', 'give one such as 0')
  for name, value in (('joint', joint), ('orthonormal', orthonormal)):
    if not isinstance(value, bool | np.bool_):
      raise InputError(name, value, 'it is neither true nor false', 'give True or False')
  if provenance is not None:
    checked_provenance(provenance)


def check_settings(
  source: FeatureSource, parts, appearances, restarts, batch, rotation, precision, max_iterations
) -> tuple:
  """Checks the numbers against the source's sizes; returns (R_S, R_C)."""
  R_S = _checked_count('parts', parts, source.positions, 'positions')
  R_C = source.channels
  if appearances is not None:
    R_C = _checked_count('appearances', appearances, source.channels, 'channels')
  _checked_count('restarts', restarts, 100_000, 'restarts at most')
  _checked_count('max_iterations', max_iterations, 10_000_000, 'iterations at most')
  if batch is not None:
    _checked_count('batch', batch, 10_000_000, 'samples at most')
  _checked_choice('rotation', rotation, ROTATIONS)
  _checked_choice('precision', precision, PRECISIONS)
  return R_S, R_C


def canonical(solver: Solver, state: SolverState, Z: jax.Array | None, rotation: str) -> dict:
  """Two or three passes over the data turn the solver's last state into canonical factors and their exact error.

  Returns a dict with A (C, R_C), P (S, R_S) float32, error, energies, eigenvalues and findings.
  """
  P = np.maximum(np.asarray(state.inner.P, np.float64), 0)
  R_C, mode = solver.settings.appearances, solver.mode
  with solver.clock.phase('moments'):
    T = np.asarray(solver.total(moments.channel_scatter, solver.passes('scatter', Z)), np.float64)
  W = np.asarray(state.W, np.float64)
  if mode == 'full' and solver.settings.joint and state.phase != 'valley':  # there W depends on P alone already
    with solver.clock.phase('moments'):
      M, N = solver.total(moments.channel_moments, solver.passes('channels', Z), P.astype(small_dtype()))
      M, N = np.asarray(M, np.float64), np.asarray(N, np.float64)
    with solver.clock.phase('solve'):
      settled = appearance_block.settled(M, N)
      # The settled W differs from the last only where the data has no energy; if that costs too much, keep the last.
      values = [np.sum(N * (w @ w)) - 2 * np.sum(w * M) for w in (settled, W)]
      W = settled if values[0] <= values[1] + 1e-7 * np.trace(M) else W
  with solver.clock.phase('solve'):
    P, W = gauge.balanced(P, W)
    A, energy = gauge.appearances_of(W, T, R_C)
    if rotation == 'varimax':
      A, energy = _rotated(solver, A, T)
  with solver.clock.phase('moments'):
    P, A = P.astype(np.float32), A.astype(np.float32)
    sums = solver.total(moments.final_sums, solver.passes('final', Z), A, P)
    sums = {k: np.asarray(v, np.float64) for k, v in sums.items()}
  if not all(np.isfinite(v).all() for v in sums.values()):
    raise NonFiniteError(
      'features', solver.store.source.name(), 'the final sums are not finite', 'check for extreme values'
    )
  sign, unsure = gauge.signs(A, sums['cubes'], sums['absolute_cubes'])
  order = np.argsort(-sums['part_energy'], kind='stable')
  A, P = A * sign[None, :].astype(np.float32), P[:, order]
  total = float(sums['energy'])
  return {
    'A': A,
    'P': P,
    'error': max(0.0, float(sums['residual']) / total),
    'part_energy': sums['part_energy'][order] / total,
    'appearance_energy': energy / total,
    'eigenvalues': np.maximum(np.linalg.eigvalsh(W)[::-1], 0),
    'findings': gauge.findings(P, A, energy, unsure, total, rotation != 'none'),
  }


def _rotated(solver: Solver, A: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """A after varimax on the coordinates of a subset, its columns sorted again by decreasing energy."""
  count = min(solver.N, max(1, -(-ROTATION_FIBRES // solver.S)))
  Z = processes.whole_array(solver.store.subset(count)).astype(np.float64)
  x = Z.reshape(-1, Z.shape[-1]) @ A
  A = A @ gauge.varimax(x[np.any(x != 0, axis=1)])
  energy = np.einsum('cr,cd,dr->r', A, T, A)
  order = np.argsort(-energy, kind='stable')
  return A[:, order], energy[order]


@contextlib.contextmanager
def _compilations_told(clock: Clock, bar: Progress) -> Iterator[None]:
  """The bar also shows what is compiled; the clock's earlier callback stays."""
  before = clock.on_compile

  def told(phase: str) -> None:
    before(phase)
    bar.compiling(phase)

  clock.on_compile = told
  try:
    yield
  finally:
    clock.on_compile = before


def fit(
  features,
  parts: int,
  appearances: int | None = None,
  *,
  grid: tuple[int, int] | None = None,
  layout: str | None = None,
  samples: int | None = None,
  seed: int = 0,
  restarts: int = 64,
  joint: bool = True,
  orthonormal: bool = False,
  center: str = 'none',
  rotation: str = 'none',
  precision: str = 'highest',
  store: str = 'auto',
  storage: str = 'float32',
  batch: int | None = None,
  max_iterations: int = 2000,
  progress: bool | None = None,
  provenance: dict | None = None,
  budget: int | None = None,
  clock: Clock | None = None,
  resume: Callable[[str], SolverState | None] | None = None,
  like: str | None = None,
  take: Callable[..., intake.Intake] | None = None,
  on_plan: Callable[[Plan], None] = lambda plan: None,
  on_state: Callable[[SolverState], None] = lambda state: None,
  on_samples: Callable[[str, int], None] = lambda name, n: None,
) -> FitResult:
  """Factorises feature maps into appearances and non-negative parts, with nothing to tune.

  Minimises sum_i ||Z_i - A A' Z_i P P'||^2 over A (C, R_C) and P (S, R_S) >= 0 (PandA, ICLR 2023, eq. 1). The result is
  canonical: the same, to rounding, for any order of the samples, unit of the features, batch size or number of devices.

  Args:
    features: (N, H, W, C) array, (N, S, C) with `grid`, a list of maps (H, W, C), the path of a .npy file, or
      repeatable batches (`as_source`); float16, bfloat16, float32, float64, or whole numbers.
    parts: R_S, 1 to S.
    appearances: R_C, 1 to C; C if left out, when A has a closed form.
    grid: (H, W) of flattened positions.
    layout: 'NHWC' (channels last) or 'NCHW' (channels first, (N, C, H, W) or (N, C, S)); 'NHWC' if left out, with a
      note in the result's warnings if the shape looks like the other. The factors are the same for either.
    samples: how many to take, from the first; all if left out.
    seed: fixes the random starts.
    restarts: how many random starts are tried, on a subset; the best few go on.
    joint: refine appearances together with the parts. False keeps A at the leading eigenvectors of sum Z Z'.
    orthonormal: keep A'A = I.
    center: 'none' as published; 'position' subtracts the mean feature map, 'channel' the mean fibre.
    rotation: 'none' (decreasing energy) or 'varimax' (sparser coordinates); free in the error.
    precision: that of products with the data: 'highest' (float32), or 'high' or 'default' (faster where the hardware
      has them).
    store: where features are kept: 'device', 'host' or 'source' (read again each pass); 'auto' takes the devices if
      they have room, else whichever of the others is faster.
    storage: number format of features on the devices, 'float32' or 'bfloat16'. The latter takes half the memory and
      rounds them, once, to 8 bits; sums and products stay float32.
    batch: samples to read, and to multiply, at a time; chosen by size if left out. It changes speed only.
    max_iterations: most iterations on all samples.
    progress: show how far the fit is; if left out, in notebooks only.
    provenance: more entries for the factors' provenance, JSON values.
    budget: bytes on the devices that 'auto' may fill; measured if left out.
    clock: adds up the seconds of each phase; a new one if left out.
    resume: called once with the SHA-256 of the features; gives the state to go on from, or None.
    like: SHA-256 of the features as an earlier fit found it, with as many processes as that had.
    take: reads the features, for several fits of the same ones; each fit reads its own if left out.
    on_plan: called once with the plan of where features are kept.
    on_state: called with the solver's state after every few iterations.
    on_samples: called with the name of each pass over the samples and how many of them are done.

  Raises:
    InputError: an argument cannot be used; the text has its name, value and the remedy.
    NonFiniteError: features or an iterate hold NaN or infinity; the text says where.

  Example:
    >>> result = panda_jax.fit(features, parts=4)
    >>> result.factors.parts.shape, result.factors.appearances.shape
    ((16, 4), (3, 3))
    >>> round(result.relative_error, 6)  # four quarters explain these features
    0.0
  """
  clock = clock or Clock()
  check_record(seed, joint, orthonormal, provenance)
  # Sizes that are known before a pass are checked now: a typing mistake must not cost a read of a large file.
  source = as_source(features, grid, samples, layout)
  R_S, R_C = check_settings(source, parts, appearances, restarts, batch, rotation, precision, max_iterations)
  settings = Settings(R_S, R_C, seed, restarts, joint, orthonormal, precision, max_iterations)

  bar = Progress(source.samples, wanted(progress))

  def seen(name: str, n: int) -> None:
    on_samples(name, n)
    bar.samples_done(name, n)

  def reached(state: SolverState) -> None:
    on_state(state)
    bar.state(state)

  with small_matrices_in_float64(), one_blas_thread(), _compilations_told(clock, bar), bar:
    with clock.phase('features'):
      found = (take or intake.taken)(
        source,
        center,
        store,
        storage,
        budget,
        batch,
        hashed=resume is not None,  # the hash of an array is needed now only to resume
        like=like,
        on_plan=on_plan,
        on_samples=seen,
      )
    state = resume(found.digest()) if resume else None
    # Sums depend, in their rounding, on where features are kept: a resumed fit keeps them where they were.
    before = (state.store, state.budget) if state is not None and store == 'auto' else ()
    with clock.phase('features'):
      held = found.store(batch, *before)
    solver = Solver(held, settings, clock, reached, seen)
    state, reason, Z = solver.solve(state)
    final = canonical(solver, state, Z, rotation)
  warnings, gap = [*source.notes, *final['findings'].sentences()], valley.gap(state.errors())
  if reason == 'max_iterations':
    warnings.append(f'not converged after {max_iterations} iterations; raise max_iterations for more digits')
  elif reason == 'stalled' and gap > WORTH_SAYING * final['error']:
    warnings.append(
      f'the error would still fall, ever more slowly, by about {gap:.1g} in all; parts and W would change with it'
    )
  record = {
    'versions': versions(),
    'source': source.name(),
    'sha256': found.digest(),
    'samples': found.scan.samples,
    'dtype': source.dtype.name,
    'settings': dataclasses.asdict(settings)
    | {'center': center, 'rotation': rotation, 'store': held.plan.store, 'storage': storage}
    | ({'layout': source.layout} if source.layout != 'NHWC' else {}),
    'relative_error': final['error'],
    'reason': reason,
    'warnings': warnings,
    'history': state.history,
  } | (provenance or {})
  bar.say(f'relative error {final["error"]:.5f} ({reason}), {clock.summary()["total"]:.1f} s in all')
  return FitResult(
    factors=Factors(final['A'], final['P'], source.grid, record, found.scan.mean),
    relative_error=final['error'],
    reason=reason,
    gap=gap,
    history=state.history,
    warnings=warnings,
    findings=final['findings'],
    part_energy=final['part_energy'],
    appearance_energy=final['appearance_energy'],
    eigenvalues=final['eigenvalues'],
    seconds=clock.summary(),
  )
