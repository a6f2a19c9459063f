"""The pictures and the table of docs/explanation/choosing-parts.md, from folders of runs that `sweep` wrote.

  python -m benchmarks.choosing runs/choosing runs/halves --side_by_side=5 --out=docs/explanation/choosing-parts
  python -m benchmarks.choosing runs/choosing runs/centered runs/faces --across=center --name=centered --out=...

NAME.png: a tile has all parts of the run of the first seed; a row for each generator and layer, a column for each
number of parts, or for each kind of centring. Similar parts in a row have the same colour. NAME-curves.png: as on
runs.html. NAME-LAYER.png: the parts of a layer side by side. The table goes to stdout.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from panda_jax.experiments import curves, page, recommendation
from panda_jax.experiments.agreement import overlap, zeros
from panda_jax.experiments.runs import Run, found, grouped, series
from panda_jax.files.access import write_atomically
from panda_jax.pictures.sheets import Row, draw_rows
from panda_jax.runtime import notebook

_ACROSS = flags.DEFINE_enum('across', 'parts', ('parts', 'center'), 'What the columns of the picture are.')
_SIDE_BY_SIDE = flags.DEFINE_integer('side_by_side', None, 'A layer whose parts are drawn side by side.')
_NAME = flags.DEFINE_string('name', 'parts', 'Of the pictures.')
_OUT = flags.DEFINE_string('out', None, 'Folder of the pictures.', required=True)

TILE = 160  # pixels of a side


def kind(run: Run, *keys: str) -> tuple:
  """The settings that are equal in a row of the picture: generator or file, layer, and the other keys."""
  config = run.config
  return (Path(config['generator'] or config['features']).stem, config['layer'], *(config[key] for key in keys))


def titled(values: Sequence) -> str:
  return ', '.join(f'layer {value}' if isinstance(value, int) else str(value) for value in values if value is not None)


def tile(run: Run, at: Sequence[int | None]) -> np.ndarray:
  """All parts of a run as a tile."""
  pixels = page.together(run.maps, at)
  times = TILE // max(pixels.shape[:2])
  return np.kron(pixels, np.ones((times, times, 1), np.uint8))


def draw(path: Path, runs: Sequence[Run], across: str) -> None:
  """Draws the picture of parts."""
  keys = [key for key in ('parts', 'center') if key != across and len({run.config[key] for run in runs}) > 1]
  values = sorted({run.config[across] for run in runs})
  rows = []
  for name in sorted({kind(run, *keys) for run in runs}, key=str):
    some = [run for run in runs if kind(run, *keys) == name]
    placed = dict(zip((run.config[across] for run in some), page.columns_of(some)[0], strict=True))
    by_value = {run.config[across]: run for run in some}
    tiles = [tile(by_value[value], placed[value]) if value in by_value else None for value in values]
    said = (
      *name[:2],
      *(f'{x} parts' if key == 'parts' else f'{key}={x}' for key, x in zip(keys, name[2:], strict=True)),
    )
    rows.append(Row(titled(said), tiles))
  heads = [f'{value} parts' if across == 'parts' else f'{across}={value}' for value in values]
  draw_rows(path, rows, heads)


def draw_side_by_side(path: Path, runs: Sequence[Run]) -> None:
  """Draws the picture of one layer: a row for each run, with similar parts in one column."""
  runs = sorted(runs, key=lambda run: run.config['parts'])
  placed, count = page.columns_of(runs)
  rows = [
    Row(f'{run.config["parts"]} parts', [None if k is None else notebook.heat(run.maps[k], page.SIDE) for k in at])
    for run, at in zip(runs, placed, strict=True)
  ]
  draw_rows(path, rows, [str(column) for column in range(count)])


def table(runs: Sequence[Run]) -> str:
  """Markdown: errors, agreement and sparsity by series and number of parts."""
  lines = ['| fit | parts | error | held out | seeds | halves | zeros | overlap |', '|---|---|---|---|---|---|---|---|']
  for label, some in series(runs).items():
    for level in recommendation.levels(some):
      same = [run.parts for run in some if run.config['parts'] == level.parts and run.config['half'] == 'none']
      numbers = (level.error, level.held_out, level.seeds, level.halves)
      texts = ['' if x is None else f'{x:.{digits}f}' for x, digits in zip(numbers, (4, 4, 2, 2), strict=True)]
      shares = (np.mean([measured(P) for P in same]) for measured in (zeros, overlap))
      lines.append(f'| {" | ".join([label, str(level.parts), *texts, *(f"{x:.2f}" for x in shares)])} |')
  return '\n'.join(lines)


def main(argv: list[str]) -> None:
  if len(argv) < 2:
    raise app.UsageError('give the folders of the runs')
  runs = [run for run in found(argv[1:]) if run.state == 'finished']
  whole = [run for run in runs if run.config['half'] == 'none']
  first = [min(some, key=lambda run: run.config['seed']) for some in grouped(whole, 'seed').values()]
  out, name = Path(_OUT.value), _NAME.value
  out.mkdir(parents=True, exist_ok=True)
  draw(out / f'{name}.png', first, _ACROSS.value)
  if _SIDE_BY_SIDE.value is not None:
    some = [run for run in first if run.config['layer'] == _SIDE_BY_SIDE.value]
    draw_side_by_side(out / f'{name}-{_SIDE_BY_SIDE.value}.png', some)
  several = {label: recommendation.levels(some) for label, some in series(runs).items() if recommendation.several(some)}
  if _ACROSS.value == 'parts':
    write_atomically(out / f'{name}-curves.png', curves.curves_of_parts(several))
  print(table(runs))
  print('\n'.join(recommendation.sentences(runs)))


if __name__ == '__main__':
  app.run(main)
