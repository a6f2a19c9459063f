"""Assembly: every array of the generator is set exactly once and is valid, or one error names all problems."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from panda_jax.converters.assembly import Conversion, assemble
from panda_jax.converters.dialects.spectral import folded, folded_half_step
from panda_jax.converters.tables import Entry, Table, common_taps
from panda_jax.errors import InputError
from panda_jax.generators.disk import leaves
from tests.generators.tiny import OPTIONS, register

SHAPES = {
  'layers_list.0.kernel': (3, 5),
  'layers_list.0.bias': (5,),
  'layers_list.1.kernel': (3, 2),
  'layers_list.1.bias': (2,),
  'strength': (),
  'mean': (3,),
}


@pytest.fixture(autouse=True)
def _known(monkeypatch):
  register(monkeypatch)


@pytest.fixture
def conversion():
  rng = np.random.default_rng(0)
  tensors = {name: np.array(rng.standard_normal(shape), np.float32) for name, shape in SHAPES.items()}
  return Conversion('tiny', 'by hand', OPTIONS, tensors, {name: f'source.{name}' for name in tensors})


def problems(conversion, **tensors) -> str:
  conversion = dataclasses.replace(conversion, tensors=conversion.tensors | tensors)
  with pytest.raises(InputError) as caught:
    assemble(conversion, 'file.pth')
  assert '\n' not in str(caught.value)
  assert str(caught.value).startswith('source=file.pth: not a complete tiny of the by hand layout: ')
  return caught.value.problem


def test_every_array_is_set(conversion):
  made = leaves(assemble(conversion))
  assert set(made) == set(SHAPES)
  for name, tensor in conversion.tensors.items():
    np.testing.assert_array_equal(np.asarray(made[name]), tensor)


@pytest.mark.parametrize('dtype', [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_floating_types_become_float32(conversion, dtype):
  bias = np.array([0.5, 1.25], dtype)
  made = leaves(assemble(dataclasses.replace(conversion, tensors=conversion.tensors | {'layers_list.1.bias': bias})))
  assert made['layers_list.1.bias'].dtype == np.float32
  np.testing.assert_array_equal(np.asarray(made['layers_list.1.bias']), bias.astype(np.float32))


def test_strided_and_unaligned_views(conversion):
  raw = memoryview(b'x' + np.arange(6, dtype=np.float32).tobytes())
  unaligned = np.ndarray((3, 2), np.float32, buffer=raw, offset=1)
  tensors = conversion.tensors | {'layers_list.1.kernel': unaligned[::-1, ::-1]}
  made = leaves(assemble(dataclasses.replace(conversion, tensors=tensors)))
  np.testing.assert_array_equal(np.asarray(made['layers_list.1.kernel']), [[5, 4], [3, 2], [1, 0]])


def test_all_problems_are_told_at_once(conversion):
  del conversion.tensors['strength']
  text = problems(
    conversion,
    mean=np.zeros(4, np.float32),
    other=np.zeros(1, np.float32),
    **{
      'layers_list.0.bias': np.array([1, np.nan, np.inf, 0, 0], np.float32),
      'layers_list.1.bias': np.array([1, 2], np.int64),
      'layers_list.0.kernel': np.full((3, 5), 1e300),
    },
  )
  for part in (
    'nothing sets strength',
    'the generator has no other',
    'source.mean: expected (3,), found (4,) (for mean)',
    'source.layers_list.0.bias: 2 of 5 values are not finite',
    'source.layers_list.1.bias: numbers of type int64 where floating point is expected',
    'source.layers_list.0.kernel: 15 of 15 values are not finite',  # beyond float32
  ):
    assert part in text


def test_problems_of_the_converter_come_first(conversion):
  found = dataclasses.replace(conversion, problems=['key: missing', 'left.over: not known'])
  assert problems(found).endswith('key: missing, left.over: not known')
  assert problems(dataclasses.replace(found, options=None)).endswith('key: missing, left.over: not known')


def taken(table: Table) -> None:
  table.take([Entry('whole', 'target', (2, 2), 'about one')])


INTEGERS = {
  'a transform that makes floating point of them': taken,
  'a vector of a spectral norm': lambda table: folded(table, 'kernel', (2, 2)),
  'a vector of half a step': lambda table: folded_half_step(table, 'weight', (2, 2)),
  'a filter': lambda table: common_taps(table, {'filter': np.array([1, 3, 3, 1])}, ['filter'], axes=(1,), gain=1),
}


@pytest.mark.parametrize('name', INTEGERS)
def test_integers_are_told_whatever_is_computed_of_them(name):
  ones, whole = np.ones((2, 2), np.float32), np.ones((2, 2), np.int64)
  arrays = {'whole': whole, 'kernel_orig': ones, 'kernel_u': whole[0], 'kernel_v': ones[0], 'weight': ones}
  table = Table(arrays | {'u0': whole[:1]})
  INTEGERS[name](table)
  assert [text for text in table.problems if 'int64' in text]
  assert not table.tensors
