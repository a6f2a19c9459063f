"""A fixed run of the fuzzer over all kinds of files; `fuzz.py` describes longer runs."""

from pathlib import Path

import pytest

from tests.fuzz import formats, fuzz

CASES = 100  # of each kind
SLOW = {'generator.json': 30}  # a generator is loaded each time
FORMATS = formats()
NEVER_REFUSED = 'picture', 'edit.json', 'cost', 'cell', 'lock'  # a damaged file counts as absent


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='memory is measured on Linux')
@pytest.mark.parametrize('name', FORMATS)
def test_damaged_files_are_read_or_refused(name):
  count = SLOW.get(name, CASES)
  figures = fuzz(name, FORMATS[name], count, seed=0)
  assert sum(figures.outcomes.values()) == count
  assert figures.outcomes[f'{name}: read'] > 0  # the mutations reach the contents
  assert (figures.outcomes[f'{name}: refused'] > count // 10) != (name in NEVER_REFUSED)
  assert figures.slowest < 5
  assert figures.growth < 256 << 20  # mostly libraries that are imported late
