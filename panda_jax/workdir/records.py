"""Shared by all results: options for writing, and the record that is written last."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import npy_bytes
from panda_jax.files.records import write_json
from panda_jax.runtime.environment import versions


@dataclasses.dataclass(frozen=True)
class Options:
  """Options for writing results.

  Attributes:
    overwrite: replace other results in the folder.
    command: for the record, so that it can be repeated.
    on_samples: called with the name of the pass and the number of samples done.
    on_note: called with a sentence for each request without effect.
  """

  overwrite: bool = False
  command: str = ''
  on_samples: Callable[[str, int], None] = lambda name, n: None
  on_note: Callable[[str], None] = lambda text: None


DEFAULT = Options()


def sha256(array) -> str:
  """SHA-256 (hex) of an array, its shape and its type."""
  array = np.ascontiguousarray(array)
  return hashlib.sha256(f'{array.shape} {array.dtype}'.encode() + array.tobytes()).hexdigest()


def write_arrays(out: Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes arrays by their file names."""
  for name, array in arrays.items():
    write_atomically(out / name, npy_bytes(array))


def finish(out: Path, name: str, settings: dict, told: dict, arrays: dict, options: Options) -> None:
  """Writes the record, last: results with a record are complete."""
  record = {'settings': settings, **told, 'command': options.command}
  record['pictures'] = sorted(path.name for path in out.glob('*.png'))
  record |= {'arrays': {name: list(array.shape) for name, array in arrays.items()}, 'versions': versions()}
  write_json(out / name, record)
  for note in told['notes']:
    options.on_note(note)
