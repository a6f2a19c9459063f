"""The files of `panda-jax saliency`: maps of where appearances are.

Letters: N samples, H, W grid, k appearances, (h, w) pixels.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.editing import saliency
from panda_jax.editing.edits import direction_of
from panda_jax.errors import InputError
from panda_jax.files.arrays import npy_bytes
from panda_jax.pictures import maps
from panda_jax.workdir import SALIENCY_STATISTICS
from panda_jax.workdir.finished_fit import FinishedFit
from panda_jax.workdir.folders import claim
from panda_jax.workdir.records import DEFAULT, Options, finish, write_arrays
from panda_jax.workdir.samples import SHOWN, Given, Samples, blank

RECORD = 'statistics.json'


def saliency_into(
  out: str | os.PathLike,
  opened: FinishedFit,
  appearances: Sequence[int],
  samples: Samples | None = None,
  options: Options = DEFAULT,
  *,
  features=None,
  layout: str | None = None,
  threshold: str | float = 'mean',
  statistics: int = SALIENCY_STATISTICS,
  given_masks: np.ndarray | None = None,
) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
  """Shows where appearances are: writes coordinates.npy, masks.npy, statistics.json and pictures into a folder.

  Range and threshold are from the first samples of the fit's generator; with `features`, from these features.

  Args:
    out: folder. One with other maps raises an error without `overwrite`.
    opened: a fit.
    appearances: one or more, 0-based.
    samples, features, layout: as of `Given`.
    options: see `Options`.
    threshold: 'mean' over samples and positions, as published; 'otsu'; or a number.
    statistics: number of samples of the fit's generator.
    given_masks: (N, h, w), to compare with the masks found.

  Returns:
    {file name: shape} of the arrays: coordinates.npy (N, H, W) float32 and masks.npy (N, h, w) bool, at the images'
    size or, without images, on the grid; both have a last axis k if there are several appearances. And the results in
    statistics.json.

  Raises:
    InputError: an appearance out of range, features or masks that do not fit, or files cannot be written.
  """
  chosen = saliency.checked_appearances(appearances, opened.factors.appearances.shape[1])
  for a in chosen:
    direction_of(opened.factors.appearances, a)  # raises for a dead appearance
  threshold = saliency.checked_threshold(threshold)
  out, given = Path(out), Given(opened, samples, features, layout)
  if not isinstance(statistics, int | np.integer) or statistics < 1:
    raise InputError('samples', statistics, 'it must be positive', 'give a number, such as 500')
  size, N = given.size or opened.factors.grid, len(given.names)
  if given_masks is not None:
    saliency.check_same_size(given_masks, (N, *size), 'images' if given.size else 'maps')
  settings = {
    'kind': 'saliency',
    'factors': opened.digest_factors,
    'appearances': chosen,
    **given.record(),
    'threshold': threshold,
    'samples': N if given.size is None else int(statistics),
    'given_masks': None if given_masks is None else hashlib.sha256(npy_bytes(given_masks)).hexdigest(),
  }
  with claim(out, RECORD, settings, options.overwrite, 'coordinates.npy'):
    gathered = saliency.Statistics()
    values, shown = [], []
    for batch in given.batches('saliency', options.on_samples, SHOWN):
      values.append(saliency.coordinates(batch.features, opened.factors, chosen))
      if given.size is None:
        gathered.add(values[-1])
      if batch.images is not None and sum(map(len, shown)) < SHOWN:
        shown.append(batch.images)
    values = np.concatenate(values)
    if given.size is not None:
      fit_samples = Given(opened, Samples(tuple(range(opened.seed, opened.seed + int(statistics)))))
      for batch in fit_samples.batches('statistics', options.on_samples):
        gathered.add(saliency.coordinates(batch.features, opened.factors, chosen))

    thresholds = gathered.thresholds(threshold)
    inside = np.stack(
      [saliency.masks(values[..., j], t, given.size, given.margin) for j, t in enumerate(thresholds)], axis=-1
    )
    told = {
      'threshold_method': threshold,
      'samples': gathered.samples,
      'appearances': {
        str(a): _told(gathered, thresholds, inside[..., j], j, given_masks) for j, a in enumerate(chosen)
      },
      'notes': [
        f'appearance {a} is nowhere above the threshold {thresholds[j]:g}: its masks are empty'
        for j, a in enumerate(chosen)
        if not inside[..., j].any()
      ],
    }
    one = len(chosen) == 1
    arrays = {'coordinates.npy': values[..., 0] if one else values, 'masks.npy': inside[..., 0] if one else inside}
    images = np.concatenate(shown)[:SHOWN] if shown else blank(given, min(N, SHOWN))
    write_arrays(out, arrays)
    _draw(out, given, chosen, images, values, inside, thresholds, gathered, threshold)
    finish(out, RECORD, settings, told, arrays, options)
    return {name: array.shape for name, array in arrays.items()}, told


def _told(gathered: saliency.Statistics, thresholds, inside, j: int, given_masks) -> dict[str, Any]:
  """The entries of one appearance in statistics.json; inside: (N, h, w)."""
  said: dict[str, Any] = {
    'mean': float(gathered.mean[j]),
    'std': float(gathered.std[j]),
    'least': float(gathered.low[j]),
    'greatest': float(gathered.high[j]),
    'threshold': float(thresholds[j]),
    'share_inside': [float(x) for x in inside.mean(axis=(1, 2))],
  }
  if given_masks is not None:
    for name, mask in (('iou_inside', inside), ('iou_outside', ~inside)):
      said[name] = [float(x) for x in saliency.intersection_over_union(mask, given_masks)]
      said[f'mean_{name}'] = float(np.mean(said[name]))
  return said


def _shown(given: Given, chosen: Sequence[int], method: str | float, samples: int) -> tuple[str, str]:
  """The title's words for the appearances, and for the meaning of white."""
  whose = 'appearance' if len(chosen) == 1 else 'appearances'
  of = f'{samples} samples of the generator' if given.size else f'these {samples} samples'
  white = {'mean': f'the mean over {of}', 'otsu': f"Otsu's threshold of {of}"}.get(method, 'the threshold given')
  return f'{whose} {", ".join(map(str, chosen))}', white


def _draw(out, given, chosen, images, values, inside, thresholds, gathered, method) -> None:
  n, labels = len(images), [f'appearance {a}' for a in chosen]
  common = {'names': given.names[:n]}
  on_grid = given.margin if given.size is None else 0  # masks at the images' size have no margin
  maps.draw_saliency(
    out / 'saliency.png',
    images,
    values[:n],
    thresholds=thresholds,
    limits=list(zip(gathered.low, gathered.high, strict=True)),
    labels=labels,
    margin=given.margin,
    title=saliency.title(*_shown(given, chosen, method, gathered.samples)),
    **common,
  )
  maps.draw_masks(out / 'masks.png', images, inside[:n], labels=labels, margin=on_grid, **common)
  if given.size is None:
    return
  for j, a in enumerate(chosen):
    name = 'cutouts.png' if len(chosen) == 1 else f'cutouts-{a}.png'
    maps.draw_cutouts(out / name, images, inside[:n, ..., j], title=labels[j], **common)
