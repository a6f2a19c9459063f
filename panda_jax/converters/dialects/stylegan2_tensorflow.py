"""StyleGAN2 from NVlabs' TensorFlow pickles: stylegan2 (configs B to F) and stylegan2-ada.

The functions differ in how a label joins z; only stylegan2-ada has the clamp and its kinds of constant and noise.
Configs B to D grew: they have an RGB layer for each level of detail, and only the finest is used.
"""

import dataclasses
import re

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects.base import Dialect
from panda_jax.converters.dialects.stylegan2_tables import Layout, entries, rgb_blocks, sizes
from panda_jax.converters.dialects.tensorflow import Source, is_built_by, mapping_sizes, take_mapping, taps_of
from panda_jax.converters.tables import Entry, check_grown, chosen_options, fits
from panda_jax.generators.layers import ACTIVATIONS
from panda_jax.generators.stylegan2 import StyleGAN2Options

FAMILY = 'stylegan2'
REVISED, ADA = 'G_synthesis_stylegan_revised', 'G_synthesis'
FUNCTIONS = {'mapping': ('G_mapping',), 'synthesis': ('G_synthesis_stylegan2', REVISED, ADA)}
RULE = {'fmap_base': 16384, 'fmap_decay': 1.0, 'fmap_max': 512, 'fmap_min': 1}
COARSE = 'weight', 'bias', 'mod_weight', 'mod_bias'  # the arrays of an RGB layer


def _conv(i: int) -> str:
  size = 4 * 2 ** ((i + 1) // 2)
  return f'synthesis/{size}x{size}/{("Conv0_up" if i % 2 else "Conv1") if i else "Conv"}'


LAYOUT = Layout(
  const='synthesis/4x4/Const/const',
  conv=_conv,
  rgb=lambda k: f'synthesis/{4 * 2**k}x{4 * 2**k}/ToRGB',
  noise=lambda i: f'synthesis/noise{i}',
  weight='/weight',
  affine='/mod_',
  bias='/bias',
  strength='/noise_strength',
  rgb_bias='/bias',
  lead={'const': (1,), 'weight': (), 'noise': (1, 1), 'strength': (), 'rgb_bias': ()},
  channels_last=True,
  up_kernel='kernel turned',
  affine_bias='about one',
)
REVISED_LAYOUT = dataclasses.replace(LAYOUT, rgb=lambda k: 'synthesis/ToRGB_lod0')


def recognise(checkpoint: Checkpoint) -> bool:
  """Whether it is a StyleGAN2 of this layout."""
  return is_built_by(checkpoint, 'G_main')


def convert(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  """See base.Dialects.convert."""
  chosen_options(given, DIALECT.options)
  source = Source(checkpoint, weights, FUNCTIONS)
  arrays, table, arguments = source.arrays, source.table, source.arguments
  resolution = source.resolution('synthesis/')
  arguments.compare(mapping_func=source.functions.get('mapping'), synthesis_func=source.functions.get('synthesis'))
  kernel = arguments.value('resample_kernel', [1, 3, 3, 1])
  taps = taps_of([1, 1] if kernel is None else kernel, 'resample_kernel', table.problems)
  if resolution is None or not source.whole():
    return source.finish(FAMILY, None)
  function = source.functions['synthesis']
  ada, layout = function == ADA, REVISED_LAYOUT if function == REVISED else LAYOUT
  rows = 2 * (resolution.bit_length() - 1) - 2
  architecture = _architecture(arrays, resolution)
  if function != REVISED:  # it has no such argument
    arguments.compare(architecture=architecture)
  blocks = rgb_blocks(architecture, rows)
  found = sizes(table, arrays, layout, rows, blocks)
  mapping = mapping_sizes(source, 'LabelEmbed' if ada else 'LabelConcat', found['w_dim']) if found else {}
  if not mapping:
    return source.finish(FAMILY, None)
  noisy = bool(arguments.value('use_noise', True)) if ada else True
  if not noisy:
    arguments.compare(use_noise=found['noise'] != 'none')
  options = StyleGAN2Options(
    **found | {'noise': 'spatial' if noisy else 'none'},
    **mapping,
    resolution=resolution,
    mapping_activation=arguments.choice('mapping_nonlinearity', 'lrelu', ACTIVATIONS),
    mean_w=True,
    architecture=architecture,
    resample_filter=taps,
    activation=arguments.choice('nonlinearity', 'lrelu', ACTIVATIONS),
    clamp=_clamp(source) if ada else None,
    demodulate=True,
    scaled_epsilon=True,
    final_tanh=False,
  )
  arguments.compare_shape(resolution, options.start)
  arguments.compare(num_channels=options.image_channels, dlatent_broadcast=rows)
  widths = {layout.conv(i): (options.widths[i + 1], 4 * 2 ** ((i + 1) // 2)) for i in range(rows - 1)}
  if ada and arguments.value('fmap_const', None) is not None:
    arguments.compare(fmap_const=options.widths[0])
  else:
    widths[layout.const] = options.widths[0], 4
  arguments.compare_widths(widths, **RULE)
  if not fits(options, table.problems):
    return source.finish(FAMILY, None)
  take_mapping(source, options)
  source.take(entries(options, layout))
  if architecture == 'resnet':
    for k in range(1, rows // 2):
      name, shape = f'{4 * 2**k}x{4 * 2**k}', (1, 1, options.widths[2 * k - 1], options.widths[2 * k + 1])
      source.take([Entry(f'synthesis/{name}/Skip/weight', f'skips.{k - 1}', shape)])
  if function == REVISED:
    table.leave('synthesis/lod', 'that of the whole network replaces it')
    source.leave_coarse('synthesis/', rows // 2, COARSE)
  if function == REVISED and arguments.value('structure', 'auto') != 'fixed':
    check_grown(table, arrays, 'lod')
  else:
    table.leave('lod', 'of no effect on a network that did not grow')
  source.note_truncation(arguments.value('truncation_psi', 0.5), arguments.value('truncation_cutoff', None))
  return source.finish(FAMILY, options)


DIALECT = Dialect(
  recognise,
  convert,
  '.pkl of TensorFlow',
  'its code: random networks, stylegan2 and stylegan2-ada; variants: plain numpy',
)


def _architecture(arrays: dict, resolution: int) -> str:
  """The architecture that has these variables."""
  if any(re.fullmatch(r'synthesis/\d+x\d+/Skip/.*', key) for key in arrays):
    return 'resnet'
  last = f'synthesis/{resolution}x{resolution}/'
  coarse = any(re.fullmatch(r'synthesis/\d+x\d+/ToRGB/.*', key) and not key.startswith(last) for key in arrays)
  return 'skip' if coarse else 'orig'


def _clamp(source: Source) -> float | None:
  """The bound of the outputs of layers, None if there is none."""
  given = source.arguments.value('conv_clamp', None) is not None
  return float(source.arguments.number('conv_clamp', 256, positive=True)) if given else None
