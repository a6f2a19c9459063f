"""Plots of a fit (error against time, spectra of the appearances), and functions that all pictures share.

`..._figure` functions return a matplotlib figure, which a notebook shows; `draw_...` functions write it to a PNG, which
appears under its name only when it is complete. matplotlib is imported at the first drawing, and its global state
(pyplot, the chosen backend) is not changed.
"""

import functools
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from panda_jax.files.access import write_atomically
from panda_jax.pictures import colours

if TYPE_CHECKING:
  from matplotlib.figure import Figure

DPI = 150
MOST_IMAGES = 64  # on one sheet
COMPRESSION = 4  # of PNGs: half the time of Pillow's 6, and a twelfth larger
SHEET_PIXELS = 4096  # largest width or height of a sheet; larger images are halved until they fit


@functools.cache
def _figure_class():
  from matplotlib.figure import Figure

  class ShownFigure(Figure):
    """A figure that a notebook shows even if pyplot was never imported."""

    def _repr_png_(self) -> bytes:
      return png_of(self)

  return ShownFigure


def new_figure(width: float, height: float, **options) -> 'Figure':
  """A matplotlib figure of `width` x `height` inches, drawn without a window."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  figure = _figure_class()(figsize=(width, height), dpi=DPI, facecolor='white', **options)
  FigureCanvasAgg(figure)
  return figure


def load() -> None:
  """Imports what figures need, so that the first one is drawn without delay."""
  import matplotlib.backends.backend_agg
  import matplotlib.figure
  import matplotlib.ticker  # noqa: F401


def png_of(figure: 'Figure') -> bytes:
  """A figure as a PNG."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  buffer = io.BytesIO()
  FigureCanvasAgg(figure).print_png(buffer)
  return buffer.getvalue()


def save_figure(path: str | os.PathLike, figure: 'Figure') -> None:
  """Writes a figure to a PNG, atomically."""
  write_atomically(path, png_of(figure))


@contextmanager
def saved_figure(path: str | os.PathLike, width: float, height: float, **options) -> Iterator:
  """A figure of `width` x `height` inches, which is saved to `path` atomically."""
  figure = new_figure(width, height, **options)
  yield figure
  save_figure(path, figure)


def _plain(axes, title: str | None = None) -> None:
  """The common style of all plots."""
  axes.spines[['top', 'right']].set_visible(False)
  axes.grid(color=colours.GRID, linewidth=0.6)
  axes.set_axisbelow(True)
  if title:
    axes.set_title(title, fontsize=11, loc='left', color=colours.INK)


def _logarithmic(axis, values: np.ndarray, unit: str = '') -> None:
  """A logarithmic axis with plain numbers; if `values` span few powers of ten, also between the powers."""
  from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

  axis.axes.set(**{f'{axis.axis_name}scale': 'log'})
  if values.max() < 100 * values.min():
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
  axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}{unit}'))
  axis.set_minor_formatter(NullFormatter())


def draw_convergence(path: str | os.PathLike, history: Sequence[Mapping]) -> None:
  """Writes `convergence_figure` to a PNG."""
  save_figure(path, convergence_figure(history))


def convergence_figure(history: Sequence[Mapping]) -> 'Figure':
  """Draws relative error against seconds: of all samples, a line through the phases.

  A fit may begin on subsets. An error of a subset is that subset's own, mostly lower than that of all samples, so it is
  drawn apart, above, and faintly.

  Args:
    history: one mapping per outer iteration with iteration, phase, samples, seconds and relative_error.

  Example:
    >>> from panda_jax.pictures import convergence_figure
    >>> figure = convergence_figure(result.history)
  """
  rows = [row for row in history if math.isfinite(row['relative_error']) and math.isfinite(row['seconds'])]
  most = max((row['samples'] for row in rows), default=0)
  whole, subsets = ([row for row in rows if (row['samples'] == most) == which] for which in (True, False))

  figure = new_figure(8, 6.6 if subsets else 5, layout='constrained')
  if subsets:
    above, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.4))
    _plain(above, 'First on subsets: errors of their own samples only')
    above.set_ylabel('error of a subset', color=colours.FAINT)
    above.tick_params(colors=colours.FAINT)
    _draw_errors(above, subsets, ('samples', 'phase'), faint=True)
  else:
    axes = figure.add_subplot()
  _plain(axes, f'Relative error of all {most} samples' if rows else 'Relative error')
  axes.set_xlabel('seconds since the fit started')
  axes.set_ylabel('relative error')
  if not rows:
    axes.text(0.5, 0.5, 'no iterations', ha='center', va='center', color=colours.FAINT, transform=axes.transAxes)
    return figure
  x, y = np.transpose([(row['seconds'], row['relative_error']) for row in whole])
  axes.plot(x, y, color=colours.INK, linewidth=1.8, zorder=2)
  _draw_errors(axes, whole, ('phase',))
  seconds = np.array([row['seconds'] for row in rows])
  if seconds.min() > 0 and seconds.max() > 10 * seconds.min():
    _logarithmic(axes.xaxis, seconds)
  offset = {'xytext': (-4, -16), 'textcoords': 'offset points', 'ha': 'right', 'fontsize': 9, 'color': colours.INK}
  axes.annotate(f'{y[-1]:.5g}', (x[-1], y[-1]), **offset)
  return figure


def _draw_errors(axes, rows: Sequence[Mapping], keys: Sequence[str], faint: bool = False) -> None:
  """Draws errors against seconds, one series for each value of these keys: markers, and lines too if `faint`."""
  series: dict[tuple, list] = {}
  for row in rows:
    series.setdefault(tuple(row[key] for key in keys), []).append((row['seconds'], row['relative_error']))
  told = set()
  for (named, points), (colour, marker) in zip(series.items(), cycle(colours.SERIES), strict=False):
    x, y = np.transpose(points)
    style = {'marker': marker, 'markevery': max(1, len(points) // 25)}
    if faint:
      axes.plot(x, y, color=colours.FAINT, markersize=3.5, linewidth=1, **style)
      where = {'xytext': (4, 4), 'textcoords': 'offset points', 'fontsize': 8, 'color': colours.FAINT}
      if named[0] not in told:
        axes.annotate(f'{named[0]} samples', (x[0], y[0]), **where)
      told.add(named[0])
    else:
      axes.plot(x, y, color=colour, markersize=6, linestyle='none', zorder=3, label=named[0], **style)
  errors = np.array([row['relative_error'] for row in rows])
  axes.ticklabel_format(axis='y', useOffset=False)
  if errors.min() > 0 and errors.max() > 10 * errors.min():
    _logarithmic(axes.yaxis, errors)
  axes.margins(0.06, 0.18 if faint else 0.12)
  if not faint:
    axes.legend(fontsize=9, frameon=False, title='phase', title_fontsize=9)


def draw_spectrum(path: str | os.PathLike, energies: Sequence[float], eigenvalues_W: Sequence[float]) -> None:
  """Writes `spectrum_figure` to a PNG."""
  save_figure(path, spectrum_figure(energies, eigenvalues_W))


def spectrum_figure(energies: Sequence[float], eigenvalues_W: Sequence[float]) -> 'Figure':
  """Draws how the energy spreads over appearances, and the eigenvalues of W = A Aᵀ.

  Args:
    energies: (R_C,) what each appearance explains, in any unit, in the order of the appearances.
    eigenvalues_W: (at most C,) in any order.

  Example:
    >>> from panda_jax.pictures import spectrum_figure
    >>> figure = spectrum_figure(result.appearance_energy, result.eigenvalues)
  """
  from matplotlib.ticker import MaxNLocator, StrMethodFormatter

  energies = np.maximum(np.asarray(energies, np.float64), 0)
  shares = 100 * energies / max(energies.sum(), np.finfo(np.float64).tiny)
  values = np.sort(np.asarray(eigenvalues_W, np.float64))[::-1]
  (blue, dot), (orange, square), (green, _) = colours.SERIES[:3]

  figure = new_figure(11, 4.6, layout='constrained')
  left, right = figure.subplots(1, 2)
  figure.get_layout_engine().set(wspace=0.08)  # space for the label of the axis between the plots
  _plain(left, 'Energy of the appearances')
  live = shares > 0
  marker = {'markersize': 5 if len(shares) <= 64 else 2.5, 'linestyle': 'none'}
  left.plot(np.flatnonzero(live), shares[live], dot, color=blue, label='share of one appearance', **marker)
  _logarithmic(left.yaxis, shares[live] if live.any() else np.array([1, 100]), ' %')
  left.set_ylim(min(shares[live].min(initial=100) / 1.6, 10), 140)
  left.set_xlim(-0.6 - 0.02 * len(shares), 1.02 * len(shares) - 0.4)
  missing = '' if live.all() else f'; {np.sum(~live)} without energy left out'
  left.set_xlabel(f'appearance (0-based{missing})')
  left.set_ylabel('share of the energy, log scale', color=blue)
  left.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  total = left.twinx()
  total.spines[['top', 'left']].set_visible(False)
  total.plot(np.cumsum(shares), color=orange, linewidth=1.6, marker=square if len(shares) == 1 else '')
  total.set_ylim(0, 104)
  total.yaxis.set_major_formatter(StrMethodFormatter('{x:.0f} %'))
  total.set_ylabel('cumulative share', color=orange)

  _plain(right, 'Eigenvalues of W = A Aᵀ')
  marker['linestyle'] = '-'
  right.plot(values, dot, color=green, linewidth=1, **marker)
  right.axhline(
    1, color=colours.FAINT, linewidth=1, linestyle='--', zorder=1, label='1: W leaves the direction as it is'
  )
  right.legend(fontsize=9, frameon=False)
  right.set_ylim(min(0, values.min(initial=0)), 1.1 * max(1, values.max(initial=1)))
  right.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  right.set_xlim(-0.6 - 0.02 * len(values), 1.02 * len(values) - 0.4)
  right.set_xlabel('rank (0-based), from the largest')
  right.set_ylabel('eigenvalue')
  return figure


def middling(images: np.ndarray) -> int:
  """The index of the image of (N, h, w, channels) with median brightness: very dark or light images hide edits."""
  brightness = images.mean(axis=(1, 2, 3))
  return int(np.argmin(np.abs(brightness - np.median(brightness))))


def to_bytes(images: np.ndarray) -> np.ndarray:
  """Images (N, H, W, channels), clipped to [-1, 1], as uint8 (N, H, W, 3); grey ones are repeated, alpha is dropped."""
  images = np.asarray(images, np.float32)
  images = np.repeat(images, 3, axis=-1) if images.shape[-1] < 3 else images[..., :3]
  return np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)


def save_pixels(path: str | os.PathLike, pixels: np.ndarray, profile: bytes | None = None) -> None:
  """Writes pixels (H, W, 3) uint8 to a PNG, atomically; `profile` (ICC) defines their colours."""
  from PIL import Image

  save_picture(path, Image.fromarray(pixels), profile)


def save_picture(path: str | os.PathLike, picture, profile: bytes | None = None) -> None:
  """Writes a PIL image to a PNG, atomically."""
  buffer = io.BytesIO()
  picture.save(buffer, format='PNG', dpi=(DPI, DPI), icc_profile=profile, compress_level=COMPRESSION)
  write_atomically(path, buffer.getvalue())


def draw_images(path: str | os.PathLike, images: np.ndarray) -> None:
  """Writes a sheet of the first `MOST_IMAGES` images (N, H, W, channels), clipped to [-1, 1], row by row."""
  from PIL import Image

  pixels = to_bytes(images[:MOST_IMAGES])
  count, height, width, _ = pixels.shape
  columns = min(count, max(1, math.ceil(math.sqrt(count * height / width))))
  rows = math.ceil(count / columns)
  gap = max(1, height // 64)
  sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
  for i, image in enumerate(pixels):
    top, left = i // columns * (height + gap), i % columns * (width + gap)
    sheet[top : top + height, left : left + width] = image
  picture = Image.fromarray(sheet)
  while max(picture.size) > SHEET_PIXELS:
    picture = picture.reduce(2)
  save_picture(path, picture)
