"""Our generators and the original PyTorch code in turn, for `benchmarks.generators --reference=FOLDER`.

Everything runs in processes of its own: ours as in the other measurements, theirs by benchmarks/reference.py in a
Python that has PyTorch.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import app

from benchmarks import reference

QUIET = 0.5  # load average before the first run; a barrier of PyTorch's threads waits for the slowest of them


class Failed(Exception):
  """A process ended with an error, of which this is the last line; or ours and theirs are different networks."""


class Run(NamedTuple):
  """One row of the table.

  Attributes:
    case, resolution: as in benchmarks.generators.
    options: of our network.
    batch: images at a time.
  """

  case: str
  resolution: int
  options: Any
  batch: int

  @property
  def name(self) -> str:
    return f'{self.case}-{self.resolution}'


def result(command: Sequence[str]) -> dict:
  """The JSON that a process prints last."""
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise Failed((done.stderr.strip().splitlines() or [f'exit status {done.returncode}'])[-1])
  return json.loads(done.stdout.strip().splitlines()[-1])


class Clone(NamedTuple):
  """A clone of original code, and the Python that runs it.

  Attributes:
    folder, python: their paths.
    versions: of that Python and its PyTorch.
  """

  folder: Path
  python: str
  versions: dict[str, str]

  @classmethod
  def checked(cls, folder: Path, python: str) -> 'Clone':
    """Raises app.UsageError if the folder is not a clone, or that Python cannot import PyTorch or the clone."""
    given = f'--reference={folder}'
    clone = cls(folder.expanduser().resolve(), python, {})
    if not clone.folder.is_dir():
      raise app.UsageError(f'{given}: there is no such folder; give a clone of {reference.CLONES}')
    if not reference.cases(clone.folder):
      files = ', '.join(sorted({network.file for network in reference.NETWORKS.values()}))
      raise app.UsageError(f'{given}: it has none of {files}; give a clone of {reference.CLONES}')
    try:
      found = clone.run()
    except (OSError, Failed) as error:
      problem = f'--reference_python={python}: it does not run ({error})'
      raise app.UsageError(f'{problem}; give the path of a Python that has PyTorch') from error
    if 'error' in found:
      problem = f'--reference_python={python}: it cannot import PyTorch ({found["error"]})'
      raise app.UsageError(f'{problem}; install torch there, or give a Python that has it')
    for file, error in found['errors'].items():
      problem = f'{given}: {file} cannot be imported ({error})'
      raise app.UsageError(f'{problem}; install what is missing for {python}, or give another --reference_python')
    return clone._replace(versions={name: found[name] for name in ('python', 'torch')})

  def chosen(self, asked: list[str] | None) -> list[str]:
    """The cases that were asked for, or all of the clone; raises app.UsageError if it lacks one."""
    cases = reference.cases(self.folder)
    missing = [case for case in asked or () if case not in cases]
    if missing:
      problem = f'--cases={",".join(missing)}: --reference={self.folder} cannot run this'
      raise app.UsageError(f'{problem}; give any of {", ".join(cases)}, or another clone')
    return asked or cases

  def run(self, *words: str) -> dict:
    """What benchmarks/reference.py prints."""
    return result([self.python, str(Path(reference.__file__).resolve()), str(self.folder), *words])


def threads() -> int:
  """The threads that XLA computes with: the processors that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def processor() -> str:
  """The name of the processor."""
  try:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    lines = []
  names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.processor() or platform.machine()


def differences(mine: dict, other: dict) -> list[str]:
  """In what the networks of the two sides differ; the channels of theirs come first."""
  N, H, W, C = mine['shape']
  pairs = {'weights': (mine['weights'], other['weights']), 'image': ([N, C, H, W], other['shape'])}
  return [f'{name}: ours {a}, theirs {b}' for name, (a, b) in pairs.items() if a != b]


def compared(clone: Clone, run: Run, ours: Callable[[Run], dict], seconds: float, rounds: int) -> dict:
  """A row: ours and theirs in turn, and the best of the rounds of each.

  Raises:
    Failed: see there.
  """
  found: dict[str, list[dict]] = {'ours': [], 'theirs': []}
  for _ in range(rounds):
    mine = ours(run)
    device = 'cpu' if mine['device'] == 'cpu' else 'cuda'
    other = clone.run(reference.request(run.case, run.options, run.batch, seconds, threads(), device))
    for mismatch in differences(mine, other):
      raise Failed(f'{mismatch}: these are different networks')
    found['ours'].append(mine)
    found['theirs'].append(other)
  row = {'case': run.case, 'resolution': run.resolution, 'batch': run.batch, 'dtype': 'float32'}
  row |= {'device': mine['device'], 'threads': threads(), 'file': reference.NETWORKS[run.case].file}
  row['weights'] = mine['weights']
  best = {side: min(one['seconds'] for one in rows) for side, rows in found.items()}
  for side, rows in found.items():
    row[side] = {'ms_per_image': 1e3 * best[side] / run.batch, 'seconds': [one['seconds'] for one in rows]}
  return row | {'ratio': best['theirs'] / best['ours']}


def compare(
  clone: Clone,
  runs: Sequence[Run],
  ours: Callable[[Run], dict],
  *,
  seconds: float,
  rounds: int,
  keep: Callable[[dict], None],
) -> int:
  """Prints a table and keeps its rows; returns how many of them failed.

  Args:
    clone: the original code.
    runs: the rows.
    ours: measures one of them.
    seconds: of each measurement of theirs.
    rounds: measurements of each side.
    keep: takes each row, with what it depends on.
  """
  from panda_jax.runtime.environment import versions

  before = os.getloadavg()
  if before[0] > QUIET:
    print(f'load average {before[0]:.1f}: other programs compute here, so the numbers say little', file=sys.stderr)
  machine = {
    'date': datetime.date.today().isoformat(),
    'versions': versions(),
    'reference_versions': clone.versions,
    'system': f'{platform.system()} {platform.machine()}',
    'processor': processor(),
    'cpus': os.cpu_count(),
    'load_average_before': before,
  }
  failed = 0
  print(f'{"case":22} {"batch":>5} {"ours ms/image":>14} {"theirs ms/image":>16} {"theirs / ours":>14}')
  for run in runs:
    try:
      row = compared(clone, run, ours, seconds, rounds)
    except Failed as error:
      failed += 1
      print(f'{run.name:22} {run.batch:5}  failed: {error}', flush=True)
      continue
    keep(machine | row)
    mine, other = (row[side]['ms_per_image'] for side in ('ours', 'theirs'))
    print(f'{run.name:22} {run.batch:5} {mine:14.1f} {other:16.1f} {row["ratio"]:14.2f}', flush=True)
  return failed
