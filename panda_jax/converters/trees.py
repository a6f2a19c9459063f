"""From what the pickle machine made to a tree that is safe to walk.

It has plain containers, arrays, and NVlabs' modules and networks.

A pickle can describe a list that holds itself, one nested a million deep, or a small one that unfolds to millions.
Nothing of the kind is left in the result.
"""

import dataclasses

import numpy as np

from panda_jax.converters.globals import (
  Namespace,
  NetworkState,
  NumpyArray,
  NumpyType,
  Persistent,
  Storage,
  StorageType,
  Tensor,
)
from panda_jax.converters.limits import Budget, Refused, damaged, shown
from panda_jax.converters.pickles import Known

DEEPEST = 64
MOST_NODES = 500_000  # of the tree as a walk sees it, in which a shared part counts as often as it is used
LONGEST_KEY = 500

PLAIN = (type(None), bool, int, float, str)


@dataclasses.dataclass(frozen=True)
class Module:
  """An object of a class kept by NVlabs' persistence; for a network, with all that its modules hold.

  Attributes:
    class_name: such as 'Generator'.
    init_args: positional arguments of its constructor.
    init_kwargs: named arguments of its constructor. What was not given is not there: `attributes` may tell it.
    state_dict: {dotted name: array}, parameters and persistent buffers, in the file's order.
    attributes: {dotted name: value}, the numbers, texts and lists of them that it and its modules keep as attributes,
      such as 'synthesis.b4.conv1.conv_clamp', and buffers that are not persistent.
  """

  class_name: str
  init_args: list
  init_kwargs: dict
  state_dict: dict[str, np.ndarray]
  attributes: dict[str, object]


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
  """A network of NVlabs' TensorFlow code. What it should be made of, `dialects/tensorflow.py` knows.

  Attributes:
    state: what it keeps, finished; most often a dict.
  """

  state: object

  def told(self, name: str) -> str:
    """A text of its state, such as `build_func_name`; empty where there is none."""
    text = self.state.get(name) if isinstance(self.state, dict) else None
    return text if isinstance(text, str) else ''


def finished(value: object, budget: Budget) -> object:
  """The tree of nested dicts, lists, plain values, read-only arrays, `Module`s and `Network`s.

  Tuples and sets become lists.

  Raises:
    Refused: it is nested in itself, too deeply, or so often that it unfolds to a giant.
  """
  return _Finisher(budget).finish(value, 0)[0]


class _Finisher:
  def __init__(self, budget: Budget):
    self._budget = budget
    self._open: set[int] = set()
    self._done: dict[int, tuple[object, int, object]] = {}  # the original is kept, so that no other takes its id

  def finish(self, value: object, depth: int) -> tuple[object, int]:
    """The finished value, and the nodes that a walk over it visits."""
    if type(value) in PLAIN:
      return value, 1
    if id(value) in self._done:
      return self._done[id(value)][:2]
    if id(value) in self._open:
      raise damaged('an object contains itself')
    if depth > DEEPEST:
      raise Refused(f'its objects are nested more than {DEEPEST} deep', 'save only its state_dict, and convert that')
    self._budget.spend(200)
    self._open.add(id(value))
    result, nodes = self._made(value, depth + 1)
    self._open.discard(id(value))
    self._done[id(value)] = result, nodes, value
    return result, nodes

  def _made(self, value: object, depth: int) -> tuple[object, int]:
    if type(value) is dict:
      return self._dict(value, depth)
    if type(value) is Namespace:
      return self._dict(value.attributes, depth)
    if isinstance(value, list | tuple):
      return self._list(value, depth)
    if type(value) is set:
      return self._list(sorted(value, key=repr), depth)
    if type(value) is Tensor:
      return tensor_array(value), 1
    if type(value) is Storage:
      return _numbers(value), 1
    if type(value) is NumpyArray:
      return self._native(value.array), 1
    if isinstance(value, np.ndarray):
      return self._native(value), 1
    if type(value) is memoryview:
      self._budget.copy(len(value))
      return bytes(value), 1
    if type(value) is Persistent:
      return self._module(value, depth)
    if type(value) is NetworkState:
      state, nodes = self.finish(value.state, depth)
      return Network(state), _counted(nodes + 1)
    if isinstance(value, Known | StorageType):
      return value.name, 1
    if type(value) is NumpyType:
      return value.dtype.name, 1
    raise damaged(f'it holds a {type(value).__name__}')

  def _dict(self, value: dict, depth: int) -> tuple[dict, int]:
    result, nodes = {}, 1
    for key, item in value.items():
      if type(key) is str and (len(key) > LONGEST_KEY or not key.isprintable()):
        raise damaged(f'a name is not one: {shown(key)}')
      self._budget.spend(200)
      result[key], count = self.finish(item, depth)
      nodes = _counted(nodes + count)
    return result, nodes

  def _list(self, value: list | tuple, depth: int) -> tuple[list, int]:
    self._budget.spend(8 * len(value))
    result, nodes = [], 1
    for item in value:
      made, count = self.finish(item, depth)
      result.append(made)
      nodes = _counted(nodes + count)
    return result, nodes

  def _native(self, array: np.ndarray) -> np.ndarray:
    """The array in this machine's byte order."""
    if array.dtype.isnative:
      return array
    self._budget.copy(array.nbytes)
    turned = array.astype(array.dtype.newbyteorder('='))
    turned.flags.writeable = False
    return turned

  def _module(self, value: Persistent, depth: int) -> tuple[Module, int]:
    if len(value.class_name) > LONGEST_KEY or not value.class_name.isprintable():
      raise damaged(f'a class is called {shown(value.class_name)}')
    state, nodes = self._dict(value.state, depth)
    _check_names(state, 'state')
    arguments = state.get('_init_args', []), state.get('_init_kwargs', {})
    module = Module(value.class_name, *arguments, state_dict={}, attributes={})
    if type(module.init_args) is not list or type(module.init_kwargs) is not dict:
      raise damaged(f'the constructor arguments of {value.class_name} are not some')
    parameters, buffers, modules = (_part(state, name) for name in ('_parameters', '_buffers', '_modules'))
    transient = set(_names(state.get('_non_persistent_buffers_set', [])))
    for name, array in [*parameters.items(), *buffers.items()]:
      if isinstance(array, np.ndarray):
        kept = module.attributes if name in buffers and name in transient else module.state_dict
        kept[name] = array
      elif array is not None:
        raise damaged(f'{name} of {value.class_name} is no tensor')
    for name, item in state.items():
      if not name.startswith('_') and _is_plain(item):
        module.attributes[name] = item
    for name, child in modules.items():
      if isinstance(child, Module):
        self._adopt(module.state_dict, name, child.state_dict)
        self._adopt(module.attributes, name, child.attributes)
      elif child is not None:
        raise damaged(f'{name} of {value.class_name} is no module')
    return module, nodes

  def _adopt(self, into: dict, prefix: str, entries: dict) -> None:
    for name, item in entries.items():
      dotted = f'{prefix}.{name}'
      self._budget.spend(200 + len(dotted))
      if len(dotted) > LONGEST_KEY:
        raise damaged(f'a name is not one: {shown(dotted)}')
      if dotted in into:
        raise damaged(f'{dotted} is there twice')
      into[dotted] = item


def _counted(nodes: int) -> int:
  if nodes > MOST_NODES:
    raise Refused('it unfolds to far more objects than it has', 'save only its state_dict, and convert that')
  return nodes


def _numbers(storage: Storage) -> np.ndarray:
  if storage.data is None:
    raise damaged('a storage has no data')
  return storage.data


def _part(state: dict, name: str) -> dict:
  part = state.get(name, {})
  _check_names(part, name)
  return part


def _check_names(part: object, name: str) -> None:
  if type(part) is not dict or not all(type(key) is str for key in part):
    raise damaged(f'{name} of a module is no dict of names')


def _names(names: object) -> list[str]:
  if type(names) is not list or not all(type(name) is str for name in names):
    raise damaged('the names of buffers are no names')
  return names


def _is_plain(value: object) -> bool:
  return type(value) in PLAIN or (type(value) is list and all(type(item) in PLAIN for item in value))


def tensor_array(tensor: Tensor) -> np.ndarray:
  """The tensor as a read-only view of its storage, whose bounds were checked when the file was read."""
  data = _numbers(tensor.storage)
  if 0 in tensor.shape:
    return np.zeros(tensor.shape, data.dtype)
  # The stride of an axis of one is free to be anything, so it is not used.
  steps = [
    0 if size == 1 else stride * data.itemsize for size, stride in zip(tensor.shape, tensor.strides, strict=True)
  ]
  return np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, steps, writeable=False)
