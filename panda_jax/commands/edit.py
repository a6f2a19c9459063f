"""`edit`: samples of a fit with parts and appearances added, beside the originals."""

from pathlib import Path

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.commands import sentences
from panda_jax.errors import InputError

EXAMPLES = (
  'edit --workdir=DIR --part=3 --appearance=12 --alpha=-3,0,3 --seeds=0-3',
  'edit --workdir=DIR --part=1/9 --appearance=3/5 --alpha=3/-2 --add',
  'edit --workdir=DIR --mask=drawn.png --appearance=3 --alpha=3',
  'edit --workdir=DIR --zoo=FILE --name=NAME',
)
EDIT, ZOO = 'edit', 'named edits'


def define(values: flags.FlagValues) -> None:
  given = {'flag_values': values, 'module_name': EDIT}
  flags.DEFINE_string('part', None, 'Part to edit: 3, or 3,4 for both as one; 3/4,5 for two edits.', **given)
  flags.DEFINE_string('appearance', None, 'Appearance to add: 12, or 12/5 for two edits.', **given)
  flags.DEFINE_string('alpha', None, 'Strength: 3, or -3,0,3 for a sweep; 3/-2 for two edits.', **given)
  flags.DEFINE_enum(
    'convention',
    'unit',
    ['unit', 'paper', 'published'],
    'What --alpha multiplies: unit directions, or the offsets of the paper or of its code.',
    **given,
  )
  flags.DEFINE_enum(
    'alpha_unit',
    'feature',
    ['feature', 'rms'],
    'Unit of --alpha: that of the features, or their root mean square.',
    **given,
  )
  flags.DEFINE_bool('add', False, 'Add up all edits into one, instead of showing each on its own.', **given)
  flags.DEFINE_bool('refined', False, 'Refine the parts for each sample first.', **given)
  flags.DEFINE_string('directions', None, 'Directions to use in place of appearances: a .npy file (k, C).', **given)
  shared.mask(values, 'union, or sum where --convention is not unit')
  named = given | {'module_name': ZOO}
  flags.DEFINE_string('zoo', None, "File of named edits: JSON, or the authors' annotated directions (.py).", **named)
  flags.DEFINE_string(
    'name', None, 'With --zoo: the edits to apply, a or a,b. Without: the name of the folder.', **named
  )
  flags.DEFINE_string('annotate', None, 'Also save the edit in --zoo under this name.', **named)
  shared.samples(values, shared.SEEDS)
  shared.noise(values)
  shared.drop_rgb(values)
  shared.compose(values)
  shared.workdir(values)
  shared.moved_generator(values)
  shared.out(values, 'WORKDIR/edits/ and a name made of the flags')
  shared.overwrite(values)


def edits_folder(options: flags.FlagValues, name: str) -> Path:
  """The folder of edits and removals with this name."""
  if options.out or options.workdir:
    return Path(options.out) if options.out else sentences.inside(options.workdir, Path('edits') / name)
  raise InputError('out', None, 'not given', 'give --out=DIR')


def options_of(options: flags.FlagValues, call, progress):
  """Options for running and writing edits and removals."""
  from panda_jax.workdir.edits import EditOptions

  return EditOptions(
    noise=options.noise,
    drop_rgb=options.drop_rgb,
    compose=options.compose,
    overwrite=options.overwrite,
    command=call.text,
    on_samples=progress.samples_done,
    on_note=sentences.notes_to(progress),
  )


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.commands import requests
  from panda_jax.runtime.progress import Progress
  from panda_jax.workdir.edits import drawn, edit_into

  request = requests.requested(options)
  samples = requests.given_samples(options, request.opened)
  out = edits_folder(options, request.name)
  with Progress(len(samples.names())) as progress:
    how = options_of(options, call, progress)
    shapes = edit_into(out, request.opened, request.edits, samples, how, refined=options.refined)
  if options.annotate:
    request.annotate(options.zoo, options.annotate, options.overwrite)
  sentences.print_written(out, shapes, *drawn(out), 'edit.json')
