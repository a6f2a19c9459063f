"""Spectral norms, folded into the weights.

Each weight is divided by the number that its own code computes in evaluation from the stored vectors. The exact norm of
the matrix would be a different number.
"""

import math
from collections.abc import Callable

import numpy as np

from panda_jax.converters.tables import TRANSFORMS, Entry, Table

VECTOR = 'a vector of the spectral norm, by which the weight is divided here'


def take_folded(table: Table, entry: Entry, axis: int = 0) -> None:
  """Takes a weight folded by `folded`; the key of the entry lacks the ending `_orig`."""
  array = folded(table, entry.key, entry.shape, axis)
  if array is not None:
    table.tensors[entry.target] = TRANSFORMS[entry.transform](array)
    table.sources[entry.target] = f'{entry.key}_orig'


def folded(table: Table, key: str, shape: tuple[int, ...], axis: int = 0) -> np.ndarray | None:
  """A weight KEY_orig divided by u'Wv with the stored KEY_u and KEY_v, as in torch.nn.utils.

  Args:
    table: collects the problems; after a problem the result is None.
    key: of the weight.
    shape: of the weight.
    axis: of the outputs, which are the rows of the matrix W; 1 in transposed convolutions.
  """
  rows, columns = shape[axis], math.prod((*shape[:axis], *shape[axis + 1 :]))

  def norm(weight, u, v):
    return u @ np.moveaxis(weight, axis, 0).reshape(rows, columns) @ v

  return _divided(table, f'{key}_orig', shape, {f'{key}_u': (rows,), f'{key}_v': (columns,)}, norm)


def folded_half_step(table: Table, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
  """A weight KEY divided by |Wv|, with v the direction of W'u and u the stored u0 beside it, as in BigGAN-PyTorch."""

  def norm(weight, u):
    weight = weight.reshape(shape[0], math.prod(shape[1:]))
    v = u.reshape(-1) @ weight
    return np.linalg.norm(weight @ (v / np.linalg.norm(v)))

  return _divided(table, key, shape, {f'{key.removesuffix("weight")}u0': (1, shape[0])}, norm)


def _divided(table: Table, original: str, shape: tuple, vectors: dict[str, tuple], norm: Callable) -> np.ndarray | None:
  for key in vectors:
    table.leave(key, VECTOR)
  arrays = [table.checked(key, expected) for key, expected in ({original: shape} | vectors).items()]
  if any(array is None for array in arrays):
    table.leave(original, 'its spectral norm is incomplete')
    return None
  weight, *rest = (np.asarray(array, np.float64) for array in arrays)
  with np.errstate(all='ignore'):
    value = norm(weight, *rest)
    divided = weight / value
  if np.isfinite(weight).all() and not np.isfinite(divided).all():
    table.problems.append(f'{", ".join(vectors)}: the spectral norm that they give is {value}')
  return divided
