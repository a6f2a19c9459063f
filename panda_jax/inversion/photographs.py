"""Photographs from files, as 8-bit RGB: rotated by their orientation tag, and on white where they are transparent."""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from panda_jax.errors import InputError, refusal
from panda_jax.files.access import read_bytes

ENDINGS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif')
FORMATS = 'JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF'
LARGEST_FILE = 256 << 20  # bytes
MOST_PIXELS = 1 << 27  # about 134 megapixels, 400 MB
REMEDY = 'give a JPEG, PNG, WebP, BMP or TIFF file'
LONGEST_NAME = 200  # bytes of a file's name: names of results are longer
ORIENTATION = 0x0112  # tag of the camera's orientation
TIFF = b'II*\0', b'MM\0*'  # first bytes of TIFF files


def read_photograph(path: str | os.PathLike) -> np.ndarray:
  """The photograph in a file, (H, W, 3) uint8.

  Raises:
    InputError: it cannot be read, is not a photograph, holds several pictures, or has more than about 134 megapixels.
  """
  return decoded(read_bytes(path, 'images', REMEDY, LARGEST_FILE), Path(path).name)


def decoded(content: bytes, name: str, most_pixels: int = MOST_PIXELS) -> np.ndarray:
  """The photograph in the content of a file, (H, W, 3) uint8; `name` is for errors.

  Raises:
    InputError: see `read_photograph`.
  """
  from PIL import Image

  try:
    with (
      _quiet(content.startswith(TIFF)),
      Image.open(io.BytesIO(content), formats=FORMATS) as image,
    ):
      if image.width * image.height > most_pixels:
        raise Image.DecompressionBombError
      if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':
        raise InputError('images', name, f'it holds {image.n_frames} pictures', 'save one of them by itself')
      image.load()
      return _eight_bits(_upright(image))
  except (InputError, MemoryError):
    raise
  except Image.DecompressionBombError as error:  # Pillow's own limit is twice as large
    problem = f'it has more than {most_pixels / 1e6:.0f} million pixels'
    raise InputError('images', name, problem, 'make it smaller') from error
  except Exception as error:  # Pillow passes on any error of its decoders
    said = ' '.join(str(error).split())[:80]
    problem = 'it is not a photograph' if 'cannot identify' in said else f'it is damaged ({said})'
    raise InputError('images', name, problem, REMEDY) from error


def read_profile(path: str | os.PathLike) -> bytes | None:
  """The colour profile (ICC) in a file, which defines the colours of RGB numbers; None if it has none for RGB.

  Raises:
    InputError: it cannot be read.
  """
  return profile_of(read_bytes(path, 'images', REMEDY, LARGEST_FILE))


def profile_of(content: bytes) -> bytes | None:
  """`read_profile` of the content of a file."""
  from PIL import Image

  try:
    with _quiet(content.startswith(TIFF)), Image.open(io.BytesIO(content), formats=FORMATS) as image:
      profile = image.info.get('icc_profile')
  except Exception:  # Pillow passes on any error of its decoders; `decoded` reports it
    return None
  return profile if isinstance(profile, bytes) and profile[16:20] == b'RGB ' else None


@contextlib.contextmanager
def _quiet(tiff: bool) -> Iterator[None]:
  """Silences Pillow's warnings about odd metadata and about sizes, which are limited here, and libtiff's output."""
  logger = logging.getLogger('PIL')
  level = logger.level
  logger.setLevel(logging.CRITICAL + 1)
  try:
    with warnings.catch_warnings(), _no_standard_error() if tiff else contextlib.nullcontext():
      warnings.simplefilter('ignore')
      yield
  finally:
    logger.setLevel(level)


@contextlib.contextmanager
def _no_standard_error() -> Iterator[None]:
  """Silences the standard error of C libraries."""
  try:
    kept = os.dup(2)
  except OSError:  # it is closed
    yield
    return
  try:
    sys.stderr.flush()
    with open(os.devnull, 'wb') as nowhere:
      os.dup2(nowhere.fileno(), 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)


def _upright(image):
  """A Pillow image rotated by its orientation tag; unchanged if the tag cannot be read."""
  from PIL import Image

  turns = Image.Transpose
  try:
    said = image.getexif().get(ORIENTATION)
  except Exception:  # damaged metadata raises any error; the pixels are intact
    said = None
  turned = {
    2: turns.FLIP_LEFT_RIGHT,
    3: turns.ROTATE_180,
    4: turns.FLIP_TOP_BOTTOM,
    5: turns.TRANSPOSE,
    6: turns.ROTATE_270,
    7: turns.TRANSVERSE,
    8: turns.ROTATE_90,
  }.get(said if isinstance(said, int) else 1)
  return image if turned is None else image.transpose(turned)


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


def in_channels(crop: np.ndarray, channels: int) -> np.ndarray:
  """RGB (h, w, 3) in the channels of a generator: 3, or 1 for grey."""
  return crop if channels == 3 else crop @ np.array([[0.299], [0.587], [0.114]], crop.dtype)


def listed(path: str | os.PathLike) -> list[Path]:
  """The file itself, or the photographs in a folder sorted by name.

  Raises:
    InputError: there is no such path, it cannot be read, or the folder has no photograph.
  """
  path = Path(path)
  if not os.path.exists(path):
    raise InputError('images', path, 'there is no such file or folder', 'give a photograph, or a folder of them')
  if not path.is_dir():
    return [path]
  try:
    found = sorted(x for x in path.iterdir() if x.suffix.lower() in ENDINGS and not x.name.startswith('.'))
  except OSError as error:
    raise refusal('images', path, 'it cannot be read', error) from error
  if not found:
    raise InputError('images', path, 'there is no photograph in it', f'give files that end in {", ".join(ENDINGS)}')
  return found


def checked_name(path: Path) -> str:
  """The name of a file, which identifies its photograph.

  Raises:
    InputError: it is not text, or too long for the names of results.
  """
  try:
    size = len(path.name.encode())
  except UnicodeEncodeError as error:
    raise InputError('images', path.name, 'its name is not UTF-8 text', 'rename it') from error
  if size > LONGEST_NAME:
    raise InputError('images', path.name, f'its name has {size} bytes', f'give it one of {LONGEST_NAME} at most')
  return path.name
