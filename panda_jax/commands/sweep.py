"""`sweep`: many fits, one for each combination of settings, below one folder."""

from collections import Counter
from functools import partial
from pathlib import Path

from absl import flags

from panda_jax.commands import compilation, parser
from panda_jax.commands import options as shared
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
    'Do share i of n of the runs, given as i/n with i from 0 to n - 1. Each share is a process of its own.',
    **given,
    module_name='sweep',
  )
  flags.DEFINE_integer(
    'jobs',
    1,
    'Runs that are done at once, each in a process with its own features in memory; 2 pays on two cores.',
    **given,
    module_name='sweep',
  )
  flags.DEFINE_bool('yes', False, f'Start even if there are more than {MANY} runs.', **given, module_name='sweep')
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

  outcomes = sweep_into(
    Path(options.workdir),
    options.config,
    chosen,
    jobs=options.jobs,
    prepare=partial(compilation.keep, options.compilation_cache),
    overwrite=options.overwrite,
    for_tensorboard=options.tensorboard,
  )
  count = Counter(outcome.state for outcome in outcomes)
  said = [f'{count["finished"]} of {len(chosen)} runs are finished']
  said += [f'another process is at {count["busy"]}'] * bool(count['busy'])
  print(printable(f'{", ".join(said)}; {command("runs", [options.workdir])} shows them'))
  failed = next((outcome for outcome in outcomes if outcome.state == 'failed'), None)
  if failed is not None:
    problem = f'failed, {failed.name} since {brief(failed.sentence.removeprefix("failed: "), 170)}'
    raise InputError('sweep', f'{count["failed"]} of {len(chosen)} runs', problem, 'see failure.json in their folders')
