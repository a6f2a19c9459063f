"""Pictures of a choice, fast enough for sliders, and the possible edits of a part.

Letters: N samples, H, W grid, S positions, C channels, R_S parts; images are (h, w, channels) before clipping.
"""

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import jax
import numpy as np

from panda_jax.app.choices import MOST_TERMS, Choice, Key, Seed
from panda_jax.app.photographs import NOISE, Held, Photographs
from panda_jax.app.shelf import Shelf
from panda_jax.editing import masks
from panda_jax.editing.composition import composed, weight
from panda_jax.editing.editor import AnyEdit, Editor, compose, layer_rms
from panda_jax.editing.refine import refine
from panda_jax.editing.removal import clearing, remove
from panda_jax.editing.saliency import coordinates
from panda_jax.editing.zoo import CATALOG, NamedEdit, Spec, read_zoo
from panda_jax.errors import InputError
from panda_jax.generators.latent_files import Latents
from panda_jax.generators.spaces import shapes
from panda_jax.pictures.overlays import relative
from panda_jax.workdir.finished_fit import FinishedFit
from panda_jax.workdir.samples import Samples, features_of, fit_features

SHOWN = 8  # samples with which the page begins
KEPT = 32  # samples whose states and refined parts are kept
PROXIMAL = 0.03  # of refinement: keeps refined parts close to the global ones
UTMOST = 1.5  # times the largest strength: a removal may be stronger than other edits
FAR = 4.0  # times the standard deviation of a coordinate: the largest strength


def catalog_of(opened: FinishedFit) -> dict[str, NamedEdit]:
  """Entries of the catalog in the workdir that are of these factors; none if there is no catalog.

  Raises:
    InputError: the catalog cannot be read.
  """
  path = Path(opened.folder) / 'catalog' / CATALOG
  if not path.is_file():
    return {}
  return {name: entry for name, entry in read_zoo(path).items() if entry.factors == opened.digest_factors}


def truncation_of(opened: FinishedFit) -> float | None:
  """The fit's truncation if its generator has w+, so that samples of other truncations can be saved; else None."""
  return opened.truncation if 'wplus' in shapes(opened.needed_generator()) else None


class _Sample(NamedTuple):
  editor: Editor
  latents: Any
  state: Any  # at the layer
  original: np.ndarray  # (h, w, channels), the picture without edits
  inverted: np.ndarray | None = None  # the generator's picture, if the original is a photograph


class Engine:
  """Makes the pictures of a fit for all users. It keeps only results that follow from seeds, one compiled `Editor` for
  each kind of noise, and for a limited time the users' photographs.

  Samples are resumed one at a time, so that any number of seeds, and any edit of up to four terms, is one program.

  Args:
    opened: a fit with a generator.
    samples: what the seeds of a choice are: seeds, with these labels if any, or numbers of samples in a file.
    shelf: where photographs are held; its own if left out.

  Raises:
    InputError: the fit has no generator or no live part, or the samples do not suit it.
  """

  def __init__(self, opened: FinishedFit, samples: Samples | None = None, shelf: Shelf | None = None):
    self.opened, self.factors, self.samples = opened, opened.factors, samples or Samples()
    given = self.samples.given
    self.first_seed, self.most_seeds = (opened.seed, 2**32) if given is None else (0, len(given.array))
    (self.samples if given else self.samples.chosen(opened, [self.first_seed])).latents(opened)  # checks them
    self._editors: dict[str, Editor] = {}
    self.editor = self._editor(self.samples.noise)
    self.photographs = Photographs(opened, shelf or Shelf(), self.samples.labels if given is None else None)
    self.size, self.margin = opened.image_size(), opened.margin
    self.truncation = None if given is not None else truncation_of(opened)
    self.parts, self.appearances = self.factors.live_parts, self.factors.live_appearances
    if not self.parts or not self.appearances:
      raise InputError('workdir', opened.folder, 'its fit has no live part or appearance', 'fit again')
    self._relative = relative(self.factors.part_maps())  # (R_S, H, W)
    self._samples: OrderedDict[Hashable, _Sample] = OrderedDict()
    self._photographed: WeakKeyDictionary[Held, _Sample] = WeakKeyDictionary()
    self._refined: OrderedDict[Hashable, np.ndarray] = OrderedDict()
    self._results: OrderedDict[Hashable, Any] = OrderedDict()
    self._statistics: np.ndarray | None = None
    self._reaches: np.ndarray | None = None
    self._lock = threading.RLock()  # requests run in several threads

  def _remembered(self, store: OrderedDict, key: Hashable, make: Callable[[], Any]):
    if key not in store:
      store[key] = make()
      if len(store) > KEPT:
        store.popitem(last=False)
    store.move_to_end(key)
    return store[key]

  def remembered(self, key: Hashable, make: Callable[[], Any]):
    """The result of `make`, which depends on nothing else than the fit and the key. The last ones are kept."""
    with self._lock:
      found = self._results.get(key)
    if found is None:
      found = make()  # other users need not wait for it
    with self._lock:
      return self._remembered(self._results, key, lambda: found)

  def _editor(self, noise: str | None) -> Editor:
    noise = noise or 'const'
    if noise not in self._editors:
      self._editors[noise] = Editor(self.opened.needed_generator(), self.opened.layer, noise)
    return self._editors[noise]

  def chosen(self, keys: Sequence[Key]) -> Samples:
    """The samples of these keys, which are of one kind.

    Raises:
      InputError: there are none, the photograph is no longer held, or they cannot be truncated.
    """
    if isinstance(keys[0], str):
      return Samples(given=self.photographs.held(keys[0]))
    truncation, seeds = keys[0].truncation, [key.seed for key in keys]
    found = self.samples.chosen(self.opened, seeds)
    if truncation is None:
      return found
    if self.truncation is None:
      raise InputError('truncation', truncation, 'these samples have no truncation', 'load the page again')
    # w+ is linear in the truncation. Two values are enough; each further value would need another compilation.
    none, full = (np.asarray(self.opened.latents(seeds, found.labels, end).wplus, np.float32) for end in (0.0, 1.0))
    return Samples(given=Latents(none + np.float32(truncation) * (full - none), 'wplus'))

  def _sample(self, key: Key) -> _Sample:
    if isinstance(key, Seed):
      return self._remembered(self._samples, key, lambda: self._made(key))
    held = self.photographs.held(key)
    if held not in self._photographed:
      self._photographed[held] = self._made(key)
    return self._photographed[held]

  def _made(self, key: Key) -> _Sample:
    chosen = self.chosen([key])
    editor, latents = self._editor(chosen.noise), chosen.latents(self.opened)
    state = editor.state(latents)
    made = np.asarray(editor.resumed(latents, state, self._nothing())[0], np.float32)
    if chosen.photographs is None:
      return _Sample(editor, latents, state, made)
    return _Sample(editor, latents, state, chosen.photographs.inversion.photographs[0], made)

  def _parts_of(self, key: Key) -> np.ndarray:
    """Parts (S, R_S), refined for a sample."""

    def make():
      features = np.asarray(self._sample(key).state.features, np.float32)
      return refine(features, self.factors, proximal=PROXIMAL).parts[0]

    return self._remembered(self._refined, key, make)

  def _edit(self, terms: Sequence[Spec], parts: np.ndarray | None) -> AnyEdit:
    edits = [term.edit(self.factors, parts if term.part else None) for term in terms]
    return edits[0] if len(edits) == 1 else compose(edits)

  def originals(self, keys: Sequence[Key]) -> np.ndarray:
    """Pictures (N, h, w, channels) without edits."""
    with self._lock:
      return np.stack([self._sample(key).original for key in keys])

  def first(self, count: int) -> range:
    """The first `count` seeds, or all seeds if there are fewer."""
    return range(self.first_seed, min(self.first_seed + count, self.most_seeds))

  def typical(self) -> int:
    """The seed to begin with: among the first `SHOWN` the sample that is nearest to the mean at the layer.

    Of samples from a file it is the first.
    """
    if self.samples.given is not None:
      return self.first_seed
    seeds = self.first(SHOWN)
    with self._lock:
      made = [np.asarray(self._sample(Seed(seed)).state.features, np.float32)[0] for seed in seeds]
    mean = self.features().mean(axis=0)
    return seeds[int(np.argmin([np.square(Z - mean).sum() for Z in made]))]

  def names(self, keys: Sequence[Key]) -> list[str]:
    """Names of samples on the page."""
    shown = self.chosen(keys)
    if shown.photographs is not None:
      return list(shown.photographs.names)
    return [f'{"seed" if self.samples.given is None else "sample"} {key.seed}' for key in keys]

  def edited(self, choice: Choice, alphas: Sequence[float] | None = None) -> np.ndarray:
    """Edited pictures (N, h, w, channels), or (K, N, h, w, channels) with K strengths for the last term.

    Raises:
      InputError: an edit does not suit the factors, or it is so strong that its picture is not finite.
    """
    versions = [choice] if alphas is None else [choice.with_last(float(alpha)) for alpha in alphas]
    rows = []
    with self._lock:
      for key in choice.keys:
        sample, parts = self._sample(key), self._parts_of(key) if choice.refined else None
        row = [self._one(sample, version, parts) for version in versions]
        rows.append([_finite(np.asarray(picture, np.float32)) for picture in row])  # waits, after all have started
    stacked = np.stack([np.stack(row) for row in rows], axis=1)
    return stacked[0] if alphas is None else stacked

  def _one(self, sample: _Sample, choice: Choice, parts: np.ndarray | None):
    if not choice.acting:
      return sample.original
    picture, edit = self._resumed(sample, choice, parts)
    if sample.inverted is None:
      return picture
    return composed(sample.original, sample.inverted, np.asarray(picture, np.float32), self._weight(edit))

  def _resumed(self, sample: _Sample, choice: Choice, parts: np.ndarray | None) -> tuple[jax.Array, AnyEdit]:
    """The generator's picture with the edits of a choice."""
    edit = self._edit(choice.acting, parts)
    return sample.editor.resumed(sample.latents, sample.state, edit)[0], edit

  def _weight(self, edit: AnyEdit) -> np.ndarray:
    mask = np.max([np.abs(term.mask) for term in edit.terms], axis=0)
    return weight(mask, self.factors.grid, self.size, self.margin)

  def whole(self, choice: Choice) -> np.ndarray | None:
    """The whole photograph (H, W, 3) uint8 with the edits of a choice; None if the choice is not of one photograph.

    Raises:
      InputError: as of `edited`; its file cannot be read any more.
    """
    found = self.chosen(choice.keys).photographs
    if found is None or found.placements is None or len(found.names) != 1:
      return None
    photograph = found.photograph(0)
    if photograph is None or not choice.acting:
      return photograph
    with self._lock:
      (key,) = choice.keys
      sample, parts = self._sample(key), self._parts_of(key) if choice.refined else None
      made, edit = self._resumed(sample, choice, parts)
      difference = _finite(np.asarray(made, np.float32)) - sample.inverted
    return found.placements[0].added(photograph, difference, self._weight(edit))

  def variants(self, choice: Choice, terms: Sequence[Spec], at_once: int) -> np.ndarray:
    """Pictures (E, h, w, channels) of the first sample, each with one of E terms on top of the edits of a choice.

    Args:
      choice: with `MOST_TERMS` edits or fewer.
      terms: E edits to try.
      at_once: pictures of a call; terms are padded to a multiple of it, so that one program serves any number.

    Raises:
      InputError: as of `edited`.
    """
    key, count = choice.keys[0], -(-len(terms) // at_once) * at_once
    filled = [*terms, *[terms[-1]] * (count - len(terms))]
    with self._lock:
      sample, parts = self._sample(key), self._parts_of(key) if choice.refined else None
      edits = [self._edit((*choice.acting, term), parts) for term in filled]
      pictures = [
        sample.editor.variants(sample.latents, sample.state, edits[first : first + at_once])
        for first in range(0, count, at_once)
      ]
    found = _finite(np.concatenate(pictures)[: len(terms)])
    if sample.inverted is None:
      return found
    pairs = zip(found, edits[: len(terms)], strict=True)
    return np.stack([composed(sample.original, sample.inverted, made, self._weight(edit)) for made, edit in pairs])

  def regions(self, choice: Choice) -> np.ndarray:
    """Where the last term acts, (N, H, W), each divided by its maximum; zeros if there is no edit."""
    N, grid = len(choice.keys), self.factors.grid
    if not choice.terms:
      return np.zeros((N, *grid), np.float32)
    with self._lock:
      own = [self._parts_of(key) if choice.refined else None for key in choice.keys]
      found = [np.abs(np.asarray(self._edit([choice.terms[-1]], parts).mask)) for parts in own]
    return relative(np.stack(found).reshape(N, *grid))

  def maps(self, key: Key | None = None) -> np.ndarray:
    """Parts (R_S, H', W') on the cells inside the image, each divided by its maximum; with a key, refined parts."""
    maps = self._relative
    if key is not None:
      with self._lock:
        maps = relative(self._parts_of(key).T.reshape(-1, *self.factors.grid))
    (rows, columns), (H, W) = np.broadcast_to(self.margin, 2).tolist(), self.factors.grid
    return maps[:, rows : H - rows, columns : W - columns]

  def read_mask(self, content: bytes) -> np.ndarray:
    """A mask (S,) from the bytes of a PNG, see `masks.mask_of_png`.

    Raises:
      InputError: it is not a PNG, has another size, or is black.
    """
    return masks.mask_of_png(content, 'mask.png', self.factors.grid, self.size, self.margin)

  def features(self) -> np.ndarray:
    """(n, H, W, C) of the first samples of the fit."""
    with self._lock:
      if self._statistics is None:
        self._statistics = fit_features(self.opened)
      return self._statistics

  def reaches(self) -> np.ndarray:
    """The largest strength of each appearance (R_C,): `FAR` times its coordinate's deviation on samples of the fit."""
    with self._lock:
      if self._reaches is None:
        latents = self.opened.latents(range(self.opened.seed, self.opened.seed + 16))
        features = features_of(self.opened, latents, 16)
        found = coordinates(features, self.factors, self.appearances)
        found = found - found.mean(axis=(0, 1, 2), keepdims=True)
        lengths = np.full(self.factors.appearances.shape[1], layer_rms(features), np.float32)
        lengths[self.appearances] = found.std(axis=(0, 1, 2)) / np.linalg.norm(
          self.factors.appearances[:, self.appearances], axis=0
        )
        self._reaches = np.array([rounded_up(max(FAR * float(length), 1e-6)) for length in lengths])
      return self._reaches

  def removal(self, place: Spec, choice: Choice) -> Spec:
    """The edit that removes a place from the first sample of a choice, see `removal.clearing`; at most with `UTMOST`
    times the largest strength of its appearance, unless the `remove` command takes more.

    Args:
      place: its part or mask is what is removed.
      choice: the sample in view, and whether parts are refined; other edits do not count.

    Raises:
      InputError: the place cannot be removed.
    """
    drawn = None if place.mask is None else np.asarray(place.mask, np.float32)
    found = remove(self.features(), self.factors, place.part or None, margin=self.margin, drawn=drawn)
    key, most = choice.keys[0], UTMOST * float(self.reaches()[found.appearance])
    with self._lock:
      features = np.asarray(self._sample(key).state.features, np.float32)
      parts = self._parts_of(key) if choice.refined else None
    mask = place.edit(self.factors, parts if place.part else None).mask
    (alpha,) = clearing(found, features, self.factors, most, mask)
    return dataclasses.replace(place, appearance=found.appearance, alpha=float(f'{alpha:.6g}'))

  def catalog(self) -> dict[str, NamedEdit]:
    """See `catalog_of`."""
    return catalog_of(self.opened)

  def terms_of(self, entry: NamedEdit) -> tuple[Spec, ...]:
    """The edits of an entry with one strength each, in feature units; of a sweep, the strength farthest from 0."""
    terms = []
    for term in entry.terms:
      alpha = float(max(np.atleast_1d(term.alpha), key=abs))
      if term.alpha_unit == 'rms':
        alpha *= layer_rms(self.features()) if term.rms is None else term.rms
      terms.append(dataclasses.replace(term, alpha=alpha, alpha_unit='feature', rms=None))
    return tuple(terms)

  def warm(self) -> None:
    """Compiles what the first edits need, and computes the statistics for them."""
    first = Choice((self.first_seed,), (Spec((self.parts[0],), self.appearances[0], 1.0),))
    jax.block_until_ready(self.edited(first))
    self.reaches()
    self.removal(first.terms[0], first)

  def warmer(self) -> Iterator[None]:
    """Compiles what is needed later, one step at a time. Users do not wait for it: it holds no lock."""
    with self._lock:
      sample = self._sample(Seed(self.first_seed))
    yield
    refine(np.asarray(sample.state.features, np.float32), self.factors, proximal=PROXIMAL)
    yield
    term = Spec((self.parts[0],), self.appearances[0], 1.0).edit(self.factors)
    jax.block_until_ready(sample.editor.resumed(sample.latents, sample.state, compose([term] * MOST_TERMS)))

  def prepare(self) -> None:
    """Compiles what the first photograph needs.

    Raises:
      InputError: photographs cannot be inverted with this generator.
    """
    self.photographs.prepare()
    with self._lock:
      editor, latents = self._editor(NOISE), self.opened.latents([self.opened.seed])
      jax.block_until_ready(editor.resumed(latents, editor.state(latents), self._nothing()))

  def _nothing(self) -> AnyEdit:
    return Spec((self.parts[0],), self.appearances[0], 0.0).edit(self.factors)


def _finite(picture: np.ndarray) -> np.ndarray:
  if not np.isfinite(picture).all():
    raise InputError('alpha', None, 'an edit this strong gives no finite picture', 'move the slider towards 0')
  return picture


def rounded_up(value: float) -> float:
  """The next number of the form 1, 2, 3, 4, 5, 6 or 8 times a power of ten."""
  unit = 10.0 ** np.floor(np.log10(value))
  return float(next(step * unit for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * unit >= value * (1 - 1e-6)))
