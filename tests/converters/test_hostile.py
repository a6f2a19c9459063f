"""Hostile and broken files: the reader keeps within limits, and the command gives one line."""

import json
import subprocess
import sys

import pytest

from tests.commands.calls import run
from tests.converters.commands import DATA, ROOT, one_line
from tests.memory import ON_LINUX

HOSTILE = DATA / 'hostile'

MET = {
  'reduce_os_system.pkl': ['the global posix.system is not allowed'],
  'persistence_src.pkl': ['no known layout of a generator', 'G_ema: a module Generator of 0 arrays'],
  'reduce_os_system_zip.pth': ['the global posix.system is not allowed'],
  'reduce_os_system_legacy.pth': ['the global posix.system is not allowed'],
  'truncated.pth': ['the file is truncated or corrupt'],
  'empty.pth': ['the file is empty'],
  'missing_key.pth': ['synthesis.layer3.noise_strength', 'missing'],
  'wrong_shape.pth': ['synthesis.layer2.bias', 'expected (24,), found (25,)'],
  'nan_weight.pth': ['synthesis.layer4.weight', '1 of ', 'values are not finite'],
}

# Runs the whole command for one file after the other, and measures processor seconds without the imports.
MEASURED = """
import gc, json, sys, time
from pathlib import Path
import flax.nnx, jax.numpy, orbax.checkpoint
from panda_jax.converters.dialects import biggan, progan, stylegan, stylegan2, stylegan3
from panda_jax.commands.program import main
from panda_jax.generators import registry
from tests.memory import resident
for family in registry.FAMILIES:
  registry.generator_class(family)
jax.numpy.ones(3).block_until_ready()
out, *names = sys.argv[1:]
for name in names:
  gc.collect()
  Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
  before, started = resident(), time.process_time()
  code = main(['panda-jax', 'convert', name, out])
  print(json.dumps({'code': code, 'seconds': time.process_time() - started, 'growth': resident('VmHWM') - before}))
"""


def test_every_file_is_expected():
  assert {path.name for path in HOSTILE.iterdir()} == set(MET)


@pytest.mark.parametrize('name', MET)
def test_one_line_and_nothing_left_behind(tmp_path, name):
  said = one_line(run('convert', HOSTILE / name, tmp_path / 'out'))
  assert name in said
  for text in MET[name]:
    assert text in said
  assert list(tmp_path.iterdir()) == []


@ON_LINUX
def test_time_and_memory(tmp_path):
  names = 'persistence_src.pkl', 'reduce_os_system_zip.pth', 'nan_weight.pth'
  command = [sys.executable, '-c', MEASURED, str(tmp_path / 'out'), *(str(HOSTILE / name) for name in names)]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
  for name, line in zip(names, done.stdout.splitlines(), strict=True):
    found = json.loads(line)
    assert found['code'] == 2, name
    assert found['seconds'] < 10, name
    assert found['growth'] < 100 << 20, name
