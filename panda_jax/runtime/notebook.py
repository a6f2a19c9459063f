"""What a Jupyter notebook shows: text that changes in place, and HTML of text and small pictures.

Nothing is imported for it: where IPython runs it is there, and pictures are PNGs that are written here.
"""

import base64
import html
import struct
import sys
import zlib
from collections.abc import Sequence

import numpy as np

SIDE = 96  # pixels of a picture's longer side, at least
# Pale to black, as the parts of a fit are drawn; exact zeros are white.
PALETTE = ('fcfdbf', 'febf84', 'f8765c', 'd3426d', '942c80', '51127c', '140e36', '000004')


def running() -> bool:
  """Whether this is a notebook's process: IPython with a kernel."""
  ipython = sys.modules.get('IPython')
  shell = ipython.get_ipython() if ipython is not None else None
  return getattr(shell, 'kernel', None) is not None


class Line:
  """A line of text below a notebook's cell, which changes in place."""

  def __init__(self):
    self._handle = None

  def update(self, text: str) -> None:
    data = {'text/plain': text}
    if self._handle is None:
      self._handle = sys.modules['IPython'].display.display(data, raw=True, display_id=True)
    else:
      self._handle.update(data, raw=True)


def png(pixels: np.ndarray) -> bytes:
  """uint8 pixels (h, w, 3) as a PNG."""
  height, width, _ = pixels.shape
  rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

  def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

  header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  body = zlib.compress(rows.tobytes(), 9)
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', body) + chunk(b'IEND', b'')


def heat(values: np.ndarray) -> np.ndarray:
  """Non-negative values (H, W), divided by their maximum, as uint8 pixels (h, w, 3): whole squares, zeros white."""
  values = np.nan_to_num(np.asarray(values, np.float64))
  shrink = -(-max(values.shape) // (4 * SIDE))
  values = values[::shrink, ::shrink]
  share = np.clip(values / max(float(values.max()), np.finfo(np.float64).tiny), 0, 1)
  places, colours = np.linspace(0, 1, len(PALETTE)), np.array([[*bytes.fromhex(colour)] for colour in PALETTE])
  pixels = np.stack(
    [np.interp(share, places, column) for column in colours.T],
    axis=-1,
  )
  pixels = np.where(share[..., None] > 0, np.rint(pixels), 255).astype(np.uint8)
  size = max(1, -(-SIDE // max(values.shape)))
  return np.repeat(np.repeat(pixels, size, axis=0), size, axis=1)


def page(text: str, pictures: Sequence[tuple[str, np.ndarray]] = ()) -> str:
  """HTML of a text and of pictures with their names, (name, uint8 pixels (h, w, 3)) each; all text is escaped."""
  figures = []
  for name, pixels in pictures:
    name, data = html.escape(name), base64.b64encode(png(pixels)).decode()
    picture = f'<img alt="{name}" src="data:image/png;base64,{data}" style="border: 1px solid #999">'
    caption = f'<figcaption>{name}</figcaption>'
    figures.append(f'<figure style="display: inline-block; margin: 4px">{picture}{caption}</figure>')
  return f'<div><pre>{html.escape(text)}</pre>{"".join(figures)}</div>'
