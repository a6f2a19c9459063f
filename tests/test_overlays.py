"""Parts and coordinates on images: where they are painted, and that margins are cut."""

import numpy as np
from PIL import Image

from panda_jax import overlays


def rows_of(path, height):
  with Image.open(path) as picture:
    page = np.asarray(picture.convert('RGB'), np.int32)
  pitch = height + overlays.GAP
  return [page[i : i + height, overlays.LABEL :] for i in range(0, len(page) - overlays.GAP, pitch)]


def test_a_part_is_painted_where_it_is(tmp_path):
  images = np.zeros((2, 64, 64, 3), np.float32)
  parts = np.zeros((16, 2), np.float32)
  parts[0, 0] = 5  # upper left corner of a 4 x 4 grid; part 1 is dead
  overlays.draw_overlay(tmp_path / 'overlay.png', images, parts, (4, 4))
  original, painted, dead = rows_of(tmp_path / 'overlay.png', 128)
  assert original[:, :128].std() == 0
  inside, outside = painted[:32, :32], painted[64:, 64:128]
  assert np.abs(inside.mean(axis=(0, 1)) - outside.mean(axis=(0, 1))).max() > 20
  assert outside.std() == 0
  np.testing.assert_array_equal(dead[64:, 64:128], outside)
  np.testing.assert_array_equal(dead[:32, :32], outside[:32, :32])


def test_margins_are_cut():
  maps = np.zeros((1, 8, 8), np.float32)
  maps[0, 2:-2, 2:-2] = np.arange(16).reshape(4, 4)
  np.testing.assert_array_equal(overlays._to_image(maps, 2, (4, 4))[0], np.arange(16).reshape(4, 4))


def test_coordinates_are_those_of_the_appearance(tmp_path):
  rng = np.random.default_rng(0)
  images = np.zeros((2, 32, 32, 1), np.float32)
  features = np.zeros((2, 4, 4, 6), np.float32)
  a = rng.standard_normal((6, 1)).astype(np.float32)
  features[0, 3, 3] = a[:, 0]  # strong in the lower right corner of the first sample only
  overlays.draw_coordinates(tmp_path / 'saliency.png', images, features, a)
  original, painted = rows_of(tmp_path / 'saliency.png', 128)
  first, second = painted[:, :128], painted[:, 128 + overlays.GAP : 256 + overlays.GAP]
  assert np.abs(first[100:, 100:].mean() - first[:64, :64].mean()) > 10
  assert second.std() == 0
  assert original[:, :128].std() == 0


def test_large_images_are_reduced_and_small_ones_repeated():
  for side, shown in ((16, 128), (64, 128), (128, 128), (1024, 256), (511, 511)):
    assert overlays._enlarged(np.zeros((1, side, side, 3), np.float32)).shape[1] == shown
