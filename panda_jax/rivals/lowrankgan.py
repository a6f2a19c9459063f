"""LowRankGAN (Zhu et al. 2021, Low-Rank Subspaces in GANs): directions that move a region and little else.

The Grams M_f of the inside and M_b of the outside of a region (sections 3.1 and 3.2 of the paper; grams.py) are split
by robust PCA into a part of low rank and a sparse one. The leading eigenvectors v_j of L_f, as many as its rank, move
the inside; the eigenvectors B of L_b beyond its rank move the outside little. Directions are d_j = B B' v_j, of unit
length (section 3.3, the projection onto the null space).

The published code, and our corrections, which `published` turns off:

                     published                                 corrected
  differentiated by  one w that drives all rows                the rows that the directions move
  pixels             256 a side, nearest                       256 a side at most, averaged
  channels           averaged, so opposite changes cancel      kept
  images             one                                       five, whose Grams are averaged
  robust PCA         lam = 1/60, ends before the optimum       lam = 1 / sqrt(d), to the optimum
  order              of v_j, although projecting changes it    by the leak outside, the least first
  rank of L_b        0 counts as 1                             as it is

The length of B B' v_j is kept as a score. If v_j lies almost wholly in the range of L_b, its projection is mostly
noise, which scaling to unit length amplifies.

Letters: d latent size.
"""

from collections.abc import Sequence

import numpy as np

from panda_jax.errors import InputError
from panda_jax.rivals.directions import Directions
from panda_jax.rivals.draws import Report, silent
from panda_jax.rivals.grams import CellGrams
from panda_jax.rivals.reference import (
  RESOLUTION,
  Found,
  References,
  directions_of,
  grams_for,
  leaks,
)
from panda_jax.rivals.robust_pca import Split, default_weight, robust_pca

PUBLISHED_WEIGHT = 1 / 60
NOTHING = 1e-9  # a projected direction of this length is rounding


def discover(
  generator,
  *,
  region,
  layers: Sequence[int] | None = None,
  k: int | None = None,
  seeds: Sequence[int] | None = None,
  labels: Sequence[int] | None = None,
  truncation: float = 1.0,
  truncation_layers: int | None = None,
  resolution: int = RESOLUTION,
  lam: float | None = None,
  relax: int = 0,
  project: bool = True,
  published: bool = False,
  grams: CellGrams | None = None,
  on_progress: Report = silent,
) -> Directions:
  """Directions that change a region and little else.

  Args:
    generator: any that JAX can differentiate. Latents with w+ are moved there, others in z.
    region: box (r0, r1, c0, c1) or mask (h, w), in pixels of the image.
    layers: rows of w+ that move; by default those of 4 to 7 that exist.
    k: number of directions at most; by default the rank of L_f.
    seeds: of the reference images; 4 to 8 by default, only 4 as published.
    labels: classes of the reference images.
    truncation, truncation_layers: of the reference images.
    resolution: of the Jacobian's longer side, at most.
    lam: of robust PCA: a smaller one gives smaller ranks, so fewer directions, less confined to the region;
      1 / sqrt(d) by default, 1/60 as published.
    relax: number of eigenvectors within the rank of L_b, those of its smallest values, that B includes too.
    project: if False, the directions are the v_j themselves.
    published: follow the published code, see the module.
    grams: of `reference.reference_grams`, in place of `seeds` to `resolution`; they serve many regions.
    on_progress: called with the Jacobian's columns and with the splits.

  Returns:
    Directions of unit length; scores 'length' of the projection, 'inside' and 'leak' (see `reference.directions_of`).

  Raises:
    InputError: an argument does not fit; or no direction is left: L_f has rank 0, or lies in the range of L_b.
    NonFiniteError: a derivative is not finite.
  """
  if relax < 0:
    raise InputError('relax', relax, 'it is a number of directions', 'give 0 or more')
  references = References(seeds, labels, truncation, truncation_layers, resolution)
  channels = 'mean' if published else 'rgb'
  rows, grams, within = grams_for(
    generator, region, layers, references, published, lambda: channels, grams, on_progress
  )
  d = len(within.inside)
  lam = lam if lam is not None else PUBLISHED_WEIGHT if published else default_weight(d)
  splits = []
  for i, (gram, pixels) in enumerate(zip(within[:2], within[2:], strict=True)):
    on_progress('robust PCA', i, 2)
    splits.append(robust_pca(gram / pixels, lam, published=published))
  on_progress('robust PCA', 2, 2)
  principal, projected, lengths = projections(*splits, relax=relax, published=published)
  vectors = projected if project else principal
  if not len(vectors):
    remedy = f'give a larger lam than {lam:.3g}' if not splits[0].rank else 'give a larger relax or a smaller lam'
    raise InputError('region', 'this', f'no direction is left ({_ranks(splits, d)})', remedy)
  if not published:
    order = np.argsort(leaks(vectors, within), kind='stable')
    vectors, lengths = vectors[order], lengths[order]
  record = {'lam': float(lam), 'relax': int(relax), 'project': bool(project), 'robust_pca': _record(splits)}
  found = Found(vectors, {'length': lengths}, record)
  return directions_of('lowrankgan', found, within, grams, region, rows, references, published, k)


def projections(
  front: Split, back: Split, relax: int = 0, published: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Eigenvectors v_j (r, d) of L_f, their projections (r, d) scaled to unit length, and the lengths (r,) before that.

  Eigenvectors with a projection of zero are left out.
  """
  principal = _leading(front.low)[: front.rank]
  least = 1 if published else 0
  beyond = min(max(least, back.rank - relax), len(back.low) - 1)
  null = _leading(back.low)[beyond:]
  projected = (principal @ null.T) @ null
  lengths = np.linalg.norm(projected, axis=1)
  some = lengths > NOTHING
  return principal[some], projected[some] / lengths[some, None], lengths[some]


def _leading(L: np.ndarray) -> np.ndarray:
  """Eigenvectors of a symmetric L (d, d) as rows, the largest singular value first."""
  values, vectors = np.linalg.eigh(L)
  return vectors[:, np.argsort(-np.abs(values), kind='stable')].T


def _ranks(splits: Sequence[Split], d: int) -> str:
  return f'robust PCA gave ranks {splits[0].rank} inside and {splits[1].rank} outside, of {d}'


def _record(splits: Sequence[Split]) -> dict:
  names = ('rank', 'iterations', 'converged', 'objective', 'gap')
  return {side: {n: getattr(s, n) for n in names} for side, s in zip(('inside', 'outside'), splits, strict=True)}
