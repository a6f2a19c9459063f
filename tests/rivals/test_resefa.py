"""ReSeFa: the published directions from our Jacobians, and generators with a known solution."""

import numpy as np
import pytest
import scipy.linalg

from panda_jax.errors import InputError
from panda_jax.regions.metrics import box_mask
from panda_jax.rivals import METHODS, load, reference
from panda_jax.rivals.grams import cell_grams
from panda_jax.rivals.jacobian import Jacobian
from panda_jax.rivals.movement import Mover
from panda_jax.rivals.reference import References, leaks, reference_grams
from panda_jax.rivals.resefa import as_published, discover, factorised
from tests.planted_generators import LinearGenerator, random_jacobian
from tests.rivals import references
from tests.rivals.test_jacobian import latents_of

# Rows 12 to 18 and columns 11 to 25 of the fixture's 32 x 32 pixels, which are every second one of the image's 64.
REGION = (24, 38, 22, 52)
CASES = ('sum', 'sum_fullrank', 'rgb', 'rgb_fullrank')


@pytest.fixture(scope='module')
def stored():
  return references.numbers('resefa')


@pytest.fixture(scope='module')
def published_grams():
  """Of the fixture's w on all rows, by nearest pixels."""
  latents = latents_of(references.numbers('jacobian')['w'][0])
  found = {}
  for channels in ('sum', 'rgb'):
    jacobian = Jacobian(references.generator('stylegan2'), resolution=32, resize='nearest', channels=channels)
    found[channels] = cell_grams(jacobian, latents, [REGION])
  return found


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('solve', [as_published, factorised])
def test_both_solvers_on_the_stored_grams(stored, case, solve):
  M_f, M_b = (stored[f'{case.split("_")[0]}__M_{side}'] for side in 'fb')
  tau = 1e-3 if 'fullrank' in case else 0
  values, vectors = solve(M_f, M_b + tau * np.trace(M_b) * np.eye(64))
  np.testing.assert_allclose(values, stored[f'{case}__eigenvalues'], rtol=1e-8)
  assert references.cosines(vectors, stored[f'{case}__directions']).min() > 1 - 1e-8
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)


@pytest.mark.parametrize('case', CASES)
def test_published_directions_from_our_jacobian(stored, published_grams, case):
  channels, tau = case.split('_')[0], 1e-3 if 'fullrank' in case else None
  generator, grams = references.generator('stylegan2'), published_grams[channels]
  within = grams.region(REGION)
  for found, pixels, side in zip(within[:2], within[2:], 'fb', strict=True):
    expected = stored[f'{channels}__M_{side}']
    np.testing.assert_allclose(found / pixels, expected, atol=1e-5 * np.abs(expected).max())
  found = discover(generator, region=REGION, published=True, grams=grams, tau=tau)
  # What the README calls fair for Jacobians in float32.
  np.testing.assert_allclose(found.scores['eigenvalue'][:10], stored[f'{case}__eigenvalues'][:10], rtol=1e-4)
  assert references.cosines(found.vectors[:5], stored[f'{case}__directions'][:5]).min() > 1 - 1e-5
  assert found.provenance['differentiated_by'] == 'all rows'
  assert found.layers == (4, 5, 6, 7)


def test_stored_edit(stored, published_grams):
  generator = references.generator('stylegan2')
  found = discover(generator, region=REGION, published=True, grams=published_grams['rgb'], tau=1e-3)
  latents = latents_of(np.zeros(64, np.float32)).replace(wplus=stored['edit__wp_before'])
  sign = np.sign(found.vectors[0] @ stored['rgb_fullrank__directions'][0])
  image = Mover(generator, found.space, found.layers).images(latents, found.step(0), 6 * sign)
  np.testing.assert_allclose(references.nchw(image), stored['edit__image'], atol=1e-4)


def test_channels_of_the_published_rule():
  """Summed where the image is larger than the resolution, kept elsewhere; one image, of seed 4."""
  generator = LinearGenerator(random_jacobian(rows=8))
  for resolution, channels in ((4, 'sum'), (8, 'rgb')):
    found = discover(generator, region=(0, 4, 0, 4), published=True, resolution=resolution)
    assert found.provenance['channels'] == channels
    assert found.provenance['seeds'] == [4]


BOX = (1, 5, 2, 8)


def planted_grams(generator, rows, tau=1e-3):
  """M_f and M_b of a linear generator, per pixel, in float64."""
  J = generator.jacobian[list(rows)].sum(axis=0).astype(np.float64)
  mask = box_mask(BOX, (8, 8))
  M_f, M_b = (J[m].reshape(-1, J.shape[-1]).T @ J[m].reshape(-1, J.shape[-1]) / (3 * m.sum()) for m in (mask, ~mask))
  return M_f, M_b + tau * np.trace(M_b) * np.eye(len(M_b))


@pytest.mark.parametrize('rows', [(0, 1, 2), (1,), None])
def test_the_analytic_answer(rows):
  """On the rows that move, not on all: those are what the directions are for."""
  generator = LinearGenerator(random_jacobian(rows=5, d=12, size=8))
  found = discover(generator, region=BOX, layers=rows, seeds=(0, 1))
  values, vectors = scipy.linalg.eigh(*planted_grams(generator, rows or (4,)))
  np.testing.assert_allclose(found.scores['eigenvalue'], values[::-1], rtol=1e-5)
  vectors = vectors[:, ::-1].T
  assert references.cosines(found.vectors, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).min() > 1 - 1e-5
  assert found.layers == (rows or (4,))
  assert found.provenance['differentiated_by'] == list(found.layers)


def local_jacobian(d=10, local=2, size=8, seed=0):
  """(size, size, 3, d), turned: in a basis of its own, the first `local` latents move nothing outside of BOX."""
  rng = np.random.default_rng(seed)
  J = rng.standard_normal((size, size, 3, d))
  J[~box_mask(BOX, (size, size)), :, :local] = 0
  turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
  return J @ turn.T, turn[:, :local].T


def test_planted_local_directions_are_found_and_leak_nothing():
  J, local = local_jacobian()
  generator = LinearGenerator(J)
  found = discover(generator, region=BOX)
  assert (found.space, found.layers) == ('z', None)
  first = found.vectors[:2].astype(np.float64)
  np.testing.assert_allclose(np.linalg.norm(first @ local.T, axis=1), 1, atol=1e-4)  # within the planted plane
  assert found.scores['leak'][:2].max() < 1e-2
  assert found.scores['leak'][2:].min() > 0.5
  # The scores are what an edit does: the generator is linear.
  change = np.asarray(generator(found.step(3)[None]) - generator(np.zeros((1, 10), np.float32)))[0]
  mask = box_mask(BOX, (8, 8))
  leak = np.linalg.norm(change[~mask]) / np.linalg.norm(change[mask])
  np.testing.assert_allclose(found.scores['leak'][3], leak, rtol=1e-4)
  np.testing.assert_allclose(found.scores['inside'][3], np.sqrt(np.mean(change[mask] ** 2)), rtol=1e-4)


def test_opposite_changes_of_channels_cancel_only_as_published():
  """One latent turns red to green inside: no change of the channels' sum."""
  J, mask = np.random.default_rng(1).standard_normal((8, 8, 3, 4)), box_mask(BOX, (8, 8))
  J[..., 0] = 0
  J[mask, :2, 0] = [1, -1]
  generator = LinearGenerator(J)
  assert np.argmax(np.abs(discover(generator, region=BOX).vectors[0])) == 0
  grams = reference_grams(generator, [BOX], published=True, channels='sum')
  by_sum = discover(generator, region=BOX, published=True, tau=1e-3, grams=grams)
  assert np.abs(by_sum.vectors[0, 0]) < 1e-3


def test_progan_has_a_direction_that_changes_nothing():
  """Along the radius of z, which is normalised: M_b has no inverse, so that the published rule returns noise."""
  generator = references.generator('pggan')
  references_ = References(seeds=(4,))
  grams = reference_grams(generator, references=references_)
  found = discover(generator, region=(8, 20, 8, 24), grams=grams)
  z = np.asarray(references_.latents(generator, False))[0]
  along = np.abs(found.vectors @ z) / np.linalg.norm(z)
  assert np.argmax(along) > 48  # of 64: among the last
  assert found.scores['eigenvalue'][0] > 5 * found.scores['eigenvalue'][20]
  within = grams.region((8, 20, 8, 24))
  assert np.linalg.cond(within.outside) > 1e6


def test_averaging_images_is_averaging_grams():
  generator = references.generator('pggan')
  both = reference_grams(generator, references=References(seeds=(4, 5)))
  each = [reference_grams(generator, references=References(seeds=(t,))) for t in (4, 5)]
  box = (8, 20, 8, 24)
  mean = np.mean([grams.region(box).inside for grams in each], axis=0)
  np.testing.assert_allclose(both.region(box).inside, mean, atol=1e-6 * np.abs(mean).max())
  one = discover(generator, region=box, grams=each[0])
  assert leaks(one.vectors[:1], each[0].region(box))[0] < leaks(one.vectors[:1], each[1].region(box))[0]


def test_classes_of_biggan():
  generator = references.biggan()
  found = discover(generator, region=(4, 12, 4, 12), seeds=(0, 1, 2), labels=(1, 3), k=4)
  assert found.vectors.shape == (4, 10)
  assert found.provenance['labels'] == [1, 3]
  with pytest.raises(InputError, match=r'^labels: not given'):
    discover(generator, region=(4, 12, 4, 12))


def test_files_and_the_table_of_methods(tmp_path):
  assert METHODS['resefa'] is discover
  mask = box_mask(BOX, (8, 8))
  found = discover(LinearGenerator(random_jacobian(rows=5)), region=mask, k=3)
  found.save(tmp_path)
  again = load(tmp_path)
  np.testing.assert_array_equal(again.vectors, found.vectors)
  assert again.provenance == found.provenance
  assert again.provenance['region']['image'] == [8, 8]


class Untraceable(LinearGenerator):
  def map(self, z, *args):
    return super().map(np.asarray(z), *args)


def test_mistakes():
  flat, rows = LinearGenerator(random_jacobian()), LinearGenerator(random_jacobian(rows=6))
  for options, said in [
    ({'region': (0, 9, 0, 3)}, 'region=0,9,0,3: it is not a box in an image of 8 x 8'),
    ({'region': (0, 8, 0, 8)}, 'region=0,8,0,8: nothing is outside'),
    ({'region': BOX, 'tau': 0.0}, 'tau=0.0: it must be positive'),
    ({'region': BOX, 'layers': (0,)}, r'layers=\(0,\): the latents of this generator have no rows'),
    ({'region': BOX, 'k': 0}, 'k=0'),
    ({'region': BOX, 'seeds': ()}, 'seeds='),
  ]:
    with pytest.raises(InputError, match=f'^{said}'):
      discover(flat, **options)
  grams = reference.reference_grams(rows, layers=(1,))
  with pytest.raises(InputError, match=r'^grams=rows 1: this differentiates by rows 2 of w\+'):
    discover(rows, region=BOX, layers=(2,), grams=grams)
  J = np.array(random_jacobian())
  J[~box_mask(BOX, (8, 8))] = 0
  with pytest.raises(InputError, match=r'^tau=0: the Gram outside has no inverse'):
    discover(LinearGenerator(J), region=BOX, published=True)
  with pytest.raises(InputError, match=r'^region=this: nothing changes outside of it'):
    discover(LinearGenerator(J), region=BOX)
  with pytest.raises(InputError, match=r'^generator=Untraceable: JAX cannot trace it'):
    discover(Untraceable(random_jacobian(rows=2)), region=BOX)
