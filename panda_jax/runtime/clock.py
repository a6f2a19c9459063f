"""Wall time by phase, with compilation separate."""

import contextlib
import gc
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import jax

# Compiled programs, by function, static arguments and the types of the arrays: a second fit of the same shape does not
# compile again.
_programs: dict = {}


def _type(x) -> tuple:
  return jax.numpy.shape(x), str(jax.numpy.result_type(x)), str(getattr(x, 'sharding', None))


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
  """Switches garbage collection off: tracing makes many objects, and nearly all of them live until its end."""
  enabled = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    if enabled:
      gc.enable()


class Clock:
  """Adds wall time to the innermost open phase; compilation always goes to `compile`.

  Attributes:
    seconds: by phase.
    on_compile: called with the phase before each program is compiled.
  """

  def __init__(self, started: float | None = None):
    """`started`: perf_counter at the start of the process; the time since then goes to `import`."""
    self.seconds: dict[str, float] = defaultdict(float)
    self.on_compile: Callable[[str], None] = lambda phase: None
    self._stack = ['other']
    self._mark = self._start = time.perf_counter()
    if started is not None:
      self.seconds['import'] = self._start - started

  def _charge(self):
    now = time.perf_counter()
    self.seconds[self._stack[-1]] += now - self._mark
    self._mark = now

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    self._charge()
    self._stack.append(name)
    try:
      yield
    finally:
      self._charge()
      self._stack.pop()

  def call(
    self, program: jax.stages.Wrapped, /, *args, compiler_options: dict[str, str | bool] | None = None, **static
  ):
    """program(*args, **static) for a jitted function, compiled ahead of time so that compilation can be timed."""
    key = (
      program,
      jax.tree.structure(args),
      tuple(map(_type, jax.tree.leaves(args))),
      tuple(sorted(static.items(), key=lambda item: item[0])),
      tuple((compiler_options or {}).items()),
      jax.config.jax_enable_x64,  # type: ignore[attr-defined]  # jax adds it when it is imported
    )
    if key not in _programs:
      self.on_compile(self._stack[-1])
      with self.phase('compile'), _without_collection():
        _programs[key] = program.lower(*args, **static).compile(compiler_options)
    return _programs[key](*args)

  def summary(self) -> dict[str, float]:
    """Seconds of every phase of a fit, by name, and their total."""
    self._charge()
    names = ('import', 'compile', 'features', 'moments', 'solve', 'checkpoint', 'draw')
    return {name: self.seconds[name] for name in names} | {'total': sum(self.seconds.values())}

  @property
  def elapsed(self) -> float:
    """Seconds since the start, without compilation and without callbacks (`checkpoint`, `callback`)."""
    self._charge()
    watching = sum(self.seconds[k] for k in ('compile', 'checkpoint', 'callback'))
    return self._mark - self._start - watching


def programs_compiled() -> int:
  """How many programs this process has compiled for fits; a second fit of the same shapes adds none."""
  return len(_programs)


def compiled_programs() -> list[tuple[str, jax.stages.Compiled]]:
  """The programs compiled for fits, each with the name of its function, or of the `function` that it applies."""
  found = []
  for (program, _, _, static, *_), compiled in _programs.items():
    found.append((_name(program, dict(static)), compiled))
  return found


def _name(program: Callable, static: dict) -> str:
  return static.get('function', program).__name__


def forget_programs() -> None:
  """Makes the next fit compile again, for callers that replace parts of programs."""
  _programs.clear()
  jax.clear_caches()
