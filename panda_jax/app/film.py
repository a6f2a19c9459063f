"""The filmstrip of a place: edits of a part, or of a painted mask, that are worth trying, each as it would look there.

They are those of the catalog; where it has none, the appearances whose coordinate varies most at the place, both ways,
that change most of what is there and least of what is not. Letters: S positions, C channels, (h, w) pixels.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from panda_jax.app.choices import MOST_TERMS, Choice
from panda_jax.app.engine import Engine
from panda_jax.editing.zoo import Spec
from panda_jax.errors import InputError
from panda_jax.pictures.overlays import OUTLINE, on_image

FRAMES = 16  # made in one call
LONGEST = 10  # shown
TYPICAL = 2.5  # times the deviation of the coordinate: the strength of an edit that no catalog knows
PIXELS = 160  # of a frame's side
AROUND, LEAST = 1.15, 0.4  # a frame's side: of the place's longer one, and of the picture's shorter one at least


class Frame(NamedTuple):
  """An edit that may be chosen.

  Attributes:
    name: of it.
    term: that is added.
    picture: square, (s, s, channels), of the sample that is looked at with all edits and this one, around the place.
  """

  name: str
  term: Spec
  picture: np.ndarray


def film(engine: Engine, choice: Choice, place: Spec) -> list[Frame]:
  """Edits of a place on the sample that is looked at, the best first.

  Args:
    engine: of the fit.
    choice: on top of whose edits they are tried.
    place: an edit whose part or mask says where.

  Raises:
    InputError: there are `MOST_TERMS` edits already; else as of `Engine.variants`.
  """
  if len(choice.terms) >= MOST_TERMS:
    raise InputError('edits', f'{len(choice.terms)} of them', 'there cannot be more', 'delete one first')
  known = _of_catalog(engine, place) if place.part and place.mask is None else []
  tried = known or _of_coordinates(engine, place)
  pictures = engine.variants(choice, [term for _, term in tried], FRAMES)
  inside = on_image(engine.regions(Choice(terms=(place,))), engine.size, engine.margin)[0] >= OUTLINE
  if not known:
    without = engine.edited(dataclasses.replace(choice, seeds=choice.seeds[:1]))[0]
    order = sorted(range(len(tried)), key=lambda i: -_worth(pictures[i] - without, inside))
    tried, pictures = [tried[i] for i in order], pictures[order]
  rows, columns = _around(inside)
  return [Frame(name, term, picture[rows, columns]) for (name, term), picture in zip(tried, pictures, strict=True)][
    :LONGEST
  ]


def _around(inside: np.ndarray) -> tuple[slice, slice]:
  """Rows and columns of a square around a region (h, w) of a picture, as large as may be seen well."""
  most, where = np.array(inside.shape), np.argwhere(inside)
  first, last = (where.min(axis=0), where.max(axis=0) + 1) if len(where) else (np.zeros(2, int), most)
  side = round(min(most.min(), max(LEAST * most.min(), AROUND * (last - first).max())))
  rows, columns = np.clip((first + last - side) // 2, 0, most - side).tolist()
  return slice(rows, rows + side), slice(columns, columns + side)


def _of_catalog(engine: Engine, place: Spec) -> list[tuple[str, Spec]]:
  """Entries of the catalog with one edit, of this part, in their order."""
  found = []
  for name, entry in engine.catalog().items():
    terms = engine.terms_of(entry)
    if len(terms) == 1 and terms[0].part == place.part:
      found.append((name, terms[0]))
  return found[:LONGEST]


def _of_coordinates(engine: Engine, place: Spec) -> list[tuple[str, Spec]]:
  """Both signs of the appearances whose coordinate at the place varies most over samples of the fit."""
  features, A = engine.features(), engine.factors.appearances[:, engine.appearances]
  mask = np.abs(np.asarray(place.edit(engine.factors).mask, np.float32))
  fibres = np.einsum('nsc,s->nc', features.reshape(len(features), len(mask), -1), mask / max(float(mask.sum()), 1e-30))
  deviations = (fibres @ (A / np.linalg.norm(A, axis=0))).std(axis=0)
  most = np.argsort(-deviations, kind='stable')[: FRAMES // 2]
  found = []
  for j in most:
    for sign, said in ((1, '+'), (-1, '\N{MINUS SIGN}')):
      alpha = float(f'{sign * max(TYPICAL * float(deviations[j]), 1e-6):.3g}')
      number = engine.appearances[j]
      found.append((f'appearance {number} {said}', Spec(place.part, number, alpha, mask=place.mask)))
  return found


def _worth(change: np.ndarray, inside: np.ndarray) -> float:
  """How much a change (h, w, channels) changes inside, times the share of it that lies there."""
  energy = np.square(np.clip(change, -2, 2), dtype=np.float64).sum(axis=-1)
  within = float(energy[inside].sum())
  return np.sqrt(within) * within / max(float(energy.sum()), 1e-30)
