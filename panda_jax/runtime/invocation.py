"""How the program was called, for the commands that it tells people to type."""

import os
import sys

MODULES = 'panda_jax', 'converters', 'app'  # that are run by `python -m`


def program_name() -> str:
  """How to call the program as it was called: by run.py of a clone, as a module, or as it is installed."""
  folder, name = os.path.split(sys.argv[0] if sys.argv else '')
  if name == 'run.py':
    return 'python run.py'
  as_module = name == '__main__.py' and os.path.basename(folder) in MODULES
  return 'python -m panda_jax' if as_module else 'panda-jax'
