"""A pickle machine that can only make data.

Python's own unpickler calls what a file names, and allocates the sizes in a file before it checks that the data exist.
This one knows the opcodes of `torch.save` and of snapshots of training code (protocols 2 to 5; Python's `pickletools`
documents them), looks a global up in the caller's table, and reads sizes only to check them. If the caller gives an
`Unknown` for a global, its calls make `Instance`s, which ignore their arguments. Byte strings are views of the file.
Every object is charged to a `Budget`.
"""

import struct
from collections.abc import Callable

from panda_jax.converters.limits import LONGEST_KEY, Budget, Refused, Unknown, damaged, shown

LONGEST_INTEGER = 32  # bytes; the magic number of legacy torch files has 10
LONGEST_NAME = 300  # of a global
LARGEST_KEY = 1 << 64  # larger integers can be chosen to collide in a hash table
STRANGE_KEYS = {
  tuple: 'tuple as a key',
  int: 'large number as a key',
  float: 'fraction as a key',
  memoryview: 'bytes as a key',
}

_U2, _U4, _U8, _I4, _F8 = (struct.Struct(form) for form in ('<H', '<I', '<Q', '<i', '>d'))


class Known:
  """A global that the table allows: a name, and the harmless function that stands for it.

  Args:
    name: module and name, joined by a dot.
    call: is called with the arguments in the file; refuses wrong ones.
  """

  __slots__ = ('call', 'name')

  def __init__(self, name: str, call: Callable):
    self.name, self.call = name, call


PARTS = '_parameters', '_buffers', '_modules'


class Instance:
  """The result of calling an `Unknown`: empty, until it gets the state of a torch module, which it keeps.

  Attributes:
    name: of the global.
    state: the dict of a module, with its parameters, buffers and children; None for anything else.
  """

  __slots__ = ('name', 'state')

  def __init__(self, name: str):
    self.name, self.state = name, None

  def set_state(self, state: object) -> None:
    if type(state) is not dict or not all(type(state.get(part)) is dict for part in PARTS):
      return
    if self.state is not None:
      raise damaged('the state of a module is set twice')
    self.state = state


UNKNOWN = Unknown, Instance


class Machine:
  """Runs the pickles of a byte string.

  Args:
    data: the bytes.
    budget: charged for every operation and object.
    find: (module, name) to an object; raises Refused for unknown globals.
    persistent: a persistent id to its object; raises Refused if the id is malformed.
  """

  def __init__(self, data: memoryview, budget: Budget, find: Callable, persistent: Callable):
    self._data, self._budget, self._find, self._persistent = data, budget, find, persistent
    self.position = 0

  def load(self) -> object:
    """The object of the pickle at `position`, which then moves to its end.

    Raises:
      Refused: not a pickle that torch or NVlabs' code writes, or one beyond the budget.
    """
    if bytes(self._data[self.position : self.position + 1]) != b'\x80':
      raise damaged('a pickle should begin here')
    self._stack, self._marks, self._memo = [], [], {}
    step = self._budget.step
    while True:
      code = self._take(1)[0]
      operation, cost = OPERATIONS.get(code, (None, 0))
      step(cost)
      if operation is None:
        if code == ord('.'):
          break
        raise Refused(
          f'its pickle has the opcode {shown(chr(code))} that no torch or NVlabs checkpoint has',
          'save it again with torch.save, pickle protocol 2 or later',
        )
      operation(self)
    if self._marks or len(self._stack) != 1:
      raise damaged('a pickle ends in the middle of an object')
    return self._stack.pop()

  # Reading.

  def _take(self, count: int) -> memoryview:
    start, end = self.position, self.position + count
    if end > len(self._data):
      raise damaged(f'a pickle wants {count} bytes where {len(self._data) - start} are left')
    self.position = end
    return self._data[start:end]

  def _number(self, form: struct.Struct) -> int | float:
    return form.unpack(self._take(form.size))[0]

  def _line(self) -> str:
    line = bytes(self._data[self.position : self.position + LONGEST_NAME]).split(b'\n', 1)
    if len(line) == 1:
      raise damaged('the name of a global does not end')
    self.position += len(line[0]) + 1
    return line[0].decode()

  # The stack. Values below the last mark cannot be reached until the mark is removed.

  def _pop(self) -> object:
    if len(self._stack) <= (self._marks[-1] if self._marks else 0):
      raise damaged('a pickle takes more objects than it made')
    return self._stack.pop()

  def _peek(self) -> object:
    value = self._pop()
    self._stack.append(value)
    return value

  def _pop_mark(self) -> list:
    if not self._marks:
      raise damaged('a pickle takes a mark that it did not set')
    start = self._marks.pop()
    items = self._stack[start:]
    del self._stack[start:]
    return items

  # Operations.

  def protocol(self):
    version = self._take(1)[0]
    if not 2 <= version <= 5:
      raise Refused(f'it is a pickle of protocol {version}', 'save it again with pickle protocol 2 to 5')

  def frame(self):
    if self._number(_U8) > len(self._data) - self.position:
      raise damaged('a frame of a pickle reaches beyond the end')

  def mark(self):
    self._marks.append(len(self._stack))

  def pop(self):
    if self._marks and self._marks[-1] == len(self._stack):
      self._marks.pop()
    else:
      self._pop()

  def pop_mark(self):
    self._pop_mark()

  def duplicate(self):
    self._stack.append(self._peek())

  def put(self, index: int):
    self._memo[index] = self._peek()

  def get(self, index: int):
    if index not in self._memo:
      raise damaged(f'a pickle refers to object {index} that it does not have')
    self._stack.append(self._memo[index])

  def long(self):
    count = self._take(1)[0]
    if count > LONGEST_INTEGER:
      raise damaged(f'an integer of {count} bytes')
    self._stack.append(int.from_bytes(self._take(count), 'little', signed=True))

  def text(self, form: struct.Struct | None):
    raw = self._take(self._take(1)[0] if form is None else self._number(form))
    self._budget.spend(4 * len(raw))  # one wide character makes all of them wide
    self._stack.append(str(raw, 'utf-8'))

  def raw(self, form: struct.Struct | None):
    self._stack.append(self._take(self._take(1)[0] if form is None else self._number(form)))

  def tuple_of(self, count: int):
    items = [self._pop() for _ in range(count)]
    self._stack.append(tuple(reversed(items)))

  def tuple_to_mark(self):
    items = self._pop_mark()
    self._budget.spend(8 * len(items))
    self._stack.append(tuple(items))

  def append(self):
    self._extend(list, [self._pop()])

  def appends(self):
    self._extend(list, self._pop_mark())

  def add_items(self):
    self._extend(set, self._pop_mark())

  def frozen_set(self):
    items = self._pop_mark()
    self._budget.spend(150 * len(items))
    self._stack.append(set(map(checked_key, items)))

  def _extend(self, kind: type, items: list):
    self._budget.spend((16 if kind is list else 150) * len(items))
    target = self._peek()
    if type(target) in UNKNOWN:
      return
    if type(target) is not kind:
      raise damaged(f'items for a {kind.__name__} go into a {type(target).__name__}')
    if kind is list:
      target.extend(items)
    else:
      target.update(map(checked_key, items))

  def set_item(self):
    value, key = self._pop(), self._pop()
    self._set_items([key, value])

  def set_items(self):
    self._set_items(self._pop_mark())

  def _set_items(self, items: list):
    self._budget.spend(100 * len(items))
    target = self._peek()
    if type(target) in UNKNOWN:
      return
    if type(target) is not dict or len(items) % 2:
      raise damaged(f'keys and values go into a {type(target).__name__}')
    for key, value in zip(items[::2], items[1::2], strict=True):
      target[checked_key(key)] = value

  def stack_global(self):
    name, module = self._pop(), self._pop()
    if type(name) is not str or type(module) is not str:
      raise damaged('the name of a global is not text')
    self._stack.append(self._find(module, name))

  def named_global(self):
    module = self._line()
    self._stack.append(self._find(module, self._line()))

  def call(self):
    self._call(self._pop(), self._pop())

  def call_named(self):
    named, arguments, function = self._pop(), self._pop(), self._pop()
    if type(named) is not dict or (named and type(function) not in UNKNOWN):
      raise damaged('it calls something with names that it does not have')
    self._call(arguments, function)

  def _call(self, arguments: object, function: object):
    if type(arguments) is tuple and type(function) in UNKNOWN:
      self._budget.spend(100)
      self._stack.append(Instance(function.name))
    elif type(arguments) is tuple and type(function) is Known:
      self._stack.append(function.call(*arguments))
    else:
      raise damaged(f'it calls a {type(function).__name__}')

  def build(self):
    state = self._pop()
    target = self._peek()
    if hasattr(target, 'set_state'):
      target.set_state(state)
    elif type(target) not in (dict, Unknown):  # attributes of a dict, such as _metadata, are not needed
      raise damaged(f'it sets the state of a {type(target).__name__}')

  def persistent_id(self):
    self._stack.append(self._persistent(self._pop()))

  def push(self, value: object):
    self._stack.append(value)


def checked_key(key: object) -> object:
  """A dict key or set member that is cheap to hash and compare, also in a malicious file.

  Keys of other types, such as tuples, become an `Unknown`, which equals no other; no network needs them.
  """
  if type(key) is int and -LARGEST_KEY < key < LARGEST_KEY:
    return key
  if type(key) is str and len(key) > LONGEST_KEY:
    raise damaged(f'a name is not one: {shown(key)}')
  if type(key) in (str, bool, *UNKNOWN) or key is None:
    return key
  if type(key) in STRANGE_KEYS:
    return Unknown(STRANGE_KEYS[type(key)])
  raise damaged(f'a dict key of type {type(key).__name__}')


# Opcode to (operation, bytes that it makes besides those that it charges itself).
OPERATIONS = {
  ord(code): entry
  for code, entry in {
    '\x80': (Machine.protocol, 0),
    '\x95': (Machine.frame, 0),
    '(': (Machine.mark, 48),
    '0': (Machine.pop, 0),
    '1': (Machine.pop_mark, 0),
    '2': (Machine.duplicate, 16),
    'q': (lambda m: m.put(m._take(1)[0]), 150),
    'r': (lambda m: m.put(m._number(_U4)), 150),
    '\x94': (lambda m: m.put(len(m._memo)), 150),
    'h': (lambda m: m.get(m._take(1)[0]), 16),
    'j': (lambda m: m.get(m._number(_U4)), 16),
    'N': (lambda m: m.push(None), 16),
    '\x88': (lambda m: m.push(True), 16),
    '\x89': (lambda m: m.push(False), 16),
    'K': (lambda m: m.push(m._take(1)[0]), 16),
    'M': (lambda m: m.push(m._number(_U2)), 48),
    'J': (lambda m: m.push(m._number(_I4)), 48),
    '\x8a': (Machine.long, 80),
    'G': (lambda m: m.push(m._number(_F8)), 48),
    'X': (lambda m: m.text(_U4), 100),
    '\x8c': (lambda m: m.text(None), 100),
    '\x8d': (lambda m: m.text(_U8), 100),
    'B': (lambda m: m.raw(_U4), 250),
    'C': (lambda m: m.raw(None), 250),
    '\x8e': (lambda m: m.raw(_U8), 250),
    '\x96': (lambda m: m.raw(_U8), 250),
    ')': (lambda m: m.push(()), 16),
    '\x85': (lambda m: m.tuple_of(1), 80),
    '\x86': (lambda m: m.tuple_of(2), 80),
    '\x87': (lambda m: m.tuple_of(3), 96),
    't': (Machine.tuple_to_mark, 80),
    ']': (lambda m: m.push([]), 120),
    '}': (lambda m: m.push({}), 120),
    '\x8f': (lambda m: m.push(set()), 250),
    '\x91': (Machine.frozen_set, 250),
    'a': (Machine.append, 0),
    'e': (Machine.appends, 0),
    's': (Machine.set_item, 150),
    'u': (Machine.set_items, 150),
    '\x90': (Machine.add_items, 0),
    'c': (Machine.named_global, 16),
    '\x93': (Machine.stack_global, 16),
    'R': (Machine.call, 16),
    '\x81': (Machine.call, 16),
    '\x92': (Machine.call_named, 16),
    'b': (Machine.build, 0),
    'Q': (Machine.persistent_id, 16),
  }.items()
}
