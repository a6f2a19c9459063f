"""How edits of all kinds are measured in the same way: the samples, the matched strength, the choice, the numbers.

ROIR (PandA, ICLR 2023, Table 1) is the norm of an edit's change outside a region over that inside. It depends on
strength, so methods are compared at strengths with the same median change inside. Direction and sign are chosen on
held-out samples; the reported numbers are of test samples.
Letters: N samples, h, w image.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from panda_jax.editing.editor import Edit, Editor
from panda_jax.generators import seeds
from panda_jax.regions import metrics
from panda_jax.rivals.movement import Mover

KEPT_IMAGES = 1024  # larger sets of samples do not keep originals and states but compute them again


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
  """One edit that a method offers, to be applied at any strength.

  Attributes:
    label: for readers, such as 'direction 3'.
    edit: an edit of features with strength 1, or None.
    step: (d,), or None: the step of latents at strength 1.
    space, layers: the latents that the step moves.
    refined: if the edit's mask is refined for each sample, the number of the part and the factors.
  """

  label: str
  edit: Edit | None = None
  step: np.ndarray | None = None
  space: str = 'w'
  layers: tuple[int, ...] | None = None
  refined: Any = None


class Samples:
  """Seeds with their latents and unedited images, a batch at a time; the last batch is padded."""

  def __init__(self, generator, numbers: Sequence[int], batch: int, mapping: dict):
    self.generator, self.numbers = generator, np.asarray(numbers)
    self.size = min(batch, len(self.numbers))
    self._mapping, self._kept = mapping, {}

  def __len__(self) -> int:
    return len(self.numbers)

  def batches(self) -> Iterator[tuple[int, Any]]:
    """(index of the first sample, latents) of each batch."""
    for first in range(0, len(self), self.size):
      yield first, self._remembered(('latents', first), lambda first=first: self._latents(first))

  def _latents(self, first: int):
    index = np.minimum(first + np.arange(self.size), len(self) - 1)
    z = seeds.draws(self.generator, self.numbers[index].tolist())
    classes = getattr(self.generator, 'num_classes', 0)
    labels = self.numbers[index] % classes if classes else None
    return self.generator.map(z, labels, **self._mapping)

  def _remembered(self, key, make):
    if len(self) > KEPT_IMAGES:
      return make()
    if key not in self._kept:
      self._kept[key] = make()
    return self._kept[key]

  def state(self, first: int, latents, editor: Editor):
    return self._remembered(('state', first), lambda: editor.state(latents))

  def original(self, first: int, latents) -> jax.Array:
    return self._remembered(('original', first), lambda: self.generator(latents))

  def masks(self, first: int, candidate: Candidate, latents, editor: Editor) -> np.ndarray:
    """(size, S), the candidate's part refined for each sample of a batch."""
    from panda_jax.editing.masks import part_mask
    from panda_jax.editing.refine import refine

    part, factors = candidate.refined

    def make():
      features = np.asarray(self.state(first, latents, editor).features, np.float32)
      return refine(features, factors).parts

    parts = self._remembered(('refined', first), make)
    return part_mask(parts, part)


class Applier:
  """Edited images of any candidate, compiled once for each space."""

  def __init__(self, generator, layer: int | None, noise: str = 'const'):
    self.generator, self.noise = generator, noise
    self._layer = layer
    self._movers: dict[tuple, Mover] = {}
    self._editor: Editor | None = None

  @property
  def editor(self) -> Editor:
    if self._editor is None:
      self._editor = Editor(self.generator, self._layer, noise=self.noise)
    return self._editor

  def mover(self, candidate: Candidate) -> Mover:
    key = candidate.space, candidate.layers
    if key not in self._movers:
      self._movers[key] = Mover(self.generator, candidate.space, candidate.layers, self.noise)
    return self._movers[key]

  def images(self, samples: Samples, first: int, latents, candidate: Candidate, alpha: float) -> jax.Array:
    """Edited images (n, h, w, channels) of one batch."""
    if candidate.edit is None:
      return self.mover(candidate).images(latents, candidate.step, np.full(samples.size, alpha, np.float32))
    state = samples.state(first, latents, self.editor)
    edit = candidate.edit.replace(alpha=np.float32(alpha) * candidate.edit.alpha)
    if candidate.refined is not None:
      edit = edit.replace(mask=samples.masks(first, candidate, latents, self.editor))
    return self.editor.resumed(latents, state, edit)


class Change(NamedTuple):
  """The change of each sample by an edit: L2 norms over pixels and channels, (N,) each, and pixels times channels."""

  inside: np.ndarray
  outside: np.ndarray
  entries: float

  @property
  def rms(self) -> np.ndarray:
    """(N,), root mean square change inside the region."""
    return self.inside / np.sqrt(self.entries)

  @property
  def roir(self) -> np.ndarray:
    """(N,); NaN if nothing changes inside, or an image is not finite."""
    return metrics.ratio(self.inside, self.outside, self.entries)


class Bench:
  """Measures candidates on samples, for a region and a size of the compared images."""

  def __init__(self, applier: Applier, size: int):
    self.applier, self.size = applier, size

  def change(self, samples: Samples, candidate: Candidate, alpha: float, mask: np.ndarray) -> Change:
    """The change by a candidate at a strength; infinite or NaN if the strength is too large. mask is (h, w) bool."""
    found, channels = [], None
    for first, latents in samples.batches():
      original = samples.original(first, latents)
      edited = self.applier.images(samples, first, latents, candidate, alpha)
      found.append(metrics.norms(original, edited, mask, self.size))  # fetched after all batches are queued
      channels = original.shape[-1]
    inside, outside = (np.concatenate([np.asarray(x, np.float64) for x in norms]) for norms in zip(*found, strict=True))
    inside, outside = inside[: len(samples)], outside[: len(samples)]
    return Change(inside, outside, metrics.entries(mask, self.size) * channels)
