"""Types and ranges of the options of a generator; every published network lies well inside them.

Options come from files that may be malicious, and each may set a loop, an allocation or the design of a filter. So
the type of a field limits its size, and `check` compares before anything is computed.
"""

import dataclasses
import functools
import numbers
import sys
import types
import typing
from typing import Annotated, Any, NamedTuple

from panda_jax.errors import InputError

LARGEST_RESOLUTION = 4096  # pixels; the largest published have 1024
MOST_TAPS = 256  # taps of a filter along an axis; published ones have up to 24


class Within(NamedTuple):
  """A number from `least` to `most`, or a tuple with `least` to `most` entries."""

  least: float
  most: float


class Repeated(NamedTuple):
  """The same for parts of the network that store arrays: their number, or a tuple with an entry for each part."""

  least: int
  most: int


Size = Annotated[int, Within(1, 1 << 16)]  # channels, or numbers in a vector
Sizes = Annotated[tuple[Size, ...], Repeated(0, 128)]
SizeOrZero = Annotated[int, Within(0, 1 << 16)]  # a size that may be 0
Classes = Annotated[int, Within(0, 1 << 20)]
Resolution = Annotated[int, Within(4, LARGEST_RESOLUTION)]
Side = Annotated[int, Within(1, 64)]  # height or width of the constant that a generator grows from; square ones have 4
Count = Annotated[int, Repeated(0, 128)]
Scale = Annotated[float, Within(1e-30, 1e30)]
Row = Annotated[tuple[Annotated[float, Within(-1e6, 1e6)], ...], Within(1, 32)]
Taps = Row | Annotated[tuple[Row, ...], Within(1, 32)]

# Metadata of a field that is newer than the first files: it may be missing in a file, and then has its default.
LATER = types.MappingProxyType({'later': True})

KINDS = {
  bool: (lambda value: isinstance(value, bool), 'true or false'),
  str: (lambda value: isinstance(value, str), 'a text'),
  int: (lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool), 'an integer'),
  float: (
    lambda value: (
      isinstance(value, numbers.Real)
      and not isinstance(value, bool)
      and abs(value) <= (2**31 - 1 if isinstance(value, numbers.Integral) else sys.float_info.max)
    ),
    'a finite number, and a whole one below 2^31',  # on devices larger ones overflow
  ),
  types.NoneType: (lambda value: value is None, 'null'),
}


def check(options: Any) -> None:
  """Raises InputError if a field of an options dataclass is not of its type, or out of its range."""
  for name, hint in _hints(type(options)).items():
    problem = _problem(getattr(options, name), hint)
    if problem:
      raise InputError(name, getattr(options, name), problem, 'give what a network of this family has')


def check_stored(options: Any, arrays: int) -> None:
  """Raises InputError if options that `check` accepted describe more parts than there are stored arrays."""
  for name, hint in _hints(type(options)).items():
    value = getattr(options, name)
    if any(isinstance(rule, Repeated) for rule in getattr(hint, '__metadata__', ())):
      count = len(value) if isinstance(value, tuple) else value
      if count > arrays:
        raise InputError(name, value, f'only {arrays} arrays are stored', 'give what is stored')


def written(options: Any) -> str:
  """The options as text, for digests: newer fields are left out if they have their default."""
  if not dataclasses.is_dataclass(options):
    return str(options)
  fields = [(field, getattr(options, field.name)) for field in dataclasses.fields(options)]
  told = [f'{field.name}={value!r}' for field, value in fields if field.metadata != LATER or value != field.default]
  return f'{type(options).__qualname__}({", ".join(told)})'


@functools.cache
def _hints(options: type) -> dict[str, Any]:
  return typing.get_type_hints(options, include_extras=True)


def _problem(value: object, hint: Any) -> str | None:
  """The reason why a value is not of a type, or None. Lengths are checked before entries."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin is Annotated:
    kind, (least, most) = arguments
    if typing.get_origin(kind) is tuple:
      fits = not isinstance(value, tuple) or least <= len(value) <= most
      return _problem(value, kind) if fits else f'it has {len(value)} entries, and must have from {least} to {most}'
    return _problem(value, kind) or (None if least <= value <= most else f'it must be from {least} to {most}')
  if origin in (types.UnionType, typing.Union):
    problems = [_problem(value, one) for one in arguments]
    return None if None in problems else problems[0]
  if origin is tuple:
    if not isinstance(value, tuple):
      return 'it must be a list'
    kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
    if len(kinds) != len(value):
      return f'it must have {len(kinds)} entries'
    problems = (_problem(entry, kind) for entry, kind in zip(value, kinds, strict=True))
    return next((f'an entry of it: {problem}' for problem in problems if problem), None)
  fits, what = KINDS[hint]
  return None if fits(value) else f'it must be {what}'
