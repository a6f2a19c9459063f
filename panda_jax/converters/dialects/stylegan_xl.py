"""StyleGAN-XL from the snapshots (.pkl) of its authors' code, of a stem or with super-resolution heads.

The constructor arguments describe only the stem. So the attributes of each layer are used, and compared with values
that follow from the layers before and after it, from their names and from the shapes of their arrays.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint, Module
from panda_jax.converters.dialects.base import Dialect, Dialects
from panda_jax.converters.dialects.snapshots import contradictions, dense_attributes, opened
from panda_jax.converters.dialects.stylegan3 import (
  common_attributes,
  dense,
  mapping_attributes,
  synthesis_attributes,
  synthesis_entries,
)
from panda_jax.converters.limits import shown
from panda_jax.converters.networks import networks
from panda_jax.converters.tables import Entry, Table, fits, indices, number, shape_of
from panda_jax.errors import InputError
from panda_jax.generators.stylegan3_geometry import LayerGeometry
from panda_jax.generators.stylegan_xl import StyleGANXLOptions

SIGNATURE = r'synthesis\.(L(\d{1,4})_(\d{1,6})_(\d{1,6}))\.weight'
LAYER = re.compile(SIGNATURE)
EMBEDDING, PROJECTION, MEAN = 'mapping.embed.weight', 'mapping.embed_proj.weight', 'mapping.w_avg'
CLASSES = (
  r'(Superres)?Generator|MappingNetwork|SynthesisNetwork|SynthesisInput|SynthesisLayer|FullyConnectedLayer|Embedding'
)
# Attributes of a layer: whole numbers, fractions, and common ones. Heads have their own kernels, filters and clamps.
WHOLE = 'out_channels', 'out_sampling_rate', 'conv_kernel'
FRACTIONS = 'out_cutoff', 'out_half_width'
COMMON = 'filter_size', 'lrelu_upsampling'
MISSING = object()


def _is_stylegan_xl(checkpoint: Checkpoint) -> bool:
  """Whether it is a snapshot of a StyleGAN-XL, recognised by an embedding of classes without bias."""
  found = [network.arrays for network in networks(checkpoint.tree, SIGNATURE) if not network.bare]
  return any(EMBEDDING in a and 'mapping.embed.bias' not in a for a in found)


def _stylegan_xl(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  module, table = opened(checkpoint, SIGNATURE, weights, given, CLASSES)
  told = _Told(module, table.problems)
  names = _names(module, table.problems)
  network = _options(module, told, names, table) if names else None
  if network is not None:
    try:
      geometry = network.geometry()
    except InputError as error:
      table.problems.append(str(error))
      return table.conversion('stylegan_xl', 'stylegan-xl', None)
    table.problems += contradictions(module, _expected(network, names, geometry))
    given = module.init_kwargs.get('mapping_kwargs')
    count = given.get('num_layers', network.mapping_layers) if isinstance(given, dict) else network.mapping_layers
    if count != network.mapping_layers:
      table.problems.append(f'num_layers={shown(count)} in mapping_kwargs: there are {network.mapping_layers}')
    table.take(_entries(module, network, names, geometry))
    if network.num_classes and EMBEDDING in table.tensors:
      table.tensors['embedding'] = table.tensors.pop(EMBEDDING)[: network.num_classes]
      table.sources['embedding'] = table.sources.pop(EMBEDDING)
    elif not network.num_classes:
      table.leave(EMBEDDING, 'an unconditional generator does not use its embedding')
    transform = table.tensors.get('input.transform')
    if transform is not None and not np.array_equal(transform, np.eye(3)):
      table.notes.append('the file stores a transform of the image, which is kept')
  return table.conversion('stylegan_xl', 'stylegan-xl', network)


DIALECTS = Dialects(
  {
    'stylegan-xl': Dialect(
      _is_stylegan_xl,
      _stylegan_xl,
      '.pkl of its authors',
      'its code: random stem and super-resolution; variants: plain numpy',
    )
  }
)
recognise, convert = DIALECTS.recognise, DIALECTS.convert
EXPORTS: dict = {}


def _names(module: Module, problems: list[str]) -> list[str]:
  """Names of the layers in order: as listed in the file, else by their numbers, which may have gaps."""
  numbers = {match[1]: int(match[2]) for key in module.state_dict if (match := LAYER.fullmatch(key))}
  names = sorted(numbers, key=lambda name: numbers[name])
  listed = module.attributes.get('synthesis.layer_names', names)
  if listed != names or len(set(numbers.values())) != len(names) or len(names) < 2:
    problems.append(f'synthesis.layer_names: {shown(listed)} is not the order of the layers that there are')
    return []
  return names


class _Told:
  """The attributes of a module.

  Args:
    module: the generator.
    problems: collects contradictions.
  """

  def __init__(self, module: Module, problems: list[str]):
    self._attributes, self._problems = module.attributes, problems

  def number(self, name: str, whole: bool = False, default: object = MISSING):
    """A number; anything else is a problem, and None."""
    value = self._attributes.get(name, default)
    if value is MISSING:
      self._problems.append(f'{name}: the file does not tell it')
      return None
    try:
      return number(value, whole)
    except ValueError:
      self._problems.append(f'{name}={shown(value)}: it must be a {"whole " * whole}number')
      return None

  def flag(self, name: str) -> bool | None:
    """True or false; anything else is a problem, and None."""
    value = self._attributes.get(name)
    if not isinstance(value, bool):
      self._problems.append(f'{name}={shown(value)}: it must be true or false')
      return None
    return value

  def clamp(self, name: str) -> float | None:
    """A number, or None."""
    return None if self._attributes.get(name, MISSING) is None else self.number(name)

  def common(self, names: Sequence[str], whole: bool = True):
    """The number that all of these attributes equal; differences are problems."""
    found = {name: self.number(name, whole) for name in names}
    first, value = next(iter(found.items()))
    self._problems += [f'{name}={shown(a)}: {first} is {shown(value)}' for name, a in found.items() if a != value]
    return value


def _expected(network: StyleGANXLOptions, names: list[str], geometry: Sequence[LayerGeometry]) -> dict[str, object]:
  """{dotted name: value} of the attributes that follow from the options."""
  classes, z = network.num_classes, network.z_dim
  expected = {
    **common_attributes(network, len(geometry) + 1),
    **mapping_attributes(network, 2 * z if classes else z),
    **synthesis_attributes(network.w_dim, names, geometry),
    'mapping.embed.max_norm': None,
  }
  return expected | (dense_attributes('mapping.embed_proj', network.embed_dim, z, 'lrelu') if classes else {})


def _options(module: Module, told: _Told, names: list[str], table: Table) -> StyleGANXLOptions | None:
  arrays, before = module.state_dict, len(table.problems)
  layers = []
  for name in names:
    prefix = f'synthesis.{name}'
    channels, rate, kernel = (told.number(f'{prefix}.{key}', whole=True) for key in WHOLE)
    cutoff, half_width = (told.number(f'{prefix}.{key}') for key in FRACTIONS)
    radial, clamp = told.flag(f'{prefix}.down_radial'), told.clamp(f'{prefix}.conv_clamp')
    size, width = map(int, name.split('_')[1:])
    if width != channels:
      table.problems.append(f'{prefix}: its name tells {width} channels, and out_channels is {shown(channels)}')
    layers.append((channels, size, rate, cutoff, half_width, kernel, radial, clamp))
  filter_size, upsampling = (told.common([f'synthesis.{name}.{key}' for name in names]) for key in COMMON)
  mapping = [f'mapping.fc{i}' for i in indices(arrays, r'mapping\.fc(\d+)\..*')]
  rate = told.common([f'{name}.bias_gain' for name in mapping], whole=False) if mapping else 0.01
  embedding, projection = shape_of(arrays, EMBEDDING, 2), shape_of(arrays, PROJECTION, 2)
  conditional = PROJECTION in arrays
  mean = shape_of(arrays, MEAN, 2 if conditional else 1)
  lacking = [(EMBEDDING, 2)] * (embedding is None) + [(MEAN, 2 if conditional else 1)] * (mean is None)
  lacking += [(PROJECTION, 2)] * (conditional and projection is None)
  for key, axes in lacking:
    table.lacks(key, axes)
  inputs = told.number('z_dim', whole=True)
  scale = told.number('synthesis.output_scale', default=0.25)
  if len(table.problems) > before:
    return None
  if conditional and mean[0] > embedding[0]:
    table.problems.append(f'{MEAN} has {mean[0]} classes, and {EMBEDDING} only {embedding[0]} rows')
    return None
  if conditional and mean[0] < embedding[0]:
    table.notes.append(f'{EMBEDDING}: of its {embedding[0]} rows the first {mean[0]} are those of classes')
  network = StyleGANXLOptions(
    z_dim=inputs,
    w_dim=mean[-1],
    num_classes=mean[0] if conditional else 0,
    embed_dim=embedding[1] if conditional else 0,
    layers=tuple(layers),
    mapping_layers=len(mapping),
    mapping_rate=rate,
    output_scale=scale,
    filter_size=filter_size,
    lrelu_upsampling=upsampling,
  )
  return network if fits(network, table.problems) else None


def _entries(
  module: Module, network: StyleGANXLOptions, names: list[str], geometry: Sequence[LayerGeometry]
) -> Iterator[Entry]:
  """The table."""
  z, w, classes = network.z_dim, network.w_dim, network.num_classes
  if classes:
    yield Entry(EMBEDDING, EMBEDDING, (len(module.state_dict[EMBEDDING]), network.embed_dim))
    yield from dense('mapping.embed_proj', 'mapping_network.embed', network.embed_dim, z)
  for i in range(network.mapping_layers):
    inputs = w if i else z + (z if classes else 0)
    yield from dense(f'mapping.fc{i}', f'mapping_network.layers.{i}', inputs, w)
  yield Entry(MEAN, 'w_avg', (classes, w) if classes else (w,))
  yield from synthesis_entries(w, names, geometry)
