"""Reading the three containers: every dtype, strides, offsets, shared storages, and what is refused by name."""

import hashlib
import io
import json
import os
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from panda_jax.converters.checkpoint import Module, read
from panda_jax.converters.limits import shown
from panda_jax.errors import InputError
from tests.converters.writers import (
  MAGIC,
  STORAGES,
  Call,
  Global,
  Raw,
  Storage,
  Tensor,
  arrays_like_a_checkpoint,
  emit,
  module,
  network,
  numpy_dtype,
  pickled,
  state_dict,
  wide,
  write_legacy,
  write_nvlabs,
  write_zip,
)

WRITERS = {'zip': write_zip, 'legacy': write_legacy, 'nvlabs': write_nvlabs}


@pytest.fixture
def reads(tmp_path):
  """Reads bytes as a file with a suffix of no meaning."""

  def run(raw: bytes, name='file.dat'):
    path = tmp_path / name
    path.write_bytes(raw)
    return read(path)

  return run


@pytest.fixture
def refusal(reads):
  """The error message for these bytes."""

  def run(raw: bytes) -> str:
    with pytest.raises(InputError) as caught:
      reads(raw)
    assert caught.value.argument == 'source'
    assert '\n' not in str(caught.value)
    return str(caught.value)

  return run


def same(found, expected):
  assert found.dtype == expected.dtype
  assert found.shape == expected.shape
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('container', WRITERS)
def test_a_state_dict_comes_back_bit_for_bit(reads, container):
  arrays = arrays_like_a_checkpoint()
  raw = WRITERS[container]({'model': state_dict(arrays), 'step': 7, 'args': Call('argparse', 'Namespace', new=True)})
  checkpoint = reads(raw)
  assert checkpoint.container == container
  assert checkpoint.sha256 == hashlib.sha256(raw).hexdigest()
  assert (checkpoint.size, checkpoint.config) == (len(raw), None)
  assert list(checkpoint.tree) == ['model', 'step', 'args']
  assert checkpoint.tree['step'] == 7
  assert list(checkpoint.tree['model']) == list(arrays)
  for name, array in arrays.items():
    same(checkpoint.tree['model'][name], array)
  assert checkpoint.tree['model']['layer0.noise_strength'].shape == ()


@pytest.mark.parametrize('container', WRITERS)
@pytest.mark.parametrize('dtype', STORAGES, ids=str)
def test_every_dtype(reads, container, dtype):
  array = np.array([0, 1, 3, 100, 0], np.float32).astype(dtype)
  same(reads(WRITERS[container]({'x': array})).tree['x'], array)


@pytest.mark.parametrize('dtype', [np.float32, np.int64, np.float16, ml_dtypes.bfloat16, np.bool_])
def test_big_endian_zip_files(reads, dtype):
  array = np.array([0, 1, 3, 100], np.float32).astype(dtype)
  found = reads(write_zip({'x': array}, order='big')).tree['x']
  assert found.dtype.isnative
  same(found, array)


@pytest.mark.parametrize('container', WRITERS)
def test_offsets_strides_and_shared_storages(reads, container):
  data = np.arange(24, dtype=np.float32)
  storage = Storage(data)
  tree = reads(
    WRITERS[container](
      {
        'channels_last': Tensor(storage, (2, 3, 2, 2), (12, 1, 6, 3)),
        'transposed': Tensor(storage, (4, 6), (1, 4)),
        'tail': Tensor(storage, (4,), offset=20),
        'scalar': Tensor(storage, (), (), 23),
        'every_other': Tensor(storage, (12,), (2,)),
        'row': Tensor(storage, (1, 5), (10**9, 1), 3),  # the stride of an axis of size 1 has no effect
        'repeated': Tensor(storage, (3, 2), (0, 1)),
      }
    )
  ).tree
  same(tree['channels_last'], data.reshape(2, 2, 2, 3).transpose(0, 3, 1, 2))
  same(tree['transposed'], data.reshape(6, 4).T)
  same(tree['tail'], data[20:])
  same(tree['scalar'], data[23].reshape(()))
  same(tree['every_other'], data[::2])
  same(tree['row'], data[3:8].reshape(1, 5))
  same(tree['repeated'], np.stack([data[:2]] * 3))


def test_arrays_are_views_that_cannot_be_written(reads):
  tree = reads(write_zip({'x': np.ones(4, np.float32), 'y': np.zeros((0, 2), np.float32)})).tree
  with pytest.raises(ValueError, match='read-only'):
    tree['x'][0] = 2


def test_the_stem_and_the_suffix_do_not_matter(reads):
  raw = write_zip({'x': np.ones(2, np.float32)}, stem='any thing', order=None)
  assert reads(raw, 'weights.pkl').container == 'zip'
  assert reads(write_nvlabs({'x': 1}), 'weights.pth').container == 'nvlabs'


def test_a_64_bit_directory(reads):
  arrays = arrays_like_a_checkpoint()
  raw = wide(write_zip(state_dict(arrays)))
  with zipfile.ZipFile(io.BytesIO(raw)) as archive:
    assert archive.testzip() is None
  found = reads(raw).tree
  for name, array in arrays.items():
    same(found[name], array)


def generator_module():
  rng = np.random.default_rng(1)
  layer = module(
    'FullyConnectedLayer',
    parameters={'weight': rng.standard_normal((4, 4)).astype(np.float32)},
    buffers={'scratch': np.ones(1, np.float32), 'absent': None},
    transient=['scratch'],
    kwargs={'in_features': 4},
    weight_gain=Call('numpy.core.multiarray', 'scalar', (numpy_dtype('f8'), struct.pack('<d', 0.5))),
    padding=[1, 2],
  )
  return module(
    'Generator',
    buffers={'w_avg': np.arange(4, dtype=np.float32)},
    modules={'fc0': layer, 'off': None},
    kwargs={'z_dim': 4, 'nested': {'num_layers': 1}},
    source='raise SystemExit',
    cutoff=Call(
      'numpy._core.multiarray', '_reconstruct', (Global('numpy', 'ndarray'), (0,), b'b'), state=numpy_state()
    ),
  )


def numpy_state():
  return 1, (2, 1), numpy_dtype('f4'), False, np.array([1, 2], np.float32).tobytes()


def test_modules_become_state_dicts(reads):
  tree = reads(write_nvlabs({'G': None, 'G_ema': generator_module()})).tree
  found = tree['G_ema']
  assert isinstance(found, Module)
  assert (found.class_name, found.init_args) == ('Generator', [])
  assert found.init_kwargs == {'z_dim': 4, 'nested': {'num_layers': 1}}
  assert list(found.state_dict) == ['w_avg', 'fc0.weight']
  same(found.state_dict['w_avg'], np.arange(4, dtype=np.float32))
  assert found.attributes['fc0.weight_gain'] == 0.5
  assert found.attributes['fc0.padding'] == [1, 2]
  same(found.attributes['fc0.scratch'], np.ones(1, np.float32))


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_protocols(reads, protocol):
  assert reads(pickled({'a': [1, -2.5, None, True, 'ü', (1, 2)]}, protocol=protocol)).tree == {
    'a': [1, -2.5, None, True, 'ü', [1, 2]]
  }


def test_opcodes_of_protocols_4_and_5(reads):
  framed = b'\x8c\x01a\x940' + b'\x8d' + struct.pack('<Q', 1) + b'b' + b'h\x00' + b'\x86'
  framed += b'\x8f(\x8c\x01z\x90' + b'\x96' + struct.pack('<Q', 2) + b'xy' + b'\x87.'
  raw = b'\x80\x05\x95' + struct.pack('<Q', len(framed)) + framed
  assert reads(raw).tree == [['b', 'a'], ['z'], b'xy']


def test_bytes_as_protocol_2_writes_them(reads):
  raw = write_nvlabs({'raw': Call('_codecs', 'encode', ('\xff\x01', 'latin1'))})
  assert reads(raw).tree == {'raw': b'\xff\x01'}


def test_folder_and_config(reads, tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps({'z_dim': 4}))
  reads(write_legacy({'x': np.ones(2, np.float32)}), 'pytorch_model.bin')
  assert read(tmp_path).config == {'z_dim': 4}
  for wrong in ('[1]', '{"a": ', '[' * 100_000, '"' + 'a' * (1 << 20) + '"'):
    (tmp_path / 'config.json').write_text(wrong)
    with pytest.raises(InputError, match=r'config\.json: this file beside the checkpoint is not a JSON object'):
      read(tmp_path)


def test_what_is_no_readable_file(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  for path, text in (
    (tmp_path / 'none', 'there is no such file'),
    ('no\0name', 'there is no such file'),
    (tmp_path, 'there is no checkpoint .* in this folder'),
    (tmp_path / 'pipe', 'it is not a regular file'),
    ('/dev/zero', 'it is not a regular file'),
  ):
    with pytest.raises(InputError, match=text):
      read(path)


def test_a_sparse_giant_is_not_read(tmp_path):
  path = tmp_path / 'giant.pth'
  with path.open('wb') as file:
    file.write(b'PK\x03\x04')
    file.truncate(9 << 30)
  with pytest.raises(InputError, match='more than any checkpoint'):
    read(path)


def zipped(members: dict[str, bytes]) -> bytes:
  """A zip file as usual tools write it, with compressed members."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, contents in members.items():
      archive.writestr(name, contents)
  return file.getvalue()


REFUSED = {
  'empty': (b'', 'the file is empty'),
  'html': (b'<!DOCTYPE html><html>', 'it is a web page'),
  'lfs': (b'version https://git-lfs.github.com/spec/v1\n', 'a git-lfs pointer'),
  'noise': (b'hello', 'neither a torch file nor a pickle'),
  'protocol 0': (b'\x80\x00.', 'a pickle of protocol 0'),
  'cut': (write_nvlabs({'x': 'abc'})[:-3], 'truncated or corrupt'),
  'global': (pickled(Call('torch', 'os.system', ('true',))), 'the global torch.os.system is not allowed'),
  'eval': (pickled(Call('builtins', 'eval', ('1',))), 'the global builtins.eval is not allowed'),
  'getattr': (pickled(Call('builtins', 'getattr', (1, 'a'))), 'the global builtins.getattr is not allowed'),
  'subclass': (pickled(Global('collections', 'OrderedDict.fromkeys')), 'OrderedDict.fromkeys is not allowed'),
  'stack global': (b'\x80\x04\x8c\x05torch\x8c\x09os.system\x93.', 'the global torch.os.system is not allowed'),
  'escapes': (pickled(Global('\x1b[31mred', 'x')), r'\x1b[31mred.x is not allowed'),
  'theano': (pickled((Global('network', 'Network'),)), 'a ProGAN of the Theano code'),
  'two states': (pickled(Raw(emit(network({}))[:-1] + b'b' + emit({}) + b'b')), 'the state of a network is set twice'),
  'instance': (b'\x80\x02(ios\nsystem\n.', 'the opcode i that no torch'),
  'extension': (b'\x80\x02\x82\x01.', r'the opcode \x82 that no torch'),
  'text id': (b'\x80\x02Pabc\n.', 'the opcode P that no torch'),
  'underflow': (b'\x80\x02.', 'ends in the middle'),
  'pop nothing': (b'\x80\x020.', 'takes more objects than it made'),
  'below the mark': (b'\x80\x02]](a.', 'takes more objects than it made'),
  'no mark': (b'\x80\x02t.', 'takes a mark that it did not set'),
  'no memo': (b'\x80\x02h\x05.', 'refers to object 5'),
  'two objects': (b'\x80\x02NN.', 'ends in the middle'),
  'call of text': (b'\x80\x02X\x01\x00\x00\x00a)R.', 'it calls a str'),
  'call of a type': (b'\x80\x02ctorch\nFloatStorage\n)R.', 'it calls a StorageType'),
  'state of a list': (b'\x80\x02]}b.', 'sets the state of a list'),
  'append to a dict': (b'\x80\x02}Na.', 'go into a dict'),
  'keys of a list': (b'\x80\x02]NNs.', 'go into a list'),
  'odd items': (b'\x80\x02}(Nu.', 'keys and values go into a dict'),
  'no text': (b'\x80\x02X\x01\x00\x00\x00\xff.', 'UnicodeDecodeError'),
  'wrong arguments': (pickled(Call('torch._utils', '_rebuild_parameter')), 'TypeError'),
  'list as key': (pickled(Raw(b'}]Ns')), 'a dict key of type list'),
  'escape as key': (pickled({'\x1b[2J': 1}), r'\x1b[2J'),
  'dtype without code': (pickled(Call('numpy', 'dtype', (8, False, True))), 'the code of a numpy dtype is not text'),
  'another id': (pickled(Raw(emit(('module', 'x')) + b'Q')), 'something else than a storage'),
  'lone storage': (pickled(Raw(emit(('storage', Global('torch', 'IntStorage'), '0', 'cpu', 1)) + b'Q')), 'no data'),
  'no module': (pickled(Call('torch_utils.persistence', '_reconstruct_persistent_obj', ({},))), 'without a class'),
  'sets of lists': (pickled(Call('builtins', 'set', ([[]],))), 'a dict key of type list'),
  'zip of others': (write_zip({}, stem='a/b'), 'a zip file that torch.save did not write; unpack it, and give what'),
  'zip around a checkpoint': (zipped({'network.pt': write_zip({})}), 'torch.save did not write; unpack it, and'),
  'zip of names in another code': (
    zipped({'n##.txt': b''}).replace(b'n##.txt', b'n\xe4\xf6.txt'),
    'a zip file that torch.save did not write; unpack it',
  ),
  'npz': (zipped({'a.npy': b'', 'b.npy': b''}), 'an .npz of numpy arrays; give the checkpoint that it was made from'),
  'npy': (b'\x93NUMPY\x01\x00', 'a .npy file of one array'),
  'jpeg': (b'\xff\xd8\xff\xe0', 'it is a picture (JPEG)'),
  'png': (b'\x89PNG\r\n\x1a\n', 'it is a picture (PNG)'),
  'xz': (b'\xfd7zXZ\x00', 'an xz file; unpack it, and give what is in it'),
  'xml': (b'<?xml version="1.0"?><Error><Code>AccessDenied', 'it is XML, as a server sends it that refuses a download'),
  'torchscript': (write_zip({}, more=[('archive/constants.pkl', b'')]), 'TorchScript'),
  'two pickles': (write_zip({}, more=[('other/data.pkl', b'')]), '2 members'),
  'byte order': (write_zip({}, order='middle'), 'its byte order is'),
  'legacy big endian': (write_legacy({}, little=False), 'big-endian'),
  'legacy protocol': (write_legacy({}, protocol=1000), 'torch protocol 1000'),
  'more behind legacy': (write_legacy({'x': np.ones(2)}) + b'\0', '1 bytes follow the storages'),
  'magic alone': (pickled(MAGIC), 'truncated or corrupt'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refusals(refusal, name):
  raw, text = REFUSED[name]
  assert text in refusal(raw)


def tensor(**changes):
  values = {'shape': (2, 2), 'strides': (2, 1), 'offset': 0} | changes
  return {'x': Tensor(Storage(np.arange(4, dtype=np.float32)), **values)}


@pytest.mark.parametrize('container', WRITERS)
@pytest.mark.parametrize(
  'changes',
  [
    {'offset': 1},
    {'offset': -1},
    {'strides': (3, 1)},
    {'strides': (-2, 1)},
    {'strides': (2, 1, 1)},
    {'shape': (5,), 'strides': (1,)},
    {'shape': (-1, 4)},
    {'shape': (1 << 40, 1), 'strides': (1, 0)},
    {'shape': (True, 4)},
    {'shape': ('4',), 'strides': (1,)},
    {'shape': (1,) * 40, 'strides': (1,) * 40},
    {'shape': (0, 1 << 47, 1 << 47), 'strides': (0, 0, 0)},
    {'offset': 0.5},
  ],
  ids=str,
)
def test_tensors_stay_within_their_storage(refusal, container, changes):
  assert 'the file is truncated or corrupt' in refusal(WRITERS[container](tensor(**changes)))


@pytest.mark.parametrize('container', WRITERS)
def test_repeated_numbers_cannot_make_a_giant(refusal, container):
  raw = WRITERS[container](tensor(shape=(1 << 46,), strides=(0,)))
  assert 'its tensors claim to be larger than the file' in refusal(raw)


@pytest.mark.parametrize('count', [3, 5, 1 << 47, -1, 'many'])
def test_storages_are_as_large_as_they_say(refusal, count):
  for write in (write_zip, write_legacy):
    tree = {'x': Tensor(Storage(np.arange(4, dtype=np.float32)), (2,))}
    try:
      raw = write(tree, counts={'0': count})
    except struct.error:  # the legacy container cannot express this
      continue
    message = refusal(raw)
    assert 'storage' in message
    assert 'the file is truncated or corrupt' in message


def test_text_from_a_file_is_shown_safely():
  assert shown('layer0.weight') == 'layer0.weight'
  assert shown('\x1b[2J\n') == r'\x1b[2J\n'
  assert len(shown('a' * 10_000)) == 120
  assert shown(1 << 70).startswith('118059')
