"""The benchmark of start-up counts each second once, under the name of its function."""

import jax
import numpy as np

from benchmarks import programs as counted
from benchmarks.programs import EVENTS, FOUND, Programs

TRACING, LOWERING, COMPILING = EVENTS


def test_what_happens_inside_is_counted_there_only(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(counted.time, 'perf_counter', lambda: now[0])
  programs = Programs()
  for now[0], event, seconds, name in (
    (3.0, TRACING, 1.0, 'constant'),
    (4.0, COMPILING, 1.0, 'jit(constant)'),
    (6.0, TRACING, 5.0, 'f'),
    (7.0, LOWERING, 1.0, 'jit(f)'),
  ):
    programs.on_seconds(event, seconds, fun_name=name)
  programs.on_event(FOUND)
  now[0] = 9.0
  programs.on_seconds(COMPILING, 2.0, fun_name='jit(f)')
  now[0] = 10.0
  programs.on_seconds(COMPILING, 1.0, fun_name='jit(<lambda>)')
  programs.on_seconds('/jax/another', 1.0)
  rows = {row.pop('name'): {key: value for key, value in row.items() if value} for row in programs.record()}
  assert rows == {
    'f': {'programs': 1, 'tracing': 3.0, 'lowering': 1.0, 'reading': 2.0},
    'constant': {'programs': 1, 'tracing': 1.0, 'compiling': 1.0},
    '_lambda_': {'programs': 1, 'compiling': 1.0},
  }


def test_jax_tells_what_is_counted(tmp_path):
  programs = Programs()
  jax.monitoring.register_event_listener(programs.on_event)
  jax.monitoring.register_event_duration_secs_listener(programs.on_seconds)
  try:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level, options.host_tracer_level = 0, 1
    with jax.profiler.trace(tmp_path, profiler_options=options):

      def counted_twice(x):
        return x @ x

      program = jax.jit(counted_twice)
      for _ in range(2):
        program(np.ones((3, 3), np.float32)).block_until_ready()
    programs.add_runs(tmp_path)
  finally:
    jax.monitoring.clear_event_listeners()
  row = programs.rows['counted_twice']
  assert (row['programs'], row['runs']) == (1, 2)
  assert row['tracing'] > 0
  assert row['lowering'] > 0
  assert row['compiling'] + row['reading'] > 0
