"""A Sphinx extension: pages get what code says, docstrings are text, formulas are MathML, commands wrap between words.

A line `{{ command edit }}` of a page stands for what `code_listings.command('edit')` gives.
"""

import operator
import re
import sys
from typing import ClassVar

import code_listings
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from pygments.lexer import RegexLexer
from pygments.token import Comment, Name, Whitespace
from sphinx.application import Sphinx

LISTING = re.compile(r'^\{\{ (\w+) (\w+) \}\}$', re.MULTILINE)
QUOTED = re.compile(r'(``.+?``|`[^`]+`)')
CONSTANT = re.compile(r'=((?:\w+\.)*[A-Z][A-Z_]+)\b')
MARKS = re.compile(r'[*|\\]|(?<=\w)_(?!\w)')  # what would begin or end something else than text


class CommandLexer(RegexLexer):
  """A command, each word an element of its own: browsers also break lines after hyphens, and flags begin with two."""

  name = 'Command'
  tokens: ClassVar = {'root': [(r'\s+', Whitespace), (r'(?<!\S)#.*', Comment), (r'\S+', Name)]}


def listings(app: Sphinx, page: str, source: list[str]) -> None:
  source[0] = LISTING.sub(lambda found: getattr(code_listings, found[1])(found[2]), source[0])


def plain_docstring(app, what, name, thing, options, lines: list[str]) -> None:
  """Docstrings are text with `code` in it, and examples; nothing else in them is markup."""
  example = False
  for i, line in enumerate(lines):
    example = bool(line.strip()) and (example or line.lstrip().startswith('>>> '))
    if example:
      continue
    pieces = QUOTED.split(line)
    pieces[::2] = [MARKS.sub(lambda found: f'\\{found[0]}', piece) for piece in pieces[::2]]
    lines[i] = ''.join(pieces)


def values_of_constants(app, what, name, thing, options, signature: str | None, returned: str | None):
  """Signatures show what a constant of the code stands for."""
  if signature is None:
    return None
  module = sys.modules[thing.__module__]
  return CONSTANT.sub(lambda found: f'={operator.attrgetter(found[1])(module)!r}', signature), returned


def field_colons(app: Sphinx, doctree: nodes.document) -> None:
  """Sphinx puts two hyphens between an argument and what is said of it; docstrings have a colon there."""
  for text in [*doctree.findall(nodes.Text)]:
    if text.startswith(' -- '):
      text.parent.replace(text, nodes.Text(f': {text[4:]}'))


def inline_formula(translator, node: nodes.math) -> None:
  translator.body.append(tex2mathml(node.astext()))
  raise nodes.SkipNode


def block_formula(translator, node: nodes.math_block) -> None:
  translator.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
  raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
  app.add_lexer('command', CommandLexer)
  app.connect('source-read', listings)
  app.connect('autodoc-process-docstring', plain_docstring, priority=100)  # before napoleon
  app.connect('autodoc-process-signature', values_of_constants)
  app.connect('doctree-read', field_colons)
  app.add_html_math_renderer('mathml', (inline_formula, None), (block_formula, None))
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
