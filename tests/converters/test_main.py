"""`python -m converters` as a user runs it: the report, mistakes, and a destination that is complete or absent."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import panda_jax
from panda_jax.converters import conversion
from panda_jax.converters.dialects import FAMILIES
from panda_jax.generators.disk import leaves
from tests.commands.calls import call, run
from tests.converters.commands import ROOT, SOURCE, broken_off, convert, one_line
from tests.converters.writers import arrays_like_a_checkpoint, state_dict, write_zip


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
  """The destination of a conversion, and the command."""
  destination = tmp_path_factory.mktemp('converted') / 'deep' / 'generator'
  done = convert(SOURCE, destination)
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  return destination, done


def contents(folder) -> dict:
  return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_the_report(converted):
  destination, done = converted
  for text in ('stylegan2', 'rosinality', '32 x 32', 'z 48, w 48, classes none', '48,287', 'keys used', 'keys unused'):
    assert text in done.stdout
  for text in ('a fixed filter, kept as an option of the generator', 'weights of g_ema', 'The licence of the network'):
    assert text in done.stdout
  description = json.loads((destination / 'generator.json').read_text())
  assert description['source']['name'] == SOURCE.name
  assert description['source']['sha256'] == hashlib.sha256(SOURCE.read_bytes()).hexdigest()
  assert description['family'] == 'stylegan2'
  assert (description['z_dim'], description['w_dim'], description['resolution']) == (48, 48, 32)
  assert description['layers']['5'] == [20, 16, 16]
  assert description['parameters'] == 48287
  assert 'convs.0.conv.weight' in description['report']['used'].values()
  assert 'convs.0.conv.blur.kernel' in description['report']['unused']
  assert 'mind it' in description['licence']
  assert str(ROOT) not in (destination / 'generator.json').read_text()


def test_the_generator_that_was_written(converted):
  destination, _ = converted
  generator = panda_jax.Compiled(panda_jax.load_generator(destination))
  assert all(np.asarray(value).dtype == np.float32 for value in leaves(generator.generator).values())
  reference = np.load(SOURCE.with_name('reference.npz'))
  image = generator(generator.map(reference['z']))
  wanted = reference['image_psi1.0'].transpose(0, 2, 3, 1)
  np.testing.assert_allclose(image, wanted, atol=3e-5, rtol=0)


MISTAKES = [
  ([], 'there are 0, not two; give SOURCE and DESTINATION'),
  (['S'], 'there are 1, not two'),
  (['S', 'D', 'more'], 'there are 3, not two'),
  (['S', 'D', '--famly=biggan'], '--famly=biggan: convert has no such flag; did you mean --family?'),
  (['S', 'D', '--zzz'], 'flag=--zzz: convert has no such flag; give one of --'),
  (
    ['S', 'D', '--family=vae'],
    f'family=vae: there is no such choice; give one of auto, {", ".join(FAMILIES)}',
  ),
  (['S', 'D', '--family'], 'family=: its value is missing'),
  (['S', 'D', '--weights=best'], 'weights=best: there is no such choice; give one of ema, raw'),
  (['S', 'D', '--overwrite=perhaps'], 'overwrite=perhaps: it is neither true nor false'),
  (['S', 'D', '--option=final_tanh'], '--option=final_tanh: it is not key=value'),
  (['S', 'D', '--option=a=1', '--option=a=2'], '--option=a=2: this key is given twice'),
  (['S', 'D', '--option=colour=red'], 'colour'),
  (
    ['S', 'D', '--family=biggan'],
    '--family=biggan: the file looks like a stylegan2; give --family=stylegan2, or leave the flag out',
  ),
  (['https://host/a.pkl', 'D'], 'error: SOURCE=https://host/a.pkl: it is an address and not a file; download it first'),
  (['none.pth', 'D'], 'error: SOURCE=none.pth: there is no such file'),
  (['S', '/proc/nowhere/generator'], 'it could not be written'),
  (['tests', 'D'], 'there is no checkpoint (.pth, .pt, .pkl, .bin, .safetensors, .ckpt, .pickle, .pth.tar) in this'),
]


@pytest.fixture
def said(capsys):
  """Runs the command in this process; returns the one line about a mistake."""
  before = signal.getsignal(signal.SIGTERM)

  def told(*arguments) -> str:
    assert call('convert', *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith('error: ')
    assert err.endswith('\n')
    assert err[:-1].isprintable()
    return err

  yield told
  signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(('arguments', 'text'), MISTAKES, ids=[' '.join(a) or 'nothing' for a, _ in MISTAKES])
def test_a_mistake_costs_one_line(said, tmp_path, arguments, text):
  places = {'S': SOURCE, 'D': tmp_path / 'out'}
  assert text in said(*(places.get(a, a) for a in arguments))
  assert list(tmp_path.iterdir()) == []


def test_the_one_checkpoint_in_a_folder_is_taken(said, tmp_path, capsys):
  folder, out = tmp_path / 'folder', tmp_path / 'out'
  folder.mkdir()
  assert 'this folder is empty; give a checkpoint file' in said(folder, out)
  (folder / 'notes.txt').write_text('mine')
  (folder / 'network.PT').write_bytes(SOURCE.read_bytes())
  assert call('convert', folder, out) == 0
  assert 'note         network.PT is the checkpoint in the folder\n' in capsys.readouterr().out
  assert str(folder) not in (out / 'generator.json').read_text()
  (folder / 'another.pkl').write_bytes(b'')
  assert 'several checkpoints in this folder: another.pkl, network.PT; give one' in said(folder, tmp_path / 'more')
  assert 'this folder is a generator already; give it as --generator' in said(out, tmp_path / 'more')


def test_a_mistake_ends_with_status_2(tmp_path):
  assert 'did you mean --family?' in one_line(convert(SOURCE, tmp_path / 'out', '--famly=biggan'))


def test_help():
  done = run('convert', '--help')
  assert done.returncode == 0
  for text in ('SOURCE DESTINATION', '--family', '--weights', '--option', 'overwrite'):
    assert text in done.stdout


def test_other_networks_are_told_by_what_they_hold(said, tmp_path):
  path = tmp_path / 'other.pth'
  odd = arrays_like_a_checkpoint() | {'\u202eodd': np.ones(1, np.float32)}
  path.write_bytes(write_zip(state_dict(odd)))
  assert r'a name is not one: \u202eodd' in said(path, tmp_path / 'out')
  path.write_bytes(write_zip(state_dict(arrays_like_a_checkpoint())))
  text = said(path, tmp_path / 'out')
  assert 'layer0.weight: an array (3, 2, 3, 3)' in text
  assert text.endswith('; give a generator of a layout that convert --list tells\n')
  assert said(path, tmp_path / 'out', '--family=r3gan').endswith(' that convert --list tells, or leave --family out\n')


def test_a_destination_is_not_overwritten_unasked(said, converted, tmp_path):
  destination, _ = converted
  before = contents(destination)
  assert 'it is there already; choose another folder or use --overwrite' in said(SOURCE, destination)
  assert contents(destination) == before
  (tmp_path / 'empty').mkdir()
  assert 'it is there already' in said(SOURCE, tmp_path / 'empty')


def test_only_a_generator_is_overwritten(said, tmp_path):
  file, other = tmp_path / 'file', tmp_path / 'other'
  file.write_text('mine')
  other.mkdir()
  (other / 'mine.txt').write_text('mine')
  assert 'it is not a folder' in said(SOURCE, file, '--overwrite')
  assert 'it is a folder without generator.json' in said(SOURCE, other, '--overwrite')
  (other / 'generator.json').write_text('{}')
  assert 'besides a generator it holds mine.txt' in said(SOURCE, other, '--overwrite')
  assert (other / 'mine.txt').read_text() == 'mine'


@pytest.fixture
def old(tmp_path):
  """The destination of an earlier conversion."""
  old = tmp_path / 'old'
  old.mkdir()
  (old / 'generator.json').write_text('the old one')
  return old


STEPS = ['read', 'assemble', 'save_generator']


@pytest.mark.parametrize('step', STEPS)
def test_killed_before_the_end_it_leaves_what_was_there(old, step):
  """A kill between steps; tests/generators/test_folders.py kills the writing at every step."""
  assert broken_off(step, 'SIGKILL', SOURCE, old, '--overwrite').returncode == -9
  assert contents(old.parent) == {'old/generator.json': b'the old one'}


@pytest.mark.parametrize('step', STEPS)
def test_stopped_before_the_end_it_leaves_what_was_there(old, step, monkeypatch):
  plain = getattr(conversion, step)

  def stopped(*arguments, **named):
    result = None if step == 'save_generator' else plain(*arguments, **named)
    os.kill(os.getpid(), signal.SIGTERM)
    return result

  monkeypatch.setattr(conversion, step, stopped)
  done = run('convert', SOURCE, old, '--overwrite')
  assert (done.returncode, done.stderr) == (143, 'stopped by SIGTERM; the destination is complete or unchanged\n')
  assert contents(old.parent) == {'old/generator.json': b'the old one'}


def test_killed_while_it_writes(tmp_path):
  done = broken_off('_flush', 'SIGKILL', SOURCE, tmp_path / 'new')
  assert done.returncode == -9
  (left,) = tmp_path.iterdir()
  assert left.name.startswith('.new.')
  assert broken_off('_flush', 'SIGTERM', SOURCE, tmp_path / 'new').returncode == 143
  assert os.listdir(tmp_path) == []  # the files of the first run are removed too
  assert call('convert', SOURCE, tmp_path / 'new') == 0
  assert call('convert', SOURCE, tmp_path / 'new', '--overwrite') == 0
  assert os.listdir(tmp_path) == ['new']
  assert panda_jax.load_generator(tmp_path / 'new').resolution == 32


@pytest.mark.slow
def test_killed_at_any_time(tmp_path):
  command = [sys.executable, '-m', 'converters', str(SOURCE)]
  started = time.monotonic()
  subprocess.run([*command, str(tmp_path / 'out')], cwd=ROOT, check=True, capture_output=True)
  whole = time.monotonic() - started
  for part, name in ((0.6, 'out'), (0.7, 'new'), (0.8, 'out'), (0.9, 'new')):
    destination = tmp_path / name
    process = subprocess.Popen(
      [*command, str(destination), '--overwrite'], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(whole * part)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if name == 'out' or destination.exists():
      panda_jax.load_generator(destination)


@pytest.mark.parametrize('kilobytes', [1, 30])
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, kilobytes):
  # A limit to the size of files acts like a full disk.
  shell = f'trap "" XFSZ; ulimit -f {kilobytes}; exec "$@"'
  command = ['bash', '-c', shell, 'bash', sys.executable, '-m', 'converters', str(SOURCE), str(tmp_path / 'out')]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert 'it could not be written' in one_line(done)
  assert os.listdir(tmp_path) == []
