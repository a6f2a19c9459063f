"""An edit on a photograph: the photograph itself, plus what the edit changes in the generator's picture of it.

    photograph + weight (G(edited) - G(inverted))

What the inversion could not make stays as it is in the photograph, and outside the edit nothing changes at all. The
weight is 1 where the mask of the edit acts, and falls to 0 over `FADE` cells of the feature map around it.
Letters: H, W grid, S = H W positions, (h, w) pixels.
"""

import numpy as np

COMPOSITIONS = 'difference', 'generated'
FADE = 2.0  # cells: an edit reaches a little beyond its mask, through the convolutions after it
ACTS = 0.01  # of the mask's maximum
FINE = 8  # distances are measured on a grid so many times finer


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
  from scipy.ndimage import distance_transform_edt

  values = np.abs(mask).reshape(grid)
  acts = values > ACTS * values.max() if values.any() else np.zeros(grid, bool)
  if not acts.any():
    return np.zeros(size, np.float32)
  edges = np.broadcast_to(margin, 2)
  inner = np.array(grid) - 2 * edges
  # Distances in cells, from the centre of each pixel to the nearest cell that acts.
  fine = np.repeat(np.repeat(acts, FINE, axis=0), FINE, axis=1)
  apart = distance_transform_edt(~fine) / FINE
  rows, columns = (
    np.minimum(((np.arange(side) + 0.5) / side * cells + edge) * FINE, FINE * (cells + 2 * edge) - 1).astype(int)
    for side, cells, edge in zip(size, inner, edges, strict=True)
  )
  t = np.clip(1 - apart[rows[:, None], columns[None]] / FADE, 0, 1)
  return (t * t * (3 - 2 * t)).astype(np.float32)


def composed(photograph: np.ndarray, original: np.ndarray, edited: np.ndarray, weight: np.ndarray) -> np.ndarray:
  """(..., h, w, channels): a photograph with the weighted difference added; outside the weight it keeps its bits."""
  where = weight[..., None]
  return np.where(where > 0, photograph + where * (edited - original), photograph).astype(np.float32)
