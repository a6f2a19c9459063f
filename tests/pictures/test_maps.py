"""Pictures of maps over samples: heat, masks, cut-outs and refined parts are drawn at their places."""

import numpy as np
import pytest
from PIL import Image

from panda_jax.errors import InputError
from panda_jax.pictures import colours, maps, sheets

GRIDS = [((16, 16), 0, (64, 64)), ((8, 16), 0, (32, 64)), ((8, 16), 0, (48, 48)), ((26, 22), 5, (64, 48))]


def tiles_of(path, image, columns, first_row=0, heads=False) -> list[list[np.ndarray]]:
  """Rows of tiles of a page without a title."""
  with Image.open(path) as picture:
    assert picture.format == 'PNG'
    page = np.asarray(picture.convert('RGB'), np.int32)
  h, w = sheets.tile_size(image, columns)
  left = page.shape[1] - sheets.BORDER - columns * (w + sheets.GAP) + sheets.GAP
  top = np.flatnonzero((page[:, left + w // 2] != 255).any(axis=-1))[0]
  rows = range(top, page.shape[0] - h, h + sheets.GAP)
  return [[page[y : y + h, left + j * (w + sheets.GAP) :][:, :w] for j in range(columns)] for y in rows]


def planted(grid, margin) -> tuple[np.ndarray, tuple[float, float, float, float]]:
  """A map (H, W) that is 1 in a rectangle, and its edges as fractions of the image: top, bottom, left, right."""
  inner = grid[0] - 2 * margin, grid[1] - 2 * margin
  rows, columns = (inner[0] // 4, inner[0] // 2), (inner[1] // 2, 3 * inner[1] // 4)
  shown = np.zeros(grid, np.float32)
  shown[margin + rows[0] : margin + rows[1], margin + columns[0] : margin + columns[1]] = 1
  return shown, (rows[0] / inner[0], rows[1] / inner[0], columns[0] / inner[1], columns[1] / inner[1])


def assert_there(found: np.ndarray, edges, slack: float = 0.04) -> None:
  """Pixels `found` (h, w) bool fill just the rectangle."""
  places = np.argwhere(found)
  top, left = places.min(axis=0) / found.shape
  bottom, right = (places.max(axis=0) + 1) / found.shape
  np.testing.assert_allclose((top, bottom, left, right), edges, atol=slack)


def middle(image) -> np.ndarray:
  return np.random.default_rng(0).uniform(-0.2, 0.2, (2, *image, 3)).astype(np.float32)


@pytest.mark.parametrize(('grid', 'margin', 'image'), GRIDS)
class TestPlace:
  def test_saliency(self, tmp_path, grid, margin, image):
    shown, edges = planted(grid, margin)
    coordinates = np.stack([shown, -shown])
    path = tmp_path / 'saliency.png'
    maps.draw_saliency(path, middle(image), coordinates, thresholds=0.5, limits=[(-1, 1)], margin=margin)
    _, heat, lines = tiles_of(path, image, 2)[:3]
    red = heat[0][..., 0] - heat[0][..., 2] > 0
    assert_there(red, edges)
    assert (heat[1][..., 2] - heat[1][..., 0] > 0).all()  # all below the threshold
    white = (lines[0] == 255).all(axis=-1)
    assert_there(white, edges)
    assert not (lines[1] == 255).all(axis=-1).any()

  def test_masks_on_the_grid(self, tmp_path, grid, margin, image):
    shown, edges = planted(grid, margin)
    path = tmp_path / 'masks.png'
    maps.draw_masks(path, middle(image), np.stack([shown > 0, shown < 0]), margin=margin)
    _, drawn = tiles_of(path, image, 2)[:2]
    assert_there(np.ptp(drawn[0], axis=-1) > 60, edges)
    assert np.ptp(drawn[1], axis=-1).max() == 0

  def test_cut_outs(self, tmp_path, grid, margin, image):
    shown, edges = planted(grid, margin)
    path = tmp_path / 'cutouts.png'
    maps.draw_cutouts(path, middle(image), np.stack([shown > 0] * 2), margin=margin)
    plain, inside, outside = tiles_of(path, image, 2)[:3]
    here = (inside[0] != 255).any(axis=-1)
    assert_there(here, edges)
    kept = here & (inside[0] != colours.EDGE).any(axis=-1)
    np.testing.assert_array_equal(inside[0][kept], plain[0][kept])
    np.testing.assert_array_equal(outside[0][~here], plain[0][~here])
    assert (outside[0][here] == 255).mean() > 0.8  # but for the line around it

  def test_refined(self, tmp_path, grid, margin, image):
    shown, edges = planted(grid, margin)
    moved = np.roll(shown, grid[0] // 8, axis=0)
    parts = np.stack([shown.ravel(), np.zeros(shown.size, np.float32)], axis=1)
    refined = np.stack([np.stack([moved.ravel(), parts[:, 1]], axis=1)] * 2)
    path = tmp_path / 'refined.png'
    maps.draw_refined(path, middle(image), parts, refined, grid, chosen=[0], margin=margin)
    with Image.open(path) as picture:
      page = np.asarray(picture.convert('RGB'), np.int32)
    h, w = sheets.tile_size(image, 3)
    top = np.flatnonzero((page[:, sheets.BORDER + w // 2] != 255).any(axis=-1))[0]
    left = page.shape[1] - sheets.BORDER - w
    after = page[top : top + h, left : left + w]
    before = page[top : top + h, left - w - sheets.GAP : left - sheets.GAP]
    blue = before[..., 2] - before[..., 0] > 100
    orange = after[..., 0] - after[..., 2] > 100
    assert_there(blue, edges)
    shift = grid[0] // 8 / (grid[0] - 2 * margin)
    assert_there(orange, (edges[0] + shift, edges[1] + shift, *edges[2:]))


def test_masks_at_the_size_of_the_images(tmp_path):
  masks = np.zeros((1, 64, 96), bool)
  masks[0, 16:32, 24:72] = True
  maps.draw_masks(tmp_path / 'masks.png', middle((64, 96))[:1], masks)
  _, drawn = tiles_of(tmp_path / 'masks.png', (64, 96), 1)[:2]
  assert_there(np.ptp(drawn[0], axis=-1) > 60, (0.25, 0.5, 0.25, 0.75), slack=0.02)


def test_single_pixels_of_masks_stay():
  for place in ((0, 0), (3, 4), (7, 9)):
    mask = np.zeros((1, 8, 10), bool)
    mask[0][place] = True
    for found in (maps.fitted_masks(mask, (80, 100))[0], ~maps.fitted_masks(~mask, (80, 100))[0]):
      assert found[place[0] * 10 + 5, place[1] * 10 + 5]
      assert 45 <= found.sum() <= 110


def test_colours_end_where_the_dataset_does(tmp_path):
  """The same coordinate has the same colour in every picture with the same limits; beyond them it does not wrap."""
  tiles = []
  for peak in (1.0, 50.0):
    coordinates = np.full((2, 4, 4), 1.0)
    coordinates[1, 0, 0] = peak
    path = tmp_path / f'{peak}.png'
    maps.draw_saliency(path, middle((32, 32)), coordinates, thresholds=0.2, limits=[(-3, 2)])
    tiles.append(tiles_of(path, (32, 32), 2)[1])
  np.testing.assert_array_equal(tiles[0][0], tiles[1][0])
  corner = tiles[1][1][2, 2]
  assert corner[0] > corner[2] + 60
  assert corner.sum() < 200  # the dark end of the reds


def test_even_coordinates_are_white(tmp_path):
  maps.draw_saliency(tmp_path / 'saliency.png', middle((32, 32)), np.full((2, 4, 4), 0.3), thresholds=0.3)
  assert tiles_of(tmp_path / 'saliency.png', (32, 32), 2)[1][0].min() > 240


@pytest.mark.parametrize('count', [1, 2, 5, 20])
def test_several_appearances_and_many_samples(tmp_path, count):
  random = np.random.default_rng(0)
  images = random.uniform(-1, 1, (20, 16, 16, 1)).astype(np.float32)
  coordinates = random.standard_normal((20, 4, 4, count))
  labels = [f'appearance {j}' for j in range(count)]
  path = tmp_path / 'saliency.png'
  maps.draw_saliency(path, images, coordinates, thresholds=np.zeros(count), labels=labels, names=['s'] * 20)
  maps.draw_masks(path, images, coordinates > 0, labels=labels)
  with Image.open(path) as picture:
    assert max(picture.size) < 4000


def test_parts_that_move_most_are_shown(tmp_path, monkeypatch):
  heads = []
  monkeypatch.setattr(maps, 'draw_rows', lambda path, rows, columns, **_: heads.extend(columns))
  parts = np.random.default_rng(0).random((64, 9)).astype(np.float32)
  refined = np.repeat(parts[None], 2, axis=0)
  refined[:, :, [2, 8]] = refined[:, ::-1, [2, 8]]
  parts[:, 5] = 0  # dead
  maps.draw_refined(tmp_path / 'a.png', middle((16, 16)), parts, refined, (8, 8))
  shown = {int(head.split()[1]) for head in heads[1:]}
  assert {2, 8} < shown
  assert len(shown) == maps.MOST_PAIRS


@pytest.mark.parametrize(
  ('argument', 'call'),
  [
    ('coordinates', lambda p, i: maps.draw_saliency(p, i, np.zeros((3, 4, 4)))),
    ('coordinates', lambda p, i: maps.draw_saliency(p, i, np.zeros((2, 4)))),
    ('labels', lambda p, i: maps.draw_saliency(p, i, np.zeros((2, 4, 4, 3)), labels=['a'])),
    ('names', lambda p, i: maps.draw_saliency(p, i, np.zeros((2, 4, 4)), names=['a'])),
    ('masks', lambda p, i: maps.draw_masks(p, i, np.zeros((2, 0, 4)))),
    ('masks', lambda p, i: maps.draw_cutouts(p, i, np.zeros((1, 4, 4)))),
    ('refined', lambda p, i: maps.draw_refined(p, i, np.zeros((16, 2)), np.zeros((2, 16, 3)), (4, 4))),
    ('chosen', lambda p, i: maps.draw_refined(p, i, np.zeros((16, 2)), np.zeros((2, 16, 2)), (4, 4), chosen=[2])),
  ],
)
def test_arrays_that_do_not_fit(tmp_path, argument, call):
  with pytest.raises(InputError) as caught:
    call(tmp_path / 'picture.png', middle((16, 16)))
  assert caught.value.argument == argument
  assert not list(tmp_path.iterdir())


def test_the_palettes_differ_in_lightness_for_readers_without_colour():
  from matplotlib import colormaps

  luma = sheets.ramp(colormaps[colours.HEAT]).astype(int) @ [0.299, 0.587, 0.114]
  assert (np.diff(luma[:120]) > -0.5).all()
  assert (np.diff(luma[136:]) < 0.5).all()
  assert luma.argmax() in range(118, 138)
  assert colours.OVERLAY[0] != maps.BEFORE


def height(path) -> int:
  with Image.open(path) as opened:
    return opened.height


def test_no_row_for_images_that_are_not_there(tmp_path):
  coordinates = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
  heights = []
  for images in (np.zeros((2, 64, 64, 3), np.float32), np.linspace(-1, 1, 2 * 64 * 64 * 3).reshape(2, 64, 64, 3)):
    maps.draw_saliency(tmp_path / 's.png', images, coordinates)
    maps.draw_masks(tmp_path / 'm.png', images, coordinates > 0)
    heights.append([height(tmp_path / name) for name in ('s.png', 'm.png')])
  assert all(more - less > 64 for less, more in zip(*heights, strict=True))
