"""Sources of features: all kinds give the same samples, and bad sources raise clear errors."""

import hashlib
import os

import jax
import ml_dtypes
import numpy as np
import pytest

import panda_jax
from panda_jax.features.scan import scan, sha256_of
from panda_jax.features.sources import as_source
from panda_jax.features.store import strata
from tests import planted

Z = planted.structured(23, (3, 4), 5)
CHANNELS_FIRST, FLAT = Z.transpose(0, 3, 1, 2), Z.reshape(23, 12, 5)


class Unreadable:
  """As a tensor of PyTorch that takes part in a gradient."""

  def __array__(self, dtype=None, copy=None):
    raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


class Tensor:
  def __array__(self, dtype=None, copy=None):
    return Z


def written(tmp_path, array):
  np.save(tmp_path / 'z.npy', array)
  return tmp_path / 'z.npy'


class Batches:
  def __iter__(self):
    yield from (Z[:10], Z[10:11], Z[11:])


@pytest.mark.parametrize('kind', ['array', 'file', 'iterable', 'function', 'list'])
@pytest.mark.parametrize('size', [1, 7, 100])
def test_every_source_gives_the_same_samples(kind, size, tmp_path):
  given = {
    'array': lambda: Z,
    'file': lambda: written(tmp_path, Z),
    'iterable': Batches,
    'function': lambda: lambda: iter(Batches()),
    'list': lambda: [Z[:5], Z[5:]],
  }[kind]()
  source = as_source(given)
  flat = Z.reshape(23, 12, 5)
  for _ in range(2):
    blocks = list(source.blocks(size))
    assert max(map(len, blocks)) <= size
    np.testing.assert_array_equal(np.concatenate(blocks), flat)
  np.testing.assert_array_equal(source.take(np.array([0, 9, 22])), flat[[0, 9, 22]])


def samples_of(source):
  return np.concatenate(list(source.blocks(7)))


@pytest.mark.parametrize('kind', ['array', 'file', 'batches', 'maps', 'mapped'])
@pytest.mark.parametrize('flat', [False, True])
def test_channels_first(kind, flat, tmp_path):
  array = FLAT.transpose(0, 2, 1) if flat else CHANNELS_FIRST
  path = written(tmp_path, np.ascontiguousarray(array))
  given = {
    'array': lambda: array,
    'file': lambda: path,
    'batches': lambda: [array[:5], array[5:]],
    'maps': lambda: [*array],
    'mapped': lambda: np.load(path, mmap_mode='r'),
  }[kind]()
  source = as_source(given, (3, 4) if flat else None, layout='NCHW')
  assert (source.grid, source.channels, source.layout, source.notes) == ((3, 4), 5, 'NCHW', ())
  np.testing.assert_array_equal(samples_of(source), FLAT)
  np.testing.assert_array_equal(source.take(np.array([0, 9, 22])), FLAT[[0, 9, 22]])
  if kind in ('file', 'mapped'):
    assert scan(source).sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == sha256_of(source)
    np.testing.assert_array_equal(samples_of(source.part(4, 9)), FLAT[4:9])
  else:
    assert scan(source).sha256 == scan(as_source(Z)).sha256


def test_either_layout_gives_the_same_factors_bit_for_bit(tmp_path):
  last = panda_jax.fit(Z, parts=2, center='position')
  path = written(tmp_path, np.ascontiguousarray(CHANNELS_FIRST))
  for given in (CHANNELS_FIRST, path):
    first = panda_jax.fit(given, parts=2, center='position', layout='NCHW')
    assert first.factors == last.factors
    assert first.factors.provenance['settings'] == last.factors.provenance['settings'] | {'layout': 'NCHW'}
  assert first.warnings == last.warnings


def test_what_looks_like_channels_first_is_said():
  looks = np.random.default_rng(0).uniform(1, 2, (9, 6, 4, 4)).astype(np.float32)
  said = 'features of shape 9x6x4x4 look like channels first: if they are, give layout NCHW'
  for given in (looks, [looks[:4], looks[4:]]):
    assert 'x6x4x4 look like channels first' in as_source(given).notes[0]
  assert panda_jax.fit(looks, parts=2).warnings[0].startswith(said)
  assert not as_source(looks, layout='NHWC').notes
  assert not as_source(looks, grid=(6, 4)).notes
  assert not as_source(looks.transpose(0, 2, 3, 1)).notes
  assert not as_source(Z).notes


@pytest.mark.parametrize('kind', ['u1', 'i1', 'u2', 'i2', 'i4', 'u4', 'i8', '>i2'])
def test_whole_numbers_are_widened(kind, tmp_path):
  whole = np.random.default_rng(0).integers(0, 100, (9, 3, 4, 5)).astype(kind)
  wide = np.float32 if whole.itemsize <= 2 else np.float64
  for given in (whole, [whole[:4], whole[4:]], written(tmp_path, whole.astype(whole.dtype.newbyteorder('=')))):
    source = as_source(given)
    assert source.dtype == wide
    assert samples_of(source).dtype == wide
    np.testing.assert_array_equal(samples_of(source), whole.reshape(9, 12, 5))
    np.testing.assert_array_equal(source.take(np.array([2])), whole.reshape(9, 12, 5)[[2]])
  assert scan(source).sha256 == hashlib.sha256((tmp_path / 'z.npy').read_bytes()).hexdigest()
  assert scan(as_source(whole)).sha256 == scan(as_source(whole.astype(wide))).sha256


def test_lists_of_maps_and_arrays_of_other_libraries():
  for given in ([*Z], tuple(Z), Z.tolist(), jax.numpy.asarray(Z), Tensor()):
    source = as_source(given)
    assert (source.samples, source.grid) == (23, (3, 4))
    np.testing.assert_allclose(samples_of(source), FLAT)
  for given in ([*FLAT], FLAT):
    np.testing.assert_array_equal(samples_of(as_source(given, np.array([3, 4]))), FLAT)
  assert as_source([*Z], samples=7).samples == 7
  assert as_source(as_source(Z), (3, 4), 23, 'NHWC').samples == 23


def test_only_the_first_samples(tmp_path):
  for given in (Z, written(tmp_path, Z), [Z[:5], Z[5:]]):
    np.testing.assert_array_equal(np.concatenate(list(as_source(given, samples=7).blocks(4))), Z[:7].reshape(7, 12, 5))


def test_flattened_positions_and_bfloat16(tmp_path):
  flat = Z.reshape(23, 12, 5).astype(ml_dtypes.bfloat16)
  source = as_source(written(tmp_path, flat.view('V2')), grid=(3, 4))
  assert source.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(next(source.blocks(23)).astype(np.float32), flat.astype(np.float32))


def test_a_mapped_file_is_read_as_a_file(tmp_path):
  mapped = np.load(written(tmp_path, Z), mmap_mode='r')
  assert as_source(mapped).kind == 'file'
  assert as_source(mapped, samples=5).samples == 5
  changed = np.load(tmp_path / 'z.npy', mmap_mode='c')
  changed[0] = 0  # in memory only
  for other in (mapped[3:], mapped[::-1], mapped[..., :2], changed):
    source = as_source(other)
    assert source.kind == 'array'
    np.testing.assert_array_equal(next(source.blocks(99)), other.reshape(len(other), 12, -1))


@pytest.mark.parametrize('change', ['cut', 'grown', 'written', 'gone'])
def test_a_file_that_changes_is_refused(tmp_path, change):
  path = written(tmp_path, Z)
  source = as_source(path)
  blocks = source.blocks(8)
  next(blocks)
  if change == 'cut':
    os.truncate(path, path.stat().st_size - 500)
  elif change == 'grown':
    with path.open('ab') as file:
      file.write(b'more')
  elif change == 'written':
    np.save(path, Z[::-1])
    os.utime(path, ns=(0, 1))
  else:
    path.unlink()
  texts = {'cut': 'became shorter|from .* bytes', 'grown': 'from .* bytes', 'written': 'its size is the same'}
  text = texts.get(change, 'can no longer be read')
  with pytest.raises(panda_jax.InputError, match=text):
    list(blocks)
  with pytest.raises(panda_jax.InputError, match=texts.get(change, 'can no longer be read')):
    source.take(np.array([0]))


def test_hash_of_a_whole_file_is_its_sha256(tmp_path):
  path = written(tmp_path, Z)
  assert scan(as_source(path)).sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == sha256_of(as_source(path))


def test_subsets_are_chosen_by_content():
  energies = np.random.default_rng(0).uniform(1, 2, 40)
  order = np.random.default_rng(1).permutation(40)
  assert sorted(energies[strata(energies, 9)]) == sorted(energies[order][strata(energies[order], 9)])
  assert len(set(strata(energies, 40))) == 40


BAD = [
  ({'features': 'missing.npy'}, 'features=missing.npy: there is no such file'),
  ({'features': np.zeros((3, 4, 4, 2), bool)}, 'features=bool: features must be real numbers'),
  ({'features': np.zeros((3, 4, 4, 2), complex)}, 'features=complex128'),
  ({'features': Z[0]}, 'features[None] where this is one map'),
  ({'features': Z[0].reshape(12, 5), 'grid': (3, 4)}, 'features[None] for one sample'),
  ({'features': [Z[0], Z[1][:2]]}, 'features=map 1 of shape 2x4x5: the first has shape 3x4x5; give maps of one shape'),
  ({'features': []}, 'it yields no batch'),
  ({'features': Z, 'layout': 'channels_first'}, 'layout=channels_first: unknown; give one of NHWC, NCHW'),
  ({'features': Z, 'layout': 'NCHW', 'grid': (3, 4)}, "grid=3,4: the features have the grid 4,5; give layout='NHWC'"),
  ({'features': CHANNELS_FIRST, 'grid': (3, 4)}, "grid=3,4: the features have the grid 5,3; give layout='NCHW'"),
  (
    {'features': FLAT.transpose(0, 2, 1), 'grid': (3, 4)},
    "grid=3,4: the features have 5 positions; give layout='NCHW'",
  ),
  ({'features': Unreadable()}, "features=Unreadable: it cannot be made an array (Can't call numpy()"),
  ({'features': as_source(Z), 'grid': (4, 3)}, 'grid=(4, 3): the source has (3, 4)'),
  ({'features': as_source(Z), 'layout': 'NCHW'}, 'layout=NCHW: the source has NHWC'),
  ({'features': Z, 'grid': '3,4'}, 'grid=3,4: it is not two positive whole numbers; give (H, W), such as (8, 8)'),
  ({'features': Z, 'grid': 8}, 'grid=8: it is not two positive whole numbers'),
  ({'features': Z, 'seed': None}, 'seed=None: it is not a whole number'),
  ({'features': Z, 'progress': 'yes'}, 'progress=yes: it is neither true nor false'),
  ({'features': np.zeros((3, 4), np.float32)}, 'features=shape 3x4: features have 2 dimensions'),
  ({'features': np.zeros((3, 12, 5), np.float32)}, 'grid of flattened positions is not known'),
  ({'features': Z.reshape(23, 12, 5), 'grid': (5, 5)}, 'grid=5,5'),
  ({'features': np.zeros((0, 3, 4, 5), np.float32)}, 'it is empty'),
  ({'features': np.zeros_like(Z)}, 'all features are zero'),
  ({'features': np.ones_like(Z), 'center': 'position'}, 'center=position nothing is left'),
  ({'features': (x for x in [Z])}, 'passed over only once'),
  ({'features': [Z, Z[:, :2]]}, 'make all batches alike'),
  ({'features': 3}, 'neither an array'),
  ({'features': None}, 'neither an array'),
  ({'features': Z, 'parts': 13}, 'parts=13: there are 12 positions; give a number from 1 to 12'),
  ({'features': Z, 'parts': 0}, 'parts=0'),
  ({'features': Z, 'parts': 2.5}, 'parts=2.5: it is not a whole number'),
  ({'features': Z, 'appearances': 6}, 'appearances=6: there are 5 channels'),
  ({'features': Z, 'samples': 24}, 'samples=24: 23 are there'),
  ({'features': Z, 'center': 'mean'}, 'center=mean: unknown; give one of none, position, channel'),
  ({'features': Z, 'rotation': 'ica'}, 'rotation=ica'),
  ({'features': Z, 'store': 'disk'}, 'store=disk'),
  ({'features': Z, 'precision': 'exact'}, 'precision=exact'),
  ({'features': Z, 'restarts': 0}, 'restarts=0'),
  ({'features': Z, 'batch': 0}, 'batch=0'),
  ({'features': Z, 'samples': 2.5}, 'samples=2.5: it is not a whole number'),
  ({'features': Z, 'samples': True}, 'samples=True'),
  ({'features': Z, 'seed': 2.5}, 'seed=2.5: it is not a whole number'),
  ({'features': Z, 'seed': 'a'}, 'seed=a'),
  ({'features': Z, 'seed': 10**30}, 'not a whole number of 64 bits'),
  ({'features': Z, 'joint': 'none'}, 'joint=none: it is neither true nor false'),
  ({'features': Z, 'orthonormal': []}, 'orthonormal=[]'),
  ({'features': Z, 'provenance': 5}, 'it is not made of JSON'),
  ({'features': Z, 'provenance': {'a': object()}}, 'it is not made of JSON values'),
  ({'features': Z, 'provenance': {'a': np.nan}}, 'it is not made of JSON values (Out'),
  ({'features': Z.reshape(23, 12, 5), 'grid': '3,4'}, 'grid=3,4: it is not two positive whole numbers'),
  ({'features': Z.reshape(23, 12, 5), 'grid': 12}, 'grid=12'),
  ({'features': Z.reshape(23, 12, 5), 'grid': (12,)}, 'grid=(12,)'),
  ({'features': Z.reshape(23, 12, 5), 'grid': (-3, -4)}, 'grid=(-3, -4)'),
  ({'features': Z.reshape(23, 12, 5), 'grid': (3.0, 4.0)}, 'grid=(3.0, 4.0)'),
  ({'features': np.ma.masked_less(Z, 0)}, 'entries that are masked have no value'),
]


def test_arrays_of_another_byte_order_are_taken():
  np.testing.assert_array_equal(next(as_source(Z.astype('>f4')).blocks(99)), Z.reshape(23, 12, 5))


@pytest.mark.parametrize(('arguments', 'text'), BAD, ids=[text for _, text in BAD])
def test_bad_input_names_argument_value_and_remedy(arguments, text):
  with pytest.raises(panda_jax.InputError) as caught:
    panda_jax.fit(**({'parts': 2} | arguments))
  assert text in str(caught.value)
  assert '\n' not in str(caught.value)
  assert ';' in str(caught.value)


@pytest.mark.parametrize('kind', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_not_finite_says_where(kind, value, tmp_path):
  bad = Z.astype(kind)
  bad[17, 2, 1, 3] = value
  for given in (bad, written(tmp_path, bad), [bad[:9], bad[9:]]):
    with pytest.raises(panda_jax.NonFiniteError, match=r'in sample 17: at position 9, channel 3'):
      panda_jax.fit(given, parts=2)


def test_broken_files(tmp_path):
  path = written(tmp_path, Z)
  path.write_bytes(path.read_bytes()[:-8])
  with pytest.raises(panda_jax.InputError, match='cut short'):
    as_source(path)
  path.write_bytes(b'not numpy at all')
  with pytest.raises(panda_jax.InputError, match=r'not a \.npy array'):
    as_source(path)
  np.save(path, np.asfortranarray(Z))
  with pytest.raises(panda_jax.InputError, match='Fortran'):
    as_source(path)
  np.save(path, np.array([{'a': 1}]), allow_pickle=True)
  with pytest.raises(panda_jax.InputError, match='object'):
    as_source(path)


@pytest.mark.parametrize('unit', [1e-25, 1e25])
def test_extreme_units_neither_overflow_nor_vanish(unit):
  one = panda_jax.fit(Z, parts=3)
  other = panda_jax.fit(Z.astype(np.float64) * unit, parts=3)
  assert other.relative_error == pytest.approx(one.relative_error, rel=1e-5)
