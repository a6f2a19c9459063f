"""The pages of the documentation name everything public, and every link and anchor in them has a target."""

import ast
import importlib.util
import json
import re
from functools import cache
from pathlib import Path

import pytest
from absl import flags

import panda_jax
from panda_jax import catalog, errors, pictures
from panda_jax.commands import program
from panda_jax.generators.registry import FAMILIES
from tests.documents import FENCE, ROOT, documents, pages

DOCS = ROOT / 'docs'
LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(<?([^)>\s]+)>?\)')
HEADING = re.compile(r'^(#{1,4}) (.+)$', re.MULTILINE)
INCLUDED = re.compile(r'^```\{include\} (\S+)$', re.MULTILINE)
DIRECTIVE = re.compile(r'^\.\. auto(?:class|function):: (\S+)$', re.MULTILINE)


def listings():
  """docs/_ext/code_listings.py, from which Sphinx makes parts of pages."""
  spec = importlib.util.spec_from_file_location('code_listings', DOCS / '_ext' / 'code_listings.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


LISTINGS = listings()


@cache
def text_of(path: Path) -> str:
  """The Markdown of a page without its code; for a notebook, the Markdown of its cells."""
  if path.suffix == '.ipynb':
    cells = json.loads(path.read_text())['cells']
    return '\n\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown')
  text = path.read_text()
  for included in INCLUDED.findall(text):
    text += (path.parent / included).read_text()
  text = re.sub(r'^\{\{ (\w+) (\w+) \}\}$', lambda found: listed(found[1], found[2]), text, flags=re.MULTILINE)
  return FENCE.sub('', text)


@cache
def listed(kind: str, name: str) -> str:
  return '' if kind == 'layers' else getattr(LISTINGS, kind)(name)  # layers have no links and take seconds


def anchors(path: Path) -> set[str]:
  """The anchors of a page's headings, as MyST and GitHub make them."""
  titles = (title.replace('`', '').strip().lower() for _, title in HEADING.findall(text_of(path)))
  return {re.sub(r'[^\w\- ]', '', title).replace(' ', '-') for title in titles}


LINKING = [*(path for path in documents() if path.suffix == '.md'), *DOCS.glob('tutorials/*.ipynb')]


@pytest.mark.parametrize('path', LINKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
  for _, _, target in LINK.findall(text_of(path)):
    if re.match(r'https?://', target):
      continue
    name, _, anchor = target.partition('#')
    folder = DOCS if name.startswith('/') else path.parent
    there = (folder / name.lstrip('/')).resolve() if name else path
    assert there.exists(), target
    assert ROOT in there.parents, target
    if anchor:
      assert anchor in anchors(there), target


def test_pictures_say_what_they_show():
  shown = [(text, target) for path in LINKING for mark, text, target in LINK.findall(text_of(path)) if mark]
  assert len(shown) >= 5
  for text, target in shown:
    assert len(text.split()) >= 4, target


def documented() -> list[str]:
  return [name for path in DOCS.glob('reference/**/*.md') for name in DIRECTIVE.findall(path.read_text())]


def test_every_public_name_is_on_one_page():
  names = documented()
  assert len(names) == len(set(names))
  wanted = {f'panda_jax.{name}' for name in panda_jax.__all__ if name != '__version__'}
  wanted |= {f'{module.__name__}.{name}' for module in (pictures, catalog) for name in module.__all__}
  assert wanted <= set(names)


@pytest.mark.parametrize('name', documented())
def test_what_is_documented_is_there_and_says_what_it_is(name):
  module, _, attribute = name.rpartition('.')
  found = getattr(importlib.import_module(module), attribute)
  assert (found.__doc__ or '').strip()


def test_what_pages_import_is_documented():
  """All names of the package; with them, a reader types no private name."""
  configurations = {f'panda_jax.{name}.default_config' for name in ('workdir.config', 'compare.settings')}
  names = set(documented()) | configurations | {'panda_jax.pictures', 'panda_jax.catalog'}
  for path in pages():
    for module, imported in re.findall(r'^from (panda_jax[\w.]*) import (.+)$', path.read_text(), re.MULTILINE):
      for name in imported.split(', '):
        assert f'{module}.{name}' in names, path


def test_every_error_is_on_the_page_of_errors():
  page = (DOCS / 'reference' / 'errors.md').read_text()
  for name, found in vars(errors).items():
    if isinstance(found, type) and issubclass(found, BaseException):
      assert re.search(rf'autoclass:: panda_jax\.(errors\.)?{name}$', page, re.MULTILINE), name


@pytest.mark.parametrize('name', program.COMMANDS)
def test_a_command_has_a_page_with_all_its_flags(name):
  page = (DOCS / 'reference' / 'commands' / f'{name}.md').read_text()
  assert page.startswith(f'# {name}\n\n{{{{ command {name} }}}}\n')
  text = LISTINGS.command(name)
  module = program.module_of(name)
  for flag in program.define(module, flags.FlagValues()):
    assert re.search(rf'^:::\{{option\}} --{flag}(=.+)?$', text, re.MULTILINE), flag
  for example in module.EXAMPLES:
    assert f'panda-jax {example}\n' in text


@pytest.mark.parametrize('name', [*LISTINGS.CONFIGURED])
def test_every_key_of_a_configuration_is_on_its_page(name):
  assert f'{{{{ configuration {name} }}}}\n' in (DOCS / 'reference' / 'configuration.md').read_text()
  text = LISTINGS.configuration(name)
  for key in importlib.import_module(LISTINGS.CONFIGURED[name]).KEYS:
    assert f':::{{option}} --config.{key}=VALUE\n' in text


def test_commands_that_take_a_configuration_have_their_keys_on_the_site():
  taking = {name for name in program.COMMANDS if hasattr(program.module_of(name), 'KEYS')}
  assert taking - {'sweep'} == {*LISTINGS.CONFIGURED}  # a sweep has the options of fits


@pytest.mark.parametrize('name', FAMILIES)
def test_the_layers_of_a_family_come_from_its_networks(name):
  page = (DOCS / 'families' / f'{name}.md').read_text()
  assert (f'{{{{ layers {name} }}}}\n' in page) == (name != 'fastgan')  # its published sizes are not available


def test_layers_are_told_by_grid():
  text = LISTINGS.layers('progan')
  assert '| 16 x 16 | 5 | 512 |\n' in text


def test_the_readme_is_short():
  assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


WRITING = (
  'editing',
  'catalog',
  'compare',
  'experiments',
  'app',
  'workdir',
  'inversion',
  'generators',
  'converters',
)
FILE = re.compile(r'[a-z_]+\.(npy|npz|json|jsonl|png|gif|html|md)')


def files_named() -> set[str]:
  """Names of files in the packages that write what users find."""
  found = set()
  for room in WRITING:
    for path in (ROOT / 'panda_jax' / room).rglob('*.py'):
      found |= {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
  return {name for name in found if isinstance(name, str) and FILE.fullmatch(name)}


def test_every_file_that_is_written_is_on_the_site():
  reference = '\n'.join(path.read_text() for path in DOCS.glob('reference/**/*.md'))
  missing = {name for name in files_named() if f'`{name}`' not in reference}
  assert missing == {'mask.png', 'index.html'}  # the explorer's name for a mask from its page, and the page itself


def test_citations_are_of_this_version():
  assert f'\nversion: {panda_jax.__version__}\n' in (ROOT / 'CITATION.cff').read_text()
  assert f'version = {{{panda_jax.__version__}}}' in (DOCS / 'citing.md').read_text()
