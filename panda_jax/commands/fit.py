"""`fit`: factorises feature maps into appearances and parts, into a workdir."""

import contextlib
from pathlib import Path

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.errors import InputError
from panda_jax.workdir.config import FLAGS, KEYS, described_keys

EXAMPLES = (
  'fit --features=FILE.npy --parts=8 --workdir=DIR',
  'fit --generator=cats64 --layer=5 --samples=1000 --parts=12 --workdir=DIR',
  'fit --config=cats64 --workdir=DIR',
)
CONFIGURATION, SUCH_AS = 'default', 'demo'
JOINING = 'coordinator', 'process_id', 'processes'
keys = described_keys


def define(values: flags.FlagValues) -> None:
  given = {'flag_values': values}
  shared.configured(values, FLAGS, KEYS, 'fit; these override the configuration')
  shared.workdir(values, 'Folder for results and checkpoints.')
  shared.overwrite(values)
  shared.tensorboard(values)
  flags.DEFINE_string(
    'published',
    None,
    "Also write the files of the authors' code, Uc-name_NAME-*.npy and Us-name_NAME-*.npy.",
    **given,
    module_name=shared.FOLDERS,
  )
  flags.DEFINE_bool(
    'verbose', False, 'Say why the features are kept where they are.', **given, module_name=shared.FOLDERS
  )
  joining = given | {'module_name': 'several processes'}
  flags.DEFINE_bool(
    'distributed',
    False,
    'Run as one of several processes that fit together; docs/how-to/cluster.md shows how.',
    **joining,
  )
  flags.DEFINE_string(
    'coordinator', None, 'HOST:PORT of process 0. Detected under Slurm, Open MPI, Kubernetes and on TPUs.', **joining
  )
  flags.DEFINE_integer('process_id', None, 'Number of this process, from 0. Detected like --coordinator.', **joining)
  flags.DEFINE_integer('processes', None, 'Number of processes. Detected like --coordinator.', **joining)


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.runtime.clock import Clock
  from panda_jax.workdir.fit import fit_into

  if not options.workdir:
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR')
  clock = Clock(call.started)
  with in_processes(options):
    fit_into(
      Path(options.workdir),
      shared.configuration(options, FLAGS),
      overwrite=options.overwrite,
      published=options.published,
      for_tensorboard=options.tensorboard,
      verbose=options.verbose,
      clock=clock,
    )


def in_processes(options: flags.FlagValues) -> contextlib.AbstractContextManager:
  """Joins the other processes of this fit, if there are any."""
  if options.distributed:
    from panda_jax.runtime.processes import joined

    return joined(options.coordinator, options.process_id, options.processes)
  for name in JOINING:
    if options[name].present:
      raise InputError(name, options[name].value, 'it needs --distributed', 'give --distributed too')
  return contextlib.nullcontext()
