"""The two containers of `torch.save`: zip files, and the older form of five pickles followed by the storages' bytes.

Sources: the files themselves, and the description of `torch.serialization` in PyTorch's documentation.
"""

import numpy as np

from panda_jax.converters.archives import Archive
from panda_jax.converters.globals import Storage, StorageType, finder, snapshot_globals, storage_id, storage_types
from panda_jax.converters.limits import Budget, Refused, damaged, shown
from panda_jax.converters.pickles import Machine

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def little_endian(kind: StorageType, raw: memoryview) -> np.ndarray:
  """The numbers of a storage (count,), read-only: a view of the file."""
  return np.ndarray(len(raw) // kind.dtype.itemsize, kind.dtype, buffer=raw)


def big_endian(kind: StorageType, raw: memoryview) -> np.ndarray:
  """The numbers of a storage (count,) in this machine's byte order, read-only."""
  # ml_dtypes' types have no byte order, so the bytes are swapped as whole numbers of that width.
  words = np.dtype(f'u{kind.dtype.itemsize}')
  turned = np.ndarray(len(raw) // words.itemsize, words, buffer=raw).byteswap().view(kind.dtype)
  turned.flags.writeable = False
  return turned


def read_zip(data: memoryview, budget: Budget) -> object:
  """The object of a zip torch file; its tensors are views of `data`.

  Raises:
    Refused: the file is damaged or has another format.
  """
  archive = Archive(data, budget)
  names = list(archive)
  pickles = [name for name in names if name.count('/') == 1 and name.endswith('/data.pkl')]
  if names and all(name.endswith('.npy') for name in names):
    raise Refused('it is an .npz of numpy arrays', 'give the checkpoint that it was made from')
  if not pickles:
    raise Refused('it is a zip file that torch.save did not write', 'unpack it, and give what is in it')
  if len(pickles) != 1:
    raise Refused(f'it is a zip file with {len(pickles)} members */data.pkl', 'give a file written by torch.save')
  stem = pickles[0].removesuffix('data.pkl')
  if f'{stem}constants.pkl' in archive:
    raise Refused('it is a TorchScript archive', 'save the state_dict of the module with torch.save')
  order = bytes(archive.read(f'{stem}byteorder')[:20]) if f'{stem}byteorder' in archive else b'little'
  if order not in (b'little', b'big'):
    raise damaged(f'its byte order is {shown(order)}')
  storages: dict[tuple[str, str], Storage] = {}

  def storage(pid: object) -> Storage:
    kind, key, count = storage_id(pid)
    if (key, kind.name) not in storages:
      raw = archive.read(f'{stem}data/{key}')
      if len(raw) != count * kind.dtype.itemsize:
        raise damaged(f'storage {shown(key)} of {count} numbers has {len(raw)} bytes')
      budget.spend(600)
      if order == b'big':
        budget.copy(len(raw))
      data_of = big_endian if order == b'big' else little_endian
      storages[key, kind.name] = Storage(kind, count, data_of(kind, raw))
    found = storages[key, kind.name]
    if found.count != count:
      raise damaged(f'storage {shown(key)} has two sizes')
    return found

  return Machine(archive.read(pickles[0]), budget, finder(torch_globals(budget)), storage).load()


def read_legacy(machine: Machine, data: memoryview, budget: Budget, storages: dict[str, Storage]) -> object:
  """The object of a legacy torch file, after its magic number; the data of its storages are set.

  Args:
    machine: positioned after the magic number; its persistent ids fill `storages`.
    data: the file.
    budget: of the file.
    storages: key to storage, filled while the object is read.

  Raises:
    Refused: the file is damaged or has another format.
  """
  protocol, system = machine.load(), machine.load()
  if type(protocol) is not int or protocol != PROTOCOL:
    raise Refused(f'it has torch protocol {shown(protocol)}', 'save it again with torch 1.0 or later')
  if type(system) is not dict or system.get('little_endian') is not True:
    raise Refused('it was written by a big-endian machine', 'save it again on a little-endian machine')
  root, keys = machine.load(), machine.load()
  if type(keys) is not list or not all(type(key) is str for key in keys):
    raise damaged('the list of storages is not a list of keys')
  if len(set(keys)) != len(keys) or set(keys) != set(storages):
    raise damaged('the list of storages is not that of its tensors')
  position = machine.position
  for key in keys:
    storage = storages[key]
    start = position + 8
    size = storage.count * storage.kind.dtype.itemsize
    if start + size > len(data):
      raise damaged(f'storage {shown(key)} needs {size} bytes where {max(len(data) - start, 0)} are left')
    if int.from_bytes(data[position:start], 'little', signed=True) != storage.count:
      raise damaged(f'storage {shown(key)} has two sizes')
    storage.data = little_endian(storage.kind, data[start : start + size])
    position = start + size
  if position != len(data):
    raise damaged(f'{len(data) - position} bytes follow the storages')
  return root


def torch_globals(budget: Budget) -> dict:
  """The table for torch files: state dicts, and whole modules of NVlabs' code."""
  return snapshot_globals(budget, lambda raw: read_storage(raw, budget))


def legacy_machine(data: memoryview, budget: Budget, table: dict) -> tuple[Machine, dict[str, Storage]]:
  """A machine for a legacy torch file, and the storages that its persistent ids fill."""
  storages: dict[str, Storage] = {}

  def storage(pid: object) -> Storage:
    kind, key, count = storage_id(pid)
    found = storages.get(key)
    if found is None:
      budget.spend(600 + 4 * len(key))
      found = storages[key] = Storage(kind, count)
    if found.kind is not kind or found.count != count:
      raise damaged(f'storage {shown(key)} has two sizes or types')
    return found

  return Machine(data, budget, finder(table), storage), storages


def read_storage(data: memoryview, budget: Budget) -> Storage:
  """The single storage of a torch stream inside an NVlabs pickle; only storage types are allowed as globals.

  Raises:
    Refused: it is something else.
  """
  machine, storages = legacy_machine(data, budget, storage_types())
  magic = machine.load()
  if type(magic) is not int or magic != MAGIC:
    raise damaged('a storage does not begin like one')
  storage = read_legacy(machine, data, budget, storages)
  if type(storage) is not Storage:
    raise damaged('a stream of one storage holds something else')
  return storage
