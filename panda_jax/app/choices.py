"""What a user of the explorer has chosen, as values without pictures.

The page holds its choice and sends it with every request. So the server keeps no choices, users do not affect each
other, and an open page still works after a restart of the server. Any client can send any values: `from_json` accepts
only the form of a choice, and `check` accepts only the parts and appearances of a fit.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from panda_jax.editing.zoo import Spec
from panda_jax.errors import InputError

MOST_SEEDS = 9  # pictures at a time
MOST_TERMS = 8  # edits at a time
MOST_TRUNCATION = 2.0
LARGEST_NUMBER = 1e30  # of strengths and masks: the edited features stay finite in float32
REMEDY = 'load the page again'


@dataclasses.dataclass(frozen=True)
class Choice:
  """What is shown.

  Attributes:
    seeds: of the samples, 1 to `MOST_SEEDS`.
    terms: edits that are added up, at most `MOST_TERMS`.
    refined: whether parts are refined for each sample.
    truncation: of the samples; None for that of the fit.
    photograph: the key of a photograph that is shown in place of the samples.
  """

  seeds: tuple[int, ...] = (0,)
  terms: tuple[Spec, ...] = ()
  refined: bool = False
  truncation: float | None = None
  photograph: str | None = None

  @property
  def keys(self) -> tuple['Key', ...]:
    """Keys of the samples, or of the photograph."""
    if self.photograph:
      return (self.photograph,)
    return tuple(Seed(seed, self.truncation) for seed in self.seeds)

  @property
  def acting(self) -> tuple[Spec, ...]:
    """The terms with a strength other than 0."""
    return tuple(term for term in self.terms if term.alpha)

  def with_last(self, alpha: float) -> 'Choice':
    """The same choice with another strength of the last term."""
    *others, last = self.terms
    return dataclasses.replace(self, terms=(*others, dataclasses.replace(last, alpha=alpha)))

  def to_json(self) -> dict[str, Any]:
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    return values | {'seeds': list(self.seeds), 'terms': [term.to_json() for term in self.terms]}

  @classmethod
  def from_json(cls, values: Any) -> 'Choice':
    """A choice from the values of `to_json`; missing values have their defaults.

    Raises:
      InputError: the values do not have this form.
    """
    names = {field.name for field in dataclasses.fields(cls)}
    if not isinstance(values, dict) or set(values) - names:
      raise InputError('choice', type(values).__name__, f'its keys are not {", ".join(sorted(names))}', REMEDY)
    choice = cls(**values)
    if not isinstance(choice.seeds, list | tuple) or not isinstance(choice.terms, list | tuple):
      raise InputError('choice', 'seeds and terms', 'they are not lists', REMEDY)
    if len(choice.terms) > MOST_TERMS:
      raise InputError('edits', f'{len(choice.terms)} of them', f'{MOST_TERMS} are added up at most', 'take fewer')
    if not isinstance(choice.refined, bool):
      raise InputError('refined', type(choice.refined).__name__, 'it is neither true nor false', REMEDY)
    terms = tuple(checked_term(term) for term in choice.terms)
    choice = dataclasses.replace(choice, seeds=checked_seeds(choice.seeds), terms=terms)
    if choice.truncation is not None:
      checked_truncation(choice.truncation)
    if choice.photograph is not None:
      checked_key(choice.photograph)
    return choice

  def check(self, offered: 'Offered') -> None:
    """Raises InputError unless each term uses only what the fit offers."""
    for term in self.terms:
      appearances = () if term.direction is not None else (term.appearance,)
      for name, given, live in (('part', term.part, offered.parts), ('appearance', appearances, offered.appearances)):
        for index in checked_distinct(name, given, len(live)):
          checked_index(name, index, live)
      for name, given, count in (('mask', term.mask, offered.S), ('direction', term.direction, offered.C)):
        if given is not None and (len(given) != count or not all(abs(x) <= LARGEST_NUMBER for x in given)):
          raise InputError(name, '…', f'it does not hold {count} finite numbers', REMEDY)


class Seed(NamedTuple):
  """A sample: its seed, or its number in a file, and its truncation (None: that of the fit)."""

  seed: int
  truncation: float | None = None


Key = Seed | str  # a sample, or the key of a photograph


class Offered(NamedTuple):
  """What a fit offers: live parts and appearances, masks of S numbers, directions of C numbers."""

  parts: list[int]
  appearances: list[int]
  S: int
  C: int

  @classmethod
  def of(cls, factors) -> 'Offered':
    return cls(factors.live_parts, factors.live_appearances, factors.parts.shape[0], factors.appearances.shape[0])


def is_number(x: Any) -> bool:
  """Whether a value is a finite number."""
  return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= LARGEST_NUMBER


def checked_term(values: Any) -> Spec:
  """An edit with a part or mask and one strength, in units of features.

  Raises:
    InputError: the values are not such an edit.
  """
  term = Spec.from_json(values)
  if not term.part and term.mask is None:
    raise InputError('part', None, 'the edit acts nowhere', 'click on the picture first')
  if not is_number(term.alpha):
    raise InputError('alpha', str(term.alpha)[:40], f'it is not one number up to {LARGEST_NUMBER:g}', REMEDY)
  if term.alpha_unit != 'feature' or term.rms is not None:
    raise InputError('alpha_unit', term.alpha_unit, 'it is not that of features', REMEDY)
  return term


def checked_index(argument: str, index: Any, offered: Sequence[int]) -> int:
  """An index, checked to be among those offered.

  Raises:
    InputError: it is not among them.
  """
  if not isinstance(index, int) or isinstance(index, bool) or index not in offered:
    listed = ', '.join(map(str, offered[:20])) + (', …' if len(offered) > 20 else '')
    raise InputError(argument, str(index)[:40], f'there is no such {argument}, or it is dead', f'give one of {listed}')
  return index


def checked_distinct(argument: str, values: Sequence, most: int) -> Sequence:
  """At most `most` values, all different.

  Raises:
    InputError: there are more, or two are equal.
  """
  if len(values) > most:
    raise InputError(argument, f'{len(values)} of them', f'there are {most} at most', 'give fewer')
  if len(set(values)) < len(values):
    raise InputError(argument, f'{len(values)} of them', 'one is named twice', 'name each once')
  return values


def checked_key(value: Any) -> str:
  """A value with the form of a photograph's key.

  Raises:
    InputError: it does not have this form.
  """
  if not isinstance(value, str) or not re.fullmatch(r'[\w-]{1,64}', value, re.ASCII):
    raise InputError('photograph', type(value).__name__, 'it is not the key of a photograph', REMEDY)
  return value


def checked_truncation(value: Any) -> float:
  """A truncation.

  Raises:
    InputError: it is not a number from 0 to `MOST_TRUNCATION`.
  """
  if not is_number(value) or not 0 <= value <= MOST_TRUNCATION:
    raise InputError('truncation', str(value)[:40], f'it is not a number from 0 to {MOST_TRUNCATION:g}', 'give one')
  return float(value)


def checked_seeds(seeds: Sequence) -> tuple[int, ...]:
  """Seeds of pictures to show.

  Raises:
    InputError: there are none or too many, one is not a seed, or two are equal.
  """
  if not 1 <= len(seeds) <= MOST_SEEDS:
    raise InputError('seeds', f'{len(seeds)} of them', f'{MOST_SEEDS} pictures are shown at most', 'give fewer')
  if not all(isinstance(t, int) and not isinstance(t, bool) and 0 <= t < 2**32 for t in seeds):
    raise InputError('seeds', str(seeds)[:40], 'a seed is a whole number from 0 to 2**32 - 1', 'give others')
  return tuple(checked_distinct('seeds', seeds, MOST_SEEDS))
