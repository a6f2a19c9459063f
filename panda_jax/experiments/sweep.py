"""The runs of a sweep, one after the other: each an ordinary fit in a folder of its own, below one that all share.

Runs that share features have them made, or read, once; programs are compiled once for runs of equal shapes, since all
run in one process. A run is the same bits as the same fit alone. What is finished is left, so the same sweep goes on
where it stopped, and several processes may work in one folder: a fit locks its own.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from panda_jax.errors import InputError, NonFiniteError, brief, refusal
from panda_jax.experiments.cells import Cell
from panda_jax.files.lock import InUse
from panda_jax.files.records import write_json
from panda_jax.runtime import signals
from panda_jax.runtime.clock import Clock, forget_programs
from panda_jax.runtime.progress import Progress
from panda_jax.workdir.config import KEYS, check_values, default_config
from panda_jax.workdir.fit import checked_path, fit_into, outcome
from panda_jax.workdir.fit_features import OF_FEATURES, Shelf

FAILURE, SUMMARY = 'failure.json', 'summary.json'
OF_ALL = ('features', 'generator')  # keys without which no run can be done
LONGEST_SENTENCE = 300
KEPT = 'what is finished is kept; the same command does the rest'


class Done(NamedTuple):
  """What became of the runs, by their names; those of `busy` another process was at."""

  finished: list[str]
  failed: dict[str, str]
  busy: list[str]


class Watch(Progress):
  """What a person sees of one run among many: where it stands, without the sentences of a fit."""

  def __init__(self, name: str, show: bool):
    super().__init__(show=show)
    self._name = name

  def say(self, text: str) -> None:
    if text.startswith(self._name):
      super().say(text)

  def now(self, text: str) -> None:
    super().now(f'{self._name}: {text}')


def sweep_into(
  folder: Path,
  config: ml_collections.ConfigDict,
  cells: Sequence[Cell],
  *,
  overwrite: bool = False,
  for_tensorboard: bool = False,
  show: bool = True,
) -> Done:
  """Does the runs that are not finished yet.

  Args:
    folder: of the sweep; a run is in `folder / name`. A run that fails leaves failure.json there, with its sentence.
    config: what runs do not change.
    cells: the runs.
    overwrite: do all anew.
    for_tensorboard: as of `fit_into`.
    show: tell how it goes.

  Raises:
    InputError: the configuration has no value that it could have; what all runs need is missing.
    Interrupted: Ctrl-C or SIGTERM came; what state there was is saved.
  """
  check_values(config.to_dict(), default_config())
  folder = checked_path(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise refusal('workdir', folder, 'it cannot be written', error) from error
  done, number = Done([], {}, []), itertools.count(1)
  shelf, said = Shelf(), Progress(show=show)
  base = config.to_dict()

  def group(cell: Cell) -> tuple:
    return tuple(cell.settings.get(key, base[key]) for key in OF_FEATURES)

  def concerns_all(error: InputError) -> bool:
    """Whether no run can be done: what is missing, or names no features, is the same in all."""
    key = error.argument
    wrong = error.missing or (key in OF_ALL and not isinstance(error, NonFiniteError))
    return wrong and key in KEYS and len({str(cell.settings.get(key, base[key])) for cell in cells}) == 1

  order = {key: place for place, key in enumerate(dict.fromkeys(map(group, cells)))}
  with signals.keeping(lambda: KEPT):
    for key, some in itertools.groupby(sorted(cells, key=lambda cell: order[group(cell)]), group):
      these = [*some]
      left = [cell for cell in these if overwrite or not (folder / cell.name / SUMMARY).is_file()]
      shelf.begin(base | cell.settings for cell in left)
      if order[key]:
        forget_programs()  # of other sizes: those of hundreds would fill the memory
      for cell in these:
        how = {'overwrite': overwrite, 'for_tensorboard': for_tensorboard, 'shelf': shelf}
        how['progress'] = Watch(cell.name, show)
        sentence = _run(folder / cell.name, cell.config(config), how, done, concerns_all)
        said.say(f'{next(number)} of {len(cells)}: {cell.name}: {sentence}')
  return done


def _run(
  workdir: Path,
  config: ml_collections.ConfigDict,
  how: dict[str, Any],
  done: Done,
  concerns_all: Callable[[InputError], bool],
) -> str:
  """Does one run, with keywords of `fit_into`, and says what became of it; raises what concerns all runs."""
  there = (workdir / SUMMARY).is_file() and not how['overwrite']
  clock = Clock()
  try:
    summary = fit_into(workdir, config, clock=clock, **how)
    (workdir / FAILURE).unlink(missing_ok=True)
  except InUse as error:
    done.busy.append(workdir.name)
    return error.problem
  except Exception as error:  # whatever it is, the other runs are none the worse for it
    if isinstance(error, InputError) and concerns_all(error):
      raise
    sentence = brief(error if isinstance(error, InputError) else f'{type(error).__name__}: {error}', LONGEST_SENTENCE)
    done.failed[workdir.name] = sentence
    _record(workdir, config, sentence)
    return f'failed: {sentence}'
  done.finished.append(workdir.name)
  return f'{outcome(summary)}, ' + ('finished before' if there else f'{clock.summary()["total"]:.1f} s')


def _record(workdir: Path, config: ml_collections.ConfigDict, sentence: str) -> None:
  """failure.json, unless a finished fit is there, or nothing can be written: then the sentence has been said."""
  if (workdir / SUMMARY).is_file():
    return
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / FAILURE, {'error': sentence, 'config': config.to_dict()})
  except (OSError, InputError):
    pass
