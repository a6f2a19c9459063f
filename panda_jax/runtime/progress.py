"""Progress messages on process 0: a line that changes in a notebook or on a terminal; otherwise a line from time to
time, so that a user does not think that a command hangs.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax

from panda_jax.errors import InputError
from panda_jax.runtime import notebook

PLAIN_SECONDS = 10.0  # between two lines of progress
SILENT_SECONDS = 30.0  # without other output, after which a line says that the work goes on
NOTEBOOK_SECONDS = 0.1  # between two changes of the line, since each is sent to the browser


def wanted(progress: bool | None) -> bool:
  """Whether to show progress: as requested; if not specified, only in notebooks.

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
    samples: of a pass, if known.
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
    """Says that the work goes on while it gives no output itself, for example during a compilation."""
    began = time.monotonic()
    while not self._ended.wait(max(0.0, self._said + SILENT_SECONDS - time.monotonic())):
      if time.monotonic() - self._said >= SILENT_SECONDS:
        what = f': {self._doing}' if self._doing else ''
        self._print(f'still at work after {time.monotonic() - began:.0f} s{what}')

  def say(self, text: str) -> None:
    """Prints a line that stays."""
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
    """Shows the current activity: in the line that changes, or in a new line from time to time."""
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

  def compiling(self, phase: str) -> None:
    """Shows that a program of a phase is about to be compiled; nothing else is shown until that is done."""
    if self._status:
      self._status.update(f'compiling ({phase})')
    elif self._line is not None:
      self._line.update(f'compiling ({phase})')
    else:
      self.now(f'compiling ({phase})')

  def samples_done(self, name: str, done: int) -> None:
    """`done` samples of the pass called `name` are done."""
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
    """Shows a `SolverState` that the solver reports."""
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
  """Yields a function that shows a message and passes it on.

  Args:
    progress: see `wanted`; if the caller has a listener, messages are only shown on request.
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
