"""`sweep`: many fits, one for each combination of settings, below one folder."""

from pathlib import Path

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.commands import parser
from panda_jax.errors import InputError, brief, printable
from panda_jax.workdir.config import FLAGS, KEYS, described_keys

EXAMPLES = (
  'sweep --config=cats64 --parts=4,8,12,16 --layer=3,5,7 --seed=0-4 --held_out=200 --workdir=DIR',
  'sweep --features=FILE.npy --parts=4-24:4 --config.center=none,position --workdir=DIR',
  'sweep --config=cats64 --parts=4,8,12,16 --shard=0/4 --workdir=DIR',
)
CONFIGURATION, SUCH_AS, LISTS = 'default', 'cats64', True
HEADING = 'fit; each takes a value, a list 4,8,12, or of whole numbers a range 0-4 or 4-24:4'
keys = described_keys


def define(values: flags.FlagValues) -> None:
  from panda_jax.experiments.cells import MANY

  given = {'flag_values': values}
  for name in FLAGS:
    flags.DEFINE_string(name, None, KEYS[name].meaning, **given, module_name=HEADING)
  flags.DEFINE_string(
    'shard',
    None,
    'Do a part of the runs only: i/n, i from 0 to n - 1. Each in a process of its own.',
    **given,
    module_name='sweep',
  )
  flags.DEFINE_bool('yes', False, f'Do all runs where there are more than {MANY}.', **given, module_name='sweep')
  shared.workdir(values, 'Folder for the runs, one folder each below it.')
  shared.overwrite(values)
  shared.tensorboard(values)


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.experiments.cells import cells_of, checked_axes, parsed_values, shard_of

  blocks = [{}]
  if hasattr(call.configuration, 'sweep'):
    file = call.configuration.__file__
    blocks = checked_axes(parser.called(call.configuration, 'sweep', file), file)
  flagged = [(name, flag) for name in KEYS for flag in (name, f'config.{name}')]
  given = [(name, flag) for name, flag in flagged if flag in options and options[flag].present]
  typed = {name: parsed_values(name, options[flag].value, flag) for name, flag in given}
  if not options.workdir:
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR')
  cells = cells_of([{**block, **typed} for block in blocks], options.yes)
  chosen = shard_of(cells, options.shard)

  from panda_jax.experiments.sweep import sweep_into
  from panda_jax.workdir.suggestions import typed as command

  done = sweep_into(
    Path(options.workdir), options.config, chosen, overwrite=options.overwrite, for_tensorboard=options.tensorboard
  )
  said = [f'{len(done.finished)} of {len(chosen)} runs are finished']
  said += [f'another process is at {len(done.busy)}'] * bool(done.busy)
  print(printable(f'{", ".join(said)}; {command("runs", [options.workdir])} shows them'))
  if done.failed:
    name, sentence = next(iter(done.failed.items()))
    problem = f'failed, {name} since {brief(sentence, 170)}'
    raise InputError('sweep', f'{len(done.failed)} of {len(chosen)} runs', problem, 'see failure.json in their folders')
