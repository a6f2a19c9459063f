"""Networks in common wrappers: prefixes, nested dicts, state dicts of modules, several in one file."""

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest

from panda_jax.converters.checkpoint import Module, read
from panda_jax.converters.conversion import converted
from panda_jax.converters.limits import Unknown
from panda_jax.converters.networks import networks, under, weights_taken
from panda_jax.converters.projects import PROJECTS
from panda_jax.errors import InputError
from panda_jax.generators.disk import leaves
from tests.commands.calls import call
from tests.converters.writers import module, state_dict, write_legacy, write_zip
from tests.generators import (
  checkpoints,
  plain_biggan_codes,
  plain_fastgan,
  plain_r3gan,
  plain_stylegan3,
  plain_stylegan_xl,
)
from tests.generators.checkpoints import DATA, checkpoint, stored
from tests.generators.parity import IMAGE, close, nhwc
from tests.generators.test_stylegan3 import SMALL

ROSINALITY = 'stylegan2_rosinality/checkpoint.pt'
MEAN = np.ones(8, np.float32)


def prefixed(prefix: str, arrays: dict) -> dict:
  return {f'{prefix}{key}': array for key, array in arrays.items()}


def made(tree, weights='ema', key=None, **options):
  """The conversion of a tree and its generator."""
  found = checkpoint(tree)
  return converted(found if key is None else under(found, key), 'auto', weights, options)


def assert_same(ours, theirs):
  """Two generators of one kind with the same bits."""
  assert ours.options == theirs.options
  a, b = leaves(ours), leaves(theirs)
  assert a.keys() == b.keys()
  for name, array in a.items():
    np.testing.assert_array_equal(array, b[name], err_msg=name)


@pytest.fixture(scope='module')
def rosinality():
  """A tree as the original code saves it."""
  return checkpoints.stylegan2_rosinality()


WRAPPED = {
  'bare': lambda arrays: arrays,
  'DataParallel': lambda arrays: {'g_ema': prefixed('module.', arrays)},
  'pSp': lambda arrays: {
    'state_dict': prefixed('decoder.', arrays) | {'encoder.input_layer.0.weight': np.ones((2, 3, 3, 3), np.float32)},
    'opts': {'output_size': 16},
  },
  'flat': lambda arrays: prefixed('g_ema.', arrays) | prefixed('g.', checkpoints.stylegan2_rosinality(seed=1)['g_ema']),
  'in a dict': lambda arrays: {'model': {'netG': arrays, 'netD': {'convs.0.conv.modulation.weight': MEAN}}, 'step': 3},
  'in a dict of both': lambda arrays: {'nets': {'g_ema': prefixed('generator.module.', arrays), 'g': arrays}},
  'with other entries': lambda arrays: {**arrays, 'epoch': 7, 'args': {'size': 16}},
}


@pytest.mark.parametrize('name', WRAPPED)
def test_whatever_it_is_wrapped_in(rosinality, name):
  mean = {'latent_avg': rosinality['latent_avg']}
  conversion, ours = made(WRAPPED[name](rosinality['g_ema']) | mean)
  assert conversion.dialect == 'rosinality'
  assert_same(ours, made(rosinality)[1])


@pytest.mark.parametrize('name', WRAPPED)
@pytest.mark.parametrize('make', [checkpoints.progan, checkpoints.stylegan, checkpoints.stylegan2_genforce])
def test_families_of_genforce_too(make, name):
  arrays = make()
  assert_same(made(WRAPPED[name](arrays))[1], made({'generator_smooth': arrays})[1])


def test_stored_outputs_of_the_original_through_a_prefix():
  tree = read(stored(ROSINALITY)).tree
  conversion, ours = made({'state_dict': prefixed('decoder.', tree['g_ema']), 'latent_avg': tree['latent_avg']})
  assert 'weights of state_dict.decoder, averaged or not the file does not say' in conversion.notes
  with np.load(DATA / 'stylegan2_rosinality' / 'reference.npz') as reference:
    close(ours(ours.map(reference['z'], truncation=0.7)), nhwc(reference['image_psi0.7']), IMAGE, 'image')


@pytest.mark.parametrize('shape', [(8,), (1, 8), (6, 8), (18, 8)])
def test_the_mean_of_w_may_stand_once_for_each_row(rosinality, shape):
  conversion, ours = made({'g_ema': rosinality['g_ema'], 'latent_avg': np.broadcast_to(MEAN, shape)})
  assert conversion.sources['w_avg'] == 'latent_avg'
  np.testing.assert_array_equal(leaves(ours)['w_avg'], MEAN)


@pytest.mark.parametrize('mean', [np.ones(7), np.ones((2, 3, 8)), np.eye(8), np.ones(()), np.ones((0, 8))])
def test_a_mean_of_another_kind_is_told(rosinality, mean):
  with pytest.raises(InputError, match='latent_avg: '):
    made({'g_ema': rosinality['g_ema'], 'latent_avg': mean.astype(np.float32)})


class TestNoiseThatIsNotThere:
  @pytest.fixture
  def without(self, rosinality):
    arrays = {key: array for key, array in rosinality['g_ema'].items() if not key.startswith('noises.')}
    return {'g_ema': arrays, 'latent_avg': rosinality['latent_avg']}

  def test_there_is_none(self, rosinality, without):
    conversion, ours = made(without)
    whole = made(rosinality)[1]
    z = np.random.default_rng(0).standard_normal((2, 8))
    silent = whole(whole.map(z), noise='none')
    np.testing.assert_allclose(ours(ours.map(z)), silent, atol=1e-6)  # the order of the sums may differ
    assert np.abs(whole(whole.map(z)) - silent).max() > 0.1
    assert any(note.startswith('noises: not in the file, so stored noise is none') for note in conversion.notes)
    # It can still draw noise: the noise strengths are stored.
    assert_same(ours, made(rosinality | {'g_ema': rosinality['g_ema'] | silenced(rosinality['g_ema'])})[1])

  def test_a_seed_makes_it(self, rosinality, without):
    conversion, ours = made(without, noise_seed='3')
    random = np.random.RandomState(3)
    drawn = {key: random.randn(*array.shape).astype(np.float32) for key, array in noises(rosinality['g_ema']).items()}
    assert_same(ours, made(rosinality | {'g_ema': rosinality['g_ema'] | drawn})[1])
    assert 'noises: not in the file; drawn in order by numpy.random.RandomState(3).randn' in conversion.notes

  def test_the_command_that_is_asked_for_it_says_so(self, without, tmp_path, capsys):
    path = tmp_path / 'file.pt'
    path.write_bytes(write_zip({'g_ema': state_dict(without['g_ema']), 'latent_avg': without['latent_avg']}))
    assert call('convert', path, tmp_path / 'made') == 0
    for noise in ('const', 'none', 'random'):
      out = tmp_path / noise
      assert call('sample', f'--generator={tmp_path / "made"}', '--seeds=0', f'--noise={noise}', f'--out={out}') == 0
      assert ('note: noise is not in the file' in capsys.readouterr().out.split('images.png')[-1]) == (noise == 'const')
    const, none, random = (np.load(tmp_path / noise / 'images.npy') for noise in ('const', 'none', 'random'))
    np.testing.assert_allclose(const, none, atol=1e-6)  # see above
    assert np.abs(random - none).max() > 0.1

  def test_a_seed_is_not_for_files_that_have_it(self, rosinality):
    with pytest.raises(InputError, match='noise_seed=3: the file has noise of its own; leave this option out'):
      made(rosinality, noise_seed='3')

  def test_one_map_that_is_missing_is_a_fault(self, rosinality):
    arrays = {key: array for key, array in rosinality['g_ema'].items() if key != 'noises.noise_2'}
    with pytest.raises(InputError, match=r'noises\.noise_2: missing'):
      made({'g_ema': arrays})


def noises(arrays: dict) -> dict:
  return {key: array for key, array in arrays.items() if key.startswith('noises.')}


def silenced(arrays: dict) -> dict:
  return {key: np.zeros_like(array) for key, array in noises(arrays).items()}


NVLABS = {
  'skip': {},
  'resnet': {'architecture': 'resnet'},
  'orig': {'architecture': 'orig'},
  'conditional': {'c_dim': 3},
  'without noise': {'noise': False},
  'without mean': {'mean': False},
  'no mapping layer': {'depth': 0, 'z_dim': 8},
  'clamped': {'clamp': 0.4, 'activation': 'relu', 'mapping_activation': 'swish', 'lr': 0.1},
}
STATED = {'clamp': 'conv_clamp', 'activation': 'activation', 'mapping_activation': 'mapping_activation'}
STATED |= {'lr': 'mapping_lr_mul'}


@pytest.mark.parametrize('name', NVLABS)
def test_a_state_dict_of_nvlabs_and_what_the_user_tells(name):
  given = NVLABS[name]
  whole = checkpoints.stylegan2_nvlabs(**({'clamp': 256.0} | given))
  options = {STATED[key]: str(value) for key, value in given.items() if key in STATED}
  conversion, ours = made({'state_dict': prefixed('G_ema.', whole.state_dict)}, **options)
  assert_same(ours, made({'G_ema': whole})[1])
  told = [note for note in conversion.notes if note.endswith(': not in the file')]
  assert len(told) == len(STATED)
  assert any(note.startswith('conv_clamp=256.0:') for note in told) == ('clamp' not in given)


def test_what_a_state_dict_tells_is_no_option():
  arrays = checkpoints.stylegan2_nvlabs().state_dict
  assert made(arrays, conv_clamp='none')[1].options.clamp is None
  for option, value, text in (
    ('architecture', 'resnet', 'there is no such option'),
    ('conv_clamp', '-1', 'not a positive number'),
    ('activation', 'sine', 'there is no such function'),
  ):
    with pytest.raises(InputError, match=text):
      made(arrays, **{option: value})


@pytest.mark.parametrize('write', [write_zip, write_legacy])
def test_a_module_that_torch_saved(tmp_path, write):
  whole = checkpoints.stylegan2_nvlabs(attributes=False)
  saved = module('Generator', parameters=whole.state_dict, kwargs=whole.init_kwargs, source='raise SystemExit')
  path = tmp_path / 'model.pt'
  path.write_bytes(write(saved))
  ours = converted(read(path), 'auto', 'ema', {})[1]
  assert_same(ours, made({'G_ema': whole})[1])


@pytest.mark.parametrize('dtype', [np.float16, ml_dtypes.bfloat16, np.float64])
def test_numbers_of_other_sizes(rosinality, dtype):
  """The only difference is rounding to the file's type and back: filters are whole 64ths, exact in all types."""
  smaller = {key: array.astype(dtype) for key, array in rosinality['g_ema'].items()}
  again = {key: array.astype(np.float32) for key, array in smaller.items()}
  assert_same(made({'g_ema': smaller})[1], made({'g_ema': again})[1])
  whole = checkpoints.stylegan2_nvlabs()
  halves = {key: array.astype(dtype) for key, array in whole.state_dict.items()}
  singles = {key: array.astype(np.float32) for key, array in halves.items()}
  ours, theirs = (made({'G_ema': dataclasses.replace(whole, state_dict=arrays)})[1] for arrays in (halves, singles))
  assert_same(ours, theirs)


class TestSeveral:
  @pytest.fixture
  def tree(self):
    return {
      'nets': {name: checkpoints.stylegan2_rosinality(seed=seed)['g_ema'] for seed, name in enumerate('AB')},
      'latent_avg': MEAN,
    }

  def test_one_has_to_be_chosen(self, tree):
    with pytest.raises(InputError, match=r'it holds several generators: nets\.A, nets\.B; .* --key=nets\.A'):
      made(tree)

  def test_the_one_that_nothing_precedes_comes_first(self, tree):
    conversion, ours = made({**tree['nets']['A'], **prefixed('twin.', tree['nets']['B']), 'latent_avg': MEAN})
    assert_same(ours, made({'g_ema': tree['nets']['A'], 'latent_avg': MEAN})[1])
    assert f'arrays of other networks beside the generator: {len(tree["nets"]["B"])}' in conversion.notes

  @pytest.mark.parametrize('key', ['nets.B', 'nets/B'])
  def test_a_key_chooses(self, tree, key):
    _, ours = made(tree, key=key)
    assert_same(ours, made({'g_ema': tree['nets']['B'], 'latent_avg': MEAN})[1])

  def test_a_key_may_be_what_precedes_others(self, tree):
    flat = prefixed('one.A.', tree['nets']['A']) | prefixed('one.B.', tree['nets']['B'])
    _, ours = made({'state_dict': flat, 'latent_avg': MEAN}, key='state_dict.one.B')
    assert_same(ours, made({'g_ema': tree['nets']['B'], 'latent_avg': MEAN})[1])

  @pytest.mark.parametrize('key', ['C', 'nets.C', 'nets.A.B', '', '.', 'latent_avg'])
  def test_a_key_of_nothing_is_told(self, tree, key):
    with pytest.raises(InputError, match=r'--key=.*the file has nothing there; it has: nets, nets\.A'):
      made(tree, key=key)

  def test_a_key_that_is_no_text_is_no_place(self):
    arrays = {Unknown('a.b'): np.ones(1), 7: np.ones(1), 'layer.weight': np.ones(1)}
    with pytest.raises(InputError, match=r'the file has nothing there; it has: layer; '):
      made(arrays, key='foo')

  def test_a_crowd_is_no_checkpoint(self):
    arrays = checkpoints.stylegan2_rosinality()['g_ema']
    one = {'conv1.conv.modulation.weight': arrays['conv1.conv.modulation.weight']}
    crowd = {f'{i}.{key}': array for i in range(1000) for key, array in one.items()}
    assert len(networks(crowd, r'conv1\.conv\.modulation\.weight')) == 16


FOREIGN = {
  'EG3D': {'G_ema': prefixed('backbone.', checkpoints.stylegan2_nvlabs().state_dict)},
  'lucidrains': {'GAN': {'GE.blocks.0.to_style1.weight': MEAN, 'G.blocks.0.to_style1.weight': MEAN}, 'version': '1.8'},
  'lightweight-gan': {'GAN': {'G.layers.0.0.weight': MEAN}},
  'GFPGAN': {'params_ema': {'stylegan_decoder.style_convs.0.modulated_conv.weight': MEAN}},
  'BasicSR': {'params_ema': {'style_convs.0.modulated_conv.weight': MEAN}},
  'StyleGAN-T': {'mapping.clip.model.weight': MEAN, 'synthesis.b4.const': np.ones((4, 4, 4), np.float32)},
  'DCGAN': {'main.0.weight': MEAN},
  'an encoder': {'state_dict': {'encoder.input_layer.0.weight': MEAN}},
}


@pytest.mark.parametrize('name', FOREIGN)
def test_a_known_project_is_named(name):
  with pytest.raises(InputError, match=rf'by its keys it is .*{name}.*, which is not converted; ') as caught:
    made(FOREIGN[name])
  assert caught.value.remedy in {project.remedy for project in PROJECTS}


CODES = {  # arrays of each layout, under the keys of its own code
  'genforce': ('generator_smooth', lambda: checkpoints.stylegan()),
  'rosinality': ('g_ema', lambda: checkpoints.stylegan2_rosinality()['g_ema']),
  'nvlabs': ('G_ema', lambda: checkpoints.stylegan2_nvlabs().state_dict),
  'stylegan3': ('G_ema', lambda: plain_stylegan3.random_checkpoint(np.random.default_rng(0), **SMALL)),
  'stylegan_xl': ('G_ema', lambda: plain_stylegan_xl.Plain().arrays),
  'r3gan': ('G_ema', plain_r3gan.arrays),
  'fastgan': ('G_ema', plain_fastgan.arrays),
  'biggan': (
    'G_ema',
    lambda: plain_biggan_codes.random_checkpoint(np.random.default_rng(0), plain_biggan_codes.Network()),
  ),
}


@pytest.mark.parametrize('code', CODES)
def test_modules_of_other_classes_are_refused_by_name(code):
  """Modules of unknown classes are refused with any keys: their computation is unknown."""
  key, arrays = CODES[code]
  within = 'Model.MainLayers.0', 'synthesis.b4', 'x'
  for name, classes in (('my.Copy', {}), ('Generator', dict.fromkeys(within, 'my.Copy'))):
    with pytest.raises(InputError, match=r'the layout has no modules of these classes: .*my\.Copy.*state_dict'):
      made({key: Module(name, [], {}, arrays(), {}, classes)})


@pytest.mark.parametrize('code', ['r3gan', 'fastgan'])
def test_state_dicts_of_snapshots(code):
  key, arrays = CODES[code]
  conversion, ours = made({'state_dict': prefixed('module.', arrays())})
  assert conversion.family == code
  attributes = {'img_resolution': ours.resolution} if code == 'fastgan' else {}
  assert_same(ours, made({key: Module('training.networks.Generator', [], {}, arrays(), attributes)})[1])


def both() -> dict:
  """The averaged weights and those of the last step, as the original code keeps them."""
  last = checkpoints.stylegan2_rosinality(seed=1)['g_ema']
  return {'g': last, 'g_ema': checkpoints.stylegan2_rosinality()['g_ema']}


WHICH = {  # tree, --weights, --key; the weights in the report, a note
  'averaged': (both, 'ema', None, 'ema', 'weights of g_ema'),
  'of the last step': (both, 'raw', None, 'raw', 'weights of g'),
  'of the last step, by its key': (both, 'ema', 'g', 'raw', 'weights of g'),
  'averaged, by its key': (both, 'ema', 'g_ema', 'ema', 'weights of g_ema'),
  'no averaged ones': (lambda: {'g': both()['g']}, 'ema', None, 'raw', 'weights of g: the file has no averaged ones'),
  'not said': (lambda: both()['g'], 'ema', None, 'unknown', None),
  'not said, nor chosen': (
    lambda: both()['g'],
    'raw',
    None,
    'unknown',
    '--weights=raw chose nothing: the file has one',
  ),
  'not said, beside others': (lambda: {'a': both()['g'], 'g_ema': both()['g_ema']}, 'raw', None, 'unknown', None),
}


@pytest.mark.parametrize('name', WHICH)
def test_which_weights_were_taken_is_what_the_file_says(name):
  tree, weights, key, taken, note = WHICH[name]
  notes = made(tree(), weights, key)[0].notes
  assert weights_taken(notes, weights) == taken
  assert note is None or any(told.startswith(note) for told in notes)
  assert any('chose nothing' in told for told in notes) == (name == 'not said, nor chosen')
  assert any('no averaged ones' in told for told in notes) == (name == 'no averaged ones')


def test_which_weights_were_taken_is_told_and_kept(tmp_path, capsys):
  path = tmp_path / 'file.pt'
  path.write_bytes(write_zip({name: state_dict(arrays) for name, arrays in both().items()}))
  assert call('convert', path, tmp_path / 'raw', '--key=g') == 0
  assert 'weights      raw\n' in capsys.readouterr().out
  assert json.loads((tmp_path / 'raw' / 'generator.json').read_text())['source']['weights'] == 'raw'
  assert call('convert', path, tmp_path / 'none', '--key=g_ema', '--weights=raw') == 2
  assert '--weights=raw: under --key=g_ema there is no g; leave the flag out' in capsys.readouterr().err
  assert call('export', tmp_path / 'raw', tmp_path / 'own.safetensors') == 0
  assert call('convert', tmp_path / 'own.safetensors', tmp_path / 'again') == 0
  assert 'weights      unknown\n' in capsys.readouterr().out
