"""Fits that are opened again, with their generator, latents and labels; those of other fits are refused."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from panda_jax.errors import InputError
from panda_jax.generators import registry, save_generator, seeds
from panda_jax.generators.structure import Compiled
from panda_jax.solver.factors import Factors, digest_of
from panda_jax.workdir.config import default_config
from panda_jax.workdir.finished_fit import FinishedFit, open_workdir
from panda_jax.workdir.fit import fit_into

OPTIONS = registry.options_class('stylegan2')(
  resolution=8, widths=(6, 6, 5, 5), z_dim=7, w_dim=8, mapping_widths=(8,), num_classes=3, embed_dim=7,
  label_input='joint',
)  # fmt: skip


def made(seed=0):
  return registry.create('stylegan2', OPTIONS, nnx.Rngs(jax.random.key(seed, impl='unsafe_rbg')))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('opened') / 'network'
  save_generator(made(), path)
  return path


@pytest.fixture(scope='module')
def workdir(folder):
  path = folder.parent / 'fit'
  config = default_config()
  config.update(generator=str(folder), layer=2, samples=6, parts=2, seed=5, labels='0,2', truncation=0.7, restarts=2)
  config.update(truncation_layers=2, center='position')
  fit_into(path, config)
  return path


def test_a_fit_opens_with_what_it_was_made_on(workdir):
  opened = open_workdir(workdir)
  assert (opened.layer, opened.seed, opened.noise) == (2, 5, 'const')
  assert isinstance(opened.generator, Compiled)
  assert opened.mean.shape == (8, 8, 5)
  assert opened.image_size() == (8, 8)
  latents = opened.latents([7, 8, 5])
  # Seeds of the fit have the labels that the fit gave them, in turn from its first seed on.
  expected = opened.generator.map(
    seeds.draws(opened.generator, [7, 8, 5]), np.array([0, 2, 0]), truncation=0.7, truncation_layers=2
  )
  np.testing.assert_array_equal(latents.wplus, expected.wplus)
  np.testing.assert_array_equal(opened.labels_of([1, 2], [1]), [1, 1])
  with pytest.raises(InputError, match='there are 2 seeds'):
    opened.labels_of([1, 2], [0, 1, 2])
  features = np.asarray(opened.generator.run_to(opened.latents(range(5, 11)), 2).features)
  assert opened.factors.relative_error(features) == pytest.approx(
    json.loads((workdir / 'summary.json').read_text())['relative_error'], rel=1e-3
  )


def test_a_generator_that_moved_is_known_by_its_hash(workdir, folder, tmp_path):
  moved = tmp_path / 'moved'
  shutil.copytree(folder, moved)
  assert open_workdir(workdir, moved).generator is not None
  assert open_workdir(workdir, made()).generator is not None  # an object
  save_generator(made(seed=1), tmp_path / 'other')
  with pytest.raises(InputError, match='another hash'):
    open_workdir(workdir, tmp_path / 'other')
  with pytest.raises(InputError, match='another hash'):
    open_workdir(workdir, Compiled(made(seed=1)))


def test_a_generator_that_is_gone_is_asked_for(workdir, tmp_path):
  copy = tmp_path / 'fit'
  copy.mkdir()
  factors = Factors.load(workdir / 'factors.npz')
  factors.provenance['generator']['path'] = str(tmp_path / 'gone')
  factors.save(copy / 'factors.npz')
  opened = open_workdir(copy)  # factors are there without it
  with pytest.raises(InputError, match=r'there is no such folder, and the fit was made with it; give --generator=DIR'):
    opened.needed_generator()


def test_factors_of_another_layer_are_refused(workdir, folder):
  factors = Factors.load(workdir / 'factors.npz')
  with pytest.raises(InputError, match=r'5 channels on 8x8: layer 1 of this generator has 6 channels on 4x4'):
    FinishedFit(factors, folder, layer=1)
  with pytest.raises(InputError, match='layer=9'):
    FinishedFit(factors, folder, layer=9)
  nameless = Factors(factors.appearances, factors.parts, factors.grid)
  with pytest.raises(InputError, match='these factors name no layer'):
    FinishedFit(nameless, folder)


def test_a_fit_of_a_file_has_no_generator(tmp_path):
  Z = np.random.default_rng(0).standard_normal((8, 4, 4, 3)).astype(np.float32)
  np.save(tmp_path / 'z.npy', Z)
  config = default_config()
  config.update(features=str(tmp_path / 'z.npy'), parts=2, restarts=2)
  fit_into(tmp_path / 'fit', config)
  opened = open_workdir(tmp_path / 'fit')
  assert opened.generator is None
  assert opened.image_size() is None
  assert opened.margin == 0
  with pytest.raises(InputError, match=r'generator: not given, and the fit was made on z.npy'):
    opened.latents([0])


def test_the_digest_names_factors():
  rng = np.random.default_rng(0)
  A, P = rng.standard_normal((3, 3)).astype(np.float32), rng.uniform(size=(6, 2)).astype(np.float32)
  one = Factors(A, P, (2, 3), {'layer': 4, 'sha256': 'a'})
  assert digest_of(one) == digest_of(Factors(A.copy(), P, (2, 3), {'layer': 4, 'sha256': 'a', 'history': []}))
  others = [
    Factors(A, P, (3, 2), one.provenance),
    Factors(A, 2 * P, (2, 3), one.provenance),
    Factors(A[:, ::-1], P, (2, 3), one.provenance),
    Factors(A, P, (2, 3), {'layer': 5, 'sha256': 'a'}),
    Factors(A, P, (2, 3), {'layer': 4, 'sha256': 'b'}),
  ]
  assert len({digest_of(each) for each in (one, *others)}) == 6


def test_damaged_factors_cost_one_line(workdir, tmp_path):
  whole = (workdir / 'factors.npz').read_bytes()
  factors = Factors.load(workdir / 'factors.npz')
  broken = {
    'cut': whole[: len(whole) // 2],
    'flipped': whole[:300] + bytes(255 - x for x in whole[300:340]) + whole[340:],
    'text': b'no factors',
  }
  for name, content in broken.items():
    (tmp_path / f'{name}.npz').write_bytes(content)
  bad = factors.parts.copy()
  bad[0, 0] = np.nan
  rest = {'appearances': factors.appearances, 'grid': factors.grid, 'provenance': np.asarray('{}')}
  np.savez(tmp_path / 'nan.npz', parts=bad, **rest)
  np.savez(tmp_path / 'negative.npz', parts=-factors.parts, **rest)
  np.savez(tmp_path / 'json.npz', appearances=bad, parts=bad, grid=(8, 8), provenance=np.asarray('{'))
  for path in tmp_path.glob('*.npz'):
    with pytest.raises(InputError) as caught:
      Factors.load(path)
    assert str(caught.value).startswith('factors=')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('change', [{'sha256': '0' * 64}, {'parts': 3}])
def test_files_of_two_fits_are_told_apart(workdir, tmp_path, change):
  for name in ('factors.npz', 'config.json'):
    shutil.copy(workdir / name, tmp_path)
  record = json.loads((tmp_path / 'config.json').read_text())
  (tmp_path / 'config.json').write_text(json.dumps(record | change))
  with pytest.raises(InputError, match=r'its factors\.npz is not of the fit in its config\.json'):
    open_workdir(tmp_path)


def test_no_fit_there(tmp_path):
  with pytest.raises(InputError, match=r'there is no factors\.npz in it'):
    open_workdir(tmp_path)
  with pytest.raises(InputError, match='there is no such folder'):
    open_workdir(tmp_path / 'none')
