"""The contents of a checkpoint file, read without torch and without running anything in the file.

The container is recognised by content: zip and legacy torch files, safetensors, and pickles of whole networks of
PyTorch or TensorFlow, as NVlabs' code and its forks write them. Reading takes as much memory as the file has bytes,
since arrays are views of it, and a limited number of objects besides (limits.py).
"""

import dataclasses
import hashlib
import json
import os
import re
import stat
from pathlib import Path

import numpy as np

from panda_jax.converters.globals import Storage, finder, snapshot_globals, storage_id
from panda_jax.converters.limits import Budget, Refused, Unknown, damaged, not_allowed
from panda_jax.converters.pickles import Machine
from panda_jax.converters.safetensors import is_safetensors, read_safetensors
from panda_jax.converters.torchfiles import MAGIC, legacy_machine, read_legacy, read_storage, read_zip, torch_globals
from panda_jax.converters.trees import Module, TensorFlowNetwork, finished
from panda_jax.errors import InputError, refusal
from panda_jax.generators.disk import DESCRIPTION

LARGEST = 8 << 30  # bytes; the largest published checkpoints of these families are below 1 << 30
LARGEST_CONFIG = 1 << 20
SUFFIXES = '.pth', '.pt', '.pkl', '.bin', '.safetensors', '.ckpt', '.pickle', '.pth.tar'  # of files in a folder
IN_FOLDERS = 'pytorch_model.bin', 'model.safetensors'  # preferred to other files
BLOCK = 1 << 24
BEGINNING = 512  # bytes that may be blank before a web page

ADDRESS = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://')
GIVE = "give a .pth, .pt or .bin of torch.save, a .pkl of NVlabs' code, or .safetensors"
# First bytes of files that people give by mistake, what the file is, and what to do.
UNPACK = 'unpack it, and give what is in it'
MISTAKEN = (
  (b'<?xml', 'XML, as a server sends it that refuses a download', 'check its address, and download the file again'),
  (b'<Error', 'XML, as a server sends it that refuses a download', 'check its address, and download the file again'),
  (
    b'<',
    'a web page, as a full Google Drive sends it in place of a file',
    'download the file again, in a browser',
  ),
  (b'version https://git-lfs', 'a git-lfs pointer and not the file itself', 'get the file with git lfs pull'),
  (b'\x1f\x8b', 'a gzip file', UNPACK),
  (b'BZh', 'a bzip2 file', UNPACK),
  (b'\xfd7zXZ', 'an xz file', UNPACK),
  (b'(\xb5/\xfd', 'a zstd file', UNPACK),
  (b'7z\xbc\xaf', 'a 7z file', UNPACK),
  (b'Rar!', 'a rar file', UNPACK),
  (b'\x89HDF', 'an HDF5 file', GIVE),
  (b'\x93NUMPY', 'a .npy file of one array', GIVE),
  (b'\xff\xd8\xff', 'a picture (JPEG)', GIVE),
  (b'\x89PNG', 'a picture (PNG)', GIVE),
  (b'GIF8', 'a picture (GIF)', GIVE),
  (b'RIFF', 'a picture (WebP), a sound or a film', GIVE),
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A checkpoint file in memory.

  Attributes:
    container: 'zip' or 'legacy' (torch files), 'nvlabs' (a plain pickle), or 'safetensors'.
    tree: nested dicts, lists and plain values, with read-only numpy arrays (views of the file, so possibly not aligned)
      in the shape and dtype of its tensors, bfloat16 among them, `Module` and `TensorFlowNetwork` objects, and an
      `Unknown` in place of the result of each global that is not allowed.
    path: of the file.
    sha256: of the file, hexadecimal.
    size: of the file in bytes.
    config: the contents of config.json beside the file, None if there is none.
    metadata: texts beside the arrays of safetensors.
    key: the user's key of the generator, if the tree was reduced to that key; None for the whole file.
  """

  container: str
  tree: object
  path: Path
  sha256: str
  size: int
  config: dict | None
  metadata: dict[str, str] = dataclasses.field(default_factory=dict)
  key: str | None = None


def read(path: str | os.PathLike) -> Checkpoint:
  """Reads a checkpoint; in a folder, its pytorch_model.bin or model.safetensors, or its only checkpoint.

  Raises:
    InputError: missing, empty, truncated or corrupt; of no known container; with a global that is not allowed; or it
      describes more than a checkpoint of its size can hold.
  """
  if ADDRESS.match(os.fspath(path)) and not os.path.exists(path):
    raise InputError('source', path, 'it is an address and not a file', 'download it first, and give the file')
  path = Path(path)
  try:
    if path.is_dir():
      path = _within(path)
    data, sha256 = _contents(path)
    container, tree, metadata = _parsed(data)
    config = _config(path.with_name('config.json'))
  except Refused as error:
    raise InputError('source', path, error.problem, error.remedy) from None
  except MemoryError:
    raise InputError(
      'source', path, 'it does not fit into memory', 'convert it on a machine with more memory'
    ) from None
  except OSError as error:
    raise refusal('source', path, 'it cannot be read', error, 'give the path of a checkpoint') from None
  return Checkpoint(container, tree, path, sha256, len(data), config, metadata)


def _within(folder: Path) -> Path:
  """The checkpoint in a folder."""
  inside = sorted(path.name for path in folder.iterdir())
  found = [name for name in inside if name.lower().endswith(SUFFIXES) and (folder / name).is_file()]
  preferred = [name for name in IN_FOLDERS if name in found] or found
  if len(found) > 1 and preferred is found:
    raise InputError('source', folder, 'there are several checkpoints in this folder', 'give one of them', found)
  if preferred:
    return folder / preferred[0]
  if DESCRIPTION in inside:
    raise Refused('this folder is a generator already', 'give it as --generator, or convert a checkpoint')
  empty = 'this folder is empty' if not inside else f'there is no checkpoint ({", ".join(SUFFIXES)}) in this folder'
  raise Refused(empty, 'give a checkpoint file')


def _contents(path: Path) -> tuple[memoryview, str]:
  """The bytes of a file, read-only, and their SHA-256."""
  if '\0' in str(path) or not path.exists():
    raise Refused('there is no such file', 'give the path of a checkpoint')
  with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), 'rb', buffering=0) as file:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
      raise Refused('it is not a regular file', 'give the path of a checkpoint')
    if status.st_size == 0:
      raise Refused('the file is empty', 'download or copy it again')
    _check_beginning(memoryview(file.read(BEGINNING)), status.st_size)
    if status.st_size > LARGEST:
      raise Refused(f'it has {status.st_size} bytes, more than any checkpoint of these families', 'give a smaller one')
    file.seek(0)
    data = memoryview(np.empty(status.st_size, np.uint8))
    digest, filled = hashlib.sha256(), 0
    while filled < len(data):
      count = file.readinto(data[filled : filled + BLOCK])
      if not count:
        raise damaged('it became shorter while it was read')
      digest.update(data[filled : filled + count])
      filled += count
  return data.toreadonly(), digest.hexdigest()


def _check_beginning(beginning: memoryview, size: int) -> None:
  if beginning[:4] == b'PK\x03\x04' or beginning[:1] == b'\x80' or is_safetensors(beginning, size):
    return
  text = bytes(beginning).removeprefix(b'\xef\xbb\xbf').lstrip()
  known = next((told for first, *told in MISTAKEN if text.startswith(first)), None)
  found, remedy = known or ('neither a torch file nor a pickle nor safetensors', GIVE)
  raise Refused(f'it is {found}', remedy)


def _parsed(data: memoryview) -> tuple[str, object, dict[str, str]]:
  """The container, the finished tree, and metadata. Every error of the contents becomes a Refused."""
  budget = Budget(len(data))
  try:
    if is_safetensors(data, len(data)):
      arrays, metadata = read_safetensors(data, budget)
      return 'safetensors', finished(arrays, budget), metadata
    if bytes(data[:2]) == b'PK':
      return 'zip', finished(read_zip(data, budget), budget), {}
    # The first pickle distinguishes them: a legacy torch file begins with that of a magic number.
    find = finder(snapshot_globals(budget, lambda raw: read_storage(raw, budget)), budget)
    root = Machine(data, budget, find, lambda pid: Storage(*storage_id(pid)[::2])).load()
    if type(root) is not int or root != MAGIC:
      tree = finished(root, budget)
      if isinstance(tree, Unknown):
        raise not_allowed(tree)
      return 'nvlabs', tree, {}
    machine, storages = legacy_machine(data, budget, torch_globals(budget))
    machine.load()
    return 'legacy', finished(read_legacy(machine, data, budget, storages), budget), {}
  except (Refused, MemoryError):
    raise
  except Exception as error:
    # For example text that does not decode, or calls with wrong arguments: the file is always the cause.
    raise damaged(f'{type(error).__name__} while reading it') from None


def _config(path: Path) -> dict | None:
  if not path.is_file():
    return None
  if path.stat().st_size <= LARGEST_CONFIG:
    try:
      config = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
      config = None
    if isinstance(config, dict):
      return config
  raise InputError('source', path, 'this file beside the checkpoint is not a JSON object', 'correct or remove it')


__all__ = ['Checkpoint', 'Module', 'TensorFlowNetwork', 'read']
