"""What results have in common: how they are written, and the record that comes last."""

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
  """How a command writes.

  Attributes:
    overwrite: replace other results in the folder.
    command: for the record, to do it again.
    on_samples: told of the samples that are through, by the name of the pass.
    on_note: told, in a sentence each, what was asked for and comes to nothing.
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
  """Arrays by their file names."""
  for name, array in arrays.items():
    write_atomically(out / name, npy_bytes(array))


def finish(out: Path, name: str, settings: dict, told: dict, arrays: dict, options: Options) -> None:
  """The record comes last: where it is, everything else is."""
  record = {'settings': settings, **told, 'command': options.command}
  record['pictures'] = sorted(path.name for path in out.glob('*.png'))
  record |= {'arrays': {name: list(array.shape) for name, array in arrays.items()}, 'versions': versions()}
  write_json(out / name, record)
  for note in told['notes']:
    options.on_note(note)
