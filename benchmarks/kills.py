"""kill -9 of a fit at random moments, in one process and in several: every rerun must end with the same factors.

python -m benchmarks.kills --moments=20 --processes=1,2        some 20 minutes on two quiet cores
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

import panda_jax
from tests import planted
from tests.processes import ended, start, start_fits


def begin(arguments: list[str], workdir: Path, processes: int) -> list[subprocess.Popen]:
  command = [*arguments, f'--workdir={workdir}']
  if processes == 1:
    return [start([sys.executable, 'run.py', 'fit', *command])]
  return start_fits([command] * processes)


def finished(arguments: list[str], workdir: Path, processes: int) -> panda_jax.Factors:
  """The factors of a run that nobody disturbs, whatever it finds in the workdir."""
  done = ended(begin(arguments, workdir, processes))
  assert all(status == 0 for status, _ in done), '\n'.join(text for _, text in done)
  return panda_jax.Factors.load(workdir / 'factors.npz')


def killed(arguments: list[str], workdir: Path, processes: int, moment: float, victim: int) -> dict:
  """Kills process `victim` `moment` seconds after the start and runs again; what was there, and the factors."""
  running = begin(arguments, workdir, processes)
  time.sleep(moment)
  os.killpg(running[victim].pid, signal.SIGKILL)
  began = time.monotonic()
  ended(running)  # the others end by themselves
  seconds = time.monotonic() - began
  assert seconds < 60, f'the others took {seconds:.0f} s to end'
  steps = sorted(int(path.name) for path in workdir.glob('checkpoints/*') if path.name.isdigit())
  return {'others_ended_after': seconds, 'checkpoints': steps, 'factors': finished(arguments, workdir, processes)}


def random_moments(arguments: list[str], folder: Path, processes: int, moments: int, rng) -> list[dict]:
  """So many kills, spread at random over the time that a run takes; each compared with the undisturbed run."""
  began = time.monotonic()
  expected = finished(arguments, folder / 'whole', processes)
  whole = time.monotonic() - began
  rows = []
  for k in range(moments):
    moment, victim = float(rng.uniform(0, whole)), int(rng.integers(processes))
    row = {'processes': processes, 'moment': moment, 'of': whole, 'victim': victim}
    found = killed(arguments, folder / str(k), processes, moment, victim)
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
    np.save(folder / 'z.npy', np.concatenate([planted.structured(500, (24, 24), 32, seed) for seed in range(3)]))
    arguments = [f'--features={folder / "z.npy"}', '--parts=12', '--config.checkpoint_seconds=0']
    rng = np.random.default_rng(flags.FLAGS.seed)
    for processes in map(int, flags.FLAGS.processes):
      rows += random_moments(arguments, folder / f'of{processes}', processes, flags.FLAGS.moments, rng)
      print(f'{processes} processes: {flags.FLAGS.moments} kills, the same factors each time')
  print(json.dumps(rows, indent=2))


if __name__ == '__main__':
  flags.DEFINE_integer('moments', 20, 'How many kills for each number of processes.')
  flags.DEFINE_list('processes', ['1', '2'], 'Numbers of processes.')
  flags.DEFINE_integer('seed', 0, 'Of the moments.')
  app.run(main)
