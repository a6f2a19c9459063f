"""How much memory a computation took at most: of this process, and of its devices where they tell."""

import contextlib
from pathlib import Path

import jax

STATUS, RESET = Path('/proc/self/status'), Path('/proc/self/clear_refs')
PEAK_OF_NOW = '5'  # what resets the peak that Linux keeps of a process


class Peak:
  """The most memory in use since this was made. Devices, and systems that are not Linux, know only since the start."""

  def __init__(self) -> None:
    with contextlib.suppress(OSError):
      RESET.write_text(PEAK_OF_NOW)

  def bytes(self) -> dict[str, int]:
    """{'process': ..., 'devices': ...}, bytes, as far as the system tells; of this process's devices together."""
    found = {}
    with contextlib.suppress(OSError, ValueError, KeyError):
      lines = dict(line.split(':', 1) for line in STATUS.read_text().splitlines())
      found['process'] = int(lines['VmHWM'].split()[0]) * 1024
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all('peak_bytes_in_use' in one for one in stats):
      found['devices'] = sum(int(one['peak_bytes_in_use']) for one in stats)
    return found
