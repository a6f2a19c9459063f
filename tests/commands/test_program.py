"""The program: how it is started, the flags of commands, the text of --help and of the last lines."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

import panda_jax
from panda_jax.commands import discover_requests, options, parser, program, requests, sentences
from panda_jax.compare import settings
from panda_jax.workdir import config
from tests.commands.calls import DOORS, ROOT, call, process, run

COMMANDS = [*program.COMMANDS]
BY_COMMAND = {'converters': 'convert', 'app': 'app'}  # modules that start one command
CONFIGURATION = {'compare': ['--config=compare_cats64']}  # flags that a command needs
# Files that are not commands.
HELPERS = {'compilation', 'options', 'parser', 'program', 'requests', 'sentences', 'discover_requests'}


def defined(name: str) -> flags.FlagValues:
  return program.define(program.module_of(name), flags.FlagValues())


def test_every_command_has_a_file_and_every_file_a_command():
  files = {path.stem for path in Path(program.__file__).parent.glob('*.py')}
  assert files == {*COMMANDS, *HELPERS, '__init__'}
  for name in COMMANDS:
    module = program.module_of(name)
    assert module.__doc__.startswith(f'`{name}`: ')
    assert module.EXAMPLES
    assert all(example.split()[0] == name for example in module.EXAMPLES)


FOREIGN = [
  (name, flag)
  for name in COMMANDS
  for flag in sorted({flag for other in COMMANDS for flag in defined(other)} - {*defined(name)})
]


def test_a_flag_of_another_command_is_refused(capsys):
  assert len(FOREIGN) > 400
  for name, flag in FOREIGN:
    assert call(name, *CONFIGURATION.get(name, ()), f'--{flag}=1') == 2, (name, flag)
    said = capsys.readouterr().err
    assert said.startswith(f'error: --{flag}=1: {name} has no such flag; it is a flag of '), said
    assert said.count('\n') == 1


def source_of(name: str) -> str:
  """A command and the modules that get its flags."""
  module = program.module_of(name)
  text = inspect.getsource(module.run)
  found, coming = [], [text]
  while coming:
    one = coming.pop()
    found.append(one)
    for called in re.findall(r'(?:\b(\w+)\.)?(\w+)\((?:[^()]*, )?(?:options|given)\b', one):
      for place in (module, options, requests, discover_requests):
        function = getattr(place, called[1], None)
        if inspect.isfunction(function) and inspect.getsource(function) not in [*found, *coming]:
          coming.append(inspect.getsource(function))
          break
  return '\n'.join(found)


INDIRECT = {  # flags whose names are in a list in the code
  'fit': {*config.FLAGS, 'coordinator', 'process_id', 'processes'},
  'sweep': {*config.FLAGS},
  'compare': {'generator', 'layer', 'samples', 'parts', 'seed', 'truncation', 'truncation_layers'},
  'edit': {'part', 'appearance', 'alpha', *requests.DISTINCT, 'convention', 'alpha_unit', 'directions', 'seeds'},
  'invert': {'regulariser', 'evaluations', 'tolerance'},
  'discover': {*discover_requests.SAME, 'rows', 'references'},
}


@pytest.mark.parametrize('name', COMMANDS)
def test_every_flag_is_read(name):
  text = source_of(name)
  read = {*re.findall(r'\b(?:options|given)\.(\w+)', text), *re.findall(r"options\['(\w+)'\]", text)}
  assert {*defined(name)} <= {'compilation_cache'} | read | INDIRECT.get(name, set())  # the program reads that one


@pytest.mark.parametrize('name', COMMANDS)
def test_help_lists_the_flags_and_their_defaults(name):
  said = run(name, '--help')
  assert (said.returncode, said.stderr) == (0, '')
  values = defined(name)
  listed = {line.split()[0].removeprefix('--'): line for line in said.stdout.splitlines() if line.startswith('  --')}
  assert {*listed} == {*values}
  for flag, line in listed.items():
    default, text = values[flag].default, line.split(maxsplit=1)[1]
    assert text[0].isupper() or text.startswith(('HOST', 'KEY', '0')), line
    assert re.search(r'[.)]$|Default: \S+$|\w$', text)
    if default not in (None, False, []):
      assert line.endswith(f'Default: {config.told(default)}'), line
  for example in program.module_of(name).EXAMPLES:
    assert f'  python run.py {example}\n' in said.stdout
  assert run('help', name).stdout == said.stdout
  assert run('--help', name).stdout == said.stdout


@pytest.mark.parametrize('name', COMMANDS)
def test_examples_of_help_can_be_read(name, monkeypatch):
  module = program.module_of(name)
  monkeypatch.setattr(module, 'run', lambda options, call: None)
  for example in module.EXAMPLES:
    assert call(*example.split()) == 0


@pytest.mark.parametrize(
  ('name', 'keys', 'of_flags'), [('fit', config.KEYS, config.FLAGS), ('compare', settings.KEYS, ())]
)
def test_every_key_of_a_configuration_is_described(name, keys, of_flags):
  said = run(name, '--help').stdout
  for key, (_, meaning) in keys.items():
    assert meaning.endswith('.')
    assert meaning in said
    assert re.search(rf'^  (--)?{key} ', said, re.MULTILINE)
  assert {*program.module_of(name).FLAGS} <= {*keys}
  assert {*program.module_of(name).FLAGS} <= {*defined(name)}


def test_help_and_versions():
  whole = run('--help')
  assert whole.returncode == 0
  for name, summary in program.COMMANDS.items():
    assert f'  {name:<10} {summary}\n' in whole.stdout
  for words in (['help'], ['-h'], ['--help=true'], ['--parts=3', '--help']):
    assert run(*words).stdout == whole.stdout
  version = f'panda-jax {panda_jax.__version__}\n'
  for words in (['--version'], ['version'], ['fit', '--version']):
    assert run(*words).stdout == version


@pytest.mark.parametrize('words', [['fot'], ['help', 'fot'], ['fot', '--help']])
def test_an_unknown_command(words):
  said = run(*words)
  assert (said.returncode, said.stdout) == (2, '')
  assert said.stderr == 'error: command=fot: unknown; did you mean fit?\n'


def test_help_and_version_are_names_elsewhere(tmp_path):
  said = run('convert', 'help', tmp_path / 'version')
  assert said.stderr.startswith('error: SOURCE=help: there is no such file')


@pytest.mark.parametrize('door', DOORS)
def test_doors(door):
  """Each way starts the program, and its help and errors show what to type there."""
  words = [] if door in BY_COMMAND else [BY_COMMAND['converters']]
  name = BY_COMMAND.get(door, 'convert')
  shown = 'python run.py' if door == 'run.py' else 'python -m panda_jax'
  done = process(*words, '--help', door=door)
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.replace(f'{shown} {name} ', f'python run.py {name} ') == run(name, '--help').stdout
  done = process(*words, '--wieghts=raw', door=door)
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith(f'error: --wieghts=raw: {name} has no such flag; ')


@pytest.mark.parametrize('door', ['run.py', 'panda_jax'])
def test_a_reader_that_has_seen_enough_is_no_mistake(door):
  command = ' '.join([sys.executable, *DOORS[door], 'info', '--generator=cats64'])
  # The reader closes the pipe before anything is written.
  shell = f'{command} | (exec <&-); echo ${{PIPESTATUS[0]}}'
  done = subprocess.run(['bash', '-c', shell], cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert (done.stdout, done.stderr) == ('0\n', '')
  done = subprocess.run(['bash', '-c', f'{command} | head -1'], cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert (done.stdout, done.stderr) == ('family      stylegan2\n', '')


def test_configurations_are_found_by_name():
  for name, file in (('cats64', 'cats64.py'), ('demo:smoke', 'demo.py:smoke')):
    one, two = (parser.loaded_config(given)[0] for given in (name, f'{ROOT}/configs/{file}'))
    assert one.to_dict() == two.to_dict()
  said = run('fit', '--config=cats46', '--workdir=w')
  assert said.stderr == (
    'error: --config=cats46: there is no such file; give a file, or a name: did you mean cats64?\n'
  )
  said = run('fit', '--config=compare_cats64', '--workdir=w')
  assert said.stderr.startswith('error: config.bootstrap=1000: fit has no such key')


def test_configurations_share_nothing():
  first, second = config.default_config(), config.default_config()
  first.features, first.parts = 'z.npy', 3
  assert (second.features, second.parts, config.default_config().parts) == (None, None, None)
  compared = settings.default_config()
  compared.regions.eyes = (0, 1, 2, 3)
  assert settings.default_config().regions.to_dict() == {}


def test_success_is_told_without_control_characters(tmp_path, capsys):
  out = tmp_path / 'a\nb\x1b[31m'
  sentences.print_written(out, {'images.npy': (2, 3)}, 'images.png')
  assert call('info', '--generator=cats64') == 0
  assert call('discover', '--method=sefa', '--generator=cats64', '--count=1', '--seeds=0', f'--out={out}') == 0
  said = capsys.readouterr()
  for line in (said.out + said.err).splitlines():
    assert line.isprintable()
  assert out.is_dir()


def test_shared_flags_are_declared_under_one_heading():
  """--help shows the flags under these headings."""
  headings = {value for name, value in vars(options).items() if name.isupper() and isinstance(value, str)}
  for name in COMMANDS:
    used = {*defined(name).flags_by_module_dict()}
    assert used & headings
