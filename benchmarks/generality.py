"""The comparison on another trained generator, a DCGAN of faces, with the protocol of cats64.

  python -m benchmarks.generality CHECKPOINT.pth --workdir=DIR        20 to 40 minutes on a busy machine

CHECKPOINT.pth is as in examples/custom_generator.py. It has neither w nor styles, so StyleSpace is not defined, and
SeFa, GANSpace, LowRankGAN and ReSeFa work on z. PandA edits its layers of 16 x 16 and 8 x 8. Regions were set by hand
on the mean of 256 samples. The table also has the numbers of cats64, from results/compare_cats64/table.json.
"""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
from absl import app, flags

from benchmarks.machine import machine, written
from configs import compare_cats64
from examples.custom_generator import DCGAN
from panda_jax.compare import cases, settings
from panda_jax.converters.checkpoint import read

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the comparison.', required=True)
_SMOKE = flags.DEFINE_bool('smoke', False, 'Few methods on few samples; the record is left as it is.')

FACES = {
  'eyes': (14, 19, 6, 26),
  'one_eye': (14, 19, 6, 15),
  'nose': (18, 25, 12, 20),
  'mouth': (27, 32, 9, 23),
  'forehead': (5, 12, 9, 23),
}
METHODS = (*settings.METHODS, 'panda_centered', 'pca_parts', *settings.CONTROLS)
RESULTS = Path(__file__).parent / 'results'


def stored(table: dict) -> dict:
  """A case from an existing table: for each method the geometric mean over regions of its mean ROIR."""
  means: dict[str, list[float]] = {}
  for cell in table['cells']:
    means.setdefault(cell['method'], []).append(cell['roir']['mean'])
  return {
    'methods': {
      method: {'name': said['name'], 'roir': float(np.exp(np.mean(np.log(means[method])))), 'same': []}
      for method, said in table['methods'].items()
      if method in METHODS
    }
  }


def main(argv: list[str]) -> None:
  if len(argv) != 2:
    raise app.UsageError('give the checkpoint of a DCGAN')
  workdir = Path(_WORKDIR.value)
  config = compare_cats64.get_config('smoke' if _SMOKE.value else 'full')
  config.generator, config.regions = None, FACES
  config.cases = {'faces, 16 x 16': {'layer': 4}, 'faces, 8 x 8': {'layer': 3}}
  if not _SMOKE.value:
    config.methods = METHODS
    config.heldout, config.test, config.region_samples = 16, 64, 16
  record, faces = machine(), DCGAN(read(argv[1]).tree)
  command = shlex.join(['python', '-m', 'benchmarks.generality', *sys.argv[1:]])
  cases.compare_cases(workdir, config, generators=dict.fromkeys(config.cases, faces), command=command)
  joined = json.loads((workdir / 'table.json').read_text())['cases']
  cats = json.loads((RESULTS / 'compare_cats64' / 'table.json').read_text())
  text = cases.written({'cats64': stored(cats), **joined}, command)
  if not _SMOKE.value:
    written(record | {'command': command, 'cases': joined}, RESULTS / 'generality.json')
    (RESULTS / 'generality.md').write_text(text)
  print(text)


if __name__ == '__main__':
  app.run(main)
