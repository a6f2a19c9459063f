"""Overlays: parts drawn over samples.

Each position of the feature grid covers an equal share of the image. The maps of a StyleGAN3 reach beyond the image, so
`margin` cells are first cut at each edge.
"""

import math
from collections.abc import Sequence

import numpy as np

from panda_jax.pictures import colours
from panda_jax.pictures.figures import to_bytes
from panda_jax.pictures.sheets import Page, Row, Swatch, figure_of, file_of, font, resized, rows_page, tile_size

SAMPLES = 5  # images in a row
MOST_ROWS = 10  # more groups of parts share rows
OUTLINE = 0.5  # of a part's maximum: the level of its outline
NUMBER = 16  # pixels, height of the numbers on parts
CAPTION = 27  # pixels of a line of text above a tile
MOST_NUMBERS = 3  # places of one part with its number
LEAST_PLACE = 0.3  # of the part's largest piece: smaller pieces have no number


def on_image(maps: np.ndarray, size: tuple[int, int], margin: int | tuple[int, int] = 0) -> np.ndarray:
  """Maps (k, H, W) on the feature grid, cut by `margin` cells at each edge and interpolated to image size (k, h, w).

  `margin`: one number, or (above and below, at the sides).
  """
  from PIL import Image

  H, W = maps.shape[1:]
  around = 3  # cells, so that the border is interpolated like the rest
  padded = np.pad(np.asarray(maps, np.float32), [(0, 0), (around, around), (around, around)], 'edge')
  rows, columns = np.broadcast_to(margin, 2).tolist()
  box = around + columns, around + rows, around + W - columns, around + H - rows
  cubic = Image.Resampling.BICUBIC
  return np.stack([np.asarray(Image.fromarray(m).resize((size[1], size[0]), cubic, box)) for m in padded])


def greyed(images: np.ndarray, greys: tuple[int, int] = colours.PALE) -> np.ndarray:
  """uint8 images (N, h, w, 3) in grey, each scaled to the same range, so that colours over them stand out."""
  luma = np.asarray(images, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
  low, high = np.quantile(luma, [0.02, 0.98], axis=(1, 2), keepdims=True)
  place = np.where(high > low, (luma - low) / np.maximum(high - low, 1), 0.5)
  grey = greys[0] + (greys[1] - greys[0]) * np.clip(place, 0, 1)
  return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)


def laid_on(images: np.ndarray, colour: np.ndarray, opacity: np.ndarray) -> np.ndarray:
  """uint8 images (N, h, w, 3) under a colour in 0 to 255 that broadcasts to them, by opacity (N, h, w) in [0, 1]."""
  opacity = np.clip(opacity, 0, 1)[..., None].astype(np.float32)
  return np.rint(images * (1 - opacity) + np.broadcast_to(colour, images.shape) * opacity).astype(np.uint8)


def outlined(images: np.ndarray, masks: np.ndarray, colour: Sequence[int] = (255, 255, 255)) -> np.ndarray:
  """uint8 images (N, h, w, 3) with the border of masks (N, h, w) as a line that is visible on its own colour too."""
  from scipy.ndimage import binary_dilation, binary_erosion

  drawn = images.copy()
  cross = np.ones((3, 3), bool)
  for image, mask in zip(drawn, masks, strict=True):
    if not mask.any():
      continue
    inner = mask & ~binary_erosion(mask, cross, iterations=2, border_value=1)
    image[binary_dilation(mask, cross) & ~mask] = 20 if sum(colour) > 200 else 235
    image[inner] = colour
  return drawn


def _numbered(image: np.ndarray, places: list[tuple[int, int, int]]) -> np.ndarray:
  """The image with each (part, x, y) written on it, black in white; no number hides another."""
  from PIL import Image, ImageDraw

  h, w = image.shape[:2]
  picture = Image.fromarray(image)
  pen = ImageDraw.Draw(picture)
  taken: list[tuple[float, float]] = []
  for part, x, y in places:
    wide, high = font(NUMBER).getlength(str(part)) / 2 + 3, 0.55 * NUMBER
    x, y = min(max(x, wide), w - wide), min(max(y, high), h - high)
    for _ in range(12):
      near = [t for t in taken if abs(t[0] - x) < 2 * wide and abs(t[1] - y) < 1.8 * high]
      if not near:
        break
      y = near[0][1] + 1.8 * high if near[0][1] <= h / 2 else near[0][1] - 1.8 * high
    taken.append((x, y))
    pen.text((x, y), str(part), fill='black', font=font(NUMBER), anchor='mm', stroke_width=2, stroke_fill='white')
  return np.asarray(picture)


def _places(shown: np.ndarray) -> list[tuple[int, int]]:
  """(x, y) in the middle of each large piece of a part (h, w) above half of its maximum, the largest piece first."""
  from scipy.ndimage import center_of_mass, label
  from scipy.ndimage import sum as total

  pieces, count = label(shown >= OUTLINE)
  if not count:
    return []
  sizes = total(np.ones_like(shown), pieces, range(1, count + 1))
  chosen = [k for k in np.argsort(-sizes, kind='stable')[:MOST_NUMBERS] if sizes[k] >= LEAST_PLACE * sizes.max()]
  centres = center_of_mass(shown, pieces, [k + 1 for k in chosen])
  return [(round(x), round(y)) for y, x in centres]


def painted(images: np.ndarray, maps: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
  """uint8 images (N, h, w, 3) under up to six maps (k, h, w) in [0, 1], each in its colour, outlined and numbered."""
  weight = np.clip(maps, 0, 1)
  palette = np.array(colours.OVERLAY, np.float32)[: len(maps)]
  total = np.sum(weight**2, axis=0)[..., None]
  mixed = np.einsum('khw,kc->hwc', weight**2, palette) / np.maximum(total, 1e-9)
  shown = laid_on(greyed(images), mixed[None], np.broadcast_to(0.8 * weight.max(axis=0) ** 1.2, images.shape[:3]))
  for one, colour in zip(weight, colours.OVERLAY, strict=False):
    shown = outlined(shown, np.broadcast_to(one >= OUTLINE, shown.shape[:3]), colour)
  places = [(number, *place) for number, one in zip(numbers, weight, strict=True) for place in _places(one)]
  return np.stack([_numbered(image, places) for image in shown])


def _captioned(tiles: np.ndarray, text: str) -> list[np.ndarray]:
  """Tiles (N, h, w, 3) with a line of text above the first."""
  from PIL import Image, ImageDraw

  strip = Image.new('RGB', (tiles.shape[2], CAPTION), 'white')
  blank = np.asarray(strip)
  ImageDraw.Draw(strip).text((0, CAPTION - 6), text, fill=colours.INK, font=font(CAPTION - 9), anchor='ls')
  return [np.concatenate([np.asarray(strip) if i == 0 else blank, tile]) for i, tile in enumerate(tiles)]


def part_groups(count: int) -> list[list[int]]:
  """Parts 0 ... count-1 in groups of nearly equal size, so small that every part of a group has its own colour."""
  groups = max(1, math.ceil(count / len(colours.OVERLAY)))
  return [group.tolist() for group in np.array_split(np.arange(count), groups)]


def relative(maps: np.ndarray) -> np.ndarray:
  """Maps (k, H, W), each divided by its maximum; dead maps stay zero."""
  return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)


def overlay_page(
  images: np.ndarray, parts: np.ndarray, grid: tuple[int, int], margin: int | tuple[int, int] = 0
) -> Page:
  """Every part over the same images, a few to a row, each in a colour of its own with its number on it.

  A colour comes once in a row and the numbers say the same again, so that nothing hangs on telling colours apart.
  The images themselves are on top. Where there are many parts, rows show fewer images and lie side by side.

  Args:
    images: (N, h, w, channels), clipped to [-1, 1].
    parts: (S, R_S) non-negative; each is divided by its maximum.
    grid: (H, W) of the feature maps.
    margin: cells of the grid that lie beyond the image at each edge (StyleGAN3).

  Example:
    >>> from panda_jax.pictures import overlay_figure
    >>> figure = overlay_figure(images[:2], factors.parts, factors.grid)
  """
  maps = np.asarray(parts, np.float32).T.reshape(-1, *grid)
  groups = part_groups(len(maps))
  beside = math.ceil(len(groups) / MOST_ROWS)  # groups that share a row
  many = max(1, min(SAMPLES // beside, len(images))) if beside > 1 else min(SAMPLES, len(images))
  pixels = to_bytes(images[:many])
  pixels = resized(pixels, tile_size(pixels.shape[1:3], SAMPLES))
  shown = on_image(relative(maps), pixels.shape[1:3], margin)
  dead = maps.max(axis=(1, 2)) <= 0
  note = "Outlines: half of a part's largest entry."
  if beside == 1:
    rows = [Row('', list(pixels))]
    for group in groups:
      swatches = zip(group, colours.OVERLAY, strict=False)
      names = [Swatch(c, f'part {k}{", dead" if dead[k] else ""}') for k, c in swatches]
      rows.append(Row(names, list(painted(pixels, shown[group], group))))
    return rows_page(rows, note=note)
  blocks = [_captioned(pixels, 'images')]
  for group in groups:
    blocks.append(_captioned(painted(pixels, shown[group], group), f'parts {group[0]} to {group[-1]}'))
  h, w = pixels.shape[1:3]
  across = max(1, round(math.sqrt(len(blocks) * 1.4 * h / (w * many))))
  rows = [
    Row('', [tile for block in blocks[first : first + across] for tile in block])
    for first in range(0, len(blocks), across)
  ]
  return rows_page(rows, note=note, breaks=range(many, across * many, many) if many > 1 else ())


overlay_figure, draw_overlay = figure_of(overlay_page), file_of(overlay_page)
