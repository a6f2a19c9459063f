"""`info`: family, sizes and layer table of a generator."""

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.errors import brief

EXAMPLES = ('info --generator=cats64',)


def define(values: flags.FlagValues) -> None:
  shared.generator(values)


def run(options: flags.FlagValues, call) -> None:
  from panda_jax.generators.disk import abstract_generator, read_description

  folder = shared.given_generator(options)
  print(described(abstract_generator(folder), read_description(folder).get('mean_w')))


def described(generator, mean: object) -> str:
  """Family, sizes and layer table of a generator; `mean` as of `means.mean_of`."""
  from panda_jax.converters.means import mean_of
  from panda_jax.generators.disk import count_parameters

  told = mean_of(generator, mean)
  classes = generator.num_classes or 'none'
  lines = [
    f'family      {generator.family}',
    f'image       {generator.image_size[0]} x {generator.image_size[1]}, {generator.image_channels} channels',
    f'z           {generator.z_dim}',
    f'w           {generator.w_dim or "none"}',
    f'classes     {classes}',
    *([f'mean of w   {brief(told, 100)}'] if told else []),
    f'parameters  {count_parameters(generator):,}',
    '',
    'layer  channels  height  width',
    *(f'{layer:5}  {c:8}  {h:6}  {w:5}' for layer, (c, h, w) in sorted(generator.layers.items())),
    '',
    'options',
  ]
  options = generator.options
  lines += [f'  {name} = {getattr(options, name)}' for name in options.__dataclass_fields__]
  return '\n'.join(lines)
