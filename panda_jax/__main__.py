"""The program `panda-jax`; also `python -m panda_jax` and `python run.py`."""

import gc
import os
import sys
import time

from panda_jax.runtime import pages, signals
from panda_jax.runtime.supervision import supervise

STARTED = time.perf_counter()
YOUNG = 100_000  # new objects between two garbage collections; with Python's 700, imports take a tenth longer
SPIN = '20'  # OpenBLAS's threads wait busily for 2 ** 20 cycles; its own 2 ** 26 cost a start 0.2 s of the processor
LIGHT = {'--help', '--helpfull', '--version', 'convert', 'export', 'info', 'runs'}  # run no generator, or not for long


def main() -> None:
  """Runs the command that was typed and ends the process. Signals are heard from before the first large import."""
  gc.set_threshold(YOUNG)
  os.environ.setdefault('OPENBLAS_THREAD_TIMEOUT', SPIN)
  if len(sys.argv) > 1 and LIGHT.isdisjoint(sys.argv):
    pages.ask()
    pages.use(False)
  if {'--distributed', '--distributed=true'} & {*sys.argv}:
    supervise()
  signals.listen()
  from panda_jax.commands.program import end

  end(sys.argv, STARTED)


if __name__ == '__main__':
  main()
