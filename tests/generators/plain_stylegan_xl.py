"""A second StyleGAN-XL, in numpy and float64, on the tensors of a file by their names in it.

Layers are those of plain_stylegan3.py. This file has the outputs of a stem and of its heads, the mapping network, and
the attributes of a file's modules.
"""

import numpy as np

from tests.generators import plain_stylegan3
from tests.generators.plain_stylegan3 import defaults, unit

STEM = {
  'z_dim': 5,
  'c_dim': 3,
  'w_dim': 6,
  'img_resolution': 16,
  'img_channels': 3,
  'channel_base': 64,
  'channel_max': 4,
  'num_layers': 5,
  'first_cutoff': 1,
  'first_stopband': 2.5,
  'margin_size': 3,
  'rows': 4,
  'features': 7,
}


def stem(a: dict) -> list[dict]:
  """The output of each layer of a stem."""
  N, res = a['num_layers'], a['img_resolution']
  written = []
  for i in range(N + 1):
    e = min(i / (N - a['num_critical']), 1)
    cutoff = a['first_cutoff'] * (res / 2 / a['first_cutoff']) ** e
    stop = a['first_stopband'] * (res / 2 * a['last_stopband_rel'] / a['first_stopband']) ** e
    rate = int(2 ** np.ceil(np.log2(min(2 * stop, res))))
    written.append(layer(a, i, N, i, cutoff, stop, rate, res) | {key: a[key] for key in ('conv_kernel', 'conv_clamp')})
    written[-1] |= {'radial': a['use_radial_filters'] and not written[-1]['critical']}
  return finished(written)


def with_head(a: dict, below: list[dict], layers: int, res: int) -> list[dict]:
  """The output of each layer after a head has replaced the last ones; it has its own kernels, filters and clamps."""
  kept = [one for one in below if not one['critical']]
  first, start = kept[-1], len(kept) + 1
  written = []
  for i in range(layers + 1):
    e = min(i / (layers - 2), 1)
    stop0 = first['half'] + first['cutoff']
    cutoff = first['cutoff'] * (res / 2 / first['cutoff']) ** e
    stop = stop0 * (res / 2 * a['last_stopband_rel'] / stop0) ** e
    rate = int(2 ** np.ceil(np.log2(min(2 * stop, res)))) if i else first['rate']
    written.append(layer(a, i, layers, start + i, cutoff, stop, rate, res))
    written[-1] |= {'conv_kernel': 3, 'conv_clamp': 256, 'radial': False}
  written[0]['channels'] = first['channels']
  return kept + finished(written)


def layer(a, i, N, number, cutoff, stop, rate, res):
  return {
    'number': number,
    'last': i == N,
    'critical': i >= N - a['num_critical'],
    'cutoff': cutoff,
    'half': max(stop, rate / 2) - cutoff,
    'rate': rate,
    'size': res if i >= N - 1 else rate + 2 * a['margin_size'],
    'channels': a['img_channels'] if i == N else int(np.rint(min(a['channel_base'] / 2 / cutoff, a['channel_max']))),
  }


def finished(written: list[dict]) -> list[dict]:
  written[-1] |= {'conv_kernel': 1}
  return [one | {'name': f'L{one["number"]}_{one["size"]}_{one["channels"]}'} for one in written]


def chained(a: dict, written: list[dict]) -> list[dict]:
  """The layers in the form of plain_stylegan3.py."""
  layers = []
  for i, after in enumerate(written):
    before, last = written[max(i - 1, 0)], after['last']
    inner = max(before['rate'], after['rate']) * (1 if last else a['lrelu_upsampling'])
    up, down, k = inner // before['rate'], inner // after['rate'], after['conv_kernel']
    up_taps, down_taps = (a['filter_size'] * n if n > 1 and not last else 1 for n in (up, down))
    total = (after['size'] - 1) * down + 1 - (before['size'] + k - 1) * up + up_taps + down_taps - 2
    low = (total + up) // 2
    layers.append(
      {
        'name': after['name'],
        'last': last,
        'in_rate': before['rate'],
        'in_size': (before['size'],) * 2,
        'in_channels': before['channels'],
        'out_channels': after['channels'],
        'kernel': k,
        'up': up,
        'down': down,
        'up_taps': up_taps,
        'down_taps': down_taps,
        'radial': after['radial'],
        'padding': [(low, total - low)] * 2,
        'clamp': after['conv_clamp'],
        'inner': inner,
      }
    )
  return layers


class Plain(plain_stylegan3.Plain):
  """A network with random numbers everywhere.

  Args:
    heads: (layers, resolution) of each.
    seed: of the numbers.
    arguments: of the stem's constructor, `rows` and `features` of the embedding.

  Attributes:
    arrays: the state dict of a file.
    told: the attributes of its modules.
  """

  def __init__(self, heads: tuple = (), seed: int = 0, **arguments):
    a = self.arguments = defaults(STEM | arguments)
    written = stem(a)
    for layers, resolution in heads:
      written = with_head(a, written, layers, resolution)
    self.layers = chained(a, written)
    self.told = _attributes(a, written, self.layers)
    self.arrays = self._random(np.random.default_rng(seed))
    self.state = {key: np.asarray(value, np.float64) for key, value in self.arrays.items()}

  def _random(self, rng) -> dict[str, np.ndarray]:
    a, w = self.arguments, self.arguments['w_dim']
    # The attributes of its synthesis are made as in StyleGAN3.
    plain = plain_stylegan3.geometry
    plain_stylegan3.geometry = lambda _: self.layers
    try:
      state = plain_stylegan3.random_checkpoint(rng, **(a | {'c_dim': 0, 'z_dim': self.inputs()}))
    finally:
      plain_stylegan3.geometry = plain

    def put(name, *shape, scale=1.0):
      state[name] = (scale * rng.standard_normal(shape)).astype(np.float32)

    put('mapping.embed.weight', a['rows'], a['features'])
    if a['c_dim']:
      put('mapping.embed_proj.weight', a['z_dim'], a['features'])
      put('mapping.embed_proj.bias', a['z_dim'])
      put('mapping.w_avg', a['c_dim'], w, scale=0.3)
    return state

  def inputs(self) -> int:
    return self.arguments['z_dim'] * (2 if self.arguments['c_dim'] else 1)

  def mapping(self, z, labels=None):
    x = unit(z)
    if labels is not None:
      y = self.dense('mapping.embed_proj', self.state['mapping.embed.weight'][labels])
      x = np.concatenate([x, unit(np.where(y < 0, 0.2 * y, y) * np.sqrt(2))], axis=1)
    for i in range(2):
      x = self.dense(f'mapping.fc{i}', x, 0.01)
      x = np.where(x < 0, 0.2 * x, x) * np.sqrt(2)
    return x

  def rows(self, w, labels, psi, count):
    rows, mean = np.repeat(w[:, None], len(self.layers) + 1, axis=1), self.state['mapping.w_avg']
    mean = mean[None, None] if labels is None else mean[labels][:, None]
    rows[:, :count] = mean + psi * (rows[:, :count] - mean)
    return rows

  def layer(self, i, x, w):
    self.arguments['conv_clamp'] = self.layers[i]['clamp']
    return super().layer(i, x, w)


def _attributes(a: dict, written: list[dict], layers: list[dict]) -> dict[str, object]:
  told = {'z_dim': a['z_dim'], 'c_dim': a['c_dim'], 'img_resolution': written[-1]['size'], 'img_channels': 3}
  told |= {'synthesis.layer_names': [one['name'] for one in written], 'synthesis.output_scale': a['output_scale']}
  told |= {
    'synthesis.input.sampling_rate': float(written[0]['rate']),
    'synthesis.input.bandwidth': written[0]['cutoff'],
  }
  for i in range(2):
    told |= {f'mapping.fc{i}.bias_gain': 0.01, f'mapping.fc{i}.activation': 'lrelu'}
  for i, (one, chain) in enumerate(zip(written, layers, strict=True)):
    before = written[max(i - 1, 0)]
    values = {
      'out_channels': one['channels'],
      'in_channels': before['channels'],
      'in_sampling_rate': before['rate'],
      'out_sampling_rate': one['rate'],
      'tmp_sampling_rate': chain['inner'],
      'in_cutoff': before['cutoff'],
      'out_cutoff': one['cutoff'],
      'in_half_width': before['half'],
      'out_half_width': one['half'],
      'conv_kernel': one['conv_kernel'],
      'conv_clamp': one['conv_clamp'],
      'filter_size': a['filter_size'],
      'lrelu_upsampling': a['lrelu_upsampling'],
      'down_radial': one['radial'],
      'is_torgb': one['last'],
      'padding': [n for pair in chain['padding'] for n in pair],
      'up_factor': chain['up'],
      'down_factor': chain['down'],
    }
    told |= {f'synthesis.{one["name"]}.{key}': value for key, value in values.items()}
  return told
