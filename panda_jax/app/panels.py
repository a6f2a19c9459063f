"""HTML of the explorer's pictures. Pictures are inside the page: no file is made to show one.

Letters: N samples, h, w image.
"""

import base64
import html
import io
import math
from collections.abc import Sequence

import numpy as np

from panda_jax.app.saves import Saved
from panda_jax.pictures import colours, strips
from panda_jax.pictures.figures import to_bytes
from panda_jax.pictures.overlays import on_image, outlined
from panda_jax.pictures.sheets import ramp, resized

SHOWN = 384  # pixels of a tile that carries an outline
LARGEST = 1536  # pixels of a sheet's side
GAP = 1 / 64  # of a tile
CROSS = 9  # pixels of a mark's arms
SOURCE = 'data:image/png;base64,'


def sheet(pixels: np.ndarray) -> np.ndarray:
  """uint8 tiles (N, h, w, 3) as one picture, row by row, with a white line between."""
  N, h, w, _ = pixels.shape
  columns, gap = columns_of(N), max(1, round(GAP * h)) if N > 1 else 0
  rows = -(-N // columns)
  out = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
  for i, tile in enumerate(pixels):
    top, left = i // columns * (h + gap), i % columns * (w + gap)
    out[top : top + h, left : left + w] = tile
  return out


def columns_of(N: int) -> int:
  return math.ceil(math.sqrt(N))


def tile_at(x: float, y: float, N: int) -> tuple[int, float, float] | None:
  """(i, x, y): the tile of `sheet` under a point and the place in it, all of [0, 1]; None where there is no tile."""
  columns = columns_of(N)
  rows = -(-N // columns)
  column, row = min(columns - 1, int(x * columns)), min(rows - 1, int(y * rows))
  i = row * columns + column
  return (i, x * columns - column, y * rows - row) if i < N else None


def png_bytes(pixels: np.ndarray, profile: bytes | None = None) -> bytes:
  """A picture (h, w, 3) as the content of a file; `profile` (ICC) says which colours they are."""
  from PIL import Image

  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, format='PNG', compress_level=1, icc_profile=profile)
  return buffer.getvalue()


def png(pixels: np.ndarray) -> str:
  """A picture (h, w, 3) as the address of itself."""
  return SOURCE + base64.b64encode(png_bytes(pixels)).decode()


def _fitted(pixels: np.ndarray, most: int = LARGEST) -> np.ndarray:
  """Tiles no larger than a sheet may be."""
  N, h, w, _ = pixels.shape
  scale = most / columns_of(N) / max(h, w)
  return pixels if scale >= 1 else resized(pixels, (max(1, int(h * scale)), max(1, int(w * scale))))


def figure(title: str, pixels: np.ndarray, words: str, caption: str = '', kind: str = '', **data: str) -> str:
  """A picture with a title above and words for those who do not see it; `data` is for the page's script."""
  marks = ''.join(f' data-{name}="{html.escape(value)}"' for name, value in data.items())
  return (
    f'<figure class="panda {html.escape(kind)}"{marks}><h3>{html.escape(title)}</h3>'
    f'<div class="panda-picture"><img src="{png(pixels)}" alt="{html.escape(words)}" draggable="false"></div>'
    f'<figcaption>{html.escape(caption)}</figcaption></figure>'
  )


def original_panel(
  original: np.ndarray, regions: np.ndarray, margin: int | tuple[int, int], names: str, where: str, mode: str
) -> str:
  """Originals (N, h, w, channels) with the outline of regions (N, H, W): half of their maximum; `names` of them."""
  pixels = to_bytes(original)
  h, w = pixels.shape[1:3]
  if max(h, w) < SHOWN:
    pixels = resized(pixels, (round(SHOWN * h / max(h, w)), round(SHOWN * w / max(h, w))))
  pixels = _fitted(pixels)
  pixels = outlined(pixels, on_image(regions, pixels.shape[1:3], margin) >= 0.5)
  told = 'paint where to edit' if mode == 'paint' else 'click a part'
  caption = f'{where}, outlined' if regions.any() else where
  return figure(f'Original: {told}', sheet(pixels), f'unedited pictures of {names}; {where}', caption, 'of', mode=mode)


def marks_panel(
  photograph: np.ndarray, marks: Sequence[tuple[float, float]], corners: np.ndarray | None, aspect: float, words: str
) -> str:
  """A photograph (h, w, 3) uint8 with marks (x, y) and the frame of corners (4, 2), both in its pixels.

  Args:
    aspect: width over height of a box that is dragged.
    words: the caption.
  """
  from PIL import Image, ImageDraw

  picture = Image.fromarray(photograph)
  draw = ImageDraw.Draw(picture)
  rings = [] if corners is None else [(*corners.ravel().tolist(), *corners[0].tolist())]
  crosses = [line for x, y in marks for line in ((x - CROSS, y, x + CROSS, y), (x, y - CROSS, x, y + CROSS))]
  for colour, width in ((colours.INK, 5), ('white', 2)):  # seen on light and on dark
    for line in (*rings, *crosses):
      draw.line(line, fill=colour, width=width, joint='curve')
  return figure('Your photograph', np.asarray(picture), f'your photograph; {words}', words, 'ma', aspect=f'{aspect:g}')


def inverted_panel(photograph: np.ndarray, inverted: np.ndarray, psnr: float, seconds: float, command: str) -> str:
  """A photograph and its inversion (h, w, channels), side by side, and the command that makes it."""
  pictures = (
    figure('Photograph', to_bytes(photograph[None])[0], 'the crop of your photograph', 'what is in the frame'),
    figure('Inverted', to_bytes(inverted[None])[0], 'what the generator makes of it', told_of(psnr, seconds)),
  )
  return f'<div class="panda-pair">{"".join(pictures)}</div><code>{html.escape(command)}</code>'


def told_of(psnr: float, seconds: float) -> str:
  """How near an inversion is."""
  return f'PSNR {psnr:.1f} dB, {seconds:.1f} s'


def edited_panel(edited: np.ndarray, words: str) -> str:
  """Edited pictures (N, h, w, channels)."""
  return figure('Edited', sheet(_fitted(to_bytes(edited))), f'edited pictures: {words}', words, 'ed')


def difference_panel(original: np.ndarray, edited: np.ndarray) -> str:
  """Where they differ, on a scale of its own, which the caption gives."""
  from matplotlib import colormaps

  change = strips.difference(original, edited)
  end = float(np.quantile(change, strips.FULL)) or float(change.max())
  palette = ramp(colormaps[colours.DIFFERENCES])
  heat = palette[np.rint(255 * np.clip(change / (end or 1), 0, 1)).astype(int)]
  caption = f'brightest: {end:.2g} or more, of 2' if end else 'nothing is changed'
  return figure('Difference', sheet(_fitted(heat)), f'where the pictures differ: {caption}', caption, 'di')


def message(text: str, kind: str = 'note') -> str:
  """A line that is read out; kind 'note', 'error', or 'busy' for what is at work."""
  return f'<p class="panda-{kind}" role="{"alert" if kind == "error" else "status"}">{html.escape(text)}</p>'


def saved_message(saved: Saved, fit: int) -> str:
  """Where it is, with links to the files; `fit`: its number in addresses."""
  address = f'saved/{fit}/{saved.name}'
  links = ', '.join(f'<a href="{address}/{file}" download="{saved.name}-{file}">{file}</a>' for file in saved.files)
  return (
    f'<p class="panda-note" role="status">Saved as {html.escape(str(saved.folder))}: {links}<br>'
    f'<code>{html.escape(saved.command)}</code></p>'
  )


def download_message(key: str, name: str) -> str:
  """A link to a whole photograph that waits to be fetched."""
  name = html.escape(name)
  link = f'<a href="photographs/{html.escape(key)}" download="{name}">{name}</a>'
  return (
    f'<p class="panda-note" role="status">The whole photograph with the edit in it: {link}. '
    'Saving keeps it too, with the command that makes it again.</p>'
  )
