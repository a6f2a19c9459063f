"""A small network from pictures to latents: it gives the start of an inversion, or an inversion in milliseconds.

It is trained on a generator's own samples (examples/train_encoder) and stored as encoder.npz beside the generator.json
of its generator. Letters as in coordinates.py; pictures are (N, h, w, channels).
"""

import dataclasses
import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import npz_bytes, read_npz
from panda_jax.files.records import parsed_json
from panda_jax.generators.compatibility import List, value_of
from panda_jax.generators.disk import file_beside
from panda_jax.generators.layers import Dense, conv, leaky, per_channel

FILE = 'encoder.npz'
REMEDY = 'train it again: python -m examples.train_encoder'
FORM = {'sha256': str, 'size': [int], 'channels': int, 'widths': [int], 'hidden': int, 'output': [int]}
GAIN = math.sqrt(2)
MOST_NUMBERS = 1 << 26
LARGEST_WIDTH = 4096


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
  """Sizes of an encoder.

  Attributes:
    size: (h, w) that pictures are reduced to.
    channels: of a picture.
    widths: channels of the blocks, each of which halves the picture.
    hidden: width of the last layer but one.
    output: (L, D) of w+, or (D,) of z.
  """

  size: tuple[int, int]
  channels: int
  widths: tuple[int, ...]
  hidden: int
  output: tuple[int, ...]


class _Block(nnx.Module):
  """3x3 convolution, leaky ReLU, means over 2x2 pixels."""

  def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
    self.weight = nnx.Param(jax.random.normal(rngs.params(), (3, 3, inputs, outputs)))
    self.bias = nnx.Param(jnp.zeros((outputs,)))
    self.gain = 1 / math.sqrt(9 * inputs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = leaky(conv(x, self.weight[...] * self.gain) + per_channel(self.bias[...])) * GAIN
    return reduced(x, (x.shape[1] // 2, x.shape[2] // 2))


class Encoder(nnx.Module):
  """Pictures (N, h, w, channels) from -1 to 1 to coordinates (N, L, D) or (N, D)."""

  def __init__(self, options: EncoderOptions, rngs: nnx.Rngs):
    self.options = options
    widths = (options.channels, *options.widths)
    self.blocks = List([_Block(a, b, rngs) for a, b in itertools.pairwise(widths)])
    cells = math.prod(side >> len(options.widths) for side in options.size)
    self.dense = Dense(cells * widths[-1], options.hidden, rngs)
    self.last = Dense(options.hidden, math.prod(options.output), rngs)

  def __call__(self, images: jax.Array) -> jax.Array:
    x = reduced(images, self.options.size)
    for block in self.blocks:
      x = block(x)
    x = leaky(self.dense(x.reshape(len(x), -1))) * GAIN
    return self.last(x).reshape(len(x), *self.options.output)


def reduced(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """(N, h, w, c) to (N, *size, c) by means over cells; interpolated if the sides are not multiples."""
  N, h, w, c = x.shape
  if (h, w) == size:
    return x
  if h % size[0] or w % size[1]:
    return jax.image.resize(x, (N, *size, c), 'linear')
  return x.reshape(N, size[0], h // size[0], size[1], w // size[1], c).mean(axis=(2, 4))


def save_encoder(encoder: Encoder, path: str | os.PathLike, sha256: str) -> None:
  """Writes an encoder for the generator with that hash, with weights as float16.

  Raises:
    InputError: it cannot be written.
  """
  arrays = {_dotted(path): np.asarray(value_of(v), np.float16) for path, v in nnx.to_flat_state(nnx.state(encoder))}
  options = {name: list(x) if isinstance(x, tuple) else x for name, x in vars(encoder.options).items()}
  write_atomically(path, npz_bytes(description=np.asarray(json.dumps({'sha256': sha256, **options})), **arrays), 'out')


def load_encoder(path: str | os.PathLike, sha256: str | None = None) -> Encoder:
  """Reads what `save_encoder` wrote.

  Args:
    path: of the file.
    sha256: of the generator that it must belong to; None for any.

  Raises:
    InputError: it is missing or damaged, or belongs to another generator.
  """
  data = read_npz(path, 'encoder', texts=['description'], packed=False, remedy=REMEDY)
  try:
    said = parsed_json(str(data.pop('description', '')), FORM)
    options = EncoderOptions(**{k: tuple(x) if isinstance(x, list) else x for k, x in said.items() if k != 'sha256'})
    _check(options, data)
    abstract = nnx.eval_shape(lambda: Encoder(options, nnx.Rngs(0)))
    graphdef, state = nnx.split(abstract)
    flat = []
    for name, variable in nnx.to_flat_state(state):
      array = data.pop(_dotted(name), None)
      if array is None or array.shape != value_of(variable).shape:
        raise ValueError(f'{_dotted(name)} is missing or of another shape')
      flat.append((name, variable.replace(jnp.asarray(array, jnp.float32))))
    if data:
      raise ValueError(f'it holds {min(data)} besides')
  except ValueError as error:
    problem = error.problem if isinstance(error, InputError) else str(error)
    raise InputError('encoder', path, f'it is damaged ({problem})', REMEDY) from error
  if sha256 is not None and said['sha256'] != sha256:
    raise InputError('encoder', path, 'it belongs to another generator', REMEDY)
  return nnx.merge(graphdef, nnx.from_flat_state(flat))


def _check(options: EncoderOptions, arrays: dict[str, np.ndarray]) -> None:
  """Raises ValueError unless the sizes are plausible, so that a small file cannot create large arrays."""
  numbers = (*options.size, options.channels, *options.widths, options.hidden, *options.output)
  blocks, least = len(options.widths), min(options.size, default=0)
  if len(options.size) != 2 or not 1 <= len(options.output) <= 2 or not 1 <= blocks <= 12 or least >> blocks < 1:
    raise ValueError('its sizes are not those of an encoder')
  if min(numbers) < 1 or max(numbers) > LARGEST_WIDTH * 8 or sum(x.size for x in arrays.values()) > MOST_NUMBERS:
    raise ValueError('its sizes are out of bounds')


def encoder_of(generator: str | os.PathLike) -> Path | None:
  """The encoder file in a generator's folder, or None."""
  return file_beside(generator, FILE)


def sizes_for(generator: Any, output: tuple[int, ...]) -> EncoderOptions:
  """Options of an encoder for a generator: pictures of about 64 pixels, halved until they have four."""
  h, w = generator.image_size
  factor = max(1, round(min(h, w) / 64))
  size = max(4, h // factor), max(4, w // factor)
  count = max(1, int(math.log2(min(size))) - 2)
  return EncoderOptions(size, generator.image_channels, (32, 64, 96, 128, 160)[:count], 128, output)


def _dotted(path) -> str:
  return '.'.join(map(str, path))
