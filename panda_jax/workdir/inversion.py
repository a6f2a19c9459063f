"""The files of `panda-jax invert`: latents.npz, a page of the pictures, errors.json, and copies of the photographs.

Photographs are inverted in batches. Finished batches are kept in `unfinished/`, and the same command resumes from
there. Letters: N photographs, (h, w) pixels of the generator's pictures.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from panda_jax.errors import LONGEST, InputError, brief, printable
from panda_jax.files.access import read_bytes, write_atomically
from panda_jax.files.records import write_json
from panda_jax.generators.labels import each
from panda_jax.inversion.coordinates import class_rows
from panda_jax.inversion.files import LATENTS, PHOTOGRAPHS, Inverted, load_inverted, save_inverted
from panda_jax.inversion.inversion import joined
from panda_jax.inversion.invert import Inverter
from panda_jax.inversion.photographs import LARGEST_FILE, checked_name, decoded, in_channels
from panda_jax.inversion.photographs import REMEDY as ONE_OF
from panda_jax.inversion.placement import Placement
from panda_jax.inversion.recognition import Recognition
from panda_jax.pictures.figures import to_bytes
from panda_jax.pictures.sheets import Row, draw_rows, resized, tile_size
from panda_jax.runtime import signals
from panda_jax.runtime.environment import versions
from panda_jax.workdir.folders import claimed
from panda_jax.workdir.records import DEFAULT, Options

RECORD, PICTURE, UNFINISHED = 'errors.json', 'inverted.png', 'unfinished'
MOST_SHOWN = 16  # photographs on the page
PIECE = f'{"?" * 32}.npz'  # of a finished batch: names are hashes
CLEAR = 3.0  # factor of the difference on the page


class Photograph(NamedTuple):
  """A photograph and its crop, which is inverted.

  Attributes:
    name: of its file.
    path: of its file.
    digest: SHA-256 (hex) of its file.
    crop: (h, w, channels) uint8.
    placement: of the crop.
  """

  name: str
  path: Path
  digest: str
  crop: np.ndarray
  placement: Placement


Place = Callable[[str, tuple[int, int]], Placement]  # (name, size (H, W)) of a photograph to its placement


def read_photographs(
  paths: Sequence[Path], place: Place, channels: int, recognition: Recognition | None = None
) -> tuple[list[Photograph], dict[str, str]]:
  """The photographs that can be used, and {name: sentence} of those that cannot.

  Args:
    paths: of their files.
    place: function that gives the placement of each crop.
    channels: of the generator's pictures.
    recognition: the check of crops; no check if left out.

  Raises:
    InputError: no photograph can be used.
  """
  found, failed = [], {}
  for path in paths:
    try:
      name, content = checked_name(path), _content(path)
      pixels = decoded(content, name)
      placement = place(name, pixels.shape[:2])
      crop = np.round((in_channels(placement.crop(pixels), channels) + 1) * 127.5).astype(np.uint8)
      if recognition is not None and not recognition.knows(crop[None])[0]:
        problem = 'the crop looks unlike all samples of the generator'
        remedy = 'give --points or --box, or --recognition=off to take it as it is'
        raise InputError('images', name, problem, remedy)
      found.append(Photograph(name, path, hashlib.sha256(content).hexdigest(), crop, placement))
    except InputError as error:
      if len(paths) == 1:
        raise
      said = f'{error.problem}; {error.remedy}' if error.argument == 'images' else str(error)
      failed[printable(path.name)] = brief(said, LONGEST)
  if not found:
    name, sentence = next(iter(failed.items()))
    raise InputError('images', f'{len(failed)} files', f'none can be used; of {name}: {sentence}', 'give photographs')
  return found, failed


def _content(path: Path) -> bytes:
  return read_bytes(path, 'images', ONE_OF, LARGEST_FILE)


def labels_of(photographs: Sequence[Photograph], labels, paths: Sequence[Path]) -> np.ndarray | None:
  """The labels of the photographs that can be used, from the labels of all paths: one for all, or one each.

  Raises:
    InputError: as of `labels.each`.
  """
  given, names = each(labels, len(paths), 'photographs'), {one.name for one in photographs}
  return None if given is None else given[[path.name in names for path in paths]]


def invert_into(
  out: str | os.PathLike,
  inverter: Inverter,
  photographs: Sequence[Photograph],
  labels=None,
  options: Options = DEFAULT,
  *,
  failed: dict[str, str] | None = None,
  more: dict[str, Any] | None = None,
  on_progress: Callable[[str], None] = lambda text: None,
) -> Inverted:
  """Inverts photographs and writes latents.npz, errors.json, inverted.png and photographs/ into a folder.

  Args:
    out: folder. One with another inversion raises an error without `overwrite`.
    inverter: with its settings.
    photographs: N photographs.
    labels: as of a call of the inverter.
    options: see `Options`.
    failed: {name: sentence} of photographs that could not be used, for the record.
    more: further settings that identify these results, JSON values.
    on_progress: called with a text for each step.

  Raises:
    InputError: labels do not fit, a photograph has changed since it was read, or files cannot be written.
  """
  out, failed = Path(out), failed or {}
  settings = {
    'kind': 'inversion',
    'weights': inverter.weights,
    'space': inverter.space,
    'layer': inverter.layer,
    'noise': inverter.noise,
    'regulariser': inverter.regulariser,
    'evaluations': inverter.evaluations,
    'tolerance': inverter.tolerance,
    'encoder': inverter.encoder is not None,
    'labels': None if labels is None else np.asarray(labels).tolist(),
    'photographs': {x.name: x.digest for x in photographs},
    'matrices': [x.placement.matrix.tolist() for x in photographs],
    **(more or {}),
  }
  names = [x.name for x in photographs]
  if len({*names}) < len(names):
    raise InputError('images', max(names, key=names.count), 'two photographs have this name', 'give others')
  if any(x.path.resolve().parent == (out / PHOTOGRAPHS).resolve() for x in photographs):
    raise InputError('out', out, 'the photographs themselves are in it', 'choose another folder')
  if labels is not None:
    class_rows(inverter.generator, labels, len(photographs))  # labels that do not fit raise before anything is written
  replaced = RECORD, LATENTS, PICTURE, f'{PHOTOGRAPHS}/*', f'{UNFINISHED}/{PIECE}'
  kept = 0
  with claimed(out, RECORD, settings, 'another inversion is', options.overwrite, marker=LATENTS, replaced=replaced):
    unfinished = out / UNFINISHED
    unfinished.mkdir(exist_ok=True)
    said = f'{len(photographs)} photographs'
    with signals.keeping(lambda: f'{kept} of {said} are done: the same command goes on' if kept else 'nothing is kept'):
      pieces = []
      for first in range(0, len(photographs), inverter.batch):
        rows = photographs[first : first + inverter.batch]
        some = _some(labels, first, len(rows), len(photographs))
        which = f'{_counted(first, len(rows))} of {said}'
        tell = partial(_told, on_progress, which, inverter.evaluations)
        pieces.append(_piece(unfinished, inverter, rows, some, settings, tell))
        kept = first + len(rows)
        options.on_samples('photographs', kept)
    found = _together(pieces, out)
    (out / PHOTOGRAPHS).mkdir(exist_ok=True)
    for one in photographs:
      write_atomically(out / PHOTOGRAPHS / one.name, _again(one), 'out')
    save_inverted(out / LATENTS, found)
    draw_inverted(out / PICTURE, found)
    told = {
      'errors': {
        name: {'psnr_db': round(float(x), 2), 'reason': reason}
        for name, x, reason in zip(found.names, found.inversion.psnr, found.inversion.reasons, strict=True)
      },
      'median_psnr_db': round(float(np.median(found.inversion.psnr)), 2),
      'failed': failed,
      'curve': {
        'seconds': [round(float(x), 3) for x in found.inversion.curve.seconds],
        'median_error': [float(np.median(x)) for x in found.inversion.curve.values],
      },
    }
    write_json(out / RECORD, {**told, 'settings': settings, 'command': options.command, 'versions': versions()})
    for piece in (*unfinished.glob(PIECE), *unfinished.glob(f'.{PIECE}.*.tmp')):
      piece.unlink()
    with contextlib.suppress(OSError):  # the folder has other files
      unfinished.rmdir()
  return found


def _counted(first: int, count: int) -> str:
  """The numbers of the photographs, counted from 1."""
  return f'{first + 1}' if count == 1 else f'{first + 1} to {first + count}'


def _told(on_progress: Callable[[str], None], which: str, most: int, stage: str, done: int) -> None:
  on_progress(f'{which}: {stage}, evaluation {done}; at most {most} in all')


def _again(photograph: Photograph) -> bytes:
  """The file of a photograph, read again since memory does not keep it."""
  content = _content(photograph.path)
  if hashlib.sha256(content).hexdigest() != photograph.digest:
    raise InputError('images', photograph.path, 'it has changed since it was read', 'put it back, or start again')
  return content


def _some(labels, first: int, count: int, N: int):
  """Labels of a batch of photographs, from one for all or one each."""
  if labels is None or len(np.atleast_1d(labels)) != N or N == 1:
    return labels
  return np.asarray(labels)[first : first + count]


def _piece(
  folder: Path,
  inverter: Inverter,
  rows: Sequence[Photograph],
  labels,
  settings: dict,
  tell: Callable[[str, int], None],
) -> Inverted:
  """The inversion of a batch of photographs: from the file of an interrupted run, or computed now."""
  telling = {'settings': settings, 'rows': [x.name for x in rows]}
  digest = hashlib.sha256(json.dumps(telling, sort_keys=True).encode()).hexdigest()
  path = folder / f'{digest[:32]}.npz'
  names, placements = tuple(x.name for x in rows), tuple(x.placement for x in rows)
  if path.is_file():
    try:
      return load_inverted(path, inverter.generator)
    except InputError:  # damaged: computed again
      path.unlink()
  found = Inverted(inverter(np.stack([x.crop for x in rows]), labels, on_evaluations=tell), names, placements)
  save_inverted(path, found, curve=True)
  return found


def _together(pieces: Sequence[Inverted], folder: Path) -> Inverted:
  parts = [piece.inversion for piece in pieces]

  def together(name):
    arrays = [getattr(part, name) for part in parts]
    return None if arrays[0] is None else np.concatenate(arrays)

  whole = dataclasses.replace(
    parts[0],
    **{name: together(name) for name in ('array', 'labels', 'features', 'rgb', 'images', 'photographs')},
    skips=tuple(np.concatenate(x) for x in zip(*(part.skips for part in parts), strict=True)),
    reasons=tuple(reason for part in parts for reason in part.reasons),
    curve=joined([part.curve for part in parts]),
  )
  names = tuple(name for piece in pieces for name in piece.names)
  placements = tuple(placement for piece in pieces for placement in piece.placements or ())
  return Inverted(whole, names, placements or None, folder)


def draw_inverted(path: str | os.PathLike, inverted: Inverted) -> None:
  """Draws a page of the first photographs: the photograph, the inversion, and the difference."""
  found = inverted.inversion
  count = min(len(found), MOST_SHOWN)
  size = tile_size(found.images.shape[1:3], 3)
  columns = [found.photographs[:count], found.images[:count]]
  columns.append(np.clip(CLEAR * (found.images[:count] - found.photographs[:count]), -1, 1))
  tiles = [resized(to_bytes(images), size) for images in columns]
  rows = [Row(f'{inverted.names[i]}\n{found.psnr[i]:.1f} dB', [column[i] for column in tiles]) for i in range(count)]
  note = f'The difference is shown {CLEAR:g} times as large, on grey.'
  if len(found) > count:
    note += f' The first {count} of {len(found)} photographs.'
  draw_rows(path, rows, ['photograph', f'inverted in {found.space}', 'difference'], note=note)
