"""The estimator: it equals `fit`, follows the conventions of scikit-learn, and raises if it is not fitted."""

import inspect

import numpy as np
import pytest

import panda_jax
from panda_jax.solver.estimator import PandA
from tests import planted

Z = planted.structured(23, (3, 4), 5)


@pytest.fixture(scope='module')
def fitted():
  return PandA(parts=3, appearances=4, center='position', seed=7).fit(Z)


def test_it_is_the_fit_with_the_same_settings(fitted):
  result = panda_jax.fit(Z, 3, 4, center='position', seed=7)
  assert fitted.factors_ == result.factors
  assert fitted.relative_error_ == result.relative_error == fitted.result_.relative_error
  assert fitted.parts_.shape == (12, 3)
  assert fitted.appearances_.shape == (5, 4)
  assert fitted.mean_.shape == (12, 5)
  assert (fitted.grid_, fitted.n_samples_, fitted.n_iter_) == ((3, 4), 23, len(result.history))
  arguments = inspect.signature(panda_jax.fit).parameters
  for name, setting in inspect.signature(PandA).parameters.items():
    assert name == 'parts' or setting.default == arguments[name].default


def test_transform_and_back(fitted):
  X = fitted.transform(Z)
  assert (X.shape, X.dtype) == ((23, 4, 3), np.float32)
  np.testing.assert_array_equal(X, fitted.factors_.coefficients(Z))
  back = fitted.inverse_transform(X)
  assert (back.shape, back.dtype) == (Z.shape, np.float32)
  np.testing.assert_allclose(back, fitted.factors_.reconstruct(Z), atol=1e-5)
  assert fitted.score(Z) == pytest.approx(1 - fitted.relative_error_, abs=1e-6)
  np.testing.assert_array_equal(fitted.transform([*Z[:5]]), X[:5])
  np.testing.assert_array_equal(PandA(3, 4, center='position', seed=7).fit_transform(Z), X)


def test_either_layout_and_files(fitted, tmp_path):
  first = np.ascontiguousarray(Z.transpose(0, 3, 1, 2))
  np.save(tmp_path / 'z.npy', first)
  other = PandA(3, 4, center='position', seed=7, layout='NCHW').fit(tmp_path / 'z.npy')
  assert other.factors_ == fitted.factors_
  np.testing.assert_array_equal(other.transform(tmp_path / 'z.npy'), fitted.transform(Z))
  assert other.inverse_transform(other.transform(first)).shape == first.shape
  flat = PandA(3, grid=(3, 4)).fit(Z.reshape(23, 12, 5))
  assert flat.transform(Z.reshape(23, 12, 5)).shape == (23, 5, 3)


def test_settings_are_kept_as_they_were_given():
  grid = [3, 4]
  made = PandA(parts='three', grid=grid, seed=None)  # nothing is looked at before `fit`
  assert made.parts == 'three'
  assert made.grid is grid
  again = type(made)(**made.get_params(deep=False))
  assert all(again.get_params()[name] is value for name, value in made.get_params().items())
  assert made.set_params(parts=2, seed=1) is made
  assert (made.parts, made.seed) == (2, 1)
  with pytest.raises(panda_jax.InputError, match='restart=3: PandA has no such setting; did you mean restarts'):
    made.set_params(seed=5, restart=3)
  assert made.seed == 1
  assert not [name for name in vars(made) if name.endswith('_')]


def test_a_clone_has_the_settings_and_nothing_that_was_fitted(fitted):
  base = pytest.importorskip('sklearn.base')
  clone = base.clone(fitted)
  assert clone.get_params() == fitted.get_params()
  assert not hasattr(clone, 'factors_')


def test_text_and_html(fitted):
  assert repr(PandA()) == 'PandA(parts=8)'
  assert repr(PandA(3, grid=(3, 4), center='position')) == "PandA(parts=3, grid=(3, 4), center='position')"
  assert PandA()._repr_html_() == '<pre>PandA(parts=8)</pre>'
  assert fitted._repr_html_().count('<img') == 3


@pytest.mark.parametrize('method', ['transform', 'inverse_transform', 'score'])
def test_before_fit_there_is_one_sentence(method):
  with pytest.raises(panda_jax.InputError, match=r'PandA=not fitted: .*; call fit\(features\) first'):
    getattr(PandA(), method)(Z)


def test_mistakes_cost_one_sentence(fitted):
  with pytest.raises(panda_jax.InputError, match='X=5 channels on 4x3: the fit was of 5 channels on 3x4'):
    fitted.transform(Z.transpose(0, 2, 1, 3))
  with pytest.raises(panda_jax.InputError, match=r'coefficients=shape 2x3: .*; give \(N, 4, 3\)'):
    fitted.inverse_transform(np.zeros((2, 3)))
  with pytest.raises(panda_jax.InputError, match='parts=three'):
    PandA('three').fit(Z)
