"""Gram matrices J'J of a Jacobian by cells of the image. Those of a region are sums and need no new Jacobian.

For a binary mask m, M_f is the sum of J'J over its pixels: n'M_f n is the squared norm of the change inside by a step
n, to first order, summed over images. M_b is the same outside. LowRankGAN and ReSeFa need only these two matrices. The
division into cells is our addition.

Letters: N images, d latent size, h, w pixels of the Jacobian's image, c its channels.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from panda_jax.errors import InputError
from panda_jax.regions.metrics import region_mask
from panda_jax.rivals.draws import Report, silent
from panda_jax.rivals.jacobian import Jacobian, one_of, reduced_mask

CELLS = 16  # at each side of the image
KEPT_BYTES = 1 << 30  # of Jacobians, kept for regions that cut through cells


class Inside(NamedTuple):
  """Grams of a region.

  Attributes:
    inside, outside: (d, d) float64, M_f and M_b: sums over pixels and channels, means over images.
    pixels_inside, pixels_outside: pixels times channels in these sums.
  """

  inside: np.ndarray
  outside: np.ndarray
  pixels_inside: float
  pixels_outside: float


@dataclasses.dataclass(frozen=True)
class CellGrams:
  """Grams of N images by cells.

  Attributes:
    cells: (a, b, d, d), sums over the pixels and channels of a cell and over the images.
    row_edges, column_edges: (a + 1,), (b + 1,): cell (i, j) has the rows row_edges[i] to row_edges[i + 1] - 1.
    images: N.
    channels: c.
    image: (H, W) of the generator's images; regions are in these pixels.
    resize: how images were reduced to h x w pixels, 'area' or 'nearest'.
    space, layers, joined: of the Jacobian.
    jacobians: N of (d, h, w, c); empty if they would take too much memory.
  """

  cells: np.ndarray
  row_edges: np.ndarray
  column_edges: np.ndarray
  images: int
  channels: int
  image: tuple[int, int]
  resize: str
  space: str
  layers: tuple[int, ...] | None
  joined: str
  jacobians: tuple[np.ndarray, ...] = ()

  @property
  def size(self) -> tuple[int, int]:
    """(h, w)."""
    return int(self.row_edges[-1]), int(self.column_edges[-1])

  def region(self, region) -> Inside:
    """Grams inside and outside of a region.

    Reduction by area makes pixels at the region's edge that the region covers by a share m. They count m^2 inside and
    (1 - m)^2 outside, as in the norms of m (X - X') and (1 - m) (X - X') in ROIR.

    Args:
      region: box (r0, r1, c0, c1) or mask (H, W), in pixels of the image.

    Raises:
      InputError: it is not a region, it holds no pixel after the reduction, or it cuts cells and no Jacobians are kept.
    """
    mask = reduced_mask(region_mask(region, self.image), self.size, self.resize)
    if not mask.any() or (mask == 1).all():
      text = 'x'.join(map(str, self.size))
      problem = f'at {text} pixels nothing is {"outside" if mask.any() else "inside"} of it'
      raise InputError('region', _brief(region), problem, 'give a larger resolution, or another region')
    d = self.cells.shape[-1]
    sums = np.zeros((2, d, d))
    for i, j, block in blocks(self.row_edges, self.column_edges):
      covered = mask[block]
      if (covered == covered[0, 0]).all():
        for side, share in enumerate((covered[0, 0], 1 - covered[0, 0])):
          if share:
            sums[side] += share**2 * self.cells[i, j]
        continue
      if not self.jacobians:
        remedy = 'give the region where the Jacobians are taken, or a larger keep_bytes there'
        raise InputError('region', _brief(region), 'it cuts through cells', remedy)
      for jacobian in self.jacobians:
        rows = jacobian[:, *block]
        for side, share in enumerate((covered, 1 - covered)):
          if share.any():
            sums[side] += gram(rows * share[None, :, :, None].astype(rows.dtype))
    counts = [float(self.channels * np.sum(share**2)) for share in (mask, 1 - mask)]
    return Inside(*(sums / self.images), *counts)


def blocks(row_edges: Sequence[int], column_edges: Sequence[int]):
  """(i, j, the slices of cell (i, j)) of all cells."""
  rows, columns = (list(enumerate(itertools.pairwise(edges))) for edges in (row_edges, column_edges))
  for i, (r0, r1) in rows:
    for j, (c0, c1) in columns:
      yield i, j, (slice(int(r0), int(r1)), slice(int(c0), int(c1)))


def gram(rows: np.ndarray) -> np.ndarray:
  """J'J (d, d) of columns (d, ...)."""
  flat = rows.reshape(len(rows), -1)
  return flat @ flat.T


def edges_of(size: int, cells: int, masks: Sequence[np.ndarray]) -> np.ndarray:
  """Edges of evenly spaced cells, and edges where masks (lines, size) change, so that a box cuts no cell."""
  edges = set((np.arange(min(cells, size) + 1) * size // min(cells, size)).tolist())
  for mask in masks:
    edges |= {int(at) + 1 for at in np.flatnonzero((np.diff(mask, axis=1) != 0).any(axis=0))}
  return np.array(sorted(edges))


def cell_grams(
  jacobian: Jacobian,
  latents,
  regions: Sequence = (),
  *,
  cells: int = CELLS,
  keep_bytes: int = KEPT_BYTES,
  on_progress: Report = silent,
) -> CellGrams:
  """Grams by cells of the images of latents.

  Memory holds one Jacobian (d h w c numbers) at a time, besides those that are kept.

  Args:
    jacobian: of the generator, with its size, rule and channels.
    latents: of N samples.
    regions: boxes or masks; no cell crosses their edges. Boxes cost a few cells more. Any other region is exact if the
      Jacobians of all images fit into `keep_bytes`.
    cells: at each side, unless regions need more.
    keep_bytes: see `regions`.
    on_progress: called with the number of columns.

  Raises:
    InputError: as of `Jacobian`.
    NonFiniteError: a derivative is not finite.
  """
  jacobian.prepare(latents)
  N, (h, w) = _count(latents), jacobian.size
  masks = [reduced_mask(region_mask(region, jacobian.image), (h, w), jacobian.resize) for region in regions]
  boxes = [mask for region, mask in zip(regions, masks, strict=True) if np.ndim(region) < 2]
  row_edges = edges_of(h, cells, [mask.T for mask in boxes])
  column_edges = edges_of(w, cells, boxes)
  kept: list[np.ndarray] = []
  sums = None
  for n in range(N):

    def told(done: int, n: int = n) -> None:
      on_progress('Jacobian', n * jacobian.d + done, N * jacobian.d)

    columns = jacobian.columns(one_of(latents, n), told)
    if sums is None:
      d = jacobian.d
      sums = np.zeros((len(row_edges) - 1, len(column_edges) - 1, d, d), columns.dtype)
    for i, j, block in blocks(row_edges, column_edges):
      sums[i, j] += gram(columns[:, *block])
    if N * columns.nbytes <= keep_bytes:
      kept.append(columns)
  return CellGrams(
    cells=sums,
    row_edges=row_edges,
    column_edges=column_edges,
    images=N,
    channels=jacobian.channels,
    image=jacobian.image,
    resize=jacobian.resize,
    space=jacobian.space,
    layers=jacobian.layers,
    joined=jacobian.joined,
    jacobians=tuple(kept),
  )


def _count(latents) -> int:
  import jax

  return jax.tree.leaves(latents)[0].shape[0]


def _brief(region) -> str:
  return ','.join(map(str, region)) if np.ndim(region) < 2 else f'mask of shape {np.shape(region)}'
