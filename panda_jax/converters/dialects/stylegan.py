"""StyleGAN from genforce's .pth files and NVlabs' TensorFlow .pkl files."""

import re

import numpy as np

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects import genforce, stylegan_tensorflow
from panda_jax.converters.dialects.base import Dialect, Dialects
from panda_jax.converters.foreign import Exported, channel_rule, check_needs, widths_by_size
from panda_jax.converters.tables import (
  FUSED_FROM,
  MOST_BLOCKS,
  Entry,
  Table,
  backwards,
  check_grown,
  chosen_options,
  common_taps,
  filter_kernel,
  fits,
  indices,
  parsed_bool,
  parsed_positive,
  shape_of,
  size_of,
)
from panda_jax.errors import InputError
from panda_jax.generators.stylegan import StyleGANOptions

FAMILY = 'stylegan'


def _is_genforce(checkpoint: Checkpoint) -> bool:
  pattern = re.compile(r'synthesis\.layer\d+\.apply_noise\.(weight|noise)')
  return any(pattern.fullmatch(str(key)) for arrays in genforce.candidates(checkpoint).values() for key in arrays)


def _parsed_fused(key: str, text: str) -> str:
  if text.lower() not in ('auto', 'true', 'false'):
    raise InputError('--option', f'{key}={text}', 'it is none of auto, true and false', f'give {key}=auto')
  return text.lower()


def _genforce(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  arrays, notes = genforce.chosen(checkpoint, weights)
  choices = {'fused_scale': 'auto', 'final_tanh': False, 'mapping_lr_mul': 0.01}
  choices |= chosen_options(given, DIALECTS['genforce'].options)
  table = Table(arrays)
  table.notes += [*notes, *(f'{name}={value}: not in the file' for name, value in choices.items())]
  layers = max(indices(arrays, r'synthesis\.layer(\d+)\..*'), default=-1)
  blocks = max(layers // 2, *indices(arrays, r'synthesis\.output(\d+)\..*'), -1) + 1
  if not 2 <= blocks <= MOST_BLOCKS:
    table.lacks('synthesis.layer3.weight', 4)
    return table.conversion(FAMILY, 'genforce', None)
  if 'synthesis.layer0.weight' in arrays:
    table.problems.append('synthesis.layer0.weight: a network that starts from w has no counterpart here')
    return table.conversion(FAMILY, 'genforce', None)
  rows, last = 2 * blocks, f'synthesis.output{blocks - 1}'
  widths = tuple(size_of(arrays, *_places(i, rows, last)) for i in range(rows))
  w_dim = size_of(arrays, *((f'synthesis.layer{i}.style.weight', 2, 1) for i in range(rows)))
  channels = size_of(arrays, (f'{last}.weight', 4, 0), (f'{last}.bias', 1, 0))
  mapping = genforce.mapping_sizes(arrays, table)
  taps = _blur(table, arrays, blocks)
  lacking = [(f'synthesis.layer{i}.bias', 1) for i, width in enumerate(widths) if not width]
  lacking += [('synthesis.layer0.style.weight', 2)] * (not w_dim) + [(f'{last}.weight', 4)] * (not channels)
  for key, axes in lacking:
    table.lacks(key, axes)
  if lacking or not mapping or taps is None:
    return table.conversion(FAMILY, 'genforce', None)
  check_grown(table, arrays, 'synthesis.lod')
  made = StyleGANOptions(
    resolution=4 * 2 ** (blocks - 1),
    widths=widths,
    w_dim=w_dim,
    image_channels=channels,
    mapping_lr_multiplier=choices['mapping_lr_mul'],
    blur_filter=taps,
    noise=_noise(arrays, rows),
    final_tanh=choices['final_tanh'],
    **mapping,
  )
  if not fits(made, table.problems):
    return table.conversion(FAMILY, 'genforce', None)
  table.take(genforce.mapping_entries(made))
  genforce.take_mean(table, made)
  table.take(_entries(made, choices['fused_scale']))
  genforce.leave_grown(table, 'synthesis.output', blocks)
  return table.conversion(FAMILY, 'genforce', made)


DIALECTS = Dialects(
  {
    'genforce': Dialect(
      _is_genforce,
      _genforce,
      '.pth',
      'its code: random networks of 64 and 128 pixels',
      {'fused_scale': _parsed_fused, 'final_tanh': parsed_bool, 'mapping_lr_mul': parsed_positive},
    ),
    'tensorflow': stylegan_tensorflow.DIALECT,
  }
)
recognise, convert = DIALECTS.recognise, DIALECTS.convert


def _places(i: int, rows: int, last: str) -> list[tuple[str, int, int]]:
  """Where the output channels of a layer are found."""
  places = [(f'synthesis.layer{i}.bias', 1, 0), (f'synthesis.layer{i}.weight', 4, 0)]
  places += [(f'synthesis.layer{i}.const', 4, 1), (f'synthesis.layer{i + 1}.weight', 4, 1)]
  return places + ([(f'{last}.weight', 4, 1)] if i == rows - 1 else [])


def _entries(options: StyleGANOptions, fused_scale: str):
  """The table of the synthesis network."""
  yield Entry('synthesis.layer0.const', 'const', (1, options.widths[0], 4, 4), 'constant')
  for i in range(options.rows):
    yield from _layer(i, options, fused_scale)
  last = f'synthesis.output{options.rows // 2 - 1}'
  shape = (options.image_channels, options.widths[-1], 1, 1)
  yield Entry(f'{last}.weight', 'rgb_weight', shape, 'kernel of a pixel')
  yield Entry(f'{last}.bias', 'rgb_bias', shape[:1])


def _layer(i: int, options: StyleGANOptions, fused_scale: str):
  """The table of one layer."""
  key, target, width = f'synthesis.layer{i}', f'synthesis_layers.{i}', options.widths[i]
  size = 4 * 2 ** (i // 2)
  if i:
    fused = size >= FUSED_FROM if fused_scale == 'auto' else fused_scale == 'true'
    # A transposed convolution is a true convolution, as ours; the other one correlates.
    transform = 'kernel turned' if i % 2 == 0 and not fused else 'kernel'
    yield Entry(f'{key}.weight', f'{target}.weight', (width, options.widths[i - 1], 3, 3), transform)
  yield Entry(f'{key}.bias', f'{target}.bias', (width,))
  if options.noise == 'spatial':
    yield Entry(f'{key}.apply_noise.noise', f'{target}.noise', (1, 1, size, size), 'map')
    yield Entry(f'{key}.apply_noise.weight', f'{target}.noise_strength', (width,), 'vector')
  else:
    yield Entry(f'{key}.apply_noise.noise', f'{target}.noise', (1, width, 1, 1), 'vector')
    yield Entry(f'{key}.apply_noise.weight', f'{target}.noise_strength', (size, size), 'map')
  yield Entry(f'{key}.style.weight', f'{target}.style.weight', (2 * width, options.w_dim), 'matrix')
  yield Entry(f'{key}.style.bias', f'{target}.style.bias', (2 * width,))


def _noise(arrays: dict, rows: int) -> str:
  """'channel' if the strength is a map, else 'spatial'."""
  shapes = [shape_of(arrays, f'synthesis.layer{i}.apply_noise.weight', 2) for i in range(rows)]
  return 'channel' if sum(shape is not None for shape in shapes) > rows // 2 else 'spatial'


def _blur(table: Table, arrays: dict, blocks: int):
  """The taps of the blur; the file has a copy per channel of each up-sampling layer."""
  singles = {}
  for b in range(1, blocks):
    key = f'synthesis.layer{2 * b}.blur.kernel'
    shape = shape_of(arrays, key, 4)
    width = size_of(arrays, (f'synthesis.layer{2 * b}.bias', 1, 0), (f'synthesis.layer{2 * b}.weight', 4, 0))
    if shape is not None and shape[0] == width and shape[1] == 1 and (arrays[key] == arrays[key][:1]).all():
      singles[key] = arrays[key][0, 0]
    elif key in arrays:
      table.problems.append(f'{key}: expected ({width}, 1, 3, 3), alike for all channels, found {arrays[key].shape}')
      table.leave(key, 'a filter')
    else:
      table.problems.append(f'{key}: missing')
  return common_taps(table, singles, singles, axes=(2,), gain=1, turned=True)


def _export_genforce(options: StyleGANOptions, tensors: dict[str, np.ndarray]) -> Exported:
  genforce.check_mapping(options)
  check_needs('genforce', options, start=((4, 4),))
  channels = widths_by_size('genforce', options.widths)
  arrays = genforce.exported_mapping(options, tensors) | backwards(_entries(options, 'auto'), tensors)
  kernel = filter_kernel(options.blur_filter)[::-1, ::-1]
  for b in range(1, options.rows // 2):
    arrays[f'synthesis.layer{2 * b}.blur.kernel'] = np.tile(kernel, (options.widths[2 * b], 1, 1, 1))
  arrays |= genforce.grown('synthesis.output', list(channels.values()), options.image_channels)
  arrays['synthesis.lod'] = np.zeros((), np.float32)
  arguments = genforce.mapping_arguments(options) | {
    'fused_scale': 'auto',
    'final_tanh': options.final_tanh,
    'noise_type': options.noise,
    **channel_rule(channels, 'fmaps_base', 'fmaps_max'),
  }
  return Exported({genforce.AVERAGED: arrays}, arguments, [genforce.GROWN])


EXPORTS = {'genforce': _export_genforce}
