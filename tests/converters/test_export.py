"""Export: the file has the keys of the original file and no classes, and is converted to the same bits."""

import importlib
import io
import json
import pickletools
import zipfile

import numpy as np
import pytest

import panda_jax
from panda_jax.converters.checkpoint import Module, read
from panda_jax.converters.conversion import convert, converted
from panda_jax.converters.dialects import FORMATS
from panda_jax.converters.export import METADATA, export, exported
from panda_jax.converters.safetensors import write_safetensors
from panda_jax.converters.tables import INVERSES, TRANSFORMS
from panda_jax.converters.torchwriter import write_torch
from panda_jax.errors import InputError
from panda_jax.generators import registry
from panda_jax.generators.disk import leaves, load_generator, save_generator
from tests.commands.calls import call
from tests.converters.test_networks import assert_same, made
from tests.generators import checkpoints, plain_stylegan3, test_contract
from tests.generators.checkpoints import stored
from tests.generators.test_stylegan3 import SMALL, VARIANTS, snapshot

DIALECTS = 'panda_jax.converters.dialects.'
FIRST = {'first_cutoff': '1', 'first_stopband': '2.5', 'margin_size': '3'}
PAIRS = {'widths': (6, 6, 5, 5, 4, 4)}


def stylegan3(name: str):
  arguments = SMALL | VARIANTS[name]
  state = plain_stylegan3.random_checkpoint(np.random.default_rng(0), **arguments)
  return snapshot(state, **arguments).tree


def nvlabs(**given):
  return {'G_ema': checkpoints.stylegan2_nvlabs(**(PAIRS | given))}


def genforce(**given):
  return {'generator_smooth': checkpoints.stylegan2_genforce(**(PAIRS | given))}


# Format, tree, and the options for reading the exported file, which it does not contain.
THERE_AND_BACK = {
  'rosinality': ('rosinality', checkpoints.stylegan2_rosinality(**PAIRS), {}),
  'rosinality without mean': ('rosinality', checkpoints.stylegan2_rosinality(mean=False, **PAIRS), {}),
  'rosinality, three taps': ('rosinality', checkpoints.stylegan2_rosinality(taps=(1, 2, 1), **PAIRS), {}),
  'nvlabs': ('nvlabs', nvlabs(clamp=256.0), {}),
  'nvlabs, clamped': ('nvlabs', nvlabs(clamp=0.4, lr=0.1), {'conv_clamp': '0.4', 'mapping_lr_mul': '0.1'}),
  'nvlabs, residual': ('nvlabs', nvlabs(architecture='resnet', clamp=None), {'conv_clamp': 'none'}),
  'nvlabs, plain': ('nvlabs', nvlabs(architecture='orig', clamp=256.0), {}),
  'nvlabs, conditional': ('nvlabs', nvlabs(c_dim=3, clamp=256.0), {}),
  'nvlabs without noise': ('nvlabs', nvlabs(noise=False, clamp=256.0), {}),
  'nvlabs without mean': ('nvlabs', nvlabs(mean=False, clamp=256.0), {}),
  'nvlabs without mapping': ('nvlabs', nvlabs(depth=0, z_dim=8, clamp=256.0), {}),
  'nvlabs, eight taps': ('nvlabs', nvlabs(taps=(1, 1, 2, 4, 4, 2, 1, 1), clamp=256.0), {}),
  'genforce stylegan2': ('genforce', genforce(), {}),
  'genforce stylegan2, plain': ('genforce', genforce(skip=False), {}),
  'genforce stylegan2, conditional': ('genforce', genforce(label=3), {}),
  'genforce stylegan2, a w per row': ('genforce', genforce(own=True), {}),
  'genforce stylegan2, lopsided': ('genforce', genforce(taps=(1, 2, 4, 1), channel_noise=True), {}),
  'genforce stylegan': ('genforce', {'generator_smooth': checkpoints.stylegan(**PAIRS)}, {}),
  'genforce stylegan, channels': (
    'genforce',
    {'generator_smooth': checkpoints.stylegan(channel_noise=True, **PAIRS)},
    {},
  ),
  'genforce progan': ('genforce', {'generator_smooth': checkpoints.progan(**PAIRS)}, {}),
  'genforce progan, fused': ('genforce', {'generator_smooth': checkpoints.progan(fused=True, **PAIRS)}, {}),
  'stylegan3': ('nvlabs', stylegan3('translated'), FIRST),
  'stylegan3, turned': ('nvlabs', stylegan3('turned'), FIRST),
}


STATE_DICT = "safetensors.torch.load_file('file.safetensors')"
LOADED = {
  ('rosinality', 'torch'): "network.load_state_dict(torch.load('file.pt')['g_ema'])",
  ('nvlabs', 'torch'): "network.load_state_dict(torch.load('file.pt'))",
  ('genforce', 'torch'): "network.load_state_dict(torch.load('file.pt')['generator_smooth'])",
  ('rosinality', 'safetensors'): f'network.load_state_dict({STATE_DICT}) with g_ema. taken off its keys',
  ('nvlabs', 'safetensors'): f'network.load_state_dict({STATE_DICT})',
  ('genforce', 'safetensors'): f'network.load_state_dict({STATE_DICT}) with generator_smooth. taken off its keys',
}


@pytest.mark.parametrize('container', ['torch', 'safetensors'])
@pytest.mark.parametrize('name', THERE_AND_BACK)
def test_there_and_back(tmp_path, name, container):
  form, tree, told = THERE_AND_BACK[name]
  conversion, whole = made(tree)
  save_generator(whole, tmp_path / 'whole')
  path = tmp_path / ('file.pt' if container == 'torch' else 'file.safetensors')
  said = export(tmp_path / 'whole', path, form)
  again, ours = converted(read(path), 'auto', 'ema', told)
  assert_same(ours, whole)
  assert (again.family, again.dialect) == (conversion.family, form)
  assert not any('rounded' in line for line in said)
  assert f'load         {LOADED[form, container]}' in said


@pytest.mark.parametrize(
  ('source', 'form', 'key'),
  [
    ('stylegan2_rosinality/checkpoint.pt', 'rosinality', 'g_ema'),
    ('stylegan2_nvlabs/network.pkl', 'nvlabs', 'G_ema'),
    ('stylegan2/checkpoint.pth', 'genforce', 'generator_smooth'),
    ('stylegan_fused128/checkpoint.pth', 'genforce', 'generator_smooth'),
    ('pggan/checkpoint.pth', 'genforce', 'generator_smooth'),
    ('stylegan3_r/network.pkl', 'nvlabs', 'G_ema'),
  ],
)
def test_the_keys_and_bits_of_the_originals_file(source, form, key):
  """The original's load_state_dict finds all keys that it needs, and no others."""
  checkpoint = read(stored(source))
  original = checkpoint.tree[key]
  original = original.state_dict if isinstance(original, Module) else original
  made_of_it = exported(converted(checkpoint, 'auto', 'ema', {})[1], form)
  ours = made_of_it.tree.get(key, made_of_it.tree)
  assert ours.keys() == original.keys()
  for name, array in original.items():
    assert ours[name].shape == array.shape, name
    assert ours[name].dtype == array.dtype, name
    if form == 'genforce' and name.endswith('style.bias') and 'early_layer.' in ' '.join(original):
      np.testing.assert_allclose(ours[name], array, atol=6e-8, rtol=0)  # ours has 1 added, and is less exact
    elif form == 'genforce' and '.'.join(name.split('.')[:-1]).endswith(tuple(dead(original))):
      assert not ours[name].any()
    else:
      np.testing.assert_array_equal(ours[name], array, err_msg=name)


def dead(original: dict) -> list[str]:
  """The RGB layers that only growing networks use: all but the last, in networks with a lod."""
  numbers = sorted({int(key.split('output')[1].split('.')[0]) for key in original if 'output' in key})
  return [f'output{i}' for i in numbers[:-1]] if any(key.endswith('lod') for key in original) else []


@pytest.mark.parametrize('name', test_contract.CASES)
def test_every_family_in_safetensors(tmp_path, name):
  case = test_contract.CASES[name]
  whole = test_contract.made(name)
  save_generator(whole, tmp_path / 'whole')
  export(tmp_path / 'whole', tmp_path / 'file.safetensors', 'safetensors')
  convert(tmp_path / 'file.safetensors', tmp_path / 'again')
  assert_same(load_generator(tmp_path / 'again'), whole)
  other = [form for form in FORMATS[1:] if form not in importlib.import_module(DIALECTS + case.family).EXPORTS]
  for form in other:
    with pytest.raises(InputError, match=f'--format={form}: it has no {case.family}; give one of safetensors'):
      export(tmp_path / 'whole', tmp_path / 'file.pt', form)


def test_inverses_of_transforms():
  assert INVERSES.keys() <= TRANSFORMS.keys()  # nothing is exported to TensorFlow
  array = np.arange(24, dtype=np.float32)
  shapes = {'matrix': (4, 6), 'constant': (1, 6, 2, 2), 'map': (1, 1, 4, 6), 'scalar': (1,)}
  for name in INVERSES:
    shape = shapes.get(name, (24,))
    shape = {'kernel': (3, 2, 2, 2), 'kernel of a pixel': (4, 6, 1, 1)}.get(name, shape)
    shape = (3, 2, 2, 2) if name in ('kernel turned', 'kernel swapped') else shape
    given = array[: int(np.prod(shape))].reshape(shape)
    np.testing.assert_array_equal(INVERSES[name](TRANSFORMS[name](given)).reshape(shape), given, err_msg=name)


# What torch.load(weights_only=True) accepts, by its documentation and source; the part that is needed here.
OPCODES = {
  'PROTO',
  'GLOBAL',
  'REDUCE',
  'MARK',
  'TUPLE',
  'SETITEMS',
  'BINUNICODE',
  'LONG1',
  'NEWFALSE',
  'BINPERSID',
  'STOP',
}
GLOBALS = {'collections OrderedDict', 'torch._utils _rebuild_tensor_v2', 'torch FloatStorage'}


def test_a_file_of_torch_holds_arrays_and_no_classes():
  file, again = io.BytesIO(), io.BytesIO()
  tree = exported(made(checkpoints.stylegan2_rosinality(**PAIRS))[1], 'rosinality').tree
  write_torch(file, tree)
  write_torch(again, tree)
  assert file.getvalue() == again.getvalue()
  with zipfile.ZipFile(file) as archive:
    assert archive.testzip() is None
    assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
    assert archive.read('archive/version') == b'3\n'
    assert archive.read('archive/byteorder') == b'little'
    code = archive.read('archive/data.pkl')
    numbers = {name for name in archive.namelist() if name.startswith('archive/data/')}
  operations = list(pickletools.genops(code))
  assert {operation.name for operation, _, _ in operations} <= OPCODES
  assert {argument for operation, argument, _ in operations if operation.name == 'GLOBAL'} == GLOBALS
  assert len(numbers) == sum(operation.name == 'BINPERSID' for operation, _, _ in operations)


def test_a_network_of_another_code_is_noted():
  notes = exported(made(nvlabs(clamp=0.4, z_dim=8, hidden=8))[1], 'rosinality').notes
  assert any('does not clamp; this network clamps at 0.4' in note for note in notes)
  assert any('1e-8' in note for note in notes)


@pytest.mark.parametrize('form', ['rosinality', 'genforce'])
def test_a_network_without_noise_has_noise_of_strength_0_in_code_that_always_adds_it(tmp_path, form):
  _, whole = made(nvlabs(noise=False, clamp=None, z_dim=8, hidden=8))
  save_generator(whole, tmp_path / 'whole')
  said = export(tmp_path / 'whole', tmp_path / 'file.pt', form)
  again = converted(read(tmp_path / 'file.pt'), 'auto', 'ema', {})[1]
  assert (whole.options.noise, again.options.noise) == ('none', 'spatial')
  assert any('strength 0' in line for line in said)
  z = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
  expected, images = (np.asarray(model(model.map(z))) for model in (whole, again))
  np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-6)  # the 1e-8 of demodulation is added elsewhere


REFUSED = {
  'residual': ('rosinality', nvlabs(architecture='resnet'), 'its code has no architecture=resnet'),
  'conditional': ('rosinality', nvlabs(c_dim=3), 'its code has no num_classes=3'),
  'gray': ('rosinality', nvlabs(channels=1), 'its code has no image_channels=1'),
  'z of another size': ('rosinality', nvlabs(z_dim=9), 'its code has no z_dim=9'),
  'widths': ('rosinality', checkpoints.stylegan2_rosinality(), 'no 5 and 7 channels at one resolution'),
  'joint labels': ('nvlabs', genforce(label=3), 'its code has no label_input=joint'),
  'a w per row': ('nvlabs', genforce(own=True), 'its code has no w_dim=8'),
  'separate labels': ('genforce', nvlabs(c_dim=3), 'its code has no label_input=separate'),
  'no mean': ('genforce', nvlabs(mean=False), 'convert its file again with --mean_w=10000'),
  'another family': ('rosinality', stylegan3('turned'), 'it has no stylegan3; give one of safetensors, nvlabs'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_a_code_has_not_is_refused_by_name(name):
  form, tree, text = REFUSED[name]
  with pytest.raises(InputError) as caught:
    exported(made(tree)[1], form)
  assert str(caught.value).startswith(f'--format={form}: ')
  assert text in str(caught.value)


class TestCommand:
  def test_the_report(self, tmp_path, capsys):
    assert call('export', 'cats64', tmp_path / 'cats.safetensors') == 0
    assert 'written' in capsys.readouterr().out
    assert_same(
      converted(read(tmp_path / 'cats.safetensors'), 'auto', 'ema', {})[1], panda_jax.load_generator('cats64')
    )

  def test_nothing_is_overwritten_unasked(self, tmp_path, capsys):
    path = tmp_path / 'cats.safetensors'
    path.write_text('mine')
    assert call('export', 'cats64', path) == 2
    assert 'it is there already; choose another name or use --overwrite' in capsys.readouterr().err
    assert path.read_text() == 'mine'
    assert call('export', 'cats64', path, '--overwrite') == 0
    assert call('export', 'cats64', tmp_path, '--overwrite') == 2
    assert [p.name for p in tmp_path.iterdir()] == ['cats.safetensors']

  @pytest.mark.parametrize(
    ('arguments', 'text'),
    [
      (['cats64'], 'there are 1, not two; give GENERATOR and DESTINATION'),
      (['nowhere', 'F'], 'GENERATOR=nowhere: there is no such folder'),
      (['cats64', 'F', '--format=onnx'], 'format=onnx: there is no such choice'),
      (['cats64', 'F/G'], 'its folder is not there'),
      (['cats64', 'F.pt'], 'safetensors is not that of a .pt file; name it F.safetensors, or give --format=rosinality'),
      (['cats64', 'F.PTH'], 'safetensors is not that of a .pth file'),
      (['cats64', 'F.pkl'], 'no .pkl file is written: it would be of torch.save or safetensors; name it F.safetensors'),
      (['cats64', 'F.pkl', '--format=nvlabs'], 'no .pkl file is written'),
      (['cats64', 'F.npz', '--format=nvlabs'], 'name it F.pt'),
    ],
  )
  def test_a_mistake_costs_one_line(self, tmp_path, capsys, arguments, text):
    assert call('export', *(a.replace('F', str(tmp_path / 'F')) if a[0] == 'F' else a for a in arguments)) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


class TestOurOwnThatLies:
  """In a file with our metadata, options are checked like those of generator.json."""

  @pytest.fixture
  def reads(self, tmp_path):
    whole = registry.create('stylegan2', registry.options_class('stylegan2')(8, (6, 6, 5, 5), 7, 8, (8,)))
    options = registry.options_to_json(whole.options)

    def run(text=None, arrays=None, **changes):
      told = {'version': 1, 'family': 'stylegan2', 'options': options | changes}
      arrays = {name: np.asarray(array) for name, array in leaves(whole).items()} | (arrays or {})
      path = tmp_path / 'file.safetensors'
      with open(path, 'wb') as file:
        write_safetensors(file, arrays, {METADATA: json.dumps(told) if text is None else text})
      return converted(read(path), 'auto', 'ema', {})

    return run

  def test_it_is_read(self, reads):
    assert reads()[0].dialect == 'panda-jax'

  @pytest.mark.parametrize(
    ('text', 'said'),
    [
      ('', 'it is not JSON'),
      ('[]', 'is damaged: it is not an object'),
      ('{"version": 1}', 'it lacks family'),
      ('{"version": 2, "family": "stylegan2", "options": {}}', 'it is of version 2, not 1'),
      ('{"version": 1, "family": "posix", "options": {}}', 'no such family is known'),
      ('{"version": 1, "family": "stylegan2", "options": {}}', 'missing'),
      ('[' * 10_000, 'it is not JSON'),
    ],
  )
  def test_texts(self, reads, text, said):
    with pytest.raises(InputError, match=said):
      reads(text)

  @pytest.mark.parametrize(
    ('changes', 'said'),
    [
      ({'resolution': 16}, 'widths='),
      ({'resolution': 2**20}, 'resolution=1048576'),
      ({'mapping_widths': [8] * 100}, 'mapping_widths='),
      ({'noise': 'loud'}, 'noise=loud'),
      ({'z_dim': 9}, r'expected \(9, 8\)'),
      ({'mean_w': False}, 'the generator has no w_avg'),
    ],
  )
  def test_options(self, reads, changes, said):
    with pytest.raises(InputError, match=said):
      reads(**changes)

  def test_arrays(self, reads):
    with pytest.raises(InputError, match='values are not finite'):
      reads(arrays={'w_avg': np.full(8, np.nan, np.float32)})
    with pytest.raises(InputError, match='the generator has no extra'):
      reads(arrays={'extra': np.zeros(1, np.float32)})
