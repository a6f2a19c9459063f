"""`run.py refine`, `run.py saliency` and their files: on a user's own generator, and on arrays."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

import panda_jax
from examples.custom_generator import DCGAN, random_tensors
from panda_jax.editing.editor import Editor, make_edit
from panda_jax.editing.refine import refine
from panda_jax.errors import InputError
from panda_jax.generators.protocol import State
from panda_jax.solver.factors import Factors
from panda_jax.workdir import refinement
from panda_jax.workdir.finished_fit import FinishedFit
from panda_jax.workdir.records import Options
from panda_jax.workdir.refinement import refine_into
from panda_jax.workdir.saliency import saliency_into
from panda_jax.workdir.samples import Samples
from tests import planted
from tests.commands.calls import run

AGAIN = Options(overwrite=True)


def factors_for(generator, layer, parts=4, seed=0):
  C, H, W = generator.layers[layer]
  rng = np.random.default_rng(seed)
  A = np.linalg.qr(rng.standard_normal((C, C)))[0]
  P = np.maximum(0, rng.standard_normal((H * W, parts)))
  return Factors(A, P / np.linalg.norm(P, axis=0, keepdims=True), (H, W))


@pytest.fixture(scope='module')
def dcgan():
  """A user's own generator, which is not an NNX module, and factors at layer 4."""
  generator = DCGAN(random_tensors())
  return FinishedFit(factors_for(generator, 4), generator, layer=4)


@pytest.fixture(scope='module')
def on_features(tmp_path_factory):
  """The workdir of a small fit on a file of features, and the features."""
  folder = tmp_path_factory.mktemp('explain')
  features = planted.structured(N=10, grid=(6, 8), C=12)
  np.save(folder / 'features.npy', features)
  done = run('fit', f'--features={folder / "features.npy"}', '--parts=3', f'--workdir={folder / "fit"}')
  assert done.returncode == 0, done.stderr
  return folder / 'fit', features


def test_a_users_own_generator(dcgan, tmp_path):
  samples = Samples((0, 1))
  refine_into(tmp_path / 'a', dcgan, samples, steps=5)
  shapes, _ = saliency_into(tmp_path / 'b', dcgan, [0, 3], samples, statistics=4)
  assert shapes == {'coordinates.npy': (2, 16, 16, 2), 'masks.npy': (2, 32, 32, 2)}
  assert (tmp_path / 'b' / 'cutouts-3.png').exists()


def test_refined_parts_are_masks_of_edits(dcgan):
  """Each sample is edited only where its own part is."""
  latents = Samples((0, 1, 2)).latents(dcgan)
  features = np.asarray(dcgan.generator.run_to(latents, 4).features)
  refined = refine(features, dcgan.factors)
  edit = make_edit(dcgan.factors, 1, 2, 5.0, parts=refined.parts)
  together = Editor(dcgan.generator, 4).images(latents, edit)
  for i in range(3):
    alone = make_edit(refined.of_sample(i), 1, 2, 5.0)
    one = Editor(dcgan.generator, 4).images(latents[i : i + 1], alone)
    np.testing.assert_allclose(together.edited[i], one.edited[0], atol=1e-5)
  assert np.abs(together.difference).max() > 1e-3


class Planted:
  """Images are their features: a bright square in an 8x8 image, on a grid with a margin of one cell."""

  z_dim, num_classes, resolution = 3, 0, 8
  layers = {0: (3, 10, 10)}  # noqa: RUF012
  margins = {0: 1}  # noqa: RUF012

  def map(self, z, labels=None, truncation=1.0, truncation_layers=None):
    return jnp.asarray(z)

  def run_to(self, latents, layer, noise='const'):
    square = jnp.zeros((10, 10)).at[2:5, 5:8].set(1.0)
    return State(jnp.broadcast_to(square[None, :, :, None], (len(latents), 10, 10, 3)))

  def run_from(self, latents, state, layer, noise='const', drop_rgb=False):
    return 2 * state.features[:, 1:-1, 1:-1] - 1

  def __call__(self, latents, noise='const'):
    return self.run_from(latents, self.run_to(latents, 0), 0)

  def sample(self, key, n):
    raise NotImplementedError


def test_masks_lie_where_the_image_has_what_they_mark(tmp_path):
  generator = Planted()
  given = np.zeros((2, 8, 8), bool)
  given[:, 1:4, 4:7] = True
  opened = FinishedFit(Factors(np.eye(3), np.ones((100, 1)), (10, 10)), generator, layer=0)
  _, told = saliency_into(
    tmp_path, opened, [0], Samples((0, 1)), threshold=0.5, statistics=2, given_masks=255 * given.astype(np.uint8)
  )
  np.testing.assert_array_equal(np.load(tmp_path / 'masks.npy'), given)
  said = told['appearances']['0']
  assert said['mean_iou_inside'] == 1
  assert said['mean_iou_outside'] == 0
  np.testing.assert_allclose(said['share_inside'], 9 / 64)


def test_commands_on_a_file_of_features(on_features):
  workdir, features = on_features
  factors = panda_jax.Factors.load(workdir / 'factors.npz')
  done = run('refine', f'--workdir={workdir}', '--proximal=0.05')
  assert done.returncode == 0, done.stderr
  expected = refine(features, factors, 0.05)
  np.testing.assert_allclose(np.load(workdir / 'refine-proximal0.05' / 'parts.npy'), expected.parts, atol=1e-4)
  np.testing.assert_allclose(np.load(workdir / 'refine-proximal0.05' / 'errors.npy'), expected.errors, rtol=1e-4)
  record = json.loads((workdir / 'refine-proximal0.05' / 'refine.json').read_text())
  assert record['settings']['proximal'] == 0.05
  assert record['command'].startswith('python run.py refine')

  done = run('saliency', f'--workdir={workdir}', '--appearance=1', '--threshold=otsu')
  assert done.returncode == 0, done.stderr
  folder = workdir / 'saliency-1-threshold-otsu'
  names = {'coordinates.npy', 'masks.npy', 'statistics.json', 'saliency.png', 'masks.png'}
  assert {path.name for path in folder.iterdir()} == names
  coordinates = np.load(folder / 'coordinates.npy')
  np.testing.assert_allclose(coordinates, features @ factors.appearances[:, 1], atol=1e-4)
  said = json.loads((folder / 'statistics.json').read_text())['appearances']['1']
  np.testing.assert_allclose(
    [said['mean'], said['std'], said['least'], said['greatest']],
    [coordinates.mean(dtype=np.float64), coordinates.std(dtype=np.float64), coordinates.min(), coordinates.max()],
    rtol=1e-4,
    atol=1e-5,
  )
  np.testing.assert_array_equal(np.load(folder / 'masks.npy'), coordinates >= said['threshold'])


def test_other_settings_do_not_overwrite(dcgan, tmp_path):
  refine_into(tmp_path, dcgan, Samples((0,)), steps=3)
  before = (tmp_path / 'parts.npy').read_bytes()
  refine_into(tmp_path, dcgan, Samples((0,)), steps=3)  # the same again is not a conflict
  with pytest.raises(InputError, match='--overwrite'):
    refine_into(tmp_path, dcgan, Samples((1,)), steps=3)
  assert (tmp_path / 'parts.npy').read_bytes() == before
  refine_into(tmp_path, dcgan, Samples((1,)), AGAIN, steps=3)
  assert (tmp_path / 'parts.npy').read_bytes() != before
  saliency_into(tmp_path / 's', dcgan, [0, 1], Samples((0,)), statistics=2)
  with pytest.raises(InputError, match='--overwrite'):
    saliency_into(tmp_path / 's', dcgan, [0], Samples((0,)), statistics=2)
  saliency_into(tmp_path / 's', dcgan, [0], Samples((0,)), AGAIN, statistics=2)
  assert not (tmp_path / 's' / 'cutouts-1.png').exists()


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    (('saliency', '--appearance=12'), 'there are 12 appearances; give one or more from 0 to 11'),
    (('saliency', '--appearance=0', '--threshold=median'), 'threshold=median'),
    (('saliency', '--appearance=0', '--seeds=3'), 'generator: not given'),
    (('refine', '--proximal=-1'), 'proximal=-1'),
    (('refine', '--seeds=x'), 'seeds=x'),
    (('refine', '--features=tests/data/features.npy'), 'they do not fit the factors'),
    (('refine', '--features=nowhere.npy'), 'nowhere.npy'),
  ],
)
def test_mistakes_are_told_in_one_line(on_features, tmp_path, arguments, text):
  workdir, _ = on_features
  done = run(*arguments, f'--workdir={workdir}', f'--out={tmp_path / "out"}')
  assert done.returncode == 2, done.stderr
  assert text in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1
  assert not (tmp_path / 'out').exists()


def test_given_masks_must_fit(dcgan, tmp_path):
  for shape in ((1, 32, 32), (2, 16, 16)):
    with pytest.raises(InputError, match='masks=shape'):
      saliency_into(tmp_path / 'out', dcgan, [0], Samples((0, 1)), statistics=2, given_masks=np.zeros(shape))
  with pytest.raises(InputError, match='samples=0'):
    saliency_into(tmp_path / 'out', dcgan, [0], Samples((0, 1)), statistics=0)
  assert not (tmp_path / 'out').exists()


def test_likeness_is_a_cosine():
  parts = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0]])
  refined = np.stack([2 * parts, parts[::-1]])
  np.testing.assert_allclose(refinement.likeness(parts, refined), [0.5, 0.75, 0])


def test_arrays_in_place_of_a_file(tmp_path):
  features = planted.structured(N=9, grid=(4, 5), C=6).astype(np.float16)
  factors = Factors(np.eye(6), np.random.default_rng(0).uniform(0, 1, (20, 2)), (4, 5))
  opened = FinishedFit(dataclasses.replace(factors, mean=np.ones((1, 6), np.float32)))
  shapes, told = saliency_into(tmp_path, opened, [3], features=features.reshape(9, 20, 6))
  assert shapes == {'coordinates.npy': (9, 4, 5), 'masks.npy': (9, 4, 5)}
  assert told['samples'] == 9
  np.testing.assert_allclose(np.load(tmp_path / 'coordinates.npy'), features[..., 3].astype(np.float32) - 1, atol=1e-6)
