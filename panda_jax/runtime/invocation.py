"""How the program was called, for the commands that it tells people to type."""

import os
import sys


def program_name() -> str:
  """'python run.py' where that was typed, else 'panda-jax', which is the same program installed."""
  return 'python run.py' if sys.argv and os.path.basename(sys.argv[0]) == 'run.py' else 'panda-jax'
