"""An edit on a photograph: the photograph, plus the change that the edit makes in the generator's picture of it.

    photograph + weight (G(edited) - G(inverted))

Details that the inversion could not reproduce stay in the photograph, and outside the edit nothing changes at all. The
weight follows the mask of the edit: 0 where the mask is below a tenth of its maximum, 1 above a half. It
fades out over the cells around, where convolutions carry the edit. Letters: H, W grid, S = H W positions, h, w pixels.
"""

import numpy as np

COMPOSITIONS = 'difference', 'generated'
LEAST, FULL = 0.1, 0.5  # shares of the mask's maximum
FADE = 2.0  # cells


def weight(
  mask: np.ndarray, grid: tuple[int, int], size: tuple[int, int], margin: int | tuple[int, int] = 0
) -> np.ndarray:
  """(h, w) float32 from 0 to 1, of a mask (S,) on the feature grid.

  Args:
    mask: its absolute values count.
    grid: (H, W).
    size: (h, w).
    margin: cells of the grid beyond the image at each edge, or (above and below, at the sides).
  """
  from scipy.ndimage import map_coordinates

  values = np.abs(mask).reshape(grid).astype(np.float64)
  if not values.any():
    return np.zeros(size, np.float32)
  full = np.clip((values / values.max() - LEAST) / (FULL - LEAST), 0, 1)
  reach = int(np.ceil(FADE)) - 1
  around = np.pad(full, reach)
  H, W = grid
  faded = np.zeros(grid)
  for i in range(-reach, reach + 1):
    for j in range(-reach, reach + 1):
      share = max(0.0, 1 - np.hypot(i, j) / FADE)
      faded = np.maximum(faded, share * around[reach + i : reach + i + H, reach + j : reach + j + W])
  edges = np.broadcast_to(margin, 2)
  rows, columns = (
    (np.arange(side) + 0.5) / side * (cells - 2 * edge) + edge - 0.5
    for side, cells, edge in zip(size, grid, edges, strict=True)
  )
  places = np.stack(np.meshgrid(rows, columns, indexing='ij'))
  return map_coordinates(faded, places, order=1, mode='nearest').astype(np.float32)


def composed(photograph: np.ndarray, original: np.ndarray, edited: np.ndarray, weight: np.ndarray) -> np.ndarray:
  """(..., h, w, channels): a photograph with the weighted difference added; outside the weight it keeps its bits."""
  where = weight[..., None]
  return np.where(where > 0, photograph + where * (edited - original), photograph).astype(np.float32)
