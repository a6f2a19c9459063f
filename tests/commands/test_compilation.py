"""Compiled programs that commands keep: results always equal those with an empty folder, to the last bit."""

import os
import random
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache

import panda_jax
from panda_jax.commands import compilation
from panda_jax.files.cache import Cache
from panda_jax.runtime.clock import forget_programs
from tests import mutations
from tests.commands.calls import ROOT, run

X = np.random.RandomState(0).randn(8, 8).astype(np.float32)
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith('JAX_')}


class Found(list):
  """For each requested program, whether it was in the folder."""


@pytest.fixture
def found(monkeypatch):
  """The requests for programs; afterwards this process has its own folder of programs again."""
  names = 'jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs'
  before = {name: getattr(jax.config, name) for name in names}
  if hasattr(jax.config, compilation.OF_XLA):
    before[compilation.OF_XLA] = getattr(jax.config, compilation.OF_XLA)
  monkeypatch.setattr(compilation_cache, 'get_file_cache', compilation_cache.get_file_cache)
  asked, get = Found(), Cache.get

  def observed(cache, name):
    value = get(cache, name)
    asked.append(value is not None)
    return value

  monkeypatch.setattr(Cache, 'get', observed)
  yield asked
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def computed() -> bytes:
  """The result of a program that is compiled or read again."""
  jax.clear_caches()

  def program(x):
    return jnp.sin(x) @ x.T

  return np.asarray(jax.jit(program)(X)).tobytes()


@pytest.mark.oldest
def test_a_damaged_program_is_compiled_again(found, tmp_path, recwarn):
  compilation.keep(str(tmp_path))
  expected = computed()
  assert not any(found)
  (path,) = tmp_path.glob('jit_program-*')
  draw = random.Random(0)
  for _ in range(100):
    path.write_bytes(draw.choice([mutations.flipped, mutations.cut])(path.read_bytes(), draw))
    del found[:]
    assert computed() == expected
    assert found == [False]
  assert computed() == expected
  assert found == [False, True]
  assert not recwarn.list


@pytest.mark.oldest
def test_a_program_that_cannot_be_unpacked_or_loaded(found, tmp_path, recwarn):
  """The bytes are intact, but another build of the same version wrote them."""
  compilation.keep(str(tmp_path))
  expected = computed()
  (path,) = tmp_path.glob('jit_program-*')
  Cache(tmp_path).put(path.stem, b'of another build')
  assert computed() == expected
  assert found == [False, True]
  assert not recwarn.list
  assert computed() == expected  # it was replaced
  assert found == [False, True, True]


def test_programs_of_other_machines_are_not_found(found, tmp_path, monkeypatch):
  compilation.keep(str(tmp_path))
  computed()
  monkeypatch.setattr(compilation, 'machine', lambda: 'another')
  computed()
  computed()
  assert found == [False, False, True]


def test_machines_are_told_apart(monkeypatch, tmp_path):
  def told(text: str) -> str:
    (tmp_path / 'cpuinfo').write_text(text)
    monkeypatch.setattr(compilation, 'CPUINFO', str(tmp_path / 'cpuinfo'))
    compilation.machine.cache_clear()
    return compilation.machine()

  plain = 'processor : 0\nmodel name : A\nflags : sse avx\ncpu MHz : 2000\n'
  machines = [plain, plain.replace('avx', 'avx2'), plain.replace('A', 'B')]
  assert len({told(text) for text in machines}) == 3
  assert told(plain) == told(plain.replace('2000', '3000') + '\nprocessor : 1\nflags : sse avx\n')
  monkeypatch.setattr(compilation, 'CPUINFO', '/nowhere')
  compilation.machine.cache_clear()
  assert compilation.machine() != told(plain)
  compilation.machine.cache_clear()


@pytest.mark.parametrize('place', ['XDG_CACHE_HOME', 'HOME'])
def test_the_folder_of_the_user(found, tmp_path, monkeypatch, place):
  for name in (compilation.OF_JAX, 'XDG_CACHE_HOME'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(sys, 'platform', 'linux')
  monkeypatch.setenv(place, str(tmp_path))
  folder = tmp_path / ('.cache' if place == 'HOME' else '') / 'panda-jax' / 'programs'
  compilation.keep(None)
  computed()
  assert [*folder.glob('jit_program-*')]
  compilation.keep(None, alone=False)
  computed()
  folder.chmod(0o777)  # other users could place programs in it
  compilation.keep(None)
  computed()
  assert found == [False]


@pytest.mark.parametrize('home', ['', 'relative/path'])
def test_without_a_home_nothing_is_kept(found, monkeypatch, home, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv(compilation.OF_JAX, raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', home)
  monkeypatch.setenv('HOME', home)
  if not home:
    monkeypatch.setattr(Path, 'home', lambda: (_ for _ in ()).throw(RuntimeError))
  compilation.keep(None)
  computed()
  assert not found
  assert not [*tmp_path.iterdir()]


@pytest.mark.oldest
def test_without_a_place_in_jax_nothing_is_kept(found, monkeypatch, tmp_path):
  """A version of JAX without `get_file_cache`: its own folder would return damaged programs."""
  assert compilation._held_by_us()
  monkeypatch.delattr(compilation_cache, 'get_file_cache')
  compilation.keep(str(tmp_path))
  computed()
  assert not [*tmp_path.iterdir()]


def test_what_the_environment_says_to_jax_stays(found, monkeypatch, tmp_path):
  monkeypatch.setenv(compilation.OF_JAX, 'theirs')
  before = jax.config.jax_compilation_cache_dir
  compilation.keep(None)
  assert jax.config.jax_compilation_cache_dir == before
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'off').touch()  # has no effect
  compilation.keep('off')
  computed()
  assert jax.config.jax_compilation_cache_dir is None
  assert not found


@pytest.mark.parametrize('folder', ['', 'FILE'])
def test_what_is_no_folder_is_refused(tmp_path, folder):
  file = tmp_path / 'file'
  file.touch()
  folder = folder.replace('FILE', str(file))
  said = run('info', '--generator=cats64', f'--compilation_cache={folder}')
  assert (said.returncode, said.stdout) == (2, '')
  assert said.stderr == f'error: --compilation_cache={folder}: it is not a folder; give a folder, or off\n'


def test_a_fit_with_kept_programs_is_the_same_fit(found, tmp_path):
  features = np.random.RandomState(0).rand(6, 4, 4, 5).astype(np.float32)
  compilation.keep(str(tmp_path))

  def fitted() -> tuple[bytes, bytes, float]:
    forget_programs()
    result = panda_jax.fit(features, parts=2)
    return result.factors.parts.tobytes(), result.factors.appearances.tobytes(), result.relative_error

  first = fitted()
  assert not any(found)
  count = len(found)
  assert fitted() == first
  again = found[count:]
  assert again
  assert all(again)  # one less where the first fit also asked what XLA knows, as a process does once


def test_a_library_user_who_did_not_ask_has_none(tmp_path):
  code = 'import jax, numpy, panda_jax; panda_jax.fit; print(jax.config.jax_compilation_cache_dir)'
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    env=ENVIRONMENT | {'XDG_CACHE_HOME': str(tmp_path)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.stdout == 'None\n', done.stderr
  assert not [*tmp_path.iterdir()]
