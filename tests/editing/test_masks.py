"""Masks: the three conventions, dead parts, thresholds, soft edges, and drawn pictures."""

import numpy as np
import pytest
from PIL import Image

from panda_jax.editing import masks
from panda_jax.errors import InputError

pytestmark = pytest.mark.oldest

GRID = (4, 6)
RNG = np.random.default_rng(0)


@pytest.fixture
def parts():
  P = RNG.uniform(0, 3, (24, 5)).astype(np.float32)
  P[P < 1] = 0
  P[:, 3] = 0  # dead
  P[:, 4] = 2  # constant
  return P


def test_unit_divides_by_the_peak_and_keeps_zeros(parts):
  mask = masks.part_mask(parts, 1)
  assert mask.max() == 1
  np.testing.assert_array_equal(mask == 0, parts[:, 1] == 0)
  np.testing.assert_allclose(mask * parts[:, 1].max(), parts[:, 1], rtol=1e-6)


def test_several_parts_join_as_union_or_sum(parts):
  each = [masks.part_mask(parts, k) for k in (0, 2)]
  np.testing.assert_array_equal(masks.part_mask(parts, [0, 2]), np.maximum(*each))
  total = each[0] + each[1]
  np.testing.assert_allclose(masks.part_mask(parts, (2, 0), combine='sum'), total / total.max(), rtol=1e-6)
  np.testing.assert_array_equal(masks.part_mask(parts, [0, 2], 'paper'), parts[:, 0] + parts[:, 2])
  np.testing.assert_array_equal(masks.part_mask(parts, [0, 2], 'paper', 'union'), parts[:, [0, 2]].max(axis=1))


def test_published_maps_the_sum_to_0_and_1(parts):
  total = parts[:, 0] + parts[:, 1] + 1
  mask = masks.part_mask(np.stack([parts[:, 0] + 1, parts[:, 1]], axis=1), [0, 1], 'published')
  np.testing.assert_array_equal(mask, (total - total.min()) / (total.max() - total.min()))
  assert (mask.min(), mask.max()) == (0, 1)


def test_refined_parts_have_peaks_of_their_own(parts):
  many = np.stack([parts, 2 * parts, 0 * parts])
  mask = masks.part_mask(many, 1)
  np.testing.assert_array_equal(mask[0], mask[1])
  np.testing.assert_array_equal(mask[2], 0)  # after refinement this sample has no part: no division by 0


@pytest.mark.parametrize('convention', masks.CONVENTIONS)
def test_dead_parts_are_named(parts, convention):
  with pytest.raises(InputError, match=r'part=3: it is dead .*choose a live one: 0, 1, 2, 4'):
    masks.part_mask(parts, [0, 3], convention)


def test_a_constant_part_has_no_published_form(parts):
  with pytest.raises(InputError, match=r'constant'):
    masks.part_mask(parts, 4, 'published')
  np.testing.assert_array_equal(masks.part_mask(parts, 4), 1)


@pytest.mark.parametrize(
  ('chosen', 'options', 'said'),
  [
    (5, {}, 'part=5: there are 5 parts; give one from 0 to 4'),
    (-1, {}, 'part=-1: there are 5 parts'),
    (True, {}, 'part=True'),
    ([], {}, 'no part is chosen'),
    (0, {'convention': 'papre'}, 'convention=papre'),
    (0, {'combine': 'both'}, 'combine=both'),
    (0, {'convention': 'published', 'combine': 'union'}, 'combine=union'),
  ],
)
def test_mistakes(parts, chosen, options, said):
  with pytest.raises(InputError) as caught:
    masks.part_mask(parts, chosen, **options)
  assert said in str(caught.value)


def test_threshold_is_a_fraction_of_the_peak():
  np.testing.assert_array_equal(masks.thresholded(np.float32([0, 1, 2, 4]), 0.5), [0, 0, 1, 1])
  np.testing.assert_array_equal(masks.thresholded(np.zeros(3, np.float32), 0.5), 0)
  for wrong in (0, -1, 1.1, float('nan'), 'half'):
    with pytest.raises(InputError, match='threshold='):
      masks.thresholded(np.ones(3, np.float32), wrong)


def test_soft_edges_end():
  mask = np.zeros((9, 11), np.float32)
  mask[4, 5] = 2
  soft = masks.feathered(mask.reshape(-1), (9, 11), 2).reshape(9, 11)
  assert soft.max() == soft[4, 5] == 2
  rows, columns = np.nonzero(soft)
  assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 3, 7)
  np.testing.assert_allclose(soft, soft[::-1, ::-1], rtol=1e-6)
  assert np.all(np.diff(soft[4, 5:8]) < 0)
  np.testing.assert_array_equal(masks.feathered(mask.reshape(-1), (9, 11), 0), mask.reshape(-1))
  np.testing.assert_allclose(masks.feathered(np.ones(99, np.float32), (9, 11), 3.5), 1, rtol=1e-6)
  for wrong in (-1, 12, float('inf')):
    with pytest.raises(InputError, match='feather='):
      masks.feathered(mask.reshape(-1), (9, 11), wrong)


def test_a_drawn_mask_bounds_the_soft_edge():
  mask, drawn = np.zeros((2, 24), np.float32)
  mask[8], drawn[7:9] = 1, 1
  shaped = masks.shaped(mask, GRID, threshold=0.5, feather=1, drawn=drawn.reshape(GRID))
  assert set(np.flatnonzero(shaped)) == {7, 8}


@pytest.mark.parametrize(
  ('array', 'said'),
  [
    (np.ones((6, 4)), 'shape 6x4: the feature map is 4x6'),
    (np.ones(23), 'shape 23'),
    (np.float32(1), 'shape scalar'),
    (np.full(24, np.nan), 'NaN or infinity'),
    (np.array(['x'] * 24), 'a mask holds numbers'),
  ],
)
def test_masks_of_another_size_or_type(array, said):
  with pytest.raises(InputError) as caught:
    masks.as_mask(array, GRID)
  assert said in str(caught.value)


def saved(path, array, mode=None):
  picture = Image.fromarray(array)
  (picture if mode is None else picture.convert(mode)).save(path)
  return path


def test_a_picture_of_the_map_is_taken_cell_by_cell(tmp_path):
  drawn = RNG.integers(0, 256, GRID, np.uint8)
  for mode in (None, 'RGB', 'RGBA', 'LA'):
    mask = masks.read_mask(saved(tmp_path / 'm.png', drawn, mode), GRID)
    np.testing.assert_allclose(mask, drawn.reshape(-1) / np.float32(255), atol=1e-6)
  wide = drawn.astype(np.uint16) * 257
  np.testing.assert_allclose(masks.read_mask(saved(tmp_path / 'm.png', wide), GRID), drawn.reshape(-1) / 255, atol=1e-6)
  rgba = np.full((*GRID, 4), 255, np.uint8)
  rgba[..., 3] = drawn  # painted with opacity
  np.testing.assert_allclose(masks.read_mask(saved(tmp_path / 'm.png', rgba), GRID), drawn.reshape(-1) / 255, atol=1e-6)
  bits = Image.fromarray(drawn > 99)
  bits.save(tmp_path / 'm.png')
  np.testing.assert_array_equal(masks.read_mask(tmp_path / 'm.png', GRID), (drawn > 99).reshape(-1))


def test_a_picture_of_the_image_is_averaged_over_cells(tmp_path):
  drawn = np.zeros((32, 48), np.uint8)
  drawn[8:16, 40:] = 255
  drawn[24:, :4] = 255  # half a cell
  mask = masks.read_mask(saved(tmp_path / 'm.png', drawn), GRID, (32, 48)).reshape(GRID)
  expected = np.zeros(GRID)
  expected[1, 5], expected[3, 0] = 1, 0.5
  np.testing.assert_allclose(mask, expected, atol=1e-6)


def test_margins_go_on_as_the_border(tmp_path):
  drawn = np.zeros((32, 32), np.uint8)
  drawn[:8] = 255  # the upper quarter of the image
  mask = masks.read_mask(saved(tmp_path / 'm.png', drawn), (8, 8), (32, 32), margin=2).reshape(8, 8)
  expected = np.zeros((8, 8))
  expected[:3] = 1
  np.testing.assert_allclose(mask, expected, atol=1e-6)
  mask = masks.read_mask(tmp_path / 'm.png', (8, 6), (32, 32), margin=(2, 1)).reshape(8, 6)
  np.testing.assert_allclose(mask, expected[:, :6], atol=1e-6)


def test_pictures_that_are_none(tmp_path):
  (tmp_path / 'text.png').write_text('no picture')
  noise = RNG.integers(0, 256, (32, 48), np.uint8)
  (tmp_path / 'cut.png').write_bytes(saved(tmp_path / 'm.png', noise).read_bytes()[:900])
  saved(tmp_path / 'large.png', np.zeros((7, 7), np.uint8))
  Image.fromarray(np.zeros(GRID, np.uint8)).save(tmp_path / 'm.jpg')
  for name, said in {
    'text.png': 'it is not a PNG',
    'cut.png': 'it cannot be read',
    'm.jpg': 'it is not a PNG',
    'large.png': 'it has 7x7 pixels (width x height); draw a PNG of 6x4 pixels or 48x32',
    'none.png': 'it cannot be read (No such file',
    '.': 'it cannot be read',
  }.items():
    with pytest.raises(InputError) as caught:
      masks.read_mask(tmp_path / name, GRID, (32, 48))
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('chosen', [[0, 0], [0, 1, 2, 1], [0] * 10**6])
def test_a_part_is_named_once(parts, chosen):
  with pytest.raises(InputError, match=f'part={len(chosen)} of them: one is named twice'):
    masks.part_mask(parts, chosen)


EMPTY = {  # grey, opacity, and the mode of the picture
  'black': (0, 255, 'RGB'),
  'black bits': (0, 255, '1'),
  'black of 16 bits': (0, 255, 'I;16'),
  'transparent white': (255, 0, 'RGBA'),
  'transparent white of two channels': (255, 0, 'LA'),
  'black paint on transparency': (0, 128, 'RGBA'),
}


@pytest.mark.parametrize('size', [GRID, (32, 48)])
@pytest.mark.parametrize('name', EMPTY)
def test_a_picture_with_nothing_on_it_is_said_to_be_empty(tmp_path, name, size):
  grey, opacity, mode = EMPTY[name]
  rgba = np.full((*size, 4), grey, np.uint8)
  rgba[..., 3] = opacity
  picture = Image.fromarray(rgba)
  picture = Image.fromarray(np.zeros(size, np.uint16)) if mode == 'I;16' else picture.convert(mode)
  picture.save(tmp_path / 'm.png')
  with pytest.raises(InputError, match=r'mask=.*m\.png: it is black everywhere, or transparent where it is not'):
    masks.read_mask(tmp_path / 'm.png', GRID, (32, 48))


def test_opacity_counts_in_16_bits_too(tmp_path):
  grey = np.zeros(GRID, np.uint16)
  grey[0] = 65535
  Image.fromarray(grey).save(tmp_path / 'm.png', transparency=65535)
  with pytest.raises(InputError, match='transparent where it is not'):
    masks.read_mask(tmp_path / 'm.png', GRID)


def test_what_leaves_nothing_of_a_mask_is_said():
  mask, drawn = np.zeros((2, 4), np.float32)
  mask[:2] = [1, 0.25]
  with pytest.raises(InputError, match='it is zero everywhere'):
    masks.shaped(np.zeros(4, np.float32), (2, 2))
  for options in ({'drawn': drawn}, {'drawn': np.eye(4)[3]}, {'drawn': np.eye(4)[1], 'threshold': 0.5}):
    with pytest.raises(InputError, match='nothing of the part is left inside the drawn mask'):
      masks.shaped(mask, (2, 2), **options)
  several = np.stack([mask, mask[::-1]])  # the second mask is empty: other samples are edited
  np.testing.assert_array_equal(masks.shaped(several, (2, 2), drawn=np.eye(4)[0]), np.stack([np.eye(4)[0], [0] * 4]))
  with pytest.raises(InputError, match='refinement left nothing of it in any sample'):
    masks.part_mask(np.zeros((3, 4, 2), np.float32), 1)
