"""From the output of the pickle machine to a tree that is safe to process.

It has plain containers, arrays, modules of PyTorch and networks of TensorFlow.

A pickle can describe a list that contains itself, one nested a million deep, or a small one that expands to millions.
The result contains nothing of the kind.
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
from panda_jax.converters.limits import LONGEST_KEY, Budget, Refused, Unknown, damaged, not_allowed, shown
from panda_jax.converters.pickles import PARTS, UNKNOWN, Instance, Known
from panda_jax.errors import InputError

DEEPEST = 64
MOST_NODES = 500_000  # of the expanded tree, in which a shared part counts each time
LONGEST_LIST = 256  # of attributes of a module; each element is checked at each occurrence

PLAIN = (type(None), bool, int, float, str)
STATE = (*PARTS, '_init_args', '_init_kwargs', '_non_persistent_buffers_set')  # private attributes that are used


@dataclasses.dataclass(frozen=True)
class Module:
  """A PyTorch module, pickled by NVlabs' persistence or plainly; for a network, with the contents of its modules.

  Attributes:
    class_name: such as 'Generator', or 'training.networks.Generator' if it was pickled plainly.
    init_args: positional arguments of its constructor.
    init_kwargs: named arguments of its constructor, without those that were not given; see `attributes` for these.
    state_dict: {dotted name: array}, parameters and persistent buffers, in the file's order; an `Unknown` in place of
      an array, or of a whole module, that comes from a global that is not allowed.
    attributes: {dotted name: value}, the numbers, texts and lists of them that it and its modules keep as attributes,
      such as 'synthesis.b4.conv1.conv_clamp', and buffers that are not persistent; also `Unknown`s.
    classes: {dotted name: class name} of the modules inside.
  """

  class_name: str
  init_args: list
  init_kwargs: dict
  state_dict: dict[str, np.ndarray | Unknown]
  attributes: dict[str, object]
  classes: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class TensorFlowNetwork:
  """A network of NVlabs' TensorFlow code; dialects/tensorflow.py checks its parts.

  Attributes:
    state: its state, finished; most often a dict.
  """

  state: object

  def told(self, name: str) -> str:
    """A text of its state, such as `build_func_name`; empty if there is none."""
    text = self.state.get(name) if isinstance(self.state, dict) else None
    return text if isinstance(text, str) else ''


def finished(value: object, budget: Budget) -> object:
  """The tree of dicts, lists, plain values, read-only arrays, `Module`s, `TensorFlowNetwork`s and `Unknown`s.

  Tuples and sets become lists. Of the state of a module only the parts of `Module` are read.

  Raises:
    Refused: it contains itself, is nested too deeply, or expands to too many nodes.
  """
  return _Finisher(budget).finish(value, 0)[0]


def check_known(tree: object, source: object) -> None:
  """Raises InputError for `source` if a finished tree contains the result of a global that is not allowed.

  Modules are not checked: their tables name what a conversion needs.
  """
  unknown = _unknown_in(tree)
  if unknown is not None:
    refused = not_allowed(unknown)
    raise InputError('source', source, refused.problem, refused.remedy)


def _unknown_in(tree: object) -> Unknown | None:
  if isinstance(tree, Unknown):
    return tree
  if isinstance(tree, TensorFlowNetwork):
    return _unknown_in(tree.state)
  items = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
  return next((found for item in items if (found := _unknown_in(item)) is not None), None)


class _Finisher:
  def __init__(self, budget: Budget):
    self._budget = budget
    self._open: set[int] = set()
    self._done: dict[int, tuple[object, int, object]] = {}  # the original is kept, so that no other object gets its id
    self._within: set[int] = set()  # modules that are inside another

  def finish(self, value: object, depth: int) -> tuple[object, int]:
    """The finished value, and the number of nodes of its expanded tree."""
    if type(value) in PLAIN:
      return value, 1
    if id(value) in self._done:
      result, nodes, _ = self._done[id(value)]
      if isinstance(result, np.ndarray):
        self._budget.claim(result.nbytes)  # as if it had been stored again
      return result, nodes
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
      return self.finish(value.array, depth)
    if isinstance(value, np.ndarray):
      return self._native(value), 1
    if type(value) is memoryview:
      self._budget.copy(len(value))
      return bytes(value), 1
    if type(value) is Persistent:
      return self._module(value.class_name, value.state, depth, persistent=True)
    if type(value) is Instance and value.state is not None:
      return self._module(value.name, value.state, depth)
    if type(value) in UNKNOWN:
      return Unknown(value.name), 1
    if type(value) is NetworkState:
      state, nodes = self.finish(value.state, depth)
      return TensorFlowNetwork(state), _counted(nodes + 1)
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

  def _module(self, class_name: str, state: dict, depth: int, persistent: bool = False) -> tuple[Module, int]:
    if len(class_name) > LONGEST_KEY or not class_name.isprintable():
      raise damaged(f'a class is called {shown(class_name)}')
    _check_names(state, 'state')
    # Hooks and other objects that a module refers to are not needed, and may refer to anything.
    used = {name: item for name, item in state.items() if name in STATE or not name.startswith('_')}
    state, nodes = self._dict({name: item for name, item in used.items() if name in STATE or _is_leaf(item)}, depth)
    arguments = state.get('_init_args', []), state.get('_init_kwargs', {})
    module = Module(class_name, *arguments, state_dict={}, attributes={})
    if type(module.init_args) is not list or type(module.init_kwargs) is not dict:
      raise damaged(f'the constructor arguments of {class_name} are not some')
    parameters, buffers, modules = (_part(state, name) for name in PARTS)
    transient = set(_names(state.get('_non_persistent_buffers_set', [])))
    for name, array in [*parameters.items(), *buffers.items()]:
      if isinstance(array, np.ndarray | Unknown):
        kept = module.attributes if name in buffers and name in transient else module.state_dict
        kept[name] = array
      elif array is not None:
        raise damaged(f'{name} of {class_name} is not a tensor')
    for name, item in state.items():
      if not name.startswith('_') and _is_plain(item):
        module.attributes[name] = item
    for name, child in modules.items():
      # Modules of persistence contain such modules and PyTorch's own; what another class computes is unknown.
      if isinstance(child, Module) and persistent and not _is_known_within(child.class_name):
        child = Unknown(child.class_name)
      if isinstance(child, Module):
        if id(child) in self._within:
          arrays = [array for array in child.state_dict.values() if isinstance(array, np.ndarray)]
          self._budget.claim(sum(array.nbytes for array in arrays))
        self._within.add(id(child))
        module.classes[name] = child.class_name
        self._adopt(module.classes, name, child.classes)
        self._adopt(module.state_dict, name, child.state_dict)
        self._adopt(module.attributes, name, child.attributes)
      elif isinstance(child, Unknown):
        module.state_dict[name] = child
      elif child is not None:
        raise damaged(f'{name} of {class_name} is not a module')
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
    raise damaged(f'{name} of a module is not a dict of names')


def _names(names: object) -> list[str]:
  if type(names) is not list or not all(type(name) is str for name in names):
    raise damaged('the names of buffers are not names')
  return names


def _is_known_within(class_name: str) -> bool:
  """Whether a class is one of persistence, whose names here have no package, or of PyTorch."""
  return '.' not in class_name or class_name.startswith('torch.nn.')


def _is_leaf(value: object) -> bool:
  """Whether an attribute is a number, a text, a type or a list of these, or may stand for one of them."""
  if type(value) in (list, tuple, set):
    return len(value) <= LONGEST_LIST and all(type(item) in PLAIN for item in value)
  return type(value) in (*PLAIN, *UNKNOWN, Known, StorageType, NumpyType) and getattr(value, 'state', None) is None


def _is_plain(value: object) -> bool:
  return type(value) in (*PLAIN, Unknown) or (type(value) is list and all(type(item) in PLAIN for item in value))


def tensor_array(tensor: Tensor) -> np.ndarray:
  """The tensor as a read-only view of its storage; the bounds were checked when the file was read."""
  data = _numbers(tensor.storage)
  if 0 in tensor.shape:
    return np.zeros(tensor.shape, data.dtype)
  # The stride of an axis of size one may be anything, so it is not used.
  steps = [
    0 if size == 1 else stride * data.itemsize for size, stride in zip(tensor.shape, tensor.strides, strict=True)
  ]
  return np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, steps, writeable=False)
