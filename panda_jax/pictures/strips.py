"""Pictures of edits: strips over strengths, grids of several edits, difference maps, moving sweeps."""

import io
import math
import os
from collections.abc import Sequence

import numpy as np

from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.pictures import colours
from panda_jax.pictures.figures import to_bytes
from panda_jax.pictures.overlays import on_image, outlined
from panda_jax.pictures.sheets import (
  GAP,
  Bar,
  Page,
  Row,
  draw_rows,
  figure_of,
  file_of,
  ramp,
  resized,
  rows_page,
  tile_size,
  written,
)

MOST_SAMPLES = 16  # rows of one page
MOST_ROWS = 36  # of a grid with all its samples
MOST_STRENGTHS = 9  # columns; of more strengths, this number is shown, evenly spaced
FRAME = 224  # pixels, longest side of one image in a moving picture
PALETTE_PIXELS = 60_000  # at most, to compute the palette of a moving picture
DITHER = 10  # grey levels between its darkest and lightest offset
FRAMES_WIDTH = 960  # pixels for the images of a moving picture together
ALPHA = '\N{GREEK SMALL LETTER ALPHA}'
FULL = 0.998  # share of pixels that change less than the end of the scale


def strength(alpha: float) -> str:
  """An edit's strength as a heading."""
  return f'{ALPHA} = {written(alpha)}'


def sample_names(count: int, names: Sequence[str] | None, argument: str = 'names') -> list[str]:
  """The given names, or empty ones, one for each sample."""
  if names is None:
    return [''] * count
  if len(names) != count:
    raise InputError(argument, f'{len(names)} of them', f'{count} are needed', 'give one for each, or none')
  return [str(name) for name in names]


def _images(argument: str, images, dimensions: Sequence[int]) -> np.ndarray:
  images = np.asarray(images, np.float32)
  if images.ndim not in dimensions or 0 in images.shape:
    shape = 'x'.join(map(str, images.shape))
    raise InputError(argument, f'shape {shape}', 'these are not such images', 'the last axes are h, w, channels')
  return images


def _strengths(original: np.ndarray, edited: np.ndarray, alphas) -> np.ndarray:
  """Strengths (K,) of edited images (N, E, K, h, w, channels); checks that these fit the originals."""
  alphas = np.atleast_1d(np.asarray(alphas, np.float64))
  if (edited.shape[0], *edited.shape[2:]) != (original.shape[0], len(alphas), *original.shape[1:]):
    shapes = ['x'.join(map(str, shape)) for shape in (edited.shape, original.shape)]
    problem = f'they do not fit {len(alphas)} strengths of originals {shapes[1]}'
    raise InputError('edited', f'shape {shapes[0]}', problem, 'give samples first, then edits, then strengths')
  return alphas


def _omitted(shown: int, all_of_them: int, what: str) -> str:
  return '' if shown == all_of_them else f'{shown} of {all_of_them} {what} shown. '


def grid_page(
  original: np.ndarray,
  edited: np.ndarray,
  alphas: float | Sequence[float],
  edits: Sequence[str],
  *,
  names: Sequence[str] | None = None,
  title: str = '',
  note: str = '',
) -> Page:
  """Samples x edits x strengths: for each sample a row for each edit, the original first.

  Of one strength, edits are columns instead, and there is one row for each sample.

  Args:
    original: (N, h, w, channels), clipped to [-1, 1].
    edited: (N, E, K, h, w, channels).
    alphas: (K,) or a number.
    edits: E names.
    names: one for each sample.
    title, note: above and below the grid.

  Example:
    >>> from panda_jax.pictures import grid_figure
    >>> figure = grid_figure(images[:2], images[:2, None, None], 1, ['nothing'])
  """
  original = _images('original', original, (4,))
  edited = _images('edited', edited, (6,))
  alphas = _strengths(original, edited, alphas)
  N, E, K = edited.shape[:3]
  if len(edits) != E:
    raise InputError('edits', len(edits), f'there are {E} edits', 'give one name for each')
  names = sample_names(N, names)
  if K == 1 and 1 < E <= MOST_STRENGTHS:
    title = ', '.join(word for word in (title, strength(alphas[0])) if word)
    heads, edits, edited = [str(name) for name in edits], [''], np.swapaxes(edited, 1, 2)
    E, K = 1, E
  else:
    heads = [strength(alpha) for alpha in alphas]
  shown = min(N, MOST_SAMPLES, max(1, MOST_ROWS // E))
  columns = np.unique(np.rint(np.linspace(0, K - 1, min(K, MOST_STRENGTHS))).astype(int))
  size = tile_size(original.shape[1:3], len(columns) + 1)
  rows = []
  for i in range(shown):
    for j in range(E):
      tiles = list(resized(to_bytes(edited[i, j, columns]), size))
      first = resized(to_bytes(original[i : i + 1]), size)[0] if j == 0 else None
      label, heading = (names[i], '') if E == 1 else (str(edits[j]), names[i] if j == 0 else '')
      rows.append(Row(label, [first, *tiles], heading))
  omitted = _omitted(shown, N, 'samples') + _omitted(len(columns), K, 'strengths')
  heads = ['original', *(heads[j] for j in columns)]
  return rows_page(rows, heads, title=title, note=(omitted + note).strip(), breaks=[1])


def strip_page(
  original: np.ndarray,
  edited: np.ndarray,
  alphas: float | Sequence[float],
  *,
  names: Sequence[str] | None = None,
  title: str = '',
  note: str = '',
) -> Page:
  """A row for each sample: the original, then the edit at each strength.

  Args:
    original: (N, h, w, channels), clipped to [-1, 1].
    edited: (N, K, h, w, channels), or (N, h, w, channels) for one strength.
    alphas: (K,) or a number.
    names: one for each sample, such as 'seed 3'.
    title, note: above and below the strip.

  Example:
    >>> from panda_jax.pictures import strip_figure
    >>> edit = panda_jax.make_edit(factors, part=0, appearance=0, alpha=[-1, 1])
    >>> original, edited, _ = panda_jax.Editor(quarters, layer=1).images(latents[:2], edit)
    >>> figure = strip_figure(original, edited, edit.alpha)
  """
  original = _images('original', original, (4,))
  edited = _images('edited', edited, (4, 5))
  edited = edited[:, None, None] if edited.ndim == 4 else edited[:, None]
  return grid_page(original, edited, alphas, [''], names=names, title=title, note=note)


grid_figure, draw_grid = figure_of(grid_page), file_of(grid_page)
strip_figure, draw_strip = figure_of(strip_page), file_of(strip_page)


def difference(original: np.ndarray, edited: np.ndarray) -> np.ndarray:
  """Change of each pixel (N, h, w): the root mean square over channels, of images (N, h, w, channels)."""
  change = np.clip(edited, -1, 1) - np.clip(original, -1, 1)
  return np.sqrt(np.mean(np.square(np.asarray(change, np.float64)), axis=-1))


def draw_difference(
  path: str | os.PathLike,
  original: np.ndarray,
  edited: np.ndarray,
  *,
  region: np.ndarray | None = None,
  margin: int | tuple[int, int] = 0,
  names: Sequence[str] | None = None,
  after: str = 'edited',
  title: str = '',
  note: str = '',
) -> None:
  """Draws a row for each sample: before, after, and their difference, with one scale for all.

  Args:
    path: the PNG to write.
    original, edited: (N, h, w, channels), clipped to [-1, 1].
    region: (H, W) or (N, H, W) on the feature grid, the mask of the edit; its border at half its maximum is drawn.
    margin: cells of that grid beyond the image at each edge (StyleGAN3).
    names: one for each sample.
    after: heading of the edited images.
    title, note: above and below.
  """
  original, edited = _images('original', original, (4,)), _images('edited', edited, (4,))
  if original.shape != edited.shape:
    shapes = ['x'.join(map(str, images.shape)) for images in (edited, original)]
    raise InputError('edited', f'shape {shapes[0]}', f'the originals are {shapes[1]}', 'give images of one size')
  shown = min(len(original), MOST_SAMPLES)
  names = sample_names(len(original), names)
  size = tile_size(original.shape[1:3], 3)
  before, later = (resized(to_bytes(images[:shown]), size) for images in (original, edited))
  change = difference(original[:shown], edited[:shown])
  end = float(np.quantile(change, FULL)) or float(change.max())
  scaled = np.clip(on_image(change / (end or 1), size), 0, 1)
  from matplotlib import colormaps

  palette = ramp(colormaps[colours.DIFFERENCES])
  heat = palette[np.rint(255 * scaled).astype(int)]
  if region is not None:
    region = np.asarray(region, np.float32)
    region = np.broadcast_to(region, (len(original), *region.shape[-2:]))[:shown]
    masks = on_image(region / max(float(region.max()), 1e-30), size, margin) >= 0.5
    before, heat = outlined(before, masks), outlined(heat, masks)
  rows = [Row(name, list(tiles)) for name, *tiles in zip(names, before, later, heat, strict=False)]
  bar = Bar(
    'change of a pixel, root mean square over channels (black to white is 2)',
    palette,
    {0.0: '0', 0.5: f'{end / 2:.2g}', 1.0: f'{end:.2g} and more'},
  )
  omitted = _omitted(shown, len(original), 'samples')
  heads = ['original', after, 'difference']
  draw_rows(path, rows, heads, title=title, bars=[bar], note=(omitted + note).strip())


def save_gif(
  path: str | os.PathLike,
  frames: np.ndarray,
  *,
  labels: Sequence[str] | None = None,
  seconds: float = 2.0,
  back: bool = True,
) -> None:
  """Writes a moving picture that repeats the frames, forwards and backwards.

  All frames share one palette and an ordered dither, so that pixels without change stay constant.

  Args:
    path: the GIF to write.
    frames: (T, h, w, channels), clipped to [-1, 1], or (T, N, h, w, channels) for several samples side by side.
    labels: one for each frame, such as 'α = 10'.
    seconds: from the first frame to the last.
    back: return through the frames in reverse order.
  """
  frames = _images('frames', frames, (4, 5))
  frames = frames[:, None] if frames.ndim == 4 else frames
  T, N, h, w, _ = frames.shape
  labels = sample_names(T, labels, 'labels')
  side = min(FRAME, max(1, FRAMES_WIDTH // N - GAP))
  size = max(1, round(side * h / max(h, w))), max(1, round(side * w / max(h, w)))
  height, width = size[0] + (30 if any(labels) else 0), N * (size[1] + GAP) - GAP
  pages = []
  for images, label in zip(frames, labels, strict=True):
    page = Page(width, height, 15)
    for j, tile in enumerate(resized(to_bytes(images), size)):
      page.paste(tile, j * (size[1] + GAP), 0)
    page.text((width / 2, size[0] + 15), label, 'mm')
    pages.append(page.pixels())
  still = _reduced(np.stack(pages))
  order = [*range(T), *range(T - 2, 0, -1)] if back else list(range(T))
  pause = max(20, round(1000 * seconds / max(T - 1, 1)))
  buffer = io.BytesIO()
  first, *rest = [still[t] for t in order]
  first.save(buffer, 'GIF', save_all=True, append_images=rest, duration=pause, loop=0, disposal=1, optimize=False)
  write_atomically(path, buffer.getvalue())


def _reduced(pages: np.ndarray) -> list:
  """uint8 pages (T, h, w, 3) as pictures with 256 common colours."""
  from PIL import Image

  _, h, w, _ = pages.shape
  step = math.ceil(math.sqrt(pages[..., 0].size / PALETTE_PIXELS))
  some = pages[:, ::step, ::step].reshape(-1, 3)
  paper = np.full((len(some) // 50 + 1, 3), 255, np.uint8)
  seen = np.concatenate([some, paper])[None]
  palette = Image.fromarray(seen).quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)
  shades = np.array(palette.getpalette()).reshape(-1, 3)
  white = int(np.argmax(shades.sum(axis=1)))
  shades[white] = 255
  palette.putpalette(shades.ravel().tolist())
  bayer = np.array([[0]])
  for _ in range(3):
    bayer = np.block([[4 * bayer, 4 * bayer + 2], [4 * bayer + 3, 4 * bayer + 1]])
  tiles = np.tile(bayer, (-(-h // 8), -(-w // 8)))[:h, :w, None] / 64 - 0.5
  dithered = np.clip(np.rint(pages + DITHER * tiles[None]), 0, 255).astype(np.uint8)
  dithered = np.where((pages == 255).all(axis=-1, keepdims=True), 255, dithered)
  still = []
  for page in dithered:
    indices = np.asarray(Image.fromarray(page).quantize(palette=palette, dither=Image.Dither.NONE)).copy()
    indices[(page == 255).all(axis=-1)] = white  # Pillow's search is not exact
    still.append(Image.fromarray(indices))
    still[-1].putpalette(shades.ravel().tolist())
  return still
