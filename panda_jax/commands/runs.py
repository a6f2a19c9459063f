"""`runs`: all runs below folders as a table, and on a page with curves, parts side by side and a recommendation."""

import sys
from pathlib import Path

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.errors import printable

ARGUMENTS = 'DIR ...'
EXAMPLES = ('runs DIR --sort=held_out', 'runs DIR1 DIR2 --format=csv --nopage')


def define(values: flags.FlagValues) -> None:
  from panda_jax.experiments import FORMATS

  given = {'flag_values': values, 'module_name': 'table'}
  flags.DEFINE_enum('format', 'table', FORMATS, 'Format of the table on stdout.', **given)
  flags.DEFINE_string(
    'sort', None, 'Column to sort by, such as held_out or parts; -COLUMN for the largest first.', **given
  )
  flags.DEFINE_bool(
    'page',
    True,
    'Also write runs.html into the first folder; --nopage leaves it out.',
    **given | {'module_name': shared.FOLDERS},
  )


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.experiments import page, recommendation, runs, table

  found = runs.found(call.words)
  rows = table.ordered(table.rows_of(found), options.sort)
  if options.format == 'table':
    table.print_table(rows)
  else:
    sys.stdout.write(table.written(rows, options.format))
  for words in recommendation.sentences(found):
    print(printable(words), file=sys.stdout if options.format == 'table' else sys.stderr)
  if options.page:
    path = page.write_page(Path(call.words[0]), found, rows)
    print(printable(str(path)), file=sys.stderr)
