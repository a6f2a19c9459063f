"""The memory of this process, as Linux reports it."""

from pathlib import Path

import pytest

STATUS = Path('/proc/self/status')
ON_LINUX = pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='memory is measured on Linux')


def resident(field: str = 'VmRSS') -> int:
  """Bytes now, or with 'VmHWM' the maximum so far."""
  line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f'{field}:'))
  return int(line.split()[1]) * 1024
