"""From the flags of `panda-jax discover` to the arguments of a method and a strip."""

from typing import Any

import numpy as np

from panda_jax.commands import options as shared
from panda_jax.commands import requests
from panda_jax.editing.edits import checked_alpha
from panda_jax.errors import InputError
from panda_jax.generators import labels, seeds
from panda_jax.workdir.directions import Strip, arguments_of

SAME = 'layer', 'samples', 'seed', 'truncation', 'truncation_layers'


def requested(options: Any) -> tuple[dict[str, Any], Strip]:
  """The arguments of --method's `discover`, and the strip to draw.

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
    tuple(seeds.parsed_numbers(options.seeds or shared.SEEDS, 'seeds')),
    classes,
    1.0 if options.truncation is None else options.truncation,
    options.truncation_layers,
    None if alphas is None else tuple(alphas.tolist()),
  )
  return arguments, strip


def _numbers(options: Any, name: str) -> tuple[int, ...] | None:
  text = options[name].value
  return None if text is None else tuple(seeds.parsed_numbers(text, name))


def parsed_region(text: str | None) -> tuple[int, ...] | None:
  """A box from 'r0,r1,c0,c1'."""
  if text is None:
    return None
  pieces = [piece.strip() for piece in text.split(',')]
  if len(pieces) != 4 or not all(piece.isdecimal() and len(piece) < 10 for piece in pieces):
    raise InputError('region', text, 'a box is four whole numbers', 'give --region=r0,r1,c0,c1, such as 20,32,10,55')
  return tuple(int(piece) for piece in pieces)
