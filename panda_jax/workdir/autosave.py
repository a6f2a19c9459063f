"""Saves a fit while it runs, and resumes a saved fit. All processes take the same steps; one of them writes."""

import json
from collections.abc import Callable
from pathlib import Path

from panda_jax.errors import Interrupted
from panda_jax.files.access import write_atomically
from panda_jax.runtime import processes, signals
from panda_jax.runtime.clock import Clock
from panda_jax.runtime.progress import Progress
from panda_jax.runtime.supervision import tell_kept
from panda_jax.solver.state import SolverState
from panda_jax.workdir.checkpoints import Checkpoints, packed, unpacked

ALONE = 'generate', 'scan'  # passes in which processes do not run in step


def checkpointed(workdir: Path) -> bool:
  """Whether there is a complete checkpoint."""
  return any(path.name.isdigit() for path in workdir.glob('checkpoints/*'))


def kept(saved: bool) -> str:
  """The sentence on what is kept of a fit that stops."""
  if saved:
    return 'the same command goes on from the last checkpoint'
  return 'there is no checkpoint yet: the same command starts from the beginning'


class Saving:
  """The callbacks of `fit`: they show progress, save, and stop at a signal.

  Args:
    workdir: of the fit.
    seconds: between checkpoints.
    largest: bytes of arrays that a checkpoint can hold, see `checkpoints.largest`.
    caught: signals so far; a signal in any process stops all processes at the same point.
    saved: whether there is a checkpoint of an earlier run.
    check: called in process 0 with the source's hash before anything is restored; raises if the source differs.
    clock, progress: of this process.
  """

  def __init__(
    self,
    workdir: Path,
    seconds: float,
    largest: int,
    caught: list[int],
    saved: bool,
    check: Callable[[str], None],
    clock: Clock,
    progress: Progress,
  ):
    self._workdir, self._caught, self._check = workdir, caught, check
    self._clock, self._progress = clock, progress
    self._checkpoints, self._last = Checkpoints(workdir / 'checkpoints', seconds, largest), None
    self._note(saved)

  def _note(self, saved: bool) -> None:
    self._saved = saved
    tell_kept(kept(saved))

  def kept(self) -> str:
    """The sentence on what is kept if the fit stops now."""
    return kept(self._saved)

  def resume(self, sha256: str) -> SolverState | None:
    """The last state that was saved, or None."""

    def restore():
      self._check(sha256)
      with self._clock.phase('checkpoint'):
        return self._checkpoints.restore()

    state = processes.on_first(restore)
    if processes.several():
      data = processes.from_first(packed(state) if state else b'')
      state = unpacked(data) if data else None
    if state is not None:
      self._progress.say(f'going on from {state.phase} phase, {state.samples} samples, {state.seconds:.1f} s in')
    return state

  def save(self, state: SolverState) -> None:
    """Writes in process 0 only: all have the same state, and it is small. If writing fails, all processes raise."""
    if state.phase == 'early':
      return

    def write():
      with self._clock.phase('checkpoint'):
        self._checkpoints.save(state)
        write_history(self._workdir, state.history)

    processes.on_first(write)
    self._note(True)

  def on_state(self, state: SolverState) -> None:
    self._last = state
    self._progress.state(state)
    due = processes.first() and self._checkpoints.due()
    *asked, due = processes.any_of(*self._asked(), due)
    self._stop(asked)
    if due:
      self.save(state)

  def on_samples(self, name: str, done: int) -> None:
    self._progress.samples_done(name, done)
    if name in ALONE:
      if self._caught:
        raise Interrupted(self._caught[0])
    else:
      self._stop(processes.any_of(*self._asked()))

  def _asked(self) -> list[bool]:
    """For each signal, whether this process has caught it."""
    return [number in self._caught for number in signals.NAMES]

  def _stop(self, asked) -> None:
    """Saves and raises if any process has caught a signal."""
    if not any(asked):
      return
    if self._last is not None:
      self.save(self._last)
    stopped = Interrupted([*signals.NAMES][[*asked].index(True)])
    stopped.shared = processes.several()
    raise stopped

  def finish(self) -> None:
    if self._last is not None:  # a run resumed at its last iteration has no new state
      self.save(self._last)
    self._last = None
    self._checkpoints.close()
    self._stop(processes.any_of(*self._asked()))


def write_history(workdir: Path, history: list[dict]) -> None:
  write_atomically(workdir / 'history.jsonl', ''.join(json.dumps(entry) + '\n' for entry in history).encode())
