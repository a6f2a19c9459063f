"""Runs as a table: columns for settings that differ, then for results; for a terminal, or for other programs."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from panda_jax.errors import InputError, nearest, printable
from panda_jax.experiments import FORMATS
from panda_jax.experiments.agreement import agreement, between_halves, overlap, zeros
from panda_jax.experiments.runs import AGAIN, Run, differing, grouped

RUN, STATE = 'run', 'state'
MEANINGS = {
  'error': 'relative error on the samples of the fit',
  'held_out': 'relative error on samples that were not fitted',
  'seeds': 'mean cosine of matched parts with those of other seeds',
  'halves': 'the same between fits of the two halves of the samples',
  'zeros': 'share of exact zeros in the parts',
  'overlap': 'mean cosine of two different parts of the run',
  'iterations': 'of all phases of the fit',
  'seconds': 'in all',
  'memory': 'most that the process had in use, MB; on devices where they tell',
}
DIGITS = {'error': 5, 'held_out': 5, 'seeds': 3, 'halves': 3, 'zeros': 3, 'overlap': 3, 'seconds': 1}

COLUMNS = {'held_out': 'held_out_samples'}  # settings whose names are also those of results

Row = dict[str, Any]


def rows_of(runs: Sequence[Run]) -> list[Row]:
  """A row for each run, all with the same keys in the same order; None for unknown values.

  The keys: `run`, settings that differ between runs, those of MEANINGS, `state` and `problem`.
  """
  settings, finished = differing(runs), [run for run in runs if run.state == 'finished']
  seeds, halves = grouped(finished, 'seed'), grouped(finished, *AGAIN)
  rows = []
  for run in runs:
    row: Row = (
      {RUN: run.name} | {COLUMNS.get(key, key): run.config.get(key) for key in settings} | dict.fromkeys(MEANINGS)
    )
    if run.state == 'finished':
      others = [other.parts for other in seeds[run.settings('seed')] if other is not run]
      counts = run.summary.get('counts', {})
      memory = run.summary.get('memory', {})
      row |= {
        'error': run.summary['relative_error'],
        'held_out': run.held_out,
        'seeds': sum(agreement(run.parts, other) for other in others) / len(others) if others else None,
        'halves': between_halves(halves[run.settings(*AGAIN)]),
        'zeros': zeros(run.parts),
        'overlap': overlap(run.parts),
        'iterations': counts.get('iterations'),
        'seconds': run.summary['seconds'].get('total'),
        'memory': _megabytes(memory.get('devices', memory.get('process'))),
      }
    rows.append(row | {STATE: run.state, 'problem': run.error or None})
  return rows


def _megabytes(count: int | None) -> int | None:
  return None if count is None else round(count / 1e6)


def ordered(rows: Sequence[Row], by: str | None) -> list[Row]:
  """Rows sorted by a column, ascending, or descending for '-column'; rows without a value come last.

  Raises:
    InputError: there is no such column.
  """
  if by is None or not rows:
    return [*rows]
  down, column = by.startswith('-'), by.removeprefix('-')
  if column not in rows[0]:
    raise InputError('sort', by, 'there is no such column', nearest(column, rows[0]))

  def rank(row: Row) -> tuple:
    value = row[column]
    return (1, value) if isinstance(value, int | float) else (2, str(value))

  known = [row for row in rows if row[column] is not None]
  return sorted(known, key=rank, reverse=down) + [row for row in rows if row[column] is None]


def shown(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
  """The columns that are not empty, and the cells as text for readers."""
  columns = [key for key in rows[0] if any(row[key] is not None for row in rows)]
  if {row[STATE] for row in rows} == {'finished'}:
    columns.remove(STATE)
  return columns, [[_cell(key, row[key]) for key in columns] for row in rows]


def _cell(key: str, value: Any) -> str:
  if value is None:
    return ''
  if key in DIGITS:
    return f'{value:.{DIGITS[key]}f}'
  return printable(str(value).lower() if isinstance(value, bool) else str(value))


def written(rows: Sequence[Row], form: str) -> str:
  """Rows as text in one of FORMATS, except 'table'. CSV and JSON have all columns and digits.

  Raises:
    InputError: there is no such format.
  """
  writers: dict[str, Callable[[Sequence[Row]], str]] = {'csv': _csv, 'json': _json, 'markdown': _markdown}
  if form not in writers:
    raise InputError('format', form, 'unknown', f'give one of {", ".join(FORMATS)}')
  return writers[form](rows)


def _csv(rows: Sequence[Row]) -> str:
  buffer = io.StringIO()
  writer = csv.DictWriter(buffer, rows[0], lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  return buffer.getvalue()


def _json(rows: Sequence[Row]) -> str:
  return json.dumps(rows, indent=2, allow_nan=False) + '\n'


def _markdown(rows: Sequence[Row]) -> str:
  columns, cells = shown(rows)
  right = [key not in (RUN, STATE, 'problem') for key in columns]
  lines = [columns, ['---:' if r else '---' for r in right], *([c.replace('|', '\\|') for c in row] for row in cells)]
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def print_table(rows: Sequence[Row]) -> None:
  """Prints a table that fits the terminal; in a file or pipe its width is not limited."""
  from rich import box
  from rich.console import Console
  from rich.table import Table
  from rich.text import Text

  console = Console(highlight=False)
  if not console.is_terminal:
    console = Console(highlight=False, width=10_000)
  columns, cells = shown(rows)
  table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
  for key in columns:
    words = key in (RUN, STATE, 'problem')
    table.add_column(key, justify='left' if words else 'right', overflow='fold', no_wrap=not words)
  for row in cells:
    table.add_row(*map(Text, row))
  console.print(table)
