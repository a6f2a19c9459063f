"""StyleGAN2 from genforce's .pth, NVlabs' .pkl (stylegan2-ada-pytorch, stylegan3) and rosinality's .pt files.

One network in three layouts. Besides names and extra axes they differ in the orientation of up-sampling kernels
(genforce correlates, the others convolve, and so do we) and in the affine bias (genforce stores it about 0 and adds 1
when it runs).
"""

import re

import numpy as np

from converters import genforce, nvlabs
from converters.assemble import Conversion
from converters.reading import Checkpoint
from converters.stylegan2_tables import Layout, entries, rgb_blocks, sizes
from converters.tables import (
  Entry,
  Table,
  chosen_options,
  common_taps,
  indices,
  parsed_bool,
  parsed_positive,
  shape_of,
  size_of,
)
from panda_jax.errors import InputError
from panda_jax.generators.layers import ACTIVATIONS
from panda_jax.generators.stylegan2 import StyleGAN2Options

FAMILY = 'stylegan2'

GENFORCE = Layout(
  const='synthesis.early_layer.const',
  conv=lambda i: f'synthesis.layer{i}',
  rgb=lambda k: f'synthesis.output{k}',
  noise=lambda i: f'synthesis.layer{i}.noise',
  weight='.weight',
  affine='.style',
  bias='.bias',
  strength='.noise_strength',
  rgb_bias='.bias',
  lead={'const': (1,), 'weight': (), 'noise': (1, 1), 'strength': (), 'rgb_bias': ()},
  up_kernel='kernel turned',
  affine_bias='about one',
)


def _nvlabs_conv(i: int) -> str:
  return f'synthesis.b{4 * 2 ** ((i + 1) // 2)}.conv{(i + 1) % 2}'


NVLABS = Layout(
  const='synthesis.b4.const',
  conv=_nvlabs_conv,
  rgb=lambda k: f'synthesis.b{4 * 2**k}.torgb',
  noise=lambda i: f'{_nvlabs_conv(i)}.noise_const',
  weight='.weight',
  affine='.affine',
  bias='.bias',
  strength='.noise_strength',
  rgb_bias='.bias',
  lead={'const': (), 'weight': (), 'noise': (), 'strength': (), 'rgb_bias': ()},
)

ROSINALITY = Layout(
  const='input.input',
  conv=lambda i: f'convs.{i - 1}' if i else 'conv1',
  rgb=lambda k: f'to_rgbs.{k - 1}' if k else 'to_rgb1',
  noise=lambda i: f'noises.noise_{i}',
  weight='.conv.weight',
  affine='.conv.modulation',
  bias='.activate.bias',
  strength='.noise.weight',
  rgb_bias='.bias',
  lead={'const': (1,), 'weight': (1,), 'noise': (1, 1), 'strength': (1,), 'rgb_bias': (1,)},
  trail=(1, 1),
)


def _is_genforce(checkpoint: Checkpoint) -> bool:
  pattern = re.compile(r'synthesis\.(early_layer\.\w+|layer\d+\.(noise_strength|filter\.kernel))')
  return any(pattern.fullmatch(str(key)) for arrays in genforce.candidates(checkpoint).values() for key in arrays)


def _is_nvlabs(checkpoint: Checkpoint) -> bool:
  pattern = re.compile(r'synthesis\.b\d+\.(const|(conv0|conv1|torgb)\.affine\.weight)')
  return any(pattern.fullmatch(key) for module in nvlabs.candidates(checkpoint).values() for key in module.state_dict)


def _is_rosinality(checkpoint: Checkpoint) -> bool:
  pattern = re.compile(r'(to_rgb1|conv1|convs\.\d+)\.conv\.modulation\.weight')
  return any(pattern.fullmatch(str(key)) for arrays in _rosinality_candidates(checkpoint).values() for key in arrays)


DIALECTS = {'genforce': _is_genforce, 'nvlabs': _is_nvlabs, 'rosinality': _is_rosinality}


def recognise(checkpoint: Checkpoint) -> str | None:
  """The dialect of a StyleGAN2 file, None if it is none."""
  return next((name for name, is_it in DIALECTS.items() if is_it(checkpoint)), None)


def convert(checkpoint: Checkpoint, weights: str = 'ema', options: dict[str, str] | None = None) -> Conversion:
  """The arrays and options of a StyleGAN2.

  Args:
    checkpoint: of a known dialect.
    weights: 'ema', the averaged ones if there are any, or 'raw'.
    options: the user's --option values. genforce: final_tanh, demodulate (true or false), mapping_lr_mul; rosinality:
      mapping_lr_mul.

  Raises:
    InputError: an unknown option; weights that the file has not got.
  """
  dialect = recognise(checkpoint)
  return {'genforce': _genforce, 'nvlabs': _nvlabs, 'rosinality': _rosinality}[dialect](
    checkpoint, weights, options or {}
  )


def _genforce(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  arrays, notes = genforce.chosen(checkpoint, weights)
  known = {'final_tanh': parsed_bool, 'demodulate': parsed_bool, 'mapping_lr_mul': parsed_positive}
  choices = {'final_tanh': False, 'demodulate': True, 'mapping_lr_mul': 0.01} | chosen_options(given, known)
  table = Table(arrays)
  table.notes += [*notes, *(f'{name}={value}: not in the file' for name, value in choices.items())]
  outputs = indices(arrays, r'synthesis\.output(\d+)\..*')
  rows = _rows(max(indices(arrays, r'synthesis\.layer(\d+)\..*'), default=-1), max(outputs, default=-1))
  if rows is None:
    table.problems.append('synthesis.layer0.weight: missing')
    return table.conversion(FAMILY, 'genforce', None)
  if 'synthesis.early_layer.weight' in arrays:
    table.problems.append('synthesis.early_layer.weight: a network that starts from w has no counterpart here')
    return table.conversion(FAMILY, 'genforce', None)
  plain = outputs == [rows // 2 - 1] and 'synthesis.upsample.kernel' not in arrays
  architecture = 'orig' if plain else 'skip'
  found, unknown = sizes(arrays, GENFORCE, rows, rgb_blocks(architecture, rows))
  mapping = genforce.mapping_sizes(arrays, table.problems)
  filters = [f'synthesis.layer{i}.filter.kernel' for i in range(1, rows - 1, 2)]
  filters += [] if plain else ['synthesis.upsample.kernel']
  taps = common_taps(table, arrays, filters, gain=4, turned=True)
  if unknown or not mapping or taps is None:
    table.problems += unknown
    return table.conversion(FAMILY, 'genforce', None)
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
  if not _fits(table, options):
    return table.conversion(FAMILY, 'genforce', None)
  table.take(genforce.mapping_entries(options))
  genforce.take_mean(table, options)
  table.take(entries(options, GENFORCE))
  return table.conversion(FAMILY, 'genforce', options)


def _nvlabs(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  chosen_options(given, {})
  module, notes = nvlabs.chosen(checkpoint, weights)
  arrays, told = module.state_dict, nvlabs.Hyperparameters(module)
  table = Table(arrays)
  table.notes += notes
  block_sizes = indices(arrays, r'synthesis\.b(\d+)\..*')
  resolution = max(block_sizes, default=0)
  if resolution < 8 or resolution & (resolution - 1) or resolution > 1 << 14:
    table.problems.append(f'synthesis.b*: blocks of sizes {", ".join(map(str, block_sizes))} make no generator')
    return table.conversion(FAMILY, 'nvlabs', None)
  rows = 2 * (resolution.bit_length() - 1) - 2
  blocks = [4 * 2**k for k in range(rows // 2)]
  rgbs = indices(arrays, r'synthesis\.b(\d+)\.torgb\..*')
  if indices(arrays, r'synthesis\.b(\d+)\.(?:skip)\.weight'):
    architecture = 'resnet'
  else:
    architecture = 'skip' if any(size < resolution for size in rgbs) else 'orig'
  stated = told.value([f'synthesis.b{size}.architecture' for size in blocks], told.synthesis, 'architecture', 'skip')
  if stated != architecture:
    table.problems.append(f'architecture={stated}: the keys are those of {architecture}')
  found, unknown = sizes(arrays, NVLABS, rows, rgb_blocks(architecture, rows))
  filters = [f'synthesis.b{size}.conv0.resample_filter' for size in blocks[1:]]
  if architecture == 'skip':
    filters += [f'synthesis.b{size}.resample_filter' for size in blocks[1:]]
  elif architecture == 'resnet':
    filters += [f'synthesis.b{size}.skip.resample_filter' for size in blocks[1:]]
  taps = common_taps(table, arrays, filters, gain=1)
  for size in blocks:
    for name in (f'b{size}.resample_filter', f'b{size}.conv1.resample_filter'):
      if f'synthesis.{name}' not in table.unused:
        table.leave(f'synthesis.{name}', 'no layer applies it')
  mapping = _nvlabs_mapping(arrays, told, rows, table.problems)
  if unknown or not mapping or taps is None:
    table.problems += unknown
    return table.conversion(FAMILY, 'nvlabs', None)
  convs = [_nvlabs_conv(i) for i in range(rows - 1)]
  heads = [f'synthesis.b{size}.torgb' for size in blocks]
  clamp = told.value(
    [f'{name}.conv_clamp' for name in convs + heads], told.synthesis, 'conv_clamp', None if told.nested else 256
  )
  activation = told.value([f'{name}.activation' for name in convs], told.synthesis, 'activation', 'lrelu')
  told.compare(
    z_dim=mapping['z_dim'],
    c_dim=mapping['num_classes'],
    w_dim=found['w_dim'],
    img_resolution=resolution,
    img_channels=found['image_channels'],
  )
  _check_numbers(told, clamp, activation, mapping)
  table.problems += told.problems
  if told.problems:
    return table.conversion(FAMILY, 'nvlabs', None)
  options = StyleGAN2Options(
    resolution=resolution,
    architecture=architecture,
    resample_filter=taps,
    activation=activation,
    clamp=None if clamp is None else float(clamp),
    demodulate=True,
    scaled_epsilon=False,
    final_tanh=False,
    **found,
    **mapping,
  )
  if not _fits(table, options):
    return table.conversion(FAMILY, 'nvlabs', None)
  table.take(_nvlabs_mapping_entries(options))
  table.take(entries(options, NVLABS))
  if architecture == 'resnet':
    for k, size in enumerate(blocks[1:]):
      shape = (options.widths[2 * k + 3], options.widths[2 * k + 1], 1, 1)
      table.take([Entry(f'synthesis.b{size}.skip.weight', f'skips.{k}', shape, 'kernel')])
  return table.conversion(FAMILY, 'nvlabs', options)


def _check_numbers(told: nvlabs.Hyperparameters, clamp, activation, mapping: dict) -> None:
  if clamp is not None and (isinstance(clamp, bool) or not isinstance(clamp, int | float) or not 0 < clamp < 1e30):
    told.problems.append(f'conv_clamp={clamp}: not a positive number')
  for value in (activation, mapping['mapping_activation']):
    if not isinstance(value, str) or value not in ACTIVATIONS:
      told.problems.append(f'activation={value}: not one of {", ".join(ACTIVATIONS)}')
  lr = mapping['mapping_lr_multiplier']
  if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 < lr < 1e30:
    told.problems.append(f'lr_multiplier={lr}: not a positive number')


def _nvlabs_mapping(arrays: dict, told: nvlabs.Hyperparameters, rows: int, problems: list[str]) -> dict:
  """Sizes and options of the mapping network; empty if they cannot be told."""
  count = max(indices(arrays, r'mapping\.fc(\d+)\..*'), default=-1) + 1
  places = [[(f'mapping.fc{i}.weight', 2, 0), (f'mapping.fc{i}.bias', 1, 0)] for i in range(count)]
  places = [[*p, (f'mapping.fc{i + 1}.weight', 2, 1)] for i, p in enumerate(places)]
  widths = tuple(size_of(arrays, *p) for p in places)
  classes = size_of(arrays, ('mapping.embed.weight', 2, 1)) or 0
  embed = size_of(arrays, ('mapping.embed.bias', 1, 0), ('mapping.embed.weight', 2, 0)) or 0
  # Without layers, w is the normalised z itself.
  inputs = size_of(arrays, ('mapping.fc0.weight', 2, 1)) if count else told.arguments.get('z_dim')
  if None in widths or not isinstance(inputs, int) or bool(classes) != bool(embed):
    problems.append('mapping: its sizes cannot be told')
    return {}
  inputs = inputs if count else inputs + embed
  layers = [f'mapping.fc{i}' for i in range(count)]
  tracked = told.value(['mapping.w_avg_beta'], told.mapping, 'w_avg_beta', 0.995)
  return {
    'z_dim': inputs - embed,
    'mapping_widths': widths,
    'num_classes': classes,
    'embed_dim': embed,
    'label_input': 'separate' if classes else 'none',
    'mapping_lr_multiplier': told.value([f'{name}.bias_gain' for name in layers], told.mapping, 'lr_multiplier', 0.01),
    'mapping_activation': told.value([f'{name}.activation' for name in layers], told.mapping, 'activation', 'lrelu'),
    'mean_w': tracked is not None or 'mapping.w_avg' in arrays,
  }


def _nvlabs_mapping_entries(options: StyleGAN2Options):
  if options.num_classes:
    shape = (options.embed_dim, options.num_classes)
    yield Entry('mapping.embed.weight', 'mapping_network.embed.weight', shape, 'matrix')
    yield Entry('mapping.embed.bias', 'mapping_network.embed.bias', (options.embed_dim,))
  inputs = options.z_dim + options.embed_dim
  for i, width in enumerate(options.mapping_widths):
    yield Entry(f'mapping.fc{i}.weight', f'mapping_network.layers.{i}.weight', (width, inputs), 'matrix')
    yield Entry(f'mapping.fc{i}.bias', f'mapping_network.layers.{i}.bias', (width,))
    inputs = width
  if options.mean_w:
    yield Entry('mapping.w_avg', 'w_avg', (options.w_dim,))


def _rosinality_candidates(checkpoint: Checkpoint) -> dict[str, dict]:
  tree = checkpoint.tree
  if not isinstance(tree, dict):
    return {}
  found = {name: tree[name] for name in ('g_ema', 'g') if isinstance(tree.get(name), dict)}
  return found or {'': tree}


def _rosinality(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  found = _rosinality_candidates(checkpoint)
  choices = {'mapping_lr_mul': 0.01} | chosen_options(given, {'mapping_lr_mul': parsed_positive})
  if '' in found:
    name, note = '', 'the file holds one state dict, averaged or not it does not say'
  else:
    name = 'g' if weights == 'raw' or 'g_ema' not in found else 'g_ema'
    note = f'weights of {name}' + (': the file has no averaged ones' if weights == 'ema' and name == 'g' else '')
  if name not in found:
    raise InputError('--weights', weights, f'the file has no {name}', 'leave the flag out')
  arrays = dict(found[name])
  mean = checkpoint.tree.get('latent_avg')
  if isinstance(mean, np.ndarray):
    arrays['latent_avg'] = mean
  table = Table(arrays)
  table.notes += [note, f'mapping_lr_mul={choices["mapping_lr_mul"]}: not in the file']
  convs = max(indices(arrays, r'convs\.(\d+)\..*'), default=-1)
  rows = _rows(convs + 1, max(indices(arrays, r'to_rgbs\.(\d+)\..*'), default=-1) + 1)
  if rows is None:
    table.problems.append('convs.0.conv.weight: missing')
    return table.conversion(FAMILY, 'rosinality', None)
  sized, unknown = sizes(arrays, ROSINALITY, rows, rgb_blocks('skip', rows))
  layers = max(indices(arrays, r'style\.(\d+)\..*'), default=0)
  widths = tuple(
    size_of(arrays, (f'style.{i}.weight', 2, 0), (f'style.{i}.bias', 1, 0), (f'style.{i + 1}.weight', 2, 1))
    for i in range(1, layers + 1)
  )
  inputs = shape_of(arrays, 'style.1.weight', 2)
  filters = [f'convs.{i}.conv.blur.kernel' for i in range(0, rows - 2, 2)]
  filters += [f'to_rgbs.{k}.upsample.kernel' for k in range(rows // 2 - 1)]
  taps = common_taps(table, arrays, filters, gain=4)
  if unknown or None in widths or taps is None or (layers and inputs is None):
    table.problems += unknown or ['style.1.weight: missing'] * (inputs is None)
    return table.conversion(FAMILY, 'rosinality', None)
  if 'latent_avg' not in arrays:
    table.notes.append('latent_avg: not in the file, so no truncation other than 1 is possible')
  options = StyleGAN2Options(
    resolution=2 ** (rows // 2 + 1),
    z_dim=inputs[1] if inputs else sized['w_dim'],
    mapping_widths=widths,
    mapping_lr_multiplier=choices['mapping_lr_mul'],
    mapping_activation='lrelu',
    num_classes=0,
    embed_dim=0,
    label_input='none',
    mean_w='latent_avg' in arrays,
    architecture='skip',
    resample_filter=taps,
    activation='lrelu',
    clamp=None,
    demodulate=True,
    scaled_epsilon=True,
    final_tanh=False,
    **sized,
  )
  if not _fits(table, options):
    return table.conversion(FAMILY, 'rosinality', None)
  width = options.z_dim
  for i, out in enumerate(widths):
    table.take(
      [
        Entry(f'style.{i + 1}.weight', f'mapping_network.layers.{i}.weight', (out, width), 'matrix'),
        Entry(f'style.{i + 1}.bias', f'mapping_network.layers.{i}.bias', (out,)),
      ]
    )
    width = out
  if options.mean_w:
    # Some files keep it with a leading axis, as the mean of a batch.
    shape = (1, options.w_dim) if arrays['latent_avg'].ndim == 2 else (options.w_dim,)
    table.take([Entry('latent_avg', 'w_avg', shape, 'row')])
  table.take(entries(options, ROSINALITY))
  return table.conversion(FAMILY, 'rosinality', options)


def _rows(last_conv: int, last_rgb: int) -> int | None:
  """Rows of w+ from the highest numbers of a convolution and of a ToRGB; None if there is no network of that size."""
  blocks = max((last_conv + 1) // 2, last_rgb) + 1
  return 2 * blocks if 2 <= blocks <= 13 else None


def _fits(table: Table, options: StyleGAN2Options) -> bool:
  try:
    options.check()
  except InputError as error:
    table.problems.append(str(error))
    return False
  return True
