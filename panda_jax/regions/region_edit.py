"""The appearance, and the mask, that change a region of the image most per change outside of it. Our own method.

An edit adds q a' to the features at a layer, with a mask q (S,) >= 0 and an appearance a (C,). PandA (ICLR 2023) takes
both from a decomposition of the features, which does not use the layers that follow, and a person looks for useful
columns of A. Here the region of the image is given, and the method uses the layers after the edit.

1. To first order, image i changes by J_i a. Each direction of a takes one derivative, through the layers after the edit
   only. With R the pixels of the region, a'M_i a = |R J_i a|^2 and a'O_i a = |(1 - R) J_i a|^2 are the energies of the
   change inside and outside.
2. The most energy inside per energy outside, summed over samples, is the generalised eigenproblem M a = lambda O a
   (for images and latents: ReSeFa, ICML 2022; here in appearance space, at a part). Samples with most contrast dominate
   its solution. The measure reported everywhere is ROIR, the mean of sqrt(a'O_i a / a'M_i a), in which all samples
   count alike. It is smooth and has r unknowns, so a quasi-Newton search from the leading eigenvectors minimises it
   directly, on stored matrices of a few samples, without calls of the generator.
3. Natural appearances: a = B b, where the columns of B are the principal components of the features' own fibres under
   the mask, each one standard deviation long. Directions in which features hardly vary are left out. The energy
   outside gets s |b|^2 with s = weight tr(B'OB) / r: a shrinkage towards the leak of an average natural direction. It
   keeps edits within the range that the following layers were trained on, and it prevents overfitting to the samples.
   The weight is the largest that costs little on samples left out. It is multiplied by sqrt(n / N) if n of N samples
   choose it, since more samples need less shrinkage. |b| / sqrt(r) at the edit's strength is the `size`: 1 for a change
   as large as features differ from their mean.
4. All samples correct the model of the few. One reverse-mode derivative gives the slope of the mean ratio in true
   images, at a finite strength. A step minimises the model with this slope in place of its own. It is accepted if true
   images get better, else damped; then the slope is computed again.
5. Appearance and mask together (`joint`): around the present edit the change is D_i + J_i t, with t = (b, u) changes of
   appearance and mask; its energies are quadratic forms of (t, 1). Their mean ratio is minimised at constant strength
   and with s |b|^2 (q' K q), where K is the inverse correlation of positions in the features: masks become as smooth as
   features are. Steps are corrected as in 4. Edits are finite: after a round of such steps the strength is matched, and
   the forms are computed again around the new edit.
   Without a bound the best mask is a dot in the middle of the region, whose change does not reach the border: low ROIR,
   but no edit of the region. So q >= `coverage` at every position inside, in proportion where the region cuts it.
6. For an attribute, any differentiable f of the image with slopes g_i: the largest mean of g_i'b / sqrt(b'O_i b), the
   gain per change of the rest. Where samples are alike this is O^-1 g.

Letters: N samples, H, W grid, S positions, C channels, (h, w) pixels, R_S parts, r dimensions of an appearance.
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from numpy.typing import ArrayLike

from panda_jax.editing.edits import Edit
from panda_jax.errors import InputError
from panda_jax.regions import metrics, search
from panda_jax.regions.responses import Grams, Responses
from panda_jax.regions.search import Natural
from panda_jax.runtime.environment import one_blas_thread
from panda_jax.runtime.progress import narrated

TARGET = 0.1  # root mean square change inside the region, where -1 is black and 1 white
COVERAGE = 0.5
COMPONENTS, SHARE = 64, 0.99  # of natural appearances: the largest r, and the share of the variance
ROUNDS = 1
MODELLED, MODELLED_JOINTLY = 16, 8  # samples in a model of the appearance, and in one of appearance and mask
FEWER_STEPS, STEPS = 4, 8  # steps of a round, without and with the mask
LEAST_GAIN = 0.01  # relative; a joint search that gains less stops


@dataclasses.dataclass(frozen=True)
class RegionEdit:
  """An edit found for a region or an attribute.

  Attributes:
    edit: direction (C,) of unit length, mask (S,) with maximum 1, and the strength alpha that reaches the target on the
      samples it was found on (on their median; `edit.replace(alpha=...)` for another).
    reached: whether it does; else alpha is that of the largest change seen.
    scores: 'roir' (mean over those samples at that strength; NaN without a region), 'first_order' (of a few samples,
      to first order, before all corrected it; for an attribute the mean gain per norm of the change outside), 'change'
      (median; for an attribute its gain), 'size' (1 for a change as large as features differ from their mean), 'kept'
      (share of the features' variance that the appearances searched have).
    history: mean ROIR, shrunk: of what few samples say, then each time that all samples made it better.

  Example:
    >>> found = panda_jax.region_edit(quarters, latents, 1, region=(0, 4, 0, 4), mask=factors.parts.T)
    >>> found.edit.direction.shape, found.edit.mask.shape, round(found.scores['change'], 2)
    ((3,), (16,), 0.1)
  """

  edit: Edit
  reached: bool
  scores: dict[str, float]
  history: tuple[float, ...] = ()


def region_on_grid(region: np.ndarray, grid: tuple[int, int], margin: int | tuple[int, int] = 0) -> np.ndarray:
  """(S,) float32: the share of each position's pixels that are inside a region, a mask (h, w) of the image.

  Args:
    margin: positions at each border of the grid that lie outside of the image (StyleGAN3), or (above and below, at the
      sides).
  """
  inner = np.array(grid) - 2 * np.broadcast_to(margin, 2)
  rows, columns = (metrics.area_weights(n, m) for n, m in zip(np.shape(region), inner, strict=True))
  around = [(n, n) for n in np.broadcast_to(margin, 2)]
  return np.pad(rows @ np.asarray(region, np.float32) @ columns.T, around).reshape(-1)


def best_part(parts: np.ndarray, grid: tuple[int, int], region: np.ndarray, margin: int | tuple[int, int] = 0) -> int:
  """The part (column of P, (S, R_S)) most like a region, a mask (h, w) of the image: largest cosine on the grid.

  Raises:
    InputError: no part has anything inside.

  Example:
    >>> from panda_jax.regions.metrics import box_mask
    >>> from panda_jax.regions.region_edit import best_part
    >>> best_part(np.eye(4), (2, 2), box_mask((0, 4, 4, 8), (8, 8)))  # the upper right of four
    1
  """
  lengths = np.linalg.norm(parts, axis=0)
  cosines = region_on_grid(region, grid, margin) @ parts / np.where(lengths > 0, lengths, 1)
  if not cosines.max() > 0:
    raise InputError('region', f'{np.sum(region)} pixels', 'no part is there', 'choose another, or fit more parts')
  return int(np.argmax(cosines))


def region_edit(
  generator,
  latents,
  layer: int,
  region,
  mask: ArrayLike,
  *,
  joint: bool = False,
  target: float = TARGET,
  coverage: float = COVERAGE,
  margin: int | tuple[int, int] = 0,
  weight: float | None = None,
  components: int = COMPONENTS,
  rounds: int = ROUNDS,
  size: int | None = 128,
  noise: str = 'const',
  progress: bool | None = None,
  on_progress: Callable[[str], None] | None = None,
) -> RegionEdit:
  """The appearance of least mean ROIR for a region of the image, at a part or any mask; with `joint` the mask too.

  Args:
    generator: of one of our families, or any object with the methods of the protocol that JAX can differentiate.
    latents: of N samples, as of `generator.map`: 64 or more, or the answer fits these samples only. The first 16
      take r derivatives each, the others few.
    layer: where features are edited.
    region: (h, w) mask of the image's size, or a box (r0, r1, c0, c1).
    mask: (S,) or (H, W), where the edit acts, such as a part; or several, (m, S), of which the best is taken.
    joint: also choose the mask, starting from the given one or from the region's own positions, whichever is better.
    target: median root mean square change inside the region, black to white being 2; the strength that is returned.
    coverage: least entry of a chosen mask at positions inside the region, 0 to 1. Without it the best mask is a dot
      in the middle of the region.
    margin: positions at each border of the grid that lie outside of the image (StyleGAN3), or (above and below, at the
      sides).
    weight: of the shrinkage towards natural appearances; 0 for none. Left out, it is chosen by
      cross-validation over the samples.
    components: r at most: how many derivatives are taken per sample.
    rounds: of the joint search, at most; each makes its forms anew.
    size: images are averaged down to this longer side before changes are measured.
    noise: 'const' or 'none'.
    progress: show what is being done; if left out, in notebooks only, and not where `on_progress` is given.
    on_progress: told what is being done.

  Raises:
    InputError: an argument out of range, a region that is none or that the mask does not reach, or a generator that JAX
      cannot differentiate.
    NonFiniteError: features, images or derivatives are not finite.

  Example:
    >>> found = panda_jax.region_edit(quarters, latents, 1, region=(0, 4, 0, 4), mask=factors.parts.T)
    >>> found.reached, round(found.scores['roir'], 2)  # the best of the parts leaks a little
    (True, 0.08)
    >>> edited = panda_jax.Editor(quarters, layer=1).images(latents[:2], found.edit).edited
  """
  with narrated(progress, on_progress) as tell, one_blas_thread():
    responses = Responses(generator, latents, layer, region, size=size, noise=noise)
    masks = _checked_masks(mask, responses.grid)
    _check_numbers(target, weight, components)
    if not 0 <= coverage <= 1:
      raise InputError('coverage', coverage, 'it is a share of the largest entry', 'give a number from 0 to 1')
    if joint:
      whole = region_on_grid(responses.inside, responses.grid, margin)
      whole = whole / whole.max()
      masks = np.concatenate([np.maximum(masks, coverage * whole), whole[None]])

    def searched(number: int) -> _Search:
      """Uses derivatives of the first few samples; the strength is matched on all samples."""
      which = f'mask {number + 1} of {len(masks)}'
      tell(f'derivatives at {which}')
      natural = search.natural_appearances(responses.features, masks[number], components, SHARE)
      made = responses.grams(masks[number], np.zeros(responses.channels), natural.basis, most=MODELLED)
      grams = search.answering(made)
      chosen = weight
      if chosen is None:  # less shrinkage for more samples: all samples correct the choice of these few
        chosen = search.cross_validated(grams) * np.sqrt(len(made.inside) / responses.samples)
      b, first_order = search.best_appearance(grams, chosen)
      tell(f'strength at {which}')
      shrink = search.shrinkage(grams, len(b), chosen)
      b = _signed(responses, natural, b, masks[number], target, shrink, made)
      edit = _matched(responses, natural, b, masks[number], target, shrink)
      found = _Search(natural, edit, shrink, first_order, (edit.shrunk,))
      around = search.around(made, edit.b)
      return _corrected(responses, found, around, search.fixed_mask(edit.mask), target, f'appearance at {which}', tell)

    best = min((searched(number) for number in range(len(masks))), key=lambda one: one.edit.rank)
    if joint and best.edit.match.reached:
      best = _joint(responses, best, target, coverage * whole, rounds, tell)
    return _result(best)


def attribute_edit(
  generator,
  latents,
  layer: int,
  attribute: Callable[[jax.Array], jax.Array],
  mask: ArrayLike,
  *,
  target: float,
  region=None,
  weight: float = 0.01,
  components: int = COMPONENTS,
  size: int | None = 128,
  noise: str = 'const',
) -> RegionEdit:
  """The appearance at a part or mask that raises an attribute of the image most per change of the rest.

  Args:
    attribute: images (n, h, w, channels) before clipping to scores (n,), differentiable by JAX.
    mask: (S,) or (H, W).
    target: median gain of the score; the strength that is returned.
    region: the rest is what is outside of it; the whole image if left out.
    weight: of the shrinkage towards natural appearances.
    generator, latents, layer, components, size, noise: as of `region_edit`.

  Raises:
    InputError, NonFiniteError: as of `region_edit`; the attribute does not give one number for each image, or does not
      depend on the features under the mask.

  Example:
    >>> from panda_jax.regions.region_edit import attribute_edit, best_part
    >>> from panda_jax.regions.metrics import box_mask
    >>> part = factors.parts[:, best_part(factors.parts, factors.grid, box_mask((0, 4, 0, 4), (8, 8)))]
    >>> def redness(images):
    ...   return images[..., 0].mean(axis=(1, 2)) - images[..., 1:].mean(axis=(1, 2, 3))
    >>> found = attribute_edit(quarters, latents, 1, redness, part, target=0.1)
    >>> red, green, blue = found.edit.direction
    >>> bool(red > 0 > max(green, blue))
    True
  """
  responses = Responses(generator, latents, layer, region, attribute=attribute, size=size, noise=noise)
  one = _checked_masks(mask, responses.grid)[0]
  _check_numbers(target, weight, components)
  natural = search.natural_appearances(responses.features, one, components, SHARE)
  grams = responses.grams(one, np.zeros(responses.channels), natural.basis)
  with one_blas_thread():
    b, gain = search.best_for_attribute(grams, weight)

  def gain_at(alpha: float) -> np.ndarray:
    gained = responses.energies(one, alpha * (natural.basis @ b)).gained
    assert gained is not None  # since there is an attribute
    return gained

  match = metrics.match_strength(gain_at, target)
  edit = _judged(responses, natural, match.alpha * b, one, match, 0.0)
  return _result(_Search(natural, edit, 0.0, gain, ()))


@dataclasses.dataclass(frozen=True)
class _Judged:
  """An edit mask times (basis b)', strength in b, and its mean ROIR over samples, plain and shrunk."""

  b: np.ndarray
  mask: np.ndarray
  match: metrics.Match
  roir: float
  shrunk: float
  change: float

  @property
  def rank(self) -> tuple[bool, float]:
    """Smaller is better. Edits that reach the target come first, whatever their ratio."""
    return not self.match.reached, self.shrunk


@dataclasses.dataclass(frozen=True)
class _Search:
  natural: Natural
  edit: _Judged
  shrink: float
  first_order: float
  history: tuple[float, ...]


def _judged(
  responses: Responses, natural: Natural, b, mask, match: metrics.Match, shrink: float, most: int | None = None
) -> _Judged:
  """`shrink` times |b|^2 counts as energy outside."""
  energies = responses.energies(mask, natural.basis @ b, most)
  inside = np.sqrt(energies.inside)
  roir = metrics.ratio(inside, np.sqrt(energies.outside), responses.entries)
  shrunk = metrics.ratio(inside, np.sqrt(energies.outside + shrink * (b @ b)), responses.entries)
  if np.isnan(roir).all():
    return _Judged(b, mask, match, np.nan, np.inf, match.change)
  return _Judged(b, mask, match, float(np.nanmean(roir)), float(np.nanmean(shrunk)), match.change)


def _matched(
  responses: Responses,
  natural: Natural,
  b,
  mask,
  target: float,
  shrink: float,
  start: float = 1.0,
  most: int | None = None,
) -> _Judged:
  """The edit at the strength that reaches the target, on all samples or on those before `most`."""

  def change_at(alpha: float) -> np.ndarray:
    return np.sqrt(responses.energies(mask, alpha * (natural.basis @ b), most).inside / responses.entries)

  match = metrics.match_strength(change_at, target, start=start)
  return _judged(responses, natural, match.alpha * b, mask, match, shrink, most)


def _signed(responses: Responses, natural: Natural, b, mask, target: float, shrink: float, grams: Grams) -> np.ndarray:
  """The better of b and -b with a strength, on the samples of the Grams. They differ: finite edits are not linear."""
  energy = np.median(np.einsum('a,nab,b->n', b, grams.inside[:, :-1, :-1], b))
  start = 1.05 * target / float(np.sqrt(max(energy, 1e-30) / responses.entries))  # a little above, to bracket it
  tried = [_matched(responses, natural, x, mask, target, shrink, start, len(grams.inside)) for x in (b, -b)]
  return min(tried, key=lambda edit: edit.rank).b


def _corrected(
  responses: Responses, begun: _Search, grams: Grams, masks: search.Masks, target: float, what: str, on_progress
) -> _Search:
  """The edit after steps of a model of few samples, corrected by the slopes of all. It is unchanged if true images at
  the matched strength are not better.

  Args:
    grams: of the few samples, around the edit.
    masks: those that may be chosen.
    what: the text for `on_progress`.
  """
  natural, shrink, best = begun.natural, begun.shrink, begun.edit
  if not best.match.reached:
    return begun
  inside = responses.energies(best.mask, natural.basis @ best.b).inside
  answering, calls = inside > search.SILENT * inside.max(), 0
  most = STEPS if masks.tiles.shape[1] else FEWER_STEPS

  def slopes(b, q, extra):
    nonlocal calls
    mean, by_extra, by_added = responses.slopes(q, natural.basis @ b, extra, answering)
    calls += 1
    on_progress(f'{what}, step {calls} of at most {most + 1}: ROIR {mean:.3f}')
    return mean, by_extra, natural.basis.T @ (q @ by_added), by_added @ (natural.basis @ b)

  model = search.Model(search.answering(grams), best.b, best.mask, masks, shrink)
  b, mask = search.descended(model, slopes, most)
  mask = np.clip(mask, masks.least, 1)
  peak = mask.max()
  rough = peak**-2 * (mask @ masks.roughness @ mask)
  tried = _matched(responses, natural, b * peak, mask / peak, target, shrink * rough)
  if not (tried.match.reached and tried.shrunk < best.shrunk):
    return begun
  return dataclasses.replace(begun, edit=tried, history=(*begun.history, tried.shrunk))


def _joint(responses: Responses, best: _Search, target: float, least: np.ndarray, rounds: int, on_progress) -> _Search:
  """Rounds of appearance and mask together, each with a new model."""
  masks = search.masks_near(responses.features, best.natural, best.edit.mask, least, responses.grid)
  for number in range(rounds):
    edit, basis = best.edit, best.natural.basis
    grams = responses.grams(edit.mask, basis @ edit.b, basis, masks.tiles, most=MODELLED_JOINTLY)
    what = f'appearance and mask, round {number + 1} of at most {rounds}'
    begun, best = best, _corrected(responses, best, grams, masks, target, what, on_progress)
    if best is begun or 1 - best.edit.shrunk / begun.edit.shrunk < LEAST_GAIN:
      break
  return best


def _result(ended: _Search) -> RegionEdit:
  found = ended.edit
  direction = ended.natural.basis @ found.b
  length = np.linalg.norm(direction)
  scores = {
    'roir': found.roir,
    'first_order': ended.first_order,
    'change': found.change,
    'size': float(np.linalg.norm(found.b) / np.sqrt(len(found.b))),
    'kept': ended.natural.kept,
  }
  unit = direction / length if length > 0 else direction
  edit = Edit(unit.astype(np.float32), found.mask.astype(np.float32), np.float32(length))
  return RegionEdit(edit, found.match.reached, scores, ended.history)


def _checked_masks(mask: ArrayLike, grid: tuple[int, int]) -> np.ndarray:
  """(m, S) float64, each with maximum 1."""
  array, S = np.asarray(mask, np.float64), grid[0] * grid[1]
  array = array.reshape(1, S) if array.shape in ((S,), tuple(grid)) else array
  if array.ndim != 2 or array.shape[1] != S:
    raise InputError('mask', f'shape {np.shape(mask)}', f'the layer has {grid[0]} x {grid[1]} positions', 'give (S,)')
  if not np.isfinite(array).all() or array.min() < 0 or not (array.max(axis=1) > 0).all():
    raise InputError('mask', 'its entries', 'a mask is finite, not negative and somewhere positive', 'give such a mask')
  return array / array.max(axis=1, keepdims=True)


def _check_numbers(target: float, weight: float | None, components: int) -> None:
  if not (np.isfinite(target) and target > 0):
    raise InputError('target', target, 'it is not a change', 'give a positive number, such as 0.1')
  if weight is not None and not (np.isfinite(weight) and weight >= 0):
    raise InputError('weight', weight, 'it cannot be negative', 'give 0 for no shrinkage, or more')
  if components < 1:
    raise InputError('components', components, 'there is nothing to choose from', 'give 1 or more')
