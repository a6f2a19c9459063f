"""Measurements of actual edits: their pictures through the Editor, scores, realism, and the largest useful strength.

Letters: N samples, E edits, K strengths, (h, w) pixels, d dimensions of the space of realism.py.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.catalog.screening import SIZE
from panda_jax.editing.editor import AnyEdit, Editor, samples_of
from panda_jax.regions import metrics
from panda_jax.regions.realism import SMALLEST, Embedding, embedding, frechet_distance

LEVELS = 0.08, 0.16, 0.28, 0.45, 0.75  # predicted root mean square change of a part, at the strengths to try
LIMIT = 0.04  # of realism: edits farther from unedited images are not useful
FLAT = 0.3  # of the slope up to the first strength: if the change grows more slowly, more strength is not useful
REACHES = {
  'realism': 'more looks less real',
  'saturation': 'more changes little',
  'sweep': 'the strongest that was tried',
}


class Scores(NamedTuple):
  """Scores of an edit over samples, measured on pictures clipped to black and white.

  Attributes:
    change: root mean square change inside the part's region, where black to white is 2.
    locality: energy of the change inside the region, as a share of the whole.
    consistency: mean product of two samples' changes inside, as a share of their mean energy.
    realism: squared Frechet distance of the edited samples to the same unedited ones, see realism.py: 0 is as real;
      None where images are too small.
  """

  change: float
  locality: float
  consistency: float
  realism: float | None

  @property
  def score(self) -> float:
    """Edits are ranked by this: the change, reduced if it is not local or not alike in all samples."""
    return self.change * self.locality * max(self.consistency, 0.0)


class Turned(NamedTuple):
  """The largest useful strength of an edit.

  Attributes:
    alpha: this strength, positive.
    reach: what limits it, a key of `REACHES`.
  """

  alpha: float
  reach: str


@functools.partial(jax.jit, static_argnums=1)
def _seen(images, size):
  return jnp.clip(metrics.downsampled(images.astype(jnp.float32), size), -1, 1)


class Bench:
  """Samples to edit, all by one compiled call.

  Args:
    editor: of the generator; its batch is the number of images at a time.
    latents: of N samples.
    batch: images at a time.

  Attributes:
    samples: N.
    original: (N, h, w, channels) at the compared size, clipped.
  """

  def __init__(self, editor: Editor, latents, batch: int):
    self._editor, self._batch = editor, batch
    self.samples = len(jax.tree.leaves(latents)[0])
    numbers = -(-self.samples // batch) * batch
    index = np.minimum(np.arange(numbers), self.samples - 1)  # run_to is compiled for whole batches only
    parts = [samples_of(latents, index[first : first + batch]) for first in range(0, numbers, batch)]
    states = [editor.state(part) for part in parts]
    self._latents, self._state = (
      jax.tree.map(lambda *leaves: jnp.concatenate(leaves) if jnp.ndim(leaves[0]) else leaves[0], *trees)
      for trees in (parts, states)
    )
    self._nothing = None
    self.original: np.ndarray | Any = None  # until `start`

  def start(self, nothing: AnyEdit) -> 'Bench':
    """Computes the originals, by the same call as edits, with an edit that adds nothing."""
    (self.original,) = self.edited([nothing])
    return self

  def pictures(self, rows: Iterable[tuple[AnyEdit, int]]) -> Iterator[np.ndarray]:
    """Pictures (h, w, channels) of (edit, sample) at the compared size, clipped, in order."""
    rows, waiting = iter(rows), None
    while chunk := list(islice(rows, self._batch)):
      filled = chunk + chunk[-1:] * (self._batch - len(chunk))
      index = np.array([sample for _, sample in filled])
      latents, state = samples_of((self._latents, self._state), index)
      made = _seen(self._editor.resumed(latents, state, [edit for edit, _ in filled]), SIZE)
      if waiting is not None:  # copied while the device computes the next pictures
        yield from np.asarray(waiting[0])[: waiting[1]]
      waiting = made, len(chunk)
    if waiting is not None:
      yield from np.asarray(waiting[0])[: waiting[1]]

  def edited(self, edits: Sequence[AnyEdit]) -> np.ndarray:
    """(E, N, h, w, channels): every edit on every sample."""
    # Whole batches of each edit: the rounding of its pictures does not depend on other edits.
    numbers = np.minimum(np.arange(-(-self.samples // self._batch) * self._batch), self.samples - 1)
    pictures = np.stack(list(self.pictures((edit, i) for edit in edits for i in numbers)))
    return pictures.reshape(len(edits), len(numbers), *pictures.shape[1:])[:, : self.samples]


class Judge:
  """Scores of edited samples, against the unedited ones of a bench.

  Args:
    bench: that has the originals.
    space: of realism, or None.
  """

  def __init__(self, bench: Bench, space: Embedding | None):
    self._bench, self._space = bench, space
    self._rows = None if space is None else space(bench.original)

  def scores(self, edited: np.ndarray, region: np.ndarray) -> list[Scores]:
    """Scores of E edits with pictures (E, N, h, w, channels), at a region (h, w)."""
    distances = self._distances(edited)
    return [self._one(images, region, distance) for images, distance in zip(edited, distances, strict=True)]

  def _distances(self, edited: np.ndarray) -> list[float | None]:
    if self._space is None:
      return [None] * len(edited)
    rows = self._space(edited.reshape(-1, *edited.shape[2:])).reshape(*edited.shape[:2], -1)
    return [max(frechet_distance(self._rows, each), 0.0) for each in rows]

  def _one(self, images: np.ndarray, region: np.ndarray, distance: float | None) -> Scores:
    change = images - self._bench.original
    inside = change[:, region].reshape(len(change), -1).astype(np.float64)
    energy, whole = np.square(inside).sum(axis=1), np.square(change, dtype=np.float64).sum()
    N, total = len(inside), energy.sum()
    if total <= inside.size * metrics.LEAST_CHANGE**2:
      return Scores(0.0, 0.0, 0.0, distance)
    alike = (np.square(inside.sum(axis=0)).sum() - total) / (total * (N - 1)) if N > 1 else 1.0
    return Scores(float(np.sqrt(total / inside.size)), float(total / whole), float(alike), distance)


def space_of(images: np.ndarray) -> Embedding | None:
  """The space of realism of unedited images (N, h, w, channels); None for too small images."""
  dimensions = min(64, len(images) // 2)
  if min(images.shape[1:3]) < SMALLEST or dimensions < 2:
    return None
  return embedding(images, dimensions)


def turned_up(alphas: Sequence[float], scores: Sequence[Scores]) -> Turned:
  """The largest strength of a sweep at which edits are real enough and the change still grows; by interpolation.

  Args:
    alphas: (K,) positive, increasing.
    scores: at these strengths.
  """
  slopes = np.diff([0.0, *(s.change for s in scores)]) / np.diff([0.0, *alphas])
  before = 0.0, 0.0
  for k, (alpha, one) in enumerate(zip(alphas, scores, strict=True)):
    if one.realism is not None and one.realism > LIMIT:
      low, reached = before
      return Turned(low + (alpha - low) * (LIMIT - reached) / (one.realism - reached), 'realism')
    if k and slopes[k] < FLAT * slopes[0]:
      return Turned(before[0], 'saturation')
    before = alpha, one.realism or 0.0
  return Turned(float(alphas[-1]), 'sweep')


def promise(scores: Scores, growth: float) -> float:
  """The score at the largest useful strength, predicted from another strength.

  Changes grow with the strength, and distances of realism with its square.

  Args:
    scores: at the other strength.
    growth: of the strength, at most.
  """
  return scores.score * min(growth, (LIMIT / scores.realism) ** 0.5 if scores.realism else growth)


def at_strength(alpha: float, alphas: Sequence[float], scores: Sequence[Scores]) -> Scores:
  """Scores at a strength, linear between those of a sweep. At 0 change and realism are 0, the rest as at the first."""
  places = [0.0, *alphas]

  def between(name: str, start: float) -> float:
    return float(np.interp(alpha, places, [start, *(getattr(s, name) for s in scores)]))

  realism = None if scores[0].realism is None else between('realism', 0.0)
  first = scores[0]
  return Scores(
    between('change', 0.0), between('locality', first.locality), between('consistency', first.consistency), realism
  )
