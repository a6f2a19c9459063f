"""Ctrl-C (SIGINT) and SIGTERM: save what is useful, say what was saved, and stop.

Work that saves regularly checks the list from `caught`; in other work, `raising` raises `Interrupted`, and unfinished
files are removed. `keeping` adds a sentence about what is kept. A command calls `listen` first: then a signal can stop
its imports too, and a second Ctrl-C ends it at once. Python itself handles a signal only between two of its own
instructions, which may be a minute apart while XLA compiles; so a thread waits for signals.
"""

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, cast

from panda_jax.errors import Interrupted

NAMES: dict[int, str] = {signal.SIGINT: 'Ctrl-C', signal.SIGTERM: 'SIGTERM'}
AGAIN = 0.02  # seconds until a signal is repeated that was raised where Python ignores exceptions
ONE_PRESS = 0.3  # seconds within which two count as one: some programs signal a process and its group
STOPPING = 'stopping at the next step; Ctrl-C again stops at once'

_keeping: list[Callable[[], str | None]] = []  # sentences of the open blocks, the innermost last
_patient: list[list[int]] = []  # what each open block of `caught` has caught
_listening = threading.Event()


def sentence(number: int | None, kept: str | None) -> str:
  """The last message of a command; `number` is None if another process got the signal."""
  by = f'stopped by {NAMES[number]}' if number in NAMES else 'stopped'
  return f'{by}; {kept}' if kept else by


def exit_code(number: int | None) -> int:
  """The exit status that shells use for a signal."""
  return 128 + (number or signal.SIGINT)


def listen() -> None:
  """For a command, before its imports: outside of `raising` and `caught` a signal ends it at once, with a sentence."""
  read, write = os.pipe()
  os.set_blocking(write, False)
  for number in NAMES:
    signal.signal(number, lambda number, frame: _leave(number, 'nothing was begun'))
  signal.set_wakeup_fd(write, warn_on_full_buffer=False)
  threading.Thread(target=_hear, args=(read,), daemon=True).start()
  _listening.set()
  if hasattr(signal, 'pthread_sigmask'):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NAMES)  # see `supervision.supervise`


def ignore() -> None:
  """For a command that has finished its work and only has to exit."""
  for number in NAMES:
    signal.signal(number, signal.SIG_IGN)


def _leave(number: int, kept: str | None) -> None:
  os.write(2, f'{sentence(number, kept)}\n'.encode())
  os._exit(exit_code(number))


def _hear(read: int) -> None:
  """Ends the process at a second Ctrl-C, whatever it does. A second SIGTERM does not: programs repeat it routinely."""
  first: float | None = None
  while received := os.read(read, 1):
    number, now = received[0], time.monotonic()
    if first is None and number in NAMES:
      first = now
      if _patient:
        os.write(2, f'{NAMES[number]}: {STOPPING}\n'.encode())
    elif first is not None and number == signal.SIGINT and now - first >= ONE_PRESS:
      _leave(number, _keeping[-1]() if _keeping else None)


@contextlib.contextmanager
def withheld() -> Iterator[None]:
  """Delays Ctrl-C until the end of the block; processes that are started in the block do not get it."""
  if not hasattr(signal, 'pthread_sigmask'):
    yield
    return
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _handled(handler: Callable) -> Iterator[None]:
  """Sends signals to a handler, in the main thread; in other threads it does nothing."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = {number: signal.signal(number, handler) for number in NAMES}
  try:
    yield
  finally:
    for number, old in before.items():
      signal.signal(number, signal.SIG_DFL if old is None else old)


@contextlib.contextmanager
def caught() -> Iterator[list[int]]:
  """A list to which the numbers of caught signals are added; the work must check it.

  Raises:
    Interrupted: at the second Ctrl-C, if no thread listens.
  """
  numbers: list[int] = []
  times: list[float] = []

  def handler(number, frame):
    numbers.append(number)
    times.append(time.monotonic())
    again = number == signal.SIGINT and times[-1] - times[0] > ONE_PRESS
    if again and not _listening.is_set():
      raise Interrupted(number)

  with _handled(handler):
    _patient.append(numbers)
    try:
      yield numbers
    finally:
      _patient.pop()


@contextlib.contextmanager
def raising() -> Iterator[None]:
  """A signal raises `Interrupted` in the block, once; any other error that follows from it becomes `Interrupted` too.

  A command that is still importing ends at once, since some libraries print an exception that is raised in them.
  """
  numbers: list[int] = []

  def handler(number, frame):
    numbers.append(number)
    if _listening.is_set() and len(_keeping) < 2 and _imports(frame):
      _leave(number, _keeping[-1]() if _keeping else None)
    if len(numbers) == 1:  # a second one would interrupt the removal of unfinished files
      raise Interrupted(number)

  with _handled(handler), _not_ignored(numbers):
    try:
      yield
    except Exception as error:  # an interrupted import fails with any error
      if not numbers:
        raise
      stopped = Interrupted(numbers[0])
      stopped.kept = getattr(error, 'kept', None)
      raise stopped from error


@contextlib.contextmanager
def _not_ignored(numbers: list[int]) -> Iterator[None]:
  """Repeats a signal that was raised in a callback of the garbage collector or in `__del__`, where Python ignores it.

  `numbers`: the signals raised in the block; an ignored one is removed from it.
  """
  before = sys.unraisablehook

  def hook(ignored):
    if not isinstance(ignored.exc_value, Interrupted):
      return before(ignored)
    number = ignored.exc_value.number
    numbers.clear()
    later = threading.Timer(AGAIN, _thread.interrupt_main, (number,))  # in here it would be ignored too
    later.daemon = True
    later.start()

  sys.unraisablehook = hook
  try:
    yield
  finally:
    sys.unraisablehook = before


def _imports(frame: FrameType | None) -> bool:
  """Whether an import is running."""
  while frame:
    if frame.f_code.co_filename.startswith('<frozen importlib'):
      return True
    frame = frame.f_back
  return False


@contextlib.contextmanager
def keeping(kept: Callable[[], str | None], done: str | None = None) -> Iterator[None]:
  """Adds a sentence to any exception of the block, in its attribute `kept` unless it has one: what is kept.

  Args:
    kept: returns the sentence; may be called in any thread.
    done: the sentence for signals after the block.
  """
  depth = len(_keeping)
  _keeping.append(kept)
  try:
    yield
  except BaseException as error:
    if getattr(error, 'kept', None) is None:
      with contextlib.suppress(AttributeError):  # of errors that take no more
        cast(Any, error).kept = _keeping[depth]()
    raise
  finally:
    del _keeping[depth:]
  if done and _keeping:
    _keeping[-1] = lambda: done


def end_with_parent() -> None:
  """Ends this process, one of `multiprocessing`, when its parent is killed, so that nothing writes into its folder."""
  import multiprocessing.connection  # a command imports this module first of all

  def wait() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()
