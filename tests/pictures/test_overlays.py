"""Parts and coordinates on images: they are at their places, margins are cut, and colours are distinguishable."""

import itertools

import numpy as np
import pytest
from PIL import Image

from panda_jax.converters.assembly import assemble
from panda_jax.converters.checkpoint import read
from panda_jax.converters.dialects import stylegan3 as converter
from panda_jax.generators.structure import Compiled
from panda_jax.pictures import colours, overlays, sheets
from tests.generators import unpacked


def pixels_of(path) -> np.ndarray:
  with Image.open(path) as picture:
    assert picture.format == 'PNG'
    return np.asarray(picture.convert('RGB'), np.int32)


def tiles_of(path, size, columns) -> list[np.ndarray]:
  """The tiles of a page, row by row: the largest blocks of that size between white gaps, found by their places."""
  page = pixels_of(path)
  h, w = size
  left = page.shape[1] - sheets.BORDER - columns * (w + sheets.GAP) + sheets.GAP
  tops = range(sheets.BORDER, page.shape[0] - h, h + sheets.GAP)
  return [[page[y : y + h, left + j * (w + sheets.GAP) :][:, :w] for j in range(columns)] for y in tops]


def coloured(tile: np.ndarray) -> np.ndarray:
  """Which pixels (h, w) of a tile are not grey."""
  return np.ptp(tile, axis=-1) > 40


def planted(grid, rows, columns, count=1) -> np.ndarray:
  parts = np.zeros((*grid, count), np.float32)
  parts[rows, columns, 0] = 5
  return parts.reshape(-1, count)


@pytest.mark.parametrize(
  ('grid', 'margin', 'image', 'rows', 'columns'),
  [
    ((16, 16), 0, (64, 64), slice(0, 4), slice(0, 4)),
    ((16, 16), 0, (64, 64), slice(9, 13), slice(6, 12)),
    ((8, 16), 0, (32, 64), slice(4, 8), slice(12, 16)),  # wide
    ((16, 8), 0, (96, 48), slice(1, 5), slice(2, 6)),  # tall
    ((8, 16), 0, (64, 64), slice(0, 4), slice(8, 16)),  # positions that are not square on the image
    ((36, 36), 10, (64, 64), slice(12, 18), slice(20, 26)),  # a StyleGAN3's margin: rows 2 to 8 of 16
    ((20, 28), 4, (60, 100), slice(4, 10), slice(14, 24)),
  ],
)
def test_a_part_is_painted_where_it_is(tmp_path, grid, margin, image, rows, columns):
  images = np.zeros((2, *image, 3), np.float32)
  parts = planted(grid, rows, columns, count=2)  # part 1 is dead
  overlays.draw_overlay(tmp_path / 'overlay.png', images, parts, grid, margin)
  size = sheets.tile_size(image, overlays.SAMPLES)
  plain, painted = tiles_of(tmp_path / 'overlay.png', size, 2)[:2]
  assert not coloured(plain[0]).any()
  inner = grid[0] - 2 * margin, grid[1] - 2 * margin
  down, across = (np.arange(n) + 0.5 for n in size)
  y, x = down * inner[0] / size[0] + margin, across * inner[1] / size[1] + margin

  def between(places, wanted, slack):
    return (places > wanted.start - slack) & (places < wanted.stop + slack)

  sure = np.outer(between(y, rows, -0.6), between(x, columns, -0.6))
  outside = ~np.outer(between(y, rows, 1.2), between(x, columns, 1.2))
  for tile in painted:
    assert coloured(tile)[sure].mean() > 0.6  # but for the number
    assert not coloured(tile)[outside].any()


@pytest.mark.parametrize(
  ('name', 'layer', 'beyond', 'columns', 'first'),
  [('stylegan3_t', 11, (10, 10), slice(48, 60), [10, 38]), ('stylegan3_human', 5, (10, 5), slice(20, 28), [10, 15])],
)
def test_margins_of_a_generator_lead_to_where_its_edits_show(name, layer, beyond, columns, first):
  """A planted part of a StyleGAN3's feature maps is drawn where adding to it changes the image."""
  conversion = converter.convert(read(unpacked.checkpoint(name) / 'network.pkl'))
  generator = Compiled(assemble(conversion))
  margin, (channels, *grid) = generator.margins[layer], generator.layers[layer]
  assert margin == beyond
  part = np.zeros(grid, np.float32)
  part[20:36, columns] = 1
  latents = generator.map(unpacked.outputs(name)['z'][:1])
  state = generator.run_to(latents, layer)
  offset = part[None, ..., None] * np.linspace(-3, 3, channels, dtype=np.float32).reshape(1, 1, 1, -1)
  images = [
    np.asarray(generator.run_from(latents, state.replace(features=f), layer), np.float64)
    for f in (state.features, state.features + offset)
  ]
  change = np.sqrt(np.mean((images[1] - images[0]) ** 2, axis=(0, 3)))
  changed = np.argwhere(change > 0.3 * change.max())
  drawn = np.argwhere(overlays.on_image(part[None], change.shape, margin)[0] > 0.5)
  np.testing.assert_allclose(changed.min(axis=0), drawn.min(axis=0), atol=3)  # pixels, of 64; filters blur the edges
  np.testing.assert_allclose(changed.max(axis=0), drawn.max(axis=0), atol=3)
  assert (drawn.min(axis=0) == first).all()


def test_margins_are_cut():
  maps = np.zeros((1, 8, 8), np.float32)
  maps[0, 2:-2, 2:-2] = np.arange(16).reshape(4, 4)
  np.testing.assert_array_equal(overlays.on_image(maps, (4, 4), 2)[0], np.arange(16).reshape(4, 4))
  np.testing.assert_array_equal(overlays.on_image(maps, (4, 6), (2, 1))[0], maps[0, 2:-2, 1:-1])


def test_the_border_is_interpolated_like_the_rest():
  maps = np.random.default_rng(0).random((1, 9, 7)).astype(np.float32)
  wider = np.pad(maps, [(0, 0), (4, 4), (4, 4)], 'edge')
  np.testing.assert_allclose(overlays.on_image(maps, (45, 35)), overlays.on_image(wider, (45, 35), 4), atol=1e-6)
  even = overlays.on_image(np.full((1, 4, 4), 0.5), (30, 30))
  np.testing.assert_allclose(even, np.full((1, 30, 30), 0.5), atol=1e-6)


def seen(colours: np.ndarray, missing: str) -> np.ndarray:
  """sRGB colours (n, 3) as CIELAB, as seen without one kind of cone (Vienot, Brettel and Mollon 1999)."""
  linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
  to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
  lms = linear @ to_lms.T
  if missing == 'l':
    lms[:, 0] = 2.02344 * lms[:, 1] - 2.52581 * lms[:, 2]
  elif missing == 'm':
    lms[:, 1] = 0.494207 * lms[:, 0] + 1.24827 * lms[:, 2]
  elif missing == 's':
    lms[:, 2] = -0.395913 * lms[:, 0] + 0.801109 * lms[:, 1]
  linear = np.clip(lms @ np.linalg.inv(to_lms).T, 0, 1)
  xyz = linear @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
  t = np.cbrt(xyz / np.array([[0.9505, 1, 1.089]]))
  return np.stack([116 * t[:, 1] - 16, 500 * (t[:, 0] - t[:, 1]), 200 * (t[:, 1] - t[:, 2])], axis=1)


@pytest.mark.parametrize('missing', ['', 'l', 'm', 's'])
def test_colours_of_a_row_can_be_told_apart_with_any_colour_vision(missing):
  lab = seen(np.array(colours.OVERLAY) / 255, missing)
  least = min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))
  assert least > (25 if missing else 45)


@pytest.mark.parametrize('count', [1, 6, 7, 12, 40, 130, 512])
def test_every_part_is_on_the_page_once_with_a_colour_of_its_own(tmp_path, monkeypatch, count):
  groups = overlays.part_groups(count)
  assert [part for group in groups for part in group] == list(range(count))
  assert max(map(len, groups)) <= len(colours.OVERLAY)
  written = []
  numbered = overlays._numbered
  monkeypatch.setattr(overlays, '_numbered', lambda image, places: (written.extend(places), numbered(image, places))[1])
  images = np.zeros((1, 32, 32, 3), np.float32)
  overlays.draw_overlay(tmp_path / 'overlay.png', images, np.eye(576, count, dtype=np.float32), (24, 24))
  assert sorted(part for part, _, _ in written) == list(range(count))
  height, width = pixels_of(tmp_path / 'overlay.png').shape[:2]
  assert max(height, width) < 4000


def test_numbers_are_on_the_pieces_of_their_part():
  shown = np.zeros((100, 100), np.float32)
  shown[10:30, 10:30] = shown[10:30, 60:80] = 1
  shown[90:93, 90:93] = 1  # too small to carry a number
  assert sorted(overlays._places(shown)) == [(20, 20), (70, 20)]
  assert overlays._places(np.zeros((5, 5))) == []


def test_an_even_image_stays_even():
  images = np.full((1, 8, 8, 3), 255, np.uint8)
  assert overlays.greyed(images).std() == 0
