"""The runs in folders: the records of fits that finished, failed or were stopped."""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.errors import InputError
from panda_jax.experiments.sweep import FAILURE
from panda_jax.files.records import read_json
from panda_jax.solver.factors import Factors
from panda_jax.workdir.config import KEYS, config_form, default_config, told
from panda_jax.workdir.finished_fit import CONFIG, FACTORS, SUMMARY

RECORD = 'summary.json'
MOST_FOLDERS = 100_000  # that are searched
AGAIN = ('seed', 'half')  # keys in which repeated runs of the same settings differ
UNTOLD = ('checkpoint_seconds', 'batch', 'store', 'sha256')  # keys that do not change results, or are a result


@dataclasses.dataclass(frozen=True)
class Run:
  """One run.

  Attributes:
    name: of its folder, below the given folder.
    folder: its path.
    config: of the fit; of a run that failed, the recorded keys.
    state: 'finished', 'failed' or 'unfinished'.
    summary: the content of summary.json, {} unless it is finished.
    error: why it failed, or ''.
  """

  name: str
  folder: Path
  config: dict[str, Any]
  state: str
  summary: dict[str, Any]
  error: str = ''

  @functools.cached_property
  def maps(self) -> np.ndarray:
    """Parts of a finished run as maps, (R_S, H, W).

    Raises:
      InputError: its factors are missing or damaged.
    """
    return Factors.load(self.folder / FACTORS).part_maps()

  @property
  def parts(self) -> np.ndarray:
    """P (S, R_S)."""
    return self.maps.reshape(len(self.maps), -1).T

  @property
  def held_out(self) -> float | None:
    """The error on held-out samples, if it was measured."""
    return self.summary.get('held_out', {}).get('relative_error')

  def settings(self, *but: str) -> str:
    """The settings that affect its result, without some keys, as a text to compare."""
    left = {key: value for key, value in self.config.items() if key not in (*UNTOLD, *but)}
    return json.dumps(left, sort_keys=True)


def found(folders: Iterable[str | os.PathLike]) -> list[Run]:
  """All runs in and below folders, sorted by name; links are not followed.

  Raises:
    InputError: a folder does not exist or holds no runs.
  """
  given = [Path(folder) for folder in folders]
  if not given:
    raise InputError('folder', None, 'not given', 'give the folders of runs, as in runs DIR')
  runs: dict[str, Run] = {}
  for top in given:
    if not top.is_dir():
      problem = 'it is a file' if top.exists() else 'there is no such folder'
      raise InputError('folder', top, problem, 'give the folders that fit or sweep wrote')
    some = [*_below(top, several=len(given) > 1)]
    if not some:
      remedy = 'give the folders that fit or sweep wrote'
      raise InputError('folder', top, 'there is no run in it, nor below it', remedy)
    runs |= {os.path.realpath(run.folder): run for run in some}
  return sorted(runs.values(), key=lambda run: _counted(run.name))


def _counted(name: str) -> list[tuple[int, str]]:
  """A sort key for names in which 8 comes before 12."""
  return [(int(piece), '') if piece.isdecimal() else (-1, piece) for piece in re.split(r'([0-9]{1,18})', name)]


def differing(runs: Iterable[Run]) -> list[str]:
  """The settings in which runs differ, in the order of `KEYS`."""
  configs = [run.config for run in runs if run.config]
  return [key for key in KEYS if key not in UNTOLD and len({json.dumps(one.get(key)) for one in configs}) > 1]


def grouped(runs: Iterable[Run], *but: str) -> dict[str, list[Run]]:
  """Runs grouped by their settings, except the given keys; see `Run.settings`."""
  found: dict[str, list[Run]] = {}
  for run in runs:
    found.setdefault(run.settings(*but), []).append(run)
  return found


def series(runs: Iterable[Run]) -> dict[str, list[Run]]:
  """Finished runs in groups that differ only in parts, seed and half, by a label of the group: 'layer=5'."""
  finished = [run for run in runs if run.state == 'finished']
  keys = [key for key in differing(finished) if key not in ('parts', *AGAIN)]
  found: dict[str, list[Run]] = {}
  for some in grouped(finished, 'parts', *AGAIN).values():
    config = some[0].config
    label = ', '.join(f'{key}={told(config[key])}' for key in keys if config[key] is not None)
    found.setdefault(label, []).extend(some)
  return found


def _below(top: Path, several: bool) -> Iterator[Run]:
  seen = 0
  for place, inner, files in os.walk(top):
    seen += 1
    if seen > MOST_FOLDERS:
      raise InputError('folder', top, f'more than {MOST_FOLDERS:,} folders are below it', 'give folders of runs')
    folder = Path(place)
    if {RECORD, CONFIG, FAILURE}.isdisjoint(files):
      continue
    run = _read(folder, folder.name if folder == top else str(folder if several else folder.relative_to(top)))
    if run is not None:
      yield run
      inner.clear()  # folders that commands wrote from a fit


def _read(folder: Path, name: str) -> Run | None:
  """A run; None if the records are not of a fit."""
  config, wrong = _record(folder / CONFIG, config_form())
  known = default_config().to_dict()
  if config is not None:
    if not {*config} <= {*known, 'sha256'}:
      return None  # of another command
    config = known | config
  if os.path.lexists(folder / RECORD):
    summary, wrong = _record(folder / RECORD, SUMMARY) if config is not None else (None, wrong)
    if summary is not None and config is not None:
      return Run(name, folder, config, 'finished', summary)
    return Run(name, folder, config or {}, 'failed', {}, f'its records cannot be read ({wrong or "no config.json"})')
  if os.path.lexists(folder / FAILURE):
    failure, wrong = _record(folder / FAILURE, {'error': str, 'config': config_form()})
    if failure is None:
      return Run(name, folder, config or {}, 'failed', {}, f'{FAILURE} cannot be read ({wrong})')
    return Run(name, folder, known | failure['config'], 'failed', {}, failure['error'])
  return None if config is None else Run(name, folder, config, 'unfinished', {})


def _record(path: Path, form: Any) -> tuple[Any, str]:
  """A JSON record and '', or None and the problem."""
  try:
    return read_json(path, 'folder', form), ''
  except InputError as error:
    return None, error.problem
