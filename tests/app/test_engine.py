"""Pictures of a choice are those of the library, and a click means the part that is strongest there."""

import shlex
import time
from types import SimpleNamespace

import numpy as np
import pytest

from panda_jax.app.choices import Choice
from panda_jax.app.controls import Controls
from panda_jax.app.engine import Engine, rounded_up
from panda_jax.app.saves import save
from panda_jax.commands import program
from panda_jax.commands.app import samples_of
from panda_jax.editing.editor import Editor, make_edit
from panda_jax.editing.refine import refine
from panda_jax.editing.zoo import CATALOG, NamedEdit, Spec, write_zoo
from panda_jax.errors import InputError
from panda_jax.generators import latent_files
from panda_jax.generators.latent_files import Latents
from panda_jax.results.samples import Samples
from panda_jax.workdir.finished_fit import open_workdir
from tests.commands.calls import call

FIRST, SECOND = Spec((1,), 2, 3.0), Spec((2,), 0, -2.0, threshold=0.5)


def test_pictures_are_those_of_the_library(engine):
  choice = Choice((3, 7), (FIRST, SECOND))
  latents = engine.opened.latents([3, 7])
  whole = make_edit(engine.factors, 1, 2, 3.0) + make_edit(engine.factors, 2, 0, -2.0, threshold=0.5)
  expected = Editor(engine.opened.generator, engine.opened.layer).images(latents, whole)
  np.testing.assert_allclose(engine.originals((3, 7)), expected.original, atol=1e-5)
  np.testing.assert_allclose(engine.edited(choice), expected.edited, atol=1e-5)
  assert np.abs(expected.difference).max() > 0.01  # the edit is one that is seen


def test_strengths_of_the_current_term(engine):
  choice = Choice((3,), (FIRST, SECOND))
  found = engine.edited(choice, [0, -2])
  np.testing.assert_array_equal(found[1], engine.edited(choice))
  np.testing.assert_array_equal(found[0], engine.edited(Choice((3,), (FIRST,))))


def test_nothing_is_exactly_the_original(engine):
  original = engine.originals((3,))
  for terms in ((Spec(appearance=0),), (Spec((1,), 2, 0.0),)):
    np.testing.assert_array_equal(engine.edited(Choice((3,), terms)), original)


def test_an_edit_that_leaves_no_picture_is_a_sentence(engine):
  wild = Spec((1,), 2, 1e30, mask=(3e38,) * 64)
  for alphas in (None, [0.0, 1e30]):
    with pytest.raises(InputError, match='so strong an edit leaves no picture'):
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
  assert engine.editor.compilations() == before == 1
  start = time.process_time()
  for k in range(20):
    engine.edited(Choice((0,), (Spec((1,), 2, k / 10),)))
  assert time.process_time() - start < 20 / 5  # of the processor; five a second, it is some hundred


def test_a_click_chooses_the_strongest_part_relative_to_its_maximum(engine):
  assert [engine.part_at(x, y) for y in (0.1, 0.9) for x in (0.1, 0.9)] == [0, 1, 2, 3]
  assert engine.part_at(1.0, 1.0) == 3
  assert engine.parts == [0, 1, 2, 3]  # the dead one is not offered
  assert [engine.cell(*place) for place in ((0, 0), (1, 1), (0.49, 0.51))] == [(0, 0), (7, 7), (4, 3)]


def test_where_no_part_is_a_sentence(engine, monkeypatch):
  monkeypatch.setattr(engine, '_relative', np.zeros((5, 8, 8), np.float32))
  with pytest.raises(InputError, match='no part is there'):
    engine.part_at(0.5, 0.5)


def test_a_stroke_covers_the_cells_it_goes_through_and_adds_up(engine):
  mask = engine.stroke([(0.05, 0.05), (0.95, 0.05)]).reshape(8, 8)
  np.testing.assert_array_equal(mask, [[1] * 8] + [[0] * 8] * 7)
  more = engine.stroke([(0.05, 0.95)], mask.reshape(-1)).reshape(8, 8)
  assert (more.sum(), more[7, 0]) == (9, 1)


def test_a_long_stroke_over_a_fine_grid_is_quick(engine, monkeypatch):
  monkeypatch.setattr(engine, 'factors', SimpleNamespace(grid=(256, 256)))
  points = np.random.default_rng(0).random((4000, 2)).tolist()
  start = time.process_time()
  mask = engine.stroke(points)
  assert time.process_time() - start < 5
  assert mask.reshape(256, 256)[tuple((np.array(points)[:, ::-1] * 256).astype(int).T)].all()
  alone = engine.stroke([(0.5, 0.5)]).reshape(256, 256)
  rows, columns = np.indices(alone.shape)
  np.testing.assert_array_equal(alone, np.hypot(rows - 128, columns - 128) <= 8)


def test_regions(engine):
  region = engine.regions(Choice((0, 1), (SECOND, FIRST)))
  np.testing.assert_array_equal(region, np.stack([engine.factors.part_maps()[1] / 2] * 2))
  assert not engine.regions(Choice((0,), (FIRST, Spec(appearance=0)))).any()


def test_removal_is_that_of_the_library(engine):
  term, said = engine.removal(Choice((0,), (FIRST,)))
  assert term.part == (1,)
  assert term.alpha
  assert f'appearance {term.appearance}' in said
  with pytest.raises(InputError, match='none is chosen'):
    engine.removal(Choice())


def test_the_slider_reaches_what_is_set(engine):
  assert engine.reach(FIRST) > 0
  assert engine.reach(Spec((1,), 2, -700.0)) == 800
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
  assert list(found) == ['eyes']  # what was made on other factors is not offered
  assert engine.terms_of(found['eyes']) == (Spec((1,), 2, -6.0), FIRST)
  path.write_text('{}')
  with pytest.raises(InputError, match='no zoo'):
    engine.catalog()


def test_samples_of_a_file_in_place_of_seeds(fitted, tmp_path):
  opened = open_workdir(fitted)
  wplus = np.asarray(opened.latents([3, 7, 9]).wplus)
  engine = Engine(opened, Samples(given=Latents(wplus, 'wplus')))
  controls = Controls(engine)
  expected = opened.generator(opened.latents([7, 9]))
  np.testing.assert_allclose(engine.originals((1, 2)), expected, atol=1e-5)
  assert controls.begun().now.seeds == (0,)
  assert controls.next_seeds(controls.begun(), -1).now.seeds == (2,)
  with pytest.raises(InputError, match='seeds=3: the file of latents holds 3 samples; give numbers from 0 to 2'):
    engine.originals((1, 3))
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
    (['--space=w'], 'space=w: there is no file'),
    ([f'--latents={tmp_path / "w.npy"}', '--space=z'], r'give z as \(N, 7\)'),
  ):
    with pytest.raises(InputError, match=said):
      engine(*arguments)
