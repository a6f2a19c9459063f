"""What controls do to a session, with what a page sends, and with what it would not."""

import base64
import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from panda_jax.app import panels
from panda_jax.app.choices import Session
from panda_jax.app.controls import LARGEST_UPLOAD, Controls, sentence
from panda_jax.errors import InputError


@pytest.fixture
def controls(engine):
  return Controls(engine)


def test_the_first_click_has_a_strength_to_be_seen_and_later_ones_keep_theirs(controls):
  session = controls.picked(controls.begun(), {'x': 0.9, 'y': 0.1})
  current = session.now.current
  assert current.part == (1,)
  assert current.alpha == pytest.approx(0.5 * controls.engine.reach(current))
  session = controls.picked(controls.slid(session, 0.25), {'x': 0.1, 'y': 0.9})
  assert (session.now.current.part, session.now.current.alpha) == ((2,), 0.25)
  session = session.undone().undone().undone()
  assert session.now == controls.begun().now


def test_a_click_on_a_sheet_is_one_on_its_tile(controls):
  session = controls.with_seeds(controls.begun(), '4-6')
  assert session.now.seeds == (4, 5, 6)
  assert controls.picked(session, {'x': 0.45, 'y': 0.95}).now.current.part == (3,)
  with pytest.raises(InputError, match='no picture there'):
    controls.picked(session, {'x': 0.9, 'y': 0.9})
  assert controls.next_seeds(session, 1).now.seeds == (7, 8, 9)
  assert controls.next_seeds(controls.begun(), -1).now.seeds == (2**32 - 1,)


def test_a_stroke_stays_on_its_tile(controls):
  session = controls.with_seeds(controls.begun(), '0-3')
  session = controls.painted(session, {'points': [[0.51, 0.01], [0.9, 0.01], [0.2, 0.9]]})
  mask = np.reshape(session.now.current.mask, (8, 8))
  assert mask[0].sum() > 4
  assert not mask[1:].any()


def content(mask, kind='PNG'):
  buffer = io.BytesIO()
  Image.fromarray(np.asarray(mask, np.uint8)).save(buffer, kind)
  return {'name': 'mine.png', 'content': base64.b64encode(buffer.getvalue()).decode()}


def test_an_uploaded_mask(controls):
  mask = np.zeros((8, 8))
  mask[2, 3] = 255
  session = controls.uploaded(controls.begun(), content(mask))
  np.testing.assert_array_equal(session.now.current.mask, mask.reshape(-1) / 255)
  assert not list(controls.engine.opened.folder.iterdir())


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    (content(np.full((8, 8), 9), 'JPEG'), 'it is not a PNG'),
    (content(np.zeros((8, 8))), 'it is black everywhere'),
    (content(np.ones((8, 9))), 'it has 9x8 pixels'),
    ({'name': 'mine.png', 'content': None}, 'larger than 8 MB'),
    ({'name': 'mine.png', 'content': 'A' * (LARGEST_UPLOAD * 4 // 3 + 8)}, 'larger than 8 MB'),
    ({'name': 'mine.png', 'content': '!'}, 'did not arrive whole'),
    ({'name': 'mine.png', 'content': ''}, 'it is not a PNG'),
    ({'name': 'mine.png', 'content': 'ü☃'}, 'did not arrive whole'),
    ({'name': 'ü☃.png', 'content': '!'}, 'did not arrive whole'),
    ({'name': [1], 'content': 3}, 'did not arrive whole'),
    ('/etc/passwd', 'larger than'),
  ],
  ids=range(11),
)
def test_wrong_uploads(controls, given, said):
  with pytest.raises(InputError, match=said) as raised:
    controls.uploaded(controls.begun(), given)
  assert str(controls.engine.opened.folder) not in str(raised.value)


def test_a_picture_that_claims_to_be_large_is_not_unpacked(controls):
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
      controls.uploaded(controls.begun(), given)
    assert tracemalloc.get_traced_memory()[1] - before < 20 << 20
  tracemalloc.stop()


NONSENSE = [
  *(None, {}, [], {'x': 'a', 'y': 0}, {'x': -1, 'y': 0}, {'x': float('nan'), 'y': 0}, {'points': [[0.5]]}),
  {'x': True, 'y': False, 'points': [[True, 0]]},
]


@pytest.mark.parametrize('data', [*NONSENSE, {'points': [[0, 0]] * 5000}], ids=range(9))
def test_clicks_that_are_none(controls, data):
  for act in (controls.picked, controls.painted):
    with pytest.raises(InputError, match='again'):
      act(controls.begun(), data)


def test_a_session_that_does_not_suit_the_factors_is_refused(controls):
  start = controls.begun()
  assert controls.session(start.to_json()) == start
  for wrong in (start.with_part(9), start.with_part(4), start.with_mask(np.ones(5)), start.with_appearance(77)):
    with pytest.raises(InputError):
      controls.session(wrong.to_json())
  with pytest.raises(InputError):
    controls.session(Session(start.now.at(part=(0,), alpha=(1.0, 2.0))).to_json())


def test_strengths_and_seeds_that_are_none(controls):
  for alpha in (float('inf'), float('nan'), None, 'x', True, [1]):
    with pytest.raises(InputError, match='not a finite number'):
      controls.slid(controls.begun(), alpha)
  for alpha in (3e38, -3e38, 10**400):
    with pytest.raises(InputError, match='it is beyond'):
      controls.slid(controls.begun(), alpha)
  start = time.process_time()
  for text in ('0-9', ','.join(['0-9999999'] * 18), '1,1'):
    with pytest.raises(InputError, match='seeds='):
      controls.with_seeds(controls.begun(), text)
  assert time.process_time() - start < 1
  with pytest.raises(InputError, match='such as 3 or 0-3') as raised:
    controls.with_seeds(controls.begun(), 'many')
  assert sentence(raised.value).startswith('seeds: not a list of whole numbers; give some')


@pytest.mark.parametrize('index', [4, 99, -1, 10**30, True, 1.0, '1', None, [1]])
def test_parts_and_appearances_that_are_not_offered(controls, index):
  for act in (controls.with_part, controls.with_appearance):
    if act == controls.with_part or index != 4:
      with pytest.raises(InputError, match='there is no such one'):
        act(controls.begun(), index)
  with pytest.raises(InputError, match='no such entry'):
    controls.from_catalog(controls.begun(), index)
  assert controls.refined(controls.begun(), index)[0].now.refined is (index is True)


def test_what_is_written_on_a_page_is_escaped(controls):
  assert '<b>' not in panels.message('<b>', 'error')
  html = panels.figure('<x>', np.zeros((2, 2, 3), np.uint8), '"><y>', '<z>')
  assert not any(tag in html for tag in ('<x>', '<y>', '<z>'))


def test_tiles():
  tiles = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
  shown = panels.sheet(tiles)
  assert shown.shape == (9, 9, 3)
  np.testing.assert_array_equal(shown[5:, :4], tiles[2])
  assert panels.tile_at(0.75, 0.25, 3) == (1, 0.5, 0.5)
  assert panels.tile_at(0.75, 0.75, 3) is None
  assert panels.tile_at(1.0, 1.0, 1) == (0, 1.0, 1.0)
