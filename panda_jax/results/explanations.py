"""What `panda-jax refine` and `panda-jax saliency` write: parts of single samples, and where appearances are.

Letters: N samples, H, W grid, S positions, C channels, R_S parts, k appearances, (h, w) pixels.
"""

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from panda_jax.editing import refine, saliency
from panda_jax.editing.editor import BATCH_PIXELS, Editor
from panda_jax.editing.edits import direction_of
from panda_jax.errors import InputError
from panda_jax.features.sources import as_source
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import npy_bytes
from panda_jax.files.folders import claimed
from panda_jax.files.records import write_json
from panda_jax.pictures import maps
from panda_jax.results.edits import Samples
from panda_jax.runtime.environment import versions
from panda_jax.workdir.finished_fit import FinishedFit

REFINE_RECORD, SALIENCY_RECORD = 'refine.json', 'statistics.json'
SHOWN = maps.MOST_SAMPLES  # samples on the pictures
STATISTICS = 500  # samples that thresholds and ranges are taken from, as published
BATCH = 8
GREY = 64  # pixels of the least side of what stands for an image where there is none


@dataclasses.dataclass(frozen=True)
class Options:
  """How both commands write.

  Attributes:
    overwrite: replace other results in the folder.
    command: for the record, to do it again.
    on_samples: told of the samples that are through, by the name of the pass.
    on_note: told, in a sentence each, what was found to be empty.
  """

  overwrite: bool = False
  command: str = ''
  on_samples: Callable[[str, int], None] = lambda name, n: None
  on_note: Callable[[str], None] = lambda text: None


class Batch(NamedTuple):
  features: np.ndarray  # (n, H, W, C)
  images: np.ndarray | None  # (n, h, w, channels), not clipped, where they were asked for and can be made


class Given:
  """Features to explain: of samples of the fit's generator, or from a file or an array.

  Args:
    opened: the fit.
    samples: of its generator.
    features: in their place, what `sources.as_source` takes; for None, what the fit itself was made on if that was a
      file.

  Attributes:
    names: of the samples.
    size: (h, w) of their images, or None where there are none.

  Raises:
    InputError: there are neither a generator nor features, or they do not fit the factors.
  """

  def __init__(self, opened: FinishedFit, samples: Samples | None = None, features=None):
    self.opened, self._samples, self._source = opened, samples, None
    if features is None and opened.generator is None:
      features = opened.config.get('features')
      if samples is not None or features is None:
        opened.needed_generator()
    if features is not None:
      self._source = _source(opened, features)
      self.names = [f'sample {i}' for i in range(self._source.samples)]
    else:
      self._samples = samples or Samples(first_seeds(opened))
      self.names = self._samples.names()
      self._editor = Editor(opened.needed_generator(), opened.layer)
      self._latents = self._samples.latents(opened)  # what does not fit is said before anything is written
    self.size = None if self._source else opened.image_size()
    self.margin = 0 if self._source else opened.margin

  def record(self) -> dict[str, Any]:
    """What tells these samples from others, JSON values."""
    if self._source is None:
      return self._samples.record()
    return {'features': self._source.name(), 'sha256': self._source.digest().hexdigest()}

  def batches(self, name: str, on_samples: Callable[[str, int], None], images: int = 0) -> Iterator[Batch]:
    """Features of all samples in order; with images of the first `images` of them or a few more."""
    if self._source is not None:
      done = 0
      for block in self._source.blocks(BATCH):
        done += len(block)
        yield Batch(np.asarray(block, np.float32).reshape(-1, *self._source.grid, self._source.channels), None)
        on_samples(name, done)
      return
    N = len(self.names)
    size = max(1, min(BATCH, N, BATCH_PIXELS // (self.size[0] * self.size[1])))
    for first in range(0, N, size):
      rows = np.minimum(first + np.arange(size), N - 1)  # the last batch is filled up: one program serves all
      chosen = jax.tree.map(lambda leaf, rows=rows: leaf[rows], self._latents)
      state, made = self._editor.state(chosen), None
      if first < images:
        made = self.opened.generator.run_from(chosen, state, self.opened.layer, noise=self.opened.noise)
        made = np.asarray(made, np.float32)[: N - first]
      yield Batch(np.asarray(state.features, np.float32)[: N - first], made)
      on_samples(name, min(first + size, N))


def first_seeds(opened: FinishedFit) -> tuple[int, ...]:
  """Those of the samples that are shown where none are given."""
  return tuple(range(opened.seed, opened.seed + SHOWN))


def _source(opened: FinishedFit, features):
  (H, W), C = opened.factors.grid, opened.factors.appearances.shape[0]
  try:
    source = as_source(features, (H, W))
    problem = None if source.channels == C else f'they have {source.channels} channels'
  except InputError as error:
    if error.argument != 'grid':
      raise
    problem = error.problem
  if problem:
    name = features if isinstance(features, str | os.PathLike) else type(features).__name__
    raise InputError('features', name, f'they are not of the factors: {problem}', f'give (N, {H}, {W}, {C})')
  return source


def _blank(given: Given, count: int) -> np.ndarray:
  """Grey in place of images, (count, h, w, 1), where features came alone."""
  H, W = given.opened.factors.grid
  times = -(-GREY // min(H, W))
  return np.zeros((count, H * times, W * times, 1), np.float32)


def likeness(parts: np.ndarray, refined: np.ndarray) -> np.ndarray:
  """Cosine between each global part (S, R_S) and its refined ones (N, S, R_S), mean over samples: (R_S,).

  1 where a part stayed what it was; low where it went elsewhere, which a proximal pull prevents. 0 for dead parts.
  """
  products = np.einsum('sk,nsk->nk', parts, refined)
  lengths = np.linalg.norm(parts, axis=0)[None] * np.linalg.norm(refined, axis=1)
  return np.mean(products / np.where(lengths > 0, lengths, 1), axis=0)


def emptied(parts: np.ndarray, refined: np.ndarray, names: Sequence[str]) -> list[str]:
  """Which parts (S, R_S) have nothing left in which samples (N, S, R_S), a sentence for each part."""
  notes = []
  for k in np.flatnonzero(parts.any(axis=0)):
    gone = [name for name, one in zip(names, refined[:, :, k], strict=True) if not one.any()]
    if gone:
      more = f' and {len(gone) - SHOWN} more' if len(gone) > SHOWN else ''
      notes.append(f'nothing of part {k} is left in {", ".join(gone[:SHOWN])}{more}: edits of it change nothing there')
  return notes


def folder_name(command: str, numbers: Sequence[int] | None = None) -> str:
  """Where the results of a command go below the workdir unless the user says: 'refine-19', 'saliency-0+3'."""
  if not numbers:
    return command
  return f'{command}-{_few(numbers)}'


def _few(numbers: Sequence[int]) -> str:
  """Numbers in a few characters, others for others."""
  if len(numbers) <= 4:
    return '+'.join(map(str, numbers))
  row = f'{numbers[0]}-to-{numbers[-1]}'
  if list(numbers) == list(range(numbers[0], numbers[0] + len(numbers))):
    return row
  return f'{row}-{hashlib.sha256(",".join(map(str, numbers)).encode()).hexdigest()[:8]}'


def refine_into(
  out: str | os.PathLike,
  opened: FinishedFit,
  samples: Samples | None = None,
  options: Options = Options(),
  *,
  features=None,
  proximal: float = 0.0,
  steps: int = refine.STEPS,
  tolerance: float = refine.TOLERANCE,
) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
  """Refines parts for each sample; writes parts.npy, errors.npy, refine.json and refined.png into a folder.

  Args:
    out: folder. One that holds another refinement is refused without `overwrite`.
    opened: a fit.
    samples, features: as of `Given`.
    options: see there.
    proximal, steps, tolerance: as of `refine.refine`.

  Returns:
    {file name: shape} of the arrays, parts.npy (N, S, R_S) and errors.npy (N, 2: global, refined), and what
    refine.json says of them.

  Raises:
    InputError: features and factors do not fit, or files cannot be written.
  """
  refine.checked_numbers(proximal, steps, tolerance)
  out, given = Path(out), Given(opened, samples, features)
  settings = {
    'kind': 'refinement',
    'factors': opened.digest_factors,
    **given.record(),
    'proximal': proximal,
    'steps': steps,
    'tolerance': tolerance,
  }
  with _claimed(out, REFINE_RECORD, settings, options.overwrite, 'errors.npy'):
    found, shown, seconds = [], [], 0.0
    for batch in given.batches('refine', options.on_samples, SHOWN):
      if not found:  # the program is compiled before the clock runs
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
    images = np.concatenate(shown)[:SHOWN] if shown else _blank(given, min(len(parts), SHOWN))
    _write_arrays(out, arrays)
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
    _finish(out, REFINE_RECORD, settings, told, arrays, options)
    return {name: array.shape for name, array in arrays.items()}, told


def saliency_into(
  out: str | os.PathLike,
  opened: FinishedFit,
  appearances: Sequence[int],
  samples: Samples | None = None,
  options: Options = Options(),
  *,
  features=None,
  threshold: str | float = 'mean',
  statistics: int = STATISTICS,
  given_masks: np.ndarray | None = None,
) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
  """Where appearances are: writes coordinates.npy, masks.npy, statistics.json and pictures into a folder.

  Range and threshold are those of the first samples of the fit's generator; with features, of these themselves.

  Args:
    out: folder. One that holds other maps is refused without `overwrite`.
    opened: a fit.
    appearances: one or more, 0-based.
    samples, features: as of `Given`.
    options: see there.
    threshold: 'mean' over samples and positions, as published; 'otsu'; or a number.
    statistics: how many samples of the fit's generator.
    given_masks: (N, h, w), to compare with the masks found.

  Returns:
    {file name: shape} of the arrays: coordinates.npy (N, H, W) float32 and masks.npy (N, h, w) bool, at the images'
    size or, without images, on the grid; both with a last axis k where several appearances are asked for. And what
    statistics.json says of them.

  Raises:
    InputError: an appearance out of range, features or masks that do not fit, or files cannot be written.
  """
  chosen = saliency.checked_appearances(appearances, opened.factors.appearances.shape[1])
  for a in chosen:
    direction_of(opened.factors.appearances, a)  # raises where it is dead
  threshold = saliency.checked_threshold(threshold)
  out, given = Path(out), Given(opened, samples, features)
  if not isinstance(statistics, int | np.integer) or statistics < 1:
    raise InputError('samples', statistics, 'it must be positive', 'give how many samples to take statistics from')
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
  with _claimed(out, SALIENCY_RECORD, settings, options.overwrite, 'coordinates.npy'):
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
    images = np.concatenate(shown)[:SHOWN] if shown else _blank(given, min(N, SHOWN))
    _write_arrays(out, arrays)
    _draw(out, given, chosen, images, values, inside, thresholds, gathered, threshold)
    _finish(out, SALIENCY_RECORD, settings, told, arrays, options)
    return {name: array.shape for name, array in arrays.items()}, told


def _told(gathered: saliency.Statistics, thresholds, inside, j: int, given_masks) -> dict[str, Any]:
  """What statistics.json says of one appearance; inside: (N, h, w)."""
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
  """Whose coordinates a picture shows, and what its white is."""
  whose = 'appearance' if len(chosen) == 1 else 'appearances'
  of = f'{samples} samples of the fit' if given.size else f'these {samples} samples'
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


def _write_arrays(out: Path, arrays: dict[str, np.ndarray]) -> None:
  for name, array in arrays.items():
    write_atomically(out / name, npy_bytes(array))


def _finish(out: Path, name: str, settings: dict, told: dict, arrays: dict, options: Options) -> None:
  """The record comes last: where it is, everything else is."""
  record = {'settings': settings, **told, 'command': options.command}
  record['pictures'] = sorted(path.name for path in out.glob('*.png'))
  record |= {'arrays': {name: list(array.shape) for name, array in arrays.items()}, 'versions': versions()}
  write_json(out / name, record)
  for note in told['notes']:
    options.on_note(note)


def _claimed(out: Path, record: str, settings: dict, overwrite: bool, marker: str):
  replaced = record, 'cutouts*.png'
  return claimed(out, record, settings, 'other results are', overwrite, marker=marker, replaced=replaced)
