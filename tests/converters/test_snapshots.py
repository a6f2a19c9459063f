"""Snapshots of whole networks: plain modules, dill's helpers, and discriminators with any content."""

import struct
import sys

import numpy as np
import pytest

from panda_jax.converters.checkpoint import Module, read
from panda_jax.converters.conversion import convert
from panda_jax.converters.limits import Unknown
from panda_jax.errors import InputError
from tests.converters.writers import (
  Call,
  Global,
  Raw,
  Storage,
  emit,
  module,
  nested_storages,
  numpy_dtype,
  pickled,
  plain_module,
  write_nvlabs,
)
from tests.generators import plain_r3gan

ONES = np.ones((2, 3), np.float32)


@pytest.fixture
def tree(tmp_path):
  """A pickled value as the reader gives it."""

  def run(value):
    path = tmp_path / 'network.pkl'
    path.write_bytes(write_nvlabs(value, protocol=4))
    return read(path).tree

  return run


@pytest.fixture
def refusal(tree):
  """The error message for a pickled value."""

  def run(value) -> str:
    with pytest.raises(InputError) as caught:
      tree(value)
    assert str(caught.value).isprintable()
    return str(caught.value)

  return run


def conv(name='torch.nn.modules.conv.Conv2d', **attributes) -> Call:
  return plain_module(name, parameters={'weight': ONES, 'bias': None}, kernel_size=(3, 3), **attributes)


def test_plain_modules_become_state_dicts(tree):
  inner = plain_module('torch.nn.modules.container.ModuleList', modules={'0': conv(), '1': None})
  outer = plain_module('R3GAN.Networks.Generator', buffers={'Kernel': ONES}, modules={'Layers': inner}, z_dim=4)
  found = tree({'G_ema': outer})['G_ema']
  assert isinstance(found, Module)
  assert (found.class_name, found.init_args, found.init_kwargs) == ('R3GAN.Networks.Generator', [], {})
  assert list(found.state_dict) == ['Kernel', 'Layers.0.weight']
  np.testing.assert_array_equal(found.state_dict['Layers.0.weight'], ONES)
  assert found.attributes['z_dim'] == 4
  assert found.attributes['Layers.0.kernel_size'] == [3, 3]
  assert found.classes == {
    'Layers': 'torch.nn.modules.container.ModuleList',
    'Layers.0': 'torch.nn.modules.conv.Conv2d',
  }


def test_a_plain_module_within_one_of_persistence(tree):
  found = tree(module('Generator', modules={'embed': conv('torch.nn.modules.sparse.Embedding')}))
  assert found.classes == {'embed': 'torch.nn.modules.sparse.Embedding'}
  assert list(found.state_dict) == ['embed.weight']


def test_a_plain_module_of_others_within_one_of_persistence_is_refused_by_name(tree):
  found = tree(module('Generator', modules={'conv0': conv('timm.layers.Conv'), 'fc0': conv()}))
  assert repr(found.state_dict['conv0']) == 'a timm.layers.Conv'
  assert list(found.state_dict) == ['conv0', 'fc0.weight']


def test_a_dtype_is_an_attribute_of_which_the_name_is_known(tree):
  found = tree(conv(DataType=Global('torch', 'bfloat16')))
  assert repr(found.attributes['DataType']) == 'a torch.bfloat16'


def named(call: Call, names: dict) -> Raw:
  """NEWOBJ_EX: a new object of a class, with arguments by name."""
  return Raw(emit(Global(call.module, call.name)) + emit(call.args) + emit(names) + b'\x92')


def array(shape, raw, kind='f4', function=None) -> Call:
  made = Global('numpy.core.multiarray', '_reconstruct') if function is None else function
  start = Global('numpy', 'ndarray'), (0,), b'b'
  return Call('dill._dill', '_create_array', (made, start, (1, shape, numpy_dtype(kind), False, raw), None))


STRANGERS = {
  'a call': Call('posix', 'system', ('touch PWNED',)),
  'a global': Global('torchvision.transforms.transforms', 'Normalize'),
  'a call of what a call made': Raw(emit(Call('functools', 'partial', (Global('timm', 'f'),))) + b')R'),
  'arguments by name': named(Call('timm.data', 'Config', (1,)), {'a': 2}),
  'items': Call('timm.models', 'Features', items={'a': 1, 'b': [2]}, state={'x': 1}),
  'entries': Raw(emit(Call('timm.models', 'Stages')) + b'(K\x01K\x02e'),
  'members': Raw(emit(Call('timm.models', 'Names')) + b'(K\x01\x90'),
  'a state that is not a dict': Call('timm.models', 'Block', state=[1, 2], new=True),
  'a state of slots': Call('timm.models', 'Block', state=(None, {'a': 1}), new=True),
  'parts that are not dicts': Call(
    'timm.models', 'Block', state={'_parameters': [], '_buffers': {}, '_modules': {}}, new=True
  ),
  'the state of a class': Raw(emit(Global('timm.models', 'Block')) + emit({'a': 1}) + b'b'),
  'a state of getattr': Call('builtins', 'getattr', (Call('timm.models', 'Block'), 'forward')),
  'a function of dill': Call(
    'dill._dill', '_create_function', (Call('dill._dill', '_create_code', (1, b'd\x00S')), {})
  ),
  'a type of dill': Call('dill._dill', '_load_type', ('PartialType',)),
  'an array of objects': array((1,), [None], 'O8'),
  'a number of text': Call('numpy.core.multiarray', 'scalar', (numpy_dtype('U1'), b'a\x00\x00\x00')),
  'a buffer of records': Call('numpy.core.numeric', '_frombuffer', (b'12', numpy_dtype('V2'), (1,), 'C')),
  'a dtype of records': numpy_dtype('V8'),
  'an array of dill by others': Call('dill._dill', '_create_array', (Global('timm', 'f'), (), (1,))),
  'a tensor by others': Call(
    'torch._utils', '_rebuild_parameter', (Call('torch._utils', '_rebuild_qtensor'), True, {})
  ),
}


@pytest.mark.parametrize('name', STRANGERS)
def test_what_nobody_knows_stands_for_nothing(tree, name):
  found = tree({'x': STRANGERS[name], 'after': ONES})
  assert isinstance(found['x'], Unknown)
  np.testing.assert_array_equal(found['after'], ONES)


@pytest.mark.parametrize('key', [(1, 'a'), (), 1 << 64, 0.5, b'a'], ids=repr)
def test_keys_that_no_network_needs_stand_for_nothing(tree, key):
  found = tree({'x': {key: 1, 'y': 2}, 'members': Call('builtins', 'set', ([key, key],))})
  strange, plain = found['x']
  assert isinstance(strange, Unknown)
  assert (found['x'][strange], plain, found['x']['y']) == (1, 'y', 2)
  assert [type(member) for member in found['members']] == [Unknown] * 2


def test_a_strange_discriminator_is_no_hindrance(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  hook = Call('torch.nn.utils.spectral_norm', 'SpectralNorm', new=True, state={'name': 'weight', 'dim': 0})
  parts = {str(i): conv('timm.models.layers.Conv', part=part) for i, part in enumerate(STRANGERS.values())}
  parts |= {f'of {name}': part for name, part in STRANGERS.items()}
  keys = Raw(b'}(' + emit(Global('torch', 'float32')) + b'K\x01' + emit((3, 'a')) + b'K\x02u')
  discriminator = plain_module(
    'pg_modules.discriminator.ProjectedDiscriminator', modules=parts, _forward_pre_hooks={3: hook}, by_type=keys
  )
  path = tmp_path / 'network.pkl'
  path.write_bytes(write_nvlabs({'D': discriminator, 'G_ema': plain_r3gan.pickled(plain_r3gan.arrays())}, protocol=4))
  said = convert(path, tmp_path / 'generator')
  assert any('family       r3gan' in line for line in said)
  assert not {name.split('.')[0] for name in sys.modules} & {'timm', 'torchvision', 'dill', 'torch', 'pg_modules'}
  assert not (tmp_path / 'PWNED').exists()


def test_attributes_of_a_module_may_lead_back_to_it(tree):
  state = emit(plain_module('timm.models.Block').state)
  code = emit(Call('timm.models', 'Block', new=True)) + b'\x94' + state[:-1] + emit('owner') + b'h\x00' + b'ub'
  assert isinstance(tree({'D': Raw(code)})['D'], Module)


def test_a_module_within_itself_is_refused(refusal):
  parts = emit({'_parameters': {}, '_buffers': {}})[:-1] + emit('_modules') + b'}' + emit('0') + b'h\x00su'
  code = emit(Call('timm.models', 'Block', new=True)) + b'\x94' + parts + b'b'
  assert 'an object contains itself' in refusal({'D': Raw(code)})


def test_helpers_of_dill(tree):
  found = tree(
    {'sets': Call('dill._dill', '_load_type', ('set',)), 'size': array((2,), struct.pack('<2i', 3, 4), 'i4')}
  )
  np.testing.assert_array_equal(found['size'], [3, 4])
  assert tree(Raw(emit(Call('dill._dill', '_load_type', ('set',))) + emit(([1, 2],)) + b'R')) == [1, 2]


LIES = {
  'a shape that lies': (array((1 << 40, 3), b'1234'), 'has 4 bytes'),
  'no array': (array((1,), b'1234', function=Global('collections', 'OrderedDict')), 'truncated or corrupt'),
  'nothing to call': (array((1,), b'1234', function='numpy'), 'an array that nothing makes'),
  'a type of numbers': (Call('dill._dill', '_load_type', (7,)), 'the name of a type is not text'),
  'a set of lists': (Raw(emit(Call('dill._dill', '_load_type', ('set',))) + emit(([[]],)) + b'R'), 'of type list'),
  'two states': (Raw(emit(conv(), nested_storages) + emit(conv().state, nested_storages) + b'b'), 'is set twice'),
  'names for what has none': (named(Call('collections', 'OrderedDict'), {'a': 1}), 'names that it does not have'),
  'names that are none': (Raw(emit(Global('timm', 'f')) + b')]\x92'), 'names that it does not have'),
  'arguments that are none': (Raw(emit(Global('timm', 'f')) + b']R'), 'truncated or corrupt'),
  'a parameter of numbers': (
    plain_module('torch.nn.Linear', parameters={'weight': 3}),
    'weight of torch.nn.Linear is no',
  ),
  'a child of numbers': (plain_module('torch.nn.Linear', modules={'0': 3}), '0 of torch.nn.Linear is not a module'),
  'names of parameters': (plain_module('torch.nn.Linear', parameters={3: ONES}), 'is not a dict of names'),
  'a storage of nothing': (Call('torch.storage', '_load_from_bytes', (b'',)), 'truncated or corrupt'),
  'a storage that calls': (Call('torch.storage', '_load_from_bytes', (pickled(Call('a', 'b')),)), 'a.b is not allowed'),
  'the root': (Call('posix', 'system', ('touch PWNED',)), 'the global posix.system is not allowed'),
}


@pytest.mark.parametrize('name', LIES)
def test_what_contradicts_itself_is_refused(refusal, name):
  value, text = LIES[name]
  assert text in refusal(value)


@pytest.mark.parametrize(
  'value', [{'G_ema': STRANGERS['a call']}, {'x': [{'y': STRANGERS['a call']}]}], ids=['lone', 'deep']
)
def test_where_there_is_no_generator_the_global_is_named(tmp_path, value):
  path = tmp_path / 'network.pkl'
  path.write_bytes(write_nvlabs(value))
  with pytest.raises(InputError, match=r'the global posix\.system is not allowed'):
    convert(path, tmp_path / 'generator')


@pytest.mark.parametrize('family', ['stylegan2', 'stylegan3'])
def test_numbers_that_nobody_knows_are_refused_by_name_in_other_families(tmp_path, family):
  """A value that a forbidden global makes is not a number, wherever a conversion needs one."""
  from tests.converters.test_claims import stylegan2, stylegan3

  made = {'stylegan2': stylegan2, 'stylegan3': stylegan3}[family]
  path = tmp_path / 'network.pkl'
  path.write_bytes(made(conv_clamp=Call('posix', 'system', ('touch PWNED',))))
  with pytest.raises(InputError) as caught:
    convert(path, tmp_path / 'generator')
  assert 'conv_clamp=a posix.system' in str(caught.value)


def test_a_storage_on_a_device_is_read(tree):
  np.testing.assert_array_equal(tree({'x': Storage(np.ones(3, np.float32))})['x'], np.ones(3))
