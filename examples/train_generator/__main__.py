"""Trains a StyleGAN2 on a zip file or folder of images; README.md beside this file says how.

python -m examples.train_generator --config=examples/train_generator/configs/NAME.py --data=DATA --workdir=DIR
"""

import os
import sys
from pathlib import Path

from absl import flags, logging
from ml_collections import config_flags

from examples.train_generator.train import train_into
from panda_jax.errors import InputError, Interrupted

flags.DEFINE_string('data', None, 'Zip file or folder of square images of one size.')
flags.DEFINE_string('workdir', None, 'Folder of the training; an interrupted one goes on.')
flags.DEFINE_bool('overwrite', False, 'Drop what an earlier training left in the folder.')


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.ERROR)
  try:
    default = Path(__file__).parent / 'configs' / 'cats64_cpu.py'
    try:
      config_flags.DEFINE_config_file('config', str(default), 'Configuration file.')
      rest = flags.FLAGS(argv)
      config = flags.FLAGS.config
    except Exception as error:  # a config file may raise anything; its last line says what
      said = str(error).strip().splitlines()[-1].strip()
      raise InputError('flags', ' '.join(argv[1:]), said, 'see the README beside this module') from error
    if len(rest) > 1:
      raise InputError('argument', rest[1], 'not a flag', 'write --name=value')
    for name in ('data', 'workdir'):
      if not flags.FLAGS[name].value:
        raise InputError(name, None, 'not given', f'give --{name}=PATH')
    folder = train_into(Path(flags.FLAGS.workdir), config, flags.FLAGS.data, flags.FLAGS.overwrite)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except Interrupted:
    print('stopped; the state is saved, and the same command goes on from it', file=sys.stderr)
    return 143
  print(f'{folder}  the averaged generator')
  return 0


if __name__ == '__main__':
  code = main(sys.argv)
  sys.stderr.flush()
  if code:
    os._exit(code)  # after a failed write, Orbax's threads would add their tracebacks at exit
