"""Load on the explorer: 50 clients make 20 edits each, one right after the other, again and again for some minutes.

    python -m benchmarks.explorer [--workdir=DIR] [--clients=50 --edits=20 --seconds=180]      6 minutes on two cores

Without --workdir the fit is that of configs/cats64.py, made first. Clients are threads of this process, on the same
cores as the server: each is a new page in every round, chooses a part, slides its strength, changes the appearance,
slides on, and waits for each edit's pictures. Yardstick: the same edits by the same controls in one process, without
server and clients. Prints a table, writes explorer-NAME.json: latencies, edits a second, errors, and the memory of the
server every second, which is to be flat after the first minute.
"""

import concurrent.futures
import contextlib
import http.client
import json
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from absl import app, flags

from benchmarks.machine import machine, written
from panda_jax.app.controls import PICK, Controls
from panda_jax.app.engine import Engine
from panda_jax.workdir.finished_fit import open_workdir
from tests.app.servers import Server

_WORKDIR = flags.DEFINE_string('workdir', '', 'Of a finished fit through a generator.')
_CLIENTS = flags.DEFINE_integer('clients', 50, 'At a time.', lower_bound=1)
_EDITS = flags.DEFINE_integer('edits', 20, 'Of each client in a round.', lower_bound=1)
_SECONDS = flags.DEFINE_float('seconds', 180.0, 'Rounds begin for so long.')
_OUT = flags.DEFINE_string('out', 'benchmarks/results', 'Folder of the JSON file.')

FIRST_MINUTE = 60.0
JSON = {'Content-Type': 'application/json'}


def log(text: str) -> None:
  print(text, flush=True)


def edits_of(client: int, count: int, controls: Controls) -> Iterator[tuple[str, float]]:
  """(control, value) of a client's edits: others for each client."""
  parts, appearances = controls.engine.parts, controls.engine.appearances
  for k in range(count):
    if k == 0:
      yield 'part', parts[client % len(parts)]
    elif k == count // 2:
      yield 'appearance', appearances[client % len(appearances)]
    else:
      yield 'alpha', (client % 7 - 3.5) * (k + 1) / count


def without_server(controls: Controls, clients: int, count: int) -> dict:
  """Seconds of each edit from a session's text to the next one's and its pictures as HTML; one client more warms up."""
  acts = {'part': controls.with_part, 'appearance': controls.with_appearance, 'alpha': controls.slid}
  seconds = []
  for client in range(clients + 1):
    text = controls.with_seeds(controls.begun(), str(client)).to_json()
    for control, value in edits_of(client, count, controls):
      began = time.perf_counter()
      session = acts[control](controls.session(text), value)
      text = session.to_json()
      controls.pictures(session)
      if control != 'alpha':
        controls.original(session, PICK)
      seconds += [time.perf_counter() - began] if client else []
  return {
    'edits': len(seconds),
    'median_seconds': statistics.median(seconds),
    'per_second': len(seconds) / sum(seconds),
  }


class Client:
  """One page at a time, by the requests that it makes."""

  def __init__(self, server: Server, fit: str):
    self.connection, self.fit = http.client.HTTPConnection('127.0.0.1', server.port, timeout=300), fit
    config = json.loads(self._asked('GET', '/config').read())
    names = {component['id']: component['props'].get('elem_id') for component in config['components']}
    self.controls = {names.get(target): one['id'] for one in config['dependencies'] for target, _ in one['targets']}

  def _asked(self, method: str, path: str, values: dict | None = None) -> http.client.HTTPResponse:
    self.connection.request(method, path, None if values is None else json.dumps(values), JSON)
    answer = self.connection.getresponse()
    if answer.status != 200:
      raise RuntimeError(f'{method} {path.partition("?")[0]}: {answer.status} {answer.read()[:200]!r}')
    return answer

  def used(self, page: str, control: str, *values) -> str:
    """The session after a control was used."""
    fn_index = self.controls[f'panda-{control}']
    message = {'data': [self.fit, *values], 'fn_index': fn_index, 'session_hash': page, 'event_data': None}
    self._asked('POST', '/gradio_api/queue/join', message).read()
    text = ''
    for line in self._asked('GET', f'/gradio_api/queue/data?session_hash={page}'):
      if line.startswith(b'data: {"msg":"process_completed"'):
        done = json.loads(line[6:])
        if not done['success'] or 'panda-error' in line.decode():
          raise RuntimeError(f'{control}: {done["output"]}'[:300])
        text = done['output']['data'][0]
    return text

  def round(self, client: int, count: int, controls: Controls) -> list[float]:
    """Seconds of each edit of a new page."""
    page, seconds = secrets.token_hex(8), []
    text = controls.with_seeds(controls.begun(), str(client)).to_json()
    for control, value in edits_of(client, count, controls):
      began = time.perf_counter()
      text = self.used(page, control, text, *([] if control == 'alpha' else [PICK]), value)
      seconds.append(time.perf_counter() - began)
    return seconds


@contextlib.contextmanager
def watched(process: int) -> Iterator[list[tuple[float, float]]]:
  """(seconds since the start, MB) of a process's memory, every second."""
  found, stop, began = [], threading.Event(), time.monotonic()

  def watch():
    while not stop.wait(1):
      resident = re.search(r'VmRSS:\s+(\d+) kB', Path(f'/proc/{process}/status').read_text())
      found.append((time.monotonic() - began, int(resident[1]) / 1024))

  thread = threading.Thread(target=watch)
  thread.start()
  try:
    yield found
  finally:
    stop.set()
    thread.join()


def with_server(workdir: Path, controls: Controls, clients: int, count: int, seconds: float) -> dict:
  """One client alone, then all of them at once until `seconds` are over."""
  server, errors, latencies, rounds = Server(workdir), [], [], []
  server.start()
  try:
    pages = [Client(server, workdir.name) for _ in range(clients)]
    pages[0].round(0, count, controls)
    alone = pages[0].round(1, count, controls)

    def tried(client: int) -> list[float]:
      try:
        return pages[client].round(client, count, controls)
      except (RuntimeError, OSError, http.client.HTTPException) as error:
        errors.append(f'{type(error).__name__}: {error}'[:300])
        pages[client] = Client(server, workdir.name)
        return []

    began = time.monotonic()
    with watched(server.process.pid) as memory, concurrent.futures.ThreadPoolExecutor(clients) as pool:
      while time.monotonic() - began < seconds:
        started = time.monotonic()
        found = [x for one in pool.map(tried, range(clients)) for x in one]
        latencies += found
        rounds.append(len(found) / (time.monotonic() - started))
        log(f'{time.monotonic() - began:4.0f} s: {rounds[-1]:6.1f} edits/s, {len(errors)} errors')
    said = server.said()
  finally:
    server.stop()
  later = [mb for moment, mb in memory if moment > FIRST_MINUTE]
  quantiles = statistics.quantiles(latencies, n=100)
  return {
    'alone_median_seconds': statistics.median(alone),
    'edits': len(latencies),
    'errors': errors,
    'stderr': said,
    'median_seconds': statistics.median(latencies),
    'percentile_95_seconds': quantiles[94],
    'per_second': statistics.median(rounds),
    'memory_mb': [round(mb, 1) for _, mb in memory],
    'memory_mb_after_first_minute': [min(later), max(later)] if later else None,
    'memory_mb_per_minute_after_first': _slope(memory) if len(later) > 30 else None,
  }


def _slope(memory: list[tuple[float, float]]) -> float:
  """MB a minute after the first one, by least squares."""
  moments, sizes = zip(*[(moment / 60, mb) for moment, mb in memory if moment > FIRST_MINUTE], strict=True)
  return statistics.linear_regression(moments, sizes).slope


def fitted(folder: Path) -> Path:
  """A workdir in a folder: a copy of what is needed of the one given, or a fit of configs/cats64.py."""
  given = Path(_WORKDIR.value)
  workdir = folder / (given.resolve().name if _WORKDIR.value else 'cats64')
  if _WORKDIR.value:
    workdir.mkdir()
    for name in ('factors.npz', 'config.json'):
      shutil.copy(given / name, workdir)
  else:
    command = [sys.executable, 'run.py', 'fit', '--config=configs/cats64.py', f'--workdir={workdir}']
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
  return workdir


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  clients, count = _CLIENTS.value, _EDITS.value
  with tempfile.TemporaryDirectory() as folder:
    workdir = fitted(Path(folder))
    record = machine() | {'fit': workdir.name, 'clients': clients, 'edits_of_each': count, 'seconds': _SECONDS.value}
    controls = Controls(Engine(open_workdir(workdir)))
    record['without_server'] = without_server(controls, clients, count)
    record['with_server'] = with_server(workdir, controls, clients, count, _SECONDS.value)
  for name in ('without_server', 'with_server'):
    row = record[name]
    log(f'{name:15} {1e3 * row["median_seconds"]:8.1f} ms median {row["per_second"]:8.1f} edits/s of {row["edits"]}')
  row = record['with_server']
  log(f'alone {1e3 * row["alone_median_seconds"]:.1f} ms; errors {len(row["errors"])}; memory after the first minute')
  log(f'{row["memory_mb_after_first_minute"]} MB, {row["memory_mb_per_minute_after_first"]} MB a minute')
  path = written(record, Path(_OUT.value) / f'explorer-{record["fit"]}.json')
  log(f'wrote {path}')


if __name__ == '__main__':
  app.run(main)
