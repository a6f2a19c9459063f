"""Numbers computed by hand, planted curves for the strengths, and inputs that must be refused."""

import math

import jax
import numpy as np
import pytest

from panda_jax.errors import InputError
from panda_jax.regions import metrics
from tests.planted_generators import PartsGenerator


def test_box_is_rows_then_columns():
  mask = metrics.box_mask((1, 3, 0, 4), (5, 6))
  assert mask.dtype == bool
  np.testing.assert_array_equal(np.argwhere(mask), [[r, c] for r in (1, 2) for c in range(4)])
  np.testing.assert_array_equal(metrics.region_mask((1, 3, 0, 4), (5, 6)), mask)
  np.testing.assert_array_equal(metrics.region_mask(mask.astype(np.uint8), (5, 6)), mask)


@pytest.mark.parametrize(
  ('region', 'what'),
  [
    ((0, 6, 0, 2), 'not a box'),
    ((2, 2, 0, 2), 'not a box'),
    ((-1, 2, 0, 2), 'not a box'),
    ((0, 5, 0, 6), 'nothing is outside'),
    ((0, 2, 0), 'four whole numbers'),
    ((0.0, 2.0, 0.0, 2.0), 'four whole numbers'),
    ('eyes', 'four whole numbers'),
    ([[1], [2, 3]], 'four whole numbers'),
    (None, 'four whole numbers'),
    (np.zeros((5, 6), bool), 'nothing is inside'),
    (np.ones((5, 5), bool), '5 x 6 pixels'),
    (np.full((5, 6), 0.5), 'not all 0 or 1'),
  ],
)
def test_regions_that_are_none(region, what):
  with pytest.raises(InputError, match=what) as raised:
    metrics.region_mask(region, (5, 6))
  assert '\n' not in str(raised.value)


def test_roir_by_hand():
  original = np.zeros((3, 4, 4, 3), np.float32)
  edited = original.copy()
  mask = metrics.box_mask((0, 2, 0, 2), (4, 4))
  edited[0, 0, 0] = [3, 0, 4]  # norm 5 inside
  edited[0, 3, 3, 0], edited[0, 2, 0, 1] = 1, 1  # norm sqrt 2 outside
  edited[1, mask] = 0.5  # nothing outside
  edited[2, 3, 3] = 1  # nothing inside
  np.testing.assert_allclose(metrics.roir(original, edited, mask), [math.sqrt(2) / 5, 0, math.nan], rtol=1e-6)
  change = metrics.in_region_change(original, edited, mask)
  np.testing.assert_allclose(change, [5 / math.sqrt(12), 0.5, 0], rtol=1e-6)
  found = metrics.summary(metrics.roir(original, edited, mask))
  assert (found.n, found.flagged) == (2, 1)
  assert found.mean == pytest.approx(math.sqrt(2) / 10)


def test_roir_of_a_planted_edit():
  """A channel of spread 0 leaks nothing; of a spread one the numbers are those of the known Jacobian."""
  generator = PartsGenerator([0.0, 2.0])
  z, _ = generator.sample(jax.random.key(0), 4)
  state = generator.run_to(z, 1)
  mask = generator.region(2)
  found = []
  for channel in range(2):
    added = np.zeros((64, 2), np.float32)
    added[:, channel] = generator.parts[:, 2]
    edited = generator.run_from(z, state.replace(features=state.features + added.reshape(1, 8, 8, 2)), 1)
    found.append(metrics.roir(generator(z), edited, mask))
    leaked = generator.jacobian(generator.parts[:, 2])[..., channel]
    expected = np.linalg.norm(leaked[~mask]) / np.linalg.norm(leaked[mask])
    np.testing.assert_allclose(found[-1], expected, atol=1e-6)  # float32 differences of images of order 1
  assert found[1].min() > 0.1 > found[0].max()


def test_downsampling_is_by_area():
  rng = np.random.default_rng(0)
  images = rng.normal(size=(2, 12, 8, 3)).astype(np.float32)
  halved = np.asarray(metrics.downsampled(images, 6))
  np.testing.assert_allclose(halved, images.reshape(2, 6, 2, 4, 2, 3).mean(axis=(2, 4)), atol=1e-6)
  assert metrics.downsampled(images, 12) is images
  assert metrics.downsampled(images, 256) is images
  assert metrics.compared_size((12, 8), 9) == (9, 6)
  weights = metrics.area_weights(7, 3)  # boundaries inside of pixels
  np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
  np.testing.assert_allclose(weights.sum(axis=0), 3 / 7, rtol=1e-6)  # no pixel counts more than another
  # A region on whole cells keeps its change; one that cuts cells is inside by the area.
  mask = metrics.box_mask((0, 4, 0, 4), (12, 8))
  assert metrics.entries(mask, 6) == pytest.approx(4)
  change = metrics.in_region_change(np.zeros_like(images), np.ones_like(images), mask, 6)
  np.testing.assert_allclose(change, 1, rtol=1e-6)


def test_images_of_other_shapes_are_refused():
  images = np.zeros((2, 4, 4, 3), np.float32)
  for edited, mask in ((images[:1], np.ones((4, 4))), (images, np.ones((4, 5)))):
    with pytest.raises(InputError, match='edited'):
      metrics.roir(images, edited, mask)


def test_leakage_map():
  original = np.zeros((2, 3, 3, 2), np.float32)
  edited = original.copy()
  edited[0, 1, 2] = [3, 4]
  expected = np.zeros((3, 3))
  expected[1, 2] = math.sqrt(12.5) / 2
  np.testing.assert_allclose(metrics.leakage_map(original, edited), expected, rtol=1e-6)


SCALES = np.linspace(0.5, 2, 31)  # samples differ; their median is the middle one
CURVES = {
  'linear': lambda x: 3e-3 * x,
  'quadratic': lambda x: 1e-4 * x * x,
  'root': lambda x: 0.02 * math.sqrt(x),
  'saturating above': lambda x: 0.12 * math.tanh(x / 50),
  'late': lambda x: max(0.0, x - 40) * 0.01,
  'step': lambda x: 0.02 * x / 50 + 0.1 / (1 + math.exp(min(60, (30 - x) * 3))),
  'falls again': lambda x: 0.15 * math.sin(math.pi * min(x / 200, 1)),
  'rises twice': lambda x: 0.08 * math.sin(min(x, 10) * math.pi / 10) + 0.001 * x,
}


@pytest.mark.parametrize('start', [1e-3, 1.0, 30.0, 500.0])
@pytest.mark.parametrize('name', CURVES)
def test_strength_is_matched(name, start):
  if name == 'falls again':
    start = min(start, 150)  # nothing can be known of a curve that is 0 where it is first looked at
  tried = []

  def change_at(alpha):
    tried.append(alpha)
    return CURVES[name](alpha) * SCALES / np.median(SCALES)

  found = metrics.match_strength(change_at, 0.1, start=start)
  assert found.reached
  assert CURVES[name](found.alpha) == pytest.approx(0.1, rel=0.005)
  assert found.change == pytest.approx(0.1, rel=0.005)
  assert found.evaluations == len(tried) <= 30
  assert min(tried) > 0


def test_a_linear_curve_costs_two_looks():
  found = metrics.match_strength(lambda alpha: np.array([0.02 * alpha]), 0.1)
  assert found.evaluations <= 3


@pytest.mark.parametrize(
  ('curve', 'largest'),
  [
    (lambda x: 0.09 * math.tanh(x / 50), 0.09),
    (lambda x: 0.0, 0.0),
    (lambda x: 0.001 * x if x < 50 else math.nan, 0.05),
    (lambda x: 0.05 * x * math.exp(1 - x), 0.05),
  ],
)
def test_unreachable_targets_say_the_largest_change(curve, largest):
  found = metrics.match_strength(lambda alpha: np.full(3, curve(alpha)), 0.1)
  assert not found.reached
  # The largest of the strengths that were tried, which need not be where the curve is highest.
  assert 0.5 * largest <= found.change <= largest
  assert found.evaluations < 25


def test_planted_saturation_is_matched_or_unreachable():
  generator = PartsGenerator([0.0], saturation=0.5, colours=[[1, 1, 1]])
  z = np.zeros((3, 4), np.float32)
  state, mask = generator.run_to(z, 1), generator.region(0)
  original = generator(z)

  def change_at(alpha):
    added = (alpha * generator.parts[:, 0]).reshape(1, 8, 8, 1).astype(np.float32)
    return metrics.in_region_change(
      original, generator.run_from(z, state.replace(features=state.features + added), 1), mask
    )

  found = metrics.match_strength(change_at, 0.4)
  assert found.reached
  assert found.alpha == pytest.approx(0.5 * math.atanh(0.8) * math.sqrt(3), rel=0.02)  # tanh' is 0.36 there
  assert not metrics.match_strength(change_at, 0.6).reached


def test_wrong_targets():
  for name, value in (('target', 0), ('target', math.nan), ('start', -1.0), ('tolerance', 'small')):
    given = {'target': 0.1} | {name: value}
    with pytest.raises(InputError, match=name):
      metrics.match_strength(lambda alpha: np.ones(2), **given)


def test_summary_and_its_intervals():
  values = np.random.default_rng(0).exponential(size=400)
  found = metrics.summary(np.append(values, math.nan), resamples=2000, seed=3)
  assert (found.n, found.flagged) == (400, 1)
  assert (found.mean, found.std, found.median) == pytest.approx((values.mean(), values.std(), np.median(values)))
  error = values.std() / math.sqrt(400)  # the mean is normal to a few per cent: 1.96 errors to each side
  assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.1)
  assert found.low < found.mean < found.high
  assert found.median_low <= found.median <= found.median_high
  assert found == metrics.summary(np.append(values, math.nan), resamples=2000, seed=3)
  assert found.low != metrics.summary(values, resamples=2000, seed=4).low
  assert metrics.summary(np.array([math.nan])) == metrics.Summary(0, 1, *(None,) * 7)
