"""Files: written whole or not at all and never through a link, folders claimed, and what others may have written read.

Arrays are read by `arrays`, with what is here. Nothing that is read is trusted: only regular files are opened, sizes
are bounded before anything is allocated, and what is found is of the expected form, or an InputError says why not.
"""

import contextlib
import fnmatch
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from panda_jax import signals
from panda_jax.errors import InputError, refusal
from panda_jax.lock import locked

# Files that commands write into their folders.
RESULTS = ('*.npy', '*.npz', '*.png', '*.gif', '*.json', '*.html', '.*.tmp', '.*.partial')
LARGEST_JSON = 16 << 20  # bytes of a JSON file
MOST_CONTAINERS = 1_000_000  # lists and objects in it, of 64 bytes at least; a fit of 2000 iterations has 2000
DEEPEST = 32  # of lists and objects inside each other
LARGEST_NUMBER = 1 << 63  # of whole ones, which arrays can hold
_SURROGATE = re.compile(rb'\\u[dD][89a-fA-F]')


def open_regular(path: str | os.PathLike, argument: str, remedy: str, largest: int | None = None) -> BinaryIO:
  """Opens a file to be read: never a folder, a pipe or a device, on which reading would fail, wait or not end.

  Args:
    path: a link that is given to a regular file is as good as the file.
    argument, remedy: of the InputError.
    largest: bytes that the file may have.

  Raises:
    InputError: there is no such file, or it is no regular one, or too large.
  """
  try:
    _check_regular(os.stat(path), path, argument, remedy, largest)
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, 'O_NONBLOCK', 0)), 'rb')
  except InputError:
    raise
  except (OSError, ValueError) as error:  # a ValueError: a zero byte in the path
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
  """What a regular file of at most `largest` bytes holds.

  Raises:
    InputError: as of `open_regular`.
  """
  with open_regular(path, argument, remedy, largest) as file:
    try:
      content = file.read(largest + 1)
    except OSError as error:
      raise refusal(argument, path, 'it cannot be read', error, remedy) from error
  if len(content) > largest:
    raise InputError(argument, path, f'it is larger than {largest >> 20} MB', remedy)
  return content


def read_json(path: str | os.PathLike, argument: str, form: Any = dict, remedy: str = 'write it again') -> Any:
  """The value in a JSON file, of the form that is wanted.

  Args:
    path: of a regular file.
    argument, remedy: of the InputError.
    form: see `misfit`.

  Raises:
    InputError: it cannot be read, is no JSON, or of another form.
  """
  content = read_bytes(path, argument, remedy, LARGEST_JSON)
  try:
    return parsed_json(content, form)
  except ValueError as error:
    raise InputError(argument, path, f'{error}', remedy) from error


def parsed_json(content: bytes | str, form: Any = dict) -> Any:
  """The value in a JSON text. Depth, size and numbers are bounded; NaN and infinity are no JSON.

  Raises:
    ValueError: with a text that says what is wrong.
  """
  try:
    content = content.encode() if isinstance(content, str) else content
    if content.count(b'[') + content.count(b'{') > MOST_CONTAINERS:
      raise ValueError(f'more than {MOST_CONTAINERS} lists and objects')
    text = content.decode()
    value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
    if _SURROGATE.search(content):
      json.dumps(value, ensure_ascii=False).encode()  # raises for half a character, which nobody could print
  except (ValueError, RecursionError) as error:
    said = 'too many lists inside each other' if isinstance(error, RecursionError) else str(error)
    raise ValueError(f'it is not JSON ({said[:120]})') from error
  level, depth = [value], 0
  while level:
    depth += 1
    if depth > DEEPEST + 1:
      raise ValueError(f'lists and objects are more than {DEEPEST} deep in it')
    level = [inner for outer in level if isinstance(outer, list | dict) for inner in _inside(outer)]
  wrong = misfit(value, form)
  if wrong:
    raise ValueError(wrong)
  return value


def _inside(value: list | dict):
  return value if isinstance(value, list) else value.values()


def _whole(text: str) -> int:
  number = int(text)  # Python itself refuses thousands of digits
  if abs(number) > LARGEST_NUMBER:
    raise ValueError(f'{text[:20]}... is too large a number')
  return number


def _finite(text: str) -> float:
  number = float(text)
  if not math.isfinite(number):
    raise ValueError(f'{text[:20]} is beyond all numbers')
  return number


def _no_number(text: str) -> float:
  raise ValueError(f'{text} is no number')


def misfit(value: Any, form: Any, name: str = 'it') -> str | None:
  """What in a JSON value is not of a form, as a sentence; None where all is.

  Args:
    value: of `json.loads`.
    form: a type (`float` is any number, `object` anything); None; a tuple of forms, one of which must fit; `[form]` for
      a list of such; or a dict of forms by key, where a key with a question mark may be missing and others may be
      there, or by `str`, for a dict of values that are all of one form.
    name: of the value, in the sentence.
  """
  if isinstance(form, tuple):
    return None if any(misfit(value, one) is None for one in form) else f'{name} is not {_words(form)}'
  if isinstance(form, dict) and isinstance(value, dict):
    if str in form:
      return next(
        (wrong for key, one in value.items() if (wrong := misfit(one, form[str], f'{key[:40]} of {name}'))), None
      )
    for key, inner in form.items():
      bare = key.removesuffix('?')
      if bare not in value:
        if bare == key:
          return f'{name} lacks {key}'
        continue
      wrong = misfit(value[bare], inner, bare)
      if wrong:
        return wrong
    return None
  if isinstance(form, list) and isinstance(value, list):
    return next((wrong for one in value if (wrong := misfit(one, form[0], f'an entry of {name}'))), None)
  if form is None:
    fits = value is None
  elif form is float or form is int:
    fits = isinstance(value, int if form is int else int | float) and not isinstance(value, bool)
  else:
    fits = isinstance(form, type) and isinstance(value, form)
  return None if fits else f'{name} is not {_words(form)}'


def _words(form: Any) -> str:
  if isinstance(form, tuple):
    return ' or '.join(map(_words, form))
  if isinstance(form, dict | list):
    return 'an object' if isinstance(form, dict) else 'a list'
  names = {
    dict: 'an object',
    list: 'a list',
    str: 'a text',
    float: 'a number',
    int: 'a whole number',
    bool: 'yes or no',
  }
  return names.get(form, 'null')


def check_no_link(folder: str | os.PathLike, name: str | os.PathLike = '', argument: str = 'workdir') -> None:
  """Raises InputError where `name`, or a folder between, is a symbolic link inside `folder`, which may itself be one.

  A link could lead what is written or deleted to any place, and who made the folder may be somebody else.
  """
  path = Path(folder)
  for piece in Path(name).parts:
    path = path / piece
    if os.path.islink(path):
      shown = path.relative_to(folder)
      raise InputError(
        argument,
        folder,
        f'{shown} in it is a symbolic link, and nothing is written or deleted through one',
        'remove the link, or choose another folder',
      )


def check_no_links(folder: str | os.PathLike, names: Iterable[str], argument: str = 'workdir') -> None:
  """`check_no_link` for every entry of a folder that matches one of the patterns."""
  try:
    there = sorted(os.listdir(folder))
  except OSError:
    return
  patterns = tuple(names)
  for name in there:
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
      check_no_link(folder, name, argument)


def check_no_links_below(folder: str | os.PathLike, name: str, argument: str = 'workdir') -> None:
  """Raises InputError where a folder inside `folder` is a symbolic link or has one in it, at any depth."""
  check_no_link(folder, name, argument)
  for place, folders, files in os.walk(Path(folder) / name):
    for inner in (*folders, *files):
      check_no_link(folder, (Path(place) / inner).relative_to(folder), argument)


def write_atomically(path: str | os.PathLike, data: bytes, argument: str = 'workdir') -> None:
  """Writes a file so that it is either whole or not there, and an old one survives a failure.

  Args:
    path: of the file.
    data: all that it holds.
    argument: of the InputError.

  Raises:
    InputError: it cannot be written, or a symbolic link is there.
  """
  path = Path(path)
  check_no_link(path.parent, path.name, argument)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    check_no_link(path.parent, temporary.name, argument)
    temporary.unlink(missing_ok=True)  # of a killed process that had the same number
    try:
      with open(temporary, 'xb') as file:  # never through what is there
        file.write(data)
      os.replace(temporary, path)
    except BaseException:
      with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
      raise
  except OSError as error:
    raise refusal(argument, path.parent, f'{path.name} could not be written', error) from error


def write_json(path: str | os.PathLike, value: Any) -> None:
  """JSON, indented; whole or not at all."""
  write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + '\n').encode())


@contextlib.contextmanager
def claimed(
  out: Path,
  record: str,
  settings: dict[str, Any],
  what: str,
  overwrite: bool,
  *,
  marker: str,
  keys: Iterable[str] = ('settings',),
  replaced: Iterable[str] = (),
) -> Iterator[None]:
  """Makes and locks a folder that a command writes into, unless results of other settings are there already.

  One that is made for nothing goes away again.

  Args:
    out: folder.
    record: name of the JSON file that is written last and tells whose results are there.
    settings: JSON values that tell these results from others.
    what: such other results, with their verb.
    overwrite: take the folder nevertheless.
    marker: a file that is a result too, of nobody knows what settings where there is no record.
    keys: of the record, one inside the other, that lead to its settings.
    replaced: patterns of files that go when others are overwritten: the record, and what may not be written again.

  Raises:
    InputError: other results are there, or a link in place of a result; another process writes there; or what the block
      writes cannot be written.
  """
  new = not os.path.lexists(out)
  dropped = 'nothing of it is kept: the same command starts from the beginning'
  try:
    with locked(out, 'out'), signals.keeping(lambda: dropped, f'the results are in {out}'):
      check_no_links(out, (record, marker, *replaced, *RESULTS), 'out')
      there = any(os.path.lexists(out / name) for name in (record, marker))
      if there and _settings_in(out / record, keys) != json.loads(json.dumps(settings)):
        if not overwrite:
          raise InputError('out', out, f'{what} there', 'choose another folder with --out, or use --overwrite')
        for pattern in replaced:
          for old in out.glob(pattern):
            old.unlink()
      yield
  except BaseException:
    if new:
      with contextlib.suppress(OSError):  # where something was kept
        out.rmdir()
    raise


def _settings_in(path: Path, keys: Iterable[str]) -> Any:
  """None where nothing can be read, which equals no settings."""
  try:
    found = read_json(path, 'out')
    for key in keys:
      found = found[key]
  except (InputError, KeyError, TypeError):
    return None
  return found
