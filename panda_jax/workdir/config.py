"""The configuration of a fit: every key, with its default and its meaning."""

import copy
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import ml_collections
from ml_collections.config_dict import FieldReference, placeholder

from panda_jax.errors import InputError
from panda_jax.files.records import misfit

# Keys with their own flags.
FLAGS = (
  'features',
  'generator',
  'truncation',
  'truncation_layers',
  'labels',
  'grid',
  'layout',
  'layer',
  'samples',
  'parts',
  'appearances',
  'seed',
  'held_out',
  'held_out_features',
)


class Key(NamedTuple):
  """A key of a configuration: its default and its meaning."""

  default: Any
  meaning: str


KEYS = {
  'features': Key(placeholder(str), 'Feature maps: a .npy file (N, H, W, C), or (N, S, C) with a grid.'),
  'generator': Key(
    placeholder(str), 'Folder of a generator, or cats64, in place of features. Needs layer and samples.'
  ),
  'truncation': Key(1.0, 'Factor by which latents are truncated; 1 for no truncation.'),
  'truncation_layers': Key(placeholder(int), 'Number of w+ rows that are truncated, from the first; all if left out.'),
  'labels': Key(
    placeholder(str), 'Classes of a conditional generator: 207,208, or a .npy file. Samples take them in turn.'
  ),
  'grid': Key(placeholder(str), 'Height and width of features (N, S, C), as H,W.'),
  'layout': Key(placeholder(str), 'Order of the axes of features: NHWC if left out, or NCHW for channels first.'),
  'layer': Key(placeholder(int), 'Layer at which the generator is split; with features, it is only recorded.'),
  'samples': Key(
    placeholder(int), 'Number of samples: to generate, or from the start of a file (all of it if left out).'
  ),
  'held_out': Key(
    0, 'Number of further samples, not fitted, on which the error is measured: the next seeds, or the next in the file.'
  ),
  'held_out_features': Key(
    placeholder(str), 'Feature maps, not fitted, on which the error is measured: a .npy file, in place of held_out.'
  ),
  'half': Key('none', 'Half of the samples to fit: first or second, or none for all. Stable parts come back in both.'),
  'batch': Key(
    placeholder(int), 'Samples computed at a time; chosen by their size if left out. It changes speed only.'
  ),
  'parts': Key(placeholder(int), 'Number of parts, R_S.'),
  'appearances': Key(placeholder(int), 'Number of appearances, R_C; one for each channel if left out.'),
  'seed': Key(0, 'Seed of the random starts; also the first seed of the generated samples.'),
  'restarts': Key(64, 'Random starts, tried on a subset of the samples; the best few go on.'),
  'joint': Key(True, 'Refine appearances together with the parts.'),
  'orthonormal': Key(False, 'Keep the appearances orthonormal.'),
  'center': Key(
    'none',
    'What is subtracted from features: none, position (the mean feature map) or channel (the mean over positions).',
  ),
  'rotation': Key('none', 'Rotation of the appearances: none, or varimax (sparser coordinates).'),
  'precision': Key('highest', 'Precision of matrix products with the features: highest, high or default.'),
  'store': Key('auto', 'Where features are kept: auto, device, host, or source (read again for each pass).'),
  'storage': Key('float32', 'Number format of features on the devices: float32, or bfloat16 for half the memory.'),
  'max_iterations': Key(2000, 'Largest number of iterations on all samples.'),
  'checkpoint_seconds': Key(30.0, 'Seconds between checkpoints.'),
}


def default_config() -> ml_collections.ConfigDict:
  """A new configuration; files in `configs/` change some of its values."""
  return defaults(KEYS)


def defaults(keys: Mapping[str, Key]) -> ml_collections.ConfigDict:
  """A new configuration of these keys; mutable values are copied."""
  return ml_collections.ConfigDict({name: copy.deepcopy(key.default) for name, key in keys.items()})


def kind_of(name: str, keys: Mapping[str, Key] = KEYS) -> type:
  """The type of a key's value: str, int, float, bool, ..."""
  default = keys[name].default
  return default.get_type() if isinstance(default, FieldReference) else type(default)


def described_keys(keys: Mapping[str, Key] = KEYS, flags: Collection[str] = FLAGS) -> list[str]:
  """A line of --help for each key without its own flag."""
  lines = []
  for name, (default, meaning) in keys.items():
    if name not in flags:
      unset = isinstance(default, FieldReference | ml_collections.ConfigDict)
      lines.append(f'  {name:<21} {meaning}' + ('' if unset else f' Default: {told(default)}'))
  return lines


def told(default: Any) -> str:
  """A default as on a command line."""
  if isinstance(default, bool):
    return str(default).lower()
  if isinstance(default, tuple):
    few = default if len(default) < 8 else (*default[:3], '...', default[-1])
    return ','.join(map(str, few))
  return f'{default:g}' if isinstance(default, float) else str(default)


def forms(defaults: ml_collections.ConfigDict) -> dict[str, Any]:
  """The form of each value of a configuration in JSON, see `files.records.misfit`: the form of its default."""

  def form(key: str) -> Any:
    kind, value = defaults.get_type(key), defaults[key]
    if kind is tuple:
      return [type(value[0])]
    return dict if kind is ml_collections.ConfigDict else kind if value is not None else (kind, None)

  return {key: form(key) for key in defaults}


def config_form() -> dict:
  """The form of config.json, see `files.records.misfit`: keys of a configuration, and the hash of the features."""
  return {f'{key}?': form for key, form in forms(default_config()).items()} | {'sha256?': (str, None)}


def check_values(values: Mapping[str, Any], defaults: ml_collections.ConfigDict) -> None:
  """Raises InputError unless a configuration has every key, each with a value of its type."""
  for key, form in forms(defaults).items():
    if key not in values:
      raise InputError(f'config.{key}', None, 'not given', 'begin with default_config() and change values of it')
    value = values[key]
    wrong = misfit(list(value) if isinstance(value, tuple) else value, form)
    if wrong:
      raise InputError(f'config.{key}', value, wrong, f'the default is {defaults[key]}')
