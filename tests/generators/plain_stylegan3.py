"""A second StyleGAN3, in numpy and float64, as simple as possible: zeros are inserted, filters are used as stored.

It uses the tensors of a file by their names in it, and shares no code with the package.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def random_checkpoint(rng: np.random.Generator, **arguments) -> dict[str, np.ndarray]:
  """A state dict with random numbers everywhere; the filters are asymmetric, so that a flipped filter is found."""
  a = defaults(arguments)
  state, w, classes = {}, a['w_dim'], a['c_dim']

  def put(name, *shape, scale=1.0):
    state[name] = (scale * rng.standard_normal(shape)).astype(np.float32)

  rate = a['mapping_kwargs'].get('lr_multiplier', 0.01)
  for i in range(a['mapping_kwargs'].get('num_layers', 2)):
    inputs = w if i else a['z_dim'] + (w if classes else 0)
    put(f'mapping.fc{i}.weight', w, inputs, scale=1 / rate)
    put(f'mapping.fc{i}.bias', w, scale=0.3 / rate)
  if classes:
    put('mapping.embed.weight', w, classes)
    put('mapping.embed.bias', w)
  put('mapping.w_avg', w, scale=0.3)
  layers = geometry(a)
  C = layers[0]['in_channels']
  put('synthesis.input.weight', C, C)
  put('synthesis.input.affine.weight', 4, w, scale=0.3)
  state['synthesis.input.affine.bias'] = np.array([1, 0.2, 0.1, -0.2], np.float32)
  put('synthesis.input.freqs', C, 2, scale=0.6 * a['first_cutoff'])
  put('synthesis.input.phases', C)
  state['synthesis.input.transform'] = np.array([[0.9, 0.3, 0.1], [-0.3, 1.1, -0.2], [0, 0, 1]], np.float32)
  for layer in layers:
    key, k = f'synthesis.{layer["name"]}', layer['kernel']
    put(f'{key}.affine.weight', layer['in_channels'], w, scale=0.5)
    state[f'{key}.affine.bias'] = np.ones(layer['in_channels'], np.float32)
    put(f'{key}.weight', layer['out_channels'], layer['in_channels'], k, k)
    put(f'{key}.bias', layer['out_channels'], scale=0.3)
    state[f'{key}.magnitude_ema'] = np.array(rng.uniform(0.5, 2), np.float32)
    for name, taps, radial in (
      ('up_filter', layer['up_taps'], False),
      ('down_filter', layer['down_taps'], layer['radial']),
    ):
      if taps > 1:
        shape = (taps, taps) if radial else (taps,)
        filter_ = rng.uniform(0, 1, shape)
        state[f'{key}.{name}'] = (filter_ / filter_.sum()).astype(np.float32)
  return state


def defaults(arguments: dict) -> dict:
  """The arguments of the constructor, completed with its defaults."""
  return {
    'channel_base': 32768,
    'channel_max': 512,
    'num_layers': 14,
    'num_critical': 2,
    'first_cutoff': 2,
    'first_stopband': 2**2.1,
    'last_stopband_rel': 2**0.3,
    'margin_size': 10,
    'output_scale': 0.25,
    'conv_kernel': 3,
    'filter_size': 6,
    'lrelu_upsampling': 2,
    'use_radial_filters': False,
    'conv_clamp': 256,
    'square': True,
    'mapping_kwargs': {},
  } | arguments


def geometry(a: dict) -> list[dict]:
  """Names, sizes, factors, taps and paddings of the layers, each from its own index."""
  N, res = a['num_layers'], a['img_resolution']

  def level(i):
    e = min(i / (N - a['num_critical']), 1)
    cutoff = a['first_cutoff'] * (res / 2 / a['first_cutoff']) ** e
    stop = a['first_stopband'] * (res / 2 * a['last_stopband_rel'] / a['first_stopband']) ** e
    rate = int(2 ** np.ceil(np.log2(min(2 * stop, res))))
    channels = a['img_channels'] if i == N else int(np.rint(min(a['channel_base'] / 2 / cutoff, a['channel_max'])))
    return rate, res if i >= N - 1 else rate + 2 * a['margin_size'], channels

  def both(height):
    return height, height if a['square'] else height // 2

  def padding(n, m, up, down, taps, kernel):
    total = (m - 1) * down + 1 - (n + kernel - 1) * up + taps - 2
    before = int(np.floor((total + up) / 2))
    return before, total - before

  layers = []
  for i in range(N + 1):
    (in_rate, in_size, in_channels), (rate, size, channels) = level(max(i - 1, 0)), level(i)
    last = i == N
    inner = max(in_rate, rate) * (1 if last else a['lrelu_upsampling'])
    up, down, kernel = inner // in_rate, inner // rate, 1 if last else a['conv_kernel']
    up_taps = a['filter_size'] * up if up > 1 and not last else 1
    down_taps = a['filter_size'] * down if down > 1 and not last else 1
    pairs = zip(both(in_size), both(size), strict=True)
    layers.append(
      {
        'name': f'L{i}_{both(size)[1]}_{channels}',
        'last': last,
        'in_rate': in_rate,
        'in_size': both(in_size),
        'in_channels': in_channels,
        'out_channels': channels,
        'size': size,
        'kernel': kernel,
        'up': up,
        'down': down,
        'up_taps': up_taps,
        'down_taps': down_taps,
        'radial': a['use_radial_filters'] and i < N - a['num_critical'],
        'padding': [padding(n, m, up, down, up_taps + down_taps, kernel) for n, m in pairs],
      }
    )
  return layers


def correlated(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
  """Convolution of (N, I, H, W) with (O, I, k, k), without padding."""
  windows = sliding_window_view(x, kernel.shape[2:], axis=(2, 3))
  return np.einsum('nihwab,oiab->nohw', windows, kernel, optimize=True)


def filtered(x: np.ndarray, f: np.ndarray | None, up: int, down: int, padding) -> np.ndarray:
  """Inserts zeros, pads or crops, convolves with the filter and its gain, and keeps every down-th sample."""
  N, C, H, W = x.shape
  spread = np.zeros((N, C, H * up, W * up))
  spread[:, :, ::up, ::up] = x
  spread = np.pad(spread, ((0, 0), (0, 0), *((max(lo, 0), max(hi, 0)) for lo, hi in padding)))
  rows, columns = (slice(max(-lo, 0), n - max(-hi, 0)) for (lo, hi), n in zip(padding, spread.shape[2:], strict=True))
  spread = spread[:, :, rows, columns]
  if f is not None:
    f = np.outer(f, f) if f.ndim == 1 else f
    windows = sliding_window_view(spread, f.shape, axis=(2, 3))
    spread = np.einsum('nchwab,ab->nchw', windows, f[::-1, ::-1] * up**2, optimize=True)
  return spread[:, :, ::down, ::down]


def unit(x: np.ndarray) -> np.ndarray:
  return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)


class Plain:
  """The network of a state dict and the arguments of its constructor."""

  def __init__(self, state: dict[str, np.ndarray], **arguments):
    self.state = {key: np.asarray(value, np.float64) for key, value in state.items()}
    self.arguments = defaults(arguments)
    self.layers = geometry(self.arguments)

  def dense(self, key: str, x: np.ndarray, rate: float = 1.0) -> np.ndarray:
    weight, bias = self.state[f'{key}.weight'], self.state[f'{key}.bias']
    return x @ weight.T * rate / np.sqrt(weight.shape[1]) + bias * rate

  def mapping(self, z: np.ndarray, c: np.ndarray | None = None) -> np.ndarray:
    x, kwargs = unit(z), self.arguments['mapping_kwargs']
    if self.arguments['c_dim']:
      x = np.concatenate([x, unit(self.dense('mapping.embed', c))], axis=1)
    for i in range(kwargs.get('num_layers', 2)):
      x = self.dense(f'mapping.fc{i}', x, kwargs.get('lr_multiplier', 0.01))
      x = np.where(x < 0, 0.2 * x, x) * np.sqrt(2)
    return x

  def wplus(self, w: np.ndarray, psi: float, count: int) -> np.ndarray:
    rows, average = np.repeat(w[:, None], self.arguments['num_layers'] + 2, axis=1), self.state['mapping.w_avg']
    rows[:, :count] = average + psi * (rows[:, :count] - average)
    return rows

  def input(self, w: np.ndarray) -> np.ndarray:
    layer, prefix, maps = self.layers[0], 'synthesis.input', []
    size, rate, bandwidth = layer['in_size'], layer['in_rate'], self.arguments['first_cutoff']
    for t in self.dense(f'{prefix}.affine', w):
      c, s, x, y = t / np.hypot(t[0], t[1])
      turn, move = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])
      matrix = turn @ move @ self.state[f'{prefix}.transform']
      phases = self.state[f'{prefix}.phases'] + self.state[f'{prefix}.freqs'] @ matrix[:2, 2]
      freqs = self.state[f'{prefix}.freqs'] @ matrix[:2, :2]
      amplitude = np.clip(1 - (np.hypot(*freqs.T) - bandwidth) / (rate / 2 - bandwidth), 0, 1)
      y, x = (((2 * np.arange(n) + 1) / n - 1) * 0.5 * n / rate for n in size)
      grid = np.stack(np.meshgrid(x, y), axis=-1)  # (row, column, (x, y))
      waves = np.sin(2 * np.pi * (grid @ freqs.T + phases)) * amplitude
      maps.append(waves @ self.state[f'{prefix}.weight'].T / np.sqrt(len(phases)))
    return np.moveaxis(np.stack(maps), -1, 1)

  def layer(self, i: int, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    layer, state = self.layers[i], self.state
    key, last = f'synthesis.{layer["name"]}', layer['last']
    style, weight = self.dense(f'{key}.affine', w), state[f'{key}.weight']
    if last:
      style = style / np.sqrt(weight[0].size)
    else:
      weight = weight / np.sqrt((weight**2).mean((1, 2, 3), keepdims=True))
      style = style / np.sqrt((style**2).mean())  # over the batch as well, as the original has it
    padding = ((0, 0), *((layer['kernel'] - 1,) * 2,) * 2)
    maps = []
    for sample, s in zip(x, style, strict=True):
      modulated = weight * s[None, :, None, None]
      if not last:
        modulated /= np.sqrt((modulated**2).sum((1, 2, 3), keepdims=True) + 1e-8)
      modulated /= np.sqrt(state[f'{key}.magnitude_ema'])
      maps.append(correlated(np.pad(sample, padding)[None], modulated)[0])
    x = np.stack(maps) + state[f'{key}.bias'][None, :, None, None]
    x = filtered(x, state.get(f'{key}.up_filter'), layer['up'], 1, layer['padding'])
    if not last:
      x = np.where(x < 0, 0.2 * x, x) * np.sqrt(2)
    if self.arguments['conv_clamp'] is not None:
      x = np.clip(x, -self.arguments['conv_clamp'], self.arguments['conv_clamp'])
    return filtered(x, state.get(f'{key}.down_filter'), 1, layer['down'], [(0, 0), (0, 0)])

  def features(self, rows: np.ndarray) -> list[np.ndarray]:
    """The feature maps (N, C, H, W) at each layer, and last the image."""
    maps = [self.input(rows[:, 0])]
    for i in range(len(self.layers)):
      maps.append(self.layer(i, maps[-1], rows[:, i + 1]))
    return [*maps[:-1], maps[-1] * self.arguments['output_scale']]
