"""One process at a time writes into a folder. A second one gets an error with the owner; a kill frees the folder."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from panda_jax.errors import InputError
from panda_jax.files import lock
from panda_jax.files.lock import LOCK, InUse, awaited, locked
from panda_jax.workdir.config import default_config
from panda_jax.workdir.fit import fit_into
from tests import planted
from tests.processes import ROOT

HOLDING = """
import sys
from panda_jax.files.lock import locked
with locked(sys.argv[1]):
  print('held', flush=True)
  sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that has the lock on a folder, and that folder."""
  folder = tmp_path / 'w'
  command = [sys.executable, '-c', HOLDING, str(folder)]
  with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout.readline() == 'held\n'
    yield process, folder
    process.kill()


def record(**changes) -> str:
  """What a process of another machine would have left."""
  return json.dumps({'process': 123, 'host': 'elsewhere', 'kernel': 'another', 'since': 'yesterday'} | changes)


def test_the_second_is_told_whose_the_folder_is(holder):
  process, folder = holder
  with pytest.raises(InputError) as caught, locked(folder):
    pass
  assert f'in use by process {process.pid} on {socket.gethostname()}, since 20' in str(caught.value)
  assert 'another folder' in caught.value.remedy
  process.stdin.close()
  process.wait()
  assert not os.listdir(folder)
  with locked(folder):
    assert os.listdir(folder) == [LOCK]
  assert not os.listdir(folder)


def test_a_killed_owner_leaves_it_free(holder):
  process, folder = holder
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert os.listdir(folder) == [LOCK]
  with locked(folder), pytest.raises(InputError, match=f'process {os.getpid()} on'), locked(folder):
    pass
  assert not os.listdir(folder)


@pytest.mark.parametrize('text', ['', '4711\n', '{"process": "x"}', '[' * 900, '\0' * 99, record(kernel=3)])
def test_a_lock_file_that_nobody_holds_is_taken_over(tmp_path, text):
  (tmp_path / LOCK).write_text(text)
  with locked(tmp_path):
    assert json.loads((tmp_path / LOCK).read_text())['process'] == os.getpid()


def test_what_another_host_left_on_a_shared_disk_is_not_broken(tmp_path, monkeypatch):
  (tmp_path / LOCK).write_text(record())
  monkeypatch.setattr(lock, '_on_disk', lambda folder: False)
  with (
    pytest.raises(InputError, match=f'process 123 on elsewhere, since yesterday; .* remove {LOCK} there'),
    locked(tmp_path),
  ):
    pass
  assert (tmp_path / LOCK).read_text() == record()
  monkeypatch.undo()
  if lock._on_disk(tmp_path):  # the system itself knows that nobody has it
    with locked(tmp_path):
      pass
  for same in ({'host': socket.gethostname()}, {'kernel': lock._me().kernel or 'none', 'host': 'a container'}):
    monkeypatch.setattr(lock, '_on_disk', lambda folder: False)
    (tmp_path / LOCK).write_text(record(**same))
    with locked(tmp_path):  # of this machine: ended
      pass


def test_without_locks_of_the_system_the_file_alone_tells(tmp_path, monkeypatch):
  def refused(file, operation):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(lock.fcntl, 'flock', refused)
  with locked(tmp_path), pytest.raises(InputError, match=f'process {os.getpid()} on'), locked(tmp_path):
    pass
  ended = subprocess.Popen(['true'])
  ended.wait()
  (tmp_path / LOCK).write_text(record(process=ended.pid, host=socket.gethostname()))
  with locked(tmp_path):
    pass
  (tmp_path / LOCK).write_text(record())
  with pytest.raises(InputError, match='on elsewhere'), locked(tmp_path):
    pass


def test_a_link_or_a_pipe_in_place_of_the_lock_is_refused(tmp_path):
  other = tmp_path / 'other'
  other.write_text('mine')
  folder = tmp_path / 'w'
  folder.mkdir()
  for make in (
    lambda path: path.symlink_to(other),
    lambda path: path.hardlink_to(other),
    os.mkfifo,
    lambda path: path.mkdir(),
  ):
    make(folder / LOCK)
    with pytest.raises(InputError, match='remove'), locked(folder):
      pass
    (folder / LOCK).rmdir() if (folder / LOCK).is_dir() else (folder / LOCK).unlink()
  assert other.read_text() == 'mine'
  with pytest.raises(InputError, match='remove it, or give another path'), locked(other):
    pass


@pytest.mark.parametrize('overwrite', [False, True])
def test_a_second_fit_is_refused_before_it_deletes_anything(holder, overwrite):
  process, folder = holder
  config = default_config()
  config.features, config.parts = str(folder.parent / 'z.npy'), 3
  np.save(config.features, planted.structured(30, (4, 4), 6))
  (folder / 'config.json').write_text(json.dumps(config.to_dict()))
  (folder / 'checkpoints').mkdir()
  before = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
  with pytest.raises(InputError, match=f'process {process.pid} on'):
    fit_into(folder, config, overwrite=overwrite)
  assert {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()} == before
  assert (folder / 'checkpoints').is_dir()


def test_a_fit_leaves_no_lock_and_needs_none_to_be_read(tmp_path):
  config = default_config()
  config.features, config.parts = str(tmp_path / 'z.npy'), 3
  np.save(config.features, planted.structured(30, (4, 4), 6))
  fit_into(tmp_path / 'w', config)
  assert LOCK not in os.listdir(tmp_path / 'w')


def test_what_takes_a_moment_waits(holder):
  process, folder = holder
  with pytest.raises(InUse, match='in use by process'), awaited(folder, seconds=0):
    pass
  threading.Timer(0.3, process.stdin.close).start()
  with awaited(folder, seconds=60):
    assert os.listdir(folder) == [LOCK]
