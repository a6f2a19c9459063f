"""ProGAN from genforce's .pth files and the TensorFlow .pkl files of its authors."""

import re

import numpy as np

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects import genforce, progan_tensorflow
from panda_jax.converters.dialects.base import Dialect, Dialects
from panda_jax.converters.foreign import Exported, channel_rule, check_needs, widths_by_size
from panda_jax.converters.tables import (
  MOST_BLOCKS,
  Entry,
  Table,
  backwards,
  check_grown,
  chosen_options,
  fits,
  indices,
  parsed_bool,
  parsed_count,
  shape_of,
  size_of,
)
from panda_jax.generators.progan import ProGANOptions

FAMILY = 'progan'


def _is_genforce(checkpoint: Checkpoint) -> bool:
  patterns = [re.compile(rf'{name}\d+\.(weight|bias)') for name in ('layer', 'output')]
  return any(
    all(any(pattern.fullmatch(str(key)) for key in arrays) for pattern in patterns)
    for arrays in genforce.candidates(checkpoint).values()
  )


def _genforce(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  arrays, notes = genforce.chosen(checkpoint, weights)
  choices = {'final_tanh': False, 'label_size': 0} | chosen_options(given, DIALECTS['genforce'].options)
  table = Table(arrays)
  table.notes += [*notes, *(f'{name}={choices[name]}: not in the file' for name in ('final_tanh', 'label_size'))]
  layers = max(indices(arrays, r'layer(\d+)\..*'), default=-1)
  blocks = max(layers // 2, *indices(arrays, r'output(\d+)\..*'), -1) + 1
  if not 2 <= blocks <= MOST_BLOCKS:
    table.lacks('layer3.weight', 4)
    return table.conversion(FAMILY, 'genforce', None)
  last = f'output{blocks - 1}'
  widths = [
    size_of(arrays, *_places_out(i), *_places_into(i + 1), *([(f'{last}.weight', 4, 1)] if i == 2 * blocks - 1 else []))
    for i in range(2 * blocks)
  ]
  inputs = size_of(arrays, ('layer0.weight', 4, 1))
  channels = size_of(arrays, (f'{last}.weight', 4, 0), (f'{last}.bias', 1, 0))
  lacking = [(f'layer{i}.bias', 1) for i, width in enumerate(widths) if not width]
  lacking += [('layer0.weight', 4)] * (not inputs) + [(f'{last}.weight', 4)] * (not channels)
  for key, axes in lacking:
    table.lacks(key, axes)
  if inputs and inputs <= choices['label_size']:
    table.problems.append(f'layer0.weight: it has {inputs} inputs for z and a label of {choices["label_size"]}')
  if table.problems:
    return table.conversion(FAMILY, 'genforce', None)
  fused = _fused(arrays, widths, choices.get('fused_scale'), table)
  check_grown(table, arrays, 'lod')
  made = ProGANOptions(
    resolution=4 * 2 ** (blocks - 1),
    widths=tuple(widths),
    z_dim=inputs - choices['label_size'],
    image_channels=channels,
    num_classes=choices['label_size'],
    final_tanh=choices['final_tanh'],
  )
  if not fits(made, table.problems):
    return table.conversion(FAMILY, 'genforce', None)
  table.take(_entries(made, fused))
  genforce.leave_grown(table, 'output', blocks)
  return table.conversion(FAMILY, 'genforce', made)


DIALECTS = Dialects(
  {
    'genforce': Dialect(
      _is_genforce,
      _genforce,
      '.pth',
      'its code: a random network of 32 pixels',
      {'final_tanh': parsed_bool, 'fused_scale': parsed_bool, 'label_size': parsed_count},
    ),
    'tensorflow': progan_tensorflow.DIALECT,
  }
)
recognise, convert = DIALECTS.recognise, DIALECTS.convert


def _entries(options: ProGANOptions, fused: bool):
  """The table."""
  widths, channels = options.widths, options.image_channels
  inputs, last = options.z_dim + options.num_classes, f'output{len(widths) // 2 - 1}'
  yield Entry('layer0.weight', 'first.weight', (widths[0], inputs, 4, 4), 'kernel turned')
  yield Entry('layer0.bias', 'first.bias', (widths[0],))
  for i in range(1, len(widths)):
    target, shape, transform = f'convs.{i - 1}', (widths[i], widths[i - 1], 3, 3), 'kernel'
    if i % 2 == 0:
      # A transposed convolution is a true convolution, as ours; the other one correlates.
      shape, transform = ((shape[1], shape[0], 3, 3), 'kernel swapped') if fused else (shape, 'kernel turned')
    yield Entry(f'layer{i}.weight', f'{target}.weight', shape, transform)
    yield Entry(f'layer{i}.bias', f'{target}.bias', (widths[i],))
  yield Entry(f'{last}.weight', 'rgb.weight', (channels, widths[-1], 1, 1), 'kernel')
  yield Entry(f'{last}.bias', 'rgb.bias', (channels,))


def _export_genforce(options: ProGANOptions, tensors: dict[str, np.ndarray]) -> Exported:
  if options.num_classes:
    check_needs('genforce', options, joint_norm=(False,))
  channels = widths_by_size('genforce', options.widths)
  arrays = backwards(_entries(options, fused=False), tensors)
  arrays |= genforce.grown('output', list(channels.values()), options.image_channels)
  arrays['lod'] = np.zeros((), np.float32)
  arguments = {
    'resolution': options.resolution,
    'z_space_dim': options.z_dim,
    'image_channels': options.image_channels,
    'label_size': options.num_classes,
    'fused_scale': False,
    'final_tanh': options.final_tanh,
    **channel_rule(channels, 'fmaps_base', 'fmaps_max'),
  }
  return Exported({genforce.AVERAGED: arrays}, arguments, [genforce.GROWN])


EXPORTS = {'genforce': _export_genforce}


def _places_out(i: int) -> list[tuple[str, int, int]]:
  """Where the output channels of a layer are found; up-sampling kernels may have them on either axis."""
  places = [(f'layer{i}.bias', 1, 0)]
  return places if i and i % 2 == 0 else [*places, (f'layer{i}.weight', 4, 0)]


def _places_into(i: int) -> list[tuple[str, int, int]]:
  return [(f'layer{i}.weight', 4, 1)] if i % 2 else []


def _fused(arrays: dict, widths: list[int], given: bool | None, table: Table) -> bool:
  """Whether up-sampling kernels are (in, out, 3, 3), as those of transposed convolutions."""
  shown = set()
  for i in range(2, len(widths), 2):
    shape = shape_of(arrays, f'layer{i}.weight', 4)
    if shape is not None and widths[i - 1] != widths[i]:
      shown |= (
        {shape[:2] == (widths[i - 1], widths[i])} if sorted(shape[:2]) == sorted(widths[i - 1 : i + 1]) else set()
      )
  if len(shown) == 1:
    (fused,) = shown
    if given is not None and given != fused:
      table.problems.append(f'fused_scale={given}: the kernels show that it is {fused}')
    table.notes.append(f'fused_scale={fused}: shown by the kernels')
    return fused
  fused = bool(given)
  table.notes.append(f'fused_scale={fused}: not in the file')
  return fused
