"""Shared by methods whose directions are eigenvectors."""

import numpy as np

from panda_jax.errors import InputError


def oriented(vectors: np.ndarray) -> np.ndarray:
  """Rows (k, d), each with the sign that makes its largest entry in magnitude positive."""
  largest = np.argmax(np.abs(vectors), axis=1)
  signs = np.sign(np.take_along_axis(vectors, largest[:, None], axis=1))
  return vectors * np.where(signs == 0, 1, signs)


def first(k: int | None, available: int) -> int:
  """The number of directions that are kept.

  Raises:
    InputError: k is not positive.
  """
  if k is not None and k < 1:
    raise InputError('k', k, 'no direction would be left', 'give 1 or more, or leave it out for all')
  return available if k is None else min(int(k), available)
