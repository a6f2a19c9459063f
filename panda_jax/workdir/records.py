"""The forms of the JSON records that a fit writes and others read: see `files.records.misfit`."""

from panda_jax.workdir.config import default_config, forms

# summary.json comes last: where it is, a fit is finished.
SUMMARY = {
  'relative_error': float,
  'held_out?': {'samples': int, 'relative_error': float},
  'reason': str,
  'warnings': [str],
  'seconds': {str: float},
  'counts': {str: int},
  'part_energy?': [float],
  'memory?': {str: int},
  'versions?': {str: str},
  'devices?': [str],
}


def config_form() -> dict:
  """The form of config.json: keys of a configuration, and the hash of what was fitted."""
  return {f'{key}?': form for key, form in forms(default_config()).items()} | {'sha256?': (str, None)}
