"""From all pairs of parts and appearances to a short list of edits that differ: screened, measured, thinned, judged.

Four disjoint sets of samples after those of the fit: pairs are screened on the first, strengths set and edits chosen on
the second, shown scores and pictures are of the third, and the fourth spans the space in which realism is told.
Letters: N samples, R_S parts, R_C appearances, (h, w) pixels.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from panda_jax.catalog import measurement, names
from panda_jax.catalog.measurement import Bench, Judge, Scores, Turned
from panda_jax.catalog.screening import SEED, Screened, part_regions, screen
from panda_jax.editing.editor import BATCH_PIXELS, MOST_IMAGES, Editor
from panda_jax.editing.edits import Edit, make_edit
from panda_jax.errors import InputError
from panda_jax.regions.metrics import LEAST_CHANGE, area_weights
from panda_jax.runtime.progress import narrated
from panda_jax.workdir.finished_fit import FinishedFit

SIMILAR = 0.7  # cosine of two edits' changes, from which on they are the same edit to look at
MAP, MAPPED = 16, 8  # changes are compared on a grid of so many cells a side, of so many samples
AT_ONCE = 8  # edits whose pictures are held at once
SHOWN, FRAMES = 3, 9  # samples whose pictures are kept, and strengths from 0 to the edit's own


@dataclasses.dataclass(frozen=True)
class Settings:
  """How much is looked at.

  Attributes:
    screened, measured, heldout, unedited: samples of each set, see the module.
    pairs: of a part that are measured, with both signs.
    top: edits of a part, at most.
    random: pairs of a part drawn at random, for comparison.
  """

  screened: int = 48
  measured: int = 16
  heldout: int = 32
  unedited: int = 256
  pairs: int = 20
  top: int = 10
  random: int = 3

  def __post_init__(self):
    least = {'screened': 4, 'measured': 4, 'heldout': 4, 'unedited': 4, 'pairs': 1, 'top': 1, 'random': 1}
    for name, number in least.items():
      if getattr(self, name) < number:
        raise InputError(name, getattr(self, name), 'too few to say anything', f'give {number} or more')


DEFAULTS = Settings()


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
  """A pair with a sign, measured.

  Attributes:
    part, appearance, sign: 0-based indices; 1 or -1.
    turned: how far it can be turned up.
    measured: scores there, of the samples that the strength was set on.
    map: its change on some samples, coarse, of unit length.
    heldout: scores of other samples.
    frames: (FRAMES, SHOWN, h, w, channels) of other samples, strength from 0 to its own; None until they are made.
    effects: on measures of the region, of the same samples, see names.py.
    title: what it is called in words; empty until it is known.
  """

  part: int
  appearance: int
  sign: int
  turned: Turned
  measured: Scores
  map: np.ndarray
  heldout: Scores | None = None
  frames: np.ndarray | None = None
  effects: Mapping[str, float] | None = None
  title: str = ''

  @property
  def alpha(self) -> float:
    """With its sign, to three digits."""
    return float(f'{self.sign * self.turned.alpha:.3g}')

  @property
  def name(self) -> str:
    return f'part {self.part} · appearance {self.appearance} · {"+" if self.sign > 0 else "-"}'


@dataclasses.dataclass(frozen=True)
class Found:
  """What a catalog is made of.

  Attributes:
    screened: all pairs.
    edits: the catalog, grouped by part, the best on held-out samples first.
    random: edits by pairs drawn at random, grouped by part.
    seeds: {set: (first, number)}.
    regions: (R_S, h, w) bool.
    places: where each part is, in words.
    original: (SHOWN, h, w, channels).
    shown: seeds of these.
    measured: how many edits were measured.
    compilations: of the resume.
  """

  screened: Screened
  edits: list[Candidate]
  random: list[Candidate]
  seeds: dict[str, tuple[int, int]]
  regions: np.ndarray
  places: list[str]
  original: np.ndarray
  shown: list[int]
  measured: int
  compilations: int


def sample_sets(opened: FinishedFit, settings: Settings) -> dict[str, range]:
  """Seeds of each set: those that follow the samples of the fit."""
  count = opened.factors.provenance.get('samples')
  first, found = opened.seed + (count if isinstance(count, int) else 0), {}
  for name in ('screened', 'measured', 'heldout', 'unedited'):
    found[name] = range(first, first + getattr(settings, name))
    first = found[name].stop
  return found


def coarse(change: np.ndarray) -> np.ndarray:
  """Changes (N, h, w, channels) averaged over a coarse grid, as one vector of unit length."""
  rows, columns = (area_weights(n, min(n, MAP)) for n in change.shape[1:3])
  found = np.einsum('rh,nhwc,sw->nrsc', rows, change, columns, optimize=True).ravel()
  length = np.linalg.norm(found)
  return found / length if length > 0 else found


def diverse(candidates: Sequence[Candidate], top: int, similar: float = SIMILAR) -> list[Candidate]:
  """The best candidates that change something, at most `top` of each part, and none as a better one does."""
  kept: list[Candidate] = []
  for one in sorted(candidates, key=lambda c: -c.measured.score):
    nothing = one.measured.change <= LEAST_CHANGE or not one.measured.score > 0
    if nothing or sum(other.part == one.part for other in kept) >= top:
      continue
    if not kept or max(float(one.map @ other.map) for other in kept) < similar:
      kept.append(one)
  return kept


class _Sweep(NamedTuple):
  """An edit at growing strengths: (alpha, scores, map) of each."""

  appearance: int
  sign: int
  steps: list[tuple[float, Scores, np.ndarray]]

  def turned(self) -> Turned:
    return measurement.turned_up([alpha for alpha, *_ in self.steps], [scores for _, scores, _ in self.steps])

  def ended(self) -> bool:
    return bool(self.steps) and self.turned().reach != 'sweep'

  def candidate(self, part: int) -> Candidate:
    alphas, scores, maps = zip(*self.steps, strict=True)
    turned = self.turned()
    nearest = int(np.argmin(np.abs(np.array(alphas) - turned.alpha)))
    at_best = measurement.at_strength(turned.alpha, alphas, scores)
    return Candidate(part, self.appearance, self.sign, turned, at_best, maps[nearest])


class Finder:
  """What all pairs are measured with: one Editor, samples, and the space of realism.

  Args:
    opened: a fit with a generator.
    settings: see there.
    sets: seeds of each set.
  """

  def __init__(self, opened: FinishedFit, settings: Settings, sets: dict[str, range]):
    self._opened, self._settings, self._sets = opened, settings, sets
    self.editor = Editor(opened.needed_generator(), opened.layer, opened.noise)
    size = opened.image_size()
    assert size is not None  # there is a generator
    self._batch = max(1, min(MOST_IMAGES, BATCH_PIXELS // (size[0] * size[1])))
    self.regions = part_regions(opened.factors, size, opened.margin)
    known = names.known_places(opened.description(), size)
    cores = part_regions(opened.factors, size, opened.margin, names.CORE)
    self.places = [names.where(core, known) if core.any() else '' for core in cores]
    unedited = [
      self.bench(sets['unedited'][first : first + self._batch]).original
      for first in range(0, len(sets['unedited']), self._batch)
    ]
    self.space = measurement.space_of(np.concatenate(unedited))
    self._bench = self.bench(sets['measured'])
    self._judge = Judge(self._bench, self.space)

  def bench(self, seeds: range) -> Bench:
    factors = self._opened.factors
    S, C = factors.parts.shape[0], factors.appearances.shape[0]
    nothing = Edit(np.zeros(C, np.float32), np.zeros(S, np.float32), np.float32(0))
    return Bench(self.editor, self._opened.latents(seeds), self._batch).start(nothing)

  def measured(self, part: int, appearances: Sequence[int], strengths: Sequence[float] | np.ndarray) -> list[Candidate]:
    """Both signs of pairs, strength by strength until more is of no use; `strengths` are changes per alpha."""
    sweeps = [_Sweep(appearance, sign, []) for appearance in appearances for sign in (1, -1)]
    scale = {appearance: 1 / strength for appearance, strength in zip(appearances, strengths, strict=True)}
    edits = {appearance: make_edit(self._opened.factors, part, appearance) for appearance in appearances}
    for level in measurement.LEVELS:
      going = [sweep for sweep in sweeps if not sweep.ended()]
      for first in range(0, len(going), AT_ONCE):
        some = going[first : first + AT_ONCE]
        alphas = [level * scale[sweep.appearance] for sweep in some]
        edited = self._bench.edited(
          [
            edits[sweep.appearance].replace(alpha=np.float32(sweep.sign * alpha))
            for sweep, alpha in zip(some, alphas, strict=True)
          ]
        )
        scores = self._judge.scores(edited, self.regions[part])
        for sweep, alpha, images, one in zip(some, alphas, edited, scores, strict=True):
          sweep.steps.append((alpha, one, coarse(images[:MAPPED] - self._bench.original[:MAPPED])))
    return [sweep.candidate(part) for sweep in sweeps]

  def judged(self, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same with held-out scores and frames."""
    bench = self.bench(self._sets['heldout'])
    judge, shown = Judge(bench, self.space), min(SHOWN, bench.samples)

    def rows():
      for one in candidates:
        edit = make_edit(self._opened.factors, one.part, one.appearance, one.alpha)
        yield from ((edit, i) for i in range(bench.samples))
        for f in range(1, FRAMES - 1):
          weaker = edit.replace(alpha=np.float32(one.alpha * f / (FRAMES - 1)))
          yield from ((weaker, i) for i in range(shown))

    pictures, found = bench.pictures(rows()), []
    for one in candidates:
      full = np.stack(list(islice(pictures, bench.samples)))
      between = np.stack(list(islice(pictures, (FRAMES - 2) * shown))).reshape(FRAMES - 2, shown, *full.shape[1:])
      frames = np.concatenate([bench.original[None, :shown], between, full[None, :shown]])
      region = self.regions[one.part]
      (scores,) = judge.scores(full[None], region)
      effects = names.effects(bench.original, full, region)
      found.append(dataclasses.replace(one, heldout=scores, frames=frames, effects=effects))
    return found


def find(
  opened: FinishedFit,
  settings: Settings = DEFAULTS,
  on_progress: Callable[[str], None] | None = None,
  *,
  progress: bool | None = None,
) -> Found:
  """Looks through all pairs of a fit for edits that are worth seeing.

  Args:
    opened: a fit with a generator that JAX can differentiate.
    settings: how much is looked at.
    on_progress: told what is being done.
    progress: show it; if left out, in notebooks only, and not where `on_progress` is given.

  Raises:
    InputError: there is no generator, it cannot be differentiated, or no part is alive.
    NonFiniteError: features, images or derivatives are not finite.
  """
  with narrated(progress, on_progress) as tell:
    return _found(opened, settings, tell)


def _found(opened: FinishedFit, settings: Settings, on_progress: Callable[[str], None]) -> Found:
  factors, sets = opened.factors, sample_sets(opened, settings)
  live = factors.live_parts
  if not live or not factors.live_appearances:
    raise InputError(
      'workdir', opened.folder, 'all parts or all appearances are dead', 'run the fit with other settings'
    )
  pairs = factors.parts.shape[1] * factors.appearances.shape[1]
  on_progress(f'screening {pairs} pairs on {settings.screened} samples')
  screened = screen(opened, opened.latents(sets['screened']))
  on_progress('making unedited images')
  finder = Finder(opened, settings, sets)

  rng = np.random.default_rng(SEED)
  candidates: list[Candidate] = []
  drawn: list[Candidate] = []
  for number, part in enumerate(live):
    on_progress(f'measuring edits of part {part}, {number + 1} of {len(live)}')
    best = screened.best(part, settings.pairs)
    candidates += finder.measured(part, best, screened.strength[part, best])
    changing = np.flatnonzero(screened.strength[part] > 0)
    random = rng.choice(changing, min(settings.random, len(changing)), replace=False).tolist()
    signs = rng.choice([1, -1], len(random)).tolist()
    both = finder.measured(part, random, screened.strength[part, random])
    drawn += [one for one in both if (one.appearance, one.sign) in zip(random, signs, strict=True)]
  on_progress('measuring the best on held-out samples')
  chosen = finder.judged([*diverse(candidates, settings.top), *drawn])
  edits, drawn = chosen[: len(chosen) - len(drawn)], chosen[len(chosen) - len(drawn) :]
  edits.sort(key=_place)
  edits, drawn = (_entitled(some, finder.places) for some in (edits, drawn))
  shown = list(sets['heldout'][:SHOWN])
  frames = chosen[0].frames if chosen else None
  original = finder.bench(sets['heldout'][:SHOWN]).original if frames is None else frames[0]
  seeds = {name: (numbers.start, len(numbers)) for name, numbers in sets.items()}
  made = len(candidates) + len(drawn)
  return Found(
    screened, edits, drawn, seeds, finder.regions, finder.places, original, shown, made, finder.editor.compilations()
  )


def _entitled(edits: Sequence[Candidate], places: Sequence[str]) -> list[Candidate]:
  titles = names.distinct(f'{places[one.part]}{names.BETWEEN}{names.what(one.effects or {})}' for one in edits)
  return [dataclasses.replace(one, title=title) for one, title in zip(edits, titles, strict=True)]


def _place(judged: Candidate) -> tuple[int, float]:
  """Where it comes in the catalog."""
  assert judged.heldout is not None
  return judged.part, -judged.heldout.score
