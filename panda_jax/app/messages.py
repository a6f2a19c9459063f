"""What the page sends: a JSON object with limits to its size, the number of its values and their nesting."""

import re
from collections.abc import Mapping
from typing import Any

from panda_jax.files.records import parsed_json

LARGEST = 24 << 20  # bytes: enough for a photograph and a choice of painted masks
MOST_VALUES = 20_000  # a value takes far more memory than its text
MOST_QUOTES = 5_000
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # the last one may be incomplete


def checked(body: bytes) -> Mapping[str, Any] | None:
  """The message in a request's body, or None if it is not valid. The values' meaning is not checked here."""
  if len(body) > LARGEST or body.count(b'"') > MOST_QUOTES:
    return None
  if sum(map(_TEXT.sub(b'', body).count, (b',', b'[', b'{'))) > MOST_VALUES:
    return None
  try:
    return parsed_json(body)
  except ValueError:
    return None
