"""One table for the synthesis network of StyleGAN2; its layouts differ in names, extra axes and two conventions."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from panda_jax.converters.tables import MOST_BLOCKS, Entry, Table, shape_of, size_of


@dataclasses.dataclass(frozen=True)
class Layout:
  """The names, axes and conventions of a dialect.

  Attributes:
    const: key of the constant.
    conv: prefix of convolution i.
    rgb: prefix of the ToRGB of block k.
    noise: key of the noise of convolution i.
    weight, affine, bias, strength, rgb_bias: endings after a prefix; after `affine` follows 'weight' or 'bias'.
    lead: extra axes before those of const, noise, strength, rgb_bias (by name) and of all kernels ('weight').
    channels_last: whether kernels are (k, k, in, out) and matrices (in, out), as ours; else (out, in, k, k), (out, in).
    trail: extra axes after those of rgb_bias.
    up_kernel: transform of the kernel of an up-sampling convolution; ours is a true convolution.
    affine_bias: transform of the bias of a style; ours is about 1.
  """

  const: str
  conv: Callable[[int], str]
  rgb: Callable[[int], str]
  noise: Callable[[int], str]
  weight: str
  affine: str
  bias: str
  strength: str
  rgb_bias: str
  lead: Mapping[str, tuple[int, ...]]
  trail: tuple[int, ...] = ()
  channels_last: bool = False
  up_kernel: str = 'kernel'
  affine_bias: str = 'as it is'

  def kernel(self, inputs: int, outputs: int, size: int) -> tuple[int, ...]:
    """The shape of a kernel in the file."""
    shape = (size, size, inputs, outputs) if self.channels_last else (outputs, inputs, size, size)
    return (*self.lead['weight'], *shape)

  def transform(self, name: str) -> str:
    """The transform of a kernel or matrix, from its name for layouts with channels first."""
    return CHANNELS_LAST[name] if self.channels_last else name


CHANNELS_LAST = {'kernel': 'as it is', 'kernel turned': 'turned', 'kernel of a pixel': 'pixel', 'matrix': 'as it is'}


def rows_of(last_conv: int, last_rgb: int) -> int | None:
  """Rows of w+ from the highest numbers of a convolution and of a ToRGB; None if no network has that size."""
  blocks = max((last_conv + 1) // 2, last_rgb) + 1
  return 2 * blocks if 2 <= blocks <= MOST_BLOCKS else None


def rgb_blocks(architecture: str, rows: int) -> list[int]:
  """The blocks that have a ToRGB."""
  return list(range(rows // 2)) if architecture == 'skip' else [rows // 2 - 1]


def sizes(table: Table, arrays: Mapping[str, np.ndarray], layout: Layout, rows: int, blocks: list[int]) -> dict:
  """widths, w_dim, image_channels, noise and start; {} if some of them cannot be inferred.

  Args:
    table: collects the problems.
    arrays: {key: array}.
    layout: of the file.
    rows: of w+, one more than the number of convolutions.
    blocks: that have a ToRGB.
  """
  kernel = 4 + len(layout.lead['weight'])
  outs, ins = (kernel - 1, kernel - 2) if layout.channels_last else (kernel - 4, kernel - 3)  # axes of a kernel
  to, of = (1, 0) if layout.channels_last else (0, 1)  # axes of a matrix

  def places_into(prefix):  # where the input channels of a layer are found
    return [
      (prefix + layout.weight, kernel, ins),
      (f'{prefix}{layout.affine}weight', 2, to),
      (f'{prefix}{layout.affine}bias', 1, 0),
    ]

  lead = len(layout.lead['const'])
  widths = [size_of(arrays, *places_into(layout.conv(0)), (layout.const, 3 + lead, lead))]
  for i in range(rows - 1):
    places = [(layout.conv(i) + layout.weight, kernel, outs), (layout.conv(i) + layout.bias, 1, 0)]
    if i + 1 < rows - 1:
      places += places_into(layout.conv(i + 1))
    if i % 2 == 0 and i // 2 in blocks:
      places += places_into(layout.rgb(i // 2))
    widths.append(size_of(arrays, *places))
  prefixes = [layout.conv(i) for i in range(rows - 1)] + [layout.rgb(k) for k in blocks]
  found = {
    'widths': tuple(widths),
    'w_dim': size_of(arrays, *((f'{prefix}{layout.affine}weight', 2, of) for prefix in prefixes)),
    'image_channels': size_of(arrays, *((layout.rgb(k) + layout.weight, kernel, outs) for k in blocks)),
    'noise': _noise(arrays, layout, rows),
    'start': (shape_of(arrays, layout.const, 3 + lead) or (4, 4))[-2:],
  }
  lacking = [
    (layout.conv(i - 1) + layout.weight if i else layout.const, kernel if i else 3 + lead) for i in range(rows)
  ]
  lacking = [place for place, width in zip(lacking, widths, strict=True) if not width]
  lacking += [(f'{layout.conv(0)}{layout.affine}weight', 2)] * (not found['w_dim'])
  lacking += [(layout.rgb(blocks[-1]) + layout.weight, kernel)] * (not found['image_channels'])
  for key, axes in lacking:
    table.lacks(key, axes)
  return {} if lacking else found


def _noise(arrays: Mapping[str, np.ndarray], layout: Layout, rows: int) -> str:
  rank = 2 + len(layout.lead['noise'])
  shapes = [shape for i in range(rows - 1) if (shape := shape_of(arrays, layout.noise(i), rank)) is not None]
  # The noise of a network is either a map for all channels, [1, 1, r, r], or a number for each, [1, C, 1, 1].
  channel = [shape for shape in shapes if rank == 4 and shape[2:] == (1, 1)]
  if shapes and 2 * len(channel) > len(shapes):
    return 'channel'
  strengths = [layout.conv(i) + layout.strength for i in range(rows - 1)]
  return 'spatial' if shapes or any(key in arrays for key in strengths) else 'none'


def entries(options, layout: Layout) -> Iterator[Entry]:
  """The table of the synthesis network."""
  widths, lead = options.widths, layout.lead
  yield Entry(layout.const, 'const', (*lead['const'], widths[0], *options.start), 'constant')
  for i in range(options.rows - 1):
    prefix, target = layout.conv(i), f'convs.{i}'
    yield from _affine(prefix + layout.affine, f'{target}.affine', widths[i], options.w_dim, layout)
    transform = layout.transform(layout.up_kernel if i % 2 else 'kernel')
    yield Entry(prefix + layout.weight, f'{target}.weight', layout.kernel(widths[i], widths[i + 1], 3), transform)
    yield Entry(prefix + layout.bias, f'{target}.bias', (widths[i + 1],))
    if options.noise != 'none':
      if options.noise == 'spatial':
        yield Entry(layout.noise(i), f'{target}.noise', (*lead['noise'], *options.size(i + 1)), 'map')
      else:
        yield Entry(layout.noise(i), f'{target}.noise', (1, widths[i + 1], 1, 1), 'vector')
      yield Entry(prefix + layout.strength, f'{target}.noise_strength', lead['strength'], 'scalar')
  for place, k in enumerate(rgb_blocks(options.architecture, options.rows)):
    prefix, target, width = layout.rgb(k), f'rgbs.{place}', widths[2 * k + 1]
    yield from _affine(prefix + layout.affine, f'{target}.affine', width, options.w_dim, layout)
    shape = layout.kernel(width, options.image_channels, 1)
    yield Entry(prefix + layout.weight, f'{target}.weight', shape, layout.transform('kernel of a pixel'))
    shape = (*lead['rgb_bias'], options.image_channels, *layout.trail)
    yield Entry(prefix + layout.rgb_bias, f'{target}.bias', shape, 'row')


def with_noise(options, tensors: Mapping[str, np.ndarray]):
  """Options and tensors of the same network for code that always adds noise, and notes: noise of strength 0 is none."""
  if options.noise != 'none':
    return options, tensors, []
  options, silent = dataclasses.replace(options, noise='spatial'), {}
  for i in range(options.rows - 1):
    silent[f'convs.{i}.noise'] = np.zeros((*options.size(i + 1), 1), np.float32)
    silent[f'convs.{i}.noise_strength'] = np.zeros((), np.float32)
  return options, {**tensors, **silent}, ['its code always adds noise: it has strength 0 in this file, which adds none']


def _affine(key: str, target: str, width: int, w_dim: int, layout: Layout) -> Iterator[Entry]:
  shape = (w_dim, width) if layout.channels_last else (width, w_dim)
  yield Entry(f'{key}weight', f'{target}.weight', shape, layout.transform('matrix'))
  yield Entry(f'{key}bias', f'{target}.bias', (width,), layout.affine_bias)
