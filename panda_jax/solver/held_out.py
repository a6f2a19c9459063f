"""How well factors generalise: their error on samples that were not fitted, in one pass over them."""

import dataclasses

import numpy as np

from panda_jax.errors import NonFiniteError
from panda_jax.features.intake import Intake
from panda_jax.runtime.clock import Clock
from panda_jax.runtime.environment import small_matrices_in_float64
from panda_jax.solver import moments
from panda_jax.solver.factors import Factors
from panda_jax.solver.multilevel import Solver
from panda_jax.solver.state import Settings


def relative_error(
  held_out: Intake, factors: Factors, clock: Clock, precision: str = 'highest', batch: int | None = None
) -> float:
  """sum ||Z - A A' Z P P'||^2 / sum ||Z||^2 over samples; the mean of a centred fit is subtracted first.

  Each sample is projected onto the factors, as the samples of the fit are. So one more part lowers this error even if
  it fits only noise: by 1 / (S - R_S) of the rest, see `experiments.recommendation`.

  Args:
    held_out: the samples, after their first scan.
    factors: A (C, R_C) and P (S, R_S), as they are exported.
    clock: adds the wall time to its phases.
    precision, batch: see `fit`.

  Raises:
    NonFiniteError: the sums leave the range of numbers.
  """
  scanned = dataclasses.replace(held_out.scan, mean=None if factors.mean is None else np.float64(factors.mean))
  settings = Settings(factors.parts.shape[1], factors.appearances.shape[1], precision=precision)
  with small_matrices_in_float64():
    with clock.phase('features'):
      solver = Solver(dataclasses.replace(held_out, scan=scanned).store(batch), settings, clock)
      Z = None if solver.store.streamed else solver.store.whole()
    with clock.phase('moments'):
      sums = solver.total(moments.residual_sums, solver.passes('held out', Z), factors.appearances, factors.parts)
      residual, energy = (float(sums[name]) for name in ('residual', 'energy'))
  if not np.isfinite(residual) or not 0 < energy < np.inf:
    problem = 'without the mean of the fit they are zero' if energy == 0 else 'the sums over them are not finite'
    raise NonFiniteError('held_out', held_out.source.name(), problem, 'check for extreme values')
  return residual / energy
