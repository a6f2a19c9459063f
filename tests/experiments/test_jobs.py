"""Several processes get runs from one process: one dies, one raises an error, all are stopped."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest

from panda_jax.errors import InputError
from panda_jax.experiments.jobs import _served, done_by

WAIT = 60  # seconds until a test gives up


def begun(folder: Path):
  """The work of a process: it leaves a file for each item, and does what the item says."""

  def work(item: str, now) -> tuple[str, int]:
    now(f'at {item}')
    (folder / item).touch()
    if item.startswith('die'):
      os.kill(os.getpid(), signal.SIGKILL)
    if item.startswith('refuse'):
      raise InputError('features', folder, 'there is no such file', 'give another')
    if item.startswith('stay'):
      time.sleep(WAIT)
    return item, os.getpid()

  return work


def ended(folder: Path, items: list[str], jobs: int = 2) -> list[tuple[str, int | str]]:
  said: list[str] = []
  found = list(done_by(jobs, items, begun, (folder,), said.append, lambda item, sentence: (item, sentence)))
  assert said
  return found


def test_all_items_are_done_once_by_all_processes(tmp_path):
  items = [f'item{i}' for i in range(12)]
  found = ended(tmp_path, items, jobs=3)
  assert sorted(name for name, _ in found) == sorted(items)
  assert 1 <= len({process for _, process in found} - {os.getpid()}) <= 3


def test_the_rest_of_a_process_that_dies_is_done_by_others(tmp_path):
  found = dict(ended(tmp_path, ['die', 'a', 'b', 'c']))
  assert found.pop('die') == 'its process ended by signal 9, as where memory runs out'
  assert sorted(found) == ['a', 'b', 'c']


def test_a_process_that_dies_between_two_items_loses_the_second():
  ours, theirs = multiprocessing.Pipe()
  theirs.send(('ready', None))
  theirs.close()
  process = SimpleNamespace(exitcode=-9, join=lambda: None)
  one = SimpleNamespace(connection=ours, own=deque(['a']), at=None, process=process)
  [(item, sentence)] = _served([one], [], print, lambda item, sentence: (item, sentence))
  assert item == 'a'
  assert 'signal 9' in sentence


def test_no_process_is_left(tmp_path):
  with pytest.raises(InputError, match=r'jobs=2: all processes died, with 2 runs left; give fewer --jobs'):
    ended(tmp_path, ['die0', 'a', 'die1', 'b'])


def test_what_all_runs_need_stops_all(tmp_path):
  began = time.monotonic()
  with pytest.raises(InputError, match='there is no such file') as caught:
    ended(tmp_path, ['stay', 'refuse'])
  assert caught.value.argument == 'features'
  assert time.monotonic() - began < WAIT  # no process waited for the other


SCRIPT = """
import sys
from pathlib import Path
from panda_jax.errors import Interrupted
from panda_jax.experiments.jobs import _served, done_by
from tests.experiments.test_jobs import begun
if __name__ == '__main__':
  folder = Path(sys.argv[1])
  try:
    list(done_by(2, ['stay0', 'stay1', 'later'], begun, (folder,), lambda text: None, None))
  except Interrupted as stopped:
    print('stopped by', int(stopped.number))
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_all(number, tmp_path):
  (tmp_path / 'script.py').write_text(SCRIPT)
  (tmp_path / 'items').mkdir()
  root = Path(__file__).parents[2]
  command = [sys.executable, tmp_path / 'script.py', tmp_path / 'items']
  environment = os.environ | {'PYTHONPATH': str(root)}
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True) as process:
    while len(list((tmp_path / 'items').iterdir())) < 2:
      assert process.poll() is None
      time.sleep(0.05)
    if number == signal.SIGINT:
      os.killpg(process.pid, number)  # as a terminal does
    else:
      process.send_signal(number)
    said, _ = process.communicate(timeout=WAIT / 2)  # returns when no process is left that could write
  assert said == ('' if number == signal.SIGKILL else f'stopped by {int(number)}\n')
  assert not (tmp_path / 'items' / 'later').exists()
