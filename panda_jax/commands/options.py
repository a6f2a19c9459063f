"""Flags that several commands have. Each function declares one group of them, under the heading that --help shows."""

from collections.abc import Mapping, Sequence

from absl import flags
from ml_collections import FieldReference

from panda_jax.errors import InputError
from panda_jax.workdir.config import KEYS, Key, kind_of, told

DEFINE = {str: flags.DEFINE_string, int: flags.DEFINE_integer, float: flags.DEFINE_float}
FOLDERS, SAMPLES, MASKS, IMAGES, MODEL = 'folders', 'samples', 'masks', 'images', 'generator'
SEEDS = '0,1,2,3'  # of the edited samples, if none are given


def configured(values: flags.FlagValues, names: Sequence[str], keys: Mapping[str, Key], heading: str) -> None:
  """A flag for each of these keys of a configuration."""
  for name in names:
    default = keys[name].default
    text = keys[name].meaning + ('' if isinstance(default, FieldReference) else f' Default: {told(default)}')
    DEFINE[kind_of(name, keys)](name, None, text, flag_values=values, module_name=heading)


def configuration(options: flags.FlagValues, names: Sequence[str]):
  """The configuration of --config, with the values of these flags."""
  for name in names:
    if options[name].present:
      options.config[name] = options[name].value
  return options.config


def workdir(values: flags.FlagValues, text: str = 'Folder of a fit.') -> None:
  flags.DEFINE_string('workdir', None, text, flag_values=values, module_name=FOLDERS)


def overwrite(values: flags.FlagValues) -> None:
  flags.DEFINE_bool(
    'overwrite',
    False,
    'Replace results of another call that are in the folder.',
    flag_values=values,
    module_name=FOLDERS,
  )


def tensorboard(values: flags.FlagValues) -> None:
  flags.DEFINE_bool(
    'tensorboard',
    False,
    "Also write what TensorBoard reads, into WORKDIR/tensorboard; needs the extra 'tensorboard'.",
    flag_values=values,
    module_name=FOLDERS,
  )


def compilation_cache(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'compilation_cache',
    None,
    'Folder that keeps compiled programs for later commands, or off; if left out, one in ~/.cache/panda-jax.',
    flag_values=values,
    module_name=FOLDERS,
  )


def out(values: flags.FlagValues, default: str | None = None) -> None:
  """`default`: the default in words, if there is one."""
  text = 'Folder to write to' + (f'; if left out, {default}.' if default else '.')
  flags.DEFINE_string('out', None, text, flag_values=values, module_name=FOLDERS)


def generator(
  values: flags.FlagValues, text: str = 'Generator: a folder that `panda-jax convert` wrote, or cats64.'
) -> None:
  flags.DEFINE_string('generator', None, text, flag_values=values, module_name=MODEL)


def given_generator(options: flags.FlagValues) -> str:
  """The folder or name in --generator.

  Raises:
    InputError: the flag is not given.
  """
  if not options.generator:
    raise InputError('generator', None, 'not given', 'give --generator=DIR, a folder that `panda-jax convert` wrote')
  return options.generator


def moved_generator(values: flags.FlagValues) -> None:
  generator(values, 'Folder of the generator of the fit, if it has moved since; checked by its hash.')


def truncation(values: flags.FlagValues) -> None:
  given = {'flag_values': values, 'module_name': SAMPLES}
  flags.DEFINE_float('truncation', None, f'{KEYS["truncation"].meaning} If left out, 1.', **given)
  flags.DEFINE_integer('truncation_layers', None, KEYS['truncation_layers'].meaning, **given)


def labels(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'labels',
    None,
    'Classes of a conditional generator: 207 for all samples, 207,208 for one each, or a .npy file.',
    flag_values=values,
    module_name=SAMPLES,
  )


def seeds(values: flags.FlagValues, default: str | None = None) -> None:
  """`default`: the default in words, if there is one."""
  text = 'Seeds of the samples: 0,1,2 or 0-99' + (f'; if left out, {default}.' if default else '.')
  flags.DEFINE_string('seeds', None, text, flag_values=values, module_name=SAMPLES)


def latents(values: flags.FlagValues) -> None:
  given = {'flag_values': values, 'module_name': SAMPLES}
  flags.DEFINE_string(
    'latents',
    None,
    'Samples in place of --seeds: a .npy file of z, w or w+, a projected_w.npz, or a folder of `invert`.',
    **given,
  )
  flags.DEFINE_enum(
    'space',
    None,
    ['z', 'w', 'wplus'],
    'Space of --latents; needed only if neither the file nor its shape tells it.',
    **given,
  )


def samples(values: flags.FlagValues, default: str) -> None:
  """All flags that choose samples of a fit."""
  seeds(values, default)
  latents(values)
  labels(values)


def statistics(values: flags.FlagValues, default: int, whose: str, what: str) -> None:
  flags.DEFINE_integer(
    'samples',
    None,
    f'Number of samples of the {whose} from which {what}; if left out, {default}.',
    flag_values=values,
    module_name=SAMPLES,
  )


def noise(values: flags.FlagValues, kinds: Sequence[str] = ('const', 'none')) -> None:
  flags.DEFINE_enum('noise', 'const', [*kinds], 'Noise inputs of the layers.', flag_values=values, module_name=IMAGES)


def compose(values: flags.FlagValues) -> None:
  flags.DEFINE_enum(
    'compose',
    'difference',
    ['difference', 'generated'],
    "How photographs are edited: the change of the generator's picture is added, or that picture is taken as it is.",
    flag_values=values,
    module_name=IMAGES,
  )


def drop_rgb(values: flags.FlagValues) -> None:
  flags.DEFINE_bool(
    'drop_rgb',
    False,
    'Drop the RGB image made before the layer, as published PandA does (StyleGAN2).',
    flag_values=values,
    module_name=IMAGES,
  )


def mask(values: flags.FlagValues, combined: str = 'union') -> None:
  """The flags for the mask of an edit or a removal; `combined`: how parts are joined by default, in words."""
  given = {'flag_values': values, 'module_name': MASKS}
  flags.DEFINE_enum(
    'combine', None, ['union', 'sum'], f'How several parts are joined to one mask; if left out, {combined}.', **given
  )
  flags.DEFINE_string(
    'threshold', None, 'Make the mask 1 where it is at least this fraction of its maximum, 0 elsewhere.', **given
  )
  flags.DEFINE_float('feather', None, 'Blur the edge of the mask by so many cells of the feature map.', **given)
  flags.DEFINE_string(
    'mask',
    None,
    'A PNG of the size of the image or the feature map. With --part the edit stays inside it; without, it is the mask.',
    **given,
  )


def name(values: flags.FlagValues, text: str) -> None:
  flags.DEFINE_string('name', None, text, flag_values=values, module_name=FOLDERS)
