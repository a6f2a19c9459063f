"""Parts of the embedded generator of cat faces, at its 16 x 16 layer.

python run.py fit --config=configs/cats64.py --workdir=runs/cats64          21 s on two cores
python run.py fit --config=configs/cats64.py:smoke --workdir=runs/smoke     11 s

Expected: relative error 0.2828. In overlay.png part 6 is the eyes, 11 the brows, 7 the forehead, 10 the nose, 4 chin,
8 and 9 cheeks, 0 to 3 and 5 what surrounds the face. Layer 5 was chosen by looking: its parts are those of a face, and
its edits act on them.
"""

from panda_jax.config import default_config


def get_config(size: str = 'full'):
  """`size`: 'full', or 'smoke' for a quick run on fewer samples and parts."""
  config = default_config()
  config.generator = 'cats64'
  config.layer = 5
  config.samples, config.parts = 1000, 12
  if size == 'smoke':
    config.samples, config.parts, config.restarts = 32, 4, 8
  elif size != 'full':
    raise ValueError(f'config=configs/cats64.py:{size}: unknown size; give full or smoke')
  return config
