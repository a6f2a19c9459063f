"""R3GAN from the snapshots (.pkl) of its authors' code, with its older or newer names.

Weights are used as stored. Stages that run in bfloat16 there run in float32 here.
"""

import re
from collections.abc import Iterator

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects.base import Dialect, Dialects
from panda_jax.converters.dialects.snapshots import disagreements, opened
from panda_jax.converters.limits import Unknown, listed
from panda_jax.converters.networks import networks
from panda_jax.converters.tables import (
  MOST_BLOCKS,
  Entry,
  Table,
  common_taps,
  fits,
  indices,
  shape_of,
  size_of,
)
from panda_jax.generators.r3gan import R3GANOptions

STAGES = r'Model\.MainLayers\.(\d+)\..*'
SIGNATURE = r'Model\.MainLayers\.0\.Layers\.0\.Basis'
CLASSES = (
  r'Generator(Stage)?|GenerativeBasis|UpsampleLayer|ResidualBlock|Convolution|ModuleList|Conv2d|Linear'
  r'|(InterpolativeUpsampler|BiasedActivation)(CUDA|Reference)?'
)


def _r3gan(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  module, table = opened(checkpoint, SIGNATURE, weights, given, CLASSES)
  arrays = module.state_dict
  network = _options(arrays, table)
  if network is not None:
    table.problems += disagreements(module, _told(network))
    table.take(_entries(network))
  half = [value for name, value in module.attributes.items() if name.endswith('.DataType') and _is_half(value)]
  if half:
    table.notes.append(f'{len(half)} of its stages run in half precision in the original, and in float32 here')
  return table.conversion('r3gan', 'r3gan', network)


DIALECTS = Dialects(
  {
    'r3gan': Dialect(
      lambda checkpoint: networks(checkpoint.tree, SIGNATURE),
      _r3gan,
      '.pkl of its authors; state dicts',
      'its code: random networks of 32 pixels; variants: plain numpy',
    )
  }
)
recognise, convert = DIALECTS.recognise, DIALECTS.convert
EXPORTS: dict = {}


def _is_half(value: object) -> bool:
  return isinstance(value, Unknown) and value.name in ('torch.bfloat16', 'torch.float16')


def _stage(i: int) -> str:
  return f'Model.MainLayers.{i}.Layers'


def _options(arrays: dict, table: Table) -> R3GANOptions | None:
  stages = indices(arrays, STAGES)
  if stages != list(range(len(stages))) or len(stages) > MOST_BLOCKS:
    numbers = listed([str(stage) for stage in stages])
    table.problems.append(f'Model.MainLayers: they are not numbered one by one to {MOST_BLOCKS} at most: {numbers}')
    return None
  blocks = [[j for j in indices(arrays, re.escape(_stage(i)) + r'\.(\d+)\..*') if j] for i in stages]
  for i, found in enumerate(blocks):
    if found != list(range(1, len(found) + 1)):
      numbers = listed([str(block) for block in found])
      table.problems.append(f'{_stage(i)}: the blocks are not numbered one by one: {numbers}')
  names = [[f'{_stage(i)}.{j}' for j in found] for i, found in enumerate(blocks)]
  widths, inner, groups = [], [], []
  for i, keys in enumerate(names):
    places = [(f'{_stage(i)}.0.LinearLayer.Layer.weight', 4, 0)]
    places += [place for key in keys for place in ((f'{key}.LinearLayer1.Layer.weight', 4, 1),)]
    places += [(f'{key}.LinearLayer3.Layer.weight', 4, 0) for key in keys]
    places += [('Model.MainLayers.0.Layers.0.Basis', 3, 0)] * (i == 0)
    places += [('Model.AggregationLayer.Layer.weight', 4, 1)] * (i == len(stages) - 1)
    widths.append(size_of(arrays, *places) or (widths[-1] if i else None))
    inside = [(f'{key}.LinearLayer1.Layer.weight', 4, 0) for key in keys]
    inside += [(f'{key}.NonLinearity{n}.Bias', 1, 0) for key in keys for n in (1, 2)]
    inner.append(size_of(arrays, *inside) if keys else 1)
    apart = size_of(arrays, *((f'{key}.LinearLayer2.Layer.weight', 4, 1) for key in keys)) if keys else 1
    groups.append(inner[-1] // apart if inner[-1] and apart else None)
  first, last = f'{_stage(0)}.0.LinearLayer.weight', 'Model.AggregationLayer.Layer.weight'
  kernels = [(f'{key}.LinearLayer2.Layer.weight', 4, 2) for keys in names for key in keys]
  inputs, channels = size_of(arrays, (first, 2, 1)), size_of(arrays, (last, 4, 0))
  embedding = shape_of(arrays, 'Model.EmbeddingLayer.weight', 2)
  lacking = [('Model.MainLayers.0.Layers.0.Basis', 3)] * (not widths[0])
  lacking += [(first, 2)] * (not inputs) + [(last, 4)] * (not channels)
  for keys, known in zip(names, (a and b for a, b in zip(inner, groups, strict=True)), strict=True):
    lacking += [(f'{key}.LinearLayer{n}.Layer.weight', 4) for key in keys for n in (1, 2) if not known]
  if 'Model.EmbeddingLayer.weight' in arrays and embedding is None:
    lacking.append(('Model.EmbeddingLayer.weight', 2))
  for key, axes in lacking:
    table.lacks(key, axes)
  resamplers = [f'{_stage(i)}.0.Resampler.Kernel' for i in stages[1:]]
  taps = common_taps(table, arrays, resamplers, axes=(1, 2), gain=1.0) if resamplers else R3GANOptions.taps
  if lacking or taps is None:
    return None
  embed_dim, classes = embedding or (0, 0)
  network = R3GANOptions(
    widths=tuple(widths),
    blocks=tuple(map(len, blocks)),
    inner=tuple(inner),
    groups=tuple(groups),
    z_dim=inputs - embed_dim,
    num_classes=classes,
    embed_dim=embed_dim,
    kernel=size_of(arrays, *kernels) or R3GANOptions.kernel,
    taps=taps,
    image_channels=channels,
  )
  return network if fits(network, table.problems) else None


def _told(network: R3GANOptions) -> dict[str, object]:
  """The values that attributes of the modules must have."""
  told: dict[str, object] = {
    'z_dim': network.z_dim,
    'c_dim': network.num_classes,
    'img_resolution': network.resolution,
    r'.*\.stride': [1, 1],
    r'.*\.dilation': [1, 1],
    r'.*\.padding_mode': 'zeros',
    r'.*\.LinearLayer2\.Layer\.padding': [network.kernel // 2] * 2,
  }
  for i, groups in enumerate(network.groups):
    told[re.escape(_stage(i)) + r'\.\d+\.LinearLayer2\.Layer\.groups'] = groups
  return told


def _entries(network: R3GANOptions) -> Iterator[Entry]:
  """The table."""
  C = network.widths
  if network.num_classes:
    yield Entry('Model.EmbeddingLayer.weight', 'embedding', (network.embed_dim, network.num_classes), 'matrix')
  shape = C[0], network.z_dim + network.embed_dim
  yield Entry(f'{_stage(0)}.0.LinearLayer.weight', 'basis.weight', shape, 'matrix')
  yield Entry(f'{_stage(0)}.0.Basis', 'basis.patterns', (C[0], 4, 4), 'constant')
  place = 0
  for i, blocks in enumerate(network.blocks):
    if i:
      if C[i] != C[i - 1]:
        key = f'{_stage(i)}.0.LinearLayer.Layer.weight'
        yield Entry(key, f'entries.{place}.weight', (C[i], C[i - 1], 1, 1), 'kernel of a pixel')
      place += 1
    M, k = network.inner[i], network.kernel
    for j in range(1, blocks + 1):
      key, target = f'{_stage(i)}.{j}', f'entries.{place}'
      yield Entry(f'{key}.LinearLayer1.Layer.weight', f'{target}.first', (M, C[i], 1, 1), 'kernel of a pixel')
      yield Entry(f'{key}.NonLinearity1.Bias', f'{target}.first_bias', (M,))
      grouped = M, M // network.groups[i], k, k
      yield Entry(f'{key}.LinearLayer2.Layer.weight', f'{target}.middle', grouped, 'kernel')
      yield Entry(f'{key}.NonLinearity2.Bias', f'{target}.middle_bias', (M,))
      yield Entry(f'{key}.LinearLayer3.Layer.weight', f'{target}.last', (C[i], M, 1, 1), 'kernel of a pixel')
      place += 1
  shape = network.image_channels, C[-1], 1, 1
  yield Entry('Model.AggregationLayer.Layer.weight', 'rgb', shape, 'kernel of a pixel')
