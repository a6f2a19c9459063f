"""`app`: the explorer, in a browser."""

import signal

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.errors import InputError, Interrupted
from panda_jax.runtime import signals

ARGUMENTS = 'WORKDIR ...'
EXAMPLES = (
  'app --workdir=runs/cats64',
  'app runs/cats64 runs/other',
  'app --workdir=DIR --latents=w.npy',
  'app --workdir=DIR --host=0.0.0.0 --port=8000 --name=cats.example.org',
)
PAGE = 'page'


def define(values: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'workdir',
    [],
    'Folder of a fit of a generator. May be repeated.',
    flag_values=values,
    module_name=shared.FOLDERS,
  )
  shared.moved_generator(values)
  shared.latents(values)
  shared.labels(values)
  given = {'flag_values': values, 'module_name': PAGE}
  flags.DEFINE_string(
    'host',
    '127.0.0.1',
    'Address to listen on. On any but 127.0.0.1, everybody who can reach it can use the page.',
    **given,
  )
  flags.DEFINE_integer(
    'port', 7860, 'Port to listen on; 0 takes any that is free.', lower_bound=0, upper_bound=65535, **given
  )
  flags.DEFINE_multi_string(
    'name', [], 'Another host name under which the page is reached, such as that of a proxy. May be repeated.', **given
  )


def samples_of(given: flags.FlagValues, opened):
  """The samples to show: of seeds (of a class if one is given), or of a file."""
  from panda_jax.commands import requests
  from panda_jax.generators.labels import each, parsed_labels
  from panda_jax.workdir.samples import Samples

  labels = parsed_labels(given.labels)
  if given.latents is not None:
    read = requests.read_latents(given.latents, opened.needed_generator(), given.space, given.labels)
    return Samples(given=read, labels=labels)
  if given.space is not None:
    raise InputError('space', given.space, 'given without --latents', 'give --latents=FILE too')
  return Samples(labels=each(labels, 1))


def run(options: flags.FlagValues, call) -> None:
  workdirs = [*options.workdir, *call.words]
  if not workdirs:
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR, the folder of a fit through a generator')
  from panda_jax.app.fits import Fits
  from panda_jax.app.server import serve
  from panda_jax.workdir.finished_fit import open_workdir

  for name in ('generator', 'latents', 'labels'):
    if options[name].value and len(workdirs) > 1:
      raise InputError(name, options[name].value, 'given for several fits', 'give one --workdir')
  try:
    opened = [open_workdir(folder, options.generator) for folder in workdirs]
    with signals.keeping(lambda: 'what was saved is complete'):
      serve(Fits(opened, samples_of(options, opened[0])), options.host, options.port, options.name)
  except Interrupted as stopped:
    if stopped.number != signal.SIGINT:  # the usual way to stop the explorer
      raise
