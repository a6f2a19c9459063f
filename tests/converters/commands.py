"""The command `python -m converters` in its own process; it can be stopped at a chosen moment."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / 'tests' / 'data'
SOURCE = DATA / 'stylegan2_rosinality' / 'checkpoint.pt'


def convert(*arguments, cwd=None) -> subprocess.CompletedProcess:
  """Runs the command, by default in the repository; elsewhere the repository is on the path."""
  return subprocess.run(
    [sys.executable, '-m', 'converters', *map(str, arguments)],
    cwd=cwd or ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=300,
  )


def one_line(done: subprocess.CompletedProcess) -> str:
  """The message of a command after a user's mistake: one line on stderr, status 2, nothing else."""
  assert done.returncode == 2, done.stderr
  assert done.stdout == ''
  assert done.stderr.startswith('error: ')
  assert done.stderr.count('\n') == 1
  assert done.stderr.strip().isprintable()
  return done.stderr.strip()


def broken_off(step: str, number: str, *arguments) -> subprocess.CompletedProcess:
  """Runs the command, and sends it the signal of this name after a step: one of the functions `read`, `assemble` and
  `save_generator` in the conversion, or `_flush` of the folder that it writes."""
  program = f"""
import os, signal, sys
from panda_jax.commands import program
from panda_jax.converters import conversion
from panda_jax.files import swaps

holder = conversion if hasattr(conversion, {step!r}) else swaps
function = getattr(holder, {step!r})

def changed(*arguments, **named):
  result = None if {step!r} == 'save_generator' else function(*arguments, **named)
  os.kill(os.getpid(), signal.{number})
  return result

setattr(holder, {step!r}, changed)
os._exit(program.main(['panda-jax', 'convert', *sys.argv[1:]]))
"""
  return subprocess.run(
    [sys.executable, '-u', '-c', program, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300
  )
