"""Ctrl-C (SIGINT) and SIGTERM: save what is worth keeping, say what was saved, and stop.

Work that saves as it goes looks into what it has `caught`; in other work, `raising` raises `Interrupted`, which clears
away what is half done. `keeping` has the sentence that tells what is kept. A command `listen`s first of all: then its
imports can be stopped too, and a second Ctrl-C ends it at once. Python itself would hear of that only between two of
its own instructions, which may be a minute apart while XLA compiles; so a thread listens.
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
AGAIN = 0.02  # seconds until a signal comes again that was raised where Python ignores what is raised
ONE_PRESS = 0.3  # seconds in which two count as one: some programs send theirs to a process and to its group
STOPPING = 'stopping at the next step; Ctrl-C again stops at once'

_keeping: list[Callable[[], str | None]] = []  # the sentences of the blocks that are open, the innermost last
_patient: list[list[int]] = []  # what the open blocks of `caught` have caught
_listening = threading.Event()


def sentence(number: int | None, kept: str | None) -> str:
  """What a command says at its end; `number` is None where another process got the signal."""
  by = f'stopped by {NAMES[number]}' if number in NAMES else 'stopped'
  return f'{by}; {kept}' if kept else by


def exit_code(number: int | None) -> int:
  """As a shell tells a signal."""
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
  """For a command that has done its work and only ends."""
  for number in NAMES:
    signal.signal(number, signal.SIG_IGN)


def _leave(number: int, kept: str | None) -> None:
  os.write(2, f'{sentence(number, kept)}\n'.encode())
  os._exit(exit_code(number))


def _hear(read: int) -> None:
  """Ends the process at a second Ctrl-C, whatever it is doing. SIGTERM is sent twice without impatience."""
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
  """Ctrl-C waits until the end of the block, and does not reach processes that are started in it."""
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
  """Signals go to a handler, in the main thread; outside of it they are somebody else's."""
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
  """A list that signals add themselves to, for work that looks into it.

  Raises:
    Interrupted: at the second Ctrl-C, where nobody listens.
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
  """A signal raises `Interrupted` in the block, once; whatever error that leads to is the signal's, too.

  A command that still imports, and has begun nothing, it ends at once: some libraries print what is raised in them.
  """
  numbers: list[int] = []

  def handler(number, frame):
    numbers.append(number)
    if _listening.is_set() and len(_keeping) < 2 and _imports(frame):
      _leave(number, _keeping[-1]() if _keeping else None)
    if len(numbers) == 1:  # a second one would leave half of what is being cleared away
      raise Interrupted(number)

  with _handled(handler), _not_ignored(numbers):
    try:
      yield
    except Exception as error:  # an import that was cut short fails with anything
      if not numbers:
        raise
      stopped = Interrupted(numbers[0])
      stopped.kept = getattr(error, 'kept', None)
      raise stopped from error


@contextlib.contextmanager
def _not_ignored(numbers: list[int]) -> Iterator[None]:
  """A signal that met a callback of the garbage collector or a `__del__`, where Python ignores it, comes again.

  `numbers`: what was raised in the block, which is then forgotten.
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
  """Whether an import is going on."""
  while frame:
    if frame.f_code.co_filename.startswith('<frozen importlib'):
      return True
    frame = frame.f_back
  return False


@contextlib.contextmanager
def keeping(kept: Callable[[], str | None], done: str | None = None) -> Iterator[None]:
  """Tells what is kept of a block that ends early: whatever is raised in it has `kept`, unless it has one already.

  Args:
    kept: says it when asked, in any thread.
    done: is said of what comes after the block.
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
