"""Latents drawn from numbered seeds, with the numbers of the published figures, and lists of such numbers."""

from collections.abc import Iterable

import numpy as np

from panda_jax.errors import InputError

MOST_NUMBERS = 10_000_000  # in a list of seeds or classes


def draws(generator, seeds: Iterable[int]) -> np.ndarray:
  """z (n, z_dim) float32 of seeds: seed t is `numpy.random.RandomState(t).randn(1, z_dim)`.

  A generator whose attribute `prior` is 'truncated_normal' (BigGAN) draws from the normal distribution on [-2, 2] with
  the same random state, before truncation scales z; one whose `prior` is 'uniform' draws from [-1, 1].

  Raises:
    InputError: a seed that numpy cannot take.
  """
  rows = []
  for seed in seeds:
    if not 0 <= seed < 2**32:
      raise InputError('seeds', seed, 'a seed is a number from 0 to 2**32 - 1', 'give other seeds')
    state = np.random.RandomState(seed)
    prior = getattr(generator, 'prior', 'normal')
    if prior == 'truncated_normal':
      from scipy.stats import truncnorm  # half a second of import that no other family needs

      rows.append(truncnorm.rvs(-2, 2, size=(1, generator.z_dim), random_state=state))
    elif prior == 'uniform':
      rows.append(state.uniform(-1, 1, (1, generator.z_dim)))
    else:
      rows.append(state.randn(1, generator.z_dim))
  return np.concatenate(rows).astype(np.float32)


def parsed_numbers(text: str, argument: str, most: int = MOST_NUMBERS) -> list[int]:
  """Whole numbers from '0,1,2'; ranges such as '0-99' may be among them.

  Raises:
    InputError: it is not such a list, or there are more than `most`.
  """
  numbers: list[int] = []
  try:
    for piece in text.split(','):
      first, dash, last = piece.strip().partition('-')
      more = range(int(first), int(last) + 1) if dash else [int(first)]
      if len(numbers) + len(more) > most:
        raise InputError(argument, text, f'more than {most:,} of them', 'give fewer')
      numbers += more
  except (ValueError, OverflowError) as error:
    if isinstance(error, InputError):
      raise
    numbers = []
  if not numbers:
    raise InputError(argument, text, 'not a list of whole numbers', f'give --{argument}=0,1,2 or --{argument}=0-99')
  return numbers
