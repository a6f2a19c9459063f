"""The runs of a sweep, from the text that a user types."""

import time

import pytest

from panda_jax.errors import InputError
from panda_jax.experiments.cells import MANY, cells_of, checked_axes, parsed_values, shard_of
from panda_jax.workdir.config import default_config


@pytest.mark.parametrize(
  ('key', 'text', 'values'),
  [
    ('parts', '4,8, 12', [4, 8, 12]),
    ('seed', '0-3', [0, 1, 2, 3]),
    ('seed', '-2--1,5', [-2, -1, 5]),
    ('parts', '4-12:4,3', [4, 8, 12, 3]),
    ('truncation', '0.5,1', [0.5, 1.0]),
    ('joint', 'true,False', [True, False]),
    ('center', 'none,position', ['none', 'position']),
    ('labels', '207,208', ['207,208']),
    ('grid', '4,4', ['4,4']),
  ],
)
def test_lists_and_ranges(key, text, values):
  assert [*parsed_values(key, text)] == values


@pytest.mark.parametrize(
  ('key', 'text', 'said'),
  [
    ('parts', '', 'missing'),
    ('parts', '4,,8', 'missing'),
    ('parts', '4,x', 'x is neither a whole number nor a range'),
    ('parts', '8-4', 'it has no numbers in it'),
    ('parts', '4-8:0', 'no numbers in it'),
    ('parts', '4,4', '4 is given twice'),
    ('seed', '0-9999999999', 'more than'),
    ('joint', 'true,perhaps', 'perhaps'),
    ('truncation', '1,nan', 'nan is not a number'),
  ],
)
def test_what_is_no_list(key, text, said):
  with pytest.raises(InputError, match=said):
    parsed_values(key, text)


def test_runs_are_called_by_what_differs_and_neighbours_share_features():
  cells = cells_of([{'seed': [0, 1], 'parts': [4, 8], 'layer': [3, 5], 'samples': [100]}])
  assert [cell.name for cell in cells[:3]] == [
    'layer=3,parts=4,seed=0',
    'layer=3,parts=4,seed=1',
    'layer=3,parts=8,seed=0',
  ]
  assert cells[0].settings == {'layer': 3, 'samples': 100, 'parts': 4, 'seed': 0}
  assert len({cell.name for cell in cells}) == 8
  config = cells[5].config(default_config())
  assert (config.layer, config.parts, config.seed, config.restarts) == (5, 4, 1, 64)


def test_names_are_of_folders_and_differ():
  cells = cells_of([{'features': ['a/z.npy', 'b/z.npy', '../c d.npy'], 'appearances': [None, 3]}])
  names = [cell.name for cell in cells]
  assert len(set(names)) == 6
  assert not any('/' in name or ' ' in name for name in names)
  assert names[-1] == 'features=c_d.npy,appearances=3'
  long = cells_of([{'generator': ['x' * 500, 'y' * 500]}])
  assert all(len(cell.name) < 200 for cell in long)


def test_runs_one_by_one():
  given = [{'parts': 4, 'layer': 3}, {'parts': 8, 'layer': 5}]
  assert [cell.name for cell in cells_of(checked_axes(given, 'c'))] == ['layer=3,parts=4', 'layer=5,parts=8']


@pytest.mark.parametrize(
  'given', [None, [], 7, {'parts': 4}, {'parts': []}, {'parts': '48'}, {'parts': [4.5]}, {'partz': [4]}]
)
def test_what_sweep_of_a_configuration_may_not_give(given):
  with pytest.raises(InputError):
    cells_of(checked_axes(given, 'config.py'))


def test_a_wrong_list_is_answered_with_one_that_fits():
  with pytest.raises(InputError, match=r"let it give 'parts': \[4, 8\]"):
    checked_axes({'parts': [2, 'x']}, 'config.py')


def test_names_of_very_many_values_take_no_long_time():
  began = time.process_time()
  names = [cell.name for cell in cells_of([{'parts': range(100_000)}], yes=True)]
  assert len(set(names)) == 100_000
  assert time.process_time() - began < 30  # 1 s; counting each name among all others took minutes


@pytest.mark.parametrize('block', [{}, {'parts': [4]}, {'parts': [4], 'seed': [0]}])
def test_an_empty_sweep_is_refused(block):
  with pytest.raises(InputError, match='no setting has several values'):
    cells_of([block])


def test_many_runs_are_asked_for_without_making_them():
  block = {'parts': range(1000), 'seed': range(1000)}
  with pytest.raises(InputError, match='1,000,000 runs: these are many; give --yes'):
    cells_of([block])
  some = {'parts': range(1, MANY + 2)}
  assert len(cells_of([some], yes=True)) == MANY + 1


@pytest.mark.parametrize('n', [1, 3, 8, 20])
def test_shards_add_up(n):
  cells = cells_of([{'parts': range(2, 10)}])
  assert [cell for i in range(n) for cell in shard_of(cells, f'{i}/{n}')] == cells


@pytest.mark.parametrize('text', ['4/4', '5/4', '0/0', '1', '', '-1/4', 'a/b', '1/2/3'])
def test_shards_that_are_none(text):
  with pytest.raises(InputError, match='shard'):
    shard_of(cells_of([{'parts': range(2, 10)}]), text)
