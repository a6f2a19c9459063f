"""What a user of the explorer has chosen, and the way back: values without a picture in them.

A session travels with the page, as JSON, and comes back with every request. So the server keeps nothing of anybody,
two users cannot meet, and a page that was left open goes on where it was when the server has been restarted. What
comes back may have been made up by anybody: `from_json` takes nothing but what `to_json` gives, of a bounded size, and
`check` nothing but what a fit has.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from panda_jax.editing.zoo import Spec
from panda_jax.errors import InputError
from panda_jax.files.records import parsed_json

MOST_SEEDS = 9  # pictures at a time
MOST_STEPS = 30  # that can be undone
MOST_TERMS = 8  # edits at a time
LARGEST = 4 << 20  # characters of a session: older steps are forgotten rather than more
MOST_VALUES = 100_000  # in it; a value takes far more memory than its characters
LARGEST_NUMBER = 1e30  # strengths and masks; what is added to features stays finite in float32
REMEDY = 'load the page again'


@dataclasses.dataclass(frozen=True)
class Choice:
  """What is shown.

  Attributes:
    seeds: of the samples, one to `MOST_SEEDS`.
    terms: edits that are added up; the last one is what the controls act on. One without part and mask does nothing.
    refined: take parts that are refined for each sample.
    photograph: the key of one that is shown in place of the samples.
  """

  seeds: tuple[int, ...] = (0,)
  terms: tuple[Spec, ...] = (Spec(appearance=0),)
  refined: bool = False
  photograph: str | None = None

  @property
  def samples(self) -> tuple[int, ...] | tuple[str]:
    """Keys of what is shown."""
    return (self.photograph,) if self.photograph else self.seeds

  @property
  def current(self) -> Spec:
    return self.terms[-1]

  @property
  def complete(self) -> tuple[Spec, ...]:
    """The terms that say where they act."""
    return tuple(term for term in self.terms if placed(term))

  @property
  def acting(self) -> tuple[Spec, ...]:
    """Those of them that change anything."""
    return tuple(term for term in self.complete if np.any(term.alpha))

  def at(self, **changes) -> 'Choice':
    """The same with some fields of the current term changed."""
    return dataclasses.replace(self, terms=(*self.terms[:-1], dataclasses.replace(self.current, **changes)))

  def to_json(self) -> dict[str, Any]:
    values = {'seeds': list(self.seeds), 'terms': [term.to_json() for term in self.terms], 'refined': self.refined}
    return values | ({'photograph': self.photograph} if self.photograph else {})

  @classmethod
  def from_json(cls, values: Any) -> 'Choice':
    """From what `to_json` gave.

    Raises:
      InputError: it is no such dict.
    """
    more = {*values} & {'photograph'} if isinstance(values, dict) else ()
    seeds, terms, refined, *photograph = fields(values, 'seeds', 'terms', 'refined', *more)
    if not isinstance(seeds, list) or not isinstance(terms, list) or not 1 <= len(terms) <= MOST_TERMS:
      raise InputError('session', 'seeds and terms', 'they are no lists, or too long', REMEDY)
    shown = checked_seeds(seeds), tuple(Spec.from_json(term) for term in terms), yes_or_no(refined)
    return cls(*shown, *map(checked_key, photograph))

  def check(self, offered: 'Offered') -> None:
    """Raises InputError unless each term is one that the page makes of what a fit offers."""
    for term in self.terms:
      appearances = () if term.direction is not None else (term.appearance,)
      for name, given, live in (('part', term.part, offered.parts), ('appearance', appearances, offered.appearances)):
        for index in checked_distinct(name, given, len(live)):
          checked_choice(name, index, live)
      for name, given, count in (('mask', term.mask, offered.S), ('direction', term.direction, offered.C)):
        if given is not None and (len(given) != count or not all(abs(x) <= LARGEST_NUMBER for x in given)):
          raise InputError(name, '…', f'it does not hold {count} finite numbers', REMEDY)
      if np.ndim(term.alpha) or not abs(term.alpha) <= LARGEST_NUMBER:
        raise InputError('alpha', term.alpha, f'it is not one number up to {LARGEST_NUMBER:g}', REMEDY)
      if term.alpha_unit != 'feature' or term.rms is not None:
        raise InputError('alpha_unit', term.alpha_unit, 'it is not that of features', REMEDY)


class Offered(NamedTuple):
  """What can be chosen of a fit: parts and appearances that are alive, masks of S numbers, directions of C."""

  parts: list[int]
  appearances: list[int]
  S: int
  C: int

  @classmethod
  def of(cls, factors) -> 'Offered':
    return cls(factors.live_parts, factors.live_appearances, factors.parts.shape[0], factors.appearances.shape[0])


def placed(term: Spec) -> bool:
  """Whether an edit says where it acts."""
  return bool(term.part) or term.mask is not None


def checked_choice(argument: str, index: Any, offered: Sequence[int]) -> int:
  """An index that is among those offered.

  Raises:
    InputError: it is not.
  """
  if not isinstance(index, int) or isinstance(index, bool) or index not in offered:
    listed = ', '.join(map(str, offered[:20])) + (', …' if len(offered) > 20 else '')
    raise InputError(argument, index, 'there is no such one that is alive', f'give one of {listed}')
  return index


def checked_distinct(argument: str, values: Sequence, most: int) -> Sequence:
  """Values of which there are at most so many, none of them twice.

  Raises:
    InputError: there are more, or one comes twice.
  """
  if len(values) > most:
    raise InputError(argument, f'{len(values)} of them', f'there are {most} at most', 'give fewer')
  if len(set(values)) < len(values):
    raise InputError(argument, f'{len(values)} of them', 'one is named twice', 'name each once')
  return values


def fields(values: Any, *names: str) -> list[Any]:
  """The values of a dict that has these keys and no other.

  Raises:
    InputError: it is none.
  """
  if not isinstance(values, dict) or set(values) != set(names):
    raise InputError('session', type(values).__name__, f'it does not hold {", ".join(names)}', REMEDY)
  return [values[name] for name in names]


def yes_or_no(value: Any) -> bool:
  """True or False as they are.

  Raises:
    InputError: it is neither.
  """
  if not isinstance(value, bool):
    raise InputError('session', type(value).__name__, 'it is neither true nor false', REMEDY)
  return value


def checked_key(value: Any) -> str:
  """What may be the key of a photograph.

  Raises:
    InputError: it cannot be one.
  """
  if not isinstance(value, str) or not re.fullmatch(r'[\w-]{1,64}', value, re.ASCII):
    raise InputError('session', type(value).__name__, 'it is no key of a photograph', REMEDY)
  return value


def checked_seeds(seeds) -> tuple[int, ...]:
  """Seeds of pictures to show.

  Raises:
    InputError: none, too many, no seeds, or one comes twice.
  """
  if not all(isinstance(t, int) and not isinstance(t, bool) and 0 <= t < 2**32 for t in seeds):
    raise InputError('seeds', seeds, 'a seed is a whole number from 0 to 2**32 - 1', 'give others, such as 0-3')
  if not 1 <= len(seeds) <= MOST_SEEDS:
    raise InputError('seeds', f'{len(seeds)} of them', f'{MOST_SEEDS} pictures are shown at most', 'give fewer')
  return tuple(checked_distinct('seeds', seeds, MOST_SEEDS))


@dataclasses.dataclass(frozen=True)
class Session:
  """A choice and those before it. Every method gives another session.

  Attributes:
    now: what is shown.
    past: earlier choices, the last one last.
    sliding: the last change was of a strength; the next one of the same kind is the same step.
  """

  now: Choice = Choice()
  past: tuple[Choice, ...] = ()
  sliding: bool = False

  def changed(self, choice: Choice) -> 'Session':
    """One step on."""
    if choice == self.now:
      return self
    return Session(choice, (*self.past, self.now)[-MOST_STEPS:])

  def undone(self) -> 'Session':
    """One step back; itself at the start."""
    return Session(self.past[-1], self.past[:-1]) if self.past else self

  def with_seeds(self, seeds: tuple[int, ...]) -> 'Session':
    return self.changed(dataclasses.replace(self.now, seeds=checked_seeds(seeds), photograph=None))

  def with_photograph(self, key: str) -> 'Session':
    """A photograph in place of the samples."""
    return self.changed(dataclasses.replace(self.now, photograph=key))

  def with_part(self, part: int) -> 'Session':
    return self.changed(self.now.at(part=(part,), mask=None))

  def with_mask(self, mask: np.ndarray) -> 'Session':
    """A mask (S,) in place of the part."""
    return self.changed(self.now.at(part=(), mask=tuple(np.asarray(mask, np.float32).tolist())))

  def with_appearance(self, appearance: int) -> 'Session':
    return self.changed(self.now.at(appearance=appearance, direction=None))

  def with_alpha(self, alpha: float) -> 'Session':
    """A slide of many strengths is one step."""
    choice = self.now.at(alpha=float(alpha))
    if choice == self.now:
      return self
    if self.sliding:
      return dataclasses.replace(self, now=choice)
    return dataclasses.replace(self.changed(choice), sliding=True)

  def with_terms(self, terms: tuple[Spec, ...]) -> 'Session':
    """Other edits in place of all.

    Raises:
      InputError: more than `MOST_TERMS`.
    """
    if not 1 <= len(terms) <= MOST_TERMS:
      raise InputError('edits', f'{len(terms)} of them', f'{MOST_TERMS} are added up at most', 'take fewer')
    return self.changed(dataclasses.replace(self.now, terms=tuple(terms)))

  def with_refined(self, refined: bool) -> 'Session':
    return self.changed(dataclasses.replace(self.now, refined=refined))

  def kept(self) -> 'Session':
    """Keeps the current edit, and begins another on top of it at the same strength.

    Raises:
      InputError: it acts nowhere yet, or there are too many.
    """
    if not placed(self.now.current):
      raise InputError('part', None, 'this edit acts nowhere yet', 'click on the picture first')
    fresh = dataclasses.replace(Spec(appearance=self.now.current.appearance or 0), alpha=self.now.current.alpha)
    return self.with_terms((*self.now.terms, fresh))

  def to_json(self) -> str:
    """A text of at most `LARGEST` characters: the oldest steps are left out of a longer one."""
    past = [choice.to_json() for choice in self.past]
    while True:
      text = json.dumps({'now': self.now.to_json(), 'past': past, 'sliding': self.sliding}, allow_nan=False)
      if fits(text) or not past:
        return text
      past = past[len(past) // 2 + 1 :]

  @classmethod
  def from_json(cls, text: Any) -> 'Session':
    """From what `to_json` gave, or a new session from an empty text.

    Raises:
      InputError: it is none.
    """
    if text is None or text == '':
      return cls()
    try:
      if not isinstance(text, str) or not fits(text):
        raise InputError('session', type(text).__name__, 'it is no text, or too long a one', REMEDY)
      now, past, sliding = fields(parsed_json(text, object), 'now', 'past', 'sliding')
      if not isinstance(past, list) or len(past) > MOST_STEPS:
        raise InputError('session', 'past', 'its past is no list, or too long', REMEDY)
      return cls(Choice.from_json(now), tuple(map(Choice.from_json, past)), yes_or_no(sliding))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
      said = error.problem if isinstance(error, InputError) else type(error).__name__
      raise InputError('session', '(from the page)', f'it cannot be read ({said})', REMEDY) from error

  def check(self, factors) -> None:
    """Raises InputError unless what is shown, and all before it, is what the page makes of these factors."""
    offered = Offered.of(factors)
    try:
      for choice in (self.now, *self.past):
        choice.check(offered)
    except InputError as error:
      said = f'it does not suit this fit ({error.argument}: {error.problem})'
      raise InputError('session', '(from the page)', said, REMEDY) from error


def fits(text: str) -> bool:
  """Whether a session of this text is small enough to be read: of its characters, and of the values in it."""
  return len(text) <= LARGEST and sum(map(text.count, ',[{')) <= MOST_VALUES
