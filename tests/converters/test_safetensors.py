"""Safetensors: every type written and read, networks in them, and files with false sizes."""

import io
import json

import ml_dtypes
import numpy as np
import pytest

from panda_jax.converters.checkpoint import read
from panda_jax.converters.conversion import converted
from panda_jax.converters.safetensors import DTYPES, write_safetensors
from panda_jax.errors import InputError
from tests.converters.measure import measurements
from tests.converters.test_networks import assert_same, made
from tests.generators import checkpoints, plain_biggan
from tests.generators.test_biggan import SMALL as BIGGAN
from tests.memory import ON_LINUX

MEGABYTE = 1 << 20


def written(arrays: dict, metadata: dict | None = None) -> bytes:
  file = io.BytesIO()
  write_safetensors(file, arrays, metadata or {})
  return file.getvalue()


def raw(header, data: bytes = b'', size: int | None = None) -> bytes:
  """A file with any header: a text is written unchanged, other values as JSON."""
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  return (len(text) if size is None else size).to_bytes(8, 'little') + text + data


@pytest.fixture
def reads(tmp_path):
  def run(contents: bytes):
    path = tmp_path / 'file.dat'
    path.write_bytes(contents)
    return read(path)

  return run


def test_every_type_there_and_back(reads):
  arrays = {f'a.{name}': np.array([[0, 1, 3], [100, 0, 1]], np.float32).astype(kind) for name, kind in DTYPES.items()}
  arrays |= {'scalar': np.array(0.25, np.float32), 'none': np.zeros((0, 4), ml_dtypes.bfloat16)}
  checkpoint = reads(written(arrays, {'format': 'pt'}))
  assert checkpoint.container == 'safetensors'
  assert checkpoint.metadata == {'format': 'pt'}
  assert checkpoint.tree.keys() == arrays.keys()
  for name, array in checkpoint.tree.items():
    assert (array.dtype, array.shape) == (arrays[name].dtype, arrays[name].shape)
    np.testing.assert_array_equal(array, arrays[name])
    assert not array.flags.writeable


def test_any_size_of_header_is_told_from_a_pickle(reads):
  """The header's size comes first; its bytes may look like the start of a pickle or of a web page."""
  for first in (0x80, ord('<'), ord('P')):
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    header += b' ' * ((first - len(header)) % 256)
    found = reads(raw(header, b'\0\0\0\x40'))
    assert found.container == 'safetensors'
    assert found.tree['x'] == np.float32(2)


def test_networks_in_them(reads):
  tree = checkpoints.stylegan2_rosinality()
  flat = {f'g_ema.{key}': array for key, array in tree['g_ema'].items()} | {'latent_avg': tree['latent_avg']}
  assert_same(converted(reads(written(flat)), 'auto', 'ema', {})[1], made(tree)[1])
  arrays = checkpoints.stylegan2_nvlabs(clamp=256.0).state_dict
  assert_same(converted(reads(written(arrays)), 'auto', 'ema', {})[1], made(arrays)[1])


def test_a_folder_of_huggingface(tmp_path):
  state = plain_biggan.random_checkpoint(np.random.default_rng(0), BIGGAN)
  (tmp_path / 'config.json').write_text(json.dumps(BIGGAN))
  (tmp_path / 'model.safetensors').write_bytes(written(state))
  conversion, _ = converted(read(tmp_path), 'auto', 'ema', {})
  assert (conversion.family, conversion.problems) == ('biggan', [])


ONE = {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}
EIGHT = bytes(8)
HOSTILE = {
  'size beyond the file': (raw({'x': ONE}, EIGHT, size=10**6), 'its header has 1000000 bytes'),
  'no JSON': (raw(b'{"x": }'), 'its header is not JSON'),
  'not text': (raw(b'{"\xff\xfe": 1}'), 'its header is not JSON'),
  'two values': (raw(b'{} {}'), 'its header is not JSON'),
  'deep': (raw(b'{"x":' + b'[' * 20_000), 'its header is not JSON'),
  'twice': (raw(b'{"x": 1, "x": 1}'), 'its header is not JSON'),
  'infinite': (raw(b'{"x": Infinity}'), 'its header is not JSON'),
  'long number': (raw(b'{"x": ' + b'9' * 5000 + b'}'), 'its header is not JSON'),
  'metadata': (raw({'__metadata__': {'x': 1}}), 'its metadata are not texts'),
  'metadata list': (raw({'__metadata__': ['x']}), 'its metadata are not texts'),
  'no entry': (raw({'x': 3}), 'tensor x has not dtype, shape and data_offsets'),
  'more in an entry': (raw({'x': {**ONE, 'run': 'me'}}, EIGHT), 'tensor x has not dtype'),
  'type': (raw({'x': {**ONE, 'dtype': 'F8_E4M3'}}, EIGHT), 'tensor x is of type F8_E4M3; save it as float32'),
  'type list': (raw({'x': {**ONE, 'dtype': ['F32']}}, EIGHT), 'tensor x is of type a list'),
  'negative shape': (raw({'x': {**ONE, 'shape': [-2]}}, EIGHT), 'are not small counts'),
  'real shape': (raw({'x': {**ONE, 'shape': [2.0]}}, EIGHT), 'are not small counts'),
  'shape of many': (raw({'x': {**ONE, 'shape': [1] * 100}}, EIGHT), 'are not small counts'),
  'shape larger': (raw({'x': {**ONE, 'shape': [10**9, 10**9]}}, EIGHT), 'has 8 bytes'),
  'shape smaller': (raw({'x': {**ONE, 'shape': [1]}}, EIGHT), 'of shape (1,) has 8 bytes'),
  'offsets': (raw({'x': {**ONE, 'data_offsets': [0]}}, EIGHT), 'tensor x has no offsets'),
  'offsets that are true': (raw({'x': {**ONE, 'data_offsets': [False, 8]}}, EIGHT), 'tensor x has no offsets'),
  'offsets backwards': (raw({'x': {**ONE, 'data_offsets': [8, 0]}}, EIGHT), 'reaches beyond the file'),
  'offsets beyond': (raw({'x': {**ONE, 'data_offsets': [8, 16]}}, EIGHT), 'reaches beyond the file'),
  'overlap': (raw({'x': ONE, 'y': ONE}, EIGHT), 'overlap or leave gaps'),
  'overlap in part': (raw({'x': ONE, 'y': {**ONE, 'data_offsets': [4, 12]}}, EIGHT + EIGHT), 'overlap or leave gaps'),
  'gap': (raw({'x': {**ONE, 'data_offsets': [8, 16]}}, EIGHT + EIGHT), 'overlap or leave gaps'),
  'bytes that follow': (raw({'x': ONE}, EIGHT + b'more'), 'bytes of it belong to no tensor'),
  'truncated': (raw({'x': ONE}, bytes(7)), 'reaches beyond the file'),
  'name': (raw({'x\n\u202e': ONE}, EIGHT), 'a name is not one'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_a_file_that_lies_costs_one_line(reads, name):
  contents, text = HOSTILE[name]
  with pytest.raises(InputError) as caught:
    reads(contents)
  assert caught.value.argument == 'source'
  assert text in caught.value.problem + '; ' + caught.value.remedy
  assert str(caught.value).isprintable()


@ON_LINUX
def test_headers_cost_no_more_than_they_hold(tmp_path):
  """The same limits as in tests/converters/test_claims.py."""
  bombs = {
    'lists': raw(b'{"x":[' + b','.join([b'[]'] * 2_000_000) + b']}'),
    'dicts': raw(b'{"x":[' + b','.join([b'{}'] * 200_000) + b']}'),
    'names': raw({str(i): ONE for i in range(15_000)}, EIGHT),
    'no arrays': raw({str(i): {'dtype': 'F32', 'shape': [0], 'data_offsets': [0, 0]} for i in range(10_000)}),
    'a header alone': raw(b'{' + b' ' * (50 * MEGABYTE)),
  }
  paths = {name: tmp_path / name for name in bombs}
  for name, path in paths.items():
    path.write_bytes(bombs[name])
  for name, found in measurements(paths).items():
    assert found['error'], name
    assert len(found['error']) <= 300, name
    assert found['seconds'] < 5, (name, found)
    assert found['growth'] < len(bombs[name]) + 100 * MEGABYTE, (name, found)


@pytest.mark.parametrize('blank', ['', '\n', '\n\n  \r\n\t', '\ufeff', ' ' * 300])
def test_a_web_page_is_told_as_one(reads, blank):
  with pytest.raises(InputError, match=r'it is a web page, .*; download the file again, in a browser'):
    reads(f'{blank}<!DOCTYPE html><html>Google Drive - Quota exceeded</html>'.encode())
