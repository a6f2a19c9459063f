"""The runs of a sweep: their settings, the names of their folders, and their shares of several machines."""

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from panda_jax.errors import InputError, brief, nearest
from panda_jax.files.records import misfit
from panda_jax.workdir.config import KEYS, default_config, forms, kind_of

MANY = 300  # runs; for more the user must confirm
MOST = 1_000_000  # runs
LONGEST = 120  # characters of a run's name
WITH_COMMAS = ('grid', 'labels')  # keys with commas in a single value
NUMBERS = re.compile(r'(-?\d{1,18})(?:-(-?\d{1,18})(?::(\d{1,18}))?)?')
BOOLS = {'true': True, 'false': False}

Axes = Mapping[str, Sequence[Any]]  # {key: its values}


class Cell(NamedTuple):
  """One run of a sweep.

  Attributes:
    name: of its folder: the settings in which it differs from others.
    settings: {key: value}, its changes to the configuration.
  """

  name: str
  settings: dict[str, Any]

  def config(self, base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The configuration of the run."""
    config = ml_collections.ConfigDict(base.to_dict())
    config.update(self.settings)
    return config


def parsed_values(key: str, text: str, flag: str | None = None) -> Sequence[Any]:
  """The values of a key from '4,8,12', of whole numbers also from '0-4' and '4-24:4', in steps of 4.

  `flag`: as the user typed it, for messages.

  Raises:
    InputError: the text is not such a list, a value is given twice, or there are more than `MOST` values.
  """
  kind, argument = kind_of(key), flag or key
  example = {int: '4,8 or 0-4 or 4-24:4', float: '0.7,1', bool: 'true,false'}.get(kind, 'one,two')
  remedy = f'give --{argument}={example}'
  pieces = [text] if key in WITH_COMMAS else [piece.strip() for piece in text.split(',')]
  if not all(pieces):
    raise InputError(argument, text, 'a value is missing', remedy)
  runs = [_values(argument, kind, piece, text, remedy) for piece in pieces]
  if sum(map(len, runs)) > MOST:
    raise InputError(argument, text, f'more than {MOST:,} values', 'give fewer')
  values = [value for run in runs for value in run]
  twice = [value for value in values if values.count(value) > 1] if len(values) < MANY else []
  if twice or len(set(values)) < len(values):
    raise InputError(argument, text, f'{twice[0] if twice else "a value"} is given twice', 'give each value once')
  return values


def _values(argument: str, kind: type, piece: str, text: str, remedy: str) -> Sequence[Any]:
  """The values of a piece between two commas."""
  said = 'it' if piece == text else brief(piece, 24)
  if kind is int:
    found = NUMBERS.fullmatch(piece)
    if found is None:
      raise InputError(argument, text, f'{said} is neither a whole number nor a range of them', remedy)
    first, last, step = int(found[1]), found[2], int(found[3] or 1)
    if last is None:
      return [first]
    if int(last) < first or step < 1:
      raise InputError(argument, text, f'{said} has no numbers in it', remedy)
    return range(first, int(last) + 1, step)
  try:
    value = BOOLS[piece.lower()] if kind is bool else kind(piece)
  except (KeyError, ValueError):
    raise InputError(
      argument, text, f'{said} is not {"a number" if kind is float else "true or false"}', remedy
    ) from None
  if kind is float and not math.isfinite(value):
    raise InputError(argument, text, f'{said} is not a number', remedy)
  return [value]


def checked_axes(given: Any, of: str) -> list[dict[str, Sequence[Any]]]:
  """The checked result of a configuration's `sweep()`: {key: values}, or a list of {key: value}, one for each run.

  Args:
    given: the result.
    of: the configuration's name, for messages.

  Raises:
    InputError: it has another form, or a value is not of its key's type.
  """
  blocks = given if isinstance(given, list | tuple) else [given]
  problem = f'its sweep() gives {type(given).__name__}'
  remedy = "let it give {'parts': [4, 8]}, or a list of {'parts': 4, 'layer': 3}"
  if not blocks or not all(isinstance(block, Mapping) for block in blocks):
    raise InputError('--config', of, problem + ' with nothing in it' * (not blocks), remedy)
  form, found = forms(default_config()), []
  for block in blocks:
    axes: dict[str, Sequence[Any]] = {}
    for key, values in block.items():
      check_key(key)
      single = block is not given
      if not single and (isinstance(values, str) or not isinstance(values, Iterable)):
        raise InputError('--config', of, f'sweep() gives {key} no list', remedy)
      values = [values] if single else [*itertools.islice(values, MOST + 1)]
      wrong = next((wrong for value in values if (wrong := misfit(value, form[key], key))), None)
      if wrong or not values or len(values) > MOST:
        said = wrong or ('the list is empty' if not values else f'more than {MOST:,} values')
        raise InputError('--config', of, f'in sweep(), {key}: {said}', f"let it give '{key}': {_listed(key)}")
      axes[key] = values
    found.append(axes)
  return found


def _listed(key: str) -> str:
  """The values that a key may have, for messages."""
  examples = {int: '[4, 8]', float: '[0.7, 1.0]', bool: '[True, False]'}
  return examples.get(kind_of(key), "['one', 'two']")


def check_key(key: Any) -> None:
  """Raises InputError unless a fit has a key of this name."""
  if key not in KEYS:
    raise InputError('key', key, 'there is no such key', nearest(str(key), KEYS, 'see fit --help'))


def cells_of(blocks: Iterable[Axes], yes: bool = False) -> list[Cell]:
  """All runs: the products of the values of each block. Runs that share features are next to each other.

  Args:
    blocks: {key: values} each.
    yes: the user confirmed many runs.

  Raises:
    InputError: nothing varies, or there are too many runs.
  """
  blocks = [{key: block[key] for key in KEYS if key in block} for block in blocks]
  count = sum(math.prod(map(len, block.values())) for block in blocks)
  if count > MANY and not yes:
    raise InputError('sweep', f'{count:,} runs', 'these are many', 'give --yes to start them all, or fewer values')
  if count > MOST:
    raise InputError('sweep', f'{count:,} runs', f'more than {MOST:,}', 'give fewer values')
  settings = [
    dict(zip(block, values, strict=True)) for block in blocks for values in itertools.product(*block.values())
  ]
  differing = [key for key in KEYS if len({_text(one.get(key, ...)) for one in settings}) > 1]
  if not differing:
    remedy = 'give a list such as --parts=4,8 or --seed=0-4; `fit` does one run'
    raise InputError('sweep', None, 'not given: no setting has several values', remedy)
  names = _names(settings, differing)
  if len(set(names)) < len(names):
    raise InputError('sweep', next(n for n in names if names.count(n) > 1), 'two runs are the same', 'give it once')
  return [Cell(name, one) for name, one in zip(names, settings, strict=True)]


def _text(value: Any) -> str:
  return 'none' if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _names(settings: Sequence[Mapping[str, Any]], differing: Sequence[str]) -> list[str]:
  """Names like 'layer=5,parts=8'. Of a path they have the last piece, with a hash if two paths end the same."""
  short: dict[str, dict[str, str]] = {}
  for key in differing:
    full = {_text(one[key]) for one in settings if key in one}
    brief = {text: re.sub(r'[^\w.+-]', '_', Path(text).name if '/' in text else text) for text in full}
    taken = Counter(brief.values())
    short[key] = {t: b if taken[b] == 1 else f'{b}-{_hash(t)}' for t, b in brief.items()}
  names = [','.join(f'{key}={short[key][_text(one[key])]}' for key in differing if key in one) for one in settings]
  return [name if len(name) <= LONGEST else f'{name[: LONGEST - 9]}-{_hash(json.dumps(name))}' for name in names]


def _hash(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def shard_of(cells: Sequence[Cell], text: str | None) -> Sequence[Cell]:
  """The runs of shard i of n, from 'i/n' with i from 0: consecutive runs, which share most; all for None.

  Raises:
    InputError: the text does not have this form.
  """
  if text is None:
    return cells
  found = re.fullmatch(r'(\d{1,9})/(\d{1,9})', text.strip())
  if found is None:
    raise InputError('shard', text, 'it is not i/n', 'give --shard=0/4, 1/4, 2/4 and 3/4 for four')
  i, n = int(found[1]), int(found[2])
  if i >= n:
    remedy = f'give 0/{n} to {n - 1}/{n}' if n else 'give --shard=0/4, for example'
    raise InputError('shard', text, f'shards of {n} are counted from 0' if n else 'there is no such shard', remedy)
  return cells[len(cells) * i // n : len(cells) * (i + 1) // n]
