"""Factors on disk: npz without pickle, the authors' pair both ways, atomic writing."""

import base64
import io
import os
import re

import jax
import numpy as np
import pytest
from PIL import Image

import panda_jax
from panda_jax.files.access import write_atomically

pytestmark = pytest.mark.oldest

RNG = np.random.default_rng(0)
FACTORS = panda_jax.Factors(
  RNG.standard_normal((5, 3)), RNG.uniform(0, 1, (12, 2)), (3, 4), {'seed': 7, 'history': [{'iteration': 1}]}
)


def test_npz_round_trip(tmp_path):
  FACTORS.save(tmp_path / 'f.npz')
  back = panda_jax.Factors.load(tmp_path / 'f.npz')
  np.testing.assert_array_equal(back.appearances, FACTORS.appearances)
  np.testing.assert_array_equal(back.parts, FACTORS.parts)
  assert (back.grid, back.provenance, back.mean) == ((3, 4), FACTORS.provenance, None)
  with np.load(tmp_path / 'f.npz', allow_pickle=False) as plain:
    assert {k: plain[k].dtype.kind for k in plain.files}['provenance'] == 'U'
    assert plain['parts'].dtype == np.float32


def test_mean_of_a_centred_fit_is_kept(tmp_path):
  panda_jax.Factors(FACTORS.appearances, FACTORS.parts, (3, 4), {}, np.ones((12, 5))).save(tmp_path / 'f.npz')
  np.testing.assert_array_equal(panda_jax.Factors.load(tmp_path / 'f.npz').mean, np.ones((12, 5), np.float32))


def test_published_pair_both_ways(tmp_path):
  uc, us = FACTORS.save_published(tmp_path, 'cats', 5)
  assert (uc.name, us.name) == ('Uc-name_cats-layer_5-rank_3.npy', 'Us-name_cats-layer_5-rank_2.npy')
  assert np.load(uc).shape == (5, 3)
  assert np.load(us).shape == (12, 2)
  back = panda_jax.Factors.load_published(uc, us, grid=(3, 4))
  np.testing.assert_array_equal(back.parts, FACTORS.parts)  # as stored: no gauge
  np.testing.assert_array_equal(back.appearances, FACTORS.appearances)
  assert back.provenance['layer'] == 5
  with pytest.raises(panda_jax.InputError, match='not a square'):
    panda_jax.Factors.load_published(uc, us)


def test_unreadable_files(tmp_path):
  (tmp_path / 'f.npz').write_bytes(b'PK nonsense')
  with pytest.raises(panda_jax.InputError, match='cannot be read'):
    panda_jax.Factors.load(tmp_path / 'f.npz')
  np.savez(tmp_path / 'g.npz', parts=FACTORS.parts)
  with pytest.raises(panda_jax.InputError, match='lacks appearances, grid, provenance'):
    panda_jax.Factors.load(tmp_path / 'g.npz')
  with pytest.raises(panda_jax.InputError, match='No such file'):
    panda_jax.Factors.load(tmp_path / 'missing.npz')


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'x'
  write_atomically(path, b'old')

  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'replace', full)
  with pytest.raises(panda_jax.InputError, match='No space left'):
    write_atomically(path, b'new')
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['x']


def test_live_columns_are_those_that_are_not_zero():
  appearances, parts = np.eye(4, 3, dtype=np.float32), np.zeros((6, 4), np.float32)
  appearances[:, 1] *= -1
  appearances[:, 2] = 0
  parts[2, 1] = parts[0, 3] = 1e-30
  factors = panda_jax.Factors(appearances, parts, (2, 3))
  assert (factors.live_parts, factors.live_appearances) == ([1, 3], [0, 1])


def test_error_of_given_factors_by_its_definition():
  Z = RNG.standard_normal((4, 12, 5))
  A, P = FACTORS.appearances.astype(float), FACTORS.parts.astype(float)
  X = Z.transpose(0, 2, 1)
  right = sum(np.sum((x - A @ A.T @ x @ P @ P.T) ** 2) for x in X) / np.sum(X**2)
  assert FACTORS.relative_error(Z) == pytest.approx(right)


WHOLE = {
  'appearances': np.eye(5, 3, dtype=np.float32),
  'parts': np.ones((12, 2), np.float32),
  'grid': np.array([3, 4]),
  'provenance': np.asarray('{}'),
}
DAMAGED = {
  'no array': ({'parts': np.float32(1)}, 'a factor is a matrix'),
  'empty': ({'appearances': np.ones((5, 0))}, 'a factor is a matrix'),
  'complex': ({'appearances': np.eye(5, 3) * 1j}, 'complex numbers'),
  'dates': ({'parts': np.ones((12, 2), 'M8[s]')}, 'dates'),
  'fields': ({'grid': np.zeros(2, [('a', 'i4')])}, 'several fields'),
  'not finite': ({'parts': np.full((12, 2), np.nan)}, 'not finite'),
  'too large': ({'appearances': np.full((5, 3), 1e300)}, 'not finite'),
  'below zero': ({'parts': np.full((12, 2), -1.0)}, 'negative'),
  'scalar grid': ({'grid': np.asarray(12)}, 'not two positive whole numbers'),
  'empty grid': ({'grid': np.zeros(0, int)}, 'not two positive whole numbers'),
  'negative grid': ({'grid': np.array([-3, -4])}, 'not two positive whole numbers'),
  'broken grid': ({'grid': np.array([3.0, 4.0])}, 'not two positive whole numbers'),
  'three sides': ({'grid': np.array([3, 2, 2])}, 'not two positive whole numbers'),
  'another grid': ({'grid': np.array([3, 5])}, '12 positions'),
  'text as grid': ({'grid': np.asarray('3,4')}, 'holds text'),
  'mean of NaN': ({'mean': np.full((1, 5), np.nan)}, 'mean: it has entries'),
  'mean of text': ({'mean': np.asarray('none')}, 'holds text'),
  'mean of another shape': ({'mean': np.zeros((2, 5))}, 'mean: there are 12 positions and 5 channels'),
  'record of numbers': ({'provenance': np.zeros(3)}, 'cannot be read'),
  'list of records': ({'provenance': np.asarray(['{}', '{}'])}, 'a text in it is a list'),
  'no JSON': ({'provenance': np.asarray('{')}, 'provenance: it is not JSON'),
  'list': ({'provenance': np.asarray('[]')}, 'provenance: it is not an object'),
  'deep': ({'provenance': np.asarray('[' * 100_000 + ']' * 100_000)}, 'provenance: it is not JSON'),
  'infinite': ({'provenance': np.asarray('{"generator": {"seed": 1e400}}')}, 'provenance: it is not JSON'),
  'wrong types': ({'provenance': np.asarray('{"generator": [1]}')}, 'generator is not null or an object'),
  'wrong labels': ({'provenance': np.asarray('{"generator": {"labels": ["a"]}}')}, 'generator is not'),
}


@pytest.mark.parametrize('name', DAMAGED)
def test_factors_that_no_fit_writes_cost_one_sentence(name, tmp_path):
  changes, said = DAMAGED[name]
  np.savez(tmp_path / 'whole.npz', **WHOLE)
  panda_jax.Factors.load(tmp_path / 'whole.npz')
  np.savez(tmp_path / 'f.npz', **WHOLE | changes)
  with pytest.raises(panda_jax.InputError, match=said) as caught:
    panda_jax.Factors.load(tmp_path / 'f.npz')
  assert str(caught.value).startswith(f'factors={tmp_path}')


def test_factors_are_stored_not_compressed(tmp_path):
  np.savez_compressed(tmp_path / 'f.npz', **WHOLE)
  with pytest.raises(panda_jax.InputError, match='compressed'):
    panda_jax.Factors.load(tmp_path / 'f.npz')


@pytest.mark.parametrize('provenance', [{'a': float('nan')}, {'a': {1, 2}}, {'generator': 3}, [1], {'sha256': 5}])
def test_a_provenance_that_could_not_be_read_again_is_not_written(provenance, tmp_path):
  factors = panda_jax.Factors(FACTORS.appearances, FACTORS.parts, (3, 4), provenance)
  with pytest.raises(panda_jax.InputError, match='provenance='):
    factors.save(tmp_path / 'f.npz')
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize('name', ['', '../x', 'a/b', 'x' * 300])
def test_names_of_published_files_are_those_of_files(name, tmp_path):
  with pytest.raises(panda_jax.InputError, match='published='):
    FACTORS.save_published(tmp_path, name, 3)
  assert not os.listdir(tmp_path)


def test_equality_is_of_arrays_grid_and_mean():
  A, P = FACTORS.appearances, FACTORS.parts
  assert panda_jax.Factors(A.copy(), P.copy(), [3, 4], {'other': 1}) == FACTORS
  for other in (
    panda_jax.Factors(-A, P, (3, 4)),
    panda_jax.Factors(A, 2 * P, (3, 4)),
    panda_jax.Factors(A[:, :2], P, (3, 4)),
    panda_jax.Factors(A, P, (4, 3)),
    panda_jax.Factors(A, P, (3, 4), {}, np.zeros((1, 5))),
    None,
    P,
  ):
    assert (other == FACTORS) is False
    assert (other != FACTORS) is True
  with pytest.raises(TypeError, match='unhashable'):
    hash(FACTORS)


def test_factors_are_a_pytree():
  centred = panda_jax.Factors(FACTORS.appearances, FACTORS.parts, (3, 4), FACTORS.provenance, np.ones((1, 5)))
  assert [len(jax.tree.leaves(x)) for x in (FACTORS, centred)] == [2, 3]
  paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(centred)]
  assert paths == ['.appearances', '.parts', '.mean']
  doubled = jax.tree.map(lambda x: 2 * x, FACTORS)
  assert isinstance(doubled, panda_jax.Factors)
  np.testing.assert_array_equal(doubled.parts, 2 * FACTORS.parts)
  assert (doubled.grid, doubled.provenance, doubled.mean) == ((3, 4), FACTORS.provenance, None)
  traced = []

  @jax.jit
  def scaled(factors):
    traced.append(factors.grid)
    return jax.tree.map(lambda x: x * 1, factors)

  assert scaled(FACTORS) == FACTORS
  again = panda_jax.Factors(FACTORS.appearances, FACTORS.parts, (3, 4), {**FACTORS.provenance})
  assert scaled(again).provenance == FACTORS.provenance
  assert traced == [(3, 4)]
  assert scaled(panda_jax.Factors(FACTORS.appearances, FACTORS.parts, (4, 3))).grid == (4, 3)
  assert jax.tree.structure(FACTORS) == jax.tree.structure(again)
  slope = jax.grad(lambda factors: (factors.parts**2).sum())(FACTORS)
  np.testing.assert_allclose(slope.parts, 2 * FACTORS.parts)


def test_coefficients_and_reconstruction_by_their_definition():
  Z = RNG.standard_normal((4, 3, 4, 5)).astype(np.float32)
  A, P = FACTORS.appearances.astype(float), FACTORS.parts.astype(float)
  X = Z.reshape(4, 12, 5).transpose(0, 2, 1).astype(float)
  given = {'numpy': Z, 'jax': jax.numpy.asarray(Z), 'flat': Z.reshape(4, 12, 5), 'list': Z.tolist()}
  for features in given.values():
    found = FACTORS.coefficients(features)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, A.T @ X @ P, rtol=1e-5, atol=1e-5)
    back = FACTORS.reconstruct(features)
    assert (back.dtype, back.shape) == (np.float32, np.shape(features))
    expected = (A @ A.T @ X @ P @ P.T).transpose(0, 2, 1)
    np.testing.assert_allclose(back.reshape(4, 12, 5), expected, rtol=1e-4, atol=1e-4)
  mean = RNG.standard_normal((12, 5)).astype(np.float32)
  centred = panda_jax.Factors(A, P, (3, 4), {}, mean)
  moved = Z + mean.reshape(3, 4, 5)[None]
  np.testing.assert_allclose(centred.coefficients(moved), FACTORS.coefficients(Z), atol=1e-4)
  np.testing.assert_allclose(
    centred.reconstruct(moved), FACTORS.reconstruct(Z) + mean.reshape(3, 4, 5)[None], atol=1e-4
  )
  assert centred.relative_error(moved) == pytest.approx(FACTORS.relative_error(Z), rel=1e-5)


MISTAKES = {
  'one map': (np.zeros((3, 4, 5)), r'there is no axis of samples; give features\[None\]'),
  'channels first': (np.zeros((2, 5, 3, 4)), r'channels come first; give features.transpose\(0, 2, 3, 1\)'),
  'other grid': (np.zeros((2, 4, 3, 5)), r'features=shape 2x4x3x5: they do not fit the factors'),
  'other channels': (np.zeros((2, 12, 6)), r'give shape \(N, 3, 4, 5\)'),
  'no samples': (np.zeros((0, 12, 5)), 'shape 0x12x5'),
  'a number': (3.0, 'shape scalar'),
}


@pytest.mark.parametrize('name', MISTAKES)
@pytest.mark.parametrize('method', ['coefficients', 'reconstruct', 'relative_error'])
def test_features_of_other_factors_cost_one_sentence(name, method):
  given, said = MISTAKES[name]
  with pytest.raises(panda_jax.InputError, match=said):
    getattr(FACTORS, method)(given)


def test_a_sample_that_is_not_finite_is_named():
  Z = np.zeros((3, 12, 5))
  Z[1, 2, 3] = np.nan
  with pytest.raises(panda_jax.NonFiniteError, match='sample 1'):
    FACTORS.coefficients(Z)


WRONG = {
  'negative': ({'parts': -np.ones((12, 2))}, 'parts=-1: 24 of 24 entries are negative'),
  'not finite': ({'parts': np.full((12, 2), np.nan)}, 'parts=NaN or infinity: its entries must be finite'),
  'infinite': ({'appearances': np.full((5, 3), np.inf)}, 'appearances=NaN or infinity'),
  'text': ({'parts': np.full((12, 2), 'a')}, 'parts=type <U1: a factor holds real numbers'),
  'text as grid': ({'grid': '3,4'}, 'grid=3,4: it is not two positive whole numbers; give (H, W)'),
  'one number': ({'grid': 12}, 'grid=12: it is not two'),
  'mean of text': ({'mean': np.full((1, 5), 'a')}, 'mean=type <U1'),
}


@pytest.mark.parametrize('name', WRONG)
def test_mistakes_in_python_cost_one_sentence(name):
  changes, said = WRONG[name]
  arguments = {'appearances': FACTORS.appearances, 'parts': FACTORS.parts, 'grid': (3, 4)} | changes
  with pytest.raises(panda_jax.InputError) as caught:
    panda_jax.Factors(**arguments)
  assert said in str(caught.value)


def test_text_and_html_are_short_and_escaped():
  A, P, record = FACTORS.appearances, FACTORS.parts, {'source': '<b>x</b>\n' + 'y' * 500, 'layer': 5, 'samples': 7}
  factors = panda_jax.Factors(A, P, (3, 4), record | {'relative_error': 0.25, 'reason': 'converged'}, np.ones((1, 5)))
  text = repr(factors)
  assert text.splitlines()[0] == 'Factors: parts 12 x 2 on a grid of 3 x 4, appearances 5 x 3'
  assert text.splitlines()[1].startswith('  from <b>x</b> yyy')
  assert text.splitlines()[1].endswith('yyy, 7 samples, layer 5, centred by channel')
  assert text.splitlines()[2:] == ['  relative error 0.25000, converged']
  assert repr(panda_jax.Factors(A, P, (3, 4))) == text.splitlines()[0]
  html = factors._repr_html_()
  assert '<b>' not in html
  assert '&lt;b&gt;' in html
  pictures = re.findall(r'data:image/png;base64,([^"]+)', html)
  assert len(pictures) == 2
  for k, data in enumerate(pictures):
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
      pixels = np.asarray(picture)
    assert pixels.shape == (96, 128, 3)
    peak = np.argmax(P[:, k])
    assert pixels[32 * (peak // 4) + 5, 32 * (peak % 4) + 5].sum() == pixels.sum(axis=2).min()
