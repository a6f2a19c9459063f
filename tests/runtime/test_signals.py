"""Ctrl-C and SIGTERM: at every moment one true sentence, the right exit status, and no incomplete results."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import panda_jax
from panda_jax.errors import Interrupted
from panda_jax.features.sources import NpySource
from panda_jax.files.stores import silent_threads
from panda_jax.runtime import signals
from panda_jax.workdir.checkpoints import Checkpoints
from panda_jax.workdir.config import default_config
from panda_jax.workdir.fit import fit_into
from tests import planted
from tests.processes import ROOT

BOTH = [signal.SIGINT, signal.SIGTERM]
NONE = 'there is no checkpoint yet: the same command starts from the beginning'
THERE = 'the same command goes on from the last checkpoint'
COMMANDS = {
  'run.py': ['run.py', 'fit'],
  'panda_jax': ['-m', 'panda_jax', 'fit', '--workdir=w'],
  'distributed': ['run.py', 'fit', '--distributed'],
  'converters': ['-m', 'converters', 'a', 'b'],
  'trainer': ['-m', 'examples.train_generator'],
  'app': ['-m', 'panda_jax.app', '--workdir=w'],
}


def start(*arguments, path=()) -> subprocess.Popen:
  environment = os.environ | {'PYTHONPATH': os.pathsep.join(map(str, (*path, ROOT)))}
  command = [sys.executable, *map(str, arguments)]
  pipe = subprocess.PIPE
  return subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
  )


@pytest.mark.parametrize('number', BOTH)
@pytest.mark.parametrize('name', COMMANDS)
def test_during_imports_it_is_one_sentence(tmp_path, name, number):
  (tmp_path / 'numpy.py').write_text('import os, time\nos.write(2, b"importing\\n")\ntime.sleep(600)\n')
  process = start(*COMMANDS[name], path=[tmp_path])
  assert process.stderr.readline() == 'importing\n'
  os.killpg(process.pid, number)  # as a terminal does
  _, said = process.communicate(timeout=60)
  kept = 'nothing was begun' if name == 'trainer' else 'nothing was written'  # commands read their flags first
  assert said == f'stopped by {signals.NAMES[number]}; {kept}\n'
  assert process.returncode == 128 + number


DEAF = """
from panda_jax.runtime import signals
signals.listen()
import ctypes, time
mutex = ctypes.create_string_buffer(128)
with signals.keeping(lambda: 'all is kept'), signals.caught():
  print('ready', flush=True)
  for _ in range(2):
    ctypes.CDLL(None).pthread_mutex_lock(mutex)  # the second time it waits for good, and no signal wakes it
"""


def test_the_second_ctrl_c_ends_at_once_whatever_is_going_on():
  process = start('-c', DEAF)
  assert process.stdout.readline() == 'ready\n'
  process.send_signal(signal.SIGTERM)
  assert process.stderr.readline() == f'SIGTERM: {signals.STOPPING}\n'
  process.send_signal(signal.SIGTERM)  # some are sent twice
  with pytest.raises(subprocess.TimeoutExpired):
    process.wait(2 * signals.ONE_PRESS)
  process.send_signal(signal.SIGINT)
  _, said = process.communicate(timeout=60)
  assert said == 'stopped by Ctrl-C; all is kept\n'
  assert process.returncode == 130


def small_fit(tmp_path):
  config = default_config()
  config.features, config.parts, config.checkpoint_seconds = str(tmp_path / 'z.npy'), 3, 0
  np.save(config.features, planted.structured(30, (4, 4), 6))
  return config


@pytest.mark.parametrize('number', BOTH)
def test_a_fit_without_a_checkpoint_says_so(tmp_path, monkeypatch, number):
  plain = NpySource._read

  def asked(self, file, count):
    os.kill(os.getpid(), number)
    return plain(self, file, count)

  monkeypatch.setattr(NpySource, '_read', asked)
  with pytest.raises(Interrupted) as caught:
    fit_into(tmp_path / 'w', small_fit(tmp_path))
  assert (caught.value.number, caught.value.kept) == (number, NONE)
  assert [path.name for path in (tmp_path / 'w').iterdir() if path.name != 'config.json'] == []


@pytest.mark.parametrize('number', BOTH)
def test_a_fit_with_a_checkpoint_goes_on_to_the_same_factors(tmp_path, monkeypatch, number):
  config, plain = small_fit(tmp_path), Checkpoints.save
  fit_into(tmp_path / 'whole', config)

  def asked(self, state):
    plain(self, state)
    os.kill(os.getpid(), number)

  for place in ('save', '_read'):  # after the first checkpoint, and before the second run has one of its own
    with monkeypatch.context() as patched:
      if place == 'save':
        patched.setattr(Checkpoints, 'save', asked)
      else:
        read = NpySource._read
        patched.setattr(NpySource, '_read', lambda *a, read=read: (os.kill(os.getpid(), number), read(*a))[1])
      with pytest.raises(Interrupted) as caught:
        fit_into(tmp_path / 'w', config)
    assert caught.value.kept == THERE
  assert not (tmp_path / 'w' / 'summary.json').exists()
  fit_into(tmp_path / 'w', config)
  expected, found = (panda_jax.Factors.load(tmp_path / name / 'factors.npz') for name in ('whole', 'w'))
  planted.assert_same_factors(expected, found)


def ask(number: int) -> None:
  os.kill(os.getpid(), number)


def test_without_a_command_the_second_ctrl_c_raises(monkeypatch):
  monkeypatch.setattr(signals, 'ONE_PRESS', 0)
  with signals.caught() as numbers:
    ask(signal.SIGINT)
    assert numbers == [signal.SIGINT]
    with pytest.raises(Interrupted):
      ask(signal.SIGINT)
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_kept_is_told_by_the_innermost_block_that_was_open():
  def run(begun, finished):
    with signals.keeping(lambda: 'nothing'), signals.raising():
      if begun:
        with signals.keeping(lambda: 'half', 'all'):
          if not finished:
            ask(signal.SIGTERM)
      ask(signal.SIGTERM)

  for begun, finished, kept in ((False, False, 'nothing'), (True, False, 'half'), (True, True, 'all')):
    with pytest.raises(Interrupted) as caught:
      run(begun, finished)
    assert caught.value.kept == kept


class Dying:
  """Sends a signal while it is deleted."""

  def __init__(self, number):
    self.number = number

  def __del__(self):
    signal.raise_signal(self.number)


def collected(number):
  """Sends a signal while garbage is collected."""

  def callback(phase, info):
    gc.callbacks.remove(callback)
    signal.raise_signal(number)

  gc.callbacks.append(callback)
  gc.collect()


@pytest.mark.parametrize('number', BOTH)
@pytest.mark.parametrize('place', [collected, Dying], ids=['garbage', 'del'])
@pytest.mark.parametrize('inside', [contextlib.nullcontext, silent_threads], ids=['plain', 'while a library is silent'])
def test_a_signal_where_python_ignores_what_is_raised_comes_again(number, place, inside):
  def work():
    place(number)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
      time.sleep(0.01)

  with pytest.raises(Interrupted) as stopped, signals.raising(), inside():
    work()
  assert stopped.value.number == number


def test_an_error_that_a_signal_leads_to_is_the_signal():
  def run():
    with signals.raising():
      try:
        ask(signal.SIGTERM)
      except KeyboardInterrupt as error:
        raise ImportError('numpy is half there') from error

  with pytest.raises(Interrupted) as caught:
    run()
  assert caught.value.number == signal.SIGTERM
