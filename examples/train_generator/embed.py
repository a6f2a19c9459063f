"""Stores a trained generator as float16, in the form that the package ships.

python -m examples.train_generator.embed --generator=DIR --out=panda_jax/assets/NAME
"""

import sys
from pathlib import Path

from absl import flags, logging

import panda_jax
from panda_jax.commands import parser
from panda_jax.errors import InputError
from panda_jax.generators.disk import read_description, save_generator

SEE = 'see the README beside this module'
KEPT = ('training', 'source')  # entries of the trained generator that the new folder keeps
OF_THE_PICTURES = ('points', 'places')  # entries on the kind of pictures, kept from a replaced folder


def embed(generator: str, out: Path, overwrite: bool) -> int:
  """Writes the folder; returns its size in bytes.

  Raises:
    InputError: there is no such generator, or `out` has other files.
  """
  description = read_description(generator)
  replaced = read_description(out) if (out / 'generator.json').is_file() else {}
  kept = {name: description[name] for name in KEPT if name in description}
  kept |= {name: replaced[name] for name in OF_THE_PICTURES if name in replaced}
  save_generator(panda_jax.load_generator(generator), out, kept, overwrite=overwrite, storage='float16')
  return sum(path.stat().st_size for path in out.rglob('*') if path.is_file())


def defined() -> flags.FlagValues:
  values = flags.FlagValues()
  given = {'flag_values': values, 'module_name': 'flags'}
  flags.DEFINE_string('generator', None, 'Folder of the trained generator.', **given)
  flags.DEFINE_string('out', None, 'Folder to write to.', **given)
  flags.DEFINE_bool('overwrite', False, 'Replace the generator that is there.', **given)
  return values


def parsed(words: list[str]) -> flags.FlagValues:
  """The flags.

  Raises:
    InputError: a flag is unknown or malformed.
  """
  values = defined()
  parser.parse(values, words, SEE)
  for name in ('generator', 'out'):
    if not values[name].value:
      raise InputError(f'--{name}', None, 'not given', f'give --{name}=DIR')
  return values


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.ERROR)
  if not parser.HELP.isdisjoint(argv[1:]):
    print('\n'.join([__doc__.strip(), *parser.listed(defined())]))
    return 0
  try:
    options = parsed(argv[1:])
    size = embed(options.generator, Path(options.out), options.overwrite)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(f'{options.out}  {size / 1e6:.1f} MB')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
