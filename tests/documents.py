"""Commands and snippets of Python in the text of documents."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r'^```(\S*)[^\n]*\n(.*?)^```$', re.MULTILINE | re.DOTALL)
INLINE = re.compile(r'`([^`]+)`')
DOORS = (  # ways to start the program, and the one name used below
  (re.compile(r'(?:python )?run\.py (?=[\w-])|python -m panda_jax (?=[\w-])'), 'panda-jax '),
  (re.compile(r'python -m converters (?=\S)'), 'panda-jax convert '),
  (re.compile(r'python -m panda_jax\.app (?=\S)'), 'panda-jax app '),
)
TYPED = re.compile(r'(?:[A-Z_]+=\S+ )*(?:python|panda-jax|make|pip|bash|srun|pytest|run\.py) (?=\S)')


class Piece(NamedTuple):
  document: str  # its path below the root
  kind: str  # 'command', 'python', or the language of another fence
  text: str


def pages() -> list[Path]:
  """The Markdown of the site, without the build folder: a build may run at the same time."""
  given = [path for path in (ROOT / 'docs').iterdir() if path.name != '_build']
  return sorted(path for top in given for path in (top, *top.rglob('*.md')) if path.suffix == '.md')


def documents() -> list[Path]:
  """Markdown for readers, and the configurations, whose docstrings have commands."""
  found = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *pages(), *ROOT.glob('examples/*/README.md')]
  found += [*ROOT.glob('panda_jax/assets/*.md'), *ROOT.glob('configs/*.py'), *ROOT.glob('examples/*/configs/*.py')]
  return sorted(found)


def pieces() -> Iterator[Piece]:
  for path in documents():
    name, text = str(path.relative_to(ROOT)), path.read_text()
    if path.suffix == '.py':
      lines = (ast.get_docstring(ast.parse(text)) or '').splitlines()
      yield from (Piece(name, 'command', plain(line)) for line in lines if TYPED.match(line))
      continue
    for language, body in FENCE.findall(text):
      if language in ('', 'sh'):
        yield from (Piece(name, 'command', line) for line in commands(body))
      elif not language.startswith('{'):  # a directive of Sphinx
        yield Piece(name, language, body)
    for code in INLINE.findall(FENCE.sub('', text)):
      if TYPED.match(' '.join(code.split())):
        yield Piece(name, 'command', plain(code))


def commands(body: str) -> list[str]:
  """The commands of a fence, without comments; none if it has other text."""
  lines = [plain(line) for line in body.replace('\\\n', ' ').splitlines()]
  return [line for line in lines if TYPED.match(line)]


def plain(line: str) -> str:
  """A command with single spaces, without comments and without figures that follow three spaces or more."""
  line = re.split(r'\s#|\s{3,}(?=[a-z0-9]+(?: [a-z]+| s\b))', line.strip())[0]
  line = ' '.join(line.split())
  for door, name in DOORS:
    line = door.sub(name, line)
  return line
