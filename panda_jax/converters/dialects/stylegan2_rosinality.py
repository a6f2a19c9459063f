"""StyleGAN2 from the .pt files of rosinality's stylegan2-pytorch."""

from collections.abc import Iterator

import numpy as np

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects.base import Dialect
from panda_jax.converters.dialects.stylegan2_tables import Layout, entries, rgb_blocks, rows_of, sizes, with_noise
from panda_jax.converters.foreign import Exported, check_needs, unlike, widths_by_size
from panda_jax.converters.networks import chosen, networks
from panda_jax.converters.tables import (
  Entry,
  Table,
  backwards,
  chosen_options,
  common_taps,
  filter_kernel,
  fits,
  indices,
  parsed_count,
  parsed_positive,
  shape_of,
  size_of,
)
from panda_jax.errors import InputError
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
SIGNATURE = r'(to_rgb1|conv1|convs\.\d+)\.conv\.modulation\.weight'
AVERAGED, LATEST = 'g_ema', 'g'
LACKING = 'not in the file, so stored noise is none; --noise=random draws it, convert --option=noise_seed=0 keeps it'


def recognise(checkpoint: Checkpoint) -> bool:
  """Whether it is a StyleGAN2 of this layout."""
  return bool(networks(checkpoint.tree, SIGNATURE))


def convert(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  """See base.Dialects.convert."""
  choices = {'mapping_lr_mul': 0.01} | chosen_options(given, DIALECT.options)
  network, notes = chosen(checkpoint, SIGNATURE, weights, AVERAGED, LATEST)
  arrays = dict(network.arrays)
  mean = network.beside('latent_avg')
  if mean is not None:
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
  taps = common_taps(table, arrays, _filters(rows), axes=(2,), gain=4)
  if layers and inputs is None:
    table.lacks('style.1.weight', 2)
  for i, width in enumerate(widths):
    if width is None:
      table.lacks(f'style.{i + 1}.weight', 2)
  if not sized or None in widths or taps is None or (layers and inputs is None):
    return table.conversion('stylegan2', 'rosinality', None)
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
  table.take(_mapping_entries(options))
  if options.mean_w:
    _take_mean(table, mean, options.w_dim)
  stored = indices(arrays, r'noises\.noise_(\d+)')
  if options.noise == 'spatial' and not stored:
    _make_noise(table, options, choices.get('noise_seed'))
  elif 'noise_seed' in choices:
    problem = 'the file has noise of its own'
    raise InputError('--option', f'noise_seed={choices["noise_seed"]}', problem, 'leave this option out')
  table.take(entry for entry in entries(options, LAYOUT) if stored or not entry.key.startswith('noises.'))
  return table.conversion('stylegan2', 'rosinality', options)


DIALECT = Dialect(
  recognise,
  convert,
  '.pt; pSp and e4e',
  'its code: random networks of 32 pixels, with and without noise, and inside of pSp; variants: plain numpy',
  {'mapping_lr_mul': parsed_positive, 'noise_seed': parsed_count},
)


def _filters(rows: int) -> list[str]:
  """The keys of the filters."""
  filters = [f'convs.{i}.conv.blur.kernel' for i in range(0, rows - 2, 2)]
  return filters + [f'to_rgbs.{k}.upsample.kernel' for k in range(rows // 2 - 1)]


def _mapping_entries(options: StyleGAN2Options) -> Iterator[Entry]:
  width = options.z_dim
  for i, out in enumerate(options.mapping_widths):
    yield Entry(f'style.{i + 1}.weight', f'mapping_network.layers.{i}.weight', (out, width), 'matrix')
    yield Entry(f'style.{i + 1}.bias', f'mapping_network.layers.{i}.bias', (out,))
    width = out


def export(options: StyleGAN2Options, tensors: dict[str, np.ndarray]) -> Exported:
  """See converters.export.exported."""
  layers = len(options.mapping_widths)
  options, tensors, notes = with_noise(options, tensors)
  check_needs(
    'rosinality',
    options,
    architecture=('skip',),
    activation=('lrelu',),
    mapping_activation=('lrelu',),
    demodulate=(True,),
    final_tanh=(False,),
    num_classes=(0,),
    noise=('spatial',),
    image_channels=(3,),
    start=((4, 4),),
    z_dim=(options.w_dim,),
    mapping_widths=((options.w_dim,) * layers,),
  )
  channels = widths_by_size('rosinality', options.widths)
  arrays = backwards([*_mapping_entries(options), *entries(options, LAYOUT)], tensors)
  arrays |= dict.fromkeys(_filters(options.rows), filter_kernel(options.resample_filter, 4))
  arguments = {'size': options.resolution, 'style_dim': options.w_dim, 'n_mlp': layers}
  arguments |= {'lr_mlp': options.mapping_lr_multiplier, 'channels': channels}
  mean = {'latent_avg': tensors['w_avg']} if options.mean_w else {}
  notes += unlike(options, clamps=False, scaled_epsilon=True)
  return Exported({AVERAGED: arrays, **mean}, arguments, notes)


def _take_mean(table: Table, mean: np.ndarray, w_dim: int) -> None:
  """Takes the mean of w: one row, for a batch of one (rosinality), or the same for each row of w+ (pSp, e4e)."""
  table.checked('latent_avg', mean.shape)
  rows = mean.reshape(-1, mean.shape[-1]) if mean.ndim in (1, 2) and mean.size else np.zeros((0, 0))
  if rows.shape[1:] != (w_dim,):
    table.problems.append(f'latent_avg: expected ({w_dim},) or rows of it, found {mean.shape}')
  elif not np.array_equal(rows, np.broadcast_to(rows[0], rows.shape), equal_nan=True):
    table.problems.append('latent_avg: its rows differ, but there is one mean for all rows of w+')
  else:
    table.tensors['w_avg'], table.sources['w_avg'] = rows[0], 'latent_avg'


def _make_noise(table: Table, options: StyleGAN2Options, seed: int | None) -> None:
  """Replaces the noise that a file lacks: by none, or by what rosinality's code draws, from a given seed."""
  random = np.random.RandomState(seed)
  for i in range(options.rows - 1):
    shape = (*options.size(i + 1), 1)
    noise = np.zeros(shape) if seed is None else random.randn(*shape)
    table.tensors[f'convs.{i}.noise'] = noise.astype(np.float32)
  if seed is None:
    table.lacking['noise'] = LACKING
    table.notes.append(f'noises: {LACKING}')
  else:
    table.notes.append(f'noises: not in the file; drawn in order by numpy.random.RandomState({seed}).randn')
