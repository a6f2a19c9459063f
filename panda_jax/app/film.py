"""The filmstrip of a place: useful edits of a part or of a painted mask, each with a picture of its result.

The edits are those of the catalog. If the catalog has none for the place, the candidates are the appearances whose
coordinate varies most there. Those that change the place most and the rest least are tried with both signs. Those that
change a size come first, then the others, the largest effect first; of those of the same name only the first is shown.
An edit without a name in words in the catalog is named by its measured effects. All this is measured on the first
samples without edits, not on the picture in view: so an edit of a place has one name, whatever else the user has
chosen.
Letters: N samples, E edits, S positions, C channels, (h, w) pixels.
"""

from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from panda_jax.app.choices import MOST_TERMS, Choice, Seed
from panda_jax.app.engine import SHOWN, Engine
from panda_jax.catalog import names
from panda_jax.editing.zoo import Spec
from panda_jax.errors import InputError
from panda_jax.pictures.overlays import OUTLINE, on_image

FRAMES = 16  # pictures of one call
LONGEST = 8  # shown
MEASURED = 10  # edits without a name in a catalog, of which those of different names are shown
TRIED = 2 * FRAMES  # appearances that are tried without a catalog
SAMPLES = 4  # on which edits are chosen and named; each takes the time of three films, once for each place
SHARE = 0.75  # of an appearance's largest strength
PIXELS = 160  # of a frame's longer side
ASPECT = 4, 3  # of a frame
AROUND, LEAST = 1.15, 0.6  # a frame's sides, times those of the place; its width, at least, times the picture's


class Frame(NamedTuple):
  """An edit to try.

  Attributes:
    name: of the edit.
    term: the edit.
    picture: (a, b, channels) around the place, of the sample in view with all edits and this one.
  """

  name: str
  term: Spec
  picture: np.ndarray


def film(engine: Engine, choice: Choice, place: Spec) -> list[Frame]:
  """Edits of a place on the sample in view, the best first.

  Args:
    engine: of the fit.
    choice: its edits stay, and each edit is tried on top of them.
    place: an edit whose part or mask is the place.

  Raises:
    InputError: there are `MOST_TERMS` edits already; else as of `Engine.variants`.
  """
  if len(choice.terms) >= MOST_TERMS:
    raise InputError('edits', f'{len(choice.terms)} of them', 'there is no room for more', 'delete one first')
  inside = on_image(engine.regions(Choice(terms=(place,))), engine.size, engine.margin)[0] >= OUTLINE
  offered = _offered(engine, place, inside)
  pictures = engine.variants(choice, [term for _, term in offered], FRAMES)
  rows, columns = _around(inside)
  return [Frame(name, term, picture[rows, columns]) for (name, term), picture in zip(offered, pictures, strict=True)]


def prepare(engine: Engine) -> None:
  """Compiles what the first edits and the first film need."""
  engine.warm()
  film(engine, Choice((engine.first_seed,)), Spec((engine.parts[0],), engine.appearances[0]))


def _offered(engine: Engine, place: Spec, inside: np.ndarray) -> list[tuple[str, Spec]]:
  """(name, edit) for the edits of a place, which has a region (h, w)."""
  listed = _of_catalog(engine, place)
  if listed and all(name for name, _ in listed):
    return listed

  def named() -> list[tuple[str, Spec]]:
    terms = [term for _, term in listed] or _of_coordinates(engine, place, inside)
    effects, order = _measured(engine, terms, inside), list(range(len(terms)))
    if not listed:
      order.sort(key=lambda k: (-names.growth(effects[k]), -max(map(abs, effects[k].values()), default=0.0)))
    called = _called([effects[k] for k in order], [name for name, _ in listed], _place(engine, inside))
    rows = list(zip(called, order, strict=True))
    if not listed:
      rows = [row for i, row in enumerate(rows) if row[0] == names.OTHER or row[0] not in called[:i]][:LONGEST]
    titles = names.distinct(name for name, _ in rows)
    return [(title, terms[k]) for title, (_, k) in zip(titles, rows, strict=True)]

  return engine.remembered((place.part, place.mask, *listed), named)


def _looked(engine: Engine) -> list[Choice]:
  """The samples, without edits, on which edits are chosen and named."""
  return [Choice((seed,)) for seed in engine.first(SAMPLES)]


def _measured(engine: Engine, terms: list[Spec], inside: np.ndarray) -> list[dict]:
  """Effects of E edits inside a region (h, w)."""
  each = _looked(engine)
  before = np.stack([engine.edited(one)[0] for one in each])
  after = np.stack([engine.variants(one, terms, FRAMES) for one in each], axis=1)
  unedited = engine.originals([Seed(seed) for seed in engine.first(SHOWN)])
  return _effects(before, after, unedited, inside)


def _place(engine: Engine, inside: np.ndarray) -> str:
  """Where a region (h, w) is, in words; empty if it is empty, or if the folder's places are damaged."""
  try:
    known = names.known_places(engine.opened.description(), engine.size)
  except InputError:  # the page has already shown a warning
    return ''
  return names.where(inside, known) if inside.any() else ''


def _called(effects: list[dict], given: list[str], place: str) -> list[str]:
  """Names of edits of a place: the given name if there is one, else a name from the effects."""
  called: list[str] = []
  for effect, name in zip_longest(effects, given):
    words = names.what(effect, place)
    called.append(name or (names.what(effect, place, 0.0) if words in called else words))  # sharper; sharper and redder
  return called


def _effects(before: np.ndarray, after: np.ndarray, unedited: np.ndarray, inside: np.ndarray) -> list[dict]:
  """Effects of E edits (E, N, h, w, channels) on N samples inside a region, see `names.effects`; {} if it is empty."""
  if not inside.any():
    return [{}] * len(after)
  others = names.measured(unedited, inside)
  return [names.effects(before, each, inside, others) for each in after]


def _around(inside: np.ndarray) -> tuple[slice, slice]:
  """Rows and columns of a frame around a region (h, w) of a picture, large enough to see well."""
  size, where = np.array(inside.shape), np.argwhere(inside)
  first, last = (where.min(axis=0), where.max(axis=0) + 1) if len(where) else (np.zeros(2, int), size)
  wide, high = ASPECT
  rows, columns = AROUND * (last - first)
  width = max(LEAST * size[1], columns, rows * wide / high)
  width = min(width, size[1], size[0] * wide / high)
  sides = np.maximum(1, np.round([width * high / wide, width]).astype(int))
  down, across = np.clip((first + last - sides) // 2, 0, size - sides).tolist()
  return slice(down, down + sides[0]), slice(across, across + sides[1])


def _of_catalog(engine: Engine, place: Spec) -> list[tuple[str, Spec]]:
  """(words, edit) for the catalog's entries with a single edit, which is of this place: first those that change a size,
  then the others, both in the catalog's order.

  Catalogs from before edits had titles have numbers as names; then the words are empty.
  """
  try:
    named = [(entry.title or name, engine.terms_of(entry)) for name, entry in engine.catalog().items()]
  except InputError:  # it is damaged; the page has already shown a warning
    return []
  found = [(name, terms[0]) for name, terms in named if len(terms) == 1]
  listed = [(name, term) for name, term in found if (term.part, term.mask) == (place.part, place.mask)]
  listed.sort(key=lambda one: not names.is_of_size(one[0]))
  return [('' if _is_numbered(name, term) else name, term) for name, term in listed[:LONGEST]]


def _is_numbered(name: str, term: Spec) -> bool:
  if len(term.part) != 1 or term.appearance is None:
    return False
  return name == names.numbered(term.part[0], term.appearance, np.sign(term.alpha))


def _of_coordinates(engine: Engine, place: Spec, inside: np.ndarray) -> list[Spec]:
  """Both signs of the appearances that change pictures most inside a region (h, w)."""
  features, A = engine.features(), engine.factors.appearances[:, engine.appearances]
  mask = np.abs(np.asarray(place.edit(engine.factors).mask, np.float32))
  fibres = np.einsum('nsc,s->nc', features.reshape(len(features), len(mask), -1), mask / max(float(mask.sum()), 1e-30))
  deviations = (fibres @ (A / np.linalg.norm(A, axis=0))).std(axis=0)
  reaches = engine.reaches()[engine.appearances]

  def edit(j: int, sign: int) -> Spec:
    alpha = float(f'{sign * SHARE * reaches[j]:.3g}')
    return Spec(place.part, engine.appearances[j], alpha, mask=place.mask)

  tried = np.argsort(-deviations, kind='stable')[:TRIED].tolist()
  worths = dict.fromkeys(tried, 0.0)
  for one in _looked(engine):
    before = np.clip(engine.edited(one)[0], -1, 1)
    after = engine.variants(one, [edit(j, 1) for j in tried], FRAMES)
    for j, picture in zip(tried, after, strict=True):
      worths[j] += _worth(np.clip(picture, -1, 1) - before, inside)
  best = sorted(tried, key=lambda j: -worths[j])[: MEASURED // 2]
  return [edit(j, sign) for j in best for sign in (1, -1)]


def _worth(change: np.ndarray, inside: np.ndarray) -> float:
  """The size of a change (h, w, channels) inside a region, times the share of the change that lies there."""
  energy = np.square(change, dtype=np.float64).sum(axis=-1)
  within = float(energy[inside].sum())
  return np.sqrt(within) * within / max(float(energy.sum()), 1e-30)
