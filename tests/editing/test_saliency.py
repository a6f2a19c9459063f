"""Saliency: the published notebook's numbers and pictures, streamed statistics, thresholds, masks and their overlap."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panda_jax.converters.dialects import stylegan2 as converter
from panda_jax.editing import saliency
from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators import seeds
from panda_jax.generators.structure import Compiled
from panda_jax.pictures.figures import to_bytes
from panda_jax.solver.factors import Factors
from tests.generators.checkpoints import generator

CHOSEN = (0, 2, 7)
SIZE = (256, 256)
RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def reference():
  with np.load(Path(__file__).parents[1] / 'data' / 'behaviour' / 'saliency.npz') as file:
    return dict(file)


@pytest.fixture(scope='module')
def stylegan2():
  return Compiled(generator(converter, 'stylegan2/checkpoint.pth'))


def factors_of(appearances, grid=(16, 16), mean=None):
  return Factors(appearances, np.zeros((grid[0] * grid[1], 1)), grid, mean=mean)


def features_at(stylegan2, z, layer=5):
  return stylegan2.run_to(stylegan2.map(z), layer).features


def test_statistics_of_the_published_notebook(reference, stylegan2):
  factors = factors_of(reference['Uc'])
  z = seeds.draws(stylegan2, range(20))
  batches = (features_at(stylegan2, z[i : i + 4]) for i in range(0, 20, 4))
  statistics = saliency.dataset_statistics(batches, factors, CHOSEN)
  assert (statistics.samples, statistics.count) == (20, 20 * 256)
  for j, appearance in enumerate(CHOSEN):
    found = [statistics.mean[j], statistics.low[j], statistics.high[j]]
    np.testing.assert_allclose(found, reference[f'a{appearance}__mean_min_max'], atol=2e-5)
  found = saliency.coordinates(features_at(stylegan2, z[:4]), factors, 0)
  assert found.shape == (4, 16, 16, 1)
  np.testing.assert_allclose(found[..., 0], reference['a0__coords'][:4], atol=2e-5)


def test_masks_of_the_published_notebook(reference, stylegan2):
  shown = features_at(stylegan2, reference['z_show'])
  found = saliency.coordinates(shown, factors_of(reference['Uc']), CHOSEN)
  for j, appearance in enumerate(CHOSEN):
    name = f'a{appearance}'
    np.testing.assert_allclose(found[..., j], reference[f'{name}__show_coords'], atol=2e-5)
    masks = saliency.masks(found[..., j], reference[f'{name}__mean_min_max'][0], SIZE)
    theirs = np.unpackbits(reference[f'{name}__mask_256'], axis=-1).astype(bool)
    assert masks.shape == theirs.shape == (6, *SIZE)
    assert (masks != theirs).mean() < 1e-3
    assert saliency.intersection_over_union(masks, theirs).min() > 0.999
  fine = saliency.resized(found[:1, :, :, 0], SIZE)
  np.testing.assert_allclose(fine[0, ::4, ::4], reference['a0__resized_coord_0'], atol=5e-5)


@pytest.mark.parametrize('appearance', [0, 7])
def test_heat_maps_of_the_published_notebook(reference, appearance):
  _, low, high = reference[f'a{appearance}__mean_min_max']
  values = reference[f'a{appearance}__show_coords'][:2]
  ours = saliency.heat_maps(values, low, high, SIZE).astype(int)
  # In the original, cells beyond the dataset's range overflow, and its filter spreads this to a few more cells.
  beyond = (values < low) | (values > high)
  near = saliency.resized(255 * beyond.astype(np.uint8), SIZE) > 0
  near |= saliency.resized(beyond.astype(np.float32), SIZE) != 0
  wrong = np.abs(ours - reference[f'a{appearance}__heat_256']) > 1
  assert not (wrong & ~near).any()
  assert near.mean() < 0.5


def test_cut_outs_of_the_published_notebook(reference):
  """Its image lacks the RGB from before the layer; this test only needs the pixels that become white."""
  values = reference['a0__show_coords'][1:2]
  inside = saliency.masks(values, reference['a0__mean_min_max'][0], SIZE)[:, ::2, ::2]
  image = reference['image_1'][None].astype(np.float32) / 127.5 - 1
  for mask, name in ((~inside, 'masked_negative_1'), (inside, 'masked_positive_1')):
    ours = to_bytes(saliency.cut_outs(image, mask))[0]
    assert np.abs(ours.astype(int) - reference[name]).max() <= 1


def test_a_mean_that_the_fit_subtracted_is_subtracted():
  Z, A = RNG.standard_normal((3, 4, 5, 6)).astype(np.float32), RNG.standard_normal((6, 6))
  for rows in (1, 20):
    mean = RNG.standard_normal((rows, 6)).astype(np.float32)
    found = saliency.coordinates(Z, factors_of(A, (4, 5), mean), [4, 1])
    expected = (Z.reshape(3, 20, 6) - mean) @ A[:, [4, 1]]
    np.testing.assert_allclose(found, expected.reshape(3, 4, 5, 2), atol=1e-5)
  np.testing.assert_array_equal(found, saliency.coordinates(Z.reshape(3, 20, 6), factors_of(A, (4, 5), mean), [4, 1]))


@pytest.mark.parametrize('size', [1, 7, 100])
def test_statistics_do_not_depend_on_the_batches(size):
  values = np.concatenate([RNG.normal(-3, 1, (60, 5, 5, 2)), RNG.normal(40, 2, (40, 5, 5, 2))]).astype(np.float32)
  values[..., 1] *= 1e-3
  statistics = saliency.Statistics()
  for first in range(0, 100, size):
    statistics.add(values[first : first + size])
  flat = values.reshape(-1, 2).astype(np.float64)
  np.testing.assert_allclose(statistics.mean, flat.mean(axis=0), rtol=1e-12)
  np.testing.assert_allclose(statistics.std, flat.std(axis=0), rtol=1e-12)
  np.testing.assert_array_equal(statistics.low, flat.min(axis=0))
  np.testing.assert_array_equal(statistics.high, flat.max(axis=0))
  np.testing.assert_allclose(statistics.thresholds('mean'), flat.mean(axis=0))
  np.testing.assert_array_equal(statistics.thresholds(0.5), [0.5, 0.5])
  for j, threshold in enumerate(statistics.thresholds('otsu')):
    assert (flat[:, j] > threshold).mean() == pytest.approx(0.4)  # between the two heaps


def test_otsu_is_the_best_of_all_thresholds():
  values = np.concatenate([RNG.normal(0, 1, 3000), RNG.normal(2.5, 0.7, 1000)])
  statistics = saliency.Statistics()
  statistics.add(values.reshape(10, 20, 20, 1))

  def between(t):
    below, above = values[values < t], values[values >= t]
    return len(below) * len(above) * (below.mean() - above.mean()) ** 2

  best = max(between(t) for t in np.quantile(values, np.linspace(0.01, 0.99, 400)))
  assert between(statistics.thresholds('otsu')[0]) > 0.9999 * best


@pytest.mark.parametrize('value', [0.0, -3.5, 1e-30])
def test_constant_coordinates_have_statistics_too(value):
  statistics = saliency.Statistics()
  for _ in range(2):
    statistics.add(np.full((2, 3, 3, 1), value))
  assert statistics.std[0] == 0
  assert np.isfinite(statistics.thresholds('otsu')).all()
  statistics.add(np.full((1, 3, 3, 1), 1e6))
  assert value < statistics.thresholds('otsu')[0] <= 1e6
  assert saliency.heat_maps(np.full((1, 3, 3), value, np.float32), value, value, (8, 8)).max() == 0


def test_a_margin_is_cut_off_in_the_right_place():
  """A planted square, 4 cells inside a grid of 20x12 with a margin of 2, lands where an image of 16x8 cells has it."""
  values = np.zeros((1, 20, 12), np.float32)
  values[0, 6:10, 5:8] = 1
  mask = saliency.masks(values, 0.5, (160, 80), margin=2)[0]
  rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
  np.testing.assert_allclose([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1], [40, 80, 30, 60], atol=1)
  assert saliency.masks(values, 0.5).shape == (1, 20, 12)
  cut = saliency.resized(values, (16, 10), margin=(2, 1))
  np.testing.assert_array_equal(cut, values[:, 2:-2, 1:-1])


def test_overlap_counts_pixels():
  found = np.zeros((3, 4, 4), bool)
  found[0, :2], found[1, :, :2] = True, True
  given = np.zeros((3, 4, 4), bool)
  given[0, :2, :2], given[1, 2:, 2:] = True, True
  np.testing.assert_allclose(saliency.intersection_over_union(found, given), [0.5, 0, 1])
  for scale, dtype in ((255, np.uint8), (1, np.uint8), (1, np.float32), (1, np.int64)):
    np.testing.assert_allclose(saliency.intersection_over_union(found, (given * scale).astype(dtype)), [0.5, 0, 1])


def test_says_in_one_line_what_cannot_be_used():
  factors = factors_of(np.eye(6), (4, 5))
  Z = np.zeros((2, 4, 5, 6), np.float32)
  for chosen in (6, -1, 1.5, True, [], [0, 0], [0, 9]):
    with pytest.raises(InputError, match='appearance=') as error:
      saliency.coordinates(Z, factors, chosen)
    assert '0 to 5' in str(error.value)
  with pytest.raises(InputError, match='features=shape 2x5x4x6'):
    saliency.coordinates(Z.swapaxes(1, 2), factors, 0)
  Z[1, 2, 2, 3] = np.nan
  with pytest.raises(NonFiniteError, match='sample 1'):
    saliency.coordinates(Z, factors, 0)
  statistics = saliency.Statistics()
  with pytest.raises(InputError, match='samples=0'):
    statistics.thresholds()
  statistics.add(np.zeros((1, 2, 2, 1)))
  for method in ('median', np.inf):
    with pytest.raises(InputError, match='threshold='):
      statistics.thresholds(method)
  with pytest.raises(InputError, match='masks=shape 2x4x4'):
    saliency.intersection_over_union(np.zeros((2, 4, 5), bool), np.zeros((2, 4, 4), bool))


def test_grey_levels_stay_bytes_when_resized():
  levels = RNG.integers(0, 256, (2, 8, 8)).astype(np.uint8)
  ours = saliency.resized(levels, (20, 30))
  assert ours.dtype == np.uint8
  np.testing.assert_array_equal(ours[1], Image.fromarray(levels[1]).resize((30, 20), Image.Resampling.LANCZOS))
