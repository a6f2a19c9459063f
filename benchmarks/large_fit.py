"""A fit of many samples of a full-size generator: its time beyond making the features.

    python -m benchmarks.large_fit [--resolution=1024 --layer=5 --samples=10000 --parts=16]

The generator is a StyleGAN2 with random weights, which do not change the times, and the published widths. Its layer 5
has 512 channels on 16 x 16. The command runs twice, first without compiled programs, then with those of the first run.
Yardstick: the features alone, which the same command makes. Prints a table, writes large_fit.json.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags

from benchmarks.machine import machine, written
from panda_jax.generators import registry
from panda_jax.generators.disk import save_generator
from panda_jax.generators.stylegan2 import StyleGAN2Options

_RESOLUTION = flags.DEFINE_integer('resolution', 1024, 'Pixels of the generator.')
_LAYER = flags.DEFINE_integer('layer', 5, 'Where features are.')
_SAMPLES = flags.DEFINE_integer('samples', 10000, 'Of the fit.', lower_bound=2)
_PARTS = flags.DEFINE_integer('parts', 16, 'R_S.', lower_bound=1)
_OUT = flags.DEFINE_string('out', 'benchmarks/results', 'Folder of the JSON file.')

ROOT = Path(__file__).parents[1]
BEYOND = 'moments', 'solve'
STATES = 'empty', 'filled'  # the folder of compiled programs


def full_stylegan2(resolution: int):
  """A StyleGAN2 with random weights and the widths of config-f."""
  sizes = [4 << k for k in range(resolution.bit_length() - 2)]
  widths = tuple(min(32768 // size, 512) for size in sizes for _ in range(2))
  return registry.create('stylegan2', StyleGAN2Options(resolution, widths, 512, 512, (512,) * 8, clamp=256.0))


def fitted(generator: Path, workdir: Path, kept: Path) -> dict:
  """The content of `summary.json` of a fit."""
  command = [sys.executable, 'run.py', 'fit', f'--generator={generator}', f'--layer={_LAYER.value}']
  command += [f'--samples={_SAMPLES.value}', f'--parts={_PARTS.value}', f'--workdir={workdir}']
  subprocess.run([*command, f'--compilation_cache={kept}'], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
  return json.loads((workdir / 'summary.json').read_text())


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  record = machine() | {'samples': _SAMPLES.value, 'parts': _PARTS.value, 'fits': {}}
  with tempfile.TemporaryDirectory() as folder:
    generator = full_stylegan2(_RESOLUTION.value)
    record['features'] = list(generator.layers[_LAYER.value])
    place = Path(folder) / 'generator'
    save_generator(generator, place)
    del generator
    for state in STATES:
      told = fitted(place, Path(folder) / state, Path(folder) / 'compiled')
      seconds = told['seconds']
      beyond = sum(seconds.get(name, 0.0) for name in BEYOND)
      made = seconds.get('features', 0.0)
      record['fits'][state] = {
        'seconds': seconds,
        'relative_error': told['relative_error'],
        'share_beyond_features': beyond / (beyond + made) if beyond + made else None,
      }
      print(f'{state:7}', {name: round(x, 2) for name, x in seconds.items()}, f'beyond features {beyond:.1f} s')
      written(record, Path(_OUT.value) / 'large_fit.json')


if __name__ == '__main__':
  app.run(main)
