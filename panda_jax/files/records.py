"""JSON from files that may be malicious: it has limits on size and depth, and must have the wanted form."""

import json
import math
import os
import re
from typing import Any

from panda_jax.errors import InputError
from panda_jax.files.access import read_bytes, write_atomically

LARGEST_JSON = 16 << 20  # bytes of a JSON file
MOST_CONTAINERS = 1_000_000  # lists and objects, each of 64 bytes or more; a fit of 2000 iterations has 2000
DEEPEST = 32  # nested lists and objects
LARGEST_NUMBER = 1 << 63  # of whole numbers: arrays can hold up to this
_SURROGATE = re.compile(rb'\\u[dD][89a-fA-F]')


def read_json(path: str | os.PathLike, argument: str, form: Any = dict, remedy: str = 'write it again') -> Any:
  """The value in a JSON file, checked against a form.

  Args:
    path: of a regular file.
    argument, remedy: of the InputError.
    form: see `misfit`.

  Raises:
    InputError: it cannot be read, is not JSON, or has another form.
  """
  content = read_bytes(path, argument, remedy, LARGEST_JSON)
  try:
    return parsed_json(content, form)
  except ValueError as error:
    raise InputError(argument, path, f'{error}', remedy) from error


def parsed_json(content: bytes | str, form: Any = dict) -> Any:
  """The value in a JSON text. Depth, size and numbers are limited; NaN and infinity are not JSON.

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
      json.dumps(value, ensure_ascii=False).encode()  # raises for half a surrogate pair, which cannot be printed
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
  number = int(text)  # Python itself refuses numbers of thousands of digits
  if abs(number) > LARGEST_NUMBER:
    raise ValueError(f'{text[:20]}... is too large a number')
  return number


def _finite(text: str) -> float:
  number = float(text)
  if not math.isfinite(number):
    raise ValueError(f'{text[:20]} is beyond all numbers')
  return number


def _no_number(text: str) -> float:
  raise ValueError(f'{text} is not a number')


def misfit(value: Any, form: Any, name: str = 'it') -> str | None:
  """The first part of a JSON value that does not fit a form, as a sentence; None if all fits.

  Args:
    value: from `json.loads`.
    form: a type (`float` is any number, `object` anything); None; a tuple of forms, one of which must fit; `[form]` for
      a list of such values; or a dict of forms by key (a key with a question mark may be missing, and other keys may be
      present), or by `str` for a dict whose values all have one form.
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


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes indented JSON, completely or not at all."""
  write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + '\n').encode())
