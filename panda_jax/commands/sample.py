"""`sample`: images of a generator, with their latents and, at a layer, feature maps."""

from pathlib import Path

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.commands import sentences
from panda_jax.errors import InputError, printable

EXAMPLES = (
  'sample --generator=cats64 --seeds=0-15 --truncation=0.7 --out=DIR',
  'sample --generator=cats64 --latents=z.npy --layer=5 --out=DIR',
)
TYPED = 'generator', 'seeds', 'latents', 'space', 'labels', 'transform', 'features'  # the record hashes them


def define(values: flags.FlagValues) -> None:
  given = {'flag_values': values, 'module_name': shared.IMAGES}
  shared.generator(values)
  shared.seeds(values)
  shared.latents(values)
  shared.labels(values)
  shared.truncation(values)
  shared.noise(values, ('const', 'none', 'random'))
  flags.DEFINE_integer('seed', None, 'Seed of --noise=random; if left out, 0.', **given)
  flags.DEFINE_string('transform', None, "StyleGAN3's user transform: a .npy file (3, 3).", **given)
  flags.DEFINE_integer('layer', None, 'Also write the feature maps at this layer.', **given)
  flags.DEFINE_string('features', None, 'Feature maps to resume from at --layer: a .npy file (N, H, W, C).', **given)
  shared.drop_rgb(values)
  shared.out(values)
  shared.overwrite(values)


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.commands import requests
  from panda_jax.files.arrays import read_npy
  from panda_jax.generators.disk import read_description
  from panda_jax.generators.labels import parsed_labels
  from panda_jax.inversion.files import Inverted
  from panda_jax.runtime.progress import Progress
  from panda_jax.workdir.sample import sample_into

  if not options.out:
    raise InputError('out', None, 'not given', 'give --out=DIR')
  if (options.latents is None) == (options.seeds is None):
    problem = 'not given' if options.seeds is None else 'given together with --latents'
    raise InputError('seeds', options.seeds, problem, 'give either --seeds=0,1,2 or --latents=FILE.npy')
  generator = requests.given_generator(options)
  latents = requests.given_latents(options, generator) or requests.drawn(options, generator)
  inverted = latents if isinstance(latents, Inverted) else None
  noise = options.noise if inverted is None or options['noise'].present else inverted.inversion.noise
  transform = options.transform and read_npy(options.transform, 'transform', (2,))
  features = options.features and read_npy(options.features, 'features', (4,), kinds='fiubV')
  with Progress(len(latents.array)) as progress:
    shapes = sample_into(
      options.out,
      generator,
      latents.array,
      parsed_labels(options.labels),
      space=latents.space,
      truncation=1.0 if options.truncation is None else options.truncation,
      truncation_layers=options.truncation_layers,
      noise=noise,
      noise_seed=options.seed or 0,
      transform=transform,
      layer=options.layer,
      features=features,
      inversion=None if inverted is None else inverted.inversion,
      drop_rgb=options.drop_rgb,
      overwrite=options.overwrite,
      command=call.text,
      typed={name: options[name].value for name in TYPED if options[name].value is not None},
      on_samples=progress.samples_done,
      on_note=sentences.notes_to(progress),
    )
  sentences.print_written(Path(options.out), shapes, 'images.png')
  lacking = read_description(options.generator).get('lacking')
  if noise == 'const' and isinstance(lacking, dict) and isinstance(lacking.get('noise'), str):
    print(printable(f'note: noise is {lacking["noise"]}'))
