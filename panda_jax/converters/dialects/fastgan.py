"""FastGAN from the snapshots (.pkl) of Projected GANs, and of StyleGAN-XL's copy of it.

Older code alternates blocks of one and two convolutions; later code has one (lite) or two in all. The keys of each
block show which. The spectral norms are folded (spectral.py). Every file has unused blocks of maps beyond the image.
"""

import re
from collections.abc import Iterator

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint, Module
from panda_jax.converters.dialects.base import Dialect, Dialects
from panda_jax.converters.dialects.snapshots import disagreements, opened
from panda_jax.converters.dialects.spectral import take_folded
from panda_jax.converters.limits import shown
from panda_jax.converters.networks import networks
from panda_jax.converters.tables import Entry, Table, fits, indices, number, shape_of, size_of
from panda_jax.errors import InputError
from panda_jax.generators.base import checked_resolution
from panda_jax.generators.bounds import LARGEST_RESOLUTION
from panda_jax.generators.fastgan import BACK, GATED, FastGANOptions

START, RGB, EMBEDDING = 'synthesis.init.init.0.weight_orig', 'synthesis.to_big.weight_orig', 'synthesis.embed.weight'
SMALLEST = 64  # pixels of an image
SIGNATURE = r'synthesis\.init\.init\.0\.weight_orig'
CLASSES = (
  r'Generator|FastganSynthesis(Cond)?|DummyMapping|InitLayer|GLU|SEBlock|Swish|NoiseInjection|UpBlock(Small|Big|Comp)?(Cond)?'
  r'|CCBN|Sequential|Conv2d|ConvTranspose2d|BatchNorm2d|Upsample|AdaptiveAvgPool2d|Sigmoid|Linear|Embedding'
)
# The names of the convolutions, their norms and their noise in a block, by whether it is conditional; the first match
# is used. The convolutions of a conditional block share one strength.
BLOCKS = {
  False: ((('1', '3', '2'), ('5', '7', '6')), (('1', '2', ''),)),
  True: ((('conv1', 'bn1', 'noise'), ('conv2', 'bn2', 'noise')), (('conv', 'bn', ''),)),
}


def _projected_gan(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  module, table = opened(checkpoint, SIGNATURE, weights, given, CLASSES)
  network = _options(module, table)
  if network is not None:
    table.problems += disagreements(module, _told(network))
    _take(module, network, table)
  return table.conversion('fastgan', 'projected-gan', network)


DIALECTS = Dialects(
  {
    'projected-gan': Dialect(
      lambda checkpoint: networks(checkpoint.tree, SIGNATURE),
      _projected_gan,
      '.pkl of Projected GAN; state dicts',
      'its code: a random network of 128 pixels; variants: plain numpy',
    )
  }
)
recognise, convert = DIALECTS.recognise, DIALECTS.convert
EXPORTS: dict = {}


def _block(arrays: dict, size: int, conditional: bool) -> tuple[tuple[str, str, str], ...] | None:
  """The names in the block of a map, from the convolutions that it has; None if none match."""
  known = BLOCKS[conditional]
  return next((b for b in known if all(f'synthesis.feat_{size}.{conv}.weight_orig' in arrays for conv, *_ in b)), None)


def _options(module: Module, table: Table) -> FastGANOptions | None:
  arrays, conditional = module.state_dict, EMBEDDING in module.state_dict
  start, channels = size_of(arrays, (START, 4, 0)), size_of(arrays, (RGB, 4, 0), ('synthesis.to_big.bias', 1, 0))
  first = size_of(arrays, (START, 4, 1), ('synthesis.init.init.1.weight', 1, 0))
  lacking = [(START, 4)] * (not start or not first) + [(RGB, 4)] * (not channels)
  embedding = shape_of(arrays, EMBEDDING, 2) if conditional else None
  lacking += [(EMBEDDING, 2)] * (conditional and not embedding)
  for key, axes in lacking:
    table.lacks(key, axes)
  if lacking:
    return None
  widths, convolutions = {4: first // 2}, {}
  for size in indices(arrays, r'synthesis\.feat_(\d+)\..*'):
    block = _block(arrays, size, conditional)
    if block is None:
      table.problems.append(f'synthesis.feat_{size}: its convolutions are in none of the known places')
      return None
    key = f'synthesis.feat_{size}.{block[0][0]}.weight_orig'
    width = size_of(arrays, (key, 4, 0))
    if width is None:
      table.lacks(key, 4)
      return None
    widths[size], convolutions[size] = width // 2, len(block)
  resolution = _resolution(module, widths, table)
  if resolution is None:
    return None
  sizes = [4 * 2**i for i in range(resolution.bit_length() - 2)]
  missing = [f'synthesis.feat_{size}: missing' for size in sizes if size not in widths]
  if missing:
    table.problems += missing
    return None
  eps = {name: value for name, value in module.attributes.items() if re.fullmatch(r'synthesis\..*\.eps', name)}
  try:
    found = sorted({number(value) for value in eps.values()}) or [FastGANOptions.eps]
  except ValueError:
    found = []
  if len(found) != 1:
    table.problems.append(f'eps of the batch norms: not one number, but {", ".join(map(shown, eps.values()))}')
    return None
  network = FastGANOptions(
    resolution=resolution,
    widths=tuple(widths[size] for size in sizes),
    convolutions=tuple(convolutions[size] for size in sizes[1:]),
    z_dim=start,
    num_classes=_classes(module, embedding[0], table) if embedding else 0,
    embed_dim=embedding[1] if embedding else 0,
    eps=float(found[0]),
    image_channels=channels,
  )
  return network if fits(network, table.problems) else None


def _resolution(module: Module, widths: dict[int, int], table: Table) -> int | None:
  """The resolution in the file, or the only size whose map has as many channels as the image's convolution reads."""
  names = 'synthesis.img_resolution', 'img_resolution'
  told = next((module.attributes[name] for name in names if name in module.attributes), None)
  if told is None:
    wanted = size_of(module.state_dict, (RGB, 4, 1))
    fitting = [size for size, width in widths.items() if width == wanted and size >= SMALLEST]
    if len(fitting) != 1:
      table.problems.append('img_resolution: the file does not tell it')
      return None
    told = fitting[0]
  try:
    resolution = checked_resolution(number(told, whole=True))
  except (ValueError, InputError):
    resolution = 0
  if not SMALLEST <= resolution <= LARGEST_RESOLUTION:
    least = f'{SMALLEST}, which the code always makes, to {LARGEST_RESOLUTION}'
    table.problems.append(f'img_resolution={shown(told)}: it must be a power of two from {least}')
    return None
  return resolution


def _classes(module: Module, rows: int, table: Table) -> int:
  """The number of classes; the embedding may have more rows."""
  told = module.attributes.get('c_dim', 0)
  if not isinstance(told, int) or isinstance(told, bool) or told == 0:
    return rows
  if not 0 < told <= rows:
    table.problems.append(f'c_dim={shown(told)}: {EMBEDDING} has {rows} rows')
    return rows
  if told < rows:
    table.notes.append(f'{EMBEDDING}: of its {rows} rows the first {told} are those of classes')
  return told


def _told(network: FastGANOptions) -> dict[str, object]:
  """The values that attributes of the modules must have."""
  return {
    r'(synthesis\.)?z_dim': network.z_dim,
    r'(synthesis\.)?img_resolution': network.resolution,
    'img_channels': network.image_channels,
    r'.*\.(stride|dilation)': [1, 1],
    r'.*\.groups': 1,
    r'.*\.padding_mode': 'zeros',
    r'.*\.(scale_factor)': 2,
    r'.*\.mode': 'nearest',
  }


def _take(module: Module, network: FastGANOptions, table: Table) -> None:
  C, arrays = network.widths, module.state_dict
  conditional = network.num_classes > 0
  sizes = [4 * 2**i for i in range(len(C))]
  table.take(_norm('synthesis.init.init.1', 'start.norm', 2 * C[0]))
  take_folded(
    table, Entry(START.removesuffix('_orig'), 'start.weight', (network.z_dim, 2 * C[0], 4, 4), 'kernel swapped'), 1
  )
  for i, size in enumerate(sizes[1:], 1):
    block = f'synthesis.feat_{size}'
    for j, (conv, norm, noise) in enumerate(_block(arrays, size, conditional)):
      target, inputs = f'ups.{i - 1}', C[i] if j else C[i - 1]
      # The first one follows doubled pixels, and is a true convolution here.
      transform = 'kernel' if j else 'kernel turned'
      take_folded(table, Entry(f'{block}.{conv}.weight', f'{target}.kernels.{j}', (2 * C[i], inputs, 3, 3), transform))
      if noise:
        table.take([Entry(f'{block}.{noise}.weight', f'{target}.strengths.{j}', (1,), 'scalar')])
      if conditional:
        _take_class_norm(f'{block}.{norm}', f'{target}.norms.{j}', 2 * C[i], network.embed_dim, table)
      else:
        table.take(_norm(f'{block}.{norm}', f'{target}.norms.{j}', 2 * C[i]))
    if i in GATED:
      gate, target = f'synthesis.se_{size}.main', f'gates.{i - GATED[0]}'
      take_folded(table, Entry(f'{gate}.1.weight', f'{target}.first', (C[i], C[i - BACK], 4, 4), 'kernel'))
      take_folded(table, Entry(f'{gate}.3.weight', f'{target}.second', (C[i], C[i], 1, 1), 'kernel of a pixel'))
  take_folded(table, Entry(RGB.removesuffix('_orig'), 'rgb', (network.image_channels, C[-1], 3, 3), 'kernel'))
  table.take([Entry('synthesis.to_big.bias', 'rgb_bias', (network.image_channels,))])
  if conditional:
    table.take([Entry(EMBEDDING, 'embedding', (len(arrays[EMBEDDING]), network.embed_dim))])
    table.tensors['embedding'] = table.tensors['embedding'][: network.num_classes]
  for key in arrays:
    match = re.match(r'synthesis\.(?:feat|se)_(\d{1,6})\.', key)
    if match and int(match[1]) > network.resolution:
      table.leave(key, 'of a map beyond the image')
    elif key.endswith('.num_batches_tracked'):
      table.leave(key, 'counted in training only')


def _norm(key: str, target: str, channels: int) -> Iterator[Entry]:
  names = {'weight': 'scale', 'bias': 'offset', 'running_mean': 'mean', 'running_var': 'variance'}
  for name, ours in names.items():
    yield Entry(f'{key}.{name}', f'{target}.{ours}', (channels,))


def _take_class_norm(key: str, target: str, channels: int, embed_dim: int, table: Table) -> None:
  for name, ours in (('gain', 'scale'), ('bias', 'offset')):
    take_folded(table, Entry(f'{key}.{name}.weight', f'{target}.class_{ours}', (channels, embed_dim), 'matrix'))
    table.take([Entry(f'{key}.{name}.bias', f'{target}.{ours}', (channels,))])
  for name, ours in (('stored_mean', 'mean'), ('stored_var', 'variance')):
    table.take([Entry(f'{key}.{name}', f'{target}.{ours}', (channels,))])
