"""Shared by LowRankGAN and ReSeFa: Grams of reference images inside and outside of a region, and scores of directions.

Letters: d latent size, k directions, L rows of w+.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from panda_jax.errors import InputError
from panda_jax.generators.structure import plain
from panda_jax.rivals.directions import Directions
from panda_jax.rivals.draws import Report, silent
from panda_jax.rivals.grams import CellGrams, Inside, cell_grams
from panda_jax.rivals.jacobian import Jacobian, reference_latents, untraceable
from panda_jax.rivals.movement import checked_rows, latent_space
from panda_jax.rivals.spectra import first, oriented

ROWS = 4, 5, 6, 7  # of w+ that both papers edit
RESOLUTION = 256
# Directions found on one image leak more on others: the first direction of ReSeFa for a box around the nose of cats64,
# found on 1, 5 and 16 images, leaks 3.3, 1.9 and 1.2 on eight others; for the eyes 0.62, 0.48 and 0.56. An image costs
# d columns.
SEEDS = 4, 5, 6, 7, 8
PUBLISHED_SEEDS = (4,)  # the published code finds directions for each image


class References(NamedTuple):
  """The images whose Jacobians are computed, and their resolution.

  Attributes:
    seeds: of the images; None for the default of the method.
    labels: class indices; image i has labels[i mod len(labels)].
    truncation, truncation_layers: as of `generator.map`.
    resolution: of the longer side, at most.
  """

  seeds: Sequence[int] | None = None
  labels: Sequence[int] | None = None
  truncation: float = 1.0
  truncation_layers: int | None = None
  resolution: int = RESOLUTION

  def numbers(self, published: bool) -> tuple[int, ...]:
    """The seeds."""
    if self.seeds is not None:
      return tuple(int(seed) for seed in self.seeds)
    return PUBLISHED_SEEDS if published else SEEDS

  def latents(self, generator, published: bool):
    """Latents of the images."""
    return reference_latents(generator, self.numbers(published), self.labels, self.truncation, self.truncation_layers)


def moved_rows(generator, layers: Sequence[int] | None) -> tuple[int, ...] | None:
  """Rows of w+ that directions move: those given, else those of 4 to 7 that exist; None where latents have no rows.

  Raises:
    InputError: a given row does not exist.
  """
  generator = plain(generator)
  if latent_space(generator)[0] != 'w':
    if layers is not None:
      raise InputError('layers', tuple(layers), 'the latents of this generator have no rows', 'leave them out')
    return None
  z = np.zeros((1, generator.z_dim), np.float32)
  labels = np.zeros(1, np.int32) if generator.num_classes else None
  try:
    L = jax.eval_shape(lambda z: generator.map(z, labels), z).wplus.shape[1]
  except jax.errors.JAXTypeError as error:
    raise untraceable(generator) from error
  if layers is None:
    return tuple(row for row in ROWS if row < L) or tuple(range(L))
  return checked_rows(layers, L)


def reference_grams(
  generator,
  regions: Sequence = (),
  *,
  layers: Sequence[int] | None = None,
  references: References | None = None,
  published: bool = False,
  channels: str | None = None,
  on_progress: Report = silent,
) -> CellGrams:
  """Grams of reference images, for `discover(grams=...)` of LowRankGAN and ReSeFa: computed once for many regions.

  Without `published` they are the same for both methods.

  Args:
    regions: those that will be edited; cells end at their edges, see `grams.cell_grams`.
    layers: rows of w+ that directions will move.
    references: the images; their defaults if left out.
    published: nearest pixels, and one w that drives all rows.
    channels: as of `Jacobian`; all three if left out. The published codes join them: LowRankGAN by 'mean', ReSeFa by
      'sum' in images larger than the resolution.

  Raises:
    InputError: as of `Jacobian`, `cell_grams` and `reference_latents`.
  """
  rows = moved_rows(generator, layers)
  references = References() if references is None else references
  jacobian = Jacobian(
    generator,
    layers=None if published else rows,
    resolution=references.resolution,
    resize='nearest' if published else 'area',
    channels=channels or 'rgb',
  )
  return cell_grams(jacobian, references.latents(generator, published), regions, on_progress=on_progress)


def grams_for(
  generator,
  region,
  layers: Sequence[int] | None,
  references: References,
  published: bool,
  channels: Callable[[], str],
  grams: CellGrams | None,
  on_progress: Report,
) -> tuple[tuple[int, ...] | None, CellGrams, Inside]:
  """The rows that move, the Grams (given, else computed here), and the Grams inside and outside of a region.

  Args:
    channels: the argument of `reference_grams`, if Grams are computed here.
    Others as of `discover`.
  """
  rows = moved_rows(generator, layers)
  if grams is None:
    grams = reference_grams(
      generator,
      [region],
      layers=layers,
      references=references,
      published=published,
      channels=channels(),
      on_progress=on_progress,
    )
  check_grams(grams, rows, published)
  return rows, grams, grams.region(region)


def check_grams(grams: CellGrams, rows: tuple[int, ...] | None, published: bool) -> None:
  """Raises InputError unless the Grams are with respect to the latent of the method."""
  wanted = None if published else rows
  if grams.layers != wanted:
    text = 'all rows' if wanted is None else f'rows {",".join(map(str, wanted))}'
    made = 'all rows' if grams.layers is None else f'rows {",".join(map(str, grams.layers))}'
    raise InputError('grams', made, f'this differentiates by {text} of w+', 'give `reference_grams` of the same rows')


class Found(NamedTuple):
  """Directions (k, d) of unit length in the order of the method, scores (k,) by name, and settings to record."""

  vectors: np.ndarray
  scores: dict[str, np.ndarray]
  record: dict


def directions_of(
  method: str,
  found: Found,
  within: Inside,
  grams: CellGrams,
  region,
  rows: tuple[int, ...] | None,
  references: References,
  published: bool,
  k: int | None,
) -> Directions:
  """The first k directions, with first-order scores.

  Scores beside the method's own: 'inside', root mean square change of the region per unit of strength, and 'leak', the
  norm of the change outside over that inside: the ROIR of small steps, lower is better.
  """
  inside = np.sqrt(_energies(found.vectors, within.inside) / within.pixels_inside)
  scores = found.scores | {'inside': inside, 'leak': leaks(found.vectors, within)}
  count = first(k, len(found.vectors))
  labels = references.labels
  provenance = {
    'published': bool(published),
    'region': described(region, grams.image),
    'seeds': list(references.numbers(published)),
    'labels': None if labels is None else np.asarray(labels).tolist(),
    'truncation': float(references.truncation),
    'truncation_layers': references.truncation_layers,
    'images': grams.images,
    'resolution': list(grams.size),
    'resize': grams.resize,
    'channels': grams.joined,
    'differentiated_by': 'z' if grams.space == 'z' else 'all rows' if grams.layers is None else list(grams.layers),
    **found.record,
  }
  return Directions(
    method=method,
    space=grams.space,
    layers=rows,
    vectors=oriented(found.vectors[:count]),
    units=np.ones(count),
    unit='length',
    scores={name: np.asarray(values)[:count] for name, values in scores.items()},
    provenance=provenance,
  )


def leaks(vectors: np.ndarray, within: Inside) -> np.ndarray:
  """(k,): for each row of vectors (k, d), norm of the change outside over that inside, to first order; at most 1e6."""
  inside, outside = (_energies(vectors, gram) for gram in (within.inside, within.outside))
  least = np.maximum(1e-12 * outside, np.finfo(float).tiny)
  return np.sqrt(outside / np.maximum(inside, least))


def _energies(vectors: np.ndarray, gram: np.ndarray) -> np.ndarray:
  """(k,): n'Mn of each row n of vectors (k, d); negative values, from rounding, become zero."""
  return np.maximum(np.einsum('kd,kd->k', vectors @ gram, vectors), 0)


def described(region, image: tuple[int, int]) -> dict:
  """A region for a record: its box, or the hash of its mask."""
  if np.ndim(region) < 2:
    return {'box': [int(x) for x in region], 'image': list(image)}
  mask = np.asarray(region, bool)
  return {'sha256': hashlib.sha256(np.packbits(mask).tobytes()).hexdigest(), 'image': list(image)}
