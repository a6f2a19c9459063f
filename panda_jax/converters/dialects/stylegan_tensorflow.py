"""StyleGAN from NVlabs' TensorFlow pickles, of stylegan and of config A of stylegan2."""

import math
from collections.abc import Iterator

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.dialects.base import Dialect
from panda_jax.converters.dialects.tensorflow import Source, is_built_by, mapping_sizes, take_mapping, taps_of
from panda_jax.converters.limits import shown
from panda_jax.converters.tables import FUSED_FROM, Entry, check_grown, chosen_options, fits, shape_of, size_of
from panda_jax.generators.bounds import Taps
from panda_jax.generators.stylegan import StyleGANOptions

FAMILY = 'stylegan'
FUNCTIONS = {'mapping': ('G_mapping',), 'synthesis': ('G_synthesis',)}
RULE = {'fmap_base': 8192, 'fmap_decay': 1.0, 'fmap_max': 512}
RGB = 'synthesis/ToRGB_lod0'


def recognise(checkpoint: Checkpoint) -> bool:
  """Whether it is a StyleGAN of this layout."""
  return is_built_by(checkpoint, 'G_style')


def convert(checkpoint: Checkpoint, weights: str, given: dict[str, str]) -> Conversion:
  """See base.Dialects.convert."""
  chosen_options(given, DIALECT.options)
  source = Source(checkpoint, weights, FUNCTIONS)
  arrays, table, arguments = source.arrays, source.table, source.arguments
  resolution = source.resolution('synthesis/')
  arguments.require(use_styles=True, const_input_layer=True, use_noise=True, use_instance_norm=True)
  arguments.require(use_pixel_norm=False, nonlinearity='lrelu', mapping_nonlinearity='lrelu')
  taps = _blur(arguments.value('blur_filter', [1, 2, 1]), table.problems)
  fused = arguments.value('fused_scale', 'auto')
  if fused not in (True, False, 'auto'):
    table.problems.append(f'fused_scale={shown(fused)}: it is none of True, False and auto')
  if resolution is None or not source.whole():
    return source.finish(FAMILY, None)
  names = _names(resolution)
  widths = tuple(size_of(arrays, *_places(names, i)) for i in range(len(names)))
  start = (shape_of(arrays, f'{names[0]}/const', 4) or (4, 4))[-2:]
  w_dim = size_of(arrays, *((f'{name}/StyleMod/weight', 2, 0) for name in names))
  channels = size_of(arrays, (f'{RGB}/weight', 4, 3), (f'{RGB}/bias', 1, 0))
  lacking = [(f'{name}/bias', 1) for name, width in zip(names, widths, strict=True) if not width]
  lacking += [(f'{names[0]}/StyleMod/weight', 2)] * (not w_dim) + [(f'{RGB}/weight', 4)] * (not channels)
  for key, axes in lacking:
    table.lacks(key, axes)
  mapping = {} if lacking else mapping_sizes(source, 'LabelConcat', w_dim)
  if not mapping:
    return source.finish(FAMILY, None)
  arguments.compare(num_channels=channels, dlatent_broadcast=len(names))
  sizes = {name: (width, 4 * 2 ** (i // 2)) for i, (name, width) in enumerate(zip(names, widths, strict=True))}
  arguments.compare_widths(sizes, **RULE)
  # When it runs, the whole network overwrites the level of detail of the synthesis network with its own.
  table.leave('synthesis/lod', 'that of the whole network replaces it')
  if arguments.value('structure', 'auto') == 'fixed':
    table.leave('lod', 'of no effect on a network that did not grow')
  else:
    check_grown(table, arrays, 'lod')
  options = StyleGANOptions(
    resolution=resolution, widths=widths, w_dim=w_dim, image_channels=channels, blur_filter=taps, start=start, **mapping
  )
  arguments.compare_shape(resolution, start)
  if not fits(options, table.problems):
    return source.finish(FAMILY, None)
  take_mapping(source, options, math.sqrt(2))
  source.take([Entry(f'{names[0]}/const', 'const', (1, widths[0], *start), 'constant')])
  for i, name in enumerate(names):
    target, width = f'synthesis_layers.{i}', widths[i]
    if i:
      fuses = min(options.size(i)) >= FUSED_FROM if fused == 'auto' else fused
      # A transposed convolution is a true convolution, as ours; the other one correlates.
      transform = 'turned' if i % 2 == 0 and not fuses else 'as it is'
      shape = 3, 3, widths[i - 1], width
      source.take([Entry(f'{name}/weight', f'{target}.weight', shape, transform)], math.sqrt(2))
    source.take([Entry(f'{name}/StyleMod/weight', f'{target}.style.weight', (w_dim, 2 * width))], 1)
    source.take(_rest(name, i, options))
  source.take([Entry(f'{RGB}/weight', 'rgb_weight', (1, 1, widths[-1], channels), 'pixel')], 1)
  source.take([Entry(f'{RGB}/bias', 'rgb_bias', (channels,))])
  source.leave_coarse('synthesis/', len(names) // 2)
  psi, cutoff = arguments.value('truncation_psi', 0.7), arguments.value('truncation_cutoff', 8)
  source.note_truncation(None if cutoff is None else psi, cutoff)  # without a cutoff this code truncates nothing
  return source.finish(FAMILY, options)


DIALECT = Dialect(
  recognise, convert, '.pkl of TensorFlow', 'its code: random networks of 32 and 128 pixels; variants: plain numpy'
)


def _names(resolution: int) -> list[str]:
  """Names of the layers, in order."""
  names = ['synthesis/4x4/Const', 'synthesis/4x4/Conv']
  for k in range(3, int(math.log2(resolution)) + 1):
    names += [f'synthesis/{2**k}x{2**k}/{layer}' for layer in ('Conv0_up', 'Conv1')]
  return names


def _places(names: list[str], i: int) -> list[tuple[str, int, int]]:
  """Where the output channels of a layer are found."""
  places = [(f'{names[i]}/bias', 1, 0), (f'{names[i]}/weight', 4, 3), (f'{names[i]}/const', 4, 1)]
  return [*places, (f'{names[i + 1]}/weight' if i + 1 < len(names) else f'{RGB}/weight', 4, 2)]


def _rest(name: str, i: int, options: StyleGANOptions) -> Iterator[Entry]:
  """The table of a layer without its weights."""
  target, width = f'synthesis_layers.{i}', options.widths[i]
  yield Entry(f'synthesis/noise{i}', f'{target}.noise', (1, 1, *options.size(i)), 'map')
  yield Entry(f'{name}/Noise/weight', f'{target}.noise_strength', (width,), 'vector')
  yield Entry(f'{name}/bias', f'{target}.bias', (width,))
  yield Entry(f'{name}/StyleMod/bias', f'{target}.style.bias', (2 * width,))


def _blur(kernel: object, problems: list[str]) -> Taps | None:
  """The taps of the blur after each up-sampling; no blur is one tap. The original correlates, and ours convolves."""
  taps = taps_of(kernel or [1], 'blur_filter', problems)
  if taps is None:
    return None
  rows = isinstance(taps[0], tuple)
  turned = tuple(row[::-1] for row in taps[::-1]) if rows else taps[::-1]
  if len(taps) % 2:
    return turned
  # For an even number of taps the original pads one more zero after the map, ours before it.
  return (*((*row, 0.0) for row in turned), (0.0,) * (len(taps) + 1)) if rows else (*turned, 0.0)
