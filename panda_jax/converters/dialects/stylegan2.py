"""StyleGAN2 from genforce's .pth, NVlabs' .pkl (TensorFlow, stylegan2-ada-pytorch, stylegan3) and rosinality's .pt.

One network in four layouts. Besides names and axes they differ in the orientation of up-sampling kernels (genforce and
TensorFlow correlate; the others convolve, as we do) and in the affine bias (genforce and TensorFlow store it about 0
and add 1 when they run).
"""

import re

import numpy as np

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects import genforce, stylegan2_nvlabs, stylegan2_rosinality, stylegan2_tensorflow
from panda_jax.converters.dialects.base import Dialect, Dialects
from panda_jax.converters.dialects.stylegan2_tables import Layout, entries, rgb_blocks, rows_of, sizes, with_noise
from panda_jax.converters.foreign import Exported, channel_rule, check_needs, rounded, unlike, widths_by_size
from panda_jax.converters.tables import (
  Table,
  backwards,
  chosen_options,
  common_taps,
  filter_kernel,
  fits,
  indices,
  parsed_bool,
  parsed_positive,
)
from panda_jax.generators.stylegan2 import StyleGAN2Options

GENFORCE = Layout(
  const='synthesis.early_layer.const',
  conv=lambda i: f'synthesis.layer{i}',
  rgb=lambda k: f'synthesis.output{k}',
  noise=lambda i: f'synthesis.layer{i}.noise',
  weight='.weight',
  affine='.style.',
  bias='.bias',
  strength='.noise_strength',
  rgb_bias='.bias',
  lead={'const': (1,), 'weight': (), 'noise': (1, 1), 'strength': (), 'rgb_bias': ()},
  up_kernel='kernel turned',
  affine_bias='about one',
)


def _is_genforce(checkpoint: Checkpoint) -> bool:
  pattern = re.compile(r'synthesis\.(early_layer\.\w+|layer\d+\.(noise_strength|filter\.kernel))')
  return any(pattern.fullmatch(str(key)) for arrays in genforce.candidates(checkpoint).values() for key in arrays)


def _genforce(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  arrays, notes = genforce.chosen(checkpoint, weights)
  choices = {'final_tanh': False, 'demodulate': True, 'mapping_lr_mul': 0.01} | chosen_options(
    given, DIALECTS['genforce'].options
  )
  table = Table(arrays)
  table.notes += [*notes, *(f'{name}={value}: not in the file' for name, value in choices.items())]
  outputs = indices(arrays, r'synthesis\.output(\d+)\..*')
  rows = rows_of(max(indices(arrays, r'synthesis\.layer(\d+)\..*'), default=-1), max(outputs, default=-1))
  if rows is None:
    table.lacks('synthesis.layer0.weight', 4)
    return table.conversion('stylegan2', 'genforce', None)
  if 'synthesis.early_layer.weight' in arrays:
    table.problems.append('synthesis.early_layer.weight: a network that starts from w has no counterpart here')
    return table.conversion('stylegan2', 'genforce', None)
  plain = outputs == [rows // 2 - 1] and 'synthesis.upsample.kernel' not in arrays
  architecture = 'orig' if plain else 'skip'
  found = sizes(table, arrays, GENFORCE, rows, rgb_blocks(architecture, rows))
  mapping = genforce.mapping_sizes(arrays, table)
  taps = common_taps(table, arrays, _filters(architecture, rows), axes=(4,), gain=4, turned=True)
  if not found or not mapping or taps is None:
    return table.conversion('stylegan2', 'genforce', None)
  options = StyleGAN2Options(
    resolution=2 ** (rows // 2 + 1),
    mapping_lr_multiplier=choices['mapping_lr_mul'],
    mapping_activation='lrelu',
    mean_w=True,
    architecture=architecture,
    resample_filter=taps,
    activation='lrelu',
    clamp=None,
    demodulate=choices['demodulate'],
    scaled_epsilon=True,
    final_tanh=choices['final_tanh'],
    **found,
    **mapping,
  )
  if not fits(options, table.problems):
    return table.conversion('stylegan2', 'genforce', None)
  table.take(genforce.mapping_entries(options))
  genforce.take_mean(table, options)
  table.take(entries(options, GENFORCE))
  return table.conversion('stylegan2', 'genforce', options)


DIALECTS = Dialects(
  {
    'genforce': Dialect(
      _is_genforce,
      _genforce,
      '.pth',
      'its code: a random network of 64 pixels; variants: plain numpy',
      {'final_tanh': parsed_bool, 'demodulate': parsed_bool, 'mapping_lr_mul': parsed_positive},
    ),
    'nvlabs': stylegan2_nvlabs.DIALECT,
    'rosinality': stylegan2_rosinality.DIALECT,
    'tensorflow': stylegan2_tensorflow.DIALECT,
  }
)
recognise, convert = DIALECTS.recognise, DIALECTS.convert


def _filters(architecture: str, rows: int) -> list[str]:
  """The keys of the filters."""
  filters = [f'synthesis.layer{i}.filter.kernel' for i in range(1, rows - 1, 2)]
  return filters + ['synthesis.upsample.kernel'] * (architecture == 'skip')


def _export_genforce(options: StyleGAN2Options, tensors: dict[str, np.ndarray]) -> Exported:
  genforce.check_mapping(options)
  options, tensors, notes = with_noise(options, tensors)
  check_needs(
    'genforce',
    options,
    architecture=('skip', 'orig'),
    activation=('lrelu',),
    mapping_activation=('lrelu',),
    noise=('spatial', 'channel'),
    start=((4, 4),),
  )
  channels = widths_by_size('genforce', options.widths)
  table = list(entries(options, GENFORCE))
  arrays = genforce.exported_mapping(options, tensors) | backwards(table, tensors)
  kernel = filter_kernel(options.resample_filter, 4)[None, None, ::-1, ::-1]
  arrays |= dict.fromkeys(_filters(options.architecture, options.rows), np.ascontiguousarray(kernel))
  less = [entry for entry in table if entry.transform == 'about one']
  notes += rounded('genforce', {e.key: arrays[e.key] for e in less}, {e.key: tensors[e.target] for e in less})
  arguments = genforce.mapping_arguments(options) | {
    'architecture': 'skip' if options.architecture == 'skip' else 'origin',
    'demodulate': options.demodulate,
    'final_tanh': options.final_tanh,
    'noise_type': options.noise,
    **channel_rule(channels, 'fmaps_base', 'fmaps_max'),
  }
  notes += unlike(options, clamps=False, scaled_epsilon=True)
  return Exported({genforce.AVERAGED: arrays}, arguments, notes)


EXPORTS = {
  'rosinality': stylegan2_rosinality.export,
  'nvlabs': stylegan2_nvlabs.export,
  'genforce': _export_genforce,
}
