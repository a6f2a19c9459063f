"""StyleSpace (Wu, Lischinski and Shechtman 2021, StyleSpace Analysis): single styles that act in one region.

A direction is one style of a StyleGAN2 (one channel of one layer's modulation), and strength 1 is its standard
deviation. The derivative of the image by every style shows which styles are local to a region:

as published (section 4 of the paper, and its code): for each image, the derivative is averaged over 32 x 32 cells, and
  its magnitude over colours. For a region of o cells, this map is cut at the percentile that keeps o cells. If n of
  them lie inside the region, its score is n / o^2. The style votes for the region with the best score in this image. A
  style is local to a region if more than half of the images that show the region vote for it, and no other region comes
  closer than a quarter.

here (our derivation): with E_i, F_i the derivative's energy inside and outside of the region in image i, a small edit
  leaks sqrt(F_i / E_i) outside per change inside. The mean over images, the ROIR of a small edit, ranks the styles;
  styles that reach the target change of the region within the allowed strengths come first. Energies are estimated from
  random probes. The estimates are chi-squared, so the biases of their roots and ratios are known and corrected.

Letters: N samples, d styles in all, (h, w) the image's pixels, g cells, R regions, k directions, T probes.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

from panda_jax.errors import InputError
from panda_jax.generators.labels import in_turn
from panda_jax.generators.structure import plain
from panda_jax.regions.metrics import region_mask
from panda_jax.rivals.directions import Directions
from panda_jax.rivals.draws import Report, silent
from panda_jax.rivals.movement import style_sizes
from panda_jax.rivals.spectra import first
from panda_jax.rivals.style_gradients import gradient_maps, image_shape, region_energies, statistics, style_rows

CELLS = 32
VOTES, MARGIN = 0.5, 0.25
STRENGTHS = 20.0  # standard deviations; the limit of the published editor
LEAKS = 1e6  # is written for an infinite leakage
SAMPLES, POPULATION = {False: 64, True: 1000}, {False: 10_000, True: 100_000}  # published: True


def discover(
  generator,
  *,
  region,
  others: Sequence = (),
  k: int | None = None,
  samples: int | None = None,
  population: int | None = None,
  seed: int = 5,
  truncation: float = 0.7,
  truncation_layers: int | None = None,
  labels: Sequence[int] | None = None,
  rgb: bool = False,
  probes: int = 16,
  target: float = 0.1,
  cells: int | None = None,
  published: bool = False,
  on_progress: Report = silent,
) -> Directions:
  """The styles that act in a region and nowhere else, the most local first.

  Args:
    generator: a StyleGAN2.
    region: a box, a mask (h, w), or masks (N, h, w), one for each sample, as from a segmentation of the images.
    others: regions of the same forms that compete for the published votes; the rest of the image is one more region.
      Where regions overlap, the earlier one counts, `region` first.
    k: number of styles at most.
    samples: N, for the gradients; 64, or 1000 as published.
    population: samples for the deviations, N at least; 10 000, or 100 000 as published.
    seed: of their z; the N samples are the first of the population.
    truncation, truncation_layers, labels: as of `generator.map`. As published, all rows of w+ are copies of the first
      row after truncation.
    rgb: whether styles of the ToRGBs are candidates too.
    probes: T, for each sample; not as published.
    target: root mean square change inside of the region, black to white being 2, that strengths should reach; not as
      published.
    cells: g of the published maps; None for 32, or the image's side where that is less.
    published: rank by the published votes.
    on_progress: called with the number of images done.

  Returns:
    One-hot directions in the space of styles, in standard deviations. Scores: 'leakage' (the ROIR of a small edit)
    and 'inside' (change inside of the region per deviation, as `target`); or the published 'rate' and 'margin'.
    `provenance['channels']` names layer and channel of each.

  Raises:
    InputError: not a StyleGAN2, a region that does not fit, or, as published, no style is local to it.
    NonFiniteError: a style or a gradient is NaN or infinity.
  """
  generator = plain(generator)
  sizes = style_sizes(generator)
  samples = SAMPLES[published] if samples is None else samples
  population = max(samples, POPULATION[published] if population is None else population)
  if samples < 1:
    raise InputError('samples', samples, 'it must be positive', 'give the number of samples to draw')
  if probes < 2:
    raise InputError('probes', probes, 'too few to tell energies from noise', 'give 16 or so')
  masks = region_masks([region, *others], image_shape(generator)[:2], samples)
  drawn = {'truncation': truncation, 'truncation_layers': truncation_layers, 'labels': labels, 'copied': published}
  _, deviations, rows = statistics(style_rows(generator, population, seed, **drawn), samples)
  candidates = np.flatnonzero(np.concatenate([np.full(size, rgb or name[0] == 'c') for name, size in sizes]))
  candidates = candidates[deviations[candidates] > 0]
  if published:
    side = image_shape(generator)[0]
    rates = vote_rates(generator, rows, masks, min(CELLS, side) if cells is None else cells, candidates, on_progress)
    order, scores = _local(rates)
    if not len(order):
      problem = f'no style has more than {VOTES:.0%} of {samples} votes there, by {MARGIN:.0%}'
      raise InputError('region', _brief(region), problem, 'give a larger region, or leave out published')
  else:
    inside = masks[..., :1, :, :]
    energies = region_energies(
      generator, rows, np.concatenate([inside, ~inside], axis=-3), probes=probes, on_progress=on_progress
    )
    pixels = inside.sum(axis=(-1, -2)).reshape(-1, 1) * image_shape(generator)[2]
    leakage, change = linear_scores(energies[..., candidates], pixels, probes)
    change = change * deviations[candidates]
    order = ranking(leakage, change, target / STRENGTHS)
    scores = {'leakage': leakage, 'inside': change}
  order = order[: first(k, len(order))]
  chosen = candidates[order]
  vectors = np.zeros((len(chosen), len(deviations)), np.float32)
  vectors[np.arange(len(chosen)), chosen] = 1
  provenance = {
    'family': getattr(generator, 'family', type(generator).__name__),
    'region': _brief(region),
    'others': [_brief(other) for other in others],
    'channels': [list(name) for name in channel_names(generator, chosen)],
    'samples': int(samples),
    'population': int(population),
    'seed': int(seed),
    'truncation': float(truncation),
    'truncation_layers': truncation_layers,
    'labels': None if labels is None else np.asarray(labels).tolist(),
    'rgb': bool(rgb),
    'published': bool(published),
  } | ({} if published else {'probes': int(probes), 'target': float(target)})
  return Directions(
    method='stylespace',
    space='s',
    layers=None,
    vectors=vectors,
    units=deviations[chosen],
    unit='sigma',
    scores={name: values[order] for name, values in scores.items()},
    provenance=provenance,
  )


def attribute(
  generator,
  positives: np.ndarray,
  *,
  k: int | None = None,
  population: int = POPULATION[False],
  seed: int = 5,
  truncation: float = 0.7,
  truncation_layers: int | None = None,
  labels: Sequence[int] | None = None,
  rgb: bool = True,
) -> Directions:
  """The styles that distinguish samples with an attribute from all samples (section 5 of the paper).

  With x = (s - mean) / deviation of a style over the population, its score is |mean of x| / deviation of x over the
  positive samples; each direction points towards them.

  Args:
    generator: a StyleGAN2.
    positives: z (P, z_dim) of samples that have the attribute, 10 to 30 of them; 2 at least.
    k: number of styles at most.
    population: samples for means and deviations.
    seed: of their z.
    truncation, truncation_layers: as of `generator.map`, of population and positives.
    labels: class indices; sample i of either has labels[i mod len(labels)].
    rgb: whether styles of the ToRGBs, which control colours, are candidates too.

  Returns:
    One-hot directions, of either sign, in standard deviations, with their 'score'.

  Raises:
    InputError: not a StyleGAN2, or too few positive samples.
  """
  generator = plain(generator)
  sizes = style_sizes(generator)
  z = np.asarray(positives, np.float32)
  if z.ndim != 2 or len(z) < 2:
    text = 'x'.join(map(str, z.shape))
    raise InputError('positives', f'shape {text}', 'at least two samples are needed', 'give z (P, z_dim) of 10 to 30')
  mapping = {'truncation': truncation, 'truncation_layers': truncation_layers}
  means, deviations, _ = statistics(style_rows(generator, population, seed, labels=labels, **mapping))
  own = in_turn(labels, range(len(z)))
  styles = generator.styles(generator.map(z, own, **mapping))
  parts = {'c': iter(styles.convs), 'r': iter(styles.rgbs)}
  rows = np.concatenate([np.asarray(next(parts[name[0]]), np.float64) for name, _ in sizes], axis=1)
  usable = np.concatenate([np.full(size, rgb or name[0] == 'c') for name, size in sizes]) & (deviations > 0)
  score, sign = attribute_scores(rows, means, np.where(usable, deviations, 1))
  order = np.argsort(-np.where(usable, score, -np.inf), kind='stable')[: first(k, int(usable.sum()))]
  vectors = np.zeros((len(order), len(deviations)), np.float32)
  vectors[np.arange(len(order)), order] = sign[order]
  provenance = {
    'family': getattr(generator, 'family', type(generator).__name__),
    'positives': len(z),
    'channels': [list(name) for name in channel_names(generator, order)],
    'population': int(population),
    'seed': int(seed),
    'labels': None if labels is None else np.asarray(labels).tolist(),
    'rgb': bool(rgb),
  } | mapping
  return Directions('stylespace', 's', None, vectors, deviations[order], 'sigma', {'score': score[order]}, provenance)


def attribute_scores(rows: np.ndarray, means: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """|mean| / deviation of normalised styles of positive samples (P, d), and the sign of that mean: (d,) each."""
  x = (rows - means[None]) / deviations[None]
  centre, spread = x.mean(axis=0), x.std(axis=0)
  tiny = np.finfo(np.float32).eps
  return np.abs(centre) / np.maximum(spread, tiny), np.where(centre < 0, -1.0, 1.0)


def channel_names(generator, indices: Sequence[int]) -> list[tuple[str, int]]:
  """[('conv4', 12), ...]: the layer and channel of styles by their number among all."""
  named = [(name, channel) for name, size in style_sizes(plain(generator)) for channel in range(size)]
  return [named[i] for i in indices]


def region_masks(regions: Sequence, size: tuple[int, int], samples: int) -> np.ndarray:
  """(R, h, w) bool, or (N, R, h, w) where one of them has a mask for each sample.

  Raises:
    InputError: a region is not a box, a mask or N masks, or is empty in all images.
  """
  masks = []
  for region in regions:
    if np.ndim(region) != 3:
      masks.append(region_mask(region, size))
      continue
    array = np.asarray(region)
    text = f'masks of shape {"x".join(map(str, array.shape))}'
    if array.shape != (samples, *size) or not np.isin(array, (0, 1)).all():
      remedy = f'give true and false of shape ({samples}, {size[0]}, {size[1]})'
      raise InputError('region', text, f'there are {samples} samples of {size[0]} x {size[1]} pixels', remedy)
    array = array.astype(bool)
    if not array.any() or array.all(axis=(1, 2)).any():
      raise InputError('region', text, 'no sample shows it, or one shows nothing else', 'give another region')
    masks.append(array)
  if all(mask.ndim == 2 for mask in masks):
    return np.stack(masks)
  return np.stack([np.broadcast_to(mask, (samples, *size)) for mask in masks], axis=1)


def linear_scores(energies: np.ndarray, pixels: np.ndarray, probes: int) -> tuple[np.ndarray, np.ndarray]:
  """Leakage and change of a small edit of each style, from estimates of energies.

  With E an energy and Q its estimate, Q T / E is chi-squared of T degrees of freedom. So the mean of sqrt(Q) is
  c sqrt(E), and that of 1 / sqrt(Q) is b / sqrt(E), with c = sqrt(2 / T) G((T + 1) / 2) / G(T / 2), b = sqrt(T / 2)
  G((T - 1) / 2) / G(T / 2) and G the gamma function.

  Args:
    energies: (N, 2, d), inside of the region and outside.
    pixels: (N, 1) or (1, 1), pixels times channels inside the region; samples with 0 do not count.
    probes: T, from 2.

  Returns:
    (d,) the mean of sqrt(outside / inside), and the mean root mean square change inside, per unit of the style. A
    sample in which a style changes nothing does not count; a sample in which it changes only the outside leaks 1e6.
  """
  half = probes / 2
  c = np.exp(gammaln(half + 0.5) - gammaln(half)) / np.sqrt(half)
  b = np.exp(gammaln(half - 0.5) - gammaln(half)) * np.sqrt(half)
  inside, outside = np.sqrt(energies[:, 0]), np.sqrt(energies[:, 1])
  shown = np.broadcast_to(pixels > 0, (len(energies), 1))
  moved = shown & ((inside > 0) | (outside > 0))
  ratio = np.where(inside > 0, outside / np.where(inside > 0, inside, 1) / (b * c), LEAKS)
  leakage = np.where(moved, np.minimum(ratio, LEAKS), 0).sum(axis=0) / np.maximum(moved.sum(axis=0), 1)
  change = np.where(shown, inside / np.sqrt(np.maximum(pixels, 1)), 0).sum(axis=0) / (c * shown.sum())
  return np.where(moved.any(axis=0), leakage, LEAKS), change


def ranking(leakage: np.ndarray, change: np.ndarray, needed: float) -> np.ndarray:
  """First the styles that change a region by `needed` per deviation, least leakage first; then others, by change."""
  weak = change < needed
  return np.lexsort((np.where(weak, -change, leakage), weak))


def overlaps(maps: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
  """(d, R, 3): numbers of cells in both a map's strongest part and the region, in either, in the region; NaN for none.

  Args:
    maps: (d, g, g), not negative.
    labels: (g, g), the number of the region that each cell belongs to.
    count: R.
  """
  found = np.full((len(maps), count, 3), np.nan)
  flat, cells = maps.reshape(len(maps), -1), labels.reshape(-1)
  for r in range(count):
    here = cells == r
    size = int(here.sum())
    if not size:
      continue
    strong = flat > np.percentile(flat, (1 - size / len(cells)) * 100, axis=1)[:, None]
    found[:, r] = np.stack(
      [(strong & here[None]).sum(axis=1), (strong | here[None]).sum(axis=1), np.full(len(maps), size)], axis=1
    )
  return found


def votes(found: np.ndarray) -> np.ndarray:
  """(d, R), one-hot for each style: the region with the best n / o^2, from `overlaps`; the first one in a tie."""
  score = found[..., 0] / np.where(np.isnan(found[..., 2]), 1, found[..., 2]) ** 2
  best = np.argmax(np.where(np.isnan(score), -1, score), axis=1)
  return np.eye(found.shape[1])[best]


def cell_labels(masks: np.ndarray, cells: int) -> np.ndarray:
  """(g, g): the region of (R, h, w) that covers most of each cell, R for no region. Earlier regions count first."""
  R, h, w = masks.shape
  owned = np.where(masks.any(axis=0), np.argmax(masks, axis=0), R)
  shares = (owned[None] == np.arange(R + 1).reshape(-1, 1, 1)).reshape(R + 1, cells, h // cells, cells, w // cells)
  return np.argmax(shares.sum(axis=(2, 4)), axis=0)


def vote_rates(generator, rows, masks: np.ndarray, cells: int, chosen: np.ndarray, on_progress: Report) -> np.ndarray:
  """(d', R + 1): for each chosen style and region, the share of votes among the images that show the region."""
  total, shown = 0.0, 0.0
  for i, maps in enumerate(gradient_maps(generator, rows, cells, styles=chosen)):
    own = masks[i] if masks.ndim == 4 else masks
    labels = cell_labels(own, cells)
    total = total + votes(overlaps(np.abs(maps).mean(axis=-1), labels, len(own) + 1))
    shown = shown + np.isin(np.arange(len(own) + 1), labels)
    on_progress('gradient maps', i + 1, len(rows))
  return total / np.maximum(shown, 1)[None]


def _local(rates: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Styles that are local to the first region by the published rule, ordered by rate; and the scores of all styles."""
  margin = rates[:, 0] - rates[:, 1:].max(axis=1)
  local = np.flatnonzero((rates[:, 0] > VOTES) & (margin > MARGIN))
  return local[np.argsort(-rates[local, 0], kind='stable')], {'rate': rates[:, 0], 'margin': margin}


def _brief(region):
  """A region as JSON values: a box as it is; for masks, their shape and the share that they cover."""
  array = np.asarray(region)
  if array.ndim < 2:
    return [int(x) for x in array]
  return {'shape': list(array.shape), 'covers': float(np.mean(array))}
