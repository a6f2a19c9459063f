"""Suggested next commands for a finished fit, quoted for a shell."""

import os
import shlex
from collections.abc import Iterable

import numpy as np

from panda_jax.runtime.invocation import program_name
from panda_jax.solver.factors import Factors

SHARE = 1.5  # of the usual length of a fibre: on the embedded generator, such an edit is clear and not yet saturated
USUAL = 3.0  # this strength on the embedded generator, if the fit has no record of it


def strength_for(features: np.ndarray) -> float:
  """A strength at which edits of features (N, H, W, C) are clearly visible, to one digit; in feature units."""
  squares = np.square(np.asarray(features, np.float64)).sum(axis=-1)
  return float(f'{SHARE * np.sqrt(squares.mean()):.0e}') or USUAL


def commands(workdir: str | os.PathLike, factors: Factors, strength: float = USUAL) -> dict[str, str]:
  """{name: command} of next commands for a fit; edits and removals only if it has a generator."""
  part = next(iter(factors.live_parts), 0)
  given = {
    'edit': [f'--part={part}', '--appearance=0', f'--alpha={-strength:g},0,{strength:g}', '--seeds=0-3'],
    'remove': [f'--part={part}', '--seeds=0-3'],
    'refine': ['--seeds=0-3'],
    'saliency': ['--appearance=0'],
    'report': [],
  }
  if factors.provenance.get('generator') is None:
    given = {'refine': [], 'saliency': given['saliency'], 'report': []}
  return {name: typed(name, [f'--workdir={workdir}', *flags]) for name, flags in given.items()}


def typed(name: str, flags: Iterable[str]) -> str:
  """A command quoted for a shell, with the program as it was started."""
  return shlex.join([*program_name().split(), name, *flags])
