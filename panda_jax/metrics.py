"""Regions of images, how much edits change inside and outside of them, and strengths at which they compare.

Letters: N samples, (h, w) pixels. Images are float, before clipping.
"""

import numbers
from collections.abc import Sequence

import numpy as np

from panda_jax.errors import InputError


def box_mask(box: Sequence[int], size: tuple[int, int]) -> np.ndarray:
  """(h, w) bool: true in the rows r0 to r1 - 1 and the columns c0 to c1 - 1 of a box (r0, r1, c0, c1).

  Raises:
    InputError: the box is none, is empty, reaches out of the image, or leaves nothing of it outside.
  """
  h, w = size
  remedy = f'give r0,r1,c0,c1 with 0 <= r0 < r1 <= {h} and 0 <= c0 < c1 <= {w}'
  values = list(box) if np.ndim(box) == 1 else []
  if len(values) != 4 or not all(isinstance(x, numbers.Integral) and not isinstance(x, bool) for x in values):
    raise InputError('region', box, 'a box is four whole numbers', remedy)
  r0, r1, c0, c1 = (int(x) for x in values)
  text = f'{r0},{r1},{c0},{c1}'
  if not (0 <= r0 < r1 <= h and 0 <= c0 < c1 <= w):
    raise InputError('region', text, f'it is no box in an image of {h} x {w} pixels', remedy)
  mask = np.zeros((h, w), bool)
  mask[r0:r1, c0:c1] = True
  return _with_outside(mask, text)


def region_mask(region, size: tuple[int, int]) -> np.ndarray:
  """A region as a mask (h, w) bool: a box through `box_mask`, or a mask of the image's size as it is.

  Raises:
    InputError: it is neither, or nothing is inside or outside of it.
  """
  if np.ndim(region) < 2:
    return box_mask(region, size)
  mask = np.asarray(region)
  text = f'mask of shape {"x".join(map(str, mask.shape))}'
  if mask.shape != tuple(size):
    raise InputError('region', text, f'the images have {size[0]} x {size[1]} pixels', 'give a mask of that size')
  if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
    raise InputError('region', text, 'its entries are not all 0 or 1', 'give true and false')
  return _with_outside(mask.astype(bool), text)


def _with_outside(mask: np.ndarray, text: str) -> np.ndarray:
  if not mask.any() or mask.all():
    where = 'outside' if mask.any() else 'inside'
    raise InputError('region', text, f'nothing is {where} of it', 'give a region that is a part of the image')
  return mask
