"""The result of every rival: directions in a latent space, with a record of how they were found, and their files.

Letters: k directions of d numbers each; L rows of w+.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import npy_bytes, read_npy
from panda_jax.files.records import read_json, write_json

SPACES = ('w', 'z', 's')
ARRAY, RECORD = 'directions.npy', 'directions.json'
FORM = {  # of the record
  'method': str,
  'space': str,
  'layers': ([int], None),
  'units': [float],
  'unit': str,
  'scores': {str: [float]},
  'provenance': dict,
}


@dataclasses.dataclass(frozen=True)
class Directions:
  """Directions of one method on one generator; `step(j)` is what strength 1 adds.

  Attributes:
    method: 'sefa', 'ganspace', ...
    space: 'w' (a row of w+), 'z' (what `map` makes of z: the generator's own latents where it has no mapping network),
      or 's' (all styles of a StyleGAN2, convolutions and ToRGBs in the order of the layers).
    layers: the rows of w+ that are moved; None for all of them, and in 'z' and 's'.
    vectors: (k, d) float32.
    units: (k,) float32: strength 1 is units[j] vectors[j].
    unit: what a strength is measured in: 'length' (of unit vectors) or 'sigma' (standard deviations).
    scores: {name: (k,)}, by which they are ordered or chosen.
    provenance: how they were found; JSON values only.
  """

  method: str
  space: str
  layers: tuple[int, ...] | None
  vectors: np.ndarray
  units: np.ndarray
  unit: str
  scores: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  provenance: dict = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    with np.errstate(over='ignore'):  # numbers that are too large become infinity; the check is below
      vectors, units = np.asarray(self.vectors, np.float32), np.asarray(self.units, np.float32)
    if self.space not in SPACES:
      raise InputError('space', self.space, 'there is no such space', f'give one of {", ".join(SPACES)}')
    if vectors.ndim != 2 or units.shape != vectors.shape[:1]:
      shapes = f'{vectors.shape} and {units.shape}'
      raise InputError('vectors', f'shapes {shapes}', 'vectors and units do not fit', 'give (k, d) and (k,)')
    for name, array in (('vectors', vectors), ('units', units)):
      if not np.isfinite(array).all():
        where = int(np.argwhere(~np.isfinite(array))[0][0])
        raise NonFiniteError(name, f'direction {where}', f'{self.method} gave no finite numbers', 'check the generator')
    object.__setattr__(self, 'vectors', vectors)
    object.__setattr__(self, 'units', units)
    object.__setattr__(self, 'layers', None if self.layers is None else tuple(int(row) for row in self.layers))
    object.__setattr__(self, 'scores', {name: np.asarray(x, np.float64) for name, x in self.scores.items()})

  def __len__(self) -> int:
    return len(self.vectors)

  def step(self, j: int) -> np.ndarray:
    """(d,): the step that direction j adds at strength 1."""
    if not 0 <= j < len(self):
      raise InputError('direction', j, f'there are {len(self)}', f'give one from 0 to {len(self) - 1}')
    return self.units[j] * self.vectors[j]

  def first(self, n: int) -> 'Directions':
    """The first n directions."""
    scores = {name: values[:n] for name, values in self.scores.items()}
    return dataclasses.replace(self, vectors=self.vectors[:n], units=self.units[:n], scores=scores)

  def save(self, folder: str | os.PathLike) -> None:
    """Writes directions.npy (k, d), and directions.json with everything else."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = {
      'method': self.method,
      'space': self.space,
      'layers': None if self.layers is None else list(self.layers),
      'unit': self.unit,
      'units': [float(x) for x in self.units],
      'scores': {name: [float(x) for x in values] for name, values in self.scores.items()},
      'provenance': self.provenance,
    }
    write_atomically(folder / ARRAY, npy_bytes(self.vectors))
    write_json(folder / RECORD, record)


def load(folder: str | os.PathLike) -> Directions:
  """Reads what `Directions.save` wrote.

  Raises:
    InputError: the files are missing, or were not written by `Directions.save`.
  """
  folder = Path(folder)
  try:
    vectors, record = read_npy(folder / ARRAY, 'directions', [2]), read_json(folder / RECORD, 'directions', FORM)
    return Directions(vectors=vectors, **{name: record[name] for name in FORM})
  except InputError as error:
    problem = f'no directions can be read there ({error.problem})'
    raise InputError('directions', folder, problem, 'give a folder that `panda-jax discover` wrote') from error
