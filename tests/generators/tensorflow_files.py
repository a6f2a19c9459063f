"""Networks of NVlabs' TensorFlow code, made from the random arrays of `checkpoints` in TensorFlow's layouts."""

import numpy as np

from panda_jax.converters.checkpoint import TensorFlowNetwork


def network(function, variables, kwargs, name='Gs', components=None) -> TensorFlowNetwork:
  """A network as the reader gives it; every second array without axes is a plain number."""
  held = [
    [key, float(value) if np.ndim(value) == 0 and i % 2 else value] for i, (key, value) in enumerate(variables.items())
  ]
  state = {
    'version': 4,
    'name': name,
    'static_kwargs': kwargs,
    'components': components or {},
    'build_module_src': 'raise SystemExit',
    'build_func_name': function,
    'variables': held,
  }
  return TensorFlowNetwork(state)


def kernel(weight):
  """(out, in, k, k) as (k, k, in, out)."""
  return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))


def up_name(i, up='Conv0_up'):
  """The name of layer i of ProGAN and StyleGAN; the first two layers are at 4x4."""
  size = 4 * 2 ** (i // 2)
  return f'{size}x{size}/{up if i % 2 == 0 else "Conv1" if i > 1 else "Conv"}'


def progan(arrays, fused=False, label=0, name='Gs', unscaled=False, **kwargs) -> TensorFlowNetwork:
  """The network of checkpoints.progan; `unscaled` stores the effective weights."""
  count = 1 + max(int(key[5:].split('.')[0]) for key in arrays if key.startswith('layer'))
  channels, z = arrays['output0.weight'].shape[0], arrays['layer0.weight'].shape[1] - label
  out = {'lod': np.zeros((), np.float32)}

  def scale(weight, gain, inputs):
    return weight * np.float32(gain / np.sqrt(inputs)) if unscaled else weight

  for i in range(count):
    weight = arrays[f'layer{i}.weight']
    if i == 0:
      key = '4x4/Dense'
      matrix = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3).reshape(weight.shape[1], -1)
      out[f'{key}/weight'] = scale(matrix, np.sqrt(2) / 4, len(matrix))
    else:
      key = up_name(i, 'Conv0_up' if fused else 'Conv0')
      # Of a transposed convolution, (in, out, k, k) becomes (k, k, out, in) by the same turn.
      inputs = weight.shape[0] if fused and i % 2 == 0 else weight.shape[1]
      out[f'{key}/weight'] = scale(kernel(weight), np.sqrt(2), 9 * inputs)
    out[f'{key}/bias'] = arrays[f'layer{i}.bias']
    if i % 2:
      lod, weight = count // 2 - 1 - i // 2, arrays[f'output{i // 2}.weight']
      out[f'ToRGB_lod{lod}/weight'] = scale(kernel(weight), 1, weight.shape[1])
      out[f'ToRGB_lod{lod}/bias'] = arrays[f'output{i // 2}.bias']
  told = {'num_channels': channels, 'resolution': 2 * 2 ** (count // 2), 'label_size': label, 'latent_size': z}
  told |= {'fused_scale': fused, 'mbstd_group_size': 4} | ({'use_wscale': False} if unscaled else {})
  return network('G_paper', out, told | kwargs, name)


def _mapping(arrays, rows, lr, kwargs, unscaled=False, gain=1.0):
  """The component `mapping` from genforce's arrays, and the sizes that it shows."""
  out, i = {}, 0
  if 'mapping.label_weight' in arrays:
    out['LabelConcat/weight'] = arrays['mapping.label_weight']
  while f'mapping.dense{i}.weight' in arrays:
    matrix = arrays[f'mapping.dense{i}.weight'].T
    out[f'Dense{i}/weight'] = matrix * np.float32(gain / np.sqrt(len(matrix))) if unscaled else matrix
    out[f'Dense{i}/bias'] = arrays[f'mapping.dense{i}.bias']
    i += 1
  label = len(out.get('LabelConcat/weight', ()))
  sizes = {
    'latent_size': len(out['Dense0/weight']) // (2 if label else 1),
    'label_size': label,
    'dlatent_size': out[f'Dense{i - 1}/bias'].size,
    'mapping_layers': i,
    'mapping_lrmul': lr,
  }
  sizes |= {'mapping_fmaps': out['Dense0/bias'].size} if i > 1 else {}
  return network('G_mapping', out, sizes | kwargs | {'dlatent_broadcast': rows}, 'G_mapping'), sizes


def stylegan(arrays, lr=0.01, name='Gs', unscaled=False, stale=3.0, **kwargs) -> TensorFlowNetwork:
  """The network of checkpoints.stylegan; `stale` is the level of detail that the synthesis network still has."""
  rows = 1 + max(int(key.split('.')[1][5:]) for key in arrays if key.startswith('synthesis.layer'))
  told = {'num_channels': arrays['synthesis.output0.weight'].shape[0], 'resolution': 2 * 2 ** (rows // 2)}
  told |= kwargs | ({'use_wscale': False} if unscaled else {})
  mapping, sizes = _mapping(arrays, rows, lr, told, unscaled, np.sqrt(2))
  out = {'lod': np.asarray(stale, np.float32)}

  def scale(weight, gain):
    return weight * np.float32(gain / np.sqrt(np.prod(weight.shape[:-1]))) if unscaled else weight

  for i in range(rows):
    key, prefix = up_name(i) if i else '4x4/Const', f'synthesis.layer{i}'
    out[f'noise{i}'] = arrays[f'{prefix}.apply_noise.noise']
    if i:
      out[f'{key}/weight'] = scale(kernel(arrays[f'{prefix}.weight']), np.sqrt(2))
    else:
      out[f'{key}/const'] = arrays[f'{prefix}.const']
    out[f'{key}/Noise/weight'] = arrays[f'{prefix}.apply_noise.weight']
    out[f'{key}/bias'] = arrays[f'{prefix}.bias']
    out[f'{key}/StyleMod/weight'] = scale(arrays[f'{prefix}.style.weight'].T, 1)
    out[f'{key}/StyleMod/bias'] = arrays[f'{prefix}.style.bias']
    if i % 2:
      lod = rows // 2 - 1 - i // 2
      out[f'ToRGB_lod{lod}/weight'] = scale(kernel(arrays[f'synthesis.output{i // 2}.weight']), 1)
      out[f'ToRGB_lod{lod}/bias'] = arrays[f'synthesis.output{i // 2}.bias']
  synthesis = network('G_synthesis', out, sizes | told, 'G_synthesis')
  own = {'lod': np.zeros((), np.float32), 'dlatent_avg': arrays['truncation.w_avg']}
  components = {'synthesis': synthesis, 'mapping': mapping}
  return network('G_style', own, sizes | told | {'truncation_psi': 0.6}, name, components)


def stylegan2(arrays, lr=0.01, name='Gs', revised=False, **kwargs) -> TensorFlowNetwork:
  """The network of checkpoints.stylegan2_genforce; `revised` uses the layer names of the code that grows."""
  rows = 2 + max(int(key.split('.')[1][5:]) for key in arrays if key.startswith('synthesis.layer'))
  blocks = [k for k in range(rows // 2) if f'synthesis.output{k}.weight' in arrays]
  told = {'num_channels': arrays[f'synthesis.output{blocks[-1]}.weight'].shape[0], 'resolution': 2 * 2 ** (rows // 2)}
  told |= kwargs
  mapping, sizes = _mapping(arrays, rows, lr, told)
  out = {'lod': np.ones((), np.float32)} if revised else {}
  out |= {f'noise{i}': arrays[f'synthesis.layer{i}.noise'] for i in range(rows - 1)}
  out['4x4/Const/const'] = arrays['synthesis.early_layer.const']
  for i in range(rows - 1):
    _styled(out, up_name(i + 1), f'synthesis.layer{i}', arrays)
    out[f'{up_name(i + 1)}/noise_strength'] = arrays[f'synthesis.layer{i}.noise_strength']
    k = i // 2
    if i % 2 == 0 and k in blocks:
      lod = rows // 2 - 1 - k
      place = f'ToRGB_lod{lod}' if revised else f'{4 * 2**k}x{4 * 2**k}/ToRGB'
      _styled(out, place, f'synthesis.output{k}', arrays)
  function = 'G_synthesis_stylegan_revised' if revised else 'G_synthesis_stylegan2'
  synthesis = network(function, out, sizes | told, 'G_synthesis')
  own = {'lod': np.zeros((), np.float32), 'dlatent_avg': arrays['truncation.w_avg']}
  top = sizes | told | ({'synthesis_func': function} if revised else {})
  return network('G_main', own, top, name, {'synthesis': synthesis, 'mapping': mapping})


def _styled(out, place, prefix, arrays):
  out[f'{place}/weight'] = kernel(arrays[f'{prefix}.weight'])
  out[f'{place}/mod_weight'] = arrays[f'{prefix}.style.weight'].T
  out[f'{place}/mod_bias'] = arrays[f'{prefix}.style.bias']
  out[f'{place}/bias'] = arrays[f'{prefix}.bias']


def stylegan2_ada(module, name='Gs', **kwargs) -> TensorFlowNetwork:
  """The network of checkpoints.stylegan2_nvlabs."""
  arrays, given = module.state_dict, module.init_kwargs
  synthesis, mapping = given['synthesis_kwargs'], given['mapping_kwargs']
  rows = 2 * (given['img_resolution'].bit_length() - 1) - 2
  told = {'num_channels': given['img_channels'], 'resolution': given['img_resolution'], 'latent_size': given['z_dim']}
  told |= {'label_size': given['c_dim'], 'dlatent_size': given['w_dim'], 'conv_clamp': synthesis['conv_clamp']}
  told |= {'mapping_layers': mapping['num_layers'], 'mapping_lrmul': mapping['lr_multiplier'], 'num_fp16_res': 4}
  told |= {'nonlinearity': synthesis['activation'], 'mapping_nonlinearity': mapping['activation']}
  told |= {'architecture': synthesis['architecture'], 'mapping_fmaps': mapping['layer_features']} | kwargs
  inside, outside = {}, {}
  if given['c_dim']:
    inside['LabelEmbed/weight'] = arrays['mapping.embed.weight'].T
    inside['LabelEmbed/bias'] = arrays['mapping.embed.bias']
    told['label_fmaps'] = inside['LabelEmbed/bias'].size
  for i in range(mapping['num_layers']):
    inside[f'Dense{i}/weight'] = arrays[f'mapping.fc{i}.weight'].T
    inside[f'Dense{i}/bias'] = arrays[f'mapping.fc{i}.bias']
  outside['4x4/Const/const'] = arrays['synthesis.b4.const'][None]
  for i in range(rows - 1):
    place, size = up_name(i + 1), 4 * 2 ** ((i + 1) // 2)
    prefix = f'synthesis.b{size}.conv{0 if i % 2 else 1}'
    if f'{prefix}.noise_const' in arrays:
      outside[f'noise{i}'] = arrays[f'{prefix}.noise_const'][None, None]
      outside[f'{place}/noise_strength'] = arrays[f'{prefix}.noise_strength']
    weight = arrays[f'{prefix}.weight']
    _modulated(outside, place, prefix, arrays, weight[:, :, ::-1, ::-1] if i % 2 else weight)
    if f'synthesis.b{size}.torgb.weight' in arrays and i % 2 == 0:
      head = f'synthesis.b{size}.torgb'
      _modulated(outside, f'{size}x{size}/ToRGB', head, arrays, arrays[f'{head}.weight'])
    if f'synthesis.b{size}.skip.weight' in arrays and i % 2:
      outside[f'{size}x{size}/Skip/weight'] = kernel(arrays[f'synthesis.b{size}.skip.weight'])
  components = {
    'synthesis': network('G_synthesis', outside, told, 'G_synthesis'),
    'mapping': network('G_mapping', inside, told | {'dlatent_broadcast': rows}, 'G_mapping'),
  }
  return network('G_main', {'dlatent_avg': arrays['mapping.w_avg']}, told, name, components)


def _modulated(out, place, prefix, arrays, weight):
  out[f'{place}/weight'] = kernel(weight)
  out[f'{place}/mod_weight'] = arrays[f'{prefix}.affine.weight'].T
  out[f'{place}/mod_bias'] = arrays[f'{prefix}.affine.bias'] - 1
  out[f'{place}/bias'] = arrays[f'{prefix}.bias']
