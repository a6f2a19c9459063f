"""The table for readers: cells that reach the target, that do not, and that are missing."""

from panda_jax.compare.pages import written_table


def cell(method, region, reached=True, **changes):
  roir = {'mean': 1.25, 'std': 0.5, 'median': 1.2, 'low': 1.1, 'high': 1.4, 'n': 9, 'flagged': 1}
  return {
    'method': method,
    'region': region,
    'reached': reached,
    'roir': roir,
    'untrimmed': {'change': 0.093, 'roir': 1.21},
    'heldout': {'change': 0.1 if reached else 0.031},
    'test': {'change': 0.1002},
    'label': 'direction 3',
    'alpha': -4.5,
    'realism': 0.0123,
    'outside': {'psnr': 31.25, 'ssim': 0.9512, 'realism': 0.0044},
    **changes,
  }


def table(cells):
  cost = {'seconds': 12.3, 'compile_seconds': 4.5, 'peak_bytes': 250_000_000, 'device_peak_bytes': None}
  cost |= {'undefined': None, 'milliseconds': {'1': 3.25, '32': 1.5}}
  return {
    'date': '2026-01-01',
    'command': 'python run.py compare',
    'config': {
      'regions': {'eyes': 0, 'nose': 0},
      'target': 0.1,
      'heldout': 64,
      'test': 256,
      'candidates': 5,
      'batch': 32,
    },
    'device': {'kind': 'cpu', 'cores': 2},
    'versions': {'jax': '1'},
    'methods': {
      'a': {'name': 'Method A', **cost},
      'b': {'name': 'Method B', 'undefined': 'family=biggan: no', 'milliseconds': None},
    },
    'cells': cells,
    'differences': [],
  }


def test_a_row_for_each_method_and_a_column_for_each_region():
  said = written_table(table([cell('a', 'eyes'), cell('a', 'nose', reached=False)]))
  lines = said.splitlines()
  assert '| method | eyes | nose |' in lines
  assert '| Method A | 1.25 ± 0.50 (1.20), 1 unchanged | not reached (0.031) |' in lines
  assert '| Method B | - | - |' in lines
  assert 'Not defined here: Method B: family=biggan: no' in said
  assert '| Method A | 12.3 | 4.5 | 250 | 3.25 | 1.50 |' in lines


def test_what_the_held_out_strength_gave_is_not_hidden():
  said = written_table(table([cell('a', 'eyes')]))
  assert '| Method A | eyes | 1.10 to 1.40 | best | 0.1002 | 0.0930, 1.21 | direction 3 | -4.5 |' in said


def test_without_a_guard_nothing_is_said_of_realism():
  said = written_table(table([cell('a', 'eyes', realism=None)]))
  assert 'No realism distance' in said


def test_bold_is_what_cannot_be_told_from_the_best():
  told = table([cell('a', 'eyes'), cell('b', 'eyes'), cell('a', 'nose')])
  told['methods']['b'] = told['methods']['a'] | {'name': 'Method B'}
  apart = {'region': 'eyes', 'best': 'a', 'mean': 0.5, 'low': 0.25, 'high': 0.75}
  told['differences'] = [
    apart | {'measure': measure, 'method': method, 'same': method == 'a' or measure == 'ssim'}
    for measure in ('roir', 'psnr', 'ssim')
    for method in 'ab'
  ]
  lines = written_table(told).splitlines()
  assert '| Method A | **1.25** ± 0.50 (1.20), 1 unchanged | 1.25 ± 0.50 (1.20), 1 unchanged |' in lines
  assert '| Method B | 1.25 ± 0.50 (1.20), 1 unchanged | - |' in lines
  assert '| Method A | **31.2**, **0.951**, 0.0044 | 31.2, 0.951, 0.0044 |' in lines
  assert '| Method B | 31.2, **0.951**, 0.0044 | - |' in lines
  assert '| Method B | eyes | 1.10 to 1.40 | +0.25 to +0.75 | 0.1002 | 0.0930, 1.21 | direction 3 | -4.5 |' in lines
