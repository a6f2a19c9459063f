"""StyleGAN2 from the .pt files of rosinality's stylegan2-pytorch."""

import re

import numpy as np

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects.stylegan2_tables import Layout, entries, rgb_blocks, rows_of, sizes
from panda_jax.converters.tables import (
  Entry,
  Table,
  chosen_options,
  chosen_weights,
  common_taps,
  fits,
  indices,
  parsed_positive,
  shape_of,
  size_of,
)
from panda_jax.generators.stylegan2 import StyleGAN2Options

LAYOUT = Layout(
  const='input.input',
  conv=lambda i: f'convs.{i - 1}' if i else 'conv1',
  rgb=lambda k: f'to_rgbs.{k - 1}' if k else 'to_rgb1',
  noise=lambda i: f'noises.noise_{i}',
  weight='.conv.weight',
  affine='.conv.modulation.',
  bias='.activate.bias',
  strength='.noise.weight',
  rgb_bias='.bias',
  lead={'const': (1,), 'weight': (1,), 'noise': (1, 1), 'strength': (1,), 'rgb_bias': (1,)},
  trail=(1, 1),
)
AVERAGED, LATEST = 'g_ema', 'g'


def recognise(checkpoint: Checkpoint) -> bool:
  """Whether it is a StyleGAN2 of this layout."""
  pattern = re.compile(r'(to_rgb1|conv1|convs\.\d+)\.conv\.modulation\.weight')
  return any(pattern.fullmatch(str(key)) for arrays in _candidates(checkpoint).values() for key in arrays)


def _candidates(checkpoint: Checkpoint) -> dict[str, dict]:
  tree = checkpoint.tree
  if not isinstance(tree, dict):
    return {}
  found = {name: tree[name] for name in (AVERAGED, LATEST) if isinstance(tree.get(name), dict)}
  return found or {'': tree}


def convert(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  """See stylegan2.convert."""
  choices = {'mapping_lr_mul': 0.01} | chosen_options(given, {'mapping_lr_mul': parsed_positive})
  own, notes = chosen_weights(_candidates(checkpoint), weights, AVERAGED, LATEST)
  arrays = dict(own)
  mean = checkpoint.tree.get('latent_avg')
  if isinstance(mean, np.ndarray):
    arrays['latent_avg'] = mean
  table = Table(arrays)
  table.notes += [*notes, f'mapping_lr_mul={choices["mapping_lr_mul"]}: not in the file']
  convs = max(indices(arrays, r'convs\.(\d+)\..*'), default=-1)
  rows = rows_of(convs + 1, max(indices(arrays, r'to_rgbs\.(\d+)\..*'), default=-1) + 1)
  if rows is None:
    table.lacks('convs.0.conv.weight', 5)
    return table.conversion('stylegan2', 'rosinality', None)
  sized = sizes(table, arrays, LAYOUT, rows, rgb_blocks('skip', rows))
  layers = max(indices(arrays, r'style\.(\d+)\..*'), default=0)
  widths = tuple(
    size_of(arrays, (f'style.{i}.weight', 2, 0), (f'style.{i}.bias', 1, 0), (f'style.{i + 1}.weight', 2, 1))
    for i in range(1, layers + 1)
  )
  inputs = shape_of(arrays, 'style.1.weight', 2)
  filters = [f'convs.{i}.conv.blur.kernel' for i in range(0, rows - 2, 2)]
  filters += [f'to_rgbs.{k}.upsample.kernel' for k in range(rows // 2 - 1)]
  taps = common_taps(table, arrays, filters, axes=(2,), gain=4)
  if layers and inputs is None:
    table.lacks('style.1.weight', 2)
  for i, width in enumerate(widths):
    if width is None:
      table.lacks(f'style.{i + 1}.weight', 2)
  if not sized or None in widths or taps is None or (layers and inputs is None):
    return table.conversion('stylegan2', 'rosinality', None)
  if 'latent_avg' not in arrays:
    table.notes.append('latent_avg: not in the file, so no truncation other than 1 is possible')
  options = StyleGAN2Options(
    resolution=2 ** (rows // 2 + 1),
    z_dim=inputs[1] if inputs else sized['w_dim'],
    mapping_widths=widths,
    mapping_lr_multiplier=choices['mapping_lr_mul'],
    mapping_activation='lrelu',
    num_classes=0,
    embed_dim=0,
    label_input='none',
    mean_w='latent_avg' in arrays,
    architecture='skip',
    resample_filter=taps,
    activation='lrelu',
    clamp=None,
    demodulate=True,
    scaled_epsilon=True,
    final_tanh=False,
    **sized,
  )
  if not fits(options, table.problems):
    return table.conversion('stylegan2', 'rosinality', None)
  width = options.z_dim
  for i, out in enumerate(widths):
    table.take(
      [
        Entry(f'style.{i + 1}.weight', f'mapping_network.layers.{i}.weight', (out, width), 'matrix'),
        Entry(f'style.{i + 1}.bias', f'mapping_network.layers.{i}.bias', (out,)),
      ]
    )
    width = out
  if options.mean_w:
    # Some files keep it with a leading axis, as the mean of a batch.
    shape = (1, options.w_dim) if arrays['latent_avg'].ndim == 2 else (options.w_dim,)
    table.take([Entry('latent_avg', 'w_avg', shape, 'row')])
  table.take(entries(options, LAYOUT))
  return table.conversion('stylegan2', 'rosinality', options)
