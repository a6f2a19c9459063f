"""A folder of results that can be computed again: each is complete or absent, and new ones replace the oldest.

Several machines may share the folder, and processes may be killed at any time. An entry that cannot be read, or that
differs from the bytes that were written, counts as absent; one that cannot be written is not kept. No error is raised.
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
OWN = re.compile(r'[\w.-]+' + re.escape(SUFFIX))  # names of entries; all other files in the folder are ignored
PARTIAL = re.compile(r'\.' + OWN.pattern + r'\.\d+\.tmp')  # left by `write_atomically` if it is killed
SHARE = 8  # the folder is checked again after this fraction of `LARGEST` was written


class Cache:
  """Bytes by name.

  Args:
    folder: created by the first `put`, readable only by its owner.
    largest: bytes of all entries. Each process that writes at the same time may exceed it by an eighth.
    oldest: seconds after its last use when an entry is deleted.
  """

  def __init__(self, folder: str | os.PathLike, largest: int = LARGEST, oldest: float = OLDEST):
    self._folder, self._largest, self._oldest = Path(folder), largest, oldest
    self._room = 0  # bytes that may be written before the folder is checked

  def get(self, name: str) -> bytes | None:
    """The bytes under a name of letters, digits, dots, dashes and underscores; None if there are none."""
    path = self._folder / (name + SUFFIX)
    try:
      content = read_bytes(path, 'cache', '', self._largest // SHARE)
    except InputError:
      return None
    digest, value = content[: hashlib.sha256().digest_size], content[hashlib.sha256().digest_size :]
    if digest != _digest(name, value):
      return None
    with contextlib.suppress(OSError):  # the folder may be read-only
      os.utime(path)
    return value

  def put(self, name: str, value: bytes) -> None:
    """Keeps bytes under a name and replaces what is there."""
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
    """Bytes of all entries, after entries that are too old or too many are deleted."""
    now, entries = time.time(), []
    with os.scandir(self._folder) as found:
      for entry in found:
        with contextlib.suppress(OSError):  # another process may have just deleted it
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
