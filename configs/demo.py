"""Parts of the real feature maps that the repository carries: 100 faces through a random network, 16 x 16 x 48.

python run.py fit --config=configs/demo.py --workdir=runs/demo          about 10 s on two cores
python run.py fit --config=configs/demo.py:smoke --workdir=runs/smoke   about 8 s

Expected: relative error 0.301 with 8 parts; eyes, forehead, cheeks and chin can be told apart in parts.png.
"""

from pathlib import Path

from panda_jax.config import default_config


def get_config(size: str = 'full'):
  """`size`: 'full', or 'smoke' for a quick run on fewer samples and parts."""
  config = default_config()
  config.features = str(Path(__file__).parents[1] / 'tests' / 'data' / 'features.npy')
  config.parts = 8
  if size == 'smoke':
    config.samples, config.parts, config.restarts = 24, 4, 8
  elif size != 'full':
    raise ValueError(f'config=configs/demo.py:{size}: unknown size; give full or smoke')
  return config
