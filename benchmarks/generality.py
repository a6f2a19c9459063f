"""The comparison on another trained generator, a DCGAN of faces, with the protocol of cats64.

  python -m benchmarks.generality CHECKPOINT.pth --cats64=runs/compare_cats64 --workdir=DIR        8 minutes

CHECKPOINT.pth is as in examples/custom_generator.py. It has neither w nor styles, so StyleSpace is not defined, and
SeFa, GANSpace, LowRankGAN and ReSeFa work on z. PandA edits its layers of 16 x 16 and 8 x 8. Regions were set by hand
on the mean of 256 samples. The table also has the finished comparison of configs/compare_cats64.py.
"""

import json
from pathlib import Path

from absl import app, flags

from benchmarks.machine import machine, written
from configs import compare_cats64
from examples.custom_generator import DCGAN
from panda_jax.compare import cases, settings
from panda_jax.converters.checkpoint import read

COMMAND = 'python -m benchmarks.generality CHECKPOINT.pth --cats64=runs/compare_cats64 --workdir=DIR'

_CATS64 = flags.DEFINE_string('cats64', None, 'Folder of the finished comparison on cats64.', required=True)
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


def of_cats64(folder: Path) -> dict:
  """The finished comparison on cats64 as a case, with those of its methods that run here too."""
  table = json.loads((folder / 'table.json').read_text())
  case = cases.joined_of(folder.parent, {folder.name: table})[folder.name]
  return case | {'methods': {method: row for method, row in case['methods'].items() if method in METHODS}}


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
  cases.compare_cases(workdir, config, generators=dict.fromkeys(config.cases, faces), command=COMMAND)
  joined = json.loads((workdir / 'table.json').read_text())['cases']
  joined = {'cats64': of_cats64(Path(_CATS64.value)), **joined}
  text = cases.written(joined, COMMAND)
  if not _SMOKE.value:
    written(record | {'command': COMMAND, 'cases': joined}, RESULTS / 'generality.json')
    (RESULTS / 'generality.md').write_text(text)
  print(text)


if __name__ == '__main__':
  app.run(main)
