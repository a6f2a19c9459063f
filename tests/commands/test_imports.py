"""The imports of commands: slow libraries are imported only where they are needed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.commands.calls import ROOT

DRAWING = {'matplotlib', 'PIL'}
READING = {'orbax', 'scipy.linalg'}
COMPUTING = {'numpy', 'jax', 'flax', 'optax', 'tensorstore'}
CALLS = {  # name: (words, exit status, modules that it does not import)
  'help': (['--help'], 0, DRAWING | READING | COMPUTING),
  'help of a command': (['edit', '--help'], 0, DRAWING | READING | COMPUTING),
  'flag of another command': (['fit', '--alpha=3'], 2, DRAWING | READING | COMPUTING),  # it looks at every command
  'unknown flag': (['discover', '--foo=3'], 2, DRAWING | READING | COMPUTING),
  'missing flag': (['edit', '--part=3'], 2, DRAWING | {'orbax'}),
  'fit of arrays': (['fit', '--features=z.npy', '--parts=2', '--workdir=w'], 0, {'flax', 'optax'}),
  'info': (['info', '--generator=cats64'], 0, DRAWING | READING | {'jax', 'flax', 'optax'}),
}
SCRIPT = """
import json, sys
from panda_jax.commands.program import main
code = main(sys.argv)
print()
print(json.dumps([code, sorted(sys.modules)]))
"""


@pytest.mark.parametrize('name', CALLS)
def test_a_command_imports_what_it_needs(name, tmp_path):
  words, code, without = CALLS[name]
  np.save(tmp_path / 'z.npy', np.random.RandomState(0).rand(6, 4, 4, 5).astype(np.float32))
  done = subprocess.run(
    [sys.executable, '-c', SCRIPT, *words],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  ended, modules = json.loads(done.stdout.splitlines()[-1])
  assert ended == code, done.stderr
  assert not without & {*modules}
