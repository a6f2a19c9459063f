"""The examples in docstrings of what is public give what they show, after the lines that the site puts before them."""

import doctest
import importlib
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
