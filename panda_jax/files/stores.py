"""Arrays in a folder, in Orbax's format: written, and checked before any of them is read.

Orbax keeps all arrays in one key-value store (OCDBT): a manifest names a node, the node lists the keys, and each array
has a description (.zarray) and one chunk of bytes, compressed by zstd. In each of these places a few bytes can claim
any size, so `stored` follows them with bounded reads only, and refuses anything that `write` does not write.

Orbax and TensorStore are imported at the first use, since that takes most of a second.
"""

import contextlib
import logging
import math
import os
import re
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from panda_jax.errors import Interrupted
from panda_jax.files import zstd
from panda_jax.files.records import misfit, parsed_json

MANIFEST, TREE = 'manifest.ocdbt', '_METADATA'
LARGEST = 16 << 30  # bytes of all files
MOST_FILES, DEEPEST = 1000, 4
MOST_ARRAYS = 4096
LARGEST_RECORD = 4 << 20  # bytes of each file that describes the others
LARGEST_NODE = 4 << 20  # bytes of the list of keys, decompressed
LARGEST_ENTRY = 4096  # bytes of an array's description
MOST_AXES = 8
# Limit on the bytes that arrays claim together: learnt weights hardly compress; a few arrays are constant.
CLAIMED, CLAIMED_MORE = 4, 64 << 20
# A compressor may begin a block before the last one is full, and only the number of blocks is known.
EXPANDED, EXPANDED_MORE = 4, 1 << 20
HEADER, TRAILER = 14, 4  # bytes of a manifest or node around its contents
LOCATION = re.compile(r'(?:btreenode|value):((?:[\w.-]+/)*):([\w.-]+(?:/[\w.-]+)*):(\d{1,15}):(\d{1,15})')
ZARRAY = {
  'zarr_format': int,
  'shape': [int],
  'chunks': [int],
  'dtype': str,
  'order': str,
  'filters': None,
  'compressor': ({'id': str}, None),
  'dimension_separator?': str,
}
DTYPES = ('<f2', '<f4', '<f8', '|b1', '|i1', '|u1', '<i2', '<u2', '<i4', '<u4', '<i8', '<u8')


class Kind(NamedTuple):
  """Shape and type of an array."""

  shape: tuple[int, ...]
  dtype: np.dtype

  def __str__(self) -> str:
    return f'{self.dtype} {self.shape}'


def write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes arrays by their dotted names into a new folder.

  Raises:
    OSError: with the system's reason.
  """
  import orbax.checkpoint as ocp

  try:
    with quiet(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
      checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(_nested(arrays)))
    # It contains a path of this machine, and no reader needs it.
    (folder / 'commit_success.txt').unlink(missing_ok=True)
  except Exception as error:  # Orbax and TensorStore pass on any error of their file layer
    raise OSError(told(error)) from error


def stored(folder: Path, most: int | None = None) -> dict[str, Kind]:
  """{dotted name: kind} of the arrays in a folder, after a check of every file and every claimed size.

  Args:
    folder: written by `write`, or by a checkpointer of Orbax.
    most: the most bytes of all arrays; if left out, a limit for learnt weights in files of these sizes.

  Raises:
    ValueError: something in it differs from what `write` writes; the text says what.
  """
  try:
    return _stored(folder, most)
  except OSError as error:
    raise ValueError(error.strerror or told(error)) from error


def read(folder: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
  """The arrays of a folder that `stored` has checked.

  Raises:
    ValueError: they are damaged, with the reason.
  """
  import jax
  import orbax.checkpoint as ocp

  try:
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), _nested(dict.fromkeys(names, 0)))
    with quiet(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
      return _flattened(checkpointer.restore(folder.absolute(), args=ocp.args.PyTreeRestore(restore_args=as_numpy)))
  except Exception as error:
    raise ValueError(told(error)) from error


def _ignored(_: object) -> None:
  pass


@contextlib.contextmanager
def silent_threads() -> Iterator[None]:
  """Keeps the threads of a library from printing tracebacks of errors that it also raises."""
  hooks = threading.excepthook, sys.unraisablehook

  def only_signals(ignored):
    if isinstance(ignored.exc_value, Interrupted):
      hooks[1](ignored)

  logger = logging.getLogger('asyncio')
  level = logger.level
  threading.excepthook, sys.unraisablehook = _ignored, only_signals
  logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    threading.excepthook, sys.unraisablehook = hooks
    logger.setLevel(level)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Keeps Orbax and TensorStore from printing errors that they also raise."""
  logger = logging.getLogger('absl')
  level, hook = logger.level, sys.excepthook
  logger.setLevel(logging.CRITICAL)
  sys.excepthook = lambda *_: None  # TensorStore's threads report to it
  try:
    with silent_threads():
      yield
  finally:
    sys.excepthook = hook
    logger.setLevel(level)


def told(error: Exception) -> str:
  """The cause of an error of Orbax or TensorStore: the system's reason if it has one, else its first line."""
  reason = re.search(r'([^:\n]+) \[os_error_code', str(error))
  lines = [reason.group(1)] if reason else str(error).strip().splitlines() or [type(error).__name__]
  return lines[0].strip()[:160]


def _nested(flat: Mapping[str, object]) -> dict:
  tree: dict = {}
  for name, value in flat.items():
    *parents, last = name.split('.')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = value
  return tree


def _flattened(tree: object, prefix: str = '') -> dict[str, Any]:
  if not isinstance(tree, dict):
    return {prefix: tree}
  flat: dict[str, Any] = {}
  for name, value in tree.items():
    flat |= _flattened(value, f'{prefix}.{name}' if prefix else str(name))
  return flat


def _stored(folder: Path, most: int | None) -> dict[str, Kind]:
  files = _files(folder)
  node = _node(folder, files)
  if len(node) > 2 * MOST_ARRAYS:
    raise ValueError(f'there are more than {MOST_ARRAYS} arrays')
  described: dict[str, tuple[Kind, bool]] = {}
  chunks: dict[tuple[str, str], dict] = {}
  for entry in node:
    name, _, part = bytes(entry['key']).decode('ascii', 'replace').rpartition('/')
    if part == '.zarray':
      described[name] = _kind(name, _value(folder, files, entry, LARGEST_ENTRY))
    else:
      chunks[name, part] = entry
  claimed = sum(math.prod(kind.shape) * kind.dtype.itemsize for kind, _ in described.values())
  if claimed > (CLAIMED * sum(files.values()) + CLAIMED_MORE if most is None else most):
    raise ValueError(f'its arrays claim {claimed >> 20} MB, far more than its files hold')
  for name, (kind, compressed) in described.items():
    chunked = chunks.pop((name, '.'.join('0' * len(kind.shape)) or '0'), None)
    if chunked is None:
      raise ValueError(f'{name} has no numbers')
    size = math.prod(kind.shape) * kind.dtype.itemsize
    chunk = _value(folder, files, chunked, LARGEST)
    most = zstd.most(chunk) if compressed else len(chunk)
    if most > EXPANDED * size + EXPANDED_MORE:
      raise ValueError(f'{name} unfolds to more than its {size} bytes')
  if chunks:
    raise ValueError(f'{next(iter(chunks))[0]} has parts that no array has')
  _check_tree(folder / TREE, set(described))
  return {name: kind for name, (kind, _) in described.items()}


def _files(folder: Path) -> dict[str, int]:
  """{path in the folder: bytes} of its files, which are regular ones, or links to regular ones."""
  sizes, waiting = {}, [(folder, 0)]
  while waiting:
    place, depth = waiting.pop()
    for path in map(place.joinpath, os.listdir(place)):
      name, found = path.relative_to(folder).as_posix(), os.stat(path)
      if stat.S_ISDIR(found.st_mode) and depth < DEEPEST:
        waiting.append((path, depth + 1))
      elif not stat.S_ISREG(found.st_mode):
        raise ValueError(f'{name} in it is not a regular file')
      else:
        sizes[name] = found.st_size
      if len(sizes) + len(waiting) > MOST_FILES:
        raise ValueError(f'there are more than {MOST_FILES} files')
      data = path.parent.name == 'd'
      if not data and sizes.get(name, 0) > LARGEST_RECORD:
        raise ValueError(f'{name} in it has {sizes[name]} bytes')
      if not data and path.name.startswith('manifest.') and path.name != MANIFEST:
        raise ValueError(f'{name} is none of its files')
  if sum(sizes.values()) > LARGEST:
    raise ValueError(f'its files have more than {LARGEST >> 30} GB')
  return sizes


def _node(folder: Path, files: dict[str, int]) -> list[dict]:
  """The entries of the only node of the store."""
  import tensorstore as ts

  def dumped(*node: str) -> dict:
    try:
      with quiet():
        store = ts.KvStore.open({'driver': 'file', 'path': f'{folder.absolute()}/'}).result()
        return ts.ocdbt.dump(store, *node).result()
    except Exception as error:  # TensorStore passes on any error of its file layer
      raise ValueError(told(error)) from error

  if MANIFEST not in files:
    raise ValueError(f'there is no {MANIFEST} in it')
  _check_expanded((folder / MANIFEST).read_bytes())
  versions = dumped()['versions']
  root = versions[-1]['root'] if versions and not versions[-1].get('root_height') else {}
  location = str(root.get('location'))
  if not location.startswith('btreenode:'):
    raise ValueError('it has no single list of keys')
  _check_expanded(_slice(folder, files, location, LARGEST_RECORD))
  return dumped(location)['entries']


def _check_expanded(raw: bytes) -> None:
  """Raises ValueError if a manifest or node may decompress to too many bytes."""
  compressed = raw[HEADER - 1 : HEADER] != b'\0'
  if compressed and zstd.most(raw[HEADER:-TRAILER]) > LARGEST_NODE:
    raise ValueError('its list of keys unfolds to too many')


def _value(folder: Path, files: dict[str, int], entry: dict, largest: int) -> bytes:
  """The bytes stored under a key."""
  if 'inline_value' in entry:
    return bytes(entry['inline_value'])
  return _slice(folder, files, str(entry.get('indirect_value')), largest)


def _slice(folder: Path, files: dict[str, int], location: str, largest: int) -> bytes:
  """The bytes at a location that the store names, in a file of this folder."""
  found = LOCATION.fullmatch(location)
  name = f'{found[1]}{found[2]}' if found else ''
  if found is None or name not in files:
    raise ValueError('it refers to a file that is not in it')
  start, length = int(found[3]), int(found[4])
  if start + length > files[name] or length > largest:
    raise ValueError(f'{name} in it is too short, or one entry too long')
  with open(folder / name, 'rb') as file:
    file.seek(start)
    return file.read(length)


def _kind(name: str, description: bytes) -> tuple[Kind, bool]:
  """The kind in an array's description, and whether its chunk is compressed."""
  found = parsed_json(description, ZARRAY)
  shape, compressor = found['shape'], found['compressor']
  fits = (
    found['zarr_format'] == 2
    and len(shape) <= MOST_AXES
    and all(0 < size < 1 << 40 for size in shape)
    and found['chunks'] == shape
    and found['dtype'] in DTYPES
    and found['order'] == 'C'
    and found.get('dimension_separator', '.') == '.'
    and (compressor is None or compressor['id'] == 'zstd')
  )
  if not fits:
    raise ValueError(f'{name} is described in another way than ours')
  return Kind(tuple(shape), np.dtype(found['dtype'])), compressor is not None


def _check_tree(path: Path, names: set[str]) -> None:
  """Raises ValueError unless Orbax's own metadata lists the same arrays."""
  tree = parsed_json(path.read_bytes(), {'tree_metadata': dict, 'use_zarr3?': (bool, None)})
  leaves = list(tree['tree_metadata'].values())
  wrong = misfit(leaves, [{'key_metadata': [{'key': str}]}], TREE)
  if wrong:
    raise ValueError(wrong)
  listed = {'.'.join(part['key'] for part in leaf['key_metadata']) for leaf in leaves}
  if tree.get('use_zarr3') or listed != names or len(leaves) != len(names):
    raise ValueError(f'{TREE} is of other arrays than are stored')
