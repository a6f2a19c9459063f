"""The features of a configuration: those that are fitted, and those that are held out.

Letters: N samples.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from panda_jax.errors import InputError
from panda_jax.features import intake
from panda_jax.features.intake import Intake
from panda_jax.features.sources import ArraySource, FeatureSource, as_source, limited
from panda_jax.features.store import free_host_bytes, held_in_memory
from panda_jax.generators import labels

HALVES = ('none', 'first', 'second')
# Keys that define features, together with the seed: the samples of a generator.
OF_FEATURES = (
  *('features', 'generator', 'layer', 'samples', 'labels', 'truncation', 'truncation_layers', 'grid', 'layout'),
  'batch',
)
OF_SAMPLES = ('seed', 'samples', 'held_out', 'held_out_features')  # keys that choose the seeds
SHARE = 4  # features that are kept for later fits may take 1 / SHARE of the free memory


class Features(NamedTuple):
  """The fitted samples, and the held-out samples, if any."""

  fitted: FeatureSource
  held_out: FeatureSource | None


@contextlib.contextmanager
def held_out_named(file: str | None) -> Iterator[None]:
  """Errors about features in the block name the flag of the held-out ones: that of their file, or of their number."""
  try:
    yield
  except InputError as error:
    if error.argument == 'features':
      error.argument = 'held_out' if file is None else 'held_out_features'
    raise


def parsed_grid(text: str | None) -> tuple[int, int] | None:
  """(H, W) from 'H,W'."""
  if text is None:
    return None
  try:
    height, width = (int(x) for x in text.split(','))
    if height < 1 or width < 1:
      raise ValueError
  except ValueError:
    raise InputError('grid', text, 'not two positive whole numbers', 'give --grid=H,W') from None
  return height, width


def source_of(config: ml_collections.ConfigDict) -> FeatureSource:
  """The source of the features: a file, or a generator.

  Raises:
    InputError: none or both are given, or a setting does not fit.
  """
  if (config.features is None) == (config.generator is None):
    given = None if config.features is None else config.features
    problem = 'not given' if given is None else f'--generator={config.generator} is given too'
    raise InputError('features', given, problem, 'give --features=FILE.npy or --generator=DIR, or a config with one')
  if config.generator is None:
    for key in ('labels', 'truncation_layers'):
      if config[key] is not None:
        raise InputError(key, config[key], 'features from a file are made already', 'leave it out')
    if config.truncation != 1:
      raise InputError('truncation', config.truncation, 'features from a file are made already', 'leave it out')
    return as_source(config.features, parsed_grid(config.grid), config.samples, config.layout)
  from panda_jax.generators import load_generator
  from panda_jax.generators.labels import parsed_labels
  from panda_jax.generators.source import GeneratorSource

  for key in ('grid', 'layout'):
    if config[key] is not None:
      raise InputError(key, config[key], f"the generator's features have a {key} of their own", 'leave it out')
  if config.samples is None:
    raise InputError('samples', None, 'not given', 'give the number of samples to generate, such as --samples=1000')
  generator = load_generator(config.generator)
  if config.layer is None:
    raise InputError(
      'layer', None, 'not given', f'give --layer, one of {", ".join(map(str, sorted(generator.layers)))}'
    )
  return GeneratorSource(
    generator,
    config.layer,
    config.samples,
    config.seed,
    labels.listed(parsed_labels(config.labels), config.samples),
    config.truncation,
    config.truncation_layers,
    config.batch,
    Path(config.generator).name,
  )


def divided(source: FeatureSource, config: Mapping[str, Any]) -> Features:
  """Divides samples into fitted and held-out ones.

  Args:
    source: as `source_of` gives it.
    config: `held_out` samples are the next ones of a generator. In a file they follow the first `samples`, or are the
      last ones if `samples` is not given. `half`: only the first or second half of the other samples is fitted.

  Raises:
    InputError: there are too few samples, or the maps in the second file have another size.
  """
  count, file, half = config['held_out'], config['held_out_features'], config['half']
  if half not in HALVES:
    raise InputError('half', half, 'unknown', f'give one of {", ".join(HALVES)}')
  if count < 0:
    raise InputError('held_out', count, 'negative', 'give 0 or more')
  held_out, N = None, source.samples
  if file is not None:
    with held_out_named(file):
      held_out = as_source(file, parsed_grid(config['grid']), count or None, config['layout'])
    found, wanted = ((*one.grid, one.channels) for one in (held_out, source))
    if found != wanted:
      text, other = ('x'.join(map(str, sizes)) for sizes in (found, wanted))
      raise InputError('held_out_features', file, f'its maps are {text}', f'give maps of {other}, as the fit has')
  elif count and source.kind == 'generator':
    held_out = source.window(N, N + count)
  elif count:
    whole = as_source(config['features'], parsed_grid(config['grid']), None, config['layout'])
    N = whole.samples - count if config['samples'] is None else N
    if N < 1 or N + count > whole.samples:
      problem = f'the file has {whole.samples} samples' + f', and {N} are fitted' * (N > 0)
      raise InputError('held_out', count, problem, 'give fewer, or --held_out_features=FILE.npy')
    source, held_out = whole.window(0, N), whole.window(N, N + count)
  if half != 'none':
    if N < 2:
      raise InputError('half', half, f'there is {N} sample', 'give at least two samples')
    source = source.window(0, N // 2) if half == 'first' else source.window(N // 2, N)
  return Features(source, held_out)


class Shelf:
  """The features of fits. Consecutive fits that share features use one shelf, which makes them once.

  Without `begin`, for a single fit, nothing is kept. The bits of features are the same in both cases.
  """

  def __init__(self) -> None:
    self.begin(())

  def begin(self, configs: Iterable[Mapping[str, Any]]) -> None:
    """Drops all features, and keeps those that these fits share; their features differ only in seed and half."""
    self._asked = {tuple(config[key] for key in OF_SAMPLES) for config in configs}
    self._sources: dict[tuple, FeatureSource] = {}
    self._features: dict[tuple, Features] = {}
    self._intakes: dict[tuple, Intake] = {}
    self._rows: dict[tuple, np.ndarray] = {}

  def features(self, config: ml_collections.ConfigDict) -> Features:
    """The fitted and held-out features of a fit.

    Raises:
      InputError: as of `source_of` and `divided`.
    """
    key = tuple(config[name] for name in OF_FEATURES)
    more = tuple(config[name] for name in ('seed', 'half', 'held_out', 'held_out_features'))
    if (key, more) not in self._features:
      if key not in self._sources:
        self._sources[key] = source_of(config)
      source = self._sources[key]
      if source.kind == 'generator' and source.seed != config.seed:
        source = limited(source, source.samples, seed=config.seed)  # reuses the compiled programs
        source.latents(np.arange(1))
      self._features[key, more] = divided(source, config)
    return self._features[key, more]

  def taken(self, source: FeatureSource, *given: Any, **more: Any) -> Intake:
    """As `intake.taken`; a file that fits into memory is read once."""
    key = id(source), *given
    if key in self._intakes:
      found = self._intakes[key]
      more['on_plan'](found.plan)
      return found
    found = intake.taken(source, *given, **more, hold=self._held)
    if self._asked and source.kind == 'file' and found.plan.needs['host'] <= found.plan.budget:
      found = dataclasses.replace(found, own=held_in_memory(found.own))
      self._intakes[key] = found
    return found

  def _held(self, own: Any, told: Callable[[int], None]) -> ArraySource:
    """Features of a generator in host memory; if fits overlap in seeds, a part of the features of all these seeds."""
    first, last = own.seed, own.seed + own.samples
    within = [(a, b) for a, b in self._ranges(own) if a <= first and last <= b]
    if not within or (within[0][1] - within[0][0]) * own.sample_bytes > free_host_bytes() // SHARE:
      return held_in_memory(own, told)
    (a, b), listed = within[0], b'' if own.labels is None else own.labels.tobytes()
    if (a, b, listed) not in self._rows:
      whole = limited(own, b - a, seed=a)
      self._rows[a, b, listed] = np.concatenate([*held_in_memory(whole, told).blocks(b - a)])
    return ArraySource.of_samples(self._rows[a, b, listed][first - a : last - a], own.grid)

  def _ranges(self, own: Any) -> list[tuple[int, int]]:
    """Ranges of seeds, each made at once.

    They are joined only on CPUs, where the bits of a sample do not depend on its place in a batch, and without labels.
    """
    windows = []
    for first, samples, held_out, file in self._asked:
      middle, half = first + samples, first + samples // 2
      last = middle + (held_out if file is None else 0)
      windows += [(first, last), (first, middle), (middle, last), (first, half), (half, middle)]
    if own.labels is not None or jax.default_backend() != 'cpu':
      return [window for window in windows if window == (own.seed, own.seed + own.samples)]
    joined: list[tuple[int, int]] = []
    for a, b in sorted(windows):
      if joined and a <= joined[-1][1]:
        joined[-1] = joined[-1][0], max(b, joined[-1][1])
      else:
        joined.append((a, b))
    return joined


def provenance_of(config: ml_collections.ConfigDict, source: FeatureSource) -> dict:
  """The factors' provenance of the features, without their hash."""
  if source.kind == 'generator':
    return {'layer': config.layer, 'generator': {'path': config.generator, **source.description()}}
  return {} if config.layer is None else {'layer': config.layer}
