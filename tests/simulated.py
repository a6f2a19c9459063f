"""Runs Python code in its own process with several simulated devices."""

import os
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
# How tests compile, by conftest.py: LLVM optimises nothing, each program is one module, and kernels come from XLA's
# older emitters. A fit then compiles in a sixth of the time; its result is the same up to rounding. Older versions of
# XLA know only the first of these flags, and end the process if they get another.
KNOWN_SINCE = '0.8'  # of jaxlib
QUICK = '--xla_backend_optimization_level=0'
if tuple(map(int, version('jaxlib').split('.')[:2])) >= tuple(map(int, KNOWN_SINCE.split('.'))):
  QUICK += ' --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'


def given_flags() -> str:
  """QUICK, and the XLA flags of the whole run of the tests."""
  return os.environ.get('XLA_FLAGS', '')


def run_with_devices(count: int, code: str, *arguments: str) -> str:
  """Runs `code` with `count` CPU devices; returns its output, and fails with its errors."""
  environment = os.environ | {
    'XLA_FLAGS': f'{given_flags()} --xla_force_host_platform_device_count={count}',
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(ROOT),
  }
  done = subprocess.run(
    [sys.executable, '-c', textwrap.dedent(code), *arguments], env=environment, cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout
