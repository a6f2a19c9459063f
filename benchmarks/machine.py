"""What a record of a benchmark says of where and when it was made."""

import datetime
import os
import platform

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
