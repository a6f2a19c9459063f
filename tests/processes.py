"""Several processes on this machine that compute together: Python code, or `run.py fit --distributed`."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.simulated import as_users_compile, given_flags

ROOT = Path(__file__).parents[1]
SECONDS = 600  # for a slow machine; a failure is found sooner


def free_port() -> int:
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


def environment(devices: int, quick: bool) -> dict[str, str]:
  flags = given_flags() if quick else as_users_compile()['XLA_FLAGS']
  return os.environ | {
    'XLA_FLAGS': f'{flags} --xla_force_host_platform_device_count={devices}',
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': str(ROOT),
    'PYTHONWARNINGS': 'ignore',
  }


def start(command: list[str], devices: int = 1, quick: bool = False) -> subprocess.Popen:
  """In a process group of its own, so that a signal to it reaches all that it starts.

  Fits that are ended and started again run longer than the first compiles, so they compile as their users' do, if not
  `quick`.
  """
  return subprocess.Popen(
    command,
    cwd=ROOT,
    env=environment(devices, quick),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  )


def start_fits(commands: list[list[str]], first: tuple[str, ...] = ()) -> list[subprocess.Popen]:
  """`run.py fit` with these arguments, one process per list; that of process 0 behind the words of `first`."""
  joining = ['--distributed', f'--coordinator=127.0.0.1:{free_port()}', f'--processes={len(commands)}']
  return [
    start([*(() if i else first), sys.executable, 'run.py', 'fit', *joining, f'--process_id={i}', *command])
    for i, command in enumerate(commands)
  ]


def ended(processes: list[subprocess.Popen], seconds: float = SECONDS) -> list[tuple[int, str]]:
  """Exit status and output of each; all are ended if one takes too long."""
  try:
    said = [process.communicate(timeout=seconds)[0] for process in processes]
  finally:
    for process in processes:
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
  return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def run_processes(count: int, code: str, *arguments: str, devices: int = 1) -> list[str]:
  """Runs `code` in so many processes that have joined; returns what each printed, and fails with their errors."""
  port = free_port()
  joining = 'import sys\nfrom panda_jax.distributed import processes\n'
  commands = [
    joining
    + f'with processes.joined("127.0.0.1:{port}", {i}, {count}):\n'
    + textwrap.indent(textwrap.dedent(code), '  ')
    for i in range(count)
  ]
  done = ended([start([sys.executable, '-c', command, *map(str, arguments)], devices, True) for command in commands])
  assert all(status == 0 for status, _ in done), '\n'.join(text[-3000:] for _, text in done)
  return [text for _, text in done]
