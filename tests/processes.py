"""Several processes on this machine that compute together: Python code, or `run.py fit --distributed`."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from panda_jax.workdir.autosave import checkpointed
from tests.simulated import given_flags

ROOT = Path(__file__).parents[1]
SECONDS = 600  # for a slow machine; a failure is found sooner


def free_port() -> int:
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


def environment(devices: int) -> dict[str, str]:
  return os.environ | {
    'XLA_FLAGS': f'{given_flags()} --xla_force_host_platform_device_count={devices}',
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(ROOT),
    'PYTHONWARNINGS': 'ignore',
  }


def start(command: list[str], devices: int = 1) -> subprocess.Popen:
  """Starts a command in its own process group, so that a signal to the group reaches all its processes."""
  return subprocess.Popen(
    command,
    cwd=ROOT,
    env=environment(devices),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  )


# The program. When its first checkpoint is written, it gets a signal, from itself or from its parent process.
STRUCK = """
import os, signal, sys, time
from panda_jax import __main__ as program
from panda_jax.runtime import signals

def listen(plain=signals.listen, number=int(sys.argv.pop(1))):  # a parent has forked already
  from panda_jax.workdir.autosave import Saving

  def save(self, state, plain=Saving.save):
    plain(self, state)
    if self._saved and not self._caught:
      os.kill(int(os.environ.get('PANDA_JAX_PARENT', os.getpid())), number)
      while number not in self._caught:
        time.sleep(0.01)

  Saving.save = save
  plain()

signals.listen = listen
program.main()
"""


def fit_command(number: int | None = None) -> list[str]:
  """The words that start a fit; it gets the signal of this number, if any, when its first checkpoint is written."""
  return [sys.executable, *(['run.py'] if number is None else ['-c', STRUCK, str(int(number))]), 'fit']


def start_fits(
  commands: list[list[str]], first: tuple[str, ...] = (), signals: dict[int, int] | None = None
) -> list[subprocess.Popen]:
  """`fit_command` with these arguments, one process per list; that of process 0 behind the words of `first`.

  `signals`: {process: number}.
  """
  joining = ['--distributed', f'--coordinator=127.0.0.1:{free_port()}', f'--processes={len(commands)}']
  return [
    start([*(() if i else first), *fit_command((signals or {}).get(i)), *joining, f'--process_id={i}', *command])
    for i, command in enumerate(commands)
  ]


def wait_for_checkpoint(process: subprocess.Popen, workdir: Path) -> None:
  until = time.monotonic() + SECONDS
  while time.monotonic() < until and process.poll() is None:
    if checkpointed(workdir):
      return
    time.sleep(0.01)
  assert process.poll() is None, process.communicate()
  pytest.fail(f'no checkpoint in {SECONDS} s')


def ended(processes: list[subprocess.Popen], seconds: float = SECONDS) -> list[tuple[int, str]]:
  """Exit status and output of each process; all are killed if one takes too long."""
  try:
    said = [process.communicate(timeout=seconds)[0] for process in processes]
  finally:
    for process in processes:
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
  return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def run_processes(count: int, code: str, *arguments: str, devices: int = 1) -> list[str]:
  """Runs `code` in `count` joined processes; returns the output of each, and fails with their errors."""
  port = free_port()
  joining = 'import sys\nfrom panda_jax.runtime import processes\n'
  commands = [
    joining
    + f'with processes.joined("127.0.0.1:{port}", {i}, {count}):\n'
    + textwrap.indent(textwrap.dedent(code), '  ')
    for i in range(count)
  ]
  done = ended([start([sys.executable, '-c', command, *map(str, arguments)], devices) for command in commands])
  assert all(status == 0 for status, _ in done), '\n'.join(text[-3000:] for _, text in done)
  return [text for _, text in done]
