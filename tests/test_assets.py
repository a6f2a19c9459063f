"""The embedded generator exists, is small and trained, and has a description."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import panda_jax
from panda_jax.errors import InputError
from panda_jax.generators import save_generator
from panda_jax.generators.disk import embedded, leaves, read_description
from panda_jax.generators.seeds import draws
from panda_jax.generators.structure import Compiled

ASSETS = Path(panda_jax.__file__).parent / 'assets'


@pytest.fixture(scope='module')
def cats():
  return panda_jax.load_generator('cats64')


def test_size_and_card():
  assert list(embedded()) == ['cats64']
  size = sum(path.stat().st_size for path in (ASSETS / 'cats64').rglob('*') if path.is_file())
  assert size < 12e6
  card = (ASSETS / 'cats64.md').read_text()
  for heading in ('## Data', '## Training', '## Quality', '## What not to use it for'):
    assert heading in card
  description = read_description('cats64')
  assert str(description['training']['images']) in card.replace(' ', '')
  assert str(description['parameters']) in card.replace(' ', '')
  # It names nothing of the machine that wrote it.
  for path in (ASSETS / 'cats64').rglob('*'):
    if path.is_file() and path.stat().st_size < 30_000:
      assert b'/tmp' not in path.read_bytes()
      assert b'/home' not in path.read_bytes()


def test_weights_are_float16_numbers(cats):
  for name, value in leaves(cats).items():
    value = np.asarray(value)
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, value.astype(np.float16).astype(np.float32), err_msg=name)


def test_a_folder_of_that_name_goes_first(cats, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'cats64').mkdir()
  with pytest.raises(InputError, match=r'no generator\.json'):
    panda_jax.load_generator('cats64')
  with pytest.raises(InputError, match='or one of cats64'):
    panda_jax.load_generator('cats46')


def test_float16_storage_refuses_what_it_cannot_hold(cats, tmp_path):
  large = panda_jax.load_generator('cats64')
  large.const[...] = large.const[...].at[0, 0, 0].set(1e6)
  with pytest.raises(InputError, match=r'const has an entry of 1e\+06'):
    save_generator(large, tmp_path / 'large', storage='float16')
  with pytest.raises(InputError, match='storage=int8'):
    save_generator(cats, tmp_path / 'large', storage='int8')
  assert not (tmp_path / 'large').exists()


def test_images_are_of_cats_seen_from_the_front(cats):
  """A trained generator shows faces at the expected place, brown to grey, and different from each other."""
  generator = Compiled(cats)
  images = np.asarray(generator(generator.map(draws(cats, range(64)), truncation=0.7)))
  assert np.isfinite(images).all()
  assert np.mean(np.abs(images) > 1.2) < 0.02  # hardly anything is clipped
  # Faces were cropped so that both eyes are on row 26, columns 18 and 45. There the mean picture is darkest or lightest
  # against its surroundings, and left and right look alike.
  mean = images.mean(axis=(0, 3))
  assert np.corrcoef(mean.ravel(), mean[:, ::-1].ravel())[0, 1] > 0.5
  assert images.std(axis=0).mean() > 0.2


def test_parts_find_the_eyes(cats):
  from panda_jax.generators.source import GeneratorSource

  source = GeneratorSource(cats, 5, 128)
  result = panda_jax.fit(source, parts=12, restarts=16)
  parts = result.factors.parts.reshape(16, 16, 12)
  # Row 26 of 64 is row 6.5 of 16; columns 18 and 45 are 4.5 and 11.25.
  eyes = np.zeros((16, 16), bool)
  eyes[5:9, 3:7] = eyes[5:9, 9:14] = True
  share = (parts * eyes[:, :, None]).sum(axis=(0, 1)) / parts.sum(axis=(0, 1))
  assert eyes.mean() < 0.15
  assert share.max() > 0.6


def test_description_is_plain():
  text = (ASSETS / 'cats64' / 'generator.json').read_text()
  description = json.loads(text)
  assert description['training']['data']['file'] == 'cats64.zip'
  assert jax.tree.all(jax.tree.map(lambda x: not str(x).startswith('/'), description))
