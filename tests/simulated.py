"""Python code run in a process of its own with several simulated devices."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNOPTIMISED = '--xla_backend_optimization_level=0'  # as conftest.py has it, where users' own commands are not the point


def given_flags() -> str:
  """Flags of XLA that the whole run of the tests was started with, as those that leave out instructions."""
  return os.environ.get('XLA_FLAGS', '')


def run_with_devices(count: int, code: str, *arguments: str) -> str:
  """Runs `code` with `count` CPU devices; returns what it printed, and fails with its errors."""
  environment = os.environ | {
    'XLA_FLAGS': f'{given_flags()} --xla_force_host_platform_device_count={count} {UNOPTIMISED}',
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(ROOT),
  }
  done = subprocess.run(
    [sys.executable, '-c', textwrap.dedent(code), *arguments], env=environment, cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout
