"""Reads files one after the other and says in JSON what became of each: outcome, processor seconds, peak of memory.

`python -m tests.converters.measure FILE ...`, a process of its own, so that nothing else is measured. Linux only.
"""

import gc
import json
import sys
import time
from pathlib import Path

from converters.reading import read
from panda_jax.errors import InputError


def resident(field: str) -> int:
  """VmRSS or VmHWM of this process in bytes."""
  line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(f'{field}:'))
  return int(line.split()[1]) * 1024


def measured(path: str) -> dict:
  gc.collect()
  Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
  before, started = resident('VmRSS'), time.process_time()
  try:
    read(path)
    said = None
  except InputError as error:
    said = str(error)
  seconds = time.process_time() - started  # of the processor: a loaded machine is no fault of the reader
  return {'path': path, 'error': said, 'seconds': seconds, 'growth': resident('VmHWM') - before}


if __name__ == '__main__':
  for name in sys.argv[1:]:
    print(json.dumps(measured(name)), flush=True)
