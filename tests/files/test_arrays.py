"""Arrays in untrusted files: only numpy's format is read, and headers are checked."""

import io
import os
import struct
import time
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest

from panda_jax.errors import InputError
from panda_jax.features.sources import NpySource
from panda_jax.files.arrays import npy_bytes, npz_bytes, read_npy, read_npz
from panda_jax.generators.labels import parsed_labels

HEADER = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }"


def npy(header: str, data: bytes = b'', version: int = 1) -> bytes:
  text = header.encode('latin-1') + b'\n'
  return b'\x93NUMPY' + bytes((version, 0)) + struct.pack('<H' if version == 1 else '<I', len(text)) + text + data


def of(descr: str = '<f4', shape: str = '(2, 3)', data: bytes = bytes(24), fortran: str = 'False') -> bytes:
  return npy(HEADER % (descr, fortran, shape), data)


HOSTILE = {
  'rows': (of(shape=f'({2**40}, 3)'), 'cut short: 24 of 13194139533312 bytes'),
  'beyond': (of(shape=f'({10**25}, 3)'), 'absurd size'),
  'dimensions': (of(shape=f'({"1, " * 60})', data=bytes(4)), 'none that numpy writes|60 dimensions'),
  'minus': (npy('-' * 5000 + '1'), 'none that numpy writes'),
  'parentheses': (npy('(' * 5000), 'none that numpy writes'),
  'digits': (npy("{'shape': (" + '1' * 9000 + '!'), 'none that numpy writes'),
  'digits apart': (npy("{'shape': (" + '1 ' * 4000 + '!'), 'none that numpy writes'),
  'numbers': (npy("{'shape': (" + '1, ' * 3000 + '!'), 'none that numpy writes'),
  'lists of lists': (npy("{'descr': [" + "], 'shape': [" * 600 + '!'), 'none that numpy writes'),
  'blanks': (npy('{' + ' ' * 9000 + '!'), 'none that numpy writes'),
  'brackets': (npy("{'descr': " + '[' * 5000), 'none that numpy writes'),
  'call': (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (exit(3),), }"), 'none that numpy writes'),
  'twice': (npy("{'descr': '<f4', 'descr': '<f4', 'shape': (), }", bytes(4)), 'none that numpy writes'),
  'more keys': (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': True}"), 'none that numpy writes'),
  'no order': (of(fortran='1'), 'none that numpy writes'),
  'long': (of(data=bytes(25)), 'longer than its header says'),
  'short': (of(data=bytes(23)), 'cut short: 23 of 24'),
  'negative': (of(shape='(-2, 3)'), 'negative'),
  'negatives': (of(shape='(-2, -3)'), 'negative'),
  'header': (b'\x93NUMPY\x02\x00' + struct.pack('<I', 2**31) + b'{', 'header claims 2147483648 bytes'),
  'no header': (b'\x93NUMPY\x01\x00\xff\x00{', 'within its header'),
  'version': (npy(HEADER % ('<f4', 'False', '()'), bytes(4), 9), 'known version'),
  'empty': (b'', 'not a .npy array'),
  'complex': (of('<c8', data=bytes(48)), 'complex numbers'),
  'dates': (of('<M8[s]', data=bytes(48)), 'dates'),
  'times': (of('<m8[ns]', data=bytes(48)), 'times'),
  'objects': (of('|O'), 'Python objects'),
  'text': (of('<U4', data=bytes(96)), 'text'),
  'bytes': (of('|S4'), 'bytes'),
  'void': (of('|V4'), 'V4'),
  'long double': (of('<f16', data=bytes(96)), 'f16'),
  'structure': (
    npy("{'descr': [('a', '<f4'), ('b', '<f4')], 'fortran_order': False, 'shape': (3,), }", bytes(24)),
    'fields',
  ),
  'subarray': (npy("{'descr': ('<f4', (3,)), 'fortran_order': False, 'shape': (2,), }", bytes(24)), 'none that numpy'),
  'not finite': (of(data=np.float32([1, 2, 3, 4, np.nan, 6]).tobytes()), r'entry \(1, 1\) is not finite'),
  'another shape': (of(shape='(6,)'), 'it has 1 dimensions, not 2'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_array_costs_one_sentence_and_nothing_else(name, tmp_path):
  content, said = HOSTILE[name]
  path = tmp_path / 'x.npy'
  path.write_bytes(content)
  tracemalloc.start()
  began = time.process_time()
  try:
    with pytest.raises(InputError, match=said) as caught:
      read_npy(path, 'latents', (2,))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
  finally:
    tracemalloc.stop()
  assert time.process_time() - began < 2
  assert str(caught.value).startswith(f'latents={path}: ')
  assert '\n' not in str(caught.value)
  if name not in ('not finite', 'another shape'):  # which a fit finds when it passes over them, or says otherwise
    with pytest.raises(InputError, match='features='):
      NpySource(path, (1, 2))
  with pytest.raises(InputError, match='labels='):
    parsed_labels(str(path)) if name != 'another shape' else parsed_labels(str(tmp_path / 'none.npy'))


@pytest.mark.parametrize('dtype', ['float16', 'float32', '>f4', 'float64', 'int8', 'uint16', '>i8', 'bool'])
@pytest.mark.parametrize('order', ['C', 'F'])
def test_what_numpy_writes_is_read(dtype, order, tmp_path):
  array = np.asarray(np.arange(24).reshape(2, 3, 4) % 5, dtype, order=order)
  np.save(tmp_path / 'x.npy', array)
  found = read_npy(tmp_path / 'x.npy', 'x', (3,))
  np.testing.assert_array_equal(found, array)
  assert found.dtype == array.dtype
  for save in (np.savez, np.savez_compressed):
    save(tmp_path / 'x.npz', array=array, other=array[:1])
    found = read_npz(tmp_path / 'x.npz', 'x')
    assert list(found) == ['array', 'other']
    np.testing.assert_array_equal(found['array'], array)


def test_headers_of_other_writers_are_read(tmp_path):
  path = tmp_path / 'x.npy'
  for header in (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }",  # numpy of Python 2
    "{'shape':(2,3),'fortran_order':False,'descr':'<f4'}",
    "  {'fortran_order': False , 'descr' : '<f4', 'shape': (2, 3,)}   ",
  ):
    for version in (1, 2, 3):
      path.write_bytes(npy(header, np.arange(6, dtype='<f4').tobytes(), version))
      np.testing.assert_array_equal(read_npy(path, 'x'), np.arange(6).reshape(2, 3))
  for shape in ((), (0, 3), (5,)):
    np.save(path, np.zeros(shape))
    assert read_npy(path, 'x').shape == shape


def test_bfloat16_is_read_where_it_is_taken(tmp_path):
  array = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
  np.save(tmp_path / 'x.npy', array)
  np.testing.assert_array_equal(read_npy(tmp_path / 'x.npy', 'x', kinds='fV'), array)
  with pytest.raises(InputError, match='V2'):
    read_npy(tmp_path / 'x.npy', 'x')


def zipped(members: dict[str, bytes], **options) -> bytes:
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', **options) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return buffer.getvalue()


def flagged(content: bytes) -> bytes:
  """The same with every member marked as encrypted."""
  changed = bytearray(content)
  for signature, place in ((b'PK\x01\x02', 8), (b'PK\x03\x04', 6)):
    at = changed.find(signature)
    while at >= 0:
      changed[at + place] |= 1
      at = changed.find(signature, at + 1)
  return bytes(changed)


def patched(content: bytes, place: int, value: int) -> bytes:
  """The same with a 4-byte number of the directory's first entry changed."""
  at = content.find(b'PK\x01\x02') + place
  return content[:at] + struct.pack('<I', value) + content[at + 4 :]


ONE = {'x.npy': npy_bytes(np.arange(6.0))}
BOMB = zipped({'x.npy': of(shape=f'({2**26},)', data=bytes(2**28))}, compression=zipfile.ZIP_DEFLATED)
ARCHIVES = {
  'bomb': (BOMB, 'claim more than 256 MB'),
  'lying bomb': (patched(BOMB, 24, 1000), 'CRC'),
  'bzip2': (zipped(ONE, compression=zipfile.ZIP_BZIP2), 'compressed in an unknown way'),
  'lzma': (zipped(ONE, compression=zipfile.ZIP_LZMA), 'compressed in an unknown way'),
  'encrypted': (flagged(zipped(ONE)), 'encrypted'),
  'two sizes': (patched(zipped(ONE), 24, 4000), 'two sizes'),
  'checksum': (patched(zipped(ONE), 16, 7), 'CRC'),
  'outside': (patched(zipped(ONE), 42, 1 << 30), 'cannot be read'),
  'no array': (zipped({'x': ONE['x.npy']}), 'name of a member'),
  'long name': (zipped({'x' * 5000 + '.npy': ONE['x.npy']}), 'name of a member'),
  'strange name': (zipped({'x\x07.npy': ONE['x.npy']}), 'name of a member'),
  'many': (zipped({f'{i}.npy': b'' for i in range(300)}), 'more than 256 members'),
  'header': (zipped({'x.npy': of(shape=f'({2**40}, 3)')}), 'cut short'),
  'objects': (zipped({'x.npy': of('|O')}), 'Python objects'),
  'no zip': (b'PK nonsense', 'not an .npz file'),
  'empty': (b'', 'not an .npz file'),
  'cut': (zipped(ONE)[:-30], 'not an .npz file'),
  'comment': (zipped(ONE)[:-2] + b'\x05\x00hello', 'not an .npz file'),
}


@pytest.mark.parametrize('name', ARCHIVES)
def test_a_hostile_archive_costs_one_sentence_and_nothing_else(name, tmp_path):
  content, said = ARCHIVES[name]
  path = tmp_path / 'x.npz'
  path.write_bytes(content)
  tracemalloc.start()
  began = time.process_time()
  try:
    with pytest.raises(InputError, match=said) as caught:
      read_npz(path, 'latents')
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
  finally:
    tracemalloc.stop()
  assert time.process_time() - began < 2
  assert len(caught.value.problem) < 200


def test_members_of_one_name_are_refused(tmp_path):
  path = tmp_path / 'x.npz'
  path.write_bytes(zipped(ONE | {'y.npy': ONE['x.npy']}).replace(b'y.npy', b'x.npy'))
  with pytest.raises(InputError, match='x is there twice'):
    read_npz(path, 'x')


def test_members_are_chosen_by_name(tmp_path):
  path = tmp_path / 'x.npz'
  path.write_bytes(npz_bytes(a=np.zeros(2), b=np.ones(3), text=np.asarray('words')))
  assert list(read_npz(path, 'x', ('b',), optional=('a', 'c'))) == ['b', 'a']
  assert str(read_npz(path, 'x', ('text',), texts=('text',))['text']) == 'words'
  for names, said in ((('c', 'd', 'a'), 'it lacks c, d'), (('text',), 'holds text'), (None, 'holds text')):
    with pytest.raises(InputError, match=said):
      read_npz(path, 'x', names)


def test_compressed_members_are_refused_where_ours_are_stored(tmp_path):
  path = tmp_path / 'x.npz'
  path.write_bytes(npz_bytes(packed=True, a=np.zeros(2)))
  assert read_npz(path, 'x')['a'].shape == (2,)
  with pytest.raises(InputError, match='a is compressed'):
    read_npz(path, 'x', packed=False)


@pytest.mark.parametrize('kind', ['pipe', 'folder', 'device', 'missing', 'long name'])
def test_only_regular_files_are_opened(kind, tmp_path):
  path = tmp_path / ('x' if kind != 'long name' else 'x' * 5000)
  if kind == 'pipe':
    os.mkfifo(path)
  elif kind == 'folder':
    path.mkdir()
  elif kind == 'device':
    path.symlink_to('/dev/zero')
  for read in (read_npy, read_npz):
    with pytest.raises(InputError, match='cannot be read'):
      read(path, 'latents')
  np.save(tmp_path / 'real.npy', np.zeros(3))
  (tmp_path / 'link.npy').symlink_to(tmp_path / 'real.npy')
  assert read_npy(tmp_path / 'link.npy', 'latents').shape == (3,)
