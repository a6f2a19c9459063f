"""Named edits run only on their factors; the authors' directions are read as literals and never run."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import panda_jax
from panda_jax.editing import annotations, zoo
from panda_jax.editing.editor import compose, make_edit, offset
from panda_jax.editing.removal import remove
from panda_jax.editing.zoo import NamedEdit, Spec
from panda_jax.errors import InputError
from panda_jax.files import records
from panda_jax.files.arrays import npy_bytes
from panda_jax.solver.factors import Factors, digest_of


@pytest.fixture
def factors():
  rng = np.random.default_rng(0)
  return Factors(rng.standard_normal((5, 5)), rng.uniform(size=(12, 4)), (3, 4), {'layer': 2})


def test_a_zoo_comes_back_as_it_was_written(tmp_path, factors):
  mask, direction = np.random.default_rng(1).uniform(size=(2, 12)).astype(np.float32)
  specs = (
    Spec((1,), 3, -30.0),
    Spec((0, 2), 4, (-1.0, 0.5), 'published'),
    Spec((), 1, 2.5, 'paper', 'rms', 0.25, mask=tuple(mask.tolist())),
    Spec((3,), None, 1.0, combine='union', threshold=0.5, feather=1.5, direction=tuple(direction[:5].tolist())),
  )
  edits = {
    'eyes': NamedEdit('ab', 2, specs[:1], 'wider'),
    'all at once': NamedEdit('ab', None, specs),
  }
  zoo.write_zoo(tmp_path / 'zoo.json', edits)
  assert zoo.read_zoo(tmp_path / 'zoo.json') == edits
  for spec in specs:
    again = Spec.from_json(json.loads(json.dumps(spec.to_json())))
    np.testing.assert_array_equal(offset(again.edit(factors)), offset(spec.edit(factors)))
  np.testing.assert_array_equal(specs[2].edit(factors).mask, mask)


def test_an_edit_runs_on_its_own_factors_only(factors):
  named = NamedEdit(digest_of(factors), 2, (Spec((1,), 3, 2.0), Spec((0,), 1, -1.0)))
  expected = compose([make_edit(factors, 1, 3, 2.0), make_edit(factors, 0, 1, -1.0)])
  np.testing.assert_array_equal(offset(named.edit(factors, digest_of(factors))), offset(expected))
  other = Factors(factors.appearances, factors.parts[:, ::-1], factors.grid, factors.provenance)
  with pytest.raises(InputError, match=r'name=eyes: it was annotated on other factors \(hash '):
    named.edit(other, digest_of(other), 'eyes')


def test_annotating_keeps_what_is_there(tmp_path):
  path = tmp_path / 'zoo.json'
  one, two = NamedEdit('a', 1, (Spec((0,), 0, 1.0),)), NamedEdit('a', 1, (Spec((1,), 0, 1.0),))
  zoo.annotate(path, 'one', one)
  zoo.annotate(path, 'two', two)
  zoo.annotate(path, 'one', one)  # the same again
  with pytest.raises(InputError, match=r'another edit of .* has this name'):
    zoo.annotate(path, 'one', two)
  assert zoo.read_zoo(path) == {'one': one, 'two': two}
  zoo.annotate(path, 'one', two, overwrite=True)
  assert zoo.read_zoo(path)['one'] == two


def test_annotations_at_once_lose_none(tmp_path, monkeypatch):
  path, plain = tmp_path / 'zoo.json', zoo.read_zoo

  def slowly(path):
    found = plain(path)
    time.sleep(0.02)  # time in which other processes would write
    return found

  monkeypatch.setattr(zoo, 'read_zoo', slowly)
  names = [f'edit {i}' for i in range(8)]
  with ThreadPoolExecutor(len(names)) as pool:
    done = [pool.submit(zoo.annotate, path, name, NamedEdit('a', 1, (Spec((0,), 0, 1.0),))) for name in names]
  assert [one.result() for one in done] == [None] * len(names)
  assert {*plain(path)} == {*names}
  assert os.listdir(tmp_path) == ['zoo.json']
  with pytest.raises(InputError, match='zoo='):
    zoo.annotate(tmp_path / 'nowhere' / 'zoo.json', 'one', NamedEdit('a', 1, (Spec((0,), 0, 1.0),)))
  assert os.listdir(tmp_path) == ['zoo.json']


def term(**changes):
  return {
    'format': 1,
    'edits': {'x': {'factors': 'a', 'layer': 1, 'terms': [{'part': [0], 'appearance': 0} | changes]}},
  }


DAMAGED = [
  ('{', 'it is not JSON'),
  ('[' * 100_000, 'it is not JSON'),
  ('[]', 'it is not a zoo'),
  ('{"format": 2, "edits": {}}', 'it is not a zoo'),
  ('{"format": 1, "edits": {"x": 3}}', 'x of edits is not an object'),
  ('{"format": 1, "edits": {"x": {"terms": []}}}', "'x' is not an edit"),
  (term(part=['0']), 'part='),
  (term(part=[True]), 'part='),
  (term(appearance=1.5), 'appearance='),
  (term(appearance=None), 'appearance='),
  (term(alpha='strong'), 'alpha=strong'),
  (term(alpha=[1, None]), 'alpha='),
  (term(alpha=10**400), 'too large a number'),
  ('{"format": 1, "edits": {"x": {"terms": [{"part": 0, "appearance": 0, "alpha": NaN}]}}}', 'NaN is not a number'),
  (term(rms='1'), 'rms='),
  (term(mask='!'), 'packed float32'),
  (term(mask=[1.0]), 'packed float32'),
  (term(layers=3), 'layers: no part of an edit'),
]


@pytest.mark.parametrize(('content', 'said'), DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_zoo_costs_one_line(tmp_path, content, said):
  path = tmp_path / 'zoo.json'
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  with pytest.raises(InputError) as caught:
    zoo.read_zoo(path)
  assert caught.value.argument == 'zoo'
  assert said in str(caught.value).replace('layers=', 'layers: ').replace('zoo=layers', 'layers')
  assert '\n' not in str(caught.value)
  assert len(str(caught.value)) < 1000


def test_no_zoo(tmp_path, monkeypatch):
  (tmp_path / 'binary').write_bytes(b'\xff\xfe\x00\x81')
  for name, said in (('none', 'cannot be read'), ('.', 'cannot be read'), ('binary', 'it is not JSON')):
    with pytest.raises(InputError, match=said):
      zoo.read_zoo(tmp_path / name)
  monkeypatch.setattr(records, 'LARGEST_JSON', 3)
  with pytest.raises(InputError, match='it is larger'):
    zoo.read_zoo(tmp_path / 'binary')


def test_names_that_are_not_there():
  entries = dict.fromkeys(('ffhq/smile', 'ffhq/big_eyes', 'cats/smile'))
  assert zoo.chosen(entries, 'big_eyes') is None
  for name, said in (
    ('smile', 'several generators have it; give one of ffhq/smile, cats/smile'),
    ('ffhq/smiel', 'did you mean ffhq/smile?'),
  ):
    with pytest.raises(InputError) as caught:
      zoo.chosen(entries, name)
    assert said in str(caught.value)


ANNOTATED = """
import os
os.system('touch RAN')  # nothing of this file is run
codes = {'66': [0.1, 0.2]}
computed = dict(a=1)
annotated_directions = {
  'ffhq': {
    # a comment
    'big_eyes': {
      'parameters': [3, 2, 30],
      'layer': 5,
      'ranks': [5, 4],
      'checkpoints_path': ['./factors/Us-name_ffhq-layer_5-rank_4.npy', './factors/Uc-name_ffhq-layer_5-rank_5.npy'],
    },
    'both': {
      'parameters': [[0, 1], 4, -20.5],
      'layer': 5,
      'ranks': [5, 4],
      'checkpoints_path': ['./factors/Us-name_ffhq-layer_5-rank_4.npy', './factors/Uc-name_ffhq-layer_5-rank_5.npy'],
    },
  },
}
"""


def test_annotated_directions_run_in_the_published_convention(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'annotated.py').write_text(ANNOTATED)
  found = annotations.read_annotated(tmp_path / 'annotated.py')
  assert list(found) == ['ffhq/big_eyes', 'ffhq/both']
  assert not (tmp_path / 'RAN').exists()
  entry = zoo.chosen(found, 'both')
  assert entry.terms == (Spec((0, 1), 4, -20.5, 'published'),)
  with pytest.raises(InputError, match='there is no such file'):
    entry.factors(tmp_path)
  rng = np.random.default_rng(0)
  A, P = rng.standard_normal((6, 5)).astype(np.float32), rng.uniform(size=(9, 4)).astype(np.float32)
  for folder in ('factors', 'side_by_side'):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / 'Uc-name_ffhq-layer_5-rank_5.npy').write_bytes(npy_bytes(A))
    (tmp_path / folder / 'Us-name_ffhq-layer_5-rank_4.npy').write_bytes(npy_bytes(P))
  for folder in (tmp_path, tmp_path / 'side_by_side'):
    factors = entry.factors(folder)
    assert factors.provenance['layer'] == 5
    np.testing.assert_array_equal(factors.parts, P)
  assert annotations.shared_factors(found, tmp_path) == factors
  (tmp_path / 'Uc').write_bytes(npy_bytes(2 * A))
  other = found | {'ffhq/both': entry._replace(uc='Uc')}
  with pytest.raises(InputError, match='name=ffhq/big_eyes,ffhq/both: these were annotated on different factors'):
    annotations.shared_factors(other, tmp_path)
  p = P[:, 0] + P[:, 1]
  expected = -20.5 * np.outer((p - p.min()) / (p.max() - p.min()), A[:, 4])
  named = entry.named(digest_of(factors))
  np.testing.assert_allclose(offset(named.edit(factors, digest_of(factors))), expected, rtol=1e-6, atol=1e-6)
  (tmp_path / 'factors' / 'Us-name_ffhq-layer_5-rank_4.npy').write_bytes(npy_bytes(P[:, :3]))
  with pytest.raises(InputError, match='it has rank 3, annotated is 4'):
    entry.factors(tmp_path)


NONE = [
  ('directions = [', 'it cannot be parsed (SyntaxError)'),
  ('(' * 5000 + ')' * 5000, 'it cannot be parsed'),
  ('x = {"a": ' + '-' * 100_000 + '1}', 'it cannot be parsed'),
  ('x = {"a": __import__("os")}', 'its dict is not a literal'),
  ('x = {[]: 1}', 'it cannot be parsed'),
  ('x = 3', 'there are no annotated directions'),
  ('', 'there are no annotated directions'),
  ('x = {"g": {"n": {"parameters": [1, 2]}}}', "'n' is not as expected"),
  ('x = {"g": {"n": {"parameters": [1.5, 2, 3], "layer": 5, "ranks": [1, 2], "checkpoints_path": ["a", "b"]}}}', "'n'"),
  ('x = {"g": {"n": {"parameters": [1, 2, "3"], "layer": 5, "ranks": [1, 2], "checkpoints_path": ["a", "b"]}}}', "'n'"),
  ('x = {"g": {"n": {"parameters": [1, 2, 3], "layer": 5, "ranks": [1], "checkpoints_path": ["a", "b"]}}}', "'n'"),
  ('x = {"g": {"n": {"parameters": [1, 2, 3], "layer": 5, "ranks": [1, 2]}}}', "'n'"),
]


@pytest.mark.parametrize(('text', 'said'), NONE, ids=range(len(NONE)))
def test_files_without_directions(tmp_path, text, said):
  (tmp_path / 'annotated.py').write_text(text)
  with pytest.raises(InputError) as caught:
    annotations.read_annotated(tmp_path / 'annotated.py')
  assert said in str(caught.value)
  assert '\n' not in str(caught.value)


def again(path, edit, factors, name='x'):
  """The saved edit, read by `load_edit` and as a command reads it."""
  edit.save(path, name, overwrite=True)
  named = zoo.read_zoo(path)[name]
  np.testing.assert_array_equal(offset(named.edit(factors, digest_of(factors))), offset(edit))
  loaded = panda_jax.load_edit(path, name, factors)
  np.testing.assert_array_equal(offset(loaded), offset(edit))
  assert loaded == edit
  assert loaded != edit + edit
  return named


def test_an_edit_is_saved_as_it_was_asked_for(tmp_path, factors):
  path = tmp_path / 'edits.json'
  named = again(path, make_edit(factors, part=1, appearance=3, alpha=0.1), factors)
  assert named == NamedEdit(digest_of(factors), 2, (Spec((1,), 3, 0.1),))
  named = again(path, make_edit(factors, [0, 2], 4, [-1, 0.5], convention='published'), factors)
  assert named.terms == (Spec((0, 2), 4, (-1.0, 0.5), 'published'),)
  named = again(path, make_edit(factors, 1, 3, 2, alpha_unit='rms', rms=0.25, threshold=0.5, feather=1), factors)
  assert named.terms == (Spec((1,), 3, 2.0, alpha_unit='rms', rms=0.25, threshold=0.5, feather=1.0),)
  stronger = make_edit(factors, 1, 3, 2, alpha_unit='rms', rms=0.25).replace(alpha=np.float32(7))
  assert again(path, stronger, factors).terms == (Spec((1,), 3, 7.0),)
  drawn = np.random.default_rng(1).uniform(size=(3, 4)).astype(np.float32)
  assert again(path, make_edit(factors, 0, 1, 2.0, mask=drawn), factors).terms[0].part == (0,)
  rows = np.random.default_rng(2).standard_normal((2, 5))
  assert again(path, make_edit(factors, 0, 1, 2.0, directions=rows), factors).terms[0].appearance is None
  both = make_edit(factors, 1, 3, 2.0) + make_edit(factors, 0, 1, -1.0)
  assert set(again(path, both, factors).terms) == {Spec((1,), 3, 2.0), Spec((0,), 1, -1.0)}


def test_an_edit_that_was_changed_is_saved_as_it_is(tmp_path, factors):
  path = tmp_path / 'edits.json'
  edit = make_edit(factors, 1, 3, 2.0)
  moved = edit.replace(mask=edit.mask[::-1].copy())
  assert again(path, moved, factors).terms[0].part == ()
  np.testing.assert_array_equal(offset(panda_jax.load_edit(path, 'x')), offset(moved))
  bare = jax.tree.map(lambda x: x, edit)
  assert bare.recipe is None
  with pytest.raises(InputError, match='factors=None: the edit does not say which factors it is for; give factors='):
    bare.save(path, 'bare')
  bare.save(path, 'bare', factors=factors, note='by hand')
  np.testing.assert_array_equal(offset(panda_jax.load_edit(path, 'bare', factors)), offset(edit))
  assert zoo.read_zoo(path)['bare'].note == 'by hand'
  refined = np.random.default_rng(3).uniform(size=(2, 12, 4)).astype(np.float32)
  with pytest.raises(InputError, match='it has one for each sample'):
    make_edit(factors, 1, 3, parts=refined).save(path, 'refined')
  again(path, make_edit(factors, 1, 3, parts=refined[0]), factors)


def test_saved_edits_keep_to_their_names_and_factors(tmp_path, factors):
  path = tmp_path / 'edits.json'
  make_edit(factors, 1, 3).save(path, name='eyes')
  make_edit(factors, 1, 3).save(path, name='eyes')  # the same again
  with pytest.raises(InputError, match=r'name=eyes: another edit of .* has this name; give another, or overwrite=True'):
    make_edit(factors, 0, 3).save(path, name='eyes')
  np.testing.assert_array_equal(offset(panda_jax.load_edit(path, factors=factors)), offset(make_edit(factors, 1, 3)))
  with pytest.raises(InputError, match=r'factors=None: .eyes. names parts and appearances by number'):
    panda_jax.load_edit(path)
  other = Factors(factors.appearances, factors.parts[:, ::-1], factors.grid, factors.provenance)
  with pytest.raises(InputError, match='it was annotated on other factors'):
    panda_jax.load_edit(path, 'eyes', other)
  with pytest.raises(InputError, match='of different factors'):
    (make_edit(factors, 1, 3) + make_edit(other, 1, 3)).save(path, 'both')
  with pytest.raises(InputError, match='name=: it is not a name'):
    make_edit(factors, 1, 3).save(path, '')
  make_edit(factors, 0, 3).save(path, 'nose')
  with pytest.raises(InputError, match='name=None'):
    panda_jax.load_edit(path, factors=factors)
  with pytest.raises(InputError, match='did you mean eyes'):
    panda_jax.load_edit(path, 'eye', factors)


def test_a_removal_is_saved_by_its_numbers(tmp_path):
  rng = np.random.default_rng(0)
  factors = Factors(rng.standard_normal((5, 5)), rng.uniform(size=(64, 4)), (8, 8), {'layer': 2})
  found = remove(rng.standard_normal((6, 8, 8, 5)).astype(np.float32), factors, 1)
  named = again(tmp_path / 'edits.json', found.edit, factors)
  assert named.terms == (Spec((1,), found.appearance, float(found.edit.alpha)),)
