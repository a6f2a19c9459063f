"""The networks in a file: their places, the prefixes of their keys, the one that the user wants, whether it is known.

A file may hold a state dict alone, under a name of its code, in a user's dict, or inside another network, whose name
then precedes each key: `module.` of DataParallel, `decoder.` of pSp. A dialect gives the pattern of a key that only its
networks have; this module finds the prefix before it, and removes it.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator

import numpy as np

from panda_jax.converters.checkpoint import Checkpoint, Module
from panda_jax.converters.limits import shown
from panda_jax.errors import InputError

DEEPEST = 4  # dicts inside of dicts
BEFORE = r'(?:[^.]+\.){0,6}?'  # words that precede a key; limited, to limit the time
MOST_FOUND = 16  # networks; a file with more is not a checkpoint of a generator

# Words of a name that show which weights it holds. Other words do not: 'state_dict', 'module', 'decoder'.
AVERAGED = re.compile(r'ema|gs|smooth|running|.+_(ema|smooth|running|avg)|ema_.+', re.IGNORECASE)
LATEST = re.compile(r'[gG]|gen|generator|netG|G_model|params')
OTHER = re.compile(r'[dD]|D_ema|disc|discriminator.*|netD|encoder')  # not generators, even if their keys look so


class Taken(str):
  """A note on which weights were taken.

  Attributes:
    weights: 'ema', 'raw', or 'unknown' if the file does not say.
  """

  weights: str

  def __new__(cls, text: str, weights: str):
    note = super().__new__(cls, text)
    note.weights = weights
    return note


def weights_taken(notes: Iterable[str], asked: str) -> str:
  """The weights that a conversion took, from its notes; the requested ones if no note says it."""
  return next((note.weights for note in notes if isinstance(note, Taken)), asked)


def unsaid(text: str, weights: str, alone: bool = True) -> list[str]:
  """Notes on weights if the file does not say whether they are averaged.

  Args:
    text: a sentence that says so.
    weights: 'ema' or 'raw'.
    alone: whether there are no others, so that `weights` had no effect.
  """
  idle = ['--weights=raw chose nothing: the file has one set of weights'] * (alone and weights == 'raw')
  return [Taken(text, 'unknown'), *idle]


@dataclasses.dataclass(frozen=True)
class Network:
  """A network of PyTorch in a file.

  Attributes:
    name: its place: the keys of the dicts, and the prefix of its own keys, with dots between; '' for the whole file.
    module: with the arrays under their own names; for a state dict, only these.
    bare: whether it is a state dict, which does not contain options.
    around: the dicts that contain it, the innermost first.
    left: number of arrays in the same dict that have other prefixes.
  """

  name: str
  module: Module
  bare: bool
  around: tuple[dict, ...]
  left: int = 0

  @property
  def arrays(self) -> dict[str, np.ndarray]:
    return self.module.state_dict

  @property
  def words(self) -> list[str]:
    return self.name.split('.')

  @property
  def averaged(self) -> bool:
    return any(AVERAGED.fullmatch(word) for word in self.words)

  @property
  def latest(self) -> bool:
    return not self.averaged and any(LATEST.fullmatch(word) for word in self.words)

  def strangers(self, classes: str) -> list[str]:
    """Its modules with a class name (without package) that the pattern does not match: their function is unknown."""
    named = {} if self.bare else {'the generator': self.module.class_name, **self.module.classes}
    found = {place: path for place, path in named.items() if not re.fullmatch(classes, path.rsplit('.', 1)[-1])}
    return [f'{place}: a {shown(path)}' for place, path in found.items()]

  def beside(self, key: str) -> np.ndarray | None:
    """An array of the network that is stored beside it, or in one of the dicts around it."""
    found = [holder.get(key) for holder in (self.arrays, *self.around)]
    return next((array for array in found if isinstance(array, np.ndarray)), None)


def networks(tree: object, signature: str) -> list[Network]:
  """The networks that have a key of this pattern, at most `MOST_FOUND`.

  Args:
    tree: of a checkpoint.
    signature: regular expression of a whole key without prefix.
  """
  pattern = re.compile(f'({BEFORE})(?:{signature})')
  found: list[Network] = []
  for names, holder, around in _holders(tree, (), ()):
    where = '.'.join(names)
    if isinstance(holder, Module):
      if any((match := pattern.fullmatch(key)) and not match[1] for key in holder.state_dict):
        found.append(Network(where, holder, False, around))
    else:
      found += _state_dicts(where, holder, around, pattern)
    if len(found) >= MOST_FOUND:
      break
  return found[:MOST_FOUND]


def _holders(tree: object, names: tuple[str, ...], around: tuple[dict, ...]) -> Iterator[tuple]:
  """(names, module or dict, dicts around it) of everything that may hold a network; the outermost first."""
  level = [(names, tree, around)]
  for _ in range(DEEPEST + 1):
    below = []
    for place, holder, outer in level:
      if isinstance(holder, dict | Module):
        yield place, holder, outer
      if isinstance(holder, dict):
        inner = [(key, value) for key, value in holder.items() if isinstance(value, dict | Module)]
        below += [((*place, str(key)), value, (holder, *outer)) for key, value in inner]
    level = below


def _state_dicts(where: str, holder: dict, around: tuple[dict, ...], pattern: re.Pattern) -> Iterator[Network]:
  arrays = {key: value for key, value in holder.items() if isinstance(key, str) and isinstance(value, np.ndarray)}
  prefixes = dict.fromkeys(match[1] for key in arrays if (match := pattern.fullmatch(key)))
  owned: dict[str, dict[str, np.ndarray]] = {prefix: {} for prefix in prefixes}
  for key, value in arrays.items():
    # It belongs to the longest prefix; each prefix ends with a dot or is empty.
    ends = [0, *(dot.end() for dot in re.finditer(r'\.', key))]
    prefix = next((key[:end] for end in reversed(ends) if key[:end] in owned), None)
    if prefix is not None:
      owned[prefix][key.removeprefix(prefix)] = value
  for prefix, own in list(owned.items())[:MOST_FOUND]:
    name = '.'.join(filter(None, (where, prefix.removesuffix('.'))))
    outer = (holder, *around) if prefix else around
    yield Network(name, Module('', [], {}, own, {}), True, outer, len(arrays) - len(own))


def chosen(
  checkpoint: Checkpoint, signature: str, weights: str, averaged: str, latest: str, classes: str = ''
) -> tuple[Network, list[str]]:
  """The network that the user wants, and notes.

  Args:
    checkpoint: with at least one network.
    signature: see `networks`.
    weights: 'ema' or 'raw'.
    averaged, latest: their names in the dialect's own code.
    classes: regular expression of the names of its classes; '' for a dialect whose files hold only state dicts.

  Raises:
    InputError: the latest weights are requested and missing; several networks fit; a module has another class.
  """
  found = networks(checkpoint.tree, signature)
  found = [n for n in found if not any(map(OTHER.fullmatch, n.words))] or found
  means, others = [n for n in found if n.averaged], [n for n in found if not n.averaged]
  pool = means or others if weights == 'ema' else others
  if not pool:
    where = 'the file has' if checkpoint.key is None else f'under --key={shown(checkpoint.key, 60)} there is'
    raise InputError('--weights', weights, f'{where} no {latest}', 'leave the flag out')
  own = [network for network in pool if not {averaged, latest}.isdisjoint(network.words)]
  own = own or [network for network in pool if not network.name]
  if len(pool) > 1 and len(own) != 1:
    names = [shown(network.name) for network in pool]
    remedy = f'choose one, such as --key={shown(names[0], 60)}'
    raise InputError('source', checkpoint.path, 'it holds several generators', remedy, names)
  network = own[0] if own else pool[0]
  strangers = network.strangers(classes)
  if strangers:
    remedy = 'save only its state_dict, and convert that, if they compute what those of the layout do'
    raise InputError('source', checkpoint.path, 'the layout has no modules of these classes', remedy, strangers)
  return network, _notes(network, weights, bool(means), checkpoint.key is not None)


def _notes(network: Network, weights: str, averaged_there: bool, by_key: bool) -> list[str]:
  kind = 'state dict' if network.bare else 'module'
  notes: list[str]
  if not network.name:
    notes = unsaid(f'the file holds one {kind}, averaged or not it does not say', weights)
  elif network.averaged:
    notes = [Taken(f'weights of {network.name}', 'ema')]
  elif network.latest:
    missed = weights != 'raw' and not averaged_there and not by_key  # with --key, no others were looked for
    notes = [Taken(f'weights of {network.name}' + ': the file has no averaged ones' * missed, 'raw')]
  else:
    alone = not averaged_there
    notes = unsaid(f'weights of {network.name}, averaged or not the file does not say', weights, alone)
  if network.left:
    notes.append(f'arrays of other networks beside {network.name or "the generator"}: {network.left}')
  return notes


def under(checkpoint: Checkpoint, key: str) -> Checkpoint:
  """The checkpoint reduced to the networks under a key.

  Args:
    checkpoint: as it was read.
    key: keys of dicts, and the prefix of keys of arrays, with dots or slashes between.

  Raises:
    InputError: there is nothing there.
  """
  tree = _pruned(checkpoint.tree, re.split(r'[./]', key))
  if tree is None:
    raise InputError('--key', key, 'the file has nothing there; it has', 'give one of these', _places(checkpoint.tree))
  return dataclasses.replace(checkpoint, tree=tree, key=key)


def _pruned(tree: object, words: list[str]) -> dict | Module | None:
  """A tree without the containers and dotted keys outside a path; single arrays on the path are kept."""
  if not words:
    return tree if isinstance(tree, dict | Module) else None
  if not isinstance(tree, dict):
    return None
  beside = {key: value for key, value in tree.items() if isinstance(value, np.ndarray) and '.' not in str(key)}
  for count in range(len(words), 0, -1):  # keys may contain dots
    name = '.'.join(words[:count])
    inner = _pruned(tree[name], words[count:]) if isinstance(tree.get(name), dict | Module) else None
    if inner is not None:
      return beside | {name: inner}
  prefix = '.'.join(words) + '.'
  own = {key: value for key, value in tree.items() if isinstance(key, str) and key.startswith(prefix)}
  return beside | own if own else None


def _places(tree: object) -> list[str]:
  """The possible values of --key: the dicts and modules of a file, and the prefixes of its keys."""
  places: dict[str, None] = {}
  for names, holder, _ in _holders(tree, (), ()):
    if names:
      places['.'.join(names)] = None
    if isinstance(holder, dict):
      dotted = [key for key, value in holder.items() if isinstance(value, np.ndarray) and isinstance(key, str)]
      firsts = {key.split('.')[0] for key in dotted if '.' in key}
      places |= dict.fromkeys('.'.join((*names, first)) for first in sorted(firsts))
  return [shown(place) for place in places] or ['nothing']
