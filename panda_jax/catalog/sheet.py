"""catalog.png: a row for each part with the sample, the part's place, and its best edits at full strength."""

import io
import os
from collections.abc import Sequence

import numpy as np

from panda_jax.catalog.search import Candidate, Found
from panda_jax.files.access import write_atomically
from panda_jax.pictures.figures import middling, to_bytes
from panda_jax.pictures.overlays import outlined
from panda_jax.pictures.sheets import Page, resized, wrapped
from panda_jax.workdir.finished_fit import FinishedFit

TILE, GAP, CAPTION, TEXT, HEAD, BORDER = 96, 5, 18, 13, 16, 14  # pixels
MOST_PARTS, ACROSS = 32, 10  # rows of parts, and edits in one


def draw_sheet(path: str | os.PathLike, found: Found, opened: FinishedFit) -> None:
  """Draws the catalog's edits on one of the shown samples; edits by random pairs come last in a row.

  Args:
    path: the PNG to write, 256 colours.
    found: see `find`.
    opened: the fit.
  """
  parts = sorted({one.part for one in (*found.edits, *found.random)})[:MOST_PARTS]
  across = min(ACROSS, max([1, *(sum(one.part == k for one in found.edits) for k in parts)]))
  h, w = found.original.shape[1:3]
  size = max(1, round(TILE * h / max(h, w))), max(1, round(TILE * w / max(h, w)))
  sample = middling(found.original)
  left, pitch = BORDER + 58, size[1] + GAP
  randoms = left + (across + 1) * pitch + 2 * GAP
  width, row = randoms + size[1] + BORDER, size[0] + CAPTION + GAP
  titles = [
    f'Edits of {len(parts)} parts, each at its largest useful strength, on a sample that was not used to choose them',
    'First the part; then its edits, the best held-out score first (a: appearance, with its sign); last a random pair',
  ]
  lines = [line for words in titles for line in wrapped(words, TEXT, width - 2 * BORDER)]
  top = BORDER + (len(lines) + 1) * HEAD
  sheet = Page(width, top + row * max(len(parts), 1) + BORDER, TEXT)
  for i, line in enumerate(lines):
    sheet.text((BORDER, BORDER + i * HEAD), line)
  for number, part in enumerate(parts):
    y = top + number * row
    sheet.text((BORDER, y + size[0] / 2), f'part {part}', 'lm')
    sheet.paste(where(found, part, size, sample), left, y)
    edits = [one for one in found.edits if one.part == part][:across]
    for j, one in enumerate(edits):
      _tile(sheet, one, sample, left + (j + 1) * pitch, y, size)
    for one in [one for one in found.random if one.part == part][:1]:
      _tile(sheet, one, sample, randoms, y, size)
  _save(path, sheet)


def where(found: Found, part: int, size: tuple[int, int], sample: int) -> np.ndarray:
  """uint8 (h, w, 3): a shown sample with the region of a part outlined."""
  pixels = resized(to_bytes(found.original[sample : sample + 1]), size)
  region = resized(np.repeat(found.regions[part][None, ..., None], 3, axis=-1).astype(np.uint8) * 255, size)
  return outlined(pixels, region[..., 0] >= 128)[0]


def short(one: Candidate) -> str:
  return f'a{one.appearance} {"+" if one.sign > 0 else chr(0x2212)}'


def _tile(sheet: Page, one: Candidate, sample: int, x: int, y: int, size: Sequence[int]) -> None:
  sheet.paste(resized(to_bytes(one.frames[-1, sample : sample + 1]), tuple(size))[0], x, y)
  sheet.text((x + size[1] / 2, y + size[0] + CAPTION / 2), short(one), 'mm')


def _save(path: str | os.PathLike, sheet: Page) -> None:
  from PIL import Image

  picture = Image.fromarray(sheet.pixels()).quantize(256, method=Image.Quantize.MEDIANCUT)
  buffer = io.BytesIO()
  picture.save(buffer, 'PNG', optimize=True)
  write_atomically(path, buffer.getvalue())
