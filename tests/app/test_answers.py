"""Answers to the page: pictures, edits, masks; and error sentences for requests that the page never makes."""

import base64
import io
import struct
import time
import tracemalloc
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from panda_jax.app.answers import ACTIONS, LARGEST_MASK, THUMBNAIL, sentence
from panda_jax.app.choices import Choice, Seed
from panda_jax.editing.zoo import CATALOG, NamedEdit, Spec, write_zoo
from panda_jax.errors import InputError
from panda_jax.pictures.figures import to_bytes

EDIT = Spec((1,), 2, 3.0)


def pixels(address):
  """The pixels in a picture's address."""
  kind, _, content = address.partition(',')
  assert kind in ('data:image/png;base64', 'data:image/jpeg;base64')
  return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def unpacked(maps):
  return np.frombuffer(base64.b64decode(maps['bytes']), np.uint8).reshape(maps['shape'])


def test_a_fit_says_what_can_be_chosen(asked):
  fit = asked('fit')
  assert (fit['parts'], fit['appearances'], fit['size'], fit['grid']) == (
    [0, 1, 2, 3],
    [0, 1, 2, 3, 4],
    [16, 16],
    [8, 8],
  )
  assert list(fit['reaches']) == ['0', '1', '2', '3', '4']
  assert all(reach > 0 for reach in fit['reaches'].values())
  maps = unpacked(fit['maps'])
  assert maps.shape == (4, 8, 8)  # the dead part is not shown
  np.testing.assert_array_equal(maps > 0, asked.engine.maps()[:4] > 0)
  assert maps.max(axis=(1, 2)).tolist() == [255] * 4
  assert (fit['truncation'], fit['first_seed'], fit['most_seed']) == (1.0, 0, 2**32 - 1)


def test_parts_are_called_by_their_place_or_as_all_entries_of_the_catalog_call_them(asked):
  engine = asked.engine
  places = {'0': 'top left', '1': 'top right', '2': 'bottom left', '3': 'bottom right'}
  assert asked('fit')['names'] == places
  path = engine.opened.folder / 'catalog' / CATALOG
  path.parent.mkdir()
  here = engine.opened.digest_factors
  named = {'nose · darker': 1, 'nose · lighter': 1, 'eye · open': 2, 'ear · up': 2, 'no dot': 3, 'mouth · shut': 0}
  edits = {
    f'edit {i}': NamedEdit(here, 3, (Spec((part,), 2, 1.0),), title=title)
    for i, (title, part) in enumerate(named.items())
  }
  write_zoo(path, edits)
  assert asked('fit')['warning'] == ''
  assert asked('fit')['names'] == places | {'1': 'nose', '0': 'mouth'}
  path.write_text('{}')
  damaged = asked('fit')  # the page opens nevertheless
  assert damaged['names'] == places
  assert 'it is not a zoo' in damaged['warning']
  assert asked('frames', choice={'seeds': [3]}, place={'part': [1], 'appearance': 0})['frames']


def test_pictures_are_those_of_the_engine(asked):
  choice = Choice((3, 7), (EDIT,))
  found = asked('pictures', choice=choice.to_json(), views=['original', 'edited', 'difference'])
  assert [len(found[view]) for view in ('original', 'edited', 'difference')] == [2, 2, 2]
  np.testing.assert_array_equal(pixels(found['edited'][1]), to_bytes(asked.engine.edited(choice))[1])
  np.testing.assert_array_equal(pixels(found['original'][0]), to_bytes(asked.engine.originals(choice.keys))[0])
  assert found['brightest'] > 0
  nothing = asked('pictures', choice={'seeds': [3]}, views=['difference'])
  assert nothing['brightest'] == 0
  assert not pixels(nothing['difference'][0])[..., 0].any()


def test_large_pictures_are_sent_small(asked, monkeypatch):
  large = np.random.default_rng(0).uniform(-1, 1, (1, 300, 600, 3)).astype(np.float32)
  monkeypatch.setattr(asked.engine, 'edited', lambda choice: large)
  shown = asked('pictures', choice={'seeds': [3]}, views=['edited'])['edited'][0]
  assert shown.startswith('data:image/jpeg')
  assert pixels(shown).shape == (300, 600, 3)
  small = asked('pictures', choice={'seeds': [3]}, views=['edited'], small=True)['edited'][0]
  assert pixels(small).shape == (THUMBNAIL // 2, THUMBNAIL, 3)


def test_removal_is_an_edit_that_can_be_made(asked):
  found = asked('removal', place={'part': [1], 'appearance': 0}, choice={'seeds': [3]})
  choice = {'seeds': [3], 'terms': [found['term']]}
  assert found['term']['part'] == [1]
  assert asked('pictures', choice=choice, views=['difference'])['brightest'] > 0


def test_refined_parts_are_those_of_the_sample(asked):
  maps = unpacked(asked('refined', choice={'seeds': [7, 3]})['maps'])
  np.testing.assert_allclose(maps / 255, asked.engine.maps(Seed(7))[:4], atol=1 / 255)


def test_frames_of_a_part_and_of_a_mask(asked):
  for place in ({'part': [1], 'appearance': 0}, {'mask': Spec(mask=(1.0,) * 64).to_json()['mask'], 'appearance': 0}):
    frames = asked('frames', choice={'seeds': [3]}, place=place)['frames']
    assert len(frames) > 4
    for frame in frames:
      assert {name: frame['term'].get(name) for name in ('part', 'mask')} == {
        name: place.get(name) for name in ('part', 'mask')
      }
      picture = pixels(frame['picture'])
      assert picture.shape[0] == 3 * picture.shape[1] // 4 <= 12
  with pytest.raises(InputError, match='there is no room for more'):
    asked('frames', choice={'seeds': [3], 'terms': [EDIT.to_json()] * 8}, place={'part': [1], 'appearance': 0})


def content(mask, kind='PNG'):
  buffer = io.BytesIO()
  Image.fromarray(np.asarray(mask, np.uint8)).save(buffer, kind)
  return {'name': 'mine.png', 'content': base64.b64encode(buffer.getvalue()).decode()}


def test_the_mask_in_a_file(asked):
  mask = np.zeros((8, 8))
  mask[2, 3] = 255
  found = asked('mask', **content(mask))['mask']
  np.testing.assert_array_equal(Spec.from_json({'mask': found, 'appearance': 0}).mask, mask.reshape(-1) / 255)
  assert not list(asked.engine.opened.folder.iterdir())


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    (content(np.full((8, 8), 9), 'JPEG'), 'it is not a PNG'),
    (content(np.zeros((8, 8))), 'it is black everywhere'),
    (content(np.ones((8, 9))), 'it has 9x8 pixels'),
    ({'name': 'mine.png', 'content': None}, 'larger than 8 MB'),
    ({'name': 'mine.png', 'content': 'A' * (LARGEST_MASK * 4 // 3 + 8)}, 'larger than 8 MB'),
    ({'name': 'mine.png', 'content': '!'}, 'did not arrive whole'),
    ({'name': 'mine.png', 'content': ''}, 'it is not a PNG'),
    ({'name': 'mine.png', 'content': 'ü☃'}, 'did not arrive whole'),
    ({'name': 'ü☃.png', 'content': '!'}, 'did not arrive whole'),
    ({'name': [1], 'content': 3}, 'did not arrive whole'),
    ({}, 'larger than'),
  ],
  ids=range(11),
)
def test_wrong_masks(asked, given, said):
  with pytest.raises(InputError, match=said) as raised:
    asked('mask', **given)
  assert str(asked.engine.opened.folder) not in str(raised.value)


def test_a_picture_that_claims_to_be_large_is_not_unpacked(asked):
  def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

  def drawn(width, height, *more):
    sizes = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0))
    data = b'\x89PNG\r\n\x1a\n' + sizes + b''.join(more) + chunk(b'IDAT', packed)
    return {'name': 'x', 'content': base64.b64encode(data).decode()}

  packed = zlib.compress(bytes(50 << 20), 1)
  text = chunk(b'zTXt', b'a\0\0' + packed)
  tracemalloc.start()
  for given in (drawn(60000, 60000), drawn(2**31 - 1, 2**31 - 1), drawn(8, 8), drawn(8, 8, text)):
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    with pytest.raises(InputError, match='mask='):
      asked('mask', **given)
    assert tracemalloc.get_traced_memory()[1] - before < 20 << 20
  tracemalloc.stop()


SEED = {'seeds': [3]}
WRONG = [  # action, request, error sentence
  ('pictures', {}, 'load the page again'),
  ('pictures', {'choice': SEED}, 'they are not a list'),
  ('pictures', {'choice': SEED, 'views': []}, 'they are not a list'),
  ('pictures', {'choice': SEED, 'views': ['edited'] * 9}, 'they are not a list'),
  ('pictures', {'choice': SEED, 'views': ['/etc/passwd']}, 'there is none of this name'),
  ('pictures', {'choice': SEED, 'views': [['edited']]}, 'there is none of this name'),
  ('pictures', {'choice': SEED | {'terms': [{'part': [4], 'appearance': 1}]}, 'views': ['edited']}, 'give one of 0, 1'),
  ('pictures', {'choice': SEED | {'photograph': 'gone'}, 'views': ['edited']}, 'give the file again'),
  ('removal', {'choice': SEED}, 'zoo='),
  ('removal', {'place': {'part': [1], 'appearance': 0}}, 'load the page again'),
  ('removal', {'choice': SEED, 'place': {'part': [4], 'appearance': 0}}, 'there is no such'),
  ('removal', {'choice': SEED, 'place': {'part': True, 'appearance': 0}}, 'part'),
  ('removal', {'choice': SEED, 'place': {'mask': 'AAAAAA==', 'appearance': 0}}, 'mask'),
  ('refined', {'choice': 3}, 'load the page again'),
  ('frames', {'choice': SEED}, 'zoo='),
  ('frames', {'choice': SEED, 'place': {'appearance': 1}}, 'click on the picture first'),
  ('frames', {'choice': SEED, 'place': {'part': [9], 'appearance': 1}}, 'there is no such'),
  ('frames', {'choice': SEED, 'place': {'mask': 'AAAAAA==', 'appearance': 1}}, 'does not hold 64'),
  ('marks', {'key': 'gone'}, 'give the file again'),
  ('marks', {'key': ['x']}, 'give the file again'),
  ('inversion', {'key': 'gone'}, 'give the file again'),
  ('saved', {'choice': SEED, 'name': 'mine'}, 'nothing is edited yet'),
  ('saved', {'choice': SEED | {'terms': [EDIT.to_json()]}, 'name': 3}, 'cannot be the name'),
  ('saved', {'choice': SEED | {'terms': [EDIT.to_json()]}, 'name': '../x'}, 'cannot be the name'),
  ('saved', {'choice': SEED | {'terms': [EDIT.to_json()]}, 'words': 'x'}, 'not names of edits'),
  ('saved', {'choice': SEED | {'terms': [EDIT.to_json()]}, 'words': [[1]]}, 'not names of edits'),
  ('photograph', {'name': 'x', 'content': 'eHg='}, 'it is not a photograph'),
]


@pytest.mark.parametrize(('action', 'values', 'said'), WRONG, ids=range(len(WRONG)))
def test_what_the_page_does_not_ask_is_a_sentence(asked, action, values, said):
  start = time.process_time()
  with pytest.raises(InputError, match=said) as raised:
    asked(action, **values)
  assert len(sentence(raised.value)) < 500
  assert time.process_time() - start < 5


@pytest.mark.parametrize('action', ACTIONS)
def test_every_action_wants_a_fit(action):
  def none(name):
    raise InputError('fit', name, 'it is none', 'load the page again')

  fits = SimpleNamespace(names=['fit'], engine=none, prepared=none, number=none)
  with pytest.raises(InputError, match='load the page again'):
    list(ACTIONS[action](fits, {'fit': 'other'}))  # a generator function starts when it is iterated
