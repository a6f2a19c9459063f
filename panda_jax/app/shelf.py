"""Objects that the explorer holds in memory for its users, each for a limited time and under a key nobody can guess."""

import secrets
import threading
import time
from collections import OrderedDict
from typing import Any, NamedTuple

MOST_BYTES = 512 << 20  # of all objects; a photograph has some 5 MB
SECONDS = 3600  # unused


class _Thing(NamedTuple):
  value: Any
  size: int
  used: float


class Shelf:
  """Objects of users. Each is dropped when it is unused for `SECONDS`, or sooner if others need the memory."""

  def __init__(self):
    self._things: OrderedDict[str, _Thing] = OrderedDict()  # in the order of last use
    self._lock = threading.RLock()
    self._timer: threading.Timer | None = None

  def put(self, value: Any, size: int) -> str:
    """Holds an object of `size` bytes; returns its key."""
    key = secrets.token_urlsafe(16)
    with self._lock:
      self._things[key] = _Thing(value, size, time.monotonic())
      while len(self._things) > 1 and sum(thing.size for thing in self._things.values()) > MOST_BYTES:
        self._things.popitem(last=False)
      self._watch()
    return key

  def get(self, key: Any) -> Any:
    """The object of a key; None if it is not held, or no longer."""
    with self._lock:
      thing = self._things.get(key) if isinstance(key, str) else None
      if thing is None:
        return None
      self._things[key] = thing._replace(used=time.monotonic())
      self._things.move_to_end(key)
      return thing.value

  def _watch(self) -> None:
    """Drops objects that have been unused for too long, and sets a timer for the next one."""
    with self._lock:
      while self._things:
        key, thing = next(iter(self._things.items()))
        left = thing.used + SECONDS - time.monotonic()
        if left > 0:
          if self._timer is None:
            self._timer = threading.Timer(left, self._rung)
            self._timer.daemon = True
            self._timer.start()
          return
        del self._things[key]

  def _rung(self) -> None:
    with self._lock:
      self._timer = None
      self._watch()
