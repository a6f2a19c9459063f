"""A whole comparison: its files, work that is not repeated, requests that are refused."""

import json
import os
import signal

import pytest

from panda_jax.compare import run
from panda_jax.compare.run import checked, compare_into, seeds_of
from panda_jax.errors import InputError, Interrupted
from panda_jax.files.lock import locked
from tests.compare.conftest import is_png, recorded, small_config

METHODS = ('panda', 'panda_refined', 'panda_region', 'pca_parts', 'random_direction', 'random_part', 'stylespace')


@pytest.fixture(scope='module')
def finished(generator, tmp_path_factory):
  folder = tmp_path_factory.mktemp('compare') / 'run'
  table = compare_into(folder, small_config(methods=METHODS), generator=generator, command='run it')
  return folder, table


def test_everything_is_written(finished):
  folder, table = finished
  assert json.loads((folder / 'table.json').read_text()) == table
  for name in ('curves.png', 'strips.png', 'regions.png', 'leakage.png'):
    assert is_png(folder / name)
  assert len(table['cells']) == 2 * (len(METHODS) - 1)
  assert all(cell['realism'] > 0 for cell in table['cells'])
  assert table['command'] == 'run it'


def test_parts_are_more_local_than_random_directions(finished):
  """The upper left quadrant is a part; a random direction moves all four."""
  _, table = finished
  roir = {method: recorded(table, method, 'upper left')['roir']['mean'] for method in METHODS[:-1]}
  assert roir['panda'] < 0.5 * roir['random_direction']
  assert roir['panda_region'] <= roir['panda'] + 1e-6


def test_what_changes_outside_is_told_too(finished):
  """What changes less beside the same change inside leaves more as it was, by every measure."""
  folder, table = finished
  found = [recorded(table, method, 'upper left')['outside'] for method in ('panda', 'random_direction')]
  assert found[0]['psnr'] > found[1]['psnr'] + 6  # half the ROIR
  assert found[0]['ssim'] > found[1]['ssim']
  assert found[0]['realism'] < found[1]['realism']
  told = {(d['region'], d['measure'], d['method']): d for d in table['differences']}
  assert not told['upper left', 'roir', 'random_direction']['same']
  assert told['upper left', 'psnr', 'panda']['low'] <= 0
  assert '## Outside the region' in (folder / 'table.md').read_text()


def test_a_method_that_is_not_defined_is_told_and_the_rest_goes_on(finished):
  folder, table = finished
  said = table['methods']['stylespace']['undefined']
  assert 'style' in said
  assert said in (folder / 'table.md').read_text()


def test_strengths_match_in_every_cell(finished):
  _, table = finished
  reached = [cell for cell in table['cells'] if cell['reached']]
  assert all(abs(cell['heldout']['change'] / 0.1 - 1) <= 0.005 for cell in reached)
  assert all(abs(cell['test']['change'] / 0.1 - 1) <= 0.01 for cell in reached)
  assert all(cell['reached'] for cell in table['cells'] if cell['method'] == 'panda')


def test_the_same_command_measures_nothing_again(finished, generator):
  folder, table = finished
  before = {path: path.stat().st_mtime_ns for path in folder.rglob('*') if path.parent.name in ('cells', 'panda')}
  again = compare_into(folder, small_config(methods=METHODS), generator=generator, command='run it')
  assert {path: path.stat().st_mtime_ns for path in before} == before
  assert again['cells'] == table['cells']


def test_a_missing_cell_is_measured_again_with_the_same_numbers(finished, generator):
  folder, table = finished
  (folder / 'cells' / 'panda-lower.json').unlink()
  again = compare_into(folder, small_config(methods=METHODS), generator=generator, command='run it')
  cells = [{k: v for k, v in recorded(t, 'panda', 'lower').items() if k != 'seconds'} for t in (table, again)]
  assert cells[0] == cells[1]


@pytest.mark.parametrize(
  ('changes', 'named'), [({'target': 0.2}, 'target'), ({'parts': 5}, 'parts'), ({'test': 32}, 'test')]
)
def test_work_of_other_settings_is_refused(finished, generator, changes, named):
  folder, _ = finished
  with pytest.raises(InputError, match=rf'{named}.*--overwrite'):
    compare_into(folder, small_config(methods=METHODS, **changes), generator=generator)


def test_samples_that_choose_and_samples_that_are_measured_are_apart():
  config = checked(small_config().to_dict())
  heldout, test = (set(x) for x in seeds_of(config))
  looked_at = set(range(config['samples'])) | set(config['reference_seeds'])
  assert not heldout & test
  assert not (heldout | test) & looked_at
  assert (len(heldout), len(test)) == (config['heldout'], config['test'])


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'seed': 10}, r'config\.seed=10.*seeds that discovery uses'),
    ({'methods': ('sefo',)}, r'config\.methods=sefo'),
    ({'regions': {}}, r'config\.regions'),
    ({'curve': (0.5,)}, r'config\.curve'),
    ({'target': 0.0}, r'config\.target'),
    ({'heldout': 1}, r'config\.heldout=1'),
  ],
)
def test_a_configuration_that_cannot_be_is_refused_at_once(changes, message):
  config = small_config().to_dict() | changes
  with pytest.raises(InputError, match=message):
    checked(config)


def test_a_region_outside_of_the_image_is_refused(generator, tmp_path):
  config = small_config(regions={'far': (0, 40, 0, 8)})
  with pytest.raises(InputError, match=r'region=0,40,0,8'):
    compare_into(tmp_path / 'run', config, generator=generator)


def test_a_folder_of_something_else_is_left_alone(generator, tmp_path):
  (tmp_path / 'thesis.txt').write_text('all of it')
  with pytest.raises(InputError, match=r'thesis\.txt is there'):
    compare_into(tmp_path, small_config(), generator=generator)
  assert (tmp_path / 'thesis.txt').read_text() == 'all of it'


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on(generator, tmp_path, monkeypatch, number):
  config = small_config(methods=('random_direction',))
  measured, original = [], run.cells.measure

  def measure(*arguments):
    measured.append(arguments[4].region)
    if len(measured) == 1:
      os.kill(os.getpid(), number)
    return original(*arguments)

  monkeypatch.setattr(run.cells, 'measure', measure)
  with pytest.raises(Interrupted) as caught:
    compare_into(tmp_path / 'run', config, generator=generator)
  assert caught.value.number == number
  assert caught.value.kept.startswith('1 of the discoveries and 1 of the cells are kept: the same command goes on')
  compare_into(tmp_path / 'run', config, generator=generator)
  assert sorted(measured) == ['lower', 'upper left']


@pytest.mark.parametrize('overwrite', [False, True])
def test_two_at_once_in_one_folder_are_refused(finished, generator, overwrite):
  folder, _ = finished
  before = sorted(folder.rglob('*'))
  with locked(folder), pytest.raises(InputError, match='in use by process'):
    compare_into(folder, small_config(methods=METHODS), generator=generator, overwrite=overwrite)
  assert sorted(folder.rglob('*')) == before
