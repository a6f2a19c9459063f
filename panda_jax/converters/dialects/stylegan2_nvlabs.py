"""StyleGAN2 of NVlabs' stylegan2-ada-pytorch and stylegan3: modules, and state dicts that users saved of them.

A module contains its options. A state dict does not: there they come from the user, else from the training script.
"""

import math
from collections.abc import Iterable

import numpy as np

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint, Module
from panda_jax.converters.dialects.base import Dialect
from panda_jax.converters.dialects.snapshots import contradictions, dense_attributes
from panda_jax.converters.dialects.stylegan2_tables import Layout, entries, rgb_blocks, sizes
from panda_jax.converters.foreign import Exported, channel_rule, check_needs, unlike, widths_by_size
from panda_jax.converters.limits import listed, shown
from panda_jax.converters.networks import chosen, networks
from panda_jax.converters.tables import (
  Entry,
  Table,
  backwards,
  chosen_options,
  common_taps,
  filter_kernel,
  fits,
  indices,
  parsed_activation,
  parsed_bound,
  parsed_positive,
  size_of,
)
from panda_jax.generators.bounds import LARGEST_RESOLUTION
from panda_jax.generators.layers import ACTIVATIONS
from panda_jax.generators.stylegan2 import StyleGAN2Options

SIGNATURE = r'synthesis\.b\d+\.(const|(conv0|conv1|torgb)\.affine\.weight)'
CLASSES = (
  r'Generator|MappingNetwork|SynthesisNetwork|SynthesisBlock|SynthesisLayer|ToRGBLayer|FullyConnectedLayer|Conv2dLayer'
)
MISSING = object()
IDLE_TAPS = (0.125, 0.375, 0.375, 0.125)  # of filters that no layer applies: the default of the class
FLAT = ('channel_base', 'channel_max', 'num_fp16_res', 'conv_clamp', 'architecture', 'fused_modconv_default')


def _conv(i: int) -> str:
  return f'synthesis.b{4 * 2 ** ((i + 1) // 2)}.conv{(i + 1) % 2}'


LAYOUT = Layout(
  const='synthesis.b4.const',
  conv=_conv,
  rgb=lambda k: f'synthesis.b{4 * 2**k}.torgb',
  noise=lambda i: f'{_conv(i)}.noise_const',
  weight='.weight',
  affine='.affine.',
  bias='.bias',
  strength='.noise_strength',
  rgb_bias='.bias',
  lead={'const': (), 'weight': (), 'noise': (), 'strength': (), 'rgb_bias': ()},
)


# Options that a state dict does not contain: the parser of the user's value, and the value of NVlabs' training scripts.
STATED = {
  'conv_clamp': (parsed_bound, 256.0),
  'activation': (parsed_activation, 'lrelu'),
  'mapping_activation': (parsed_activation, 'lrelu'),
  'mapping_lr_mul': (parsed_positive, 0.01),
}


class Hyperparameters:
  """The options of a module: from its attributes, else from its constructor's arguments.

  Attributes:
    problems: contradictions.
  """

  def __init__(self, module: Module):
    self._module = module
    self.problems: list[str] = []
    self.arguments = dict(module.init_kwargs)
    names = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels')
    self.arguments.update(zip(names, module.init_args, strict=False))
    # stylegan2-ada-pytorch groups the arguments of the synthesis network; stylegan3's StyleGAN2 does not.
    nested = self.arguments.get('synthesis_kwargs')
    self.synthesis = nested if isinstance(nested, dict) else self.arguments
    self.flat = not isinstance(nested, dict) and any(name in self.arguments for name in FLAT)
    mapping = self.arguments.get('mapping_kwargs')
    self.mapping = mapping if isinstance(mapping, dict) else {}

  def attribute(self, names: Iterable[str]) -> object:
    """The value that all of these attributes have; MISSING if none of them exist. Differences are problems."""
    found = {name: self._module.attributes[name] for name in names if name in self._module.attributes}
    if not found:
      return MISSING
    first, value = next(iter(found.items()))
    odd = {name: other for name, other in found.items() if other != value}
    self.problems += [f'{name}={shown(other)}: {first} is {shown(value)}' for name, other in odd.items()]
    return value

  def value(self, attributes: Iterable[str], arguments: dict, name: str, default: object) -> object:
    """An option from attributes, else from arguments, else the default of the class."""
    value = self.attribute(attributes)
    given = arguments.get(name, MISSING)
    if value is MISSING:
      return default if given is MISSING else given
    if given is not MISSING and given != value:
      self.problems.append(f'{name}={shown(given)} in the arguments of the constructor: its layers have {shown(value)}')
    return value

  def compare(self, arguments: dict, **told: object) -> None:
    """Records each of the constructor's arguments that contradicts the tensors."""
    for name, value in told.items():
      given = arguments.get(name, MISSING)
      if given is not MISSING and given != value:
        self.problems.append(f'{name}={shown(given)} in the arguments of the constructor: its tensors make it {value}')


def recognise(checkpoint: Checkpoint) -> bool:
  """Whether it is a StyleGAN2 of this layout."""
  return bool(networks(checkpoint.tree, SIGNATURE))


def convert(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  """See base.Dialects.convert."""
  network, notes = chosen(checkpoint, SIGNATURE, weights, 'G_ema', 'G', CLASSES)
  stated = chosen_options(given, DIALECT.options if network.bare else {})
  arrays = network.arrays
  table = Table(arrays)
  table.notes += notes
  if network.bare:
    choices = {name: default for name, (_, default) in STATED.items()} | stated
    table.notes += [f'{name}={value}: not in the file' for name, value in choices.items()]
    told = Hyperparameters(_as_module(arrays, choices))
  else:
    told = Hyperparameters(network.module)
  block_sizes = indices(arrays, r'synthesis\.b(\d+)\..*')
  resolution = max(block_sizes, default=0)
  if resolution < 8 or resolution & (resolution - 1) or resolution > LARGEST_RESOLUTION:
    table.problems.append(f'synthesis.b*: blocks of sizes {listed(list(map(str, block_sizes)))} make no generator')
    return table.conversion('stylegan2', 'nvlabs', None)
  rows = 2 * (resolution.bit_length() - 1) - 2
  blocks = [4 * 2**k for k in range(rows // 2)]
  rgbs = indices(arrays, r'synthesis\.b(\d+)\.torgb\..*')
  if indices(arrays, r'synthesis\.b(\d+)\.(?:skip)\.weight'):
    architecture = 'resnet'
  else:
    architecture = 'skip' if any(size < resolution for size in rgbs) else 'orig'
  default = architecture if network.bare else 'skip'
  stated = told.value([f'synthesis.b{size}.architecture' for size in blocks], told.synthesis, 'architecture', default)
  if stated != architecture:
    table.problems.append(f'architecture={shown(stated)}: the keys are those of {architecture}')
  found = sizes(table, arrays, LAYOUT, rows, rgb_blocks(architecture, rows))
  filters = _filters(architecture, blocks)
  taps = common_taps(table, arrays, filters, axes=(1, 2), gain=1)
  for name in _idle_filters(blocks):
    if name not in filters:
      table.leave(name, 'no layer applies it')
  mapping = _mapping(arrays, told, rows, table.problems)
  if not found or not mapping or taps is None:
    return table.conversion('stylegan2', 'nvlabs', None)
  convs = [_conv(i) for i in range(rows - 1)]
  heads = [f'synthesis.b{size}.torgb' for size in blocks]
  clamp = told.value(
    [f'{name}.conv_clamp' for name in convs + heads], told.synthesis, 'conv_clamp', 256 if told.flat else None
  )
  activation = told.value([f'{name}.activation' for name in convs], told.synthesis, 'activation', 'lrelu')
  told.compare(
    told.arguments | told.synthesis,
    z_dim=mapping['z_dim'],
    c_dim=mapping['num_classes'],
    w_dim=found['w_dim'],
    img_resolution=resolution,
    img_channels=found['image_channels'],
    use_noise=found['noise'] == 'spatial',
  )
  told.compare(told.mapping, num_layers=len(mapping['mapping_widths']))
  _check_numbers(told, clamp, activation, mapping)
  _check_shape(told, found['start'])
  table.problems += told.problems
  if told.problems:
    return table.conversion('stylegan2', 'nvlabs', None)
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
  if not fits(options, table.problems):
    return table.conversion('stylegan2', 'nvlabs', None)
  if not network.bare:
    table.problems += contradictions(network.module, _expected(options))
  table.take(_mapping_entries(options))
  table.take(entries(options, LAYOUT))
  table.take(_skip_entries(options))
  return table.conversion('stylegan2', 'nvlabs', options)


DIALECT = Dialect(
  recognise,
  convert,
  '.pkl of modules; state dicts; modules in torch files; StyleGAN2-ADA, stylegan3',
  'its code: random networks of 64 pixels, and conditional of 32; a trained one of 64; variants: plain numpy',
  {name: parsed for name, (parsed, _) in STATED.items()},  # of state dicts
)


def _as_module(arrays: dict, choices: dict) -> Module:
  """A state dict as if its module had been built with these options."""
  mapping = {'lr_multiplier': choices['mapping_lr_mul'], 'activation': choices['mapping_activation']}
  if 'mapping.w_avg' not in arrays:
    mapping['w_avg_beta'] = None
  synthesis = {'conv_clamp': choices['conv_clamp'], 'activation': choices['activation']}
  arguments = {'mapping_kwargs': mapping, 'synthesis_kwargs': synthesis}
  if not indices(arrays, r'mapping\.fc(\d+)\..*'):  # then w is made of z and the label as they are
    w_dim = size_of(arrays, ('synthesis.b4.conv1.affine.weight', 2, 1)) or 0
    arguments['z_dim'] = w_dim - (size_of(arrays, ('mapping.embed.weight', 2, 0)) or 0)
  return Module('', [], arguments, arrays, {})


def _check_numbers(told: Hyperparameters, clamp, activation, mapping: dict) -> None:
  if clamp is not None and (isinstance(clamp, bool) or not isinstance(clamp, int | float) or not 0 < clamp < 1e30):
    told.problems.append(f'conv_clamp={shown(clamp)}: not a positive number')
  for value in (activation, mapping['mapping_activation']):
    if not isinstance(value, str) or value not in ACTIVATIONS:
      told.problems.append(f'activation={shown(value)}: not one of {", ".join(ACTIVATIONS)}')
  lr = mapping['mapping_lr_multiplier']
  if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 < lr < 1e30:
    told.problems.append(f'lr_multiplier={shown(lr)}: not a positive number')


def _check_shape(told: Hyperparameters, start: tuple[int, int]) -> None:
  """Compares the options of forks with images that are not square: StyleGAN-Human `square`, eps696 `init_res`."""
  for name, expected in (('init_res', list(start)), ('square', start == (4, 4))):
    given = told.arguments.get(name, told.synthesis.get(name, expected))
    if (list(given) if isinstance(given, tuple) else given) != expected:
      told.problems.append(f'{name}={shown(given)}: the constant has {start[0]} x {start[1]} positions')


def _expected(options: StyleGAN2Options) -> dict[str, object]:
  """{dotted name: value} of the attributes that follow from the options."""
  rows, widths, w = options.rows, options.widths, options.w_dim
  square, sizes = options.start == (4, 4), [4 * 2**k for k in range(rows // 2)]
  images = {'img_resolution': options.resolution, 'img_channels': options.image_channels}
  shape = {'square': square, 'init_res': list(options.start)}  # of forks
  latents = {'z_dim': options.z_dim, 'c_dim': options.num_classes, 'w_dim': w, 'num_ws': rows}
  parts = {
    '': latents | images | shape,
    'mapping.': latents | {'num_layers': len(options.mapping_widths)},
    'synthesis.': images | shape | {'w_dim': w, 'num_ws': rows, 'block_resolutions': sizes},
  }
  for i in range(rows - 1):
    parts[f'{_conv(i)}.'] = shape | {
      'in_channels': widths[i],
      'out_channels': widths[i + 1],
      'w_dim': w,
      'resolution': sizes[(i + 1) // 2],
      'up': 1 + i % 2,
      'use_noise': options.noise == 'spatial',
      'activation': options.activation,
      'conv_clamp': options.clamp,
      'padding': 1,
      'act_gain': ACTIVATIONS[options.activation][1],
    }
  rgbs = rgb_blocks(options.architecture, rows)
  for k, size in enumerate(sizes):
    block, inside = f'synthesis.b{size}', widths[2 * k + 1]
    parts[f'{block}.'] = shape | {
      'in_channels': widths[2 * k - 1] if k else 0,
      'w_dim': w,
      'resolution': size,
      'img_channels': options.image_channels,
      'is_last': size == sizes[-1],
      'architecture': options.architecture,
      'num_conv': 2 if k else 1,
      'num_torgb': int(k in rgbs),
    }
    parts[f'{block}.torgb.'] = {
      'in_channels': inside,
      'out_channels': options.image_channels,
      'w_dim': w,
      'conv_clamp': options.clamp,
      'weight_gain': 1 / math.sqrt(inside),
    }
    if k:
      parts[f'{block}.skip.'] = {
        'activation': 'linear',
        'up': 2,
        'down': 1,
        'conv_clamp': None,
        'padding': 0,
        'weight_gain': 1 / math.sqrt(widths[2 * k - 1]),
        'act_gain': 1.0,
      }
  expected = {f'{place}{name}': value for place, values in parts.items() for name, value in values.items()}
  for i in range(rows - 1):
    expected |= dense_attributes(f'{_conv(i)}.affine', w, widths[i])
  for k in rgbs:
    expected |= dense_attributes(f'synthesis.b{sizes[k]}.torgb.affine', w, widths[2 * k + 1])
  if options.num_classes:
    expected |= dense_attributes('mapping.embed', options.num_classes, options.embed_dim)
  inputs = options.z_dim + options.embed_dim
  for i, width in enumerate(options.mapping_widths):
    activation, rate = options.mapping_activation, options.mapping_lr_multiplier
    expected |= dense_attributes(f'mapping.fc{i}', inputs, width, activation, rate)
    inputs = width
  return expected


def _mapping(arrays: dict, told: Hyperparameters, rows: int, problems: list[str]) -> dict:
  """Sizes and options of the mapping network; empty if they cannot be inferred."""
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


def _filters(architecture: str, blocks: list[int]) -> list[str]:
  """The keys of the filters that are applied."""
  where = {'skip': ['conv0.', ''], 'resnet': ['conv0.', 'skip.'], 'orig': ['conv0.']}[architecture]
  return [f'synthesis.b{size}.{part}resample_filter' for part in where for size in blocks[1:]]


def _idle_filters(blocks: list[int]) -> list[str]:
  """The keys of filters that exist whether or not a layer applies them."""
  return [f'synthesis.b{size}.{part}resample_filter' for part in ('', 'conv1.') for size in blocks]


def _skip_entries(options: StyleGAN2Options):
  if options.architecture == 'resnet':
    for k in range(options.rows // 2 - 1):
      shape = (options.widths[2 * k + 3], options.widths[2 * k + 1], 1, 1)
      yield Entry(f'synthesis.b{8 * 2**k}.skip.weight', f'skips.{k}', shape, 'kernel')


def export(options: StyleGAN2Options, tensors: dict[str, np.ndarray]) -> Exported:
  """See converters.export.exported."""
  *hidden, last = options.mapping_widths or (options.w_dim,)
  check_needs(
    'nvlabs',
    options,
    label_input=('none', 'separate'),
    noise=('spatial', 'none'),
    demodulate=(True,),
    final_tanh=(False,),
    w_dim=(last,),
    mapping_widths=(() if not options.mapping_widths else (*hidden[:1] * len(hidden), last),),
  )
  channels = widths_by_size('nvlabs', options.widths)
  blocks = list(channels)
  arrays = backwards([*_mapping_entries(options), *entries(options, LAYOUT), *_skip_entries(options)], tensors)
  arrays |= dict.fromkeys(_idle_filters(blocks), filter_kernel(IDLE_TAPS))
  used = [*_filters(options.architecture, blocks), *(f'synthesis.b{size}.resample_filter' for size in blocks)]
  arrays |= dict.fromkeys(used, _kernel(options.resample_filter))
  mapping = {
    'num_layers': len(options.mapping_widths),
    'layer_features': hidden[0] if hidden else options.w_dim,
    'embed_features': options.embed_dim or None,
    'lr_multiplier': options.mapping_lr_multiplier,
    'activation': options.mapping_activation,
  } | ({} if options.mean_w else {'w_avg_beta': None})
  synthesis = {
    **channel_rule(channels, 'channel_base', 'channel_max'),
    'architecture': options.architecture,
    'resample_filter': options.resample_filter,
    'activation': options.activation,
    'conv_clamp': options.clamp,
    'use_noise': options.noise == 'spatial',
  }
  arguments = {name: getattr(options, name) for name in ('z_dim', 'w_dim')}
  arguments |= {'c_dim': options.num_classes, 'img_resolution': options.resolution}
  arguments |= {'img_channels': options.image_channels, 'mapping_kwargs': mapping, 'synthesis_kwargs': synthesis}
  notes = unlike(options, clamps=True, scaled_epsilon=False)
  if options.start != (4, 4):
    arguments['init_res'] = list(options.start)
    notes.append(
      'its code makes square images only; forks of it load this one (eps696, or StyleGAN-Human with square=False)'
    )
  return Exported(arrays, arguments, notes)


def _kernel(taps: tuple) -> np.ndarray:
  """A filter as their code stores it: with eight or more taps it stays separable."""
  separable = np.ndim(taps) == 1 and len(taps) >= 8
  return np.asarray(taps, np.float32) if separable else filter_kernel(taps)


def _mapping_entries(options: StyleGAN2Options):
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
