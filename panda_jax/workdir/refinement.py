"""The files of `panda-jax refine`: parts of single samples.

Letters: N samples, H, W grid, S positions, C channels, R_S parts.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.editing import refine
from panda_jax.pictures import maps
from panda_jax.workdir.finished_fit import FinishedFit
from panda_jax.workdir.folders import claim
from panda_jax.workdir.records import DEFAULT, Options, finish, write_arrays
from panda_jax.workdir.samples import SHOWN, Given, Samples, blank

RECORD = 'refine.json'


def refine_into(
  out: str | os.PathLike,
  opened: FinishedFit,
  samples: Samples | None = None,
  options: Options = DEFAULT,
  *,
  features=None,
  layout: str | None = None,
  proximal: float = 0.0,
  steps: int = refine.STEPS,
  tolerance: float = refine.TOLERANCE,
) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
  """Refines parts for each sample; writes parts.npy, errors.npy, refine.json and refined.png into a folder.

  Args:
    out: folder. One with another refinement raises an error without `overwrite`.
    opened: a fit.
    samples, features, layout: as of `Given`.
    options: see `Options`.
    proximal, steps, tolerance: as of `refine.refine`.

  Returns:
    {file name: shape} of the arrays, parts.npy (N, S, R_S) and errors.npy (N, 2: global, refined), and the results in
    refine.json.

  Raises:
    InputError: features and factors do not fit, or files cannot be written.
  """
  refine.checked_numbers(proximal, steps, tolerance)
  out, given = Path(out), Given(opened, samples, features, layout)
  settings = {
    'kind': 'refinement',
    'factors': opened.digest_factors,
    **given.record(),
    'proximal': proximal,
    'steps': steps,
    'tolerance': tolerance,
  }
  with claim(out, RECORD, settings, options.overwrite, 'errors.npy'):
    found, shown, seconds = [], [], 0.0
    for batch in given.batches('refine', options.on_samples, SHOWN):
      if not found:  # compile the program before the clock starts
        refine.refine(batch.features, opened.factors, proximal, steps=1, tolerance=tolerance)
      began = time.perf_counter()
      found.append(refine.refine(batch.features, opened.factors, proximal, steps=steps, tolerance=tolerance))
      seconds += time.perf_counter() - began
      if batch.images is not None and sum(map(len, shown)) < SHOWN:
        shown.append(batch.images)
    parts, errors, taken = (np.concatenate([getattr(f, name) for f in found]) for name in ('parts', 'errors', 'steps'))
    arrays = {'parts.npy': parts, 'errors.npy': errors}
    told = {
      'relative_error': {'global': float(errors[:, 0].mean()), 'refined': float(errors[:, 1].mean())},
      'milliseconds_per_sample': round(1e3 * seconds / len(parts), 3),
      'likeness': [float(x) for x in likeness(opened.factors.parts, parts)],
      'errors': {name: [float(x) for x in row] for name, row in zip(given.names, errors, strict=True)},
      'steps_taken': [int(x) for x in taken],
      'notes': emptied(opened.factors.parts, parts, given.names),
    }
    images = np.concatenate(shown)[:SHOWN] if shown else blank(given, min(len(parts), SHOWN))
    write_arrays(out, arrays)
    n = len(images)
    maps.draw_refined(
      out / 'refined.png',
      images,
      opened.factors.parts,
      parts[:n],
      opened.factors.grid,
      errors=errors[:n],
      names=given.names[:n],
      margin=given.margin,
    )
    finish(out, RECORD, settings, told, arrays, options)
    return {name: array.shape for name, array in arrays.items()}, told


def likeness(parts: np.ndarray, refined: np.ndarray) -> np.ndarray:
  """Cosine between each global part (S, R_S) and its refined ones (N, S, R_S), mean over samples: (R_S,).

  1 for a part that did not change; low for a part that moved elsewhere, which the proximal term prevents. 0 if dead.
  """
  products = np.einsum('sk,nsk->nk', parts, refined)
  lengths = np.linalg.norm(parts, axis=0)[None] * np.linalg.norm(refined, axis=1)
  return np.mean(products / np.where(lengths > 0, lengths, 1), axis=0)


def emptied(parts: np.ndarray, refined: np.ndarray, names: Sequence[str]) -> list[str]:
  """A sentence for each part (S, R_S) that refinement left empty in some samples (N, S, R_S)."""
  notes = []
  for k in np.flatnonzero(parts.any(axis=0)):
    gone = [name for name, one in zip(names, refined[:, :, k], strict=True) if not one.any()]
    if gone:
      more = f' and {len(gone) - SHOWN} more' if len(gone) > SHOWN else ''
      notes.append(f'nothing of part {k} is left in {", ".join(gone[:SHOWN])}{more}: edits of it change nothing there')
  return notes
