"""`invert`: photographs as latents, or as features at the layer of a fit, so that they can be edited."""

from pathlib import Path

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.commands import sentences
from panda_jax.errors import InputError, brief, printable

EXAMPLES = (
  'invert --workdir=DIR --images=cat.jpg --points=210,300,420,310 --out=DIR2',
  'invert --workdir=DIR --images=FOLDER --points=points.json --out=DIR2',
  'invert --generator=cats64 --images=FOLDER --space=wplus --out=DIR2',
)
PHOTOGRAPHS, SEARCH = 'photographs', 'inversion'
MOST_TOLD = 8  # photographs that failed or are upside down
UPRIGHT = 90  # degrees


def define(values: flags.FlagValues) -> None:
  given = {'flag_values': values, 'module_name': PHOTOGRAPHS}
  flags.DEFINE_string('images', None, 'A photograph, or a folder of them.', **given)
  flags.DEFINE_string(
    'points',
    None,
    'Where points of the upright photograph lie, x,y,x,y in pixels, in the order of --own_points (cats64: the eye on '
    'the left of the picture, the eye on the right, the nose), or a JSON file {name: [x,y,x,y]}. The photograph is '
    'turned and scaled until they lie at --own_points.',
    **given,
  )
  flags.DEFINE_string(
    'own_points', None, 'Where the generator has these points: x,y,x,y in its pixels. cats64 knows its own.', **given
  )
  flags.DEFINE_string(
    'box', None, 'Crop: x,y,width,height in pixels of the photograph; if left out, the largest in the middle.', **given
  )
  flags.DEFINE_string(
    'recognition',
    None,
    "Classifier that leaves out crops unlike the generator's samples: a file, or off to take all crops; if left out, "
    "the generator's.",
    **given,
  )
  search = given | {'module_name': SEARCH}
  flags.DEFINE_enum(
    'space',
    None,
    ['z', 'w', 'wplus', 'features'],
    'Space that is searched; if left out, features at the layer of the fit, else w+ (z without a mapping network).',
    **search,
  )
  flags.DEFINE_integer('layer', None, 'Layer whose features are searched; if left out, that of --workdir.', **search)
  flags.DEFINE_float(
    'regulariser',
    None,
    'Weight that keeps the result like the samples. A larger one gives worse copies and better edits; if left out, '
    '0.001.',
    **search,
  )
  flags.DEFINE_integer(
    'evaluations',
    None,
    'Largest number of pictures with their gradients; 1 gives the start; if left out, 500.',
    **search,
  )
  flags.DEFINE_float(
    'tolerance',
    None,
    'A photograph is done when its error falls by less than this share of it within ten steps; if left out, 0.002.',
    **search,
  )
  flags.DEFINE_string('encoder', None, "Encoder to start from: a file, or off; if left out, the generator's.", **search)
  shared.labels(values)
  flags.DEFINE_enum(
    'noise', 'none', ['none', 'const'], 'Noise inputs of the layers.', flag_values=values, module_name=shared.IMAGES
  )
  shared.workdir(
    values, 'Folder of a fit: its generator and its layer are used, so that its edits apply to the photographs.'
  )
  shared.generator(values)
  shared.out(values)
  shared.overwrite(values)


def placing(options: flags.FlagValues, folder, size: tuple[int, int]):
  """The placement of photographs in the generator's frame (h, w), as a function of their names and sizes.

  Raises:
    InputError: flags are malformed or do not go together.
  """
  import numpy as np

  from panda_jax.inversion import placement

  if options.box is not None and options.points is not None:
    raise InputError('box', options.box, 'given together with --points', 'give one of them')
  if options.own_points is not None and options.points is None:
    raise InputError('own_points', options.own_points, 'given without --points', 'give --points=x,y,x,y too')
  if options.box is not None:
    box = placement.numbers_of(options.box, 'box')
    return lambda name, photograph: placement.boxed(box, photograph, size)
  if options.points is None:
    return lambda name, photograph: placement.whole(photograph, size)
  if options.own_points is not None:
    own = placement.checked_own(placement.numbers_of(options.own_points, 'own_points'), size)
  else:
    own = np.asarray([*placement.known_points(folder, size).values()])
    if not len(own):
      remedy = 'give --own_points=x,y,x,y, or --box'
      raise InputError('points', options.points, 'this generator does not say where it has such points', remedy)
  if not options.points.endswith('.json'):
    points = placement.numbers_of(options.points, 'points')
    return lambda name, photograph: placement.pointed(points, own, photograph, size)
  table = _table(options.points)

  def place(name, photograph):
    if name not in table:
      raise InputError('points', options.points, f'it has no points for {brief(name, 60)}', 'add them')
    return placement.pointed(table[name], own, photograph, size)

  return place


def _table(path: str) -> dict[str, list[float]]:
  from panda_jax.files.records import read_json

  return read_json(path, 'points', {str: [float]}, 'give {"NAME.jpg": [x, y, x, y]}')


def given_or_own(given: str | None, folder, file_of, load, weights: str):
  """The content of the file that a flag names, else of the file in the generator's folder; None for 'off' or no file.

  Args:
    given: value of the flag.
    folder: of the generator, or None.
    file_of: from the folder to its file, or None.
    load: reads a file; raises InputError for a file of other weights.
    weights: the generator's hash.
  """
  if given == 'off':
    return None
  path = given or (None if folder is None else file_of(folder))
  return None if path is None else load(path, weights)


def run(options: flags.FlagValues, call) -> None:
  if not options.images:
    raise InputError('images', None, 'not given', 'give --images=FILE or FOLDER')
  if not options.out:
    raise InputError('out', None, 'not given', 'give --out=DIR')
  if bool(options.workdir) == bool(options.generator) and not options.workdir:
    raise InputError('generator', None, 'not given', 'give --generator=DIR, or --workdir=DIR for that of a fit')
  from panda_jax.commands import requests
  from panda_jax.generators.labels import parsed_labels
  from panda_jax.generators.source import weights_digest
  from panda_jax.generators.structure import plain
  from panda_jax.inversion.encoder import encoder_of, load_encoder
  from panda_jax.inversion.invert import Inverter
  from panda_jax.inversion.photographs import listed
  from panda_jax.inversion.recognition import load_recognition, recognition_of
  from panda_jax.runtime.progress import Progress
  from panda_jax.workdir.inversion import PICTURE, RECORD, invert_into, labels_of, read_photographs
  from panda_jax.workdir.records import Options

  layer, folder = options.layer, options.generator
  if options.workdir:
    opened = requests.given_fit(options)
    generator = opened.needed_generator()
    folder = folder or (opened.factors.provenance.get('generator') or {}).get('path')
    if layer is None and options.space in (None, 'features'):
      layer = opened.layer
  else:
    generator = requests.given_generator(options)
  module = plain(generator)
  place = placing(options, folder, tuple(module.image_size))
  paths, labels = listed(options.images), parsed_labels(options.labels)
  weights = weights_digest(module).hexdigest()
  recognition = given_or_own(options.recognition, folder, recognition_of, load_recognition, weights)
  photographs, failed = read_photographs(paths, place, module.image_channels, recognition)
  labels = labels_of(photographs, labels, paths)
  chosen = {name: options[name].value for name in ('regulariser', 'evaluations', 'tolerance')}
  with Progress(len(photographs)) as progress:
    progress.compiling('inversion')
    inverter = Inverter(
      module,
      options.space,
      layer=layer,
      encoder=given_or_own(options.encoder, folder, encoder_of, load_encoder, weights),
      noise=options.noise,
      **{name: value for name, value in chosen.items() if value is not None},
    )
    how = Options(options.overwrite, call.text, progress.samples_done, sentences.notes_to(progress))
    found = invert_into(options.out, inverter, photographs, labels, how, failed=failed, on_progress=progress.now)
  out = Path(options.out)
  sentences.print_written(out, {'latents.npz': found.array.shape}, PICTURE, RECORD)
  psnr = found.inversion.psnr
  print(f'PSNR {min(psnr):.1f} to {max(psnr):.1f} dB' if len(psnr) > 1 else f'PSNR {psnr[0]:.1f} dB')
  if options.points is None and options.box is None and any(x.placement.scale != 1 for x in photographs):
    print('note: the middle of each photograph was taken; give --points or --box for another crop')
  for one in [x for x in photographs if abs(x.placement.turn) > UPRIGHT][:MOST_TOLD]:
    said = f'note: the crop of {one.name} is turned by {abs(one.placement.turn):.0f} degrees'
    print(printable(f"{said}; if it should not be, give --points in the generator's order"))
  for name, sentence in [*failed.items()][:MOST_TOLD]:
    print(printable(f'note: {name} was left out: {sentence}'))
  if len(failed) > MOST_TOLD:
    print(f'note: {len(failed) - MOST_TOLD} more were left out, see {out / RECORD}')
