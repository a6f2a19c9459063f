"""The sheets of an edit: the choice of pictures for each result. strips.py draws the pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from panda_jax.pictures import strips
from panda_jax.pictures.figures import to_bytes
from panda_jax.pictures.sheets import Row, draw_rows, resized, tile_size

PICTURES = ('strip.png', 'difference.png', 'sweep.gif')
MOST_MOVING = 4  # samples side by side in a moving picture


class Sheet(NamedTuple):
  """The data of the pictures of an edit.

  Attributes:
    original: (N, h, w, channels).
    edited: (N, E, K, h, w, channels).
    edits: E edits, by name.
    strengths: (K,) over the columns, or None if the edits have different strengths.
    names: of the samples.
    grid, margin: of the feature map; the grid includes cells beyond the image.
  """

  original: np.ndarray
  edited: np.ndarray
  edits: Mapping[str, Any]
  strengths: Sequence[float] | None
  names: Sequence[str]
  grid: tuple[int, int]
  margin: int | tuple[int, int]


def draw_edits(out: Path, sheet: Sheet) -> list[str]:
  """strip.png: original and edited, a column for each strength and a row for each edit. For a single edit also
  difference.png, at its greatest strength, and of a sweep sweep.gif. Returns the names."""
  titles = list(sheet.edits)
  path, rows = out / 'strip.png', {'names': sheet.names, 'note': _note(sheet)}
  if sheet.strengths is None:
    _draw_unnumbered(path, sheet)
  elif len(titles) > 1:
    strips.draw_grid(path, sheet.original, sheet.edited, sheet.strengths, titles, **rows)
  else:
    strips.draw_strip(path, sheet.original, sheet.edited[:, 0], sheet.strengths, title=titles[0], **rows)
  if len(titles) > 1:
    return ['strip.png']
  strengths = [1.0] * sheet.edited.shape[2] if sheet.strengths is None else sheet.strengths
  k = int(np.argmax(np.abs(strengths)))
  after = 'edited' if sheet.strengths is None else strips.strength(strengths[k])
  _draw_difference(out / 'difference.png', sheet, k, after)
  if len(strengths) == 1:
    return ['strip.png', 'difference.png']
  frames = np.moveaxis(sheet.edited[:MOST_MOVING, 0], 1, 0)
  labels = None if sheet.strengths is None else [strips.strength(alpha) for alpha in strengths]
  strips.save_gif(out / 'sweep.gif', frames, labels=labels)
  return ['strip.png', 'difference.png', 'sweep.gif']


def draw_removal(out: Path, sheet: Sheet) -> list[str]:
  """strip.png: before, after, and where they differ. Returns the names."""
  _draw_difference(out / 'strip.png', sheet, 0, 'removed')
  return ['strip.png']


def _note(sheet: Sheet) -> str:
  most = max(float(np.abs(images).max()) for images in (sheet.original, sheet.edited))
  return 'Values beyond black and white are clipped.' if most > 1 else ''


def _draw_difference(path: Path, sheet: Sheet, k: int, after: str) -> None:
  (title, edit), *_ = sheet.edits.items()
  N = len(sheet.original)
  masks = [
    np.broadcast_to(np.asarray(term.mask)[: N if np.ndim(term.mask) > 1 else None], (N, sheet.grid[0] * sheet.grid[1]))
    for term in edit.terms
  ]
  region = np.max(np.abs(masks), axis=0).reshape(N, *sheet.grid)
  strips.draw_difference(
    path,
    sheet.original,
    sheet.edited[:, 0, k],
    region=region,
    margin=sheet.margin,
    names=sheet.names,
    after=after,
    title=title,
    note='Outlined: where the mask reaches half its maximum.',
  )


def _draw_unnumbered(path: Path, sheet: Sheet) -> None:
  """Draws edits without common strengths: a column for each edit, or for each step of its sweep."""
  titles, (N, E, K) = list(sheet.edits), sheet.edited.shape[:3]
  swept = K > 1
  columns = [f'strength {k + 1} of {K}' for k in range(K)] if swept else titles if E > 1 else ['edited']
  size = tile_size(sheet.original.shape[1:3], len(columns) + 1)
  first = resized(to_bytes(sheet.original), size)
  rows = []
  for i in range(min(N, max(1, strips.MOST_ROWS // E)) if swept else N):
    if not swept:
      rows.append(Row(sheet.names[i], [first[i], *resized(to_bytes(sheet.edited[i, :, 0]), size)]))
    for j in range(E) if swept else ():
      tiles = list(resized(to_bytes(sheet.edited[i, j]), size))
      rows.append(Row(titles[j], [None if j else first[i], *tiles], '' if j else sheet.names[i]))
  title = '' if E > 1 else titles[0]
  draw_rows(path, rows, ['original', *columns], title=title, note=_note(sheet), breaks=[1])
