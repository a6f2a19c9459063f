"""The names that can be imported from `panda_jax`, and how results and progress are shown."""

import ast
import importlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import panda_jax
from panda_jax.experiments.sweep import Watch
from panda_jax.runtime import notebook
from panda_jax.runtime.progress import Progress, narrated
from tests import planted

PACKAGE = Path(panda_jax.__file__).parent
Z = planted.structured(23, (3, 4), 5)


@pytest.fixture(scope='module')
def result():
  return panda_jax.fit(Z, parts=3)


@pytest.mark.parametrize('name', panda_jax.__all__)
def test_every_public_name_is_there_and_is_no_submodule(name):
  found = getattr(panda_jax, name)
  assert isinstance(found, str) if name == '__version__' else callable(found)
  assert name in dir(panda_jax)
  assert not (PACKAGE / name).exists()
  assert not (PACKAGE / f'{name}.py').exists()


def test_type_checkers_see_every_public_name_in_its_place():
  body = ast.parse((PACKAGE / '__init__.py').read_text()).body
  (block,) = (node.body for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING')
  imports = [node for node in block if isinstance(node, ast.ImportFrom)]
  places = {alias.name: f'{node.module}:{alias.name}' for node in imports for alias in node.names}
  for node in block:
    if isinstance(node, ast.Assign):
      places[ast.unparse(node.targets[0])] = places.pop(ast.unparse(node.value))
  wanted = {name: f'panda_jax.{place}' for name, place in panda_jax._PLACES.items()}
  assert places == {name: place if ':' in place else f'{place}:{name}' for name, place in wanted.items()}
  assert (PACKAGE / 'py.typed').is_file()


def test_names_stay_what_they_are_when_submodules_are_imported():
  for path in PACKAGE.rglob('*.py'):
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    if not {'app', 'commands', '__main__'} & {*parts}:
      importlib.import_module('.'.join(['panda_jax', *(part for part in parts if part != '__init__')]))
  for name in panda_jax.__all__:
    assert not isinstance(getattr(panda_jax, name), types.ModuleType)


def test_importing_the_package_imports_nothing_heavy():
  script = "import sys, panda_jax; panda_jax.__version__; print({'jax', 'numpy', 'flax'} & {*sys.modules})"
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == 'set()'
  with pytest.raises(AttributeError, match=r'no attribute .nothing.'):
    panda_jax.nothing  # noqa: B018


def test_saliency_is_of_coordinates(result):
  assert panda_jax.saliency(Z, result.factors, 0).shape == (23, 3, 4, 1)


@pytest.mark.parametrize('center', ['none', 'position', 'channel'])
def test_the_error_of_a_fit_is_that_of_its_factors(center):
  result = panda_jax.fit(Z, parts=2, center=center)
  assert result.factors.relative_error(Z) == pytest.approx(result.relative_error, rel=2e-6)


def test_a_result_says_in_a_few_lines_what_it_is(result):
  text = repr(result)
  first, second, third, *notes = text.splitlines()
  assert first.startswith(f'FitResult: relative error {result.relative_error:.5f}, {result.reason}, ')
  assert second == '  Factors: parts 12 x 3 on a grid of 3 x 4, appearances 5 x 5'
  assert third == '  from array, 23 samples'
  assert len(notes) == len(result.warnings)
  assert len(text) < 1000
  html = result._repr_html_()
  assert html.count('data:image/png;base64') == 3
  assert f'part 0 · {100 * result.part_energy[0]:.1f} %' in html


class Shell:
  kernel = object()


class Handle:
  def __init__(self, said):
    self.said = said

  def update(self, data, raw):
    self.said[-1] = data['text/plain']


@pytest.fixture
def cell(monkeypatch):
  """The output of a notebook's cell: a line for each display."""
  said = []

  def display(data, raw, display_id):
    said.append(data['text/plain'])
    return Handle(said)

  fake = types.SimpleNamespace(get_ipython=Shell, display=types.SimpleNamespace(display=display))
  monkeypatch.setitem(sys.modules, 'IPython', fake)
  return said


def test_a_notebook_shows_progress_by_itself(cell):
  assert notebook.running()
  result = panda_jax.fit(Z, parts=2)
  assert len(cell) == 1
  assert cell[0].startswith(f'relative error {result.relative_error:.5f} ({result.reason}), ')
  panda_jax.fit(Z, parts=2, progress=False)
  assert len(cell) == 1


def test_a_line_of_a_notebook_changes_in_place(cell, monkeypatch):
  monkeypatch.setattr('panda_jax.runtime.progress.NOTEBOOK_SECONDS', 0)
  with Progress(10) as bar:
    bar.compiling('solve')
    assert cell == ['compiling (solve)']
    bar.samples_done('scan', 5)
    assert cell == ['pass "scan": 5 of 10 samples']
    bar.say('done')
    bar.now('more')
  assert cell == ['done', 'more']


def test_silence_is_broken_without_a_terminal(monkeypatch, capsys):
  monkeypatch.setattr('panda_jax.runtime.progress.SILENT_SECONDS', 0.01)
  for name in ('', 'parts=2: '):
    said, expected = '', f' s: {name}compiling (solve)'
    with Progress() as bar:
      (Watch('parts=2', bar.now) if name else bar).compiling('solve')
      while f'{expected}\n' not in said:  # until the line appears
        said += capsys.readouterr().err
    assert re.match(r'still at work after \d+ s', said)
  with Progress(show=False):
    time.sleep(0.05)
  assert capsys.readouterr() == ('', '')


def test_a_script_shows_progress_where_asked_to(monkeypatch, capsys):
  assert not notebook.running()
  panda_jax.fit(Z, parts=2)
  assert capsys.readouterr() == ('', '')
  result = panda_jax.fit(Z, parts=2, progress=True)
  assert capsys.readouterr().err.startswith(f'relative error {result.relative_error:.5f}')
  monkeypatch.setattr('panda_jax.runtime.progress.PLAIN_SECONDS', 0)
  panda_jax.fit(Z[:, :, :3], parts=2, progress=True)  # of another shape
  said = capsys.readouterr().err
  assert 'compiling (moments)' in said
  assert 'pass "scan": 23 of 23 samples' in said
  assert 'relative error' in said


def test_long_calls_tell_those_who_listen_and_those_who_look(cell, monkeypatch):
  monkeypatch.setattr('panda_jax.runtime.progress.NOTEBOOK_SECONDS', 0)
  heard = []
  with narrated(None, heard.append) as tell:
    tell('one')
  assert (heard, cell) == (['one'], [])
  with narrated(True, heard.append) as tell:
    tell('two')
  assert (heard, cell) == (['one', 'two'], ['two'])
  with narrated(None) as tell:
    tell('three')
  assert cell == ['two', 'three']
  with narrated(False) as tell:
    tell('four')
  assert cell == ['two', 'three']
  with pytest.raises(panda_jax.InputError, match='progress=1: it is neither true nor false'), narrated(1):
    pass


def test_a_png_is_one():
  pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
  with Image.open(io.BytesIO(notebook.png(pixels))) as picture:
    np.testing.assert_array_equal(np.asarray(picture), pixels)
  assert notebook.heat(np.zeros((2, 3))).min() == 255
  assert max(notebook.heat(np.ones((3000, 2))).shape) <= 4 * notebook.SIDE


@pytest.mark.slow
def test_float64_switched_on_changes_nothing():
  script = """
import jax, numpy as np, panda_jax
generator = panda_jax.load_generator('cats64')
z, _ = generator.sample(jax.random.key(0), 2)
latents = generator.map(z, truncation=0.7)
features = np.asarray(generator.run_to(latents, 5).features)
factors = panda_jax.fit(features, 3, max_iterations=3, restarts=4).factors
editor = panda_jax.Editor(generator, 5)
edited = editor.images(latents, panda_jax.make_edit(factors, 1, 2, [-1, 2.0])).edited
refined = panda_jax.refine(features, factors, 0.03, steps=5).parts
arrays = z, features, factors.appearances, factors.parts, edited, refined
np.savez(OUT, *map(np.asarray, arrays))
"""
  found = [_run(script), _run(script, in_float64=True)]
  for one, two in zip(*found, strict=True):
    assert one.dtype == two.dtype == np.float32
    np.testing.assert_allclose(two, one, atol=1e-5 * np.abs(one).max())


def _run(script: str, in_float64: bool = False) -> list[np.ndarray]:
  """The arrays that a script writes to OUT: in this process, or in its own process with x64 on from the start."""
  with tempfile.TemporaryDirectory() as folder:
    text = f'OUT = {folder + "/out.npz"!r}\n{script}'
    if in_float64:
      subprocess.run([sys.executable, '-c', text], env=os.environ | {'JAX_ENABLE_X64': '1'}, check=True)
    else:
      exec(text, {})
    with np.load(f'{folder}/out.npz') as arrays:
      return [arrays[name] for name in arrays.files]
