"""Spectral norms of torch.nn.utils, folded into the weights.

Each weight is divided by u^T W v with the stored vectors u and v, as PyTorch does in evaluation. The exact norm of the
matrix would be another number.
"""

import numpy as np

from panda_jax.converters.tables import TRANSFORMS, Entry, Table


def fold(table: Table, entry: Entry, axis: int = 0) -> None:
  """Takes a weight, divided by its spectral norm as stored.

  Args:
    table: takes the weight and what is wrong with it.
    entry: its key lacks the endings `_orig`, `_u` and `_v`.
    axis: of the outputs, which are the rows of the matrix W; 1 in transposed convolutions.
  """
  rows = entry.shape[axis]
  original, left, right = (f'{entry.key}_{end}' for end in ('orig', 'u', 'v'))
  shapes = {original: entry.shape, left: (rows,), right: (int(np.prod(entry.shape)) // rows,)}
  for key in (left, right):
    table.leave(key, 'a vector of the spectral norm, by which the weight is divided here')
  arrays = [table.checked(key, shape) for key, shape in shapes.items()]
  if any(array is None for array in arrays):
    table.leave(original, 'its spectral norm is incomplete')
    return
  weight, u, v = (np.asarray(array, np.float64) for array in arrays)
  with np.errstate(all='ignore'):
    norm = u @ np.moveaxis(weight, axis, 0).reshape(rows, -1) @ v
    folded = weight / norm
  table.tensors[entry.target] = TRANSFORMS[entry.transform](folded)
  table.sources[entry.target] = original
  if np.isfinite(weight).all() and not np.isfinite(folded).all():
    table.problems.append(f'{left}, {right}: the spectral norm that they give is {norm}')
