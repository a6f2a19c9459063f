"""Parts of the embedded generator of cat faces, at its 16 x 16 layer.

python run.py fit --config=configs/cats64.py --workdir=runs/cats64          10 to 20 s on two cores
python run.py fit --config=configs/cats64.py:smoke --workdir=runs/smoke     11 s

Expected: relative error 0.3937. In overlay.png parts 2 and 3 are the eyes, 9 the bridge of the nose, 10 the muzzle, 5
the chin, 7 the cheeks, 8 the forehead; the others surround the face. Layer 5 was chosen by eye: its parts are those of
a face, and its edits act on them.
"""

from panda_jax.errors import InputError
from panda_jax.workdir.config import default_config


def get_config(size: str = 'full'):
  """`size`: 'full', or 'smoke' for a quick run on fewer samples and parts."""
  config = default_config()
  config.generator = 'cats64'
  config.layer = 5
  config.samples, config.parts = 1000, 12
  if size == 'smoke':
    config.samples, config.parts, config.restarts = 32, 4, 8
  elif size != 'full':
    raise InputError('config', f'configs/cats64.py:{size}', 'unknown size', 'give full or smoke')
  return config
