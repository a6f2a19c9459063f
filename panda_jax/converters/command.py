"""A PyTorch checkpoint of a generator becomes a Flax one: `python -m converters SOURCE DESTINATION [--flag=value ...]`.

SOURCE is a .pth, .pt, .bin or .pkl file, or for BigGAN the folder with config.json. Nothing in it is run, and PyTorch
is not needed. DESTINATION is a new folder.
"""

import importlib
import os
import sys
import warnings

import numpy as np
from absl import flags, logging

import panda_jax
from panda_jax.commands import parser
from panda_jax.converters import report
from panda_jax.converters.assembly import assemble
from panda_jax.converters.checkpoint import Checkpoint, Module, read
from panda_jax.converters.limits import shown
from panda_jax.errors import InputError, Interrupted, printable
from panda_jax.files.stores import quiet
from panda_jax.generators.disk import check_free, save_generator
from panda_jax.runtime import signals

FAMILIES = ('progan', 'stylegan', 'stylegan2', 'stylegan3', 'biggan')


def define_flags() -> flags.FlagValues:
  values = flags.FlagValues()
  flags.DEFINE_enum(
    'family', 'auto', ('auto', *FAMILIES), 'The family of the generator; told by the file.', flag_values=values
  )
  flags.DEFINE_enum(
    'weights', 'ema', ('ema', 'raw'), 'The averaged weights or those of the last step.', flag_values=values
  )
  flags.DEFINE_multi_string(
    'option', [], 'key=value, what the family has to be told because the file does not say.', flag_values=values
  )
  flags.DEFINE_bool('overwrite', False, 'Replace the generator at DESTINATION.', flag_values=values)
  flags.DEFINE_bool('help', False, 'Say this.', flag_values=values)
  flags.DEFINE_bool('version', False, 'Say which version of panda-jax this is.', flag_values=values)
  return values


def parsed(argv: list[str]) -> tuple[flags.FlagValues, list[str]]:
  """The flags, and SOURCE and DESTINATION.

  Raises:
    InputError: unknown or malformed flags, too few or too many arguments.
  """
  values = define_flags()
  rest = parser.parse(values, argv[1:], positional=True)
  if len(rest) != 2 and not (values.help or values.version):
    raise InputError('arguments', ' '.join(rest), f'there are {len(rest)}, not two', 'give SOURCE and DESTINATION')
  return values, rest


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


def converted(checkpoint: Checkpoint, family: str, weights: str, options: dict[str, str]):
  """The conversion and the generator.

  Raises:
    InputError: no known layout, or not that of the family asked for; an unknown option; missing, superfluous or wrong
      contents.
  """
  try:
    found = recognised(checkpoint, FAMILIES if family == 'auto' else (family,))
    conversion = importlib.import_module(f'panda_jax.converters.{found}').convert(checkpoint, weights, options)
    return conversion, assemble(conversion, checkpoint.path)
  except InputError:
    raise
  except Exception as error:  # a file is recognised by a few of its keys; anything may be behind the others
    problem = f'its contents are not what their names promise: {type(error).__name__}: {shown(str(error))}'
    raise InputError('source', checkpoint.path, problem, 'give an unaltered checkpoint') from error


def recognised(checkpoint: Checkpoint, families: tuple[str, ...]) -> str:
  """The first family whose layout the file has.

  Raises:
    InputError: none of them.
  """
  for name in families:
    if importlib.import_module(f'panda_jax.converters.{name}').recognise(checkpoint):
      return name
  raise InputError(
    'source',
    checkpoint.path,
    'it has no known layout of a generator; it holds',
    f'give a {" or ".join(families)} of a layout that README.md lists',
    _contents(checkpoint.tree),
  )


def _contents(tree: object) -> list[str]:
  if not isinstance(tree, dict):
    return [_kind(tree)]
  return [f'{shown(key, 40)}: {_kind(value)}' for key, value in tree.items()] or ['nothing']


def _kind(value: object) -> str:
  if isinstance(value, Module):
    return f'a module {shown(value.class_name, 40)} of {len(value.state_dict)} arrays'
  if isinstance(value, np.ndarray):
    return f'an array {value.shape}'
  if isinstance(value, dict | list):
    return f'{len(value)} entries'
  return 'nothing' if value is None else f'a {type(value).__name__}'


def run(source: str, destination: str, values: flags.FlagValues) -> None:
  """The whole conversion."""
  options = parsed_options(values.option)
  check_free(destination, values.overwrite)  # before the work, and again when it is done
  checkpoint = read(source)
  conversion, generator = converted(checkpoint, values.family, values.weights, options)
  save_generator(
    generator, destination, report.description(checkpoint, conversion, values.weights), overwrite=values.overwrite
  )
  said = report.lines(checkpoint, conversion, generator, destination, values.weights)
  try:
    print('\n'.join(map(printable, said)), flush=True)
  except BrokenPipeError:  # whoever reads has seen enough, and the work is done
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: list[str]) -> int:
  logging.set_verbosity(logging.ERROR)
  try:
    values, rest = parsed(argv)
    if values.help:
      print('\n'.join([__doc__, *parser.listed(values, parser.own_flags(values))]))
    elif values.version:
      print(f'panda-jax {panda_jax.__version__}')
    else:
      # To the end: after a failed write, threads of Orbax still have something to say. Odd numbers in a file make numpy
      # and JAX warn, and are told of by the checks if they matter.
      with signals.raising(), quiet(), warnings.catch_warnings(action='ignore'):
        run(*rest, values)
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except Interrupted as stopped:
    print('stopped; whatever is at the destination is whole', file=sys.stderr)
    return signals.exit_code(stopped.number)
  return 0


def run_and_exit() -> None:
  code = main(sys.argv)
  signals.ignore()
  if code:
    # The message above is the last word, for the same threads as well.
    sys.stderr.flush()
    os._exit(code)
