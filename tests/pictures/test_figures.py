"""Pictures are complete PNG files, correct for every shape, and show each part at its place."""

import io
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

import panda_jax.pictures
from panda_jax.errors import InputError
from panda_jax.pictures import figures, maps, overlays, strips
from panda_jax.pictures import parts as tiles


def opened(path) -> np.ndarray:
  """The picture's pixels (height, width, 3), after checking that it is a PNG that a person can look at."""
  with Image.open(path) as image:
    assert image.format == 'PNG'
    assert round(image.info['dpi'][0]) == 150
    pixels = np.asarray(image.convert('RGB')).astype(int)
  assert 300 <= min(pixels.shape[:2]) <= max(pixels.shape[:2]) <= 6000
  assert pixels.min() < 100  # something is drawn
  edges = pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]
  assert all((edge == 255).all() for edge in edges)  # and nothing is cut off
  return pixels


def random_parts(positions, count, seed=0):
  random = np.random.default_rng(seed)
  return (random.random((positions, count)) * (random.random((positions, count)) > 0.6)).astype(np.float32)


@pytest.mark.parametrize('count', [1, 2, 7, 40, 130])
@pytest.mark.parametrize('grid', [(16, 16), (1, 64), (64, 1), (4, 64), (24, 40), (1, 1)])
def test_layout_holds_every_part(count, grid):
  for energies in (False, True):
    layout = tiles.parts_layout(count, grid, energies)
    assert len(layout.corners) == count
    covered = np.zeros((layout.height, layout.width), int)
    for left, top in layout.corners:
      covered[top : top + layout.tile[0], left : left + layout.tile[1]] += 1
    assert covered.max() == 1  # no overlap
    assert covered.sum() == count * layout.tile[0] * layout.tile[1]  # all on the page
    assert layout.corners == sorted(layout.corners, key=lambda corner: (corner[1], corner[0]))  # read like text


@pytest.mark.parametrize(('count', 'grid'), [(12, (16, 16)), (40, (16, 16)), (100, (8, 8)), (12, (4, 64))])
def test_page_is_roughly_four_by_three(count, grid):
  layout = tiles.parts_layout(count, grid)
  assert 0.9 < layout.width / layout.height < 2.0


def test_cells_are_square_unless_the_grid_is_very_long():
  for grid in [(16, 16), (24, 40), (8, 32), (33, 17)]:
    layout = tiles.parts_layout(9, grid)
    assert layout.cell[0] == layout.cell[1]
  assert tiles.parts_layout(9, (1, 64)).tile[0] > 20


@pytest.mark.parametrize(
  ('count', 'grid'), [(1, (16, 16)), (40, (16, 16)), (5, (1, 64)), (5, (64, 1)), (3, (4, 64)), (1, (1, 1))]
)
def test_parts_of_any_shape(tmp_path, count, grid):
  parts = random_parts(grid[0] * grid[1], count)
  parts[0] = 1  # all live
  tiles.draw_parts(tmp_path / 'a.png', parts, grid)
  tiles.draw_parts(tmp_path / 'b.png', parts, grid, np.full(count, 1 / count))
  opened(tmp_path / 'a.png')
  opened(tmp_path / 'b.png')
  assert sorted(path.name for path in tmp_path.iterdir()) == ['a.png', 'b.png']


@pytest.mark.parametrize('grid', [(6, 9), (1, 40), (30, 1), (5, 60)])
def test_one_bright_position_is_the_dark_spot_of_its_tile(tmp_path, grid):
  count = 7
  places = np.random.default_rng(1).integers(0, grid[0] * grid[1], count)
  parts = np.zeros((grid[0] * grid[1], count))
  parts[places, np.arange(count)] = np.geomspace(1e-6, 1e6, count)  # whatever a part's scale
  tiles.draw_parts(tmp_path / 'parts.png', parts, grid)
  pixels = opened(tmp_path / 'parts.png')
  layout = tiles.parts_layout(count, grid)
  assert pixels.shape[:2] == (layout.height, layout.width)
  for place, (left, top) in zip(places, layout.corners, strict=True):
    tile = pixels[top : top + layout.tile[0], left : left + layout.tile[1]].sum(axis=2)
    cells = (
      tile.reshape(grid[0], layout.cell[0], grid[1], layout.cell[1]).transpose(0, 2, 1, 3).reshape(parts.shape[0], -1)
    )
    dark = cells < 100
    assert dark[place].all()
    assert np.delete(cells, place, axis=0).min(initial=765) == 765  # zero is white, and nothing is smoothed


def test_darkness_grows_with_the_entry(tmp_path):
  tiles.draw_parts(tmp_path / 'parts.png', np.arange(64.0)[:, None], (8, 8))
  layout = tiles.parts_layout(1, (8, 8))
  (left, top), (high, wide) = layout.corners[0], layout.cell
  middles = opened(tmp_path / 'parts.png')[top + high // 2 :: high, left + wide // 2 :: wide][:8, :8]
  lightness = (middles @ [0.2126, 0.7152, 0.0722]).ravel()
  assert (np.diff(lightness) < 0.5).all()
  assert lightness[0] > 250
  assert lightness[-1] < 20


def test_grids_finer_than_pixels_keep_their_peaks(tmp_path):
  parts = np.zeros((700 * 700, 2))
  parts[[123 * 700 + 456, 0], [0, 1]] = 1
  tiles.draw_parts(tmp_path / 'parts.png', parts, (700, 700))
  pixels, layout = opened(tmp_path / 'parts.png'), tiles.parts_layout(2, (700, 700))
  assert layout.pooled > (1, 1)
  for (left, top), (row, column) in zip(layout.corners, [(123, 456), (0, 0)], strict=True):
    tile = pixels[top : top + layout.tile[0], left : left + layout.tile[1]].sum(axis=2)
    assert np.argwhere(tile < 100).tolist() == [[row // layout.pooled[0], column // layout.pooled[1]]]


def test_dead_parts_are_empty_but_for_a_word(tmp_path):
  parts = random_parts(25, 3)
  parts[:, 1] = 0
  tiles.draw_parts(tmp_path / 'parts.png', parts, (5, 5), [0.7, 0.0, 0.3])
  layout = tiles.parts_layout(3, (5, 5), True)
  left, top = layout.corners[1]
  tile = opened(tmp_path / 'parts.png')[top : top + layout.tile[0], left : left + layout.tile[1]]
  written = (tile.min(axis=2) < 250).mean()
  assert 0 < written < 0.02
  tiles.draw_parts(tmp_path / 'dead.png', np.zeros((64, 2)), (64, 1))
  opened(tmp_path / 'dead.png')


def test_parts_that_do_not_fit_the_grid_are_refused(tmp_path):
  with pytest.raises(InputError, match='parts=shape 12x2'):
    tiles.draw_parts(tmp_path / 'parts.png', np.ones((12, 2)), (5, 5))
  assert not list(tmp_path.iterdir())


def row(iteration, phase, samples, seconds, error):
  return {
    'iteration': iteration,
    'phase': phase,
    'samples': samples,
    'seconds': seconds,
    'relative_error': error,
  }


HISTORIES = {
  'phases': [row(0, 'parts', 400, 0.02, 0.4)]
  + [row(i, 'joint', 64 if i < 9 else 400, 0.02 + 0.05 * i, 0.38 + 0.02 / i) for i in range(1, 40)],
  'single': [row(0, 'parts', 1, 0.0, 0.4)],
  'empty': [],
  'exact': [row(i, 'joint', 9, 0.1 * i, max(0.0, 1 - i / 4)) for i in range(6)],
  'tiny': [row(i, 'joint', 9, 1 + i, 10.0**-i) for i in range(9)],
  'broken': [row(0, 'joint', 9, 0.1, 0.4), row(1, 'joint', 9, 0.2, float('nan'))],
  'many': [row(i, f'phase {i}', 9, 0.1 + i, 0.4 - i / 100) for i in range(12)],
}


@pytest.mark.parametrize('name', HISTORIES)
def test_convergence(tmp_path, name):
  figures.draw_convergence(tmp_path / 'convergence.png', HISTORIES[name])
  opened(tmp_path / 'convergence.png')


@pytest.fixture
def drawn_figures(monkeypatch):
  """The figures that are drawn, after they were saved."""
  drawn, plain = [], figures.save_figure

  def kept(path, figure):
    plain(path, figure)
    drawn.append(figure)

  monkeypatch.setattr(figures, 'save_figure', kept)
  return drawn


def points_of(axes):
  return {(float(x), float(y)) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}


def test_errors_of_subsets_stand_apart_from_those_of_all_samples(tmp_path, drawn_figures):
  history = HISTORIES['phases'][1:]
  wanted = {most: {(r['seconds'], r['relative_error']) for r in history if r['samples'] == most} for most in (64, 400)}
  figures.draw_convergence(tmp_path / 'convergence.png', history)
  above, below = drawn_figures[0].axes
  assert points_of(above) == wanted[64]
  assert points_of(below) == wanted[400]
  assert below.get_title(loc='left') == 'Relative error of all 400 samples'
  assert 'subset' in above.get_title(loc='left')
  assert 'subset' in above.get_ylabel()
  assert max(line.get_linewidth() for line in above.lines) < max(line.get_linewidth() for line in below.lines)
  figures.draw_convergence(tmp_path / 'convergence.png', history[8:])
  assert len(drawn_figures[1].axes) == 1


@pytest.mark.parametrize(('count', 'smallest'), [(1, 0.5), (4, 0.0), (96, 1e-6), (512, 1e-9)])
def test_spectra_count_from_0_and_no_words_overlap(tmp_path, drawn_figures, count, smallest):
  energies = np.maximum(np.geomspace(1, max(smallest, 1e-12), count), smallest)
  figures.draw_spectrum(tmp_path / 'spectrum.png', energies, np.linspace(2, 0, count))
  left, right, total = drawn_figures[0].axes
  for axes in (left, right, total):
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), np.arange(count))
    low, high = axes.get_xlim()
    assert low < 0
    assert high > count - 1
  between = right.yaxis.label.get_window_extent().x0 - total.yaxis.label.get_window_extent().x1
  assert between > 20  # pixels
  ticks = [
    label.get_window_extent() for axis in (left.yaxis, right.yaxis, total.yaxis) for label in axis.get_ticklabels()
  ]
  labels = [axes.yaxis.label.get_window_extent() for axes in (left, right, total)]
  assert not [1 for tick in ticks for label in labels if tick.overlaps(label)]
  assert '0-based' in right.get_xlabel()


@pytest.mark.parametrize(
  ('energies', 'eigenvalues'),
  [
    (np.geomspace(1, 1e-6, 96), np.linspace(1.5, 0.1, 96)),
    (np.geomspace(1, 1e-6, 512), np.linspace(0.1, 1.5, 512)),
    ([3.0], [0.9]),
    ([5.0, 1.0, 0.0, 0.0], [1.2, 0.8, 0.0, -1e-9]),
    ([0.0, 0.0], [0.0, 0.0]),
  ],
)
def test_spectrum(tmp_path, energies, eigenvalues):
  figures.draw_spectrum(tmp_path / 'spectrum.png', energies, eigenvalues)
  opened(tmp_path / 'spectrum.png')


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
  path = tmp_path / 'parts.png'
  path.write_bytes(b'old')

  def full(source, target):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'replace', full)
  with pytest.raises(InputError, match='No space'):
    tiles.draw_parts(path, np.ones((4, 1)), (2, 2))
  assert path.read_bytes() == b'old'
  assert list(tmp_path.iterdir()) == [path]


def test_matplotlib_comes_late_and_pyplot_not_at_all(tmp_path):
  program = """
import sys
from panda_jax.pictures import figures, maps, overlays, strips
from panda_jax.pictures import parts as tiles
assert 'matplotlib' not in sys.modules
figures.draw_spectrum(sys.argv[1], [1.0], [1.0])
assert 'matplotlib.pyplot' not in sys.modules
"""
  root = Path(figures.__file__).parents[2]
  subprocess.run([sys.executable, '-W', 'error', '-c', program, str(tmp_path / 'spectrum.png')], check=True, cwd=root)


FITTED = {
  'convergence': (HISTORIES['phases'],),
  'spectrum': ([3.0, 2.0, 1.0], [1.0, 0.5, 0.25]),
}


@pytest.mark.parametrize('name', FITTED)
def test_figures_are_what_is_written(name, tmp_path):
  figure = getattr(panda_jax.pictures, f'{name}_figure')(*FITTED[name])
  assert isinstance(figure, matplotlib.figure.Figure)
  getattr(figures, f'draw_{name}')(tmp_path / 'p.png', *FITTED[name])
  assert figure._repr_png_() == figures.png_of(figure) == (tmp_path / 'p.png').read_bytes()


RNG = np.random.default_rng(0)
IMAGES = np.tanh(RNG.standard_normal((3, 16, 16, 3))).astype(np.float32)
PAGES = {
  'parts': (np.eye(12, 3), (3, 4)),
  'overlay': (IMAGES, np.eye(12, 3), (3, 4)),
  'saliency': (IMAGES, RNG.standard_normal((3, 4, 4, 2))),
  'strip': (IMAGES, IMAGES[:, None] / 2, [1.0]),
  'grid': (IMAGES, IMAGES[:, None, None] / 2, [1.0], ['one']),
}


@pytest.mark.parametrize('name', PAGES)
def test_figures_of_pages_have_the_pixels_that_are_written(name, tmp_path):
  figure = getattr(panda_jax.pictures, f'{name}_figure')(*PAGES[name])
  module = {'parts': tiles, 'overlay': overlays, 'saliency': maps}.get(name, strips)
  getattr(module, f'draw_{name}')(tmp_path / 'p.png', *PAGES[name])
  with Image.open(tmp_path / 'p.png') as written, Image.open(io.BytesIO(figure._repr_png_())) as shown:
    np.testing.assert_array_equal(np.asarray(shown.convert('RGB')), np.asarray(written.convert('RGB')))
