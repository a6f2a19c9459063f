"""Explore fits in the browser.

python -m panda_jax.app --workdir=runs/cats64                    on http://127.0.0.1:7860/
python -m panda_jax.app --workdir runs/cats64 runs/other         a choice between fits, on the page
python -m panda_jax.app --workdir=DIR --latents=w.npy            samples of a file, by their numbers, in place of seeds
python -m panda_jax.app --workdir=DIR --port=8000 --generator=DIR --host=0.0.0.0 --name=cats.example.org

Needs the extra: pip install 'panda-jax[app]'. On another host than 127.0.0.1 anybody who reaches it can use it. Pages
reach it by its address or its host's name; by another, such as that of a proxy, if --name gives it.
"""

from panda_jax.runtime import signals

if __name__ == '__main__':
  signals.listen()

import signal
import sys

from absl import flags

import panda_jax
from panda_jax.commands import parser
from panda_jax.errors import InputError, Interrupted


def parsed(argv: list[str]) -> flags.FlagValues:
  """The flags; `workdir` is a list.

  Raises:
    InputError: unknown, malformed, or --workdir is missing.
  """
  values = flags.FlagValues()
  given = {'flag_values': values}
  flags.DEFINE_multi_string('workdir', [], 'Of a finished fit through a generator, one or more.', **given)
  flags.DEFINE_string('generator', None, 'Where it is now, if it has moved.', **given)
  flags.DEFINE_string(
    'latents', None, 'Samples in place of those of seeds: a file of z, w or w+, see README.md.', **given
  )
  flags.DEFINE_enum(
    'space', None, ['z', 'w', 'wplus'], 'What --latents holds, where the file does not say it.', **given
  )
  flags.DEFINE_string('labels', None, 'Class of all samples, or of each in --latents: 207, or a .npy file.', **given)
  flags.DEFINE_string('host', '127.0.0.1', 'Address to listen on.', **given)
  flags.DEFINE_multi_string('name', [], 'By which else pages reach it, such as that of a proxy.', **given)
  flags.DEFINE_integer('port', 7860, '0 takes any that is free.', lower_bound=0, upper_bound=65535, **given)
  flags.DEFINE_bool('help', False, 'Say this.', short_name='h', **given)
  flags.DEFINE_bool('version', False, 'Say which version of panda-jax this is.', **given)
  more = parser.parse(values, argv, positional=True)
  values.workdir = values.workdir + more
  if not (values.workdir or values.help or values.version):
    raise InputError('workdir', None, 'not given', 'give --workdir=DIR, the folder of a fit through a generator')
  return values


def samples_of(given: flags.FlagValues, opened):
  """What is shown: samples of seeds, of a class if one is given, or those of a file."""
  from panda_jax.generators import latents
  from panda_jax.generators.labels import each, parsed_labels
  from panda_jax.results.edits import Samples

  labels = parsed_labels(given.labels)
  if given.latents is not None:
    return Samples(given=latents.read(given.latents, opened.needed_generator(), given.space), labels=labels)
  if given.space is not None:
    raise InputError('space', given.space, 'there is no file that it could be of', 'give --latents=FILE too')
  return Samples(labels=each(labels, 1))


def main(argv: list[str]) -> int:
  try:
    given = parsed(argv)
    if given.help:
      print('\n'.join([__doc__, *parser.listed(given, parser.own_flags(given) - {'h'})]))
      return 0
    if given.version:
      print(f'panda-jax {panda_jax.__version__}')
      return 0
    from panda_jax.app.fits import Fits
    from panda_jax.app.server import serve
    from panda_jax.workdir.finished_fit import open_workdir

    for name in ('generator', 'latents', 'labels'):
      if given[name].value and len(given.workdir) > 1:
        raise InputError(name, given[name].value, 'given for several fits', 'give one --workdir')
    with signals.raising():
      opened = [open_workdir(folder, given.generator) for folder in given.workdir]
      serve(Fits(opened, samples_of(given, opened[0])), given.host, given.port, given.name)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except Interrupted as stopped:
    if stopped.number != signal.SIGINT:  # which is how it is ended
      return signals.exit_code(stopped.number)
  return 0


if __name__ == '__main__':
  code = main(sys.argv[1:])
  signals.ignore()
  sys.exit(code)
