"""The choice of the pictures of a fit. The package pictures/ draws them."""

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import NamedTuple

import numpy as np

from panda_jax.editing import saliency
from panda_jax.pictures import figures, maps, overlays, parts
from panda_jax.runtime import processes
from panda_jax.solver.fit import FitResult

SMALL = 256  # pixels of an image's longer side: a few such images fit beside the features of a fit


class Shown(NamedTuple):
  """The first samples of a generator: images (n, h, w, channels) and features (n, H, W, C)."""

  images: np.ndarray
  features: np.ndarray


class Pictures:
  """The pictures of a fit. A thread does what does not need its result while the fit runs, and plots at the end.

  Args:
    source: of the features; a generator has samples to draw on.
    thread: that other thread.
  """

  def __init__(self, source, thread: Executor):
    self._source, self._thread = source, thread
    self._shown: Future[Shown] | None = None

  def prepare(self) -> None:
    """Begins the imports, and the images of the first samples if they are small."""
    self._thread.submit(figures.load)
    # A user's generator may do anything, and programs of several processes wait for each other.
    ours = self._source.kind == 'generator' and self._source.defined and not processes.several()
    if ours and self._source.generator.resolution <= SMALL:
      self._shown = self._thread.submit(first_samples, self._source)

  def draw(self, workdir: Path, result: FitResult) -> np.ndarray | None:
    """Draws all pictures, plots in the other thread.

    Returns:
      The feature maps of the first samples (n, H, W, C) of a generator.
    """
    plots = self._thread.submit(draw_plots, workdir, result)
    parts.draw_parts(workdir / 'parts.png', result.factors.parts, result.factors.grid, result.part_energy)
    features = None
    if self._source.kind == 'generator':
      shown = first_samples(self._source) if self._shown is None else self._shown.result()
      draw_on_samples(workdir, result, self._source, shown)
      features = shown.features
    plots.result()
    return features


def first_samples(source) -> Shown:
  """The first samples of a generator."""
  latents = source.latents(np.arange(min(overlays.SAMPLES, source.samples)))
  state = source.generator.run_to(latents, source.layer)
  images = np.asarray(source.generator.run_from(latents, state, source.layer), np.float32)
  return Shown(images, np.asarray(state.features, np.float32))


def draw_plots(workdir: Path, result: FitResult) -> None:
  """Draws convergence.png and spectrum.png."""
  figures.draw_convergence(workdir / 'convergence.png', result.history)
  figures.draw_spectrum(workdir / 'spectrum.png', result.appearance_energy, result.eigenvalues)


def draw_on_samples(workdir: Path, result: FitResult, source, shown: Shown) -> None:
  """Draws overlay.png and saliency.png: parts and appearances on samples."""
  factors, margin = result.factors, getattr(source.generator, 'margins', {}).get(source.layer, 0)
  overlays.draw_overlay(workdir / 'overlay.png', shown.images, factors.parts, factors.grid, margin)
  chosen = range(min(maps.MOST_MAPS, factors.appearances.shape[1]))
  values = saliency.coordinates(shown.features, factors, chosen)
  maps.draw_saliency(
    workdir / 'saliency.png',
    shown.images,
    values,
    thresholds=values.mean(axis=(0, 1, 2)),
    labels=[f'appearance {j}' for j in chosen],
    names=[f'seed {source.seed + i}' for i in range(len(shown.images))],
    margin=margin,
    title=saliency.title('the first appearances', 'the mean over these samples'),
  )
