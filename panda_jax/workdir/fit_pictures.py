"""The choice of the pictures of a fit. The package pictures/ draws them."""

from concurrent.futures import Executor
from pathlib import Path

import numpy as np

from panda_jax.editing import saliency
from panda_jax.pictures import figures, maps, overlays, parts
from panda_jax.solver.fit import FitResult


def draw_fit(workdir: Path, result: FitResult, source, other: Executor) -> np.ndarray | None:
  """Draws all pictures of a fit: plots in another thread, pages of tiles meanwhile in this one.

  Args:
    workdir: where they are written.
    result: of the fit.
    source: of the features; a generator has samples to draw on.
    other: the other thread.

  Returns:
    The feature maps of the first samples (n, H, W, C) of a generator.
  """
  plots = other.submit(draw_plots, workdir, result)
  parts.draw_parts(workdir / 'parts.png', result.factors.parts, result.factors.grid, result.part_energy)
  features = draw_on_samples(workdir, result, source) if source.kind == 'generator' else None
  plots.result()
  return features


def draw_plots(workdir: Path, result: FitResult) -> None:
  """Draws convergence.png and spectrum.png."""
  figures.draw_convergence(workdir / 'convergence.png', result.history)
  figures.draw_spectrum(workdir / 'spectrum.png', result.appearance_energy, result.eigenvalues)


def draw_on_samples(workdir: Path, result: FitResult, source) -> np.ndarray:
  """Draws overlay.png and saliency.png: parts and appearances on the first samples of a generator.

  Returns:
    The feature maps of these samples (n, H, W, C).
  """
  count = min(overlays.SAMPLES, source.samples)
  latents = source.latents(np.arange(count))
  state = source.generator.run_to(latents, source.layer)
  images = np.asarray(source.generator.run_from(latents, state, source.layer), np.float32)
  factors, margin = result.factors, getattr(source.generator, 'margins', {}).get(source.layer, 0)
  features = np.asarray(state.features, np.float32)
  overlays.draw_overlay(workdir / 'overlay.png', images, factors.parts, factors.grid, margin)
  chosen = range(min(maps.MOST_MAPS, factors.appearances.shape[1]))
  values = saliency.coordinates(features, factors, chosen)
  maps.draw_saliency(
    workdir / 'saliency.png',
    images,
    values,
    thresholds=values.mean(axis=(0, 1, 2)),
    labels=[f'appearance {j}' for j in chosen],
    names=[f'seed {source.seed + i}' for i in range(count)],
    margin=margin,
    title=saliency.title('the first appearances', 'the mean over these samples'),
  )
  return features
