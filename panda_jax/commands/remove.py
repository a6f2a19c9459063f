"""`remove`: samples of a fit with background in place of a part."""

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.commands import sentences
from panda_jax.commands.edit import edits_folder, options_of
from panda_jax.workdir import EDIT_STATISTICS

EXAMPLES = ('remove --workdir=DIR --part=3 --seeds=0-3', 'remove --workdir=DIR --mask=nose.png --seeds=0-3')
REMOVAL = 'removal'


def define(values: flags.FlagValues) -> None:
  given = {'flag_values': values, 'module_name': REMOVAL}
  flags.DEFINE_string('part', None, 'Part to remove: 3, or 3,4 for both as one; all of --mask if left out.', **given)
  flags.DEFINE_string('appearance', None, 'Appearance of the background; found automatically if left out.', **given)
  flags.DEFINE_float('strength', 1.0, 'Factor on the strength that is found automatically.', **given)
  flags.DEFINE_enum('separate', 'otsu', ['otsu', 'mean'], 'Threshold rule that separates the background.', **given)
  shared.mask(values)
  shared.samples(values, shared.SEEDS)
  shared.statistics(values, EDIT_STATISTICS, 'fit', 'background and strength are found')
  shared.noise(values)
  shared.drop_rgb(values)
  shared.compose(values)
  shared.workdir(values)
  shared.moved_generator(values)
  shared.name(values, 'Name of the folder; if left out, remove-part, the number and the flags that were given.')
  shared.out(values, 'WORKDIR/edits/NAME')
  shared.overwrite(values)


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.commands import requests
  from panda_jax.runtime.progress import Progress
  from panda_jax.workdir.edits import drawn, remove_into

  opened = requests.given_fit(options)
  samples = requests.given_samples(options, opened)
  part = None if options.part is None and options.mask else requests.parsed_part(options.part)
  appearance = None if options.appearance is None else requests.parsed_index(options.appearance, 'appearance')
  mask = {'combine': options.combine, 'feather': options.feather}
  mask['threshold'] = requests.parsed_fraction(options.threshold)
  told = 'appearance', 'strength', 'separate', 'seeds', 'threshold', *requests.DISTINCT, 'samples'
  what = '' if part is None else f'-part{"+".join(map(str, part))}'
  default = f'remove{what}{requests.distinction(options, *told)}'
  name = options.name or requests.file_name(default)
  out = edits_folder(options, name)
  with Progress(len(samples.names())) as progress:
    shapes, told = remove_into(
      out,
      opened,
      part,
      samples,
      options_of(options, call, progress),
      appearance=appearance,
      strength=options.strength,
      separate=options.separate,
      mask=mask | {'drawn': requests.given_mask(options, opened)},
      statistics=EDIT_STATISTICS if options.samples is None else options.samples,
    )
  sentences.print_written(out, shapes, *drawn(out), 'edit.json')
  print(
    f'background is appearance {told["appearance"]} ({told["rule"]}); alpha {told["alpha"]:.4g}; background covers '
    f'{told["covered_after"]:.1%} of the {"mask" if part is None else "part"}, before {told["covered_before"]:.1%}'
  )
