"""BigGAN from the state dicts of ajbrock's BigGAN-PyTorch, hierarchical or not, with or without a shared embedding."""

import numpy as np

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects.base import Dialect
from panda_jax.converters.dialects.biggan_tables import Layout, has, made_options, sizes, take
from panda_jax.converters.dialects.spectral import folded_half_step
from panda_jax.converters.networks import chosen, networks
from panda_jax.converters.tables import Table, chosen_options, parsed_positive

NAME = 'ajbrock'
# Discriminators have convolutions of these names too, but not such batch norms.
SIGNATURE = r'blocks\.\d+\.\d+\.bn\d\.(gain|bias|bn|stored_mean|stored_var)(\..+)?'
OWN = r'blocks\.\d+\.\d+\.conv(\d|_sc)\.(weight|bias)'
LAYOUT = Layout(
  linear='linear',
  last_norm='output_layer.0',
  last_conv='output_layer.2',
  norms=('bn1', 'bn2'),
  convs=('conv1', 'conv2'),
  short='conv_sc',
  attention={'theta': 'theta', 'phi': 'phi', 'g': 'g', 'out': 'o'},
  gamma=('gamma', ()),
  statistics=('stored_mean', 'stored_var'),
  last_statistics=('stored_mean', 'stored_var'),
  last_scale='gain',
  weight='.weight',
  fold=folded_half_step,
)
LAST_EPS = 1e-5  # of the last batch norm, whatever the others have
COUNTER = 'accumulation_counter'


def recognise(checkpoint: Checkpoint) -> bool:
  """Whether it is a BigGAN of this layout."""
  return any(has(network.arrays, OWN) for network in networks(checkpoint.tree, SIGNATURE))


def convert(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  """See base.Dialects.convert."""
  choices = {'bn_eps': 1e-5} | chosen_options(given, DIALECT.options)
  held, notes = chosen(checkpoint, SIGNATURE, weights, 'G_ema', 'G')
  arrays = held.arrays
  table = Table(arrays)
  table.notes += [*notes, f'bn_eps={choices["bn_eps"]}: not in the file']
  own = has(arrays, rf'.*\.bn\.(stored_mean|{COUNTER})') is not None
  _refuse_variants(table, arrays)
  # Embeddings in each norm have no spectral norm; nor has any array of a network that was built without them.
  normed = has(arrays, r'.*\.u0') is not None
  shared = 'shared.weight' in arrays
  found = None if table.problems else sizes(table, arrays, LAYOUT, normed, looked_up=not shared)
  if found is None:
    return table.conversion('biggan', NAME, None)
  blocks, embedded = len(found.widths), found.embedded
  split = shared and found.condition != embedded
  if split and found.condition != embedded + found.linear:
    table.problems.append(
      f'shared.weight: an embedding of {embedded} and a piece of z of {found.linear} make no condition of '
      f'{found.condition}'
    )
  options = made_options(
    table,
    found,
    up=[True] * blocks,
    z_dim=found.linear * (blocks + 1) if split else found.linear,
    num_classes=found.classes,
    eps=choices['bn_eps'],
    last_eps=LAST_EPS,
    block='plain',
    conditioning='split' if split else 'class',
    embedding_dim=embedded,
  )
  if table.problems or options is None:
    return table.conversion('biggan', NAME, None)
  layout = LAYOUT
  if own:
    inner = f'bn.{LAYOUT.statistics[0]}', f'bn.{LAYOUT.statistics[1]}'
    layout = LAYOUT._replace(statistics=inner, last_statistics=inner)
  take(table, layout, options, found, normed)
  for key in arrays:
    ending = key.rpartition('.')[2]
    if ending[:2] == 'sv' and ending[2:].isdigit():
      table.leave(key, 'a record of the spectral norm, which nothing uses')
    elif ending[:1] == 'u' and ending[1:].isdigit() and ending != 'u0':
      table.leave(key, 'a vector of a lesser singular value, by which nothing is divided')
    elif ending == COUNTER:
      table.leave(key, 'it is 0: the statistics are running means')
  return table.conversion('biggan', NAME, options)


DIALECT = Dialect(
  recognise,
  convert,
  'G_ema.pth of BigGAN-PyTorch',
  'its code: a random network of 64 pixels, hierarchical; other variants: plain numpy',
  {'bn_eps': parsed_positive},
)


def _refuse_variants(table: Table, arrays: dict) -> None:
  """Records what makes the network different from ours."""
  deep = has(arrays, r'blocks\.\d+\.\d+\.(conv|bn)[34]\..*')
  if deep:
    table.problems.append(f'{deep}: the BigGAN-deep of this code (BigGANdeep.py) is not supported')
  synchronised = has(arrays, r'.*\.bn\.running_(mean|var)')
  if synchronised:
    # With one device or in evaluation they add the factor with which they multiply in training on several devices.
    problem = 'batch norms of --cross_replica are not supported, as their code does not evaluate what it trained'
    table.problems.append(f'{synchronised}: {problem}')
  bare = has(arrays, r'blocks\.\d+\.\d+\.bn1\.gain\.weight')
  if bare and not synchronised and not has(arrays, r'blocks\.\d+\.\d+\.bn1\.(bn\.)?stored_mean'):
    table.problems.append(f'{bare}: there are no stored statistics beside it, as with norm styles other than bn')
  for key in arrays:
    counter = arrays[key]
    if key.endswith(COUNTER) and isinstance(counter, np.ndarray) and np.any(counter != 0):
      count = ', '.join(f'{value:g}' for value in np.ravel(counter)[:3])
      table.problems.append(f'{key}: {count}, so the statistics beside it are sums that were not divided')
