"""--latents, --space and --labels of every command that takes samples, on a conditional network with z_dim = w_dim."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from panda_jax.generators import registry, save_generator
from tests.commands.calls import call

LAYER, CLASSES = 2, 3
TRUNCATION = ('--truncation=0.6', '--truncation_layers=3')
EDIT = ('edit', '--part=0', '--appearance=1', '--alpha=2')
COMMANDS = {  # each with the array that depends on its samples
  'edit': (EDIT, 'original.npy'),
  'remove': (('remove', '--part=0', '--samples=4'), 'original.npy'),
  'refine': (('refine',), 'parts.npy'),
  'saliency': (('saliency', '--appearance=1', '--samples=4'), 'coordinates.npy'),
}


@pytest.fixture(scope='module')
def network(tmp_path_factory):
  """A generator's folder. Its mean of w is not 0, so that truncating twice differs from truncating once."""
  options = {'resolution': 8, 'widths': (6, 6, 5, 5), 'z_dim': 8, 'w_dim': 8, 'mapping_widths': (8,)}
  options |= {'num_classes': CLASSES, 'embed_dim': 8, 'label_input': 'joint'}
  rngs = nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))
  generator = registry.create('stylegan2', registry.options_class('stylegan2')(**options), rngs)
  generator.w_avg[...] = np.linspace(-2, 2, 8, dtype=np.float32)
  path = tmp_path_factory.mktemp('samples') / 'network'
  save_generator(generator, path)
  return path


@pytest.fixture(scope='module')
def sampled(network):
  """Samples of seeds 3, 4, 5 and classes 2, 0, 1, truncated as the fit is."""
  out = network.parent / 'sampled'
  assert call('sample', f'--generator={network}', '--seeds=3-5', '--labels=2,0,1', *TRUNCATION, f'--out={out}') == 0
  return out


@pytest.fixture(scope='module')
def fitted(network):
  path = network.parent / 'fit'
  given = (f'--generator={network}', f'--layer={LAYER}', '--samples=8', '--parts=2', '--config.restarts=2')
  assert call('fit', f'--workdir={path}', *given, *TRUNCATION, '--labels=0,2') == 0
  return path


@pytest.fixture
def workdir(fitted, tmp_path):
  shutil.copytree(fitted, tmp_path / 'fit', ignore=shutil.ignore_patterns('checkpoints'))
  return tmp_path / 'fit'


@pytest.mark.parametrize(('name', 'given'), [('w', TRUNCATION), ('wplus', ())])
def test_sample_goes_on_from_what_it_wrote(network, sampled, tmp_path, name, given):
  moved = shutil.copy(sampled / f'{name}.npy', tmp_path / 'moved.npy')
  assert call('sample', f'--generator={network}', f'--latents={moved}', *given, f'--out={tmp_path / "out"}') == 0
  np.testing.assert_array_equal(np.load(tmp_path / 'out' / 'images.npy'), np.load(sampled / 'images.npy'))
  assert (tmp_path / 'out' / 'wplus.npy').read_bytes() == (sampled / 'wplus.npy').read_bytes()
  assert (tmp_path / 'out' / 'w.npy').exists() == (name == 'w')  # w+ does not give w


def test_w_of_earlier_samples_is_not_left_beside_those_of_others(network, sampled, tmp_path):
  shutil.copytree(sampled, tmp_path / 'out')
  np.savez(tmp_path / 'projected_w.npz', w=np.load(sampled / 'wplus.npy')[:1])
  given = (f'--generator={network}', f'--latents={tmp_path / "projected_w.npz"}', f'--out={tmp_path / "out"}')
  assert call('sample', *given) == 2
  assert (tmp_path / 'out' / 'w.npy').exists()
  assert call('sample', *given, '--overwrite', '--truncation=0.5') == 2  # an error deletes nothing
  assert (tmp_path / 'out' / 'w.npy').exists()
  assert call('sample', *given, '--overwrite') == 0
  assert not (tmp_path / 'out' / 'w.npy').exists()
  np.testing.assert_allclose(np.load(tmp_path / 'out' / 'images.npy'), np.load(sampled / 'images.npy')[:1], atol=1e-6)


def test_the_record_tells_what_was_typed_and_knows_older_ones(network, sampled, tmp_path, capsys):
  shutil.copytree(sampled, tmp_path / 'out')
  record = tmp_path / 'out' / 'sample.json'
  found = json.loads(record.read_text())
  assert found['command'].startswith(f'python run.py sample --generator={network} --seeds=3-5 ')
  assert found['typed'] == {'generator': str(network), 'seeds': '3-5', 'labels': '2,0,1'}
  record.write_text(json.dumps({key: value for key, value in found.items() if key not in ('command', 'typed')}))
  given = ('sample', f'--generator={network}', '--labels=2,0,1', *TRUNCATION, f'--out={tmp_path / "out"}')
  assert call(*given, '--seeds=3-5') == 0
  assert call(*given, '--seeds=3,4,5') == 0  # the same samples
  assert json.loads(record.read_text())['typed']['seeds'] == '3,4,5'
  assert call(*given, '--seeds=3,4,6') == 2
  assert 'other samples are there' in capsys.readouterr().err


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_takes_every_space(workdir, sampled, tmp_path, command):
  given, file = COMMANDS[command]
  np.save(tmp_path / 'z.npy', np.concatenate([np.random.RandomState(t).randn(1, 8) for t in (3, 4, 5)]))
  found = {}
  for name, samples in {
    'seeds': ('--seeds=3-5', '--labels=2,0,1'),
    'z': (f'--latents={tmp_path / "z.npy"}', '--labels=2,0,1'),
    'w': (f'--latents={sampled / "w.npy"}',),
    'wplus': (f'--latents={sampled / "wplus.npy"}', '--space=wplus'),
  }.items():
    assert call(*given, f'--workdir={workdir}', *samples, f'--out={tmp_path / name}') == 0
    found[name] = np.load(tmp_path / name / file)
  for name in ('z', 'w', 'wplus'):
    np.testing.assert_allclose(found[name], found['seeds'], atol=1e-4 if command == 'refine' else 1e-5, err_msg=name)
  if command == 'edit':
    np.testing.assert_allclose(found['seeds'], np.load(sampled / 'images.npy'), atol=1e-5)


def test_rows_of_w_plus_of_their_own(workdir, sampled, tmp_path):
  wplus = np.load(sampled / 'wplus.npy')
  wplus[:, 2:] = wplus[::-1, 2:]  # coarse rows of one sample, fine rows of another
  np.save(tmp_path / 'mixed.npy', wplus)
  out = tmp_path / 'out'
  assert call(*EDIT, f'--workdir={workdir}', f'--latents={tmp_path / "mixed.npy"}', f'--out={out}') == 0
  mixed, straight = np.load(out / 'original.npy'), np.load(sampled / 'images.npy')
  assert np.abs(mixed[0] - straight[0]).max() > 1e-3
  np.testing.assert_allclose(mixed[1], straight[1], atol=1e-5)


LABELLED = {  # --labels of four samples: (the class of each, or the error)
  '1': (1, 1, 1, 1),
  '1,0,2,1': (1, 0, 2, 1),
  '0-2,0': (0, 1, 2, 0),
  '0,2': '2 of them: there are 4 samples; give one for all samples, or one for each',
  '0,1,2,0,1': '5 of them: there are 4 samples',
  '3': 'labels=3: there is no such class',
  '-1': 'labels=-1: not a list of whole numbers',
  '1.5': 'labels=1.5: not a list of whole numbers',
  'nan': 'labels=nan: not a list of whole numbers',
  '': 'labels=: not a list of whole numbers',
  '99999999999999999999': 'there is no such class',
  'no.npy': 'labels=no.npy: it cannot be read',
}
LABEL_FILES = {
  'one': (np.array([1]), (1, 1, 1, 1)),
  'each': (np.array([1, 0, 2, 1], np.uint8), (1, 0, 2, 1)),
  'rows': (np.eye(3)[[1, 0, 2, 1]], (1, 0, 2, 1)),
  'one row': (np.eye(3, dtype=np.float32)[[1]], (1, 1, 1, 1)),
  'wide rows': (np.eye(4)[[1, 0, 2, 1]], 'labels=shape 4x4: rows of this generator have 3 numbers'),
  'too few rows': (np.eye(3)[:2], '2 of them: there are 4 s'),
  'floats': (np.array([1.0, 0, 2, 1]), 'labels=type float64: class indices are integers'),
  'negative': (np.array([1, -1, 2, 1]), 'labels=-1: there is no such class'),
  'not finite': (np.full((4, 3), np.nan), 'not finite'),
  'yes and no': (np.array([True]), 'labels=type bool'),
  'none': (np.zeros(0, int), 'labels=shape 0'),
}


def seen(capsys, expected, code, found, wanted):
  """Gives the images of these classes, or one line with the error."""
  error = capsys.readouterr().err
  if isinstance(expected, str):
    lines = [line for line in error.splitlines() if line.startswith('error: ')]
    assert code == 2
    assert len(lines) == 1
    assert expected in lines[0]
  else:
    assert code == 0, error
    np.testing.assert_allclose(found(), wanted(expected), atol=1e-5)


@pytest.fixture(scope='module')
def of_classes(network):
  """Images (4, 8, 8, 3) of seeds 0 to 3 in given classes, as the network makes them."""
  from panda_jax.generators import load_generator, seeds
  from panda_jax.generators.structure import Compiled

  generator = Compiled(load_generator(network))
  z = seeds.draws(generator, range(4))
  return lambda labels: generator(generator.map(z, np.array(labels), truncation=0.6, truncation_layers=3))


@pytest.mark.parametrize('text', LABELLED)
def test_labels_of_samples(network, tmp_path, of_classes, capsys, text):
  out = tmp_path / 'out'
  code = call('sample', f'--generator={network}', '--seeds=0-3', f'--labels={text}', *TRUNCATION, f'--out={out}')
  seen(capsys, LABELLED[text], code, lambda: np.load(out / 'images.npy'), of_classes)


@pytest.mark.parametrize('name', LABEL_FILES)
def test_files_of_labels(fitted, tmp_path, of_classes, capsys, name):
  array, expected = LABEL_FILES[name]
  np.save(tmp_path / 'c.npy', array)
  code = call(*EDIT, f'--workdir={fitted}', f'--labels={tmp_path / "c.npy"}', f'--out={tmp_path / "out"}')
  seen(capsys, expected, code, lambda: np.load(tmp_path / 'out' / 'original.npy'), of_classes)


@pytest.mark.parametrize('command', COMMANDS)
def test_labels_of_every_command(fitted, tmp_path, capsys, command):
  given = (*COMMANDS[command][0], f'--workdir={fitted}', f'--out={tmp_path / "out"}')
  assert call(*given, '--seeds=0-2', '--labels=0,1') == 2
  assert '2 of them: there are 3 seeds' in capsys.readouterr().err
  assert call(*given, '--seeds=0-2', '--labels=0,1,2,0') == 2
  assert call(*given, '--labels=7') == 2  # also for the default samples of the command
  assert 'labels=7: there is no such class' in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_labels_of_a_fit_are_taken_in_turn(network, fitted, tmp_path, capsys, of_classes):
  assert call(*EDIT, f'--workdir={fitted}', f'--out={tmp_path / "out"}') == 0
  np.testing.assert_allclose(np.load(tmp_path / 'out' / 'original.npy'), of_classes((0, 2, 0, 2)), atol=1e-5)
  fit = ('fit', f'--generator={network}', f'--layer={LAYER}', '--samples=2', '--parts=2', f'--workdir={tmp_path / "f"}')
  for labels, said in (
    ('0,1,2', '3 of them: there are 2 samples'),
    ('0,3', 'labels=3: there is no such class; give indices from 0 to 2'),
    (None, '--labels: not given, and this generator has 3 classes; give indices from 0 to 2'),
  ):
    assert call(*fit, *([] if labels is None else [f'--labels={labels}'])) == 2
    err = capsys.readouterr().err
    assert said in err
    assert 'give as many' in err or '--labels=0 is one for all, a fit takes --labels=0-2 in turn' in err
    assert not (tmp_path / 'f').exists()


def test_a_fit_of_rows_keeps_them(network, tmp_path, of_classes):
  np.save(tmp_path / 'c.npy', np.eye(3)[[1, 2]])
  fit = ('fit', f'--generator={network}', f'--layer={LAYER}', '--samples=4', '--parts=2', '--config.restarts=2')
  assert call(*fit, *TRUNCATION, f'--labels={tmp_path / "c.npy"}', f'--workdir={tmp_path / "fit"}') == 0
  assert call(*EDIT, f'--workdir={tmp_path / "fit"}', f'--out={tmp_path / "out"}') == 0
  np.testing.assert_allclose(np.load(tmp_path / 'out' / 'original.npy'), of_classes((1, 2, 1, 2)), atol=1e-5)


def test_discover_takes_labels_in_turn(network, tmp_path, capsys):
  given = ('discover', '--method=ganspace', f'--generator={network}', '--samples=16', '--count=1', '--seeds=0')
  np.save(tmp_path / 'c.npy', np.eye(3)[[1, 2]])
  assert call(*given, f'--labels={tmp_path / "c.npy"}', f'--out={tmp_path / "rows"}') == 0
  for labels, said in (('0,3', 'labels=3: there is no such class'), (','.join('0' * 17), '17 of them: there are 16')):
    assert call(*given, f'--labels={labels}', f'--out={tmp_path / "out"}') == 2
    assert said in capsys.readouterr().err


MISTAKES = [
  (('edit', 'W', '--latents=L', '--seeds=0'), 'seeds=0: given together with --latents'),
  (('edit', 'W', '--space=w'), 'space=w: given without --latents'),
  (('edit', 'W', '--latents=L', '--space=x'), 'space'),
  (('edit', 'W', '--latents=L', '--truncation=0.5'), '--truncation=0.5: edit has no such flag'),
  (('edit', 'W', '--latents=L', '--labels=0'), 'labels=given: w holds the class of a sample already'),
  (('edit', 'W', '--latents=L', '--space=wplus'), 'give wplus as (N, 4, 8)'),
  (('sample', 'G', '--latents=L', '--seeds=0', '--out=O'), 'seeds=0: given together with --latents'),
  (('sample', 'G', '--seed=0-7', '--out=O'), '--seed=0-7: it is a list of whole numbers; did you mean --seeds=0-7?'),
  (('sample', 'G', '--seed=1,2', '--out=O'), 'did you mean --seeds=1,2?'),
  (
    ('sample', 'G', '--seeds=0', '--out=O'),
    '--labels: not given, and this generator has 3 classes; give indices from 0',
  ),
  (('sample', 'G', '--latents=B', '--out=O'), 'give --space=z or --space=w'),
  (('saliency', 'W', '--latents=B', '--appearance=0'), 'give --space=z or --space=w'),
  (('refine', 'W', '--features=B', '--labels=0'), 'given together with --labels'),
  (('fit', 'G', '--latents=L', '--workdir=O'), '--latents=L: fit has no such flag'),
  (('catalog', 'W', '--labels=0'), '--labels=0: catalog has no such flag'),
  (('report', 'W', '--seeds=0'), '--seeds=0: report has no such flag'),
  (('info', 'G', '--labels=0'), '--labels=0: info has no such flag'),
]


@pytest.mark.parametrize(('arguments', 'said'), MISTAKES, ids=[' '.join(arguments) for arguments, _ in MISTAKES])
def test_mistakes(network, fitted, sampled, tmp_path, capsys, arguments, said):
  np.save(tmp_path / 'bare.npy', np.load(sampled / 'w.npy'))
  names = {'W': f'--workdir={fitted}', 'G': f'--generator={network}', '--out=O': f'--out={tmp_path / "out"}'}
  names |= {'--workdir=O': f'--workdir={tmp_path / "out"}', '--latents=B': f'--latents={tmp_path / "bare.npy"}'}
  names |= {'--latents=L': f'--latents={sampled / "w.npy"}'} if said.find('=L') < 0 else {}
  edits = EDIT[1:] if arguments[0] == 'edit' else ()
  assert call(*(names.get(argument, argument) for argument in arguments), *edits) == 2
  error = capsys.readouterr().err.strip().splitlines()
  assert said in error[-1]
  assert not (tmp_path / 'out').exists()
