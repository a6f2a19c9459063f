"""Pages of labelled tiles: rows and columns of small pictures with names, a legend, colour bars and a note.

Tiles are uint8 (h, w, 3), all of one size on a page. The font is matplotlib's own, so that a page looks the same on
every machine; Pillow draws.
"""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec

import numpy as np

from panda_jax.pictures import colours
from panda_jax.pictures.figures import DPI, new_figure, save_picture

if TYPE_CHECKING:
  from matplotlib.figure import Figure

PAGE_WIDTH = 1760  # pixels for the tiles of one row together
TILE = 96, 208  # least and greatest longer side of a tile
LARGE_TILE = 288  # the greatest with three columns or fewer
GAP = 6  # pixels between tiles
BREAK = 14  # further pixels between groups of columns
NAME_GAP = 10  # pixels between names and tiles
BORDER = 18  # around the page
LONGEST_NAME = 170  # pixels for the name of a row
LEADING = 1.3  # distance of two lines of text, as a multiple of the font's size
MOST_LINES = 3  # of the name of a row or column


def written(value: float, digits: int = 4) -> str:
  """A number with a proper minus sign."""
  return f'{value:.{digits}g}'.replace('-', '\u2212')


class Swatch(NamedTuple):
  """A line of a legend: a colour and its meaning."""

  colour: tuple[int, int, int]
  text: str


class Bar(NamedTuple):
  """A colour bar: its label, its colours from left to right (n, 3) uint8, and {place in [0, 1]: tick}."""

  label: str
  colours: np.ndarray
  ticks: dict[float, str]


class Row(NamedTuple):
  """A row of a page: its name or its own legend; its tiles, None for an empty place; a heading above it."""

  name: str | Sequence[Swatch]
  tiles: Sequence[np.ndarray | None]
  heading: str = ''


@functools.cache
def font(size: int):
  """The page's font, `size` pixels high."""
  import matplotlib
  from PIL import ImageFont

  return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / 'fonts/ttf/DejaVuSans.ttf'), size)


def tile_size(image: tuple[int, int], columns: int, page: int = PAGE_WIDTH) -> tuple[int, int]:
  """(h, w) of the tiles for images of size (h, w) in this number of columns, with the same aspect."""
  most = LARGE_TILE if columns <= 3 else TILE[1]
  side = min(max(page // max(columns, 1) - GAP, TILE[0]), most)
  return max(1, round(side * image[0] / max(image))), max(1, round(side * image[1] / max(image)))


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """uint8 pictures (N, h, w, 3) at another size, smooth when they grow and averaged when they shrink."""
  from PIL import Image

  if pixels.shape[1:3] == tuple(size):
    return pixels
  big = (size[1], size[0])
  return np.stack([np.asarray(Image.fromarray(p).resize(big, Image.Resampling.BICUBIC)) for p in pixels])


def wrapped(text: str, size: int, width: float, most: int = MOST_LINES) -> list[str]:
  """Lines of `text` not wider than `width` pixels; a text that needs more than `most` lines ends in an ellipsis."""
  measure = font(size).getlength

  def cut(line: str) -> str:
    while len(line) > 1 and measure(line + '…') > width:
      line = line[:-1].rstrip()
    return line + '…'

  if '\n' in text:
    return [line for part in text.split('\n') for line in wrapped(part, size, width, most)]
  lines: list[str] = []
  for word in text.split():
    joined = f'{lines[-1]} {word}' if lines else word
    if lines and measure(joined) <= width:
      lines[-1] = joined
    else:
      lines.append(word)
  if len(lines) > most:
    lines = [*lines[: most - 1], ' '.join(lines[most - 1 :])]
  return [line if measure(line) <= width else cut(line) for line in lines]


def ramp(palette, low: float = 0.0, high: float = 1.0, count: int = 256) -> np.ndarray:
  """(count, 3) uint8 colours of a matplotlib palette, from place `low` to `high`."""
  return palette(np.linspace(low, high, count), bytes=True)[:, :3]


class Page:
  """A white page for tiles and text, saved atomically."""

  def __init__(self, width: int, height: int, size: int):
    """`size`: of the text, in pixels."""
    from PIL import Image, ImageDraw

    self.size = size
    self._picture = Image.new('RGB', (width, height), 'white')
    self._pen = ImageDraw.Draw(self._picture)

  def paste(self, tile: np.ndarray, left: int, top: int) -> None:
    from PIL import Image

    self._picture.paste(Image.fromarray(np.ascontiguousarray(tile)), (int(left), int(top)))

  def frame(self, left: int, top: int, height: int, width: int) -> None:
    """Draws a line of one pixel around a tile."""
    self._pen.rectangle((left - 1, top - 1, left + width, top + height), outline=colours.FAINT)

  def text(self, place: tuple[float, float], words: str, anchor: str = 'la', colour: str = colours.INK) -> None:
    self._pen.text(place, words, fill=colour, font=font(self.size), anchor=anchor)

  def lines(self, middle: tuple[float, float], lines: Sequence[str], anchor: str) -> None:
    """Writes lines, centred vertically at `middle`; `anchor` is their horizontal alignment: 'l', 'm' or 'r'."""
    pitch = self.size * LEADING
    first = middle[1] - pitch * (len(lines) - 1) / 2
    for i, line in enumerate(lines):
      self.text((middle[0], first + i * pitch), line, f'{anchor}m')

  def swatch(self, left: float, middle: float, swatch: Swatch) -> None:
    side = round(0.8 * self.size)
    box = (left, middle - side // 2, left + side, middle - side // 2 + side)
    self._pen.rectangle(box, fill=tuple(swatch.colour), outline=colours.FRAME)
    self.text((left + side + 0.5 * self.size, middle), swatch.text, 'lm')

  def bar(self, left: int, top: int, width: int, bar: Bar) -> None:
    """Draws a colour bar with its ticks and label below; three lines of text high."""
    thick = round(0.8 * self.size)
    across = np.rint(np.linspace(0, len(bar.colours) - 1, width)).astype(int)
    self.paste(np.repeat(bar.colours[across][None], thick, axis=0), left, top)
    self._pen.rectangle((left, top, left + width - 1, top + thick - 1), outline=colours.FRAME)
    for place, tick in bar.ticks.items():
      x = left + place * (width - 1)
      self._pen.line((x, top + thick, x, top + thick + 4), fill=colours.INK)
      self.text((x, top + thick + 5), tick, 'ma')
    self.text((left + width / 2, top + thick + 5 + LEADING * self.size), bar.label, 'ma')

  def pixels(self) -> np.ndarray:
    return np.asarray(self._picture)

  def save(self, path: str | os.PathLike) -> None:
    save_picture(path, self._picture)

  def figure(self) -> 'Figure':
    """The page as a matplotlib figure, pixel by pixel."""
    pixels = self.pixels()
    height, width = pixels.shape[:2]
    figure = new_figure(width / DPI, height / DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(pixels, interpolation='none', extent=(0, width, height, 0), aspect='auto')
    return figure


def swatch_width(swatch: Swatch, size: int) -> float:
  """Width in pixels of a line of a legend."""
  return 1.3 * size + font(size).getlength(swatch.text)


Arguments = ParamSpec('Arguments')


def figure_of(page: Callable[Arguments, Page]) -> 'Callable[Arguments, Figure]':
  """The function that gives a page as a matplotlib figure: `X_figure` of `X_page`, with its arguments and docstring."""

  @functools.wraps(page)
  def figure(*args: Arguments.args, **options: Arguments.kwargs) -> 'Figure':
    return page(*args, **options).figure()

  figure.__name__ = figure.__qualname__ = page.__name__.replace('_page', '_figure')
  return figure


def file_of(page: Callable[Arguments, Page]) -> Callable[Concatenate[str | os.PathLike, Arguments], None]:
  """The function that writes a page to a PNG: `draw_X` of `X_page`, whose arguments follow the path."""

  def draw(path: str | os.PathLike, *args: Arguments.args, **options: Arguments.kwargs) -> None:
    page(*args, **options).save(path)

  draw.__doc__ = f'Writes `{page.__name__}`, whose arguments follow the path, to a PNG.'
  draw.__name__ = draw.__qualname__ = f'draw_{page.__name__.removesuffix("_page")}'
  return draw


def _in_lines(legend: Sequence[Swatch], size: int, width: int) -> list[list[Swatch]]:
  """A legend split into lines of at most `width` pixels."""
  lines: list[list[Swatch]] = []
  used = 0.0
  for swatch in legend:
    needed = swatch_width(swatch, size) + 1.5 * size
    if not lines or used + needed > width:
      lines.append([])
      used = 0.0
    lines[-1].append(swatch)
    used += needed
  return lines


def _shared_out(items: Sequence, most: int) -> list[list]:
  """The items split into lists of at most `most`, of nearly equal length."""
  count = -(-len(items) // most)
  return [[items[i] for i in some] for some in np.array_split(np.arange(len(items)), count)] if count else []


def _name_width(name: str | Sequence[Swatch], size: int) -> float:
  """Width in pixels of a row's name or legend."""
  if not isinstance(name, str):
    return max(swatch_width(swatch, size) for swatch in name)
  return max((font(size).getlength(line) for line in wrapped(name, size, LONGEST_NAME)), default=0.0)


class _Sheet:
  """The layout of a page of rows; see `rows_page` for the arguments."""

  def __init__(self, rows, columns, title, legend, bars, note, breaks):
    tile = next(tile for row in rows for tile in row.tiles if tile is not None)
    self.rows, (self.h, self.w) = rows, tile.shape[:2]
    count = max(len(row.tiles) for row in rows)
    self.shifts = [j * (self.w + GAP) + BREAK * sum(b <= j for b in breaks) for j in range(count)]
    self.inner = self.shifts[-1] + self.w
    self.size = size = max(15, min(24, round(self.inner / 62)))
    self.line = line = LEADING * size

    names = max(_name_width(row.name, size) for row in rows)
    self.left = BORDER + (round(names) + NAME_GAP if names > 0 else 0)
    label = max((font(size).getlength(bar.label) for bar in bars), default=0)
    self.width = max(self.left + self.inner, 2 * BORDER + round(label)) + BORDER
    self.bars_from = self.left if self.inner >= label else BORDER
    across = self.width - self.left - BORDER
    self.bars = _shared_out(bars, max(1, (self.width - 2 * BORDER) // round(max(label + 2 * size, 22 * size))))
    self.heads = [wrapped(name, size, self.w) for name in columns]
    self.title, self.note = (wrapped(words, size, across, most=9) for words in (title, note))
    self.legend = _in_lines(legend, size, across)

    end = BORDER + round(len(self.title) * line + (size / 2 if self.title else 0))
    end += round(max((len(lines) for lines in self.heads), default=0) * line) + (GAP if self.heads else 0)
    self.body, self.tops = end, []
    for i, row in enumerate(rows):
      end += round(1.2 * line) + (GAP if i else 0) if row.heading else 0
      self.tops.append(end)
      end += self.h + GAP
    self.below = end - GAP + round(0.8 * line)
    height = (1.3 * len(self.legend) + len(self.note) + 3.2 * len(self.bars)) * line
    self.height = end - GAP + BORDER + round(height + (0.5 * line if legend or bars or note else 0))

  def drawn(self) -> Page:
    page = Page(self.width, self.height, self.size)
    for i, words in enumerate(self.title):
      page.text((self.left, BORDER + i * self.line), words)
    for shift, lines in zip(self.shifts, self.heads, strict=False):
      middle = self.left + shift + self.w / 2
      page.lines((middle, self.body - GAP - len(lines) * self.line / 2), lines, 'm')
    for row, top in zip(self.rows, self.tops, strict=True):
      self._draw_row(page, row, top)
    self._draw_below(page)
    return page

  def _draw_row(self, page: Page, row: Row, top: int) -> None:
    middle = top + self.h / 2
    if isinstance(row.name, str):
      page.lines((self.left - NAME_GAP, middle), wrapped(row.name, self.size, LONGEST_NAME), 'r')
    else:
      pitch = min(1.3 * self.line, self.h / len(row.name))
      for i, swatch in enumerate(row.name):
        page.swatch(BORDER, middle + (i - (len(row.name) - 1) / 2) * pitch, swatch)
    if row.heading:
      page.text((self.left, top - round(1.1 * self.line)), row.heading)
    for shift, tile in zip(self.shifts, row.tiles, strict=False):
      if tile is not None:
        page.paste(tile, self.left + shift, top)

  def _draw_below(self, page: Page) -> None:
    """Draws legend, colour bars and note."""
    y, size, line = self.below, self.size, self.line
    for swatches in self.legend:
      x = float(self.left)
      for swatch in swatches:
        page.swatch(x, y + line / 2, swatch)
        x += swatch_width(swatch, size) + 1.5 * size
      y += round(1.3 * line)
    for bars in self.bars:
      each = (self.width - self.bars_from - BORDER) / len(bars)
      long = round(min(each - 4 * size, 26 * size))
      for i, bar in enumerate(bars):
        page.bar(round(self.bars_from + i * each + (each - long) / 2), y, long, bar)
      y += round(3.2 * line)
    for i, words in enumerate(self.note):
      page.text((self.left, y + i * line), words, colour=colours.SOFT)


def rows_page(
  rows: Sequence[Row],
  columns: Sequence[str] = (),
  *,
  title: str = '',
  legend: Sequence[Swatch] = (),
  bars: Sequence[Bar] = (),
  note: str = '',
  breaks: Sequence[int] = (),
) -> Page:
  """Rows of tiles with names at their left and above the columns; legend, colour bars and a note below.

  Args:
    rows: at least one; every tile of the same size.
    columns: names, none or one for each column.
    title, note: above and below everything; the note in grey.
    legend, bars: below the rows.
    breaks: columns with more space before them.
  """
  return _Sheet(rows, columns, title, legend, bars, note, breaks).drawn()


draw_rows = file_of(rows_page)
