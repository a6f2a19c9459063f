"""Factors: the parts and appearances of one fit, with where they came from, and their files."""

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from panda_jax.errors import InputError, NonFiniteError, brief
from panda_jax.features.checks import checked_grid
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import checked_array, npy_bytes, npz_bytes, read_npy, read_npz
from panda_jax.files.records import parsed_json
from panda_jax.runtime import notebook

REMEDY = 'give a file written by a fit'
MOST_TILES, LONGEST_SOURCE = 64, 60  # largest number of part pictures, and longest text, in a notebook
BLOCK_BYTES = 64 << 20  # bytes of float64 samples that are processed together
LONGEST_NAME = 100  # bytes of a name of factors in the names of published files

# Entries of the provenance in a factors.npz that are checked. Other entries are kept as they are.
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


class _Record:
  """A provenance as static data for JAX: compared by content, and hashable."""

  def __init__(self, provenance: dict):
    self.provenance = provenance

  def _text(self) -> str:
    return json.dumps(self.provenance, sort_keys=True, default=repr)

  def __eq__(self, other) -> bool:
    if not isinstance(other, _Record):
      return NotImplemented
    return self.provenance is other.provenance or self._text() == other._text()

  def __hash__(self) -> int:
    return hash(self._text())


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Factors:
  """Appearances A and parts P of L = sum_i ||Z_i - A A' Z_i P P'||^2 (PandA, ICLR 2023, eq. 1 without labels).

  Two factors are equal (`==`) if their arrays, grid and mean are; where they came from does not count. Like arrays,
  they have no hash. To JAX they are a pytree: the arrays are its leaves, grid and provenance are static. So factors of
  another provenance compile a function again, and a function that returns factors keeps the provenance.

  Attributes:
    appearances: A (C, R_C) float32.
    parts: P (S, R_S) float32, non-negative, rows in row-major order of positions.
    grid: (H, W), H * W = S.
    provenance: versions, seed, source and its hash, layer, settings, error, history; JSON values only.
    mean: what centring subtracted from features, (S, C) or (1, C) float32, or float64 where that is out of float32's
      range; None where the fit was not centred.

  Raises:
    InputError: a matrix, grid or mean of another shape than these; entries that are not finite, or parts below zero.

  Example:
    >>> factors
    Factors: parts 16 x 4 on a grid of 4 x 4, appearances 3 x 3
      from array, 40 samples
      relative error 0.00000, converged
    >>> factors.summary(outcome=False)[-1]
    'from array, 40 samples'
    >>> [name for name, picture in factors.tiles()]  # what a notebook shows
    ['part 0', 'part 1', 'part 2', 'part 3']
    >>> factors.part_maps().shape, factors.live_parts, factors.live_appearances
    ((4, 4, 4), [0, 1, 2, 3], [0, 1, 2])
    >>> coefficients = factors.coefficients(features)
    >>> coefficients.shape  # N, R_C, R_S
    (40, 3, 4)
    >>> bool(np.allclose(factors.features_of(coefficients), factors.reconstruct(features), atol=1e-5))
    True
    >>> round(factors.relative_error(features), 6)
    0.0
    >>> factors.save('factors.npz')
    >>> panda_jax.Factors.load('factors.npz') == factors
    True
    >>> uc_path, us_path = factors.save_published('.', name='quarters', layer=1)
    >>> uc_path.name
    'Uc-name_quarters-layer_1-rank_3.npy'
    >>> panda_jax.Factors.load_published(uc_path, us_path) == factors
    True
  """

  appearances: np.ndarray
  parts: np.ndarray
  grid: tuple[int, int]
  provenance: dict = dataclasses.field(default_factory=dict)
  mean: np.ndarray | None = None

  def __post_init__(self):
    for name in ('appearances', 'parts'):
      array = _as_float32(getattr(self, name), name)
      if array.ndim != 2 or 0 in array.shape:
        raise InputError(name, f'shape {array.shape}', 'a factor is a matrix', 'give (C, R_C) and (S, R_S)')
      if not np.isfinite(array).all():
        raise InputError(name, 'NaN or infinity', 'its entries must be finite', 'give finite numbers')
      if name == 'parts' and (array < 0).any():
        problem = f'{np.sum(array < 0)} of {array.size} entries are negative'
        raise InputError(name, f'{array.min():.3g}', problem, 'give parts that are zero or positive')
      object.__setattr__(self, name, array)
    object.__setattr__(self, 'grid', _grid_of(self.grid, len(self.parts)))
    if self.mean is not None and np.shape(self.mean) not in ((n, len(self.appearances)) for n in (1, len(self.parts))):
      problem = f'there are {len(self.parts)} positions and {len(self.appearances)} channels'
      raise InputError('mean', f'shape {np.shape(self.mean)}', problem, 'give (S, C) or (1, C)')
    if self.mean is not None:
      mean = np.asarray(self.mean)
      if mean.dtype.kind not in 'fiu' and mean.dtype.name != 'bfloat16':
        raise InputError('mean', f'type {mean.dtype}', 'a mean holds numbers', 'give (S, C) or (1, C)')
      if not np.isfinite(mean).all():
        raise InputError('mean', 'NaN or infinity', 'it has entries that are not finite', 'give finite numbers')
      object.__setattr__(self, 'mean', _kept_mean(mean))

  __hash__ = None  # type: ignore[assignment]  # Python's sign that there is no hash
  __array_ufunc__ = None  # numpy must not answer `array == factors`

  def __eq__(self, other) -> bool:
    if not isinstance(other, Factors):
      return NotImplemented
    if tuple(self.grid) != tuple(other.grid) or (self.mean is None) != (other.mean is None):
      return False
    pairs = [(self.appearances, other.appearances), (self.parts, other.parts)]
    if self.mean is not None and other.mean is not None:
      pairs.append((self.mean, other.mean))
    return all(np.array_equal(one, two) for one, two in pairs)

  def __repr__(self) -> str:
    first, *more = self.summary()
    return '\n'.join([first, *(f'  {line}' for line in more)])

  def _repr_html_(self) -> str:
    return notebook.page(repr(self), self.tiles())

  def summary(self, outcome: bool = True) -> list[str]:
    """Lines that say what these are: sizes, where they came from and, with `outcome`, their error."""
    (S, R_S), (C, R_C) = np.shape(self.parts), np.shape(self.appearances)
    height, width = self.grid
    said = self.provenance if isinstance(self.provenance, dict) else {}
    lines = [f'Factors: parts {S} x {R_S} on a grid of {height} x {width}, appearances {C} x {R_C}']
    origin = [f'from {brief(said["source"], LONGEST_SOURCE)}'] if said.get('source') is not None else []
    if isinstance(said.get('samples'), int):
      origin.append(f'{said["samples"]} samples')
    if said.get('layer') is not None:
      origin.append(f'layer {brief(said["layer"], LONGEST_SOURCE)}')
    if self.mean is not None:
      origin.append(f'centred by {"position" if np.shape(self.mean)[0] > 1 or S == 1 else "channel"}')
    lines += [', '.join(origin)] if origin else []
    if outcome and isinstance(said.get('relative_error'), int | float):
      lines.append(f'relative error {said["relative_error"]:.5f}, {brief(said.get("reason", "?"), LONGEST_SOURCE)}')
    return lines

  def tiles(self, more: Sequence[str] = ()) -> list[tuple[str, np.ndarray]]:
    """(name, uint8 pixels (h, w, 3)) of each of the first parts; `more` follows their names."""
    maps = np.asarray(self.part_maps())[:MOST_TILES]
    return [(f'part {k}{more[k] if k < len(more) else ""}', notebook.heat(one)) for k, one in enumerate(maps)]

  def tree_flatten_with_keys(self):
    """For JAX: the arrays with their names; grid and provenance as static data."""
    names = ('appearances', 'parts', 'mean')
    leaves = tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names)
    return leaves, (self.grid, _Record(self.provenance))

  @classmethod
  def tree_unflatten(cls, static, leaves) -> 'Factors':
    """For JAX. The leaves may be anything, so nothing is checked."""
    factors, (grid, record) = object.__new__(cls), static
    appearances, parts, mean = leaves
    fields = {'appearances': appearances, 'parts': parts, 'grid': grid, 'provenance': record.provenance, 'mean': mean}
    for name, value in fields.items():
      object.__setattr__(factors, name, value)
    return factors

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

  def coefficients(self, features) -> np.ndarray:
    """What A and P make of each sample: A'Z_i P, (N, R_C, R_S) float32 (PandA, ICLR 2023, eq. 1).

    Args:
      features: Z (N, H, W, C) or (N, S, C), anything that numpy can view; the mean of a centred fit is subtracted.

    Raises:
      InputError: features of another grid or other channels.
      NonFiniteError: a sample holds NaN or infinity.
    """
    A, P = self._matrices()
    out = [np.einsum('sp,nsc,ca->nap', P, z, A, optimize=True) for z in self._fibres(features)]
    return np.concatenate(out).astype(np.float32)

  def reconstruct(self, features) -> np.ndarray:
    """A A'Z_i P P' of each sample, float32, in the shape of the features; of a centred fit, with the mean added.

    Arguments and errors are those of `coefficients`.
    """
    A, P = self._matrices()
    out = [np.asarray(self._explained(z, A, P) + self._mean(), np.float32) for z in self._fibres(features)]
    return np.concatenate(out).reshape(np.shape(features))

  def features_of(self, coefficients) -> np.ndarray:
    """Features A X_i P' of coefficients X (N, R_C, R_S), as (N, H, W, C) float32; of a centred fit, with the mean.

    `features_of(coefficients(Z))` is `reconstruct(Z)`.

    Raises:
      InputError: another shape.
    """
    A, P = self._matrices()
    shape, wanted = np.shape(coefficients), (A.shape[1], P.shape[1])
    if len(shape) != 3 or shape[1:] != wanted:
      text = 'x'.join(map(str, shape)) or 'scalar'
      problem = f'there are {wanted[0]} appearances and {wanted[1]} parts'
      raise InputError('coefficients', f'shape {text}', problem, f'give (N, {wanted[0]}, {wanted[1]})')
    X = np.asarray(coefficients, np.float64)
    Z = np.einsum('sp,nap,ca->nsc', P, X, A, optimize=True) + self._mean()
    return Z.astype(np.float32).reshape(len(X), *self.grid, len(A))

  def relative_error(self, features) -> float:
    """sum ||Z - A A'Z P P'||^2 / sum ||Z||^2 on features, in float64; of a centred fit Z is less the mean.

    Arguments and errors are those of `coefficients`. Of features that are zero, or the mean, everywhere it is NaN.
    """
    A, P = self._matrices()
    scale = max((float(np.max(np.abs(z))) for z in self._fibres(features)), default=0.0)
    residual = total = 0.0
    for z in self._fibres(features):
      z = z / (scale or 1.0)  # squares stay in range, for any unit
      residual += float(np.sum((z - self._explained(z, A, P)) ** 2))
      total += float(np.sum(z * z))
    return residual / total if total else float('nan')

  def _mean(self) -> np.ndarray:
    """(1, S or 1, C) float64; zeros if nothing was subtracted."""
    mean = np.zeros((1, len(self.appearances))) if self.mean is None else self.mean
    return np.asarray(mean, np.float64)[None]

  def _matrices(self) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(self.appearances, np.float64), np.asarray(self.parts, np.float64)

  @staticmethod
  def _explained(Z: np.ndarray, A: np.ndarray, P: np.ndarray) -> np.ndarray:
    """P P'Z A A' of samples (n, S, C)."""
    return np.matmul(P, np.matmul(np.matmul(P.T, Z), A) @ A.T)

  def _fibres(self, features) -> Iterator[np.ndarray]:
    """Features as blocks (n, S, C) float64, minus the mean.

    Raises:
      InputError, NonFiniteError: see `coefficients`.
    """
    (H, W), (S, C) = self.grid, (len(self.parts), len(self.appearances))
    shape = np.shape(features)
    if shape[1:] not in ((H, W, C), (S, C)) or not shape[0]:
      text = 'x'.join(map(str, shape)) or 'scalar'
      problem, remedy = 'they do not fit the factors', f'give shape (N, {H}, {W}, {C})'
      if shape in ((H, W, C), (S, C)):
        problem, remedy = 'there is no axis of samples', 'give features[None]'
      elif shape[1:] in ((C, H, W), (C, S)):
        problem = 'channels come first'
        remedy = 'give features.transpose(0, 2, 3, 1)' if len(shape) == 4 else 'give features.transpose(0, 2, 1)'
      raise InputError('features', f'shape {text}', problem, remedy)
    flat = np.asarray(features).reshape(-1, S, C)
    size = max(1, BLOCK_BYTES // (8 * S * C))
    for first in range(0, len(flat), size):
      block = flat[first : first + size].astype(np.float64)
      finite = np.isfinite(block).all(axis=(1, 2))
      if not finite.all():
        bad = first + int(np.argmin(finite))
        raise NonFiniteError('features', f'sample {bad}', 'it holds NaN or infinity', 'leave that sample out')
      yield block - self._mean()

  def save(self, path: str | os.PathLike) -> None:
    """One .npz with appearances, parts, grid, provenance (a JSON string) and, if centred, mean. No pickle inside."""
    arrays: dict[str, Any] = {
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
      provenance = parsed_json(str(data['provenance']), PROVENANCE)
      grid: Any = data['grid']  # checked by __post_init__, which makes it a tuple
      return cls(data['appearances'], data['parts'], grid, provenance, data.get('mean'))
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
        raise InputError('us_path', us_path, f'{len(P)} positions are not a square', 'give grid=(H, W)')
      grid = (side, side)
    provenance: dict[str, Any] = {'source': 'published', 'uc': Path(uc_path).name, 'us': Path(us_path).name}
    found = re.search(r'name_(.+)-layer_(\d+)-rank_', Path(uc_path).name)
    if found:
      provenance |= {'name': found[1], 'layer': int(found[2])}
    return cls(A, P, grid, provenance)


def digest_of(factors: Factors) -> str:
  """SHA-256 (hex) of A, P, grid, layer and the hash of the features: identifies these factors in a zoo of edits."""
  origin = [list(factors.grid), factors.provenance.get('layer'), factors.provenance.get('sha256')]
  digest = hashlib.sha256(json.dumps(origin).encode())
  for matrix in (factors.appearances, factors.parts):
    digest.update(f'{matrix.shape}'.encode() + np.ascontiguousarray(matrix, '<f4').tobytes())
  return digest.hexdigest()


def checked_name(name: str) -> str:
  """A name for factors that is valid in the names of the authors' files.

  Raises:
    InputError: it is not valid.
  """
  if not name or '/' in name or '\0' in name or len(os.fsencode(name)) > LONGEST_NAME:
    remedy = f'give letters and digits, {LONGEST_NAME} at most'
    raise InputError('published', name, 'it cannot be part of the name of a file', remedy)
  return name


def checked_provenance(provenance: dict) -> str:
  """The provenance as JSON that `Factors.load` accepts.

  Raises:
    InputError: it is not a dict, or has a value that is not JSON.
  """
  try:
    text = json.dumps(provenance, allow_nan=False)
    parsed_json(text, PROVENANCE)
  except (TypeError, ValueError, RecursionError) as error:
    raise InputError('provenance', 'given', f'it is not made of JSON values ({error})', 'give others') from error
  return text


def _as_float32(array, argument: str = 'mean') -> np.ndarray:
  array = np.asarray(array)
  if array.dtype.kind not in 'fiu' and array.dtype.name != 'bfloat16':
    raise InputError(argument, f'type {array.dtype}', 'a factor holds real numbers', 'give an array of them')
  with np.errstate(over='ignore'):  # a value that is too large becomes infinity, which is refused
    return np.asarray(array, np.float32)


def _kept_mean(mean: np.ndarray) -> np.ndarray:
  """The mean as float32, or as float64 where float32 has no normal number for its largest entry."""
  largest, limits = np.max(np.abs(mean), initial=0), np.finfo(np.float32)
  return mean.astype(np.float64) if 0 < largest < limits.tiny or largest > limits.max else _as_float32(mean)


def _grid_of(grid, positions: int) -> tuple[int, int]:
  """(H, W), which must have this number of positions."""
  found = checked_grid(grid)
  if found is None or math.prod(found) != positions:
    raise InputError('grid', grid, f'the parts have {positions} positions', 'give (H, W) of that size')
  return found
