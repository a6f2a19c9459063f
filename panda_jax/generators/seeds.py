"""Latent draws that are named by a number, as the published figures name theirs."""

from collections.abc import Iterable

import numpy as np

from panda_jax.errors import InputError


def draws(generator, seeds: Iterable[int]) -> np.ndarray:
  """z (n, z_dim) float32 of seeds: seed t is `numpy.random.RandomState(t).randn(1, z_dim)`.

  A generator whose attribute `prior` is 'truncated_normal' (BigGAN) draws from the normal distribution on [-2, 2] with
  the same generator of random numbers, before truncation scales it (design section 5).

  Raises:
    InputError: a seed that numpy cannot take.
  """
  rows = []
  for seed in seeds:
    if not 0 <= seed < 2**32:
      raise InputError('seeds', seed, 'a seed is a number from 0 to 2**32 - 1', 'give other seeds')
    state = np.random.RandomState(seed)
    if getattr(generator, 'prior', 'normal') == 'truncated_normal':
      from scipy.stats import truncnorm  # half a second of import that no other family needs

      rows.append(truncnorm.rvs(-2, 2, size=(1, generator.z_dim), random_state=state))
    else:
      rows.append(state.randn(1, generator.z_dim))
  return np.concatenate(rows).astype(np.float32)
