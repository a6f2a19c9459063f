"""Photographs from files, as RGB of 8 bits: turned as the camera says, on white where they are transparent."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from panda_jax.errors import InputError
from panda_jax.files.access import read_bytes

ENDINGS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif')
LARGEST_FILE = 256 << 20  # bytes
MOST_PIXELS = 1 << 27  # some 134 megapixels, 400 MB
REMEDY = 'give a JPEG, PNG, WebP, BMP or TIFF file'


def read_photograph(path: str | os.PathLike) -> np.ndarray:
  """(H, W, 3) uint8 of a file.

  Raises:
    InputError: it cannot be read, is no photograph, holds several pictures, or has more than some 134 megapixels.
  """
  return decoded(read_bytes(path, 'images', REMEDY, LARGEST_FILE), Path(path).name)


def decoded(content: bytes, name: str) -> np.ndarray:
  """(H, W, 3) uint8 of the content of a file; `name` is for errors.

  Raises:
    InputError: as of `read_photograph`.
  """
  from PIL import Image, ImageOps

  try:
    with _quiet(), Image.open(io.BytesIO(content), formats=('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF')) as image:
      if image.width * image.height > MOST_PIXELS:
        raise Image.DecompressionBombError
      if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':
        raise InputError('images', name, f'it holds {image.n_frames} pictures', 'save one of them by itself')
      image.load()
      return _eight_bits(ImageOps.exif_transpose(image))
  except (InputError, MemoryError):
    raise
  except Image.DecompressionBombError as error:  # Pillow's own bound is twice as large
    problem = f'it has more than {MOST_PIXELS / 1e6:.0f} million pixels'
    raise InputError('images', name, problem, 'make it smaller') from error
  except Exception as error:  # Pillow raises what its decoders raise
    said = ' '.join(str(error).split())[:80]
    problem = 'it is no photograph' if 'cannot identify' in said else f'it is damaged ({said})'
    raise InputError('images', name, problem, REMEDY) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without what Pillow says of odd metadata, and of sizes, which are bounded here."""
  logger = logging.getLogger('PIL')
  level = logger.level
  logger.setLevel(logging.CRITICAL + 1)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield
  finally:
    logger.setLevel(level)


def _eight_bits(image) -> np.ndarray:
  """RGB of a Pillow image of any mode."""
  from PIL import Image

  if image.mode in ('I', 'F') or image.mode.startswith('I;16'):
    grey = np.asarray(image, np.float64)
    top = 65535.0 if image.mode != 'F' else max(1.0, float(grey.max(initial=0)))  # 16 bits are read as I or I;16
    grey = np.clip(np.nan_to_num(grey) / top * 255, 0, 255).round().astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
  if 'A' in image.getbands() or 'transparency' in image.info:
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, (255, 255, 255, 255))
    image = Image.alpha_composite(white, image)
  return np.asarray(image.convert('RGB'))


def listed(path: str | os.PathLike) -> list[Path]:
  """The file, or the photographs in a folder by name.

  Raises:
    InputError: there is no such path, or no photograph in the folder.
  """
  path = Path(path)
  if not os.path.exists(path):
    raise InputError('images', path, 'there is no such file or folder', 'give a photograph, or a folder of them')
  if not path.is_dir():
    return [path]
  found = sorted(x for x in path.iterdir() if x.suffix.lower() in ENDINGS and not x.name.startswith('.'))
  if not found:
    raise InputError('images', path, 'there is no photograph in it', f'give files that end in {", ".join(ENDINGS)}')
  return found
