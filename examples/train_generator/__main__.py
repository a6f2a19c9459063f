"""Trains a StyleGAN2 on a zip file or folder of images; see README.md beside this file.

python -m examples.train_generator --config=examples/train_generator/configs/NAME.py --data=DATA --workdir=DIR
"""

from panda_jax.runtime import signals

if __name__ == '__main__':
  signals.listen()

import os
import sys
from pathlib import Path

from absl import flags, logging

from examples.train_generator.train import train_into
from panda_jax.commands import parser
from panda_jax.errors import InputError, Interrupted

DEFAULT = Path(__file__).parent / 'configs' / 'cats64_cpu.py'
SEE = 'see the README beside this module'


def defined() -> flags.FlagValues:
  values = flags.FlagValues()
  given = {'flag_values': values, 'module_name': 'flags, beside --config=FILE.py and --config.KEY=VALUE'}
  flags.DEFINE_string('data', None, 'Zip file or folder of square images of one size.', **given)
  flags.DEFINE_string('workdir', None, 'Folder of the training. One that was interrupted goes on.', **given)
  flags.DEFINE_bool('overwrite', False, 'Delete what an earlier training left in the folder.', **given)
  return values


def parsed(words: list[str]) -> flags.FlagValues:
  """The flags.

  Raises:
    InputError: a flag is unknown or malformed, or the configuration cannot be used.
  """
  values = defined()
  rest, _ = parser.define_config(values, words, DEFAULT, 'examples/train_generator/configs/smoke.py')
  parser.parse(values, rest, SEE)
  for name in ('data', 'workdir'):
    if not values[name].value:
      raise InputError(f'--{name}', None, 'not given', f'give --{name}=PATH')
  return values


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.ERROR)
  if not parser.HELP.isdisjoint(argv[1:]):
    print('\n'.join([__doc__.strip(), *parser.listed(defined())]))
    return 0
  try:
    with signals.keeping(lambda: 'nothing was written'), signals.raising():
      given = parsed(argv[1:])
      folder = train_into(Path(given.workdir), given.config, given.data, given.overwrite)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except Interrupted as stopped:
    print(signals.sentence(stopped.number, stopped.kept), file=sys.stderr)
    return signals.exit_code(stopped.number)
  print(f'{folder}  the averaged generator')
  return 0


if __name__ == '__main__':
  code = main(sys.argv)
  signals.ignore()
  sys.stderr.flush()
  if code:
    os._exit(code)  # else Orbax's threads print tracebacks at exit after a failed write
