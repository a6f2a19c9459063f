"""Untrusted records, claimed folders, and links, through which nothing is written."""

import errno
import json
import os
import shutil
import time
import tracemalloc

import ml_collections
import numpy as np
import pytest

from panda_jax.commands.sentences import inside
from panda_jax.compare.run import checked
from panda_jax.compare.run import claim as claim_comparison
from panda_jax.compare.settings import default_config as comparison
from panda_jax.errors import InputError, Interrupted
from panda_jax.files import records
from panda_jax.files.access import write_atomically
from panda_jax.files.links import check_no_link
from panda_jax.files.lock import LOCK, locked
from panda_jax.files.records import misfit, parsed_json, read_json, write_json
from panda_jax.solver.factors import PROVENANCE
from panda_jax.workdir.config import config_form, default_config
from panda_jax.workdir.finished_fit import SUMMARY
from panda_jax.workdir.fit import OUTPUTS, fit_into, prepare
from panda_jax.workdir.folders import claimed
from tests import planted

HOSTILE = {
  'empty': ('', 'not JSON'),
  'cut': ('{"a": 1', 'not JSON'),
  'no text': (b'\xff\xfe{}', 'not JSON'),
  'list': ('[]', 'it is not an object'),
  'null': ('null', 'it is not an object'),
  'number': ('7', 'it is not an object'),
  'deep': ('[' * 200_000, 'inside each other'),
  'deep and closed': ('{"a":' * 500 + '1' + '}' * 500, 'more than 32 deep'),
  'many': ('{"a": [' + '[],' * 1_100_000 + '1]}', 'lists and objects'),
  'NaN': ('{"a": NaN}', 'NaN is not a number'),
  'infinity': ('{"a": -Infinity}', '-Infinity is not a number'),
  'beyond': ('{"a": 1e400}', 'beyond all numbers'),
  'large': (f'{{"a": {10**400}}}', 'too large a number'),
  'larger': (f'{{"a": {"9" * 100_000}}}', 'not JSON'),
  'half a character': ('{"a": "\\ud800"}', 'not JSON'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_record_costs_one_sentence_and_nothing_else(name, tmp_path):
  content, said = HOSTILE[name]
  path = tmp_path / 'x.json'
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  tracemalloc.start()
  began = time.process_time()
  try:
    with pytest.raises(InputError, match=said) as caught:
      read_json(path, 'workdir')
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
  finally:
    tracemalloc.stop()
  assert time.process_time() - began < 5
  assert str(caught.value).startswith(f'workdir={path}: ')
  assert len(caught.value.problem) < 200
  assert '\n' not in str(caught.value)


def test_records_are_regular_files_of_bounded_size(tmp_path, monkeypatch):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'device').symlink_to('/dev/zero')
  (tmp_path / 'x').mkdir()
  for name in ('pipe', 'device', 'x', 'none', 'y' * 5000, 'zero\0byte'):
    with pytest.raises(InputError, match='cannot be read'):
      read_json(tmp_path / name, 'workdir')
  (tmp_path / 'large').write_text('[' + ' ' * 2000 + ']')
  assert read_json(tmp_path / 'large', 'workdir', list) == []
  monkeypatch.setattr(records, 'LARGEST_JSON', 1000)
  with pytest.raises(InputError, match='it is larger'):
    read_json(tmp_path / 'large', 'workdir', list)


def test_what_is_read_is_what_was_written(tmp_path):
  value = {'a': [1, -2.5, None, True, 'é😀\u2028'], 'b': {'c': {}}, 'n': 2**53}
  write_json(tmp_path / 'x.json', value)
  assert read_json(tmp_path / 'x.json', 'workdir') == value
  assert parsed_json(json.dumps(value, ensure_ascii=False), object) == value
  with pytest.raises(ValueError, match='not JSON compliant'):
    write_json(tmp_path / 'x.json', {'a': float('nan')})


FITTING = {'relative_error': 0, 'reason': 'x', 'warnings': [], 'seconds': {'total': 1}, 'counts': {'parts': 3}}


@pytest.mark.parametrize(
  ('value', 'form', 'said'),
  [
    ([], SUMMARY, 'it is not an object'),
    ({}, SUMMARY, 'it lacks relative_error'),
    (FITTING, SUMMARY, None),
    (FITTING | {'relative_error': '0.1'}, SUMMARY, 'relative_error is not a number'),
    (FITTING | {'relative_error': True}, SUMMARY, 'relative_error is not a number'),
    (FITTING | {'warnings': 'none'}, SUMMARY, 'warnings is not a list'),
    (FITTING | {'warnings': [1]}, SUMMARY, 'an entry of warnings is not a text'),
    (FITTING | {'seconds': {'total': 'long'}}, SUMMARY, 'total of seconds is not a number'),
    (FITTING | {'counts': {'parts': 1.5}}, SUMMARY, 'parts of counts is not a whole number'),
    ({'layer': 3, 'generator': None, 'note': [[]]}, PROVENANCE, None),
    ({'generator': {'seed': 'a'}}, PROVENANCE, 'generator is not null or an object'),
    ({'generator': [1]}, PROVENANCE, 'generator is not null or an object'),
    ({'layer': []}, PROVENANCE, 'layer is not a whole number or a text or null'),
    (default_config().to_dict() | {'sha256': 'a'}, config_form(), None),
    ({'parts': '3'}, config_form(), 'parts is not a whole number or null'),
    ({'joint': 1}, config_form(), 'joint is not yes or no'),
  ],
)
def test_forms_say_what_does_not_fit(value, form, said):
  assert misfit(value, form) == said


# Links: `outside` holds what must never be touched.


@pytest.fixture
def outside(tmp_path):
  folder = tmp_path / 'outside'
  (folder / 'inner').mkdir(parents=True)
  (folder / 'kept').write_text('kept')
  (folder / 'inner' / 'kept').write_text('kept')
  yield folder
  assert sorted(os.listdir(folder)) == ['inner', 'kept']
  assert os.listdir(folder / 'inner') == ['kept']
  assert (folder / 'kept').read_text() == (folder / 'inner' / 'kept').read_text() == 'kept'


def refused(action, *arguments, **options) -> None:
  with pytest.raises(InputError, match='is a symbolic link, and nothing is written or deleted through one; remove'):
    action(*arguments, **options)


@pytest.mark.parametrize(
  'name', [*OUTPUTS, 'checkpoints', 'checkpoints/1', 'checkpoints/1/inner', '.config.json.7.tmp']
)
@pytest.mark.parametrize('overwrite', [False, True])
@pytest.mark.parametrize('target', ['outside', 'outside/kept', 'nowhere'])
def test_a_fit_neither_writes_nor_deletes_through_links(name, overwrite, target, tmp_path, outside):
  link = tmp_path / 'w' / name
  link.parent.mkdir(parents=True)
  link.symlink_to(tmp_path / target)
  refused(prepare, tmp_path / 'w', default_config().to_dict(), overwrite)
  assert link.is_symlink()


def test_a_workdir_may_be_a_link_and_have_links_that_a_fit_has_no_use_for(tmp_path, outside):
  (tmp_path / 'real').mkdir()
  (tmp_path / 'real' / 'features.npy').symlink_to(outside / 'kept')
  (tmp_path / 'w').symlink_to(tmp_path / 'real')
  prepare(tmp_path / 'w', default_config().to_dict(), True)
  assert os.listdir(tmp_path / 'real') == ['features.npy']


def claim(*arguments, **options):
  with claimed(*arguments, **options):
    pass


@pytest.mark.parametrize('name', ['edit.json', 'edited.npy', 'strip.png', '.images.npy.partial', '.strip.png.9.tmp'])
@pytest.mark.parametrize('overwrite', [False, True])
def test_a_claimed_folder_has_no_links_in_place_of_results(name, overwrite, tmp_path, outside):
  out = tmp_path / 'out'
  out.mkdir()
  (out / name).symlink_to(outside / 'kept')
  refused(claim, out, 'edit.json', {}, 'others are', overwrite, marker='edited.npy', replaced=('strip.png',))
  assert (out / name).is_symlink()
  (out / name).unlink()
  (out / 'latest').symlink_to(outside)
  claim(out, 'edit.json', {}, 'others are', overwrite, marker='edited.npy')


def test_two_at_once_do_not_mix_and_nothing_is_deleted(tmp_path):
  (tmp_path / 'edit.json').write_text('{"settings": 1}')
  arguments = tmp_path, 'edit.json', 2, 'others are', True
  with locked(tmp_path), pytest.raises(InputError, match=r'out=.* in use by process'):
    claim(*arguments, marker='edited.npy', replaced=('edit.json',))
  assert os.listdir(tmp_path) == ['edit.json']


def test_a_folder_that_is_made_for_nothing_goes_away(tmp_path):
  def write(error):
    with claimed(tmp_path / 'new', 'edit.json', {}, 'others are', False, marker='edited.npy'):
      assert [*os.listdir(tmp_path / 'new')] == [LOCK]
      raise error

  full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  with pytest.raises(InputError, match=r'out=.*: it cannot be written \(No space left on device\); free space'):
    write(full)
  with pytest.raises(Interrupted) as caught:
    write(Interrupted(2))
  assert caught.value.kept == 'nothing of it is kept: the same command starts from the beginning'
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize('name', ['discovered', 'cells', 'discovered/sefa', 'table.json', 'config.json'])
@pytest.mark.parametrize('overwrite', [False, True])
def test_a_comparison_neither_writes_nor_deletes_through_links(name, overwrite, tmp_path, outside):
  link = tmp_path / 'w' / name
  link.parent.mkdir(parents=True)
  link.symlink_to(outside)
  refused(claim_comparison, tmp_path / 'w', {}, overwrite)


def test_a_file_is_not_written_in_place_of_a_link(tmp_path, outside):
  (tmp_path / 'x').symlink_to(outside / 'kept')
  refused(write_atomically, tmp_path / 'x', b'written')
  (tmp_path / f'.y.{os.getpid()}.tmp').symlink_to(outside / 'kept')
  refused(write_atomically, tmp_path / 'y', b'written')
  (tmp_path / f'.z.{os.getpid()}.tmp').write_text('of a process that was killed')
  write_atomically(tmp_path / 'z', b'written')
  assert (tmp_path / 'z').read_bytes() == b'written'


def test_folders_of_results_are_not_links(tmp_path, outside):
  (tmp_path / 'edits').symlink_to(outside)
  refused(inside, str(tmp_path), 'edits/eyes')
  refused(check_no_link, tmp_path, 'edits')
  (tmp_path / 'w').symlink_to(outside)
  assert inside(str(tmp_path / 'w'), 'edits/eyes') == tmp_path / 'w' / 'edits' / 'eyes'


# A finished fit, damaged.


@pytest.fixture(scope='module')
def fitted(tmp_path_factory):
  folder = tmp_path_factory.mktemp('fitted')
  np.save(folder / 'z.npy', planted.structured(N=6, grid=(4, 4), C=5))
  config = default_config()
  config.update({'features': str(folder / 'z.npy'), 'parts': 2, 'restarts': 2, 'max_iterations': 3})
  fit_into(folder / 'w', config)
  return folder / 'w', config


@pytest.mark.parametrize('name', ['config.json', 'summary.json'])
@pytest.mark.parametrize('content', ['[]', 'null', '"a"', '{}', '[' * 100_000, '{"reason": 1, "seed": "a"}', 'pipe'])
def test_a_damaged_record_is_no_finished_fit(name, content, fitted):
  workdir, config = fitted
  path, whole = workdir / name, (workdir / name).read_bytes()
  path.unlink()
  if content == 'pipe':
    os.mkfifo(path)
  else:
    path.write_text(content)
  try:
    with pytest.raises(InputError, match=f'workdir={workdir}.*use --overwrite'):
      fit_into(workdir, config)
  finally:
    path.unlink()
    path.write_bytes(whole)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'parts': 'two'}, 'config.parts=two: it is not a whole number or null'),
    ({'joint': 1}, 'config.joint=1: it is not yes or no'),
    ({'checkpoint_seconds': [1]}, 'it is not a number'),
    ({'features': 7}, 'config.features=7: it is not a text or null'),
    ({'restarts': None}, 'config.restarts=None: it is not a whole number; the default is 64'),
    ('layer', 'config.layer: not given; begin with default_config()'),
  ],
)
def test_values_of_a_configuration_have_the_types_of_their_defaults(change, said, tmp_path):
  values = default_config().to_dict()
  values = {k: v for k, v in values.items() if k != change} if isinstance(change, str) else values | change
  with pytest.raises(InputError) as caught:
    fit_into(tmp_path / 'w', ml_collections.ConfigDict(values))
  assert said in str(caught.value)
  assert not (tmp_path / 'w').exists()


def test_values_of_a_comparison_have_the_types_of_their_defaults():
  values = comparison().to_dict() | {'regions': {'eyes': (0, 1, 0, 1)}}
  assert checked(values)['regions'] == {'eyes': [0, 1, 0, 1]}
  for change in ({'methods': [1]}, {'curve': 'a'}, {'regions': [1]}, {'rows': [1.5]}, {'target': '1'}, {'test': None}):
    with pytest.raises(InputError, match=f'config.{next(iter(change))}='):
      checked(values | change)
  with pytest.raises(InputError, match='cannot be written as JSON'):
    checked(values | {'target': {1, 2}})


# A fit that goes on from a damaged checkpoint.


@pytest.fixture
def unfinished(fitted, tmp_path):
  """The folder of the last checkpoint of a fit that has not ended."""
  workdir, config = fitted
  shutil.copytree(workdir, tmp_path / 'w')
  (tmp_path / 'w' / 'summary.json').unlink()
  return max((tmp_path / 'w' / 'checkpoints').iterdir(), key=lambda path: int(path.name)), config


def test_an_unfinished_fit_goes_on(unfinished):
  step, config = unfinished
  assert fit_into(step.parents[1], config)['counts']['parts'] == 2


INFO = {
  'list': '[]',
  'null': 'null',
  'deep': '[' * 100_000,
  'empty': '{}',
  'level': {'level': 'a'},
  'far level': {'level': 99},
  'level below 0': {'level': -1},
  'phase': {'phase': 'done'},
  'phase of a list': {'phase': []},
  'mode': {'mode': 'x'},
  'history': {'history': 3},
  'empty entries': {'history': [{}]},
  'seconds': {'seconds': '1'},
  'seconds of entries': {
    'history': [{'iteration': 1, 'phase': 'gram', 'samples': 9, 'seconds': None, 'relative_error': 0.5}]
  },
  'pipe': None,
}


@pytest.mark.parametrize('name', INFO)
def test_what_is_saved_beside_a_checkpoint_is_of_its_form(name, unfinished):
  step, config = unfinished
  path, change = step / 'info' / 'metadata', INFO[name]
  if change is None:
    path.unlink()
    os.mkfifo(path)
  else:
    path.write_text(change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(InputError, match=r'checkpoint.*; use --overwrite to start again'):
    fit_into(step.parents[1], config)


@pytest.mark.parametrize('damage', ['cut', 'none', 'pipe', 'other sizes'])
def test_the_arrays_of_a_checkpoint_are_those_of_the_fit(damage, unfinished):
  step, config = unfinished
  arrays = step / 'inner' / 'manifest.ocdbt'
  if damage == 'other sizes':
    config = default_config()
    config.update({**fitted_values(step.parents[1]), 'parts': 3})
    (step.parents[1] / 'config.json').write_text(json.dumps(config.to_dict()))
  elif damage == 'cut':
    arrays.write_bytes(arrays.read_bytes()[:-20])
  else:
    arrays.unlink()
    if damage == 'pipe':
      os.mkfifo(arrays)
  with pytest.raises(InputError, match='use --overwrite to start again'):
    fit_into(step.parents[1], config)


def fitted_values(workdir):
  values = read_json(workdir / 'config.json', 'workdir', config_form())
  return {key: value for key, value in values.items() if key != 'sha256' and value is not None}
