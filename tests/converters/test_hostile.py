"""Hostile and broken files, each met as it deserves: by the reader within bounds, and by the command in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.calls import run
from tests.converters.commands import DATA, ROOT, one_line

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

# The whole command, measured from after the imports of all that it can need, in seconds of the processor.
MEASURED = """
import json, sys, time
import flax.nnx, jax.numpy, orbax.checkpoint
from panda_jax.converters.dialects import biggan, progan, stylegan, stylegan2, stylegan3
from panda_jax.commands.program import main
from panda_jax.generators import registry
from tests.converters.measure import resident
for family in registry.FAMILIES:
  registry.generator_class(family)
jax.numpy.ones(3).block_until_ready()
before, started = resident('VmRSS'), time.process_time()
code = main(['panda-jax', 'convert', *sys.argv[1:]])
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


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='memory is measured on Linux')
@pytest.mark.parametrize('name', ['persistence_src.pkl', 'reduce_os_system_zip.pth', 'nan_weight.pth'])
def test_time_and_memory(tmp_path, name):
  command = [sys.executable, '-c', MEASURED, str(HOSTILE / name), str(tmp_path / 'out')]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
  found = json.loads(done.stdout.splitlines()[-1])
  assert found['code'] == 2
  assert found['seconds'] < 10
  assert found['growth'] < 100 << 20
