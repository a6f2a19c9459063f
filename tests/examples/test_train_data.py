"""Images for the trainer: which are read, refused and held out, and the order of batches."""

import numpy as np
import pytest
from PIL import Image

from examples.train_generator import data
from panda_jax.errors import InputError
from tests.examples.pictures import folder, made, png, zipped


def refusal(path) -> str:
  with pytest.raises(InputError) as caught:
    data.read_images(path)
  assert caught.value.argument == 'data'
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_zip_and_folder_give_the_same(tmp_path):
  images = made(5, 16)
  a, b = data.read_images(folder(tmp_path / 'a', images)), data.read_images(zipped(tmp_path / 'b.zip', images))
  np.testing.assert_array_equal(a.pixels, images)
  np.testing.assert_array_equal(b.pixels, images)
  assert a.sha256 == b.sha256
  assert b.names == [f'inside/{i:04d}.png' for i in range(5)]


def test_grey_images_and_other_files(tmp_path):
  path = folder(tmp_path / 'a', made(2, 16))
  Image.fromarray(made(1, 16)[0, :, :, 0]).save(path / '0002.jpeg', quality=95)
  (path / 'notes.txt').write_text('no image')
  (path / '.hidden.png').write_bytes(b'no image')
  found = data.read_images(path)
  assert len(found.names) == 3
  grey = found.pixels[2].astype(int)
  np.testing.assert_array_equal(grey[..., 0], grey[..., 1])


@pytest.mark.parametrize('kind', [folder, zipped])
def test_no_images(tmp_path, kind):
  assert 'no image in it' in refusal(kind(tmp_path / 'x', []))


def test_missing_and_no_zip(tmp_path):
  assert 'no such file or folder' in refusal(tmp_path / 'none')
  (tmp_path / 'x.zip').write_bytes(b'PK but no archive')
  assert 'not a zip file' in refusal(tmp_path / 'x.zip')


def test_mixed_sizes_name_the_first_odd_one(tmp_path):
  path = folder(tmp_path / 'a', made(3, 16))
  (path / '0001b.png').write_bytes(png(made(1, 32)[0]))
  text = refusal(path)
  assert '0001b.png is 32x32, 0000.png is 16x16' in text


@pytest.mark.parametrize('size', [(16, 32), (12, 12), (4, 4)])
def test_sizes_that_no_generator_has(tmp_path, size):
  path = folder(tmp_path / 'a', [np.zeros((*size, 3), np.uint8)])
  assert f'{size[1]}x{size[0]}' in refusal(path)


def test_a_damaged_image_is_named(tmp_path):
  path = folder(tmp_path / 'a', made(3, 16))
  Image.fromarray(made(1, 16)[0]).save(tmp_path / 'whole.jpg')
  (path / '0001x.jpg').write_bytes((tmp_path / 'whole.jpg').read_bytes()[:-120])
  assert '0001x.jpg cannot be decoded' in refusal(path)
  (path / '0001x.jpg').write_bytes(b'no image at all')
  assert '0001x.jpg cannot be decoded' in refusal(path)


def test_a_damaged_zip(tmp_path):
  path = zipped(tmp_path / 'x.zip', made(2, 16))
  content = bytearray(path.read_bytes())
  at = content.index(b'IDAT')
  content[at + 10 : at + 20] = b'0123456789'
  path.write_bytes(content)
  assert 'cannot be unpacked' in refusal(path)


def test_pictures_of_one_photograph_are_not_on_both_sides():
  images = made(160, 16, seed=3)
  rng = np.random.default_rng(0)
  for i in range(40):  # copies with noise, as from another encoder
    noise = rng.integers(-3, 4, images[i].shape)
    images[rng.integers(40, 160)] = np.clip(images[i].astype(int) + noise, 0, 255)
  shown = data.photographs(images)
  assert shown[0] == 0
  assert len(np.unique(shown)) == shown.max() + 1 < 160
  train, held = data.split(shown)
  assert not np.isin(shown[held], shown[train]).any()
  assert len(np.unique(shown[held])) == len(held) == (shown.max() + 1) // 8


def test_an_epoch_goes_once_through_every_photograph():
  pixels = np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1)
  index = np.arange(0, 30, 2)  # 15 images, batches of 4: epochs end inside batches
  batches = data.Batches(pixels, index, np.arange(30), 4, seed=1)
  drawn = np.concatenate([batches[k].ravel() for k in range(15)])
  for epoch in range(4):
    np.testing.assert_array_equal(np.sort(drawn[15 * epoch : 15 * (epoch + 1)]), index)
  assert (drawn[:15] != drawn[15:30]).any()
  again = data.Batches(pixels, index, np.arange(30), 4, seed=1)
  np.testing.assert_array_equal(again[9], batches[9])  # whatever was asked for before


def test_a_photograph_shown_often_counts_once():
  pixels = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
  shown = np.array([0] * 12 + list(range(1, 9)))
  batches = data.Batches(pixels, np.arange(20), shown, 3, seed=0)
  drawn = np.concatenate([batches[k].ravel() for k in range(30)]).reshape(10, 9)  # epochs of nine photographs
  np.testing.assert_array_equal(np.sort(shown[drawn], axis=1), np.tile(np.arange(9), (10, 1)))
  assert len({*drawn[drawn < 12]}) > 3  # not always the same image of it


def test_aliasing():
  rng = np.random.default_rng(0)
  assert data.aliasing(rng.normal(size=(1, 256, 256)))[0] == pytest.approx(0.5, abs=0.01)  # 65 536 draws
  assert data.aliasing(np.ones((1, 8, 8)))[0] == 0
  smooth = np.cumsum(np.cumsum(rng.normal(size=(1, 64, 64)), axis=1), axis=2)
  assert data.aliasing(smooth)[0] < 0.1


def test_softened_images_have_no_more_aliasing_than_asked_for():
  rng = np.random.default_rng(0)
  ramp = np.linspace(20, 200, 32)[None, :, None, None] + np.linspace(0, 30, 32)[None, None, :, None]
  grain = rng.normal(0, np.array([0.5, 4, 40]).reshape(3, 1, 1, 1), (3, 32, 32, 3))
  pixels = np.clip(ramp + grain, 0, 255).astype(np.uint8)
  before, after = (data.aliasing(x.astype(np.float32) @ data.LUMA) for x in (pixels, data.softened(pixels, 0.3)))
  assert before[0] < 0.3 < before[2]
  np.testing.assert_array_equal(data.softened(pixels, 0.3)[0], pixels[0])  # one that needs nothing stays as it is
  assert after.max() < 0.31  # rounding to whole levels adds a little
  mean = pixels.mean(axis=(1, 2)), data.softened(pixels, 0.3).mean(axis=(1, 2))
  np.testing.assert_allclose(*mean, atol=2)  # a low-pass keeps the mean, but for the border
