"""`discover`: directions of another method, with a strip that shows what they do."""

from pathlib import Path

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.commands import sentences
from panda_jax.errors import InputError

EXAMPLES = (
  'discover --method=sefa --generator=cats64 --out=DIR',
  'discover --method=resefa --generator=cats64 --region=20,32,10,55 --references=1 --out=DIR',
)
METHOD, STRIP = 'method', 'strip'


def define(values: flags.FlagValues) -> None:
  given = {'flag_values': values, 'module_name': METHOD}
  flags.DEFINE_string('method', None, 'Method: sefa, ganspace, stylespace, lowrankgan or resefa.', **given)
  flags.DEFINE_string(
    'region',
    None,
    'Box r0,r1,c0,c1 in pixels, for stylespace, lowrankgan and resefa: rows r0 to r1 - 1, columns c0 to c1 - 1.',
    **given,
  )
  flags.DEFINE_string(
    'rows', None, "Rows of w+ that the directions move, such as 4-7; the method's own if left out.", **given
  )
  flags.DEFINE_integer('count', None, "Largest number of directions; the method's own if left out.", **given)
  flags.DEFINE_string(
    'references', None, 'Seeds of the images that lowrankgan and resefa differentiate, such as 4-8.', **given
  )
  flags.DEFINE_integer('layer', None, 'Layer whose features ganspace uses.', **given)
  flags.DEFINE_integer('samples', None, "Number of samples that are drawn; the method's own if left out.", **given)
  flags.DEFINE_integer('seed', None, "Seed of the drawn samples; the method's own if left out.", **given)
  flags.DEFINE_bool('published', False, 'Do as the published code does, including its mistakes.', **given)
  drawn = given | {'module_name': STRIP}
  flags.DEFINE_string(
    'alpha', None, 'Strengths shown on the strip, such as -3,3; chosen to be clearly visible if left out.', **drawn
  )
  shared.generator(values)
  shared.seeds(values, f'{shared.SEEDS}. They are shown on the strip')
  shared.labels(values)
  shared.truncation(values)
  shared.out(values)
  shared.overwrite(values)


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.commands import requests
  from panda_jax.commands.discover_requests import requested
  from panda_jax.runtime.progress import Progress
  from panda_jax.workdir import directions

  if not options.method:
    raise InputError('method', None, 'not given', 'give --method=sefa|ganspace|stylespace|lowrankgan|resefa')
  if not options.out:
    raise InputError('out', None, 'not given', 'give --out=DIR')
  arguments, strip = requested(options)
  try:
    with Progress() as progress:
      found, shapes = directions.discover_into(
        options.out,
        requests.given_generator(options),
        options.method,
        arguments,
        strip,
        overwrite=options.overwrite,
        command=call.text,
        on_progress=directions.told(progress.now),
      )
  except InputError as error:
    argument = directions.CALLED.get(error.argument, error.argument)
    raise type(error)(argument, error.value, error.problem, error.remedy) from error
  sentences.print_written(Path(options.out), shapes, 'directions.json', 'strip.png')
  print(f'{len(found)} directions in {found.provenance["discovery"]["seconds"]:.1f} s')
