"""BigGAN: the deep one in HuggingFace's layout, and those of BigGAN-PyTorch and PyTorch-StudioGAN.

The spectral norms are folded (spectral.py); HuggingFace's are those of torch.nn.utils.
"""

import reprlib

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects import biggan_ajbrock, biggan_studiogan
from panda_jax.converters.dialects.base import Dialect, Dialects
from panda_jax.converters.dialects.spectral import take_folded
from panda_jax.converters.networks import chosen, networks
from panda_jax.converters.tables import Entry, Table, chosen_options, fits, indices, number
from panda_jax.errors import InputError
from panda_jax.generators.biggan import BigGANOptions

FIRST_WIDTH = 16  # channels of the first block, in units of channel_width: fixed in the published code
IMAGE_CHANNELS = 3
SIGNATURE = r'generator\.(gen_z\.\w+|layers\.\d+\.(bn_\d|conv_\d|snconv1x1_\w+)\..+)'

# The published code's values for entries that a config.json does not have.
DEFAULTS = {'z_dim': 128, 'channel_width': 128, 'num_classes': 1000, 'attention_layer_position': 8, 'n_stats': 51}
DEFAULTS |= {'eps': 1e-4}
LEAST = {'num_classes': 1, 'n_stats': 2}  # a network with fewer comes from other code


def _huggingface(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  chosen_options(given, DIALECTS['huggingface'].options)
  if weights != 'ema':
    raise InputError('--weights', weights, 'the file has one set of weights, the averaged ones', 'leave --weights out')
  if checkpoint.config is None:
    raise InputError(
      'source',
      checkpoint.path,
      'there is no config.json beside it, without which a BigGAN cannot be rebuilt',
      'put the config.json of the same model into the same folder',
    )
  held, more = chosen(checkpoint, SIGNATURE, weights, 'G_ema', 'G')
  network, problems, notes = _options(checkpoint.config, held.arrays)
  if network is None:
    return Conversion('biggan', 'huggingface', None, {}, {}, problems=problems, notes=notes)
  table = Table(held.arrays)
  table.notes += [*more, *notes] if held.name else notes
  plain, normed = _entries(network)
  table.take(plain)
  for entry in normed:
    take_folded(table, entry)
  kept = network.image_channels
  for target in ('conv_to_rgb.weight', 'conv_to_rgb.bias'):
    if target in table.tensors:
      table.tensors[target] = table.tensors[target][..., :kept]
  if network.channel_width > kept:
    table.notes.append(f'generator.conv_to_rgb: of its {network.channel_width} channels only {kept} reach the image')
  return table.conversion('biggan', 'huggingface', network)


DIALECTS = Dialects(
  {
    'huggingface': Dialect(
      lambda checkpoint: networks(checkpoint.tree, SIGNATURE),
      _huggingface,
      'folder with pytorch_model.bin or model.safetensors, and config.json',
      'its code: a random network of 128 pixels',
    ),
    'ajbrock': biggan_ajbrock.DIALECT,
    'studiogan': biggan_studiogan.DIALECT,
  }
)
recognise, convert = DIALECTS.recognise, DIALECTS.convert
EXPORTS: dict = {}  # the published codes divide by spectral norms, which are no longer in the weights


def _options(config: dict, tree: dict) -> tuple[BigGANOptions | None, list[str], list[str]]:
  problems, notes, values = [], [], {}
  stored = indices(tree, r'generator\.layers\.(\d+)\..*')
  for name, default in DEFAULTS.items():
    try:
      values[name] = number(config.get(name, default), whole=name != 'eps')
      if values[name] < LEAST.get(name, values[name]):
        raise ValueError
    except ValueError:
      problems.append(f'config.json: {name} is {reprlib.repr(config[name])}')
      continue
    if name not in config:
      notes.append(f'config.json does not tell {name}: {default}, as in the published code')
  blocks = config.get('layers')
  if blocks is None:
    problems.append('config.json: layers is missing, which tells where the blocks double their size')
  elif not isinstance(blocks, list) or not blocks or not all(_is_block(block) for block in blocks):
    problems.append('config.json: layers is not a list of [up, in, out]')
  elif len(blocks) > len(stored):
    problems.append(f'config.json: layers has {len(blocks)} blocks, but the file has {len(stored)} entries of arrays')
  if problems:
    return None, problems, notes
  blocks = tuple((bool(up), int(inputs), int(outputs)) for up, inputs, outputs in blocks)
  network = BigGANOptions(
    z_dim=values['z_dim'],
    num_classes=values['num_classes'],
    channel_width=values['channel_width'],
    blocks=blocks,
    attention_position=values['attention_layer_position'],
    n_stats=values['n_stats'],
    eps=values['eps'],
    image_channels=max(1, min(IMAGE_CHANNELS, values['channel_width'])),
  )
  if not fits(network, problems):
    return None, [f'config.json: {problem}' for problem in problems], notes
  if (blocks[0][1], blocks[-1][2]) != (FIRST_WIDTH, 1):
    problems.append(f'config.json: layers must lead from the width {FIRST_WIDTH} to 1')
    return None, problems, notes
  size = network.resolution
  if config.get('output_dim', size) != size:
    told = reprlib.repr(config['output_dim'])
    notes.append(f'config.json tells an output_dim of {told}, but its layers make {size} pixels')
  return network, problems, notes


def _is_block(block: object) -> bool:
  return (
    isinstance(block, list)
    and len(block) == 3
    and block[0] in (True, False)
    and all(isinstance(width, int) and not isinstance(width, bool) and width > 0 for width in block[1:])
  )


def _entries(network: BigGANOptions) -> tuple[list[Entry], list[Entry]]:
  """The table: stored arrays, and weights under a spectral norm, whose keys here lack `_orig`, `_u` and `_v`."""
  plain, normed = [], []
  ch, condition, T = network.channel_width, 2 * network.z_dim, network.n_stats

  def convolution(key, target, size, inputs, outputs):
    normed.append(Entry(f'{key}.weight', f'{target}.weight', (outputs, inputs, size, size), 'kernel'))
    plain.append(Entry(f'{key}.bias', f'{target}.bias', (outputs,)))

  def statistics(key, target, channels):
    plain.append(Entry(f'{key}.running_means', f'{target}.means', (T, channels)))
    plain.append(Entry(f'{key}.running_vars', f'{target}.variances', (T, channels)))

  def batch_norm(key, target, channels):
    statistics(key, target, channels)
    for name in ('scale', 'offset'):
      normed.append(Entry(f'{key}.{name}.weight', f'{target}.{name}', (channels, condition), 'matrix'))

  first = 16 * ch * network.blocks[0][1]
  plain.append(Entry('embeddings.weight', 'embedding', (network.z_dim, network.num_classes), 'matrix'))
  normed.append(Entry('generator.gen_z.weight', 'gen_z', (first, condition), 'matrix'))
  plain.append(Entry('generator.gen_z.bias', 'gen_z_bias', (first,)))
  for i, part in enumerate(network.parts()):
    key, target, C = f'generator.layers.{i}', f'entries.{i}', part.inputs
    if part.block is None:
      for name, outputs, inputs in (
        ('theta', C // 8, C),
        ('phi', C // 8, C),
        ('g', C // 2, C),
        ('o_conv', C, C // 2),
      ):
        shape = (outputs, inputs, 1, 1)
        ours = 'out' if name == 'o_conv' else name
        normed.append(Entry(f'{key}.snconv1x1_{name}.weight', f'{target}.{ours}', shape, 'kernel of a pixel'))
      plain.append(Entry(f'{key}.gamma', f'{target}.gamma', (1,), 'scalar'))
      continue
    widths = (C, C // 4, C // 4, C // 4, part.outputs)
    for j, size in enumerate((1, 3, 3, 1)):
      batch_norm(f'{key}.bn_{j}', f'{target}.bn_{j}', widths[j])
      convolution(f'{key}.conv_{j}', f'{target}.conv_{j}', size, widths[j], widths[j + 1])
  statistics('generator.bn', 'bn', ch)
  plain.append(Entry('generator.bn.weight', 'bn.scale', (ch,)))
  plain.append(Entry('generator.bn.bias', 'bn.offset', (ch,)))
  convolution('generator.conv_to_rgb', 'conv_to_rgb', 3, ch, ch)
  return plain, normed
