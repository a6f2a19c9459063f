"""Shared by genforce's .pth files: the choice of weights, mapping networks, the truncation centre."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.foreign import check_needs
from panda_jax.converters.networks import chosen as chosen_network
from panda_jax.converters.networks import networks
from panda_jax.converters.tables import Entry, Table, backwards, indices, shape_of, size_of
from panda_jax.errors import InputError

AVERAGED, LATEST = 'generator_smooth', 'generator'
SIGNATURE = r'synthesis\.(early_layer|layer\d+|output\d+)\..+|(layer|output)\d+\.(weight|bias)'


def candidates(checkpoint: Checkpoint) -> dict[str, dict]:
  """The state dicts in a file that may be generators, by their place."""
  return {network.name: network.arrays for network in networks(checkpoint.tree, SIGNATURE)}


def chosen(checkpoint: Checkpoint, weights: str) -> tuple[dict, list[str]]:
  """The requested state dict, and notes.

  Raises:
    InputError: see networks.chosen.
  """
  network, notes = chosen_network(checkpoint, SIGNATURE, weights, AVERAGED, LATEST)
  return network.arrays, notes


def mapping_sizes(arrays: Mapping[str, np.ndarray], table: Table) -> dict:
  """z_dim, num_classes, embed_dim, label_input and mapping_widths; {} if some of them cannot be inferred."""
  count = max(indices(arrays, r'mapping\.dense(\d+)\.(?:weight|bias)'), default=-1) + 1
  widths = []
  for i in range(count):
    key = f'mapping.dense{i}'
    width = size_of(arrays, (f'{key}.weight', 2, 0), (f'{key}.bias', 1, 0), (f'mapping.dense{i + 1}.weight', 2, 1))
    if width is None:
      table.lacks(f'{key}.weight', 2)
    widths.append(width)
  inputs = size_of(arrays, ('mapping.dense0.weight', 2, 1))
  label = shape_of(arrays, 'mapping.label_weight', 2)
  if inputs is None:
    table.lacks('mapping.dense0.weight', 2)
  if inputs is None or None in widths:
    return {}
  if label is None and 'mapping.label_weight' in arrays:
    table.lacks('mapping.label_weight', 2)
  classes, embed = label if label is not None else (0, 0)
  if inputs != 2 * embed and classes:
    table.problems.append(f'mapping.label_weight: expected ({classes}, {inputs // 2}), found {label}')
    return {}
  return {
    'z_dim': inputs - embed,
    'num_classes': classes,
    'embed_dim': embed,
    'label_input': 'joint' if classes else 'none',
    'mapping_widths': tuple(widths),
  }


def mapping_entries(options) -> Iterator[Entry]:
  """The table of the mapping network and of the mean of w."""
  inputs = options.z_dim + options.embed_dim
  for i, width in enumerate(options.mapping_widths):
    key, target = f'mapping.dense{i}', f'mapping_network.layers.{i}'
    yield Entry(f'{key}.weight', f'{target}.weight', (width, inputs), 'matrix')
    yield Entry(f'{key}.bias', f'{target}.bias', (width,))
    inputs = width
  if options.num_classes:
    yield Entry('mapping.label_weight', 'mapping_network.label_weight', (options.num_classes, options.embed_dim))


def take_mean(table: Table, options) -> None:
  """Takes the mean of w: one row, or as many as w+ has."""
  own = options.mapping_widths[-1] != options.w_dim
  array = table.checked('truncation.w_avg', (options.mapping_widths[-1],))
  if array is not None:
    table.tensors['w_avg'] = array.reshape(options.rows, options.w_dim) if own else array
    table.sources['w_avg'] = 'truncation.w_avg'


def leave_grown(table: Table, prefix: str, blocks: int) -> None:
  """Leaves out the RGB layers of all blocks except the last."""
  for b in range(blocks - 1):
    for part in ('weight', 'bias'):
      table.leave(f'{prefix}{b}.{part}', 'of a smaller image, made only while the network grew')


def check_mapping(options) -> None:
  """Raises InputError if genforce's code does not support this mapping network."""
  *hidden, _ = options.mapping_widths or (0,)
  check_needs('genforce', options, label_input=('none', 'joint'))
  check_needs('genforce', options, mapping_widths=((*hidden[:1] * len(hidden), *options.mapping_widths[-1:]),))
  if options.num_classes:
    check_needs('genforce', options, embed_dim=(options.z_dim,))
  if not options.mapping_widths:
    raise InputError('--format', 'genforce', 'its code has no empty mapping network', 'give --format=safetensors')
  if not getattr(options, 'mean_w', True):
    remedy = 'convert its file again with --mean_w=10000'
    raise InputError('--format', 'genforce', 'its code needs the mean of w, which is not known', remedy)


def exported_mapping(options, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The arrays of the mapping network and of the mean of w."""
  return backwards(mapping_entries(options), tensors) | {'truncation.w_avg': tensors['w_avg'].reshape(-1)}


def mapping_arguments(options) -> dict[str, object]:
  """The arguments of genforce's classes that StyleGAN and StyleGAN2 share."""
  return {
    'resolution': options.resolution,
    'z_space_dim': options.z_dim,
    'w_space_dim': options.w_dim,
    'image_channels': options.image_channels,
    'label_size': options.num_classes,
    'mapping_layers': len(options.mapping_widths),
    'mapping_fmaps': options.mapping_widths[0] if len(options.mapping_widths) > 1 else options.w_dim,
    'mapping_lr_mul': options.mapping_lr_multiplier,
    'repeat_w': options.mapping_widths[-1] == options.w_dim,
  }


def grown(prefix: str, widths: Sequence[int], channels: int) -> dict[str, np.ndarray]:
  """Zeros for the RGB layers of all blocks except the last, which our generator does not have.

  Args:
    prefix: of their keys.
    widths: of the blocks.
    channels: of the image.
  """
  arrays = {}
  for b, width in enumerate(widths[:-1]):
    arrays[f'{prefix}{b}.weight'] = np.zeros((channels, width, 1, 1), np.float32)
    arrays[f'{prefix}{b}.bias'] = np.zeros(channels, np.float32)
  return arrays


GROWN = 'the RGB layers of smaller images, made only while a network grows, are not kept: zeros stand for them'
