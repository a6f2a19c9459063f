"""The list of `panda-jax convert --list`: a line for each dialect, from its own definition."""

import importlib
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from panda_jax.converters.dialects import FAMILIES, FORMATS

CONTAINERS = (
  "files of torch.save, zip and older; pickles of NVlabs' code; safetensors; told by content, in any precision, with "
  'the networks in dicts of dicts, or behind module., decoder., generator. and other words before each key'
)
RELEASED = (
  'random and self-trained networks; of released files none was at hand, but their sizes and layers were built and run'
)
WIDTH = 120


class Row(NamedTuple):
  """A line of the list."""

  family: str
  dialect: str
  files: str
  options: str
  exports: str
  checked: str


TITLES = Row('family', 'dialect', 'files', '--option', 'export', 'checked against')
WIDTHS = Row(11, 11, 29, 20, 11, 28)  # columns; with two blanks between them, WIDTH
OWN = Row('any', 'panda-jax', '.safetensors of panda-jax export', '', FORMATS[0], 'itself: the same bits')


def rows() -> Iterator[Row]:
  """The lines of the list, by family."""
  for family in FAMILIES:
    module = importlib.import_module(f'panda_jax.converters.dialects.{family}')
    for name, dialect in module.DIALECTS.items():
      exports = name if name in module.EXPORTS else ''
      yield Row(family, name, dialect.files, ', '.join(dialect.options), exports, dialect.checked)
  yield OWN


def lines() -> list[str]:
  """The list as text of at most `WIDTH` columns."""
  from panda_jax.converters.projects import PROJECTS

  text = [*_wrapped(TITLES), '-' * WIDTH]
  for row in rows():
    text += _wrapped(row)
  foreign = '; '.join(project.name for project in PROJECTS)
  paragraphs = (
    ('containers', CONTAINERS),
    ('checked', RELEASED),
    ('by name', f'refused, with what to do: {foreign}'),
  )
  for name, paragraph in paragraphs:
    text += ['', *textwrap.wrap(f'{name:<12}{paragraph}', WIDTH, subsequent_indent=' ' * 12, break_on_hyphens=False)]
  return text


def _wrapped(row: Row) -> list[str]:
  """A line of the list; texts that are too long for their column are wrapped."""
  columns = [textwrap.wrap(text, width) or [''] for text, width in zip(row, WIDTHS, strict=True)]
  height = max(map(len, columns))
  filled = [column + [''] * (height - len(column)) for column in columns]
  pieces = zip(*filled, strict=True)
  return ['  '.join(f'{part:<{width}}' for part, width in zip(line, WIDTHS, strict=True)).rstrip() for line in pieces]
