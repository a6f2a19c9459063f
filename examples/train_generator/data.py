"""Images of a zip file or a folder as one array in memory, and batches that depend only on the seed."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from panda_jax.errors import InputError, refusal

ENDINGS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
LARGEST_FILE = 64 << 20  # bytes of one compressed image
LARGEST_SIDE = 4096
HELD_OUT = 8  # one photograph in 8 is never trained on
SAME = 8.0  # root mean square of the differences, in levels of 255
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
SOFTER = np.arange(9, dtype=np.float32) / 32  # weights of each neighbour in a low-pass, up to the binomial filter


class Images(NamedTuple):
  """The result of `read_images`.

  Attributes:
    pixels: (N, H, W, 3) uint8, in the order of the names.
    names: of the files, sorted.
    sha256: of the decoded pixels.
  """

  pixels: np.ndarray
  names: list[str]
  sha256: str


def read_images(path: str | os.PathLike, on_images: Callable[[str, int], None] = lambda name, n: None) -> Images:
  """Every image of a zip file, or of a folder and the folders below it, decoded to RGB.

  Args:
    path: of the file or folder.
    on_images: called with the number of images read.

  Raises:
    InputError: the path does not exist, has no image, or has images that are damaged, not square, not a power of two,
      or of several sizes; the text names one and gives their number.
  """
  path = Path(path)
  if not path.exists():
    raise InputError('data', path, 'there is no such file or folder', 'give a zip file or a folder of images')
  pixels, names = None, []
  for name, content in _folder(path) if path.is_dir() else _zipped(path):
    image = _decoded(path, name, content)
    if pixels is None:
      _check_size(path, name, image.shape)
      count = _count(path)
      pixels = np.empty((count, *image.shape), np.uint8)
    if image.shape != pixels.shape[1:]:
      here, first = (f'{shape[1]}x{shape[0]}' for shape in (image.shape, pixels.shape[1:]))
      problem = f'images of mixed sizes: {name} is {here}, {names[0]} is {first}'
      raise InputError('data', path, problem, 'crop them all to one size')
    pixels[len(names)] = image
    names.append(name)
    on_images('read', len(names))
  if pixels is None:
    raise InputError('data', path, 'there is no image in it', f'give files that end in {", ".join(ENDINGS)}')
  return Images(pixels, names, hashlib.sha256(pixels.data).hexdigest())


def _names(path: Path) -> list[str]:
  if path.is_dir():
    found = (file.relative_to(path).as_posix() for file in path.rglob('*') if file.is_file())
  else:
    try:
      with zipfile.ZipFile(path) as archive:
        found = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
      raise refusal('data', path, 'it is not a zip file', error, 'give a zip file or a folder') from error
  return sorted(name for name in found if name.lower().endswith(ENDINGS) and not Path(name).name.startswith('.'))


def _count(path: Path) -> int:
  return len(_names(path))


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
  for name in _names(path):
    try:
      yield name, (path / name).read_bytes()
    except OSError as error:
      raise refusal('data', path / name, 'it cannot be read', error) from error


def _zipped(path: Path) -> Iterator[tuple[str, bytes]]:
  names = _names(path)
  with zipfile.ZipFile(path) as archive:
    for name in names:
      if archive.getinfo(name).file_size > LARGEST_FILE:
        raise InputError('data', path, f'{name} unpacks to over {LARGEST_FILE >> 20} MB', 'leave it out')
      try:
        yield name, archive.read(name)
      except Exception as error:  # zipfile and zlib raise many kinds
        raise InputError('data', path, f'{name} cannot be unpacked ({error})', 'copy the file again') from error


def _decoded(path: Path, name: str, content: bytes) -> np.ndarray:
  try:
    with Image.open(io.BytesIO(content)) as image:
      if max(image.size) > LARGEST_SIDE:
        raise InputError('data', path, f'{name} is {image.size[0]} pixels wide', f'crop it to {LARGEST_SIDE} at most')
      return np.asarray(image.convert('RGB'))
  except InputError:
    raise
  except Exception as error:  # Pillow raises any error of its decoders
    said = ' '.join(str(error).split())[:120].replace(str(path), '')
    raise InputError('data', path, f'{name} cannot be decoded ({said})', 'replace or remove that file') from error


def _check_size(path: Path, name: str, shape: tuple[int, ...]) -> None:
  height, width, _ = shape
  if height != width or height < 8 or height & (height - 1):
    raise InputError(
      'data', path, f'{name} is {width}x{height}', 'crop the images to squares whose side is a power of two from 8'
    )


def photographs(pixels: np.ndarray) -> np.ndarray:
  """The photograph (N,) that each image (N, H, W, 3) shows: an index from 0, in the order of first appearance.

  Collections from the web have copies of photographs, re-encoded or cropped slightly differently. Images whose 8x8
  averages differ by less than `SAME` are one photograph, and so are chains of such images.
  """
  N, side = pixels.shape[:2]
  small = pixels.reshape(N, 8, side // 8, 8, side // 8, 3).mean(axis=(2, 4), dtype=np.float32).reshape(N, -1)
  squares = np.sum(small**2, axis=1)
  most = SAME**2 * small.shape[1]
  pairs = []
  for first in range(0, N, 1024):
    rows = small[first : first + 1024]
    distances = squares[first : first + 1024, None] + squares[None] - 2 * rows @ small.T
    i, j = np.nonzero(distances < most)
    pairs.append(np.stack([first + i, j]))
  i, j = np.concatenate(pairs, axis=1)
  _, labels = connected_components(coo_matrix((np.ones(len(i), bool), (i, j)), shape=(N, N)), directed=False)
  _, first, of = np.unique(labels, return_index=True, return_inverse=True)
  return np.argsort(np.argsort(first))[of]


def split(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Indices of the images to train on, and of one image for each held-out photograph: every eighth, in order.

  Args:
    shown: (N,) the photograph of each image, see `photographs`.
  """
  held = shown % HELD_OUT == HELD_OUT - 1
  _, first = np.unique(shown, return_index=True)
  return np.flatnonzero(~held), np.sort(first[held[first]])


def aliasing(luma: np.ndarray) -> np.ndarray:
  """The share of the detail of luma (N, H, W) at the finest scale: (N,), 0 for smooth images, 1/2 for white noise.

  It is the root mean square of the mixed second difference over that of the first differences. A photograph that is
  reduced without a low-pass keeps detail finer than its pixels: hairs become rows of dots.
  """
  down, across = np.diff(luma, axis=1), np.diff(luma, axis=2)
  mixed = np.diff(down, axis=2) / 2
  slopes = np.square(down[:, :, :-1]) + np.square(across[:, :-1])
  fine, all_of_it = (np.sqrt(x.mean(axis=(1, 2), dtype=np.float64)) for x in (np.square(mixed), slopes))
  return np.divide(fine, all_of_it, out=np.zeros_like(fine), where=all_of_it > 0)


def softened(pixels: np.ndarray, most: float) -> np.ndarray:
  """Images (N, H, W, 3) uint8 with an `aliasing` of `most`, each after the weakest low-pass that is sufficient.

  The strongest low-pass has the weights (1/4, 1/2, 1/4); some images stay above `most` even then.
  """
  found = pixels.copy()
  for first in range(0, len(pixels), 1024):
    rest = np.arange(first, min(first + 1024, len(pixels)))
    for weight in SOFTER:
      soft = _low_pass(_low_pass(pixels[rest].astype(np.float32), weight, 1), weight, 2)
      found[rest] = np.round(soft)
      rest = rest[aliasing(soft @ LUMA) > most]
      if not len(rest):
        break
  return found


def _low_pass(x: np.ndarray, weight: float, axis: int) -> np.ndarray:
  widths = [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)]
  before, here, after = (np.take(np.pad(x, widths, 'edge'), np.arange(x.shape[axis]) + i, axis) for i in range(3))
  return here + weight * (before + after - 2 * here)


class Batches:
  """Batches of a fixed size from shuffled epochs; batch number k is a function of the seed and k.

  An epoch has every photograph once, as one of the images that show it.

  Args:
    pixels: (N, H, W, 3) uint8.
    index: of the images to draw from.
    shown: (N,) the photograph of each image, see `photographs`.
    size: images of a batch.
    seed: of the order.
  """

  def __init__(self, pixels: np.ndarray, index: np.ndarray, shown: np.ndarray, size: int, seed: int):
    self._pixels, self._index, self._size, self._seed = pixels, index, size, seed
    self._shown = shown[index]
    self._length = len(np.unique(self._shown))
    self._orders: dict[int, np.ndarray] = {}

  def _order(self, epoch: int) -> np.ndarray:
    if epoch not in self._orders:
      order = np.random.default_rng((self._seed, epoch)).permutation(len(self._index))
      _, first = np.unique(self._shown[order], return_index=True)
      order = self._index[order[np.sort(first)]]
      self._orders = {**{e: o for e, o in self._orders.items() if e == epoch - 1}, epoch: order}
    return self._orders[epoch]

  def __getitem__(self, k: int) -> np.ndarray:
    """(size, H, W, 3) uint8."""
    positions = k * self._size + np.arange(self._size)
    epochs, places = np.divmod(positions, self._length)
    return self._pixels[[self._order(int(e))[p] for e, p in zip(epochs, places, strict=True)]]
