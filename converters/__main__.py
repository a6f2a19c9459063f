"""`python -m converters SOURCE DESTINATION`, as `panda-jax convert`."""

from panda_jax.runtime import signals

if __name__ == '__main__':
  signals.listen()

  from panda_jax.converters.command import run_and_exit

  run_and_exit()
