"""The configuration of a fit: every key there is, with its default."""

import ml_collections
from ml_collections.config_dict import placeholder

# Keys that have a flag of their own.
FLAGS = (
  'features',
  'generator',
  'truncation',
  'truncation_layers',
  'labels',
  'grid',
  'layer',
  'samples',
  'parts',
  'appearances',
  'seed',
)


def default_config() -> ml_collections.ConfigDict:
  """A new configuration; files in `configs/` change some of its values."""
  return ml_collections.ConfigDict(
    {
      'features': placeholder(str),  # path of a .npy file, (N, H, W, C) or (N, S, C)
      'generator': placeholder(str),  # or a folder that `python -m converters` wrote, with a layer and samples
      'truncation': 1.0,  # of the generator's latents
      'truncation_layers': placeholder(int),  # how many of the first w+ rows it acts on; all if not set
      'labels': placeholder(str),  # classes of a conditional generator: '207,208' in turn, or a .npy file
      'grid': placeholder(str),  # 'H,W', for (N, S, C) only
      'layer': placeholder(int),  # where the generator is split, or where the features were taken
      'samples': placeholder(int),  # how many to generate; of a file, only the first so many
      'batch': placeholder(int),  # samples at a time; by size if not set
      'parts': placeholder(int),  # R_S
      'appearances': placeholder(int),  # R_C; all channels if not set
      'seed': 0,  # of the restarts, and of the first sample that is generated
      'restarts': 64,
      'joint': True,
      'orthonormal': False,
      'center': 'none',  # none, position, channel
      'rotation': 'none',  # none, varimax
      'precision': 'highest',  # highest, high, default
      'store': 'auto',  # auto, device, host, source
      'storage': 'float32',  # or bfloat16, half the memory on the devices
      'max_iterations': 2000,
      'checkpoint_seconds': 30.0,
    }
  )
