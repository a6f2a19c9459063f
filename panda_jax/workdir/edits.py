"""The files of `panda-jax edit` and `panda-jax remove`: arrays and sheets of pictures before and after, and a record.

Letters: N samples, E edits, K strengths, h, w image.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.editing.composition import COMPOSITIONS, composed, weight
from panda_jax.editing.editor import AnyEdit, Editor, compose, difference, layer_rms
from panda_jax.editing.refine import refine
from panda_jax.editing.removal import remove
from panda_jax.editing.zoo import Spec
from panda_jax.errors import InputError
from panda_jax.files.records import write_json
from panda_jax.files.rows import writing
from panda_jax.generators.source import weights_digest
from panda_jax.inversion.files import PHOTOGRAPHS, Inverted
from panda_jax.pictures.edits import PICTURES, Sheet, draw_edits, draw_removal
from panda_jax.pictures.figures import save_pixels
from panda_jax.runtime.environment import versions
from panda_jax.workdir import EDIT_STATISTICS
from panda_jax.workdir.finished_fit import FinishedFit
from panda_jax.workdir.folders import claimed
from panda_jax.workdir.records import Options, sha256
from panda_jax.workdir.samples import SHOWN, Samples, check_finite, features_of, fit_features

RECORD = 'edit.json'
UNSEEN = 1e-5  # of pixels from -1 to 1: a smaller change is rounding


def with_rms(edits: Mapping[str, Sequence[Spec]], opened: FinishedFit) -> dict[str, list[Spec]]:
  """The specs, with the layer's rms activation added where alpha has this unit and the value is missing."""
  rms = None
  filled: dict[str, list[Spec]] = {}
  for name, specs in edits.items():
    filled[name] = []
    for spec in specs:
      if spec.alpha_unit == 'rms' and spec.rms is None:
        rms = layer_rms(fit_features(opened)) if rms is None else rms
        spec = dataclasses.replace(spec, rms=rms)
      filled[name].append(spec)
  return filled


@dataclasses.dataclass(frozen=True)
class EditOptions(Options):
  """Options for running and writing edits.

  Attributes:
    noise, drop_rgb, batch: as of `Editor`; inverted photographs keep the noise of their inversion.
    compose: of photographs, see composition.py: 'difference' adds the change by an edit to the photograph, and also
      writes the whole photographs; 'generated' shows the generator's pictures.
    Others as of `Options`.
  """

  noise: str = 'const'
  drop_rgb: bool = False
  batch: int | None = None
  compose: str = 'difference'


def edit_into(
  out: str | os.PathLike,
  opened: FinishedFit,
  edits: Mapping[str, Sequence[Spec]],
  samples: Samples,
  options: EditOptions = EditOptions(),
  *,
  refined: bool = False,
) -> dict[str, tuple[int, ...]]:
  """Edits samples of a fit and writes original.npy, edited.npy, difference.npy, edit.json and pictures into a folder.

  Args:
    out: folder. One with other edits raises an error without `overwrite`.
    opened: a fit with a generator.
    edits: {name: specs that are added up}; with several names `edited` has an axis E.
    samples: N samples.
    options: see `EditOptions`.
    refined: with parts refined for each sample, see refine.py.

  Returns:
    {file name: shape} of the arrays: original (N, h, w, channels), edited and difference (N, [E], [K], h, w, channels),
    float32, before clipping.

  Raises:
    InputError: an edit does not fit the factors, pictures are not finite, or files cannot be written.
  """
  edits = with_rms(edits, opened)
  parts = refined_parts(opened, samples) if refined else None
  made = {name: _made(specs, opened, parts) for name, specs in edits.items()}
  content = {
    'kind': 'edit',
    'refined': refined,
    'edits': {name: [spec.to_json() for spec in specs] for name, specs in edits.items()},
  }
  alphas = [spec.alpha for specs in edits.values() for spec in specs]
  return _write(Path(out), opened, made, samples, options, content, {'strengths': shared_strengths(alphas)})


def remove_into(
  out: str | os.PathLike,
  opened: FinishedFit,
  part: Sequence[int] | None,
  samples: Samples,
  options: EditOptions = EditOptions(),
  *,
  appearance: int | None = None,
  strength: float = 1.0,
  separate: str = 'otsu',
  mask: Mapping[str, Any] | None = None,
  statistics: int = EDIT_STATISTICS,
) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
  """Removes a part from samples of a fit and writes the files of `edit_into`.

  Args:
    part: one or more, joined; None for the drawn mask alone.
    appearance, strength, separate: as of `removal.remove`.
    mask: combine, threshold, feather, drawn, as of `removal.remove`.
    statistics: number of samples of the fit for the rule and the strength.

  Returns:
    As `edit_into`, and the content of 'removal' in edit.json.

  Raises:
    InputError: as of `edit_into` and `removal.remove`.
  """
  mask = {name: value for name, value in (mask or {}).items() if value is not None}
  features = fit_features(opened, statistics)
  found = remove(features, opened.factors, part, appearance, strength, separate=separate, margin=opened.margin, **mask)
  content = {
    'kind': 'removal',
    'part': None if part is None else list(part),
    'appearance': appearance,
    'strength': strength,
    'separate': separate,
    'samples': len(features),
    'mask': {name: sha256(value) if name == 'drawn' else value for name, value in mask.items()},
  }
  before, after = found.covered.mean(axis=1)
  told = {
    'appearance': found.appearance,
    'rule': 'given' if found.scores is None else 'energy at the border against the centre',
    'scores': None if found.scores is None else [float(x) for x in found.scores],
    'alpha': float(found.edit.alpha),
    'alpha_per_sample': [None if np.isnan(x) else float(x) for x in found.alphas],
    'threshold': found.threshold,
    'covered_before': float(before),
    'covered_after': float(after),
  }
  what = 'mask' if part is None else f'part {" and ".join(map(str, part))}'
  name = f'{what} removed with appearance {found.appearance}'
  made, strengths = {name: found.edit}, [float(found.edit.alpha)]
  return _write(Path(out), opened, made, samples, options, content, {'strengths': strengths, 'removal': told}), told


def shared_strengths(alphas: Sequence[float | Sequence[float]]) -> list[float] | None:
  """The strengths over the columns of a sheet, if all edits have the same strength or sweep; else None."""
  found = {tuple(alpha) if np.ndim(alpha) else (alpha,) for alpha in alphas}
  return [float(x) for x in found.pop()] if len(found) == 1 else None


def refined_parts(opened: FinishedFit, samples: Samples) -> np.ndarray:
  """Parts (N, S, R_S) refined for each sample."""
  features = features_of(opened, samples.latents(opened), len(samples.names()), samples.noise or 'const')
  return refine(features, opened.factors).parts


def _made(specs: Sequence[Spec], opened: FinishedFit, parts: np.ndarray | None) -> AnyEdit:
  edits = [spec.edit(opened.factors, parts) for spec in specs]
  return edits[0] if len(edits) == 1 else compose(edits)


def _write(
  out: Path,
  opened: FinishedFit,
  edits: Mapping[str, AnyEdit],
  samples: Samples,
  options: EditOptions,
  content: dict,
  more: dict,
) -> dict[str, tuple[int, ...]]:
  """Writes the files of both commands. `content` identifies the edits; edit.json also holds `more`."""
  if options.compose not in COMPOSITIONS:
    raise InputError('compose', options.compose, 'there is no such picture', f'give {" or ".join(COMPOSITIONS)}')
  noise = samples.noise or options.noise
  editor = Editor(opened.needed_generator(), opened.layer, noise, options.drop_rgb, options.batch)
  composition = None
  inverted = samples.photographs
  if inverted is not None and inverted.folder is not None and inverted.folder.resolve() == out.resolve():
    raise InputError('out', out, 'the inversion itself is in it', 'choose another folder')
  if inverted is not None and options.compose == 'difference':
    composition = Composition(inverted, edits, opened.factors.grid, opened.margin)
  latents, names = samples.latents(opened), samples.names()
  settings = {
    'factors': opened.digest_factors,
    'weights': weights_digest(editor.generator).hexdigest(),
    'layer': opened.layer,
    **content,
    **samples.record(),
    'noise': noise,
    'drop_rgb': options.drop_rgb,
    **({} if samples.photographs is None else {'compose': options.compose}),
  }
  listed = list(edits.values())
  shapes: dict[str, tuple[int, ...]] = {}
  shown: list[tuple[np.ndarray, np.ndarray]] = []
  largest: list[np.ndarray] = []  # changes (n, E)
  replaced = RECORD, *PICTURES, f'{PHOTOGRAPHS}/*.png'  # the new edit may draw fewer pictures
  with claimed(out, RECORD, settings, 'another edit is', options.overwrite, marker='edited.npy', replaced=replaced):
    with writing(out) as create:
      files: dict = {}
      done = 0
      for original, edited in editor.batches(latents, listed[0] if len(listed) == 1 else listed):
        for pictures in (original, edited):
          check_finite(pictures, names[done : done + len(original)])
        if composition is not None:
          original, edited = composition.batch(out, done, original, edited)
        arrays = {'original.npy': original, 'edited.npy': edited, 'difference.npy': difference(original, edited)}
        largest.append(np.abs(arrays['difference.npy']).reshape(len(original), len(listed), -1).max(axis=-1))
        for name, array in arrays.items():
          if name not in files:
            shapes[name] = (len(names), *array.shape[1:])
            files[name] = create(name, shapes[name])
          files[name].add(array)
        if sum(len(x) for x, _ in shown) < SHOWN:
          shown.append((original, edited))
        done += len(original)
        options.on_samples('edit', done)
      original, edited = (np.concatenate(x)[:SHOWN] for x in zip(*shown, strict=True))
      edited = edited if len(listed) > 1 else edited[:, None]
      edited = edited if edited.ndim == original.ndim + 2 else edited[:, :, None]
      sheet = Sheet(original, edited, edits, more['strengths'], names[:SHOWN], opened.factors.grid, opened.margin)
      draw = draw_removal if content['kind'] == 'removal' else draw_edits
      notes = idle(edits, np.concatenate(largest), names)
      record = {'settings': settings, **more, 'notes': notes, 'command': options.command, 'pictures': draw(out, sheet)}
    record |= {'arrays': {name: list(shape) for name, shape in shapes.items()}, 'versions': versions()}
    write_json(out / RECORD, record)
  for note in notes:
    options.on_note(note)
  return shapes


class Composition:
  """Edits on photographs, see editing/composition.py. A folder gets the whole photographs with their edits.

  Args:
    photographs: N inverted photographs.
    edits: E edits, by name.
    grid, margin: of the feature map; the grid includes cells beyond the image.
  """

  def __init__(
    self, photographs: Inverted, edits: Mapping[str, AnyEdit], grid: tuple[int, int], margin: int | tuple[int, int]
  ):
    self._photographs, self._edits, self._grid, self._margin = photographs, edits, grid, margin
    stems = [Path(name).stem for name in photographs.names]
    self._stems = stems if len({*stems}) == len(stems) else photographs.names  # a.png beside a.jpg

  def batch(self, out: Path, first: int, original: np.ndarray, edited: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The next n photographs and their edits, (n, h, w, channels) and (n, [E], [K], h, w, channels).

    Args:
      out: folder of the results.
      first: number of the first photograph.
      original, edited: the generator's pictures.
    """
    (out / PHOTOGRAPHS).mkdir(exist_ok=True)
    E, shape = len(self._edits), edited.shape
    crops = self._photographs.inversion.photographs[first : first + len(original)]
    each = edited.reshape(len(original), E, -1, *original.shape[1:])
    made = np.empty_like(each)
    for i, crop in enumerate(crops):
      whole, profile = self._photographs.photograph(first + i), self._photographs.profile(first + i)
      for e, edit in enumerate(self._edits.values()):
        weight = self._weight(edit, first + i, original.shape[1:3])
        made[i, e] = composed(crop, original[i], each[i, e], weight)
        for k in range(each.shape[2]) if whole is not None else ():
          name = '-'.join([self._stems[first + i], *self._numbers(e, k, each.shape)])
          placed = self._photographs.placements[first + i].added(whole, each[i, e, k] - original[i], weight)
          save_pixels(out / PHOTOGRAPHS / f'{name}.png', placed, profile)
    return crops, made.reshape(shape)

  def _weight(self, edit: AnyEdit, i: int, size: tuple[int, int]) -> np.ndarray:
    masks = [np.abs(term.mask if np.ndim(term.mask) == 1 else term.mask[i]) for term in edit.terms]
    return weight(np.max(masks, axis=0), self._grid, size, self._margin)

  def _numbers(self, e: int, k: int, shape: tuple[int, ...]) -> list[str]:
    """The numbers in a picture's name: of the edit and of its strength, if there are several."""
    return [f'{number}' for number, count in ((e, shape[1]), (k, shape[2])) if count > 1]


def drawn(out: Path) -> list[str]:
  """The pictures of edits in a folder; their number depends on the edits."""
  return [name for name in (*PICTURES, PHOTOGRAPHS) if (out / name).exists()]


def idle(edits: Mapping[str, AnyEdit], largest: np.ndarray, names: Sequence[str]) -> list[str]:
  """A sentence for each edit that changes nothing; `largest`: largest change of a pixel, (N, E)."""
  notes = []
  for (title, edit), changes in zip(edits.items(), largest.T, strict=True):
    same = [name for name, change in zip(names, changes, strict=True) if change <= UNSEEN]
    if len(same) == len(names):
      still = not any(np.any(term.alpha) for term in edit.terms)
      why = 'alpha is 0' if still else f'no pixel of any sample changes by more than {UNSEEN:g}'
      notes.append(f'{title} changes nothing: {why}')
    elif same:
      more = f' and {len(same) - SHOWN} more' if len(same) > SHOWN else ''
      notes.append(f'{title} changes nothing in {", ".join(same[:SHOWN])}{more}')
  return notes
