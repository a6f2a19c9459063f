"""Parts of the real feature maps in the repository: 100 faces through a random network, 16 x 16 x 48.

python run.py fit --config=configs/demo.py --workdir=runs/demo          8 s on two cores
python run.py fit --config=configs/demo.py:smoke --workdir=runs/smoke   6 s

Expected: relative error 0.3121 with 8 parts (smoke: 0.2941 with 4). In parts.png part 4 is the eyes, 3 the brows with
the mouth, 2 forehead, nose and cheeks, 5 the mouth and chin, 1, 6 and 7 the borders.
"""

from pathlib import Path

from panda_jax.errors import InputError
from panda_jax.workdir.config import default_config


def get_config(size: str = 'full'):
  """`size`: 'full', or 'smoke' for a quick run on fewer samples and parts."""
  config = default_config()
  features = Path(__file__).parents[1] / 'tests' / 'data' / 'features.npy'
  if not features.is_file():
    raise InputError('config', 'demo', 'its features are in a clone of the repository only', 'give --config=cats64')
  config.features = str(features)
  config.parts = 8
  if size == 'smoke':
    config.samples, config.parts, config.restarts = 24, 4, 8
  elif size != 'full':
    raise InputError('config', f'configs/demo.py:{size}', 'unknown size', 'give full or smoke')
  return config
