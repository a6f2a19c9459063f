"""What the page sends when a control is used: JSON of few kinds of values, and of a bounded size.

Of any component Gradio takes the path or address of a file in place of a value, and copies what is there; and what it
does not expect ends in a traceback. So nothing else gets there than what is read here, written anew.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

LARGEST = 24 << 20  # bytes: a session and a photograph
MOST_VALUES = 20_000  # a stroke of a brush has some 8000; a value takes far more memory than its characters
MOST_QUOTES = 500_000  # those in the text of a session among them
DEEPEST = 4  # lists in lists
_HALF = re.compile('[\ud800-\udfff]')  # of a character, which no encoding has
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # the last one may break off
VISIT = re.compile(r'\w{1,64}', re.ASCII)  # the name of a page that is open


def checked(body: bytes, inputs: Mapping[int, int]) -> dict[str, Any] | None:
  """The message in a request, or None if it is none.

  Args:
    body: of the request.
    inputs: {number of a control: how many values come with it}.

  Returns:
    fn_index, data, event_data and session_hash, whose texts can be encoded. What the values mean is not known here.
  """
  if len(body) > LARGEST or body.count(b'"') > MOST_QUOTES:
    return None
  if sum(map(_TEXT.sub(b'', body).count, (b',', b'[', b'{'))) > MOST_VALUES:
    return None
  try:
    values = json.loads(body.decode())
  except (ValueError, RecursionError):
    return None
  if not isinstance(values, dict):
    return None
  control, data, visit, event = (values.get(name) for name in ('fn_index', 'data', 'session_hash', 'event_data'))
  if type(control) is not int or control not in inputs or not isinstance(data, list) or len(data) != inputs[control]:
    return None
  if not isinstance(visit, str) or not VISIT.fullmatch(visit):
    return None
  if not all(_plain(value, 0) for value in data) or not _plain(event, DEEPEST):
    return None
  return {'fn_index': control, 'data': data, 'event_data': event, 'session_hash': visit}


def _plain(value: Any, depth: int) -> bool:
  """Whether it is yes or no, a number or a text, or lists and dicts of such, at most `depth` in each other."""
  match value:
    case None | bool() | int() | float():
      return True
    case str():
      return not _HALF.search(value)
    case list():
      return depth > 0 and all(_plain(item, depth - 1) for item in value)
    case dict():
      return depth > 0 and all(_plain(key, 0) and _plain(item, depth - 1) for key, item in value.items())
  return False
