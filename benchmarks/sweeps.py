"""Time that a sweep saves over single commands, equality of their runs bit for bit, and kill -9 during a sweep.

python -m benchmarks.sweeps --out=benchmarks/results/sweep-cats64.json      half an hour on two quiet cores

The sweep has 4 numbers of parts, 3 layers and 3 seeds on cats64, in one process and in two. The yardstick is single
commands, each in its own process. A few are run and compared; all 36 are assumed to cost the same. Both are measured
without a cache of compiled programs, and with a cache of all of them. Then a small sweep is killed at random moments
and started again; its table must equal that of a sweep that is not killed.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

import panda_jax
from benchmarks.machine import machine, written
from panda_jax.experiments.runs import found
from panda_jax.experiments.table import rows_of
from tests import planted

PARTS, LAYERS, SEEDS = (4, 8, 12, 16), (3, 5, 7), (0, 1, 2)
CATS = '--config=cats64', '--held_out=200'
NEVER_THE_SAME = 'seconds', 'memory'


def done(*words: str) -> dict[str, float]:
  """Seconds and processor time of a command that runs to its end."""
  before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
  subprocess.run([sys.executable, '-m', 'panda_jax', *words], check=True, stdout=subprocess.DEVNULL)
  after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
  processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  return {'seconds': round(seconds, 1), 'processor_seconds': round(processor, 1)}


def listed(values) -> str:
  return ','.join(map(str, values))


def saved(folder: Path, singles: int, rng: np.random.Generator) -> dict:
  """Sweeps against single commands."""
  axes = f'--parts={listed(PARTS)}', f'--layer={listed(LAYERS)}', f'--seed={listed(SEEDS)}'
  caches = {'none': '--compilation_cache=off', 'filled': f'--compilation_cache={folder / "programs"}'}
  done('sweep', *CATS, *axes, caches['filled'], '--jobs=2', f'--workdir={folder / "filling"}')
  runs = found([folder / 'filling'])
  chosen = [runs[i] for i in rng.choice(len(runs), singles, replace=False)]
  record: dict = {}
  for name, cache in caches.items():
    record[name] = part = {'singles': []}
    for jobs in (1, 2):
      workdir = folder / f'{name}{jobs}'
      part[f'sweep of {jobs}'] = done('sweep', *CATS, *axes, cache, f'--jobs={jobs}', f'--workdir={workdir}')
    for run in chosen:
      settings = {key: run.config[key] for key in ('layer', 'parts', 'seed')}
      words = [f'--{key}={value}' for key, value in settings.items()]
      alone = folder / f'{name}-alone' / run.name
      cost = done('fit', *CATS, *words, cache, f'--workdir={alone}')
      one, *others = (
        panda_jax.Factors.load(place / 'factors.npz')
        for place in (alone, run.folder, *(folder / f'{name}{jobs}' / run.name for jobs in (1, 2)))
      )
      part['singles'].append(settings | cost | {'the_same_bits': all(one == two for two in others)})
    for jobs in (1, 2):
      sweep = part[f'sweep of {jobs}']
      for cost in ('seconds', 'processor_seconds'):
        one = float(np.mean([single[cost] for single in part['singles']]))
        sweep[f'share of {cost}'] = round(sweep[cost] / (one * len(runs)), 3)
    print(json.dumps({name: part}), flush=True)
  return record


def table(folder: Path) -> list[dict]:
  return [{key: value for key, value in row.items() if key not in NEVER_THE_SAME} for row in rows_of(found([folder]))]


def kills(folder: Path, moments: int, rng: np.random.Generator) -> list[float]:
  """Kills a sweep at random moments; returns the moments, as shares of the sweep's time."""
  np.save(folder / 'z.npy', planted.structured(200, (12, 12), 16))
  kept = {'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
  os.environ.update(kept)
  words = 'sweep', f'--features={folder / "z.npy"}', '--parts=2-5', '--seed=0-1', '--held_out=40'
  done(*words, f'--workdir={folder / "compiling"}')
  whole = done(*words, f'--workdir={folder / "whole"}')['seconds']
  expected, shares = table(folder / 'whole'), rng.uniform(0.1, 1, moments)
  for k, share in enumerate(shares):
    workdir = f'--workdir={folder / str(k)}'
    command = [sys.executable, '-m', 'panda_jax', *words, workdir, f'--jobs={1 + k % 2}']
    process = subprocess.Popen(command, start_new_session=True)
    time.sleep(share * whole)
    with contextlib.suppress(ProcessLookupError):  # this run had already ended
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = len([*(folder / str(k)).glob('*/summary.json')])
    done(*words, workdir)
    assert table(folder / str(k)) == expected, f'another table after a kill at {share:.2f}'
    print(f'killed at {share:.2f} with {left} runs finished: the same table', flush=True)
  return [round(float(share), 3) for share in shares]


def main(argv) -> None:
  del argv
  record, rng = machine(), np.random.default_rng(flags.FLAGS.seed)
  with tempfile.TemporaryDirectory() as folder:
    if flags.FLAGS.singles:
      record |= saved(Path(folder), flags.FLAGS.singles, rng)
    if flags.FLAGS.moments:
      record['killed_at'] = kills(Path(folder), flags.FLAGS.moments, rng)
  if flags.FLAGS.out:
    print(written(record, Path(flags.FLAGS.out)))


if __name__ == '__main__':
  flags.DEFINE_integer('singles', 4, 'Runs that are done alone too.')
  flags.DEFINE_integer('moments', 10, 'Kills.')
  flags.DEFINE_integer('seed', 0, 'Of what is drawn.')
  flags.DEFINE_string('out', None, 'Where to write the record.')
  app.run(main)
