"""Commands as a user types them: in this process, which saves imports and compilation, or in their own process."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from panda_jax.commands import program

ROOT = Path(__file__).parents[2]
DOORS = {  # ways to start the program
  'run.py': ('run.py',),
  'panda_jax': ('-m', 'panda_jax'),
  'converters': ('-m', 'converters'),
  'app': ('-m', 'panda_jax.app'),
}


def call(*arguments) -> int:
  """Runs `run.py` in this process; returns its exit status."""
  argv = ['run.py', *map(str, arguments)]
  with mock.patch.object(sys, 'argv', argv):
    return program.main(argv)


def run(*arguments) -> subprocess.CompletedProcess:
  """Runs `call`; returns its output too."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    code = call(*arguments)
  return subprocess.CompletedProcess(['run.py', *arguments], code, out.getvalue(), err.getvalue())


def process(*arguments, door: str = 'run.py', cwd: Path = ROOT) -> subprocess.CompletedProcess:
  """Runs the program in its own process."""
  place = [str(ROOT / 'run.py')] if door == 'run.py' else DOORS[door]
  return subprocess.run(
    [sys.executable, *place, *map(str, arguments)],
    cwd=cwd,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=300,
  )
