"""Folders that are written atomically: killed at every step, with and without an earlier folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from panda_jax.files import swaps

ROOT = Path(__file__).parents[2]

# Every function through which the writer passes; a kill comes before or after each. Children of a process that has
# never computed anything are forked: a new process each would take a second.
DRIVER = """
import json, os, shutil, signal, sys
from pathlib import Path
from panda_jax.files import swaps

def dying(function, before):
  def changed(*arguments, **named):
    if before:
      os.kill(os.getpid(), signal.SIGKILL)
    result = function(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
    return result
  return changed

def write(folder):
  with swaps.appearing(folder, replace=True) as partial:
    (partial / 'a').write_text('new')
    (partial / 'sub').mkdir()
    (partial / 'sub' / 'b').write_text('new')

def contents(folder):
  return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob('*') if path.is_file()}

found = {}
place = Path(sys.argv[1])
for name in ('mkdir', 'clear_leftovers', '_made', '_flush', '_flush_one', '_put', '_exchange', 'rename', 'rmtree'):
  for before in (True, False):
    for there in (True, False):
      for exchange in (True, False):
        folder = place / 'folder'
        if there:
          folder.mkdir()
          (folder / 'old').write_text('old')
        child = os.fork()
        if child == 0:
          if not exchange:
            swaps._exchange = lambda first, second: False
          holder = {'mkdir': Path, 'rename': os, 'rmtree': shutil}.get(name, swaps)
          setattr(holder, name, dying(getattr(holder, name), before))
          write(folder)
          os._exit(0)
        _, status = os.waitpid(child, 0)
        case = {'killed': os.WIFSIGNALED(status), 'after': contents(folder) if folder.exists() else None}
        swaps.clear_leftovers(folder)
        case['cleared'] = contents(folder) if folder.exists() else None
        case['left'] = [path.name for path in place.iterdir()]
        write(folder)
        case['again'] = contents(folder)
        case['names'] = [path.name for path in place.iterdir()]
        shutil.rmtree(folder)
        found[f'{name} {before} {there} {exchange}'] = case
print(json.dumps(found))
"""

NEW, OLD = {'a': 'new', 'sub/b': 'new'}, {'old': 'old'}


def test_killed_at_every_step(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', DRIVER, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert sum(case['killed'] for case in found.values()) > 50
  for name, case in found.items():
    _, _, there, exchange = name.split()
    before = OLD if there == 'True' else None
    allowed = (before, NEW) if exchange == 'True' else (before, NEW, None)
    assert case['after'] in allowed, name
    assert case['cleared'] in (before, NEW), name
    assert case['left'] in ([], ['folder']), name
    assert case['again'] == NEW, name
    assert case['names'] == ['folder'], name


def write_and_fail(folder):
  with swaps.appearing(folder, replace=False) as partial:
    (partial / 'file').write_text('x')
    raise KeyError


def test_an_exception_changes_nothing(tmp_path):
  with pytest.raises(KeyError):
    write_and_fail(tmp_path / 'new')
  assert os.listdir(tmp_path) == []


def test_the_leftover_of_a_living_run_is_left_alone(tmp_path):
  with swaps.appearing(tmp_path / 'new', replace=False) as partial:
    swaps.clear_leftovers(tmp_path / 'new')
    assert partial.exists()
    with swaps.appearing(tmp_path / 'new', replace=False) as other:
      (other / 'file').write_text('other')
    assert partial.exists()
    (partial / 'file').write_text('first')
    (tmp_path / 'new' / 'file').unlink()  # an empty folder can be renamed onto
  assert (tmp_path / 'new' / 'file').read_text() == 'first'


def write_while_another_does(folder):
  with swaps.appearing(folder, replace=False) as partial:
    (partial / 'file').write_text('mine')
    folder.mkdir()
    (folder / 'file').write_text('theirs')


def test_what_came_in_between_is_not_replaced(tmp_path):
  with pytest.raises(OSError, match='not empty'):
    write_while_another_does(tmp_path / 'new')
  assert (tmp_path / 'new' / 'file').read_text() == 'theirs'
  assert os.listdir(tmp_path) == ['new']


def test_rights_are_those_of_a_new_folder(tmp_path):
  with swaps.appearing(tmp_path / 'new', replace=False):
    (tmp_path / 'plain').mkdir()
  assert (tmp_path / 'new').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_a_link_is_followed(tmp_path):
  (tmp_path / 'real').mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'real')
  with swaps.appearing(tmp_path / 'link', replace=True) as partial:
    (partial / 'file').write_text('x')
  assert (tmp_path / 'link').is_symlink()
  assert (tmp_path / 'real' / 'file').exists()
