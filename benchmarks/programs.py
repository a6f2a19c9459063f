"""Runs a command in this process and lists the programs that it compiles: `programs.py RECORD.json COMMAND --flag=...`.

Run it as a file, with the folder of the package in PYTHONPATH, so that it can list the commands of another commit too.
JAX reports what it traces, lowers and compiles, and its profiler reports what ran. Nested seconds, for example of a
constant that is compiled while a function is traced, count only for the inner one.
"""

import collections
import json
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

EVENTS = {
  '/jax/core/compile/jaxpr_trace_duration': 'tracing',
  '/jax/core/compile/jaxpr_to_mlir_module_duration': 'lowering',
  '/jax/core/compile/backend_compile_duration': 'compiling',
}
FOUND = '/jax/compilation_cache/cache_hits'
KEYS = 'programs', 'tracing', 'lowering', 'compiling', 'reading', 'runs', 'running'


class Programs:
  """The reports on compilation, by the name of the function.

  Attributes:
    rows: {name: {key of `KEYS`: count or seconds}}.
  """

  def __init__(self):
    self.rows: dict[str, dict[str, float]] = collections.defaultdict(lambda: dict.fromkeys(KEYS, 0))
    self._own = threading.local()

  def on_event(self, event: str, **_) -> None:
    if event == FOUND:
      self._own.found = True

  def on_seconds(self, event: str, seconds: float, fun_name: str = '?', **_) -> None:
    if event not in EVENTS:
      return
    begun, inner = time.perf_counter() - seconds, 0.0
    ended = self._own.__dict__.setdefault('ended', [])
    while ended and ended[-1][0] >= begun:
      inner += ended.pop()[1]
    ended.append((begun, seconds))
    row, key = self.rows[_plain(fun_name)], EVENTS[event]
    if key == 'compiling':
      row['programs'] += 1
      key = 'reading' if self._own.__dict__.pop('found', False) else key
    row[key] += seconds - inner

  def add_runs(self, folder: Path) -> None:
    """Adds the profiler's runs: the time of each from its first operation to the end of its last."""
    from jax.profiler import ProfileData

    runs: dict[tuple[str, int], tuple[float, float]] = {}
    for path in folder.rglob('*.xplane.pb'):
      for plane in ProfileData.from_file(str(path)).planes:
        for event in (event for line in plane.lines for event in line.events):
          told = dict(event.stats)
          if 'hlo_module' not in told or 'run_id' not in told:
            continue
          key = _plain(str(told['hlo_module'])), told['run_id']
          first, last = runs.get(key, (float('inf'), 0.0))
          runs[key] = min(first, event.start_ns), max(last, event.start_ns + event.duration_ns)
    for (name, _), (first, last) in runs.items():
      self.rows[name]['runs'] += 1
      self.rows[name]['running'] += (last - first) / 1e9

  def record(self) -> list[dict]:
    """A row for each function, the slowest first."""
    rows = [{'name': name} | {key: round(value, 4) for key, value in row.items()} for name, row in self.rows.items()]
    return sorted(rows, key=lambda row: -sum(row[key] for key in KEYS if key not in ('programs', 'runs')))


def _plain(name: str) -> str:
  """A function's name, from the name of the function or module: 'jit(f)' and 'jit_f' are f."""
  return re.sub(r'\W', '_', re.sub(r'^jit\((.*)\)$', r'\1', name)).removeprefix('jit_')


def main() -> int:
  out, *words = sys.argv[1:]
  import jax

  from panda_jax.commands import program

  sys.argv = ['run.py', *words]
  programs = Programs()
  jax.monitoring.register_event_listener(programs.on_event)
  jax.monitoring.register_event_duration_secs_listener(programs.on_seconds)
  with tempfile.TemporaryDirectory() as folder:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level, options.host_tracer_level = 0, 1
    with jax.profiler.trace(folder, profiler_options=options):
      code = program.main(sys.argv)
    programs.add_runs(Path(folder))
  Path(out).write_text(json.dumps(programs.record()))
  return code


if __name__ == '__main__':
  sys.exit(main())
