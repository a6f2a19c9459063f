"""`run.py discover` as a user runs it, its files, and the flags that it and `compare` share with other commands."""

import json

import numpy as np
import pytest
from PIL import Image

from panda_jax.commands.discover_requests import arguments_of, parsed_region
from panda_jax.errors import NonFiniteError
from panda_jax.generators import load_generator
from panda_jax.regions.metrics import box_mask
from panda_jax.rivals import load, resefa
from panda_jax.workdir import directions
from panda_jax.workdir.directions import Strip, discover_into, told, visible_strength
from tests.commands.calls import call
from tests.commands.test_edit import folder  # noqa: F401, a fixture: the folder of a StyleGAN2 of 8 x 8 pixels
from tests.planted_generators import LinearGenerator, random_jacobian

REGION = '--region=1,5,2,7'
FILES = {'directions.npy', 'directions.json', 'strip.png'}


@pytest.fixture
def ours(folder, tmp_path):  # noqa: F811
  """Arguments for every call."""
  return f'--generator={folder}', f'--out={tmp_path / "out"}'


def test_resefa_writes_every_file(ours, folder, tmp_path, capsys):  # noqa: F811
  given = ('--method=resefa', REGION, '--rows=1-2', '--references=4', '--count=3', '--seeds=1,2', '--truncation=0.9')
  assert call('discover', *ours, *given) == 0
  out = tmp_path / 'out'
  assert {path.name for path in out.iterdir()} == FILES
  printed = capsys.readouterr().out
  assert f'{out / "directions.npy"}  3 x 8' in printed
  assert '3 directions in ' in printed
  found = load(out)
  assert found.vectors.dtype == np.float32
  generator = load_generator(folder)
  expected = resefa.discover(generator, region=(1, 5, 2, 7), layers=(1, 2), seeds=(4,), k=3, truncation=0.9)
  np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)
  assert (found.space, found.layers, found.unit) == ('w', (1, 2), 'length')
  told_of = found.provenance['discovery']
  assert told_of['settings']['arguments']['region'] == [1, 5, 2, 7]
  assert told_of['command'].startswith('python run.py discover --generator=')
  with Image.open(out / 'strip.png') as strip:
    assert strip.size[1] > 6 * 32  # two samples, three directions


def test_the_same_command_again_and_another_one(ours, tmp_path, capsys):
  given = ('discover', *ours, '--method=sefa', '--count=2', '--alpha=-1,1')
  record = tmp_path / 'out' / 'directions.json'
  assert call(*given) == 0
  assert call(*given) == 0
  before = record.read_bytes()
  assert call(*given, '--published') == 2
  assert 'other directions are there' in capsys.readouterr().err
  assert record.read_bytes() == before
  assert call(*given, '--published', '--overwrite') == 0
  assert json.loads(record.read_text())['provenance']['published'] is True


@pytest.mark.parametrize('method', ['sefa', 'ganspace', 'lowrankgan'])
def test_other_methods(ours, tmp_path, method):
  more = {'ganspace': ('--samples=64', '--seed=3'), 'lowrankgan': (REGION,)}.get(method, ())
  assert call('discover', *ours, f'--method={method}', '--seeds=0', *more) == 0
  found = load(tmp_path / 'out')
  assert found.method == method
  assert found.vectors.shape[1] == 8


MISTAKES = [
  (('--out=O', '--generator=G'), 'method: not given; give --method=sefa|'),
  (('--method=sefa', '--generator=G'), 'out: not given'),
  (('--method=sefa', '--out=O'), 'generator: not given'),
  (('--method=gan', '--generator=G', '--out=O'), 'method=gan: there is no such method; give one of sefa'),
  (('--method=resefa', '--generator=G', '--out=O'), 'region: not given, and resefa needs it'),
  (('--method=resefa', '--generator=G', '--out=O', '--region=1,2,3'), 'region=1,2,3: a box is four whole numbers'),
  (('--method=resefa', '--generator=G', '--out=O', '--region=1,2,-3,4'), 'region=1,2,-3,4: a box is four'),
  (('--method=resefa', '--generator=G', '--out=O', '--region=1,9,3,4'), 'region=1,9,3,4: it is not a box in an image'),
  (('--method=sefa', '--generator=G', '--out=O', REGION), 'region=1,5,2,7: sefa takes none; leave it out'),
  (('--method=sefa', '--generator=G', '--out=O', '--references=4'), 'references=4: sefa takes none'),
  (('--method=sefa', '--generator=G', '--out=O', '--rows=2-9'), 'rows=4: there are 4 rows of w+'),
  (('--method=sefa', '--generator=G', '--out=O', '--rows=x'), 'rows=x: not a list of whole numbers'),
  (('--method=sefa', '--generator=G', '--out=O', '--count=0'), 'count=0: no direction would be left'),
  (('--method=sefa', '--generator=G', '--out=O', '--alpha=inf'), 'alpha=inf: it is not finite'),
  (('--method=sefa', '--generator=G', '--out=O', '--alpha=1,1e39'), 'it is not finite'),
  (('--method=sefa', '--generator=G', '--out=O', '--labels=1'), 'this generator is unconditional'),
  (('--method=sefa', '--generator=G', '--out=O', '--part=1'), '--part=1: discover has no such flag'),
  (('--method=sefa', '--generator=G', '--out=O', '--metod=1'), 'did you mean --method?'),
  (('--method=sefa', '--generator=G', '--out=/proc/nowhere'), 'out=/proc/nowhere: it cannot be written'),
  (('--method=sefa', '--generator=none', '--out=O'), 'generator=none: there is no such folder'),
]


@pytest.mark.parametrize(('arguments', 'said'), MISTAKES, ids=[' '.join(arguments) for arguments, _ in MISTAKES])
def test_a_mistake_costs_one_line_and_leaves_nothing(folder, tmp_path, capsys, arguments, said):  # noqa: F811
  given = [a.replace('=G', f'={folder}').replace('=O', f'={tmp_path / "out"}') for a in arguments]
  assert call('discover', *given) == 2
  lines = capsys.readouterr().err.strip().splitlines()
  assert len(lines) == 1
  assert said in lines[0]
  assert not any(tmp_path.iterdir())


OTHERS = [
  (('fit', REGION), '--region=1,5,2,7: fit has no such flag'),
  (('edit', '--method=sefa'), '--method=sefa: edit has no such flag'),
  (('compare', '--workdir=W'), '--config: not given; give --config=compare_cats64'),
  (('compare', '--config=configs/compare_cats64.py'), 'workdir: not given'),
  (('compare', '--config=configs/cats64.py', '--workdir=W'), 'config.appearances=None: compare has no such key'),
  (('compare', '--config=configs/compare_cats64.py', '--config.hedlout=3'), 'did you mean heldout?'),
  (('compare', '--config=configs/compare_cats64.py', '--workdir=W', '--grid=3,3'), '--grid=3,3: compare has no such'),
  (('compare', '--config=configs/compare_cats64.py', '--workdir=W', '--alpha=3'), '--alpha=3: compare has no such'),
  (('fit', '--config=configs/compare_cats64.py', '--workdir=W'), 'config.bootstrap=1000: fit has no such key'),
  (('fit', '--config.heldout=3'), 'config.heldout=3: there is no such key'),
]


@pytest.mark.parametrize(('arguments', 'said'), OTHERS, ids=[' '.join(arguments) for arguments, _ in OTHERS])
def test_flags_and_keys_of_one_command_are_no_others(tmp_path, capsys, arguments, said):
  assert call(*(a.replace('=W', f'={tmp_path / "w"}') for a in arguments)) == 2
  assert said in capsys.readouterr().err.strip().splitlines()[-1]
  assert not any(tmp_path.iterdir())


def test_published_is_a_name_elsewhere(capsys):
  """In `fit` this flag takes a value; it must not have become a switch there."""
  assert call('fit', '--features=none.npy', '--parts=2', '--workdir=w', '--published=a_name') == 2
  assert capsys.readouterr().err.startswith('error: --features=none.npy')


def test_a_users_generator_and_its_record(tmp_path):
  """A generator that is not an NNX module, with latents without rows; a mask in place of a box."""
  generator = LinearGenerator(random_jacobian())
  mask, reported = box_mask((1, 5, 2, 7), (8, 8)), []
  strip = Strip(seeds=(0, 1), alphas=(2.0,))
  found, shapes = discover_into(
    tmp_path / 'out', generator, 'resefa', {'region': mask}, strip, on_progress=lambda *x: reported.append(x)
  )
  assert shapes == {'directions.npy': (6, 6)}
  assert reported[-1] == ('strip', 10, 10)
  again = load(tmp_path / 'out')
  assert again.space == 'z'
  assert again.provenance['discovery']['settings']['arguments']['region'] == {'shape': [8, 8], 'true': 20}
  np.testing.assert_array_equal(again.vectors, found.vectors)


def test_what_is_not_finite_is_named_and_leaves_no_record(tmp_path):
  generator = LinearGenerator(100 * random_jacobian())
  out, strip = tmp_path / 'out', Strip(seeds=(7,), alphas=(-3e38,))
  with pytest.raises(NonFiniteError, match=r'direction 0 of seed 7 is not finite; give a smaller one'):
    discover_into(out, generator, 'resefa', {'region': (1, 5, 2, 7)}, strip)
  assert not out.exists()


@pytest.mark.parametrize('gain', [3e-4, 0.02, 1.0, 7.0])
def test_strengths_of_a_strip_are_visible(gain):
  """The middle one of three directions decides: for a linear change, alpha = VISIBLE / gain."""
  steps = np.array([0.1, 1, 5]) * gain
  found = visible_strength(lambda j, alpha: np.full((4, 4, 3), alpha * steps[j]), 3)
  np.testing.assert_allclose(found, directions.VISIBLE / gain, rtol=0.05)  # two digits


def test_strengths_of_what_changes_nothing_or_breaks():
  assert visible_strength(lambda j, alpha: np.zeros((2, 2, 3)), 2) == float(f'{directions.LARGEST:.2g}')
  broken = visible_strength(lambda j, alpha: np.full((2, 2, 3), np.nan if alpha > 1 else 0.0), 2)
  assert broken == 2


def test_regions_and_arguments():
  assert parsed_region(None) is None
  assert parsed_region('1, 2,3,4') == (1, 2, 3, 4)
  given = {'region': (1, 2, 3, 4), 'k': None, 'truncation': 0.7, 'published': True}
  assert arguments_of('resefa', given) == {'region': (1, 2, 3, 4), 'truncation': 0.7, 'published': True}
  assert arguments_of('sefa', {'truncation': 0.7, 'k': 2}) == {'k': 2}  # then truncation is for the strip


def test_progress_says_how_much_time_is_left(monkeypatch):
  clock, said = iter([10.0, 12.0, 14.0]), []
  monkeypatch.setattr(directions.time, 'monotonic', lambda: next(clock))
  report = told(said.append)
  for done in (0, 10, 40):
    report('Jacobian', done, 40)
  assert said == ['Jacobian: 0 of 40', 'Jacobian: 10 of 40, 6 s left', 'Jacobian: 40 of 40']
