"""A lock on a folder for long writes: one process at a time; the others get an error that names its owner.

The operating system holds the lock (flock), so it ends with its process in every case. A file records the owner. A
network file server shares such locks between its hosts only if its lock service runs; so a lock file of another host
counts as held until somebody removes it. On a local disk the system's lock decides.
"""

import contextlib
import errno
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from panda_jax.errors import InputError, refusal

try:
  import fcntl
except ImportError:  # Windows has no flock; the file alone is the lock
  fcntl = None  # type: ignore[assignment]  # a module everywhere else

LOCK = '.panda-jax.lock'
LARGEST = 1000  # bytes of the lock file that are read
PATIENCE = 20.0  # seconds
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
DISKS = ('ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'zfs', 'f2fs', 'tmpfs', 'overlay')  # file systems of one machine
_FLAGS = ('O_CLOEXEC', 'O_NOFOLLOW', 'O_NONBLOCK')


class InUse(InputError):
  """Another process has the lock."""


class Owner(NamedTuple):
  """The owner of a lock.

  Attributes:
    process: its number.
    host: name of its machine.
    kernel: identifies the boot of that machine, in all its containers; '' if the system does not give it.
    since: date and time.
  """

  process: int
  host: str
  kernel: str
  since: str

  def __str__(self) -> str:
    return f'process {self.process} on {self.host}, since {self.since}'


@contextlib.contextmanager
def locked(folder: str | os.PathLike, argument: str = 'workdir') -> Iterator[None]:
  """Creates a folder if needed and holds its lock until the block ends.

  Raises:
    InUse: for `argument`: another process has the lock; the text names it.
    InputError: the system refuses to write to it, now or in the block.
  """
  folder = Path(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    file = _taken(folder, argument)
    try:
      yield
    finally:
      with contextlib.suppress(OSError):
        if _is_at(file, folder / LOCK):  # not a file that was created after ours was removed
          os.unlink(folder / LOCK)
      os.close(file)
  except OSError as error:
    raise refusal(argument, folder, 'it cannot be written', error) from error


@contextlib.contextmanager
def awaited(folder: str | os.PathLike, argument: str = 'workdir', seconds: float = PATIENCE) -> Iterator[None]:
  """`locked`, for short work: waits for the present owner, at most so many seconds."""
  until = time.monotonic() + seconds
  with contextlib.ExitStack() as held:
    while True:
      try:
        held.enter_context(locked(folder, argument))
        break
      except InUse:
        if time.monotonic() > until:
          raise
      time.sleep(0.02)
    yield


def _taken(folder: Path, argument: str) -> int:
  """The file descriptor that holds the lock."""
  flags = os.O_RDWR | os.O_CREAT | sum(getattr(os, name, 0) for name in _FLAGS)
  while True:
    file = os.open(folder / LOCK, flags, 0o666)
    try:
      status = os.fstat(file)
      if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise InputError(argument, folder, f'{LOCK} in it is not a file of its own', 'remove it')
      free = _flocked(file)
      if _is_at(file, folder / LOCK):
        _check_free(folder, argument, file, free)
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(_me()._asdict()).encode(), 0)
        return file
    except BaseException:
      os.close(file)
      raise
    os.close(file)  # its owner removed it and ended between two of our steps


def _flocked(file: int) -> bool | None:
  """Whether the lock is ours now; None if the system has no locks."""
  if fcntl is None:
    return None
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError as error:
    if error.errno in NO_LOCKS:
      return None
    raise
  return True


def _check_free(folder: Path, argument: str, file: int, free: bool | None) -> None:
  owner = _owner(file)
  if free is False:
    who = f'by {owner}' if owner else 'by another process'
    raise InUse(argument, folder, f'it is in use {who}', 'wait until that ends, or choose another folder')
  if owner is None:
    return
  me = _me()
  here = me.host == owner.host or (me.kernel and me.kernel == owner.kernel)
  # If locks work, holding ours proves that an owner on this machine has ended.
  ended = free if here or _on_disk(folder) else False
  if not ended and not (here and not _runs(owner.process)):
    remedy = f'choose another folder, or remove {LOCK} there if that process has ended'
    raise InUse(argument, folder, f'it is in use by {owner}', remedy)


def _owner(file: int) -> Owner | None:
  """The owner that the file records; None if it records none, as with locks of other programs."""
  try:
    owner = Owner(**json.loads(os.pread(file, LARGEST, 0)))
    return owner if isinstance(owner.process, int) and all(isinstance(x, str) for x in owner[1:]) else None
  except (OSError, ValueError, TypeError, RecursionError):
    return None


def _me() -> Owner:
  try:
    kernel = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
  except OSError:
    kernel = ''
  return Owner(os.getpid(), socket.gethostname(), kernel, time.strftime('%Y-%m-%d %H:%M:%S %Z'))


def _runs(process: int) -> bool:
  """Whether this machine has a process of this number; it may be a later process."""
  try:
    os.kill(process, 0)
  except (ProcessLookupError, OverflowError):
    return False
  except PermissionError:
    pass
  return True


def _on_disk(folder: Path) -> bool:
  """Whether a folder is on a local disk, not on one that several machines share."""
  try:
    device = os.stat(folder).st_dev
    wanted = f'{os.major(device)}:{os.minor(device)}'
    for line in Path('/proc/self/mountinfo').read_text().splitlines():
      fields, _, rest = line.partition(' - ')
      if fields.split()[2] == wanted:
        return rest.split()[0] in DISKS
  except (OSError, IndexError):
    pass
  return False


def _is_at(file: int, path: Path) -> bool:
  """Whether the open file is still the one of this name."""
  try:
    return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
  except FileNotFoundError:
    return False
