"""How images depend on each style of a StyleGAN2: gradient maps, as published, and energies inside of regions.

The energy of style c inside of a region with mask M is |M dI/ds_c|^2, summed over pixels and colours. For a noise image
v of independent standard normals, entry c of J'(M v) is normal with variance |M dI/ds_c|^2. So one backward pass
estimates the energies of all styles (our derivation, methods of randomised traces). A gradient map on 32 x 32 cells
takes 3072 backward passes, or one forward pass for each style.

Letters: N samples, d styles in all, (h, w) the image's pixels, g cells of a map in each direction, R regions, T probes.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators.base import WPlus
from panda_jax.generators.structure import plain, split
from panda_jax.rivals.draws import Blocks, Report, silent
from panda_jax.rivals.movement import flat_styles, style_sizes, styles_from

AT_ONCE = {'cpu': 2**18}  # pixels of all images and probes in one call; more is not faster on two cores
AT_ONCE_ELSEWHERE = 2**23
IMAGES = 8  # at a time at most: each keeps residuals of its forward pass


def style_rows(
  generator,
  samples: int,
  seed: int,
  truncation: float = 0.7,
  truncation_layers: int | None = None,
  labels: Sequence[int] | None = None,
  copied: bool = False,
) -> Iterator[np.ndarray]:
  """All styles (n, d) of samples, block by block.

  Args:
    copied: copy the first row of w+ to all rows, as the published code does after truncation.
  """
  structure, arrays = split(generator)
  options = {'truncation': truncation, 'truncation_layers': truncation_layers, 'copied': copied}
  style_sizes(plain(generator))
  for block in Blocks(generator, samples, seed, labels):
    rows = np.asarray(_style_rows(structure, arrays, block.z, block.labels, **options))[: block.count]
    if not np.isfinite(rows).all():
      raise NonFiniteError('generator', f'styles from seed {seed}', 'NaN or infinity', 'check the checkpoint')
    yield rows


@functools.partial(jax.jit, static_argnames=('structure', 'truncation', 'truncation_layers', 'copied'))
def _style_rows(structure, arrays, z, labels, truncation, truncation_layers, copied):
  generator = structure.generator(arrays)
  latents = generator.map(z, labels, truncation=truncation, truncation_layers=truncation_layers)
  if copied:
    latents = WPlus(jnp.broadcast_to(latents.wplus[:, :1], latents.wplus.shape))
  return flat_styles(generator, generator.styles(latents))


def statistics(rows: Iterator[np.ndarray], keep: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Means and standard deviations (d,), in float64, of styles in blocks (n, d); and the first `keep` rows."""
  pilot, count, total, squares, kept = None, 0, 0.0, 0.0, []
  for block in rows:
    kept.append(block[: max(0, keep - count)])
    block = np.asarray(block, np.float64)
    pilot = block.mean(axis=0) if pilot is None else pilot
    total = total + (block - pilot[None]).sum(axis=0)
    squares = squares + ((block - pilot[None]) ** 2).sum(axis=0)
    count += len(block)
  shift = total / count
  return pilot + shift, np.sqrt(np.maximum(squares / count - shift**2, 0)), np.concatenate(kept)


def image_shape(generator) -> tuple[int, int, int]:
  """(h, w, channels) of a generator's images."""
  d = sum(size for _, size in style_sizes(generator))
  return jax.eval_shape(lambda rows: generator(styles_from(generator, rows)), jnp.zeros((1, d))).shape[1:]


def region_energies(
  generator,
  rows: np.ndarray,
  masks: np.ndarray,
  *,
  probes: int = 16,
  seed: int = 0,
  noise: str = 'const',
  on_progress: Report = silent,
) -> np.ndarray:
  """Estimates |M_r dI/ds_c|^2 of every sample, region and style from random probes: (N, R, d) float64.

  An estimate divided by the true energy is chi-squared of T degrees of freedom over T. Estimates of regions without a
  common pixel are independent.

  Args:
    generator: a StyleGAN2.
    rows: (N, d), all styles of the samples.
    masks: (R, h, w), or (N, R, h, w) where each sample has its own.
    probes: T.
    seed: of the probes.
    noise: as of the generator's call.
    on_progress: called with the number of images done.

  Raises:
    NonFiniteError: a gradient is NaN or infinity.
  """
  structure, arrays = split(generator)
  h, w, _ = image_shape(plain(generator))
  masks = np.asarray(masks, np.float32)
  N, R = len(rows), masks.shape[-3]
  budget = AT_ONCE.get(jax.default_backend(), AT_ONCE_ELSEWHERE) // (h * w * R)
  batch = int(np.clip(budget // 4, 1, min(IMAGES, N)))
  at_once = int(np.clip(budget // batch, 1, probes))
  key, found = jax.random.key(seed), []
  for first in range(0, N, batch):
    chosen = np.minimum(first + np.arange(batch), N - 1)  # padded: one program serves the last batch too
    own = masks[chosen] if masks.ndim == 4 else masks[None]
    total = 0.0
    for probe in range(0, probes, at_once):
      # The last call may draw too many probes; a mask leaves out the excess.
      used = (np.arange(at_once) < probes - probe).astype(np.float32)
      drawn = jax.random.fold_in(jax.random.fold_in(key, first), probe)
      part = _squared(structure, arrays, rows[chosen].astype(np.float32), own, used, drawn, noise=noise)
      total = total + np.asarray(part, np.float64)
    if not np.isfinite(total).all():
      where = int(chosen[np.argwhere(~np.isfinite(total))[0][0]])
      raise NonFiniteError('generator', f'sample {where}', 'its gradient is NaN or infinity', 'check the checkpoint')
    found.append(total[: N - first] / probes)
    on_progress('gradients inside of regions', min(first + batch, N), N)
  return np.concatenate(found)


@functools.partial(jax.jit, static_argnames=('structure', 'noise'))
def _squared(structure, arrays, rows, masks, used, key, noise: str):
  """(n, R, d): the sum over probes of (J' M v)^2; rows (n, d), masks (n or 1, R, h, w), used (T,)."""
  generator = structure.generator(arrays)
  images, pull = jax.vjp(lambda rows: generator(styles_from(generator, rows), noise=noise), rows)

  def of_probe(key, use):
    v = use * jax.random.normal(key, images.shape, images.dtype)
    # vmap, not a loop: inside a loop, XLA's convolutions take ten times as long on a CPU.
    masked = v[None] * jnp.moveaxis(masks, 1, 0)[..., None]
    return jax.vmap(lambda y: jnp.square(pull(y)[0]))(masked)

  return jnp.moveaxis(jax.vmap(of_probe)(jax.random.split(key, used.shape[0]), used).sum(axis=0), 0, 1)


def gradient_maps(
  generator,
  rows: np.ndarray,
  cells: int = 32,
  *,
  styles: np.ndarray | None = None,
  noise: str = 'const',
  chunk: int = 32,
  mode: str | None = None,
) -> Iterator[np.ndarray]:
  """For each sample, the derivative of the image by every style, averaged over cells: (d', g, g, channels).

  Args:
    generator: a StyleGAN2.
    rows: (N, d), all styles of the samples.
    cells: g; both sides of the image are multiples of it.
    styles: (d',), numbers of the styles; None for all.
    noise: as of the generator's call.
    chunk: derivatives in one call.
    mode: 'reverse', a pass for each cell and colour, or 'forward', a pass for each style; None for the fewer passes.

  Raises:
    InputError: the image does not divide into such cells.
  """
  structure, arrays = split(generator)
  h, w, channels = image_shape(plain(generator))
  if cells < 1 or h % cells or w % cells:
    raise InputError('cells', cells, f'an image of {h} x {w} pixels has no such cells', 'give a divisor of its sides')
  styles, outputs = np.arange(rows.shape[1]) if styles is None else np.asarray(styles), cells * cells * channels
  forward = len(styles) < outputs if mode is None else mode == 'forward'
  derivative, wanted = (_columns, styles) if forward else (_rows, np.arange(outputs))
  for row in np.asarray(rows, np.float32):
    parts = []
    for first in range(0, len(wanted), chunk):
      at = wanted[np.minimum(first + np.arange(chunk), len(wanted) - 1)]  # one program serves the last chunk too
      made = derivative(structure, arrays, row, at, cells=cells, noise=noise)
      parts.append(np.asarray(made)[: len(wanted) - first])
    found = np.concatenate(parts)
    yield (found if forward else found[:, styles].T).reshape(-1, cells, cells, channels)


def _pooled_of(structure, arrays, cells, noise):
  generator = structure.generator(arrays)

  def pooled(row):
    image = generator(styles_from(generator, row[None]), noise=noise)[0]
    h, w, channels = image.shape
    return image.reshape(cells, h // cells, cells, w // cells, channels).mean(axis=(1, 3)).reshape(-1)

  return pooled


@functools.partial(jax.jit, static_argnames=('structure', 'cells', 'noise'))
def _rows(structure, arrays, row, at, cells: int, noise: str):
  """(chunk, d): derivatives of some cells by all styles."""
  y, pull = jax.vjp(_pooled_of(structure, arrays, cells, noise), row)
  return jax.vmap(lambda i: pull((jnp.arange(y.size) == i).astype(y.dtype))[0])(at)


@functools.partial(jax.jit, static_argnames=('structure', 'cells', 'noise'))
def _columns(structure, arrays, row, at, cells: int, noise: str):
  """(chunk, g g channels): derivatives of all cells by some styles."""
  _, push = jax.linearize(_pooled_of(structure, arrays, cells, noise), row)
  return jax.vmap(lambda i: push((jnp.arange(row.size) == i).astype(row.dtype)))(at)
