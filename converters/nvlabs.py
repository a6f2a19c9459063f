"""What the .pkl files of NVlabs' stylegan2-ada-pytorch and stylegan3 have in common for StyleGAN2."""

from collections.abc import Iterable

from converters.reading import Checkpoint, Module
from panda_jax.errors import InputError

AVERAGED, LATEST = 'G_ema', 'G'
MISSING = object()


def candidates(checkpoint: Checkpoint) -> dict[str, Module]:
  """The generators in a file by name: averaged, latest, or '' for a lone module."""
  if isinstance(checkpoint.tree, Module):
    return {'': checkpoint.tree}
  if not isinstance(checkpoint.tree, dict):
    return {}
  return {name: checkpoint.tree[name] for name in (AVERAGED, LATEST) if isinstance(checkpoint.tree.get(name), Module)}


def chosen(checkpoint: Checkpoint, weights: str) -> tuple[Module, list[str]]:
  """The module that the user asked for, and notes.

  Raises:
    InputError: the latest weights are asked for and not there.
  """
  found = candidates(checkpoint)
  if '' in found:
    return found[''], ['the file holds one module, averaged or not it does not say']
  if weights == 'raw':
    if LATEST not in found:
      raise InputError('--weights', weights, f'the file has no {LATEST}', 'leave the flag out')
    return found[LATEST], [f'weights of {LATEST}']
  name = AVERAGED if AVERAGED in found else LATEST
  return found[name], [f'weights of {name}' + ('' if name == AVERAGED else ': the file has no averaged ones')]


class Hyperparameters:
  """What a module tells of its options: in its attributes, else in its constructor's arguments.

  Attributes:
    problems: what contradicts itself.
  """

  def __init__(self, module: Module):
    self._module = module
    self.problems: list[str] = []
    self.arguments = dict(module.init_kwargs)
    names = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels')
    self.arguments.update(zip(names, module.init_args, strict=False))
    # stylegan2-ada-pytorch collects what is for the synthesis network, stylegan3's StyleGAN2 does not.
    nested = self.arguments.get('synthesis_kwargs')
    self.nested = isinstance(nested, dict)
    self.synthesis = nested if self.nested else self.arguments
    mapping = self.arguments.get('mapping_kwargs')
    self.mapping = mapping if isinstance(mapping, dict) else {}

  def attribute(self, names: Iterable[str]) -> object:
    """The value that all of these attributes have; MISSING if there are none of them. Differences are problems."""
    found = {name: self._module.attributes[name] for name in names if name in self._module.attributes}
    if not found:
      return MISSING
    first, value = next(iter(found.items()))
    self.problems += [f'{name}={other}: {first} is {value}' for name, other in found.items() if other != value]
    return value

  def value(self, attributes: Iterable[str], arguments: dict, name: str, default: object) -> object:
    """An option from attributes, else from arguments, else the default of the class."""
    value = self.attribute(attributes)
    given = arguments.get(name, MISSING)
    if value is MISSING:
      return default if given is MISSING else given
    if given is not MISSING and given != value:
      self.problems.append(f'{name}={given} in the arguments of the constructor: its layers have {value}')
    return value

  def compare(self, **told: object) -> None:
    """Notes each argument of the constructor that contradicts what the tensors tell."""
    for name, value in told.items():
      given = self.arguments.get(name, MISSING)
      if given is not MISSING and given != value:
        self.problems.append(f'{name}={given} in the arguments of the constructor: its tensors make it {value}')
