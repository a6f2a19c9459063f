"""Exceptions that carry what a user needs: the argument, its value and the remedy."""

import errno
import os
import re

LONGEST_REASON = 160  # characters of what a library says


class InputError(ValueError):
  """Something the caller gave cannot be used.

  The text is one line: ``argument=value: what is wrong; what to do``.

  Attributes:
    shared: of several processes, all raise it at the same point; otherwise this one fails alone.
  """

  shared = False

  def __init__(self, argument: str, value: object, problem: str, remedy: str):
    super().__init__(argument, value, problem, remedy)
    self.argument, self.value, self.problem, self.remedy = argument, value, problem, remedy

  def __str__(self) -> str:
    text = f'{self.argument}={self.value}: {self.problem}; {self.remedy}'
    return ' '.join(text.split())


class NonFiniteError(InputError):
  """Features or an iterate contain NaN or infinity; the text says where."""


class Interrupted(Exception):
  """A signal asked to stop; what state there was has been handed to the checkpoint. `shared`: in all processes."""

  shared = False


class Lost(RuntimeError):
  """A sum over several processes broke off, as it does when one of them has ended; the text is JAX's own."""


REMEDIES = {
  errno.ENOSPC: 'free space there, or choose another folder',
  errno.EDQUOT: 'free some of your quota there, or choose another folder',
  errno.EFBIG: 'raise the limit of file sizes (ulimit -f), or choose another folder',
  errno.EACCES: 'change its rights, or give another path',
  errno.EPERM: 'change its rights, or give another path',
  errno.EROFS: 'that file system is read-only: choose another folder',
  errno.ENAMETOOLONG: 'give a shorter name',
  errno.EMFILE: 'raise the limit of open files (ulimit -n)',
  errno.ENFILE: 'end other programs: the system has no more open files to give',
  errno.ENOMEM: 'free memory',
  errno.EIO: 'check the disk or the connection to it, then start again',
  errno.ESTALE: 'check the connection to that file system, then start again',
  errno.ETIMEDOUT: 'check the connection to that file system, then start again',
  errno.EBUSY: 'wait for the program that uses it, then start again',
  errno.ETXTBSY: 'wait for the program that uses it, then start again',
  errno.ELOOP: 'remove the symbolic links on the way to it, or give another path',
}
MISPLACED = {  # the path is wrong, or has become so
  errno.ENOENT: 'it was removed or renamed meanwhile: leave it in place and start again',
  errno.ENOTDIR: 'there is a file where a folder should be: remove it, or give another path',
  errno.EISDIR: 'there is a folder where a file should be: remove it, or give another path',
  errno.EEXIST: 'there is a file where a folder should be: remove it, or give another path',
  errno.ENOTEMPTY: 'something else writes there: end it and start again, or choose another folder',
}
_OS_ERROR_CODE = re.compile(r"([^:\n]+) \[os_error_code='?(\w+)")  # how TensorStore ends what it tells


def refusal(argument: str, value: object, problem: str, error: BaseException, remedy: str | None = None) -> InputError:
  """What the operating system refused, with its own reason and a remedy that fits it.

  Args:
    argument, value, problem: as of `InputError`; the reason is told after the problem.
    error: an OSError, or what a library made of one.
    remedy: where the reason says nothing of use, or that the path is wrong.
  """
  code, reason = _reason(error)
  fallback = remedy or MISPLACED.get(code) or 'start again, or give another path'
  return InputError(argument, value, f'{problem} ({reason})', REMEDIES.get(code, fallback))


def _reason(error: BaseException) -> tuple[int | None, str]:
  """The system's error number, where one is behind an error, and its text."""
  seen, one = [], error
  while one is not None and one not in seen:
    seen.append(one)
    if isinstance(one, OSError) and one.errno is not None:
      return one.errno, one.strerror or os.strerror(one.errno)
    told = _OS_ERROR_CODE.search(str(one))
    if told:
      return int(told[2]) if told[2].isdigit() else getattr(errno, told[2], None), told[1].strip()
    one = one.__cause__ or one.__context__
  said = str(error).strip().splitlines() or [type(error).__name__]
  return (errno.ENOENT if 'does not exist' in said[0] else None), said[0].strip()[:LONGEST_REASON]
