"""kill -9 of a fit at random moments, in one process and in several: every rerun must end with the same factors.

python -m benchmarks.kills --moments=20 --processes=1,2        some 20 minutes on two quiet cores

Compiled programs are kept between runs, so that most of a run is the fit and its checkpoints, not compilation.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

import panda_jax
from tests import planted
from tests.processes import ended, fit_command, start, start_fits, wait_for_checkpoint


def begin(arguments: list[str], workdir: Path, processes: int) -> list[subprocess.Popen]:
  command = [*arguments, f'--workdir={workdir}']
  if processes == 1:
    return [start([*fit_command(), *command])]
  return start_fits([command] * processes)


def checked(done: list[tuple[int, str]]) -> None:
  assert all(status == 0 for status, _ in done), '\n'.join(text for _, text in done)


def finished(arguments: list[str], workdir: Path, processes: int) -> panda_jax.Factors:
  """The factors of a run that is not killed; the workdir may have an unfinished fit."""
  checked(ended(begin(arguments, workdir, processes)))
  return panda_jax.Factors.load(workdir / 'factors.npz')


def timed(arguments: list[str], workdir: Path, processes: int) -> dict[str, float]:
  """Seconds of a run from its start, and from its first checkpoint."""
  began = time.monotonic()
  running = begin(arguments, workdir, processes)
  wait_for_checkpoint(running[0], workdir)
  saved = time.monotonic()
  checked(ended(running))
  return {'start': time.monotonic() - began, 'checkpoint': time.monotonic() - saved}


def killed(arguments: list[str], workdir: Path, processes: int, since: str, moment: float, victim: int) -> dict:
  """Kills process `victim` `moment` seconds after the start, or after the first checkpoint, and runs again.

  Returns:
    Checkpoints at the kill, seconds until the other processes ended, and the factors.
  """
  running = begin(arguments, workdir, processes)
  if since == 'checkpoint':
    wait_for_checkpoint(running[0], workdir)
  time.sleep(moment)
  with contextlib.suppress(ProcessLookupError):  # this run had already ended
    os.killpg(running[victim].pid, signal.SIGKILL)
  began = time.monotonic()
  ended(running)  # the others end by themselves
  seconds = time.monotonic() - began
  steps = sorted(int(path.name) for path in workdir.glob('checkpoints/*') if path.name.isdigit())
  return {'others_ended_after': seconds, 'checkpoints': steps, 'factors': finished(arguments, workdir, processes)}


def random_moments(arguments: list[str], folder: Path, processes: int, since: Sequence[str], rng) -> list[dict]:
  """Kills, each compared with a run that is not killed.

  Args:
    since: for each kill 'start', at random over the time of a run, or 'checkpoint', over the time after its first
      checkpoint.
  """
  whole = timed(arguments, folder / 'whole', processes)
  expected = panda_jax.Factors.load(folder / 'whole' / 'factors.npz')
  rows = []
  for k, kind in enumerate(since):
    moment, victim = float(rng.uniform(0, whole[kind])), int(rng.integers(processes))
    row = {'processes': processes, 'since': kind, 'moment': moment, 'of': whole[kind], 'victim': victim}
    found = killed(arguments, folder / str(k), processes, kind, moment, victim)
    try:
      planted.assert_same_factors(expected, found.pop('factors'))
    except AssertionError as error:
      raise AssertionError(f'other factors after {row}') from error
    rows.append(row | found)
  return rows


def main(argv) -> None:
  del argv
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    kept = {'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    os.environ.update(kept)
    np.save(folder / 'z.npy', np.concatenate([planted.structured(500, (24, 24), 32, seed) for seed in range(3)]))
    arguments = [f'--features={folder / "z.npy"}', '--parts=12', '--config.checkpoint_seconds=0']
    rng = np.random.default_rng(flags.FLAGS.seed)
    since = list(itertools.islice(itertools.cycle(('checkpoint', 'start')), flags.FLAGS.moments))
    for processes in map(int, flags.FLAGS.processes):
      finished(arguments, folder / f'compiling{processes}', processes)
      rows += random_moments(arguments, folder / f'of{processes}', processes, since, rng)
      going_on = sum(bool(row['checkpoints']) for row in rows if row['processes'] == processes)
      said = f'{flags.FLAGS.moments} kills, the same factors each time; {going_on} went on from a checkpoint'
      print(f'{processes} processes: {said}', flush=True)
  print(json.dumps(rows, indent=2))


if __name__ == '__main__':
  flags.DEFINE_integer('moments', 20, 'How many kills for each number of processes.')
  flags.DEFINE_list('processes', ['1', '2'], 'Numbers of processes.')
  flags.DEFINE_integer('seed', 0, 'Of the moments.')
  app.run(main)
