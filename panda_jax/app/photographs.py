"""Photographs of the explorer's users: read from a request, cropped by marked points or a box, and inverted.

They are held in memory only, see shelf.py. Letters: (H, W) the photograph, (h, w) the generator's picture.
"""

import base64
import dataclasses
import functools
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

from panda_jax.app.shelf import Shelf
from panda_jax.errors import InputError, brief
from panda_jax.generators.structure import plain
from panda_jax.inversion.encoder import encoder_of, load_encoder
from panda_jax.inversion.files import Inverted
from panda_jax.inversion.invert import Inverter
from panda_jax.inversion.photographs import decoded, in_channels, profile_of
from panda_jax.inversion.placement import Placement, boxed, known_points, numbers_of, pointed, whole
from panda_jax.inversion.recognition import Recognition, load_recognition, recognition_of
from panda_jax.workdir.finished_fit import FinishedFit
from panda_jax.workdir.suggestions import typed

LARGEST = 14 << 20  # bytes of a file; in base 64 it must fit into a message, see messages.py
MOST_PIXELS = 1 << 25  # 34 megapixels; several copies are in memory at a time
EVALUATIONS = 120  # so that the edited picture appears within 5 s
NOISE = 'none'  # as in the command
SHOWN = 640  # pixels of the longer side of the picture on which users mark points
LONGEST_NAME, LONGEST_NUMBERS = 60, 200  # characters
USE = '“Use this photo”'  # the button


Result = TypeVar('Result')


class Upload(NamedTuple):
  """A file as it arrived.

  Attributes:
    name: of the file, with only the characters that file names need.
    content: of the file.
    size: (H, W) of the photograph.
    shown: (h, w, 3) uint8, the photograph resized for the page.
  """

  name: str
  content: bytes
  size: tuple[int, int]
  shown: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Held(Inverted):
  """One photograph, inverted, whose file is in memory.

  Attributes:
    owner: the `Photographs` that it belongs to.
    content: of the file.
    seconds: that the inversion took.
    command: that makes the same inversion.
    known: whether the crop looks like the generator's samples; true if this cannot be checked.
  """

  owner: 'Photographs'
  content: bytes
  seconds: float
  command: str
  known: bool

  def photograph(self, i: int) -> np.ndarray:
    """The whole photograph (H, W, 3) uint8."""
    return _pixels(self.content, self.names[i])

  def profile(self, i: int) -> bytes | None:
    """The colour profile of the photograph, or None."""
    with _decoding:
      return profile_of(self.content)


def received(data: Any, name: str, most: int, argument: str, remedy: str) -> bytes:
  """The content of a file that the page sent: {'content': base 64, or None if it is too large}.

  Raises:
    InputError: it is too large, or did not arrive whole.
  """
  content = data.get('content') if isinstance(data, dict) else None
  if content is None or len(content := str(content)) > most * 4 // 3 + 4:
    raise InputError(argument, name, f'the file is larger than {most >> 20} MB', remedy)
  try:
    return base64.b64decode(content, validate=True)
  except ValueError as error:  # it is not base 64
    raise InputError(argument, name, 'it did not arrive whole', 'send it again') from error


def upload_of(data: Any) -> Upload:
  """A photograph from {'name', 'content', 'count': number of files}.

  Raises:
    InputError: there are several files, or it cannot be read, as of `photographs.decoded`.
  """
  data = data if isinstance(data, dict) else {}
  name, count = brief(data.get('name', ''), LONGEST_NAME), data.get('count', 1)
  if count != 1:
    raise InputError('photograph', name, 'several files were given', 'give one at a time')
  content = received(data, name, LARGEST, 'photograph', 'make it smaller, or use `panda-jax invert`')
  try:
    pixels = _pixels(content, name)
  except InputError as error:
    raise InputError('photograph', name, error.problem, error.remedy) from error
  return Upload(_file_name(name), content, pixels.shape[:2], _reduced(pixels))


_decoding = threading.Lock()  # decoding silences Pillow's warnings, for all threads


def _pixels(content: bytes, name: str) -> np.ndarray:
  with _decoding:
    return decoded(content, name, MOST_PIXELS)


def _points_of(opened: FinishedFit, size: tuple[int, int]) -> dict[str, tuple[float, float]]:
  """Points that are named in the generator's folder; {} if they cannot be used."""
  try:
    return known_points(opened.generator_folder, size)
  except InputError:
    return {}


def typed_numbers(text: Any) -> str:
  """The text of a field for numbers, shortened."""
  return str(text or '')[:LONGEST_NUMBERS].strip()


def marks_of(points: Any) -> list[tuple[float, float]]:
  """Points from 'x,y,x,y'; none if the text does not have this form."""
  try:
    found = numbers_of(typed_numbers(points), 'points')
  except InputError:
    return []
  return list(zip(found[::2], found[1::2], strict=True)) if len(found) % 2 == 0 else []


def _gone() -> InputError:
  return InputError('photograph', None, 'the server does not hold it, or no longer', 'give the file again')


def _file_name(name: str) -> str:
  """A name without characters that mean something in a path, a page or a shell."""
  return re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.') or 'photograph'


def _reduced(pixels: np.ndarray) -> np.ndarray:
  """A photograph (H, W, 3) with `SHOWN` pixels along its longer side; small ones are enlarged, so that marks show."""
  from PIL import Image

  H, W = pixels.shape[:2]
  scale = SHOWN / max(H, W)
  size = max(1, round(W * scale)), max(1, round(H * scale))
  return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=2))


def progress(work: Callable[[Callable[[str], None]], Result]) -> Generator[str, None, Result]:
  """Runs `work` in its own thread; yields the latest of its messages, and returns its result."""
  said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
  with ThreadPoolExecutor(1) as pool:
    future = pool.submit(work, said.put)
    future.add_done_callback(lambda done: said.put(None))
    while True:
      text = said.get()
      while text is not None and not said.empty():
        text = said.get()
      if text is None:
        return future.result()
      yield text


class Photographs:
  """The photographs of one fit. They share an inverter, which is made and compiled once.

  Args:
    opened: a fit with a generator.
    shelf: where they are held.
    labels: class of all photographs, as in a call of the inverter.
  """

  def __init__(self, opened: FinishedFit, shelf: Shelf, labels: np.ndarray | None = None):
    self.opened, self.shelf, self._labels = opened, shelf, labels
    self.size, self.channels = opened.image_size(), getattr(opened.generator, 'image_channels', 3)
    self.points = _points_of(opened, self.size)
    self._lock, self._ready = threading.Lock(), False  # the inverter takes one photograph at a time

  def hint(self, points: Any = '', box: Any = '') -> str:
    """What to do next with a photograph."""
    if typed_numbers(box) or len(self.points) < 2:
      return f'Drag a box, or leave it out for the largest crop in the middle; then press {USE}.'
    names, done = [brief(name, LONGEST_NAME) for name in self.points], len(marks_of(points))
    if done == 0:
      first, second = names[:2]
      return f'Mark the {first}, as you see it, then the {second}, to straighten the face; or drag a box around it.'
    if done == 1:
      return f'Now the {names[1]}.'
    return f'Press {USE}{f", or mark the {names[done]} too" if done < len(names) else ""}.'

  def marked(self, upload: Upload, points: Any, x: float, y: float) -> str:
    """The points and one more at (x, y) in [0, 1]; starts again if all are there or the text is not of points.

    Raises:
      InputError: the generator knows no points.
    """
    if len(self.points) < 2:
      raise InputError('points', None, 'this generator does not say where it has such points', 'drag a box')
    before = marks_of(points)
    before = before if len(before) < len(self.points) else []
    H, W = upload.size
    return ','.join(f'{round(value, 1):g}' for mark in (*before, (x * W, y * H)) for value in mark)

  def box(self, upload: Upload, ends: Sequence[tuple[float, float]]) -> str:
    """The largest box of the generator's shape inside the dragged rectangle, whose two corners are in [0, 1]."""
    H, W = upload.size
    (x, y), (right, bottom) = (np.array(end) * (W, H) for end in ends)
    h, w = self.size
    scale = min(abs(right - x) / w, abs(bottom - y) / h)
    left, top = (x if right > x else x - scale * w), (y if bottom > y else y - scale * h)
    return ','.join(f'{value:.6g}' for value in (left, top, scale * w, scale * h))

  @functools.cached_property
  def _inverter(self) -> Inverter:
    generator, folder = plain(self.opened.needed_generator()), self.opened.generator_folder
    path = None if folder is None else encoder_of(folder)
    encoder = None if path is None else load_encoder(path, self.opened.digest_weights())
    inverter = Inverter(generator, layer=self.opened.layer, encoder=encoder, noise=NOISE, evaluations=1)
    nothing = np.zeros((1, *self.size, self.channels), np.float32)
    inverter(nothing, self._labels)  # compiles everything
    self._known(nothing[0])
    inverter.evaluations, self._ready = EVALUATIONS, True
    return inverter

  @functools.cached_property
  def _recognition(self) -> Recognition | None:
    folder = self.opened.generator_folder
    path = None if folder is None else recognition_of(folder)
    return None if path is None else load_recognition(path, self.opened.digest_weights())

  def _known(self, crop: np.ndarray) -> bool:
    return self._recognition is None or bool(self._recognition.knows(crop[None])[0])

  def prepare(self) -> None:
    """Makes the inverter if there is none yet.

    Raises:
      InputError: photographs cannot be inverted with this generator.
    """
    with self._lock:
      self._inverter  # noqa: B018

  def upload(self, key: Any) -> Upload:
    """The upload of a key. Raises InputError if it is not held, or no longer."""
    found = self.shelf.get(key)
    if not isinstance(found, Upload):
      raise _gone()
    return found

  def held(self, key: Any) -> Held:
    """The inverted photograph of a key.

    Raises:
      InputError: it is not held, or no longer.
    """
    found = self.shelf.get(key)
    if not isinstance(found, Held) or found.owner is not self:
      raise _gone()
    return found

  def placement(self, size: tuple[int, int], points: Any = '', box: Any = '') -> Placement:
    """Where a crop lies in a photograph (H, W).

    Args:
      size: (H, W).
      points: 'x,y,x,y', where the generator's points lie in the photograph.
      box: 'x,y,width,height' in their place. Without both, the largest crop in the middle.

    Raises:
      InputError: as of `placement.pointed` and `placement.boxed`; both are given, or the generator knows no points.
    """
    points, box = typed_numbers(points), typed_numbers(box)
    if points and box:
      raise InputError('box', box, 'given together with points', 'clear one of them')
    if not box and not points:
      return whole(size, self.size)
    if points and len(self.points) < 2:
      raise InputError('points', points, 'this generator does not say where it has such points', 'give a box')
    try:
      if box:
        return boxed(numbers_of(box, 'box'), size, self.size)
      return pointed(numbers_of(points, 'points'), np.asarray([*self.points.values()]), size, self.size)
    except InputError as error:  # its remedy is for the command
      again = 'drag another box' if box else 'mark it again'
      raise InputError('marks', box or points, error.problem, f'press “Clear the marks” and {again}') from error

  def inverted(self, key: Any, points: Any, box: Any, said: Callable[[str], None] = lambda text: None) -> str:
    """The key of the inversion of an upload.

    Args:
      key: of the upload.
      points, box: as of `placement`.
      said: is called with the progress.

    Raises:
      InputError: as of `upload` and `placement`.
    """
    upload = self.upload(key)
    placement = self.placement(upload.size, points, box)
    crop = in_channels(placement.crop(_pixels(upload.content, upload.name)), self.channels)
    crop = np.round((crop + 1) * 127.5).astype(np.uint8)  # as the command takes it
    said('Waiting' if self._ready else 'Compiling what photographs need: half a minute or more, and only once')
    with self._lock:
      inverter, begun = self._inverter, time.perf_counter()
      found = inverter(
        crop[None], self._labels, on_evaluations=lambda stage, n: said(f'Matching the photograph: {stage}, step {n}')
      )
      known = self._known(crop)
      seconds = time.perf_counter() - begun
    flags = {'workdir': self.opened.folder, 'images': upload.name}
    flags |= {'points': typed_numbers(points), 'box': typed_numbers(box)}
    if self._labels is not None and self._labels.ndim == 1:
      flags['labels'] = ','.join(map(str, self._labels))
    flags |= {'recognition': None if known else 'off', 'evaluations': EVALUATIONS, 'out': 'DIR'}
    command = typed('invert', [f'--{name}={value}' for name, value in flags.items() if value])
    arrays = found.images, found.photographs, found.features, found.rgb, *found.skips
    size = len(upload.content) + sum(x.nbytes for x in arrays if x is not None)
    more = {'owner': self, 'content': upload.content, 'seconds': seconds, 'command': command, 'known': known}
    return self.shelf.put(Held(found, (upload.name,), (placement,), **more), size)
