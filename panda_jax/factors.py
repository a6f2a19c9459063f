"""Factors: the parts and appearances of one fit, with where they came from, and their files."""

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np

from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import checked_array, npy_bytes, npz_bytes, read_npy, read_npz
from panda_jax.files.records import parsed_json

REMEDY = 'give a file written by a fit'
LONGEST_NAME = 100  # bytes, of factors in the names of published files

# What a factors.npz says of where its factors came from. Other entries are kept as they are.
PROVENANCE = {
  'layer?': (int, str, None),
  'sha256?': (str, None),
  'samples?': (int, None),
  'source?': (str, None),
  'generator?': (
    None,
    {
      'path?': (str, None),
      'layer?': (int, None),
      'seed?': int,
      'samples?': (int, None),
      'labels?': ([int], [[float]], None),
      'truncation?': (float, None),
      'truncation_layers?': (int, None),
    },
  ),
}


@dataclasses.dataclass(frozen=True)
class Factors:
  """Appearances A and parts P of L = sum_i ||Z_i - A A' Z_i P P'||^2 (PandA, ICLR 2023, eq. 1 without labels).

  Attributes:
    appearances: A (C, R_C) float32.
    parts: P (S, R_S) float32, non-negative, rows in row-major order of positions.
    grid: (H, W), H * W = S.
    provenance: versions, seed, source and its hash, layer, settings, error, history; JSON values only.
    mean: what centring subtracted from features, (S, C) or (1, C) float32, or float64 where that is out of float32's
      range; None where the fit was not centred.
  """

  appearances: np.ndarray
  parts: np.ndarray
  grid: tuple[int, int]
  provenance: dict = dataclasses.field(default_factory=dict)
  mean: np.ndarray | None = None

  def __post_init__(self):
    for name in ('appearances', 'parts'):
      array = _as_float32(getattr(self, name))
      if array.ndim != 2 or 0 in array.shape:
        raise InputError(name, f'shape {array.shape}', 'a factor is a matrix', 'give (C, R_C) and (S, R_S)')
      object.__setattr__(self, name, array)
    object.__setattr__(self, 'grid', _checked_grid(self.grid, len(self.parts)))
    if self.mean is not None and np.shape(self.mean) not in ((n, len(self.appearances)) for n in (1, len(self.parts))):
      problem = f'there are {len(self.parts)} positions and {len(self.appearances)} channels'
      raise InputError('mean', f'shape {np.shape(self.mean)}', problem, 'give (S, C) or (1, C)')
    if self.mean is not None:
      object.__setattr__(self, 'mean', _kept_mean(np.asarray(self.mean)))

  @property
  def live_parts(self) -> list[int]:
    """Numbers of the parts that are not all zero."""
    return np.flatnonzero(self.parts.max(axis=0) > 0).tolist()

  @property
  def live_appearances(self) -> list[int]:
    """Numbers of the appearances that are not all zero."""
    return np.flatnonzero(self.appearances.any(axis=0)).tolist()

  def part_maps(self) -> np.ndarray:
    """Parts as maps, (R_S, H, W)."""
    return self.parts.T.reshape(-1, *self.grid)

  def relative_error(self, features: np.ndarray) -> float:
    """sum ||Z - A A' Z P P'||^2 / sum ||Z||^2 on features (N, H, W, C) or (N, S, C), in float64."""
    Z = np.asarray(features, np.float64).reshape(len(features), *self.parts.shape[:1], -1)
    Z = Z if self.mean is None else Z - self.mean
    Z = Z / max(np.max(np.abs(Z), initial=0), np.finfo(np.float64).tiny)  # squares stay in range, whatever the unit
    P, A = self.parts.astype(np.float64), self.appearances.astype(np.float64)
    residual = total = 0.0
    for z in Z:
      residual += np.sum((z - P @ ((P.T @ z) @ A) @ A.T) ** 2)
      total += np.sum(z * z)
    return residual / total

  def save(self, path: str | os.PathLike) -> None:
    """One .npz with appearances, parts, grid, provenance (a JSON string) and, if centred, mean. No pickle inside."""
    arrays = {
      'appearances': self.appearances,
      'parts': self.parts,
      'grid': np.asarray(self.grid, np.int64),
      'provenance': np.asarray(checked_provenance(self.provenance)),
    }
    if self.mean is not None:
      arrays['mean'] = self.mean
    write_atomically(path, npz_bytes(**arrays))

  @classmethod
  def load(cls, path: str | os.PathLike) -> 'Factors':
    """Reads what `save` wrote.

    Raises:
      InputError: it is missing or damaged, or holds what no fit writes.
    """
    names = 'appearances', 'parts', 'grid', 'provenance'
    data = read_npz(path, 'factors', names, optional=['mean'], texts=['provenance'], packed=False, remedy=REMEDY)
    try:
      for name in {*data} - {'provenance', 'mean'}:
        checked_array(data[name], name, 'array')
      if 'mean' in data and not np.isfinite(data['mean']).all():  # of features in any unit: float64 may be needed
        raise InputError('mean', 'array', 'it has entries that are not finite', 'give others')
      if (data['parts'] < 0).any():
        raise InputError('parts', 'array', 'it has negative entries', 'give others')
      provenance = parsed_json(str(data['provenance']), PROVENANCE)
      return cls(data['appearances'], data['parts'], data['grid'], provenance, data.get('mean'))
    except ValueError as error:
      said = f'{error.argument}: {error.problem}' if isinstance(error, InputError) else f'provenance: {error}'
      raise InputError('factors', path, f'it is damaged ({said})', REMEDY) from error

  def save_published(self, folder: str | os.PathLike, name: str, layer: int) -> tuple[Path, Path]:
    """Writes the authors' pair Uc-name_...npy (C, R_C) and Us-name_...npy (S, R_S); returns both paths."""
    folder, name = Path(folder), checked_name(name)
    paths = []
    for letter, array in (('c', self.appearances), ('s', self.parts)):
      path = folder / f'U{letter}-name_{name}-layer_{layer}-rank_{array.shape[1]}.npy'
      write_atomically(path, npy_bytes(array))
      paths.append(path)
    return paths[0], paths[1]

  @classmethod
  def load_published(
    cls, uc_path: str | os.PathLike, us_path: str | os.PathLike, grid: tuple[int, int] | None = None
  ) -> 'Factors':
    """Reads the authors' pair as stored: never re-gauged, or annotated indices and strengths would break.

    Args:
      uc_path: (C, R_C).
      us_path: (S, R_S), row-major positions.
      grid: (H, W); square if left out, as the published code assumes.
    """
    A, P = read_npy(uc_path, 'uc_path', [2]), read_npy(us_path, 'us_path', [2])
    if grid is None:
      side = round(np.sqrt(len(P)))
      if side * side != len(P):
        raise InputError('us_path', us_path, f'{len(P)} positions are no square', 'give grid=(H, W)')
      grid = (side, side)
    provenance = {'source': 'published', 'uc': Path(uc_path).name, 'us': Path(us_path).name}
    found = re.search(r'name_(.+)-layer_(\d+)-rank_', Path(uc_path).name)
    if found:
      provenance |= {'name': found[1], 'layer': int(found[2])}
    return cls(A, P, grid, provenance)


def checked_name(name: str) -> str:
  """A name for factors that can be part of the names of the authors' files.

  Raises:
    InputError: it is none.
  """
  if not name or '/' in name or '\0' in name or len(os.fsencode(name)) > LONGEST_NAME:
    remedy = f'give letters and digits, {LONGEST_NAME} at most'
    raise InputError('published', name, 'it cannot be part of the name of a file', remedy)
  return name


def checked_provenance(provenance: dict) -> str:
  """The provenance as JSON that `Factors.load` takes.

  Raises:
    InputError: it is no dict, or holds what is no JSON value.
  """
  try:
    text = json.dumps(provenance, allow_nan=False)
    parsed_json(text, PROVENANCE)
  except (TypeError, ValueError, RecursionError) as error:
    raise InputError('provenance', 'given', f'it is no record of JSON values ({error})', 'give others') from error
  return text


def _as_float32(array) -> np.ndarray:
  with np.errstate(over='ignore'):  # what is too large becomes infinity, which is told where it matters
    return np.asarray(array, np.float32)


def _kept_mean(mean: np.ndarray) -> np.ndarray:
  """The mean as float32, or as float64 where float32 has no normal number for its largest entry."""
  largest, limits = np.max(np.abs(mean), initial=0), np.finfo(np.float32)
  return mean.astype(np.float64) if 0 < largest < limits.tiny or largest > limits.max else _as_float32(mean)


def _checked_grid(grid, positions: int) -> tuple[int, int]:
  """(H, W) of so many positions."""
  numbers = np.asarray(grid)
  if numbers.shape != (2,) or numbers.dtype.kind not in 'iu' or (numbers < 1).any():
    raise InputError('grid', str(grid)[:40], 'it is not two positive whole numbers', 'give H,W')
  height, width = (int(x) for x in numbers)
  if height * width != positions:
    raise InputError('grid', f'{height},{width}', f'the parts have {positions} positions', 'give H,W of that size')
  return height, width
