"""What factors mean on images: parts laid over samples, and where on them an appearance is strong."""

import os

import numpy as np

from panda_jax.pictures import COLOURS, save_picture, to_bytes

SAMPLES, TILE = 5, 128  # images across the page, and their least side in pixels
MOST_ROWS = 24  # parts or appearances on one page
GAP, LABEL = 4, 26


def _to_image(maps: np.ndarray, margin: int, size: tuple[int, int]) -> np.ndarray:
  """Maps (k, H, W) on the feature grid, cut by `margin` cells at each edge, bilinearly at image size (k, h, w)."""
  from PIL import Image

  H, W = maps.shape[1:]
  inner = np.asarray(maps, np.float32)[:, margin : H - margin, margin : W - margin]
  return np.stack([np.asarray(Image.fromarray(m).resize((size[1], size[0]), Image.Resampling.BILINEAR)) for m in inner])


def _page(path: str | os.PathLike, rows: list[tuple[str, list[np.ndarray]]]) -> None:
  """Saves labelled rows of uint8 images (h, w, 3), all of one size."""
  from PIL import Image, ImageDraw

  h, w, _ = rows[0][1][0].shape
  columns = max(len(images) for _, images in rows)
  page = np.full((len(rows) * (h + GAP), LABEL + columns * (w + GAP), 3), 255, np.uint8)
  for i, (_, images) in enumerate(rows):
    for j, image in enumerate(images):
      top, left = i * (h + GAP), LABEL + j * (w + GAP)
      page[top : top + h, left : left + w] = image
  picture = Image.fromarray(page)
  pen = ImageDraw.Draw(picture)
  for i, (name, _) in enumerate(rows):
    pen.text((4, i * (h + GAP) + h // 2 - 6), name, fill=(34, 34, 34))
  save_picture(path, picture)


def _enlarged(images: np.ndarray) -> np.ndarray:
  """uint8 images whose sides are at least TILE and at most twice that, whole pixels repeated or averaged."""
  pixels = to_bytes(images)
  times = max(1, -(-TILE // pixels.shape[1]))
  pixels = pixels.repeat(times, axis=1).repeat(times, axis=2)
  while pixels.shape[1] >= 4 * TILE and pixels.shape[1] % 2 == 0 and pixels.shape[2] % 2 == 0:
    pixels = pixels.reshape(len(pixels), pixels.shape[1] // 2, 2, pixels.shape[2] // 2, 2, 3).mean(axis=(2, 4))
  return pixels.astype(np.uint8)


def _laid_on(images: np.ndarray, colour: np.ndarray, strength: np.ndarray) -> list[np.ndarray]:
  """Images (N, h, w, 3), greyed, with colour (N, h, w, 3) in [0, 1] more opaque as strength (N, h, w) nears 1."""
  grey = images.mean(axis=-1, keepdims=True) * 0.7 + 76  # paler, so that colour stands out
  opacity = 0.75 * np.clip(strength, 0, 1)[..., None] ** 0.7
  return list((grey * (1 - opacity) + 255 * colour * opacity).astype(np.uint8))


def _painted(images: np.ndarray, strength: np.ndarray) -> list[np.ndarray]:
  """Images with strength (N, h, w) in [0, 1] as colour."""
  from matplotlib import colormaps

  return _laid_on(images, colormaps[COLOURS](0.15 + 0.75 * strength)[..., :3], strength)


def _signed(images: np.ndarray, strength: np.ndarray) -> list[np.ndarray]:
  """Images with strength (N, h, w) in [-1, 1] as colour: orange above zero, blue below."""
  colour = np.where(strength[..., None] > 0, np.array([0.84, 0.37, 0.0]), np.array([0.0, 0.35, 0.7]))
  return _laid_on(images, colour, np.abs(strength))


def draw_overlay(
  path: str | os.PathLike, images: np.ndarray, parts: np.ndarray, grid: tuple[int, int], margin: int = 0
) -> None:
  """Each part over the same images: a row for each of the first `MOST_ROWS`, the images themselves on top.

  Args:
    path: the PNG to write.
    images: (N, h, w, channels) in [-1, 1].
    parts: (S, R_S) non-negative; each is divided by its maximum.
    grid: (H, W) of the feature maps.
    margin: cells of the grid that lie beyond the image at each edge (StyleGAN3).
  """
  pixels = _enlarged(images[:SAMPLES])
  rows = [('', list(pixels))]
  maps = np.asarray(parts, np.float32).T[:MOST_ROWS].reshape(-1, *grid)
  peaks = np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
  for k, shown in enumerate(_to_image(maps / peaks, margin, pixels.shape[1:3])):
    rows.append((str(k), _painted(pixels, np.broadcast_to(shown, pixels.shape[:3]))))
  _page(path, rows)


def draw_coordinates(
  path: str | os.PathLike,
  images: np.ndarray,
  features: np.ndarray,
  appearances: np.ndarray,
  count: int = 12,
  margin: int = 0,
) -> None:
  """Where the first appearances are strong on images: the coordinates a_j'z of each position, laid over them.

  Orange is above zero, blue below; each row is divided by its largest magnitude over the images.

  Args:
    path: the PNG to write.
    images: (N, h, w, channels) in [-1, 1].
    features: (N, H, W, C) of the same samples; less the mean that the factors were fitted without, if any.
    appearances: (C, R_C).
    count: how many.
    margin: as of `draw_overlay`.
  """
  pixels = _enlarged(images[:SAMPLES])
  chosen = np.asarray(appearances)[:, : min(count, MOST_ROWS)]
  coordinates = np.einsum('nhwc,cr->rnhw', np.asarray(features[:SAMPLES], np.float32), chosen)
  rows = [('', list(pixels))]
  for j, maps in enumerate(coordinates):
    scaled = maps / max(float(np.abs(maps).max()), np.finfo(np.float32).tiny)
    rows.append((str(j), _signed(pixels, _to_image(scaled, margin, pixels.shape[1:3]))))
  _page(path, rows)
