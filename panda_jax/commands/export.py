"""`export`: writes the weights of a generator as the code they came from loads them. PyTorch is not needed."""

from absl import flags

from panda_jax.commands import options as shared
from panda_jax.converters.dialects import FORMATS
from panda_jax.errors import InputError, printable
from panda_jax.runtime import signals

ARGUMENTS = 'GENERATOR DESTINATION'
EXAMPLES = (
  'export generators/ffhq ffhq.pt --format=rosinality',
  'export generators/ffhq ffhq.safetensors --format=nvlabs',
  'export cats64 cats64.safetensors',
)


def define(values: flags.FlagValues) -> None:
  flags.DEFINE_enum(
    'format',
    'safetensors',
    FORMATS,
    'Code whose names of arrays are used: rosinality, nvlabs or genforce, in a file of torch.save, or of safetensors '
    'if its name ends in .safetensors; safetensors has our own names, for every generator. In PyTorch, '
    "load_state_dict of the network takes torch.load(DESTINATION)['g_ema'] of rosinality, "
    "torch.load(DESTINATION) of nvlabs, torch.load(DESTINATION)['generator_smooth'] of genforce.",
    flag_values=values,
    module_name='file',
  )
  shared.overwrite(values)


def run(options: flags.FlagValues, call) -> None:
  if len(call.words) != 2:
    problem = f'there are {len(call.words)}, not two'
    raise InputError('arguments', ' '.join(call.words) or 'none', problem, 'give GENERATOR and DESTINATION')
  from panda_jax.converters.export import export

  with signals.keeping(lambda: 'the destination is complete or unchanged'):
    said = export(*call.words, options.format, options.overwrite)
  print('\n'.join(map(printable, said)), flush=True)
