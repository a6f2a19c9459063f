"""What a person sees of a fit, on process 0: a line that changes on a terminal, a line now and then elsewhere."""

import sys
import time

import jax
from rich.console import Console

PLAIN_SECONDS = 10.0


class Progress:
  """Shows passes over the samples with a rate and the time left, and the error as it falls."""

  def __init__(self, samples: int | None = None):
    self.samples = samples
    self._console = Console(stderr=True, highlight=False)
    self._show = jax.process_index() == 0
    self._status = self._console.status('') if self._show and sys.stderr.isatty() else None
    self._last = time.monotonic()
    self._pass: tuple[str, float, int] = ('', 0.0, 0)

  def __enter__(self):
    if self._status:
      self._status.start()
    return self

  def __exit__(self, *_):
    if self._status:
      self._status.stop()

  def say(self, text: str) -> None:
    """A line that stays."""
    if self._show:
      self._console.print(text, markup=False, soft_wrap=True)

  def now(self, text: str) -> None:
    """What is going on: the line that changes, or one now and then."""
    if self._status:
      self._status.update(text)
    elif time.monotonic() - self._last >= PLAIN_SECONDS:
      self._last = time.monotonic()
      self.say(text)

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
        f'{last["phase"]} phase, {last["samples"]} samples, iteration {last["iteration"]}: '
        f'relative error {last["relative_error"]:.5f} after {state.seconds:.1f} s'
      )
