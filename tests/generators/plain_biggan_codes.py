"""A second BigGAN of BigGAN-PyTorch and of PyTorch-StudioGAN, in numpy and float64, as simple as possible.

It uses the tensors of a file by their names in it, channels first and every step in the order of the original, and
shares no code with the package. `random_checkpoint` makes such tensors; its spectral norms are not at a fixed point.
"""

import dataclasses
import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


@dataclasses.dataclass(frozen=True)
class Network:
  """A small network of one of the codes.

  Attributes:
    code: 'ajbrock', 'studiogan', 'deep_legacy' or 'deep_studiogan'.
    widths: of the maps from the first to the last; the deep ones have two blocks for each step.
    attention: for each attention, the number of blocks before it.
    chunk: numbers of z that the first linear map sees.
    shared: numbers of the embedding of a class; 0 for none.
    classes: 0 for an unconditional network.
    split: whether blocks see a piece of z.
    normed: whether weights are under spectral norms.
    own_norm: whether batch norms are `myBN`, ajbrock's own.
    eps: of the batch norms in blocks.
    channels: of the image.
  """

  code: str = 'ajbrock'
  widths: tuple[int, ...] = (16, 8, 8)
  attention: tuple[int, ...] = (1,)
  chunk: int = 3
  shared: int = 4
  classes: int = 5
  split: bool = True
  normed: bool = True
  own_norm: bool = False
  eps: float | None = None
  channels: int = 3

  @property
  def deep(self) -> bool:
    return self.code.startswith('deep')

  @property
  def blocks(self) -> list[tuple[bool, int, int]]:
    """(up, in, out) of each block."""
    found = []
    for before, after in zip(self.widths[:-1], self.widths[1:], strict=True):
      found += [(False, before, before)] if self.deep else []
      found.append((True, before, after))
    return found

  @property
  def z_dim(self) -> int:
    return self.chunk * (len(self.blocks) + 1) if self.split and not self.deep else self.chunk

  @property
  def condition(self) -> int:
    """Columns of the linear maps from the condition of a block."""
    if self.code == 'ajbrock' and not self.shared:
      return self.classes
    return self.shared + (self.chunk if self.split else 0)


NAMES = {
  'ajbrock': ('linear', 'output_layer.0', 'output_layer.2', 'conv', 'conv_sc', ('theta', 'phi', 'g', 'o', 'gamma')),
  'studiogan': (
    'linear0',
    'bn4',
    'conv2d5',
    'conv2d',
    'conv2d0',
    ('conv1x1_theta', 'conv1x1_phi', 'conv1x1_g', 'conv1x1_attn', 'sigma'),
  ),
}


def names_of(network: Network) -> tuple:
  return NAMES['ajbrock' if network.code == 'ajbrock' else 'studiogan']


def entries(network: Network):
  """(key, block or None for an attention, width of the input maps)."""
  found, ours = [], network.code == 'ajbrock'
  if 0 in network.attention:
    assert not ours
    found.append((f'blocks.{len(found)}.0', None, network.widths[0]))
  for b, block in enumerate(network.blocks):
    found.append((f'blocks.{b if ours else len(found)}.0', block, block[1]))
    if b + 1 in network.attention:
      found.append((f'blocks.{b}.1' if ours else f'blocks.{len(found)}.0', None, block[2]))
  return found


def random_checkpoint(rng: np.random.Generator, network: Network) -> dict[str, np.ndarray]:
  """A state dict with random numbers everywhere."""
  state, ours = {}, network.code == 'ajbrock'
  linear, last_norm, last_conv, conv, short, attention = names_of(network)

  def put(name, *shape, scale=1.0):
    state[name] = np.asarray(scale * rng.standard_normal(shape), np.float32)

  def weight(name, *shape):
    columns = math.prod(shape[1:])
    value = np.asarray(rng.standard_normal(shape) / math.sqrt(columns), np.float32)
    if not network.normed:
      state[f'{name}.weight'] = value
      return
    state[f'{name}.weight' if ours else f'{name}.weight_orig'] = value + np.float32(2 / math.sqrt(columns))
    u, v = (np.asarray(np.abs(rng.standard_normal(n)) + 0.1, np.float32) for n in (shape[0], columns))
    if ours:
      state[f'{name}.u0'], state[f'{name}.sv0'] = u[None], np.asarray([7], np.float32)
    else:
      state[f'{name}.weight_u'], state[f'{name}.weight_v'] = u / np.linalg.norm(u), 1.1 * v / np.linalg.norm(v)

  def statistics(name, mean, variance, channels):
    put(f'{name}.{mean}', channels, scale=0.5)
    state[f'{name}.{variance}'] = rng.uniform(2, 9, channels).astype(np.float32)

  def batch_norm(name, channels):
    for part in ('gain', 'bias'):
      if ours and not network.shared:
        put(f'{name}.{part}.weight', network.classes, channels, scale=0.3)
      else:
        weight(f'{name}.{part}', channels, network.condition)
    statistics(name, *_statistics(network), channels)
    if network.own_norm:
      state[f'{name}.bn.accumulation_counter'] = np.zeros(1, np.float32)
    elif not ours:
      state[f'{name}.bn.num_batches_tracked'] = np.asarray(7, np.int64)

  if network.shared and network.classes:
    put('shared.weight', network.classes, network.shared)
  seen = network.chunk + (network.shared if network.deep else 0)
  weight(linear, 16 * network.widths[0], seen)
  put(f'{linear}.bias', 16 * network.widths[0])
  for key, block, C in entries(network):
    if block is None:
      theta, phi, g, o, gamma = attention
      for name, out, into in ((theta, C // 8, C), (phi, C // 8, C), (g, C // 2, C), (o, C, C // 2)):
        weight(f'{key}.{name}', out, into, 1, 1)
      put(f'{key}.{gamma}', *(() if ours else (1,)))
      continue
    _, inputs, outputs = block
    maps = [inputs, inputs // 4, inputs // 4, inputs // 4, outputs] if network.deep else [inputs, outputs, outputs]
    for j in range(len(maps) - 1):
      size = 3 if not network.deep or j in (1, 2) else 1
      batch_norm(f'{key}.bn{j + 1}', maps[j])
      weight(f'{key}.{conv}{j + 1}', maps[j + 1], maps[j], size, size)
      put(f'{key}.{conv}{j + 1}.bias', maps[j + 1])
    if network.code != 'deep_legacy':
      weight(f'{key}.{short}', outputs, inputs, 1, 1)
      put(f'{key}.{short}.bias', outputs)
  last = network.widths[-1]
  statistics(last_norm, *(_statistics(network) if ours else ('running_mean', 'running_var')), last)
  put(f'{last_norm}.{"gain" if ours else "weight"}', last, scale=0.3)
  put(f'{last_norm}.bias', last, scale=0.2)
  weight(last_conv, network.channels, last, 3, 3)
  put(f'{last_conv}.bias', network.channels, scale=0.2)
  return state


def _statistics(network: Network) -> tuple[str, str]:
  if network.code != 'ajbrock':
    return 'bn.running_mean', 'bn.running_var'
  return ('bn.stored_mean', 'bn.stored_var') if network.own_norm else ('stored_mean', 'stored_var')


def balanced(state: dict, network: Network, z: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
  """The state with the last statistics replaced by those of these samples, so that no image is all black and white."""
  last = Plain(state, network).features(z, y)[-2]
  names = _statistics(network) if network.code == 'ajbrock' else ('running_mean', 'running_var')
  keys = [f'{names_of(network)[1]}.{name}' for name in names]
  values = last.mean(axis=(0, 2, 3)), last.var(axis=(0, 2, 3))
  return state | {key: np.asarray(value, np.float32) for key, value in zip(keys, values, strict=True)}


class Plain:
  """The network of a state dict."""

  def __init__(self, state: dict[str, np.ndarray], network: Network):
    self.state = {key: np.asarray(value, np.float64) for key, value in state.items()}
    self.network, self.ours = network, network.code == 'ajbrock'
    default = 1e-5 if self.ours else 1e-4
    self.eps, self.last_eps = network.eps or default, default

  def weight(self, key: str) -> np.ndarray:
    if not self.network.normed:
      return self.state[f'{key}.weight']
    weight = self.state[f'{key}.weight' if self.ours else f'{key}.weight_orig']
    matrix = weight.reshape(len(weight), -1)
    if not self.ours:
      return weight / (self.state[f'{key}.weight_u'] @ matrix @ self.state[f'{key}.weight_v'])
    u = self.state[f'{key}.u0']
    v = u @ matrix
    v = v / np.linalg.norm(v)
    u = v @ matrix.T
    u = u / np.linalg.norm(u)
    return weight / (v @ matrix.T @ u.T).item()

  def norm(self, key: str, x: np.ndarray, y: np.ndarray, condition: np.ndarray) -> np.ndarray:
    mean, variance = (self.state[f'{key}.{name}'][None, :, None, None] for name in _statistics(self.network))
    x = (x - mean) / np.sqrt(variance + self.eps)
    if self.ours and not self.network.shared:
      gain, bias = (y @ self.state[f'{key}.{name}.weight'] for name in ('gain', 'bias'))
    else:
      gain, bias = (condition @ self.weight(f'{key}.{name}').T for name in ('gain', 'bias'))
    return x * (1 + gain)[:, :, None, None] + bias[:, :, None, None]

  def conv(self, key: str, x: np.ndarray) -> np.ndarray:
    kernel = self.weight(key)
    p = kernel.shape[2] // 2
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))), kernel.shape[2:], axis=(2, 3))
    y = np.einsum('nihwab,oiab->nohw', windows, kernel, optimize=True)
    bias = self.state.get(f'{key}.bias')
    return y if bias is None else y + bias[None, :, None, None]

  def block(self, key: str, up: bool, outputs: int, x, y, condition) -> np.ndarray:
    _, _, _, conv, short, _ = names_of(self.network)
    h, deep = x, self.network.deep
    for j in range(4 if deep else 2):
      h = np.maximum(self.norm(f'{key}.bn{j + 1}', h, y, condition), 0)
      if up and j == (1 if deep else 0):
        h = h.repeat(2, axis=2).repeat(2, axis=3)
      h = self.conv(f'{key}.{conv}{j + 1}', h)
    if self.network.code == 'deep_legacy':
      x = x[:, :outputs]
    x = x.repeat(2, axis=2).repeat(2, axis=3) if up else x
    return h + (x if self.network.code == 'deep_legacy' else self.conv(f'{key}.{short}', x))

  def attention(self, key: str, x: np.ndarray) -> np.ndarray:
    N, _, H, W = x.shape
    theta, phi, g, o, gamma = names_of(self.network)[-1]

    def pooled(name):
      y = self.conv(f'{key}.{name}', x)
      quarters = [y[:, :, a::2, b::2] for a in (0, 1) for b in (0, 1)]
      return np.max(quarters, axis=0).reshape(N, -1, H * W // 4)

    scores = np.einsum('ncp,ncq->npq', self.conv(f'{key}.{theta}', x).reshape(N, -1, H * W), pooled(phi))
    scores = np.exp(scores - scores.max(2, keepdims=True))
    scores /= scores.sum(2, keepdims=True)
    mixed = np.einsum('ncq,npq->ncp', pooled(g), scores).reshape(N, -1, H, W)
    return x + self.state[f'{key}.{gamma}'] * self.conv(f'{key}.{o}', mixed)

  def features(self, z: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """The feature maps (N, C, H, W) before and after each entry, and last the image; y are rows of labels."""
    network, count = self.network, len(self.network.blocks)
    linear, last_norm, last_conv, *_ = names_of(network)
    shared = y @ self.state['shared.weight'] if 'shared.weight' in self.state else y[:, :0]
    if network.deep:
      first = np.concatenate([shared, z], axis=1)
      conditions = [first] * count
    elif network.split:
      first, *pieces = np.split(z, count + 1, axis=1)
      conditions = [np.concatenate([shared, piece], axis=1) for piece in pieces]
    else:
      first, conditions = z, [shared] * count
    x = first @ self.weight(linear).T + self.state[f'{linear}.bias']
    maps, conditions = [x.reshape(len(z), -1, 4, 4)], iter(conditions)
    for key, block, _ in entries(network):
      if block is None:
        maps.append(self.attention(key, maps[-1]))
      else:
        maps.append(self.block(key, block[0], block[2], maps[-1], y, next(conditions)))
    names = _statistics(network) if self.ours else ('running_mean', 'running_var')
    mean, variance, gain, bias = (
      self.state[f'{last_norm}.{name}'][None, :, None, None]
      for name in (*names, 'gain' if self.ours else 'weight', 'bias')
    )
    x = np.maximum((maps[-1] - mean) / np.sqrt(variance + self.last_eps) * gain + bias, 0)
    return [*maps, np.tanh(self.conv(last_conv, x))]
