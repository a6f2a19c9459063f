"""A sweep as a user types it: runs equal single fits, a failed run is recorded, a stopped sweep is resumed."""

import json
import re

import numpy as np
import pytest

import panda_jax
from panda_jax.errors import Interrupted
from panda_jax.experiments import sweep as module
from panda_jax.features.store import held_in_memory
from panda_jax.files.lock import locked
from panda_jax.workdir.config import default_config
from panda_jax.workdir.fit import fit_into
from panda_jax.workdir.fit_features import Shelf, source_of
from tests import planted
from tests.commands.calls import run

FEW = '--config.restarts=2', '--config.max_iterations=4'
NAMES = ['parts=2,seed=0', 'parts=2,seed=1', 'parts=17,seed=0', 'parts=17,seed=1']


@pytest.fixture(scope='module')
def swept(tmp_path_factory):
  """(folder, arguments, output) of a sweep in which half of the runs fail: there are 16 positions."""
  folder = tmp_path_factory.mktemp('sweep')
  np.save(folder / 'z.npy', planted.structured(30, (4, 4), 6))
  arguments = [f'--features={folder / "z.npy"}', '--parts=2,17', '--seed=0-1', '--held_out=6', *FEW]
  return folder / 'runs', arguments, run('sweep', *arguments, f'--workdir={folder / "runs"}')


def test_a_run_that_fails_is_recorded_and_the_rest_goes_on(swept):
  folder, _, done = swept
  assert done.returncode == 2
  assert 'error: sweep=2 of 4 runs: failed, parts=17,seed=0 since parts=17: there are 16 positions' in done.stderr
  assert '2 of 4 runs are finished' in done.stdout
  for number, name in enumerate(NAMES, start=1):
    assert f'{number} of 4: {name}: ' in done.stderr
    assert (folder / name / 'summary.json').exists() == name.startswith('parts=2,')
  failure = json.loads((folder / NAMES[2] / 'failure.json').read_text())
  assert failure['error'].startswith('parts=17: there are 16 positions')
  assert 'next:' not in done.stderr  # only a single fit says this


def test_a_run_alone_is_the_same_bits(swept, tmp_path):
  folder, arguments, _ = swept
  alone = [words for words in arguments if not words.startswith(('--parts', '--seed'))]
  done = run('fit', *alone, '--parts=2', '--seed=1', f'--workdir={tmp_path / "w"}')
  assert done.returncode == 0, done.stderr
  assert 'held-out samples' in done.stderr
  one, two = (panda_jax.Factors.load(place / 'factors.npz') for place in (tmp_path / 'w', folder / NAMES[1]))
  assert one == two


def test_two_jobs_give_the_same_bits(swept, tmp_path):
  folder, arguments, alone = swept
  done = run('sweep', *arguments, '--jobs=2', f'--workdir={tmp_path}')
  assert done.returncode == 2
  assert done.stdout.replace(str(tmp_path), str(folder)) == alone.stdout
  # Runs end in any order.
  assert re.search(r'error: sweep=2 of 4 runs: failed, parts=17,seed=[01] since parts=17: there are 16', done.stderr)
  assert all(f'of 4: {name}: ' in done.stderr for name in NAMES)
  for name in NAMES[:2]:
    one, two = (panda_jax.Factors.load(place / name / 'factors.npz') for place in (folder, tmp_path))
    assert one == two
  assert all((tmp_path / name / 'failure.json').exists() for name in NAMES[2:])


def test_held_out_samples_are_not_fitted_and_tell_their_error(swept):
  folder, _, _ = swept
  features = np.load(folder.parent / 'z.npy')
  factors = panda_jax.Factors.load(folder / NAMES[0] / 'factors.npz')
  summary = json.loads((folder / NAMES[0] / 'summary.json').read_text())
  # float32 sums of some thousand squares
  assert summary['relative_error'] == pytest.approx(factors.relative_error(features[:24]), rel=1e-5)
  assert summary['held_out'] == {
    'samples': 6,
    'relative_error': pytest.approx(factors.relative_error(features[24:]), rel=1e-5),
  }
  assert summary['counts']['samples'] == 24


def test_what_is_finished_is_left_and_what_failed_is_tried_again(swept):
  folder, arguments, _ = swept
  before = (folder / NAMES[0] / 'factors.npz').stat().st_mtime_ns
  done = run('sweep', *arguments[:1], '--parts=2,3', *arguments[2:], f'--workdir={folder}')
  assert done.returncode == 0, done.stderr
  assert done.stderr.count('finished before') == 2
  assert (folder / NAMES[0] / 'factors.npz').stat().st_mtime_ns == before
  assert (folder / 'parts=3,seed=1' / 'summary.json').exists()


def test_a_run_that_another_process_is_at_is_left_to_it(swept, tmp_path):
  _, arguments, _ = swept
  call = 'sweep', *arguments[:1], '--parts=2', *arguments[2:], f'--workdir={tmp_path}'
  names = ['seed=0', 'seed=1']
  with locked(tmp_path / names[0]):  # as by another shard, or by the same sweep started twice
    done = run(*call)
  assert done.returncode == 0, done.stderr
  assert f'1 of 2: {names[0]}: it is in use by process' in done.stderr
  assert '1 of 2 runs are finished, another process is at 1' in done.stdout
  assert not (tmp_path / names[0] / 'failure.json').exists()
  assert run(*call).returncode == 0
  assert sorted(path.parent.name for path in tmp_path.glob('*/summary.json')) == names


@pytest.mark.parametrize(
  ('words', 'said'),
  [
    (['--parts=2,3'], 'features: not given'),
    (['--features=none.npy', '--parts=2,3'], 'none.npy: there is no such file'),
    (['--features=FILE', '--seed=0,1'], 'parts: not given'),
    (['--features=FILE', '--parts=2,3', '--workdir=FILE'], 'it cannot be written'),
    (['--features=FILE', '--parts=2,3', '--config=demo:huge'], 'unknown size'),
    (['--features=FILE', '--parts=2,3', '--workdir='], '--workdir=: not given'),
    (['--features=FILE', '--parts=2,3', '--jobs=0'], 'jobs=0: it must be positive'),
    (['--features=none.npy', '--parts=2,3', '--jobs=2'], 'none.npy: there is no such file'),
  ],
)
def test_what_no_run_can_do_without_is_said_once(swept, words, said, tmp_path):
  folder, _, _ = swept
  words = [word.replace('FILE', str(folder.parent / 'z.npy')) for word in words]
  if not any(word.startswith('--workdir') for word in words):
    words.append(f'--workdir={tmp_path / "w"}')
  done = run('sweep', *words)
  assert done.returncode == 2
  assert said.removeprefix('--workdir=: ') in done.stderr
  assert done.stderr.count('\n') == 1


def test_fit_names_the_command_that_takes_lists(tmp_path):
  done = run('fit', '--parts=4,8', '--features=z.npy', f'--workdir={tmp_path}')
  assert 'it is a list, and this is one fit; give one number, or do one fit for each: sweep --parts=4,8' in done.stderr


def test_a_sweep_that_is_stopped_says_what_is_kept(swept, monkeypatch, tmp_path):
  _, arguments, _ = swept

  def stopped(*given, **more):
    raise Interrupted(15)

  monkeypatch.setattr(module, 'fit_into', stopped)
  done = run('sweep', *arguments, f'--workdir={tmp_path}')
  assert done.returncode == 143
  assert 'what is finished is kept; the same command does the rest' in done.stderr
  assert not [*tmp_path.rglob('failure.json')]


def test_a_configuration_has_a_sweep(swept, tmp_path):
  folder, _, _ = swept
  text = f"""
from panda_jax.workdir.config import default_config
def get_config():
  config = default_config()
  config.features, config.restarts, config.max_iterations = {str(folder.parent / 'z.npy')!r}, 2, 4
  return config
def sweep():
  return {{'parts': [2, 3], 'center': ['none', 'position']}}
"""
  (tmp_path / 'c.py').write_text(text)
  call = 'sweep', f'--config={tmp_path / "c.py"}', '--parts=2', '--held_out=6', f'--workdir={tmp_path / "w"}'
  done = run(*call, '--shard=1/2')
  assert done.returncode == 0, done.stderr
  assert [path.name for path in (tmp_path / 'w').iterdir()] == ['center=position']
  (tmp_path / 'c.py').write_text(text.replace('return {', 'raise 1 / {'))
  assert 'error: --config=' in run(*call).stderr


def test_features_of_a_generator_are_made_once_for_all_seeds():
  config = default_config()
  config.update({'generator': 'cats64', 'layer': 2, 'samples': 10, 'held_out': 3})
  configs = [default_config() for _ in range(3)]
  for seed, one in enumerate(configs):
    one.update(config.to_dict() | {'seed': seed})
  shelf, made = Shelf(), []
  shelf.begin(configs)
  for one in configs:
    features = shelf.features(one)
    for source, first, count in ((features.fitted, one.seed, 10), (features.held_out, one.seed + 10, 3)):
      found = shelf.taken(
        source,
        'none',
        'auto',
        'float32',
        None,
        None,
        hashed=True,
        like=None,
        on_plan=lambda plan: None,
        on_samples=lambda name, n: made.append((name, n)),
      )
      [block] = found.own.blocks(count)
      if source is features.fitted:
        [alone] = held_in_memory(source_of(one)).blocks(count)
        np.testing.assert_array_equal(block, alone)
        assert found.sha256 == features.fitted.digest().hexdigest() == source_of(one).digest().hexdigest()
      assert source.description()['seed'] == first
  assert len([n for name, n in made if name == 'generate']) == 1


@pytest.mark.parametrize(('half', 'rows'), [('first', slice(0, 12)), ('second', slice(12, 24))])
def test_halves(half, rows, tmp_path):
  features = planted.structured(30, (4, 4), 6)
  np.save(tmp_path / 'z.npy', features)
  config = default_config()
  config.update({'features': str(tmp_path / 'z.npy'), 'parts': 2, 'held_out': 6, 'half': half, 'restarts': 2})
  config.max_iterations = 4
  summary = fit_into(tmp_path / 'w', config)
  factors = panda_jax.Factors.load(tmp_path / 'w' / 'factors.npz')
  assert summary['relative_error'] == pytest.approx(factors.relative_error(features[rows]), rel=1e-5)


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (['--held_out=30'], '--held_out=30: the file has 30 samples'),
    (['--held_out=-1'], 'negative'),
    (['--held_out=1', '--samples=30'], 'and 30 are fitted'),
    (['--held_out_features=none.npy'], '--held_out_features=none.npy: there is no such file'),
    (['--held_out_features=OTHER'], 'its maps are 3x3x6; give maps of 4x4x6'),
    (['--config.half=third'], 'give one of none, first, second'),
    (['--held_out_features=NAN'], 'error: --held_out_features=nan in sample 1'),
  ],
)
def test_what_cannot_be_held_out_costs_one_line(swept, arguments, said, tmp_path):
  folder, _, _ = swept
  np.save(tmp_path / 'other.npy', planted.structured(3, (3, 3), 6))
  wrong = planted.structured(3, (4, 4), 6)
  wrong[1, 2, 2, 3] = np.nan
  np.save(tmp_path / 'nan.npy', wrong)
  places = {'OTHER': str(tmp_path / 'other.npy'), 'NAN': str(tmp_path / 'nan.npy')}
  for name, place in places.items():
    arguments = [words.replace(name, place) for words in arguments]
  done = run(
    'fit', f'--features={folder.parent / "z.npy"}', '--parts=2', *FEW, *arguments, f'--workdir={tmp_path / "w"}'
  )
  assert done.returncode == 2
  assert said in done.stderr
  assert done.stderr.count('\n') <= 2
