"""Files of latents: z, w or w+ as `.npy`, and the files of NVlabs' projector.

Our files record their space: numpy's header, a Python literal, ends with a comment such as `# space: w`. It stays with
the file, and numpy and other readers of `.npy` files ignore it. We never write a z.npy: a user who gives a file this
name says that it holds z.
"""

import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from panda_jax.errors import InputError
from panda_jax.files.access import open_regular
from panda_jax.files.arrays import checked_array, read_header, read_npy, read_npz
from panda_jax.generators.spaces import SPACES, space_of

REMEDY = 'give a .npy file of z, w or w+, the projected_w.npz of a projector, or a folder that invert wrote'
_RECORD = re.compile(r' space: (\w+)\s*')
_MAGIC = np.lib.format.magic(1, 0)
_ALIGNED = 64  # the length of a header in bytes is a multiple of this, as numpy's is


class Latents(NamedTuple):
  """Samples of a generator.

  Attributes:
    array: (N, z_dim), (N, w_dim) or (N, L, w_dim), float32.
    space: 'z', 'w' or 'wplus', see generators/spaces.py.
  """

  array: np.ndarray
  space: str


def header(shape: Sequence[int], space: str) -> bytes:
  """The start of a `.npy` file of float32 latents, up to the numbers."""
  content = {'descr': '<f4', 'fortran_order': False, 'shape': tuple(shape)}
  text = f'{content}  # space: {space}'.encode()
  text += b' ' * (-(len(_MAGIC) + 2 + len(text) + 1) % _ALIGNED) + b'\n'
  return _MAGIC + struct.pack('<H', len(text)) + text


def npy_bytes(latents: Latents) -> bytes:
  """A `.npy` file of latents that records its space."""
  return header(latents.array.shape, latents.space) + np.ascontiguousarray(latents.array, '<f4').tobytes()


def recorded_space(path: str | os.PathLike) -> str | None:
  """The space that a `.npy` file records, or None."""
  with open_regular(path, 'latents', REMEDY) as file:
    found = _RECORD.fullmatch(read_header(file, os.fstat(file.fileno()).st_size).comment)
  return found[1] if found else None


def read(path: str | os.PathLike, generator, space: str | None = None) -> Latents:
  """Latents of a generator from a file.

  Args:
    path: a `.npy` file, or a `.npz` file with one array, with one named like the space, or with one named w, as NVlabs'
      projector writes.
    generator: see the protocol.
    space: that of the array. If left out, the space that the file records, else the one with this shape. A name in a
      `.npz` file records it too, but an array of three dimensions is always w+.

  Raises:
    InputError: it cannot be read, has a number that is not finite, has an unclear space, or is not of this generator.
  """
  array, recorded = (_of_npz if str(path).endswith('.npz') else _of_npy)(path, space)
  if array.dtype.kind not in 'fiu' or array.ndim not in (2, 3) or not array.size:
    text = f'{"x".join(map(str, array.shape)) or "scalar"} of {array.dtype}'
    raise InputError('latents', path, f'it holds {text}, which are not latents', REMEDY)
  return Latents(array.astype(np.float32), space_of(generator, array.shape, space, recorded, path))


def _of_npy(path: str | os.PathLike, space: str | None) -> tuple[np.ndarray, str | None]:
  array = read_npy(path, 'latents', remedy=REMEDY)
  return array, recorded_space(path) or ('z' if Path(path).name == 'z.npy' else None)


def _of_npz(path: str | os.PathLike, space: str | None) -> tuple[np.ndarray, str | None]:
  names = [name for name in (space, 'w') if name]
  found = read_npz(path, 'latents', (), optional=names, remedy=REMEDY) or read_npz(path, 'latents', remedy=REMEDY)
  wanted = next((name for name in names if name in found), min(found, default=''))
  if not found or (len(found) > 1 and wanted not in names):
    raise InputError('latents', path, f'it holds {", ".join(found) or "nothing"}, and no w', REMEDY)
  array = checked_array(found[wanted], 'latents', path)
  named = wanted if wanted in SPACES else None
  return array, 'wplus' if named and array.ndim == 3 else named
