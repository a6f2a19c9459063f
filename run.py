"""The program `panda-jax` in a clone: `python run.py COMMAND --flag=value ...`. See panda_jax/commands/."""

from panda_jax.__main__ import main

if __name__ == '__main__':
  main()
