"""The mean of w for a network whose file has none, estimated as in the original codes: the average of many draws."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from panda_jax.converters.assembly import Conversion
from panda_jax.errors import InputError
from panda_jax.generators.seeds import draws

MOST = 10_000_000
BATCH = 1000


def check_count(count: object) -> None:
  """Raises InputError if a mean cannot be taken over this number of draws."""
  if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
    raise InputError('mean_w', count, f'it must be a count of draws up to {MOST:,}', 'give one such as 10000')


def estimated(generator, count: int) -> np.ndarray:
  """The mean of w over seeds 0 to count - 1; if there are classes, seed t has class t mod their number.

  Args:
    generator: one with a mapping network.
    count: of draws.

  Returns:
    (w_dim,) float32, or (L, w_dim) if each row of w+ has a w of its own.
  """
  total: np.ndarray | float = 0.0
  for first in range(0, count, BATCH):
    seeds = np.arange(first, min(first + BATCH, count))
    labels = seeds % generator.num_classes if generator.num_classes else None
    total = total + np.asarray(generator.mapping(draws(generator, map(int, seeds)), labels), np.float64).sum(axis=0)
  mean = np.asarray(total / count, np.float32)
  return mean if mean.size == generator.w_dim else mean.reshape(generator.rows, generator.w_dim)


def with_mean(conversion: Conversion, generator, count: int | None) -> Conversion:
  """A conversion with an estimated mean of w, if it is requested and the file has none.

  Args:
    conversion: of the file.
    generator: made from it.
    count: of draws; None if no mean is requested.

  Raises:
    InputError: a mean is requested, and the family has no w.
  """
  if count is None:
    return conversion
  if not hasattr(generator, 'mapping'):
    raise InputError('mean_w', count, f'a {conversion.family} has no w', 'leave the flag out')
  if hasattr(generator, 'w_avg'):
    return dataclasses.replace(conversion, notes=[*conversion.notes, 'mean_w: not needed, the file has the mean of w'])
  return dataclasses.replace(
    conversion,
    options=dataclasses.replace(conversion.options, mean_w=True),
    tensors=conversion.tensors | {'w_avg': estimated(generator, count)},
    mean={'draws': count, 'seeds': [0, count - 1], 'classes': 'in turn' if generator.num_classes else None},
  )


def mean_of(has_w: bool, has_mean: bool, mean: object) -> str | None:
  """The origin of a generator's mean of w, in words; None if it has no w.

  Args:
    has_w: whether there is a mapping network.
    has_mean: whether the mean of w is known.
    mean: how it was estimated, see `Conversion`; None if it was not.
  """
  if not has_w:
    return None
  if not has_mean:
    return 'none, so nothing can be truncated: convert --mean_w=10000 estimates it'
  if not isinstance(mean, Mapping):
    return 'from the file'
  classes = ', classes in turn' * bool(mean.get('classes'))
  return f'estimated from {mean.get("draws")} seeds{classes}'
