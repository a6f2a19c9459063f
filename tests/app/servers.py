"""The explorer in a process of its own, as users run it."""

import importlib.util
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 240  # to start on a busy machine


def need(*modules: str) -> None:
  """Skips where one is not installed."""
  for name in modules:
    if importlib.util.find_spec(name) is None:
      pytest.skip(f"{name} is not installed: pip install -e '.[app,browser]'")


class Server:
  """Runs from `start` to `stop`.

  Attributes:
    url: with the port that it found the first time, and keeps.
  """

  def __init__(self, workdir: Path):
    self.workdir, self.port, self.process = workdir, 0, None

  def start(self) -> None:
    command = [sys.executable, '-m', 'panda_jax.app', f'--workdir={self.workdir}', f'--port={self.port}']
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    with selectors.DefaultSelector() as selector:
      selector.register(self.process.stdout, selectors.EVENT_READ)
      line = self.process.stdout.readline() if selector.select(SECONDS) else ''
    found = re.match(r'http://127\.0\.0\.1:(\d+)/ ', line)
    assert found, f'it said {line!r}'
    self.port = int(found[1])
    self.url = f'http://127.0.0.1:{self.port}/'

  def stop(self) -> int:
    self.process.send_signal(signal.SIGINT)
    try:
      return self.process.wait(20)
    except subprocess.TimeoutExpired:
      self.process.kill()
      raise
    finally:
      self.process.stdout.close()


def until(found, seconds: float = 60):
  """What `found()` returns, once it is true."""
  end = time.monotonic() + seconds
  while not (result := found()):
    assert time.monotonic() < end, 'it did not come about'
    time.sleep(0.05)
  return result
