"""The zip files of `torch.save`, written without torch: data.pkl, opcode by opcode, and the storages beside it.

Only opcodes that `torch.load(weights_only=True)` accepts are written, and only globals that rebuild tensors.
"""

import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from panda_jax.converters.globals import STORAGE_TYPES

STORAGES = {np.dtype(dtype): name for name, dtype in STORAGE_TYPES.items()}


@dataclass
class Global:
  """A global by name."""

  module: str
  name: str

  def opcodes(self, inner: Callable[[Any], bytes]) -> bytes:
    return f'c{self.module}\n{self.name}\n'.encode()


@dataclass
class Call:
  """A global called with arguments, REDUCE or NEWOBJ; then items are set and a state is built, if they are given."""

  module: str
  name: str
  args: tuple = ()
  items: dict = field(default_factory=dict)
  state: object = None
  new: bool = False

  def opcodes(self, inner: Callable[[Any], bytes]) -> bytes:
    code = inner(Global(self.module, self.name)) + inner(self.args) + (b'\x81' if self.new else b'R')
    if self.items:
      code += b'(' + b''.join(inner(key) + inner(item) for key, item in self.items.items()) + b'u'
    return code if self.state is None else code + inner(self.state) + b'b'


@dataclass
class Persistent:
  """A persistent id."""

  pid: tuple

  def opcodes(self, inner: Callable[[Any], bytes]) -> bytes:
    return inner(self.pid) + b'Q'


@dataclass(eq=False)
class Storage:
  """A torch storage; compared by identity, so that tensors can share one."""

  data: np.ndarray


@dataclass
class Tensor:
  """A torch tensor on a storage. Offset and strides in elements; those of a contiguous array by default."""

  storage: Storage
  shape: tuple
  strides: tuple | None = None
  offset: int = 0

  def call(self, storage: object) -> Call:
    """The call that rebuilds it from an object that stands for its storage."""
    strides = self.strides
    if strides is None:
      strides = tuple(int(np.prod(self.shape[i + 1 :])) for i in range(len(self.shape)))
    arguments = (storage, self.offset, tuple(self.shape), tuple(strides), False, Call('collections', 'OrderedDict'))
    return Call('torch._utils', '_rebuild_tensor_v2', arguments)


def emit(value: Any, replace: Callable[[Any], Any] = lambda value: value) -> bytes:
  """The opcodes of a value, in protocol 2 but with bytes as in protocol 3; `replace` is applied to each value first."""
  value = replace(value)

  def inner(item: Any) -> bytes:
    return emit(item, replace)

  if value is None or isinstance(value, bool):
    return {None: b'N', True: b'\x88', False: b'\x89'}[value]
  if isinstance(value, int):
    size = (value.bit_length() + 8) // 8
    return b'\x8a' + bytes([size]) + value.to_bytes(size, 'little', signed=True)
  if isinstance(value, float):
    return b'G' + struct.pack('>d', value)
  if isinstance(value, str):
    raw = value.encode()
    return b'X' + struct.pack('<I', len(raw)) + raw
  if isinstance(value, bytes):
    return b'B' + struct.pack('<I', len(value)) + value
  if isinstance(value, tuple):
    return b'(' + b''.join(map(inner, value)) + b't'
  if isinstance(value, list):
    return b'](' + b''.join(map(inner, value)) + b'e'
  if isinstance(value, dict):
    return b'}(' + b''.join(inner(key) + inner(item) for key, item in value.items()) + b'u'
  if hasattr(value, 'opcodes'):
    return value.opcodes(inner)
  raise TypeError(f'a {type(value).__name__} is not written')


def pickled(value: Any, replace: Callable[[Any], Any] = lambda value: value, protocol: int = 2) -> bytes:
  """A complete pickle."""
  return b'\x80' + bytes([protocol]) + emit(value, replace) + b'.'


def as_tensor(array: np.ndarray) -> Tensor:
  """A tensor with its own storage."""
  array = np.asarray(array)
  return Tensor(Storage(array.reshape(-1)), array.shape)


def ordered(arrays: Mapping[str, object]) -> Call:
  """An OrderedDict, as in torch's state dicts; arrays become tensors with their own storages."""
  items = {key: as_tensor(a) if isinstance(a, np.ndarray | np.generic) else a for key, a in arrays.items()}
  return Call('collections', 'OrderedDict', items=items)


class Storages:
  """Gives keys to storages, and replaces them by persistent ids: a `replace` function for `emit`.

  Args:
    device: of the tensors.

  Attributes:
    found: the storages, in the order of their keys.
  """

  def __init__(self, device: str = 'cpu'):
    self.found: list[Storage] = []
    self._keys: dict[int, str] = {}
    self._device = device

  def __call__(self, value: Any) -> Any:
    if isinstance(value, np.ndarray):
      value = as_tensor(value)
    if isinstance(value, Tensor):
      return value.call(value.storage)
    return Persistent(self.pid(value)) if isinstance(value, Storage) else value

  def pid(self, storage: Storage) -> tuple:
    """The persistent id of a storage."""
    if id(storage) not in self._keys:
      self._keys[id(storage)] = str(len(self.found))
      self.found.append(storage)
    kind = Global('torch', STORAGES[storage.data.dtype.newbyteorder('=')])
    return 'storage', kind, self._keys[id(storage)], self._device, storage.data.size


def write_torch(file: BinaryIO, tree: Mapping[str, object]) -> None:
  """Writes nested dicts of arrays as `torch.save` writes state dicts; the same tree gives the same bytes."""

  def nested(value: Mapping[str, object]) -> Call:
    return ordered({key: nested(item) if isinstance(item, Mapping) else item for key, item in value.items()})

  storages = Storages()
  members = {'data.pkl': pickled(nested(tree), storages), 'byteorder': b'little', 'version': b'3\n'}
  with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
    for name, contents in members.items():
      archive.writestr(zipfile.ZipInfo(f'archive/{name}'), contents)
    for key, storage in enumerate(storages.found):
      little = storage.data.astype(storage.data.dtype.newbyteorder('<'), copy=False)
      archive.writestr(zipfile.ZipInfo(f'archive/data/{key}'), little.tobytes())
