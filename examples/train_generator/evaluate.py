"""Quality of generators against held-out real images, as numbers and as sheets of pictures.

python -m examples.train_generator.evaluate --generator=DIR [--generator=DIR2 ...] --data=ZIP|FOLDER --out=DIR

Writes evaluation.json and, for each generator NAME, NAME_samples.png, NAME_truncation.png and NAME_nearest.png. The
feature space is that of panda_jax/regions/realism.py, fitted to training images; held-out images are the trainer's.
"""

import json
import os
import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging

import panda_jax
from examples.train_generator import data
from panda_jax.commands import parser
from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.generators.seeds import draws
from panda_jax.generators.structure import Compiled
from panda_jax.pictures.figures import draw_images
from panda_jax.regions import realism
from panda_jax.runtime.progress import Progress

SEE = 'see the README beside this module'
TRUNCATIONS = (0.5, 0.7, 0.85, 1.0)
FIT_IMAGES = 4000
BATCH = 32
SHOWN = 64
COMPARED = 8  # samples beside their nearest training images
NEIGHBOURS = 5


def generated(generator, seeds: np.ndarray, truncation: float) -> np.ndarray:
  """Images (N, H, W, channels) of seeds (N,), clipped to [-1, 1]."""
  z = draws(generator, seeds)
  images = []
  for first in range(0, len(z), BATCH):
    batch = np.resize(z[first : first + BATCH], (BATCH, z.shape[1]))
    made = np.asarray(generator(generator.map(batch, truncation=truncation)))
    images.append(np.clip(made[: len(z) - first], -1, 1))
  return np.concatenate(images)


def compared(real: np.ndarray, rows: np.ndarray) -> dict[str, float]:
  """Fréchet distance, precision and recall of rows (N, d) against those of real images (M, d)."""
  coverage = realism.precision_recall(real, rows)
  distance = realism.frechet_distance(real, rows)
  return {'frechet': distance, 'precision': coverage.precision, 'recall': coverage.recall}


def evaluate(
  folders: list[str], path: str | os.PathLike, out: Path, samples: int, progress: Progress
) -> dict[str, object]:
  """Evaluates, see the module; returns the content of evaluation.json.

  Args:
    folders: of generators, or names of embedded ones.
    path: zip file or folder of the training images.
    out: folder for the results.
    samples: images to draw from each generator.
    progress: the display of progress.

  Raises:
    InputError: images or generators cannot be used, or do not fit together.
  """
  loaded = {Path(folder).name: panda_jax.load_generator(folder) for folder in folders}
  found = data.read_images(path, lambda name, n: progress.now(f'{name} {n} images'))
  for name, made in loaded.items():
    if (made.resolution, made.num_classes) != (found.pixels.shape[1], 0):
      problem = f'it makes images of {made.resolution} pixels'
      raise InputError('generator', name, problem, 'give the images it was trained on')
  train, held = data.split(data.photographs(found.pixels))
  progress.now('fitting the feature space')
  rng = np.random.default_rng(0)
  space = realism.embedding(found.pixels[rng.permutation(train)[:FIT_IMAGES]])
  real, seen = space(found.pixels[held]), space(found.pixels[train])
  floor = rng.permutation(len(seen))[: len(real)]
  result = {
    'data': {'file': Path(path).name, 'sha256': found.sha256, 'training': len(train), 'held_out': len(held)},
    'space': {'images': FIT_IMAGES, 'dimensions': int(space.basis.shape[1]), 'seed': realism.SEED},
    'samples': samples,
    'training images': {
      **compared(real, seen[floor]),
      'nearest': float(np.median(realism.nearest(real, seen)[1])),
    },
    'generators': {},
  }
  out.mkdir(parents=True, exist_ok=True)
  for name, made in loaded.items():
    generator = Compiled(made)
    sweep = {}
    for truncation in TRUNCATIONS:
      progress.now(f'{name}: {samples} samples at truncation {truncation}')
      images = generated(generator, np.arange(samples), truncation)
      rows = space(images)
      sweep[str(truncation)] = compared(real, rows)
    # The last truncation is 1.
    indices, distances = realism.nearest(rows, seen, NEIGHBOURS)
    result['generators'][name] = {
      'truncation': sweep,
      'nearest': float(np.median(distances[:, 0])),
      'nearest_smallest': float(distances[:, 0].min()),
    }
    draw_images(out / f'{name}_samples.png', images[:SHOWN])
    draw_images(out / f'{name}_truncation.png', _sweep(generator))
    closest = np.argsort(distances[:, 0])[:COMPARED]
    draw_images(out / f'{name}_nearest.png', _beside(images, found.pixels[train], indices, closest))
  write_atomically(out / 'evaluation.json', (json.dumps(result, indent=2) + '\n').encode())
  return result


def _sweep(generator) -> np.ndarray:
  """Eight seeds in columns, a truncation in each row."""
  return np.concatenate([generated(generator, np.arange(8), truncation) for truncation in (0.0, *_eight()[1:])])


def _eight() -> tuple[float, ...]:
  return tuple(np.linspace(0, 1, 8).round(2).tolist())


def _beside(images, pixels, indices, chosen) -> np.ndarray:
  """Rows, each with a sample and its nearest training images."""
  rows = []
  for k in chosen:
    neighbours = pixels[indices[k]].astype(np.float32) / 127.5 - 1
    rows += [images[k], *neighbours]
  return np.stack(rows)


def table(result: dict) -> str:
  """The result as a table for readers."""
  lines = [f'{"":24} {"truncation":>10} {"Fréchet":>9} {"precision":>10} {"recall":>7} {"nearest":>8}']

  def line(name, truncation, row, distance):
    return (
      f'{name:24} {truncation:>10} {row["frechet"]:9.4f} {row["precision"]:10.3f} {row["recall"]:7.3f} {distance:>8}'
    )

  known = result['training images']
  lines.append(line('training images', '', known, f'{known["nearest"]:.3f}'))
  for name, of in result['generators'].items():
    for truncation, row in of['truncation'].items():
      lines.append(line(name, truncation, row, f'{of["nearest"]:.3f}' if truncation == '1.0' else ''))
  return '\n'.join(lines)


def defined() -> flags.FlagValues:
  values = flags.FlagValues()
  given = {'flag_values': values, 'module_name': 'flags'}
  flags.DEFINE_multi_string('generator', None, 'Folder or name of a generator. May be repeated.', **given)
  flags.DEFINE_string('data', None, 'Zip file or folder of the images it was trained on.', **given)
  flags.DEFINE_string('out', None, 'Folder for the results.', **given)
  flags.DEFINE_integer('samples', 2000, 'Number of images to draw from each generator.', lower_bound=256, **given)
  return values


def parsed(words: list[str]) -> flags.FlagValues:
  """The flags.

  Raises:
    InputError: a flag is unknown or malformed.
  """
  values = defined()
  parser.parse(values, words, SEE)
  for name in ('generator', 'data', 'out'):
    if not values[name].value:
      raise InputError(f'--{name}', None, 'not given', f'give --{name}=PATH')
  return values


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.ERROR)
  if not parser.HELP.isdisjoint(argv[1:]):
    print('\n'.join([__doc__.strip(), *parser.listed(defined())]))
    return 0
  try:
    options = parsed(argv[1:])
    with Progress() as progress:
      result = evaluate(options.generator, options.data, Path(options.out), options.samples, progress)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(table(result))
  print(f'{options.out}  evaluation.json and sheets; devices: {jax.devices()[0].platform}')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
