"""The defaults, for a fit that is described only by flags.

python run.py fit --features=FILE.npy --parts=8 --workdir=DIR
"""

from panda_jax.workdir.config import default_config


def get_config():
  return default_config()
