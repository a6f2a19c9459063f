"""Pictures of maps over samples: saliency, masks, cut-outs, and parts refined for each sample."""

import os
from collections.abc import Sequence

import numpy as np

from panda_jax.errors import InputError
from panda_jax.pictures import colours
from panda_jax.pictures.figures import to_bytes
from panda_jax.pictures.overlays import OUTLINE, greyed, laid_on, on_image, outlined, relative
from panda_jax.pictures.sheets import (
  Bar,
  Page,
  Row,
  Swatch,
  draw_rows,
  figure_of,
  file_of,
  ramp,
  resized,
  rows_page,
  tile_size,
  written,
)
from panda_jax.pictures.strips import sample_names

MOST_SAMPLES = 8  # columns of one page
MOST_MAPS = 12  # appearances on one page
MOST_BARS = 4  # with more appearances than this, they have no colour bars of their own
LINES = 2  # with more appearances than this, images have no level lines
ROUNDING = 0.36  # width of the blur that smooths the steps of a mask, in its pixels
SPREAD = 0.7  # colours follow this power of a coordinate, so that small ones are visible beside rare large ones
INSIDE = colours.OVERLAY[0]
MOST_PAIRS = 4  # parts, each twice, in one row
BEFORE, AFTER = colours.OVERLAY[1], colours.OVERLAY[0]


def _tiles(images: np.ndarray, columns: int) -> np.ndarray:
  pixels = to_bytes(images)
  return resized(pixels, tile_size(pixels.shape[1:3], columns))


def _stacked(argument: str, maps, count: int) -> np.ndarray:
  """Maps (N, H, W, k) from (N, H, W) or (N, H, W, k); N must be the number of images."""
  maps = np.asarray(maps)
  if maps.ndim not in (3, 4) or len(maps) != count or 0 in maps.shape:
    shape = 'x'.join(map(str, maps.shape))
    raise InputError(argument, f'shape {shape}', f'there are {count} images', 'give (N, H, W) or (N, H, W, k)')
  return maps[..., None] if maps.ndim == 3 else maps


def _labelled(argument: str, labels: Sequence[str] | None, count: int) -> list[str]:
  return sample_names(count, labels, argument)


def _row_of_images(pixels: np.ndarray) -> list[Row]:
  """A row of uint8 images (N, h, w, 3); none if nothing is in them, as where only features are given."""
  return [] if pixels.min() == pixels.max() else [Row('', list(pixels))]


def saliency_page(
  images: np.ndarray,
  coordinates: np.ndarray,
  *,
  thresholds: float | Sequence[float] = 0.0,
  limits: Sequence[tuple[float, float]] | None = None,
  labels: Sequence[str] | None = None,
  names: Sequence[str] | None = None,
  margin: int | tuple[int, int] = 0,
  title: str = '',
  note: str = '',
) -> Page:
  """Heat maps of coordinates below their images: white is the threshold, and its level line is drawn on the images.

  Args:
    images: (N, h, w, channels), clipped to [-1, 1].
    coordinates: (N, H, W), or (N, H, W, k) of several appearances.
    thresholds: one for each appearance, or one for all.
    limits: (least, greatest) of each appearance over the dataset, where the colours end; of these samples if left out.
    labels: k names, such as 'appearance 3'.
    names: one for each sample.
    margin: cells of the grid beyond the image at each edge (StyleGAN3).
    title, note: above and below.

  Example:
    >>> from panda_jax.pictures import saliency_figure
    >>> figure = saliency_figure(images[:2], panda_jax.saliency(features[:2], factors, 0), thresholds=0.5)
  """
  from matplotlib import colormaps

  maps = _stacked('coordinates', np.asarray(coordinates, np.float32), len(images))
  k = maps.shape[-1]
  thresholds = np.broadcast_to(np.asarray(thresholds, np.float64), (k,))
  labels = _labelled('labels', labels, k)
  shown = min(len(images), MOST_SAMPLES)
  pixels = _tiles(images[:shown], shown)
  heads = sample_names(len(images), names)[:shown]
  palette = ramp(colormaps[colours.HEAT])
  rows = _row_of_images(pixels)
  bars: list[Bar] = []
  ends = np.array([-1, -0.5, 0, 0.5, 1])
  for j in range(min(k, MOST_MAPS)):
    fine = on_image(maps[:shown, :, :, j], pixels.shape[1:3], margin)
    low, high = (maps[..., j].min(), maps[..., j].max()) if limits is None else limits[j]
    # Differences within the rounding of float32 count as zero.
    least = 1e-5 * max(abs(low), abs(high), float(np.finfo(np.float32).tiny))
    reach = max(high - thresholds[j], thresholds[j] - low, least)
    place = np.clip((fine - thresholds[j]) / reach, -1, 1)
    place = np.sign(place) * np.abs(place) ** SPREAD
    heat = palette[np.rint(127.5 * (place + 1)).astype(int)]
    above = fine >= thresholds[j]
    rows.append(Row(labels[j], list(heat)))
    if k <= LINES:
      rows.append(Row('', list(outlined(pixels, above))))
    values = thresholds[j] + reach * np.sign(ends) * np.abs(ends) ** (1 / SPREAD)
    ticks = {float(p): written(float(v), 3) for p, v in zip((ends + 1) / 2, values, strict=True)}
    name = f'coordinate of {labels[j]}' if labels[j] else 'coordinate'
    bars.append(Bar(f'{name}; white: {written(float(thresholds[j]), 3)}', palette, ticks))
  if k > MOST_BARS:
    values = np.sign(ends) * np.abs(ends) ** (1 / SPREAD)
    ticks = {float(p): written(float(v), 2) for p, v in zip((ends + 1) / 2, values, strict=True)}
    bars = [Bar('difference from white, as a fraction of the largest of that appearance', palette, ticks)]
  return rows_page(rows, heads if any(heads) else (), title=title, bars=bars, note=note)


saliency_figure, draw_saliency = figure_of(saliency_page), file_of(saliency_page)


def fitted_masks(masks: np.ndarray, size: tuple[int, int], margin: int | tuple[int, int] = 0) -> np.ndarray:
  """Masks (N, H, W) on the feature grid or at the image's size, as bool (N, h, w); the margin is of the grid.

  Steps of larger pixels are smoothed; a single pixel stays.
  """
  from PIL import Image
  from scipy.ndimage import gaussian_filter

  H, W = masks.shape[1:]
  rows, columns = np.broadcast_to(margin, 2).tolist()
  inner = np.asarray(masks, np.float32)[:, rows : H - rows, columns : W - columns]
  scales = [large / small for large, small in zip(size, inner.shape[1:], strict=True)]
  if min(scales) <= 1:
    return on_image(inner, size) >= 0.5
  fitted = []
  for mask in inner:
    steps = np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))
    fitted.append(gaussian_filter(steps, [ROUNDING * scale for scale in scales], mode='nearest') >= 0.5)
  return np.stack(fitted)


def draw_masks(
  path: str | os.PathLike,
  images: np.ndarray,
  masks: np.ndarray,
  *,
  labels: Sequence[str] | None = None,
  names: Sequence[str] | None = None,
  margin: int | tuple[int, int] = 0,
  title: str = '',
  note: str = '',
) -> None:
  """Draws masks over their images: coloured and outlined inside, grey outside.

  Args:
    path: the PNG to write.
    images: (N, h, w, channels), clipped to [-1, 1].
    masks: (N, H, W), or (N, H, W, k) for several rows; on the feature grid or at the images' size.
    labels: k names.
    names: one for each sample.
    margin: cells of the masks beyond the image at each edge; 0 for masks at the images' size.
    title, note: above and below.
  """
  masks = _stacked('masks', masks, len(images))
  labels = _labelled('labels', labels, masks.shape[-1])
  shown = min(len(images), MOST_SAMPLES)
  pixels = _tiles(images[:shown], shown)
  heads = sample_names(len(images), names)[:shown]
  rows = _row_of_images(pixels)
  for j in range(min(masks.shape[-1], MOST_MAPS)):
    inside = fitted_masks(masks[:shown, :, :, j], pixels.shape[1:3], margin)
    coloured = laid_on(greyed(pixels), np.array(INSIDE, np.float32), 0.55 * inside)
    rows.append(Row(labels[j], list(outlined(coloured, inside, INSIDE))))
  draw_rows(path, rows, heads if any(heads) else (), title=title, note=note)


def _cut(pixels: np.ndarray, kept: np.ndarray) -> np.ndarray:
  """uint8 images (N, h, w, 3), white outside of `kept` (N, h, w), with a grey line around it."""
  from scipy.ndimage import binary_dilation

  cut = np.where(kept[..., None], pixels, 255).astype(np.uint8)
  for image, mask in zip(cut, kept, strict=True):
    image[binary_dilation(mask, np.ones((3, 3), bool)) & ~mask] = colours.EDGE
  return cut


def draw_cutouts(
  path: str | os.PathLike,
  images: np.ndarray,
  masks: np.ndarray,
  *,
  names: Sequence[str] | None = None,
  margin: int | tuple[int, int] = 0,
  title: str = '',
  note: str = '',
) -> None:
  """Draws the image inside the masks, and outside, on white.

  Args:
    path: the PNG to write.
    images: (N, h, w, channels), clipped to [-1, 1].
    masks: (N, H, W), on the feature grid or at the images' size.
    names: one for each sample.
    margin: as of `draw_masks`.
    title, note: above and below.
  """
  masks = _stacked('masks', masks, len(images))[..., 0]
  shown = min(len(images), MOST_SAMPLES)
  pixels = _tiles(images[:shown], shown)
  heads = sample_names(len(images), names)[:shown]
  inside = fitted_masks(masks[:shown], pixels.shape[1:3], margin)
  rows = [
    Row('', list(pixels)),
    Row('inside', list(_cut(pixels, inside))),
    Row('outside', list(_cut(pixels, ~inside))),
  ]
  draw_rows(path, rows, heads if any(heads) else (), title=title, note=note)


def draw_refined(
  path: str | os.PathLike,
  images: np.ndarray,
  parts: np.ndarray,
  refined: np.ndarray,
  grid: tuple[int, int],
  *,
  chosen: Sequence[int] | None = None,
  errors: np.ndarray | None = None,
  names: Sequence[str] | None = None,
  margin: int | tuple[int, int] = 0,
  title: str = '',
  note: str = '',
) -> None:
  """Draws parts refined for each sample beside the global ones: a row for each sample, two columns for each part.

  Args:
    path: the PNG to write.
    images: (N, h, w, channels), clipped to [-1, 1].
    parts: (S, R_S), the global ones.
    refined: (N, S, R_S).
    grid: (H, W).
    chosen: at most `MOST_PAIRS` parts; those that change most if left out.
    errors: (N, 2), relative errors with the global and with the refined parts.
    names: one for each sample.
    margin: cells of the grid beyond the image at each edge (StyleGAN3).
    title, note: above and below.
  """
  refined = np.asarray(refined, np.float32)
  parts = np.asarray(parts, np.float32)
  if refined.ndim != 3 or refined.shape != (len(images), *parts.shape):
    shape = 'x'.join(map(str, refined.shape))
    raise InputError('refined', f'shape {shape}', f'there are {len(images)} images', 'give (N, S, R_S)')
  names = sample_names(len(images), names)
  before = relative(parts.T.reshape(-1, *grid))
  after = np.stack([relative(one.T.reshape(-1, *grid)) for one in refined])
  if chosen is None:
    moved = np.abs(after - before[None]).sum(axis=(0, 2, 3)) / np.maximum(before.sum(axis=(1, 2)), 1e-9)
    chosen = sorted(np.argsort(-moved, kind='stable')[:MOST_PAIRS].tolist())
  for k in chosen:
    if not 0 <= k < parts.shape[1]:
      raise InputError('chosen', k, 'there is no such part', f'give parts from 0 to {parts.shape[1] - 1}')
  chosen = list(chosen)[:MOST_PAIRS]
  shown = min(len(images), MOST_SAMPLES)
  pixels = _tiles(images[:shown], 1 + 2 * len(chosen))
  size = pixels.shape[1:3]
  rows = []
  for i in range(shown):
    tiles = [pixels[i]]
    for k in chosen:
      old = on_image(before[k : k + 1], size, margin)
      for one, colour in ((before[k], BEFORE), (after[i, k], AFTER)):
        fine = on_image(one[None], size, margin)
        tile = laid_on(greyed(pixels[i : i + 1]), np.array(colour, np.float32), 0.8 * np.clip(fine, 0, 1) ** 1.2)
        tile = outlined(tile, old >= OUTLINE, BEFORE)
        tiles.append((outlined(tile, fine >= OUTLINE, AFTER) if colour == AFTER else tile)[0])
    label = names[i]
    if errors is not None:
      label += f'\nerror {errors[i][0]:.3f}\n\N{RIGHTWARDS ARROW} {errors[i][1]:.3f}'
    rows.append(Row(label.strip(), tiles))
  heads = ['', *(head for k in chosen for head in (f'part {k}\nglobal', f'part {k}\nrefined'))]
  legend = [Swatch(BEFORE, 'global part, outline at half its maximum'), Swatch(AFTER, 'refined for this sample')]
  breaks = range(1, 1 + 2 * len(chosen), 2)
  draw_rows(path, rows, heads, title=title, note=note, legend=legend, breaks=breaks)
