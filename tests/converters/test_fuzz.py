"""A fixed run of the fuzzer; `fuzz.py` describes longer runs."""

from pathlib import Path

import pytest

from tests.converters.fuzz import fuzz, seeds

CASES = 2000


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='memory is measured on Linux')
def test_damaged_files_are_read_or_refused(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  figures = fuzz(CASES, 0, tmp_path, seeds())
  assert sum(figures.outcomes.values()) == CASES
  assert figures.outcomes['read'] > CASES // 40  # the mutations reach the contents
  assert len(figures.outcomes) > 20
  assert figures.slowest < 2
  assert figures.growth < 2 * figures.largest + (64 << 20)
