"""StyleGAN3 of NVlabs' code: modules, and state dicts that users saved of them.

The layers' names contain their sizes and channels, and the constructor's arguments the rest. Attributes of the modules
are compared with values computed from these, so that a network built by other rules is refused. For a state dict the
shapes give most of the rest; the user or the published code gives what remains.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint, Module
from panda_jax.converters.dialects.base import Dialect, Dialects
from panda_jax.converters.dialects.snapshots import contradictions, dense_attributes
from panda_jax.converters.foreign import Exported
from panda_jax.converters.limits import listed, shown
from panda_jax.converters.networks import chosen, networks
from panda_jax.converters.tables import (
  Entry,
  Table,
  backwards,
  chosen_options,
  fits,
  indices,
  number,
  parsed_bool,
  parsed_bound,
  parsed_count,
  parsed_positive,
  shape_of,
)
from panda_jax.errors import InputError
from panda_jax.generators.stylegan3_geometry import (
  LayerGeometry,
  StyleGAN3Options,
  layer_geometry,
  published_widths,
)
from panda_jax.generators.stylegan_xl import StyleGANXLOptions

SIGNATURE = r'synthesis\.L\d{1,4}_\d{1,6}_\d{1,6}\..+'
CLASSES = r'Generator|MappingNetwork|SynthesisNetwork|SynthesisInput|SynthesisLayer|FullyConnectedLayer'
LAYER = re.compile(r'synthesis\.(L(\d{1,4})_(\d{1,6})_(\d{1,6}))\.')
POSITIONAL = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels', 'mapping_kwargs')

# Constructor arguments: name: (type, default, attribute with the same value). A default of None: it is required.
ARGUMENTS = {
  'z_dim': (int, None, 'z_dim'),
  'c_dim': (int, None, 'c_dim'),
  'w_dim': (int, None, 'w_dim'),
  'img_resolution': (int, None, 'img_resolution'),
  'img_channels': (int, None, 'img_channels'),
  'channel_base': (float, 32768, None),
  'channel_max': (float, 512, None),
  'num_layers': (int, 14, 'synthesis.num_layers'),
  'num_critical': (int, 2, 'synthesis.num_critical'),
  'first_cutoff': (float, 2, 'synthesis.input.bandwidth'),
  'first_stopband': (float, 2**2.1, None),
  'last_stopband_rel': (float, 2**0.3, None),
  'margin_size': (int, 10, 'synthesis.margin_size'),
  'output_scale': (float, 0.25, 'synthesis.output_scale'),
  'conv_kernel': (int, 3, 'synthesis.{first}.conv_kernel'),
  'filter_size': (int, 6, None),
  'lrelu_upsampling': (int, 2, None),
  'use_radial_filters': (bool, False, None),
  'conv_clamp': ('float or None', 256, 'synthesis.{first}.conv_clamp'),
  'square': (bool, True, 'synthesis.square'),
}
# Arguments of training, or of the arithmetic on GPUs.
WITHOUT_EFFECT = ('num_fp16_res', 'magnitude_ema_beta')
MAPPING_ARGUMENTS = {
  'num_layers': (int, 2, 'mapping.num_layers'),
  'lr_multiplier': (float, 0.01, 'mapping.fc0.bias_gain'),
}
MAPPING_WITHOUT_EFFECT = ('w_avg_beta',)


# Arguments that a state dict does not contain, by the name of the user's option: parser, argument.
STATED = {
  'num_critical': (parsed_count, 'num_critical'),
  'first_cutoff': (parsed_positive, 'first_cutoff'),
  'first_stopband': (parsed_positive, 'first_stopband'),
  'last_stopband_rel': (parsed_positive, 'last_stopband_rel'),
  'margin_size': (parsed_count, 'margin_size'),
  'output_scale': (parsed_positive, 'output_scale'),
  'filter_size': (parsed_count, 'filter_size'),
  'lrelu_upsampling': (parsed_count, 'lrelu_upsampling'),
  'conv_clamp': (parsed_bound, 'conv_clamp'),
  'mapping_lr_mul': (parsed_positive, 'lr_multiplier'),
  'square': (parsed_bool, 'square'),
}


def _nvlabs(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  held, more = chosen(checkpoint, SIGNATURE, weights, 'G_ema', 'G', CLASSES)
  stated = chosen_options(given, DIALECTS['nvlabs'].options if held.bare else {})
  module = held.module
  if held.bare:
    module, told = _as_module(module.state_dict, stated)
    more += told
  found, problems, notes = _hyperparameters(module)
  notes = more + notes
  names = _layer_names(module, problems)
  mapping_layers = len(indices(module.state_dict, r'mapping\.fc(\d+)\..*'))
  network = _options(found, names, mapping_layers, not held.bare, problems, notes) if not problems else None
  if network is None:
    return Conversion('stylegan3', 'nvlabs', None, {}, {}, problems=problems, notes=notes)
  layers = layer_geometry(network)
  table = Table(module.state_dict)
  table.problems += problems + _disagreements(module, network, layers)
  table.notes += notes
  table.take(_entries(network, layers))
  transform = table.tensors.get('input.transform')
  if transform is not None and not np.array_equal(transform, np.eye(3)):
    table.notes.append('the file stores a transform of the image, which is kept')
  return table.conversion('stylegan3', 'nvlabs', network)


DIALECTS = Dialects(
  {
    'nvlabs': Dialect(
      lambda checkpoint: networks(checkpoint.tree, SIGNATURE),
      _nvlabs,
      '.pkl of modules; state dicts; modules in torch files',
      'its code: random networks -T and -R of 64 pixels',
      {name: parser for name, (parser, _) in STATED.items()},  # of state dicts
    )
  }
)
recognise, convert = DIALECTS.recognise, DIALECTS.convert


def _as_module(arrays: dict, stated: dict) -> tuple[Module, list[str]]:
  """A state dict as if its module had been built with arguments from its shapes and the user; with notes."""
  names = _layer_names(Module('', [], {}, arrays, {}), [])
  fc = len(indices(arrays, r'mapping\.fc(\d+)\..*'))
  w_dim = (shape_of(arrays, 'mapping.w_avg', 1) or (None,))[0]
  classes = (shape_of(arrays, 'mapping.embed.weight', 2) or (0, 0))[1]
  inputs = (shape_of(arrays, 'mapping.fc0.weight', 2) or (0, None))[1]
  kernel = (shape_of(arrays, f'synthesis.{names[0][0]}.weight', 4) or (0, 0, 0, 3))[3] if names else 3
  radial = any(shape_of(arrays, f'synthesis.{name}.down_filter', 2) for name, *_ in names)
  arguments = {
    'z_dim': inputs - (w_dim or 0 if classes else 0) if inputs is not None else None,
    'c_dim': classes,
    'w_dim': w_dim,
    'img_resolution': names[-1][1] * (1 if stated.get('square', True) else 2) if names else None,
    'img_channels': names[-1][2] if names else None,
    'num_layers': len(names) - 1,
    'conv_kernel': kernel,
    'use_radial_filters': radial,
  }
  arguments = {name: value for name, value in arguments.items() if value is not None}
  mapping, notes = {'num_layers': fc}, []
  for name, (_, argument) in STATED.items():
    into, known = (mapping, MAPPING_ARGUMENTS) if argument in MAPPING_ARGUMENTS else (arguments, ARGUMENTS)
    into[argument] = stated.get(name, known[argument][1])
    notes.append(f'{name}={into[argument]}: not in the file')
  return Module('', [], arguments | {'mapping_kwargs': mapping}, arrays, {}), notes


def _typed(value: object, kind) -> object:
  """The value as int, float, bool or None; raises ValueError for others."""
  if kind == 'float or None' and value is None:
    return None
  if kind is not bool:
    return number(value, whole=kind is int)
  if isinstance(value, np.ndarray) and value.shape == ():
    value = value.item()
  if not isinstance(value, bool):
    raise ValueError
  return value


def _hyperparameters(module: Module) -> tuple[dict[str, object], list[str], list[str]]:
  """{argument: value}, with the prefix `mapping.` for those of the mapping network; problems; notes."""
  given = dict(zip(POSITIONAL, module.init_args, strict=False)) | module.init_kwargs
  mapping = given.pop('mapping_kwargs', {})
  problems, notes, values = [], [], {}
  if len(module.init_args) > len(POSITIONAL) or not isinstance(mapping, dict):
    return {}, ['the arguments of the constructor are not those of a StyleGAN3'], []
  first = next((LAYER.match(key).group(1) for key in module.state_dict if LAYER.match(key)), '')
  tables = (
    ('', given, ARGUMENTS, WITHOUT_EFFECT),
    ('mapping.', mapping, MAPPING_ARGUMENTS, MAPPING_WITHOUT_EFFECT),
  )
  for prefix, arguments, table, ignored in tables:
    for name in arguments:
      if name not in table and name not in ignored:
        problems.append(f'the constructor was given {prefix}{shown(name)}, which no StyleGAN3 has')
    for name, (kind, default, attribute) in table.items():
      told = [arguments[name]] if name in arguments else []
      attribute = attribute and attribute.format(first=first)
      if attribute in module.attributes:
        told.append(module.attributes[attribute])
      try:
        told = [_typed(value, kind) for value in told]
      except ValueError:
        problems.append(f'{prefix}{name}={shown(told[0])}: not the value of such an argument')
        continue
      if len(told) == 2 and told[0] != told[1]:
        problems.append(f'{prefix}{name}: the constructor was given {told[0]}, but {attribute} is {told[1]}')
      elif not told and default is None:
        problems.append(f'{name}: the file does not tell it')
      else:
        values[prefix + name] = told[0] if told else default
      if not told and default is not None and name in ('conv_clamp', 'output_scale'):
        notes.append(f'{name} is not in the file: {default}, as in the published code')
  return values, problems, notes


def _layer_names(module: Module, problems: list[str]) -> list[tuple[str, int, int]]:
  """(name, size, channels) of each layer in order."""
  names = {}
  for key in module.state_dict:
    match = LAYER.match(key)
    if match:
      names[match.group(1)] = int(match.group(2)), int(match.group(3)), int(match.group(4))
  ordered = sorted(names.items(), key=lambda item: item[1])
  if [place for _, (place, _, _) in ordered] != list(range(len(ordered))):
    problems.append(f'the layers are not numbered one by one: {listed([name for name, _ in ordered])}')
  return [(name, size, channels) for name, (_, size, channels) in ordered]


def _options(
  found: dict, names: list, mapping_layers: int, told: bool, problems: list[str], notes: list[str]
) -> StyleGAN3Options | None:
  """The options, or None and more problems if the arguments fit no network or contradict the layers' names.

  Args:
    found: from `_hyperparameters`.
    names: from `_layer_names`.
    mapping_layers: number of layers that have arrays.
    told: whether the file contains channel_base and channel_max.
    problems, notes: new ones are added.
  """
  if len(names) != found['num_layers'] + 1:
    problems.append(f'num_layers={found["num_layers"]}, but there are {len(names)} layers, that to the image included')
    return None
  if found['mapping.num_layers'] != mapping_layers:
    problems.append(f'mapping.num_layers={found["mapping.num_layers"]}, but there are {mapping_layers} such layers')
  rule = ('channel_base', 'channel_max')
  problems += [f'{name}={found[name]}: it must be from 1 to 1e9' for name in rule if not 1 <= found[name] <= 1e9]
  most = max(size for _, size, _ in names) * (1 if found['square'] else 2)
  if found['img_resolution'] > most:
    problems.append(f'img_resolution={found["img_resolution"]}, but the largest layer has {most}')
  if problems:
    return None
  network = StyleGAN3Options(
    z_dim=found['z_dim'],
    w_dim=found['w_dim'],
    num_classes=found['c_dim'],
    resolution=found['img_resolution'],
    image_channels=found['img_channels'],
    widths=tuple(channels for _, _, channels in names[:-1]),
    mapping_layers=found['mapping.num_layers'],
    mapping_rate=found['mapping.lr_multiplier'],
    num_critical=found['num_critical'],
    first_cutoff=found['first_cutoff'],
    first_stopband=found['first_stopband'],
    last_stopband_rel=found['last_stopband_rel'],
    margin_size=found['margin_size'],
    output_scale=found['output_scale'],
    conv_kernel=found['conv_kernel'],
    filter_size=found['filter_size'],
    lrelu_upsampling=found['lrelu_upsampling'],
    use_radial_filters=found['use_radial_filters'],
    conv_clamp=found['conv_clamp'],
    square=found['square'],
  )
  if not fits(network, problems):
    return None
  try:
    layers = layer_geometry(network)
    rule = published_widths(
      *(found[name] for name in ('img_resolution', 'num_layers', 'num_critical', 'first_cutoff')),
      *(found[name] for name in ('channel_base', 'channel_max')),
    )
  except InputError as error:
    problems.append(str(error))
    return None
  problems += [
    f'layer {name} should be called {layer.name} by the arguments of the constructor'
    for (name, _, _), layer in zip(names, layers, strict=True)
    if name != layer.name
  ]
  if rule != network.widths and told:
    notes.append('the channels of the layers are not those of channel_base and channel_max; the layers are believed')
  return None if problems else network


def _disagreements(module: Module, network: StyleGAN3Options, layers: tuple[LayerGeometry, ...]) -> list[str]:
  """Differences between the attributes in the file and the values computed from the options."""
  names = [layer.name for layer in layers]
  expected = {
    **common_attributes(network, len(layers) + 1),
    **synthesis_attributes(network.w_dim, names, layers),
    'synthesis.num_layers': len(layers) - 1,
    'synthesis.layer_names': names,
  }
  for place in ('', 'synthesis.', 'synthesis.input.', *(f'synthesis.{name}.' for name in names)):
    expected[f'{place}square'] = network.square
  if network.num_classes:
    expected |= dense_attributes('mapping.embed', network.num_classes, network.w_dim)
  inputs = network.z_dim + (network.w_dim if network.num_classes else 0)
  problems = list(contradictions(module, expected | mapping_attributes(network, inputs)))
  clamps = {layer.name: module.attributes.get(f'synthesis.{layer.name}.conv_clamp', 'none') for layer in layers}
  if any(clamp != clamps[layers[0].name] for clamp in clamps.values()):
    problems.append(f'conv_clamp differs between layers: {listed([f"{k} {shown(v)}" for k, v in clamps.items()])}')
  return problems


def common_attributes(network: StyleGAN3Options | StyleGANXLOptions, rows: int) -> dict[str, object]:
  """{dotted name: value} of the generator and its two networks, also for StyleGAN-XL; `rows` is the number in w+."""
  told = {
    'z_dim': network.z_dim,
    'c_dim': network.num_classes,
    'w_dim': network.w_dim,
    'num_ws': rows,
    'img_resolution': network.resolution,
    'img_channels': network.image_channels,
  }
  synthesis = {name: told[name] for name in ('w_dim', 'num_ws', 'img_resolution', 'img_channels')}
  mapping = {name: told[name] for name in ('z_dim', 'c_dim', 'w_dim', 'num_ws')}
  return {
    **told,
    **{f'synthesis.{name}': value for name, value in synthesis.items()},
    **{f'mapping.{name}': value for name, value in mapping.items()},
    'synthesis.output_scale': network.output_scale,
  }


def mapping_attributes(network: StyleGAN3Options | StyleGANXLOptions, inputs: int) -> dict[str, object]:
  """The same for the mapping layers; `inputs` is the number of entries of z and of the class input together."""
  expected: dict[str, object] = {'mapping.num_layers': network.mapping_layers}
  for i in range(network.mapping_layers):
    name, inputs_here = f'mapping.fc{i}', network.w_dim if i else inputs
    expected |= dense_attributes(name, inputs_here, network.w_dim, 'lrelu', network.mapping_rate)
  return expected


def synthesis_attributes(w_dim: int, names: Iterable[str], layers: Sequence[LayerGeometry]) -> dict[str, object]:
  """The same for the input, and for each layer after the prefix of its name."""
  first = layers[0]
  expected: dict[str, object] = {
    'synthesis.input.w_dim': w_dim,
    'synthesis.input.channels': first.in_channels,
    'synthesis.input.sampling_rate': first.in_rate,
    'synthesis.input.bandwidth': first.in_cutoff,
    **dense_attributes('synthesis.input.affine', w_dim, 4),
  }
  for name, layer in zip(names, layers, strict=True):
    values = {
      'w_dim': w_dim,
      'is_torgb': layer.to_image,
      'in_channels': layer.in_channels,
      'out_channels': layer.out_channels,
      'in_sampling_rate': layer.in_rate,
      'out_sampling_rate': layer.out_rate,
      'tmp_sampling_rate': layer.inner_rate,
      'in_cutoff': layer.in_cutoff,
      'out_cutoff': layer.out_cutoff,
      'in_half_width': layer.in_width / 2,
      'out_half_width': layer.out_width / 2,
      'conv_kernel': layer.kernel,
      'up_factor': layer.up,
      'down_factor': layer.down,
      'up_taps': layer.up_taps,
      'down_taps': layer.down_taps,
      'padding': [*layer.padding[1], *layer.padding[0]],
    } | ({'down_radial': layer.radial} if layer.down_taps > 1 else {})  # else there is no such filter
    expected |= {f'synthesis.{name}.{key}': value for key, value in values.items()}
    expected |= dense_attributes(f'synthesis.{name}.affine', w_dim, layer.in_channels)
  return expected


def dense(key: str, target: str, inputs: int, outputs: int) -> Iterator[Entry]:
  yield Entry(f'{key}.weight', f'{target}.weight', (outputs, inputs), 'matrix')
  yield Entry(f'{key}.bias', f'{target}.bias', (outputs,))


def _entries(network: StyleGAN3Options, layers: tuple[LayerGeometry, ...]) -> Iterator[Entry]:
  """The table."""
  z, w, classes = network.z_dim, network.w_dim, network.num_classes
  if classes:
    yield from dense('mapping.embed', 'mapping_network.embed', classes, w)
  for i in range(network.mapping_layers):
    inputs = w if i else z + (w if classes else 0)
    yield from dense(f'mapping.fc{i}', f'mapping_network.layers.{i}', inputs, w)
  yield Entry('mapping.w_avg', 'w_avg', (w,))
  yield from synthesis_entries(w, (layer.name for layer in layers), layers)


def synthesis_entries(w_dim: int, names: Iterable[str], layers: Sequence[LayerGeometry]) -> Iterator[Entry]:
  """The table of a synthesis network, also for StyleGAN-XL: of the input, and of each layer after its name."""
  C = layers[0].in_channels
  yield from dense('synthesis.input.affine', 'input.affine', w_dim, 4)
  yield Entry('synthesis.input.weight', 'input.weight', (C, C), 'matrix')
  yield Entry('synthesis.input.freqs', 'input.freqs', (C, 2))
  yield Entry('synthesis.input.phases', 'input.phases', (C,))
  yield Entry('synthesis.input.transform', 'input.transform', (3, 3))
  for i, (name, layer) in enumerate(zip(names, layers, strict=True)):
    key, target = f'synthesis.{name}', f'convs.{i}'
    yield from dense(f'{key}.affine', f'{target}.affine', w_dim, layer.in_channels)
    kernel = (layer.out_channels, layer.in_channels, layer.kernel, layer.kernel)
    yield Entry(f'{key}.weight', f'{target}.weight', kernel, 'kernel')
    yield Entry(f'{key}.bias', f'{target}.bias', (layer.out_channels,))
    yield Entry(f'{key}.magnitude_ema', f'{target}.magnitude_ema', ())
    if layer.up_taps > 1:
      yield Entry(f'{key}.up_filter', f'{target}.up_filter', (layer.up_taps,))
    if layer.down_taps > 1:
      shape = (layer.down_taps,) * (2 if layer.radial else 1)
      yield Entry(f'{key}.down_filter', f'{target}.down_filter', shape)


def _export_nvlabs(options: StyleGAN3Options, tensors: dict[str, np.ndarray]) -> Exported:
  layers = layer_geometry(options)
  arrays = backwards(_entries(options, layers), tensors)
  mapping = {'num_layers': options.mapping_layers, 'lr_multiplier': options.mapping_rate}
  names = {'c_dim': 'num_classes', 'img_resolution': 'resolution', 'img_channels': 'image_channels'}
  told = [name for name in ARGUMENTS if name not in ('num_layers', 'channel_base', 'channel_max')]
  arguments = {name: getattr(options, names.get(name, name)) for name in told}
  if options.square:  # only StyleGAN-Human's class has this argument
    del arguments['square']
  arguments |= {'num_layers': len(layers) - 1, **_channel_rule(options), 'mapping_kwargs': mapping}
  return Exported(arrays, arguments)


def _channel_rule(options: StyleGAN3Options) -> dict[str, object]:
  """channel_base and channel_max that give these channels by the published rule; else the channels themselves."""
  most = max(options.widths)
  for base in (options.resolution * options.widths[-1], *(2**power for power in range(4, 21))):
    rule = (options.resolution, len(options.widths), options.num_critical, options.first_cutoff, base, most)
    if published_widths(*rule) == options.widths:
      return {'channel_base': base, 'channel_max': most}
  return {'channels': options.widths}


EXPORTS = {'nvlabs': _export_nvlabs}
