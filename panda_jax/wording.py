"""Values and texts of any kind and size in a few words, for one line of a message."""

import difflib
import os
import reprlib
from collections.abc import Iterable

LONGEST = 300  # characters of an object's own words, before they are shortened to what a message has room for
LONGEST_WORD = 60  # that is compared with others
MOST_LISTED = 12  # words that a remedy names
MOST_ENTRIES = 8  # of an array or a list, that are written out


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
    self.maxstring = self.maxother = LONGEST

  def repr_int(self, value, level):
    return _whole(value)


def described(value: object) -> str:
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
