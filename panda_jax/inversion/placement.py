"""A photograph in the frame of a generator: the placement, the crop, and pasting a change back into the photograph.

A placement is a similarity: points (x, y) of the generator's picture, in pixels with (0, 0) the corner of the first,
go to `matrix @ (x, y, 1)` in the photograph, without distortion. Letters: (h, w) the generator's picture, (H, W) the
photograph.
"""

import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np

from panda_jax.errors import InputError
from panda_jax.generators.disk import read_description

LEAST_APART = 4.0  # least distance, in pixels, of two points of a photograph
LARGEST_SCALE, LARGEST_BLOW = 512, 64.0  # pixels of a photograph for one of the generator, and the reverse
FURTHEST = 1e9  # pixels of a photograph: the largest coordinate
FINEST = 4096  # side of a crop when it is sampled, before it is reduced
STRAIGHT = 0.02  # largest relative difference between a box's shape and the generator's
OUTSIDE = 0.5  # largest fraction of a crop that may lie outside the photograph
MISFIT = 0.5  # largest residual of three fitted points, as a fraction of their spread: 1 for swapped eyes
LEAST_OWN = 1.0  # least distance, in pixels, of two points of the generator
BLOCK = 1 << 20  # pixels of a photograph that are processed at a time: about 100 MB
SPLINE_REACH = 12  # pixels of border after which the boundary condition of a cubic spline has no effect


@dataclasses.dataclass(frozen=True)
class Placement:
  """The place of a crop in its photograph.

  Attributes:
    matrix: (2, 3) float64, from pixels of the generator to those of the photograph.
    size: (h, w) of the generator's picture.
  """

  matrix: np.ndarray
  size: tuple[int, int]

  @property
  def scale(self) -> float:
    """Pixels of the photograph for one of the generator."""
    return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))

  @property
  def turn(self) -> float:
    """Degrees by which the frame is rotated in the photograph, from -180 to 180."""
    return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))

  def corners(self) -> np.ndarray:
    """(4, 2): the corners of the crop in the photograph."""
    h, w = self.size
    return np.array([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]], np.float64) @ self.matrix.T

  def crop(self, photograph: np.ndarray) -> np.ndarray:
    """The part of a photograph (H, W, 3) uint8 in the frame: (h, w, 3) float32 from -1 to 1.

    Outside the photograph its border pixels are repeated. A larger frame is reduced by averages over the pixels.
    """
    from PIL import Image

    h, w = self.size
    fine = max(1, min(math.ceil(self.scale), FINEST // max(h, w)))
    (left, top), (right, bottom) = self._reach()
    rows, columns = (
      np.clip(np.arange(first, last), 0, side - 1)
      for first, last, side in ((top, bottom, photograph.shape[0]), (left, right, photograph.shape[1]))
    )
    cut = Image.fromarray(photograph[rows[:, None], columns[None]])
    (a, b, c), (d, e, f) = self.matrix
    coefficients = (a / fine, b / fine, c - left, d / fine, e / fine, f - top)
    image = cut.transform((w * fine, h * fine), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    array = np.asarray(image, np.float32).reshape(h, fine, w, fine, 3).mean(axis=(1, 3))
    return array / 127.5 - 1

  def _reach(self) -> tuple[np.ndarray, np.ndarray]:
    """The box of pixels around the frame, with a border for interpolation: (x, y) of its first, and after its last."""
    return _box(self.corners(), 3)

  def added(self, photograph: np.ndarray, difference: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The photograph (H, W, 3) uint8 with a difference added where the weight is above 0, and unchanged elsewhere.

    Args:
      difference: (h, w, 3), in units of an image from -1 to 1.
      weight: (h, w) from 0 to 1; it fades the difference out.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    out = photograph.copy()
    there = np.argwhere(weight > 0)
    if not len(there):
      return out
    around = np.pad(difference.astype(np.float64), ((SPLINE_REACH,) * 2, (SPLINE_REACH,) * 2, (0, 0)), 'edge')
    splines = [spline_filter(around[..., channel % around.shape[-1]], 3, mode='mirror') for channel in range(3)]
    (top, left), (bottom, right) = there.min(axis=0) - 1, there.max(axis=0) + 2  # interpolation reaches one further
    low, high = _box(np.array([[x, y, 1] for x in (left, right) for y in (top, bottom)]) @ self.matrix.T, 1)
    low, high = np.maximum(low, 0), np.minimum(high, photograph.shape[1::-1])
    back = np.linalg.inv(self.matrix[:, :2])
    rows = max(1, BLOCK // max(1, high[0] - low[0]))
    for first in range(low[1], high[1], rows):
      block = out[first : min(first + rows, high[1]), low[0] : high[0]]
      y, x = np.indices(block.shape[:2]) + 0.5
      at = np.stack([x + low[0] - self.matrix[0, 2], y + first - self.matrix[1, 2]])
      u, v = np.einsum('ij,jhw->ihw', back, at) - 0.5  # centres of pixels
      inside = (u > -0.5) & (v > -0.5) & (u < self.size[1] - 0.5) & (v < self.size[0] - 0.5)
      shares = map_coordinates(weight.astype(np.float64), [v, u], order=1, mode='nearest') * inside
      changed = shares > 0
      places = np.stack([v[changed], u[changed]]) + SPLINE_REACH
      for channel, spline in enumerate(splines):
        change = map_coordinates(spline, places, order=3, mode='mirror', prefilter=False)
        level = block[changed, channel] + 127.5 * change * shares[changed]
        block[changed, channel] = np.clip(np.round(level), 0, 255)
    return out


def _box(corners: np.ndarray, border: int) -> tuple[np.ndarray, np.ndarray]:
  """The box of pixels around points (K, 2), with a border: (x, y) of its first, and after its last."""
  return np.floor(corners.min(axis=0)).astype(int) - border, np.ceil(corners.max(axis=0)).astype(int) + border


def whole(photograph: tuple[int, int], size: tuple[int, int]) -> Placement:
  """The largest frame of the shape (h, w) in the middle of a photograph (H, W)."""
  scale = min(photograph[0] / size[0], photograph[1] / size[1])
  x, y = (photograph[1] - scale * size[1]) / 2, (photograph[0] - scale * size[0]) / 2
  return Placement(np.array([[scale, 0, x], [0, scale, y]]), size)


def boxed(box: Sequence[float], photograph: tuple[int, int], size: tuple[int, int]) -> Placement:
  """The frame in a box (x, y, width, height) of a photograph (H, W).

  Raises:
    InputError: it is not a box, lies mostly outside, or has another shape than the generator's picture.
  """
  values = _numbers(box)
  if values.shape != (4,) or not np.isfinite(values).all() or values[2] <= 0 or values[3] <= 0:
    raise InputError('box', _text(box), 'it is not a box', 'give x,y,width,height in pixels')
  x, y, width, height = values
  if abs(width / height * size[0] / size[1] - 1) > STRAIGHT:
    fit = height * size[1] / size[0]
    problem = f'its shape is not that of the generator, {size[1]}:{size[0]}, and nothing is squeezed'
    raise InputError('box', _text(box), problem, f'give --box={x:g},{y:g},{fit:g},{height:g}')
  scale = math.sqrt(width * height / (size[0] * size[1]))
  return _checked(Placement(np.array([[scale, 0, x], [0, scale, y]]), size), photograph, 'box', box)


def pointed(points: Sequence[float], own: np.ndarray, photograph: tuple[int, int], size: tuple[int, int]) -> Placement:
  """The frame, rotated and scaled, in which points of a photograph lie at the generator's points.

  Args:
    points: x, y of two or more points of the photograph, one after the other.
    own: (K, 2) the generator's points, in its pixels; if fewer are given, its first ones are used.
    photograph: (H, W).
    size: (h, w).

  Raises:
    InputError: they are not points, coincide, lie outside, are more than the generator's, or do not fit the generator's
      after rotation and scaling.
  """
  own = checked_own(own, size)
  values = _numbers(points)
  if values.ndim != 1 or values.size % 2 or values.size < 4 or not np.isfinite(values).all():
    raise InputError('points', _text(points), 'they are not two or more points x,y', 'give x,y,x,y in pixels')
  found = values.reshape(-1, 2)
  if len(found) > len(own):
    raise InputError('points', _text(points), f'the generator has {len(own)} points', f'give {len(own)} at most')
  H, W = photograph
  if (found < 0).any() or (found > (W, H)).any():
    raise InputError('points', _text(points), f'one is outside the photograph of {W}x{H} pixels', 'give others')
  if _least_distance(found) < LEAST_APART:
    raise InputError('points', _text(points), f'two are less than {LEAST_APART:g} pixels apart', 'give distinct points')
  # The least-squares similarity (Umeyama 1991, without reflection): with complex numbers it is a quotient.
  p = found[:, 0] + 1j * found[:, 1]
  q = own[: len(found), 0] + 1j * own[: len(found), 1]
  factor = np.vdot(q - q.mean(), p - p.mean()) / np.vdot(q - q.mean(), q - q.mean())
  left = np.linalg.norm(p - p.mean() - factor * (q - q.mean())) / np.linalg.norm(p - p.mean())
  if left > MISFIT:
    problem = "turned and scaled they are not the generator's own points"
    raise InputError('points', _text(points), problem, 'give the same places in the same order')
  shift = p.mean() - factor * q.mean()
  matrix = np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
  return _checked(Placement(matrix, size), photograph, 'points', points)


def numbers_of(text: str, argument: str) -> list[float]:
  """Finite numbers from 'x,y,...'.

  Raises:
    InputError: they are not.
  """
  try:
    found = [float(piece) for piece in text.split(',')]
  except ValueError:
    found = [math.nan]
  if not all(map(math.isfinite, found)):
    raise InputError(argument, text, 'these are not numbers', f'give --{argument}=x,y,...')
  return found


def known_points(folder: str | os.PathLike | None, size: tuple[int, int]) -> dict[str, tuple[float, float]]:
  """{name: (x, y)} of the points in a generator's pictures (h, w), from its folder; {} if it lists none.

  Raises:
    InputError: see `checked_own`.
  """
  known = {} if folder is None else read_description(folder).get('points')
  if not isinstance(known, dict) or not known:
    return {}
  places = checked_own([*known.values()], size)
  if len(places) != len(known):
    raise InputError('own_points', str(known)[:60], 'they are not x,y each', 'correct generator.json')
  return {str(name): (float(x), float(y)) for name, (x, y) in zip(known, places, strict=True)}


def checked_own(own: Sequence, size: tuple[int, int]) -> np.ndarray:
  """The points in a generator's pictures, (K, 2) in its pixels.

  Raises:
    InputError: they are not two or more, lie outside its picture (h, w), or coincide.
  """
  values = _numbers(own)
  if values.size < 4 or values.size % 2 or not np.isfinite(values).all():
    raise InputError('own_points', _text(np.ravel(values)), 'they are not two or more points', 'give x,y,x,y in pixels')
  found, problem = values.reshape(-1, 2), None
  if (found < 0).any() or (found > size[::-1]).any():
    problem = f"one is outside the generator's picture of {size[1]}x{size[0]} pixels"
  elif _least_distance(found) < LEAST_OWN:
    problem = f'two are less than {LEAST_OWN:g} pixel apart'
  if problem:
    raise InputError('own_points', _text(values.ravel()), problem, 'give others')
  return found


def _least_distance(points: np.ndarray) -> float:
  """The least distance between two of the points (K, 2)."""
  distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
  return float(distances[np.triu_indices(len(points), 1)].min())


def checked_placement(matrix: np.ndarray, size: tuple[int, int]) -> Placement:
  """The placement of a matrix (2, 3) from a file.

  Raises:
    ValueError: it is not a similarity, or its coordinates are too large.
  """
  (a, b, c), (d, e, f) = matrix
  placement = Placement(matrix, size)
  near = max(abs(c), abs(f)) <= FURTHEST and 1 / FURTHEST <= placement.scale <= FURTHEST
  if a != e or b != -d or not near:
    raise ValueError('its matrices are not placements of a crop')
  return placement


def _checked(placement: Placement, photograph: tuple[int, int], argument: str, value) -> Placement:
  scale = placement.scale
  if not 1 / LARGEST_BLOW <= scale <= LARGEST_SCALE:
    size = f'{placement.size[1] * scale:.3g}x{placement.size[0] * scale:.3g}'
    raise InputError(argument, _text(value), f'the crop would have {size} pixels', 'give another')
  h, w = placement.size
  x, y = np.meshgrid((np.arange(16) + 0.5) * w / 16, (np.arange(16) + 0.5) * h / 16)
  at = np.stack([x.ravel(), y.ravel(), np.ones(256)]).T @ placement.matrix.T
  outside = np.mean((at < 0).any(axis=1) | (at > photograph[::-1]).any(axis=1))
  if outside > OUTSIDE:
    problem = f'{outside:.0%} of the crop lies outside the photograph of {photograph[1]}x{photograph[0]} pixels'
    raise InputError(argument, _text(value), problem, 'give another')
  return placement


def _numbers(values: Sequence[float]) -> np.ndarray:
  """Numbers as an array; an empty one if they are not numbers."""
  try:
    return np.asarray(values, np.float64)
  except (TypeError, ValueError):
    return np.zeros(0)


def _text(values) -> str:
  try:
    return ','.join(f'{float(x):g}' for x in values)
  except (TypeError, ValueError):
    return str(values)
