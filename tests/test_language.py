"""Pages, help and errors do not use phrases that readers stumbled over."""

import ast
import re
from collections.abc import Iterator

import pytest
from absl import flags

from panda_jax.commands import program
from tests.documents import FENCE, ROOT, documents

STUMBLING = {
  r'(?<!here )\b(is|are) no (?!longer\b|such\b|more\b|less\b)': "say 'is not a'",
  r'\bsuch (a )?one\b': 'name the thing',
  r'\bfrom \S+ on\b(?! the)': "say '1 or more'",
  r'\bgive how many\b': 'say which number',
  r'\b(say|tell)s? (it )?itself\b': 'say what says it',
  r'\b(do|does) not tell\b': "say 'show' or 'contain'",
  r'\banew\b': "say 'again'",
  r'\bat hand\b': "say 'available'",
}


def errors() -> Iterator[tuple[str, str]]:
  """(place, texts) of every error in the package, without the values that are filled in."""
  for path in (ROOT / 'panda_jax').rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in ('InputError', 'NonFiniteError', 'refusal'):
        texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        yield f'{path.relative_to(ROOT)}:{node.lineno}', ' | '.join(texts)


def help_lines() -> Iterator[tuple[str, str]]:
  for name in program.COMMANDS:
    module = program.module_of(name)
    values = program.define(module, flags.FlagValues())
    yield from ((f'{name} --{flag}', ' '.join(values[flag].help.split())) for flag in values)


def pages() -> Iterator[tuple[str, str]]:
  """The pages that people wrote, without records of runs and the history of versions."""
  for path in documents():
    name = str(path.relative_to(ROOT))
    if path.suffix == '.md' and not name.startswith(('CHANGELOG', 'benchmarks/results', 'panda_jax/assets')):
      yield name, ' '.join(FENCE.sub('', path.read_text()).split())


@pytest.mark.parametrize('texts', [pages, help_lines, errors])
def test_no_reader_stumbles(texts):
  found = [
    f'{place}: {text[max(0, hit.start() - 30) : hit.end() + 30]!r}: {instead}'
    for place, text in texts()
    for phrase, instead in STUMBLING.items()
    for hit in re.finditer(phrase, text)
  ]
  assert not found, '\n'.join(found)
