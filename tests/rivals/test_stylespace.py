"""StyleSpace: stored numbers of the published code, and a generator whose styles draw known patterns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators.base import Buffer, WPlus
from panda_jax.generators.stylegan2 import StyleGAN2, StyleGAN2Options, Styles
from panda_jax.regions.metrics import box_mask
from panda_jax.rivals import style_gradients, stylespace
from panda_jax.rivals.movement import Mover, flat_styles, style_sizes
from tests.rivals import references

BOX = (0, 4, 0, 4)  # of 8 x 8 pixels
# Of each planted style: the length of its pattern inside of the box and outside, and its standard deviation.
INSIDE = np.array([0, 1, 1, 1, 0.001, 2, 1])
OUTSIDE = np.array([1, 1, 0, 0.1, 0, 0.6, 0])
DEVIATIONS = np.array([0.3, 0.2, 0.25, 0.3, 0.1, 0.2, 0])


class PlantedStyles(nnx.Module):
  """Style c paints s_c + s_c^2 / 2 times a pattern, so that its derivative is (1 + s_c) times the pattern.

  Styles: conv0 (2), rgb0 (1), conv1 (4); s = w, which is z scaled by known deviations and truncation.
  """

  family, num_classes, z_dim, w_dim, resolution, image_channels = 'planted', 0, 7, 7, 8, 3
  sizes = (('conv0', 2), ('rgb0', 1), ('conv1', 4))

  def __init__(self):
    rng = np.random.default_rng(0)
    mask = box_mask(BOX, (8, 8))
    patterns = rng.standard_normal((7, 8, 8, 3))
    unit = [np.sqrt(np.sum(patterns**2 * m[None, :, :, None], axis=(1, 2, 3))) for m in (mask, ~mask)]
    scale = np.where(mask[None], (INSIDE / unit[0])[:, None, None], (OUTSIDE / unit[1])[:, None, None])
    self.patterns = Buffer(jnp.asarray(patterns * scale[..., None], jnp.float32))
    self.deviations = Buffer(jnp.asarray(DEVIATIONS, jnp.float32))

  def affine_weights(self):
    rows = np.split(np.eye(7, dtype=np.float32), [2, 3], axis=1)
    return {name: row for (name, _), row in zip(self.sizes, rows, strict=True)}

  def map(self, z, labels=None, truncation=1.0, truncation_layers=None):
    w = jnp.asarray(z) * self.deviations[...][None] * truncation
    return WPlus(jnp.broadcast_to(w[:, None], (len(w), 2, 7)))

  def styles(self, latents):
    w = latents.wplus[:, 0]
    return Styles((w[:, :2], w[:, 3:]), (w[:, 2:3],))

  def sample(self, key, n):
    return jax.random.normal(key, (n, 7)), None

  def __call__(self, latents, noise='const'):
    latents = latents if isinstance(latents, Styles) else self.styles(latents)
    s = jnp.concatenate([latents.convs[0], latents.rgbs[0], latents.convs[1]], axis=1)
    return jnp.einsum('nc,chwk->nhwk', s + s**2 / 2, self.patterns[...])


@pytest.fixture(scope='module')
def planted():
  return PlantedStyles()


@pytest.fixture(scope='module')
def stored():
  return references.numbers('stylespace')


@pytest.fixture(scope='module')
def stylegan2():
  return references.generator('stylegan2')


def test_stored_styles(stylegan2, stored):
  assert [size for _, size in style_sizes(stylegan2)] == stored['layer_sizes'].tolist()
  assert [name[0] == 'r' for name, _ in style_sizes(stylegan2)] == stored['layer_is_torgb'].tolist()
  drawn = next(style_gradients.style_rows(stylegan2, 1, 5, 0.7, 8, copied=True))
  np.testing.assert_allclose(drawn[0], stored['S_A'], atol=1e-5)
  other = flat_styles(stylegan2, stylegan2.styles(WPlus(stored['wp_B'])))
  np.testing.assert_allclose(other[0], stored['S_B'], atol=1e-5)
  # With one mean of w, drawing all rows towards it is the same as copying the first one.
  np.testing.assert_array_equal(next(style_gradients.style_rows(stylegan2, 1, 5, 0.7)), drawn)


def test_stored_statistics(stylegan2, stored):
  rows = style_gradients.style_rows(stylegan2, 2000, 6, 0.7, 8, copied=True)
  means, deviations, first = style_gradients.statistics(rows, 1300)  # blocks hold 1024
  np.testing.assert_allclose(means, stored['S_mean'], atol=1e-5)
  np.testing.assert_allclose(deviations, stored['S_std'], rtol=1e-5)
  again = style_gradients.style_rows(stylegan2, 1300, 6, 0.7)
  np.testing.assert_allclose(first, np.concatenate(list(again)), atol=1e-5)


# Layer (in the order of all styles), channel and strength in deviations, as the file's description has them.
EDITS = ((0, 5, 8.0), (3, 2, -6.0), (12, 4, 10.0), (13, 1, 7.0))


def test_stored_edits(stylegan2, stored):
  mover, latents = Mover(stylegan2, 's'), WPlus(stored['wp_A'])
  starts = np.concatenate([[0], np.cumsum(stored['layer_sizes'])])
  still = mover.images(latents, np.zeros(320), 0.0)
  np.testing.assert_allclose(references.nchw(still), stored['image_A'], atol=1e-4)
  for number, (layer, channel, alpha) in enumerate(EDITS):
    step = np.zeros(320)
    step[starts[layer] + channel] = stored['S_std'][starts[layer] + channel]
    image = mover.images(latents, step, alpha)
    np.testing.assert_allclose(references.nchw(image), stored[f'edit{number}__image'], atol=1e-4)
  assert mover.compilations() == 1


def test_stored_maps_overlaps_and_votes(stylegan2, stored):
  starts = np.concatenate([[0], np.cumsum(stored['layer_sizes'])])
  chosen = starts[stored['grad__layer_channel'][:, 0]] + stored['grad__layer_channel'][:, 1]
  maps = next(style_gradients.gradient_maps(stylegan2, stored['S_A'][None], 16, styles=chosen, chunk=28))
  np.testing.assert_allclose(np.moveaxis(maps, -1, 1), stored['grad__maps'], atol=1e-5)
  found = stylespace.overlaps(np.abs(maps).mean(axis=-1), stored['grad__labels'], 5)
  np.testing.assert_allclose(found, stored['grad__scores_n_u_o'], atol=1)  # a cell may fall on the threshold
  np.testing.assert_array_equal(stylespace.votes(found), stored['grad__vote'])


def test_maps_are_the_patterns_both_ways(planted):
  rows = next(style_gradients.style_rows(planted, 3, 1, 1.0))
  for cells in (8, 2):
    expected = np.asarray(planted.patterns[...]).reshape(7, cells, 8 // cells, cells, 8 // cells, 3).mean(axis=(2, 4))
    for mode in ('forward', 'reverse'):
      found = list(style_gradients.gradient_maps(planted, rows, cells, chunk=5, mode=mode))
      assert len(found) == 3
      for row, maps in zip(rows, found, strict=True):
        np.testing.assert_allclose(maps, (1 + row)[:, None, None, None] * expected, atol=1e-6)
      some = next(style_gradients.gradient_maps(planted, rows, cells, styles=[4, 1, 3], chunk=5, mode=mode))
      np.testing.assert_array_equal(some, found[0][[4, 1, 3]])
  with pytest.raises(InputError, match='cells=3'):
    next(style_gradients.gradient_maps(planted, rows, 3))


def test_energies_from_probes(planted):
  """Mean of 300 chi-squared numbers; 256 are drawn at once here, so the rest of a call is left unused."""
  rows = next(style_gradients.style_rows(planted, 9, 1, 1.0))
  masks = np.stack([box_mask(BOX, (8, 8)), ~box_mask(BOX, (8, 8))])
  said = []
  found = style_gradients.region_energies(
    planted, rows, masks, probes=300, seed=3, on_progress=lambda *what: said.append(what[1:])
  )
  expected = (1 + rows[:, None].astype(np.float64)) ** 2 * np.stack([INSIDE, OUTSIDE])[None] ** 2
  ratio = found[expected > 0] / expected[expected > 0]
  # Nine samples have probes of their own, those of styles and regions are shared: 5 deviations of either.
  np.testing.assert_allclose(ratio, 1, atol=5 * np.sqrt(2 / 300))
  np.testing.assert_allclose(ratio.mean(), 1, atol=5 * np.sqrt(2 / 300 / 9))
  assert (found[expected == 0] == 0).all()
  assert said == [(8, 9), (9, 9)]
  own = np.broadcast_to(masks, (9, 2, 8, 8))
  again = style_gradients.region_energies(planted, rows, own, probes=300, seed=3)
  np.testing.assert_allclose(again, found, rtol=1e-5)


def test_scores_have_no_bias_even_from_few_probes():
  rng = np.random.default_rng(0)
  N, T = 200_000, 4
  true = np.array([[4.0], [9.0]])
  energies = true[None] * rng.chisquare(T, (N, 2, 1)) / T
  leakage, change = stylespace.linear_scores(energies, np.full((1, 1), 16), T)
  # sqrt(F / E) of four probes has a heavy tail: 200 000 samples leave 0.3 %.
  np.testing.assert_allclose(leakage, 1.5, rtol=0.01)
  np.testing.assert_allclose(change, 2 / 4, rtol=0.005)
  plain = np.sqrt(energies[:, 1] / energies[:, 0]).mean()
  assert plain > 1.15 * 1.5  # what is taken out


def test_scores_where_nothing_changes():
  energies = np.zeros((2, 2, 3))
  energies[:, 1, 1] = 1  # style 1 changes the outside alone
  energies[0, :, 2] = 1, 4  # style 2 changes the first sample alone
  leakage, change = stylespace.linear_scores(energies, np.ones((2, 1)), 10**6)
  np.testing.assert_allclose(leakage, [1e6, 1e6, 2], rtol=1e-5)
  np.testing.assert_allclose(change, [0, 0, 0.5], rtol=1e-5)
  # A sample that does not show the region has no say.
  leakage, change = stylespace.linear_scores(energies, np.array([[1], [0]]), 10**6)
  np.testing.assert_allclose(change, [0, 0, 1], rtol=1e-5)


def test_planted_styles_are_found(planted):
  """conv1.2 leaks 0.3, conv1.0 0.1; conv0.1 leaks 1; conv1.1 leaks nothing and is too weak; conv1.3 never varies."""
  found = stylespace.discover(planted, region=BOX, samples=40, population=4000, truncation=1.0, probes=64, target=0.5)
  assert found.provenance['channels'] == [['conv1', 0], ['conv1', 2], ['conv0', 1], ['conv1', 1], ['conv0', 0]]
  assert (found.space, found.unit, found.layers) == ('s', 'sigma', None)
  order = [3, 5, 1, 4, 0]
  np.testing.assert_array_equal(found.vectors, np.eye(7)[order])
  np.testing.assert_allclose(found.units, DEVIATIONS[order], rtol=0.05)
  np.testing.assert_allclose(found.scores['leakage'][:4], [0.1, 0.3, 1, 0], rtol=0.05)
  assert found.scores['leakage'][4] == 1e6
  # |1 + s| is 1 on average, within what 40 samples of s tell.
  np.testing.assert_allclose(found.scores['inside'], (INSIDE * DEVIATIONS)[order] / np.sqrt(48), rtol=0.2)
  coloured = stylespace.discover(planted, region=BOX, rgb=True, k=1, samples=8, population=100, truncation=1.0)
  assert coloured.provenance['channels'] == [['rgb0', 0]]


def test_masks_for_each_sample(planted):
  options = {'samples': 6, 'population': 100, 'truncation': 1.0}
  mask = box_mask(BOX, (8, 8))
  one = stylespace.discover(planted, region=mask, **options)
  each = np.broadcast_to(mask, (6, 8, 8)).copy()
  same = stylespace.discover(planted, region=each, **options)
  for name in one.scores:
    np.testing.assert_allclose(same.scores[name], one.scores[name], rtol=1e-5)
  each[:3] = ~mask  # half of the samples show it elsewhere
  other = stylespace.discover(planted, region=each, **options)
  position = {tuple(channel): j for j, channel in enumerate(other.provenance['channels'])}
  assert other.scores['leakage'][position['conv1', 0]] == pytest.approx((0.1 + 10) / 2, rel=0.3)
  each[:3] = False  # they show it nowhere
  hidden = stylespace.discover(planted, region=each, **options)
  position = {tuple(channel): j for j, channel in enumerate(hidden.provenance['channels'])}
  assert hidden.scores['leakage'][position['conv1', 0]] == pytest.approx(0.1, rel=0.3)


def test_published_votes_find_planted_styles(planted):
  found = stylespace.discover(planted, region=BOX, samples=5, population=100, truncation=1.0, published=True)
  assert found.provenance['channels'] == [['conv0', 1], ['conv1', 0], ['conv1', 1], ['conv1', 2]]
  # conv0.1 leaks as much as it changes, over three times as many cells: each of them is weaker, and none has a vote.
  np.testing.assert_array_equal(found.scores['rate'], 1)
  np.testing.assert_array_equal(found.scores['margin'], 1)
  with pytest.raises(InputError, match=r'region=\[7, 8, 7, 8\]: no style has more than 50% of 2 votes there'):
    stylespace.discover(planted, region=(7, 8, 7, 8), others=[BOX], samples=2, population=2, published=True)


def test_rates_count_images_that_show_the_region(planted):
  rows = next(style_gradients.style_rows(planted, 4, 1, 1.0))
  masks = np.zeros((4, 1, 8, 8), bool)
  masks[0, 0, :4, :4] = masks[1, 0, 4:, 4:] = True  # not to be seen in the other two
  rates = stylespace.vote_rates(planted, rows, masks, 8, np.array([3, 0]), lambda *what: None)
  np.testing.assert_allclose(rates[0], [0.5, 0.75])  # conv1.0 is there in one of the two
  assert rates[1, 0] <= 0.5
  assert stylespace._local(rates)[0].size == 0


def test_labels_of_cells_go_by_majority():
  masks = np.zeros((2, 4, 4), bool)
  masks[0, :2, :2] = True
  masks[0, 0, 2] = True  # a quarter of its cell
  masks[1, :3, :] = True  # the first region counts where both are; half of the lower cells
  np.testing.assert_array_equal(stylespace.cell_labels(masks, 2), [[0, 1], [1, 1]])
  np.testing.assert_array_equal(stylespace.cell_labels(masks[:1], 2), [[0, 1], [1, 1]])  # 1 is the rest


def test_attribute_is_found_and_points_to_it(planted):
  z = np.random.RandomState(3).standard_normal((3000, 7)).astype(np.float32)
  positives = z[(z[:, 3] < -1.5)][:20]  # conv1.0 is low
  found = stylespace.attribute(planted, positives, truncation=1.0, population=3000, k=3)
  assert found.provenance['channels'][0] == ['conv1', 0]
  assert found.vectors[0, 3] == -1
  x = positives[:, 3]
  # Population means and deviations are those of 3000 samples.
  np.testing.assert_allclose(found.scores['score'][0], np.abs(x.mean()) / x.std(), rtol=0.1)
  assert (np.diff(found.scores['score']) <= 0).all()
  assert ['rgb0', 0] not in stylespace.attribute(planted, positives, rgb=False, population=50).provenance['channels']
  with pytest.raises(InputError, match='positives=shape 1x7'):
    stylespace.attribute(planted, positives[:1])


def test_real_architecture_and_no_compilation_at_the_next_call():
  made = [
    references.filled(lambda: StyleGAN2(StyleGAN2Options(16, (5,) * 6, 4, 4, (4,)), nnx.Rngs(0)), seed)
    for seed in (0, 1)
  ]
  options = {'samples': 2, 'population': 64, 'probes': 2, 'target': 1e-9}
  found = stylespace.discover(made[0], region=(4, 10, 4, 12), k=4, **options)
  assert found.vectors.shape == (4, 8 * 5)
  assert (np.diff(found.scores['leakage']) >= 0).all()
  functions = (style_gradients._squared, style_gradients._style_rows)
  before = [function._cache_size() for function in functions]
  for generator, seed in ((made[0], 9), (made[1], 5)):
    stylespace.discover(generator, region=(0, 8, 0, 8), seed=seed, **options)
  assert [function._cache_size() for function in functions] == before


def test_wrong_arguments(planted, stylegan2):
  for generator, name in ((references.generator('pggan'), 'progan'), (references.dcgan(), 'DCGAN')):
    with pytest.raises(InputError, match=f'{name} has no style space; use a StyleGAN2'):
      stylespace.discover(generator, region=BOX)
  for arguments, match in (
    ({'region': (0, 9, 0, 4)}, 'it is not a box in an image of 8 x 8 pixels'),
    ({'region': np.zeros((4, 4))}, 'mask of shape 4x4'),
    ({'region': np.zeros((3, 8, 8))}, 'masks of shape 3x8x8: there are 5 samples of 8 x 8 pixels'),
    ({'region': np.zeros((5, 8, 8))}, 'no sample shows it'),
    ({'probes': 1}, 'probes=1'),
    ({'samples': 0}, 'samples=0'),
    ({'k': 0}, 'k=0'),
    ({'labels': [0]}, 'labels='),
  ):
    with pytest.raises(InputError, match=match):
      stylespace.discover(planted, **{'region': BOX, 'samples': 5, 'population': 50} | arguments)


def test_what_is_not_finite_is_said(planted):
  broken = PlantedStyles()
  broken.patterns[...] = broken.patterns[...].at[0, 0, 0, 0].set(np.inf)
  with pytest.raises(NonFiniteError, match='sample 0: its gradient is NaN or infinity'):
    stylespace.discover(broken, region=BOX, samples=2, population=20)
  broken.deviations[...] = jnp.full(7, np.nan)
  with pytest.raises(NonFiniteError, match='styles from seed 5'):
    stylespace.discover(broken, region=BOX, samples=2, population=20)
