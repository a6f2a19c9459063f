"""The examples in docstrings of what is public give what they show, after the lines that the site puts before them."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

from tests.test_site import DOCS, documented

# What takes long is shown, and run, on pages.
ON_PAGES = {
  'panda_jax.open_workdir': 'how-to/edit.md',
  'panda_jax.workdir.finished_fit.FinishedFit': 'how-to/edit.md',
  'panda_jax.editing.refine.Refined': 'how-to/edit.md',
  'panda_jax.invert': 'tutorials/your-photographs.md',
  'panda_jax.Inverter': 'tutorials/your-photographs.md',
  'panda_jax.Inversion': 'tutorials/your-photographs.md',
  'panda_jax.region_edit': 'how-to/region-edits.md',
  'panda_jax.RegionEdit': 'how-to/region-edits.md',
  'panda_jax.regions.region_edit.attribute_edit': 'how-to/region-edits.md',
  'panda_jax.catalog.find': 'how-to/catalog.md',
  'panda_jax.catalog.Found': 'how-to/catalog.md',
  'panda_jax.catalog.Settings': 'how-to/catalog.md',
  'panda_jax.catalog.catalog_into': 'how-to/catalog.md',
  'panda_jax.generators.protocol.Generator': 'how-to/own-generator.md',
  'panda_jax.generators.protocol.Mapped': 'how-to/own-generator.md',
  'panda_jax.generators.protocol.State': 'how-to/own-generator.md',
  'panda_jax.errors.Interrupted': 'reference/errors.md',
  'panda_jax.errors.Lost': 'reference/errors.md',
}


# Names of constants, files and texts that a reader of the site does not see; 'channels: C.', which Sphinx makes a list.
ELSEWHERE = re.compile(r'`[A-Z_]{4,}`|\bsee (the module|the protocol|there|above)\b|\w\.py\b|^ +\w+: (\w|\d+)[.)]$')


def found(name: str):
  module, _, attribute = name.rpartition('.')
  return getattr(importlib.import_module(module), attribute)


@pytest.fixture(scope='module')
def names():
  """What the page of the API defines before all examples."""
  (text,) = re.findall(
    r'^```python\n(.*?)^```$', (DOCS / 'reference/api/index.md').read_text(), re.MULTILINE | re.DOTALL
  )
  names: dict = {}
  exec(compile(text, 'index.md', 'exec'), names)
  return names


def members(thing):
  """What the site shows of it: itself and, of a class, its methods and properties."""
  public = {name: value for name, value in vars(thing).items() if name[0] != '_'} if inspect.isclass(thing) else {}
  return [thing, *(value for value in public.values() if callable(value) or isinstance(value, property | classmethod))]


@pytest.mark.parametrize('name', documented())
def test_words_can_be_understood_on_the_site(name):
  for member in members(found(name)):
    for line in (inspect.getdoc(member) or '').splitlines():
      assert not ELSEWHERE.search(line), line


@pytest.mark.parametrize('name', [name for name in documented() if name not in ON_PAGES])
def test_examples_give_what_they_show(name, names, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (test,) = doctest.DocTestFinder(recurse=False).find(found(name), name, module=False, globs=dict(names))
  assert test.examples
  told: list[str] = []
  doctest.DocTestRunner().run(test, out=told.append)
  assert not told, ''.join(told)


def test_what_has_no_example_is_on_a_page():
  assert set(ON_PAGES) <= set(documented())
  for page in set(ON_PAGES.values()):
    assert Path(DOCS / page).is_file()
