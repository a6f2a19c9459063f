"""The search, from all pairs of parts and appearances to a short list of different edits.

It uses four disjoint sets of samples after those of the fit. The first screens pairs; the second sets strengths and
chooses edits; the third gives the scores and pictures that are shown; the fourth defines the space of realism.
Letters: N samples, R_S parts, R_C appearances, (h, w) pixels.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from panda_jax.catalog import measurement, names
from panda_jax.catalog.measurement import Bench, Judge, Scores, Turned
from panda_jax.catalog.screening import SEED, Screened, part_regions, screen
from panda_jax.editing.editor import BATCH_PIXELS, Editor
from panda_jax.editing.edits import Edit, make_edit
from panda_jax.errors import InputError
from panda_jax.regions.metrics import LEAST_CHANGE, area_weights
from panda_jax.runtime.environment import one_blas_thread
from panda_jax.runtime.progress import narrated
from panda_jax.workdir.finished_fit import FinishedFit

SIMILAR = 0.7  # edits whose changes have this cosine or more look the same
LIKELY = 0.8  # the same before their strengths are known
MAP, MAPPED = 16, 8  # cells at each side of the grid on which changes are compared, and samples
AT_ONCE = 8  # edits with pictures in memory at once
BATCH = 16  # images at a time: more do not fit the caches of a CPU
SETS = 'screened', 'measured', 'heldout', 'unedited'
SHOWN, FRAMES = 3, 9  # samples with pictures, and strengths from 0 to the edit's own


@dataclasses.dataclass(frozen=True)
class Settings:
  """How much is looked at.

  Attributes:
    screened: samples on which all pairs are compared to first order.
    measured: samples on which strengths are set and edits chosen.
    heldout: samples of the scores and pictures that are shown.
    unedited: samples that tell how natural an edit looks.
    pairs: of a part that are measured at one strength, with both signs.
    followed: edits of a part, the most promising of these that differ, whose largest useful strength is sought.
    top: edits of a part, at most.
    random: pairs of a part drawn at random, for comparison.

  Example:
    >>> from panda_jax.catalog import Settings
    >>> Settings(top=3)
    Settings(screened=48, measured=16, heldout=32, unedited=256, pairs=20, followed=20, top=3, random=3)
  """

  screened: int = 48
  measured: int = 16
  heldout: int = 32
  unedited: int = 256
  pairs: int = 20
  followed: int = 20
  top: int = 10
  random: int = 3

  def __post_init__(self):
    for name, number in dataclasses.asdict(self).items():
      least = 4 if name in SETS else 1
      if number < least:
        raise InputError(name, number, 'too few to say anything', f'give {least} or more')


DEFAULTS = Settings()


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
  """A measured pair with a sign.

  Attributes:
    part, appearance, sign: 0-based indices; 1 or -1.
    turned: its largest useful strength.
    measured: scores at this strength, on the samples that set it.
    map: its change on some samples, coarse, of unit length.
    heldout: scores on held-out samples.
    frames: (FRAMES, SHOWN, h, w, channels) of held-out samples, strength from 0 to its own; None until computed.
    effects: on measures of the region, on held-out samples, see names.py.
    title: in words; empty until it is known.
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
    """The strength with its sign, to three digits."""
    return float(f'{self.sign * self.turned.alpha:.3g}')

  @property
  def rank(self) -> float:
    """Its score; 0 if its change is rounding."""
    return self.measured.score if self.measured.change > LEAST_CHANGE else 0.0

  def __repr__(self) -> str:
    return f'{self.name} · alpha {self.alpha:g}{f": {self.title}" if self.title else ""}'

  @property
  def name(self) -> str:
    return names.numbered(self.part, self.appearance, self.sign)


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

  Example:
    >>> from panda_jax.catalog import Settings, find
    >>> from panda_jax.workdir.finished_fit import FinishedFit
    >>> opened = FinishedFit(factors, quarters, layer=1)
    >>> found = find(opened, Settings(screened=4, measured=4, heldout=4, unedited=4, pairs=2, top=1, random=1))
    >>> found.edits[0].frames.shape  # strengths, samples, pictures
    (9, 3, 8, 8, 3)
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

  def __repr__(self) -> str:
    return '\n'.join([f'Found {len(self.edits)} edits, of {self.measured} measured', *(f'  {e}' for e in self.edits)])


def sample_sets(opened: FinishedFit, settings: Settings) -> dict[str, range]:
  """Seeds of each set; they follow the samples of the fit."""
  count = opened.factors.provenance.get('samples')
  first, found = opened.seed + (count if isinstance(count, int) else 0), {}
  for name in SETS:
    found[name] = range(first, first + getattr(settings, name))
    first = found[name].stop
  return found


Ranked = TypeVar('Ranked', Candidate, '_Sweep')


def coarse(change: np.ndarray) -> np.ndarray:
  """Changes (N, h, w, channels) averaged over a coarse grid, as one vector of unit length."""
  N, h, w, channels = change.shape
  rows, columns = (area_weights(n, min(n, MAP)) for n in (h, w))
  upright = (rows @ change.reshape(N, h, w * channels)).reshape(N, len(rows), w, channels)
  found = (columns @ upright).ravel()
  length = np.linalg.norm(found)
  return found / length if length > 0 else found


def diverse(ranked: Sequence[Ranked], top: int, similar: float = SIMILAR) -> list[Ranked]:
  """The highest ranks above 0, at most `top` of each part, without edits that look the same as a better one."""
  kept: list[Ranked] = []
  for one in sorted(ranked, key=lambda one: -one.rank):
    if not one.rank > 0 or sum(other.part == one.part for other in kept) >= top:
      continue
    if not kept or max(float(one.map @ other.map) for other in kept) < similar:
      kept.append(one)
  return kept


class _Sweep:
  """An edit at some consecutive strengths of `measurement.LEVELS`.

  Args:
    part, appearance, sign: as of `Candidate`.
    scale: alpha of a predicted change of 1.
  """

  def __init__(self, part: int, appearance: int, sign: int, scale: float):
    self.part, self.appearance, self.sign = part, appearance, sign
    self._scale = scale
    self._steps: dict[int, tuple[float, Scores, np.ndarray]] = {}

  def alpha(self, place: int) -> float:
    """The strength at an index of the levels."""
    return measurement.LEVELS[place] * self._scale

  def add(self, place: int, scores: Scores, coarsened: np.ndarray) -> None:
    self._steps[place] = self.alpha(place), scores, coarsened

  def following(self) -> int | None:
    """The index of the strength to try next; None if the largest useful one is known.

    The search goes from the middle up, until more is not useful, or down, until edits look real enough.
    """
    if not self._steps:
      return len(measurement.LEVELS) // 2
    low, high, turned = min(self._steps), max(self._steps), self.turned()
    if turned.reach == 'sweep' and high + 1 < len(measurement.LEVELS):
      return high + 1
    return low - 1 if low and turned.alpha < self.alpha(low) else None

  def _sorted(self) -> tuple:
    """Strengths, scores and maps."""
    return tuple(zip(*(self._steps[place] for place in sorted(self._steps)), strict=True))

  def turned(self) -> Turned:
    alphas, scores, _ = self._sorted()
    return measurement.turned_up(alphas, scores)

  @property
  def map(self) -> np.ndarray:
    """The map at the strength that was tried first."""
    return next(iter(self._steps.values()))[2]

  @property
  def rank(self) -> float:
    """The score at the largest useful strength, predicted from the strength that was tried first."""
    place, (_, scores, _) = next(iter(self._steps.items()))
    return measurement.promise(scores, measurement.LEVELS[-1] / measurement.LEVELS[place])

  def candidate(self) -> Candidate:
    alphas, scores, maps = self._sorted()
    turned = self.turned()
    nearest = int(np.argmin(np.abs(np.array(alphas) - turned.alpha)))
    at_best = measurement.at_strength(turned.alpha, alphas, scores)
    return Candidate(self.part, self.appearance, self.sign, turned, at_best, maps[nearest])


def _going(sweeps: Sequence[_Sweep]) -> list[tuple[_Sweep, int]]:
  """The unfinished sweeps, each with the index of its next strength."""
  return [(sweep, place) for sweep in sweeps if (place := sweep.following()) is not None]


def places_of(opened: FinishedFit) -> list[str]:
  """(R_S) where each part is, in words, see names.py; empty for dead parts.

  Raises:
    InputError: the fit has no generator, or the places in its folder cannot be used.
  """
  opened.needed_generator()
  size = opened.image_size()
  assert size is not None  # there is a generator
  known = names.known_places(opened.description(), size)
  cores = part_regions(opened.factors, size, opened.margin, names.CORE)
  return [names.where(core, known) if core.any() else '' for core in cores]


class Finder:
  """One Editor, samples, and the space of realism, with which all pairs are measured.

  Args:
    opened: a fit with a generator.
    settings: see `Settings`.
    sets: seeds of each set.

  Attributes:
    tried: number of edits measured.
  """

  def __init__(self, opened: FinishedFit, settings: Settings, sets: dict[str, range]):
    self._opened, self._settings, self._sets = opened, settings, sets
    self.editor = Editor(opened.needed_generator(), opened.layer, opened.noise)
    size = opened.image_size()
    assert size is not None  # there is a generator
    self._batch = max(1, min(BATCH, BATCH_PIXELS // (size[0] * size[1])))
    self.regions = part_regions(opened.factors, size, opened.margin)
    self.places = places_of(opened)
    unedited = [
      self.bench(sets['unedited'][first : first + self._batch]).original
      for first in range(0, len(sets['unedited']), self._batch)
    ]
    self.space = measurement.space_of(np.concatenate(unedited))
    self._bench = self.bench(sets['measured'])
    self._judge = Judge(self._bench, self.space)
    self.tried = 0

  def bench(self, seeds: range) -> Bench:
    factors = self._opened.factors
    S, C = factors.parts.shape[0], factors.appearances.shape[0]
    nothing = Edit(np.zeros(C, np.float32), np.zeros(S, np.float32), np.float32(0))
    return Bench(self.editor, self._opened.latents(seeds), self._batch).start(nothing)

  def measured(self, part: int, signed: Sequence[tuple[int, int]], slopes: np.ndarray, followed: int | None = None):
    """Candidates of a part, each at its largest useful strength.

    Args:
      part: index.
      signed: appearances with signs.
      slopes: (R_C,) predicted change of the part per alpha.
      followed: number of edits, the most promising ones that differ; all if left out.
    """
    sweeps = [_Sweep(part, appearance, sign, 1 / slopes[appearance]) for appearance, sign in signed]
    self.tried += len(sweeps)
    self._step(_going(sweeps))
    kept = sweeps if followed is None else diverse(sweeps, followed, LIKELY)
    while going := _going(kept):
      self._step(going)
    return [sweep.candidate() for sweep in kept]

  def _step(self, going: Sequence[tuple[_Sweep, int]]) -> None:
    """Measures each edit at its next strength."""
    for first in range(0, len(going), AT_ONCE):
      some = going[first : first + AT_ONCE]
      edited = self._bench.edited(
        [
          make_edit(self._opened.factors, sweep.part, sweep.appearance, sweep.sign * sweep.alpha(place))
          for sweep, place in some
        ]
      )
      scores = self._judge.scores(edited, self.regions[some[0][0].part])
      for (sweep, place), images, one in zip(some, edited, scores, strict=True):
        sweep.add(place, one, coarse(images[:MAPPED] - self._bench.original[:MAPPED]))

  def judged(self, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with held-out scores and frames."""
    bench = self.bench(self._sets['heldout'])
    judge, shown = Judge(bench, self.space), min(SHOWN, bench.samples)
    edits = [make_edit(self._opened.factors, one.part, one.appearance, one.alpha) for one in candidates]
    strongest, found = [], []
    for one, edit in zip(candidates, edits, strict=True):
      (edited,), region = bench.edited([edit]), self.regions[one.part]
      (scores,) = judge.scores(edited[None], region)
      effects = names.effects(bench.original, edited, region)
      found.append(dataclasses.replace(one, heldout=scores, effects=effects))
      strongest.append(edited[:shown].copy())

    weaker = np.arange(1, FRAMES - 1) / (FRAMES - 1)
    steps = (edit.replace(alpha=np.float32(edit.alpha * share)) for edit in edits for share in weaker)
    between = bench.pictures((step, i) for step in steps for i in range(shown))
    for number, last in enumerate(strongest):
      rows = np.stack(list(islice(between, len(weaker) * shown))).reshape(len(weaker), *last.shape)
      frames = np.concatenate([bench.original[None, :shown], rows, last[None]])
      found[number] = dataclasses.replace(found[number], frames=frames)
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

  Example:
    >>> from panda_jax.catalog import Settings, find
    >>> from panda_jax.workdir.finished_fit import FinishedFit
    >>> opened = FinishedFit(factors, quarters, layer=1)
    >>> found = find(opened, Settings(screened=4, measured=4, heldout=4, unedited=4, pairs=2, top=1, random=1))
    >>> sorted(edit.title.split(' · ')[0] for edit in found.edits)  # one of each part
    ['bottom left', 'bottom right', 'top left', 'top right']
  """
  with narrated(progress, on_progress) as tell, one_blas_thread():
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

  candidates: list[Candidate] = []
  drawn: list[Candidate] = []
  for number, part in enumerate(live):
    on_progress(f'measuring edits of part {part}, {number + 1} of {len(live)}')
    slopes = screened.strength[part]
    both = [(appearance, sign) for appearance in screened.best(part, settings.pairs) for sign in (1, -1)]
    candidates += finder.measured(part, both, slopes, settings.followed)
    rng = np.random.default_rng((SEED, part))  # the draw does not depend on other parts
    changing = np.flatnonzero(slopes > 0)
    random = rng.choice(changing, min(settings.random, len(changing)), replace=False).tolist()
    signs = rng.choice([1, -1], len(random)).tolist()
    drawn += finder.measured(part, list(zip(random, signs, strict=True)), slopes)
  on_progress('measuring the best on held-out samples')
  chosen = finder.judged([*diverse(candidates, settings.top), *drawn])
  edits, drawn = chosen[: len(chosen) - len(drawn)], chosen[len(chosen) - len(drawn) :]
  edits.sort(key=_place)
  edits, drawn = (_entitled(some, finder.places) for some in (edits, drawn))
  shown = list(sets['heldout'][:SHOWN])
  frames = chosen[0].frames if chosen else None
  original = finder.bench(sets['heldout'][:SHOWN]).original if frames is None else frames[0]
  seeds = {name: (numbers.start, len(numbers)) for name, numbers in sets.items()}
  made = finder.tried, finder.editor.compilations()
  return Found(screened, edits, drawn, seeds, finder.regions, finder.places, original, shown, *made)


def _entitled(edits: Sequence[Candidate], places: Sequence[str]) -> list[Candidate]:
  titles = names.distinct(
    f'{places[one.part]}{names.BETWEEN}{names.what(one.effects or {}, places[one.part])}' for one in edits
  )
  return [dataclasses.replace(one, title=title) for one, title in zip(edits, titles, strict=True)]


def _place(judged: Candidate) -> tuple[int, float]:
  """The sort key of the catalog."""
  assert judged.heldout is not None
  return judged.part, -judged.heldout.score
