"""Inversions on disk: a folder with latents.npz and the photographs that were inverted, as they were given.

Letters: N photographs, (h, w) pixels of the generator's pictures.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import checked_array, npz_bytes, read_npz
from panda_jax.files.records import parsed_json
from panda_jax.generators.base import checked_layer
from panda_jax.generators.source import weights_digest
from panda_jax.generators.spaces import space_of
from panda_jax.generators.structure import plain
from panda_jax.inversion.invert import SPACES, Curve, Inversion
from panda_jax.inversion.minimiser import REASONS
from panda_jax.inversion.photographs import read_photograph
from panda_jax.inversion.placement import Placement

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
OPTIONAL = 'labels', 'features', 'rgb', 'matrices'
MOST_SKIPS = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Inverted:
  """An inversion with the photographs that it is of.

  Attributes:
    inversion: see there.
    names: (N) of the photographs, their files' names.
    placements: where the crops lie in the photographs, or None for arrays.
    folder: with the photographs, or None.
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
    """The whole photograph (H, W, 3) uint8; None where there is no file of it.

    Raises:
      InputError: its file cannot be read any more.
    """
    if self.folder is None or self.placements is None:
      return None
    return read_photograph(self.folder / PHOTOGRAPHS / self.names[i])


def save_inverted(path: str | os.PathLike, inverted: Inverted) -> None:
  """Writes the latents, features and crops of an inversion as one .npz; no pickle inside."""
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
    'seconds': found.curve.seconds,
    'values': found.curve.values,
  }
  arrays |= {name: getattr(found, name) for name in ('labels', 'features', 'rgb') if getattr(found, name) is not None}
  arrays |= {f'skips{i}': x for i, x in enumerate(found.skips)}
  if inverted.placements is not None:
    arrays['matrices'] = np.stack([placement.matrix for placement in inverted.placements])
  write_atomically(path, npz_bytes(**arrays), 'out')


def is_inverted(path: str | os.PathLike) -> bool:
  """Whether a path may be of an inversion: a folder with latents.npz, or that file."""
  return os.path.isfile(os.path.join(path, LATENTS)) if os.path.isdir(path) else os.path.basename(path) == LATENTS


def load_inverted(path: str | os.PathLike, generator: Any) -> Inverted:
  """Reads what `save_inverted` wrote, from the file or its folder.

  Args:
    path: of either.
    generator: that it must be of.

  Raises:
    InputError: it is missing or damaged, or was made with another generator.
  """
  path = Path(path)
  path = path / LATENTS if path.is_dir() else path
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
    needed = {'latents', 'photographs', 'images', 'seconds', 'values'}
    if needed - {*data} or {*data} - needed - {*OPTIONAL}:
      raise ValueError(f'it lacks or adds {min(needed ^ ({*data} - {*OPTIONAL}))}')
    return _assembled(said, data, skips, module, path)
  except ValueError as error:
    if isinstance(error, InputError) and error.argument == 'latents':
      raise
    problem = f'{error.argument}: {error.problem}' if isinstance(error, InputError) else str(error)
    raise InputError('latents', path, f'it is damaged ({problem})', REMEDY) from error


def _assembled(said: dict, data: dict[str, np.ndarray], skips: list[np.ndarray], module: Any, path: Path) -> Inverted:
  """The inversion, its arrays checked against the generator.

  Raises:
    ValueError: something does not fit.
  """
  N, names = len(said['names']), said['names']
  picture = (N, *module.image_size, module.image_channels)
  wanted = {'photographs': picture, 'images': picture, 'matrices': (N, 2, 3), 'labels': (N, module.num_classes)}
  if said['layer'] is not None:
    C, H, W = module.layers[checked_layer(said['layer'], module.layers)]
    wanted['features'] = (N, H, W, C)
  if (said['space'] == 'features') != ('features' in data) or ('features' in data) != (said['layer'] is not None):
    raise ValueError('its space, its layer and its features do not agree')
  for name, array in data.items():
    if name in wanted and array.shape != wanted[name]:
      raise ValueError(f'{name} has another shape')
  arrays = [data['latents'], *skips, *([data['rgb']] if 'rgb' in data else [])]
  if not N or any(x.ndim < 2 or len(x) != N or x.dtype != np.float32 for x in arrays):
    raise ValueError('its arrays are not one for each photograph')
  if data['photographs'].dtype != np.uint8 or data['values'].shape != (len(data['seconds']), N):
    raise ValueError('its photographs or its curve are of another kind')
  if len(said['reasons']) != N or {*said['reasons']} - {*REASONS}:
    raise ValueError('its reasons are not one for each photograph')
  if any(name != os.path.basename(name) or name in ('', '.', '..') for name in names) or len({*names}) < N:
    raise ValueError('its names are no names of files')
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
    curve=Curve(data['seconds'], data['values']),
  )
  space_of(module, found.array.shape, given=found.array_space, name='latents')
  placements = None
  if 'matrices' in data:
    placements = tuple(Placement(matrix.astype(np.float64), tuple(module.image_size)) for matrix in data['matrices'])
  return Inverted(found, tuple(names), placements, path.parent)
