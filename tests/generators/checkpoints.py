"""Random checkpoints of tiny generators in the layouts of users' files, with a value for every array."""

import itertools
from pathlib import Path

import numpy as np

from panda_jax.converters.assembly import assemble
from panda_jax.converters.checkpoint import Checkpoint, Module, read
from tests.generators import unpacked

DATA = Path(__file__).parents[1] / 'data'


def checkpoint(tree) -> Checkpoint:
  return Checkpoint('zip', tree, Path('random.pth'), '0' * 64, 0, None)


def stored(name: str) -> Path:
  """The path of a file under tests/data, unpacked if it is compressed."""
  folder, file = name.split('/')
  path = DATA / name
  return path if path.exists() else unpacked.checkpoint(folder) / file


def generator(converter, source, weights='ema', **options):
  """The generator of a tree, or of a file under tests/data, which may be compressed."""
  found = read(stored(source)) if isinstance(source, str) else checkpoint(source)
  return assemble(converter.convert(found, weights, options))


class Maker:
  """Random arrays, as float32."""

  def __init__(self, seed=0):
    self.rng = np.random.default_rng(seed)
    self.arrays = {}

  def normal(self, key, *shape, scale=1.0, about=0.0):
    self.arrays[key] = np.asarray(about + scale * self.rng.standard_normal(shape), np.float32)

  def layer(self, key, *shape, bias=None, scale=1.0, about=0.0):
    """A weight, and a bias with the size of its first axis."""
    self.normal(f'{key}.weight', *shape, scale=scale)
    self.normal(f'{key}.bias', shape[0] if bias is None else bias, scale=0.2 * scale, about=about)


def progan(widths=(6, 6, 5, 7), z_dim=9, label=0, channels=3, fused=False, seed=0):
  m = Maker(seed)
  m.arrays['lod'] = np.zeros((), np.float32)
  previous = z_dim + label
  for i, width in enumerate(widths):
    k = 3 if i else 4
    turned = fused and i and i % 2 == 0
    m.layer(f'layer{i}', *((previous, width) if turned else (width, previous)), k, k, bias=width)
    if i % 2:
      m.layer(f'output{i // 2}', channels, width, 1, 1)
    previous = width
  return m.arrays


def genforce_mapping(m, z_dim, w_dim, hidden, depth, label, own, rows, lr):
  """mapping.* and truncation.*; with `own`, every row has its own w."""
  if label:
    m.normal('mapping.label_weight', label, z_dim)
  inputs = 2 * z_dim if label else z_dim
  for i in range(depth):
    width = hidden if i + 1 < depth else w_dim * (rows if own else 1)
    m.layer(f'mapping.dense{i}', width, inputs, scale=1 / lr)
    inputs = width
  m.normal('truncation.w_avg', w_dim * (rows if own else 1), scale=0.3)


def stylegan(
  widths=(6, 6, 5, 7),
  z_dim=9,
  w_dim=8,
  hidden=10,
  depth=3,
  label=0,
  own=False,
  channels=3,
  channel_noise=False,
  lr=0.01,
  start=(4, 4),
  seed=0,
):
  """`start` is (h, w) of the constant."""
  m = Maker(seed)
  genforce_mapping(m, z_dim, w_dim, hidden, depth, label, own, len(widths), lr)
  m.arrays['synthesis.lod'] = np.zeros((), np.float32)
  blur = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
  for i, width in enumerate(widths):
    key, size = f'synthesis.layer{i}', [side * 2 ** (i // 2) for side in start]
    if i:
      m.layer(key, width, widths[i - 1], 3, 3)
    else:
      m.normal(f'{key}.const', 1, width, *start)
      m.normal(f'{key}.bias', width, scale=0.2)
    if i and i % 2 == 0:
      m.arrays[f'{key}.blur.kernel'] = np.tile(blur, (width, 1, 1, 1))
    if channel_noise:
      m.normal(f'{key}.apply_noise.noise', 1, width, 1, 1)
      m.normal(f'{key}.apply_noise.weight', *size, scale=0.3)
    else:
      m.normal(f'{key}.apply_noise.noise', 1, 1, *size)
      m.normal(f'{key}.apply_noise.weight', width, scale=0.3)
    m.layer(f'{key}.style', 2 * width, w_dim)
    if i % 2:
      m.layer(f'synthesis.output{i // 2}', channels, width, 1, 1)
  return m.arrays


def stylegan2_genforce(
  widths=(6, 5, 7, 4),
  z_dim=9,
  w_dim=8,
  hidden=10,
  depth=3,
  label=0,
  own=False,
  channels=3,
  skip=True,
  channel_noise=False,
  taps=(1, 3, 3, 1),
  lr=0.01,
  seed=0,
):
  """`widths` are those of the constant and of every convolution."""
  m = Maker(seed)
  genforce_mapping(m, z_dim, w_dim, hidden, depth, label, own, len(widths), lr)
  taps = np.asarray(taps, np.float64)
  kernel = np.asarray(4 * np.outer(taps, taps) / taps.sum() ** 2, np.float32)[None, None]
  m.normal('synthesis.early_layer.const', 1, widths[0], 4, 4)
  for i, (inputs, width) in enumerate(itertools.pairwise(widths)):
    key, size = f'synthesis.layer{i}', 4 * 2 ** ((i + 1) // 2)
    m.layer(key, width, inputs, 3, 3)
    m.layer(f'{key}.style', inputs, w_dim)
    m.normal(f'{key}.noise', *((1, width, 1, 1) if channel_noise else (1, 1, size, size)))
    m.normal(f'{key}.noise_strength', scale=0.3)
    if i % 2:
      m.arrays[f'{key}.filter.kernel'] = kernel
    if i % 2 == 0 and (skip or i == len(widths) - 2):
      m.layer(f'synthesis.output{i // 2}', channels, width, 1, 1)
      m.layer(f'synthesis.output{i // 2}.style', width, w_dim)
  if skip:
    m.arrays['synthesis.upsample.kernel'] = kernel
  return m.arrays


def nvlabs_filter(taps):
  """A filter after setup_filter: one with eight taps or more stays separable."""
  taps = np.asarray(taps, np.float64)
  if taps.ndim == 1 and taps.size < 8:
    taps = np.outer(taps, taps)
  return np.asarray(taps / taps.sum(), np.float32)


def stylegan2_nvlabs(
  widths=(6, 5, 7, 4),
  z_dim=9,
  w_dim=8,
  hidden=10,
  depth=3,
  c_dim=0,
  embed=5,
  channels=3,
  architecture='skip',
  clamp=None,
  noise=True,
  mean=True,
  activation='lrelu',
  mapping_activation='lrelu',
  taps=(1, 3, 3, 1),
  lr=0.01,
  flat=False,
  attributes=True,
  scale=1.0,
  seed=0,
):
  """A module; `flat` passes arguments as stylegan3's code does; without `attributes`, only they show the options."""
  m = Maker(seed)
  sizes = [4 * 2**k for k in range(len(widths) // 2)]
  told = {'synthesis.img_resolution': sizes[-1], 'mapping.w_avg_beta': 0.995 if mean else None}
  if c_dim:
    m.layer('mapping.embed', embed, c_dim)
  inputs = z_dim + (embed if c_dim else 0)
  for i in range(depth):
    width = hidden if i + 1 < depth else w_dim
    m.layer(f'mapping.fc{i}', width, inputs, scale=1 / lr)
    told |= {f'mapping.fc{i}.bias_gain': lr, f'mapping.fc{i}.activation': mapping_activation}
    inputs = width
  if mean:
    m.normal('mapping.w_avg', w_dim, scale=0.3)
  m.normal('synthesis.b4.const', widths[0], 4, 4)

  def conv(key, inputs, width, size, filtered):
    m.layer(key, width, inputs, 3, 3, scale=scale)
    m.layer(f'{key}.affine', inputs, w_dim, about=1)
    m.arrays[f'{key}.resample_filter'] = nvlabs_filter(taps if filtered else (1, 3, 3, 1))
    if noise:
      m.normal(f'{key}.noise_const', size, size)
      m.normal(f'{key}.noise_strength', scale=0.3)
    told.update({f'{key}.conv_clamp': clamp, f'{key}.activation': activation, f'{key}.use_noise': noise})

  i = 0
  for size in sizes:
    block = f'synthesis.b{size}'
    m.arrays[f'{block}.resample_filter'] = nvlabs_filter(taps)
    told[f'{block}.architecture'] = architecture
    if size > 4:
      conv(f'{block}.conv0', widths[i], widths[i + 1], size, True)
      i += 1
    conv(f'{block}.conv1', widths[i], widths[i + 1], size, False)
    i += 1
    if architecture == 'skip' or size == sizes[-1]:
      m.layer(f'{block}.torgb', channels, widths[i], 1, 1)
      m.layer(f'{block}.torgb.affine', widths[i], w_dim, about=1)
      told[f'{block}.torgb.conv_clamp'] = clamp
    if architecture == 'resnet' and size > 4:
      m.normal(f'{block}.skip.weight', widths[i], widths[i - 2], 1, 1)
      m.arrays[f'{block}.skip.resample_filter'] = nvlabs_filter(taps)
  mapping = {'lr_multiplier': lr, 'activation': mapping_activation, 'num_layers': depth, 'layer_features': hidden}
  mapping |= {} if mean else {'w_avg_beta': None}
  synthesis = {'conv_clamp': clamp, 'architecture': architecture, 'activation': activation, 'num_fp16_res': 4}
  arguments = {'z_dim': z_dim, 'c_dim': c_dim, 'w_dim': w_dim, 'img_resolution': sizes[-1], 'img_channels': channels}
  arguments |= {'mapping_kwargs': mapping}
  arguments |= synthesis if flat else {'synthesis_kwargs': synthesis}
  return Module('Generator', [], arguments, m.arrays, told if attributes else {})


def stylegan2_rosinality(widths=(6, 6, 5, 7, 4, 3), w_dim=8, depth=3, mean=True, taps=(1, 3, 3, 1), lr=0.01, seed=0):
  """{'g_ema': arrays, 'latent_avg': array}."""
  m = Maker(seed)
  taps = np.asarray(taps, np.float64)
  kernel = np.asarray(4 * np.outer(taps, taps) / taps.sum() ** 2, np.float32)
  for i in range(1, depth + 1):
    m.layer(f'style.{i}', w_dim, w_dim, scale=1 / lr)
  m.normal('input.input', 1, widths[0], 4, 4)

  def conv(key, inputs, width, k):
    m.normal(f'{key}.conv.weight', 1, width, inputs, k, k)
    m.layer(f'{key}.conv.modulation', inputs, w_dim, about=1)

  for i, (inputs, width) in enumerate(itertools.pairwise(widths)):
    key, size = (f'convs.{i - 1}' if i else 'conv1'), 4 * 2 ** ((i + 1) // 2)
    conv(key, inputs, width, 3)
    m.normal(f'{key}.activate.bias', width, scale=0.2)
    m.normal(f'{key}.noise.weight', 1, scale=0.3)
    m.normal(f'noises.noise_{i}', 1, 1, size, size)
    if i % 2:
      m.arrays[f'{key}.conv.blur.kernel'] = kernel
    else:
      head = f'to_rgbs.{i // 2 - 1}' if i else 'to_rgb1'
      conv(head, width, 3, 1)
      m.normal(f'{head}.bias', 1, 3, 1, 1, scale=0.2)
      if i:
        m.arrays[f'{head}.upsample.kernel'] = kernel
  mean = {'latent_avg': np.asarray(m.rng.standard_normal(w_dim), np.float32)} if mean else {}
  return {'g_ema': m.arrays, **mean}
