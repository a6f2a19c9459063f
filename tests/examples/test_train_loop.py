"""The trainer as a user runs it: killed and resumed, refused, diverging; and the evaluation of its generator."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

import panda_jax
from examples.train_generator import embed, evaluate, steps, train
from examples.train_generator.__main__ import main
from examples.train_generator.configs import smoke
from panda_jax.errors import InputError, NonFiniteError
from panda_jax.files.lock import locked
from panda_jax.generators import save_generator
from panda_jax.generators.disk import leaves, read_description
from panda_jax.generators.stylegan2 import StyleGAN2
from panda_jax.runtime.progress import Progress
from tests.examples.pictures import folder, made, zipped

ROOT = Path(__file__).parents[2]
SIDE = 8
SMALL = {
  'resolution': SIDE,
  'widths': (8, 8),
  'discriminator_widths': (8, 8),
  # One program to compile: the penalties have their own tests.
  'r1_every': 1000,
  'path_weight': 0.0,
}
FLAGS = [
  '--config=examples/train_generator/configs/smoke.py',
  *(f'--config.{name}={value}' for name, value in SMALL.items()),
]


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  return zipped(tmp_path_factory.mktemp('images') / 'waves.zip', made(64, SIDE))


@pytest.fixture(scope='module')
def config():
  config = smoke.get_config()
  config.update(SMALL)
  return config


@pytest.fixture(scope='module')
def whole(images, config, tmp_path_factory):
  """A training that nothing interrupted."""
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  return workdir, train.train_into(workdir, config, images)


def finished(workdir: Path) -> list[int]:
  """Images of the whole checkpoints; one that is being written has another name."""
  return sorted(int(path.name) for path in (workdir / 'checkpoints').glob('*') if path.name.isdigit())


def test_a_finished_training_may_be_asked_for_again(whole, images, config):
  assert train.train_into(whole[0], config, images) == whole[1]


def test_what_is_written(whole):
  workdir, result = whole
  assert result == workdir / 'generator'
  assert sorted(path.name for path in (workdir / 'samples').iterdir()) == ['00000032.png', '00000064.png']
  assert sorted(path.name for path in (workdir / 'snapshots').iterdir()) == ['00000032', '00000064']
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  assert [line['images'] for line in lines] == [16, 32, 48, 64]
  generator = panda_jax.load_generator(result)
  assert isinstance(generator, StyleGAN2)
  assert np.abs(generator.w_avg[...]).max() > 0
  known = read_description(result)['training']
  assert (known['images'], known['data']['images']) == (64, 64)
  assert known['config']['widths'] == [8, 8]


def test_embedding_keeps_what_the_replaced_one_says_of_pictures(whole, tmp_path):
  out = tmp_path / 'cats'
  embed.embed(str(whole[1]), out, False)
  places = {'nose': [1, 1, 4, 4]}
  (out / 'generator.json').write_text(json.dumps(read_description(out) | {'places': places}))
  embed.embed(str(whole[1]), out, True)
  assert read_description(out)['places'] == places
  assert read_description(out)['training']['images'] == 64


def test_a_snapshot_tells_how_its_initial_generator_was_trained(whole, images, config, tmp_path, monkeypatch):
  initial = shutil.copytree(whole[1], tmp_path / 'generator')
  later = config.copy_and_resolve_references()
  later.update({'initial': str(initial), 'images': 16})
  begin = train._Run.to_the_end

  def removed(run):
    shutil.rmtree(initial)  # it was read
    return begin(run)

  monkeypatch.setattr(train._Run, 'to_the_end', removed)
  known = read_description(train.train_into(tmp_path / 'later', later, images))['training']
  assert (known['images'], known['config']['initial']) == (16, 'generator')
  assert known['initial'] == read_description(whole[1])['training']


KILLED = """
import os, signal, sys
from examples.train_generator import train
from examples.train_generator.__main__ import main
def save(self, state, images, plain=train._Run._save):
  plain(self, state, images)
  os.kill(os.getpid(), signal.SIGKILL)
train._Run._save = save
main(['train_generator', *sys.argv[1:]])
"""


def test_a_killed_training_ends_as_one_that_was_not(whole, images, config, tmp_path):
  # A process of its own, killed without warning after its first checkpoint.
  words = [*FLAGS, f'--data={images}', f'--workdir={tmp_path / "run"}', '--config.checkpoint_seconds=0']
  killed = subprocess.run([sys.executable, '-c', KILLED, *words], cwd=ROOT, stderr=subprocess.DEVNULL, timeout=600)
  assert killed.returncode == -signal.SIGKILL
  assert finished(tmp_path / 'run') == [8]
  result = train.train_into(tmp_path / 'run', config, images)
  lines = [json.loads(line)['images'] for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
  assert lines == sorted(set(lines))
  assert lines[-1] == 64
  expected = leaves(panda_jax.load_generator(whole[1]))
  for name, value in leaves(panda_jax.load_generator(result)).items():
    np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize(
  ('number', 'holder', 'step', 'kept', 'checkpoints'),
  [
    (signal.SIGTERM, train._Run, '_log', 'the same command goes on from the last checkpoint', [16]),
    (signal.SIGINT, train, '_claim', 'there is no checkpoint yet', []),  # before the first step
  ],
)
def test_a_signal_saves_and_says_so(number, holder, step, kept, checkpoints, images, tmp_path, monkeypatch, capsys):
  plain = getattr(holder, step)

  def signalled(*arguments):
    plain(*arguments)
    os.kill(os.getpid(), number)

  monkeypatch.setattr(holder, step, signalled)
  code = main(['train_generator', *FLAGS, f'--data={images}', f'--workdir={tmp_path / "run"}'])
  said = capsys.readouterr().err
  assert code == 128 + number, said
  assert kept in said
  assert finished(tmp_path / 'run') == checkpoints


def test_another_training_is_not_overwritten(whole, images, config, tmp_path):
  workdir, _ = whole
  before = (workdir / 'metrics.jsonl').read_bytes()
  other = config.copy_and_resolve_references()
  other.learning_rate = 0.001
  with pytest.raises(InputError, match=r'another learning_rate.*--overwrite'):
    train.train_into(workdir, other, images)
  with pytest.raises(InputError, match=r'another data'):
    train.train_into(workdir, config, folder(tmp_path / 'others', made(64, SIDE, seed=5)))
  with locked(workdir), pytest.raises(InputError, match='in use by process'):
    train.train_into(workdir, config, images, overwrite=True)
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'thesis.txt').write_text('precious')
  with pytest.raises(InputError, match='something else'):
    train.train_into(tmp_path / 'mine', config, images)
  assert (tmp_path / 'mine' / 'thesis.txt').read_text() == 'precious'
  assert (workdir / 'metrics.jsonl').read_bytes() == before


def test_images_that_do_not_fit(config, images, tmp_path):
  with pytest.raises(InputError, match='32x32'):
    train.train_into(tmp_path / 'a', config, folder(tmp_path / 'large', made(20, 32)))
  with pytest.raises(InputError, match='too few'):
    train.train_into(tmp_path / 'a', config, folder(tmp_path / 'few', made(5, SIDE)))
  assert not (tmp_path / 'a').exists()


def test_divergence_stops_and_keeps_the_last_checkpoint(images, config, tmp_path, monkeypatch):
  config = config.copy_and_resolve_references()
  config.update({'checkpoint_seconds': 0.0, 'log_images': 8})
  losses = iter([0.7, np.nan])

  def adversarial(state, reals, learns):
    loss = next(losses)
    return dataclasses.replace(state, images=state.images + 8), {'generator_loss': loss, 'discriminator_loss': loss}

  prepared = steps.prepare
  monkeypatch.setattr(steps, 'prepare', lambda *given: prepared(*given)._replace(adversarial=adversarial))
  with pytest.raises(NonFiniteError, match=r'loss=nan: not finite between images 8 and 16.*learning_rate'):
    train.train_into(tmp_path / 'run', config, images)
  metrics = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
  assert [line['generator_loss'] for line in metrics] == [0.7]
  assert finished(tmp_path / 'run') == [8]
  assert not (tmp_path / 'run' / 'generator').exists()


def test_command_line_mistakes_are_one_line(tmp_path, capsys):
  for flags in ([], ['--data=none.zip', f'--workdir={tmp_path}'], ['--nosuch=1'], ['--config.nosuch=1']):
    assert main(['train_generator', *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith('error: ')
    assert said.count('\n') == 1


def test_evaluation(tmp_path):
  config = smoke.get_config()
  config.update({'resolution': 32, 'widths': (8, 8, 4, 4), 'discriminator_widths': (8, 8, 4, 4)})
  save_generator(StyleGAN2(steps.generator_options(config), nnx.Rngs(0)), tmp_path / 'noise')
  path = zipped(tmp_path / 'waves.zip', made(600, 32))
  with Progress() as progress:
    result = evaluate.evaluate([str(tmp_path / 'noise')], path, tmp_path / 'out', 256, progress)
  row = result['generators']['noise']['truncation']['1.0']
  floor = result['training images']
  assert 0 <= 2 * floor['frechet'] < row['frechet']  # untrained weights make noise
  assert row['recall'] < floor['recall']
  for name in ('noise_samples.png', 'noise_truncation.png', 'noise_nearest.png', 'evaluation.json'):
    assert (tmp_path / 'out' / name).stat().st_size > 500
  assert 'noise' in evaluate.table(result)
  small = StyleGAN2(steps.generator_options(smoke.get_config()), nnx.Rngs(0))
  save_generator(small, tmp_path / 'small')
  with pytest.raises(InputError, match='16 pixels'):
    evaluate.evaluate([str(tmp_path / 'small')], path, tmp_path / 'out2', 256, Progress())
