"""The configuration of a fit: every key there is, with its default."""

from collections.abc import Mapping
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from panda_jax.errors import InputError
from panda_jax.files.records import misfit

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


def forms(defaults: ml_collections.ConfigDict) -> dict[str, Any]:
  """The form of each value of a configuration, as JSON has it, see `files.records.misfit`: that of its default."""

  def form(key: str) -> Any:
    kind, value = defaults.get_type(key), defaults[key]
    if kind is tuple:
      return [type(value[0])]
    return dict if kind is ml_collections.ConfigDict else kind if value is not None else (kind, None)

  return {key: form(key) for key in defaults}


def check_values(values: Mapping[str, Any], defaults: ml_collections.ConfigDict) -> None:
  """Raises InputError unless a configuration has a value of its own type for every key that there is."""
  for key, form in forms(defaults).items():
    if key not in values:
      raise InputError(f'config.{key}', None, 'not given', 'begin with default_config() and change values of it')
    value = values[key]
    wrong = misfit(list(value) if isinstance(value, tuple) else value, form)
    if wrong:
      raise InputError(f'config.{key}', value, wrong, f'the default is {defaults[key]}')
