"""How the program was called, for commands that messages suggest to users."""

import os
import sys

MODULES = 'panda_jax', 'converters', 'app'  # modules that `python -m` runs


def program_name() -> str:
  """The command with which the program was called: run.py of a clone, a module, or the installed command."""
  folder, name = os.path.split(sys.argv[0] if sys.argv else '')
  if name == 'run.py':
    return 'python run.py'
  as_module = name == '__main__.py' and os.path.basename(folder) in MODULES
  return 'python -m panda_jax' if as_module else 'panda-jax'
