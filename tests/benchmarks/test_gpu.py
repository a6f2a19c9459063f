"""The script for a machine with a GPU, checked without a GPU: its time limits, and the files and modules it names."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'benchmarks' / 'gpu.sh'
STEP = re.compile(r'^step (\w+) (\d+) (.*)$', re.MULTILINE)


@pytest.fixture(scope='module')
def steps():
  return STEP.findall(SCRIPT.read_text())


@pytest.mark.skipif(shutil.which('bash') is None, reason='there is no bash')
def test_it_is_a_script():
  subprocess.run(['bash', '-n', SCRIPT], check=True)


def test_it_ends_in_eight_minutes(steps):
  assert len(steps) == 5
  assert sum(int(seconds) for _, seconds, _ in steps) <= 8 * 60


def test_what_it_names_is_there(steps):
  modules = [module for _, _, command in steps for module in re.findall(r'-m ((?:benchmarks|pytest)[\w.]*)', command)]
  assert len(modules) == len(steps)
  assert all(importlib.util.find_spec(module) for module in modules)
  tests = re.findall(r'tests/[\w/.]+', SCRIPT.read_text())
  assert len(tests) >= 5
  assert all((ROOT / path).exists() for path in tests)
