"""Regular files: read with limits on size, and written completely or not at all.

Files are not trusted: only regular files are opened, and sizes are checked before anything is allocated.
"""

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from panda_jax.errors import InputError, refusal
from panda_jax.files.links import check_no_link


def open_regular(path: str | os.PathLike, argument: str, remedy: str, largest: int | None = None) -> BinaryIO:
  """Opens a file for reading. A folder, a pipe or a device is refused: reading it could fail, block or never end.

  Args:
    path: may be a link to a regular file.
    argument, remedy: of the InputError.
    largest: the most bytes that the file may have.

  Raises:
    InputError: there is no such file, or it is not a regular one, or too large.
  """
  try:
    _check_regular(os.stat(path), path, argument, remedy, largest)
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, 'O_NONBLOCK', 0)), 'rb')
  except InputError:
    raise
  except (OSError, ValueError) as error:  # a ValueError comes from a zero byte in the path
    raise refusal(argument, path, 'it cannot be read', error, remedy) from error
  try:
    _check_regular(os.fstat(file.fileno()), path, argument, remedy, largest)  # it may have changed since
  except InputError:
    file.close()
    raise
  return file


def _check_regular(found: os.stat_result, path, argument: str, remedy: str, largest: int | None) -> None:
  if stat.S_ISDIR(found.st_mode):
    raise InputError(argument, path, 'it cannot be read (a folder, not a file)', remedy)
  if not stat.S_ISREG(found.st_mode):
    raise InputError(argument, path, 'it cannot be read (a pipe, a socket or a device, not a file)', remedy)
  if largest is not None and found.st_size > largest:
    raise InputError(argument, path, f'it is larger than {largest >> 20} MB', remedy)


def read_bytes(path: str | os.PathLike, argument: str, remedy: str, largest: int) -> bytes:
  """The content of a regular file of at most `largest` bytes.

  Raises:
    InputError: see `open_regular`.
  """
  with open_regular(path, argument, remedy, largest) as file:
    try:
      content = file.read(largest + 1)
    except OSError as error:
      raise refusal(argument, path, 'it cannot be read', error, remedy) from error
  if len(content) > largest:
    raise InputError(argument, path, f'it is larger than {largest >> 20} MB', remedy)
  return content


def check_writable(path: str | os.PathLike, argument: str = 'workdir') -> None:
  """Raises InputError if the file cannot be written, before work that ends with writing it."""
  path = Path(path)
  try:
    if path.is_dir():
      raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    with tempfile.TemporaryFile(dir=path.parent):
      pass
  except OSError as error:
    raise refusal(argument, path.parent, f'{path.name} could not be written', error) from error


def write_atomically(path: str | os.PathLike, data: bytes, argument: str = 'workdir') -> None:
  """Writes a file completely or not at all; if writing fails, an old file stays.

  Args:
    path: of the file.
    data: the whole content.
    argument: of the InputError.

  Raises:
    InputError: it cannot be written, or a symbolic link is there.
  """
  path = Path(path)
  check_no_link(path.parent, path.name, argument)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    check_no_link(path.parent, temporary.name, argument)
    temporary.unlink(missing_ok=True)  # left by a killed process with the same number
    try:
      with open(temporary, 'xb') as file:  # never through an existing link
        file.write(data)
      os.replace(temporary, path)
    except BaseException:
      with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
      raise
  except OSError as error:
    raise refusal(argument, path.parent, f'{path.name} could not be written', error) from error
