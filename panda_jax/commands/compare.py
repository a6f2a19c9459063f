"""`compare`: all methods on one generator, under one protocol."""

from pathlib import Path

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.commands import sentences
from panda_jax.compare.settings import KEYS
from panda_jax.errors import InputError
from panda_jax.workdir.config import described_keys

EXAMPLES = ('compare --config=compare_cats64 --workdir=DIR', 'compare --config=compare_cats64:layers --workdir=DIR')
CONFIGURATION, SUCH_AS = None, 'compare_cats64'
FLAGS = 'generator', 'layer', 'samples', 'parts', 'seed', 'truncation', 'truncation_layers'  # keys with a flag too


def keys() -> list[str]:
  """The lines of --help on the configuration."""
  return described_keys(KEYS, FLAGS)


def define(values: flags.FlagValues) -> None:
  shared.configured(values, FLAGS, KEYS, 'comparison; these override the configuration')
  shared.workdir(values, 'Folder for results.')
  shared.overwrite(values)


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.compare.cases import compare_cases
  from panda_jax.compare.run import compare_into

  if not options.workdir:
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR')
  config = shared.configuration(options, FLAGS)
  compare, files = compare_into, ('table.md', 'table.json', 'curves.png', 'strips.png')
  if config.cases:
    compare, files = compare_cases, ('table.md', 'table.json', *config.cases)
  compare(options.workdir, config, overwrite=options.overwrite, command=call.text)
  sentences.print_written(Path(options.workdir), {}, *files)
