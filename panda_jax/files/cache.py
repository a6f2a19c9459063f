"""A folder of results that can be made again: each is whole or not there, and the oldest make room for new ones.

Processes on several machines may share the folder, and be killed at any time. What cannot be read, and what is not the
bytes that were written, is as if it were not there; what cannot be written is not kept. Nothing is ever raised.
"""

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path

from panda_jax.errors import InputError
from panda_jax.files.access import read_bytes, write_atomically

LARGEST = 512 << 20  # bytes of all entries
OLDEST = 30 * 24 * 3600.0  # seconds since an entry was last read
UNFINISHED = 3600.0  # seconds that a file may take to be written
SUFFIX = '.kept'
OWN = re.compile(r'[\w.-]+' + re.escape(SUFFIX))  # the names of entries; nothing else in the folder is looked at
PARTIAL = re.compile(r'\.' + OWN.pattern + r'\.\d+\.tmp')  # what `write_atomically` leaves if it is killed
SHARE = 8  # the folder is looked through again after this part of `LARGEST` was written


class Cache:
  """Bytes by name.

  Args:
    folder: made at the first `put`, for its owner alone.
    largest: bytes of all entries. Processes that write at once may go beyond it by an eighth each.
    oldest: seconds after which an entry that nobody reads is dropped.
  """

  def __init__(self, folder: str | os.PathLike, largest: int = LARGEST, oldest: float = OLDEST):
    self._folder, self._largest, self._oldest = Path(folder), largest, oldest
    self._room = 0  # bytes that may be written before the folder is looked through

  def get(self, name: str) -> bytes | None:
    """What was put under a name of letters, digits, dots, dashes and underscores; None where it is not there."""
    path = self._folder / (name + SUFFIX)
    try:
      content = read_bytes(path, 'cache', '', self._largest // SHARE)
    except InputError:
      return None
    digest, value = content[: hashlib.sha256().digest_size], content[hashlib.sha256().digest_size :]
    if digest != _digest(name, value):
      return None
    with contextlib.suppress(OSError):  # of a folder that can only be read
      os.utime(path)
    return value

  def put(self, name: str, value: bytes) -> None:
    """Keeps bytes under a name, in place of what is there."""
    content = _digest(name, value) + value
    if len(content) > self._largest // SHARE:
      return
    with contextlib.suppress(OSError, InputError):
      self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
      self._make_room(len(content))
      write_atomically(self._folder / (name + SUFFIX), content, 'cache')

  def _make_room(self, size: int) -> None:
    if self._room < size:
      self._room = min(self._largest // SHARE, self._largest - self._trimmed())
    self._room -= size

  def _trimmed(self) -> int:
    """Bytes of all entries, once those are dropped that are too old or too many."""
    now, entries = time.time(), []
    with os.scandir(self._folder) as found:
      for entry in found:
        with contextlib.suppress(OSError):  # another process has just dropped it
          if OWN.fullmatch(entry.name):
            status = entry.stat(follow_symlinks=False)
            entries.append((status.st_mtime, status.st_size, entry.path))
          elif PARTIAL.fullmatch(entry.name) and now - entry.stat(follow_symlinks=False).st_mtime > UNFINISHED:
            os.unlink(entry.path)
    total = sum(size for _, size, _ in entries)
    full = total + self._largest // SHARE > self._largest
    enough = self._largest * 3 // 4 if full else self._largest
    for read, size, path in sorted(entries):
      if now - read <= self._oldest and total <= enough:
        break
      with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
      total -= size
    return total


def _digest(name: str, value: bytes) -> bytes:
  return hashlib.sha256(name.encode() + b'\0' + value).digest()
