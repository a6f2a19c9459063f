"""The samples of results: from seeds, from a file of latents, or given feature maps.

Letters: N samples, H, W grid, C channels, (h, w) pixels.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from panda_jax.editing.editor import BATCH_PIXELS, Editor, samples_of
from panda_jax.errors import InputError
from panda_jax.features.sources import as_source
from panda_jax.generators.latent_files import Latents
from panda_jax.generators.protocol import driving
from panda_jax.inversion.files import Inverted
from panda_jax.pictures import maps
from panda_jax.workdir import EDIT_STATISTICS
from panda_jax.workdir.finished_fit import FinishedFit
from panda_jax.workdir.records import sha256

SHOWN = maps.MOST_SAMPLES  # samples on the pictures
FEATURES_BATCH = 16  # samples at a time
BATCH = 8
GREY = 64  # least side in pixels of a grey picture in place of a missing image


@dataclasses.dataclass(frozen=True)
class Samples:
  """The samples to edit: from seeds, from a file of z, w or w+, or inverted photographs.

  Attributes:
    seeds, given: one of the two.
    labels: as of `FinishedFit.labels_of`.
  """

  seeds: tuple[int, ...] | None = None
  given: Latents | Inverted | None = None
  labels: np.ndarray | None = None

  @property
  def photographs(self) -> Inverted | None:
    """The photographs, if the samples are inverted photographs."""
    return self.given if isinstance(self.given, Inverted) else None

  @property
  def noise(self) -> str | None:
    """The noise of the inversion of photographs; None for other samples."""
    return self.given.inversion.noise if isinstance(self.given, Inverted) else None

  def latents(self, opened: FinishedFit):
    """The latents for the generator of a fit.

    Raises:
      InputError: they do not fit the generator, or their features were inverted at another layer.
    """
    if self.given is None:
      return opened.latents(self.seeds, self.labels)
    if isinstance(self.given, Inverted):
      found = self.given.inversion
      if found.layer not in (None, opened.layer):
        problem = f'they hold features at layer {found.layer}, and this fit is of layer {opened.layer}'
        raise InputError('latents', self.given.folder, problem, f'invert again with --layer={opened.layer}')
      return found.latents(opened.needed_generator())
    return opened.mapped(self.given.array, self._classes(opened), self.given.space)

  def _classes(self, opened: FinishedFit) -> np.ndarray | None:
    """Labels of all samples in a file of latents."""
    array, space = cast(Latents, self.given)
    if space != 'z':
      return self.labels  # w and w+ contain the class and need no labels
    return opened.labels_of(opened.seed + np.arange(len(array)), self.labels, 'samples')

  def chosen(self, opened: FinishedFit, numbers: Sequence[int]) -> 'Samples':
    """Samples of other seeds, with the same labels; or the samples with these numbers in the file.

    Raises:
      InputError: the file holds fewer samples.
    """
    if self.given is None:
      return dataclasses.replace(self, seeds=tuple(numbers))
    array, space = self.given.array, self.given.space
    for number in numbers:
      if not 0 <= number < len(array):
        problem = f'the file of latents holds {len(array)} samples'
        raise InputError('seeds', number, problem, f'give numbers from 0 to {len(array) - 1}')
    if isinstance(self.given, Inverted):
      return Samples(given=self.given.chosen(numbers))
    labels, rows = self._classes(opened), list(numbers)
    return Samples(given=Latents(array[rows], space), labels=None if labels is None else labels[rows])

  def names(self) -> list[str]:
    if self.given is None:
      return [f'seed {t}' for t in self.seeds]
    if isinstance(self.given, Inverted):
      return [*self.given.names]
    return [f'sample {i}' for i in range(len(self.given.array))]

  def record(self) -> dict[str, Any]:
    """JSON values that identify these samples."""
    record = {'seeds': None if self.seeds is None else list(self.seeds)}
    arrays = {'labels': self.labels} | ({} if self.given is None else {self.given.space: self.given.array})
    if isinstance(self.given, Inverted):
      arrays |= {name: getattr(self.given.inversion, name) for name in ('photographs', 'features', 'rgb')}
    return record | {name: sha256(array) for name, array in arrays.items() if array is not None}


def check_finite(images: np.ndarray, names: Sequence[str]) -> None:
  """Raises InputError, which names the first sample whose images, (N, ...), are not finite."""
  finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
  if not finite.all():
    remedy = 'give smaller latents, features or strengths, such as the generator itself has'
    raise InputError('images', names[int(np.argmin(finite))], 'they have NaN or infinity', remedy)


def fit_features(opened: FinishedFit, count: int = EDIT_STATISTICS) -> np.ndarray:
  """Features (n, H, W, C) of the first samples of the fit, at most `count`, not centred."""
  recorded = opened.factors.provenance.get('samples')
  count = min(count, recorded) if isinstance(recorded, int) else count
  return features_of(opened, opened.latents(range(opened.seed, opened.seed + count)), count)


def features_of(opened: FinishedFit, latents, count: int, noise: str = 'const') -> np.ndarray:
  """Features (count, H, W, C) at the layer."""
  editor = Editor(opened.needed_generator(), opened.layer, noise)
  batch, found = min(FEATURES_BATCH, count), []
  for first in range(0, count, batch):
    rows = np.minimum(first + np.arange(batch), count - 1)  # one program serves the last batch too
    state = editor.state(samples_of(latents, rows))
    found.append(np.asarray(state.features, np.float32)[: count - first])
  return np.concatenate(found)


class Batch(NamedTuple):
  features: np.ndarray  # (n, H, W, C)
  images: np.ndarray | None  # (n, h, w, channels), not clipped; None if not requested or not possible


class Given:
  """Features to explain: of samples of the fit's generator, or from a file or an array.

  Args:
    opened: the fit.
    samples: of its generator.
    features: in their place, a source for `sources.as_source`; None for the file of the fit, if it has one.
    layout: of the features, as of `sources.as_source`; that of the fit if left out.

  Attributes:
    names: of the samples.
    size: (h, w) of their images, or None without images.

  Raises:
    InputError: there is neither a generator nor features, or they do not fit the factors.
  """

  def __init__(self, opened: FinishedFit, samples: Samples | None = None, features=None, layout: str | None = None):
    self.opened, self._samples, self._source = opened, samples, None
    if features is None and opened.generator is None:
      features, layout = opened.config.get('features'), opened.config.get('layout')
      if samples is not None or features is None:
        opened.needed_generator()
    if features is not None:
      self._source = _source(opened, features, layout)
      self.names = [f'sample {i}' for i in range(self._source.samples)]
    else:
      self._samples = samples or Samples(first_seeds(opened))
      self.names = self._samples.names()
      self._noise = self._samples.noise or opened.noise
      self._editor = Editor(opened.needed_generator(), opened.layer, self._noise)
      self._latents = self._samples.latents(opened)  # latents that do not fit raise before anything is written
    self.size = None if self._source else opened.image_size()
    self.margin = 0 if self._source else opened.margin

  def record(self) -> dict[str, Any]:
    """JSON values that identify these samples."""
    if self._source is None:
      return self._samples.record()
    return {'features': self._source.name(), 'sha256': self._source.digest().hexdigest()}

  def batches(self, name: str, on_samples: Callable[[str, int], None], images: int = 0) -> Iterator[Batch]:
    """Features of all samples in order; with images of the first `images` samples or a few more."""
    if self._source is not None:
      done = 0
      for block in self._source.blocks(BATCH):
        done += len(block)
        yield Batch(np.asarray(block, np.float32).reshape(-1, *self._source.grid, self._source.channels), None)
        on_samples(name, done)
      return
    N = len(self.names)
    size = max(1, min(BATCH, N, BATCH_PIXELS // (self.size[0] * self.size[1])))
    for first in range(0, N, size):
      rows = np.minimum(first + np.arange(size), N - 1)  # the last batch is padded: one program serves all
      chosen = samples_of(self._latents, rows)
      state, made = self._editor.state(chosen), None
      if first < images:
        made = self.opened.generator.run_from(driving(chosen), state, self.opened.layer, noise=self._noise)
        made = np.asarray(made, np.float32)[: N - first]
      yield Batch(np.asarray(state.features, np.float32)[: N - first], made)
      on_samples(name, min(first + size, N))


def first_seeds(opened: FinishedFit) -> tuple[int, ...]:
  """The seeds of the samples that are shown by default."""
  return tuple(range(opened.seed, opened.seed + SHOWN))


def _source(opened: FinishedFit, features, layout: str | None):
  (H, W), C = opened.factors.grid, opened.factors.appearances.shape[0]
  try:
    source = as_source(features, (H, W), layout=layout)
    problem = None if source.channels == C else f'they have {source.channels} channels'
  except InputError as error:
    if error.argument != 'grid':
      raise
    problem = error.problem
  if problem:
    name = features if isinstance(features, str | os.PathLike) else type(features).__name__
    raise InputError('features', name, f'they do not fit the factors: {problem}', f'give (N, {H}, {W}, {C})')
  return source


def blank(given: Given, count: int) -> np.ndarray:
  """Grey pictures (count, h, w, 1) in place of images, if only features are given."""
  H, W = given.opened.factors.grid
  times = -(-GREY // min(H, W))
  return np.zeros((count, H * times, W * times, 1), np.float32)
