"""Runs the discoveries of a comparison, each in its own process, so that its time and peak memory can be measured."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from panda_jax.compare.methods import Task, discover, edits_features
from panda_jax.errors import InputError, Interrupted
from panda_jax.files.records import read_json, write_json
from panda_jax.runtime import signals

COST = 'cost.json'
FORM = {  # of the record
  'settings': dict,
  'weights': str,
  'undefined': (str, None),
  'cost': (
    None,
    {'seconds': float, 'compile_seconds': float, 'peak_bytes': (int, None), 'device_peak_bytes': (int, None)},
  ),
}
POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Cost:
  """The cost of a discovery.

  Attributes:
    seconds: wall time, with compilation, without start-up, imports and loading of the generator.
    compile_seconds: the part of it that XLA took to compile.
    peak_bytes: peak memory of the host above that at the start; None where not measured.
    device_peak_bytes: peak memory of an accelerator; None on a CPU.
  """

  seconds: float
  compile_seconds: float
  peak_bytes: int | None = None
  device_peak_bytes: int | None = None


def settings_of(config: dict, method: str) -> dict:
  """The keys of a configuration that affect the result of a method; JSON values."""
  names = ['generator', 'truncation', 'truncation_layers']
  if edits_features(method):
    names += ['layer', 'parts', 'samples']
    names += ['regions', 'target', 'size', 'region_samples'] if method in ('panda_region', 'panda_joint') else []
  else:
    names += ['rows', 'published', 'candidates', 'reference_seeds', 'regions']
  return json.loads(json.dumps({name: config[name] for name in names}))


def is_done(folder: Path, settings: dict) -> bool:
  """Whether a folder holds the result of a method with these settings.

  Raises:
    InputError: it holds the result of other settings.
  """
  try:
    found = read_json(folder / COST, 'workdir', FORM)['settings']
  except InputError:
    return False
  differing = sorted(name for name in settings if found.get(name) != settings[name])
  if differing:
    name = differing[0]
    problem = f'{folder.name} was discovered with {name} {found.get(name)}, now {settings[name]}'
    raise InputError('workdir', folder.parent.parent, problem, 'choose another folder or use --overwrite')
  return True


def cost_of(folder: Path) -> tuple[Cost | None, str | None]:
  """The recorded cost, and the reason if the method is not defined."""
  record = read_json(folder / COST, 'workdir', FORM)
  values = record['cost'] and {field.name: record['cost'][field.name] for field in dataclasses.fields(Cost)}
  return (Cost(**values) if values else None), record['undefined']


def weights_of(folder: Path) -> str:
  """The recorded hash of the generator's weights."""
  return read_json(folder / COST, 'workdir', FORM)['weights']


def record_cost(folder: Path, settings: dict, digest: str, cost: Cost | None, undefined: str | None = None) -> None:
  """Writes the record. It comes last, so that a discovery with a record is complete."""
  folder.mkdir(parents=True, exist_ok=True)
  record = {'settings': settings, 'weights': digest, 'undefined': undefined}
  record['cost'] = None if cost is None else dataclasses.asdict(cost)
  write_json(folder / COST, record)


class Stopwatch:
  """Measures seconds, seconds of compilation and peak memory of the code inside it."""

  def __init__(self, isolated: bool):
    self._isolated = isolated

  def __enter__(self):
    import jax

    self._compiled = 0.0
    jax.monitoring.register_event_duration_secs_listener(self._listen)
    self._held = _resident()
    self._began = time.perf_counter()
    return self

  def _listen(self, event: str, seconds: float, **_) -> None:
    if event.endswith('backend_compile_duration'):
      self._compiled += seconds

  def __exit__(self, *_):
    import jax

    seconds = time.perf_counter() - self._began
    jax.monitoring.unregister_event_duration_listener(self._listen)
    device = jax.local_devices()[0].memory_stats() or {}
    peak = _peak_resident()
    self.cost = Cost(
      seconds=seconds,
      compile_seconds=min(self._compiled, seconds),
      peak_bytes=max(0, peak - self._held) if self._isolated and peak and self._held else None,
      device_peak_bytes=device.get('peak_bytes_in_use') if self._isolated else None,
    )


def _resident() -> int | None:
  """Bytes of memory that this process uses; None where the system does not report them."""
  try:
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
  except (OSError, ValueError, IndexError):
    return None


def _peak_resident() -> int | None:
  """Peak memory of this process in bytes."""
  try:
    import resource
  except ImportError:
    return None
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else peak * 1024


def discover_here(task, method: str, settings: dict, digest: str, isolated: bool = False) -> None:
  """Runs one method's discovery in this process, and records its cost."""
  folder = task.folder(method)
  shutil.rmtree(folder, ignore_errors=True)
  watch = Stopwatch(isolated)
  try:
    with watch:
      discover(task, method)
  except InputError as error:
    shutil.rmtree(folder, ignore_errors=True)
    record_cost(folder, settings, digest, None, str(error))
    return
  record_cost(folder, settings, digest, watch.cost)


def _in_child(config: dict, root: str, method: str, failure: str) -> None:
  """The body of a discovery's own process. It writes errors to a file."""
  signals.end_with_parent()
  try:
    task, digest = task_of(config, Path(root))
    discover_here(task, method, settings_of(config, method), digest, isolated=True)
  except InputError as error:
    Path(failure).write_text(json.dumps([error.argument, str(error.value), error.problem, error.remedy]))
    sys.exit(2)


def task_of(config: dict, root: Path, generator=None):
  """(Task, hash of the generator's weights) of a configuration; the generator is loaded unless given."""
  from flax import nnx

  from panda_jax.generators import load_generator
  from panda_jax.generators.protocol import image_shape
  from panda_jax.generators.source import weights_digest
  from panda_jax.generators.structure import Compiled
  from panda_jax.regions.metrics import region_mask

  generator = load_generator(config['generator']) if generator is None else generator
  plain = generator.generator if isinstance(generator, Compiled) else generator
  generator = Compiled(plain) if isinstance(plain, nnx.Module) else plain
  digest = weights_digest(plain).hexdigest()
  size = image_shape(generator)[:2]
  masks = {name: region_mask(box, size) for name, box in config['regions'].items()}
  return Task(generator, config, masks, root), digest


def discover_apart(config: dict, root: Path, method: str, caught: Sequence[int]) -> None:
  """Runs one method's discovery in its own process and waits for it.

  Raises:
    InputError: as the discovery, or its process failed.
    Interrupted: a signal came; the other process is stopped.
  """
  failure = root / f'.{method}.failure'
  failure.unlink(missing_ok=True)
  root.mkdir(parents=True, exist_ok=True)
  arguments = (config, str(root), method, str(failure))
  process = multiprocessing.get_context('spawn').Process(target=_in_child, args=arguments, daemon=True)
  with signals.withheld():  # a terminal sends Ctrl-C to both processes; only this one reacts, and stops the other
    process.start()
  try:
    while process.is_alive():
      process.join(POLL_SECONDS)
      if caught:
        raise Interrupted(caught[0])
  finally:
    if process.is_alive():
      process.terminate()
      process.join()
  if failure.exists():
    fields = json.loads(failure.read_text())
    failure.unlink()
    raise InputError(*fields)
  if process.exitcode:
    problem = f'its discovery ended with exit code {process.exitcode}'
    remedy = 'see above for the reason; out of memory is likely if there is none'
    raise InputError('methods', method, problem, remedy)
