"""The safetensors format: eight bytes with the size of a JSON header, the header, and the arrays' bytes without gaps.

Source: the description of the format in the README of github.com/huggingface/safetensors.
"""

import json
import math
from collections.abc import Mapping
from typing import BinaryIO

import ml_dtypes
import numpy as np

from panda_jax.converters.globals import counts, is_count
from panda_jax.converters.limits import Budget, Refused, damaged, shown

METADATA = '__metadata__'
DTYPES = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype(np.int64),
  'I32': np.dtype(np.int32),
  'I16': np.dtype(np.int16),
  'I8': np.dtype(np.int8),
  'U64': np.dtype(np.uint64),
  'U32': np.dtype(np.uint32),
  'U16': np.dtype(np.uint16),
  'U8': np.dtype(np.uint8),
  'BOOL': np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
OBJECT_COST = 40  # most bytes of memory per byte of JSON: empty dicts in a list
ALIGNMENT = 8
LARGEST_HEADER = 100_000_000  # bytes, a limit of the format


def is_safetensors(beginning: memoryview, size: int) -> bool:
  """Whether a file of `size` bytes looks like one: no pickle and no zip file begins with a small number and a brace."""
  return beginning[8:9] == b'{' and int.from_bytes(beginning[:8], 'little') <= max(size, LARGEST_HEADER)


def read_safetensors(data: memoryview, budget: Budget) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """The arrays of a file, as views of `data`, and its metadata.

  Raises:
    Refused: the file is damaged or has another format.
  """
  size = int.from_bytes(data[:8], 'little')
  if size > len(data) - 8:
    raise damaged(f'its header has {size} bytes where {len(data) - 8} are left')
  budget.spend(OBJECT_COST * size)
  try:
    header = json.loads(bytes(data[8 : 8 + size]), object_pairs_hook=_unlike, parse_constant=_no_number)
  except (ValueError, RecursionError):
    raise damaged('its header is not JSON') from None
  if type(header) is not dict:
    raise damaged('its header is not a JSON object')
  metadata = header.pop(METADATA, {})
  if type(metadata) is not dict or not all(type(text) is str for text in metadata.values()):
    raise damaged('its metadata are not texts')
  arrays, places = {}, []
  for name, entry in header.items():
    budget.spend(600)
    arrays[name], place = _array(name, entry, data[8 + size :])
    places.append(place)
  end = 0
  for start, stop in sorted(places):
    if start != end:
      raise damaged('its tensors overlap or leave gaps')
    end = stop
  if end != len(data) - 8 - size:
    raise damaged('bytes of it belong to no tensor')
  return arrays, metadata


def _unlike(pairs: list[tuple[str, object]]) -> dict[str, object]:
  found = dict(pairs)
  if len(found) != len(pairs):
    raise ValueError('a name is there twice')
  return found


def _no_number(_: str) -> None:
  raise ValueError('not a number')


def _array(name: str, entry: object, data: memoryview) -> tuple[np.ndarray, tuple[int, int]]:
  """An array and its place."""
  if type(entry) is not dict or entry.keys() != {'dtype', 'shape', 'data_offsets'}:
    raise damaged(f'tensor {shown(name)} has not dtype, shape and data_offsets')
  code, offsets = entry['dtype'], entry['data_offsets']
  if type(code) is not str or code not in DTYPES:
    raise Refused(f'tensor {shown(name)} is of type {shown(code, 20)}', 'save it as float32, float16 or bfloat16')
  shape, dtype = counts(entry['shape']), DTYPES[code]
  if type(offsets) is not list or len(offsets) != 2 or not all(map(is_count, offsets)):
    raise damaged(f'tensor {shown(name)} has no offsets')
  start, stop = offsets
  if not start <= stop <= len(data):
    raise damaged(f'tensor {shown(name)} reaches beyond the file')
  if math.prod(shape) * dtype.itemsize != stop - start:
    raise damaged(f'tensor {shown(name)} of shape {shape} has {stop - start} bytes')
  return np.ndarray(shape, dtype, buffer=data[start:stop]), (start, stop)


def write_safetensors(file: BinaryIO, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
  """Writes arrays of the types in `DTYPES`, and texts beside them."""
  header: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
  end = 0
  # Large types first, so that the place of each array is a multiple of its type's size.
  ordered = dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))
  for name, array in ordered.items():
    start, end = end, end + array.nbytes
    header[name] = {'dtype': NAMES[array.dtype], 'shape': list(array.shape), 'data_offsets': [start, end]}
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % ALIGNMENT)
  file.write(len(text).to_bytes(8, 'little') + text)
  for array in ordered.values():
    file.write(np.ascontiguousarray(array).tobytes())
