"""The explorer in its own process, as users run it."""

import os
import re
import selectors
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 240  # to start, or to end, on a busy machine


class Server:
  """Runs from `start` to `stop`.

  Attributes:
    url: its port is free at the first start, and stays the same.
  """

  def __init__(self, workdir: Path, *others: Path):
    self.workdir, self.others, self.port, self.process = workdir, others, 0, None
    self._errors = workdir.with_name(f'{workdir.name}.stderr')

  def start(self) -> None:
    workdirs = '--workdir', str(self.workdir), *map(str, self.others)
    command = [sys.executable, '-m', 'panda_jax.app', *workdirs, f'--port={self.port}']
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    with self._errors.open('a') as errors:
      streams = {'stdout': subprocess.PIPE, 'stderr': errors}
      self.process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **streams)
    with selectors.DefaultSelector() as selector:
      selector.register(self.process.stdout, selectors.EVENT_READ)
      line = self.process.stdout.readline() if selector.select(SECONDS) else ''
    found = re.match(r'http://127\.0\.0\.1:(\d+)/ ', line)
    assert found, f'it said {line!r} and {self.said()!r}'
    self.port = int(found[1])
    self.url = f'http://127.0.0.1:{self.port}/'

  def said(self) -> str:
    """The text on stderr so far."""
    return self._errors.read_text()

  def stop(self) -> int:
    self.process.send_signal(signal.SIGINT)
    try:
      return self.process.wait(SECONDS)
    except subprocess.TimeoutExpired:
      self.process.kill()
      raise
    finally:
      self.process.stdout.close()
