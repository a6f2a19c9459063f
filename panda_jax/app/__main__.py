"""`python -m panda_jax.app` runs `panda-jax app`."""

import sys

from panda_jax.__main__ import main

if __name__ == '__main__':
  sys.argv.insert(1, 'app')
  main()
