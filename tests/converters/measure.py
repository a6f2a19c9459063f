"""Converts files one after the other, without writing them, and prints the result of each in JSON.

The result is the outcome, seconds of the processor, and bytes of peak memory.

`python -m tests.converters.measure FILE ...` is a separate process, so that nothing else is measured. Linux only.
"""

import gc
import importlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from panda_jax.converters.checkpoint import read
from panda_jax.converters.conversion import FAMILIES, converted
from panda_jax.errors import InputError
from panda_jax.generators import registry
from panda_jax.generators.biggan import deep_options
from tests.memory import resident

ROOT = Path(__file__).parents[2]


def measured(path: str) -> dict:
  gc.collect()
  Path('/proc/self/clear_refs').write_text('5')  # resets the peak
  before, started = resident(), time.process_time()
  try:
    converted(read(path), 'auto', 'ema', {})
    said = None
  except InputError as error:
    said = str(error)
  seconds = time.process_time() - started  # processor time: independent of other load on the machine
  return {'path': path, 'error': said, 'seconds': seconds, 'growth': resident('VmHWM') - before}


def prepare() -> None:
  """Imports what a conversion may need and initialises JAX, so that neither is measured."""
  for family in FAMILIES:
    importlib.import_module(f'panda_jax.converters.dialects.{family}')
    registry.generator_class(family)
  registry.abstract('biggan', deep_options(128))
  gc.freeze()  # imported objects stay; the collector need not scan them for every file


def measurements(paths: dict[str, Path]) -> dict[str, dict]:
  """{name of a file: its result, measured in a separate process}."""
  command = [sys.executable, '-m', 'tests.converters.measure', *map(str, paths.values())]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600)
  assert done.returncode == 0, done.stderr
  return dict(zip(paths, map(json.loads, done.stdout.splitlines()), strict=True))


if __name__ == '__main__':
  resource.setrlimit(resource.RLIMIT_CPU, (600, 600))  # so that it ends in any case
  prepare()
  for name in sys.argv[1:]:
    print(json.dumps(measured(name)), flush=True)
