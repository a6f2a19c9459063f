"""A fixed run of the fuzzer over everything that is read; `fuzz.py` says how to run a longer one."""

from pathlib import Path

import pytest

from tests.fuzz import formats, fuzz

CASES = 100  # of each kind
FORMATS = formats()
NEVER_REFUSED = 'picture', 'edit.json', 'cost', 'cell', 'lock'  # what is damaged counts as absent


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='memory is measured on Linux')
@pytest.mark.parametrize('name', FORMATS)
def test_damaged_files_are_read_or_refused(name):
  figures = fuzz(name, FORMATS[name], CASES, seed=0)
  assert sum(figures.outcomes.values()) == CASES
  assert figures.outcomes[f'{name}: read'] > 0  # the mutations reach the contents
  assert (figures.outcomes[f'{name}: refused'] > CASES // 10) != (name in NEVER_REFUSED)
  assert figures.slowest < 5
  assert figures.growth < 64 << 20
