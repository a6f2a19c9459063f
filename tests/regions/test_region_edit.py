"""Appearances and masks for regions: known Jacobians, known solutions, and images that agree with the scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import linalg, optimize

from panda_jax.editing.editor import Editor
from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators import registry, seeds
from panda_jax.generators.structure import Compiled
from panda_jax.generators.stylegan2 import StyleGAN2Options
from panda_jax.regions import metrics, region_edit, search
from panda_jax.regions import responses as responses_module
from panda_jax.regions.responses import Grams, Responses
from tests.planted_generators import PartsGenerator

SPREADS = (0.0, 0.6, 1.2, 2.0, 3.0)
PART = 1
CHANNELS = len(SPREADS)


def draws(generator, n, seed=0):
  return generator.sample(jax.random.key(seed), n)[0]


@pytest.fixture(scope='module')
def alike():
  """Every sample answers alike, and every channel leaks, so that the known answer is not trivial."""
  return PartsGenerator(SPREADS[1:], seed=1)


@pytest.fixture(scope='module')
def uneven():
  return PartsGenerator(SPREADS, uneven=0.7, saturation=2.0, seed=2)


@pytest.fixture(scope='module')
def responses(uneven):
  return Responses(uneven, draws(uneven, 20), 1, uneven.region(PART))


def known_grams(generator, mask, region):
  """M and O (C, C) of the Jacobian at gain 1."""
  J = generator.jacobian(mask)
  return (J[where].reshape(-1, J.shape[-1]) for where in (region, ~region))


def test_regions_on_a_grid():
  region = metrics.box_mask((0, 8, 4, 16), (16, 16))
  shares = region_edit.region_on_grid(region, (4, 4)).reshape(4, 4)
  np.testing.assert_allclose(shares, np.outer([1, 1, 0, 0], [0, 1, 1, 1]), atol=1e-6)
  # A margin of the grid is outside of the image.
  padded = region_edit.region_on_grid(region, (6, 6), margin=1).reshape(6, 6)
  np.testing.assert_allclose(padded, np.pad(shares, 1), atol=1e-6)
  padded = region_edit.region_on_grid(region, (8, 4), margin=(2, 0)).reshape(8, 4)
  np.testing.assert_allclose(padded, np.pad(shares, [(2, 2), (0, 0)]), atol=1e-6)
  half = region_edit.region_on_grid(metrics.box_mask((0, 2, 0, 16), (16, 16)), (4, 4)).reshape(4, 4)
  np.testing.assert_allclose(half, np.outer([0.5, 0, 0, 0], np.ones(4)), atol=1e-6)


def test_the_best_part(alike):
  for part in range(4):
    assert region_edit.best_part(alike.parts, (8, 8), alike.region(part)) == part
  scaled = alike.parts * np.array([[1e3, 1e-3, 0, 1]])  # the scale of a part says nothing; a dead one is never chosen
  assert region_edit.best_part(scaled, (8, 8), alike.region(1)) == 1
  assert region_edit.best_part(scaled, (8, 8), metrics.box_mask((0, 16, 0, 8), (16, 16))) == 0
  with pytest.raises(InputError, match='no part is there'):
    region_edit.best_part(scaled, (8, 8), alike.region(2))


def test_grams_are_those_of_the_known_jacobian():
  generator = PartsGenerator(SPREADS, uneven=0.5)
  z, region = draws(generator, 7), generator.region(PART)
  mask = generator.parts[:, PART]
  found = Responses(generator, z, 1, region).grams(mask, np.zeros(CHANNELS), np.eye(CHANNELS))
  gains = np.asarray(generator.gains(z), np.float64)
  for name, rows in zip(('inside', 'outside'), known_grams(generator, mask, region), strict=True):
    expected = gains[:, :, None] * gains[:, None, :] * (rows.T @ rows)[None]
    # float32 derivatives and sums over some hundred pixels.
    np.testing.assert_allclose(getattr(found, name)[:, :-1, :-1], expected, atol=1e-5 * expected.max())
    assert not getattr(found, name)[:, -1].any()  # nothing is changed yet


def test_grams_around_an_edit_tell_the_energies_near_it(uneven, responses):
  rng = np.random.default_rng(0)
  mask, direction = uneven.parts[:, PART] * rng.uniform(0.5, 1, 64), rng.normal(size=CHANNELS)
  basis, tiles = rng.normal(size=(CHANNELS, 3)), (rng.uniform(size=(64, 2)) < 0.3).astype(float)
  grams = responses.grams(mask, direction, basis, tiles)
  now = responses.energies(mask, direction)
  for step in (0.0, 1e-2):
    b, u = step * rng.normal(size=3), step * rng.normal(size=2)
    x = np.concatenate([b, u, [1]])
    moved = responses.energies(mask + tiles @ u, direction + basis @ b)
    for name in ('inside', 'outside'):
      told = np.einsum('a,nab,b->n', x, getattr(grams, name), x)
      assert step == 0 or np.abs(told - getattr(now, name)).max() > 0.005 * told.max()  # it did move
      # Second-order terms: the square of the step.
      np.testing.assert_allclose(told, getattr(moved, name), atol=(1e-5 + 5 * step**2) * told.max())


def test_one_program_serves_all_regions_masks_and_samples(uneven):
  def searched(part, seed):
    region, mask = uneven.region(part), 0.1 + uneven.parts[:, part]
    return region_edit.region_edit(uneven, draws(uneven, 8, seed), 1, region, mask, joint=True, rounds=1)

  searched(0, 0)
  compiled = responses_module.compilations()
  searched(1, 1)
  assert responses_module.compilations() == compiled


def test_the_generalised_eigenproblem_is_solved(alike):
  rows = known_grams(alike, alike.parts[:, PART], alike.region(PART))
  M, O = (x.T @ x for x in rows)  # noqa: E741
  values, vectors = search.eigenvectors(M, O)
  expected, _ = linalg.eigh(M, O)
  np.testing.assert_allclose(values, expected[::-1], rtol=1e-8)
  # Float64, and matrices whose condition is some hundred.
  np.testing.assert_allclose(vectors.T @ O @ vectors, np.eye(len(O)), atol=1e-8)
  np.testing.assert_allclose(M @ vectors, O @ vectors * values, atol=1e-8 * np.abs(M).max())


def test_where_samples_are_alike_the_answer_is_known(alike):
  """Then the mean of the ratios and the ratio of the means are one, and the leading eigenvector is the answer."""
  region = alike.region(PART)
  inside, outside = known_grams(alike, alike.parts[:, PART], region)
  values, vectors = linalg.eigh(inside.T @ inside, outside.T @ outside)
  found = region_edit.region_edit(alike, draws(alike, 12), 1, region, alike.parts[:, PART], weight=0.0)
  known = vectors[:, -1] / np.linalg.norm(vectors[:, -1])
  assert abs(found.edit.direction @ known) == pytest.approx(1, abs=1e-4)  # float32 Grams, and a flat minimum
  assert found.scores['roir'] == pytest.approx(values[-1] ** -0.5, rel=1e-4)
  assert found.scores['first_order'] == pytest.approx(values[-1] ** -0.5, rel=1e-4)
  assert found.reached
  assert found.scores['change'] == pytest.approx(0.1, rel=0.005)
  alone = np.linalg.norm(outside, axis=0) / np.linalg.norm(inside, axis=0)
  assert found.scores['roir'] < 0.95 * alone.min()  # no single channel does as well
  np.testing.assert_allclose(found.edit.mask, alike.parts[:, PART])


def test_a_channel_that_does_not_leak_is_found(uneven):
  found = region_edit.region_edit(uneven, draws(uneven, 16), 1, uneven.region(PART), uneven.parts[:, PART], weight=0.0)
  assert abs(found.edit.direction[0]) > 0.999
  assert found.scores['roir'] < 0.01


def test_the_mean_of_ratios_is_what_is_minimised(responses, uneven):
  """Neither the eigenvector of the sums nor any of many directions does better on the mean, and the gradient is 0."""
  basis = np.eye(CHANNELS)[:, 1:]  # without the channel that makes it trivial
  grams = responses.grams(uneven.parts[:, PART], np.zeros(CHANNELS), basis)
  b, value = search.best_appearance(grams, 0.0)
  M, O = grams.inside[:, :-1, :-1], grams.outside[:, :-1, :-1]  # noqa: E741
  _, vectors = search.eigenvectors(M.sum(axis=0), O.sum(axis=0))
  assert value < search.mean_ratio(vectors[:, 0], M, O)[0]
  tried = np.random.default_rng(0).normal(size=(3000, len(b)))
  assert value < min(search.mean_ratio(x, M, O)[0] for x in tried)
  _, slope = search.mean_ratio(b, M, O)
  assert np.abs(slope).max() < 1e-4 * value


@pytest.mark.parametrize('function', ['mean_ratio', 'mean_gain'])
def test_gradients_of_what_is_minimised(function):
  rng = np.random.default_rng(3)
  roots = rng.normal(size=(2, 6, 9, 4))
  M, O = np.einsum('knab,knac->knbc', roots, roots)  # noqa: E741
  first = M if function == 'mean_ratio' else rng.normal(size=(6, 4))
  x, function = rng.normal(size=4), getattr(search, function)
  numeric = optimize.approx_fprime(x, lambda x: function(x, first, O)[0], 1e-6)
  np.testing.assert_allclose(function(x, first, O)[1], numeric, rtol=1e-4, atol=1e-6)


def test_only_appearances_that_occur_are_used():
  """The channel that would not leak never varies in the features, so it is nothing that the layers have seen."""
  generator = PartsGenerator(SPREADS)
  z = np.array(draws(generator, 40)).reshape(40, 4, CHANNELS)
  z[:, :, 0] = 0.3
  mask = generator.parts[:, PART]
  found = region_edit.region_edit(generator, z.reshape(40, -1), 1, generator.region(PART), mask)
  assert abs(found.edit.direction[0]) < 1e-6
  natural = search.natural_appearances(z[:, [PART]], np.ones(1), 64, 1.0)
  assert natural.basis.shape == (CHANNELS, CHANNELS - 1)
  # A column is one standard deviation of the features along it.
  unit = natural.basis / np.linalg.norm(natural.basis, axis=0)
  deviations = (z[:, PART] @ unit).std(axis=0, ddof=1)
  np.testing.assert_allclose(deviations, np.linalg.norm(natural.basis, axis=0), rtol=1e-6)


def noisy_grams(N, seed, r=16):
  """Answers of samples that differ more than they have in common: rows inside and outside, drawn about shared ones."""
  rng = np.random.default_rng(seed)
  shared = np.random.default_rng(1).normal(size=(2, 1, 6, r))
  rows = np.array([1.0, 2.0]).reshape(2, 1, 1, 1) * (shared + 2 * rng.normal(size=(2, N, 6, r)))
  grams = np.zeros((2, N, r + 1, r + 1))
  grams[:, :, :r, :r] = np.einsum('knxa,knxb->knab', rows, rows)
  return Grams(*grams, None)


def test_samples_left_out_choose_the_weight():
  fresh = noisy_grams(2000, 99)
  inside, outside = fresh.inside[:, :-1, :-1], fresh.outside[:, :-1, :-1]

  def on_fresh(grams, weight):
    return search.mean_ratio(search.best_appearance(grams, weight)[0], inside, outside)[0]

  few = [noisy_grams(6, seed) for seed in range(4)]
  weights = [search.cross_validated(grams) for grams in few]
  assert set(weights) <= set(search.WEIGHTS)
  # On samples that took no part, the chosen weights do better than next to none.
  chosen = np.mean([on_fresh(grams, weight) for grams, weight in zip(few, weights, strict=True)])
  assert chosen < 0.97 * np.mean([on_fresh(grams, 1e-3) for grams in few])
  assert search.cross_validated(noisy_grams(1, 0)) in search.WEIGHTS


def test_shrinkage_makes_edits_smaller_and_leakier(uneven):
  found = [
    region_edit.region_edit(
      uneven, draws(uneven, 12), 1, uneven.region(PART), uneven.parts[:, PART], weight=weight, components=4
    ).scores
    for weight in (0.0, 0.3, 10.0)
  ]
  assert found[0]['roir'] < found[1]['roir'] < found[2]['roir']
  assert found[0]['size'] > found[1]['size'] > found[2]['size']


def test_appearance_and_mask_together(alike):
  """From a mask that covers two parts, the search comes to the one that the region is of."""
  region, both = alike.region(PART), alike.parts[:, PART] + 0.8 * alike.parts[:, 0]
  z = draws(alike, 16)
  responses = Responses(alike, z, 1, region)
  first = region_edit.region_edit(alike, z, 1, region, both, weight=0.01)
  natural = search.natural_appearances(responses.features, both, 8, 1.0)
  masks = search.masks_near(responses.features, natural, both, np.zeros(64), (8, 8))
  assert masks.tiles.shape == (64, np.count_nonzero(both))
  assert both @ masks.roughness @ both == pytest.approx(1)
  together = region_edit.region_edit(alike, z, 1, region, both, weight=0.01, joint=True)
  assert together.scores['roir'] < 0.7 * first.scores['roir']
  assert (np.diff(together.history) < 0).all()
  outside = together.edit.mask * (1 - alike.parts[:, PART])
  assert outside.max() < 0.1
  assert together.edit.mask.min() >= 0
  assert together.edit.mask.max() == pytest.approx(1)


def test_coverage_keeps_the_mask_on_the_whole_region(alike):
  """What leaks comes from the border of the region, so that a lower bound leaks less; and the bound holds."""
  z, region, part = draws(alike, 12), alike.region(PART), alike.parts[:, PART]
  ratios = []
  for coverage in (1.0, 0.96):
    found = region_edit.region_edit(alike, z, 1, region, part, joint=True, coverage=coverage, rounds=2)
    assert found.edit.mask[part > 0].min() >= coverage - 1e-6
    ratios.append(found.scores['roir'])
  assert ratios[0] > 1.01 * ratios[1]


@pytest.fixture(scope='module')
def around(uneven, responses):
  """An edit that leaks, the masks near it, and its model of so many samples."""
  rng = np.random.default_rng(4)
  mask = (uneven.parts[:, PART] + 0.5 * uneven.parts[:, 0]) * rng.uniform(0.3, 1, 64)
  natural = search.natural_appearances(responses.features, mask, 4, 1.0)
  masks = search.masks_near(responses.features, natural, mask, 0.2 * mask, (8, 8))
  b = rng.normal(size=4) * 0.2

  def model(most=None, shrink=1e-4):
    grams = responses.grams(mask, natural.basis @ b, natural.basis, masks.tiles, most=most)
    return search.Model(grams, b, mask, masks, shrink)

  def slopes(b, q, extra):
    mean, by_extra, by_added = responses.slopes(q, natural.basis @ b, extra, np.ones(20, bool))
    return mean, by_extra, natural.basis.T @ (q @ by_added), by_added @ (natural.basis @ b)

  return natural, masks, b, mask, model, slopes


def test_a_step_of_appearance_and_mask_is_foretold(around, responses):
  """The step lowers what it minimises, keeps the strength and never makes a mask negative; more damping, less of it."""
  natural, _, b, mask, model, _ = around
  sizes = []
  for damping in (1e-3, 1.0, 1e4):
    one = model()
    c, q = one.edit(one.step(one.start, 0 * one.start, damping))
    assert (q - 0.2 * mask).min() >= -1e-12
    assert q.max() <= 1 + 1e-12
    sizes.append(np.linalg.norm(q - mask) + np.linalg.norm(c - b))
    before, after = (responses.energies(*x) for x in ((mask, natural.basis @ b), (q, natural.basis @ c)))
    ratios = [np.mean(np.sqrt(e.outside / e.inside)) for e in (before, after)]
    assert ratios[1] <= ratios[0] * (1 + 1e-5)
    if damping == 1.0:
      assert np.mean(np.log(after.inside / before.inside)) == pytest.approx(0, abs=0.3)
  assert sizes[0] > sizes[1] > sizes[2]


def test_few_samples_may_be_looked_at(uneven, responses):
  mask, nothing, basis = uneven.parts[:, PART], np.zeros(CHANNELS), np.eye(CHANNELS)
  whole, few = responses.grams(mask, nothing, basis), responses.grams(mask, nothing, basis, most=6)
  for x, y in zip(few[:2], whole[:2], strict=True):
    np.testing.assert_array_equal(x, y[:6])


def test_few_samples_take_derivatives_and_all_correct_them(uneven, monkeypatch):
  """Derivatives are what a search costs: r per sample."""
  grams, counts = Responses.grams, []

  def counted(*args, **kwargs):
    counts.append(len((found := grams(*args, **kwargs)).inside))
    return found

  monkeypatch.setattr(Responses, 'grams', counted)
  z, region, mask = draws(uneven, 40, 3), uneven.region(PART), uneven.parts[:, PART]
  found = region_edit.region_edit(uneven, z, 1, region, mask, weight=0.01)
  assert counts == [region_edit.MODELLED]
  assert len(found.history) == 2
  assert found.history[1] < found.history[0]


def test_steps_end_where_the_model_does():
  """Where next to nothing leaks the slopes of the ratio have no bound, and steps along them would have none."""
  inside, outside, _ = noisy_grams(5, 0)
  b, mask = np.random.default_rng(1).normal(size=16), np.ones(4)
  model = search.Model(
    search.around(Grams(inside, 1e-40 * outside, None), b), b, mask, search.fixed_mask(mask), shrink=0.0
  )
  _, slope = model(model.start)
  assert np.abs(slope).max() < 1  # of a ratio of 1e-20
  step = model.step(model.start, np.full(16, 1e30), search.DAMPING)
  assert np.abs(step).max() <= search.FARTHEST * np.linalg.norm(b)


def test_what_is_known_from_nothing_tells_of_changes_around_an_edit():
  """The energy of b + t, as a form of (t, 1)."""
  grams, rng = noisy_grams(5, 0), np.random.default_rng(1)
  b, t = rng.normal(size=(2, 16))
  moved = search.around(grams, b)
  for before, after in zip(grams[:2], moved[:2], strict=True):
    expected = np.einsum('a,nab,b->n', b + t, before[:, :-1, :-1], b + t)
    np.testing.assert_allclose(np.einsum('a,nab,b->n', np.append(t, 1), after, np.append(t, 1)), expected, rtol=1e-10)


def test_slopes_are_those_of_the_mean_ratio(around):
  """By central differences of true images, and the model's own where it is made: all samples, so nothing to correct."""
  _, _, b, mask, model, slopes = around
  one = model(shrink=0.05)
  mean, by_extra, by_b, by_q = slopes(b, mask, one.extra(one.start))
  value, slope = one(one.start)
  assert mean == pytest.approx(value, rel=1e-4)
  true = one.along(one.start, by_b, by_q, by_extra)
  # float32 sums over some hundred pixels.
  np.testing.assert_allclose(true, slope, atol=1e-4 * np.abs(slope).max())
  rng, ends = np.random.default_rng(5), []
  moved = rng.normal(size=len(slope))
  for sign in (1, -1):
    t = sign * 1e-2 * moved
    ends.append(slopes(*one.edit(t), one.extra(t))[0])
  # Third-order terms of a step of 1e-2, and the rounding of images.
  assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(true @ moved, rel=0.02)


def test_all_samples_correct_a_model_of_few(around):
  """With the slopes of twenty samples a model of four comes nearly as low as one of all twenty."""
  *_, model, slopes = around

  def value(edit):
    return slopes(*edit, 0.0)[0]

  few, every = model(4), model()
  alone = few.step(few.start, 0 * few.start, search.DAMPING)
  corrected = value(search.descended(few, slopes, 10))
  best = value(search.descended(every, slopes, 10))
  assert corrected < 1.1 * best
  assert corrected < 0.8 * value(few.edit(alone))


def test_large_masks_move_in_squares():
  features = np.random.default_rng(0).normal(size=(6, 400, 3)).astype(np.float32)
  natural = search.natural_appearances(features, np.ones(400), 3, 1.0)
  masks = search.masks_near(features, natural, np.ones(400), np.zeros(400), (20, 20))
  assert masks.tiles.shape[1] <= search.MOST_TILES
  np.testing.assert_array_equal(masks.tiles.sum(axis=1), 1)


def test_an_attribute_has_a_known_answer(alike):
  """Samples alike, score <v, X>: the best appearance is O^-1 g, which raises the score by the target."""
  mask, region = alike.parts[:, PART], alike.region(PART)
  J = alike.jacobian(mask)
  v = np.random.default_rng(5).normal(size=J.shape[:-1])
  weights = (v * region[..., None]).astype(np.float32)

  def attribute(images):
    return jnp.einsum('nhwk,hwk->n', images, weights)

  g = np.einsum('hwkc,hwk->c', J, weights)
  z = draws(alike, 10)
  for rest in (region, None):
    rows = J[~region if rest is not None else slice(None)].reshape(-1, J.shape[-1])
    known = np.linalg.solve(rows.T @ rows, g)
    found = region_edit.attribute_edit(alike, z, 1, attribute, mask, target=0.5, region=rest, weight=0.0)
    assert found.edit.direction @ known / np.linalg.norm(known) == pytest.approx(1, abs=1e-4)
    assert found.reached
    assert found.scores['first_order'] == pytest.approx(g @ known / np.linalg.norm(rows @ known), rel=1e-4)
    result = Editor(alike, 1).images(z, found.edit)
    np.testing.assert_allclose(attribute(result.difference), 0.5, rtol=0.01)
    assert np.isnan(found.scores['roir']) == (rest is None)


def test_unreachable_targets_are_told():
  generator = PartsGenerator(SPREADS, saturation=0.05)
  mask, region = generator.parts[:, 0], generator.region(0)
  found = region_edit.region_edit(generator, draws(generator, 6), 1, region, mask, target=0.5, joint=True)
  assert not found.reached
  assert found.scores['change'] < 0.1


def test_scores_are_those_of_the_edited_images():
  options = StyleGAN2Options(resolution=16, widths=(6, 6, 5, 5, 4, 4), z_dim=7, w_dim=8, mapping_widths=(8, 8))
  generator = Compiled(registry.create('stylegan2', options, nnx.Rngs(jax.random.key(0, impl='unsafe_rbg'))))
  latents, layer = generator.map(seeds.draws(generator, range(5))), 3
  region = metrics.box_mask((4, 8, 4, 8), (16, 16))
  mask = region_edit.region_on_grid(region, generator.layers[layer][1:])
  found = region_edit.region_edit(generator, latents, layer, region, mask, weight=0.0, target=0.02)
  assert found.reached
  editor = Editor(generator, layer, batch=5)
  result = editor.images(latents, found.edit)
  ratios = metrics.roir(result.original, result.edited, region)
  # The same images by other programs: the rounding of images of order 1 is small beside changes of 0.02.
  assert np.mean(ratios) == pytest.approx(found.scores['roir'], rel=1e-3)
  changes = metrics.in_region_change(result.original, result.edited, region)
  assert np.median(changes) == pytest.approx(0.02, rel=0.01)
  for seed in range(5):
    direction = np.random.default_rng(seed).normal(size=found.edit.direction.shape)
    direction *= 1 / np.linalg.norm(direction)
    other = editor.images(latents, found.edit.replace(direction=direction.astype(np.float32)))
    assert np.mean(metrics.roir(other.original, other.edited, region)) > np.mean(ratios)


class Untraceable(PartsGenerator):
  def run_from(self, latents, state, layer, noise='const', drop_rgb=False):
    return np.tanh(np.asarray(super().run_from(latents, state, layer)))


class Broken(PartsGenerator):
  def run_from(self, latents, state, layer, noise='const', drop_rgb=False):
    return jnp.sqrt(super().run_from(latents, state, layer))  # NaN where an image is negative


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'layer': 2}, 'layer=2'),
    ({'region': (0, 16, 0, 16)}, 'nothing is outside'),
    ({'region': (0, 20, 0, 16)}, 'not a box'),
    ({'mask': np.ones(63)}, 'mask'),
    ({'mask': np.zeros(64)}, 'somewhere positive'),
    ({'mask': -np.ones(64)}, 'not negative'),
    ({'target': 0.0}, 'target=0.0'),
    ({'weight': -1.0}, 'weight=-1.0'),
    ({'components': 0}, 'components=0'),
    ({'coverage': 1.5}, 'coverage=1.5'),
  ],
)
def test_mistakes_cost_one_line(alike, changes, said):
  given = {'layer': 1, 'region': (0, 8, 8, 16), 'mask': alike.parts[:, PART]} | changes
  with pytest.raises(InputError) as raised:
    region_edit.region_edit(alike, draws(alike, 3), **given)
  assert said in str(raised.value)
  assert '\n' not in str(raised.value)


def test_generators_that_cannot_be_searched():
  for kind, error, said in ((Untraceable, InputError, 'Untraceable'), (Broken, NonFiniteError, 'sample')):
    generator = kind(SPREADS)
    with pytest.raises(error, match=said):
      region_edit.region_edit(generator, draws(generator, 3), 1, (0, 8, 8, 16), generator.parts[:, PART])


def test_a_mask_that_does_not_reach_the_region(alike):
  generator = PartsGenerator([0.0, 0.0])
  with pytest.raises(InputError, match='reaches the region'):
    region_edit.region_edit(generator, draws(generator, 3), 1, generator.region(3), generator.parts[:, 0])
  # Where single samples do not answer, the others decide.
  grams = noisy_grams(5, 0)
  silent = Grams(grams.inside * (np.arange(5) != 2).reshape(5, 1, 1), grams.outside, None)
  kept = search.answering(silent)
  np.testing.assert_array_equal(kept.outside, grams.outside[[0, 1, 3, 4]])
  assert np.isfinite(search.best_appearance(kept, 0.01)[1])


@pytest.mark.parametrize(
  ('attribute', 'said'),
  [
    (lambda images: images.mean(axis=(1, 2)), 'one number for each image'),
    (lambda images: 0 * images.mean(axis=(1, 2, 3)), 'no change under the mask'),
  ],
)
def test_attributes_that_are_none(alike, attribute, said):
  with pytest.raises(InputError, match=said):
    region_edit.attribute_edit(alike, draws(alike, 3), 1, attribute, alike.parts[:, 0], target=0.1)
