"""The forms of the JSON records that a fit writes and others read: what `files.read_json` takes, see `files.misfit`."""

from panda_jax.config import default_config, forms

# What a factors.npz says of where its factors came from. Other entries are kept as they are.
PROVENANCE = {
  'layer?': (int, str, None),
  'sha256?': (str, None),
  'samples?': (int, None),
  'source?': (str, None),
  'generator?': (
    None,
    {
      'path?': (str, None),
      'layer?': (int, None),
      'seed?': int,
      'samples?': (int, None),
      'labels?': ([int], [[float]], None),
      'truncation?': (float, None),
      'truncation_layers?': (int, None),
    },
  ),
}

# summary.json comes last: where it is, a fit is finished.
SUMMARY = {
  'relative_error': float,
  'reason': str,
  'warnings': [str],
  'seconds': {str: float},
  'counts': {str: int},
  'part_energy?': [float],
  'versions?': {str: str},
  'devices?': [str],
}


def config_form() -> dict:
  """The form of config.json: keys of a configuration, and the hash of what was fitted."""
  return {f'{key}?': form for key, form in forms(default_config()).items()} | {'sha256?': (str, None)}
