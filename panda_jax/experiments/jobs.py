"""Runs of a sweep in several processes at once. This process gives them out.

A fit leaves processor cores idle while it compiles and draws; a small fit also while it solves. In threads of one
process, runs would share signals and figures. Each process has its own part of the sweep, since consecutive runs share
features and programs. When its part is done, it takes the last run of the part with most runs left.
"""

import contextlib
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from panda_jax.errors import InputError, Interrupted
from panda_jax.runtime import signals

POLL_SECONDS = 0.1
NOW_SECONDS = 0.25  # between two progress texts of one process
PREALLOCATE = 'XLA_PYTHON_CLIENT_PREALLOCATE'  # with it, the first process takes three quarters of a GPU's memory

Item, Result = TypeVar('Item'), TypeVar('Result')
Work = Callable[[Item, Callable[[str], None]], Result]  # does one item; reports its progress


class _Process(Generic[Item]):
  """One process and its remaining items."""

  def __init__(self, own: Sequence[Item], target: Callable, *arguments: Any):
    context = multiprocessing.get_context('spawn')
    self.connection, theirs = context.Pipe()
    self.own, self.at = deque(own), None
    self.process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    self.process.start()
    theirs.close()  # so that the end of the process closes the pipe


def done_by(
  jobs: int,
  items: Sequence[Item],
  begin: Callable[..., Work],
  arguments: Sequence[Any],
  now: Callable[[str], None],
  lost: Callable[[Item, str], Result],
) -> Iterator[Result]:
  """The results of the items, in the order in which they end.

  Args:
    jobs: number of processes.
    items: in an order in which consecutive items share most. Items and the next arguments are pickled.
    begin: called once in each process with `arguments`; it returns the function that does an item.
    now: called with the progress of items.
    lost: function of an item whose process died and a sentence; it gives the item's result.

  Raises:
    InputError: of the work, which stops the other processes; or no process is left.
    Interrupted: Ctrl-C or SIGTERM came; the processes get SIGTERM, and this one waits for them.
  """
  shares = [items[len(items) * i // jobs : len(items) * (i + 1) // jobs] for i in range(jobs)]
  processes: list[_Process] = []
  with signals.caught() as caught:
    try:
      # A terminal sends Ctrl-C to all processes. Only this one reacts, and stops the others.
      with signals.withheld(), _without_preallocation():
        for own in shares:
          processes.append(_Process(own, _work, begin, tuple(arguments)))
      yield from _served(processes, caught, now, lost)
    finally:
      for one in processes:
        one.process.terminate()
      for one in processes:
        one.process.join()
        one.connection.close()


def _served(processes, caught, now, lost) -> Iterator:
  """Gives out items until all are done."""
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
          with contextlib.suppress(BrokenPipeError):  # it has died since: the next `recv` finds that
            connection.send(one.at)
  remaining = sum(len(one.own) for one in processes)
  if remaining:
    raise InputError('jobs', len(processes), f'all processes died, with {remaining} runs left', 'give fewer --jobs')


def _next(one: _Process, processes: Sequence[_Process]):
  """The next item for a process: its own, or the last one of the process with most items left."""
  if one.own:
    return one.own.popleft()
  most = max(processes, key=lambda other: len(other.own))
  return most.own.pop() if most.own else None


def _death(code: int | None) -> str:
  by = f'signal {-code}, as where memory runs out' if code is not None and code < 0 else f'exit code {code}'
  return f'its process ended by {by}'


@contextlib.contextmanager
def _without_preallocation() -> Iterator[None]:
  """Processes that are started inside share the memory of a GPU, unless the user has set `PREALLOCATE`."""
  ours = PREALLOCATE not in os.environ
  os.environ.setdefault(PREALLOCATE, 'false')
  try:
    yield
  finally:
    if ours:
      del os.environ[PREALLOCATE]


def _work(connection: Connection, begin: Callable[..., Work], arguments: tuple) -> None:
  """The body of a process."""
  signals.end_with_parent()
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
  """The value, or its text if it cannot be sent."""
  return value if isinstance(value, str | int | float | None) else str(value)
