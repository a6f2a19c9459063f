"""Inversions on disk: a folder with latents.npz and the original files of the photographs.

Letters: N photographs, (h, w) pixels of the generator's pictures.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import checked_array, npz_bytes, read_npz
from panda_jax.files.records import parsed_json
from panda_jax.generators.base import checked_layer
from panda_jax.generators.protocol import driving, image_shape
from panda_jax.generators.source import weights_digest
from panda_jax.generators.spaces import space_of
from panda_jax.generators.structure import plain
from panda_jax.inversion.inversion import SPACES, Curve, Inversion
from panda_jax.inversion.minimiser import REASONS
from panda_jax.inversion.photographs import in_channels, read_photograph, read_profile
from panda_jax.inversion.placement import Placement, checked_placement

LATENTS, PHOTOGRAPHS = 'latents.npz', 'photographs'
REMEDY = 'give the folder that `panda-jax invert` wrote, or invert again'
FORM = {
  'inversion': int,
  'space': str,
  'layer': (int, None),
  'noise': str,
  'weights': str,
  'names': [str],
  'reasons': [str],
}
FORMAT = 1
OPTIONAL = 'labels', 'features', 'rgb', 'matrices', 'seconds', 'values'
MOST_SKIPS = 16
ALIKE = 8 / 255  # mean difference of two crops of one photograph: JPEG decoders round differently


@dataclasses.dataclass(frozen=True, eq=False)
class Inverted:
  """An inversion with its photographs.

  Attributes:
    inversion: see there.
    names: (N) of the photographs, their files' names.
    placements: of the crops in the photographs, or None for arrays.
    folder: of the photographs, or None.
  """

  inversion: Inversion
  names: tuple[str, ...]
  placements: tuple[Placement, ...] | None = None
  folder: Path | None = None

  @property
  def array(self) -> np.ndarray:
    """The latents, see `Inversion`."""
    return self.inversion.array

  @property
  def space(self) -> str:
    """The space of `array`."""
    return self.inversion.array_space

  def chosen(self, rows: Sequence[int]) -> 'Inverted':
    """Some of the photographs."""
    rows = list(rows)
    return Inverted(
      self.inversion.chosen(rows),
      tuple(self.names[i] for i in rows),
      None if self.placements is None else tuple(self.placements[i] for i in rows),
      self.folder,
    )

  def photograph(self, i: int) -> np.ndarray | None:
    """The whole photograph (H, W, 3) uint8; None if there is no file of it.

    Raises:
      InputError: its file can no longer be read, or holds another photograph.
    """
    path = self._path(i)
    if path is None or self.placements is None:
      return None
    try:
      pixels = read_photograph(path)
      crop, known = self.placements[i].crop(pixels), self.inversion.photographs[i]
      if np.abs(in_channels(crop, known.shape[-1]) - known).mean() > 2 * ALIKE:
        raise InputError('images', path, 'it is not the photograph that was inverted', REMEDY)
    except InputError as error:
      problem = f'{PHOTOGRAPHS}/{self.names[i]} in it: {error.problem}'
      raise InputError('latents', self.folder, problem, 'put the photograph back, or invert again') from error
    return pixels

  def profile(self, i: int) -> bytes | None:
    """The colour profile of the whole photograph; None if there is no profile or no file."""
    path = self._path(i)
    return None if path is None else read_profile(path)

  def _path(self, i: int) -> Path | None:
    return None if self.folder is None else self.folder / PHOTOGRAPHS / self.names[i]


def save_inverted(path: str | os.PathLike, inverted: Inverted, curve: bool = False) -> None:
  """Writes the latents, features and crops of an inversion as one .npz; no pickle inside.

  With `curve` the file also holds seconds, so that two runs of the same inversion give different files.
  """
  found = inverted.inversion
  description = {
    'inversion': FORMAT,
    **{name: getattr(found, name) for name in ('space', 'layer', 'noise', 'weights')},
    'names': list(inverted.names),
    'reasons': list(found.reasons),
  }
  arrays: dict[str, Any] = {
    'description': np.asarray(json.dumps(description)),
    'latents': found.array,
    'photographs': np.round((found.photographs + 1) * 127.5).astype(np.uint8),
    'images': found.images,
  }
  arrays |= found.curve._asdict() if curve else {}
  arrays |= {name: getattr(found, name) for name in ('labels', 'features', 'rgb') if getattr(found, name) is not None}
  arrays |= {f'skips{i}': x for i, x in enumerate(found.skips)}
  if inverted.placements is not None:
    arrays['matrices'] = np.stack([placement.matrix for placement in inverted.placements])
  write_atomically(path, npz_bytes(**arrays), 'out')


def is_inverted(path: str | os.PathLike) -> bool:
  """Whether a path may be an inversion: a folder, or a file latents.npz that is marked as one."""
  if os.path.isdir(path) or os.path.basename(path) != LATENTS:
    return os.path.isdir(path)
  return bool(read_npz(path, 'latents', (), optional=['description'], texts=['description'], remedy=REMEDY))


def load_inverted(path: str | os.PathLike, generator: Any) -> Inverted:
  """Reads what `save_inverted` wrote.

  Args:
    path: of the file or its folder.
    generator: the one with which it must have been made.

  Raises:
    InputError: it is missing or damaged, or was made with another generator.
  """
  path = Path(path)
  if path.is_dir():
    if not (path / LATENTS).is_file():
      raise InputError('latents', path, f'there is no {LATENTS} in it', REMEDY)
    path = path / LATENTS
  module = plain(generator)
  data = read_npz(path, 'latents', texts=['description'], packed=False, remedy=REMEDY)
  try:
    said = parsed_json(str(data.pop('description', '')), FORM)
    if said['inversion'] != FORMAT or said['space'] not in SPACES or said['noise'] not in ('const', 'none'):
      raise ValueError('it is of an unknown format')
    if said['weights'] != weights_digest(module).hexdigest():
      raise InputError('latents', path, 'they are of another generator', 'give the generator that they were made with')
    for name, array in data.items():
      checked_array(array, name, 'array')
    skips = [data.pop(f'skips{i}') for i in range(MOST_SKIPS) if f'skips{i}' in data]
    needed = {'latents', 'photographs', 'images'}
    if needed - {*data} or {*data} - needed - {*OPTIONAL}:
      raise ValueError(f'it lacks or adds {min(needed ^ ({*data} - {*OPTIONAL}))}')
    return _assembled(said, data, skips, module, path)
  except ValueError as error:
    if isinstance(error, InputError) and error.value == path:
      raise
    problem = f'{error.argument}: {error.problem}' if isinstance(error, InputError) else str(error)
    raise InputError('latents', path, f'it is damaged ({problem})', REMEDY) from error


def _assembled(said: dict, data: dict[str, np.ndarray], skips: list[np.ndarray], module: Any, path: Path) -> Inverted:
  """The inversion; its arrays are checked against the generator.

  Raises:
    ValueError: something does not fit.
  """
  N, names = len(said['names']), said['names']
  shape = image_shape(module)
  picture = (N, *shape)
  wanted = {'photographs': picture, 'images': picture, 'matrices': (N, 2, 3), 'labels': (N, module.num_classes)}
  if said['layer'] is not None:
    C, H, W = module.layers[checked_layer(said['layer'], module.layers)]
    wanted['features'] = (N, H, W, C)
  if (said['space'] == 'features') != ('features' in data) or ('features' in data) != (said['layer'] is not None):
    raise ValueError('its space, its layer and its features do not agree')
  values = data.get('values', np.zeros((0, N), np.float32))
  wanted |= {'seconds': values.shape[:-1], 'values': (values.size // max(N, 1), N)}
  for name, array in data.items():
    if name in wanted and array.shape != wanted[name]:
      raise ValueError(f'{name} has another shape')
  if not N or any(x.ndim < 2 or len(x) != N for x in (data['latents'], *skips)):
    raise ValueError('its arrays are not one for each photograph')
  for name, array in [*data.items(), *(('skips', x) for x in skips)]:
    kind = {'photographs': np.uint8, 'matrices': np.float64, 'seconds': np.float64}.get(name, np.float32)
    if array.dtype != kind:
      raise ValueError(f'{name} is of {array.dtype}')
  if len(said['reasons']) != N or {*said['reasons']} - {*REASONS}:
    raise ValueError('its reasons are not one for each photograph')
  if any(name != os.path.basename(name) or name in ('', '.', '..') for name in names) or len({*names}) < N:
    raise ValueError('its names are not names of files')
  found = Inversion(
    space=said['space'],
    array=data['latents'],
    labels=data.get('labels'),
    layer=said['layer'],
    features=data.get('features'),
    rgb=data.get('rgb'),
    skips=tuple(skips),
    noise=said['noise'],
    weights=said['weights'],
    images=data['images'],
    photographs=data['photographs'].astype(np.float32) / 127.5 - 1,
    reasons=tuple(said['reasons']),
    curve=Curve(data.get('seconds', np.zeros(len(values))), values),
  )
  space_of(module, found.array.shape, given=found.array_space, name='latents')
  if (found.labels is not None) != (found.array_space == 'z' and module.num_classes > 0):
    raise ValueError('its labels do not go with its space')
  if found.layer is not None:
    _check_state(found, module)
  placements = None
  if 'matrices' in data:
    placements = tuple(checked_placement(matrix, shape[:2]) for matrix in data['matrices'])
  return Inverted(found, tuple(names), placements, path.parent)


def _check_state(found: Inversion, module: Any) -> None:
  """Raises ValueError unless the state at the layer has the generator's shapes there."""
  held: Any = found.latents(module)
  wanted = jax.eval_shape(lambda: module.run_to(driving(held), found.layer, noise=found.noise))
  if jax.tree.structure(wanted) != jax.tree.structure(held.state):
    raise ValueError('it holds more or less at its layer than the generator has there')
  if [x.shape for x in jax.tree.leaves(wanted)] != [x.shape for x in jax.tree.leaves(held.state)]:
    raise ValueError('what it holds at its layer has another shape')
