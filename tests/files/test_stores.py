"""Folders of weights that claim, refer to or decompress to more than they hold: an error before Orbax reads them."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts

from panda_jax.files import stores, zstd

ROOT = Path(__file__).parents[2]
MEGABYTE = 1 << 20
ARRAYS = {
  'a.0.weight': np.arange(6, dtype=np.float32).reshape(2, 3),
  'a.0.bias': np.ones(3, np.float32),
  'b': np.float32(2),
}
DESCRIBED = {'zarr_format': 2, 'order': 'C', 'filters': None, 'fill_value': None, 'dtype': '<f4', 'compressor': None}


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  folder = tmp_path_factory.mktemp('written') / 'weights'
  stores.write(folder, {name: value.astype(np.float32) for name, value in ARRAYS.items()})
  return folder


@pytest.fixture
def folder(written, tmp_path):
  return shutil.copytree(written, tmp_path / 'weights')


def frame(block: bytes, count: int) -> bytes:
  """A zstd frame of the same block again and again, without its last one."""
  return zstd.FRAME + b'\x00\x58' + block * count


def zeros(count: int) -> bytes:
  """A zstd frame that unfolds to `count` times 128 kB of zeros, from four bytes each."""
  header = zstd.LARGEST_BLOCK << 3 | zstd.REPEATED << 1
  last = (header | 1).to_bytes(3, 'little') + b'\0'
  return frame(header.to_bytes(3, 'little') + b'\0', count - 1) + last


def store(folder: Path, entries: dict[str, bytes], **config) -> Path:
  """A folder of weights with these keys, whose record names the arrays among them."""
  folder.mkdir()
  base = {'driver': 'ocdbt', 'base': f'file://{folder}/', 'config': {'max_inline_value_bytes': 1024, **config}}
  opened = ts.KvStore.open(base).result()
  with ts.Transaction() as transaction:
    for key, value in entries.items():
      opened.with_transaction(transaction)[key] = value
  names = [key.removesuffix('/.zarray') for key in entries if key.endswith('/.zarray')]
  tree = {str(i): {'key_metadata': [{'key': part} for part in name.split('.')]} for i, name in enumerate(names)}
  (folder / stores.TREE).write_text(json.dumps({'tree_metadata': tree}))
  return folder


def described(shape: tuple[int, ...], **changes) -> bytes:
  return json.dumps(DESCRIBED | {'shape': shape, 'chunks': shape} | changes).encode()


def replaced(path: Path, kind: str) -> None:
  """Something else in the place of a file."""
  path.unlink()
  if kind == 'pipe':
    os.mkfifo(path)
  elif kind == 'socket':
    with socket.socket(socket.AF_UNIX) as made:
      here = os.getcwd()
      os.chdir(path.parent)  # the path of a socket may have 100 characters
      made.bind(path.name)
      os.chdir(here)
  elif kind == 'folder':
    path.mkdir()
  else:
    path.symlink_to({'device': '/dev/zero', 'nothing': 'nowhere', 'itself': path.name}[kind])


def test_what_is_written_is_stored(written):
  found = stores.stored(written)
  assert found == {name: (value.shape, np.dtype(np.float32)) for name, value in ARRAYS.items()}
  arrays = stores.read(written, found)
  assert all(np.array_equal(arrays[name], value) for name, value in ARRAYS.items())


REASONS = {
  **dict.fromkeys(('device', 'pipe', 'socket'), 'not a regular file'),
  'folder': r'Is a directory|No such file|there is no|a file that is not in it',
  'nothing': 'No such file',
  'itself': 'Too many levels',
}


@pytest.mark.parametrize('kind', REASONS)
def test_only_regular_files(folder, kind):
  for path in (folder / stores.TREE, folder / stores.MANIFEST, next((folder / 'd').iterdir())):
    kept = path.read_bytes()
    replaced(path, kind)
    with pytest.raises(
      ValueError, match=r'not a regular file|No such file|Too many levels|no manifest|Is a directory|refers'
    ):
      stores.stored(folder)
    shutil.rmtree(path) if kind == 'folder' else path.unlink()
    path.write_bytes(kept)
  stores.stored(folder)


def test_a_link_to_a_regular_file_is_as_good(folder, tmp_path):
  path = next((folder / 'd').iterdir())
  path.rename(tmp_path / 'elsewhere')
  path.symlink_to(tmp_path / 'elsewhere')
  assert set(stores.stored(folder)) == set(ARRAYS)


def test_files_are_bounded_in_number_and_size(folder):
  with open(folder / '_sharding', 'wb') as file:
    file.truncate(stores.LARGEST_RECORD + 1)
  with pytest.raises(ValueError, match='_sharding in it has 4194305 bytes'):
    stores.stored(folder)
  with open(folder / '_sharding', 'wb') as file:
    file.truncate(0)
  (folder / 'd' / 'sparse').touch()
  os.truncate(folder / 'd' / 'sparse', stores.LARGEST)
  with pytest.raises(ValueError, match='more than 16 GB'):
    stores.stored(folder)
  (folder / 'd' / 'sparse').unlink()
  (folder / 'manifest.0000000000000000').touch()
  with pytest.raises(ValueError, match='none of its files'):
    stores.stored(folder)
  (folder / 'manifest.0000000000000000').unlink()
  for number in range(stores.MOST_FILES):
    (folder / 'd' / f'{number}').touch()
  with pytest.raises(ValueError, match='more than 1000 files'):
    stores.stored(folder)


ONE = {'a/.zarray': described((2,)), 'a/0': bytes(8)}
PACKED = described((2,), compressor={'id': 'zstd', 'level': 1})
CLAIMS = {
  'elements': ({'a/.zarray': described((10**6, 10**6))}, 'claim 3814697 MB'),
  'elements in many arrays': ({f'a{i}/.zarray': described((4 * 10**6,)) for i in range(100)}, 'claim 1525 MB'),
  'an axis': ({'a/.zarray': described((1 << 62,))}, 'another way'),
  'axes': ({'a/.zarray': described((1,) * 60)}, 'another way'),
  'no axis': ({'a/.zarray': described((0, 5))}, 'another way'),
  'a chunk': (ONE | {'a/.zarray': described((2,), chunks=[10**9])}, 'another way'),
  'small chunks': (ONE | {'a/.zarray': described((10**6,), chunks=[1])}, 'another way'),
  'a type': (ONE | {'a/.zarray': described((2,), dtype='|V1000000')}, 'another way'),
  'fields': (ONE | {'a/.zarray': described((2,), dtype=[['f', '<f4']])}, 'dtype is not a text'),
  'another compressor': (ONE | {'a/.zarray': described((2,), compressor={'id': 'blosc'})}, 'another way'),
  'filters': (ONE | {'a/.zarray': described((2,), filters=[{'id': 'delta'}])}, 'filters'),
  'deep description': (ONE | {'a/.zarray': b'[' * 1000 + b']' * 1000}, 'too many|deep'),
  'long description': (ONE | {'a/.zarray': described((2,)) + b' ' * 10**6}, 'too long'),
  'no numbers': ({'a/.zarray': described((2,))}, 'has no numbers'),
  'parts of no array': (ONE | {'a/1': bytes(8)}, 'parts that no array has'),
  'another store': (ONE | {'a/zarr.json': b'{}'}, 'parts that no array has'),
  'chunk of gigabytes': ({'a/.zarray': PACKED, 'a/0': zeros(10_000)}, 'unfolds to more'),
  'chunk cut off': ({'a/.zarray': PACKED, 'a/0': zeros(10_000)[:-4]}, 'unfolds to more'),
  'chunk not compressed': (
    {'a/.zarray': PACKED, 'a/0': bytes(8)},
    'not compressed by zstd',
  ),
  'chunk too long': (ONE | {'a/0': bytes(3 * MEGABYTE)}, 'unfolds to more'),
  'keys': ({f'{i}/0': b'' for i in range(9000)}, 'more than 4096 arrays'),
}


@pytest.mark.parametrize('name', CLAIMS)
def test_claims_are_told(tmp_path, name):
  entries, text = CLAIMS[name]
  with pytest.raises(ValueError, match=text) as caught:
    stores.stored(store(tmp_path / 'weights', entries))
  assert len(str(caught.value)) < 200


def test_more_lists_of_keys_than_one(tmp_path):
  entries = {f'{i}/0': bytes(100) for i in range(100)}
  with pytest.raises(ValueError, match='no single list of keys'):
    stores.stored(store(tmp_path / 'weights', entries, max_decoded_node_bytes=1000))


def test_references_stay_inside(tmp_path):
  """The store's own tools write a list of keys that refers to a file outside."""
  outside = tmp_path / 'outside'
  outside.write_bytes(bytes(100))
  folder = store(tmp_path / 'weights', {'a/.zarray': described((2000,)), 'a/0': bytes(8000)})
  base = ts.KvStore.open({'driver': 'file', 'path': f'{folder}/'}).result()
  root = ts.ocdbt.dump(base).result()['versions'][-1]['root']['location']
  entry = next(entry for entry in ts.ocdbt.dump(base, root).result()['entries'] if 'indirect_value' in entry)
  files = stores._files(folder)
  assert len(stores._value(folder, files, entry, MEGABYTE)) == 8000
  *_, start, length = entry['indirect_value'].split(':')
  for location in (
    'value::../outside:0:100',
    'value:../:outside:0:100',
    'value:::0:100',
    f'value::{outside}:0:100',
    'value::d/../../outside:0:100',
    entry['indirect_value'].replace(f':{length}', f':{MEGABYTE}'),
    entry['indirect_value'].replace(f':{start}:', ':99999999:'),
  ):
    with pytest.raises(ValueError, match=r'not in it|too short'):
      stores._value(folder, files, {'indirect_value': location}, 2 * MEGABYTE)


def test_lists_of_keys_that_unfold(folder):
  for path in (folder / stores.MANIFEST, next((folder / 'd').iterdir())):
    kept = path.read_bytes()
    path.write_bytes(kept[: stores.HEADER] + zeros(1000) + kept[-stores.TRAILER :])
    with pytest.raises(ValueError, match=r'unfolds to too many|too short|refers'):
      stores.stored(folder)
    path.write_bytes(kept)


@pytest.mark.parametrize(
  ('change', 'text'),
  [
    ({'use_zarr3': True}, 'other arrays'),
    ({'tree_metadata': {}}, 'other arrays'),
    ({'tree_metadata': []}, 'tree_metadata is not an object'),
    ({'tree_metadata': {'a': 1}}, 'an entry of _METADATA'),
    ({'tree_metadata': {'a': {'key_metadata': [{'key': 3}]}}}, 'key is not a text'),
  ],
  ids=str,
)
def test_the_record_is_of_the_same_arrays(folder, change, text):
  path = folder / stores.TREE
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(ValueError, match=text):
    stores.stored(folder)


def test_how_much_a_frame_unfolds_to():
  assert zstd.most(zeros(5)) == 5 * zstd.LARGEST_BLOCK
  assert zstd.most(zeros(5) + zeros(2)) == 7 * zstd.LARGEST_BLOCK
  # It tells its size, and ends with a checksum.
  raw = zstd.FRAME + b'\x24\x03' + (1 | 3 << 3).to_bytes(3, 'little') + b'abc' + b'sum?'
  assert zstd.most(raw) == 3
  assert zstd.most(frame((zstd.COMPRESSED << 1 | 2 << 3).to_bytes(3, 'little') + b'ab', 7)) == 7 * zstd.LARGEST_BLOCK
  assert zstd.most(frame(b'\x06\0\0', 3)) == 0  # a kind that there is not
  for damaged in (b'abcd' * 4, zstd.FRAME, zeros(1) + b'more'):
    with pytest.raises(ValueError, match='not compressed'):
      zstd.most(damaged)


MEASURED = """
import json, resource, sys, time
import flax.nnx, jax.numpy, orbax.checkpoint
import panda_jax
from panda_jax.errors import InputError
from panda_jax.generators import registry
for family in registry.FAMILIES:
  registry.generator_class(family)
jax.numpy.ones(3).block_until_ready()
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
whole, *folders = sys.argv[1:]
panda_jax.load_generator(whole)
for folder in folders:
  before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
  try:
    panda_jax.load_generator(folder)
    said = None
  except InputError as error:
    said = str(error)
  growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  print(json.dumps({'said': said, 'seconds': time.process_time() - started, 'growth': growth << 10}))
"""
WHOLE = ROOT / 'panda_jax' / 'assets' / 'cats64'


def with_options(folder: Path, **options) -> None:
  path = folder / 'generator.json'
  told = json.loads(path.read_text())
  path.write_text(json.dumps(told | {'options': told['options'] | options}))


def with_weights(folder: Path, entries: dict[str, bytes]) -> None:
  shutil.rmtree(folder / 'weights')
  store(folder / 'weights', entries)


FOLDERS = {
  'mapping layers': lambda folder: with_options(folder, mapping_widths=[1] * 200_000),
  'taps': lambda folder: with_options(folder, resample_filter=[1e-6] * 200_000),
  'deep options': lambda folder: (folder / 'generator.json').write_text('{"format": 1, "options": ' + '[' * 100_000),
  'pipe': lambda folder: replaced(folder / 'weights' / '_METADATA', 'pipe'),
  'description is a pipe': lambda folder: replaced(folder / 'generator.json', 'pipe'),
  'device': lambda folder: replaced(folder / 'weights' / 'manifest.ocdbt', 'device'),
  'description is a device': lambda folder: replaced(folder / 'generator.json', 'device'),
  'elements': lambda folder: with_weights(folder, CLAIMS['elements'][0]),
  'chunk': lambda folder: with_weights(folder, CLAIMS['chunk of gigabytes'][0]),
  'keys': lambda folder: with_weights(folder, CLAIMS['keys'][0]),
}


def test_no_folder_costs_much(tmp_path):
  for name, change in FOLDERS.items():
    shutil.copytree(WHOLE, tmp_path / name)
    change(tmp_path / name)
  command = [sys.executable, '-c', MEASURED, str(WHOLE), *(str(tmp_path / name) for name in FOLDERS)]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
  assert done.returncode == 0, done.stderr
  for name, line in zip(FOLDERS, done.stdout.splitlines(), strict=True):
    found = json.loads(line)
    assert found['said'], name
    assert len(found['said']) <= 300
    assert found['seconds'] < 5, name
    assert found['growth'] < 200 * MEGABYTE, name
