"""Every method on the embedded generator of cat faces: eyes, one eye, nose, mouth, forehead.

python run.py compare --config=configs/compare_cats64.py --workdir=runs/compare_cats64          13 minutes, two cores
python run.py compare --config=configs/compare_cats64.py:smoke --workdir=runs/compare_smoke      25 s
python run.py compare --config=configs/compare_cats64.py:layers --workdir=runs/compare_layers    half an hour
python run.py compare --config=configs/compare_cats64.py --config.test=10000 --workdir=...      where there is a GPU

Regions are boxes (r0, r1, c0, c1) in the 64 x 64 pixels of the images: rows r0 to r1 - 1, columns c0 to c1 - 1, set by
hand on the mean of 256 samples; regions.png shows them. Cases may change any key, also the generator and its regions:
{'cats64': {}, 'dogs': {'generator': 'runs/dogs', 'layer': 7, 'regions': {'eyes': (20, 30, 12, 52)}}}.
"""

from panda_jax.compare.settings import default_config
from panda_jax.errors import InputError


def get_config(size: str = 'full'):
  """`size`: 'full'; 'layers', PandA alone at three layers; 'smoke', a quick run of few methods on few samples."""
  config = default_config()
  config.generator = 'cats64'
  config.regions = {
    'eyes': (20, 32, 10, 55),
    'one_eye': (20, 32, 10, 28),
    'nose': (38, 49, 26, 39),
    'mouth': (48, 57, 22, 44),
    'forehead': (3, 17, 18, 46),
  }
  if size == 'smoke':
    config.methods = ('sefa', 'panda', 'random_part')
    config.regions = {'eyes': config.regions['eyes']}
    config.samples, config.parts, config.candidates = 64, 8, 2
    config.heldout, config.test, config.realism_samples = 8, 8, 128
  elif size == 'layers':
    config.methods = ('panda', 'panda_region', 'panda_joint', 'panda_centered', 'pca_parts', 'random_part')
    config.cases = {f'layer {layer}': {'layer': layer} for layer in (3, 5, 7)}
  elif size != 'full':
    raise InputError('config', f'configs/compare_cats64.py:{size}', 'unknown size', 'give full, layers or smoke')
  return config
