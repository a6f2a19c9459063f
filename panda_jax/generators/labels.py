"""Classes of samples as users give them: one class, one per sample, or a list that samples use in turn.

Labels are class indices (N,), or rows (N, classes) such as one-hot ones. `generators.base.label_rows` checks whether
the generator has such classes.
"""

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from panda_jax.errors import InputError
from panda_jax.files.arrays import read_npy
from panda_jax.generators.seeds import parsed_numbers

REMEDY = 'give whole numbers from 0 as in --labels=207,208, or a .npy file of them (N,) or of rows (N, classes)'


def checked(labels: ArrayLike, remedy: str = REMEDY) -> np.ndarray:
  """Class indices (N,) int32, or rows (N, classes) as they are, one or more.

  Raises:
    InputError: there are none, indices are not whole numbers from 0, or rows are not finite.
  """
  array = np.asarray(labels)
  if array.ndim not in (1, 2) or not array.size:
    text = 'x'.join(map(str, array.shape)) or 'none'
    raise InputError('labels', f'shape {text}', 'they are neither indices nor rows, or there are none', remedy)
  if array.ndim == 2:
    if array.dtype.kind not in 'fiub' or not np.isfinite(array).all():
      raise InputError('labels', f'rows of {array.dtype}', 'rows hold finite numbers', remedy)
    return array
  huge = array.dtype == object and all(isinstance(label, int) for label in array)  # whole numbers beyond int64
  if array.dtype.kind not in 'iu' and not huge:
    raise InputError('labels', f'type {array.dtype}', 'class indices are integers', remedy)
  for label in (array.min(), array.max()):
    if not 0 <= label < 2**31:
      raise InputError('labels', label, 'there is no such class', remedy)
  return array.astype(np.int32)


def each(labels: ArrayLike | None, samples: int, of: str = 'samples') -> np.ndarray | None:
  """One label per sample: a single label is repeated; None for None. `of`: the word for samples in errors.

  Raises:
    InputError: there is neither one label nor one per sample.
  """
  if labels is None:
    return None
  labels = checked(labels)
  if len(labels) == 1:
    return np.repeat(labels, samples, axis=0)
  if len(labels) != samples:
    number = f'there are {samples} {of}' if samples != 1 else f'there is one {of.removesuffix("s")}'
    raise InputError('labels', f'{len(labels)} of them', number, f'give one for all {of}, or one for each')
  return labels


def in_turn(labels: ArrayLike | None, numbers: Sequence[int] | np.ndarray) -> np.ndarray | None:
  """Labels of samples by number, from a list that they use in turn: sample i has labels[i mod len(labels)]."""
  if labels is None:
    return None
  labels = np.asarray(labels)
  return labels[np.asarray(numbers) % len(labels)]


def listed(labels: ArrayLike | None, samples: int) -> np.ndarray | None:
  """Labels that this number of samples use in turn; None for None.

  Raises:
    InputError: there are more labels than samples, so some would not be used.
  """
  if labels is None:
    return None
  labels = checked(labels)
  if len(labels) > samples:
    remedy = 'give as many at most: samples take them in turn'
    raise InputError('labels', f'{len(labels)} of them', f'there are {samples} samples', remedy)
  return labels


def parsed_labels(text: str | None) -> np.ndarray | None:
  """Labels from '207,208', or from a .npy file of class indices (N,) or rows (N, classes); None for None.

  Raises:
    InputError: they are not labels of any generator.
  """
  if text is None:
    return None
  return checked(read_npy(text, 'labels', (1, 2)) if text.endswith('.npy') else parsed_numbers(text, 'labels'))
