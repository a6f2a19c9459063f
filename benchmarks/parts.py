"""Whether the recommended number of parts is the true one, in features of known parts with noise.

python -m benchmarks.parts --draws=10        some 10 minutes on two cores

Each draw has 4 to 12 parts at random, disjoint or overlapping. The yardstick is the elbow of the error curve, which
people choose by eye. For overlapping parts, which the model cannot express, no number is right.
"""

import json
from pathlib import Path

import numpy as np
from absl import app, flags

import panda_jax
from benchmarks.machine import machine, written
from panda_jax.experiments.agreement import mutual
from panda_jax.experiments.recommendation import Level, recommended

TRIED = range(2, 16)
GRID, CHANNELS, FITTED, HELD_OUT = (8, 8), 16, 200, 100


def planted(parts: int, noise: float, overlapping: bool, rng: np.random.Generator) -> np.ndarray:
  """Features (N, H, W, C): random cores times unit parts; energies of parts differ by a factor of up to four.

  `noise`: its standard deviation, in units of that of the features.
  """
  S, N = GRID[0] * GRID[1], FITTED + HELD_OUT
  P = rng.uniform(0.2, 1, (S, parts))
  if not overlapping:
    P *= np.eye(parts)[rng.permutation(np.arange(S) % parts)]
  P /= np.linalg.norm(P, axis=0)
  core = rng.standard_normal((N, parts, CHANNELS)) * np.linspace(1, 2, parts)[:, None]
  Z = np.einsum('sr,nrc->nsc', P, core)
  Z += noise * Z.std() * rng.standard_normal(Z.shape)
  return Z.reshape(N, *GRID, CHANNELS).astype(np.float32)


def measured(features: np.ndarray, tried, seeds: int) -> list[Level]:
  """Fits with each number of parts and some seeds."""
  found = []
  for parts in tried:
    fits = [panda_jax.fit(features[:FITTED], parts=parts, seed=seed) for seed in range(seeds)]
    best = min(fits, key=lambda fit: fit.relative_error)
    held_out = best.factors.relative_error(features[FITTED:])
    found.append(Level(parts, best.relative_error, held_out, mutual([fit.factors.parts for fit in fits]), None))
  return found


def elbow(found: list[Level]) -> int:
  """The number of parts at the largest second difference of the held-out error."""
  errors = np.array([level.held_out for level in found])
  return found[1 + int(np.argmax(errors[:-2] - 2 * errors[1:-1] + errors[2:]))].parts


def main(argv) -> None:
  del argv
  rng, record = np.random.default_rng(flags.FLAGS.seed), machine()
  record['draws'] = []
  for overlapping in (False, True):
    for noise in map(float, flags.FLAGS.noise):
      for _ in range(flags.FLAGS.draws):
        parts = int(rng.integers(4, 13))
        found = measured(planted(parts, noise, overlapping, rng), TRIED, flags.FLAGS.seeds)
        said = recommended(found, GRID[0] * GRID[1])
        row = {'planted': parts, 'noise': noise, 'overlapping': overlapping, 'found': said.parts, 'elbow': elbow(found)}
        record['draws'].append(row | {'reason': said.reason, 'errors': [level.held_out for level in found]})
        print(json.dumps(record['draws'][-1]), flush=True)
      rows = [row for row in record['draws'] if (row['noise'], row['overlapping']) == (noise, overlapping)]
      right = sum(row['found'] == row['planted'] for row in rows)
      unknown = sum(row['found'] is None for row in rows)
      elbows = sum(row['elbow'] == row['planted'] for row in rows)
      kind = 'overlapping' if overlapping else 'disjoint'
      print(f'{kind}, noise {noise}: {right} of {len(rows)} found, {unknown} not known; elbow {elbows}', flush=True)
  if flags.FLAGS.out:
    print(written(record, Path(flags.FLAGS.out)))


if __name__ == '__main__':
  flags.DEFINE_integer('draws', 10, 'Of each kind.')
  flags.DEFINE_integer('seeds', 2, 'Of each fit.')
  flags.DEFINE_list('noise', ['0.2'], 'Standard deviations of the noise, in units of that of the features.')
  flags.DEFINE_integer('seed', 0, 'Of the draws.')
  flags.DEFINE_string('out', None, 'Where to write the record.')
  app.run(main)
