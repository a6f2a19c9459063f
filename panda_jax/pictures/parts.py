"""The parts of a fit as tiles, each with its number and share of the energy."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from panda_jax.errors import InputError
from panda_jax.pictures import colours
from panda_jax.pictures.sheets import Bar, Page, figure_of, file_of, ramp

PAGE = 1600, 1200  # pixels for the tiles of few parts together
TILE = 160, 440  # pixels, least and greatest square root of a tile's area
LONGEST = 8  # a tile's greatest aspect; cells of longer grids are stretched
MARGIN, GAP = 36, 22  # pixels around the page, and between tiles
TEXT = 18  # pixels
BAR = 82  # pixels of height below the tiles, for the colour bar and its label
SHORTEST_PAGE = 620  # pixels of width, for the colour bar and its label
NARROW = 60  # pixels of width: words in narrower tiles are vertical


class PartsLayout(NamedTuple):
  """Positions of tiles on the page, in pixels from its upper left corner."""

  width: int
  height: int
  columns: int
  corners: list[tuple[int, int]]  # (left, top) of every tile
  cell: tuple[int, int]  # height and width of one position, or of one block of `pooled` positions
  pooled: tuple[int, int]  # rows and columns of the grid in one cell: 1 unless the grid is finer than pixels
  tile: tuple[int, int]  # height and width
  title_lines: int


def parts_layout(count: int, grid: tuple[int, int], energies: bool = False) -> PartsLayout:
  """Tiles for `count` parts on a page of about 4:3. A position has whole pixels, so that all look alike."""
  aspect = min(max(grid[1] / grid[0], 1 / LONGEST), LONGEST)
  side = min(max(math.sqrt(PAGE[0] * PAGE[1] / count), TILE[0]), TILE[1])
  wanted = side / math.sqrt(aspect), side * math.sqrt(aspect)
  pooled = tuple(max(1, round(n / pixels)) for n, pixels in zip(grid, wanted, strict=True))
  cells = tuple(math.ceil(n / block) for n, block in zip(grid, pooled, strict=True))
  cell = tuple(max(1, round(pixels / n)) for n, pixels in zip(cells, wanted, strict=True))
  if 1 / LONGEST < grid[1] / grid[0] < LONGEST and pooled == (1, 1):
    cell = (min(cell),) * 2
  tile = cells[0] * cell[0], cells[1] * cell[1]

  letter, line = 0.64 * TEXT, round(1.35 * TEXT)
  name, share = len(f'part {count - 1}'), len('99.9 %') if energies else 0
  title_lines = 2 if energies and (name + 3 + share) * letter > tile[1] else 1
  words = max(name, share) if title_lines == 2 or not energies else name + 3 + share
  pitch = max(tile[1], math.ceil(words * letter)) + GAP, tile[0] + title_lines * line + GAP

  def ugliness(columns):
    rows = math.ceil(count / columns)
    shape = abs(math.log(columns * pitch[0] / (rows * pitch[1]) * 3 / 4))
    return shape + 0.5 * (rows * columns - count) / count

  columns = min(range(1, count + 1), key=ugliness)
  rows = math.ceil(count / columns)
  width = max(columns * pitch[0] - GAP + 2 * MARGIN, SHORTEST_PAGE)
  height = rows * pitch[1] + 2 * MARGIN + BAR  # the last term is for the colour bar
  left = (width - columns * pitch[0] + GAP) // 2 + (pitch[0] - GAP - tile[1]) // 2
  top = MARGIN + title_lines * line
  corners = [(left + k % columns * pitch[0], top + k // columns * pitch[1]) for k in range(count)]
  return PartsLayout(width, height, columns, corners, cell, pooled, tile, title_lines)


def _percent(share: float) -> str:
  return f'{100 * share:.1f} %' if share >= 0.0005 or share == 0 else '<0.1 %'


def _tile(part: np.ndarray, layout: PartsLayout) -> np.ndarray:
  """(height, width) pixels of one part (H, W): a rectangle for each position, or for the maximum of several."""
  short = [-n % block for n, block in zip(part.shape, layout.pooled, strict=True)]
  part = np.pad(part, [(0, n) for n in short])
  rows, columns = layout.pooled
  part = part.reshape(part.shape[0] // rows, rows, part.shape[1] // columns, columns).max(axis=(1, 3))
  return np.kron(part, np.ones(layout.cell))


def parts_page(parts: np.ndarray, grid: tuple[int, int], energies: Sequence[float] | None = None) -> Page:
  """Every part as a tile, in order, each divided by its maximum.

  Positions are drawn unsmoothed. Grids longer than 8:1 are stretched across, so that each position can be seen.

  Args:
    parts: (S, R_S), non-negative; a part without positive entries is drawn empty and called dead.
    grid: (H, W) with H * W = S.
    energies: (R_S,) share of the energy that each part explains, shown as a percentage.

  Raises:
    InputError: parts do not fit the grid.

  Example:
    >>> from panda_jax.pictures import parts_figure
    >>> figure = parts_figure(factors.parts, factors.grid)
  """
  from matplotlib import colormaps

  parts = np.asarray(parts, np.float64)
  height, width = grid
  if parts.ndim != 2 or not parts.shape[1] or parts.shape[0] != height * width:
    shape = 'x'.join(map(str, parts.shape))
    raise InputError('parts', f'shape {shape}', f'does not fit a grid of {height}x{width}', 'give (H*W, R_S)')
  layout = parts_layout(parts.shape[1], (height, width), energies is not None)
  palette = colormaps[colours.PARTS]
  page = Page(layout.width, layout.height, TEXT)
  for k, (left, top) in enumerate(layout.corners):
    middle, peak = left + layout.tile[1] / 2, parts[:, k].max()
    page.frame(left, top, *layout.tile)
    if peak > 0:
      tile = _tile(parts[:, k].reshape(height, width) / peak, layout)
      page.paste(np.where(tile[..., None] > 0, palette(tile, bytes=True)[..., :3], np.uint8(255)), left, top)
    else:
      words = ['dead'] if layout.tile[1] >= NARROW else list('dead')
      page.lines((middle, top + layout.tile[0] / 2), words, 'm')
    words = [f'part {k}'] if energies is None else [f'part {k}', _percent(float(energies[k]))]
    words = words if layout.title_lines == 2 else [' · '.join(words)]
    for i, line in enumerate(reversed(words)):
      page.text((middle, top - 9 - i * 1.2 * TEXT), line, 'ms')
  long = min(layout.width - 2 * MARGIN, 480)
  label = 'entry, as a fraction of the largest in its part (white: zero)'
  bar = Bar(label, ramp(palette), {0: '0', 0.5: '0.5', 1: '1'})
  page.bar((layout.width - long) // 2, layout.height - MARGIN - BAR + 12, long, bar)
  return page


parts_figure, draw_parts = figure_of(parts_page), file_of(parts_page)
