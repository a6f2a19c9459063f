"""A second R3GAN, in numpy and float64, on the tensors of a file by their names in it."""

import numpy as np

from tests.converters.writers import nested_modules
from tests.generators.checkpoints import Maker
from tests.generators.reference_numpy import bias, correlate, doubles, filtered, interleaved, lrelu

PERIODS = {'new': ('training.networks', 'R3GAN'), 'old': ('training.networks_baseline', 'BaselineGAN')}


def arrays(widths=(6, 4, 4), blocks=(1, 2, 1), inner=(12, 8, 8), groups=(3, 1, 2), z_dim=5, **variant) -> dict:
  """A state dict with random numbers.

  Args:
    widths, blocks, inner, groups: of each stage.
    z_dim: numbers in z.
    variant: classes and embed of a conditional one; kernel; taps; channels; seed.
  """
  classes, embed = variant.get('classes', 0), variant.get('embed', 0)
  kernel, taps = variant.get('kernel', 3), np.asarray(variant.get('taps', (1, 3, 3, 1)), np.float64)
  m = Maker(variant.get('seed', 0))
  if classes:
    m.normal('Model.EmbeddingLayer.weight', embed, classes)
  m.normal('Model.MainLayers.0.Layers.0.Basis', widths[0], 4, 4)
  m.normal('Model.MainLayers.0.Layers.0.LinearLayer.weight', widths[0], z_dim + embed, scale=0.4)
  for i, (C, M) in enumerate(zip(widths, inner, strict=True)):
    stage = f'Model.MainLayers.{i}.Layers'
    if i:
      m.arrays[f'{stage}.0.Resampler.Kernel'] = np.asarray(np.outer(taps, taps) / taps.sum() ** 2, np.float32)
      if widths[i - 1] != C:
        m.normal(f'{stage}.0.LinearLayer.Layer.weight', C, widths[i - 1], 1, 1, scale=0.5)
    for j in range(1, blocks[i] + 1):
      m.normal(f'{stage}.{j}.LinearLayer1.Layer.weight', M, C, 1, 1, scale=0.4)
      m.normal(f'{stage}.{j}.NonLinearity1.Bias', M, scale=0.2)
      m.normal(f'{stage}.{j}.LinearLayer2.Layer.weight', M, M // groups[i], kernel, kernel, scale=0.2)
      m.normal(f'{stage}.{j}.NonLinearity2.Bias', M, scale=0.2)
      m.normal(f'{stage}.{j}.LinearLayer3.Layer.weight', C, M, 1, 1, scale=0.2)
  m.normal('Model.AggregationLayer.Layer.weight', variant.get('channels', 3), widths[-1], 1, 1, scale=0.4)
  return m.arrays


def pickled(state: dict, period='new', **attributes):
  """The generator of a snapshot, as a plain module with the class names of a period; attributes of the network."""
  top, package = PERIODS[period]
  classes = {'': f'{top}.Generator', 'Model': f'{package}.Networks.Generator'}
  for key in state:
    parts = key.split('.')
    for i in range(1, len(parts)):
      name = '.'.join(parts[:i])
      classes.setdefault(name, f'{package}.Networks.{_class_of(name)}')
      if 'Linear' in parts[i - 1] and i == len(parts) - 1:
        classes[name] = 'torch.nn.modules.linear.Linear'
      if parts[i - 1] in ('MainLayers', 'Layers'):
        classes[name] = 'torch.nn.modules.container.ModuleList'
      if parts[i - 1] == 'Layer':
        classes[name] = 'torch.nn.modules.conv.Conv2d'
      if parts[i - 1] == 'Resampler':
        classes[name] = f'{package}.Resamplers.InterpolativeUpsamplerReference'
      if parts[i - 1].startswith('NonLinearity'):
        classes[name] = f'{package}.FusedOperators.BiasedActivationReference'
  return nested_modules(state, classes, attributes)


def _class_of(name: str) -> str:
  last = name.rsplit('.', 1)[-1]
  if name.count('.') == 2:
    return 'GeneratorStage'
  if name.count('.') == 4:
    stage = int(name.split('.')[2])
    return ('UpsampleLayer' if stage else 'GenerativeBasis') if last == '0' else 'ResidualBlock'
  return 'Convolution'


def run(state: dict, z: np.ndarray, rows: np.ndarray | None = None) -> dict:
  """'image' and 'features' {layer: array}, NCHW."""
  a = doubles(state)
  latents = np.asarray(z, np.float64)
  if rows is not None:
    latents = np.concatenate([latents, rows @ a['Model.EmbeddingLayer.weight'].T], axis=1)
  scales = latents @ a['Model.MainLayers.0.Layers.0.LinearLayer.weight'].T
  x = scales[:, :, None, None] * a['Model.MainLayers.0.Layers.0.Basis'][None]
  features, stages = [x], 1 + max(int(key.split('.')[2]) for key in a if 'MainLayers' in key)
  for i in range(stages):
    stage = f'Model.MainLayers.{i}.Layers'
    if i:
      matrix = a.get(f'{stage}.0.LinearLayer.Layer.weight')
      x = x if matrix is None else correlate(x, matrix, 0)
      kernel = a[f'{stage}.0.Resampler.Kernel']
      x = filtered(interleaved(x), 4 * kernel, (len(kernel) + 1) // 2, (len(kernel) - 2) // 2)
      features.append(x)
    for j in range(1, 100):
      key = f'{stage}.{j}'
      if f'{key}.NonLinearity1.Bias' not in a:
        break
      y = lrelu(correlate(x, a[f'{key}.LinearLayer1.Layer.weight'], 0) + bias(a[f'{key}.NonLinearity1.Bias']))
      weight = a[f'{key}.LinearLayer2.Layer.weight']
      groups, pad = y.shape[1] // weight.shape[1], weight.shape[-1] // 2
      pairs = zip(np.split(y, groups, axis=1), np.split(weight, groups), strict=True)
      y = np.concatenate([correlate(part, kernel, pad) for part, kernel in pairs], axis=1)
      y = lrelu(y + bias(a[f'{key}.NonLinearity2.Bias']))
      x = x + correlate(y, a[f'{key}.LinearLayer3.Layer.weight'], 0)
      features.append(x)
  return {'image': correlate(x, a['Model.AggregationLayer.Layer.weight'], 0), 'features': dict(enumerate(features, 1))}
