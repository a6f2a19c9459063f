"""BigGAN from PyTorch-StudioGAN: the backbones big_resnet, big_resnet_deep_legacy and big_resnet_deep_studiogan."""

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects.base import Dialect
from panda_jax.converters.dialects.biggan_tables import Layout, has, made_options, sizes, take
from panda_jax.converters.dialects.spectral import folded
from panda_jax.converters.networks import chosen, networks
from panda_jax.converters.tables import Table, chosen_options

NAME = 'studiogan'
SIGNATURE = r'blocks\.\d+\.\d+\.bn\d\..+'
OWN = r'blocks\.\d+\.\d+\.(conv2d|deconv)\d\.(weight|bias)(_orig)?'
PLAIN = Layout(
  linear='linear0',
  last_norm='bn4',
  last_conv='conv2d5',
  norms=('bn1', 'bn2'),
  convs=('conv2d1', 'conv2d2'),
  short='conv2d0',
  attention={'theta': 'conv1x1_theta', 'phi': 'conv1x1_phi', 'g': 'conv1x1_g', 'out': 'conv1x1_attn'},
  gamma=('sigma', (1,)),
  statistics=('bn.running_mean', 'bn.running_var'),
  last_statistics=('running_mean', 'running_var'),
  last_scale='weight',
  weight='.weight_orig',
  fold=folded,
)
DEEP = PLAIN._replace(norms=('bn1', 'bn2', 'bn3', 'bn4'), convs=('conv2d1', 'conv2d2', 'conv2d3', 'conv2d4'))
EPS = 1e-4  # of all batch norms in this code
DEPTH = 2  # blocks of the deep networks per doubling of the grid


def recognise(checkpoint: Checkpoint) -> bool:
  """Whether it is a generator of this code, including other backbones."""
  return any(has(network.arrays, OWN) for network in networks(checkpoint.tree, SIGNATURE))


def convert(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  """See base.Dialects.convert."""
  chosen_options(given, DIALECT.options)
  held, notes = chosen(checkpoint, SIGNATURE, weights, 'G_ema', 'G')
  arrays = held.arrays
  table = Table(arrays)
  table.notes += [*notes, f'eps={EPS}: not in the file, that of the code']
  _refuse_variants(table, arrays)
  normed = has(arrays, r'.*\.weight_orig') is not None
  deep = has(arrays, r'blocks\.\d+\.\d+\.bn[34]\..*') is not None
  layout = DEEP if deep else PLAIN
  found = None if table.problems else sizes(table, arrays, layout, normed)
  if found is None:
    return table.conversion('biggan', NAME, None)
  blocks, embedded = len(found.widths), found.embedded
  expected = found.linear if deep else embedded + found.linear
  if found.condition != expected:
    problem = f'blocks see a condition of {found.condition} numbers where big_resnet makes {expected}'
    table.problems.append(f'linear0: {problem}; backbones such as resnet are not supported')
  if deep and found.linear <= embedded:
    table.problems.append(f'linear0: its {found.linear} inputs leave nothing for z beside an embedding of {embedded}')
  if deep and blocks % DEPTH:
    table.problems.append(f'blocks: {blocks} of them, where the deep backbone has {DEPTH} for each size')
  if deep and any(inputs != outputs for inputs, outputs in found.widths[::DEPTH]):
    table.problems.append(f'blocks: the first of {DEPTH} changes the width, as in networks of another depth')
  if table.problems:
    return table.conversion('biggan', NAME, None)
  convolved = has(arrays, r'blocks\.\d+\.\d+\.conv2d0\..*') is not None
  options = made_options(
    table,
    found,
    up=[not deep or b % DEPTH == DEPTH - 1 for b in range(blocks)],
    z_dim=found.linear - embedded if deep else found.linear * (blocks + 1),
    num_classes=found.classes,
    eps=EPS,
    block=('deep_convolved' if convolved else 'deep') if deep else 'plain',
    conditioning='joint' if deep else 'split',
    embedding_dim=embedded,
  )
  if options is None:
    return table.conversion('biggan', NAME, None)
  if not embedded:
    table.notes.append('shared.weight: not in the file, so the network is taken for an unconditional one')
  take(table, layout, options, found, normed)
  for key in arrays:
    if key.endswith('.num_batches_tracked'):
      table.leave(key, 'a count of training steps')
  return table.conversion('biggan', NAME, options)


DIALECT = Dialect(
  recognise,
  convert,
  'model=G_ema-….pth of PyTorch-StudioGAN: big_resnet, big_resnet_deep_legacy, big_resnet_deep_studiogan',
  'its code: random networks of 64 pixels, big_resnet and deep_legacy; the others: plain numpy',
)


def _refuse_variants(table: Table, arrays: dict) -> None:
  """Records what makes the network different from ours."""
  for pattern, what in (
    (r'info_(mix|proj)_linear.*', 'networks with the codes of InfoGAN are'),
    (r'blocks\.\d+\.\d+\.deconv\d\..*', 'the backbone deep_conv is'),
    (
      r'blocks\.\d+\.\d+\.bn\d\.(weight|running_mean)',
      'batch norms without a condition, as of the backbone resnet, are',
    ),
  ):
    key = has(arrays, pattern)
    if key:
      table.problems.append(f'{key}: {what} not supported')
