"""Command lines: flags get their values, configurations are loaded, and an error is one sentence.

The flags are absl's and the configurations ml_collections'. absl's parser is not used: it adds its own flags
(--flagfile, --verbosity), takes the last value of a repeated flag, and takes a flag as the value of another flag; its
messages name neither flag nor remedy.
"""

import contextlib
import importlib.machinery
import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

import panda_jax
from panda_jax.errors import InputError, nearest
from panda_jax.workdir.config import told
from panda_jax.workdir.folders import Taken

REPEATED = '; repeat this option to specify a list of values'  # absl adds this to the help of repeatable flags
LISTED = re.compile(r'\d+([-,]\d+)+')  # whole numbers, or a range of them
LARGEST = 1 << 63  # of a whole number
MOST_COMMANDS = 5  # in a remedy
HELP = {'--help', '-help', '-h', '--help=true'}
CHOSEN = ('out',)  # flags with a value that the command chooses if none is given
OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]*)')
# By absl's name of a type: the problem with other texts, and an example value.
KINDS = {
  'int': ('it is not a whole number', '3'),
  'float': ('it is not a number', '0.5'),
  'bool': ('it is neither true nor false', 'true'),
}


def own_flags(values: flags.FlagValues) -> set[str]:
  """The names of all flags, except absl's own."""
  found = values.flags_by_module_dict().items()
  absls = {flag.name for module, some in found for flag in some if str(module).startswith('absl.')}
  # absl counts the keys of configurations as its own flags
  return {name for name in values if values[name].name not in absls or '.' in name}


def listed(values: flags.FlagValues) -> list[str]:
  """The flags under the headings of their groups, a line for each with its default, as --help shows them."""
  lines = []
  for group, some in values.flags_by_module_dict().items():
    lines += ['', f'{group}:', *map(_line, some)]
  return lines


def _line(flag: flags.Flag) -> str:
  text = ' '.join(flag.help.split()).removesuffix(REPEATED)
  choices = getattr(flag.parser, 'enum_values', None)
  text = text.removeprefix(f'<{"|".join(choices)}>: ') if choices else text
  text += f' One of {", ".join(choices)}.' if choices else ''
  plain = flag.default is None or flag.default is False or flag.default == []
  return f'  --{flag.name:<19} {text}' + ('' if plain else f' Default: {told(flag.default)}')


def nearest_flag(name: str, known: Collection[str], see: str) -> str:
  """A remedy: the flag with the most similar name, or how to list the flags."""
  return nearest(name, [flag for flag in known if '.' not in flag and len(flag) > 1], see, '--')


def parse(
  values: flags.FlagValues,
  words: Sequence[str],
  see: str = '--help lists the flags',
  positional: bool = False,
  command: str | None = None,
  elsewhere: Callable[[str], list[str]] = lambda flag: [],
) -> list[str]:
  """Gives flags their values.

  Args:
    values: the flags.
    words: the words after the command.
    see: how to list the flags, for remedies.
    positional: whether words without a flag are allowed.
    command: of the flags, for messages.
    elsewhere: the commands that have a flag, for messages.

  Returns:
    The words without a flag.

  Raises:
    InputError: a flag is unknown, is given twice, or has no value or a wrong one; or a word has no flag.
  """
  known, given, rest = own_flags(values), {}, []
  coming = iter(words)
  for word in coming:
    name, equals, text = word.removeprefix('-').removeprefix('-').partition('=')
    if word == '--' and positional:
      rest += coming
      break
    if not word.startswith('-') or not name:
      if not positional:
        raise InputError('argument', word, 'it belongs to no flag', 'write --name=value')
      rest.append(word)
      continue
    negated = name not in known and name.removeprefix('no') in known and values[name.removeprefix('no')].boolean
    flag = values[name.removeprefix('no')] if negated else values[name] if name in known else None
    if flag is None:
      named = (f'--{name}', text) if equals else ('flag', word)
      problem = f'{command} has no such flag' if command else 'there is no such flag'
      others = elsewhere(name)
      of = f'it is a flag of {", ".join(others[:MOST_COMMANDS])}{", ..." * (len(others) > MOST_COMMANDS)}; '
      of_config = 'config' in values and name in (values['config'].value or ())
      own = f'give --config.{name}=VALUE' if of_config else nearest_flag(name, known, see)
      remedy = of * bool(others) + own
      raise InputError(*named, problem, remedy)
    if negated and equals:
      raise InputError(f'--{name}', text, 'it takes no value', f'give --{name}, or --{flag.name}=false')
    if flag.boolean and not equals:
      text = 'false' if negated else 'true'
    elif not equals:
      text = next(coming, '--')
      if text.startswith('--'):
        raise InputError(f'--{name}', '', 'its value is missing', f'give --{name}=VALUE; {see}')
    key = flag.name.removeprefix('config.')
    if key in given and not isinstance(flag, flags.MultiFlag):
      raise InputError(f'--{flag.name}', text, f'it is given twice, the first time as {given[key]}', 'give it once')
    given[key] = text
    _set(flag, text, known, command)
  values.mark_as_parsed()
  return rest


def _set(flag: flags.Flag, text: str, known: Collection[str], command: str | None) -> None:
  try:
    flag.parse(text)
  except Exception as error:  # the types of configurations have their own parsers, which raise any error
    if f'{flag.name}s' in known and LISTED.fullmatch(text):
      problem, remedy = 'it is a list of whole numbers', f'did you mean --{flag.name}s={text}?'
      raise InputError(f'--{flag.name}', text, problem, remedy) from error
    if command == 'fit' and LISTED.fullmatch(text):
      remedy = f'give one number, or do one fit for each: sweep --{flag.name}={text}'
      raise InputError(f'--{flag.name}', text, 'it is a list, and this is one fit', remedy) from error
    raise InputError(f'--{flag.name}', text, *_malformed(flag)) from error
  if isinstance(flag.value, int) and abs(flag.value) >= LARGEST:
    raise InputError(
      f'--{flag.name}', text, 'it is too large', f'give a number of fewer than {len(str(LARGEST))} digits'
    )
  if isinstance(flag.value, float) and math.isnan(flag.value):
    raise InputError(f'--{flag.name}', text, *_malformed(flag))
  flag.using_default_value = False


def _malformed(flag: flags.Flag) -> tuple[str, str]:
  """The problem with a text that cannot be the value of a flag, and the remedy."""
  allowed = getattr(flag.parser, 'enum_values', None)
  if allowed:
    return 'there is no such choice', f'give one of {", ".join(allowed)}'
  problem, example = KINDS.get(flag.flag_type(), (f'it is not of the type of {flag.name}', None))
  low, high = (getattr(flag.parser, f'{end}_bound', None) for end in ('lower', 'upper'))
  if low is not None:
    problem, example = f'{problem} from {low} {"on" if high is None else f"to {high}"}', str(low)
  return problem, f'give --{flag.name}={example}, for example' if example else f'give one like {flag.value}'


@contextlib.contextmanager
def naming(values: flags.FlagValues, words: str = '') -> Iterator[None]:
  """Errors in the block name an argument as the user typed it: a flag, a key of the configuration, or a word.

  A value that was not typed keeps its name, for example that in a file of edits.

  Args:
    values: the flags.
    words: names of words without a flag, as --help shows them: 'SOURCE DESTINATION'.
  """
  try:
    yield
  except InputError as error:
    name, known = error.argument, own_flags(values)
    if isinstance(error, Taken) and not values['out'].present and _names_folder(values):
      error.problem, error.remedy = f'{error.problem}, in {error.value}', 'choose another name, or use --overwrite'
      error.argument, error.value = '--name', values['name'].value
    elif name in known and (values[name].present or error.missing or name in CHOSEN):
      error.argument = f'--{name}'
    elif f'config.{name}' in known and values[f'config.{name}'].present:
      error.argument = f'--config.{name}'
    elif name.upper() in words.split():
      error.argument = name.upper()
    raise


def _names_folder(values: flags.FlagValues) -> bool:
  """Whether --name is the name of a folder, and not of an edit in --zoo."""
  given = [name for name in ('name', 'zoo', 'annotate') if name in values and values[name].present]
  return 'name' in given and ('zoo' not in given or 'annotate' in given)


def define_config(
  values: flags.FlagValues,
  words: Sequence[str],
  default: str | os.PathLike | None,
  such_as: str = 'demo',
  lists: bool = False,
) -> tuple[list[str], ModuleType]:
  """Loads the configuration that --config names, and defines its flag and a flag for each key that is overridden.

  Args:
    values: the flags, to which they are added.
    words: the words after the command.
    default: the configuration if none is named; None if --config is required.
    such_as: an example, for remedies.
    lists: the flags of keys take any text, and do not change the configuration.

  Returns:
    The words without --config, and the module of the configuration.

  Raises:
    InputError: the file cannot be used, --config is missing or given twice, or a key does not exist.
  """
  named, rest = [], []
  coming = iter(words)
  for word in coming:
    name, equals, text = word.removeprefix('-').removeprefix('-').partition('=')
    if not word.startswith('-') or name != 'config':
      rest.append(word)
      continue
    named.append(text if equals else next(coming, ''))
  if len(named) > 1:
    raise InputError('--config', named[1], f'it is given twice, the first time as {named[0]}', 'give it once')
  if not named and default is None:
    raise InputError('--config', None, 'not given', f'give --config={such_as}, or one of your own')
  config, module = loaded_config(named[0] if named else str(default), such_as)
  overrides = [word for word in rest if OVERRIDE.match(word)]
  for word in overrides:
    key = OVERRIDE.match(word)[1]
    if key not in config:
      raise InputError(
        f'--config.{key}',
        word.partition('=')[2],
        'there is no such key',
        nearest(key, config.keys(), '--help lists them'),
      )
  if lists:
    for key in {OVERRIDE.match(word)[1] for word in overrides}:
      flags.DEFINE_string(f'config.{key}', None, 'Values of a key.', flag_values=values)
    overrides = []
  try:
    config_flags.DEFINE_config_dict('config', config, 'Configuration file.', values, sys_argv=overrides)
  except Exception as error:
    problem = f'its keys cannot be given here: {error}'
    raise InputError('--config', named[0] if named else default, problem, 'write them into the file') from error
  return rest, module


def loaded_config(named: str, such_as: str = 'demo') -> tuple[ml_collections.ConfigDict, ModuleType]:
  """A configuration, and the module of its file, or of its name in `folder`; 'FILE.py:SIZE' is `get_config(SIZE)`.

  Raises:
    InputError: the file does not exist, raises an error, or does not give a ConfigDict.
  """
  given, colon, size = named.partition(':')
  path = found(given)
  if path is None:
    names = sorted(file.stem for file in folder().glob('*.py'))
    raise InputError('--config', named, 'there is no such file', f'give a file, or a name: {nearest(given, names)}')
  loader = importlib.machinery.SourceFileLoader('panda_jax_configuration', path)
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
  sys.modules[loader.name] = module  # dataclasses look up their module there
  try:
    loader.exec_module(module)
  except InputError:
    raise
  except (Exception, SystemExit) as error:  # it may raise anything
    raise _raised(named, error) from error
  config = called(module, 'get_config', named, *[size] * bool(colon))
  if not isinstance(config, ml_collections.ConfigDict):
    raise InputError('--config', named, f'its get_config gives a {type(config).__name__}', 'let it return a ConfigDict')
  return config, module


def called(module: ModuleType, name: str, named: str, *arguments: str) -> Any:
  """The result of a function of a configuration.

  Raises:
    InputError: the function does not exist, or raises an error.
  """
  try:
    return getattr(module, name)(*arguments)
  except InputError:
    raise
  except (Exception, SystemExit) as error:
    raise _raised(named, error) from error


def _raised(named: str, error: BaseException) -> InputError:
  """The error of a configuration, as a sentence."""
  return InputError(
    '--config', named, f'it raises {type(error).__name__}: {error}', 'correct the file, or give another'
  )


def folder() -> Path:
  """The folder of the package's configurations: configs/ in a clone, or its copy in an installed package."""
  package = Path(panda_jax.__file__).parent
  inside = package / 'configs'
  return inside if inside.is_dir() else package.parent / 'configs'


def found(named: str) -> str | None:
  """The path of a configuration, from a path or a name in `folder`."""
  if os.path.isfile(named):
    return named
  known = {file.stem: str(file) for file in folder().glob('*.py')}
  return known.get(named)
