"""The curves of many runs: errors and agreement against the number of parts, errors against the layer."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from panda_jax.experiments.recommendation import SAME, Level
from panda_jax.pictures import colours
from panda_jax.pictures.figures import new_figure, png_of

SIZE = 5.2, 3.6  # inches of a panel
FONT = 8  # points
MOST_SERIES = 16  # that a reader can distinguish


def _panel(figure, place: tuple[int, int, int], title: str, across: str, up: str):
  axes = figure.add_subplot(*place)
  axes.set_title(title, fontsize=FONT + 1, loc='left')
  axes.set_xlabel(across, fontsize=FONT)
  axes.set_ylabel(up, fontsize=FONT)
  axes.tick_params(labelsize=FONT)
  axes.grid(color=colours.GRID, linewidth=0.6)
  for side in ('top', 'right'):
    axes.spines[side].set_visible(False)
  axes.xaxis.get_major_locator().set_params(integer=True)
  return axes


def _draw(axes, points: Sequence[tuple[float, float | None]], colour: str, marker: str, label: str, **style) -> None:
  known = [(x, y) for x, y in points if y is not None]
  if known:
    axes.plot(*zip(*known, strict=True), color=colour, marker=marker, markersize=4, linewidth=1.2, label=label, **style)


def curves_of_parts(series: Mapping[str, Sequence[Level]]) -> bytes:
  """A PNG of two panels: errors of the fit and on held-out samples; agreement over seeds and of halves."""
  figure = new_figure(2 * SIZE[0], SIZE[1], layout='constrained')
  errors = _panel(figure, (1, 2, 1), 'Relative error', 'parts', 'solid: fitted samples; dashed: held out')
  same = _panel(figure, (1, 2, 2), 'Agreement of parts', 'parts', 'solid: between seeds; dashed: between halves')
  same.axhline(SAME, color=colours.FAINT, linewidth=0.8)
  for (label, levels), (colour, marker) in zip(series.items(), cycle(colours.MORE_SERIES), strict=False):
    lines = (
      (errors, lambda level: level.error, {}),
      (errors, lambda level: level.held_out, {'linestyle': '--', 'markerfacecolor': 'white'}),
      (same, lambda level: level.seeds, {}),
      (same, lambda level: level.halves, {'linestyle': '--', 'markerfacecolor': 'white'}),
    )
    for axes, value, style in lines:
      name = '_' if style else label
      _draw(axes, [(level.parts, value(level)) for level in levels], colour, marker, name, **style)
  errors.set_ylim(bottom=0)
  same.set_ylim(0, 1.03)
  if len(series) > 1:
    errors.legend(fontsize=FONT, frameon=False)
  return png_of(figure)


def curves_of_layers(errors: Mapping[int, Mapping[int, float]], held_out: bool) -> bytes:
  """A PNG of one panel: {parts: {layer: error}}."""
  figure = new_figure(*SIZE, layout='constrained')
  what = 'relative error on held-out samples' if held_out else 'relative error'
  axes = _panel(figure, (1, 1, 1), 'Error by layer', 'layer', what)
  for (parts, by_layer), (colour, marker) in zip(sorted(errors.items()), cycle(colours.MORE_SERIES), strict=False):
    _draw(axes, sorted(by_layer.items()), colour, marker, f'{parts} parts')
  axes.set_ylim(bottom=0)
  axes.legend(fontsize=FONT, frameon=False)
  return png_of(figure)
