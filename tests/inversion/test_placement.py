"""Crops of photographs: their places, their pixels, and their return, which changes nothing outside the edit."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from panda_jax.errors import InputError
from panda_jax.inversion.placement import Placement, boxed, pointed, whole

OWN = np.array([[18, 26], [45, 26], [32, 43]], float)
SIZE = 64, 48


def photograph(H=150, W=200, seed=0):
  """Smooth noise, so that resampling it loses little."""
  noise = np.random.default_rng(seed).integers(0, 256, (H // 10, W // 10, 3), np.uint8)
  return np.asarray(Image.fromarray(noise).resize((W, H), Image.Resampling.BICUBIC))


@pytest.mark.parametrize('angle', [0, 0.3, -2.5])
@pytest.mark.parametrize('count', [2, 3])
def test_points_go_where_the_generator_has_them(angle, count):
  turn = 1.7 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
  points = (OWN - OWN.mean(axis=0)) @ turn.T + (100, 75)
  found = pointed(points[:count].ravel(), OWN, (150, 200), SIZE)
  assert found.scale == pytest.approx(1.7)
  np.testing.assert_allclose(np.c_[OWN, np.ones(3)] @ found.matrix.T, points, atol=1e-9)


def test_three_points_that_fit_no_similarity_are_met_in_the_mean():
  points = OWN * 2 + 10
  points[2] += (0, 6)
  found = pointed(points.ravel(), OWN, (150, 200), SIZE)
  apart = np.c_[OWN, np.ones(3)] @ found.matrix.T - points
  np.testing.assert_allclose(apart.mean(axis=0), 0, atol=1e-9)
  assert np.abs(apart).max() < 6


def test_a_photograph_of_the_generators_size_is_its_own_crop():
  pixels = photograph(*SIZE)
  np.testing.assert_allclose(whole(SIZE, SIZE).crop(pixels), pixels / 127.5 - 1, atol=1e-6)


def test_the_middle_is_taken_and_nothing_is_squeezed():
  found = whole((300, 300), SIZE)
  np.testing.assert_allclose(found.corners(), [[37.5, 0], [262.5, 0], [262.5, 300], [37.5, 300]])
  assert found.crop(photograph(300, 300)).shape == (*SIZE, 3)


def test_a_reduced_crop_averages():
  """A checkerboard of single pixels, reduced by four, is grey and not black or white."""
  board = np.indices((256, 192)).sum(axis=0) % 2 * 255
  crop = whole((256, 192), SIZE).crop(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
  assert np.abs(crop).max() < 0.2


def test_beyond_the_photograph_its_border_goes_on():
  pixels = np.zeros((50, 50, 3), np.uint8)
  pixels[:, 0] = 255
  crop = boxed((-20, 0, 48, 64), (70, 70), SIZE).crop(np.pad(pixels, ((0, 20), (0, 20), (0, 0)), 'edge'))
  assert (crop[:, :18] == 1).all()
  assert crop[:, 24:].max() < -0.9


@pytest.mark.parametrize('placement', [whole((150, 200), SIZE), pointed([90, 60, 120, 70], OWN, (150, 200), SIZE)])
def test_outside_of_the_weight_every_pixel_keeps_its_bits(placement):
  pixels = photograph()
  weight = np.zeros(SIZE, np.float32)
  weight[20:30, 10:20] = 1
  changed = placement.added(pixels, np.full((*SIZE, 3), 0.5), weight)
  moved = (changed != pixels).any(axis=2)
  # A pixel moves if it lies under the weight, or within one cell of it, by linear interpolation.
  y, x = np.nonzero(moved)
  at = np.stack([x + 0.5, y + 0.5]) - placement.matrix[:, 2:]
  u, v = np.linalg.inv(placement.matrix[:, :2]) @ at
  assert len(y)
  assert u.min() > 9
  assert u.max() < 21
  assert v.min() > 19
  assert v.max() < 31
  np.testing.assert_array_equal(placement.added(pixels, np.zeros((*SIZE, 3)), np.ones(SIZE)), pixels)


def test_a_change_goes_back_to_where_it_was_seen():
  """What is added through a placement is found again by its crop."""
  placement = pointed([60, 60, 120, 75], OWN, (150, 200), SIZE)
  pixels = np.full((150, 200, 3), 100, np.uint8)
  y, x = np.mgrid[: SIZE[0], : SIZE[1]]
  bump = 0.4 * np.exp(-((y - 30) ** 2 + (x - 25) ** 2) / 60)[..., None] * np.ones(3)
  back = placement.crop(placement.added(pixels, bump, np.ones(SIZE, np.float32))) - placement.crop(pixels)
  inside = np.s_[8:-8, 8:-8]  # of the photograph
  assert np.abs(back - bump)[inside].max() < 0.02  # rounding to 8 bits and interpolation twice


@pytest.mark.parametrize(
  ('call', 'said'),
  [
    (lambda: boxed((0, 0, 100, 50), (150, 200), SIZE), 'give --box=0,0,37.5,50'),
    (lambda: boxed((0, 0, 0, 0), (150, 200), SIZE), 'not a box'),
    (lambda: boxed((0, 0, float('nan'), 4), (150, 200), SIZE), 'not a box'),
    (lambda: boxed((190, 140, 48, 64), (150, 200), SIZE), 'outside the photograph'),
    (lambda: boxed((1e9, 0, 48, 64), (150, 200), SIZE), 'outside the photograph'),
    (lambda: pointed([1, 1, 1, 1], OWN, (150, 200), SIZE), 'apart'),
    (lambda: pointed([10, 10], OWN, (150, 200), SIZE), 'two or more'),
    (lambda: pointed([10, 10, 20], OWN, (150, 200), SIZE), 'two or more'),
    (lambda: pointed([10, 10, 20, 999], OWN, (150, 200), SIZE), 'outside'),
    (lambda: pointed([*range(0, 80, 10)], OWN, (150, 200), SIZE), '3 at most'),
    (lambda: pointed(['a', 2, 3, 4], OWN, (150, 200), SIZE), 'points'),
    (lambda: pointed([45, 26, 18, 26, 32, 43], OWN, (150, 200), SIZE), 'same order'),
    (lambda: pointed([20, 20, 60, 20, 100, 20], OWN, (150, 200), SIZE), 'same order'),
    (lambda: pointed([10, 10, 40, 10], [[9, 9], [9, 9]], (150, 200), SIZE), 'own_points=9,9,9,9: two are less'),
    (lambda: pointed([10, 10, 40, 10], [[9, 9], [99, 9]], (150, 200), SIZE), 'own_points=.* outside'),
    (lambda: pointed([10, 10, 40, 10], [[9, 9]], (150, 200), SIZE), 'own_points=9,9: they are not two'),
    (lambda: pointed([10, 10, 40, 10], [[9, 9], ['x', 9]], (150, 200), SIZE), 'own_points'),
    (lambda: pointed([10, 10, 40, 10], [[9, 9], [np.nan, 9]], (150, 200), SIZE), 'own_points'),
  ],
)
def test_what_cannot_be_placed_is_said(call, said):
  with pytest.raises(InputError, match=said):
    call()


def test_scale_and_turn_are_those_of_the_matrix():
  assert Placement(np.array([[3.0, 4, 0], [-4, 3, 0]]), SIZE).scale == 5
  assert pointed([120, 70, 90, 60], OWN, (150, 200), SIZE).turn == pytest.approx(np.degrees(np.arctan(1 / 3)) - 180)


def test_a_crop_of_few_pixels_costs_what_it_holds_and_not_what_the_photograph_has():
  pixels, weight = np.zeros((3000, 4000, 3), np.uint8), np.zeros(SIZE, np.float32)
  weight[30:34, 20:24] = 1
  placement, difference = whole(pixels.shape[:2], SIZE), np.full((*SIZE, 3), 0.5)
  tracemalloc.start()
  changed = placement.added(pixels, difference, weight)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert changed.any()
  assert (
    peak < 3 * pixels.nbytes
  )  # the photograph and a block; by float64 for every pixel it would be thirty times that


def test_blocks_join_without_a_seam(monkeypatch):
  pixels, difference = photograph(), np.random.default_rng(0).normal(size=(*SIZE, 3))
  placement = pointed([90, 60, 120, 70], OWN, (150, 200), SIZE)
  weight = np.random.default_rng(1).random(SIZE).astype(np.float32)
  whole_ = placement.added(pixels, difference, weight)
  monkeypatch.setattr('panda_jax.inversion.placement.BLOCK', 500)
  np.testing.assert_array_equal(placement.added(pixels, difference, weight), whole_)
