"""The examples in public docstrings give the output that they show, after the first lines on the site's page."""

import doctest
import importlib
import inspect
import re

import pytest

from tests.test_site import DOCS, documented

# Names without an example, and the reason.
WITHOUT_EXAMPLE = {
  'panda_jax.errors.Interrupted': 'a signal raises it',
  'panda_jax.errors.Lost': 'another process that ended raises it',
  'panda_jax.Compiled.over': 'it takes several devices',
}
HIDDEN = {'tree_flatten_with_keys', 'tree_unflatten'}  # on the site, see docs/conf.py


# Constants and files that a reader of the site does not see, and 'channels: C.', which Sphinx turns into a list.
ELSEWHERE = re.compile(r'`[A-Z_]{4,}`|\bsee (the module|the protocol|there|above)\b|\w\.py\b|^ +\w+: (\w|\d+)[.)]$')


def found(name: str):
  module, _, attribute = name.rpartition('.')
  return getattr(importlib.import_module(module), attribute)


@pytest.fixture(scope='module')
def names():
  """The names that the page of the API defines before all examples."""
  (text,) = re.findall(
    r'^```python\n(.*?)^```$', (DOCS / 'reference/api/index.md').read_text(), re.MULTILINE | re.DOTALL
  )
  names: dict = {}
  exec(compile(text, 'index.md', 'exec'), names)
  return names


def own_members(thing) -> list[str]:
  """A class's own documented methods and properties, as the site shows them."""
  return [
    name
    for name, value in vars(thing).items()
    if name[0] != '_' and value.__doc__ and name not in HIDDEN
    if callable(value) or isinstance(value, property | classmethod)
  ]


def members(thing):
  """The objects that the site documents: the thing itself and, for a class, its methods and properties."""
  return [thing, *(vars(thing)[name] for name in (own_members(thing) if inspect.isclass(thing) else ()))]


@pytest.mark.parametrize('name', documented())
def test_words_can_be_understood_on_the_site(name):
  for member in members(found(name)):
    for line in (inspect.getdoc(member) or '').splitlines():
      assert not ELSEWHERE.search(line), line


def examples(text: str | None) -> str:
  return '\n'.join(example.source for example in doctest.DocTestParser().get_examples(inspect.cleandoc(text or '')))


@pytest.mark.parametrize('name', [name for name in documented() if name not in WITHOUT_EXAMPLE])
def test_examples_give_what_they_show(name, names, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (test,) = doctest.DocTestFinder(recurse=False).find(found(name), name, module=False, globs=dict(names))
  assert test.examples
  told: list[str] = []
  doctest.DocTestRunner().run(test, out=told.append)
  assert not told, ''.join(told)


@pytest.mark.parametrize('name', [name for name in documented() if inspect.isclass(found(name))])
def test_a_class_shows_its_methods_in_use(name):
  """Its own methods only; inherited ones are shown at the base class."""
  thing = found(name)
  shown = examples(thing.__doc__)
  for member in own_members(thing):
    if f'{name}.{member}' not in WITHOUT_EXAMPLE:
      assert re.search(rf'\.{member}\b', shown), member


def test_what_has_no_example_is_public():
  public = {*documented()}
  for name in documented():
    if inspect.isclass(found(name)):
      public |= {f'{name}.{member}' for member in own_members(found(name))}
  assert {*WITHOUT_EXAMPLE} <= public
