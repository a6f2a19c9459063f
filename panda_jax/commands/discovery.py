"""What somebody who types `panda-jax discover` asks for: arguments of a method, and a strip."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from panda_jax.commands import requests
from panda_jax.editing.edits import checked_alpha
from panda_jax.errors import InputError
from panda_jax.generators import labels, seeds
from panda_jax.results.directions import Strip
from panda_jax.rivals import METHODS, NAMES

CALLED = {'layers': 'rows', 'k': 'count', 'seeds': 'references'}  # {argument of a method: its flag}
SAME = 'layer', 'samples', 'seed', 'truncation', 'truncation_layers'
DRAWN = 'labels', 'truncation', 'truncation_layers'  # of the strip too: methods that have no use for them never mind


def requested(options: Any) -> tuple[dict[str, Any], Strip]:
  """The arguments of --method's `discover`, and what is drawn.

  Raises:
    InputError: flags that are missing, malformed, or of another method.
  """
  classes = labels.parsed_labels(options.labels)
  if options.samples is not None:
    classes = labels.listed(classes, options.samples)
  given = {
    'region': parsed_region(options.region),
    'layers': _numbers(options, 'rows'),
    'k': options.count,
    'seeds': _numbers(options, 'references'),
    'labels': classes,
    'published': options.published or None,
    **{name: options[name].value for name in SAME},
  }
  arguments = arguments_of(options.method, given)
  alphas = None if options.alpha is None else np.atleast_1d(checked_alpha(requests.parsed_alpha(options.alpha)))
  strip = Strip(
    tuple(seeds.parsed_numbers(options.seeds or requests.SEEDS, 'seeds')),
    classes,
    1.0 if options.truncation is None else options.truncation,
    options.truncation_layers,
    None if alphas is None else tuple(alphas.tolist()),
  )
  return arguments, strip


def _numbers(options: Any, name: str) -> tuple[int, ...] | None:
  text = options[name].value
  return None if text is None else tuple(seeds.parsed_numbers(text, name))


def arguments_of(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
  """Those of the given arguments that are not None, once they fit a method.

  Args:
    given: by the names that `discover` has for them; None for what was not asked for.

  Raises:
    InputError: there is no such method, it has no such argument, or needs one that was not given.
  """
  if method not in NAMES:
    raise InputError('method', method, 'there is no such method', f'give one of {", ".join(NAMES)}')
  taken = inspect.signature(METHODS[method]).parameters
  chosen = {name: value for name, value in given.items() if value is not None}
  for name, value in chosen.items():
    if name not in taken and name not in DRAWN:
      text = ','.join(map(str, value)) if isinstance(value, tuple) else value
      raise InputError(CALLED.get(name, name), text, f'{method} takes none', 'leave it out')
  for name, parameter in taken.items():
    if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty and name not in chosen:
      example = f' such as --{CALLED.get(name, name)}=r0,r1,c0,c1' if name == 'region' else ''
      raise InputError(CALLED.get(name, name), None, f'not given, and {method} needs it', f'give one{example}')
  return {name: value for name, value in chosen.items() if name in taken}


def parsed_region(text: str | None) -> tuple[int, ...] | None:
  """A box from 'r0,r1,c0,c1'."""
  if text is None:
    return None
  pieces = [piece.strip() for piece in text.split(',')]
  if len(pieces) != 4 or not all(piece.isdecimal() and len(piece) < 10 for piece in pieces):
    raise InputError('region', text, 'a box is four whole numbers', 'give --region=r0,r1,c0,c1, such as 20,32,10,55')
  return tuple(int(piece) for piece in pieces)
