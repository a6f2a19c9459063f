"""What the site says of commands, configurations and families, as Markdown made from the code itself."""

import importlib
import inspect
import itertools
import re
from collections.abc import Mapping

from absl import flags

from panda_jax.commands import program
from panda_jax.commands.parser import REPEATED
from panda_jax.converters.listing import OWN, rows
from panda_jax.generators import registry
from panda_jax.generators.registry import FAMILIES
from panda_jax.workdir.config import Key, told

CODE = re.compile(r'(`[^`]+`)')
FLAG = re.compile(r'(?<![\w`-])--\w[\w.]*(=[\w|.-]*\w)?')
MARKS = re.compile(r'[*_<>\[\]|$\\]')
PAGE = re.compile(r'docs/([\w/-]+\.md)')
VALUES = {'int': 'N', 'float': 'X', 'bool': '', 'string': 'TEXT', 'multi string': 'TEXT'}


def command(name: str) -> str:
  """How a command is called, and its flags under their headings."""
  module = program.module_of(name)
  values = program.define(module, flags.FlagValues())
  calls = [f'panda-jax {name} {module.ARGUMENTS}'] if hasattr(module, 'ARGUMENTS') else []
  calls += [f'panda-jax {example}' for example in module.EXAMPLES]
  lines = [f'To {program.COMMANDS[name]}.', '', '```', *calls, '```', '']
  lines += [f':::{{program}} panda-jax {name}', ':::', '']
  for heading, some in values.flags_by_module_dict().items():
    lines += [f'## {heading[0].upper()}{heading[1:]}', '']
    for flag in some:
      lines += option(f'--{flag.name}{placeholder(flag)}', meaning(flag))
  if hasattr(module, 'CONFIGURATION'):
    lines += ['## Configuration', '']
    lines += option('--config=NAME|FILE.py', f'A configuration by its name, such as {module.SUCH_AS}, or its file.')
    lines += option('--config.KEY=VALUE', 'A value for one of its keys.')
  return '\n'.join(lines)


def placeholder(flag: flags.Flag) -> str:
  choices = getattr(flag.parser, 'enum_values', None)
  value = '|'.join(choices) if choices else VALUES.get(flag.flag_type(), 'TEXT')
  return f'={value}' if value else ''


def meaning(flag: flags.Flag) -> str:
  """What --help says of a flag, less its choices, which `placeholder` has."""
  text = ' '.join(flag.help.split()).removesuffix(REPEATED)
  choices = getattr(flag.parser, 'enum_values', None)
  text = text.removeprefix(f'<{"|".join(choices)}>: ') if choices else text
  plain = flag.default is None or flag.default is False or flag.default == []
  return text if plain else f'{text} Default: {told(flag.default)}.'


def option(name: str, text: str) -> list[str]:
  return [f':::{{option}} {name}', escaped(text), ':::', '']


def escaped(text: str) -> str:
  """Plain text as Markdown shows it, flags as code, pages as links; backquotes keep their meaning."""
  pieces = CODE.split(FLAG.sub(r'`\g<0>`', text))
  pieces[::2] = [PAGE.sub(r'[\g<0>](/\g<1>)', MARKS.sub(r'\\\g<0>', piece)) for piece in pieces[::2]]
  return ''.join(pieces)


CONFIGURED = {'fit': 'panda_jax.workdir.config', 'compare': 'panda_jax.compare.settings'}


def configuration(name: str) -> str:
  """Every key of the configuration of a command, with its default."""
  keys: Mapping[str, Key] = importlib.import_module(CONFIGURED[name]).KEYS
  lines = [f':::{{program}} panda-jax {name} --config', ':::', '']
  for key, (default, text) in keys.items():
    unset = not isinstance(default, str | bool | int | float | tuple)
    lines += option(f'--config.{key}=VALUE', text if unset else f'{text} Default: {told(default)}.')
  return '\n'.join(lines)


def family(name: str) -> str:
  """What a family is, which files of it are converted, and what that was checked against."""
  module = importlib.import_module(FAMILIES[name].module)
  lines = [escaped(inspect.getdoc(module)), '', '## Files that are converted', '']
  for row in rows():
    if row.family == name:
      lines += [f'**{row.dialect}**', f': {escaped(row.files)}', '']
      lines += [f'  `--option`: {", ".join(f"`{key}`" for key in row.options.split(", "))}', ''] * bool(row.options)
      lines += [f'  `export --format={row.exports}` writes it again', ''] * bool(row.exports)
      lines += [f'  Checked against {escaped(row.checked)}', '']
  return '\n'.join(lines)


def layers(name: str) -> str:
  """The layers of a family's networks at their published full sizes: of each grid its layers and their channels."""
  from benchmarks.generators import CASES, options_of

  lines = ['## Layers at full size', '']
  for case, (_, resolution) in CASES.items():
    found, options = options_of(case, resolution)
    if found == name:
      lines += [f'{case}, {resolution} pixels:', '', '| grid | layers | channels |', '|---|---|---|']
      sizes = sorted(registry.abstract(name, options).layers.items())
      for (height, width), some in itertools.groupby(sizes, lambda size: size[1][1:]):
        numbers, channels = zip(*((layer, size[0]) for layer, size in some), strict=True)
        told_once = dict.fromkeys(channels)
        lines += [f'| {height} x {width} | {", ".join(map(str, numbers))} | {", ".join(map(str, told_once))} |']
      lines += ['']
  return '\n'.join(lines)


def commands(_: str) -> str:
  """All commands in a table."""
  lines = [f'| [`{name}`]({name}.md) | {escaped(summary)} |' for name, summary in program.COMMANDS.items()]
  return '\n'.join(['| command | to |', '|---|---|', *lines])


def families(_: str) -> str:
  """All families and dialects in a table."""
  lines = [
    f'| [{row.family}]({row.family}.md) | {row.dialect} | {escaped(row.files)} |' for row in rows() if row != OWN
  ]
  return '\n'.join(['| family | dialect | files |', '|---|---|---|', *lines])


def columns(_: str) -> str:
  """The columns of the table of runs, beside the settings that differ."""
  from panda_jax.experiments.table import MEANINGS

  lines = [f'| `{name}` | {escaped(meaning)} |' for name, meaning in MEANINGS.items()]
  return '\n'.join(['| column | meaning |', '|---|---|', *lines])
