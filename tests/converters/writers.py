"""Writes checkpoints opcode by opcode, in the three containers, since torch is not installed."""

import io
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

from panda_jax.converters.checkpoint import TensorFlowNetwork
from panda_jax.converters.torchwriter import (
  STORAGES,
  Call,
  Global,
  Persistent,
  Storage,
  Storages,
  Tensor,
  as_tensor,
  emit,
  ordered,
  pickled,
)

BUFFERS = (
  *('Kernel', 'running_mean', 'running_var', 'num_batches_tracked', 'stored_mean', 'stored_var'),
  *('weight_u', 'weight_v'),
)
MAGIC = 0x1950A86A20F9469CFC6C


@dataclass
class Raw:
  """Opcodes that are written unchanged."""

  code: bytes

  def opcodes(self, inner) -> bytes:
    return self.code


def text(value: str) -> bytes:
  return emit(value)


def state_dict(arrays: dict) -> Call:
  """An OrderedDict with `_metadata`, like torch's state dicts."""
  made = ordered(arrays)
  made.state = {'_metadata': Call('collections', 'OrderedDict', items={'': {'version': 1}})}
  return made


class Lies(Storages):
  """Storages with the persistent ids of legacy files (`view`), or with false sizes, by key."""

  def __init__(self, view: bool, counts: dict | None = None):
    super().__init__('cuda:0')
    self._view, self._counts = view, counts or {}

  def pid(self, storage: Storage) -> tuple:
    *head, count = super().pid(storage)
    pid = (*head, self._counts.get(head[2], count))
    return (*pid, None) if self._view else pid


def write_zip(value, stem='archive', order='little', counts=None, compression=zipfile.ZIP_STORED, more=()) -> bytes:
  """A zip torch file. `counts` are false sizes of storages by key, `more` is (name, contents) of further members."""
  storages = Lies(view=False, counts=counts)
  code = pickled(value, storages)
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', compression) as archive:
    archive.writestr(f'{stem}/data.pkl', code)
    if order is not None:
      archive.writestr(f'{stem}/byteorder', order)
    for key, storage in enumerate(storages.found):
      data = storage.data
      archive.writestr(f'{stem}/data/{key}', (data.byteswap() if order == 'big' else data).tobytes())
    archive.writestr(f'{stem}/version', '3\n')
    for name, contents in more:
      archive.writestr(name, contents)
  return file.getvalue()


def wide(raw: bytes) -> bytes:
  """A zip file with the same members and a 64-bit directory, as in files of more than 4 GB."""
  with zipfile.ZipFile(io.BytesIO(raw)) as archive:
    members, start = archive.infolist(), archive.start_dir
  entries = b''
  for member in members:
    name = member.filename.encode()
    extra = struct.pack('<2H3Q', 1, 24, member.file_size, member.compress_size, member.header_offset)
    full = (0xFFFFFFFF, 0xFFFFFFFF, len(name), len(extra), 0, 0, 0, 0, 0xFFFFFFFF)
    head = struct.pack('<4s6H', b'PK\x01\x02', 45, 45, member.flag_bits, member.compress_type, 0, 0)
    entries += head + struct.pack('<3I5H2I', member.CRC, *full) + name + extra
  count = len(members)
  end64 = struct.pack('<4sQ2H2I4Q', b'PK\x06\x06', 44, 45, 45, 0, 0, count, count, len(entries), start)
  locator = struct.pack('<4sIQI', b'PK\x06\x07', 0, start + len(entries), 1)
  end = struct.pack('<4s4H2IH', b'PK\x05\x06', 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
  return raw[:start] + entries + end64 + locator + end


def write_legacy(value, counts=None, little=True, protocol=1001) -> bytes:
  """A legacy torch file."""
  storages = Lies(view=True, counts=counts)
  code = pickled(value, storages)
  system = {'protocol_version': protocol, 'little_endian': little, 'type_sizes': {'int': 4}}
  parts = [pickled(MAGIC), pickled(protocol), pickled(system), code]
  parts.append(pickled([str(key) for key in range(len(storages.found))]))
  for key, storage in enumerate(storages.found):
    count = (counts or {}).get(str(key), storage.data.size)
    parts += [struct.pack('<q', count), storage.data.tobytes()]
  return b''.join(parts)


def nested_storages(value):
  """A tensor or storage as in NVlabs' pickles: the storage is a separate torch stream."""
  if isinstance(value, np.ndarray):
    value = as_tensor(value)
  if isinstance(value, Tensor):
    return value.call(value.storage)
  if isinstance(value, Storage):
    return Call('torch.storage', '_load_from_bytes', (write_legacy(value),))
  return value


def module(class_name, parameters=(), buffers=(), modules=(), kwargs=None, source='', **attributes) -> Call:
  """An object of NVlabs' persistence."""
  wrapped = {
    name: Call('torch._utils', '_rebuild_parameter', (as_tensor(array), True, Call('collections', 'OrderedDict')))
    for name, array in dict(parameters).items()
  }
  transient = attributes.pop('transient', [])
  state = {
    'training': False,
    '_parameters': Call('collections', 'OrderedDict', items=wrapped),
    '_buffers': Call('collections', 'OrderedDict', items=dict(buffers)),
    '_non_persistent_buffers_set': Call('__builtin__', 'set', (transient,)),
    '_backward_hooks': Call('collections', 'OrderedDict'),
    '_modules': Call('collections', 'OrderedDict', items=dict(modules)),
    '_init_args': (),
    '_init_kwargs': Call('dnnlib.util', 'EasyDict', items=kwargs or {}, new=True),
    **attributes,
  }
  meta = {'type': 'class', 'version': 6, 'module_src': source, 'class_name': class_name, 'state': state}
  return Call('torch_utils.persistence', '_reconstruct_persistent_obj', (meta,))


def plain_module(class_name, parameters=(), buffers=(), modules=(), **attributes) -> Call:
  """A PyTorch module in a pickle without NVlabs' persistence: a class by name, and the dict of an instance."""
  package, _, name = class_name.rpartition('.')
  wrapped = {
    key: Call('torch._utils', '_rebuild_parameter', (array, True, Call('collections', 'OrderedDict')))
    if isinstance(array, np.ndarray)
    else array
    for key, array in dict(parameters).items()
  }
  state = {
    'training': False,
    '_parameters': wrapped,
    '_buffers': dict(buffers),
    '_non_persistent_buffers_set': Raw(b'\x8f'),
    '_forward_pre_hooks': Call('collections', 'OrderedDict'),
    '_modules': dict(modules),
    **attributes,
  }
  return Call(package, name, (), state=state, new=True)


def nested_modules(arrays: dict, classes: dict, attributes: dict | None = None) -> Call:
  """A plain module and its submodules, from dotted names.

  Args:
    arrays: {dotted name: array, or any other value}; those with a name in `BUFFERS` are buffers.
    classes: {dotted name: class name}, '' for the whole; the default is 'torch.nn.modules.container.ModuleList'.
    attributes: {dotted name: value}.
  """

  told: dict[str, dict] = {}
  for name, value in (attributes or {}).items():
    path, _, attribute = name.rpartition('.')
    told.setdefault(path, {})[attribute] = value

  def made(path: str, inside: list[str]) -> Call:
    own, children = {}, {}
    for name in inside:
      first, dot, rest = name.partition('.')
      whole = f'{path}.{name}' if path else name
      if dot or whole in classes:
        children.setdefault(first, []).extend([rest] if rest else [])
      if not dot and whole in arrays:
        own[name] = arrays[whole]
    return plain_module(
      classes.get(path, 'torch.nn.modules.container.ModuleList'),
      parameters={name: array for name, array in own.items() if name not in BUFFERS},
      buffers={name: array for name, array in own.items() if name in BUFFERS},
      modules={name: made(f'{path}.{name}' if path else name, within) for name, within in children.items() if name},
      **told.get(path, {}),
    )

  return made('', [name for name in (*arrays, *classes) if name])


def write_nvlabs(value, protocol=3) -> bytes:
  """An NVlabs pickle."""
  return pickled(value, nested_storages, protocol)


def numpy_dtype(code: str) -> Call:
  """A numpy dtype, little-endian."""
  return Call('numpy', 'dtype', (code, False, True), state=(3, '<', None, None, None, -1, -1, 0))


def numpy_array(array: np.ndarray, module='numpy.core.multiarray') -> Call:
  """An array as numpy pickles it; without axes, a scalar as TensorFlow writes it."""
  kind = numpy_dtype(array.dtype.str[1:])
  if array.ndim == 0:
    return Call(module, 'scalar', (kind, array.tobytes()))
  fortran = array.flags.f_contiguous and not array.flags.c_contiguous
  state = 1, array.shape, kind, bool(fortran), array.tobytes('F' if fortran else 'C')
  return Call(module, '_reconstruct', (Global('numpy', 'ndarray'), (0,), b'b'), state=state)


def network(state, module='dnnlib.tflib.network') -> Call:
  """A network of NVlabs' TensorFlow code with this state."""
  return Call(module, 'Network', (), state=state, new=True)


def write_tensorflow(value, protocol=3, module='dnnlib.tflib.network') -> bytes:
  """A TensorFlow pickle."""

  def replace(item):
    if isinstance(item, TensorFlowNetwork):
      state = dict(item.state)
      state['variables'] = [tuple(pair) for pair in state['variables']]
      return network(state, module)
    return numpy_array(item) if isinstance(item, np.ndarray) else item

  return pickled(value, replace, protocol)


def arrays_like_a_checkpoint() -> dict[str, np.ndarray]:
  """A small state dict, with a scalar, an empty tensor and integers."""
  rng = np.random.default_rng(0)
  return {
    'layer0.weight': rng.standard_normal((3, 2, 3, 3)).astype(np.float32),
    'layer0.bias': rng.standard_normal(3).astype(np.float32),
    'layer0.noise_strength': np.array(0.25, np.float32),
    'steps': np.array([3], np.int64),
    'none': np.zeros((0, 4), np.float32),
  }


__all__ = ['STORAGES', 'Call', 'Global', 'Persistent', 'Storage', 'Tensor', 'as_tensor', 'emit', 'pickled']
