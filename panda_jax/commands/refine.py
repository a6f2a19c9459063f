"""`refine`: parts of each sample, starting from those of the fit."""

from pathlib import Path

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.commands import sentences

EXAMPLES = ('refine --workdir=DIR --seeds=19', 'refine --workdir=DIR --features=FILE.npy')
OF_FIT = 'the first 8 of the fit'


def define_explained(values: flags.FlagValues, default_folder: str) -> None:
  """Flags of refine and of saliency: the samples or features, and the output folder."""
  shared.samples(values, OF_FIT)
  flags.DEFINE_string(
    'features',
    None,
    'Feature maps in place of samples: a .npy file (N, H, W, C) or (N, S, C).',
    flag_values=values,
    module_name=shared.SAMPLES,
  )
  flags.DEFINE_enum(
    'layout',
    None,
    ['NHWC', 'NCHW'],
    'Order of the axes of --features: NHWC if left out, or NCHW for channels first.',
    flag_values=values,
    module_name=shared.SAMPLES,
  )
  shared.workdir(values)
  shared.moved_generator(values)
  shared.name(values, f'Name of the folder; if left out, {default_folder}.')
  shared.out(values, 'WORKDIR/NAME')
  shared.overwrite(values)


def define(values: flags.FlagValues) -> None:
  flags.DEFINE_float(
    'proximal',
    0.0,
    'Strength of the pull towards the parts of the fit, 0 for none; 0.03 to 0.1 keeps their meaning.',
    flag_values=values,
    module_name='refinement',
  )
  define_explained(values, 'refine, the seeds and other flags that were given')


def explained_folder(options: flags.FlagValues, command: str, numbers, *told: str) -> Path:
  """The folder that the command writes; `told`: flags that are part of its name if they are given."""
  from panda_jax.commands import requests
  from panda_jax.workdir.folders import folder_name

  if options.out:
    return Path(options.out)
  given = requests.distinction(options, *told, 'latents', 'space', 'labels', 'features')
  name = options.name or requests.file_name(folder_name(command, numbers) + given)
  return sentences.inside(options.workdir, name)


def options_of(options: flags.FlagValues, call, progress):
  """Options for writing the results of refine and saliency."""
  from panda_jax.workdir.records import Options

  return Options(options.overwrite, call.text, progress.samples_done, sentences.notes_to(progress))


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.commands import requests
  from panda_jax.runtime.progress import Progress
  from panda_jax.workdir.refinement import refine_into
  from panda_jax.workdir.samples import first_seeds

  opened = requests.given_fit(options)
  samples, features = requests.given_to_explain(options, opened, first_seeds(opened))
  out = explained_folder(options, 'refine', samples.seeds if options.seeds else None, 'proximal')
  with Progress() as progress:
    how = options_of(options, call, progress)
    shapes, told = refine_into(
      out, opened, samples, how, features=features, layout=options.layout, proximal=options.proximal
    )
  sentences.print_written(out, shapes, 'refined.png', 'refine.json')
  errors = told['relative_error']
  print(f'relative error {errors["global"]:.5f} with the parts of the fit, {errors["refined"]:.5f} refined')
