"""The runs of a sweep, one after the other or several at once. Each is an ordinary fit in its own folder inside the
folder of the sweep.

A process makes or reads shared features once, and compiles programs once for runs of equal shapes. A run gives the same
bits as the same fit alone. Finished runs are not repeated, so the same sweep continues where it stopped. Several
commands may work in one folder, since a fit locks its own folder.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from panda_jax.errors import InputError, NonFiniteError, brief, refusal
from panda_jax.experiments.cells import Cell
from panda_jax.experiments.jobs import done_by
from panda_jax.files.lock import InUse
from panda_jax.files.records import write_json
from panda_jax.runtime import signals
from panda_jax.runtime.clock import Clock, forget_programs
from panda_jax.runtime.progress import Progress
from panda_jax.workdir.config import KEYS, check_values, default_config
from panda_jax.workdir.fit import checked_path, fit_into, outcome
from panda_jax.workdir.fit_features import OF_FEATURES, Shelf

FAILURE, SUMMARY = 'failure.json', 'summary.json'
OF_ALL = ('features', 'generator')  # if their inputs are missing, no run can be done
LONGEST_SENTENCE = 300
KEPT = 'what is finished is kept; the same command does the rest'


class Outcome(NamedTuple):
  """The end of a run: 'finished', 'failed', or 'busy' if another command works on it; and a sentence."""

  name: str
  state: str
  sentence: str


class Watch(Progress):
  """The progress of one run among many, without the sentences of a fit."""

  def __init__(self, name: str, now: Callable[[str], None]):
    super().__init__(show=False)
    self._name, self._now = name, now

  def now(self, text: str) -> None:
    self._now(f'{self._name}: {text}')

  def compiling(self, phase: str) -> None:
    self.now(f'compiling ({phase})')


def sweep_into(
  folder: Path,
  config: ml_collections.ConfigDict,
  cells: Sequence[Cell],
  *,
  jobs: int = 1,
  prepare: Callable[[], None] | None = None,
  overwrite: bool = False,
  for_tensorboard: bool = False,
  show: bool = True,
) -> list[Outcome]:
  """Does the runs that are not finished yet.

  Args:
    folder: of the sweep; a run is in `folder / name`. A run that fails writes failure.json there, with its sentence.
    config: settings that are the same in all runs.
    cells: the runs.
    jobs: number of runs at once, each in a process with its own features in memory.
    prepare: called first in each of these processes, if there are several; it is pickled.
    overwrite: repeat finished runs.
    for_tensorboard: as of `fit_into`.
    show: show the progress.

  Returns:
    The outcome of each run, in the order in which they ended.

  Raises:
    InputError: a value of the configuration cannot be used, or an input that all runs need is missing.
    Interrupted: Ctrl-C or SIGTERM came; unfinished runs have saved their states.
  """
  check_values(config.to_dict(), default_config())
  if jobs < 1:
    raise InputError('jobs', jobs, 'it must be positive', 'give a whole number from 1')
  folder = checked_path(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise refusal('workdir', folder, 'it cannot be written', error) from error
  given = folder, config.to_dict(), [*cells], overwrite, for_tensorboard
  order = _order(cells, config.to_dict())
  outcomes: list[Outcome] = []
  with signals.keeping(lambda: KEPT), Progress(show=show) as said:
    if min(jobs, len(cells)) == 1:
      runs = _Runs(*given)
      ended: Iterable[Outcome] = (runs.done(cell, said.now) for cell in order)
    else:
      ended = done_by(min(jobs, len(cells)), order, _begun, (prepare, *given), said.now, partial(_lost, folder, config))
    for number, one in enumerate(ended, start=1):
      said.say(f'{number} of {len(cells)}: {one.name}: {one.sentence}')
      outcomes.append(one)
  return outcomes


def _group(cell: Cell, base: Mapping[str, Any]) -> tuple:
  """The settings that are equal in runs that share features."""
  return tuple(cell.settings.get(key, base[key]) for key in OF_FEATURES)


def _order(cells: Sequence[Cell], base: Mapping[str, Any]) -> list[Cell]:
  """The runs, sorted so that runs that share features are next to each other."""
  order = {key: place for place, key in enumerate(dict.fromkeys(_group(cell, base) for cell in cells))}
  return sorted(cells, key=lambda cell: order[_group(cell, base)])


def _begun(prepare: Callable[[], None] | None, *given: Any) -> Callable[[Cell, Callable[[str], None]], Outcome]:
  """The function that does runs in one of several processes."""
  if prepare is not None:
    prepare()
  return _Runs(*given).done


def _lost(folder: Path, config: ml_collections.ConfigDict, cell: Cell, sentence: str) -> Outcome:
  """The outcome of a run whose process died."""
  _record(folder / cell.name, cell.config(config), sentence)
  return Outcome(cell.name, 'failed', f'failed: {sentence}')


class _Runs:
  """Does runs in this process and keeps what consecutive runs share."""

  def __init__(self, folder: Path, base: dict[str, Any], cells: list[Cell], overwrite: bool, for_tensorboard: bool):
    self._folder, self._base, self._cells = folder, base, cells
    self._how = {'overwrite': overwrite, 'for_tensorboard': for_tensorboard}
    self._shelf, self._at = Shelf(), None

  def done(self, cell: Cell, now: Callable[[str], None]) -> Outcome:
    """Does one run.

    Raises:
      InputError: an input that all runs need is missing.
      Interrupted: as of `sweep_into`.
    """
    overwrite = self._how['overwrite']
    group = _group(cell, self._base)
    if group != self._at:
      if self._at is not None:
        forget_programs()  # of other sizes: programs of hundreds of runs would fill the memory
      these = [other for other in self._cells if _group(other, self._base) == group]
      left = [other for other in these if overwrite or not (self._folder / other.name / SUMMARY).is_file()]
      self._shelf.begin(self._base | other.settings for other in left)
      self._at = group
    workdir, config = self._folder / cell.name, cell.config(ml_collections.ConfigDict(self._base))
    there = (workdir / SUMMARY).is_file() and not overwrite
    clock, watch = Clock(), Watch(cell.name, now)
    try:
      summary = fit_into(workdir, config, clock=clock, progress=watch, shelf=self._shelf, **self._how)
      (workdir / FAILURE).unlink(missing_ok=True)
    except InUse as error:
      return Outcome(cell.name, 'busy', error.problem)
    except Exception as error:  # an error of any kind must not stop the other runs
      if isinstance(error, InputError) and self._concerns_all(error):
        raise
      sentence = brief(error if isinstance(error, InputError) else f'{type(error).__name__}: {error}', LONGEST_SENTENCE)
      _record(workdir, config, sentence)
      return Outcome(cell.name, 'failed', f'failed: {sentence}')
    took = 'finished before' if there else f'{clock.summary()["total"]:.1f} s'
    return Outcome(cell.name, 'finished', f'{outcome(summary)}, {took}')

  def _concerns_all(self, error: InputError) -> bool:
    """Whether no run can be done: the missing or wrong input is the same in all runs."""
    key = error.argument
    wrong = error.missing or (key in OF_ALL and not isinstance(error, NonFiniteError))
    return wrong and key in KEYS and len({str(cell.settings.get(key, self._base[key])) for cell in self._cells}) == 1


def _record(workdir: Path, config: ml_collections.ConfigDict, sentence: str) -> None:
  """Writes failure.json, unless the folder has a finished fit or cannot be written; the sentence was shown anyway."""
  if (workdir / SUMMARY).is_file():
    return
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / FAILURE, {'error': sentence, 'config': config.to_dict()})
  except (OSError, InputError):
    pass
