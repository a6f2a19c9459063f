"""`report`: report.html, one page with all that a workdir holds."""

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.errors import InputError, printable

EXAMPLES = ('report --workdir=DIR',)


def define(values: flags.FlagValues) -> None:
  shared.workdir(values)


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.workdir.report import write_report

  if not options.workdir:
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR, the folder of a fit')
  print(printable(str(write_report(options.workdir))))
