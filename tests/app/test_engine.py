"""Pictures of a choice are those of the library, for all kinds of samples."""

import shlex
import time

import numpy as np
import pytest

from panda_jax.app.choices import MOST_TERMS, Choice, Seed
from panda_jax.app.engine import SHOWN, UTMOST, Engine, rounded_up
from panda_jax.app.saves import save
from panda_jax.commands import program
from panda_jax.commands.app import samples_of
from panda_jax.editing.editor import Editor, make_edit
from panda_jax.editing.refine import refine
from panda_jax.editing.removal import clearing, remove
from panda_jax.editing.zoo import CATALOG, NamedEdit, Spec, write_zoo
from panda_jax.errors import InputError
from panda_jax.generators import latent_files
from panda_jax.generators.latent_files import Latents
from panda_jax.workdir.finished_fit import open_workdir
from panda_jax.workdir.samples import Samples
from tests.commands.calls import call

FIRST, SECOND = Spec((1,), 2, 3.0), Spec((2,), 0, -2.0, threshold=0.5)


def test_pictures_are_those_of_the_library(engine):
  choice = Choice((3, 7), (FIRST, SECOND))
  latents = engine.opened.latents([3, 7])
  whole = make_edit(engine.factors, 1, 2, 3.0) + make_edit(engine.factors, 2, 0, -2.0, threshold=0.5)
  expected = Editor(engine.opened.generator, engine.opened.layer).images(latents, whole)
  np.testing.assert_allclose(engine.originals((Seed(3), Seed(7))), expected.original, atol=1e-5)
  np.testing.assert_allclose(engine.edited(choice), expected.edited, atol=1e-5)
  assert np.abs(expected.difference).max() > 0.01  # the edit is visible


def test_strengths_of_the_last_term(engine):
  choice = Choice((3,), (FIRST, SECOND))
  found = engine.edited(choice, [0, -2])
  np.testing.assert_array_equal(found[1], engine.edited(choice))
  np.testing.assert_array_equal(found[0], engine.edited(Choice((3,), (FIRST,))))


def test_nothing_is_exactly_the_original(engine):
  original = engine.originals((Seed(3),))
  for terms in ((), (Spec((1,), 2, 0.0),)):
    np.testing.assert_array_equal(engine.edited(Choice((3,), terms)), original)


def test_an_edit_that_leaves_no_picture_is_a_sentence(engine):
  wild = Spec((1,), 2, 1e30, mask=(3e38,) * 64)
  for alphas in (None, [0.0, 1e30]):
    with pytest.raises(InputError, match='an edit this strong gives no finite picture'):
      engine.edited(Choice((0,), (wild,)), alphas)


def test_refined_parts_are_those_of_each_sample(engine):
  choice = Choice((3, 7), (FIRST,), refined=True)
  latents = engine.opened.latents([3, 7])
  editor = Editor(engine.opened.generator, engine.opened.layer)
  alone = [editor.state(engine.opened.latents([seed])) for seed in (3, 7)]  # refinement magnifies rounding
  features = np.concatenate([np.asarray(state.features) for state in alone])
  own = refine(features, engine.factors, proximal=0.03).parts
  expected = editor.images(latents, make_edit(engine.factors, 1, 2, 3.0, parts=own))
  np.testing.assert_allclose(engine.edited(choice), expected.edited, atol=1e-4)
  assert engine.regions(choice).shape == (2, 8, 8)


def test_whatever_is_chosen_is_one_program_and_quick(engine):
  engine.edited(Choice((0,), (FIRST,)))
  before = engine.editor.compilations()
  for seed in range(3):
    for k in range(4):
      engine.edited(Choice((seed,), (Spec((k,), k, 1.0 + k), SECOND)[: 1 + k % 2]))
  assert engine.editor.compilations() == before
  start = time.process_time()
  for k in range(20):
    engine.edited(Choice((0,), (Spec((1,), 2, k / 10),)))
  assert time.process_time() - start < 20 / 5  # processor time: at least 5 a second; some 100 are usual


def test_variants_are_the_same_pictures_made_at_once(engine):
  choice = Choice((3, 7), (FIRST,))
  terms = [Spec((2,), j, 1.5) for j in range(5)]
  found = engine.variants(choice, terms, 4)
  for term, picture in zip(terms, found, strict=True):
    made = engine.edited(Choice((3,), (FIRST, term)))[0]
    np.testing.assert_allclose(picture, made, atol=1e-5)  # float32, in batches of another size


def test_samples_of_another_truncation(engine):
  truncated = engine.originals((Seed(3, 0.3),))
  np.testing.assert_allclose(truncated, engine.opened.generator(engine.opened.latents([3], None, 0.3)), atol=1e-5)
  np.testing.assert_allclose(engine.originals((Seed(3, 1.0),)), engine.originals((Seed(3),)), atol=1e-5)
  assert np.abs(truncated - engine.originals((Seed(3),))).max() > 0.01
  saved = save(engine, Choice((3,), (FIRST,), truncation=0.3), 'mine')
  assert f'--latents={saved.folder / "latents.npy"}' in saved.command


def test_what_is_compiled_ahead_is_not_compiled_again(engine):
  engine.warm()
  assert list(engine.warmer()) == [None, None]
  before = engine.editor.compilations()
  engine.edited(Choice((0,), (FIRST,) * MOST_TERMS))
  engine.edited(Choice((0,), (FIRST,) * 5))
  assert engine.editor.compilations() == before


def test_maps_are_those_of_the_picture_alone(engine, monkeypatch):
  whole = engine.maps()
  np.testing.assert_array_equal(whole[:4].max(axis=(1, 2)), 1)
  monkeypatch.setattr(engine, 'margin', (1, 2))
  np.testing.assert_array_equal(engine.maps(), whole[:, 1:-1, 2:-2])
  assert engine.maps(Seed(3)).shape == (5, 6, 4)


def test_regions(engine):
  region = engine.regions(Choice((0, 1), (SECOND, FIRST)))
  np.testing.assert_array_equal(region, np.stack([engine.factors.part_maps()[1] / 2] * 2))
  assert not engine.regions(Choice((0,))).any()


@pytest.mark.parametrize('refined', [False, True])
def test_removal_is_that_of_the_library_for_the_sample_in_view(engine, refined):
  found = remove(engine.features(), engine.factors, [1])
  for seed in range(3):
    choice = Choice((seed,), refined=refined)
    term = engine.removal(Spec((1,), 0), choice)
    assert (term.part, term.appearance) == ((1,), found.appearance)
    most = UTMOST * engine.reaches()[found.appearance]
    assert abs(float(found.edit.alpha)) * (1 - 1e-5) <= abs(term.alpha) <= max(most, abs(float(found.edit.alpha)))
    features = np.asarray(engine._sample(Seed(seed)).state.features, np.float32)
    edit = make_edit(engine.factors, 1, 0, parts=engine._parts_of(Seed(seed)) if refined else None)
    assert term.alpha == pytest.approx(clearing(found, features, engine.factors, most, edit.mask)[0], rel=1e-5)
  drawn = Spec(mask=tuple(engine.factors.parts[:, 1].tolist()), appearance=0)
  assert engine.removal(drawn, Choice()).alpha > 0 or found.side < 0


def test_the_page_begins_with_a_typical_sample(engine, tmp_path):
  mean = engine.features().mean(axis=0)
  far = [np.square(np.asarray(engine._sample(Seed(s)).state.features)[0] - mean).sum() for s in range(SHOWN)]
  assert engine.typical() == np.argmin(far)
  given = Latents(np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32), 'z')
  assert Engine(engine.opened, Samples(given=given)).typical() == 0  # the first of the user's own


def test_strengths_end_at_round_numbers(engine):
  assert engine.reaches().shape == (5,)
  assert (engine.reaches() > 0).all()
  assert [rounded_up(x) for x in (0.9, 1.0, 1.01, 6.5, 85, 0.0021)] == pytest.approx(
    [0.9, 1, 2, 8, 100, 0.003], rel=0.2
  )


def test_catalog(engine):
  assert engine.catalog() == {}
  path = engine.opened.folder / 'catalog' / CATALOG
  path.parent.mkdir()
  here = engine.opened.digest_factors
  swept = Spec((1,), 2, (-1.0, -3.0, 2.0), alpha_unit='rms', rms=2.0)
  write_zoo(path, {'eyes': NamedEdit(here, 3, (swept, FIRST)), 'other': NamedEdit('0' * 64, 3, (FIRST,))})
  found = engine.catalog()
  assert list(found) == ['eyes']  # entries of other factors are left out
  assert engine.terms_of(found['eyes']) == (Spec((1,), 2, -6.0), FIRST)
  path.write_text('{}')
  with pytest.raises(InputError, match='not a zoo'):
    engine.catalog()


def test_samples_of_a_file_in_place_of_seeds(fitted, tmp_path):
  opened = open_workdir(fitted)
  wplus = np.asarray(opened.latents([3, 7, 9]).wplus)
  engine = Engine(opened, Samples(given=Latents(wplus, 'wplus')))
  expected = opened.generator(opened.latents([7, 9]))
  np.testing.assert_allclose(engine.originals((Seed(1), Seed(2))), expected, atol=1e-5)
  assert (engine.first_seed, engine.most_seeds, engine.truncation) == (0, 3, None)
  with pytest.raises(InputError, match='seeds=3: the file of latents holds 3 samples; give numbers from 0 to 2'):
    engine.originals((Seed(1), Seed(3)))
  with pytest.raises(InputError, match=r'labels=.*holds the class'):
    Engine(opened, Samples(given=Latents(wplus, 'wplus'), labels=np.array([0])))
  opened.folder = tmp_path
  saved = save(engine, Choice((2, 0), (FIRST,)), 'mine')
  assert f'--latents={saved.folder / "latents.npy"}' in saved.command
  assert '--seeds' not in saved.command
  found = latent_files.read(saved.folder / 'latents.npy', opened.generator)
  assert found.space == 'wplus'
  np.testing.assert_array_equal(found.array, wplus[[2, 0]])
  arguments = [word for word in shlex.split(saved.command)[1:] if not word.startswith('--workdir=')]
  assert call(*arguments, f'--workdir={fitted}', f'--out={tmp_path / "again"}') == 0
  np.testing.assert_allclose(
    np.load(tmp_path / 'again' / 'edited.npy'), engine.edited(Choice((2, 0), (FIRST,))), atol=1e-5
  )


def test_what_the_command_line_says_of_samples(fitted, tmp_path):
  opened = open_workdir(fitted)

  def engine(*arguments):
    _, options, _ = program.parse(['run.py', 'app', f'--workdir={fitted}', *arguments])
    return Engine(opened, samples_of(options, opened))

  assert engine().first_seed == opened.seed
  np.save(tmp_path / 'w.npy', np.zeros((4, 8), np.float32))  # z has 7 numbers
  assert engine(f'--latents={tmp_path / "w.npy"}').samples.given.space == 'w'
  for arguments, said in (
    (['--labels=0'], 'this generator is unconditional'),
    (['--labels=0,1'], '2 of them: there is one sample'),
    (['--space=w'], 'space=w: given without --latents'),
    ([f'--latents={tmp_path / "w.npy"}', '--space=z'], r'give z as \(N, 7\)'),
  ):
    with pytest.raises(InputError, match=said):
      engine(*arguments)
