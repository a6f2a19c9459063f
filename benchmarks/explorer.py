"""The explorer: the speed of its page for one user, and of its server under load.

    python -m benchmarks.explorer [--workdir=DIR] [--clients=50 --edits=20 --seconds=180]      6 minutes on two cores

Without --workdir it first makes the fit of configs/cats64.py. On the page, in chromium: milliseconds until the first
filmstrip of a part, until an edit under the pointer, and until the first *Remove* are on the screen; and strengths per
second while the slider moves. Under load, each of 50 clients makes 20 edits without a pause, again and again. Clients
are threads of this process, on the same cores as the server. Each chooses a part, moves the slider, changes the
appearance, moves the slider again, and waits for each edit's picture. Yardstick: the same edits by the same engine in
one process, without server and clients. Prints a table, writes explorer-NAME.json: latencies, edits per second, errors,
and the memory of the server every second, which should be constant after the first minute.
"""

import concurrent.futures
import contextlib
import http.client
import json
import re
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
from panda_jax.app import images
from panda_jax.app.choices import Choice
from panda_jax.app.engine import Engine
from panda_jax.editing.zoo import Spec
from panda_jax.workdir.finished_fit import open_workdir
from tests.app.servers import Server
from tests.browser import Browser, until

_WORKDIR = flags.DEFINE_string('workdir', '', 'Of a finished fit through a generator.')
_CLIENTS = flags.DEFINE_integer('clients', 50, 'At a time.', lower_bound=1)
_EDITS = flags.DEFINE_integer('edits', 20, 'Of each client in a round.', lower_bound=1)
_SECONDS = flags.DEFINE_float('seconds', 180.0, 'Rounds begin for so long.')
_OUT = flags.DEFINE_string('out', 'benchmarks/results', 'Folder of the JSON file.')

FIRST_MINUTE = 60.0
JSON = {'Content-Type': 'application/json'}


def log(text: str) -> None:
  print(text, flush=True)


def edits_of(client: int, count: int, engine: Engine) -> Iterator[Choice]:
  """A client's edits in order; each client has different edits."""
  part, appearance = engine.parts[client % len(engine.parts)], engine.appearances[0]
  for k in range(count):
    if k == count // 2:
      appearance = engine.appearances[client % len(engine.appearances)]
    yield Choice((client,), (Spec((part,), appearance, (client % 7 - 3.5) * (k + 1) / count),))


def without_server(engine: Engine, clients: int, count: int) -> dict:
  """Seconds of each edit from a choice to its picture's address; a further client warms up."""
  seconds = []
  for client in range(clients + 1):
    for choice in edits_of(client, count, engine):
      began = time.perf_counter()
      images.shown(engine.edited(choice))
      seconds += [time.perf_counter() - began] if client else []
  return {
    'edits': len(seconds),
    'median_seconds': statistics.median(seconds),
    'per_second': len(seconds) / sum(seconds),
  }


class Client:
  """The requests of one page."""

  def __init__(self, server: Server, fit: str):
    self.connection, self.fit = http.client.HTTPConnection('127.0.0.1', server.port, timeout=300), fit

  def shown(self, choice: Choice) -> None:
    """Asks for the picture of a choice."""
    values = {'fit': self.fit, 'choice': choice.to_json(), 'views': ['edited']}
    self.connection.request('POST', '/do/pictures', json.dumps(values), JSON)
    answer = self.connection.getresponse()
    said = answer.read()
    if answer.status != 200 or b'"error"' in said:
      raise RuntimeError(f'{answer.status} {said[:200]!r}')

  def round(self, client: int, count: int, engine: Engine) -> list[float]:
    """Seconds of each edit."""
    seconds = []
    for choice in edits_of(client, count, engine):
      began = time.perf_counter()
      self.shown(choice)
      seconds.append(time.perf_counter() - began)
    return seconds


# In the page: does an action, and returns the milliseconds until a picture has changed.
ON_SCREEN = """
const [selector, done] = arguments, began = performance.now(), picture = document.querySelector(selector);
const before = picture?.src;
const look = () => {
  const now = document.querySelector(selector);
  if (now && now.src !== before && now.complete) requestAnimationFrame(() => done(performance.now() - began));
  else setTimeout(look, 1);
};
ACT;
look();
"""
SLIDE = """
const [seconds, done] = arguments, picture = document.querySelector('#after');
const slider = document.querySelector('#edits input[type=range]'), began = performance.now();
let shown = 0, steps = 0;
new MutationObserver(() => { shown += 1; }).observe(picture, {attributes: true, attributeFilter: ['src']});
const step = () => {
  const passed = (performance.now() - began) / 1000;
  if (passed > seconds) return done(shown / passed);
  slider.value = slider.max * Math.sin(3 * passed);
  slider.dispatchEvent(new Event('input', {bubbles: true}));
  requestAnimationFrame(step);
};
step();
"""
CLICK = "document.querySelectorAll('{}')[{}].click()"
POINT = "document.querySelectorAll('#film button')[{}].dispatchEvent(new PointerEvent('{}', {{pointerType: 'mouse'}}))"


def on_the_page(workdir: Path) -> dict:
  """The waiting times of one user, with a newly started server."""
  server, browser = Server(workdir), Browser()
  server.start()
  try:
    browser.open(server.url)
    until(lambda: browser.all('body.ready') and browser.script("return document.querySelector('#after').complete"))

    def milliseconds(selector: str, act: str) -> float:
      return round(browser.driver.execute_async_script(ON_SCREEN.replace('ACT', act), selector), 1)

    part = "const s = document.querySelector('#part'); s.selectedIndex = {}; s.dispatchEvent(new Event('change'))"
    found = {'first_remove': milliseconds('#after', f'{part.format(3)}; {CLICK.format("#remove", 0)}')}
    found['film'] = milliseconds('#film img', part.format(1))
    until(lambda: not browser.all('#film.waiting'))
    previews = []
    for k in range(len(browser.all('#film button'))):
      previews.append(milliseconds('#after', POINT.format(k, 'pointerenter')))
      milliseconds('#after', POINT.format(k, 'pointerleave'))
    found |= {'preview_median': statistics.median(previews), 'preview_largest': max(previews)}
    found['take'] = milliseconds('#after', CLICK.format('#film button', 0))
    found['strengths_per_second'] = round(browser.driver.execute_async_script(SLIDE, 5), 1)
    return found
  finally:
    browser.driver.quit()
    server.stop()


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


def with_server(workdir: Path, engine: Engine, clients: int, count: int, seconds: float) -> dict:
  """One client alone, then all clients at once for `seconds`."""
  server, errors, latencies, rounds = Server(workdir), [], [], []
  server.start()
  try:
    pages = [Client(server, workdir.name) for _ in range(clients)]
    pages[0].round(0, count, engine)
    alone = pages[0].round(1, count, engine)

    def tried(client: int) -> list[float]:
      try:
        return pages[client].round(client, count, engine)
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
  """MB per minute after the first minute, by least squares."""
  moments, sizes = zip(*[(moment / 60, mb) for moment, mb in memory if moment > FIRST_MINUTE], strict=True)
  return statistics.linear_regression(moments, sizes).slope


def fitted(folder: Path) -> Path:
  """A workdir in a folder: a copy of the needed files of the given one, or a fit of configs/cats64.py."""
  given = Path(_WORKDIR.value)
  workdir = folder / (given.resolve().name if _WORKDIR.value else 'cats64')
  if _WORKDIR.value:
    workdir.mkdir()
    for name in ('factors.npz', 'config.json', 'catalog/catalog.json'):
      if (given / name).exists():
        (workdir / name).parent.mkdir(exist_ok=True)
        shutil.copy(given / name, workdir / name)
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
    engine = Engine(open_workdir(workdir))
    record['on_the_page'] = on_the_page(workdir)
    record['without_server'] = without_server(engine, clients, count)
    record['with_server'] = with_server(workdir, engine, clients, count, _SECONDS.value)
  log('on the page: ' + ', '.join(f'{name} {value:g}' for name, value in record['on_the_page'].items()))
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
