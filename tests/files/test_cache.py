"""A cache returns the stored value or nothing, whatever happens to its folder."""

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from panda_jax.files.cache import OLDEST, SHARE, SUFFIX, UNFINISHED, Cache
from tests import mutations
from tests.simulated import ROOT

VALUES = {f'program-{i}': random.Random(i).randbytes(200 + i) for i in range(10)}


@pytest.fixture
def filled(tmp_path) -> Cache:
  cache = Cache(tmp_path)
  for name, value in VALUES.items():
    cache.put(name, value)
  return cache


def names(folder) -> set[str]:
  return {path.name for path in folder.iterdir()}


def test_what_was_put_comes_back(filled, tmp_path):
  assert {name: Cache(tmp_path).get(name) for name in VALUES} == VALUES
  assert filled.get('another') is None
  filled.put('program-0', b'later')
  assert filled.get('program-0') == b'later'
  assert names(tmp_path) == {name + SUFFIX for name in VALUES}


def test_the_folder_is_made_for_its_owner_alone(tmp_path):
  Cache(tmp_path / 'a' / 'b').put('program', b'1')
  assert (tmp_path / 'a' / 'b').stat().st_mode & 0o777 == 0o700


def test_damage_is_found_and_mended(filled, tmp_path):
  draw = random.Random(0)
  for _ in range(100):
    name = draw.choice([*VALUES])
    path = tmp_path / (name + SUFFIX)
    path.write_bytes(draw.choice([mutations.flipped, mutations.cut])(path.read_bytes(), draw))
    assert filled.get(name) is None
    filled.put(name, VALUES[name])
    assert filled.get(name) == VALUES[name]


def test_an_entry_under_another_name_is_none(filled, tmp_path):
  os.replace(tmp_path / f'program-1{SUFFIX}', tmp_path / f'program-0{SUFFIX}')
  assert filled.get('program-0') is None


def test_strange_things_in_the_place_of_an_entry(tmp_path):
  cache = Cache(tmp_path)
  (tmp_path / f'folder{SUFFIX}').mkdir()
  os.mkfifo(tmp_path / f'pipe{SUFFIX}')
  with open(tmp_path / f'huge{SUFFIX}', 'wb') as file:
    file.truncate(1 << 40)  # takes up nothing
  (tmp_path / 'away').write_bytes(b'theirs')
  os.symlink(tmp_path / 'away', tmp_path / f'link{SUFFIX}')
  for name in ('folder', 'pipe', 'huge', 'link'):
    assert cache.get(name) is None
    cache.put(name, b'1')  # of no use perhaps, and no error
  assert (tmp_path / 'away').read_bytes() == b'theirs'


def test_a_folder_that_cannot_be_written(filled, tmp_path, monkeypatch):
  def refused(*_, **__):
    raise PermissionError(13, 'Permission denied')

  for name in ('replace', 'utime', 'unlink'):  # also for root, who may write anywhere
    monkeypatch.setattr(os, name, refused)
  assert {name: filled.get(name) for name in VALUES} == VALUES
  filled.put('more', b'1')
  assert filled.get('more') is None
  monkeypatch.undo()
  Cache(tmp_path / f'program-0{SUFFIX}' / 'below').put('more', b'1')  # no folder can be there


@contextlib.contextmanager
def room_for(size: int):
  """Files cannot grow beyond this size, as on a disk that becomes full while they are written."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_nothing_behind(filled, tmp_path):
  before = names(tmp_path)
  with room_for(100):
    filled.put('more', b'1' * 1000)
    filled.put('program-0', b'1' * 1000)
  assert names(tmp_path) == before
  assert {name: filled.get(name) for name in VALUES} == VALUES


def test_the_oldest_make_room(tmp_path):
  largest = 100_000
  cache = Cache(tmp_path, largest=largest)
  size = largest // 20 - 32
  for i in range(40):
    cache.put(f'p{i}', bytes(size))
    os.utime(tmp_path / f'p{i}{SUFFIX}', (i, time.time() - 1000 + i))
    if i > 2:
      assert cache.get('p2')  # what is read stays
  assert largest // 2 < sum(path.stat().st_size for path in tmp_path.iterdir()) <= largest
  assert cache.get('p0') is None
  assert cache.get('p39') == bytes(size)
  cache.put('large', bytes(largest // SHARE))
  assert cache.get('large') is None


def test_what_nobody_reads_is_dropped_and_nothing_else(filled, tmp_path):
  past = time.time() - OLDEST - 60
  partial = {f'.p{SUFFIX}.12.tmp': time.time() - UNFINISHED - 60, f'.q{SUFFIX}.12.tmp': time.time()}
  for name, moment in {'theirs.txt': past, f'sp ace{SUFFIX}': past, f'program-3{SUFFIX}': past, **partial}.items():
    (tmp_path / name).touch()
    os.utime(tmp_path / name, (moment, moment))
  Cache(tmp_path).put('more', b'1')
  dropped = {f'program-3{SUFFIX}', f'.p{SUFFIX}.12.tmp'}
  assert (
    names(tmp_path)
    == {
      *(name + SUFFIX for name in VALUES),
      f'more{SUFFIX}',
      'theirs.txt',
      f'sp ace{SUFFIX}',
      *partial,
    }
    - dropped
  )


WRITER = """
import sys
from panda_jax.files.cache import Cache
cache = Cache(sys.argv[1], largest=200_000)  # so small that they drop what others have just written
while True:
  for i in range(40):
    value = bytes([i]) * 10_000
    assert cache.get(f'p{i}') in (None, value)
    cache.put(f'p{i}', value)
    print(end='.', flush=True)
"""


def test_processes_share_a_folder_and_are_killed(tmp_path):
  command = [sys.executable, '-c', WRITER, str(tmp_path)]
  children = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
  for child in children:
    child.stdout.read(200)
  for child in children:
    child.kill()
    assert child.communicate()[1] == b''
  cache = Cache(tmp_path)
  found = [cache.get(f'p{i}') for i in range(40)]
  assert all(value in (None, bytes([i]) * 10_000) for i, value in enumerate(found))
  assert any(found)
