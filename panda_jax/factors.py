"""Factors: the parts and appearances of one fit, with where they came from, and their files."""

import dataclasses
import io
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np

from panda_jax.errors import InputError


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
  """Writes a file so that it is either whole or not there, and an old one survives a failure."""
  path = Path(path)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    temporary.write_bytes(data)
    os.replace(temporary, path)
  except OSError as error:
    temporary.unlink(missing_ok=True)
    raise InputError(
      'workdir',
      path.parent,
      f'{path.name} could not be written ({error.strerror})',
      'free space or choose another folder',
    ) from error


def npy_bytes(array: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
  return buffer.getvalue()


def _loaded(path: str | os.PathLike, argument: str) -> np.ndarray:
  try:
    return np.load(path, allow_pickle=False)
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise InputError(
      argument, path, f'it cannot be read as numpy data ({error})', 'give a file written by a fit'
    ) from error


@dataclasses.dataclass(frozen=True)
class Factors:
  """Appearances A and parts P of L = sum_i ||Z_i - A A' Z_i P P'||^2 (PandA, ICLR 2023, eq. 1 without labels).

  Attributes:
    appearances: A (C, R_C) float32.
    parts: P (S, R_S) float32, non-negative, rows in row-major order of positions.
    grid: (H, W), H * W = S.
    provenance: versions, seed, source and its hash, layer, settings, error, history; JSON values only.
    mean: what centring subtracted from features, (S, C) or (1, C) float32; None where the fit was not centred.
  """

  appearances: np.ndarray
  parts: np.ndarray
  grid: tuple[int, int]
  provenance: dict = dataclasses.field(default_factory=dict)
  mean: np.ndarray | None = None

  def __post_init__(self):
    for name in ('appearances', 'parts'):
      array = np.asarray(getattr(self, name), np.float32)
      if array.ndim != 2:
        raise InputError(name, f'shape {array.shape}', 'a factor is a matrix', 'give (C, R_C) and (S, R_S)')
      object.__setattr__(self, name, array)
    object.__setattr__(self, 'grid', (int(self.grid[0]), int(self.grid[1])))
    if self.grid[0] * self.grid[1] != self.parts.shape[0]:
      raise InputError(
        'grid',
        f'{self.grid[0]},{self.grid[1]}',
        f'the parts have {self.parts.shape[0]} positions',
        'give H,W of that size',
      )

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
      'provenance': np.asarray(json.dumps(self.provenance)),
    }
    if self.mean is not None:
      arrays['mean'] = np.asarray(self.mean, np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())

  @classmethod
  def load(cls, path: str | os.PathLike) -> 'Factors':
    """Reads what `save` wrote."""
    data = _loaded(path, 'factors')
    names = getattr(data, 'files', ())
    missing = {'appearances', 'parts', 'grid', 'provenance'} - set(names)
    if missing:
      raise InputError('factors', path, f'it lacks {", ".join(sorted(missing))}', 'give a factors.npz written by a fit')
    mean = data['mean'] if 'mean' in names else None
    return cls(data['appearances'], data['parts'], data['grid'], json.loads(str(data['provenance'])), mean)

  def save_published(self, folder: str | os.PathLike, name: str, layer: int) -> tuple[Path, Path]:
    """Writes the authors' pair Uc-name_...npy (C, R_C) and Us-name_...npy (S, R_S); returns both paths."""
    folder = Path(folder)
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
    A, P = _loaded(uc_path, 'uc_path'), _loaded(us_path, 'us_path')
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
