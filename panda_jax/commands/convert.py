"""`convert`: a checkpoint becomes a generator. Nothing in it is run, and neither PyTorch nor TensorFlow is needed."""

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.converters.dialects import FAMILIES
from panda_jax.errors import InputError, printable
from panda_jax.runtime import signals

ARGUMENTS = 'SOURCE DESTINATION'
EXAMPLES = (
  'convert network.pkl DESTINATION',
  'convert stylegan.pth DESTINATION --option=fused_scale=true',
  'convert psp_ffhq_encode.pt DESTINATION --key=state_dict.decoder',
  'convert 550000.pt DESTINATION --mean_w=10000',
  'convert biggan-deep-256/ DESTINATION',
  'convert --list',
)


def define(values: flags.FlagValues) -> None:
  given = {'flag_values': values, 'module_name': 'checkpoint'}
  flags.DEFINE_enum('family', 'auto', ('auto', *FAMILIES), 'Family of the generator; auto recognises it.', **given)
  flags.DEFINE_enum(
    'weights',
    'ema',
    ('ema', 'raw'),
    'Weights to take: the averaged ones (ema) or those of the last step (raw).',
    **given,
  )
  flags.DEFINE_multi_string(
    'option', [], 'Setting KEY=VALUE that the file does not contain; --list names them. May be repeated.', **given
  )
  flags.DEFINE_string(
    'key',
    None,
    'Place of the generator in the file, such as state_dict.decoder; needed if there are several.',
    **given,
  )
  flags.DEFINE_integer(
    'mean_w',
    None,
    'Number of seeds, such as 10000, from which the mean of w is estimated if the file has none. Truncation needs it.',
    **given,
  )
  flags.DEFINE_bool('list', False, 'Only list what can be converted, and what it was checked against.', **given)
  shared.overwrite(values)


def run(options: flags.FlagValues, call) -> None:
  if options.list:
    from panda_jax.converters.listing import lines

    if call.words:
      raise InputError('arguments', ' '.join(call.words), 'there are none with --list', 'leave them or --list out')
    print('\n'.join(lines()), flush=True)
    return
  if len(call.words) != 2:
    problem = f'there are {len(call.words)}, not two'
    raise InputError('arguments', ' '.join(call.words) or 'none', problem, 'give SOURCE and DESTINATION')
  keys = parsed_options(options.option)
  from panda_jax.converters.conversion import convert
  from panda_jax.runtime.progress import Progress

  with signals.keeping(lambda: 'the destination is complete or unchanged'), Progress() as progress:
    progress.now('converting')
    said = convert(*call.words, options.family, options.weights, keys, options.overwrite, options.key, options.mean_w)
  print('\n'.join(map(printable, said)), flush=True)


def parsed_options(texts: list[str]) -> dict[str, str]:
  """{key: value} of the --option flags."""
  options = {}
  for text in texts:
    key, equals, value = text.partition('=')
    if not equals or not key:
      raise InputError('--option', text, 'it is not key=value', 'give for example --option=fused_scale=true')
    if key in options:
      raise InputError('--option', text, 'this key is given twice', 'give it once')
    options[key] = value
  return options
