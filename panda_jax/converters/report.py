"""The report of a conversion, for the user and for generator.json."""

from panda_jax.converters.assembly import Conversion
from panda_jax.converters.checkpoint import Checkpoint
from panda_jax.converters.means import mean_of
from panda_jax.generators.disk import count_parameters

LICENCE = (
  'The weights come from {name}. The licence of the network that they were taken from applies to them still '
  '(several published networks are for non-commercial use only): mind it before using or sharing them.'
)


def description(checkpoint: Checkpoint, conversion: Conversion, weights: str) -> dict:
  """The entries of generator.json that only a conversion knows; JSON values."""
  return {
    'source': {
      'name': checkpoint.path.name,
      'sha256': checkpoint.sha256,
      'bytes': checkpoint.size,
      'container': checkpoint.container,
      'dialect': conversion.dialect,
      'weights': weights,
    },
    **({'lacking': dict(conversion.lacking)} if conversion.lacking else {}),
    **({'mean_w': conversion.mean} if conversion.mean else {}),
    'licence': LICENCE.format(name=checkpoint.path.name),
    'report': {
      'used': dict(conversion.sources),
      'unused': dict(conversion.unused),
      'notes': list(conversion.notes),
    },
  }


def lines(checkpoint: Checkpoint, conversion: Conversion, generator, destination: object, weights: str) -> list[str]:
  """The report that the command prints."""
  mean = mean_of(hasattr(generator, 'mapping'), hasattr(generator, 'w_avg'), conversion.mean)
  shown = [
    ('source', f'{checkpoint.path} ({checkpoint.container}, {checkpoint.size} bytes)'),
    ('sha256', checkpoint.sha256),
    ('family', conversion.family),
    ('dialect', conversion.dialect),
    ('weights', weights),
    ('image', f'{generator.image_size[0]} x {generator.image_size[1]}, {generator.image_channels} channels'),
    ('latents', f'z {generator.z_dim}, w {generator.w_dim or "none"}, classes {generator.num_classes or "none"}'),
    *([('mean of w', mean)] if mean else []),
    ('parameters', f'{count_parameters(generator):,}'),
    ('keys used', f'{len(set(conversion.sources.values()))}, setting {len(conversion.tensors)} arrays'),
  ]
  text = [f'{name:<12} {value}' for name, value in shown]
  text.append('layers       ' + ', '.join(f'{layer}: {h}x{w}x{c}' for layer, (c, h, w) in generator.layers.items()))
  unused = f'{len(conversion.unused)}, which the generator does without'
  text.append(f'keys unused  {unused if conversion.unused else "none"}')
  reasons: dict[str, list[str]] = {}
  for key, reason in conversion.unused.items():
    reasons.setdefault(reason, []).append(key)
  text += [f'  {_briefly(keys)}: {reason}' for reason, keys in reasons.items()]
  text += [f'note         {note}' for note in conversion.notes]
  text.append(f'licence      {LICENCE.format(name=checkpoint.path.name)}')
  text.append(f'written      {destination} (generator.json lists every key)')
  return text


def _briefly(keys: list[str], most: int = 6) -> str:
  return ', '.join(keys[:most]) + (f' and {len(keys) - most} more' if len(keys) > most else '')
