"""All commands and snippets in documents work: each is run, long ones at small sizes.

A new command in a document needs a line in `FORMS`, unless it works without changes. All run in one folder with the
files that documents use: checkpoints, generators, feature maps, a fit of cats64.
"""

import lzma
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from examples.train_encoder import __main__ as train_encoder
from examples.train_generator import __main__ as train
from examples.train_generator import embed
from examples.train_generator import evaluate as evaluation
from panda_jax.commands import program
from panda_jax.compare.cases import cases_of
from panda_jax.generators.disk import folder_of
from tests.commands.calls import call
from tests.documents import ROOT, documents, pieces

DATA = ROOT / 'tests' / 'data'
# One shape for the fits of files and of the demo, and one for those of cats64, so that each solver is compiled once.
SHORT = ('--config.restarts=2', '--config.max_iterations=4')
FEW = ('--samples=16', *SHORT)
DEMO_SHAPE = 16, 16, 16, 48
LONG, READ, OUTSIDE = 'slow', 'read', 'looked at'


class Form(NamedTuple):
  """How a command is run here.

  Attributes:
    how: '', LONG (in slow tests only), READ (only its flags are read: it needs several machines, a GPU or hours, or
      another test runs it), OUTSIDE (a test only checks that what it names exists).
    instead: {words: replacements}.
    more: words that are added at the end.
  """

  how: str = ''
  instead: Mapping[str, str] = MappingProxyType({})
  more: tuple[str, ...] = ()


FIT, COMPARE = 'panda-jax fit', 'panda-jax compare --config='
CATS, DEMO = f'{FIT} --config=cats64', f'{FIT} --config=configs/demo.py'
DISCOVER, SWEEP, RUNS = 'panda-jax discover', 'panda-jax sweep', 'panda-jax runs'
TRAIN = 'python -m examples.train_generator'
FORMS = {
  CATS: Form(READ),  # run below with a workdir, like the next three
  f'{FIT} --config=configs/cats64.py --workdir=runs/cats64': Form(READ),
  f'{DEMO}:smoke': Form(READ),
  'panda-jax COMMAND --help': Form('', {'COMMAND': 'fit'}),
  'panda-jax saliency --workdir=runs/cats64 --appearance=0,1,2 --seeds=0-5': Form('', {}, FEW[:1]),
  'panda-jax saliency --workdir=DIR --appearance=0 --features=FILE.npy': Form(
    '', {'DIR': 'runs/cats64', 'FILE.npy': 'cats.npy'}, FEW[:1]
  ),
  'panda-jax remove --workdir=runs/cats64 --part=3 --seeds=0-3': Form('', {}, FEW[:1]),
  'panda-jax invert --workdir=runs/cats64 --images=docs/photographs --out=runs/photographs': Form(
    '', {}, ('--evaluations=2',)
  ),
  # tests/commands/test_invert.py places photographs by points
  'panda-jax invert --workdir=runs/cats64 --images=cat.jpg --points=210,300,420,310 --out=DIR': Form(READ),
  'panda-jax info --generator=DIR': Form('', {'DIR': 'generators/ffhq'}),
  'panda-jax export DIR FILE --format=rosinality': Form('', {'DIR': 'generators/ffhq', 'FILE': 'exported.pt'}),
  'panda-jax convert network.pkl generators/ffhq': Form('', {'generators/ffhq': 'generators/new'}),
  f'{FIT} --features=FILE.npy --grid=16,16 --parts=8 --workdir=DIR': Form('', {'FILE.npy': 'flat.npy'}, SHORT),
  f'{FIT} --features=FILE.npy --parts=8 --workdir=DIR': Form('', {}, SHORT),
  f'{FIT} --features=NCHW.npy --layout=NCHW --parts=8 --workdir=DIR': Form('', {}, SHORT),
  f'{FIT} --config=demo --config.center=position --workdir=DIR': Form(LONG, {}, FEW),
  f'{DEMO} --workdir=runs/demo': Form(LONG, {}, FEW),
  f'{DEMO}:smoke --workdir=runs/smoke': Form(LONG, {'runs/smoke': 'runs/smoke_demo'}),
  f'{CATS} --workdir=runs/cats64': Form('', {}, FEW),
  f'{FIT} --config=configs/cats64.py:smoke --workdir=runs/smoke': Form(LONG, {}, (*FEW, '--parts=12')),
  f'{CATS} --parts=16 --workdir=runs/cats16': Form(READ),
  f'{FIT} --generator=generators/ffhq --layer=5 --samples=1000 --parts=8 --workdir=runs/ffhq': Form(
    LONG, {'1000': '16', '--parts=8': '--parts=12'}, SHORT
  ),
  'panda-jax edit --workdir=runs/ffhq --part=3 --appearance=0 --alpha=-3,0,3 --seeds=0-3': Form(LONG),
  f'{FIT} --generator=generators/biggan --layer=6 --samples=500 --labels=207,208 --parts=8 --workdir=runs/dogs': Form(
    LONG, {'500': '16', '207,208': '1,2', '--layer=6': '--layer=2'}, SHORT
  ),
  f'{SWEEP} --features=FILE.npy --parts=2,3 --config.center=none,position --held_out=4 --workdir=DIR': Form(
    '', {}, SHORT
  ),
  f'{RUNS} runs/sweep --sort=held_out': Form('', {'runs/sweep': 'runs/cats64'}),
  f'{RUNS} runs/sweep --format=csv --nopage': Form('', {'runs/sweep': 'runs/cats64'}),
  f'{DISCOVER} --generator=cats64 --region=20,32,10,55 --references=1': Form(READ),
  f'{DISCOVER} --method=sefa --generator=cats64 --out=DIR': Form(LONG),
  f'{DISCOVER} --method=lowrankgan --generator=cats64 --region=20,32,10,55 --out=DIR': Form(
    LONG, {}, ('--references=1',)
  ),
  'panda-jax catalog --workdir=runs/cats16': Form(READ),  # tests/catalog/test_page.py runs it, and edits from its file
  'panda-jax edit --workdir=runs/cats16 --zoo=runs/cats16/catalog/catalog.json '
  "--name='part 8 · appearance 11 · -'": Form(READ),
  'panda-jax app --workdir runs/cats64 runs/cats16': Form(LONG),
  # tests/examples/test_train_loop.py runs it
  f'{TRAIN} --config=examples/train_generator/configs/smoke.py --data=FOLDER --workdir=runs/smoke': Form(READ),
}
PARSED = (  # on several machines, on a GPU, or for hours; other tests run the same code
  'XLA_FLAGS=--xla_force_host_platform_device_count=8 ',
  COMPARE,  # tests/compare/test_command.py runs it
  'panda-jax fit --distributed ',
  'srun ',
  f'{SWEEP} --config=cats64 ',
  f'{RUNS} runs/choosing runs/halves',
  f'{SWEEP} --features=faces_',
  f'{SWEEP} --generator=',  # tests/experiments/test_sweep.py runs sweeps
  f'{TRAIN} --config=examples/train_generator/configs/cats64_',
  f'{TRAIN}.evaluate ',
  'python -m examples.train_encoder ',  # tests/examples/test_train_encoder.py runs it
)
NAMED = re.compile(r'panda-jax \w+|python -m (?:converters|panda_jax\.app)')
# tests/generators/test_custom.py runs the example
LOOKED_AT = ('make ', 'pip ', 'bash ', 'pytest ', 'python -m benchmarks.', 'python examples/custom_generator.py')


def form_of(command: str) -> Form:
  if command in FORMS:
    return FORMS[command]
  if command.startswith(LOOKED_AT) or NAMED.fullmatch(command):
    return Form(OUTSIDE)
  return Form(READ) if command.startswith(PARSED) else Form()


def unpacked(source: Path, target: Path) -> None:
  target.parent.mkdir(parents=True, exist_ok=True)
  target.write_bytes(lzma.decompress(source.read_bytes()) if source.suffix == '.xz' else source.read_bytes())


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A folder with all files that documents use, and a fit of cats64."""
  place = tmp_path_factory.mktemp('reader')
  for name in ('configs', 'tests', 'examples', 'docs'):
    (place / name).symlink_to(ROOT / name)
  rng = np.random.default_rng(0)
  features = rng.standard_normal(DEMO_SHAPE).astype(np.float32)
  for name, array in {
    'FILE.npy': features,
    'features.npy': features[:, :4, :4, :6],
    'flat.npy': features.reshape(16, 256, -1),
    'NCHW.npy': features.transpose(0, 3, 1, 2),
    'cats.npy': rng.standard_normal((2, 16, 16, 96)).astype(np.float32),
    'Uc-name_….npy': rng.standard_normal((6, 6)).astype(np.float32),
    'Us-name_….npy': np.abs(rng.standard_normal((256, 3))).astype(np.float32),
  }.items():
    np.save(place / name, array)
  drawn = np.zeros((64, 64), np.uint8)
  drawn[20:32, 10:55] = 255
  Image.fromarray(drawn).save(place / 'drawn.png')
  for source, target in (
    ('stylegan2_nvlabs/network.pkl.xz', 'network.pkl'),
    ('stylegan2_tf_revised/network.pkl.xz', 'network-snapshot.pkl'),
    ('pggan/checkpoint.pth.xz', 'pggan.pth'),
    ('stylegan/checkpoint.pth.xz', 'stylegan.pth'),
    ('stylegan2/checkpoint.pth.xz', 'stylegan2.pth'),
    ('stylegan2_rosinality/checkpoint.pt', '550000.pt'),
    ('stylegan3_r/network.pkl.xz', 'stylegan3-r.pkl'),
    ('stylegan_xl_superres/network.pkl.xz', 'imagenet128.pkl'),
    ('r3gan/network.pkl.xz', 'r3gan.pkl'),
    ('fastgan/network.pkl.xz', 'church.pkl'),
    ('biggan/pytorch_model.bin.xz', 'biggan-deep-256/pytorch_model.bin'),
    ('biggan/config.json', 'biggan-deep-256/config.json'),
    ('biggan_pytorch/G_ema.pth.xz', 'G_ema.pth'),
    ('studiogan_biggan_deep/model.pth.xz', 'model=G_ema-best.pth'),
  ):
    unpacked(DATA / source, place / target)
  cats = folder_of('cats64')
  for name in ('generators/ffhq', 'runs/train_cats64_gpu/snapshots/02000000'):
    shutil.copytree(cats, place / name)
  (place / 'FOLDER').mkdir()
  for i in range(24):
    pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(place / 'FOLDER' / f'{i}.png')
  with pytest.MonkeyPatch.context() as patched:
    patched.chdir(place)
    assert call('fit', '--config=configs/cats64.py', '--workdir=runs/cats64', *FEW) == 0
    shutil.copytree('runs/cats64', 'runs/cats16')
    assert call('convert', 'biggan-deep-256', 'generators/biggan') == 0
  return place


@pytest.fixture
def reader(place, monkeypatch):
  """Works in that folder."""
  monkeypatch.chdir(place)
  monkeypatch.setattr('panda_jax.app.server.serve', lambda *given: None)
  return place


def typed(command: str, form: Form, number: int) -> list[str]:
  """The words of a command as this test runs it."""
  for old, new in form.instead.items():
    assert old in command
    command = command.replace(old, new)
  words = [word for word in [*shlex.split(command), *form.more] if not re.fullmatch(r'[A-Z_]+=.*', word)]
  return [re.sub(r'(^|=)DIR$', rf'\1runs/dir{number}', word) for word in words]


def run(words: list[str]) -> int:
  match words:
    case ['panda-jax', *given]:
      if given[0] == 'app':
        pytest.importorskip('uvicorn')
      return call(*given)
    case ['python', '-m', 'examples.train_generator', *given]:
      return train.main(['train', *given])
    case ['python', '-m', 'examples.train_generator.embed', *given]:
      return embed.main(['embed', *given])
  pytest.fail(f'no way to run {shlex.join(words)}')


def read_only(words: list[str], monkeypatch) -> int:
  """Reads the flags of a command without running it."""
  if words[0] == 'srun':
    words = words[words.index('panda-jax') :]
  match words:
    case ['panda-jax', name, *given]:
      monkeypatch.setattr(program.module_of(name), 'run', lambda options, call: None)
      return call(name, *given)
    case ['python', '-m', 'examples.train_encoder', *given]:
      return 0 if train_encoder.parsed(given).generator else 1
    case ['python', '-m', 'examples.train_generator', *given]:
      return 0 if train.parsed(given).config.images else 1
    case ['python', '-m', 'examples.train_generator.evaluate', *given]:
      return 0 if evaluation.parsed(given).generator else 1
  pytest.fail(f'no way to read {shlex.join(words)}')


def look_at(command: str) -> None:
  """Checks that what a command outside of the package names exists: targets, files, modules."""
  words = shlex.split(command)
  match words:
    case ['make', target]:
      done = subprocess.run(['make', '-n', target], cwd=ROOT, capture_output=True, text=True)
      assert done.returncode == 0, done.stderr
    case ['pip', 'install', '-e', '.']:
      assert "\npanda-jax = 'panda_jax.__main__:main'\n" in (ROOT / 'pyproject.toml').read_text()
    case ['pip', 'install', '-e', extras]:
      listed = (ROOT / 'pyproject.toml').read_text()
      for name in re.search(r'\[(.*)\]', extras)[1].split(','):
        assert f'\n{name} = [' in listed
    case ['bash' | 'python', file]:
      assert (ROOT / file).is_file()
    case ['pytest', '-m', 'not slow']:
      assert "'slow: " in (ROOT / 'pyproject.toml').read_text()
    case ['panda-jax', name]:
      assert name in {*program.COMMANDS, 'COMMAND'}
    case ['python', '-m', 'converters' | 'panda_jax.app' as module]:
      assert (ROOT / module.replace('.', '/') / '__main__.py').is_file()
    case ['python', '-m', module, *given]:
      source = (ROOT / f'{module.replace(".", "/")}.py').read_text()
      for word in (word for word in given if word.startswith('--')):
        name = word.removeprefix('--').partition('=')[0]
        assert re.search(rf"DEFINE_\w+\(\s*'{name}'", source), f'{module} has no --{name}'
    case ['pip', 'install', _]:
      pass  # of another project
    case _:
      pytest.fail(f'no way to look at {command}')


COMMANDS = list(dict.fromkeys(piece.text for piece in pieces() if piece.kind == 'command'))


def marked(slow: bool) -> list:
  return [command for command in COMMANDS if (form_of(command).how == LONG) == slow]


def check(command: str, monkeypatch, capsys) -> None:
  form = form_of(command)
  if form.how == OUTSIDE:
    return look_at(command)
  words = typed(command, form, COMMANDS.index(command))
  code = read_only(words, monkeypatch) if form.how == READ else run(words)
  assert code == 0, capsys.readouterr().err[-300:]


@pytest.mark.parametrize('command', marked(False))
def test_a_command(command, reader, monkeypatch, capsys):
  check(command, monkeypatch, capsys)


@pytest.mark.slow
def test_commands_that_take_long(reader, monkeypatch, capsys):
  """Runs commands in the order of the documents: some need files of earlier ones."""
  order = sorted(marked(True), key=lambda command: 'fit' not in command)
  for command in order:
    check(command, monkeypatch, capsys)
    capsys.readouterr()


def test_every_form_is_of_a_command_that_is_there():
  assert not set(FORMS) - {*COMMANDS}
  for start in (*PARSED, *LOOKED_AT):
    assert any(command.startswith(start) for command in COMMANDS), start


def test_documents_are_found():
  names = {str(path.relative_to(ROOT)) for path in documents()}
  assert {'README.md', 'docs/how-to/edit.md', 'configs/demo.py', 'examples/train_generator/README.md'} <= names
  assert len(COMMANDS) > 50
  assert {piece.kind for piece in pieces()} == {'bibtex', 'command', 'python', 'yaml'}


SNIPPETS: dict[str, list[str]] = {}
for piece in pieces():
  if piece.kind == 'python':
    SNIPPETS.setdefault(piece.document, []).append(piece.text)
LONG_SNIPPETS = ('docs/how-to/region-edits.md',)


def snippets_run(document: str) -> dict:
  """Runs the snippets of a page in order, with common names; each page on its own."""
  names: dict = {}
  for text in SNIPPETS[document]:
    text = text.replace('range(64)', 'range(4)').replace('evaluations=20', 'evaluations=2')
    exec(compile(text, document, 'exec'), names)
  return names


@pytest.mark.parametrize('document', [name for name in SNIPPETS if name not in LONG_SNIPPETS])
def test_snippets(document, reader):
  names = snippets_run(document)
  match document:
    case 'docs/how-to/edit.md':
      assert names['result'].edited.shape == names['result'].difference.shape == (8, 2, 2, 64, 64, 3)
      assert names['heat'].shape == (8, 16, 16, 2)
    case 'docs/how-to/own-generator.md':
      assert names['images'].shape == (4, 64, 64, 3)
    case 'docs/reference/configuration.md':
      assert names['get_config']().parts == 12
    case 'docs/how-to/compare.md':
      assert len(cases_of(names['get_config']().to_dict())) == 3


@pytest.mark.slow
@pytest.mark.parametrize('document', LONG_SNIPPETS)
def test_snippets_that_take_long(document, reader):
  assert snippets_run(document)['found'].scores


def test_the_job_of_kubernetes(reader, monkeypatch):
  (text,) = (piece.text for piece in pieces() if piece.kind == 'yaml')
  words = re.search(r'command: \[(.*)\]', text)[1].split(', ')
  assert read_only(words, monkeypatch) == 0


@pytest.mark.slow
def test_the_demo(reader, monkeypatch, capsys):
  done = subprocess.run(['make', '-n', 'demo'], cwd=ROOT, capture_output=True, text=True, check=True)
  lines = [line for line in done.stdout.splitlines() if ' run.py ' in line]
  assert len(lines) == 4
  for line in lines:
    words = shlex.split(line)[2:]
    assert call(*words, *(FEW if words[0] == 'fit' else ())) == 0
  for name in re.findall(r"echo '  (runs/\S+)", done.stdout):
    assert Path(name).is_file()
