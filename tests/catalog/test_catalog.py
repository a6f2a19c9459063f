"""The catalog on generators with planted good pairs: their order, the files written, the programs compiled."""

import json

import jax
import numpy as np
import pytest

from panda_jax.catalog import Settings, catalog_into, find, measurement, screening, search
from panda_jax.catalog.measurement import Scores, turned_up
from panda_jax.editing.editor import Editor
from panda_jax.editing.zoo import annotate, read_zoo
from panda_jax.errors import InputError
from panda_jax.regions import responses
from panda_jax.regions.responses import Responses
from panda_jax.solver.factors import Factors
from panda_jax.workdir.finished_fit import FinishedFit
from tests.planted_generators import PairsGenerator, PartsGenerator

PLANTED = {(0, 2), (1, 4), (2, 2), (3, 0)}
CHANNELS, SILENT, DEAD = 6, 5, 4
SETTINGS = Settings(screened=16, measured=12, heldout=12, unedited=32, pairs=3, top=4, random=2)


def opened_with(generator, appearances=None, dead=1):
  """A fit whose parts and appearances are those of the generator, with dead parts at the end."""
  S, C = len(generator.parts), generator.layers[1][0]
  parts = np.concatenate([generator.parts, np.zeros((S, dead))], axis=1)
  appearances = np.eye(C) if appearances is None else appearances
  return FinishedFit(Factors(appearances, parts, generator.layers[1][1:], {'samples': 8}), generator, layer=1)


@pytest.fixture(scope='module')
def opened():
  return opened_with(PairsGenerator(PLANTED, CHANNELS, silent=(SILENT,)))


@pytest.fixture(scope='module')
def screened(opened):
  return screening.screen(opened, opened.latents(range(100, 148)))


@pytest.fixture(scope='module')
def found(opened):
  return find(opened, SETTINGS)


def test_probes_estimate_the_known_energies(monkeypatch):
  """Against the Jacobian of a linear generator, all of whose samples are alike."""
  monkeypatch.setattr(screening, 'PROBES', 64)
  generator = PartsGenerator((0.0, 0.7, 2.0), size=16)
  opened = opened_with(generator, dead=0)
  found = screening.screen(opened, opened.latents(range(16)))
  regions = screening.part_regions(opened.factors, (16, 16))
  for part in range(4):
    energy = np.square(generator.jacobian(generator.parts[:, part])).sum(axis=2)
    inside = energy[regions[part]].sum(axis=0)
    # 4 groups of 64 probes: energies have a relative deviation of at most sqrt(2 / 256), 9 %, so strengths of 4.5 %.
    strength = np.sqrt(inside / (3 * regions[part].sum()))
    np.testing.assert_allclose(found.strength[part], strength, rtol=0.18)
    np.testing.assert_allclose(found.locality[part], inside / energy.sum(axis=(0, 1)), atol=0.12)
    np.testing.assert_allclose(found.consistency[part], 1, atol=1e-5)


def test_one_product_serves_all_pairs(opened):
  """The contraction of a probe's cotangent is the probe's product with every pair's forward derivative."""
  generator, latents = opened.generator, opened.latents(range(3))
  seen = Responses(generator, latents, 1, None)
  where, what = screening.unit_masks(opened.factors), screening.unit_directions(opened.factors)
  regions = screening.part_regions(opened.factors, (32, 32))
  probes = np.random.default_rng(0).standard_normal((3, 2, 32, 32, 3)).astype(np.float32)
  whole, inside = seen.probed(where, what, regions, lambda i: probes[i])
  state = generator.run_to(latents, 1)
  for part, appearance in ((0, 2), (2, 3)):
    added = np.outer(where[:, part], what[:, appearance]).reshape(1, 8, 8, -1)

    def images(alpha, added=added):
      return generator.run_from(latents, state.replace(features=state.features + alpha * added), 1)

    _, change = jax.jvp(images, (0.0,), (1.0,))
    # Sums of 3072 float32 products of size 1 and below.
    np.testing.assert_allclose(whole[:, :, part, appearance], np.einsum('nqhwc,nhwc->nq', probes, change), atol=1e-3)
    cut = np.einsum('nqhwc,nhwc,hw->nq', probes, change, regions[part].astype(np.float32))
    np.testing.assert_allclose(inside[:, :, part, appearance], cut, atol=1e-3)


def test_screening_puts_the_planted_pairs_first_and_the_dead_last(screened):
  score = screened.score[:4]
  best = sorted(zip(*np.unravel_index(np.argsort(-score, axis=None)[:4], score.shape), strict=True))
  assert {(int(k), int(c)) for k, c in best} == PLANTED
  for part, channel in PLANTED:
    assert screened.locality[part, channel] > 0.9
    assert screened.consistency[part, channel] > 0.8
    assert screened.best(part, 1) == [channel]
    others = np.delete(np.arange(CHANNELS), [channel, SILENT])
    assert np.abs(screened.consistency[part, others]).max() < 0.5  # unrelated signs, 72 pairs of samples
  assert not screened.score[:, SILENT].any()
  assert not screened.score[DEAD].any()
  assert screened.best(DEAD, 10) == []
  assert SILENT not in screened.best(0, 10)


def test_screening_compiles_nothing_for_other_factors(opened, screened):
  before = responses.compilations()
  rotated = np.linalg.qr(np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS)))[0]
  other = opened_with(opened.generator, rotated)
  screening.screen(other, other.latents(range(300, 348)))
  assert responses.compilations() == before


def test_the_catalog_finds_the_planted_pairs(found):
  for part in range(4):
    first = next(one for one in found.edits if one.part == part)
    assert (part, first.appearance) in PLANTED
    assert first.heldout.score > 3 * max(one.heldout.score for one in found.random if one.part == part) or any(
      (one.part, one.appearance) in PLANTED for one in found.random if one.part == part
    )
  assert all(one.part != DEAD and one.appearance != SILENT for one in found.edits)
  assert {one.sign for one in found.edits if (one.part, one.appearance) in PLANTED} == {1, -1}
  order = [(one.part, -one.heldout.score) for one in found.edits]
  assert order == sorted(order)
  assert found.compilations == 1


def test_scores_are_of_samples_that_nothing_was_chosen_on(opened, found):
  seeds = [set(range(first, first + count)) for first, count in found.seeds.values()]
  assert min(min(one) for one in seeds) == 8  # those of the fit come before
  assert len(set.union(*seeds)) == sum(map(len, seeds))
  one = found.edits[0]
  first, count = found.seeds['heldout']
  latents = opened.latents(range(first, first + count))
  spec = opened.factors.parts[:, one.part] / opened.factors.parts[:, one.part].max()
  added = one.alpha * np.outer(spec, opened.factors.appearances[:, one.appearance])
  state = opened.generator.run_to(latents, 1)
  edited = opened.generator.run_from(latents, state.replace(features=state.features + added.reshape(1, 8, 8, -1)), 1)
  change = np.clip(edited, -1, 1) - np.clip(opened.generator(latents), -1, 1)
  inside = change[:, found.regions[one.part]]
  assert one.heldout.change == pytest.approx(np.sqrt(np.mean(inside**2)), rel=1e-4)
  assert one.heldout.locality == pytest.approx(np.sum(inside**2) / np.sum(change**2), rel=1e-4)
  rows = inside.reshape(count, -1)
  products = rows @ rows.T
  alike = (products.sum() - np.trace(products)) / (count - 1) / np.trace(products)
  assert one.heldout.consistency == pytest.approx(alike, rel=1e-3)
  np.testing.assert_allclose(one.frames[-1], np.clip(edited, -1, 1)[: search.SHOWN], atol=1e-5)
  np.testing.assert_allclose(one.frames[0], np.clip(opened.generator(latents), -1, 1)[: search.SHOWN], atol=1e-5)
  assert one.heldout != one.measured


def test_pictures_are_those_of_the_editor(opened):
  latents = opened.latents(range(5))
  editor = Editor(opened.generator, 1)
  finder = search.Finder(opened, SETTINGS, search.sample_sets(opened, SETTINGS))
  edit = search.make_edit(opened.factors, 1, 4, 0.7)
  expected = Editor(opened.generator, 1).images(latents, edit)
  bench = measurement.Bench(editor, latents, 2).start(edit.replace(alpha=np.float32(0)))
  np.testing.assert_allclose(bench.original, np.clip(expected.original, -1, 1), atol=1e-6)
  np.testing.assert_allclose(bench.edited([edit])[0], np.clip(expected.edited, -1, 1), atol=1e-6)
  bench.edited([edit, edit.replace(alpha=np.float32(2)), search.make_edit(opened.factors, 0, 2, -1)])
  assert editor.compilations() == 1
  assert finder.editor.compilations() == 1


def swept(changes, realism):
  return [Scores(change, 1.0, 1.0, one) for change, one in zip(changes, realism, strict=True)]


def test_the_largest_useful_strength():
  alphas = [1.0, 2.0, 4.0]
  linear = turned_up(alphas, swept([0.1, 0.2, 0.4], [0, 0, 0]))
  assert linear == (4.0, 'sweep')
  flat = turned_up(alphas, swept([0.1, 0.2, 0.21], [0, 0, 0]))
  assert flat == (2.0, 'saturation')
  limit = measurement.LIMIT
  unreal = turned_up(alphas, swept([0.1, 0.2, 0.4], [0, limit / 2, 1.5 * limit]))
  assert unreal == (pytest.approx(3.0), 'realism')
  at_once = turned_up(alphas, swept([0.1, 0.2, 0.4], [2 * limit, 1, 1]))
  assert at_once == (pytest.approx(0.5), 'realism')
  assert turned_up(alphas, swept([0.1, 0.2, 0.4], [None] * 3)) == (4.0, 'sweep')
  halfway = measurement.at_strength(3.0, alphas, swept([0.1, 0.2, 0.4], [0, 0.1, 0.2]))
  assert halfway == pytest.approx((0.3, 1, 1, 0.15))


def sought(scores):
  """What a sweep finds, and how many strengths it tries."""
  sweep, tried = search._Sweep(0, 0, 1, 2.0), 0
  while (place := sweep.following()) is not None:
    sweep.add(place, scores[place], np.eye(5)[place])
    tried += 1
  return sweep.turned(), tried


def test_strengths_that_are_not_tried_would_change_nothing():
  """Against all strengths from the least on, where unreality grows with strength."""
  rng, alphas = np.random.default_rng(0), 2 * np.array(measurement.LEVELS)
  reaches, tried = set(), 0
  for _ in range(200):
    unreality = rng.choice([0.005, 0.02, 0.1]) * np.cumsum(rng.random(5))
    scores = swept(measurement.LEVELS, unreality)
    found, count = sought(scores)
    expected = turned_up(alphas, scores)
    assert found == (pytest.approx(expected.alpha), expected.reach)
    reaches.add(found.reach)
    tried += count
  assert reaches == {'realism', 'sweep'}
  assert tried < 0.6 * 5 * 200
  flat, _ = sought(swept([0.08, 0.16, 0.28, 0.29, 0.30], [0] * 5))
  assert flat == (pytest.approx(alphas[2]), 'saturation')
  assert sought(swept(measurement.LEVELS, [1] * 5))[0].alpha < alphas[0]


def test_what_is_promised_is_the_score_at_the_limit():
  """Where change grows as the strength and unreality as its square."""
  scores = Scores(0.1, 0.5, 0.5, measurement.LIMIT / 4)
  assert measurement.promise(scores, 5.0) == pytest.approx(2 * scores.score)
  assert measurement.promise(scores, 1.5) == pytest.approx(1.5 * scores.score)
  assert measurement.promise(scores._replace(realism=None), 3.0) == pytest.approx(3 * scores.score)


def test_other_parts_are_of_no_consequence(opened, found):
  """Edits of a part, alone: the same strengths and scores, to the last bit."""
  for part in (1, 3):
    alone = np.where(np.arange(5) == part, opened.factors.parts, 0)
    factors = Factors(opened.factors.appearances, alone, opened.factors.grid, {'samples': 8})
    lonely = find(FinishedFit(factors, opened.generator, layer=1), SETTINGS)
    for listed, others in ((lonely.edits, found.edits), (lonely.random, found.random)):
      others = {one.name: one for one in others}
      common = [(one, others[one.name]) for one in listed if one.name in others]
      assert len(common) >= 2
      for one, other in common:
        assert (one.turned, one.measured, one.heldout) == (other.turned, other.measured, other.heldout)
        np.testing.assert_array_equal(one.frames, other.frames)


def candidate(part, appearance, score, direction):
  scores = Scores(score, 1.0, 1.0, None)
  return search.Candidate(part, appearance, 1, measurement.Turned(1.0, 'sweep'), scores, np.asarray(direction, float))


def test_near_duplicates_are_left_out():
  a, b, opposite = [1, 0, 0], [0.9, np.sqrt(1 - 0.81), 0], [-1, 0, 0]
  offered = [candidate(0, 0, 0.5, b), candidate(0, 1, 0.9, a), candidate(0, 2, 0.4, opposite), candidate(1, 3, 0.6, a)]
  kept = search.diverse(offered, top=10)
  assert [(one.part, one.appearance) for one in kept] == [(0, 1), (0, 2)]
  kept = search.diverse([candidate(0, j, 1 - 0.1 * j, np.eye(5)[j]) for j in range(5)], top=3)
  assert [one.appearance for one in kept] == [0, 1, 2]
  assert search.diverse([candidate(0, 0, 0.0, a)], top=3) == []
  assert search.diverse([candidate(0, 0, 5e-7, a)], top=3) == []  # of rounding


def test_all_dead_is_refused(opened):
  dead = Factors(np.eye(CHANNELS), np.zeros((64, 2)), (8, 8), {'samples': 8})
  with pytest.raises(InputError, match='dead'):
    find(FinishedFit(dead, opened.generator, layer=1), SETTINGS)
  with pytest.raises(InputError, match='heldout=3'):
    Settings(heldout=3)


def test_what_is_written(opened, tmp_path):
  out = tmp_path / 'catalog'
  written = catalog_into(out, opened, SETTINGS, command='python run.py catalog')
  assert {path.name for path in out.iterdir()} == set(written.files)
  zoo = read_zoo(out / 'catalog.json')
  assert list(zoo) == [one.name for one in written.found.edits]
  first = written.found.edits[0]
  named = zoo[first.name]
  assert first.name == f'part 0 · appearance 2 · {"+" if first.sign > 0 else "-"}'
  edit = named.edit(opened.factors, opened.digest_factors)
  assert float(edit.alpha) == pytest.approx(first.alpha)
  assert named.scores['change'] == pytest.approx(first.heldout.change, rel=1e-3)
  assert named.scores['when_chosen']['change'] == pytest.approx(first.measured.change, rel=1e-3)
  assert set(named.scores['screened']) == set(screening.Screened._fields)
  with pytest.raises(InputError, match='other factors'):
    named.check('0' * 64, first.name)
  annotate(out / 'catalog.json', 'my own', named)  # what is added by hand leaves the scores alone
  assert read_zoo(out / 'catalog.json')[first.name].scores == named.scores
  with np.load(out / 'screened.npz') as arrays:
    assert arrays['score'].shape == (5, CHANNELS)
  record = json.loads((out / 'record.json').read_text())
  assert record['compilations'] == 1
  assert record['dead_parts'] == [DEAD]
  assert record['random']
  with pytest.raises(InputError, match='another catalog is there'):
    catalog_into(out, opened, Settings(**(vars(SETTINGS) | {'top': 2})))
