"""Pictures of edits: the places of images and differences, and constant pixels in moving pictures."""

import os

import numpy as np
import pytest
from PIL import Image

from panda_jax.errors import InputError
from panda_jax.pictures import sheets, strips
from panda_jax.pictures.figures import to_bytes


def pixels_of(path, kind='PNG') -> np.ndarray:
  with Image.open(path) as picture:
    assert picture.format == kind
    return np.asarray(picture.convert('RGB'), np.int32)


def grey(value: float, shape=(3, 16, 16, 3)) -> np.ndarray:
  return np.full(shape, value, np.float32)


def flat_tiles(page: np.ndarray, size: tuple[int, int]) -> list[tuple[int, int, tuple[int, int, int]]]:
  """(top, left, colour) of every evenly coloured tile of that size on a page, in reading order."""
  h, w = size
  found = []
  inside = (page != 255).any(axis=-1)
  for y, x in np.argwhere(inside[:-1, :-1] & ~np.pad(inside, 1)[:-2, 1:-1][:-1, :-1]):
    tile = page[y : y + h, x : x + w]
    corner = not inside[y, x - 1] and tile.shape[:2] == size
    if corner and (tile == tile[0, 0]).all():
      found.append((int(y), int(x), tuple(int(v) for v in tile[0, 0])))
  return found


def expected(values) -> list[tuple[int, int, int]]:
  return [tuple(int(v) for v in to_bytes(np.full((1, 1, 1, 3), value))[0, 0, 0]) for value in values]


def test_a_strip_reads_like_text(tmp_path):
  levels = np.linspace(-0.9, 0.3, 3)
  original = np.stack([grey(v)[0] for v in levels])
  edited = np.stack([np.stack([grey(v + 0.1 * (k + 1))[0] for k in range(4)]) for v in levels])
  alphas = [-10, -5, 5, 10]
  strips.draw_strip(tmp_path / 'strip.png', original, edited, alphas, names=['seed 0', 'seed 1', 'seed 2'], title='t')
  tiles = flat_tiles(pixels_of(tmp_path / 'strip.png'), sheets.tile_size((16, 16), 5))
  assert [colour for _, _, colour in tiles] == expected([v + 0.1 * k for v in levels for k in range(5)])
  assert len({left for _, left, _ in tiles}) == 5
  assert len({top for top, _, _ in tiles}) == 3


def test_one_strength_needs_no_axis(tmp_path):
  strips.draw_strip(tmp_path / 'a.png', grey(0), grey(0.5), 3.0)
  strips.draw_strip(tmp_path / 'b.png', grey(0), grey(0.5)[:, None], [3.0])
  assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()
  assert sorted(path.name for path in tmp_path.iterdir()) == ['a.png', 'b.png']


def test_a_grid_has_rows_for_samples_and_edits(tmp_path):
  values = np.linspace(-0.95, 0.95, 2 * 3 * 2 + 2)
  original = np.stack([grey(v)[0] for v in values[:2]])
  edited = np.stack([grey(v)[0] for v in values[2:]]).reshape(2, 3, 2, *original.shape[1:])
  path = tmp_path / 'grid.png'
  strips.draw_grid(path, original, edited, [1, 2], ['eyes', 'a long name of an edit that needs lines', 'chin'])
  tiles = flat_tiles(pixels_of(path), sheets.tile_size((16, 16), 3))
  rows = values[2:].reshape(2, 3, 2)
  wanted = [v for i in range(2) for j in range(3) for v in ([values[i]] if j == 0 else []) + list(rows[i, j])]
  assert [colour for _, _, colour in tiles] == expected(wanted)


def test_edits_of_one_strength_are_columns(tmp_path):
  values = np.linspace(-0.95, 0.95, 8)
  images = np.stack([grey(v)[0] for v in values]).reshape(2, 4, 16, 16, 3)
  path = tmp_path / 'grid.png'
  strips.draw_grid(path, images[:, 0], images[:, 1:, None], 3.0, ['eyes', 'chin', 'a nose of another kind'])
  tiles = flat_tiles(pixels_of(path), sheets.tile_size((16, 16), 4))
  assert [colour for _, _, colour in tiles] == expected(values)


def test_more_than_a_page_holds_is_said(tmp_path, monkeypatch):
  notes, plain = [], strips.rows_page

  def kept(rows, *arguments, note, **options):
    notes.append((len(rows), note))
    return plain(rows, *arguments, note=note, **options)

  monkeypatch.setattr(strips, 'rows_page', kept)
  strips.draw_strip(tmp_path / 'a.png', grey(0, (20, 4, 4, 3)), grey(0, (20, 30, 4, 4, 3)), np.arange(30.0))
  assert notes == [(16, '16 of 20 samples shown. 9 of 30 strengths shown.')]


@pytest.mark.parametrize(
  ('shape', 'channels'), [((16, 16), 1), ((16, 16), 3), ((8, 32), 4), ((32, 8), 3), ((1, 1), 1), ((600, 600), 3)]
)
def test_images_of_any_shape(tmp_path, shape, channels):
  images = np.random.default_rng(0).uniform(-1.5, 1.5, (2, *shape, channels)).astype(np.float32)
  strips.draw_strip(tmp_path / 'strip.png', images, -images, 1.0)
  strips.draw_difference(tmp_path / 'difference.png', images, -images)
  strips.save_gif(tmp_path / 'sweep.gif', images)
  for name in ('strip.png', 'difference.png'):
    page = pixels_of(tmp_path / name)
    assert max(page.shape) < 4000
    edges = page[0], page[-1], page[:, 0], page[:, -1]
    assert all((edge == 255).all() for edge in edges)


def test_differences_are_where_they_are_and_clipped_like_images(tmp_path):
  before = np.zeros((1, 64, 64, 3), np.float32)
  after = before.copy()
  after[0, 16:32, 40:56] = 0.5
  before[0, 60:] = 1
  after[0, 60:] = 7  # shows as the same white
  assert strips.difference(before, after)[0, 60:].max() == 0
  path = tmp_path / 'difference.png'
  strips.draw_difference(path, before, after, title='x')
  page = pixels_of(path)
  h, w = sheets.tile_size((64, 64), 3)
  left = page.shape[1] - sheets.BORDER - w
  top = np.flatnonzero((page[:, left + 5] != 255).any(axis=-1))[0]
  heat = page[top : top + h, left : left + w].sum(axis=-1)
  bright = np.argwhere(heat > 400)
  np.testing.assert_allclose(bright.min(axis=0) * 64 / h, [16, 40], atol=0.6)
  np.testing.assert_allclose((bright.max(axis=0) + 1) * 64 / h, [32, 56], atol=0.6)
  assert heat[h // 2 + 20 :].max() < 30


@pytest.mark.parametrize(('margin', 'grid'), [(0, (8, 8)), (3, (14, 14)), (0, (8, 16))])
def test_the_region_is_outlined_where_it_is(tmp_path, margin, grid):
  region = np.zeros(grid, np.float32)
  inner = grid[0] - 2 * margin, grid[1] - 2 * margin
  region[margin + 2 : margin + 6, margin + inner[1] // 4 : margin + inner[1] // 2] = 1
  path = tmp_path / 'difference.png'
  strips.draw_difference(path, grey(-0.5, (1, 32, 32, 3)), grey(-0.4, (1, 32, 32, 3)), region=region, margin=margin)
  page = pixels_of(path)
  h, w = sheets.tile_size((32, 32), 3)
  top = np.flatnonzero((page[:, sheets.BORDER + 5] != 255).any(axis=-1))[0]
  tile = page[top : top + h, sheets.BORDER : sheets.BORDER + w]
  line = np.argwhere((tile == 255).all(axis=-1))
  np.testing.assert_allclose(line.min(axis=0), [h * 2 / inner[0], w / 4], atol=0.35 * h / inner[0])
  np.testing.assert_allclose(line.max(axis=0) + 1, [h * 6 / inner[0], w / 2], atol=0.35 * h / inner[0])


def test_nothing_changed_is_drawn_too(tmp_path):
  strips.draw_difference(tmp_path / 'difference.png', grey(0), grey(0), region=np.zeros((4, 4)))
  pixels_of(tmp_path / 'difference.png')


class TestGif:
  frames = np.random.default_rng(1).uniform(-1, 1, (5, 2, 24, 24, 3)).astype(np.float32)

  def read(self, path):
    with Image.open(path) as picture:
      assert picture.format == 'GIF'
      shown = []
      for t in range(picture.n_frames):
        picture.seek(t)
        shown.append(np.asarray(picture.convert('RGB'), np.int32))
      return np.stack(shown), picture.info

  def test_goes_there_and_back_for_ever(self, tmp_path):
    strips.save_gif(tmp_path / 'a.gif', self.frames, labels=[strips.strength(a) for a in range(5)], seconds=2)
    shown, info = self.read(tmp_path / 'a.gif')
    assert len(shown) == 8
    assert info['loop'] == 0
    assert info['duration'] == 500
    np.testing.assert_array_equal(shown[1], shown[7])
    strips.save_gif(tmp_path / 'a.gif', self.frames, back=False)
    assert len(self.read(tmp_path / 'a.gif')[0]) == 5

  def test_what_does_not_change_stands_still(self, tmp_path):
    frames = np.broadcast_to(self.frames[:1], self.frames.shape).copy()
    frames[:, 1] = np.linspace(-1, 1, 5)[:, None, None, None]
    strips.save_gif(tmp_path / 'a.gif', frames)
    shown, _ = self.read(tmp_path / 'a.gif')
    first = shown[:, :, : strips.FRAME]
    np.testing.assert_array_equal(first, np.broadcast_to(first[:1], first.shape))

  def test_colours_are_close(self, tmp_path):
    y, x = np.mgrid[:32, :32] / 16 - 1
    frames = np.stack([np.stack([x, y, np.full_like(x, t)], axis=-1) for t in np.linspace(-1, 1, 6)])
    strips.save_gif(tmp_path / 'a.gif', frames.astype(np.float32), labels=['a'] * 6)
    shown, _ = self.read(tmp_path / 'a.gif')
    wanted = sheets.resized(to_bytes(frames), (strips.FRAME, strips.FRAME)).astype(np.int32)
    error = shown[:6, : strips.FRAME] - wanted
    assert np.sqrt(np.mean(error**2)) < 14
    assert (shown[:, -2:, :2] == 255).all()

  def test_one_frame(self, tmp_path):
    strips.save_gif(tmp_path / 'a.gif', self.frames[:1])
    assert len(self.read(tmp_path / 'a.gif')[0]) == 1


@pytest.mark.parametrize(
  ('argument', 'call'),
  [
    ('edited', lambda p: strips.draw_strip(p, grey(0), grey(0, (3, 2, 16, 16, 3)), [1, 2, 3])),
    ('edited', lambda p: strips.draw_strip(p, grey(0), grey(0, (3, 8, 8, 3)), 1)),
    ('edited', lambda p: strips.draw_strip(p, grey(0), grey(0, (2, 16, 16, 3)), 1)),
    ('names', lambda p: strips.draw_strip(p, grey(0), grey(0), 1, names=['one'])),
    ('edits', lambda p: strips.draw_grid(p, grey(0), grey(0, (3, 1, 1, 16, 16, 3)), 1, ['a', 'b'])),
    ('original', lambda p: strips.draw_strip(p, grey(0)[0], grey(0), 1)),
    ('edited', lambda p: strips.draw_difference(p, grey(0), grey(0)[:2])),
    ('frames', lambda p: strips.save_gif(p, grey(0)[0])),
    ('labels', lambda p: strips.save_gif(p, grey(0), labels=['one'])),
  ],
)
def test_arrays_that_do_not_fit(tmp_path, argument, call):
  with pytest.raises(InputError) as caught:
    call(tmp_path / 'picture')
  assert caught.value.argument == argument
  assert not list(tmp_path.iterdir())


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
  path = tmp_path / 'strip.png'
  path.write_bytes(b'old')

  def full(source, target):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'replace', full)
  with pytest.raises(InputError, match='No space'):
    strips.draw_strip(path, grey(0), grey(0), 1)
  assert path.read_bytes() == b'old'
  assert list(tmp_path.iterdir()) == [path]


def test_text_keeps_to_its_width():
  for text in ('one two three four five six seven', 'averyveryverylongwordwithoutanyspaces', 'a\nb', ''):
    for width in (30, 80, 200):
      lines = sheets.wrapped(text, 16, width)
      assert len(lines) <= max(3, text.count('\n') + 1)
      assert all(sheets.font(16).getlength(line) <= width for line in lines)
  assert sheets.wrapped('part 1\nglobal', 16, 500) == ['part 1', 'global']
