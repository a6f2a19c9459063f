"""Peak memory of a computation: of this process, and of its devices if they report it."""

import contextlib
from pathlib import Path

import jax

STATUS, RESET = Path('/proc/self/status'), Path('/proc/self/clear_refs')
PEAK_OF_NOW = '5'  # value that resets the peak that Linux keeps for a process


class Peak:
  """The peak memory since this was made; on devices, and on systems other than Linux, since the process began."""

  def __init__(self) -> None:
    with contextlib.suppress(OSError):
      RESET.write_text(PEAK_OF_NOW)

  def bytes(self) -> dict[str, int]:
    """{'process': ..., 'devices': ...} in bytes, if the system reports them; devices of this process together."""
    found = {}
    with contextlib.suppress(OSError, ValueError, KeyError):
      lines = dict(line.split(':', 1) for line in STATUS.read_text().splitlines())
      found['process'] = int(lines['VmHWM'].split()[0]) * 1024
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all('peak_bytes_in_use' in one for one in stats):
      found['devices'] = sum(int(one['peak_bytes_in_use']) for one in stats)
    return found
