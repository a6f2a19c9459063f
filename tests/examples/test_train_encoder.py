"""The trainer of encoders: its result in a family with w and in one without, and messages for mistakes."""

import numpy as np
import pytest

from examples.train_encoder import __main__ as program
from panda_jax.generators import save_generator
from panda_jax.generators.source import weights_digest
from panda_jax.inversion.encoder import encoder_of, load_encoder
from tests.generators.test_contract import made


def test_it_learns_and_its_file_belongs_to_the_generator(tmp_path, capsys):
  generator = made('stylegan2, rectangular')
  save_generator(generator, tmp_path / 'network')
  assert program.main(['train', f'--generator={tmp_path / "network"}', '--images=960', '--batch=16']) == 0
  path = encoder_of(tmp_path / 'network')
  assert str(path) in capsys.readouterr().out
  encoder = load_encoder(path, weights_digest(generator).hexdigest())
  assert encoder(np.zeros((2, *generator.image_size, 3), np.float32)).shape == (2, *encoder.options.output)


@pytest.mark.parametrize('name', ['stylegan2, rectangular', 'progan, labels'])
def test_the_loss_falls(name):
  _, losses = program.train(made(name), 1280, 16, 0)
  assert np.mean(losses[-1:]) < losses[0]


def test_mistakes_are_one_sentence(capsys):
  for words, said in (([], '--generator'), (['--generator=gone'], 'gone'), (['--image=3'], 'image')):
    assert program.main(['train', *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('out', ['gone/encoder.npz', '.'])
def test_where_nothing_can_be_written_is_said_before_anything_is_trained(out, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(program, 'train', None)
  save_generator(made('progan'), tmp_path / 'network')
  assert program.main(['train', f'--generator={tmp_path / "network"}', f'--out={tmp_path / out}']) == 2
  assert 'could not be written' in capsys.readouterr().err
