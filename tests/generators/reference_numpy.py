"""ProGAN, StyleGAN and StyleGAN2 from their formulas in float64 numpy, NCHW, on the arrays of a checkpoint as stored.

It is simple and independent of the package: every convolution is a loop over kernel positions, and a style makes a
kernel for each sample. Each network returns a dict: 'w', 'wplus', 'image', 'features' {layer: array} and, for
StyleGAN2, 'rgb' {layer: array or None}.
"""

import numpy as np


def doubles(arrays):
  return {key: np.asarray(value, np.float64) for key, value in arrays.items()}


def correlate(x, weight, pad):
  """Convolution of (N, I, H, W) with (O, I, k, k)."""
  k = weight.shape[-1]
  x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
  height, width = x.shape[2] - k + 1, x.shape[3] - k + 1
  out = np.zeros((x.shape[0], weight.shape[0], height, width))
  for i in range(k):
    for j in range(k):
      out += np.einsum('nchw,oc->nohw', x[:, :, i : i + height, j : j + width], weight[:, :, i, j])
  return out


def transposed(x, weight, pad):
  """Transposed convolution of stride 2 of (N, I, H, W) with (I, O, k, k): every pixel adds its kernel."""
  n, _, height, width = x.shape
  k = weight.shape[-1]
  out = np.zeros((n, weight.shape[1], 2 * height + k - 2, 2 * width + k - 2))
  for i in range(height):
    for j in range(width):
      out[:, :, 2 * i : 2 * i + k, 2 * j : 2 * j + k] += np.einsum('nc,cokl->nokl', x[:, :, i, j], weight)
  return out[:, :, pad : out.shape[2] - pad, pad : out.shape[3] - pad]


def filtered(x, kernel, before, after):
  """True convolution of every channel with one 2-D kernel, after padding."""
  if kernel.ndim == 1:
    kernel = np.outer(kernel, kernel)
  n, c, height, width = x.shape
  lone = x.reshape(n * c, 1, height, width)
  lone = np.pad(lone, ((0, 0), (0, 0), (before, after), (before, after)))
  out = correlate(lone, kernel[None, None, ::-1, ::-1], 0)
  return out.reshape(n, c, *out.shape[2:])


def interleaved(x):
  """Inserts a zero after every pixel."""
  n, c, height, width = x.shape
  out = np.zeros((n, c, 2 * height, 2 * width))
  out[:, :, ::2, ::2] = x
  return out


def doubled(x):
  return x.repeat(2, axis=2).repeat(2, axis=3)


def unit(x):
  return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-8)


def lrelu(x):
  return np.where(x < 0, 0.2 * x, x)


ACTIVATIONS = {
  'linear': lambda x: x,
  'relu': lambda x: np.maximum(x, 0) * np.sqrt(2),
  'lrelu': lambda x: lrelu(x) * np.sqrt(2),
  'tanh': np.tanh,
  'sigmoid': lambda x: 1 / (1 + np.exp(-x)),
  'elu': lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
  'selu': lambda x: 1.0507009873554805 * np.where(x < 0, 1.6732632423543772 * np.expm1(np.minimum(x, 0)), x),
  'softplus': lambda x: np.logaddexp(x, 0),
  'swish': lambda x: x / (1 + np.exp(-x)) * np.sqrt(2),
}


def bias(values):
  return values.reshape(1, -1, 1, 1)


def smeared(weight):
  """A kernel, 3x3 on its last two axes, summed over its four positions in 4x4."""
  w = np.pad(weight, ((0, 0), (0, 0), (1, 1), (1, 1)))
  return w[:, :, 1:, 1:] + w[:, :, :-1, 1:] + w[:, :, 1:, :-1] + w[:, :, :-1, :-1]


def truncated(wplus, mean, psi, count):
  out = wplus.copy()
  out[:, :count] = (mean + psi * (out - mean))[:, :count]
  return out


def progan(arrays, z, label=None, *, fused=False, final_tanh=False):
  arrays = doubles(arrays)
  x = unit(np.asarray(z, np.float64))
  if label is not None:
    x = np.concatenate([x * np.sqrt(z.shape[1]), label], axis=1)
  x = x[:, :, None, None]
  features = {}
  count = 1 + max(int(key[5:].split('.')[0]) for key in arrays if key.startswith('layer'))
  for i in range(count):
    weight = arrays[f'layer{i}.weight']
    up = i > 0 and i % 2 == 0
    inputs = x.shape[1]
    weight = weight * np.sqrt(2) / np.sqrt(inputs * weight.shape[-1] ** 2)
    x = unit(x)
    if up and fused:
      x = transposed(x, smeared(weight), 1)
    else:
      x = correlate(doubled(x) if up else x, weight, 3 if i == 0 else 1)
    x = lrelu(x + bias(arrays[f'layer{i}.bias']))
    if i % 2:
      features[i // 2 + 3] = x
  key = f'output{count // 2 - 1}'
  weight = arrays[f'{key}.weight'] / np.sqrt(x.shape[1])
  image = correlate(unit(x), weight, 0) + bias(arrays[f'{key}.bias'])
  return {'image': np.tanh(image) if final_tanh else image, 'features': features}


def genforce_mapping(arrays, z, label, gain_first, lr):
  x = np.asarray(z, np.float64)
  if label is not None:
    x = np.concatenate([x, label @ arrays['mapping.label_weight']], axis=1)
  x, i = unit(x), 0
  while f'mapping.dense{i}.weight' in arrays:
    weight = arrays[f'mapping.dense{i}.weight']
    x = x @ (weight * lr * (np.sqrt(2) if gain_first else 1) / np.sqrt(weight.shape[1])).T
    x = lrelu(x + arrays[f'mapping.dense{i}.bias'] * lr) * (1 if gain_first else np.sqrt(2))
    i += 1
  return x


def genforce_rows(arrays, w, w_dim, rows, psi, count):
  mean = arrays['truncation.w_avg'].reshape(1, -1, w_dim)
  wplus = np.tile(w[:, None], (1, rows, 1)) if w.shape[1] == w_dim else w.reshape(len(w), rows, w_dim)
  return truncated(wplus, mean, psi, count) if psi < 1 and count else wplus


def stylegan(
  arrays, z, label=None, *, psi=1.0, count=99, fused='auto', noise='const', final_tanh=False, lr=0.01, channel=False
):
  arrays = doubles(arrays)
  rows = 1 + max(int(key.split('.')[1][5:]) for key in arrays if key.startswith('synthesis.layer'))
  w = genforce_mapping(arrays, z, label, True, lr)
  w_dim = arrays['synthesis.layer0.style.weight'].shape[1]
  wplus = genforce_rows(arrays, w, w_dim, rows, psi, count)
  features = {}
  x = None
  for i in range(rows):

    def get(name, i=i):
      return arrays[f'synthesis.layer{i}.{name}']

    if i == 0:
      x = np.repeat(get('const'), len(z), axis=0)
    else:
      weight = get('weight') * np.sqrt(2) / np.sqrt(9 * x.shape[1])
      if i % 2 == 0:
        fuse = 2 * min(x.shape[2:]) >= 128 if fused == 'auto' else fused
        x = transposed(x, smeared(weight).transpose(1, 0, 2, 3), 1) if fuse else correlate(doubled(x), weight, 1)
        blur = get('blur.kernel')[:1, 0][0]
        edge = len(blur) // 2
        x = filtered(x, blur[::-1, ::-1], edge, edge)
      else:
        x = correlate(x, weight, 1)
    if noise == 'const':
      strength = get('apply_noise.weight')
      x = x + get('apply_noise.noise') * (strength[None, None] if channel else bias(strength))
    x = lrelu(x + bias(get('bias')))
    x = x - x.mean(axis=(2, 3), keepdims=True)
    x = x / np.sqrt(np.mean(x**2, axis=(2, 3), keepdims=True) + 1e-8)
    style = wplus[:, i] @ get('style.weight').T / np.sqrt(w_dim) + get('style.bias')
    channels = x.shape[1]
    x = x * (style[:, :channels, None, None] + 1) + style[:, channels:, None, None]
    if i % 2:
      features[i // 2 + 3] = x
  key = f'synthesis.output{rows // 2 - 1}'
  image = correlate(x, arrays[f'{key}.weight'] / np.sqrt(x.shape[1]), 0) + bias(arrays[f'{key}.bias'])
  return {'w': w, 'wplus': wplus, 'image': np.tanh(image) if final_tanh else image, 'features': features}


def modulated(x, weight, style, *, gain, demodulate, epsilon_on_scaled, up=None, flip=False):
  """A kernel per sample; `up` is the resampling filter, of sum 1, of an up-sampling layer."""
  outs = []
  for one, s in zip(x, style, strict=True):
    w = weight * s[None, :, None, None] * (gain if epsilon_on_scaled or not demodulate else 1)
    if demodulate:
      w = w / np.sqrt((w**2).sum(axis=(1, 2, 3), keepdims=True) + 1e-8)
    one = one[None]
    if up is None:
      outs.append(correlate(one, w, w.shape[-1] // 2))
    else:
      w = w[:, :, ::-1, ::-1] if flip else w
      taps = up.shape[0]
      outs.append(filtered(transposed(one, w.transpose(1, 0, 2, 3), 0), 4 * up, (taps + 1) // 2 - 1, (taps - 2) // 2))
  return np.concatenate(outs)


def upsampled(x, taps):
  count = taps.shape[0]
  return filtered(interleaved(x), (4 if taps.ndim == 2 else 2) * taps, (count + 1) // 2, (count - 2) // 2)


def stylegan2_genforce(
  arrays, z, label=None, *, psi=1.0, count=99, noise='const', final_tanh=False, demodulate=True, lr=0.01
):
  arrays = doubles(arrays)
  convs = 1 + max(int(key.split('.')[1][5:]) for key in arrays if key.startswith('synthesis.layer'))
  w = genforce_mapping(arrays, z, label, False, lr)
  w_dim = arrays['synthesis.layer0.style.weight'].shape[1]
  wplus = genforce_rows(arrays, w, w_dim, convs + 1, psi, count)
  x, rgb = np.repeat(arrays['synthesis.early_layer.const'], len(z), axis=0), None
  features, rgbs = {}, {}

  def layer(name, x, w, **kwargs):
    style = w @ arrays[f'{name}.style.weight'].T / np.sqrt(w_dim) + arrays[f'{name}.style.bias'] + 1
    weight = arrays[f'{name}.weight']
    gain = 1 / np.sqrt(weight[0].size)
    return modulated(x, weight, style, gain=gain, epsilon_on_scaled=True, flip=True, **kwargs)

  for i in range(convs):
    name = f'synthesis.layer{i}'
    # The stored filter is correlated, and has a gain of 4.
    up = arrays[f'{name}.filter.kernel'][0, 0, ::-1, ::-1] / 4 if i % 2 else None
    x = layer(name, x, wplus[:, i], demodulate=demodulate, up=up)
    if noise == 'const':
      x = x + arrays[f'{name}.noise'] * arrays[f'{name}.noise_strength']
    x = lrelu(x + bias(arrays[f'{name}.bias'])) * np.sqrt(2)
    head = f'synthesis.output{i // 2}'
    if i % 2 == 0 and f'{head}.weight' in arrays:
      y = layer(head, x, wplus[:, i + 1], demodulate=False) + bias(arrays[f'{head}.bias'])
      if rgb is not None:
        y = y + upsampled(rgb, arrays['synthesis.upsample.kernel'][0, 0, ::-1, ::-1] / 4)
      rgb = y
    features[i + 1], rgbs[i + 1] = x, rgb
  return {
    'w': w,
    'wplus': wplus,
    'image': np.tanh(rgb) if final_tanh else rgb,
    'features': features,
    'rgb': rgbs,
  }


def nvlabs_mapping(arrays, z, c, lr, activation):
  parts = [unit(np.asarray(z, np.float64))] if z.shape[1] else []
  if 'mapping.embed.weight' in arrays:
    weight = arrays['mapping.embed.weight']
    parts.append(unit(c @ weight.T / np.sqrt(weight.shape[1]) + arrays['mapping.embed.bias']))
  x, i = np.concatenate(parts, axis=1), 0
  while f'mapping.fc{i}.weight' in arrays:
    weight = arrays[f'mapping.fc{i}.weight']
    x = ACTIVATIONS[activation](x @ weight.T * lr / np.sqrt(weight.shape[1]) + arrays[f'mapping.fc{i}.bias'] * lr)
    i += 1
  return x


def stylegan2_nvlabs(
  arrays,
  z,
  c=None,
  *,
  psi=1.0,
  cutoff=None,
  noise='const',
  architecture='skip',
  clamp=None,
  activation='lrelu',
  mapping_activation='lrelu',
  lr=0.01,
):
  arrays = doubles(arrays)
  sizes = sorted({int(key.split('.')[1][1:]) for key in arrays if key.startswith('synthesis.b')})
  rows = 2 * len(sizes)
  w = nvlabs_mapping(arrays, z, c, lr, mapping_activation)
  wplus = np.tile(w[:, None], (1, rows, 1))
  if psi != 1:
    wplus = truncated(wplus, arrays['mapping.w_avg'], psi, rows if cutoff is None else cutoff)
  bound = np.inf if clamp is None else clamp
  features, rgbs = {}, {}

  def affine(name, w):
    weight = arrays[f'{name}.affine.weight']
    return w @ weight.T / np.sqrt(weight.shape[1]) + arrays[f'{name}.affine.bias']

  def layer(name, x, w, gain=1.0, up=False):
    taps = arrays[f'{name}.resample_filter'] if up else None
    taps = np.outer(taps, taps) if up and taps.ndim == 1 else taps
    x = modulated(
      x, arrays[f'{name}.weight'], affine(name, w), gain=1, demodulate=True, epsilon_on_scaled=False, up=taps
    )
    if noise == 'const' and f'{name}.noise_const' in arrays:
      x = x + arrays[f'{name}.noise_const'] * arrays[f'{name}.noise_strength']
    x = ACTIVATIONS[activation](x + bias(arrays[f'{name}.bias'])) * gain
    return np.clip(x, -bound * gain, bound * gain)

  x, rgb, i = np.repeat(arrays['synthesis.b4.const'][None], len(z), axis=0), None, 0
  for size in sizes:
    name = f'synthesis.b{size}'
    if size > 4 and architecture == 'resnet':
      weight = arrays[f'{name}.skip.weight']
      y = upsampled(correlate(x, weight / np.sqrt(weight.shape[1]), 0), arrays[f'{name}.skip.resample_filter'])
      x = layer(f'{name}.conv0', x, wplus[:, i], up=True)
      x = layer(f'{name}.conv1', x, wplus[:, i + 1], gain=np.sqrt(0.5)) + y * np.sqrt(0.5)
      i += 2
    else:
      if size > 4:
        x = layer(f'{name}.conv0', x, wplus[:, i], up=True)
        i += 1
        features[i], rgbs[i] = x, rgb
      x = layer(f'{name}.conv1', x, wplus[:, i])
      i += 1
    if rgb is not None:
      rgb = upsampled(rgb, arrays[f'{name}.resample_filter'])
    if f'{name}.torgb.weight' in arrays:
      weight = arrays[f'{name}.torgb.weight']
      style = affine(f'{name}.torgb', wplus[:, i]) / np.sqrt(weight.shape[1])
      y = modulated(x, weight, style, gain=1, demodulate=False, epsilon_on_scaled=False)
      y = np.clip(y + bias(arrays[f'{name}.torgb.bias']), -bound, bound)
      rgb = y if rgb is None else rgb + y
    features[i], rgbs[i] = x, rgb
  return {'w': w, 'wplus': wplus, 'image': rgb, 'features': features, 'rgb': rgbs}


def stylegan2_rosinality(arrays, mean, z, *, psi=1.0, noise='const', lr=0.01):
  arrays = doubles(arrays)
  w, i = unit(np.asarray(z, np.float64)), 1
  while f'style.{i}.weight' in arrays:
    weight = arrays[f'style.{i}.weight']
    w = lrelu(w @ weight.T * lr / np.sqrt(weight.shape[1]) + arrays[f'style.{i}.bias'] * lr) * np.sqrt(2)
    i += 1
  convs = 2 + max(int(key.split('.')[1]) for key in arrays if key.startswith('convs.'))
  wplus = np.tile(w[:, None], (1, convs + 1, 1))
  if psi < 1:
    wplus = truncated(wplus, np.asarray(mean, np.float64), psi, convs + 1)
  features, rgbs = {}, {}

  def layer(name, x, w, **kwargs):
    weight, matrix = arrays[f'{name}.conv.weight'][0], arrays[f'{name}.conv.modulation.weight']
    style = w @ matrix.T / np.sqrt(matrix.shape[1]) + arrays[f'{name}.conv.modulation.bias']
    return modulated(x, weight, style, gain=1 / np.sqrt(weight[0].size), epsilon_on_scaled=True, **kwargs)

  x, rgb = np.repeat(arrays['input.input'], len(z), axis=0), None
  for i in range(convs):
    name = f'convs.{i - 1}' if i else 'conv1'
    up = arrays[f'{name}.conv.blur.kernel'] / 4 if i % 2 else None
    x = layer(name, x, wplus[:, i], demodulate=True, up=up)
    if noise == 'const':
      x = x + arrays[f'noises.noise_{i}'] * arrays[f'{name}.noise.weight']
    x = lrelu(x + bias(arrays[f'{name}.activate.bias'])) * np.sqrt(2)
    if i % 2 == 0:
      head = f'to_rgbs.{i // 2 - 1}' if i else 'to_rgb1'
      y = layer(head, x, wplus[:, i + 1], demodulate=False) + arrays[f'{head}.bias']
      if rgb is not None:
        y = y + upsampled(rgb, arrays[f'{head}.upsample.kernel'] / 4)
      rgb = y
    features[i + 1], rgbs[i + 1] = x, rgb
  return {'w': w, 'wplus': wplus, 'image': rgb, 'features': features, 'rgb': rgbs}
