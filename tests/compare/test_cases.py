"""Several comparisons in one call: each is complete, and the table has all."""

import json

import numpy as np
import pytest

from panda_jax.compare.cases import cases_of, compare_cases, written
from panda_jax.compare.run import compare_into
from panda_jax.errors import InputError
from tests.compare.conftest import small_config

METHODS = 'random_direction', 'stylespace'


def config(**changes):
  return small_config(methods=METHODS, realism_samples=1, heldout=8, test=12, candidates=2, **changes)


CASES = {'quarter': {'regions': {'upper left': (0, 16, 0, 16)}}, 'both': {'target': 0.05}}


@pytest.fixture(scope='module')
def finished(generator, tmp_path_factory):
  folder = tmp_path_factory.mktemp('cases') / 'run'
  generators = dict.fromkeys(CASES, generator)
  return folder, compare_cases(folder, config(cases=CASES), generators=generators, command='run them'), generators


def test_each_case_is_a_whole_comparison_with_its_own_settings(finished):
  folder, tables, _ = finished
  assert {name: len(table['cells']) for name, table in tables.items()} == {'quarter': 1, 'both': 2}
  assert {name: table['config']['target'] for name, table in tables.items()} == {'quarter': 0.1, 'both': 0.05}
  assert all(json.loads((folder / name / 'table.json').read_text()) == table for name, table in tables.items())


def test_the_table_has_means_over_regions(finished):
  folder, tables, _ = finished
  cases = json.loads((folder / 'table.json').read_text())['cases']
  for name, table in tables.items():
    row = cases[name]['methods']['random_direction']
    arrays = [np.load(folder / name / 'cells' / f'random_direction-{r}.npz') for r in table['config']['regions']]
    assert row['roir'] == pytest.approx(np.exp(np.mean([np.log(a['roir'].astype(float)) for a in arrays])))
    assert row['psnr'] == pytest.approx(np.mean([a['psnr'] for a in arrays]))
    assert row['same'] == ['roir', 'psnr', 'ssim']  # there is no other that is defined
    assert cases[name]['methods']['stylespace']['roir'] is None
  text = (folder / 'table.md').read_text()
  assert f'| random directions | **{cases["both"]["methods"]["random_direction"]["roir"]:.2f}** | ' in text
  assert '| StyleSpace | - | - |' in text
  assert text.endswith('`run them`\n')


def test_the_same_call_measures_nothing_again_and_what_is_missing(finished):
  folder, tables, generators = finished
  kept, lost = (folder / 'both' / 'cells' / f'random_direction-{region}.json' for region in ('lower', 'upper left'))
  before = kept.stat().st_mtime_ns
  record = json.loads(lost.read_text())
  del record['outside']  # as comparisons wrote cells before it was measured
  lost.write_text(json.dumps(record))
  again = compare_cases(folder, config(cases=CASES), generators=generators)
  assert kept.stat().st_mtime_ns == before
  changed = [cell['outside'] for cell in again['both']['cells']]
  assert changed == [cell['outside'] for cell in tables['both']['cells']]


def test_one_comparison_and_several_do_not_share_a_folder(finished, generator):
  folder, _, generators = finished
  with pytest.raises(InputError, match='a comparison of several cases is there'):
    compare_into(folder, config(), generator=generator)
  with pytest.raises(InputError, match='cells is there, and is not of a comparison of several cases'):
    compare_cases(folder / 'both', config(cases=CASES), generators=generators)


def test_methods_in_another_order_are_told():
  def case(*roir):
    row = {'undefined': None, 'not_reached': [], 'psnr': 30.0, 'ssim': 0.9, 'same': ['psnr']}
    return {'methods': {name: {**row, 'name': name.upper(), 'roir': x} for name, x in zip('abc', roir, strict=True)}}

  text = written({'one': case(1, 2, 3), 'other': case(3, 2, 1), 'third': case(None, 2, 1)})
  assert '- one and other: -1.00, of 3 methods.' in text
  assert '| A | 1.00 | 3.00 | - |' in text
  assert '| A | **30.0** | **30.0** | **30.0** |' in text
  assert 'third:' not in text  # two methods have no order to speak of


@pytest.mark.parametrize(
  ('cases', 'said'),
  [
    ({'a/b': {}}, 'it cannot be the name of a folder'),
    ({'..': {}}, 'it cannot be the name of a folder'),
    ({'a': 3}, 'it is not a dict of keys'),
    ({'a': {'layr': 3}}, 'did you mean layer'),
    ({'a': {'layer': 'three'}}, r'config\.layer'),
    ({'a': {'regions': {}}}, 'nothing to compare on'),
    ({'a': {}, 'b': {'generator': 'nowhere'}}, 'there is no such folder'),
    ({'a': {}, 'b': {'regions': {'far': (0, 99, 0, 9)}}}, 'not a box in an image of 64 x 64'),
    ({'a': {}, 'b': {'layer': 99, 'methods': ('panda',)}}, r'config\.layer=99: .*; give one of 1, 2'),
    ({'a': {}, 'b': {'generator': None}}, r'config\.generator: not given'),
    ({}, 'there is nothing to compare'),
  ],
)
def test_cases_that_cannot_be_cost_one_sentence_and_write_nothing(cases, said, tmp_path):
  given = config(generator='cats64').to_dict() | {'cases': cases}
  with pytest.raises(InputError, match=said):
    compare_cases(tmp_path / 'run', given)
  assert not (tmp_path / 'run').exists()


def test_a_folder_of_something_else_is_left_alone(generator, tmp_path):
  (tmp_path / 'thesis.txt').write_text('all of it')
  with pytest.raises(InputError, match=r'thesis\.txt is there'):
    compare_cases(tmp_path, config(cases=CASES), generators=dict.fromkeys(CASES, generator))
  assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


def test_the_configuration_of_layers_has_one_case_for_each():
  from configs.compare_cats64 import get_config

  cases = cases_of(get_config('layers').to_dict())
  assert {name: case['layer'] for name, case in cases.items()} == {'layer 3': 3, 'layer 5': 5, 'layer 7': 7}
