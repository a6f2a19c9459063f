"""Small files that need much memory or time: they are handled within limits of both, in their own process."""

import io
import shutil
import struct
import zipfile

import numpy as np
import pytest

from panda_jax.converters.checkpoint import read
from panda_jax.errors import InputError
from tests.converters.measure import measurements
from tests.converters.writers import (
  MAGIC,
  Call,
  Global,
  Raw,
  Storage,
  Tensor,
  emit,
  module,
  nested_storages,
  pickled,
  plain_module,
  write_legacy,
  write_nvlabs,
  write_zip,
)
from tests.memory import ON_LINUX

MEGABYTE = 1 << 20


def flood(code: bytes, count: int, before: bytes = b'', after: bytes = b'.') -> bytes:
  return b'\x80\x04' + before + code * count + after


def laughs(empty: bytes, join: bytes, levels: int = 60) -> bytes:
  """Nested lists: each level holds the level below ten times."""
  code = b'\x80\x04' + empty + b'\x94'
  for level in range(levels):
    refer = b'h' + bytes([level])
    code += b'0' + join + refer * 10 + (b't' if join == b'(' else b'e') + b'\x94'
  return code + b'.'


def called(times: int, function: bytes, arguments: bytes) -> bytes:
  """A function called many times with the same arguments, all results kept in a list."""
  return b'\x80\x04' + function + b'\x940' + arguments + b'\x940](' + b'h\x00h\x01R' * times + b'e.'


def module_doubled(levels: int = 25) -> bytes:
  child = module('Layer', parameters={'w': np.ones(1, np.float32)})
  raw = emit(child, nested_storages)
  code = b'\x80\x04' + raw + b'\x94'
  for level in range(levels):
    twice = {'a': Raw(b'h' + bytes([level])), 'b': Raw(b'h' + bytes([level]))}
    code += b'0' + emit(module('Layer', modules=twice), nested_storages) + b'\x94'
  return code + b'.'


def plain_doubled(levels: int = 25) -> bytes:
  code = (
    b'\x80\x04' + emit(plain_module('timm.Block', parameters={'w': np.ones(1, np.float32)}), nested_storages) + b'\x94'
  )
  for level in range(levels):
    twice = {'a': Raw(b'h' + bytes([level])), 'b': Raw(b'h' + bytes([level]))}
    code += b'0' + emit(plain_module('timm.Block', modules=twice), nested_storages) + b'\x94'
  return code + b'.'


def many_views(count: int) -> bytes:
  storage = Storage(np.ones(MEGABYTE, np.float32))
  return write_zip([Tensor(storage, (MEGABYTE,)) for _ in range(count)])


def big_endian_views() -> bytes:
  """One storage under the name of each fitting type; a reader could copy each to change its byte order."""
  kinds = ('FloatStorage', 'IntStorage')
  data = np.ones(2 * MEGABYTE, np.float32)
  first = write_zip([Storage(data)], order='big')
  code = pickled([Raw(emit(('storage', Global('torch', kind), '0', 'cpu', data.size)) + b'Q') for kind in kinds])
  return with_pickle(first, code)


def with_pickle(raw: bytes, code: bytes) -> bytes:
  """A zip torch file with another pickle."""
  out = io.BytesIO()
  with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, 'w') as new:
    for name in old.namelist():
      new.writestr(name, code if name.endswith('data.pkl') else old.read(name))
  return out.getvalue()


def many_members(count: int) -> bytes:
  return write_zip({}, more=[(f'archive/data/{i}', b'') for i in range(count)])


def relocated(**fields) -> bytes:
  """A zip file with a false end record."""
  raw = bytearray(write_zip({'x': np.ones(4, np.float32)}))
  end = raw.rindex(b'PK\x05\x06')
  for name, value in fields.items():
    form, place = {'count': ('<H', 8), 'size': ('<I', 12), 'start': ('<I', 16)}[name]
    struct.pack_into(form, raw, end + place, value)
    if name == 'count':
      struct.pack_into(form, raw, end + 10, value)
  return bytes(raw)


def overlapping() -> bytes:
  """A member inside another one, with its own header."""
  inner = write_zip({}, more=[('archive/data/1', bytes(16))])
  start = inner.index(b'archive/data/1') - 30
  header = np.frombuffer(inner[start : start + 60], np.uint8)
  raw = bytearray(write_zip({'x': header}, more=[('archive/data/1', bytes(16))]))
  entry = raw.rindex(b'archive/data/1') - 46
  struct.pack_into('<I', raw, entry + 42, raw.index(b'archive/data/1') - 30)
  return bytes(raw)


U4, U8 = struct.Struct('<I').pack, struct.Struct('<Q').pack
GLOBAL_ARRAY = b'cnumpy.core.multiarray\n_reconstruct\n'
LETTERS = b'X' + U4(MEGABYTE) + b'a' * MEGABYTE


def names(count: int) -> bytes:
  return b''.join(b'X\x08\x00\x00\x00%08d' % i for i in range(count))


def stream() -> bytes:
  return write_legacy(Storage(np.ones(MEGABYTE, np.float32)))


def deep_module(levels: int):
  found = module('Layer', parameters={'w' * 400: np.ones(1, np.float32)})
  for _ in range(levels):
    found = module('Layer', modules={'m' * 400: Raw(emit(found, nested_storages))})
  return found


def shared_attribute(count: int, length: int) -> bytes:
  values = b'](' + b'N' * length + b'e\x940'
  state = {f'a{i}': Raw(b'h\x00') for i in range(count)}
  return b'\x80\x04' + values + emit(module('Layer', **state)) + b'.'


def numpy_dtype(order: str) -> Call:
  return Call('numpy', 'dtype', ('f4', False, True), state=(3, order, None, None, None, -1, -1, 0))


def array_of(shape: tuple, raw: object, order: str = '<') -> Call:
  state = (1, shape, numpy_dtype(order), False, raw)
  return Call('numpy.core.multiarray', '_reconstruct', (Global('numpy', 'ndarray'), (0,), b'b'), state=state)


def turned_arrays(count: int) -> bytes:
  """Arrays in the other byte order that share the same bytes."""
  raw = b'B' + U4(4 * MEGABYTE) + bytes(4 * MEGABYTE) + b'\x940'
  arrays = [array_of((MEGABYTE,), Raw(b'h\x00'), '>') for _ in range(count)]
  return b'\x80\x04' + raw + emit(arrays) + b'.'


def sets_of(texts: bytes, members: bytes, count: int) -> bytes:
  """Many sets with the same texts."""
  return b'\x80\x04](' + texts + (b'\x8f(' + members + b'\x90') * count + b'e.'


def long_text(place: int) -> bytes:
  return b'X' + U4(MEGABYTE) + b'a' * MEGABYTE + b'r' + U4(place) + b'0'


def dotted(count: int) -> bytes:
  """A generator's keys with as many prefixes, and other keys."""
  array = emit(array_of((0,), b'')) + b'r' + U4(0) + b'0'
  keys = ['layer0.weight', *(f'{i:x}.layer0.weight' for i in range(count)), *(f'z{i:x}' for i in range(count))]
  return b'\x80\x04' + array + b'}(' + b''.join(emit(key) + b'j' + U4(0) for key in keys) + b'u.'


def many_times(value: object, wrapped) -> bytes:
  """A value of a megabyte, in many places."""
  code = emit(value, nested_storages) + b'r' + U4(0) + b'0'
  return b'\x80\x04' + code + emit(wrapped(Raw(b'j' + U4(0))), nested_storages) + b'.'


def write_laughing_legacy() -> bytes:
  """A legacy file whose protocol is huge as a text; an error message might show it."""
  return pickled(MAGIC) + laughs(b']', b'](') + pickled({})


BOMBS = {
  'memo index': lambda: b'\x80\x02Nr' + U4(0xFFFFFFFF) + b'j' + U4(0xFFFFFFFE) + b'.',
  'memo indexes': lambda: b'\x80\x02N' + b''.join(b'r' + U4(i * 4000) for i in range(1_000_000)) + b'.',
  'long bytes': lambda: b'\x80\x04\x8e' + U8(1 << 62) + b'.',
  'long bytearray': lambda: b'\x80\x05\x96' + U8(1 << 40) + b'.',
  'long text': lambda: b'\x80\x04\x8d' + U8(1 << 62) + b'.',
  'longest text': lambda: b'\x80\x02X' + U4(0xFFFFFFFF) + b'.',
  'long frame': lambda: b'\x80\x04\x95' + U8((1 << 64) - 1) + b'N.',
  'long integer': lambda: b'\x80\x02\x8b' + U4(0x7FFFFFFF) + b'.',
  'integer': lambda: b'\x80\x02\x8a\xff' + b'\x7f' * 255 + b'.',
  'sets': lambda: flood(b'\x8f', 3_000_000, b'(', b't.'),
  'dicts': lambda: flood(b'}', 3_000_000, b'(', b't.'),
  'lists': lambda: flood(b']', 3_000_000, b'(', b't.'),
  'marks': lambda: flood(b'(', 3_000_000),
  'nones': lambda: flood(b'N', 3_000_000, b'(', b't.'),
  'tuples': lambda: flood(b')', 3_000_000, b'(', b't.'),
  'floats': lambda: flood(b'G' + b'\x40' * 8, 1_000_000, b'(', b't.'),
  'memos': lambda: flood(b'\x94', 3_000_000, b'N'),
  'copies': lambda: flood(b'2', 3_000_000, b'N'),
  'pushed and popped': lambda: flood(b'N0', 3_000_000, b'N'),
  'short texts': lambda: flood(b'\x8c\x00', 3_000_000, b'(', b't.'),
  'wide text': lambda: b'\x80\x02X' + U4(12 * MEGABYTE + 4) + '😀'.encode() + b'a' * (12 * MEGABYTE) + b'.',
  'deep lists': lambda: flood(b']', 100_000, b'', b'a' * 99_999 + b'.'),
  'deep tuples': lambda: flood(b'\x85', 300_000, b')'),
  'deep tuple as key': lambda: flood(b'\x85', 400_000, b'})', b'Ns.'),
  'deep dicts': lambda: flood(b'}N', 60_000, b'', b'N' + b's' * 60_000 + b'.'),
  'laughing lists': lambda: laughs(b']', b']('),
  'laughing tuples': lambda: laughs(b')', b'('),
  'list in itself': lambda: b'\x80\x04]\x94h\x00a.',
  'dict in itself': lambda: b'\x80\x04}\x94Nh\x00s.',
  'tuple in itself': lambda: b'\x80\x04]\x94h\x00\x85a.',
  'colliding integers': lambda: pickled({i << 48: 0 for i in range(50_000)}),
  'repeated number': lambda: write_zip({'x': Tensor(Storage(np.ones(1, np.float32)), (1 << 30,), (0,))}),
  'repeated numbers': lambda: many_views(200),
  'turned round': big_endian_views,
  'modules in modules': module_doubled,
  'one list as many attributes': lambda: shared_attribute(20_000, 250),
  'one long list as many attributes': lambda: shared_attribute(20_000, 20_000),
  'unknown globals': lambda: flood(b'ctimm.models\nBlock\n', 500_000, b'(', b't.'),
  'unknown calls': lambda: called(1_000_000, b'ctimm.models\nBlock\n', b')'),
  'long names of unknown globals': lambda: flood(b'c' + b'a' * 140 + b'\n' + b'b' * 140 + b'\n', 100_000, b'(', b't.'),
  'plain modules in modules': plain_doubled,
  'arrays of dill': lambda: called(1_000_000, b'cdill._dill\n_create_array\n', GLOBAL_ARRAY + b'))\x87'),
  'module names': lambda: write_nvlabs(deep_module(5)),
  'encodings': lambda: called(20_000, b'c_codecs\nencode\n', LETTERS + b'X\x06\x00\x00\x00latin1\x86'),
  'sets of lists': lambda: called(20_000, b'cbuiltins\nset\n', b'](' + names(50_000) + b'e\x85'),
  'sets of a long text': lambda: sets_of(long_text(0), b'j' + U4(0), 100_000),
  'sets of equal long texts': lambda: sets_of(long_text(0) + long_text(1), b'j' + U4(0) + b'j' + U4(1), 100_000),
  'prefixes': lambda: dotted(27_000),
  'arrays': lambda: called(1_000_000, GLOBAL_ARRAY, b')'),
  'ordered dicts': lambda: called(1_000_000, b'ccollections\nOrderedDict\n', b')'),
  'storages': lambda: called(500_000, b'ctorch.storage\n_load_from_bytes\n', emit((stream(),))),
  'wide dtype': lambda: pickled(Call('numpy', 'dtype', ('V2147483647', False, True))),
  'numpy giant': lambda: pickled(array_of((1 << 40, 1 << 40), b'')),
  'numpy nothing': lambda: pickled(array_of((0, 1 << 47, 1 << 47), b'')),
  'numpy turned': lambda: turned_arrays(50),
  'legacy keys': write_laughing_legacy,
  'members': lambda: many_members(40_000),
  'directory beyond': lambda: relocated(start=0xFFFFFFF0),
  'directory of gigabytes': lambda: relocated(size=0xFFFFFFF0),
  'count of members': lambda: relocated(count=0xFFFE),
  'no 64-bit directory': lambda: relocated(count=0xFFFF),
  'overlapping members': overlapping,
  'compressed zeros': lambda: write_zip(
    {'x': Tensor(Storage(np.zeros(64 * MEGABYTE, np.float32)), (1,))}, compression=zipfile.ZIP_DEFLATED
  ),
  'compressed pickle': lambda: write_zip({'x': 'a' * (64 * MEGABYTE)}, compression=zipfile.ZIP_DEFLATED),
  'name of a global': lambda: b'\x80\x02c' + b'a' * (4 * MEGABYTE),
}


@pytest.fixture(scope='module')
def met(tmp_path_factory):
  """{bomb: result of measure.py}, and {bomb: bytes}."""
  folder = tmp_path_factory.mktemp('bombs')
  paths = {}
  for number, (name, make) in enumerate(BOMBS.items()):
    paths[name] = folder / f'{number}.pkl'
    paths[name].write_bytes(make())
  sizes = {name: path.stat().st_size for name, path in paths.items()}
  found = measurements(paths)
  shutil.rmtree(folder)
  return found, sizes


HARMLESS = {'colliding integers', 'one long list as many attributes'}  # strange, but read within the same limits


@ON_LINUX
@pytest.mark.parametrize('name', BOMBS)
def test_bombs_are_refused_within_bounds(met, name):
  outcomes, sizes = met
  found = outcomes[name]
  assert name in HARMLESS or found['error'] is not None
  assert len(found['error'] or '') < 600
  assert found['seconds'] < 6
  assert found['growth'] < 2 * sizes[name] + 64 * MEGABYTE


MEGABYTE_OF_ONES = np.ones(MEGABYTE // 4, np.float32)
REPEATED = {
  'arrays over the same bytes': lambda: many_times(
    bytes(MEGABYTE), lambda raw: [array_of((MEGABYTE // 4,), raw) for _ in range(50)]
  ),
  'one array': lambda: many_times(
    array_of((MEGABYTE // 4,), bytes(MEGABYTE)), lambda array: {str(i): array for i in range(50)}
  ),
  'one module': lambda: many_times(
    module('Layer', parameters={'w': MEGABYTE_OF_ONES}),
    lambda layer: module('Generator', modules={str(i): layer for i in range(50)}),
  ),
}


@pytest.mark.parametrize('name', REPEATED)
def test_numbers_that_stand_for_many_are_counted_each_time(tmp_path, name):
  path = tmp_path / 'network.pkl'
  path.write_bytes(REPEATED[name]())
  with pytest.raises(InputError, match='its tensors claim to be larger than the file'):
    read(path)
