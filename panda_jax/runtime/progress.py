"""What a person sees of a computation, on process 0: a line that changes in a notebook or on a terminal, a line now and
then elsewhere, so that nobody takes a command for dead.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax

from panda_jax.errors import InputError
from panda_jax.runtime import notebook

PLAIN_SECONDS = 10.0  # between two lines that say how far something is
SILENT_SECONDS = 30.0  # after which a line says that it goes on, if nothing else has been said
NOTEBOOK_SECONDS = 0.1  # between two changes of the line: each is sent to the browser


def wanted(progress: bool | None) -> bool:
  """Whether to show progress: as asked for, or, where nothing was asked for, in notebooks.

  Raises:
    InputError: `progress` is neither true, false nor None.
  """
  if progress is None:
    return notebook.running()
  if not isinstance(progress, bool):
    raise InputError('progress', progress, 'it is neither true nor false', 'give True, False, or None')
  return progress


class Progress:
  """Shows passes over the samples with a rate and the time left, and the error as it falls.

  Args:
    samples: of a pass, where that is known.
    show: False for nothing at all.
  """

  def __init__(self, samples: int | None = None, show: bool = True):
    self.samples = samples
    self._show = show and jax.process_index() == 0
    self._status = self._line = self._console = None
    if self._show and notebook.running():
      self._line = notebook.Line()
    elif self._show:
      from rich.console import Console

      self._console = Console(stderr=True, highlight=False)
      self._status = self._console.status('') if sys.stderr.isatty() else None
    self._last = self._said = time.monotonic()
    self._doing = ''
    self._ended = threading.Event()
    self._pass: tuple[str, float, int] = ('', 0.0, 0)

  def __enter__(self):
    if self._status:
      self._status.start()
    elif self._console is not None:
      self._ended.clear()
      threading.Thread(target=self._break_silence, daemon=True).start()
    return self

  def __exit__(self, *_):
    self._ended.set()
    if self._status:
      self._status.stop()

  def _break_silence(self) -> None:
    """Says that the work goes on, where it says nothing itself: while a program is compiled, for one."""
    began = time.monotonic()
    while not self._ended.wait(max(0.0, self._said + SILENT_SECONDS - time.monotonic())):
      if time.monotonic() - self._said >= SILENT_SECONDS:
        what = f': {self._doing}' if self._doing else ''
        self._print(f'still at work after {time.monotonic() - began:.0f} s{what}')

  def say(self, text: str) -> None:
    """A line that stays."""
    if self._line is not None:
      self._line.update(text)
      self._line = notebook.Line()
    elif self._console is not None:
      self._doing = ''
      self._print(text)

  def _print(self, text: str) -> None:
    self._said = time.monotonic()
    if self._console is not None:
      self._console.print(text, markup=False, soft_wrap=True)

  def now(self, text: str) -> None:
    """What is going on: the line that changes, or one now and then."""
    if self._status:
      self._status.update(text)
    elif self._line is not None:
      if time.monotonic() - self._last >= NOTEBOOK_SECONDS:
        self._last = time.monotonic()
        self._line.update(text)
    else:
      if time.monotonic() - self._last >= PLAIN_SECONDS:
        self._last = time.monotonic()
        self.say(text)
      self._doing = text

  def compiling(self, name: str) -> None:
    """A program is about to be compiled, which nothing else is told of meanwhile."""
    if self._status:
      self._status.update(f'compiling {name}')
    elif self._line is not None:
      self._line.update(f'compiling {name}')
    else:
      self.now(f'compiling {name}')

  def samples_done(self, name: str, done: int) -> None:
    """`done` samples of the pass called `name` are through."""
    now = time.monotonic()
    if self._pass[0] != name or done <= self._pass[2]:
      self._pass = (name, now, done)
    started, first = self._pass[1], self._pass[2]
    rate = (done - first) / (now - started) if done > first else 0.0
    text = f'pass "{name}": {done}'
    if self.samples:
      text += f' of {self.samples} samples'
    if rate:
      text += f', {rate:,.0f} samples/s'
      if self.samples:
        text += f', {(self.samples - done) / rate:,.0f} s left in this pass'
    self.now(text)
    if done == self.samples:
      self._pass = ('', 0.0, 0)

  def state(self, state) -> None:
    """The solver reports: `SolverState`."""
    if state.history:
      last = state.history[-1]
      self.now(
        f'{last["phase"]} phase on {last["samples"]} samples, its iteration {last["iteration"]}: '
        f'relative error {last["relative_error"]:.5f} after {state.seconds:.1f} s'
      )


@contextlib.contextmanager
def narrated(
  progress: bool | None, on_progress: Callable[[str], None] | None = None
) -> Iterator[Callable[[str], None]]:
  """A function to tell what is being done: it shows it and passes it on.

  Args:
    progress: see `wanted`; where the caller listens, it is only shown when asked for.
    on_progress: the caller's own listener.
  """
  show = wanted(progress) if progress is not None or on_progress is None else False
  with Progress(show=show) as bar:

    def tell(text: str) -> None:
      if on_progress is not None:
        on_progress(text)
      if show:
        bar.now(text)

    yield tell
