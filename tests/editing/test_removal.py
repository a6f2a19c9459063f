"""Removal on planted features: background is found, the strength is the planted one, and the part is covered."""

import jax.numpy as jnp
import numpy as np
import pytest

from panda_jax.editing.editor import offset
from panda_jax.editing.removal import CLEAR, border_and_centre, clearing, find_background, remove
from panda_jax.errors import InputError
from panda_jax.generators.protocol import State
from panda_jax.solver.factors import Factors
from panda_jax.solver.fit import fit
from panda_jax.workdir.edits import remove_into
from panda_jax.workdir.finished_fit import FinishedFit
from panda_jax.workdir.samples import Samples

GRID, C, N = (16, 16), 12, 40
BACKGROUND, OBJECTS = 4, ((5, 5), (5, 9), (9, 7))  # index of the appearance; upper left corners of 3 x 3 objects


def planted(seed=0, sign=1.0, margin=0, noise=0.02, lift=0.0):
  """Features (N, H, W, C) with background around three objects, the factors they are made of, and the background's
  strength in each sample. Every object has an appearance of its own, twice as strong as the background; `lift` adds the
  same fibre everywhere, as the mean of real features does."""
  rng = np.random.default_rng(seed)
  H, W = (n + 2 * margin for n in GRID)
  A = np.linalg.qr(rng.standard_normal((C, C)))[0]
  owner = np.zeros((H, W), int)
  for k, (row, column) in enumerate(OBJECTS):
    owner[margin + row : margin + row + 3, margin + column : margin + column + 3] = k + 1
  P = np.stack([owner == k for k in range(4)], axis=-1).reshape(-1, 4).astype(np.float32)
  strength = rng.uniform(1, 2, N)
  Z = strength[:, None, None] * sign * (P[:, :1] * A[:, BACKGROUND])[None]
  for k in range(3):
    Z = Z + rng.uniform(2, 4, N)[:, None, None] * (P[:, k + 1 : k + 2] * A[:, k])[None]
  Z = Z + lift * A[:, C - 1] + noise * rng.standard_normal(Z.shape)
  return Z.reshape(N, H, W, C).astype(np.float32), Factors(A, P, (H, W)), sign * strength


@pytest.mark.parametrize(('sign', 'margin', 'lift'), [(1, 0, 0), (-1, 0, 0), (1, 3, 0), (1, 0, 8)])
def test_the_part_becomes_background(sign, margin, lift):
  Z, factors, strength = planted(sign=sign, margin=margin, lift=lift)
  for part in (1, 2, [1, 3]):
    found = remove(Z, factors, part, margin=margin)
    assert found.appearance == BACKGROUND
    assert float(found.edit.alpha) == pytest.approx(np.median(strength), rel=0.02)
    np.testing.assert_allclose(found.alphas, strength, rtol=0.05)
    before, after = found.covered
    assert before.max() == 0
    assert after.min() >= 0.95
  # The report is about the edited features: it has the coordinate that saliency shows there.
  change = offset(found.edit).reshape(1, *factors.grid, C)
  c = (Z + change) @ (factors.appearances[:, BACKGROUND])
  mask = factors.parts[:, [1, 3]].max(axis=1).reshape(factors.grid) > 0
  covered = (sign * c >= sign * found.threshold)[:, mask].mean(axis=1)
  np.testing.assert_allclose(covered, after)


def test_a_mask_is_removed_as_the_part_that_it_covers():
  Z, factors, _ = planted()
  part, drawn = remove(Z, factors, 1), remove(Z, factors, drawn=factors.parts[:, 1].reshape(factors.grid))
  np.testing.assert_array_equal(drawn.edit.mask, part.edit.mask)
  assert (drawn.appearance, float(drawn.edit.alpha)) == (part.appearance, float(part.edit.alpha))
  half = remove(Z, factors, drawn=factors.parts[:, 1] * (np.arange(GRID[0] * GRID[1]) % 2), threshold=0.5)
  assert half.covered[1].min() >= 0.95
  for given, problem in ({}, 'not given'), ({'drawn': -np.ones(GRID)}, 'below 0'), ({'drawn': np.zeros(GRID)}, 'zero'):
    with pytest.raises(InputError, match=problem):
      remove(Z, factors, **given)


@pytest.mark.parametrize('sign', [1, -1])
def test_a_place_becomes_clear_background(sign):
  Z, factors, _ = planted(sign=sign, noise=0.4)
  found = remove(Z, factors, 1, strength=0.01)
  mask, c = factors.parts[:, 1], Z.reshape(N, -1, C) @ factors.appearances[:, BACKGROUND]
  background = sign * c >= sign * found.threshold
  assert np.mean(sign * c[background] <= sign * found.clear) == pytest.approx(CLEAR, abs=0.01)
  alphas = clearing(found, Z, factors, 100.0)
  for z, alpha in zip(c, alphas, strict=True):
    reached = [np.mean(sign * (z + x * alpha * mask)[mask > 0] >= sign * found.clear) for x in (0.9, 1.001)]
    assert reached[0] < CLEAR  # no strength is larger than need be
    assert reached[1] >= CLEAR - 1 / np.count_nonzero(mask)  # a quantile lies between two positions
  np.testing.assert_allclose(clearing(found, Z, factors, 0.1), sign * 0.1)
  whole = remove(Z, factors, 1, strength=1000)
  np.testing.assert_allclose(clearing(whole, Z, factors, 0.1), float(whole.edit.alpha))
  np.testing.assert_allclose(clearing(found, Z, factors, 100.0, mask=2 * mask), alphas / 2)
  around = np.maximum(mask, 0.4)  # outside of the core
  np.testing.assert_allclose(clearing(found, Z, factors, 100.0, mask=around), alphas)


def test_fitted_factors_remove_as_planted_ones():
  Z, _, strength = planted()
  factors = fit(Z, 4).factors
  maps = factors.part_maps()
  middle = OBJECTS[0][0] + 1, OBJECTS[0][1] + 1
  part = int(np.argmax(maps[:, *middle] / maps.max(axis=(1, 2))))
  found = remove(Z, factors, part)
  assert found.covered[0].mean() < 0.05
  assert found.covered[1].mean() >= 0.95
  assert abs(float(found.edit.alpha)) == pytest.approx(np.median(strength), rel=0.05)


class PlantedGenerator:
  """A user's generator whose features are planted; red is the background's coordinate."""

  z_dim, num_classes, resolution = 4, 0, 16
  layers = {1: (C, *GRID)}  # noqa: RUF012

  def __init__(self, factors):
    self.A, self.P = factors.appearances, factors.parts

  def map(self, z, labels=None, truncation=1.0, truncation_layers=None):
    return jnp.tanh(z)

  def run_to(self, latents, layer, noise='const'):
    strengths = jnp.asarray([1.5, 3, 3, 3])[None] + jnp.asarray([0.5, 1, 1, 1])[None] * latents
    columns = self.A[:, [BACKGROUND, 0, 1, 2]]
    return State(jnp.einsum('nk,sk,ck->nsc', strengths, self.P, columns).reshape(-1, *GRID, C))

  def run_from(self, latents, state, layer, noise='const', drop_rgb=False):
    return state.features @ self.A[:, [BACKGROUND, 0, 1]] / 2 - 1

  def __call__(self, latents, noise='const'):
    return self.run_from(latents, self.run_to(latents, 1), 1)


def test_a_planted_generator_shows_background_where_the_part_was(tmp_path):
  factors = planted()[1]
  opened = FinishedFit(factors, PlantedGenerator(factors), layer=1)
  shapes, told = remove_into(tmp_path / 'out', opened, [2], Samples((0, 1, 2)))
  assert told['appearance'] == BACKGROUND
  assert told['covered_before'] == 0
  assert told['covered_after'] >= 0.95
  assert shapes['edited.npy'] == (3, 16, 16, 3)
  before, after = (np.load(tmp_path / 'out' / f'{name}.npy')[..., 0] for name in ('original', 'edited'))
  part = factors.parts[:, 2].reshape(GRID) > 0
  around = before[:, 0, 0]
  np.testing.assert_allclose(before[:, part], -1, atol=1e-6)
  np.testing.assert_allclose(after[:, part].mean(axis=1), around, atol=0.4)  # one strength for all samples
  np.testing.assert_array_equal(after[:, ~part], before[:, ~part])


def test_strength_multiplies_and_a_background_may_be_given():
  Z, factors, _ = planted()
  one = remove(Z, factors, 1)
  double = remove(Z, factors, 1, strength=2)
  assert float(double.edit.alpha) == pytest.approx(2 * float(one.edit.alpha), rel=1e-6)
  given = remove(Z, factors, 1, appearance=BACKGROUND)
  assert given.scores is None
  np.testing.assert_array_equal(given.edit.alpha, one.edit.alpha)
  mean = remove(Z, factors, 1, separate='mean')
  assert abs(mean.threshold) == pytest.approx(np.mean(Z @ factors.appearances[:, BACKGROUND]), rel=1e-4)
  with pytest.raises(InputError, match='no sample has background outside the part'):
    remove(Z, factors, 1, appearance=0)


def test_a_strong_appearance_that_is_everywhere_is_no_background():
  Z, factors, _ = planted(lift=20)
  scores = find_background(Z, factors).scores
  assert np.argmax(scores) == BACKGROUND
  assert scores[C - 1] < 0.01 * scores[BACKGROUND]
  assert np.all(scores[:3] < 0)


def test_regions_lie_inside_the_margin():
  ring, middle = (region.reshape(22, 26) for region in border_and_centre((22, 26), 3))
  assert not (ring & middle).any()
  assert not ring[:3].any()
  assert not ring[:, -3:].any()
  assert ring[3, 3:-3].all()
  assert middle[11, 13]
  assert ring.sum() == 16 * 20 - 12 * 16
  narrow = (region.reshape(22, 22) for region in border_and_centre((22, 22), (3, 1)))
  for region, expected in zip(narrow, (ring, middle), strict=True):
    np.testing.assert_array_equal(region, expected[:, 2:-2])


def test_mistakes():
  Z, factors, _ = planted()
  empty = np.zeros(GRID, np.float32)
  cases = [
    (lambda: remove(Z, factors, 4), 'part=4: there are 4 parts'),
    (lambda: remove(Z, factors, 1, appearance=12), 'appearance=12: there are 12 appearances; give one from 0 to 11'),
    (lambda: remove(Z[..., :3], factors, 1), 'features=shape 40x16x16x3'),
    (lambda: remove(Z, factors, 1, strength=float('nan')), 'it is not finite'),
    (lambda: remove(Z, factors, 1, strength=[1, 2]), 'it is not a single number'),
    (lambda: remove(Z, factors, 1, separate='halves'), 'separate=halves'),
    (lambda: remove(Z, factors, 1, drawn=empty), 'nothing of the part is left'),
    (lambda: find_background(Z[:, :1, :1], Factors(factors.appearances, np.ones((1, 1)), (1, 1))), 'too small'),
  ]
  for call, said in cases:
    with pytest.raises(InputError) as caught:
      call()
    assert said in str(caught.value)
