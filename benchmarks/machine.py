"""The entries of a benchmark's record on the machine and the date."""

import datetime
import json
import os
import platform
from pathlib import Path

import jax

from panda_jax.runtime.environment import versions


def machine() -> dict:
  device = jax.devices()[0]
  return {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'versions': versions(),
    'system': f'{platform.system()} {platform.machine()}',
    'cpus': os.cpu_count(),
    'device': f'{device.platform}: {device.device_kind}',
    'load_average': {'before': os.getloadavg()},  # a busy machine makes the seconds worthless
  }


def written(record: dict, path: Path) -> Path:
  """Writes a record that `machine` began; returns its path."""
  record['load_average']['after'] = os.getloadavg()
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(record, indent=1, allow_nan=False) + '\n')
  return path
