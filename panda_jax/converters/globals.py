"""The globals that a checkpoint may name, each with a harmless stand-in.

In a torch file every other global is an error that names it. In a snapshot, whose discriminator may contain anything,
it becomes an `Unknown`, which is an error only if a generator needs it. The table is exact: a protocol 4 pickle may
name ('torch', 'os.system'), so no prefix or attribute is looked up. Stand-ins only record what the file contains;
`trees.py` makes arrays of them when the whole pickle has been read.
"""

import math
from collections.abc import Callable
from functools import partial

import ml_dtypes
import numpy as np

from panda_jax.converters.limits import Budget, Refused, Unknown, damaged, not_allowed, shown
from panda_jax.converters.pickles import UNKNOWN, Instance, Known, checked_key

LARGEST_COUNT = 1 << 48  # elements or bytes; larger than any file, and products of two stay exact in numpy
MOST_DIMENSIONS = 16


class StorageType:
  """Stands for `torch.FloatStorage` and the like: the dtype of a storage."""

  __slots__ = ('dtype', 'name')

  def __init__(self, name: str, dtype: np.dtype):
    self.name, self.dtype = name, np.dtype(dtype)


class Storage:
  """A sequence of numbers that tensors share.

  Attributes:
    kind: its StorageType.
    count: elements.
    data: (count,) array, None until the reader of the container has found it.
  """

  __slots__ = ('count', 'data', 'kind')

  def __init__(self, kind: StorageType, count: int, data: np.ndarray | None = None):
    self.kind, self.count, self.data = kind, count, data


class Tensor:
  """A view of a storage; offset and strides are in elements and stay within the storage."""

  __slots__ = ('offset', 'shape', 'storage', 'strides')

  def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]):
    self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


class NumpyType:
  """A numpy dtype under construction."""

  __slots__ = ('dtype',)

  def __init__(self, dtype: np.dtype):
    self.dtype = dtype

  def set_state(self, state: object) -> None:
    order = state[1] if type(state) is tuple and len(state) > 1 else None
    if order not in ('<', '>', '|', '='):
      raise damaged('a numpy dtype has no byte order')
    self.dtype = self.dtype.newbyteorder(order)


class NumpyArray:
  """A numpy array under construction; if it does not hold numbers, it becomes an `Unknown`."""

  __slots__ = ('_budget', 'array')

  def __init__(self, budget: Budget):
    self._budget = budget
    self.array: np.ndarray | Unknown = np.empty(0, np.float32)

  def set_state(self, state: object) -> None:
    if type(state) is not tuple or len(state) != 5:
      raise damaged('a numpy array has no contents')
    _, shape, dtype, fortran, raw = state
    self.array = numpy_values(self._budget, shape, dtype, raw, 'F' if fortran is True else 'C')


class Persistent:
  """An object of NVlabs' persistence: its class's name and its state. The embedded source is not read."""

  __slots__ = ('class_name', 'state')

  def __init__(self, class_name: str, state: dict):
    self.class_name, self.state = class_name, state

  def set_state(self, state: object) -> None:
    raise damaged('the state of a module is set twice')


class NetworkState:
  """A network of NVlabs' TensorFlow code under construction: its state. The source in it is not read."""

  __slots__ = ('state',)

  def __init__(self):
    self.state = None

  def set_state(self, state: object) -> None:
    if self.state is not None:
      raise damaged('the state of a network is set twice')
    self.state = state


class Namespace:
  """`argparse.Namespace`, in which rosinality's training files store their arguments."""

  __slots__ = ('attributes',)

  def __init__(self):
    self.attributes = {}

  def set_state(self, state: object) -> None:
    if type(state) is not dict:
      raise damaged('a namespace has no attributes')
    self.attributes = state


def is_count(value: object) -> bool:
  return type(value) is int and 0 <= value < LARGEST_COUNT


def counts(values: object) -> tuple[int, ...]:
  """A shape or strides; raises Refused for anything else."""
  if type(values) not in (tuple, list) or len(values) > MOST_DIMENSIONS or not all(map(is_count, values)):
    raise damaged('the shape or strides of a tensor are not small counts')
  return tuple(values)


def numpy_values(budget: Budget, shape: object, dtype: object, raw: object, order: str) -> np.ndarray | Unknown:
  """A read-only array over bytes in a pickle; a stand-in if the dtype is not of numbers."""
  if type(dtype) in UNKNOWN:
    return Unknown(dtype.name)
  shape = counts(shape)
  if type(dtype) is not NumpyType or type(raw) is not memoryview:
    raise damaged('a numpy array without dtype or bytes')
  if math.prod(shape) * dtype.dtype.itemsize != len(raw):
    raise damaged(f'a numpy array of shape {shape} has {len(raw)} bytes')
  budget.claim(len(raw))
  return np.ndarray(shape, dtype.dtype, buffer=raw, order=order)


def numpy_type(code: object, *_: object) -> NumpyType | Instance:
  """A dtype of numbers; for another one, such as of objects, a stand-in that accepts its state."""
  if type(code) is not str:
    raise damaged('the code of a numpy dtype is not text')
  return NumpyType(np.dtype(code)) if code in NUMPY_TYPES else Instance(f'numpy.dtype({shown(code)})')


def numpy_scalar(budget: Budget, dtype: object, raw: object) -> object:
  value = numpy_values(budget, (), dtype, raw, 'C')
  return value if isinstance(value, Unknown) else value.item()


def numpy_from_buffer(budget: Budget, raw: object, dtype: object, shape: object, order: object) -> np.ndarray | Unknown:
  if order not in ('C', 'F'):
    raise damaged('a numpy array without an order')
  return numpy_values(budget, shape, dtype, raw, order)


def not_called(*_: object) -> None:
  raise damaged('it makes an object of a type that is only named elsewhere')


def new_dict(*items: object) -> dict:
  if items:
    raise damaged('a dict that is not empty when it is made')
  return {}


def parameter(data: object, *_: object) -> Tensor | Instance:
  if type(data) is Instance:
    return data
  if type(data) is not Tensor:
    raise damaged('a parameter that is not a tensor')
  return data


def persistent_object(meta: object) -> Persistent:
  """NVlabs' persistence: a class, its source (not read), and the state of an instance."""
  if type(meta) is not dict or meta.get('type') != 'class' or type(meta.get('class_name')) is not str:
    raise damaged('a module without a class')
  if type(meta.get('state')) is not dict:
    raise damaged('a module without a state')
  return Persistent(meta['class_name'], meta['state'])


NUMPY_TYPES = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'b1')

STORAGE_TYPES = {
  'FloatStorage': np.float32,
  'DoubleStorage': np.float64,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ShortStorage': np.int16,
  'CharStorage': np.int8,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
}

TENSORFLOW = (('dnnlib.tflib.network', 'Network'), ('tfutil', 'Network'))  # the second is ProGAN's
THEANO = 'network', 'Network'  # ProGAN's too


def storage_types() -> dict[tuple[str, str], StorageType]:
  """The part of the table for a stream of one storage."""
  return {('torch', name): StorageType(name, dtype) for name, dtype in STORAGE_TYPES.items()}


def _table(functions: dict[tuple[str, str], Callable], budget: Budget) -> dict[tuple[str, str], object]:
  def charged(function: Callable) -> Callable:
    def call(*arguments):
      budget.spend(600)  # more than any stand-in, with the array or dict that it becomes
      return function(*arguments)

    return call

  return {key: Known('.'.join(key), charged(function)) for key, function in functions.items()}


def state_dict_globals(budget: Budget) -> dict[tuple[str, str], object]:
  """The table for torch files: the globals of state dicts and of the arguments beside them."""

  def tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> Tensor | Instance:
    if type(storage) is Instance:
      return storage
    if type(storage) is not Storage:
      raise damaged('a tensor without a storage')
    shape, strides = counts(shape), counts(strides)
    if not is_count(offset) or len(shape) != len(strides):
      raise damaged('a tensor whose offset or strides make no sense')
    if 0 not in shape:
      last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
      if last >= storage.count:
        raise damaged(f'a tensor of shape {shape} reaches beyond its storage of {storage.count} numbers')
    elif math.prod(max(size, 1) for size in shape) > LARGEST_COUNT:
      raise damaged(f'a tensor of shape {shape}')
    budget.claim(math.prod(shape) * storage.kind.dtype.itemsize)
    return Tensor(storage, offset, shape, strides)

  def encoded(text: object, encoding: object) -> memoryview:
    # The way in which protocol 2 writes bytes.
    if type(text) is not str or encoding not in ('latin1', 'latin-1'):
      raise damaged('bytes in an unknown encoding')
    budget.spend(len(text))
    return memoryview(text.encode('latin-1'))

  def new_set(items: object = ()) -> set:
    if type(items) not in (list, tuple):
      raise damaged('a set of no list')
    budget.step(150 * len(items))
    return set(map(checked_key, items))

  functions: dict[tuple[str, str], Callable] = {
    ('collections', 'OrderedDict'): new_dict,
    ('argparse', 'Namespace'): Namespace,
    ('torch._utils', '_rebuild_tensor_v2'): tensor,
    ('torch._utils', '_rebuild_parameter'): parameter,
    ('torch', 'Size'): counts,
    ('torch', 'device'): lambda *names: ':'.join(shown(name) for name in names[:2]),
    ('_codecs', 'encode'): encoded,
    ('numpy', 'dtype'): numpy_type,
    ('numpy', 'ndarray'): not_called,
    ('builtins', 'set'): new_set,
    ('__builtin__', 'set'): new_set,  # the name in protocol 2
  }
  for module in ('numpy.core', 'numpy._core'):
    functions[f'{module}.multiarray', 'scalar'] = partial(numpy_scalar, budget)
    functions[f'{module}.multiarray', '_reconstruct'] = lambda *_: NumpyArray(budget)
    functions[f'{module}.numeric', '_frombuffer'] = partial(numpy_from_buffer, budget)
  return {**storage_types(), **_table(functions, budget)}


def snapshot_globals(budget: Budget, storage_from: Callable[[memoryview], Storage]) -> dict[tuple[str, str], object]:
  """The table for snapshots, pickles of whole networks: of NVlabs' code and its forks, for PyTorch and TensorFlow.

  `storage_from` reads the torch stream of a storage in a PyTorch snapshot.
  """

  def load_from_bytes(raw: object) -> Storage:
    if type(raw) is not memoryview:
      raise damaged('a storage without bytes')
    return storage_from(raw)

  def dill_type(name: object) -> object:
    if type(name) is not str:
      raise damaged('the name of a type is not text')
    return table.get(('builtins', name)) or Unknown(f'dill._dill._load_type({shown(name)})')

  def dill_array(function: object, arguments: object, state: object, *_: object) -> NumpyArray | Instance:
    # Called as numpy's own: the function makes an array, and the state fills it.
    if type(function) in UNKNOWN:
      return Instance(function.name)
    if type(function) is not Known or type(arguments) is not tuple:
      raise damaged('an array that nothing makes')
    array = function.call(*arguments)
    if type(array) is not NumpyArray:
      raise damaged('an array is made by what makes none')
    array.set_state(state)
    return array

  functions: dict[tuple[str, str], Callable] = {
    ('torch_utils.persistence', '_reconstruct_persistent_obj'): persistent_object,
    ('dnnlib.util', 'EasyDict'): new_dict,
    ('torch.storage', '_load_from_bytes'): load_from_bytes,
    ('dill._dill', '_load_type'): dill_type,
    ('dill._dill', '_create_array'): dill_array,
    **dict.fromkeys(TENSORFLOW, NetworkState),
  }
  table = {**state_dict_globals(budget), **_table(functions, budget)}
  return table


def finder(table: dict[tuple[str, str], object], budget: Budget | None = None) -> Callable[[str, str], object]:
  """A function that looks a global up in a table.

  Args:
    table: the known globals.
    budget: charged for an `Unknown` in place of any other global; without a budget that is refused.
  """

  def find(module: str, name: str) -> object:
    if (module, name) == THEANO:
      raise Refused(
        'it is a ProGAN of the Theano code (network.Network), whose arrays have no names',
        'give the TensorFlow .pkl of the same network, which its authors made of it',
      )
    found = table.get((module, name))
    if found is not None:
      return found
    unknown = Unknown(f'{shown(module)}.{shown(name)}')
    if budget is None:
      raise not_allowed(unknown)
    budget.spend(200 + len(unknown.name))
    return unknown

  return find


def storage_id(pid: object) -> tuple[StorageType, str, int]:
  """Type, key and count from the persistent id ('storage', type, key, device, count[, view])."""
  if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != 'storage':
    raise damaged('it refers to something else than a storage')
  _, kind, key, _, count = pid[:5]
  if type(kind) is not StorageType or type(key) is not str or not is_count(count):
    raise damaged('it refers to a storage without type, key or size')
  if pid[5:] not in ((), (None,)):
    raise Refused('its storages are views of others, as torch before 0.4 wrote them', 'save it again with torch.save')
  return kind, key, count
