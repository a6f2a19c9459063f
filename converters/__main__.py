"""`python -m converters SOURCE DESTINATION`, as `panda-jax convert`."""

import sys

from panda_jax.__main__ import main

if __name__ == '__main__':
  sys.argv.insert(1, 'convert')
  main()
