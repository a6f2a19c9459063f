"""`compare_into`: every method on the same generator, samples, regions and strengths, into a folder.

Finished work is kept: discoveries in discovered/METHOD, measured cells in cells/. The same command does the rest.
"""

import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from panda_jax.compare import cells, pages
from panda_jax.compare.differences import MEASURES, differences
from panda_jax.compare.discovery import (
  cost_of,
  discover_apart,
  discover_here,
  is_done,
  settings_of,
  task_of,
  weights_of,
)
from panda_jax.compare.latency import latencies
from panda_jax.compare.methods import EXPLAINED, Task, candidates, edits_features, uses_fit
from panda_jax.compare.protocol import Applier, Bench, Candidate, Samples
from panda_jax.compare.settings import default_config
from panda_jax.errors import InputError, Interrupted, refusal
from panda_jax.files.links import check_no_links, check_no_links_below
from panda_jax.files.lock import LOCK, locked
from panda_jax.files.records import read_json, write_json
from panda_jax.generators.disk import abstract_generator
from panda_jax.generators.protocol import image_shape
from panda_jax.regions.metrics import region_mask
from panda_jax.regions.realism import SMALLEST, embedding
from panda_jax.runtime import signals
from panda_jax.runtime.environment import versions
from panda_jax.runtime.progress import Progress
from panda_jax.workdir.config import check_values

TABLE, RECORD = 'table.json', 'config.json'
DISCOVERED, CELLS = OURS = ('discovered', 'cells')
FILES = (TABLE, 'table.md', 'curves.png', 'strips.png', 'regions.png', 'leakage.png')
REALISM_SEED = 2_000_000  # first seed of the unedited images that define the guard's space
DIMENSIONS = 64  # of that space


def checked(config: dict) -> dict:
  """A configuration as JSON values, its numbers in range.

  Raises:
    InputError: a key is missing or out of range.
  """
  try:
    config = json.loads(json.dumps(config))
  except (TypeError, ValueError, RecursionError) as error:
    problem = f'its values cannot be written as JSON ({error})'
    raise InputError('config', type(config).__name__, problem, 'give numbers, texts and lists of them') from error
  check_values(config, default_config())
  remedy = 'see configs/compare_cats64.py'
  if not config['regions']:
    raise InputError('config.regions', '{}', 'there is nothing to compare on', remedy)
  unknown = [name for name in config['methods'] if name not in EXPLAINED]
  if unknown or not config['methods']:
    known = ', '.join(EXPLAINED)
    raise InputError('config.methods', unknown[0] if unknown else '()', 'no such method', f'give some of {known}')
  if any(uses_fit(name) for name in config['methods']) and 'panda' not in config['methods']:
    config['methods'] = [*config['methods'], 'panda']
  least = {'candidates': 1, 'heldout': 2, 'test': 2, 'size': 1, 'parts': 1, 'samples': 1, 'batch': 1, 'bootstrap': 1}
  for name, low in least.items():
    if not isinstance(config[name], int) or config[name] < low:
      raise InputError(f'config.{name}', config[name], 'too small', f'give a whole number from {low}')
  if not isinstance(config['target'], int | float) or not 0 < config['target'] < 2:
    raise InputError('config.target', config['target'], 'black and white are 2 apart', 'give a change such as 0.1')
  if 1.0 not in config['curve'] or min(config['curve']) <= 0:
    raise InputError('config.curve', config['curve'], 'multiples of the matched strength', 'give some above 0, and 1')
  low, high = config['seed'], config['seed'] + config['heldout'] + config['test']
  if low < config['samples'] or any(low <= t < high for t in config['reference_seeds']):
    problem = 'the test would use seeds that discovery uses'
    raise InputError('config.seed', low, problem, f'give one of at least {config["samples"]}, clear of reference_seeds')
  if high > REALISM_SEED:
    raise InputError('config.seed', low, f'test seeds would reach {REALISM_SEED}', 'give a smaller one')
  return config


def check_fits(config: dict, generator=None) -> None:
  """Checks regions and layer against the generator, without reading weights.

  Args:
    config: as of `checked`.
    generator: an object in place of config.generator.

  Raises:
    InputError: there is no generator, it has no such layer, or a region is not inside its images.
  """
  if generator is None and config['generator'] is None:
    raise InputError('config.generator', None, 'not given', 'give --generator=DIR, or --generator=cats64')
  generator = abstract_generator(config['generator']) if generator is None else generator
  layers, layer = sorted(generator.layers), config['layer']
  if layer not in layers and any(edits_features(name) for name in config['methods']):
    raise InputError(
      'config.layer', layer, 'the generator has no such layer', f'give one of {", ".join(map(str, layers))}'
    )
  for box in config['regions'].values():
    region_mask(box, image_shape(generator)[:2])


def seeds_of(config: dict) -> tuple[range, range]:
  """Seeds of the held-out and of the test samples: disjoint, and different from the seeds of discoveries."""
  middle = config['seed'] + config['heldout']
  return range(config['seed'], middle), range(middle, middle + config['test'])


def claim(workdir: Path, config: dict, overwrite: bool) -> None:
  """Prepares a locked folder; with `overwrite`, deletes the files of an earlier comparison.

  Raises:
    InputError: the folder cannot be written, or has other files.
  """
  try:
    check_no_links(workdir, (*FILES, RECORD, '.*.tmp'))
    for name in OURS:
      check_no_links_below(workdir, name)
    if overwrite:
      for name in OURS:
        if (workdir / name).exists():
          shutil.rmtree(workdir / name)
      for name in FILES:
        (workdir / name).unlink(missing_ok=True)
    record = workdir / RECORD
    there = sorted({*os.listdir(workdir)} - {LOCK})
    if not overwrite and not os.path.lexists(record) and there:
      problem = f'{there[0]} is there, without a record of its comparison'
      raise InputError('workdir', workdir, problem, 'choose another folder or use --overwrite')
    if not overwrite and there and read_json(record, 'workdir', {'cases?': dict}).get('cases'):
      problem = 'a comparison of several cases is there'
      raise InputError('workdir', workdir, problem, 'choose another folder or use --overwrite')
    write_json(record, config)
  except OSError as error:
    raise refusal('workdir', workdir, 'it cannot be written', error) from error


def kept(workdir: Path) -> str:
  """The sentence on what is kept of a comparison that stops."""
  if (workdir / TABLE).exists():
    return 'the table is complete'
  cells, discoveries = (len([*workdir.glob(pattern)]) for pattern in ('cells/*.json', 'discovered/*/cost.json'))
  if not cells + discoveries:
    return 'nothing is done yet: the same command starts from the beginning'
  return f'{discoveries} of the discoveries and {cells} of the cells are kept: the same command goes on with the rest'


def compare_into(workdir: str | os.PathLike, config, *, generator=None, overwrite: bool = False, command: str = ''):
  """Runs a comparison and writes table.md, table.json, curves.png, strips.png, regions.png and leakage.png.

  Args:
    workdir: folder; earlier work with the same settings in it continues.
    config: as of `default_config`.
    generator: an object in place of config.generator: a user's own, or one that is not on disk. Discoveries then run in
      this process, and peak memory is not measured.
    overwrite: delete the files of an earlier comparison.
    command: for the record.

  Returns:
    The content of table.json.

  Raises:
    InputError: the configuration does not fit, the folder holds work of other settings, or an image is not finite.
    Interrupted: by Ctrl-C or SIGTERM; the same call continues the work.
  """
  workdir = Path(workdir)
  config = checked(config.to_dict() if hasattr(config, 'to_dict') else dict(config))
  check_fits(config, generator)
  with (
    locked(workdir),
    signals.keeping(partial(kept, workdir), 'the comparison is complete'),
    signals.caught() as caught,
    Progress() as progress,
  ):
    claim(workdir, config, overwrite)
    comparison = _Comparison(workdir, config, generator, caught, progress)
    comparison.discover()
    comparison.measure()
    return comparison.write(command)


class _Comparison:
  """The steps of `compare_into`, and their shared state."""

  def __init__(self, workdir: Path, config: dict, generator, caught: Sequence[int], progress: Progress):
    self.workdir, self.config, self.progress = workdir, config, progress
    self._given, self._caught = generator, caught
    self._root, self._cells = workdir / DISCOVERED, workdir / CELLS
    self.isolated = config['isolated'] and generator is None
    self.methods = config['methods']
    self.task: Task | None = None
    self.digest = ''

  def _stop(self) -> None:
    if self._caught:
      raise Interrupted(self._caught[0])

  def _load(self) -> Task:
    if self.task is None:
      self.task, self.digest = task_of(self.config, self._root, self._given)
    return self.task

  def discover(self) -> None:
    """Runs every discovery that is not done."""
    first = sorted(self.methods, key=lambda name: name != 'panda')  # others use its factors
    for i, method in enumerate(first):
      self._stop()
      settings = settings_of(self.config, method)
      if is_done(self._root / method, settings):
        continue
      self.progress.say(f'discovery {i + 1} of {len(self.methods)}: {EXPLAINED[method]}')
      if self.isolated:
        discover_apart(self.config, self._root, method, self._caught)
      else:
        self._load()
        discover_here(self.task, method, settings, self.digest)
    self._load()
    for method in self.methods:
      if weights_of(self._root / method) != self.digest:
        problem = f'{method} was discovered on other weights'
        raise InputError('workdir', self.workdir, problem, 'choose another folder or use --overwrite')

  def measure(self) -> None:
    """Measures every cell that is not measured yet."""
    config, task = self.config, self._load()
    heldout, test = (Samples(task.generator, t, config['batch'], task.mapping) for t in seeds_of(config))
    self.heldout, self.test = heldout, test
    self.applier = Applier(task.generator, config['layer'])
    bench = Bench(self.applier, config['size'])
    wanted = [(region, method) for region in task.masks for method in self.methods]
    self.found: dict[tuple[str, str], cells.Cell | None] = {}
    guard, began, made = None, time.perf_counter(), 0
    for i, (region, method) in enumerate(wanted):
      self._stop()
      fingerprint = self._fingerprint(region, method)
      cell = cells.load_cell(self._cells, f'{method}-{region}')
      measured = {} if cell is None else cell.record.get('settings', {})
      if cell is not None and measured != fingerprint:
        differing = [k for k in fingerprint if measured.get(k) != fingerprint[k]]
        problem = f'{method} on {region} was measured with other {", ".join(differing)}'
        raise InputError('workdir', self.workdir, problem, 'choose another folder or use --overwrite')
      offered = [] if cell or cost_of(self._root / method)[1] else candidates(task, method, region)
      if offered:
        guard = guard or self._guard()
        cell = self._cell(bench, region, offered, guard)
        cell.record['settings'] = fingerprint
        cell.save(self._cells, f'{method}-{region}')
        made += 1
        left = (time.perf_counter() - began) / made * (len(wanted) - i - 1)
        said = cell.record['roir']['mean']
        roir = 'nothing changes inside' if said is None else f'ROIR {said:.2f}'
        reach = '' if cell.record['reached'] else ', target not reached'
        self.progress.say(f'{i + 1} of {len(wanted)}: {region}, {EXPLAINED[method]}: {roir}{reach}; {left:,.0f} s left')
      self.found[region, method] = cell

  def _cell(self, bench: Bench, region: str, offered: list[Candidate], guard) -> cells.Cell:
    config, task = self.config, self.task
    setting = cells.Setting(region, task.masks[region], config['target'], tuple(config['curve']), config['bootstrap'])
    return cells.measure(bench, self.heldout, self.test, offered, setting, guard)

  def _fingerprint(self, region: str, method: str) -> dict:
    """All settings that affect a cell, JSON values."""
    names = ('target', 'candidates', 'heldout', 'test', 'seed', 'curve', 'size', 'bootstrap', 'realism_samples')
    fingerprint: dict[str, Any] = {name: self.config[name] for name in names}
    fingerprint |= {'box': self.config['regions'][region], 'weights': self.digest}
    return fingerprint | {'discovery': settings_of(self.config, method)}

  def _guard(self) -> cells.Guard | None:
    """The realism guard; None where images are too small for its space."""
    task, count = self.task, self.config['realism_samples']
    if min(next(iter(task.masks.values())).shape) < SMALLEST or count < 2 * DIMENSIONS or len(self.test) <= 2:
      return None
    others = Samples(task.generator, range(REALISM_SEED, REALISM_SEED + count), self.config['batch'], task.mapping)
    images = np.concatenate([np.asarray(task.generator(latents), np.float32) for _, latents in others.batches()])
    space = embedding(images[:count], min(DIMENSIONS, len(self.test) // 2))
    rows = []
    for first, latents in self.test.batches():
      count = min(self.test.size, len(self.test) - first)
      rows.append(space(np.asarray(self.test.original(first, latents), np.float32)[:count]))
    return cells.Guard(space, np.concatenate(rows))

  def _milliseconds(self, method: str) -> dict[str, float] | None:
    """Milliseconds per edited image, in batches of 1 and of config.batch."""
    if cost_of(self._root / method)[1] is not None:
      return None
    candidate = next(found for region in self.task.masks for found in candidates(self.task, method, region))
    times = {}
    for batch in sorted({1, self.config['batch']}):
      samples = Samples(self.task.generator, seeds_of(self.config)[0][:batch], batch, self.task.mapping)
      times[str(batch)] = latencies(self.applier, samples, candidate)
    return times

  def write(self, command: str) -> dict:
    """Writes the table and the pictures, from the cells."""
    costs = {}
    for method in self.methods:
      self._stop()
      cost, undefined = cost_of(self._root / method)
      costs[method] = {'undefined': undefined, 'milliseconds': self._milliseconds(method)}
      if cost is not None:
        costs[method] |= {
          'seconds': cost.seconds,
          'compile_seconds': cost.compile_seconds,
          'peak_bytes': cost.peak_bytes,
          'device_peak_bytes': cost.device_peak_bytes,
        }
    heldout, test = seeds_of(self.config)
    device = jax.local_devices()[0]
    table = {
      'date': time.strftime('%Y-%m-%d'),
      'command': command,
      'config': self.config,
      'weights': self.digest,
      'seeds': {'heldout': [heldout[0], heldout[-1]], 'test': [test[0], test[-1]]},
      'device': {'platform': device.platform, 'kind': device.device_kind, 'cores': os.cpu_count()},
      'versions': versions(),
      'methods': {method: {'name': EXPLAINED[method], **costs[method]} for method in self.methods},
      'cells': [
        {'method': method, **{k: v for k, v in cell.record.items() if k != 'settings'}}
        for (_, method), cell in self.found.items()
        if cell is not None
      ],
      'differences': self._differences(),
    }
    try:
      pages.write_pages(self.workdir, table, self.found, self._originals(), self._mean(), self.task.masks)
    except OSError as error:
      raise refusal('workdir', self.workdir, 'a picture could not be written', error) from error
    write_json(self.workdir / TABLE, table)
    return table

  def _differences(self) -> list[dict]:
    """Differences from the best, of each method that reaches the target, for each region and measure."""
    told = []
    for region, (name, measure) in itertools.product(self.task.masks, MEASURES.items()):
      reached = {
        method: cell.arrays[name]
        for (place, method), cell in self.found.items()
        if place == region and cell is not None and cell.record['reached']
      }
      for method, said in differences(reached, measure, self.config['bootstrap']).items():
        told.append({'region': region, 'measure': name, 'method': method, **said._asdict()})
    return told

  def _originals(self) -> np.ndarray:
    """Unedited images of the test samples that the strips show."""
    with contextlib.suppress(StopIteration):
      first, latents = next(self.test.batches())
      return np.asarray(self.test.original(first, latents), np.float32)[: cells.SHOWN]

  def _mean(self) -> np.ndarray:
    """Mean of the unedited held-out images, (h, w, channels)."""
    images = [np.asarray(self.heldout.original(first, latents)) for first, latents in self.heldout.batches()]
    return np.concatenate(images)[: len(self.heldout)].mean(axis=0)
