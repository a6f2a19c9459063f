"""Folders that are complete or absent, even if the process that writes them is killed.

A folder is written under another name beside its place, flushed to the disk and then renamed. The other name is locked
while its process lives, so that a later run can recognise what a killed one left, and delete it.
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
except ImportError:  # Windows has no flock, so leftovers stay there
  fcntl = None  # type: ignore[assignment]  # a module everywhere else

PARTIAL, REPLACED = 'partial', 'replaced'
PAUSE = 0.05  # seconds between two looks at an unfinished folder
QUIET, LONGEST = 10, 100  # checks in a row that must find it absent, and the most checks
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@contextlib.contextmanager
def appearing(folder: Path, replace: bool) -> Iterator[Path]:
  """Yields an empty folder to write to, which replaces `folder` when the block ends without an exception.

  After an exception nothing has changed.

  Args:
    folder: its parent is created if needed.
    replace: whether `folder` may exist; it stays until the new one replaces it, and is then deleted.

  Raises:
    OSError: no rights, no space, or the folder exists and must not.
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
    shutil.rmtree(partial, ignore_errors=True)  # now absent, or the folder that was replaced
  except BaseException:
    _clear(partial)
    raise
  finally:
    os.close(lock)


def _clear(partial: Path) -> None:
  """Removes an unfinished folder; repeats this, since threads of its writer may still add files and create it again."""
  quiet = 0
  for _ in range(LONGEST):
    quiet = 0 if partial.exists() else quiet + 1
    if quiet == QUIET:
      break
    shutil.rmtree(partial, ignore_errors=True)
    time.sleep(PAUSE)


def clear_leftovers(folder: Path) -> None:
  """Removes what killed runs left beside `folder`, and restores a folder whose replacement was interrupted."""
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
          fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if the run is alive
          shutil.rmtree(partial, ignore_errors=True)
      finally:
        os.close(lock)


def _others(folder: Path, kind: str) -> list[Path]:
  names = [name for name in os.listdir(folder.parent) if name.startswith(f'.{folder.name}.')]
  return [folder.parent / name for name in names if name.endswith(f'.{kind}')]


def _made(folder: Path) -> tuple[Path, int]:
  """A new folder, and the file descriptor that holds its lock."""
  while True:
    partial = folder.with_name(f'.{folder.name}.{secrets.token_hex(6)}.{PARTIAL}')
    partial.mkdir()
    lock = os.open(partial, os.O_RDONLY)
    with contextlib.suppress(OSError):  # some network file systems have no locks
      if fcntl:
        fcntl.flock(lock, fcntl.LOCK_EX)
    # Another run may have deleted it as a leftover before it was locked.
    if partial.exists():
      return partial, lock
    os.close(lock)


def _put(partial: Path, folder: Path, replace: bool) -> None:
  """Renames; if the folder exists the two are exchanged, in one step if the system can."""
  if not replace or not folder.exists():
    os.rename(partial, folder)
  elif not _exchange(partial, folder):
    old = folder.with_name(f'.{folder.name}.{secrets.token_hex(6)}.{REPLACED}')
    os.rename(folder, old)
    os.rename(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
  """Exchanges the names of two folders in one step; False if the system cannot."""
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
  """Flushes everything in a folder to the disk."""
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
