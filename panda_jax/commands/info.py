"""`info`: family, sizes and layer table of a generator."""

from collections.abc import Collection, Mapping
from typing import Any

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.errors import brief

EXAMPLES = ('info --generator=cats64',)
COMPUTES = False
LONGEST_OPTION = 1000  # characters


def define(values: flags.FlagValues) -> None:
  shared.generator(values)


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.generators.disk import read_sizes, stored_arrays

  folder = shared.given_generator(options)
  print(described(read_sizes(folder), stored_arrays(folder)))


def described(found: Mapping[str, Any], arrays: Collection[str]) -> str:
  """Family, sizes and layer table of a generator, from `disk.read_sizes` and the names of its weights."""
  from panda_jax.converters.means import mean_of

  mean = mean_of(found['w_dim'] > 0, 'w_avg' in arrays, found.get('mean_w'))
  height, width = found['image_size']
  lines = [
    f'family      {brief(found["family"], 100)}',
    f'image       {height} x {width}, {found["image_channels"]} channels',
    f'z           {found["z_dim"]}',
    f'w           {found["w_dim"] or "none"}',
    f'classes     {found["num_classes"] or "none"}',
    *([f'mean of w   {brief(mean, 100)}'] if mean else []),
    f'parameters  {found["parameters"]:,}',
    '',
    'layer  channels  height  width',
    *(
      f'{layer:5}  {c:8}  {h:6}  {w:5}' for layer, (c, h, w) in sorted((int(k), v) for k, v in found['layers'].items())
    ),
    '',
    'options',
  ]
  lines += [f'  {brief(name, 100)} = {brief(str(value), LONGEST_OPTION)}' for name, value in found['options'].items()]
  return '\n'.join(lines)
