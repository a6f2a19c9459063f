"""Where an edit acts: masks on the feature grid, from parts or from a drawn picture.

Letters: N samples, H, W grid, S = H*W positions row by row, R_S parts. A mask is (S,), or (N, S) where each sample has
its own (refined parts). An entry is the feature change at that position, relative to the change where the mask is 1.
"""

import io
import math
import numbers
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from panda_jax.errors import InputError
from panda_jax.files.access import read_bytes

CONVENTIONS = ('unit', 'paper', 'published')
COMBINATIONS = ('union', 'sum')
LARGEST_PICTURE = 64 << 20  # bytes of the file of a drawn mask


def checked_index(argument: str, index, count: int, name: str) -> int:
  """A 0-based index below `count`.

  Raises:
    InputError: it is not such an index; the text gives the range.
  """
  if not isinstance(index, numbers.Integral) or isinstance(index, bool) or not 0 <= int(index) < count:
    raise InputError(argument, index, f'there are {count} {name}', f'give one from 0 to {count - 1}')
  return int(index)


def part_mask(
  parts: np.ndarray,
  chosen: int | Sequence[int],
  convention: str = 'unit',
  combine: str | None = None,
) -> np.ndarray:
  """One or more parts as a mask.

  Args:
    parts: P (S, R_S), or (N, S, R_S) refined for each sample.
    chosen: 0-based columns.
    convention: 'unit' divides by the maximum, so that the strongest position is 1 (our choice); 'paper' takes
      columns as stored (PandA, ICLR 2023: Z + alpha a p'); 'published' is the authors' code: the sum of the columns,
      mapped so that its least entry is 0 and its largest 1.
    combine: several parts as 'union' (their maximum) or 'sum'. By default union for 'unit', where each part is first
      divided by its own maximum, and sum for the others; 'published' allows only the sum.

  Returns:
    (S,), or (N, S), float32. A sample in which refinement left a chosen part empty gets zeros.

  Raises:
    InputError: an index out of range or given twice, an unknown convention or combination, or a dead part (all zero;
      under 'published' constant).
  """
  parts = np.asarray(parts, np.float32)
  columns: list[Any] = [chosen] if isinstance(chosen, int | numbers.Integral) else list(chosen)
  if len(columns) > parts.shape[-1] or len(set(columns)) < len(columns):
    raise InputError('part', f'{len(columns)} of them', 'one is named twice', 'name each once')
  columns = [checked_index('part', k, parts.shape[-1], 'parts') for k in columns]
  if not columns:
    raise InputError('part', chosen, 'no part is chosen', f'give one or more from 0 to {parts.shape[-1] - 1}')
  if convention not in CONVENTIONS:
    raise InputError('convention', convention, 'unknown', f'give one of {", ".join(CONVENTIONS)}')
  combine = combine or ('union' if convention == 'unit' else 'sum')
  if combine not in COMBINATIONS:
    raise InputError('combine', combine, 'unknown', f'give one of {", ".join(COMBINATIONS)}')
  if convention == 'published' and combine != 'sum':
    raise InputError('combine', combine, 'the published convention adds parts', 'give sum, or --convention=unit')
  peaks = parts.max(axis=tuple(range(parts.ndim - 1)))
  for k in columns:
    if peaks[k] <= 0:
      live = ', '.join(map(str, np.flatnonzero(peaks > 0))) or 'there is none'
      problem = 'it is dead (all zero)' if parts.ndim == 2 else 'refinement left nothing of it in any sample'
      raise InputError('part', k, problem, f'choose a live one: {live}')
  taken = parts[..., columns]
  if convention == 'unit':
    taken = taken * _reciprocal(taken.max(axis=-2, keepdims=True))
  mask = taken.sum(axis=-1) if combine == 'sum' else taken.max(axis=-1)
  if convention == 'unit':  # overlapping parts may add up to more than 1
    return mask * _reciprocal(mask.max(axis=-1, keepdims=True))
  if convention == 'published':
    low, high = mask.min(axis=-1, keepdims=True), mask.max(axis=-1, keepdims=True)
    if not (high > low).any():
      raise InputError('part', chosen, 'it is constant, so that it cannot be mapped to 0..1', 'use --convention=unit')
    # A quotient, not a product with the reciprocal, gives the authors' numbers to the last digit.
    return np.where(high > low, (mask - low) / np.where(high > low, high - low, np.float32(1)), np.float32(0))
  return mask


def _reciprocal(x: np.ndarray) -> np.ndarray:
  return np.where(x > 0, 1 / np.where(x > 0, x, np.float32(1)), np.float32(0))


def thresholded(mask: np.ndarray, threshold: float) -> np.ndarray:
  """1 where a mask (..., S) is at least `threshold` times its maximum, else 0.

  Raises:
    InputError: the threshold is outside (0, 1].
  """
  if not _is_number(threshold) or not 0 < threshold <= 1:
    raise InputError('threshold', threshold, 'it is a fraction of the largest entry', 'give one above 0 and up to 1')
  peak = mask.max(axis=-1, keepdims=True)
  return ((mask >= np.float32(threshold) * peak) & (peak > 0)).astype(np.float32)


def feathered(mask: np.ndarray, grid: tuple[int, int], radius: float) -> np.ndarray:
  """A mask (..., S) with soft edges: averaged with weights 1 - d / (radius + 1), d the distance; same maximum.

  Positions farther from the mask than `radius`, rounded up, stay exactly zero. Beyond the border the map has the values
  of the border.

  Raises:
    InputError: the radius is not a number from 0 to the size of the grid.
  """
  if not _is_number(radius) or not 0 <= radius <= max(grid):
    raise InputError('feather', radius, 'it is a radius in cells of the feature map', f'give one from 0 to {max(grid)}')
  if radius == 0:
    return mask
  reach = math.ceil(radius)
  weights = np.maximum(0, 1 - np.abs(np.arange(-reach, reach + 1)) / (radius + 1)).astype(np.float32)
  maps = mask.reshape(*mask.shape[:-1], *grid)
  for axis in (-2, -1):
    size = maps.shape[axis]
    places = np.clip(np.arange(size)[:, None] + np.arange(-reach, reach + 1)[None], 0, size - 1)
    blur = np.zeros((size, size), np.float32)
    np.add.at(blur, (np.repeat(np.arange(size), len(weights)), places.ravel()), np.tile(weights / weights.sum(), size))
    maps = np.einsum('ij,...jk->...ik' if axis == -2 else 'ij,...kj->...ki', blur, maps)
  soft = maps.reshape(mask.shape)
  peak = soft.max(axis=-1, keepdims=True)
  return soft / np.where(peak > 0, peak, np.float32(1)) * mask.max(axis=-1, keepdims=True)


def mask_of(
  parts: np.ndarray,
  grid: tuple[int, int],
  chosen: int | Sequence[int] | None,
  drawn: np.ndarray | None = None,
  *,
  convention: str = 'unit',
  combine: str | None = None,
  threshold: float | None = None,
  feather: float | None = None,
) -> np.ndarray:
  """The mask of parts, of a drawn mask (`as_mask`), or of parts inside it; see `part_mask` and `shaped`.

  Raises:
    InputError: neither is given; and as of these functions.
  """
  if chosen is not None:
    return shaped(part_mask(parts, chosen, convention, combine), grid, threshold, feather, drawn)
  if drawn is None:
    raise InputError('part', None, 'not given', f'give one from 0 to {parts.shape[-1] - 1}, or a mask')
  return shaped(drawn, grid, threshold, feather)


def shaped(
  mask: np.ndarray,
  grid: tuple[int, int],
  threshold: float | None = None,
  feather: float | None = None,
  drawn: np.ndarray | None = None,
) -> np.ndarray:
  """Threshold, then feather, then the intersection with a drawn mask (the product), each if given.

  The drawn mask comes last, so that nothing leaks over it.

  Raises:
    InputError: nothing is left in any sample, so that an edit would change nothing; and as the steps.
  """
  if not mask.any():
    raise InputError('mask', 'empty', 'it is zero everywhere', 'give one that is positive where to edit')
  mask = mask if threshold is None else thresholded(mask, threshold)
  mask = mask if feather is None else feathered(mask, grid, feather)
  mask = mask if drawn is None else mask * as_mask(drawn, grid)
  if not mask.any():
    where = 'inside the drawn mask' if drawn is not None else 'above the threshold'
    raise InputError('mask', 'empty', f'nothing of the part is left {where}', 'choose another threshold or mask')
  return mask


def as_mask(array: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """A user's mask of shape (S,), (N, S), (H, W) or (N, H, W), as (S,) or (N, S) float32.

  Raises:
    InputError: another shape, another type, or entries that are not finite.
  """
  array = np.asarray(array)
  S = grid[0] * grid[1]
  if array.dtype.kind not in 'fiub':
    raise InputError('mask', f'type {array.dtype}', 'a mask holds numbers', f'give {S} of them, or {grid[0]}x{grid[1]}')
  flat = array.reshape(*array.shape[:-2], S) if array.ndim in (2, 3) and array.shape[-2:] == grid else array
  if flat.ndim not in (1, 2) or flat.shape[-1] != S:
    text = 'x'.join(map(str, array.shape)) or 'scalar'
    raise InputError(
      'mask', f'shape {text}', f'the feature map is {grid[0]}x{grid[1]}', f'give ({grid[0]}, {grid[1]}) or ({S},)'
    )
  flat = flat.astype(np.float32)
  if not np.isfinite(flat).all():
    raise InputError('mask', 'NaN or infinity', 'a mask holds finite numbers', 'give numbers, usually from 0 to 1')
  return flat


def read_mask(
  path: str | os.PathLike, grid: tuple[int, int], size: tuple[int, int] | None = None, margin: int | tuple[int, int] = 0
) -> np.ndarray:
  """A drawn mask (S,) from a PNG: its grey level times its opacity, black 0, white 1.

  Args:
    path: a PNG of the feature map's size, taken cell by cell, or of the image's size, averaged over each cell.
    grid: (H, W) of the feature map.
    size: (h, w) of the image.
    margin: cells of the map beyond the image at each edge (StyleGAN3), or (above and below, at the sides). They take
      the value of the nearest cell inside the image.

  Raises:
    InputError: the PNG is missing, has another size, or has nothing drawn on it.
  """
  content = read_bytes(path, 'mask', _drawn(grid, size), LARGEST_PICTURE)
  return mask_of_png(content, path, grid, size, margin)


def mask_of_png(
  content: bytes,
  name: str | os.PathLike,
  grid: tuple[int, int],
  size: tuple[int, int] | None = None,
  margin: int | tuple[int, int] = 0,
) -> np.ndarray:
  """As `read_mask`, from the content of the file; `name` is for errors."""
  from PIL import Image, UnidentifiedImageError

  remedy = _drawn(grid, size)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # about large sizes, which are checked before decoding, and about damage
      with Image.open(io.BytesIO(content), formats=['PNG']) as picture:
        height, width = picture.size[1], picture.size[0]
        if (height, width) not in (grid, size):
          raise InputError('mask', name, f'it has {width}x{height} pixels (width x height)', remedy)
        levels = _levels(picture)
  except InputError:
    raise
  except UnidentifiedImageError as error:
    raise InputError('mask', name, 'it is not a PNG', remedy) from error
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise InputError('mask', name, f'it cannot be read ({error})', remedy) from error
  if not levels.any():
    problem = 'it is black everywhere, or transparent where it is not'
    raise InputError('mask', name, problem, 'draw white, opaque, where to edit')
  if (height, width) == tuple(grid):
    return levels.reshape(-1)
  rows, columns = np.broadcast_to(margin, 2).tolist()
  inner = grid[1] - 2 * columns, grid[0] - 2 * rows
  cells = np.asarray(Image.fromarray(levels).resize(inner, Image.Resampling.BOX), np.float32)
  return np.clip(np.pad(cells, [(rows, rows), (columns, columns)], mode='edge'), 0, 1).reshape(-1)


def _drawn(grid: tuple[int, int], size: tuple[int, int] | None) -> str:
  return f'draw a PNG of {grid[1]}x{grid[0]} pixels' + (f' or {size[1]}x{size[0]}' if size else '')


def _levels(picture) -> np.ndarray:
  """Grey level times opacity (h, w) in [0, 1], float32, of a PIL image."""
  if picture.mode.startswith('I'):  # 16 bits
    levels = np.asarray(picture, np.float32)
    return np.where(levels == picture.info.get('transparency'), np.float32(0), levels / 65535)
  grey, opacity = np.moveaxis(np.asarray(picture.convert('RGBA').convert('LA'), np.float32) / 255, -1, 0)
  return np.ascontiguousarray(grey * opacity)


def _is_number(x) -> bool:
  return isinstance(x, numbers.Real) and not isinstance(x, bool) and math.isfinite(x)
