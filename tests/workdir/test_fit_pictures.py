"""Pictures of a fit are the same whether or not they were prepared while it ran; errors of the thread are raised."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from panda_jax.solver.fit import fit
from panda_jax.workdir import fit_pictures
from panda_jax.workdir.fit_pictures import Pictures
from tests.planted_generators import LinearGenerator

SIDE = 6


@pytest.fixture(scope='module')
def source():
  """A source of features with what `Pictures` needs of it."""
  rng = np.random.default_rng(0)
  generator = LinearGenerator(rng.standard_normal((SIDE, SIDE, 3, 4)))
  latents = rng.standard_normal((9, 4)).astype(np.float32)
  features = np.asarray(generator.run_to(latents, 1).features)
  made = {'kind': 'generator', 'defined': True, 'generator': generator, 'layer': 1, 'samples': len(features), 'seed': 0}
  return SimpleNamespace(**made, latents=lambda indices: latents[indices], features=features)


@pytest.fixture(scope='module')
def result(source):
  return fit(source.features, parts=2)


def test_prepared_pictures_are_the_same(source, result, tmp_path):
  for name, prepared in (('plain', False), ('prepared', True)):
    (tmp_path / name).mkdir()
    with ThreadPoolExecutor(1) as thread:
      pictures = Pictures(source, thread)
      if prepared:
        pictures.prepare()
      features = pictures.draw(tmp_path / name, result)
    np.testing.assert_array_equal(features, source.features[: len(features)])
  plain, prepared = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ('plain', 'prepared'))
  assert {*plain} == {'parts.png', 'convergence.png', 'spectrum.png', 'overlay.png', 'saliency.png'}
  assert plain == prepared


def test_features_without_a_generator_have_three_pictures(result, tmp_path):
  with ThreadPoolExecutor(1) as thread:
    pictures = Pictures(SimpleNamespace(kind='file'), thread)
    pictures.prepare()
    assert pictures.draw(tmp_path, result) is None
  assert {path.name for path in tmp_path.iterdir()} == {'parts.png', 'convergence.png', 'spectrum.png'}


@pytest.mark.parametrize('broken', ['draw_plots', 'first_samples'])
def test_an_error_in_the_thread_is_raised(broken, source, result, tmp_path, monkeypatch):
  def refused(*_):
    raise OSError('no space')

  monkeypatch.setattr(fit_pictures, broken, refused)
  with ThreadPoolExecutor(1) as thread:
    pictures = Pictures(source, thread)
    pictures.prepare()
    with pytest.raises(OSError, match='no space'):
      pictures.draw(tmp_path, result)
