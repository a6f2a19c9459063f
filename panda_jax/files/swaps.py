"""Folders that are there whole or not at all, whenever the process that writes them is killed.

A folder is made under another name beside its place, flushed to the disk and then renamed. The other name is locked
while its process lives, so that the next run can tell what a killed one left and clear it away.
"""

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

try:
  import fcntl
except ImportError:  # not on Windows, where leftovers then stay
  fcntl = None  # type: ignore[assignment]  # a module everywhere else

PARTIAL, REPLACED = 'partial', 'replaced'
PAUSE = 0.05  # seconds between two looks at an unfinished folder
QUIET, LONGEST = 10, 100  # looks in a row that find nothing there, and looks at most
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@contextlib.contextmanager
def appearing(folder: Path, replace: bool) -> Iterator[Path]:
  """An empty folder to write to, which takes the place of `folder` when the block ends without an exception.

  With an exception nothing changes.

  Args:
    folder: its parent is made if need be.
    replace: whether a folder may be there; it stays until the new one takes its place, and is then dropped.

  Raises:
    OSError: no rights, no space, or a folder is there that must not be.
  """
  folder = Path(os.path.realpath(folder))
  folder.parent.mkdir(parents=True, exist_ok=True)
  clear_leftovers(folder)
  partial, lock = _made(folder)
  try:
    yield partial
    _flush(partial)
    _put(partial, folder, replace)
    _flush_one(folder.parent)
    shutil.rmtree(partial, ignore_errors=True)  # by now this is nothing, or the folder that was replaced
  except BaseException:
    _clear(partial)
    raise
  finally:
    os.close(lock)


def _clear(partial: Path) -> None:
  """Removes an unfinished folder for good: threads of its writer may still add files to it, and make it again."""
  quiet = 0
  for _ in range(LONGEST):
    quiet = 0 if partial.exists() else quiet + 1
    if quiet == QUIET:
      break
    shutil.rmtree(partial, ignore_errors=True)
    time.sleep(PAUSE)


def clear_leftovers(folder: Path) -> None:
  """Removes what killed runs left beside `folder`, and puts back a folder whose replacement was cut short."""
  for old in _others(folder, REPLACED):
    with contextlib.suppress(OSError):
      if not folder.exists():
        os.rename(old, folder)
      else:
        shutil.rmtree(old, ignore_errors=True)
  for partial in _others(folder, PARTIAL):
    with contextlib.suppress(OSError):
      lock = os.open(partial, os.O_RDONLY)
      try:
        if fcntl:
          fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where the run is alive
          shutil.rmtree(partial, ignore_errors=True)
      finally:
        os.close(lock)


def _others(folder: Path, kind: str) -> list[Path]:
  names = [name for name in os.listdir(folder.parent) if name.startswith(f'.{folder.name}.')]
  return [folder.parent / name for name in names if name.endswith(f'.{kind}')]


def _made(folder: Path) -> tuple[Path, int]:
  """A new folder, and the descriptor that holds its lock."""
  while True:
    partial = folder.with_name(f'.{folder.name}.{secrets.token_hex(6)}.{PARTIAL}')
    partial.mkdir()
    lock = os.open(partial, os.O_RDONLY)
    with contextlib.suppress(OSError):  # some network file systems have no locks
      if fcntl:
        fcntl.flock(lock, fcntl.LOCK_EX)
    # Another run may have taken it for a leftover before it was locked.
    if partial.exists():
      return partial, lock
    os.close(lock)


def _put(partial: Path, folder: Path, replace: bool) -> None:
  """Renames; where there is a folder already the two change places, in one step if the system can."""
  if not replace or not folder.exists():
    os.rename(partial, folder)
  elif not _exchange(partial, folder):
    old = folder.with_name(f'.{folder.name}.{secrets.token_hex(6)}.{REPLACED}')
    os.rename(folder, old)
    os.rename(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
  """Lets two folders change names in one step; False where the system cannot."""
  if sys.platform != 'linux':
    return False
  rename = getattr(ctypes.CDLL(None, use_errno=True), 'renameat2', None)
  if rename is None:
    return False
  if rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
    return True
  if ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
    return False
  raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(second))


def _flush(folder: Path) -> None:
  """Everything in a folder onto the disk."""
  for path, _, names in os.walk(folder):
    for name in names:
      _flush_one(Path(path) / name)
    _flush_one(Path(path))


def _flush_one(path: Path) -> None:
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
