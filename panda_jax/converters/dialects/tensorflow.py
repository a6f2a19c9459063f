"""Shared by NVlabs' TensorFlow pickles: their networks, variables, arguments and mapping networks.

A file holds networks, most often G, D and Gs. Each stores its variables by name, the name of the function that builds
it, and the arguments of that function. Generators since StyleGAN contain two networks, `mapping` and `synthesis`. The
name of the function and the names and shapes of the variables determine what it computes; its source, which is in the
file too, is not read. Kernels (k, k, in, out) and matrices (in, out) are as ours.

Source: NVlabs/stylegan2-ada, dnnlib/tflib/network.py, and the networks of the four repositories.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from panda_jax.converters.checkpoint import Checkpoint, TensorFlowNetwork
from panda_jax.converters.limits import LONGEST_KEY, listed, shown
from panda_jax.converters.networks import Taken, unsaid
from panda_jax.converters.tables import (
  Entry,
  Table,
  filter_taps,
  indices,
  number,
  shape_of,
  size_of,
)
from panda_jax.converters.trees import check_known
from panda_jax.errors import InputError
from panda_jax.generators.bounds import LARGEST_RESOLUTION, Taps
from panda_jax.generators.mapping import GrownOptions

AVERAGED, LATEST = 'Gs', 'G'
FUNCTIONS = ('G_paper', 'G_style', 'G_main')  # of ProGAN, StyleGAN, StyleGAN2
TRIPLE = (LATEST, 'D', AVERAGED)
LARGEST_ARGUMENT = 4096  # entries of one argument
MOST_TAPS = 32  # taps of a filter along an axis


def candidates(checkpoint: Checkpoint) -> dict[str, TensorFlowNetwork]:
  """The generators in a file by name: averaged, latest, or '' if the file does not say which.

  Three networks are identified by their order, as in the original code; others by their names, else the first is the
  latest and the last is the averaged one.
  """
  tree = checkpoint.tree
  held = tree if isinstance(tree, list) else list(tree.values()) if isinstance(tree, dict) else [tree]
  found = [item for item in held if isinstance(item, TensorFlowNetwork) and item.told('build_func_name') in FUNCTIONS]
  if isinstance(tree, list) and len(tree) == len(TRIPLE):
    by_order = {name: item for name, item in zip(TRIPLE, tree, strict=True) if item in found}
    return {name: by_order[name] for name in (LATEST, AVERAGED) if name in by_order}
  names = [item.told('name') for item in found]
  if len(found) > 1 and not names.count(LATEST) == names.count(AVERAGED) == 1:
    return {LATEST: found[0], AVERAGED: found[-1]}
  by_name = {name: found[names.index(name)] for name in (LATEST, AVERAGED) if name in names}
  return by_name or ({'': found[0]} if found else {})


def chosen(checkpoint: Checkpoint, weights: str) -> tuple[TensorFlowNetwork, list[str]]:
  """The requested generator, and notes.

  Raises:
    InputError: the latest weights are requested and missing; or it contains the result of a global that is not allowed.
  """
  found = candidates(checkpoint)
  if '' in found:
    check_known(found[''], checkpoint.path)
    return found[''], unsaid('the file holds one network, averaged or not it does not say', weights)
  name = LATEST if weights == 'raw' or AVERAGED not in found else AVERAGED
  if name not in found:
    raise InputError('--weights', weights, f'the file has no {name}', 'leave the flag out')
  check_known(found[name], checkpoint.path)
  missed = weights != 'raw' and name == LATEST
  taken = 'raw' if name == LATEST else 'ema'
  return found[name], [Taken(f'weights of {name}' + ': the file has no averaged ones' * missed, taken)]


def is_built_by(checkpoint: Checkpoint, function: str) -> bool:
  """Whether a file holds generators that this function builds."""
  return any(network.told('build_func_name') == function for network in candidates(checkpoint).values())


class Arguments:
  """The arguments of a generator's functions; an argument that was not given has the function's default.

  Args:
    given: {name: value}.
    problems: collects what is wrong with them.
  """

  def __init__(self, given: dict[str, object], problems: list[str]):
    self._given, self._problems = given, problems
    self._used: set[str] = set()

  def value(self, name: str, default: object) -> object:
    """The value of an argument."""
    self._used.add(name)
    return self._given.get(name, default)

  def number(self, name: str, default: float, whole: bool = False, positive: bool = False) -> int | float:
    """The value of an argument that is a number; for another value the default, and a problem."""
    value = self.value(name, default)
    try:
      found = number(value, whole)
    except ValueError:
      found = None
    if found is None or (positive and found <= 0):
      self._problems.append(f'{name}={shown(value)}: not a {"positive " * positive}{"whole " * whole}number')
      return default
    return found

  def choice(self, name: str, default: str, known: Iterable[str]) -> str:
    """The value of an argument that is a name; for an unknown one the default, and a problem."""
    value = self.value(name, default)
    if isinstance(value, str) and value in known:
      return value
    self._problems.append(f'{name}={shown(value)}: it is not one of {", ".join(known)}')
    return default

  def require(self, **only: object) -> None:
    """Records each argument that makes the network different from ours; flags count as true or false as in Python."""
    for name, wanted in only.items():
      value = self.value(name, wanted)
      if (bool(value) if isinstance(wanted, bool) else value) != wanted:
        self._problems.append(f'{name}={shown(value)}: only {wanted} is supported')

  def compare(self, **told: object) -> None:
    """Records each argument that contradicts the variables; None is not compared, as the function then decides."""
    for name, size in told.items():
      value = self.value(name, None)
      if value is not None and value != size:
        self._problems.append(f'{name}={shown(value)}: its variables make it {size}')

  def compare_shape(self, resolution: int, start: tuple[int, int] = (4, 4)) -> None:
    """The same for arguments of forks with images that are not square; `start`: (h, w) of the constant."""
    height, width = (n * resolution // 4 for n in start)
    self.compare(resolution=resolution, resolution_h=height, resolution_w=width)
    self.compare(init_res=list(start), min_h=start[0], min_w=start[1])
    if start == (4, 4):
      self.compare(res_log2=int(math.log2(resolution)))

  def compare_widths(self, widths: Mapping[str, tuple[int, int]], **rule: float) -> None:
    """Records each number of channels that contradicts the rule, if any argument of the rule was given.

    Args:
      widths: {name: (channels, size of the maps)}.
      rule: fmap_base, fmap_decay, fmap_max and, if the function has it, fmap_min: their defaults.
    """
    before = len(self._problems)
    told = any(self.value(name, None) is not None for name in rule)
    base, decay, most, *least = (self.number(name, default) for name, default in rule.items())
    if not told or len(self._problems) > before:
      return
    for name, (width, size) in widths.items():
      try:
        wanted = max(min(int(base / 2.0 ** (math.log2(size / 2) * decay)), most), *least, 1)
      except ArithmeticError:
        wanted = 0
      if wanted != width:
        self._problems.append(f'{name}: {width} channels, where {" and ".join(rule)} make {shown(wanted)}')

  def ignored(self) -> list[str]:
    """The arguments that were not used. The functions accept any, and ignore unknown ones."""
    return [name for name in self._given if name not in self._used]


class Source:
  """A generator of a TensorFlow file, taken apart.

  Args:
    checkpoint: the file.
    weights: 'ema' or 'raw'.
    functions: {component: the functions that may build it}.

  Attributes:
    arrays: {name: array}; the name of the component comes before that of the variable: 'synthesis/4x4/Const/const'.
    functions: {component: the function that builds it}.
    arguments: of these functions and of that of the whole network.
    table: of the arrays; it collects all problems and notes.

  Raises:
    InputError: the file does not have these weights.
  """

  def __init__(self, checkpoint: Checkpoint, weights: str, functions: Mapping[str, tuple[str, ...]]):
    network, notes = chosen(checkpoint, weights)
    problems: list[str] = []
    self.arrays, given = _variables(network, '', problems), _given(network, '', problems)
    self.functions: dict[str, str] = {}
    for name, component in _components(network, problems).items():
      self.functions[name] = component.told('build_func_name')
      self.arrays |= {f'{name}/{key}': array for key, array in _variables(component, name, problems).items()}
      for key, value in _given(component, name, problems).items():
        # The whole network passes its own arguments to its components.
        if given.setdefault(key, value) != value:
          problems.append(f'{name}: {key}={shown(value)}, but the whole network has {shown(given[key])}')
    for name, known in functions.items():
      if self.functions.get(name) not in known:
        built = f'built by {shown(self.functions[name], 40) or "nothing"}' if name in self.functions else 'missing'
        problems.append(f'the component {name}: {built}, where {" or ".join(known)} is expected')
    self.table = Table(self.arrays)
    self.table.problems += problems
    self.table.notes += notes
    self.arguments = Arguments(given, self.table.problems)

  def whole(self) -> bool:
    """Whether there are no problems so far."""
    return not self.table.problems

  def resolution(self, prefix: str = '') -> int | None:
    """The resolution of the largest block, a power of two from 8; None, with a problem, if there is none."""
    found = indices(self.arrays, rf'{prefix}(\d+)x\1/.*')
    largest = max(found, default=0)
    if 8 <= largest <= LARGEST_RESOLUTION and not largest & (largest - 1):
      return largest
    names = dict.fromkeys(
      match[1] for key in self.arrays if (match := re.match(rf'{prefix}(\d{{1,6}}x\d{{1,6}})/', key))
    )
    called = listed(list(names)) or 'none'
    self.table.problems.append(f'{prefix}*x*: the blocks are {called}, where 4x4, 8x8 and so on are expected')
    return None

  def take(self, entries: Iterable[Entry], gain: float | None = None) -> None:
    """Takes arrays; with `gain`, weights are multiplied by gain / sqrt(inputs) when they run.

    If `use_wscale` is off, the original does not multiply, so the weights are divided by that factor here.
    """
    entries = list(entries)
    self.table.take(entries)
    if gain is None or self.arguments.value('use_wscale', True):
      return
    for entry in entries:
      if entry.target in self.table.tensors:
        weight = np.asarray(self.table.tensors[entry.target], np.float64)
        self.table.tensors[entry.target] = weight * (math.sqrt(math.prod(weight.shape[:-1])) / gain)

  def leave_coarse(self, prefix: str, blocks: int, parts: tuple[str, ...] = ('weight', 'bias')) -> None:
    """Leaves out the RGB layers of all blocks except the last."""
    for lod in range(1, blocks):
      for part in parts:
        self.table.leave(f'{prefix}ToRGB_lod{lod}/{part}', 'of a smaller image, made only while the network grew')

  def finish(self, family: str, options: object):
    """The conversion, with a note on arguments without effect."""
    ignored = self.arguments.ignored()
    if ignored and options is not None:
      self.table.notes.append(f'arguments without effect on the image: {listed(ignored)}')
    return self.table.conversion(family, 'tensorflow', options)

  def note_truncation(self, psi: object, cutoff: object) -> None:
    """Notes the original's default truncation; here nothing is truncated unless the user requests it."""
    if psi is None:
      self.table.notes.append('truncation: none, in the original too')
      return
    flags = f'--truncation={shown(psi, 20)}'
    if cutoff is not None:
      flags += f' --truncation_layers={shown(cutoff, 20)}'
    self.table.notes.append(f'truncation: none unless asked for; the original draws as with {flags}')


def _part(network: TensorFlowNetwork, key: str, kind: type, place: str, problems: list[str]):
  """A part of a network's state; if it is missing or of another type, an empty part and a problem."""
  part = network.state.get(key) if isinstance(network.state, dict) else None
  if key == 'components' and isinstance(network.state, dict) and key not in network.state:
    return kind()  # networks of ProGAN have none
  if isinstance(part, kind):
    return part
  problems.append(f'{f"the component {place}" if place else "the network"}: its {key} are not a {kind.__name__}')
  return kind()


def _variables(network: TensorFlowNetwork, place: str, problems: list[str]) -> dict[str, np.ndarray]:
  """{name: array} of a network's own variables; numbers are arrays without axes."""
  arrays: dict[str, np.ndarray] = {}
  for pair in _part(network, 'variables', list, place, problems):
    name, value = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
    if not isinstance(name, str) or len(name) > LONGEST_KEY or not name.isprintable():
      problems.append(f'{place or "the network"}: {shown(name)} is not a name of a variable')
      continue
    if type(value) in (int, float):
      value = np.asarray(value, np.float64)
    if not isinstance(value, np.ndarray):
      problems.append(f'{place}/{name}: not an array' if place else f'{name}: not an array')
    elif name in arrays:
      problems.append(f'{place}/{name}: there twice' if place else f'{name}: there twice')
    else:
      arrays[name] = value
  return arrays


def _given(network: TensorFlowNetwork, place: str, problems: list[str]) -> dict[str, object]:
  """{name: value} of the arguments of a network's function."""
  given = {}
  for name, value in _part(network, 'static_kwargs', dict, place, problems).items():
    if not isinstance(name, str):
      problems.append(f'{place or "the network"}: {shown(name)} is not a name of an argument')
    elif isinstance(value, np.ndarray):
      if value.size > LARGEST_ARGUMENT:
        problems.append(f'{name}: an array {value.shape} is not an argument')
      given[name] = value.tolist() if value.size <= LARGEST_ARGUMENT else None
    else:
      given[name] = value
  return given


def _components(network: TensorFlowNetwork, problems: list[str]) -> dict[str, TensorFlowNetwork]:
  """{name: network} of the networks inside, which contain no others."""
  components = {}
  for name, component in _part(network, 'components', dict, '', problems).items():
    if not isinstance(name, str) or not isinstance(component, TensorFlowNetwork):
      problems.append(f'components: {shown(name)} is not a network')
    elif _part(component, 'components', dict, name, problems):
      problems.append(f'the component {name}: it has components itself')
    else:
      components[name] = component
  return components


def taps_of(kernel: object, name: str, problems: list[str]) -> Taps | None:
  """The taps of a filter, scaled to sum 1, from a list of numbers or a square list of rows; else None and a problem."""
  try:
    array = np.asarray(kernel, np.float64)
  except (TypeError, ValueError):  # texts, or rows of different lengths
    array = np.zeros(())
  square = array.ndim == 1 or (array.ndim == 2 and array.shape[0] == array.shape[1])
  if square and 0 < len(array) <= MOST_TAPS and np.isfinite(array).all() and array.sum():
    return filter_taps(array, array.sum())
  problems.append(f'{name}={shown(kernel)}: not a filter')
  return None


def mapping_sizes(source: Source, label: str, w_dim: int) -> dict:
  """z_dim, num_classes, embed_dim, label_input, mapping_widths and their multiplier; {} if some cannot be inferred.

  Args:
    source: with a component `mapping`.
    label: 'LabelConcat', normalised together with z, or 'LabelEmbed', normalised alone.
    w_dim: the input size of the synthesis network.
  """
  arrays, table, arguments = source.arrays, source.table, source.arguments
  count = max(indices(arrays, r'mapping/Dense(\d+)/.*'), default=-1) + 1
  keys = [f'mapping/Dense{i}' for i in range(count + 1)]
  widths = tuple(
    size_of(arrays, (f'{key}/weight', 2, 1), (f'{key}/bias', 1, 0), (f'{following}/weight', 2, 0))
    for key, following in itertools.pairwise(keys)
  )
  key = f'mapping/{label}/weight'
  classes, embed = shape_of(arrays, key, 2) or (0, 0)
  inputs = size_of(arrays, ('mapping/Dense0/weight', 2, 0))
  if not count:  # w is the normalised z itself
    inputs = arguments.number('latent_size', 512, whole=True) + embed
  lacking = [f'{name}/weight' for name, width in zip(keys, widths, strict=False) if width is None]
  lacking += [key] if key in arrays and not classes else []
  lacking += ['mapping/Dense0/weight'] if inputs is None else []
  for name in lacking:
    table.lacks(name, 2)
  if lacking:
    return {}
  if label == 'LabelConcat' and classes and inputs != 2 * embed:
    table.problems.append(f'{key}: expected ({classes}, {inputs // 2}), found {(classes, embed)}')
    return {}
  if widths and widths[-1] != w_dim:
    table.problems.append(f'{keys[count - 1]}/weight: {widths[-1]} outputs, where the synthesis network takes {w_dim}')
    return {}
  arguments.require(normalize_latents=True)
  arguments.compare(latent_size=inputs - embed, dlatent_size=w_dim, label_size=classes, mapping_layers=count)
  for width in widths[:-1]:
    arguments.compare(mapping_fmaps=width)
  if label == 'LabelEmbed' and classes:
    arguments.compare(label_fmaps=embed)
  joins = {'LabelConcat': 'joint', 'LabelEmbed': 'separate'}[label]
  return {
    'z_dim': inputs - embed,
    'num_classes': classes,
    'embed_dim': embed,
    'label_input': joins if classes else 'none',
    'mapping_widths': widths,
    'mapping_lr_multiplier': arguments.number('mapping_lrmul', 0.01, positive=True),
  }


def take_mapping(source: Source, options: GrownOptions, gain: float | None = None) -> None:
  """Takes the mapping network and the mean of w; `gain`: see `Source.take`."""
  source.take(_label_entries(options))
  inputs = options.z_dim + options.embed_dim
  for i, width in enumerate(options.mapping_widths):
    key, target = f'mapping/Dense{i}', f'mapping_network.layers.{i}'
    source.take([Entry(f'{key}/weight', f'{target}.weight', (inputs, width))], gain)
    source.take([Entry(f'{key}/bias', f'{target}.bias', (width,))])
    inputs = width
  source.take([Entry('dlatent_avg', 'w_avg', (options.w_dim,))])


def _label_entries(options: GrownOptions) -> Iterator[Entry]:
  shape = options.num_classes, options.embed_dim
  if options.label_input == 'joint':
    yield Entry('mapping/LabelConcat/weight', 'mapping_network.label_weight', shape)
  elif options.label_input == 'separate':
    yield Entry('mapping/LabelEmbed/weight', 'mapping_network.embed.weight', shape)
    yield Entry('mapping/LabelEmbed/bias', 'mapping_network.embed.bias', shape[1:])
