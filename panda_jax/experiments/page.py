"""runs.html: many runs on one page that needs no other file, no network and no script."""

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from panda_jax.experiments import table
from panda_jax.experiments.agreement import matches
from panda_jax.experiments.curves import MOST_SERIES, curves_of_layers, curves_of_parts
from panda_jax.experiments.recommendation import Level, by_number, levels, of_series
from panda_jax.experiments.runs import Run, series
from panda_jax.files.access import check_writable, write_atomically
from panda_jax.pictures import colours, pages
from panda_jax.runtime import notebook

PAGE = 'runs.html'
MOST_ROWS = 1000  # of the table
MOST_SHOWN = 60  # runs of a series with parts on the page
MOST_PARTS = 48  # of a run
SIDE = 56  # pixels of a part's longer side, about
LIKE = 0.5  # least cosine of parts in one column
SHADES = 1.0, 0.65, 0.35  # of a colour that is used for several parts
NUMBERS = (
  'error, held out: relative errors of the run on all samples that fits best, the second on samples that were not '
  'fitted.',
  'seeds: mean cosine of matched parts over all pairs of seeds, with all samples.',
  'halves: the same between fits of the two halves of the samples.',
  'times noise: how much these parts explain beyond the number above, in multiples of what they would of noise.',
)
PANEL = 560  # width in pixels of the picture of one panel
BREAK = re.compile(r'(?<=[,/])')  # where a long name may go on in the next line


def write_page(folder: Path, runs: Sequence[Run], rows: Sequence[table.Row]) -> Path:
  """Writes runs.html into a folder.

  Args:
    folder: where.
    runs: all of them.
    rows: of `table.rows_of`, in the order of the page.

  Returns:
    The page's path.

  Raises:
    InputError: it cannot be written, or the factors of a run cannot be read.
  """
  path = folder / PAGE
  check_writable(path, 'folder')
  found = {label: levels(some) for label, some in series(runs).items()}
  sections = [
    ('choice', 'How many parts', choice(runs)),
    ('curves', 'Curves', curves(found, runs)),
    ('runs', 'Runs', all_runs(rows)),
    ('parts', 'Parts side by side', parts(runs) if found else ''),
  ]
  today = datetime.date.today().isoformat()
  foot = pages.paragraph(f'Written on {today} by panda-jax.')
  content = pages.page(f'{folder.resolve().name or folder}: {len(runs)} runs', heading(runs), sections, foot)
  write_atomically(path, content.encode(), 'folder')
  return path


def heading(runs: Sequence[Run]) -> str:
  states = [run.state for run in runs]
  best = min((run for run in runs if run.held_out is not None), key=lambda run: run.held_out, default=None)
  seconds = sum(run.summary['seconds'].get('total', 0.0) for run in runs if run.summary)
  facts = [('finished', states.count('finished'))]
  facts += [(name, states.count(name)) for name in ('failed', 'unfinished') if name in states]
  facts += [('seconds in all', f'{seconds:,.0f}')]
  facts += [] if best is None else [('least held-out error', f'{best.held_out:.5f}')]
  return pages.facts(facts)


def choice(runs: Sequence[Run]) -> str:
  """The recommendations."""
  pieces, found = [], series(runs)
  for label, said in of_series(runs).items():
    name = f'<strong>{pages.text(label)}</strong>: ' if label else ''
    columns, cells = by_number(levels(found[label]), found[label][0].parts.shape[0])
    pieces.append(f'<p class=said>{name}{pages.text(said)}</p>{pages.table(cells, columns)}')
  if pieces:
    pieces.append(pages.details('What the columns mean', pages.notes(NUMBERS)))
  return ''.join(pieces)


def curves(found: dict[str, list[Level]], runs: Sequence[Run]) -> str:
  """Errors and agreement of series with several numbers of parts, and errors by layer if there are several layers."""
  chosen = {label: some for label, some in found.items() if len(some) > 1}
  pieces = []
  if chosen:
    few = dict([*chosen.items()][:MOST_SERIES])
    caption = 'Of each number of parts the run with the least error. '
    caption += 'Held-out errors fall with every part, even where only noise is left. What matters is how much.'
    more = '' if len(few) == len(chosen) else f' The first {len(few)} of {len(chosen)} series are shown.'
    pieces.append(pages.picture(curves_of_parts(few), 'Errors and agreement by number of parts', caption + more))
  held_out = any(run.held_out is not None for run in runs)
  errors: dict[int, dict[int, float]] = {}
  for run in (run for some in series(runs).values() for run in some):
    value, layer = run.held_out if held_out else run.summary['relative_error'], run.config['layer']
    if value is not None and layer is not None and run.config['half'] == 'none':
      by_layer = errors.setdefault(run.parts.shape[1], {})
      by_layer[layer] = min(value, by_layer.get(layer, np.inf))
  if len({layer for by_layer in errors.values() for layer in by_layer}) > 1:
    caption = 'Layers have different features: their errors say how much parts explain, not which layer edits best.'
    pieces.append(pages.picture(curves_of_layers(errors, held_out), 'Errors by layer', caption, PANEL))
  return ''.join(pieces)


def all_runs(rows: Sequence[table.Row]) -> str:
  """The table, and the meaning of its columns."""
  columns, cells = table.shown(rows[:MOST_ROWS])
  more = '' if len(rows) <= MOST_ROWS else pages.paragraph(f'The first {MOST_ROWS} of {len(rows)} runs.')
  told = [f'{key}: {meaning}.' for key, meaning in table.MEANINGS.items() if key in columns]
  return pages.table(cells, columns) + more + pages.details('What the columns mean', pages.notes(told))


def parts(runs: Sequence[Run]) -> str:
  """A table for each series with a row for each run. Similar parts of different runs are in one column."""
  pieces = []
  for label, some in series(runs).items():
    shown = sorted(some, key=lambda run: run.parts.shape[1])[:MOST_SHOWN]
    pieces.append(f'<h3>{pages.text(label)}</h3>' * bool(label))
    pieces.append(_side_by_side(shown))
    if len(shown) < len(some):
      pieces.append(pages.paragraph(f'The first {len(shown)} of {len(some)} runs are shown.', soft=True))
  said = (
    'Where each part is: darker is larger, white exactly zero. Parts that are most alike stand below each other, by '
    'the assignment with the largest sum of cosines. Below a picture is the number of the part in its own run, as '
    '--part takes it. The first picture of a row has all parts of the run, in the colours of the columns.'
  )
  return pages.paragraph(said) + ''.join(pieces)


def columns_of(runs: Sequence[Run]) -> tuple[list[list[int | None]], int]:
  """For each run the part in each column, None if no part is similar; and the number of columns.

  First come the parts of the run with most parts, then further parts of other runs.
  """
  reference = max(runs, key=lambda run: run.parts.shape[1])
  known = [reference.parts[:, k] for k in range(reference.parts.shape[1])]
  placed: list[dict[int, int]] = []
  for run in runs:
    at: dict[int, int] = {}
    rows, columns, cosines = matches(run.parts, np.stack(known, axis=1))
    for row, column, cosine in zip(rows.tolist(), columns.tolist(), cosines.tolist(), strict=True):
      if cosine >= LIKE:
        at[column] = row
    for row in range(run.parts.shape[1]):
      if row not in at.values():
        known.append(run.parts[:, row])
        at[len(known) - 1] = row
    placed.append(at)
  return [[at.get(column) for column in range(len(known))] for at in placed], len(known)


def _colour(column: int) -> tuple[int, int, int]:
  """The colours of overlays, then darker shades of them."""
  times, place = divmod(column, len(colours.OVERLAY))
  red, green, blue = (round(value * SHADES[times % len(SHADES)]) for value in colours.OVERLAY[place])
  return red, green, blue


def _side_by_side(runs: Sequence[Run]) -> str:
  placed, count = columns_of(runs)
  count = min(count, MOST_PARTS)
  head = ''.join(
    f'<th scope=col style="--part: rgb{_colour(column)}"><span class=unseen>parts alike</span></th>'
    for column in range(count)
  )
  lines = [f'<thead><tr><th></th><th scope=col>all</th>{head}</tr></thead>']
  for run, at in zip(runs, placed, strict=True):
    error = f'{run.summary["relative_error"]:.4f}' + (
      f', held out {run.held_out:.4f}' if run.held_out is not None else ''
    )
    cells = [f'<td>{_image(together(run.maps, at), f"all parts of {run.name}")}</td>']
    for part in at[:count]:
      if part is None:
        cells.append('<td></td>')
      else:
        cells.append(f'<td>{_image(notebook.heat(run.maps[part], SIDE), f"part {part} of {run.name}")}{part}</td>')
    name = f'<th scope=row>{BREAK.sub("<wbr>", pages.text(run.name))}<br><span class=soft>{error}</span></th>'
    lines.append(f'<tr>{name}{"".join(cells)}</tr>')
  return f'<div class=scroll tabindex=0><table class=parts>{"".join(lines)}</table></div>'


def _image(pixels: np.ndarray, alternative: str) -> str:
  source = pages.address(notebook.png(pixels), 'png')
  return f'<img src="{source}" alt="{pages.text(alternative)}" title="{pages.text(alternative)}" loading=lazy>'


def together(maps: np.ndarray, at: Sequence[int | None]) -> np.ndarray:
  """All parts (R, H, W) as pixels (H, W, 3): each position has the colour of the column of its largest part.

  `at`: for each column the part in it, see `columns_of`.
  """
  peaks = maps.max(axis=(1, 2), keepdims=True)
  shares = maps / np.where(peaks > 0, peaks, 1)
  colour = np.zeros((len(maps), 3))
  for column, part in enumerate(at):
    if part is not None:
      colour[part] = _colour(column)
  largest = shares.argmax(axis=0)
  share = np.take_along_axis(shares, largest[None], axis=0)[0][..., None]
  return np.uint8(255 + (colour[largest] - 255) * share)
