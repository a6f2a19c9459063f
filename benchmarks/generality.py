"""What of the comparison on cats64 holds on other trained generators: the same protocol, one table.

  python -m benchmarks.generality CHECKPOINT.pth --stylegan2=DIR --workdir=DIR

CHECKPOINT.pth is a DCGAN of faces as in examples/custom_generator.py, which has neither w nor styles, so that SeFa and
StyleSpace are not defined on it; DIR is a converted StyleGAN2 of 64 x 64 cats other than ours. The latter's regions are
those of configs/compare_cats64.py, the former's were set by hand on the mean of 256 samples.
"""

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path

from benchmarks.machine import machine, written
from configs import compare_cats64
from examples.custom_generator import DCGAN
from panda_jax.compare import settings
from panda_jax.compare.cases import compare_cases
from panda_jax.converters.checkpoint import read

FACES = {
  'eyes': (14, 19, 6, 26),
  'one_eye': (14, 19, 6, 15),
  'nose': (18, 25, 12, 20),
  'mouth': (27, 32, 9, 23),
  'forehead': (5, 12, 9, 23),
}
METHODS = (*settings.METHODS, 'panda_centered', 'pca_parts', *settings.CONTROLS)
RESULTS = Path(__file__).parent / 'results' / 'generality.json'


def main(argv: list[str]) -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('checkpoint', help='a DCGAN')
  parser.add_argument('--stylegan2', required=True, help='folder of a converted StyleGAN2 of cats')
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument('--smoke', action='store_true', help='few methods on few samples')
  arguments = parser.parse_args(argv)
  config = compare_cats64.get_config('smoke' if arguments.smoke else 'full')
  if not arguments.smoke:
    config.methods = METHODS
    config.heldout, config.test, config.region_samples = 32, 64, 16
  config.cases = {
    'cats64': {},
    'other cats': {'generator': arguments.stylegan2},
    'faces, 16 x 16': {'generator': None, 'layer': 4, 'regions': FACES},
    'faces, 8 x 8': {'generator': None, 'layer': 3, 'regions': FACES},
  }
  record, faces = machine(), DCGAN(read(arguments.checkpoint).tree)
  given = {name: faces for name in config.cases if name.startswith('faces')}
  command = shlex.join(['python', '-m', 'benchmarks.generality', *argv])
  tables = compare_cases(arguments.workdir, config, generators=given, command=command)
  if not arguments.smoke:
    joined = json.loads((arguments.workdir / 'table.json').read_text())
    written(record | joined, RESULTS)
    shutil.copy(arguments.workdir / 'table.md', RESULTS.with_suffix('.md'))
  print(f'{len(tables)} cases; {arguments.workdir / "table.md"}')


if __name__ == '__main__':
  main(sys.argv[1:])
