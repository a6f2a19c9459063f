"""Exceptions that carry what a user needs: the argument, its value and the remedy, told on one line."""

import difflib
import errno
import os
import re
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST = 300 - len('error: ')  # characters of a message, so that a command's line has 300
LONGEST_ARGUMENT, LONGEST_REMEDY, LONGEST_ITEM = 60, 150, 60
LONGEST_REASON = 160  # characters of what a library says
LONGEST_WORDS = 300  # characters of an object's own words, before they are shortened to what a message has room for
LONGEST_WORD = 60  # that is compared with others
MOST_LISTED = 12  # words that a remedy names
MOST_ENTRIES = 8  # of an array or a list, that are written out


class InputError(ValueError):
  """Something the caller gave cannot be used.

  The text is one short line of printable characters: ``argument=value: what is wrong; what to do``, or
  ``argument: not given; what to do``. Long values and problems are shortened in it; the attributes have all.

  Args:
    argument: its name, as the caller wrote it.
    value: of any kind, size and content.
    problem: what is wrong with it.
    remedy: what to do, in a few words.
    items: several things that are wrong, told after `problem`: as many as there is room for, and how many more.

  Attributes:
    shared: of several processes, all raise it at the same point; otherwise this one fails alone.

  Example:
    >>> try:
    ...   panda_jax.fit(features, parts=0)
    ... except panda_jax.InputError as error:
    ...   print(error)
    ...   print(error.argument, error.value, error.missing)
    parts=0: there are 16 positions; give a number from 1 to 16
    parts 0 False
  """

  shared = False

  def __init__(self, argument: str, value: object, problem: str, remedy: str, items: Sequence[str] = ()):
    self._lead, self._items = problem, tuple(items)
    problem = f'{problem}: {", ".join(self._items)}' if self._items else problem
    super().__init__(argument, value, problem, remedy)
    self.argument, self.value, self.problem, self.remedy = argument, value, problem, remedy

  def __str__(self) -> str:
    argument, remedy = brief(self.argument, LONGEST_ARGUMENT), brief(self.remedy, LONGEST_REMEDY)
    room = LONGEST - len(f'{argument}=: ; {remedy}')
    if self.missing:
      return f'{argument}: {self._shortened(room + 1)}; {remedy}'
    value, problem = brief(described(self.value), room), brief(self.problem, room)
    value = brief(value, max(room - len(problem), room // 3))
    return f'{argument}={value}: {self._shortened(room - len(value))}; {remedy}'

  @property
  def missing(self) -> bool:
    """Whether nothing was given, so that there is no value to show."""
    return self.value is None and self.problem.startswith('not given')

  def _shortened(self, room: int) -> str:
    whole = brief(self.problem, room + 1)
    if len(whole) <= room or not self._items:
      return brief(self.problem, room)
    items = [brief(item, LONGEST_ITEM) for item in self._items[:MOST_LISTED]]
    for told in range(len(items), 0, -1):
      more = len(self._items) - told
      text = brief(f'{self._lead}: {", ".join(items[:told])}{f" and {more} more" if more else ""}', room + 1)
      if len(text) <= room:
        return text
    return brief(f'{self._lead}: {len(self._items)} problems', room)


class NonFiniteError(InputError):
  """Features or an iterate contain NaN or infinity; the text says where.

  Example:
    >>> try:
    ...   panda_jax.fit(np.full((4, 2, 2, 3), np.nan), parts=1)
    ... except panda_jax.NonFiniteError as error:
    ...   print(error)
    features=nan in sample 0: at position 0, channel 0 the value is not finite; remove or repair that sample
  """


class Interrupted(KeyboardInterrupt):
  """A signal asked to stop.

  Attributes:
    number: of the signal.
    kept: a sentence that tells what there is to go on from; None where nothing tells.
    shared: it is raised in all of several processes.
  """

  kept: str | None = None
  shared = False

  def __init__(self, number: int):
    super().__init__(number)
    self.number = number


class Lost(RuntimeError):
  """A sum over several processes broke off, as it does when one of them has ended; the text is JAX's own.

  Attributes:
    kept: as of `Interrupted`.
  """

  kept: str | None = None


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
  errno.ENOENT: 'check that nothing removes it meanwhile and start again, or give another path',
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
  number = -1 if code is None else code
  fallback = remedy or MISPLACED.get(number) or 'start again, or give another path'
  return InputError(argument, value, f'{problem} ({reason})', REMEDIES.get(number, fallback))


def _reason(error: BaseException) -> tuple[int | None, str]:
  """The system's error number, where one is behind an error, and its text."""
  seen: list[BaseException] = []
  one: BaseException | None = error
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


def printable(text: str) -> str:
  """The text without anything that a terminal would act on, or that cannot be encoded."""
  if text.isprintable():
    return text
  return ''.join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def brief(text: object, length: int) -> str:
  """A text on one line of printable characters, at most so many: what is too long loses its middle."""
  text = str(text)
  if len(text) > 8 * length:  # before anything that looks at every character
    text = f'{text[: 2 * length]}...{text[-2 * length :]}'
  text = printable(' '.join(text.split()))
  if len(text) <= length:
    return text
  last = max(0, (length - 3) // 2)
  return f'{text[: max(0, length - 3 - last)]}...{text[len(text) - last :]}'[:length]


class _Brief(reprlib.Repr):
  """`repr` that looks at a few entries only."""

  def __init__(self):
    super().__init__()
    self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = MOST_ENTRIES
    self.maxstring = self.maxother = LONGEST_WORDS

  def repr_int(self, value, level):
    return _whole(value)


def described(value: Any) -> str:
  """A value of any kind in a few words, whatever it is and however large."""
  try:
    if isinstance(value, str | os.PathLike):
      return os.fspath(value)
    if isinstance(value, int) and not isinstance(value, bool):
      return _whole(value)
    if hasattr(value, 'shape') and hasattr(value, 'dtype'):
      few = value.size <= MOST_ENTRIES
      return str(value.tolist()) if few else f'{value.dtype} array of shape {"x".join(map(str, value.shape))}'
    if value is None or isinstance(value, bool | float):
      return str(value)
    return _Brief().repr(value)
  except Exception:  # of an object that cannot say what it is
    return f'a {type(value).__name__}'


def _whole(value: int) -> str:
  digits = int(value.bit_length() * 0.30103) + 1
  return str(value) if digits <= 40 else f'a number of {digits:,} digits'


def nearest(word: str, words: Iterable[str], otherwise: str = '', before: str = '') -> str:
  """A remedy: the known word that looks like this one, or the few there are; `otherwise` in place of many.

  `before` stands before each.
  """
  words = sorted(words)
  found = difflib.get_close_matches(word[:LONGEST_WORD], words, n=1, cutoff=0.6)
  if found:
    return f'did you mean {before}{found[0]}?'
  if otherwise and len(words) > MOST_LISTED:
    return otherwise
  more = f' and {len(words) - MOST_LISTED} more' if len(words) > MOST_LISTED else ''
  return f'give one of {", ".join(before + known for known in words[:MOST_LISTED])}{more}'
