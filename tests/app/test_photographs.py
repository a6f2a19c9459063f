"""Photographs: accepted and refused files, their placement, edits as by the commands, and their deletion."""

import base64
import gc
import io
import shlex
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageCms

from panda_jax.app import photographs as held
from panda_jax.app import saves
from panda_jax.app.answers import UNKNOWN
from panda_jax.app.choices import Choice
from panda_jax.app.engine import Engine
from panda_jax.app.film import film
from panda_jax.app.photographs import progress, upload_of
from panda_jax.editing.zoo import Spec
from panda_jax.errors import InputError
from panda_jax.inversion import objective
from panda_jax.inversion.files import load_inverted
from panda_jax.inversion.photographs import decoded
from panda_jax.inversion.placement import whole
from panda_jax.workdir.finished_fit import open_workdir
from panda_jax.workdir.samples import Samples
from tests.commands.calls import call

EDIT = Spec((1,), 2, 3.0)
TURN = 0x0112  # the camera's tag
EYES = '14,14,26,12'


def drawn(width=40, height=30, seed=0):
  """Pixels (h, w, 3) uint8 of soft colours."""
  small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
  return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def content(pixels, kind='PNG', **options):
  buffer = io.BytesIO()
  image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def sent(data, name='mine.png', count=1):
  """A file as the page sends it."""
  return {'name': name, 'content': base64.b64encode(data).decode(), 'count': count}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(held, 'EVALUATIONS', 4)  # these tests need no good inversion


def taken(asked, **options):
  """Sends a photograph; its key."""
  return asked('photograph', **sent(content(drawn(), **options)))['key']


def inverted(engine, pixels=None, points='', box=''):
  """Sends and inverts a photograph; its key."""
  upload = upload_of(sent(content(drawn() if pixels is None else pixels)))
  return engine.photographs.inverted(engine.photographs.shelf.put(upload, 1), points, box)


def test_the_saved_command_makes_the_same_whole_photograph(engine, fitted, tmp_path, monkeypatch):
  pixels = drawn()
  key = inverted(engine, pixels, EYES)
  choice = Choice((3,), (EDIT,), photograph=key)
  inversion = engine.photographs.held(key).inversion
  np.testing.assert_array_equal(engine.originals(choice.keys)[0], inversion.photographs[0])
  np.testing.assert_array_equal(engine.whole(Choice(photograph=key)), pixels)  # nothing is edited yet
  edited = engine.whole(choice)
  changed = (edited != pixels).any(axis=-1)
  assert 0 < changed.mean() < 0.5  # part 1 is a quarter of the frame
  saved = saves.save(engine, choice, 'mine')
  assert saved.files == (*saves.FILES, 'photograph.png')
  np.testing.assert_array_equal(np.asarray(Image.open(saved.folder / 'photograph.png')), edited)
  assert saves.readable(engine.opened.folder, 'mine', 'photograph.png')
  arguments = [word for word in shlex.split(saved.command)[1:] if not word.startswith('--workdir=')]
  assert call(*arguments, f'--workdir={fitted}', f'--out={tmp_path / "again"}') == 0
  again = np.asarray(Image.open(tmp_path / 'again' / 'photographs' / 'mine.png')).astype(int)
  assert np.abs(again - edited).max() <= 1  # float32 in batches of other sizes rounds to another level at times
  np.testing.assert_allclose(np.load(tmp_path / 'again' / 'edited.npy'), engine.edited(choice), atol=1e-4)
  # The explorer can open the saved inversion, and save it again with its photograph.
  monkeypatch.setattr(engine, 'samples', Samples(given=load_inverted(saved.folder, engine.opened.generator)))
  monkeypatch.setattr(engine, '_samples', OrderedDict())  # forgets the samples of seeds
  listed = Choice((0,), (EDIT,))
  np.testing.assert_array_equal(engine.whole(listed), edited)
  second = saves.save(engine, listed, 'second')
  assert f'--latents={second.folder}' in second.command
  assert (second.folder / 'photographs' / 'mine.png').read_bytes() == content(pixels)


def test_another_photograph_compiles_nothing(engine):
  def shown(pixels, points):
    choice = Choice((3,), (EDIT,), photograph=inverted(engine, pixels, points))
    return engine.edited(choice), engine.regions(choice)

  engine.prepare()
  programs = objective.advance, objective.draw, objective.state_at
  before = [program._cache_size() for program in programs]
  compiled = engine._editor('none').compilations()
  shown(drawn(), '')
  shown(drawn(50, 70, 1), EYES)
  assert [program._cache_size() for program in programs] == before
  assert engine._editor('none').compilations() == compiled == 1


def test_edits_removal_frames_and_refinement_are_as_on_samples(asked):
  key = inverted(asked.engine)
  term = asked('removal', place={'part': [1], 'appearance': 0}, choice={'photograph': key})['term']
  choice = {'photograph': key, 'refined': True, 'terms': [term]}
  found = asked('pictures', choice=choice, views=['original', 'difference'])
  assert found['brightest'] > 0
  assert asked('refined', choice=choice)['maps']['shape'] == [4, 8, 8]
  place = {'part': [0], 'appearance': 0}
  (frame, *_) = film(asked.engine, Choice.from_json(choice), Spec.from_json(place))
  made = asked.engine.edited(Choice((0,), (Spec.from_json(term), frame.term), True, photograph=key))[0]
  rows, columns = frame.picture.shape[:2]
  np.testing.assert_allclose(frame.picture, made[:rows, :columns], atol=1e-4)  # part 0 is at the top left


def test_an_inversion_says_how_near_it_is_and_the_command(asked):
  found = asked('inversion', key=taken(asked), points=EYES, box='')
  held_one = asked.engine.photographs.held(found['photograph'])
  assert f'{held_one.inversion.psnr[0]:.1f} dB' in found['near']
  assert f'--images=mine.png --points={EYES} --evaluations=4 --out=DIR' in found['command']
  assert (found['name'], len(found['pictures'])) == ('mine.png', 2)
  assert 'features, step' in asked.said[-1]
  assert UNKNOWN not in found['said']  # the generator's folder has no recognition file


def test_a_crop_unlike_the_samples_is_told_and_taken(asked, monkeypatch):
  unlike = SimpleNamespace(knows=lambda images: np.zeros(1, bool))
  monkeypatch.setattr(asked.engine.photographs, '_recognition', unlike)
  found = asked('inversion', key=taken(asked), points=EYES, box='')
  assert UNKNOWN in found['said']
  assert '--recognition=off' in found['command']


def test_what_work_says_comes_before_what_it_returns():
  def work(say):
    say('half')
    return 3

  def steps():
    result.append((yield from progress(work)))

  result = []
  assert list(steps()) in ([], ['half'])  # it may end before the first look
  assert result == [3]

  def fails(say):
    raise InputError('images', 'x', 'no', 'y')

  with pytest.raises(InputError, match='images=x'):
    next(progress(fails))


def broken():
  return content(drawn(), 'JPEG')[:-200]


def moving():
  frames = [Image.fromarray(drawn(seed=seed)) for seed in range(3)]
  return content(frames[0], 'GIF', save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
  'data', [b'%PDF-1.7 x', b'', broken(), moving()], ids=['PDF', 'empty', 'truncated', 'animated']
)
def test_what_the_command_refuses_is_refused_with_its_sentence(data):
  with pytest.raises(InputError) as said:
    decoded(data, 'mine.png')
  with pytest.raises(InputError) as raised:
    upload_of(sent(data))
  assert (raised.value.problem, raised.value.remedy) == (said.value.problem, said.value.remedy)
  assert raised.value.argument == 'photograph'


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    ({'name': 'x.png', 'content': None}, 'larger than 14 MB'),
    ({'name': 'x.png', 'content': 'A' * (held.LARGEST * 4 // 3 + 8)}, 'larger than 14 MB'),
    ({'name': 'x.png', 'content': '!'}, 'did not arrive whole'),
    (sent(b'x', count=2), 'give one at a time'),
    (sent(b'x', count=[]), 'give one at a time'),
    ('/etc/passwd', 'larger than'),
    (None, 'larger than'),
  ],
  ids=range(7),
)
def test_what_is_no_file_of_the_page(given, said):
  with pytest.raises(InputError, match=said):
    upload_of(given)


def test_of_a_photograph_with_too_many_pixels_none_is_unpacked(monkeypatch):
  monkeypatch.setattr(held, 'MOST_PIXELS', 40 * 30)
  assert upload_of(sent(content(drawn()))).size == (30, 40)
  with pytest.raises(InputError, match='million pixels'):
    upload_of(sent(content(drawn(41, 30))))


def test_any_kind_is_shown_upright_with_a_name_that_is_safe_anywhere():
  turned = Image.Exif()
  turned[TURN] = 6
  pixels = drawn()
  for data in (
    content(pixels, 'JPEG', exif=turned),
    content(Image.fromarray(pixels).convert('CMYK').rotate(90, expand=True), 'JPEG'),
    content(Image.fromarray(pixels[..., 0]).rotate(90, expand=True), 'TIFF'),
  ):
    upload = upload_of(sent(data, '../<b>"$(x).jpg'))
    assert upload.size == (40, 30)
    assert upload.shown.shape == (640, 480, 3)
    assert upload.name == 'b-x-.jpg'
  assert upload_of(sent(content(pixels), '...')).name == 'photograph'


def test_clicks_are_the_points_of_the_generator_in_turn(asked):
  key, points = taken(asked), ''
  for place, now, said in (
    ((0.25, 0.5), '10,15', 'Now the right eye'),
    ((0.75, 0.5), '10,15,30,15', 'or mark the nose too'),
    ((0.5, 0.75), '10,15,30,15,20,22.5', 'Press “Use this photo”.'),
    ((0.1, 0.1), '4,3', 'Now the right eye'),  # all points were there: a further click starts again
  ):
    found = asked('marks', key=key, points=points, box='1,1,9,9', click=place)  # a click replaces the box
    points = found['points']
    assert (points, found['box'], found['wrong']) == (now, '', False)
    assert said in found['said']
    assert found['marks'][-1] == pytest.approx(place)
    assert (found['corners'] is None) == (len(found['marks']) == 1)
  assert asked('marks', key=key, points='nonsense', click=[0.5, 0.5])['points'] == '20,15'
  # The eyes are level and 20 pixels apart in place of 7: the crop is 20/7 times larger, and not turned.
  placement = asked.engine.photographs.placement((30, 40), '10,12,30,12')
  np.testing.assert_allclose(placement.matrix, [[20 / 7, 0, 10 - 4 * 20 / 7], [0, 20 / 7, 12 - 6 * 20 / 7]])


def test_a_box_is_dragged_from_any_corner_and_has_the_shape_of_the_picture(asked):
  key = taken(asked)
  for ends in ([[0.25, 0.2], [0.75, 1.0]], [[0.75, 1.0], [0.25, 0.2]]):
    found = asked('marks', key=key, points='1,1,9,9', dragged=ends)
    assert found['points'] == ''
    box = np.array(found['box'].split(','), float)
    np.testing.assert_allclose(np.ptp(found['corners'], axis=0) * (40, 30), [20, 20])
    assert box[2] == box[3] == 20  # the picture is square
    anchor = np.array(ends[0]) * (40, 30)
    assert np.abs(anchor - box[:2]).min() == 0 or np.abs(anchor - box[:2] - box[2:]).min() == 0
  placement = asked.engine.photographs.placement((30, 40), '', '10,6,20,20')
  np.testing.assert_allclose(placement.matrix, [[20 / 16, 0, 10], [0, 20 / 16, 6]])
  middle = asked.engine.photographs.placement((30, 40))
  np.testing.assert_array_equal(middle.matrix, whole((30, 40), (16, 16)).matrix)


@pytest.mark.parametrize(
  ('points', 'box', 'said'),
  [
    ('10,15', '', 'not two or more points'),
    ('10,15,11,15', '', 'pixels apart'),
    ('10,15,99,15', '', 'outside the photograph of 40x30'),
    ('x', '', 'not numbers'),
    ('nan,1,2,3', '', 'not numbers'),
    ('9,9,19,9', '0,0,9,9', 'clear one of them'),
    ('', '0,0,20,9', 'nothing is squeezed'),
    ('', '300,0,9,9', 'outside'),
    ('', '0,0,0,0', 'not a box'),
    ('', '1e300,0,9,9', 'outside'),
    ({'x': 1}, '', 'not numbers'),
    (['1'] * 9999, '', 'not numbers'),
  ],
)
def test_marks_that_lead_nowhere_are_sentences(asked, points, box, said):
  key = taken(asked)
  with pytest.raises(InputError, match=said):
    asked('inversion', key=key, points=points, box=box)
  assert asked('marks', key=key, points=points, box=box)['wrong'] is (points != '10,15')  # the second point is missing


@pytest.mark.parametrize(
  ('points', 'box', 'again'), [('10,15,11,15', '', 'mark it again'), ('', '300,0,9,9', 'drag another box')]
)
def test_wrong_marks_are_put_right_by_a_click(asked, points, box, again):
  said = asked('marks', key=taken(asked), points=points, box=box)['said']
  assert said.startswith('marks: ')
  assert said.endswith(f'press “Clear the marks” and {again}.')


@pytest.mark.parametrize(
  'wrong', [{'click': [2, 0]}, {'click': 'x'}, {'click': [True, 0]}, {'dragged': [[0, 0]]}, {'dragged': [[0, 0], 3]}]
)
def test_clicks_that_are_none(asked, wrong):
  with pytest.raises(InputError, match='again'):
    asked('marks', key=taken(asked), **wrong)


def test_a_generator_without_points_takes_boxes_alone(asked, monkeypatch):
  monkeypatch.setattr(asked.engine.photographs, 'points', {})
  key = taken(asked)
  with pytest.raises(InputError, match='does not say where'):
    asked('marks', key=key, click=[0.5, 0.5])
  with pytest.raises(InputError, match='does not say where'):
    asked.engine.photographs.placement((30, 40), EYES)
  assert asked('marks', key=key)['said'].startswith('Drag a box')


def test_nobody_has_the_photograph_of_another_fit_or_of_nobody(asked, fitted):
  mine, key, upload = asked.engine, inverted(asked.engine), taken(asked)
  other = Engine(open_workdir(fitted), shelf=mine.photographs.shelf)
  assert other.photographs.upload(upload).name == 'mine.png'  # all fits share uploads
  for engine, wrong in ((other, key), (mine, upload), (mine, 'none'), (other, '')):
    with pytest.raises(InputError, match='does not hold it'):
      engine.photographs.held(wrong)
  for wrong in (key, 'none', None, 3, ['x'], 'x' * 10**6):
    with pytest.raises(InputError, match='does not hold it'):
      mine.photographs.upload(wrong)


def test_of_a_photograph_that_is_dropped_nothing_stays(engine):
  engine.originals((inverted(engine),))
  assert engine._photographed
  engine.photographs.shelf._things.clear()
  gc.collect()
  assert not engine._photographed


def test_the_colour_profile_stays_with_a_save(asked):
  profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
  photograph = asked('inversion', key=taken(asked, icc_profile=profile))['photograph']
  done = asked('saved', choice={'photograph': photograph, 'terms': [EDIT.to_json()]})
  with Image.open(Path(done['folder']) / done['picture']) as opened:
    assert opened.info['icc_profile'] == profile


def test_nothing_is_on_disk_before_it_is_saved(engine):
  inverted(engine)
  assert not list(engine.opened.folder.iterdir())
