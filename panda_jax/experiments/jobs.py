"""Runs of a sweep in several processes at once, which take them from this one.

A fit leaves processor cores idle while it compiles and draws, and a small one while it solves too. In threads of one
process, runs would share signals and figures. Each process begins in another part of the sweep, since neighbours share
features and programs; when that is done, it takes from the end of the part of which most is left.
"""

import contextlib
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from panda_jax.errors import InputError, Interrupted
from panda_jax.runtime import signals

POLL_SECONDS = 0.1
NOW_SECONDS = 0.25  # between two texts of one process
PREALLOCATE = 'XLA_PYTHON_CLIENT_PREALLOCATE'  # the first process would take three quarters of a GPU's memory

Item, Result = TypeVar('Item'), TypeVar('Result')
Work = Callable[[Item, Callable[[str], None]], Result]  # does one item; tells how it stands


class _Process(Generic[Item]):
  """One process, and the items that are still its own."""

  def __init__(self, own: Sequence[Item], target: Callable, *arguments: Any):
    context = multiprocessing.get_context('spawn')
    self.connection, theirs = context.Pipe()
    self.own, self.at = deque(own), None
    self.process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    self.process.start()
    theirs.close()  # so that its end is noticed


def done_by(
  jobs: int,
  items: Sequence[Item],
  begin: Callable[..., Work],
  arguments: Sequence[Any],
  now: Callable[[str], None],
  lost: Callable[[Item, str], Result],
) -> Iterator[Result]:
  """What became of the items, as they are finished.

  Args:
    jobs: processes.
    items: neighbours share most. They, and all that follows, are pickled.
    begin: called once in each process with `arguments`; it returns the function that does an item.
    now: told how items stand.
    lost: the result of an item whose process died, from that and a sentence.

  Raises:
    InputError: of the work, which stops the others; or no process is left.
    Interrupted: Ctrl-C or SIGTERM came; the others are told by SIGTERM, and waited for.
  """
  shares = [items[len(items) * i // jobs : len(items) * (i + 1) // jobs] for i in range(jobs)]
  processes: list[_Process] = []
  with signals.caught() as caught:
    try:
      with (
        signals.withheld(),
        _without_preallocation(),
      ):  # a terminal sends Ctrl-C to all, and this one tells the others
        processes += [_Process(own, _work, begin, tuple(arguments)) for own in shares]
      yield from _served(processes, caught, now, lost)
    finally:
      for one in processes:
        one.process.terminate()
      for one in processes:
        one.process.join()
        one.connection.close()


def _served(processes, caught, now, lost) -> Iterator:
  """Hands out items until all are done."""
  left = {one.connection: one for one in processes}
  while left:
    ready = wait(list(left), POLL_SECONDS)
    if caught:
      raise Interrupted(caught[0])
    for connection in ready:
      one = left[connection]
      try:
        kind, content = connection.recv()
      except (EOFError, ConnectionResetError):
        del left[connection]
        one.process.join()
        if one.at is not None:
          yield lost(one.at, _death(one.process.exitcode))
        continue
      if kind == 'now':
        now(content)
      elif kind == 'refused':
        raise InputError(*content)
      else:
        if kind == 'done':
          yield content
        one.at = _next(one, processes)
        if one.at is None:
          del left[connection]
        else:
          connection.send(one.at)
  remaining = sum(len(one.own) for one in processes)
  if remaining:
    raise InputError('jobs', len(processes), f'all processes died, with {remaining} runs left', 'give fewer --jobs')


def _next(one: _Process, processes: Sequence[_Process]):
  """The next item for a process: its own, or the last of whoever has most left."""
  if one.own:
    return one.own.popleft()
  most = max(processes, key=lambda other: len(other.own))
  return most.own.pop() if most.own else None


def _death(code: int | None) -> str:
  by = f'signal {-code}, as where memory runs out' if code is not None and code < 0 else f'exit code {code}'
  return f'its process ended by {by}'


@contextlib.contextmanager
def _without_preallocation() -> Iterator[None]:
  """Processes that are started inside share the memory of a GPU, unless the user has said how."""
  ours = PREALLOCATE not in os.environ
  os.environ.setdefault(PREALLOCATE, 'false')
  try:
    yield
  finally:
    if ours:
      del os.environ[PREALLOCATE]


def _work(connection: Connection, begin: Callable[..., Work], arguments: tuple) -> None:
  """The body of a process."""
  threading.Thread(target=_end_with_parent, daemon=True).start()
  told = [0.0]

  def now(text: str) -> None:
    if time.monotonic() - told[0] >= NOW_SECONDS:
      told[0] = time.monotonic()
      connection.send(('now', text))

  try:
    work = begin(*arguments)
    connection.send(('ready', None))
    while True:
      item = connection.recv()
      connection.send(('done', work(item, now)))
  except InputError as error:
    connection.send(('refused', (error.argument, _plain(error.value), error.problem, error.remedy)))
  except (Interrupted, EOFError, BrokenPipeError):
    pass


def _plain(value: object) -> object:
  """What can be sent."""
  return value if isinstance(value, str | int | float | None) else str(value)


def _end_with_parent() -> None:
  """Whoever kills the command leaves nobody behind who writes into its folder."""
  parent = multiprocessing.parent_process()
  assert parent is not None
  wait([parent.sentinel])
  os._exit(1)
