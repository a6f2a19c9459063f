"""Objects of users have keys that cannot be guessed, and they expire."""

import time

from panda_jax.app import shelf
from panda_jax.app.shelf import Shelf


def test_things_are_found_by_their_keys_and_by_nothing_else():
  things = Shelf()
  keys = [things.put(i, 1) for i in range(3)]
  assert [things.get(key) for key in keys] == [0, 1, 2]
  assert all(len(key) >= 20 for key in keys)
  assert [things.get(wrong) for wrong in ('', None, 0, [keys[0]], keys[0][:-1])] == [None] * 5


def test_the_longest_unused_makes_room(monkeypatch):
  monkeypatch.setattr(shelf, 'MOST_BYTES', 10)
  things = Shelf()
  first, second = things.put('a', 4), things.put('b', 4)
  assert things.get(first) == 'a'
  third = things.put('c', 4)
  assert [things.get(key) for key in (first, second, third)] == ['a', None, 'c']
  large = things.put('d', 99)  # a single object is always held
  assert [things.get(key) for key in (first, third, large)] == [None, None, 'd']


def test_what_is_unused_is_dropped_though_nobody_asks(monkeypatch):
  monkeypatch.setattr(shelf, 'SECONDS', 0.2)
  things = Shelf()
  for _ in range(2):  # the timer is set again
    things.put('a', 1)
    end = time.monotonic() + 60
    while things._things:
      assert time.monotonic() < end
      time.sleep(0.02)
