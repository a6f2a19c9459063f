"""Arrays in files that may be malicious: `.npy` and `.npz`, read without trust.

A header is matched against the form that numpy writes, and no part of it is evaluated. Its sizes must agree with the
size of the file before memory is allocated. Members of an `.npz` are stored, or compressed if the caller allows it,
with the sizes in its directory; both formats are numpy's own, the second one is a zip file.
"""

import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from typing import IO, NamedTuple

import ml_dtypes
import numpy as np

from panda_jax.errors import InputError, refusal
from panda_jax.files.access import open_regular

NUMBERS = 'fiub'  # kinds of dtypes: floating point, whole numbers, and booleans
TEXT = 'U'
LARGEST = 2 << 30  # bytes of a file that is read at once
LARGEST_PACKED = 256 << 20  # bytes of compressed members together: a zip bomb unpacks to a thousand times its size
LONGEST_HEADER = 10_000  # bytes, the limit of numpy
MOST_DIMENSIONS = 32
MOST_MEMBERS = 256
LONGEST_NAME = 200  # characters of a member's name
LARGEST_TEXT = 16 << 20  # characters of a text
FLOAT32 = float(np.finfo(np.float32).max)  # values that are read become float32 later
SAVED = 'write it with numpy.save'

# No text can be matched in two ways, so the time to reject one depends only on its length.
_WHOLE = r'-?\d{1,30}L?\s*'
_VALUE = rf"'[^'\\]{{0,40}}'|True|False|\(\s*(?:{_WHOLE}(?:,\s*{_WHOLE}){{0,63}}(?:,\s*)?)?\)|\[[^\]]*\]"
_ENTRY = rf"\s*'(descr|fortran_order|shape)'\s*:\s*({_VALUE})\s*"
_HEADER = re.compile(rf'\s*\{{{_ENTRY},{_ENTRY},{_ENTRY},?\s*\}}\s*(?:#([^\n]{{0,80}})\n)?', re.DOTALL)
_TYPE = re.compile(r"'([<>|=]?)([a-zA-Z?])(\d{0,9})(\[[^\]']*\])?'")
_KINDS = {'c': 'complex numbers', 'O': 'Python objects', 'M': 'dates', 'm': 'times', 'U': 'text', 'S': 'bytes'}
_SIZES = {'f': (2, 4, 8), 'i': (1, 2, 4, 8), 'u': (1, 2, 4, 8), 'b': (1,)}
DAMAGES = zipfile.BadZipFile, zlib.error, struct.error, OverflowError, NotImplementedError, RuntimeError  # of zipfile
_END = struct.Struct('<4s4H2IH')  # of a zip file: disks, entries, the directory's size and place, a comment's length
_LOCATOR = 20  # bytes before that, where a 64-bit directory is announced


class Header(NamedTuple):
  """The header of a `.npy` file, which comes before the numbers.

  Attributes:
    shape, dtype: as stored; two opaque bytes, as which numpy writes bfloat16, are read as bfloat16.
    fortran: the first index varies fastest.
    offset: bytes before the numbers.
    comment: text after the header's dict, which is a Python literal; numpy writes none, and ignores it.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  fortran: bool
  offset: int
  comment: str = ''

  @property
  def nbytes(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], size: int, kinds: str = NUMBERS) -> Header:
  """The header of a `.npy` file of `size` bytes; the file is then positioned at its numbers.

  Args:
    file: at its beginning.
    size: of the whole file, which must be that of the header and the numbers that it describes.
    kinds: the kinds of dtypes that are accepted; with 'V', two opaque bytes as bfloat16.

  Raises:
    ValueError: with a text that says what is wrong.
  """
  start = file.read(8)
  if start[:6] != b'\x93NUMPY' or len(start) < 8:
    raise ValueError('it is not a .npy array')
  version = start[6]
  if version not in (1, 2, 3):
    raise ValueError(f'it is not a .npy array of a known version, but of {version}')
  width = 2 if version == 1 else 4
  length = int.from_bytes(file.read(width), 'little')
  if length > LONGEST_HEADER:
    raise ValueError(f'its header claims {length} bytes, more than {LONGEST_HEADER}')
  text = file.read(length)
  if len(text) < length:
    raise ValueError('it is cut short within its header')
  found = _HEADER.fullmatch(text.decode('latin-1'))
  *words, comment = found.groups(default='') if found else ['']
  entries = dict(zip(words[::2], words[1::2], strict=True))
  if len(entries) < 3 or entries['fortran_order'] not in ('True', 'False') or entries['shape'][0] != '(':
    raise ValueError('its header is none that numpy writes')
  shape, dtype = _shape_of(entries['shape']), _dtype_of(entries['descr'], kinds)
  header = Header(shape, dtype, entries['fortran_order'] == 'True', 8 + width + length, comment)
  held = size - header.offset
  if held != header.nbytes:
    what = 'cut short' if held < header.nbytes else 'longer than its header says'
    raise ValueError(f'it is {what}: {held} of {header.nbytes} bytes of data')
  return header


def _shape_of(text: str) -> tuple[int, ...]:
  numbers = [int(piece.strip().removesuffix('L')) for piece in text[1:-1].split(',') if piece.strip()]
  if len(numbers) > MOST_DIMENSIONS:
    raise ValueError(f'it has {len(numbers)} dimensions')
  if any(n < 0 or n >= 1 << 62 for n in numbers):
    raise ValueError('its header claims a negative or an absurd size')
  return tuple(numbers)


def _dtype_of(text: str, kinds: str) -> np.dtype:
  if text.startswith('['):
    raise ValueError('it holds records of several fields, not numbers')
  found = _TYPE.fullmatch(text)
  if not found:
    raise ValueError(f'its type is unknown: {text[:40]}')
  order, kind, digits, _ = found.groups()
  kind, size = ('b', 1) if kind == '?' else (kind, int(digits or 0))
  if kind == 'V' and size == 2 and 'V' in kinds:
    return np.dtype(ml_dtypes.bfloat16)
  if kind == TEXT and TEXT in kinds and 0 < size <= LARGEST_TEXT:
    return np.dtype(f'{order}U{size}')
  if kind not in kinds or size not in _SIZES.get(kind, ()):
    raise ValueError(f'it holds {_KINDS.get(kind, f"values of type {text[1:-1]}")}, not real numbers')
  return np.dtype(f'{order}{kind}{size}')


def _in_order(flat: np.ndarray, header: Header) -> np.ndarray:
  return flat.reshape(header.shape, order='F' if header.fortran else 'C')


def read_npy(
  path: str | os.PathLike,
  argument: str,
  dimensions: Sequence[int] | None = None,
  *,
  kinds: str = NUMBERS,
  remedy: str = SAVED,
  largest: int = LARGEST,
) -> np.ndarray:
  """A numeric `.npy` array, finite.

  Args:
    path: of a regular file.
    argument, remedy: of the InputError.
    dimensions: the numbers of dimensions that it may have.
    kinds: of dtypes, see `read_header`.
    largest: the most bytes of the file.

  Raises:
    InputError: it is missing, is not such an array, or holds NaN or infinity.
  """
  with open_regular(path, argument, remedy, largest) as file:
    try:
      header = read_header(file, os.fstat(file.fileno()).st_size, kinds)
      array = _in_order(np.frombuffer(_exactly(file, header.nbytes), header.dtype), header)
    except (ValueError, OSError, MemoryError) as error:
      raise _refused(argument, path, error, remedy) from error
  return checked_array(array, argument, path, dimensions)


def _exactly(file: IO[bytes], count: int) -> bytearray:
  content = bytearray(count)
  view, done = memoryview(content), 0
  while done < count:
    read = file.readinto(view[done:])  # type: ignore[attr-defined]  # typeshed leaves it out of IO
    if not read:
      raise ValueError('it became shorter while it was read')
    done += read
  return content


def _refused(argument: str, path, error: Exception, remedy: str) -> InputError:
  problem = 'there is not enough memory for it' if isinstance(error, MemoryError) else 'it cannot be read'
  return refusal(argument, path, problem, error, remedy)


def checked_array(array: np.ndarray, argument: str, name, dimensions: Sequence[int] | None = None) -> np.ndarray:
  """The same array, checked.

  Raises:
    InputError: it has another number of dimensions, or an entry that is NaN, or infinite in float32.
  """
  if dimensions is not None and array.ndim not in dimensions:
    wanted = ' or '.join(map(str, dimensions))
    raise InputError(
      argument, name, f'it has {array.ndim} dimensions, not {wanted}', f'give an array of {wanted} dimensions'
    )
  if array.dtype.kind in 'fV':
    step = max(1, (1 << 22) // max(1, math.prod(array.shape[1:])))  # rows at a time: a mask of all takes memory
    rows = np.atleast_1d(array)
    for first in range(0, len(rows), step):
      some = rows[first : first + step]
      wrong = ~np.isfinite(some) if some.itemsize < 8 else ~(np.abs(some) <= FLOAT32)  # this finds NaN too
      if wrong.any():
        where = np.argwhere(wrong)[0]
        where[0] += first
        raise InputError(
          argument, name, f'entry {tuple(where.tolist())} is not finite in float32', 'save finite numbers'
        )
  return array


def read_npz(
  path: str | os.PathLike,
  argument: str,
  names: Iterable[str] | None = None,
  *,
  optional: Iterable[str] = (),
  texts: Iterable[str] = (),
  packed: bool = True,
  remedy: str = 'write it with numpy.savez',
) -> dict[str, np.ndarray]:
  """Arrays of an `.npz` file by name: numbers, whose values are not checked, or single texts.

  Args:
    path: of a regular file.
    argument, remedy: of the InputError.
    names: of arrays that must exist and are read; if left out, all arrays are read.
    optional: of arrays that are read if they exist.
    texts: of arrays that are one text each.
    packed: whether compressed members are accepted, up to `LARGEST_PACKED` bytes.

  Raises:
    InputError: it is missing, is not a file of numpy, or lacks an array.
  """
  with open_regular(path, argument, remedy, LARGEST) as file:
    try:
      _check_directory(file)
      with zipfile.ZipFile(file) as archive:
        members = _members(archive, packed)
        missing = sorted({*(names or ())} - {*members})
        if missing:
          raise ValueError(f'it lacks {", ".join(missing)}')
        wanted = members if names is None else [name for name in (*names, *optional) if name in members]
        return {name: _member(archive, members[name], TEXT if name in {*texts} else NUMBERS) for name in wanted}
    except (ValueError, OSError, EOFError, MemoryError, *DAMAGES) as error:
      raise _refused(argument, path, error, remedy) from error


def _check_directory(file: IO[bytes]) -> None:
  """Raises ValueError unless a zip file ends as numpy's do, with a small directory, since zipfile reads all of it."""
  size = file.seek(0, os.SEEK_END)
  file.seek(max(0, size - _END.size - _LOCATOR))
  tail = file.read()
  if len(tail) < _END.size or tail[-_END.size :][:4] != b'PK\x05\x06':
    raise ValueError('it is not an .npz file, or cut short')
  _, _, _, _, count, length, _, _ = _END.unpack(tail[-_END.size :])
  if tail[: -_END.size].startswith(b'PK\x06\x07'):
    raise ValueError('it has the directory of a far larger file')
  if count > MOST_MEMBERS or length > MOST_MEMBERS * (LONGEST_NAME + 200):
    raise ValueError(f'it has more than {MOST_MEMBERS} members')
  file.seek(0)


def _members(archive: zipfile.ZipFile, packed: bool) -> dict[str, zipfile.ZipInfo]:
  """Members by the names of their arrays."""
  found: dict[str, zipfile.ZipInfo] = {}
  methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if packed else (zipfile.ZIP_STORED,)
  for member in archive.infolist():
    name = member.filename.removesuffix('.npy')
    if len(name) > LONGEST_NAME or name == member.filename or not name.isprintable():
      raise ValueError('the name of a member is none that numpy writes')
    if name in found:
      raise ValueError(f'its member {name[:40]} is there twice')
    if member.flag_bits & 1:
      raise ValueError(f'its member {name[:40]} is encrypted')
    if member.compress_type not in methods:
      raise ValueError(f'its member {name[:40]} is compressed' + (' in an unknown way' if packed else ''))
    if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
      raise ValueError(f'its member {name[:40]} has two sizes')
    found[name] = member
  if sum(m.file_size for m in found.values() if m.compress_type != zipfile.ZIP_STORED) > LARGEST_PACKED:
    raise ValueError(f'its compressed members claim more than {LARGEST_PACKED >> 20} MB')
  if sum(m.compress_size for m in found.values()) > archive.start_dir:
    raise ValueError('its members overlap')
  return found


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kinds: str) -> np.ndarray:
  with archive.open(member) as file:
    header = read_header(file, member.file_size, kinds)
    content = _exactly(file, header.nbytes)
    if file.read(1):  # also compares the checksum
      raise ValueError('a member is longer than it says')
  if header.dtype.kind == TEXT and header.shape != ():
    raise ValueError('a text in it is a list')
  return _in_order(np.frombuffer(content, header.dtype), header)


def npy_bytes(array: np.ndarray) -> bytes:
  """The bytes that numpy.save writes for an array."""
  buffer = io.BytesIO()
  np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
  return buffer.getvalue()


def npz_bytes(packed: bool = False, **arrays: np.ndarray) -> bytes:
  """The bytes that numpy.savez writes for arrays; with `packed`, members are compressed."""
  buffer = io.BytesIO()
  save = np.savez_compressed if packed else np.savez
  save(buffer, **arrays)  # type: ignore[arg-type]  # mypy mistakes an array for the flag allow_pickle
  return buffer.getvalue()
