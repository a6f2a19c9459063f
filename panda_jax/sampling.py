"""What `run.py info` and `run.py sample` do: say what a generator is; write its images, latents and feature maps."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from panda_jax import pictures
from panda_jax.arrays import read_npy
from panda_jax.errors import InputError
from panda_jax.files import claimed, write_json
from panda_jax.generators.base import Compiled, checked_features, checked_layer
from panda_jax.generators.source import weights_digest
from panda_jax.generators.spaces import SPACES, latents_of, shapes
from panda_jax.labels import checked, each
from panda_jax.latents import header

BATCH_PIXELS = 1 << 19  # of images at a time: eight of 256 x 256
RECORD = 'sample.json'
ARRAYS = 'w.npy', 'wplus.npy', 'features.npy'  # that are not always written
MOST_NUMBERS = 10_000_000  # in a list of seeds or classes


def described(generator) -> str:
  """Family, sizes and layer table of a generator, as `run.py info` prints them."""
  arrays = [variable.get_value() for _, variable in nnx.to_flat_state(nnx.state(generator, nnx.Param))]
  classes = generator.num_classes or 'none'
  lines = [
    f'family      {generator.family}',
    f'image       {generator.resolution} x {generator.resolution}, {generator.image_channels} channels',
    f'z           {generator.z_dim}',
    f'w           {generator.w_dim or "none"}',
    f'classes     {classes}',
    f'parameters  {sum(x.size for x in arrays):,}',
    '',
    'layer  channels  height  width',
    *(f'{layer:5}  {c:8}  {h:6}  {w:5}' for layer, (c, h, w) in sorted(generator.layers.items())),
    '',
    'options',
  ]
  options = generator.options
  lines += [f'  {name} = {getattr(options, name)}' for name in options.__dataclass_fields__]
  return '\n'.join(lines)


def parsed_numbers(text: str, argument: str, most: int = MOST_NUMBERS) -> list[int]:
  """Whole numbers from '0,1,2', ranges as '0-99' among them.

  Raises:
    InputError: it is no such list, or there are more than `most`.
  """
  numbers: list[int] = []
  try:
    for piece in text.split(','):
      first, dash, last = piece.strip().partition('-')
      more = range(int(first), int(last) + 1) if dash else [int(first)]
      if len(numbers) + len(more) > most:
        raise InputError(argument, text, f'more than {most:,} of them', 'give fewer')
      numbers += more
  except (ValueError, OverflowError) as error:
    if isinstance(error, InputError):
      raise
    numbers = []
  if not numbers:
    raise InputError(argument, text, 'not a list of whole numbers', f'give --{argument}=0,1,2 or --{argument}=0-99')
  return numbers


def parsed_labels(text: str | None) -> np.ndarray | None:
  """Labels from '207,208', or from a .npy file of class indices (N,) or rows (N, classes); None for None.

  Raises:
    InputError: they are no labels, of whatever generator.
  """
  if text is None:
    return None
  return checked(read_npy(text, 'labels', (1, 2)) if text.endswith('.npy') else parsed_numbers(text, 'labels'))


class _Rows:
  """A .npy file (N, ...) float32 that is written a batch at a time and appears when it is whole.

  Not mapped into memory: there a disk that fills up ends the process without a word.
  """

  def __init__(self, path: Path, shape: tuple[int, ...]):
    self._path, self._partial = path, path.with_name(f'.{path.name}.partial')
    self._shape, self._file = shape, None

  def _begin(self) -> None:
    self._file = open(self._partial, 'wb')  # noqa: SIM115  closed by `finish` or `discard`
    if self._path.stem in SPACES:
      self._file.write(header(self._shape, self._path.stem))
    else:
      np.lib.format.write_array_header_1_0(self._file, {'descr': '<f4', 'fortran_order': False, 'shape': self._shape})

  def add(self, batch: np.ndarray) -> None:
    if self._file is None:
      self._begin()
    self._file.write(np.ascontiguousarray(batch, '<f4').tobytes())

  def finish(self) -> None:
    self._file.close()
    os.replace(self._partial, self._path)

  def discard(self) -> None:
    with contextlib.suppress(OSError):  # of what the disk has not taken before
      if self._file is not None:
        self._file.close()
    self._partial.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(out: Path) -> Iterator[Callable[[str, tuple[int, ...]], _Rows]]:
  """Files under `out`, all of them or none."""
  files: list[_Rows] = []

  def create(name: str, shape: tuple[int, ...]) -> _Rows:
    files.append(_Rows(out / name, shape))
    return files[-1]

  try:
    yield create
    for file in files:
      file.finish()
  finally:
    for file in files:
      file.discard()


def sample_into(
  out: str | os.PathLike,
  generator,
  array: np.ndarray,
  labels: np.ndarray | None = None,
  *,
  space: str = 'z',
  truncation: float = 1.0,
  truncation_layers: int | None = None,
  noise: str = 'const',
  noise_seed: int = 0,
  transform: np.ndarray | None = None,
  layer: int | None = None,
  features: np.ndarray | None = None,
  drop_rgb: bool = False,
  overwrite: bool = False,
  batch: int | None = None,
  on_samples: Callable[[str, int], None] = lambda name, n: None,
) -> dict[str, tuple[int, ...]]:
  """Runs a generator and writes what design section 7 lists into a folder.

  Args:
    out: folder. One that holds samples made with other settings is refused without `overwrite`.
    generator: see the protocol.
    array: samples in a space, see `spaces.latents_of`: for z the untruncated draws (N, z_dim).
    labels: (N,) class indices or (N, classes) rows; one is that of all samples.
    space: 'z', 'w' or 'wplus'.
    truncation, truncation_layers: as of `latents_of`.
    noise: 'const', 'none' or 'random', from `noise_seed`.
    transform: (3, 3), StyleGAN3 only.
    layer: split there: features.npy is written, and the images are those of the resumed run.
    features: (N, H, W, C), to resume from at `layer` instead of the generator's own.
    drop_rgb: forget the RGB accumulated before `layer`, as published PandA does.
    batch: samples at a time.

  Returns:
    {file name: shape} of the arrays written: images.npy always, wplus.npy with a mapping network, and w.npy unless w+
    was given; features.npy with `layer`. images.png shows them.

  Raises:
    InputError: an argument does not fit the generator, or files cannot be written.
  """
  out, N = Path(out), len(array)
  labels = each(labels, N)
  if features is not None and layer is None:
    raise InputError('features', 'given', 'the layer they belong to is not', 'give --layer')
  if drop_rgb and layer is None:
    raise InputError('drop_rgb', True, 'there is no layer to resume from', 'give --layer')
  if transform is not None:
    if not hasattr(generator, 'with_transform'):
      raise InputError('transform', 'given', 'only StyleGAN3 has a transform', 'leave it out')
    generator = generator.with_transform(transform)
  if layer is not None:
    layer = checked_layer(layer, generator.layers)
    if features is not None:
      features = np.asarray(checked_features(features, N, generator.layers[layer], layer, np.float32))
  settings = {
    'weights': weights_digest(generator).hexdigest(),
    'inputs': [_sha256(x) for x in (array, labels, transform, features)],
    'space': space,
    'truncation': truncation,
    'truncation_layers': truncation_layers,
    'noise': noise if noise != 'random' else f'random {noise_seed}',
    'layer': layer,
    'drop_rgb': drop_rgb,
  }
  run = Compiled(generator) if isinstance(generator, nnx.Module) else generator
  options = {'truncation': truncation, 'truncation_layers': truncation_layers}
  mapped = 'w' in shapes(generator)
  drawn = jax.random.key(noise_seed) if noise == 'random' else noise
  batch = min(N, batch or max(1, min(16, BATCH_PIXELS // generator.resolution**2)))
  written: dict[str, _Rows] = {}
  written_shapes: dict[str, tuple[int, ...]] = {}
  shown: list[np.ndarray] = []
  claim = claimed(out, RECORD, settings, 'other samples are', overwrite, marker='images.npy', keys=())
  with claim, writing(out) as create:

    def add(name: str, rows, count: int):
      rows = np.asarray(rows, np.float32)[:count]
      if name not in written:
        written_shapes[name] = (N, *rows.shape[1:])
        written[name] = create(name, written_shapes[name])
      written[name].add(rows)
      if name == 'images.npy' and sum(map(len, shown)) < pictures.MOST_IMAGES:
        shown.append(rows)

    for first in range(0, N, batch):
      count = min(batch, N - first)
      filled = np.minimum(first + np.arange(batch), N - 1)  # one program serves the last batch too
      given, labels_batch, there = array[filled], None if labels is None else labels[filled], space
      if mapped and space == 'z':  # by way of w, so that w.npy gives the same images bit for bit
        given, labels_batch, there = run.mapping(given, labels_batch), None, 'w'
      latents = latents_of(run, given, there, labels_batch, **options)
      if there == 'w':
        add('w.npy', given, count)
      if mapped:
        add('wplus.npy', latents.wplus, count)
      if layer is None:
        images = run(latents, noise=drawn)
      else:
        state = run.run_to(latents, layer, noise=drawn)
        if features is not None:
          state = state.replace(features=features[filled])
        add('features.npy', state.features, count)
        images = run.run_from(latents, state, layer, noise=drawn, drop_rgb=drop_rgb)
      add('images.npy', images, count)
      on_samples('sample', first + count)
    for name in {*ARRAYS} - {*written}:  # of other samples
      (out / name).unlink(missing_ok=True)
    pictures.draw_images(out / 'images.png', np.concatenate(shown))
    write_json(out / RECORD, settings)
  return written_shapes


def _sha256(array: np.ndarray | None) -> str | None:
  if array is None:
    return None
  array = np.ascontiguousarray(array)
  return hashlib.sha256(f'{array.shape} {array.dtype}'.encode() + array.tobytes()).hexdigest()
