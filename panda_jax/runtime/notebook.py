"""Output in a Jupyter notebook: text that changes in place, and HTML of text and small pictures.

IPython is not a dependency: in a notebook it is imported already.
"""

import base64
import html
import io
import sys
from collections.abc import Sequence

import numpy as np

SIDE = 128  # pixels of a picture's longer side, approximately
PALETTE = 'magma_r'  # of parts: pale to black with evenly falling lightness; exact zeros are white


def running() -> bool:
  """Whether this process runs a notebook: IPython with a kernel."""
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
  from PIL import Image

  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, 'PNG', optimize=True)
  return buffer.getvalue()


def heat(values: np.ndarray, side: int = SIDE) -> np.ndarray:
  """Non-negative values (H, W), divided by their maximum, as uint8 pixels (h, w, 3): whole squares, zeros white.

  `side`: pixels of the longer side, approximately.
  """
  from matplotlib import colormaps

  values = np.nan_to_num(values)
  shrink = -(-max(values.shape) // (4 * side))
  values = values[::shrink, ::shrink]
  share = np.clip(values / (float(values.max()) or 1.0), 0, 1)
  pixels = np.where(share[..., None] > 0, colormaps[PALETTE](share, bytes=True)[..., :3], 255).astype(np.uint8)
  size = max(1, side // max(values.shape))
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
