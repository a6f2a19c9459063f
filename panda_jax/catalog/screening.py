"""First-order scores of every part with every appearance: how strong, how local and how alike the changes are.

To first order, adding alpha m_k a_j' to the features of sample i changes its image by alpha D_ikj = alpha J_i m_k a_j'.
For a probe e of random signs, G = J_i' e is one vector-Jacobian product, and <e, D_ikj> = m_k' G a_j for all pairs at
once; its square has the mean |D_ikj|^2, since the entries of e are independent with mean square 1 (Hutchinson's
estimator). The probe restricted to the region of part k gives the energy inside it; the rest of the probe gives the
energy outside. Samples that share a probe also give unbiased products of their changes, <D_i, D_i'>: how alike they
are. Computing all D_ikj would cost R_S R_C forward derivatives per sample; this costs R_S + 1 backward ones per probe.
Letters: N samples, S positions, C channels, R_S parts, R_C appearances, q probes, (h, w) pixels.
"""

from typing import NamedTuple

import numpy as np

from panda_jax.editing import masks
from panda_jax.pictures.overlays import on_image, relative
from panda_jax.regions.metrics import compared_size
from panda_jax.regions.responses import Responses
from panda_jax.workdir.finished_fit import FinishedFit

SIZE = 128  # longer side of the images that are compared
REGION = 0.25  # of a part's largest entry: pixels with this value or more are its region
PROBES, GROUP = 2, 4  # probes per sample, and samples that share probes
SEED = 20261123


class Screened(NamedTuple):
  """First-order scores of each pair, (R_S, R_C) each; zeros where part or appearance is dead.

  Attributes:
    strength: root mean square change of the part's pixels per unit of alpha, where -1 is black and 1 white.
    locality: energy of the change inside the part's region, as a share of the whole.
    consistency: mean product of two samples' changes inside, as a share of their mean energy: 1 for the same change in
      all samples, 0 for unrelated ones. It is an estimate and may lie slightly outside this range.
    natural: standard deviation of the appearance's coordinate at the part over samples, in units of alpha.
    score: pairs are ranked by it.
  """

  strength: np.ndarray
  locality: np.ndarray
  consistency: np.ndarray
  natural: np.ndarray
  score: np.ndarray

  def best(self, part: int, count: int) -> list[int]:
    """The appearances with the highest scores at a part, the best first, without those of score 0."""
    order = np.argsort(-self.score[part], kind='stable')[:count]
    return [int(j) for j in order if self.score[part, j] > 0]


def unit_masks(factors) -> np.ndarray:
  """(S, R_S): parts divided by their largest entry, as edits of the unit convention use them; zeros for dead ones."""
  found = np.zeros_like(factors.parts)
  for k in factors.live_parts:
    found[:, k] = masks.part_mask(factors.parts, k)
  return found


def unit_directions(factors) -> np.ndarray:
  """(C, R_C): appearances of unit length; zeros for dead ones."""
  lengths = np.linalg.norm(factors.appearances.astype(np.float64), axis=0, keepdims=True)
  return (factors.appearances / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def part_regions(
  factors, size: tuple[int, int], margin: int | tuple[int, int] = 0, least: float = REGION
) -> np.ndarray:
  """(R_S, h, w) bool at the compared size of images (h, w): where an enlarged part reaches `least` of its maximum."""
  maps = relative(factors.part_maps())
  found = on_image(maps, compared_size(size, SIZE), margin) >= least
  return found & (factors.parts.max(axis=0) > 0)[:, None, None]


def probes_of(sample: int, shape: tuple[int, ...]) -> np.ndarray:
  """Random signs (q, h, w, channels) of a sample, the same for all samples of its group."""
  rng = np.random.default_rng((SEED, sample // GROUP))
  return rng.choice(np.array([-1, 1], np.float32), (PROBES, *shape))


def screen(opened: FinishedFit, latents) -> Screened:
  """Scores all pairs of parts and appearances of a fit.

  Args:
    opened: a fit with a generator that JAX can differentiate.
    latents: of N samples, 4 or more.

  Raises:
    InputError: there is no generator, or it cannot be differentiated.
    NonFiniteError: features, images or derivatives are not finite.
  """
  factors = opened.factors
  responses = Responses(opened.needed_generator(), latents, opened.layer, None, size=SIZE, noise=opened.noise)
  where, what = unit_masks(factors), unit_directions(factors)
  size = responses.inside.shape
  regions = part_regions(factors, size, opened.margin)
  shape = (*regions.shape[1:], responses.image_channels)
  whole, inside = responses.probed(where, what, regions, lambda i: probes_of(i, shape))

  total = where.sum(axis=0)
  fibres = np.einsum('nsc,sk->nkc', responses.features, where / np.where(total > 0, total, 1)[None])
  natural = np.std(np.einsum('nkc,cj->nkj', fibres, what), axis=0, dtype=np.float64)
  return scored(whole, inside, regions.sum(axis=(1, 2)) * responses.image_channels, natural)


def scored(whole: np.ndarray, inside: np.ndarray, entries: np.ndarray, natural: np.ndarray) -> Screened:
  """Scores from probed changes.

  Args:
    whole, inside: (N, q, R_S, R_C), see `Responses.probed`; samples of a group have the same probes.
    entries: (R_S,) pixels times channels in the part's region.
    natural: (R_S, R_C), see `Screened`.
  """
  whole, inside = whole.astype(np.float64), inside.astype(np.float64)
  energy = np.square(inside).mean(axis=(0, 1))
  outside = np.square(whole - inside).mean(axis=(0, 1))
  products, pairs = np.zeros_like(energy), 0
  for first in range(0, len(inside), GROUP):
    group = inside[first : first + GROUP]
    summed = group.sum(axis=0)
    products += (np.square(summed) - np.square(group).sum(axis=0)).mean(axis=0)
    pairs += len(group) * (len(group) - 1)
  strength = np.sqrt(energy / np.maximum(entries, 1)[:, None])
  locality = _share(energy, energy + outside)
  consistency = _share(products / max(pairs, 1), energy)
  score = strength * natural * locality * np.maximum(consistency, 0)
  return Screened(strength, locality, consistency, natural, score)


def _share(x: np.ndarray, of: np.ndarray) -> np.ndarray:
  return np.divide(x, of, out=np.zeros_like(x), where=of > 0)
