"""Large pages of memory for programs that run large generators on a CPU.

A generator works in some hundred megabytes, which XLA allocates for each call and frees after it. In pages of 4 KB
their first touch takes a fifth to a third of the call. Where Linux gives large pages only to programs that ask, glibc
asks for its allocations if a variable of the environment says so, which is read when a program starts. All else, such
as the solver, touches little of many allocations and is slower in large pages, so they are off until a large generator
is loaded.
"""

import ctypes
import os
import sys
from pathlib import Path

LARGE = 128  # pixels of an image's side from which a generator gains
DISABLE = 41  # PR_SET_THP_DISABLE of prctl
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


def use(large: bool) -> None:
  """Takes memory in large pages or not from now on, if this program was started to take them."""
  if sys.platform == 'linux' and f'{TUNABLE}=1' in os.environ.get(VARIABLE, ''):
    ctypes.CDLL(None).prctl(DISABLE, int(not large), 0, 0, 0)  # a kernel without it goes on as before


def _only_if_asked() -> bool:
  try:
    return '[madvise]' in ENABLED.read_text()
  except OSError:
    return False
