"""Filmstrips: entries of the catalog, or what changes most at a place, as pictures of the edits that they would be."""

import numpy as np
import pytest

from panda_jax.app.choices import Choice
from panda_jax.app.film import LONGEST, film
from panda_jax.editing.zoo import CATALOG, NamedEdit, Spec, write_zoo

EDIT = Spec((2,), 0, 1.5)
PLACE = Spec((1,), 0)


def test_frames_are_crops_of_the_edits_that_they_offer(engine):
  choice = Choice((7,), (EDIT,))
  frames = film(engine, choice, PLACE)
  assert len(frames) == LONGEST
  corner = slice(0, frames[0].picture.shape[0]), slice(16 - frames[0].picture.shape[1], 16)  # where part 1 is
  for frame in frames[:3]:
    made = engine.edited(Choice((7,), (EDIT, frame.term)))[0]
    np.testing.assert_allclose(frame.picture, made[corner], atol=1e-4)  # float32 in other batches rounds otherwise


def test_any_film_is_one_program(engine):
  film(engine, Choice((7,)), PLACE)
  before = engine.editor.compilations()
  mask = tuple(np.eye(8, dtype=np.float32).reshape(-1).tolist())
  film(engine, Choice((3,), (EDIT, EDIT), truncation=0.5), Spec(mask=mask, appearance=0))
  assert engine.editor.compilations() == before


def test_the_catalog_comes_first(engine):
  path = engine.opened.folder / 'catalog' / CATALOG
  path.parent.mkdir()
  here = engine.opened.digest_factors
  entries = {f'nose · {k}': NamedEdit(here, 3, (Spec((1,), k % 5, 1.0 + k),)) for k in range(LONGEST + 2)}
  entries['edit'] = NamedEdit(here, 3, (Spec((2,), 1, 1.0),), title='eyes')
  entries['both'] = NamedEdit(here, 3, (Spec((1,), 1, 1.0), EDIT))
  write_zoo(path, entries)
  assert [frame.name for frame in film(engine, Choice((7,)), PLACE)] == [f'nose · {k}' for k in range(LONGEST)]
  assert [frame.name for frame in film(engine, Choice((7,)), Spec((2,), 0))] == ['eyes']
  assert 'nose · 0' not in [frame.name for frame in film(engine, Choice((7,)), Spec((3,), 0))]


def test_where_there_is_no_catalog_the_strongest_local_change_comes_first(engine):
  frames = film(engine, Choice((7,)), PLACE)
  original = np.clip(engine.originals(Choice((7,)).keys)[0], -1, 1)
  inside = np.zeros((16, 16), bool)
  inside[:8, 8:] = True

  def worth(term):
    energy = np.square(np.clip(engine.edited(Choice((7,), (term,)))[0], -1, 1) - original).sum(axis=-1)
    return np.sqrt(energy[inside].sum()) * energy[inside].sum() / energy.sum()

  assert [frame.term.appearance for frame in frames[::2]] == [frame.term.appearance for frame in frames[1::2]]
  assert [frame.term.alpha for frame in frames[::2]] == [-frame.term.alpha for frame in frames[1::2]]
  found = [worth(frame.term) for frame in frames[::2]]
  assert found == pytest.approx(sorted(found, reverse=True), rel=0.2)  # the region is that of the enlarged part
