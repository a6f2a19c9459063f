"""Files of latents keep the name of their space, also as copies; other files give an error sentence."""

import shutil

import numpy as np
import pytest

from panda_jax.errors import InputError
from panda_jax.generators import latent_files

W, WPLUS = (np.random.default_rng(0).standard_normal(shape).astype(np.float32) for shape in ((3, 8), (3, 4, 8)))


class Network:
  """A network whose z and w have the same shape."""

  z_dim, num_classes = 8, 0

  def mapping(self, z, labels=None):
    return z

  def wplus(self, w, truncation=1.0, truncation_layers=None):
    from panda_jax.generators.base import WPlus

    return WPlus(w[:, None].repeat(4, axis=1))


def written(path, array, space):
  path.write_bytes(latent_files.header(array.shape, space) + array.tobytes())
  return path


@pytest.mark.parametrize(('array', 'space'), [(W, 'w'), (W, 'z'), (WPLUS, 'wplus'), (W[:0], 'w')])
def test_numpy_reads_what_says_what_it_holds(tmp_path, array, space):
  path = written(tmp_path / 'a.npy', array, space)
  np.testing.assert_array_equal(np.load(path), array)
  if array.size:
    np.testing.assert_array_equal(np.load(path, mmap_mode='r'), array)
    assert len(latent_files.header(array.shape, space)) % 64 == 0
  assert latent_files.recorded_space(path) == space


def test_the_record_goes_where_the_file_goes_and_not_where_its_numbers_go(tmp_path):
  path = written(tmp_path / 'w.npy', W, 'w')
  moved = shutil.copy(path, tmp_path / 'other.npy')
  found = latent_files.read(moved, Network())
  assert found.space == 'w'
  np.testing.assert_array_equal(found.array, W)
  assert latent_files.read(moved, Network(), 'z').space == 'z'  # the user's word is preferred
  np.save(path, np.load(path))
  with pytest.raises(InputError, match='give --space=z or --space=w'):
    latent_files.read(path, Network())
  assert latent_files.read(path, Network(), 'w').space == 'w'
  np.save(tmp_path / 'z.npy', W)
  assert latent_files.read(tmp_path / 'z.npy', Network()).space == 'z'
  np.save(path, WPLUS.astype(np.float64))
  found = latent_files.read(path, Network())
  assert (found.space, found.array.dtype) == ('wplus', np.float32)


@pytest.mark.parametrize(
  ('arrays', 'given', 'expected'),
  [
    ({'w': WPLUS[:1]}, None, 'wplus'),  # as NVlabs' projector writes
    ({'w': W}, None, 'w'),
    ({'arr_0': WPLUS}, None, 'wplus'),
    ({'z': W}, None, 'z'),
    ({'z': W, 'w': W + 1}, None, 'w'),
    ({'z': W, 'w': W + 1}, 'z', 'z'),
    ({'losses': W, 'w': WPLUS}, None, 'wplus'),
    ({'arr_0': W}, 'w', 'w'),
    ({'arr_0': W}, None, 'give --space=z or --space=w'),
    ({'a': W, 'b': W}, None, 'it holds a, b, and no w'),
    ({}, None, 'it holds nothing'),
    ({'w': np.array(['text'])}, None, 'it holds text'),
  ],
)
def test_npz_files(tmp_path, arrays, given, expected):
  np.savez(tmp_path / 'f.npz', **arrays)
  if expected not in ('z', 'w', 'wplus'):
    with pytest.raises(InputError, match=expected):
      latent_files.read(tmp_path / 'f.npz', Network(), given)
    return
  found = latent_files.read(tmp_path / 'f.npz', Network(), given)
  assert found.space == expected
  np.testing.assert_array_equal(found.array, next(arrays[name] for name in (given, 'w', *arrays) if name in arrays))


@pytest.mark.parametrize(
  ('array', 'said'),
  [
    (np.zeros(8, np.float32), 'latents='),
    (np.zeros((0, 8), np.float32), 'it holds 0x8 of float32, which are not latents'),
    (np.full((2, 8), np.nan), r'entry \(0, 0\) is not finite'),
    (np.full((2, 8), 1e300), r'entry \(0, 0\) is not finite in float32'),
    (np.zeros((2, 8), np.complex64), 'latents='),
    (np.zeros((2, 8), bool), 'which are not latents'),
    (np.zeros((2, 9)), 'it has shape 2x9'),
  ],
)
def test_what_holds_no_latents(tmp_path, array, said):
  np.save(tmp_path / 'f.npy', array)
  with pytest.raises(InputError, match=said):
    latent_files.read(tmp_path / 'f.npy', Network())


@pytest.mark.parametrize('name', ['f.npy', 'f.npz'])
@pytest.mark.parametrize(
  'content', [None, b'', b'text', b'PK\x03\x04', b'\x93NUMPY\x01\x00', b'\x93NUMPY\x01\x00\xff\xff{']
)
def test_what_is_no_file_of_latents(tmp_path, name, content):
  if content is not None:
    (tmp_path / name).write_bytes(content)
  with pytest.raises(InputError, match='latents='):
    latent_files.read(tmp_path / name, Network())
