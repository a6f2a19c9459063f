"""Every mistake gives one line that names the argument, its value and the remedy, for any value."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from flax import nnx
from PIL import Image

import panda_jax
from examples.train_generator import embed, evaluate
from examples.train_generator.__main__ import main as train
from panda_jax import errors
from panda_jax.commands import program
from panda_jax.editing.zoo import NamedEdit, Spec, write_zoo
from panda_jax.errors import InputError
from panda_jax.generators import disk, registry, save_generator
from panda_jax.generators.source import weights_digest
from panda_jax.solver.factors import Factors
from tests.commands.calls import call

LINE = 300

VALUES = {
  'none': None,
  'true': True,
  'text': 'missing.npy',
  'path': Path('runs/cats64'),
  'long text': 'x' * 44_000,
  'long path': Path('a/' * 9_000),
  'lines': 'first\nsecond\r\tthird',
  'escapes': '\x1b[31mred\x07' * 500,
  'right to left': '\u202eodd',
  'surrogates': '\udcff\ud800' * 400,
  'huge': 10**6_000,
  'minus huge': -(10**50),
  'float': np.float64(0.25),
  'integer': np.int32(7),
  'array': np.zeros((4, 5)),
  'large': np.zeros((1000, 1000), np.float16),
  'few': np.arange(3),
  'device': jnp.zeros((3, 4)),
  'list': list(range(1_000_000)),
  'nested': [['x' * 9_000] * 50] * 50,
  'dict': {str(i): 'v' * 500 for i in range(10_000)},
  'bytes': b'\xff' * 70_000,
}


@pytest.mark.parametrize('value', VALUES.values(), ids=VALUES)
@pytest.mark.parametrize('problem', ['it is wrong', 'it is\nvery \x1b wrong, ' * 4_000], ids=['short', 'long'])
def test_any_value_and_problem_make_one_short_line(value, problem):
  remedy = 'give one of those that are there, in words as long as the longest of them, such as --argument=FILE'
  said = str(InputError('argument', value, problem, remedy))
  assert said.startswith('argument=')
  assert said.endswith(f'; {remedy}')
  assert said.isprintable()
  assert len(f'error: {said}') <= LINE
  assert 'wrong' in said


def test_what_is_short_stays_whole_and_what_is_long_keeps_both_ends():
  assert str(InputError('a', 'b', 'c', 'd')) == 'a=b: c; d'
  assert str(InputError('a', np.float64(0.5), 'c', 'd')) == 'a=0.5: c; d'
  assert str(InputError('a', [1, 2], 'c', 'd')) == 'a=[1, 2]: c; d'
  assert str(InputError('a', np.arange(3), 'c', 'd')) == 'a=[0, 1, 2]: c; d'
  assert str(InputError('a', np.zeros((20, 3), np.float32), 'c', 'd')) == 'a=float32 array of shape 20x3: c; d'
  assert str(InputError('a', 10**6_000, 'c', 'd')) == 'a=a number of 6,001 digits: c; d'
  long = str(InputError('features', f'/first/{"x" * 5_000}/last.npy', 'there is no such file', 'give another'))
  assert long.startswith('features=/first/xxx')
  assert '/last.npy: there is no such file; give another' in long


def test_even_an_object_that_cannot_say_what_it_is():
  class Silent:
    def __repr__(self):
      raise RuntimeError

  assert str(InputError('a', Silent(), 'c', 'd')).startswith('a=')


def test_several_problems_are_counted_where_they_do_not_fit():
  few = InputError('source', 'a.pth', 'it is incomplete', 'give another', ['x: missing', 'y: missing'])
  assert str(few) == 'source=a.pth: it is incomplete: x: missing, y: missing; give another'
  names = [f'synthesis.b{i}.conv0.weight: missing' for i in range(400)]
  many = InputError('source', 'a.pth', 'it is incomplete', 'give another', names)
  assert names[399] in many.problem
  told = sum(name in str(many) for name in names)
  assert 3 <= told <= 8
  assert f'{", ".join(names[:told])} and {400 - told} more; give another' in str(many)
  assert len(f'error: {many}') <= LINE
  for length in (1, 50, 5_000):
    said = str(InputError('source', '/'.join('ab' * length), 'it is incomplete', 'give another', names))
    assert len(f'error: {said}') <= LINE
    assert said.endswith(' more; give another')


def test_remedies_name_the_nearest_word_or_what_lists_them():
  assert errors.nearest('partz', ['parts', 'layer']) == 'did you mean parts?'
  assert errors.nearest('zzz', ['parts', 'layer']) == 'give one of layer, parts'
  assert errors.nearest('zzz', map(str, range(100)), 'see there') == 'see there'
  assert len(errors.nearest('zzz', [f'word {i}' for i in range(10_000)])) <= errors.LONGEST_REMEDY
  assert errors.nearest('z' * 10**6, ['parts']) == 'give one of parts'


def assert_one_line(text, *parts):
  assert text.startswith('error: '), text
  assert text.endswith('\n')
  assert text[:-1].isprintable()
  assert len(text) - 1 <= LINE
  problem, semicolon, remedy = text.rpartition('; ')
  assert semicolon
  assert len(remedy) > 5
  for part in parts:
    assert part in problem


def shown(value):
  """The first characters with which a message shows a value."""
  return errors.printable(' '.join(value.split()))[:60]


def flags_of(name):
  """{flag: kind} for a command."""
  values = flags.FlagValues()
  program.module_of(name).define(values)
  return {flag: values[flag].flag_type() for flag in values}


MALFORMED = {
  'int': ['x', '', '1.5', '1e3', 'nan', '9' * 5_000, '9' * 30, '\x1b[2J', '\udcff', '3 4', '--parts', 'None'],
  'float': ['x', '', 'nan', '1,5', '0x', 'y' * 44_000, '\ud800'],
  'bool': ['maybe', '', '2', 'y' * 400],
  'string enum': ['x', '', 'CONST', 'y' * 44_000, 'a\nb'],
}


@pytest.mark.parametrize('name', program.COMMANDS)
def test_a_malformed_value_of_any_typed_flag(name, capsys):
  config = ['--config=compare_cats64'] if name == 'compare' else []
  found = flags_of(name)
  assert found
  for flag, kind in found.items():
    for value in MALFORMED.get(kind, ()):
      assert call(name, *config, f'--{flag}={value}') == 2
      assert_one_line(capsys.readouterr().err, f'--{flag}={shown(value)}')


UNKNOWN = [
  (['--feature=--feature=x'], '--feature=--feature=x'),
  (['--noparts'], 'flag=--noparts'),
  (['--verbosity=1'], '--verbosity=1'),
  (['--flagfile=missing'], '--flagfile=missing'),
  (['--undefok=foo', '--foo=1'], '--undefok=foo'),
  ([f'--{"z" * 44_000}=3'], '--zzz'),
  (['---parts=3'], '---parts=3'),
]
WORDS = [(['--=x'], 'argument=--=x'), (['--'], 'argument=--'), (['x' * 44_000], 'argument=xxx')]
OF_FLAGS = {  # {flag: problem}
  'workdir': [
    (['--workdir'], '--workdir='),
    (['--workdir', '--overwrite'], '--workdir='),
    (['--workdir=a', '--workdir=b'], '--workdir=b'),
  ],
  'overwrite': [(['--overwrite', '--nooverwrite'], '--overwrite=false'), (['--nooverwrite=3'], '--nooverwrite=3')],
}
OF_CONFIGURATIONS = [
  (['--config=a.py', '--config=b.py'], '--config=b.py'),
  (['--config.partz=3'], '--config.partz=3'),
  (['--config.a.b=3'], '--config.a.b=3'),
  (['--config.seed=3', '--config.seed=4'], '--config.seed=4'),
  (['--config.seed=3', '--seed=4'], '--seed=4'),
  *(([f'--config.seed={value}'], f'--config.seed={shown(value)}') for value in MALFORMED['int']),
  *(([f'--config.truncation={value}'], f'--config.truncation={shown(value)}') for value in MALFORMED['float']),
]


@pytest.mark.parametrize('name', program.COMMANDS)
def test_missing_repeated_and_unknown_flags(name, capsys):
  module, config = program.module_of(name), ['--config=compare_cats64'] if name == 'compare' else []
  cases = [*UNKNOWN, *([] if hasattr(module, 'ARGUMENTS') else WORDS)]
  for flag, wrong in OF_FLAGS.items():
    kind = flags_of(name).get(flag, 'multi')
    cases += wrong if not kind.startswith('multi') else []
  cases += OF_CONFIGURATIONS if hasattr(module, 'CONFIGURATION') else [(['--config=demo'], '--config=demo')]
  cases += [(['--config.joint=maybe'], '--config.joint=maybe')] if name == 'fit' else []
  if hasattr(module, 'LISTS'):
    cases.remove((['--config.truncation=1,5'], '--config.truncation=1,5'))  # a list of two
  for arguments, text in cases:
    given = [] if arguments[0].startswith('--config=') else config
    assert call(name, *given, *arguments) == 2, arguments
    said = capsys.readouterr().err
    assert_one_line(said, text)
    assert 'verbosity' not in said.rpartition('; ')[2]


def test_what_is_wrong_with_a_key_of_the_configuration_is_told_by_the_flag_that_gave_it(fit_of_nothing, capsys):
  given = f'--features={fit_of_nothing / "features.npy"}', f'--workdir={fit_of_nothing / "new"}'
  for key, value in (('center', 'x'), ('parts', '99'), ('restarts', '0')):
    others = () if key == 'parts' else ('--parts=2',)
    assert call('fit', *given, *others, f'--config.{key}={value}') == 2
    assert f'error: --config.{key}={value}: ' in capsys.readouterr().err


def test_commands(capsys):
  for arguments, text in (([], 'command: not given'), (['fot'], 'command=fot'), (['x' * 44_000], 'command=xxx')):
    assert call(*arguments) == 2
    assert_one_line(capsys.readouterr().err, text)
  assert call('--parts=3') == 2
  assert_one_line(capsys.readouterr().err, 'command=--parts=3')


CONFIGS = {
  'raises.py': ('raise KeyError("gone\\nand away")\n', 'KeyError'),
  'leaves.py': ('import sys; sys.exit(3)\n', 'SystemExit'),
  'empty.py': ('', 'get_config'),
  'broken.py': ('def (\n', 'SyntaxError'),
  'nothing.py': ('def get_config():\n  return None\n', 'NoneType'),
  'wordy.py': ('raise ValueError("x" * 44000)\n', 'ValueError'),
  'binary.py': ('\0\0', ''),
}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_configuration_that_cannot_be_used(name, tmp_path, capsys):
  text, said = CONFIGS[name]
  (tmp_path / name).write_text(text)
  assert call('fit', f'--config={tmp_path / name}', f'--workdir={tmp_path / "w"}') == 2
  assert_one_line(capsys.readouterr().err, 'config=', name, said)


@pytest.mark.parametrize(
  'value',
  [
    *(
      'missing.py',
      'configs',
      '',
      'x' * 44_000,
      'configs/demo.py:huge',
      'configs/default.py:smoke',
      '/dev/zero',
      'a\nb',
    ),
    *(f'configs/{name}.py:{"y" * 44_000}' for name in ('demo', 'cats64', 'compare_cats64')),
  ],
)
def test_a_configuration_that_is_not_there(value, capsys):
  assert call('fit', f'--config={value}', '--workdir=w') == 2
  assert_one_line(capsys.readouterr().err, f'config={shown(value)}')


@pytest.fixture(scope='module')
def fit_of_nothing(tmp_path_factory):
  """A generator, and a workdir with made-up factors, so that nothing is compiled."""
  folder = tmp_path_factory.mktemp('words')
  options = {'resolution': 8, 'widths': (6, 6, 5, 5), 'z_dim': 7, 'w_dim': 8, 'mapping_widths': (8,)}
  rngs = nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))
  generator = registry.create('stylegan2', registry.options_class('stylegan2')(**options), rngs)
  save_generator(generator, folder / 'network')
  rng = np.random.default_rng(0)
  made = {'path': str(folder / 'network'), 'sha256': weights_digest(generator).hexdigest()}
  provenance = {'layer': 2, 'samples': 8, 'generator': made}
  factors = Factors(
    np.linalg.qr(rng.normal(size=(5, 5)))[0].astype(np.float32), np.abs(rng.normal(size=(64, 3))).astype(np.float32),
    (8, 8), provenance,
  )  # fmt: skip
  (folder / 'fit').mkdir()
  factors.save(folder / 'fit' / 'factors.npz')
  np.save(folder / 'features.npy', rng.normal(size=(8, 8, 8, 5)).astype(np.float32))
  return folder


@pytest.fixture
def quick(monkeypatch):
  """A generator is read from its folder once."""
  monkeypatch.setattr('panda_jax.generators.load_generator', functools.cache(disk.load_generator))


SWEEP = '--workdir=W', '--features=F'
FIT = ('--workdir=W', '--layer=2', '--samples=8', '--parts=2')
GENERATED, EDIT = (*FIT, '--generator=G'), ('--workdir=W', '--appearance=1', '--alpha=2')
SAMPLE, DISCOVER = ('--generator=G', '--out=O', '--seeds=0'), ('--generator=G', '--out=O', '--region=0,3,0,3')
INVERT = '--generator=G', '--out=O', '--images=I'
FILES = ['', 'missing', 'x' * 44_000, 'a\nb', '\udcff.npy', '/', 'README.md', '/dev/null']
NUMBERS = ['', 'x', '1.5', '0,x', '9' * 5_000, '1' + ',1x' * 20_000, '\ud800', '-']
# {flag: (command, other words that it needs, values)} for flags that take text. Free flags take any name.
TEXTS = {
  'workdir': ('report', (), FILES),
  'generator': ('info', (), FILES),
  'features': ('fit', ('--workdir=W', '--parts=2'), FILES),
  'grid': (
    'fit',
    (*FIT[:1], '--parts=2', '--features=F'),
    [*NUMBERS, '0,4', '-1,-1', '16', '1,2,3', '9999,9999'],
  ),
  **{
    name: ('sweep', SWEEP, ['', 'x', '1.5', '0,x', '5-3', '4,4', '0-9:0', '0-9999999999', '9' * 5_000, '\ud800'])
    for name in ('layer', 'samples', 'truncation_layers', 'parts', 'appearances', 'seed', 'held_out')
  },
  'truncation': ('sweep', SWEEP, ['', 'x', '0.5,x', '0.5,nan', '1,1', 'y' * 44_000]),
  'held_out_features': ('fit', (*FIT, '--features=F'), FILES),
  'shard': ('sweep', (*SWEEP, '--parts=1,2'), ['', 'x', '3/3', '0/0', '-1/2', '1/2/3', '9' * 5_000]),
  'layout': ('fit', ('--workdir=W', '--parts=2', '--features=F'), ['', 'x', 'nhwc', 'NHCW', 'y' * 44_000, 'a\nb']),
  'labels': ('fit', GENERATED, [*NUMBERS, 'missing.npy', 'x' * 44_000 + '.npy']),
  'seeds': ('sample', SAMPLE[:2], [*NUMBERS, '5-3', '0-99999999999', '-5', '4294967296']),
  'latents': ('sample', SAMPLE[:2], FILES),
  'transform': ('sample', SAMPLE, FILES[1:]),
  'part': ('edit', EDIT, [*NUMBERS, '3', '-1', '1/x']),
  'appearance': ('edit', (EDIT[0], '--part=1', '--alpha=2'), [*NUMBERS, '5', '-1', '1/2/3/x']),
  'alpha': ('edit', (*EDIT[:2], '--part=1'), [*NUMBERS[:2], *NUMBERS[3:], '1,,2', 'inf', 'nan', '3/x']),
  'mask': ('edit', EDIT, FILES),
  'images': ('invert', INVERT[:2], FILES),
  'points': ('invert', INVERT, [*NUMBERS, 'missing.json', 'x' * 44_000 + '.json']),
  'own_points': ('invert', (*INVERT, '--points=1,1,9,9'), [*NUMBERS, '1,2,3']),
  'box': ('invert', INVERT, [*NUMBERS, '1,2,3', '0,0,-1,1', '0,0,8,9', '900,0,8,8']),
  'encoder': ('invert', INVERT, FILES[1:]),
  'recognition': ('invert', INVERT, FILES[1:]),
  'directions': ('edit', (*EDIT, '--part=1'), FILES),
  'zoo': ('edit', (EDIT[0], '--name=x'), FILES[1:]),
  'threshold': ('edit', (*EDIT, '--part=1'), ['', 'x', '2', '-1', 'nan', '\ud800']),
  'masks': ('saliency', EDIT[:2], FILES),
  'method': ('discover', DISCOVER, ['x', 'SEFA', 'y' * 44_000, 'a\nb']),
  'region': ('discover', (*DISCOVER[:2], '--method=resefa'), [*NUMBERS, '1,2,3', '0,0,0,0', '0,99,0,99', '3,1,3,1']),
  'rows': ('discover', (*DISCOVER[:2], '--method=sefa'), [*NUMBERS, '99', '5-3']),
  'references': ('discover', (*DISCOVER, '--method=resefa'), [*NUMBERS, '5-3']),
  'coordinator': ('fit', (*FIT, '--features=F'), ['', 'x', 'y' * 44_000]),
  'name': ('edit', (EDIT[0], '--zoo=Z'), ['x', 'y' * 44_000, 'a\nb', '\udcff']),
  'annotate': ('edit', (*EDIT, '--part=1'), ['x', 'y' * 44_000]),
}
FREE = {'out', 'published'}
ELSEWHERE = {
  'host',
  'option',
  'key',
  'sort',
}  # see tests/experiments/test_runs.py, tests/app/test_server.py, tests/converters/test_main.py and test_networks.py


@pytest.mark.parametrize('flag', TEXTS)
def test_a_value_that_a_flag_of_text_cannot_have(flag, fit_of_nothing, quick, tmp_path, capsys):
  name, others, values = TEXTS[flag]
  write_zoo(tmp_path / 'zoo.json', {'eyes': NamedEdit('0' * 64, 2, (Spec((1,), 1, 3.0),))})
  Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / 'image.png')
  places = {
    'I': tmp_path / 'image.png',
    **{
      'W': fit_of_nothing / 'fit' if name not in ('fit', 'report') else tmp_path / 'w',
      'G': fit_of_nothing / 'network',
    },
    **{'F': fit_of_nothing / 'features.npy', 'O': tmp_path / 'out', 'Z': tmp_path / 'zoo.json'},
  }
  given = [f'{flag}={places.get(text, text)}' for flag, text in (word.split('=') for word in others)]
  for value in values:
    assert call(name, *given, f'--{flag}={value}') == 2, value[:99]
    said = capsys.readouterr().err
    assert_one_line(said, flag)
    assert not value.strip() or shown(value)[:20].strip() in said, value[:99]
  assert not (tmp_path / 'out').exists()


def test_every_flag_is_looked_at():
  """A new flag needs a line in TEXTS, unless its type finds bad values."""
  found = {pair for name in program.COMMANDS for pair in flags_of(name).items()}
  assert {flag for flag, kind in found if kind in ('string', 'multi string')} == {*TEXTS, *FREE, *ELSEWHERE}
  assert {kind for _, kind in found} == {'string', 'multi string', *MALFORMED}


PROGRAMS = {
  'train': (lambda *words: train(['train', *words]), 'overwrite'),
  'evaluate': (lambda *words: evaluate.main(['evaluate', *words]), 'samples'),
  'embed': (lambda *words: embed.main(['embed', *words]), 'overwrite'),
}


@pytest.mark.parametrize('name', PROGRAMS)
def test_other_programs_say_the_same(name, capsys):
  main, typed = PROGRAMS[name]
  cases = [
    ([f'--{typed}=x'], f'{typed}=x'),
    ([f'--{typed}={"9" * 5_000}'], f'{typed}=999'),
    ([f'--{typed}=1', f'--{typed}=0'], f'{typed}='),
    (['--zzz=4'], '--zzz=4'),
    (['--flagfile=x'], '--flagfile=x'),
    ([f'--{"z" * 44_000}'], 'flag=--zzz'),
  ]
  for arguments, text in cases:
    assert main(*arguments) == 2, arguments
    assert_one_line(capsys.readouterr().err, text)


@pytest.mark.parametrize('name', PROGRAMS)
def test_help_of_other_programs(name, capsys):
  main, typed = PROGRAMS[name]
  assert main('--help') == 0
  said = capsys.readouterr().out
  assert f'  --{typed} ' in said
  assert 'flagfile' not in said


def test_versions(capsys):
  version = f'panda-jax {panda_jax.__version__}\n'
  for main in (
    lambda: call('--version'),
    lambda: call('fit', '--version'),
    lambda: call('version'),
    lambda: call('convert', '--version'),
  ):
    assert main() == 0
    assert capsys.readouterr().out == version


@pytest.mark.parametrize('name', program.COMMANDS)
def test_help_shows_flags_of_ours_only(name, capsys):
  assert call(name, '--help') == 0
  out = capsys.readouterr().out
  for flag in flags_of(name):
    assert f'  --{flag} ' in out
  for foreign in ('verbosity', 'flagfile', 'undefok', 'stderrthreshold'):
    assert foreign not in out


def test_strengths_in_help_are_those_of_the_embedded_generator(capsys):
  """At layer 5 of cats64, a strength of 3 is clearly visible and one of 30 saturates."""
  for name in program.COMMANDS:
    assert call(name, '--help') == 0
  assert call('--help') == 0
  examples = re.findall(r'alpha=(\S+)|sweep: (\S+)', capsys.readouterr().out)
  found = re.findall(r'-?\d+', ' '.join(text for pair in examples for text in pair))
  assert found
  assert max(abs(int(number)) for number in found) == 3


API = [
  (lambda: panda_jax.fit('x' * 44_000, parts=2), 'features=xxx'),
  (lambda: panda_jax.fit(np.zeros((4, 2, 2, 3), np.float32), parts=10**5_000), 'parts='),
  (lambda: panda_jax.fit(np.ones((4, 2, 2, 3), np.float32), parts='2\n' * 9_000), 'parts='),
  (lambda: panda_jax.fit(list(range(10**6)), parts=2), 'features='),
  (lambda: panda_jax.fit({'a': 3}, parts=2), 'features='),
  (lambda: panda_jax.fit(np.ones((4, 2, 2, 3), np.float32), parts=1, center='y' * 44_000), 'center=yyy'),
  (lambda: panda_jax.load_generator('x' * 44_000), 'generator=xxx'),
  (lambda: panda_jax.load_generator('a\0b'), 'generator=a\\x00b'),
  (lambda: Factors.load('x' * 44_000), 'factors=xxx'),
  (lambda: Factors.load('missing\nfile'), 'factors=missing file'),
]


@pytest.mark.parametrize('number', range(len(API)))
def test_the_library_says_it_as_shortly(number):
  made, text = API[number]
  with pytest.raises(InputError) as caught:
    made()
  assert_one_line(f'error: {caught.value}\n', text)
