"""Imports between packages (`room` in names here) go one way, and each package's docstring says what is in it."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import panda_jax

ROOT = Path(panda_jax.__file__).parent
# From the lowest to the highest; a package imports only from packages before it.
ORDER = (
  'errors',
  'runtime',
  'files',
  'features',
  'solver',
  'generators',
  'converters',
  'editing',
  'regions',
  'inversion',
  'pictures',
  'rivals',
  'workdir',
  'catalog',
  'compare',
  'experiments',
  'commands',
  'app',
)
DOORS = {('commands', 'app')}  # `panda-jax app` starts the explorer
MOST_ARROWS = 89  # imports between packages; fewer is better


def room_of(path: Path) -> str:
  return path.relative_to(ROOT).parts[0].removesuffix('.py')


def modules() -> list[Path]:
  return [path for path in sorted(ROOT.rglob('*.py')) if path.parent != ROOT or not path.stem.startswith('__')]


def imported(path: Path) -> set[str]:
  """The packages that a module imports, also inside functions."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module == 'panda_jax':
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and (node.module or '').startswith('panda_jax.'):
      found.add(node.module.split('.')[1])
    elif isinstance(node, ast.Import):
      found |= {alias.name.split('.')[1] for alias in node.names if alias.name.startswith('panda_jax.')}
  return found & {*ORDER}


def arrows() -> dict[tuple[str, str], list[str]]:
  """{(package, package that it imports): modules with this import}."""
  found = defaultdict(list)
  for path in modules():
    for other in imported(path) - {room_of(path)}:
      found[room_of(path), other].append(str(path.relative_to(ROOT)))
  return found


def test_every_module_is_in_a_room():
  assert {room_of(path) for path in modules()} == {*ORDER}


def test_no_import_goes_up():
  up = {(a, b): files for (a, b), files in arrows().items() if ORDER.index(b) > ORDER.index(a)}
  assert set(up) <= DOORS, up


def test_there_are_few_arrows():
  assert len(arrows()) <= MOST_ARROWS


def test_modules_inside_a_room_do_not_import_each_other_in_a_circle():
  def name(path):
    return '.'.join(path.relative_to(ROOT.parent).with_suffix('').parts).removesuffix('.__init__')

  names = {name(path): path for path in modules()}
  needs = {}
  for here, path in names.items():
    # Only imports at the top of a module count: those in functions run later.
    top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom) and node.module]
    found = {(node.module, f'{node.module}.{alias.name}') for node in top for alias in node.names}
    found = {module if module in names else package for package, module in found}
    needs[here] = {other for other in found if other in names and other != here}
  while needs:
    free = {here for here, others in needs.items() if not others & {*needs}}
    assert free, f'a circle among {sorted(needs)}'
    needs = {here: others for here, others in needs.items() if here not in free}


@pytest.mark.parametrize('room', [room for room in ORDER if (ROOT / room).is_dir()])
def test_a_package_says_what_is_in_it(room):
  said = ast.get_docstring(ast.parse((ROOT / room / '__init__.py').read_text()))
  assert said
  assert len(said.split()) > 15
