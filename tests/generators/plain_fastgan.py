"""A second FastGAN, in numpy and float64, on the tensors of a file by their names in it."""

import math

import numpy as np

from tests.generators.checkpoints import Maker
from tests.generators.reference_numpy import bias, correlate, doubled, doubles, unit

MOST = 256  # pixels; blocks of smaller maps are in every file


class Arrays(Maker):
  """Random arrays; the stored vectors of the spectral norms are not singular vectors."""

  def normed(self, key, *shape, axis=0, scale=1.0):
    rows, columns = shape[axis], math.prod(shape) // shape[axis]
    weight = scale * self.rng.standard_normal(shape)
    u, v = (np.abs(self.rng.standard_normal(length)) + 0.1 for length in (rows, columns))
    norm = u @ np.moveaxis(weight, axis, 0).reshape(rows, columns) @ v
    u *= scale * math.sqrt(columns) / norm  # keeps the size of the features
    for end, array in (('orig', weight), ('u', u), ('v', v)):
      self.arrays[f'{key}.weight_{end}'] = np.asarray(array, np.float32)

  def batch_norm(self, key, channels):
    self.normal(f'{key}.weight', channels, scale=0.3, about=1)
    self.normal(f'{key}.bias', channels, scale=0.3)
    self.statistics(f'{key}.running', channels)
    self.arrays[f'{key}.num_batches_tracked'] = np.asarray(7, np.int64)

  def statistics(self, key, channels):
    self.normal(f'{key}_mean', channels, scale=0.3)
    self.arrays[f'{key}_var'] = self.rng.uniform(0.5, 2, channels).astype(np.float32)

  def class_norm(self, key, channels, embed):
    for name in ('gain', 'bias'):
      self.normed(f'{key}.{name}', channels, embed, scale=0.5)
      self.normal(f'{key}.{name}.bias', channels, scale=0.3)
    self.statistics(f'{key}.stored', channels)


def arrays(resolution=64, widths=(5, 4, 3, 4, 3, 2, 2), convolutions=(2, 2, 2, 2, 2, 2), z_dim=6, **variant) -> dict:
  """A state dict with random numbers.

  Args:
    resolution: of the image.
    widths: of the map of each size from 4x4, at least to 256x256: the code makes these at any resolution.
    convolutions: 1 or 2, for each map from 8x8.
    z_dim: numbers in z.
    variant: classes of a conditional one; channels; seed.
  """
  m, classes, prefix = Arrays(variant.get('seed', 0)), variant.get('classes', 0), 'synthesis.'
  m.normed(f'{prefix}init.init.0', z_dim, 2 * widths[0], 4, 4, axis=1)
  m.batch_norm(f'{prefix}init.init.1', 2 * widths[0])
  for i, count in enumerate(convolutions, 1):
    C, size = widths[i], 4 * 2**i
    block = f'{prefix}feat_{size}'
    for j in range(count):
      inputs = C if j else widths[i - 1]
      if classes:
        end = str(j + 1) if count == 2 else ''
        m.normed(f'{block}.conv{end}', 2 * C, inputs, 3, 3)
        m.class_norm(f'{block}.bn{end}', 2 * C, z_dim)
      else:
        first = 1 + 4 * j
        m.normed(f'{block}.{first}', 2 * C, inputs, 3, 3)
        m.batch_norm(f'{block}.{first + count}', 2 * C)
        if count == 2:
          m.normal(f'{block}.{first + 1}.weight', 1)
    if classes and count == 2:
      m.normal(f'{block}.noise.weight', 1)
    if 64 <= size <= 512:
      m.normed(f'{prefix}se_{size}.main.1', C, widths[i - 4], 4, 4)
      m.normed(f'{prefix}se_{size}.main.3', C, C, 1, 1)
  if classes:
    m.normal(f'{prefix}embed.weight', classes, z_dim)
  channels = variant.get('channels', 3)
  m.normed(f'{prefix}to_big', channels, widths[int(math.log2(resolution)) - 2], 3, 3, scale=0.3)
  m.normal(f'{prefix}to_big.bias', channels, scale=0.2)
  return m.arrays


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def glu(x):
  value, gate = np.split(x, 2, axis=1)
  return value * sigmoid(gate)


class Plain:
  """The network of a state dict.

  Args:
    state: the arrays of a file.
    resolution: of the image.
    noise: the maps (N, 1, h, w) in the order in which they are used; None for none.
  """

  def __init__(self, state: dict, resolution: int, noise: list | None = None):
    self.a, self.resolution, self.noise = doubles(state), resolution, noise

  def weight(self, key, axis=0):
    original = self.a[f'{key}.weight_orig']
    matrix = np.moveaxis(original, axis, 0).reshape(original.shape[axis], -1)
    return original / (self.a[f'{key}.weight_u'] @ matrix @ self.a[f'{key}.weight_v'])

  def norm(self, key, x, embedding):
    a, kind = self.a, 'stored' if f'{key}.stored_mean' in self.a else 'running'
    y = (x - bias(a[f'{key}.{kind}_mean'])) / np.sqrt(bias(a[f'{key}.{kind}_var']) + 1e-5)
    if kind == 'running':
      return y * bias(a[f'{key}.weight']) + bias(a[f'{key}.bias'])
    gain, offset = (embedding @ self.weight(f'{key}.{n}').T + a[f'{key}.{n}.bias'] for n in ('gain', 'bias'))
    return y * (1 + gain[:, :, None, None]) + offset[:, :, None, None]

  def noisy(self, key, x):
    if self.noise is None:
      return x
    drawn = self.noise[self.used]
    self.used += 1
    return x + self.a[f'{key}.weight'] * drawn

  def block(self, key, x, embedding):
    x = doubled(x)
    places = {
      '5': (('1', '2', '3'), ('5', '6', '7')),
      '1': (('1', None, '2'),),
      'conv2': (('conv1', 'noise', 'bn1'), ('conv2', 'noise', 'bn2')),
      'conv': (('conv', None, 'bn'),),
    }
    kind = next(name for name in places if f'{key}.{name}.weight_orig' in self.a)
    for conv, noise, norm in places[kind]:
      x = correlate(x, self.weight(f'{key}.{conv}'), 1)
      x = self.noisy(f'{key}.{noise}', x) if noise else x
      x = glu(self.norm(f'{key}.{norm}', x, embedding))
    return x

  def gate(self, key, small):
    n, c, height, width = small.shape
    x = small.reshape(n, c, 4, height // 4, 4, width // 4).mean(axis=(3, 5))
    x = correlate(x, self.weight(f'{key}.main.1'), 0)
    return sigmoid(correlate(x * sigmoid(x), self.weight(f'{key}.main.3'), 0))

  def run(self, z, labels=None) -> dict:
    """'image' and 'features' {layer: array}, NCHW."""
    self.used = 0
    embedding = None if labels is None else self.a['synthesis.embed.weight'][labels]
    first = self.weight('synthesis.init.init.0', 1)
    x = np.einsum('nz,zoij->noij', unit(np.asarray(z, np.float64)), first)
    maps = {4: glu(self.norm('synthesis.init.init.1', x, None))}
    size = 4
    while size < self.resolution:
      x, size = self.block(f'synthesis.feat_{2 * size}', maps[size], embedding), 2 * size
      maps[size] = x * self.gate(f'synthesis.se_{size}', maps[size // 16]) if 64 <= size <= 512 else x
    image = correlate(maps[size], self.weight('synthesis.to_big'), 1) + bias(self.a['synthesis.to_big.bias'])
    return {'image': image, 'features': dict(enumerate(maps.values(), 1))}
