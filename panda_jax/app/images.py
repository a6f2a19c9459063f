"""Pictures for the page: inside the answer, and no larger than the page shows them.

Letters: N samples, h, w image.
"""

import base64
import io

import numpy as np

from panda_jax.pictures import colours, strips
from panda_jax.pictures.figures import to_bytes
from panda_jax.pictures.sheets import ramp, resized

LARGEST = 1024  # pixels of a picture's longer side
EXACT = 256  # pixels of the longer side up to which pictures are sent without loss
QUALITY = 95  # of larger pictures, sent as JPEG


def png_bytes(pixels: np.ndarray, profile: bytes | None = None) -> bytes:
  """A picture (h, w, 3) as the content of a file; `profile` (ICC) says which colours they are."""
  from PIL import Image

  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, format='PNG', compress_level=1, icc_profile=profile)
  return buffer.getvalue()


def address(pixels: np.ndarray) -> str:
  """A data address with a picture (h, w, 3) uint8."""
  from PIL import Image

  if max(pixels.shape) <= EXACT:
    kind, content = 'png', png_bytes(pixels)
  else:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format='JPEG', quality=QUALITY, subsampling=0)
    kind, content = 'jpeg', buffer.getvalue()
  return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def shown(images: np.ndarray, most: int = LARGEST) -> list[str]:
  """Addresses of images (N, h, w, channels), clipped, with `most` pixels along the longer side."""
  return [address(pixels) for pixels in _fitted(to_bytes(images), most)]


def differences(original: np.ndarray, edited: np.ndarray) -> tuple[list[str], float]:
  """Addresses of difference maps, and the change that is shown brightest, from 0 (no change) to 2."""
  from matplotlib import colormaps

  change = strips.difference(original, edited)
  end = float(np.quantile(change, strips.FULL)) or float(change.max())
  palette = ramp(colormaps[colours.DIFFERENCES])
  heat = palette[np.rint(255 * np.clip(change / (end or 1), 0, 1)).astype(int)]
  return [address(pixels) for pixels in _fitted(heat, LARGEST)], end


def _fitted(pixels: np.ndarray, most: int) -> np.ndarray:
  h, w = pixels.shape[1:3]
  scale = most / max(h, w)
  return pixels if scale >= 1 else resized(pixels, (max(1, round(h * scale)), max(1, round(w * scale))))
