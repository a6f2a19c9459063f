"""ReSeFa (Zhu et al. 2022, Region-Based Semantic Factorization in GANs): most change inside per change outside.

With the Grams M_f of the inside and M_b of the outside of a region, per pixel, directions maximise

    n'M_f n / n'(M_b + tau tr(M_b) I) n        (equation 4 of the paper)

that is, they are generalised eigenvectors, the largest eigenvalue first. tau keeps steps short. Without it, directions
that hardly move anything have the best quotients, and M_b has no inverse if a step changes nothing, as along the radius
of ProGAN's z.

The published code, and our corrections, which `published` turns off:

                     published                                 corrected
  differentiated by  one w that drives all rows                the rows that the directions move
  pixels             256 a side, nearest                       256 a side at most, averaged
  channels           summed in images above 256 a side         kept
  images             one at a time                             five, whose Grams are averaged
  tau                0 by default                              1e-3
  solved by          eigenvectors of inv(M_b) M_f              M_b = C C', eigenvectors of inv(C) M_f inv(C)'

Letters: d latent size.
"""

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from panda_jax.errors import InputError
from panda_jax.rivals.directions import Directions
from panda_jax.rivals.draws import Report, silent
from panda_jax.rivals.grams import CellGrams
from panda_jax.rivals.jacobian import Jacobian, reduced_size
from panda_jax.rivals.reference import (
  RESOLUTION,
  Found,
  References,
  directions_of,
  grams_for,
)

TAU = 1e-3


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
  tau: float | None = None,
  published: bool = False,
  grams: CellGrams | None = None,
  on_progress: Report = silent,
) -> Directions:
  """Directions that change a region most per change of the rest.

  Args:
    generator: any that JAX can differentiate. Latents with w+ are moved there, others in z.
    region: box (r0, r1, c0, c1) or mask (h, w), in pixels of the image.
    layers: rows of w+ that move; by default those of 4 to 7 that exist.
    k: number of directions at most; all d by default.
    seeds: of the reference images; 4 to 8 by default, only 4 as published.
    labels: classes of the reference images.
    truncation, truncation_layers: of the reference images.
    resolution: of the Jacobian's longer side, at most.
    tau: regularisation, relative to the trace of M_b; 1e-3 by default, 0 as published (1e-3 is their `--full_rank`).
    published: follow the published code, see the module.
    grams: of `reference.reference_grams`, in place of `seeds` to `resolution`; they serve many regions.
    on_progress: called with the Jacobian's columns.

  Returns:
    Directions of unit length; scores 'eigenvalue', 'inside' and 'leak' (see `reference.directions_of`).

  Raises:
    InputError: an argument does not fit; or M_b has no inverse and tau is 0.
    NonFiniteError: a derivative is not finite.
  """
  tau = (0.0 if published else TAU) if tau is None else float(tau)
  if not 0 <= tau < np.inf or (not published and tau == 0):
    raise InputError('tau', tau, 'it must be positive', f'give one such as {TAU}')
  references = References(seeds, labels, truncation, truncation_layers, resolution)
  rows, grams, within = grams_for(
    generator,
    region,
    layers,
    references,
    published,
    lambda: _channels(generator, references, published),
    grams,
    on_progress,
  )
  inside, outside = within.inside / within.pixels_inside, within.outside / within.pixels_outside
  solve = as_published if published else factorised
  values, vectors = solve(inside, outside + tau * np.trace(outside) * np.eye(len(outside)))
  found = Found(vectors, {'eigenvalue': values}, {'tau': tau})
  return directions_of('resefa', found, within, grams, region, rows, references, published, k)


def factorised(front: np.ndarray, back: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Eigenvalues (d,), descending, and eigenvectors (d, d) as rows of unit length of front n = lambda back n, float64.

  By whitening: back = C C', and the eigenvectors u of the symmetric inv(C) front inv(C)' give n = inv(C)' u.

  Raises:
    InputError: `back` is not positive definite.
  """
  try:
    C = np.linalg.cholesky(back)
  except np.linalg.LinAlgError as error:
    raise InputError('region', 'this', 'nothing changes outside of it', 'give another region') from error
  half = scipy.linalg.solve_triangular(C, front, lower=True)
  white = scipy.linalg.solve_triangular(C, half.T, lower=True)
  values, vectors = np.linalg.eigh((white + white.T) / 2)
  rows = scipy.linalg.solve_triangular(C.T, vectors[:, ::-1], lower=False).T
  return values[::-1], rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_published(front: np.ndarray, back: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """As `factorised`, by an inverse and an eigendecomposition that assumes no symmetry; real parts, unit length.

  Raises:
    InputError: `back` has no inverse.
  """
  try:
    values, vectors = np.linalg.eig(np.linalg.inv(back) @ front)
  except np.linalg.LinAlgError as error:
    raise InputError('tau', 0, 'the Gram outside has no inverse', f'give tau={TAU}, as --full_rank did') from error
  values, vectors = values.real, vectors.real.T
  vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  order = np.argsort(-values, kind='stable')
  return values[order], vectors[order]


def _channels(generator, references: References, published: bool) -> str:
  """'sum' if the published code would reduce the image, else 'rgb'."""
  if not published:
    return 'rgb'
  jacobian = Jacobian(generator)
  jacobian.prepare(references.latents(generator, published))
  return 'rgb' if reduced_size(jacobian.image, references.resolution) == jacobian.image else 'sum'
