"""How the content of a region moves and grows from the original to the edited picture.

The change of the colours c is fitted in each sample, by least squares, by an affine motion of all colours together and
by a change of light of each:

  c′ − c ≈ −∇c · (t + D r) + b + β · r + g c,

where r is the place relative to the middle of its piece of the region (such as one of both eyes), t the motion,
D = diag(width, height) the growth, b and β the level and the slope of the light, and g a change of contrast; ∇c and c
on the right are of the mean of both pictures, which is exact to second order. This is the registration of Lucas and
Kanade (1981), with light, in one step.
Lengths are in shares of the side of a square as large as a piece.
Letters: N samples, (h, w) pixels, M pixels of a region.
"""

import numpy as np
from scipy import ndimage

SIDE = 16  # pixels of that side; larger pieces are reduced, so that motions are small compared with shapes
EXPLAINED = 0.12  # least share of the whole change that motion explains and light does not; chance explains up to 0.1
FEWEST = 24  # pixels of a region: four numbers of a motion need some more
RIDGE = 1e-3  # of the squared norms; keeps what the pixels do not tell at zero

NAMES = 'across', 'down', 'width', 'height', 'size'


def deformation(original: np.ndarray, edited: np.ndarray, region: np.ndarray) -> dict[str, np.ndarray]:
  """Motion and growth (N,) for each of `NAMES`; zero where no motion explains the change.

  Args:
    original, edited: colours (3, N, h, w) of CIELAB.
    region: (h, w) bool.
  """
  factor = max(1, round(_places(region)[2] / SIDE))
  original, edited = _reduced(original, factor), _reduced(edited, factor)
  region = _reduced(region, factor) >= 0.5
  N, M = original.shape[1], np.count_nonzero(region)
  if M < FEWEST or min(region.shape) < 2:  # a slope needs two pixels
    return {name: np.zeros(N) for name in NAMES}
  down, across, side = _places(region)
  mean = (original + edited) / 2
  slope_down, slope_across = (side * np.gradient(mean, axis=axis)[..., region] for axis in (2, 3))
  motion = -np.stack([slope_across, slope_down, slope_across * across, slope_down * down], axis=-1)
  change, level = (edited - original)[..., region], mean[..., region]
  light = np.stack(np.broadcast_arrays(1.0, down, across, level), axis=-1)
  rest = _without(light, np.concatenate([motion, change[..., None]], axis=-1))
  motion, target = (x.transpose(1, 0, 2, 3).reshape(N, 3 * M, -1) for x in (rest[..., :4], rest[..., 4:]))
  numbers, left = _fitted(motion, target), _without(motion, target)
  if np.square(target).sum() - np.square(left).sum() < EXPLAINED * np.square(change).sum():
    numbers = np.zeros_like(numbers)
  across, down, width, height = numbers[..., 0].T
  return dict(zip(NAMES, (across, down, width, height, (width + height) / 2), strict=True))


def _places(region: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
  """r of each pixel (M,), down and across, and the side in pixels, of which the largest pieces decide."""
  piece = ndimage.label(region)[0][region]
  pixels = np.bincount(piece)
  side = float(np.sqrt(pixels[piece].mean()))
  down, across = ((x - (np.bincount(piece, x) / np.maximum(pixels, 1))[piece]) / side for x in np.nonzero(region))
  return down, across, side


def _reduced(images: np.ndarray, factor: int) -> np.ndarray:
  """Means (..., h, w) of blocks; the pixels that do not fill a block, at the far edges, are left out."""
  rows, columns = (n // factor for n in images.shape[-2:])
  whole = images[..., : rows * factor, : columns * factor]
  return whole.reshape(*images.shape[:-2], rows, factor, columns, factor).mean(axis=(-3, -1), dtype=np.float64)


def _fitted(columns: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """Coefficients (..., k, l) of the fits of targets (..., M, l) by columns (..., M, k)."""
  transposed = columns.swapaxes(-1, -2)
  gram = transposed @ columns
  diagonal = np.einsum('...kk->...k', gram)  # a view
  diagonal += RIDGE * diagonal + np.finfo(np.float64).tiny
  return np.linalg.solve(gram, transposed @ targets)


def _without(columns: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """What the columns do not explain of the targets."""
  return targets - columns @ _fitted(columns, targets)
