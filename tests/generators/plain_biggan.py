"""A second BigGAN-deep, in numpy and float64, as simple as possible.

It uses the tensors of a file by their names in it, and shares no code with the package.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def random_checkpoint(rng: np.random.Generator, config: dict) -> dict[str, np.ndarray]:
  """A state dict with random numbers everywhere; the stored vectors of the spectral norms are not singular vectors."""
  state, ch, z = {}, config['channel_width'], config['z_dim']

  def put(name, *shape, scale=1.0):
    state[name] = (scale * rng.standard_normal(shape)).astype(np.float32)

  def normed(name, *shape):
    columns = math.prod(shape[1:])
    put(f'{name}.weight_orig', *shape)
    for letter, length in (('u', shape[0]), ('v', columns)):
      vector = np.abs(rng.standard_normal(length)) + 0.1
      state[f'{name}.weight_{letter}'] = (vector / np.linalg.norm(vector)).astype(np.float32)
    state[f'{name}.weight_orig'] += np.float32(2 / math.sqrt(columns))  # so that no norm is close to zero

  def batch_norm(name, channels):
    put(f'{name}.running_means', config['n_stats'], channels, scale=0.5)
    state[f'{name}.running_vars'] = rng.uniform(0.5, 2, (config['n_stats'], channels)).astype(np.float32)

  put('embeddings.weight', z, config['num_classes'])
  normed('generator.gen_z', 4 * 4 * 16 * ch, 2 * z)
  put('generator.gen_z.bias', 4 * 4 * 16 * ch)
  entry = 0
  for i, (_, inputs, outputs) in enumerate(config['layers']):
    C = ch * inputs
    if i == config['attention_layer_position']:
      key = f'generator.layers.{entry}'
      for name, out, into in (('theta', C // 8, C), ('phi', C // 8, C), ('g', C // 2, C), ('o_conv', C, C // 2)):
        normed(f'{key}.snconv1x1_{name}', out, into, 1, 1)
      put(f'{key}.gamma', 1)
      entry += 1
    key, middle = f'generator.layers.{entry}', C // 4
    widths = [C, middle, middle, middle, ch * outputs]
    for j, size in enumerate((1, 3, 3, 1)):
      batch_norm(f'{key}.bn_{j}', widths[j])
      normed(f'{key}.bn_{j}.scale', widths[j], 2 * z)
      normed(f'{key}.bn_{j}.offset', widths[j], 2 * z)
      normed(f'{key}.conv_{j}', widths[j + 1], widths[j], size, size)
      put(f'{key}.conv_{j}.bias', widths[j + 1])
    entry += 1
  batch_norm('generator.bn', ch)
  put('generator.bn.weight', ch)
  put('generator.bn.bias', ch)
  normed('generator.conv_to_rgb', ch, ch, 3, 3)
  put('generator.conv_to_rgb.bias', ch)
  return state


class Plain:
  """The network of a state dict and its config.json."""

  def __init__(self, state: dict[str, np.ndarray], config: dict):
    self.state = {key: np.asarray(value, np.float64) for key, value in state.items()}
    self.config = config

  def weight(self, key: str) -> np.ndarray:
    original, u, v = (self.state[f'{key}.weight_{name}'] for name in ('orig', 'u', 'v'))
    return original / (u @ original.reshape(len(u), -1) @ v)

  def statistics(self, rows: np.ndarray, truncation: float) -> np.ndarray:
    fraction, row = math.modf(truncation / (1.0 / (self.config['n_stats'] - 1)))
    row = int(row)
    if fraction == 0:
      return rows[row]
    return rows[row] * fraction + rows[row + 1] * (1 - fraction)

  def norm(self, key: str, x: np.ndarray, truncation: float, condition: np.ndarray | None) -> np.ndarray:
    mean = self.statistics(self.state[f'{key}.running_means'], truncation)[None, :, None, None]
    variance = self.statistics(self.state[f'{key}.running_vars'], truncation)[None, :, None, None]
    if condition is None:
      weight, bias = (self.state[f'{key}.{name}'][None, :, None, None] for name in ('weight', 'bias'))
    else:
      weight = 1 + (condition @ self.weight(f'{key}.scale').T)[:, :, None, None]
      bias = (condition @ self.weight(f'{key}.offset').T)[:, :, None, None]
    return (x - mean) / np.sqrt(variance + self.config['eps']) * weight + bias

  def conv(self, key: str, x: np.ndarray) -> np.ndarray:
    kernel = self.weight(key)
    p = kernel.shape[2] // 2
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))), kernel.shape[2:], axis=(2, 3))
    y = np.einsum('nihwab,oiab->nohw', windows, kernel, optimize=True)
    bias = self.state.get(f'{key}.bias')
    return y if bias is None else y + bias[None, :, None, None]

  def block(self, key: str, up: bool, narrower: bool, x, truncation, condition) -> np.ndarray:
    y = x
    for j in range(4):
      y = np.maximum(self.norm(f'{key}.bn_{j}', y, truncation, condition), 0)
      if j == 1 and up:
        y = y.repeat(2, axis=2).repeat(2, axis=3)
      y = self.conv(f'{key}.conv_{j}', y)
    short = x[:, : x.shape[1] // 2] if narrower else x
    return y + (short.repeat(2, axis=2).repeat(2, axis=3) if up else short)

  def attention(self, key: str, x: np.ndarray) -> np.ndarray:
    N, _, H, W = x.shape

    def pooled(name):
      y = self.conv(f'{key}.snconv1x1_{name}', x)
      quarters = [y[:, :, a::2, b::2] for a in (0, 1) for b in (0, 1)]
      return np.max(quarters, axis=0).reshape(N, -1, H * W // 4)

    theta = self.conv(f'{key}.snconv1x1_theta', x).reshape(N, -1, H * W)
    scores = np.einsum('ncp,ncq->npq', theta, pooled('phi'))
    scores = np.exp(scores - scores.max(2, keepdims=True))
    scores /= scores.sum(2, keepdims=True)
    mixed = np.einsum('ncq,npq->ncp', pooled('g'), scores).reshape(N, -1, H, W)
    return x + self.state[f'{key}.gamma'] * self.conv(f'{key}.snconv1x1_o_conv', mixed)

  def features(self, z: np.ndarray, labels: np.ndarray, truncation: float) -> list[np.ndarray]:
    """The feature maps (N, C, H, W) before and after each entry, and last the image; z is given untruncated."""
    condition = np.concatenate([z * truncation, labels @ self.state['embeddings.weight'].T], axis=1)
    key = 'generator.gen_z'
    x = condition @ self.weight(key).T + self.state[f'{key}.bias']
    x = x.reshape(len(z), 4, 4, -1).transpose(0, 3, 1, 2)
    maps, entry = [x], 0
    for i, (up, inputs, outputs) in enumerate(self.config['layers']):
      if i == self.config['attention_layer_position']:
        maps.append(self.attention(f'generator.layers.{entry}', maps[-1]))
        entry += 1
      maps.append(self.block(f'generator.layers.{entry}', up, inputs != outputs, maps[-1], truncation, condition))
      entry += 1
    x = np.maximum(self.norm('generator.bn', maps[-1], truncation, None), 0)
    return [*maps, np.tanh(self.conv('generator.conv_to_rgb', x)[:, :3])]
