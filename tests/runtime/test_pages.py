"""Programs that ask for large pages of memory start again, once, where it changes anything, and use them if it pays."""

import os
import subprocess
import sys

import pytest

from panda_jax.runtime import pages
from tests.simulated import ROOT


@pytest.fixture
def asked(monkeypatch, tmp_path):
  """A function: what `ask` starts if Linux says `enabled` and the environment has `given`."""

  def ask(enabled, given=None):
    (tmp_path / 'enabled').write_text(enabled)
    monkeypatch.setattr(pages, 'ENABLED', tmp_path / 'enabled')
    monkeypatch.setattr(sys, 'platform', 'linux')
    monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'panda_jax', 'edit', '--help me'])
    started = []
    monkeypatch.setattr(os, 'execv', lambda path, argv: started.append((path, argv, os.environ[pages.VARIABLE])))
    monkeypatch.delenv(pages.VARIABLE, raising=False)
    if given is not None:
      monkeypatch.setenv(pages.VARIABLE, given)
    pages.ask()
    return started

  return ask


@pytest.mark.parametrize(('given', 'then'), [(None, ''), ('', ''), ('glibc.malloc.check=1', 'glibc.malloc.check=1:')])
def test_a_program_starts_again_as_it_was(asked, given, then):
  argv = [sys.executable, '-m', 'panda_jax', 'edit', '--help me']
  assert asked('always [madvise] never', given) == [(sys.executable, argv, f'{then}glibc.malloc.hugetlb=1')]


@pytest.mark.parametrize('enabled', ['[always] madvise never', 'always madvise [never]', ''])
def test_where_nothing_changes_it_goes_on(asked, enabled):
  assert asked(enabled) == []


@pytest.mark.parametrize('value', [0, 1, 2])
def test_what_the_user_chose_stays(asked, value):
  assert asked('always [madvise] never', f'glibc.malloc.hugetlb={value}') == []


def test_other_systems_go_on(monkeypatch, tmp_path):
  monkeypatch.setattr(pages, 'ENABLED', tmp_path / 'none')
  assert not pages._only_if_asked()
  monkeypatch.setattr(sys, 'platform', 'darwin')
  pages.ask()


def test_a_program_that_starts_again_has_its_arguments_and_its_exit_status(tmp_path):
  """The file that Linux would have does not exist on all machines."""
  (tmp_path / 'enabled').write_text('always [madvise] never')
  code = f"""
import os, pathlib, sys
from panda_jax.runtime import pages
pages.ENABLED = pathlib.Path({str(tmp_path / 'enabled')!r})
pages.ask()
print(os.getpid(), os.environ.get(pages.VARIABLE), *sys.argv[1:])
sys.exit(7)
"""
  environment = {name: value for name, value in os.environ.items() if name != pages.VARIABLE}
  process = subprocess.Popen(
    [sys.executable, '-c', code, 'a b', '--c=d'], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
  )
  said, _ = process.communicate(timeout=60)
  assert process.returncode == 7
  expected = 'glibc.malloc.hugetlb=1' if sys.platform == 'linux' else 'None'
  assert said.split() == [str(process.pid), expected, 'a', 'b', '--c=d']


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux has them')
@pytest.mark.parametrize(('tunable', 'resolution', 'off'), [(1, 64, 1), (1, 128, 0), (0, 64, 0), (0, 128, 0)])
def test_large_pages_are_for_large_generators(tmp_path, tunable, resolution, off):
  """In a process of its own, since the kernel keeps the setting."""
  code = f"""
import ctypes, jax
from flax import nnx
from panda_jax.generators import disk, registry
from panda_jax.runtime import pages
pages.use(False)
options = registry.options_class('stylegan2')(
  resolution={resolution}, widths=(2,) * {2 * (resolution.bit_length() - 2)}, z_dim=2, w_dim=2, mapping_widths=(2,))
generator = registry.create('stylegan2', options, nnx.Rngs(jax.random.key(0, impl='unsafe_rbg')))
disk.save_generator(generator, {str(tmp_path / 'network')!r})
disk.load_generator({str(tmp_path / 'network')!r})
print(ctypes.CDLL(None).prctl(42, 0, 0, 0, 0))
"""
  environment = os.environ | {pages.VARIABLE: f'{pages.TUNABLE}={tunable}', 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(
    [sys.executable, '-c', code], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300
  )
  assert done.stdout.split() == [str(off)], done.stderr
