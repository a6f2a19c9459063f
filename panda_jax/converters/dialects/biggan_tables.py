"""The table of a BigGAN that stores one set of batch-norm statistics.

BigGAN-PyTorch and PyTorch-StudioGAN store the same network, so their tables differ only in a `Layout` of names. Unlike
ours, both put the embedding of the class before the piece of z in every condition, and store the first feature maps
channel by channel: columns and rows are reordered here, which needs no option.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from panda_jax.converters.tables import TRANSFORMS, Table, fits, shape_of, size_of
from panda_jax.generators.biggan import BigGANOptions

MOST_ENTRIES = 256  # of the list of blocks and attention; published networks have up to 15


class Layout(NamedTuple):
  """The names of arrays in a dialect; those of a block, an attention and a batch norm come after a prefix.

  Attributes:
    linear, last_norm, last_conv: keys.
    norms, convs, short: of a block.
    attention: {ours: theirs} of theta, phi, g and out.
    gamma: the factor of an attention, and its shape.
    statistics: of means and variances of the norms in blocks.
    last_statistics: of the last norm; its factor is `last_scale`, its offset 'bias'.
    weight: the ending of weights under a spectral norm.
    fold: divides such a weight: fold(table, key, shape) is the array, or None if something is wrong with it.
  """

  linear: str
  last_norm: str
  last_conv: str
  norms: tuple[str, ...]
  convs: tuple[str, ...]
  short: str
  attention: dict[str, str]
  gamma: tuple[str, tuple[int, ...]]
  statistics: tuple[str, str]
  last_statistics: tuple[str, str]
  last_scale: str
  weight: str
  fold: Callable[[Table, str, tuple[int, ...]], np.ndarray | None]


@dataclasses.dataclass
class Sizes:
  """Sizes of a network, from the keys and shapes of a file.

  Attributes:
    entries: (key, whether it is an attention) of the list of blocks and attention.
    widths: (in, out) of each block, in channels.
    classes, embedded: rows and columns of the embedding, 0 if there is none.
    linear: columns of the first linear map.
    condition: columns of the maps from the condition of a block.
    image_channels: of the last convolution.
  """

  entries: list[tuple[str, bool]]
  widths: list[tuple[int, int]]
  classes: int
  embedded: int
  linear: int
  condition: int
  image_channels: int

  @property
  def attention(self) -> tuple[int, ...]:
    """The blocks that have an attention before them."""
    places, blocks = [], 0
    for _, attends in self.entries:
      places += [blocks] if attends else []
      blocks += not attends
    return tuple(places)


def has(arrays: dict, pattern: str) -> str | None:
  """The first key that matches a pattern as a whole."""
  return next((key for key in arrays if re.fullmatch(pattern, key)), None)


def sizes(table: Table, arrays: dict, layout: Layout, normed: bool, looked_up: bool = False) -> Sizes | None:
  """The sizes from the shapes; None, with a problem in the table, if they cannot be inferred.

  Args:
    table: collects the problems.
    arrays: {key: array}.
    layout: names of the dialect.
    normed: whether weights are under spectral norms.
    looked_up: whether the maps of batch norms are tables (classes, C) and not matrices (C, condition).
  """
  weight = layout.weight if normed else '.weight'
  found, attending = set(), set()
  for key in arrays:
    match = re.fullmatch(r'blocks\.(\d{1,4})\.(\d{1,4})\.(\w+)(\..*)?', key)
    if match:
      place = int(match[1]), int(match[2])
      found.add(place)
      if match[3] in layout.attention.values():
        attending.add(place)
  if not 0 < len(found) <= MOST_ENTRIES:
    table.problems.append(f'blocks: {len(found)} of them, where there can be from 1 to {MOST_ENTRIES}')
    return None
  entries, previous = [], (-1, 0)
  for i, j in sorted(found):
    if (i, j) not in ((previous[0] + 1, 0), (previous[0], previous[1] + 1)):
      table.problems.append(f'blocks.{i}.{j}: the one before it is missing')
    entries.append((f'blocks.{i}.{j}', (i, j) in attending))
    previous = i, j
  blocks = [key for key, attends in entries if not attends]
  gains = [f'{key}.{norm}.gain{".weight" if looked_up else weight}' for key in blocks for norm in layout.norms]
  condition = size_of(arrays, *((key, 2, 0 if looked_up else 1) for key in gains))
  linear = size_of(arrays, (f'{layout.linear}{weight}', 2, 1))
  image_channels = size_of(arrays, (f'{layout.last_conv}{weight}', 4, 0), (f'{layout.last_conv}.bias', 1, 0))
  classes, embedded = shape_of(arrays, 'shared.weight', 2) or (0, 0)
  needed = [
    (f'{layout.linear}{weight}', 2, linear),
    (f'{layout.last_conv}{weight}', 4, image_channels),
    (gains[0] if gains else f'blocks.0.0.{layout.norms[0]}.gain{weight}', 2, condition),
    ('shared.weight', 2, classes * embedded or 'shared.weight' not in arrays),
  ]
  widths = []
  for key in blocks:
    first, last, short = (f'{key}.{name}{weight}' for name in (layout.convs[0], layout.convs[-1], layout.short))
    inputs = size_of(arrays, (first, 4, 1), (short, 4, 1))
    outputs = size_of(arrays, (last, 4, 0), (f'{key}.{layout.convs[-1]}.bias', 1, 0), (short, 4, 0))
    widths.append((inputs, outputs))
    needed += [(first, 4, inputs), (last, 4, outputs)]
  for key, axes, size in needed:
    if not size:
      table.lacks(key, axes)
  if table.problems:
    return None
  return Sizes(entries, widths, condition if looked_up else classes, embedded, linear, condition, image_channels)


def made_options(table: Table, found: Sizes, **rest) -> BigGANOptions | None:
  """Options of a network of these sizes; None, with a problem in the table, if no network has them.

  Args:
    table: collects the problems.
    found: the sizes.
    rest: fields of BigGANOptions; `up` (a bool for each block) in place of `blocks`.
  """
  up = rest.pop('up')
  options = BigGANOptions(
    channel_width=1,
    blocks=tuple((doubles, *widths) for doubles, widths in zip(up, found.widths, strict=True)),
    attention_position=found.attention,
    n_stats=1,
    image_channels=found.image_channels,
    **rest,
  )
  return options if fits(options, table.problems) else None


def take(table: Table, layout: Layout, options: BigGANOptions, found: Sizes, normed: bool) -> None:
  """Converts every array of the network, or records what is wrong with its key.

  Args:
    table: of the file.
    layout: its names.
    options: from `made_options`.
    found: from `sizes`.
    normed: whether its weights are under spectral norms.
  """
  if options.embedding_dim:
    _put(table, 'shared.weight', 'embedding', (found.classes, found.embedded), TRANSFORMS['as it is'])
  for weight, target, shape, transform in _weights(layout, options, found):
    looked_up = len(shape) == 2 and target != 'gen_z' and options.embedding_dim == 0 and options.num_classes
    if looked_up:  # a table by class, stored as in the generator; embeddings have no spectral norm
      _put(table, f'{weight}.weight', target, shape[::-1], TRANSFORMS['as it is'])
    elif normed:
      array = layout.fold(table, f'{weight}.weight', shape)
      if array is not None:
        table.tensors[target], table.sources[target] = transform(array), f'{weight}{layout.weight}'
    else:
      _put(table, f'{weight}.weight', target, shape, transform)
  for key, target, shape, transform in _plain(layout, options, found):
    _put(table, key, target, shape, transform)


def _put(table: Table, key: str, target: str, shape: tuple[int, ...], transform: Callable) -> None:
  array = table.checked(key, shape)
  if array is not None:
    table.tensors[target], table.sources[target] = transform(array), key


def _entries(options: BigGANOptions, found: Sizes) -> Iterator[tuple[str, str, int | None, int, int]]:
  """(key, target, block, in, out) of each entry."""
  for i, ((key, _), part) in enumerate(zip(found.entries, options.parts(), strict=True)):
    yield key, f'entries.{i}', part.block, part.inputs, part.outputs


def _channels(options: BigGANOptions, inputs: int, outputs: int) -> list[int]:
  """Channels of the maps between the convolutions of a block."""
  return [inputs, outputs, outputs] if options.block == 'plain' else [inputs, *[inputs // 4] * 3, outputs]


def _kernels(options: BigGANOptions) -> tuple[int, ...]:
  return (3, 3) if options.block == 'plain' else (1, 3, 3, 1)


def _weights(layout: Layout, options: BigGANOptions, found: Sizes) -> Iterator[tuple[str, str, tuple, Callable]]:
  """(key without its ending, target, shape, transform) of the arrays under a spectral norm."""
  shift = found.embedded if options.embedding_dim else 0

  def z_first(matrix):
    return np.roll(matrix, -shift, axis=1).T

  def to_maps(matrix):
    seen = z_first(matrix) if options.conditioning == 'joint' else matrix.T
    return channels_last(seen.T).T

  C = found.widths[0][0]
  yield layout.linear, 'gen_z', (16 * C, found.linear), to_maps
  for key, target, block, inputs, outputs in _entries(options, found):
    if block is None:
      for ours, shape in (
        ('theta', (inputs // 8, inputs, 1, 1)),
        ('phi', (inputs // 8, inputs, 1, 1)),
        ('g', (inputs // 2, inputs, 1, 1)),
        ('out', (inputs, inputs // 2, 1, 1)),
      ):
        yield f'{key}.{layout.attention[ours]}', f'{target}.{ours}', shape, TRANSFORMS['kernel of a pixel']
      continue
    channels = _channels(options, inputs, outputs)
    for j, size in enumerate(_kernels(options)):
      for theirs, ours in (('gain', 'scale'), ('bias', 'offset')):
        yield f'{key}.{layout.norms[j]}.{theirs}', f'{target}.bn_{j}.{ours}', (channels[j], found.condition), z_first
      shape = channels[j + 1], channels[j], size, size
      yield f'{key}.{layout.convs[j]}', f'{target}.conv_{j}.weight', shape, TRANSFORMS['kernel']
    if options.block != 'deep':
      yield f'{key}.{layout.short}', f'{target}.conv_short.weight', (outputs, inputs, 1, 1), TRANSFORMS['kernel']
  last = found.widths[-1][1]
  yield layout.last_conv, 'conv_to_rgb.weight', (options.image_channels, last, 3, 3), TRANSFORMS['kernel']


def _plain(layout: Layout, options: BigGANOptions, found: Sizes) -> Iterator[tuple[str, str, tuple, Callable]]:
  """(key, target, shape, transform) of the other arrays."""
  as_it_is = TRANSFORMS['as it is']

  def statistics(key, names, target, channels):
    for theirs, ours in zip(names, ('means', 'variances'), strict=True):
      yield f'{key}.{theirs}', f'{target}.{ours}', (channels,), lambda a: a.reshape(1, -1)

  C, last = found.widths[0][0], found.widths[-1][1]
  yield f'{layout.linear}.bias', 'gen_z_bias', (16 * C,), channels_last
  for key, target, block, inputs, outputs in _entries(options, found):
    if block is None:
      name, shape = layout.gamma
      yield f'{key}.{name}', f'{target}.gamma', shape, TRANSFORMS['scalar']
      continue
    channels = _channels(options, inputs, outputs)
    for j in range(len(channels) - 1):
      yield from statistics(f'{key}.{layout.norms[j]}', layout.statistics, f'{target}.bn_{j}', channels[j])
      yield f'{key}.{layout.convs[j]}.bias', f'{target}.conv_{j}.bias', (channels[j + 1],), as_it_is
    if options.block != 'deep':
      yield f'{key}.{layout.short}.bias', f'{target}.conv_short.bias', (outputs,), as_it_is
  yield from statistics(layout.last_norm, layout.last_statistics, 'bn', last)
  yield f'{layout.last_norm}.{layout.last_scale}', 'bn.scale', (last,), as_it_is
  yield f'{layout.last_norm}.bias', 'bn.offset', (last,), as_it_is
  yield f'{layout.last_conv}.bias', 'conv_to_rgb.bias', (options.image_channels,), as_it_is


def channels_last(rows: np.ndarray) -> np.ndarray:
  """Rows (16 C, ...) of maps (C, 4, 4), reordered as those of maps (4, 4, C)."""
  return rows.reshape(-1, 16, *rows.shape[1:]).swapaxes(0, 1).reshape(rows.shape)
