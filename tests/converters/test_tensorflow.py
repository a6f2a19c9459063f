"""TensorFlow pickles: the chosen network, contradictions in files, and what is refused by name."""

import struct

import numpy as np
import pytest

from panda_jax.converters.assembly import assemble
from panda_jax.converters.checkpoint import TensorFlowNetwork, read
from panda_jax.converters.conversion import converted, recognised
from panda_jax.converters.dialects import FAMILIES, progan, stylegan, stylegan2
from panda_jax.errors import InputError
from tests.converters.writers import Call, Global, Raw, network, numpy_dtype, pickled, write_tensorflow
from tests.generators import checkpoints, tensorflow_files
from tests.generators.checkpoints import checkpoint


def made(kind, name='Gs', seed=0, **kwargs) -> TensorFlowNetwork:
  """A small network of each kind, with more arguments."""
  if kind == 'progan':
    return tensorflow_files.progan(checkpoints.progan(seed=seed), name=name, **kwargs)
  if kind == 'stylegan':
    return tensorflow_files.stylegan(checkpoints.stylegan(seed=seed), name=name, **kwargs)
  if kind == 'ada':
    return tensorflow_files.stylegan2_ada(checkpoints.stylegan2_nvlabs(seed=seed), name=name, **kwargs)
  if kind == 'revised':
    arrays = checkpoints.stylegan2_genforce(seed=seed, skip=False)
    return tensorflow_files.stylegan2(arrays, name=name, revised=True, **kwargs)
  return tensorflow_files.stylegan2(checkpoints.stylegan2_genforce(seed=seed), name=name, **kwargs)


CONVERTERS = {'progan': progan, 'stylegan': stylegan, 'stylegan2': stylegan2, 'revised': stylegan2, 'ada': stylegan2}
TOP = {'progan': 'G_paper', 'stylegan': 'G_style', 'stylegan2': 'G_main', 'revised': 'G_main', 'ada': 'G_main'}


def problems(kind, net) -> list[str]:
  return CONVERTERS[kind].convert(checkpoint([None, None, net])).problems


def changed(net, component=None, variables=None, without=(), **state) -> TensorFlowNetwork:
  """A network with changed variables or state, its own or a component's."""
  if component:
    components = dict(net.state['components'])
    components[component] = changed(components[component], None, variables, without, **state)
    return TensorFlowNetwork(net.state | {'components': components})
  old = {key: value for key, value in net.state['variables'] if key not in without}
  return TensorFlowNetwork(
    net.state | {'variables': [list(pair) for pair in (old | (variables or {})).items()]} | state
  )


@pytest.mark.parametrize(('protocol', 'module'), [(3, 'dnnlib.tflib.network'), (4, 'tfutil')])
@pytest.mark.parametrize('kind', CONVERTERS)
def test_a_network_comes_back_from_its_file(tmp_path, kind, protocol, module):
  """Any class may hold the network; arrays have either memory order, and those without axes are numbers or arrays."""
  net = made(kind)
  path = tmp_path / 'network.pkl'
  path.write_bytes(write_tensorflow((made(kind, 'G', 1), made(kind, 'D', 2), net), protocol, module))
  conversion, generator = converted(read(path), 'auto', 'ema', {})
  assert (conversion.family, conversion.dialect) == (generator.family, 'tensorflow')
  assert conversion.problems == []
  wanted = assemble(CONVERTERS[kind].convert(checkpoint([None, None, net])))
  assert generator.options == wanted.options
  z = np.ones((1, generator.z_dim))
  np.testing.assert_array_equal(generator(generator.map(z)), wanted(wanted.map(z)))


def test_the_function_and_not_the_version_tells_the_family():
  for kind, family in CONVERTERS.items():
    net = made(kind)
    for version in (2, 5, 'x'):
      found = recognised(checkpoint([None, None, TensorFlowNetwork(net.state | {'version': version})]), FAMILIES)
      assert family.__name__.endswith(f'.{found}')


def lone(name, seed):
  return made('progan', name, seed)


CHOICES = {
  'three by their order': ((('a', 0), ('b', 1), ('c', 2)), 2, 0),
  'three by their order, whatever their names': ((('Gs', 0), ('D', 1), ('G', 2)), 2, 0),
  'four by their names': ((('E', 0), ('Gs', 1), ('D', 2), ('G', 3)), 1, 3),
  'four by their order': ((('E', 0), ('x', 1), ('D', 2), ('y', 3)), 3, 0),
  'two': ((('G', 0), ('Gs', 1)), 1, 0),
  'one averaged': ((('Gs', 0),), 0, None),
  'one of the last step': ((('G', 0),), 0, 0),
  'one that does not say': ((('a', 0),), 0, 0),
}


@pytest.mark.parametrize('name', CHOICES)
@pytest.mark.parametrize('holder', [list, tuple, 'alone'])
def test_which_network_is_taken(name, holder):
  held, averaged, latest = CHOICES[name]
  tree = [lone(*one) for one in held]
  if holder == 'alone':
    if len(tree) > 1:
      return
    tree = tree[0]
  for weights, wanted in (('ema', averaged), ('raw', latest)):
    if wanted is None:
      with pytest.raises(InputError, match=r'--weights=raw: the file has no G'):
        progan.convert(checkpoint(tree), weights)
      continue
    found = progan.convert(checkpoint(tree), weights).tensors['rgb.bias']
    np.testing.assert_array_equal(found, checkpoints.progan(seed=held[wanted][1])['output1.bias'])


def test_other_networks_in_the_file_do_not_matter(tmp_path):
  """A discriminator may hold anything, an encoder may come first, and a dict works like a list."""
  odd = TensorFlowNetwork({'variables': 3, 'static_kwargs': [], 'name': 'D', 'build_func_name': 'D_paper'})
  encoder = TensorFlowNetwork({'name': 'E', 'build_func_name': 'E_basic', 'variables': []})
  for tree in ([encoder, lone('G', 0), odd, lone('Gs', 1)], {'G': lone('G', 0), 'D': odd, 'Gs': lone('Gs', 1)}):
    found = progan.convert(checkpoint(tree)).tensors['rgb.bias']
    np.testing.assert_array_equal(found, checkpoints.progan(seed=1)['output1.bias'])


def test_what_builds_no_generator_is_named():
  for net in (
    TensorFlowNetwork(None),
    TensorFlowNetwork({'name': 'D', 'build_func_name': 'D_basic'}),
    TensorFlowNetwork({'build_func_name': 3}),
  ):
    with pytest.raises(InputError, match='it has no known layout of a generator; it holds'):
      recognised(checkpoint([net, net, net]), FAMILIES)
  with pytest.raises(InputError, match='a network Gs of G_new'):
    recognised(checkpoint([None, TensorFlowNetwork({'name': 'Gs', 'build_func_name': 'G_new'})]), FAMILIES)


@pytest.mark.parametrize('kind', CONVERTERS)
def test_every_variable_is_needed_and_its_shape_is_checked(kind):
  net = made(kind)
  conversion = CONVERTERS[kind].convert(checkpoint([None, None, net]))
  assert conversion.problems == []
  parts = {'': net} | {f'{name}/': part for name, part in net.state['components'].items()}
  for prefix, part in parts.items():
    for name, _ in part.state['variables']:
      if prefix + name in conversion.unused and name != 'lod':
        continue
      component = prefix.rstrip('/') or None
      wrong = np.zeros((2, 3, 7), np.float32)
      found = problems(kind, changed(net, component, {name: wrong}))
      dead = prefix + name in conversion.unused and (kind, prefix) not in DEAD_BUT_CHECKED
      assert dead or any(text.startswith(f'{prefix}{name}: expected') for text in found), (prefix, name, found[:3])
      found = problems(kind, changed(net, component, without=[name]))
      assert dead or any(text.startswith(f'{prefix}{name}: missing') for text in found), (prefix, name, found[:3])
    extra = problems(kind, changed(net, prefix.rstrip('/') or None, {'extra/weight': np.zeros(3, np.float32)}))
    assert extra == [f'{prefix}extra/weight: unknown key']


DEAD_BUT_CHECKED = {('progan', ''), ('stylegan', ''), ('revised', '')}  # the network's level of detail


@pytest.mark.parametrize('kind', ['progan', 'stylegan', 'revised'])
def test_growing_networks_are_refused_with_their_level(kind):
  for lod in (1.5, np.asarray(0.25, np.float32), np.asarray([3], np.float32), float('nan')):
    found = problems(kind, changed(made(kind), variables={'lod': lod}))
    said = f'lod: {float(np.squeeze(lod))}, so the network is still growing'
    assert any(text.startswith(said) and 'give a later file, in which lod is 0' in text for text in found)
  assert problems(kind, changed(made(kind), variables={'lod': -0.5})) == []  # the original clips it


def test_the_level_of_detail_of_networks_that_did_not_grow_is_of_no_effect():
  assert problems('stylegan2', changed(made('stylegan2'), variables={'lod': 7.0})) == []
  for kind in ('stylegan', 'revised'):
    assert problems(kind, changed(made(kind, structure='fixed'), variables={'lod': 7.0})) == []


ARGUMENTS = {
  'progan': {
    'normalize_latents': [False, 0],
    'use_pixelnorm': [False],
    'use_leakyrelu': [False],
    'pixelnorm_epsilon': [1e-6, 'x', None],
    'fused_scale': [True],
    'label_size': [1, 20, -1, 0.5, 'x', float('nan')],
    'latent_size': [8],
  },
  'stylegan': {
    'normalize_latents': [False],
    'use_styles': [False],
    'use_noise': [False],
    'const_input_layer': [False],
    'use_instance_norm': [False],
    'use_pixel_norm': [True],
    'nonlinearity': ['relu'],
    'mapping_nonlinearity': ['relu', 3],
    'fused_scale': ['x', None, [1]],
    'blur_filter': ['x', [[1, 2], [3]], [1, -1], [float('nan')], 5, [[[1]]], [[1, 2]], [1] * 5000],
    'mapping_fmaps': [11],
    'dlatent_size': [9],
  },
  'stylegan2': {
    'normalize_latents': [False],
    'nonlinearity': ['new', 3, [3]],
    'mapping_nonlinearity': ['new', None],
    'architecture': ['resnet', 'orig', 7],
    'resample_kernel': ['x', [0], {}, [[1, 2]]],
    'synthesis_func': ['G_synthesis_stylegan_revised'],
    'mapping_func': ['G_other'],
    'dlatent_broadcast': [6],
    'fmap_min': [100],
  },
  'ada': {
    'conv_clamp': [0, -1, 'x', True, float('inf')],
    'use_noise': [False],
    'label_size': [3],
    'fmap_const': [5],
    'mapping_layers': [4],
    'mapping_lrmul': ['x', 0, None],
  },
}
SHARED = {
  'resolution': [16, 'x', [8]],
  'num_channels': [1, '3'],
  'fmap_max': [3, 'x'],
  'fmap_base': [4, float('inf'), 1e308],
  'fmap_decay': [1e308, -1e308, 'x'],
  'resolution_h': [4],
  'resolution_w': [16],
  'init_res': [[4, 2], 7],
  'min_h': [2],
  'min_w': [3],
}
CASES = [(kind, name, value) for kind in ARGUMENTS for name, values in ARGUMENTS[kind].items() for value in values]
CASES += [(kind, name, value) for kind in ARGUMENTS for name, values in SHARED.items() for value in values]


@pytest.mark.parametrize(('kind', 'name', 'value'), CASES)
def test_arguments_that_make_another_network_are_named(kind, name, value):
  net = made(kind)
  components = {
    place: TensorFlowNetwork(part.state | {'static_kwargs': part.state['static_kwargs'] | {name: value}})
    for place, part in net.state['components'].items()
  }
  state = {'static_kwargs': net.state['static_kwargs'] | {name: value}, 'components': components}
  found = problems(kind, TensorFlowNetwork(net.state | state))
  assert any(name in text for text in found), found


@pytest.mark.parametrize('kind', CONVERTERS)
def test_arguments_that_the_functions_would_leave_out_are_left_out(kind):
  net = made(kind, colour='red', randomize_noise=False, dtype='float16', init_res=[4, 4], min_h=4, res_log2=3)
  conversion = CONVERTERS[kind].convert(checkpoint([None, None, net]))
  assert conversion.problems == []
  (note,) = [note for note in conversion.notes if note.startswith('arguments without effect')]
  assert 'colour' in note
  assert 'init_res' not in note


def test_arguments_of_a_component_and_of_the_whole_agree():
  net = made('stylegan')
  kwargs = net.state['components']['synthesis'].state['static_kwargs']
  odd = changed(net, 'synthesis', static_kwargs=kwargs | {'resolution': 64})
  assert 'synthesis: resolution=64, but the whole network has 8' in problems('stylegan', odd)


def test_the_rule_of_widths_is_compared_where_it_is_told():
  made_by_rule = checkpoints.progan(widths=(16, 16, 8, 8), z_dim=16)
  for rule, fits in (
    ({'fmap_base': 32, 'fmap_max': 16}, True),
    ({'fmap_base': 32, 'fmap_max': 64}, True),
    ({'fmap_base': 32, 'fmap_max': 8}, False),
    ({'fmap_base': 64, 'fmap_max': 16}, False),
    ({'fmap_base': 32, 'fmap_max': 16, 'fmap_decay': 0.0}, False),
    ({}, True),
  ):
    found = problems('progan', tensorflow_files.progan(made_by_rule, **rule))
    assert (found == []) == fits, (rule, found)
    assert fits or all('channels, where fmap_base and fmap_decay and fmap_max make' in text for text in found)


def test_the_constant_of_ada_may_have_channels_of_its_own():
  module = checkpoints.stylegan2_nvlabs(widths=(6, 16, 8, 8))
  rule = {'fmap_base': 32, 'fmap_max': 16}
  assert problems('ada', tensorflow_files.stylegan2_ada(module, **rule, fmap_const=6)) == []
  assert problems('ada', tensorflow_files.stylegan2_ada(module, **rule)) != []


STATES = {
  'variables': {'variables': {'a': 1}},
  'no variables': {'variables': None},
  'pairs': {'variables': [['lod']]},
  'names': {'variables': [[3, 4.0]]},
  'unprintable': {'variables': [['a\x1b[2J', 4.0]]},
  'long': {'variables': [['a' * 5000, 4.0]]},
  'values': {'variables': [['lod', 'x'], ['dlatent_avg', None], ['more', True]]},
  'twice': {'variables': [['lod', 0.0], ['lod', 0.0]]},
  'kwargs': {'static_kwargs': [1]},
  'no kwargs': {'static_kwargs': None},
  'keys of kwargs': {'static_kwargs': {1: 2}},
  'giant kwargs': {'static_kwargs': {'fmap_max': np.zeros(5000)}},
  'components': {'components': [1]},
  'components of components': {'components': {'inner': TensorFlowNetwork({})}},
}
WHOLE = {'no networks': {'components': {'synthesis': 1, 'mapping': None}}, 'no components': {'components': {}}}


def refused(kind, net) -> None:
  """The error is one line that the command can print."""
  found = CONVERTERS[kind].convert(checkpoint([None, None, net]))
  with pytest.raises(InputError, match=f'not a complete {found.family} of the tensorflow layout') as caught:
    assemble(found)
  assert str(caught.value).isprintable()


@pytest.mark.parametrize('kind', ['stylegan', 'stylegan2', 'ada'])
@pytest.mark.parametrize('name', [*STATES, *WHOLE])
def test_states_of_wrong_types(name, kind):
  net = made(kind)
  refused(kind, TensorFlowNetwork(net.state | (STATES | WHOLE)[name]))
  if name in STATES:
    components = net.state['components']
    odd = TensorFlowNetwork(components['synthesis'].state | STATES[name])
    refused(kind, TensorFlowNetwork(net.state | {'components': components | {'synthesis': odd}}))


@pytest.mark.parametrize('kind', ['stylegan', 'stylegan2', 'ada'])
@pytest.mark.parametrize('state', [None, [], {}, 'x'], ids=str)
def test_networks_without_a_state(state, kind):
  net = made(kind)
  refused(
    kind, TensorFlowNetwork(net.state | {'components': net.state['components'] | {'mapping': TensorFlowNetwork(state)}})
  )
  refused(kind, TensorFlowNetwork({'build_func_name': TOP[kind]}))


def test_functions_that_nobody_knows_are_named():
  net = made('stylegan2')
  for place, known in (('synthesis', 'G_synthesis_stylegan2'), ('mapping', 'G_mapping')):
    found = problems('stylegan2', changed(net, place, build_func_name='G_new'))
    assert any(f'the component {place}: built by G_new, where {known}' in text for text in found)


def test_options_of_other_dialects_are_refused():
  for kind, converter in CONVERTERS.items():
    with pytest.raises(InputError, match='there is no such option'):
      converter.convert(checkpoint([None, None, made(kind)]), 'ema', {'final_tanh': 'true'})


LIE = Call(
  'numpy.core.multiarray',
  '_reconstruct',
  (Call('numpy', 'dtype', ('f4', False, True)), (0,), b'b'),
  state=(1, (1 << 40, 3), numpy_dtype('f4'), False, b'1234'),
)
FILES = {
  'a shape that lies': (network({'variables': [('a', LIE)]}), 'has 4 bytes'),
  'a scalar that lies': (Call('numpy.core.multiarray', 'scalar', (numpy_dtype('f4'), b'12345678')), 'has 8 bytes'),
  'objects': (network({'variables': [('a', numpy_dtype('O8'))]}), 'numpy.dtype(O8) is not allowed'),
  'a global': (network({'static_kwargs': {'a': Call('posix', 'system', ('touch PWNED',))}}), 'posix.system is not'),
  'a class of its own': (network({}, 'dnnlib.tflib.other'), 'dnnlib.tflib.other.Network is not allowed'),
  'arguments of the class': (Call('tfutil', 'Network', (1,), new=True), 'TypeError'),
  'itself': (Raw(b']q\x00h\x00a'), 'an object contains itself'),
  'a giant key': (network({'static_kwargs': {'a\x00': 1}}), 'a name is not one'),
}


@pytest.mark.parametrize('name', FILES)
def test_hostile_files(tmp_path, name):
  value, text = FILES[name]
  path = tmp_path / 'network.pkl'
  path.write_bytes(pickled(value, protocol=3))
  with pytest.raises(InputError) as caught:
    converted(read(path), 'auto', 'ema', {})
  assert text in str(caught.value)


STRANGE = {  # what a discriminator may hold, and a generator may not
  'a call': Call('posix', 'system', ('touch PWNED',)),
  'objects': Call(
    'numpy.core.multiarray',
    '_reconstruct',
    (Global('numpy', 'ndarray'), (0,), b'b'),
    state=(1, (1,), numpy_dtype('O8'), False, [None]),
  ),
}


@pytest.mark.parametrize('name', STRANGE)
def test_what_nobody_knows_is_refused_in_the_generator_alone(tmp_path, name):
  path = tmp_path / 'network.pkl'
  nets = [made('stylegan', name) for name in ('G', 'D', 'Gs')]
  for place, net in enumerate(nets):
    mapping = net.state['components']['mapping']
    odd = changed(net, 'mapping', static_kwargs=mapping.state['static_kwargs'] | {'a': STRANGE[name], (1, 2): 3})
    path.write_bytes(write_tensorflow([*nets[:place], odd, *nets[place + 1 :]]))
    if place < 2:
      converted(read(path), 'auto', 'ema', {})
    else:
      with pytest.raises(InputError, match=r'(posix\.system|O8.*) is not allowed'):
        converted(read(path), 'auto', 'ema', {})


def test_a_network_inside_itself(tmp_path):
  path = tmp_path / 'network.pkl'
  # The network is in the memo before its state is set, and the state contains it.
  code = b'\x80\x03ctfutil\nNetwork\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb.'
  path.write_bytes(code)
  with pytest.raises(InputError, match='an object contains itself'):
    read(path)


def test_scalars_keep_their_bits(tmp_path):
  path = tmp_path / 'network.pkl'
  path.write_bytes(write_tensorflow([made('stylegan2')]))
  conversion, _ = converted(read(path), 'auto', 'ema', {})
  strength = checkpoints.stylegan2_genforce()['synthesis.layer0.noise_strength']
  found = np.asarray(conversion.tensors['convs.0.noise_strength'], np.float32)
  assert struct.pack('<f', found) == struct.pack('<f', strength)
