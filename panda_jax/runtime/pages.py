"""Large pages of memory for programs that run generators on a CPU.

A generator works in some hundred megabytes, which XLA allocates for each call and frees after it. In pages of 4 KB
their first touch takes a fifth to a third of the call. Where Linux gives large pages only to programs that ask, glibc
asks for its allocations if a variable of the environment says so, which is read when a program starts.
"""

import os
import sys
from pathlib import Path

VARIABLE, TUNABLE = 'GLIBC_TUNABLES', 'glibc.malloc.hugetlb'
ENABLED = Path('/sys/kernel/mm/transparent_hugepage/enabled')


def ask() -> None:
  """Starts this program again with large pages, unless they were asked for or refused, or there is nothing to gain."""
  given = os.environ.get(VARIABLE, '')
  if sys.platform != 'linux' or TUNABLE in given or not _only_if_asked():
    return
  os.environ[VARIABLE] = ':'.join(filter(None, [given, f'{TUNABLE}=1']))
  try:
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
  except OSError:  # then as before
    return


def _only_if_asked() -> bool:
  try:
    return '[madvise]' in ENABLED.read_text()
  except OSError:
    return False
