"""ProGAN from the TensorFlow pickles of its authors (tkarras/progressive_growing_of_gans).

The original normalises at the end of each layer, ours at the beginning of the next. The images are the same, and
features are those before the norm, as in PandA.
"""

import math

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects.base import Dialect
from panda_jax.converters.dialects.tensorflow import Source, is_built_by
from panda_jax.converters.limits import shown
from panda_jax.converters.tables import Entry, check_grown, chosen_options, fits, size_of
from panda_jax.generators.progan import ProGANOptions

FAMILY = 'progan'
RULE = {'fmap_base': 8192, 'fmap_decay': 1.0, 'fmap_max': 512}


def recognise(checkpoint: Checkpoint) -> bool:
  """Whether it is a ProGAN of this layout."""
  return is_built_by(checkpoint, 'G_paper')


def convert(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  """See base.Dialects.convert."""
  chosen_options(given, DIALECT.options)
  source = Source(checkpoint, weights, {})
  arrays, table, arguments = source.arrays, source.table, source.arguments
  resolution = source.resolution()
  if resolution is None or not source.whole():
    return source.finish(FAMILY, None)
  # The name shows whether up-sampling layers are fused, (k, k, out, in); all are or none.
  fused = any('/Conv0_up/' in key for key in arrays)
  names = _names(resolution, 'Conv0_up' if fused else 'Conv0')
  widths = [size_of(arrays, *_places(names, i, fused)) for i in range(len(names))]
  inputs = size_of(arrays, ('4x4/Dense/weight', 2, 0))
  channels = size_of(arrays, ('ToRGB_lod0/weight', 4, 3), ('ToRGB_lod0/bias', 1, 0))
  lacking = [(f'{name}/bias', 1) for name, width in zip(names, widths, strict=True) if not width]
  lacking += [('4x4/Dense/weight', 2)] * (not inputs) + [('ToRGB_lod0/weight', 4)] * (not channels)
  for key, axes in lacking:
    table.lacks(key, axes)
  if lacking:
    return source.finish(FAMILY, None)
  classes = arguments.number('label_size', 0, whole=True)
  latents = arguments.value('latent_size', None)
  if not 0 <= classes < inputs or latents not in (None, inputs - classes):
    told = f'latent_size={shown(latents)} and label_size={classes}'
    table.problems.append(f'{told}: 4x4/Dense/weight has {inputs} inputs for both')
  arguments.require(normalize_latents=True, use_pixelnorm=True, pixelnorm_epsilon=1e-8, use_leakyrelu=True)
  arguments.compare_shape(resolution)
  arguments.compare(num_channels=channels, fused_scale=fused)
  sizes = {name: (width, int(name.split('x')[0])) for name, width in zip(names, widths, strict=True)}
  arguments.compare_widths(sizes, **RULE)
  check_grown(table, arrays, 'lod')
  options = ProGANOptions(
    resolution=resolution,
    widths=tuple(widths),
    z_dim=inputs - classes,
    image_channels=channels,
    num_classes=classes,
    joint_norm=True,
  )
  if not fits(options, table.problems):
    return source.finish(FAMILY, None)
  source.take([Entry('4x4/Dense/weight', 'first.weight', (inputs, 16 * widths[0]), 'matrix to 4x4')], math.sqrt(2))
  source.take([Entry('4x4/Dense/bias', 'first.bias', (widths[0],))])
  for i in range(1, len(names)):
    target, shape, transform = f'convs.{i - 1}', (3, 3, widths[i - 1], widths[i]), 'as it is'
    if i % 2 == 0:
      # A transposed convolution is a true convolution, as ours; the other one correlates.
      shape, transform = ((3, 3, shape[3], shape[2]), 'swapped') if fused else (shape, 'turned')
    source.take([Entry(f'{names[i]}/weight', f'{target}.weight', shape, transform)], math.sqrt(2))
    source.take([Entry(f'{names[i]}/bias', f'{target}.bias', (widths[i],))])
  source.take([Entry('ToRGB_lod0/weight', 'rgb.weight', (1, 1, widths[-1], channels))], 1)
  source.take([Entry('ToRGB_lod0/bias', 'rgb.bias', (channels,))])
  source.leave_coarse('', len(names) // 2)
  return source.finish(FAMILY, options)


DIALECT = Dialect(
  recognise, convert, '.pkl of TensorFlow', 'its code: random networks of 32 pixels; variants: plain numpy'
)


def _names(resolution: int, up: str) -> list[str]:
  """Names of the layers, in order."""
  names = ['4x4/Dense', '4x4/Conv']
  for k in range(3, int(math.log2(resolution)) + 1):
    names += [f'{2**k}x{2**k}/{up}', f'{2**k}x{2**k}/Conv1']
  return names


def _places(names: list[str], i: int, fused: bool) -> list[tuple[str, int, int]]:
  """Where the output channels of a layer are found."""
  places = [(f'{names[i]}/bias', 1, 0)]
  if i:
    places.append((f'{names[i]}/weight', 4, 2 if fused and i % 2 == 0 else 3))
  if i + 1 == len(names):
    return [*places, ('ToRGB_lod0/weight', 4, 2)]
  return [*places, (f'{names[i + 1]}/weight', 4, 3 if fused and i % 2 else 2)]
