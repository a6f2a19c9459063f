"""The program: the choice of the command, its help, and one sentence for any error or signal that ends it."""

import dataclasses
import importlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

from absl import flags, logging

import panda_jax
from panda_jax.commands import compilation, options, parser
from panda_jax.errors import InputError, Interrupted, Lost, brief, nearest, refusal
from panda_jax.runtime import signals
from panda_jax.runtime.invocation import program_name

COMMANDS = {
  'fit': 'find parts and appearances of feature maps',
  'sweep': 'do many fits, one for each combination of settings',
  'runs': 'show many fits in a table and on a page, and recommend a number of parts',
  'info': 'show sizes and layers of a generator',
  'sample': 'write images, latents and feature maps of a generator',
  'edit': 'edit images with the parts and appearances of a fit',
  'remove': 'remove a part from images',
  'invert': 'turn photographs into latents, or features, that can be edited',
  'refine': 'refine the parts of a fit for single samples',
  'saliency': 'show where appearances are in images',
  'report': 'write a page with all results of a workdir',
  'catalog': 'search a fit for the edits that are worth seeing',
  'discover': 'find directions with SeFa, GANSpace, StyleSpace, LowRankGAN or ReSeFa',
  'compare': 'compare all methods on one generator, under one protocol',
  'convert': 'convert a checkpoint of PyTorch or TensorFlow, or safetensors, to a generator',
  'export': 'write the weights of a generator for the code they came from',
  'app': 'explore fits in a browser',
}
VERSION = {'--version', '-version', '--version=true'}


@dataclasses.dataclass(frozen=True)
class Call:
  """How a command was called.

  Attributes:
    words: those without a flag.
    text: the whole command line, for records.
    started: `time.perf_counter()` at the start of the process, or None.
    configuration: the module that --config names, if the command takes one.
  """

  words: tuple[str, ...] = ()
  text: str = ''
  started: float | None = None
  configuration: ModuleType | None = None


def module_of(name: str) -> ModuleType:
  """The module of a command.

  Raises:
    InputError: there is no such command.
  """
  if name not in COMMANDS:
    raise InputError('command', name, 'unknown', nearest(name, COMMANDS))
  return importlib.import_module(f'panda_jax.commands.{name}')


def define(module: ModuleType, values: flags.FlagValues) -> flags.FlagValues:
  """Defines the flags of a command in `values`: its own, and those of every command."""
  module.define(values)
  options.compilation_cache(values)
  return values


def parse(argv: list[str], started: float | None = None) -> tuple[ModuleType, Any, Call]:
  """The command, its flags and the rest of the call.

  Raises:
    InputError: there is no such command, or its flags are wrong.
  """
  if len(argv) < 2 or argv[1].startswith('-'):
    remedy = f'give one of {", ".join(COMMANDS)}; --help tells them'
    raise InputError('command', argv[1] if len(argv) > 1 else None, 'not given', remedy)
  name, words, configuration = argv[1], argv[2:], None
  module, values = module_of(name), flags.FlagValues()
  if hasattr(module, 'CONFIGURATION'):
    lists = getattr(module, 'LISTS', False)
    words, configuration = parser.define_config(values, words, module.CONFIGURATION, module.SUCH_AS, lists)
  define(module, values)
  see, more = f'{program_name()} {name} --help lists the flags', hasattr(module, 'ARGUMENTS')
  rest = parser.parse(values, words, see, positional=more, command=name, elsewhere=commands_with)
  if hasattr(module, 'CONFIGURATION'):
    check_keys(name, values.config, module.KEYS)
  return module, values, Call(tuple(rest), shlex.join([*program_name().split(), *argv[1:]]), started, configuration)


def check_keys(name: str, config: Mapping[str, Any], keys: Collection[str]) -> None:
  """Raises InputError if a configuration has a key that its command does not have, such as one of another command."""
  strange = sorted(set(config.keys()) - set(keys))
  if strange:
    raise InputError(
      f'config.{strange[0]}', config[strange[0]], f'{name} has no such key', f'give a configuration of {name}'
    )


def commands_with(flag: str) -> list[str]:
  """The commands that have a flag of this name."""
  found = []
  for name in COMMANDS:
    if flag in define(module_of(name), flags.FlagValues()):
      found.append(name)
  return found


def helped(name: str | None) -> str:
  """The text of --help: the commands, or the examples and the flags of one command.

  Raises:
    InputError: there is no such command.
  """
  program = program_name()
  if name is None or name.startswith('-'):
    lines = [f'  {command:<10} {summary}' for command, summary in COMMANDS.items()]
    return '\n'.join([f'{program} COMMAND --flag=value ...', '', *lines, '', f'{program} COMMAND --help: its flags'])
  module = module_of(name)
  values = define(module, flags.FlagValues())
  lines = [f'{name}: {COMMANDS[name]}', '']
  lines += [f'  {program} {name} {module.ARGUMENTS}'] if hasattr(module, 'ARGUMENTS') else []
  lines += [f'  {program} {example}' for example in module.EXAMPLES]
  lines += parser.listed(values)
  if hasattr(module, 'keys'):
    lines += [
      '',
      f'configuration: --config=NAME or FILE.py, such as {module.SUCH_AS}; more keys, as --config.KEY=VALUE:',
    ]
    lines += module.keys()
  return '\n'.join(lines)


def main(argv: list[str], started: float | None = None) -> int:
  """Runs a command line.

  Args:
    argv: the program, the command, its flags.
    started: `time.perf_counter()` at the start of the process.

  Returns:
    The exit status: 0; 1 if processes lost each other; 2 for an error of the user; 128 plus the number of a signal.
  """
  logging.set_verbosity(logging.ERROR)
  try:
    if argv[1:2] == ['help'] or not parser.HELP.isdisjoint(argv[1:]):
      print(helped(next((word for word in argv[1:] if word not in {*parser.HELP, 'help'}), None)))
    elif argv[1:2] == ['version'] or not VERSION.isdisjoint(argv[1:]):
      print(f'panda-jax {panda_jax.__version__}')
    else:
      with signals.keeping(lambda: 'nothing was written'), signals.raising():
        module, given, call = parse(argv, started)
        with parser.naming(given, getattr(module, 'ARGUMENTS', '')):
          compilation.keep(
            given.compilation_cache,
            alone='distributed' not in given or not given.distributed,
            computes=getattr(module, 'COMPUTES', True),
          )
          module.run(given, call)
    sys.stdout.flush()
  except BrokenPipeError:  # the reader has closed the pipe, and the work is done
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  except OSError as error:
    print(f'error: {refusal("file", error.filename, "the system refuses it", error)}', file=sys.stderr)
    return 2
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except Interrupted as stopped:
    print(signals.sentence(stopped.number, stopped.kept), file=sys.stderr)
    return signals.exit_code(stopped.number)
  except MemoryError as error:
    print(f'error: there is not enough memory ({brief(error, 120)}); give fewer or smaller samples', file=sys.stderr)
    return 2
  except Lost as error:
    again = f'start all again: {error.kept}' if error.kept else 'start all again'
    print(
      f'error: the computation across processes broke off ({brief(error, 120)}); see what the process said that ended '
      f'first, then {again}',
      file=sys.stderr,
    )
    return 1
  return 0


def end(argv: list[str], started: float | None = None) -> None:
  """Runs `main`, then ends the process.

  Errors in threads of libraries are shown, unless the command has ended with its own sentence: after a failed write,
  threads of Orbax also fail, for the same reason.
  """
  died = []
  threading.excepthook = lambda args: died.append(lambda: threading.__excepthook__(args))
  sys.unraisablehook = lambda args: died.append(lambda: sys.__unraisablehook__(args))
  said = False
  try:
    code = main(argv, started)
    said = code not in (0, signals.exit_code(signal.SIGINT))
  finally:
    if not said:
      for show in died:
        show()
  signals.ignore()
  if code:
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # no thread may print after the message above
    os._exit(code)
