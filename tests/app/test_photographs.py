"""Photographs: what is taken and refused, where it is placed, edits of it as the commands make them, and its end."""

import base64
import gc
import io
import shlex
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageCms

from panda_jax.app import photographs as held
from panda_jax.app import saves
from panda_jax.app.choices import Choice
from panda_jax.app.controls import UNKNOWN, Controls
from panda_jax.app.engine import Engine
from panda_jax.app.photographs import progress, upload_of
from panda_jax.editing.zoo import Spec
from panda_jax.errors import InputError
from panda_jax.inversion import objective
from panda_jax.inversion.files import load_inverted
from panda_jax.inversion.photographs import decoded
from panda_jax.inversion.placement import whole
from panda_jax.results.samples import Samples
from panda_jax.workdir.finished_fit import open_workdir
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


@pytest.fixture
def controls(engine, monkeypatch):
  monkeypatch.setattr(held, 'EVALUATIONS', 4)  # what is made of a photograph is as good for these tests as the best
  return Controls(engine)


def finished(steps):
  """What a generator returns, and all that it yielded."""
  said = []
  while True:
    try:
      said.append(next(steps))
    except StopIteration as done:
      return done.value, said


def inverted(controls, pixels=None, points='', box=''):
  """The key of a photograph that was sent and inverted."""
  key = controls.taken(sent(content(drawn() if pixels is None else pixels)))
  return controls.engine.photographs.inverted(key, points, box)


def test_the_saved_command_makes_the_same_whole_photograph(controls, fitted, tmp_path, monkeypatch):
  pixels, engine = drawn(), controls.engine
  key = inverted(controls, pixels, EYES)
  choice = Choice((3,), (EDIT,), photograph=key)
  inversion = engine.photographs.held(key).inversion
  np.testing.assert_array_equal(engine.originals(choice.samples)[0], inversion.photographs[0])
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
  # What was saved is an inversion that the explorer itself takes, and saves again with its photograph.
  monkeypatch.setattr(engine, 'samples', Samples(given=load_inverted(saved.folder, engine.opened.generator)))
  monkeypatch.setattr(engine, '_samples', OrderedDict())  # of seeds
  listed = Choice((0,), (EDIT,))
  np.testing.assert_array_equal(engine.whole(listed), edited)
  second = saves.save(engine, listed, 'second')
  assert f'--latents={second.folder}' in second.command
  assert (second.folder / 'photographs' / 'mine.png').read_bytes() == content(pixels)


def test_another_photograph_compiles_nothing(controls):
  engine = controls.engine

  def shown(pixels, points):
    choice = Choice((3,), (EDIT,), photograph=inverted(controls, pixels, points))
    return engine.edited(choice), engine.regions(choice)

  engine.prepare()
  programs = objective.advance, objective.draw, objective.state_at
  before = [program._cache_size() for program in programs]
  compiled = engine._editor('none').compilations()
  shown(drawn(), '')
  shown(drawn(50, 70, 1), EYES)
  assert [program._cache_size() for program in programs] == before
  assert engine._editor('none').compilations() == compiled == 1


def test_edits_removal_and_refinement_are_as_on_samples(controls):
  engine = controls.engine
  session = controls.begun().with_photograph(inverted(controls))
  session = controls.picked(controls.refined(session, True)[0], {'x': 0.9, 'y': 0.1})
  assert session.now.current.part == (1,)
  assert engine.whole(session.now).shape == (30, 40, 3)
  removed, said = controls.removed(session)
  assert 'Background is' in said
  assert np.abs(engine.edited(removed.now) - engine.originals(removed.now.samples)).max() > 0
  assert 'mine.png' in controls.original(session, 'pick')
  assert controls.next_seeds(session, 1).now == session.with_seeds(session.now.seeds).now  # back to the samples
  assert session.undone().undone().undone().now == controls.begun().now


def test_the_panel_says_how_near_it_is_and_the_command(controls):
  key = controls.taken(sent(content(drawn())))
  (session, told, panel), said = finished(controls.inverting(controls.begun(), key, EYES, ''))
  held_one = controls.engine.photographs.held(session.now.photograph)
  assert f'{held_one.inversion.psnr[0]:.1f} dB' in told
  assert f'--images=mine.png --points={EYES} --evaluations=4 --out=DIR' in panel
  assert 'features, evaluation' in said[-1]
  assert UNKNOWN not in told  # where the generator's folder holds no recognition


def test_a_crop_unlike_the_samples_is_told_and_taken(controls, monkeypatch):
  monkeypatch.setattr(
    controls.engine.photographs, '_recognition', SimpleNamespace(knows=lambda images: np.zeros(1, bool))
  )
  key = controls.taken(sent(content(drawn())))
  (_, told, panel), _ = finished(controls.inverting(controls.begun(), key, EYES, ''))
  assert UNKNOWN in told
  assert '--recognition=off' in panel


def test_what_work_says_comes_before_what_it_returns():
  def work(say):
    say('half')
    return 3

  result, said = finished(progress(work))
  assert result == 3
  assert said in ([], ['half'])  # it may be through before anybody looks

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


def test_clicks_are_the_points_of_the_generator_in_turn(controls):
  key = controls.taken(sent(content(drawn())))
  photographs = controls.engine.photographs
  points = ''
  for place, now, said in (
    ((0.25, 0.5), '10,15', 'Now the right eye'),
    ((0.75, 0.5), '10,15,30,15', 'or click the nose too'),
    ((0.5, 0.75), '10,15,30,15,20,22.5', 'Invert what is in the frame.'),
    ((0.1, 0.1), '4,3', 'Now the right eye'),  # all were there: the next one begins anew
  ):
    points = controls.marked(key, points, dict(zip('xy', place, strict=True)))
    assert points == now
    panel, hint, kind = controls.marks(key, points, '')
    assert said in hint
    assert (kind, '<img' in panel) == ('note', True)
  assert controls.marked(key, 'nonsense', {'x': 0.5, 'y': 0.5}) == '20,15'
  # Eyes level, 20 pixels apart in place of 7: so many times larger, and not turned.
  placement = photographs.placement((30, 40), '10,12,30,12')
  np.testing.assert_allclose(placement.matrix, [[20 / 7, 0, 10 - 4 * 20 / 7], [0, 20 / 7, 12 - 6 * 20 / 7]])


def test_a_box_is_dragged_from_any_corner_and_has_the_shape_of_the_picture(controls):
  key = controls.taken(sent(content(drawn())))
  for ends in ([[0.25, 0.2], [0.75, 1.0]], [[0.75, 1.0], [0.25, 0.2]]):
    box = np.array(controls.boxed(key, {'points': ends}).split(','), float)
    assert box[2] == box[3] == 20  # the picture is square
    anchor = np.array(ends[0]) * (40, 30)
    assert np.abs(anchor - box[:2]).min() == 0 or np.abs(anchor - box[:2] - box[2:]).min() == 0
  placement = controls.engine.photographs.placement((30, 40), '', '10,6,20,20')
  np.testing.assert_allclose(placement.matrix, [[20 / 16, 0, 10], [0, 20 / 16, 6]])
  middle = controls.engine.photographs.placement((30, 40))
  np.testing.assert_array_equal(middle.matrix, whole((30, 40), (16, 16)).matrix)


@pytest.mark.parametrize(
  ('points', 'box', 'said'),
  [
    ('10,15', '', 'not two or more points'),
    ('10,15,11,15', '', 'pixels apart'),
    ('10,15,99,15', '', 'outside the photograph of 40x30'),
    ('x', '', 'no numbers'),
    ('nan,1,2,3', '', 'no numbers'),
    ('9,9,19,9', '0,0,9,9', 'clear one of them'),
    ('', '0,0,20,9', 'nothing is squeezed'),
    ('', '300,0,9,9', 'outside'),
    ('', '0,0,0,0', 'no box'),
    ('', '1e300,0,9,9', 'outside'),
    ({'x': 1}, '', 'no numbers'),
    (['1'] * 9999, '', 'no numbers'),
  ],
)
def test_marks_that_lead_nowhere_are_sentences(controls, points, box, said):
  key = controls.taken(sent(content(drawn())))
  with pytest.raises(InputError, match=said):
    controls.engine.photographs.inverted(key, points, box)
  assert controls.marks(key, points, box)[2] == ('note' if points == '10,15' else 'error')  # one is still to come


def test_a_generator_without_points_takes_boxes_alone(controls, monkeypatch):
  monkeypatch.setattr(controls.engine.photographs, 'points', {})
  key = controls.taken(sent(content(drawn())))
  with pytest.raises(InputError, match='does not say where'):
    controls.marked(key, '', {'x': 0.5, 'y': 0.5})
  with pytest.raises(InputError, match='does not say where'):
    controls.engine.photographs.placement((30, 40), EYES)
  assert controls.marks(key, '', '')[1].startswith('Drag a box')


def test_nobody_has_the_photograph_of_another_fit_or_of_nobody(controls, fitted):
  key = inverted(controls)
  other = Controls(Engine(open_workdir(fitted), shelf=controls.engine.photographs.shelf))
  upload = controls.taken(sent(content(drawn())))
  assert other.marks(upload, '', '')[2] == 'note'  # a file serves all fits
  for engine, wrong in ((other.engine, key), (controls.engine, upload), (controls.engine, 'none'), (other.engine, '')):
    with pytest.raises(InputError, match='not held here'):
      engine.photographs.held(wrong)
  for wrong in (key, 'none', None, 3, ['x'], 'x' * 10**6):
    with pytest.raises(InputError, match='not held here'):
      controls.engine.photographs.upload(wrong)
  session = controls.begun().with_photograph('gone')
  with pytest.raises(InputError, match='give the file again'):
    controls.pictures(session)
  with pytest.raises(InputError, match='not one photograph'):
    controls.download(controls.begun())


def test_of_a_photograph_that_is_dropped_nothing_stays(controls):
  engine = controls.engine
  engine.originals((inverted(controls),))
  assert engine._photographed
  engine.photographs.shelf._things.clear()
  gc.collect()
  assert not engine._photographed


def test_a_download_is_the_whole_photograph(controls):
  pixels = drawn()
  key, name = controls.download(controls.begun().with_photograph(inverted(controls, pixels)))
  assert name == 'mine-edited.png'
  found = controls.engine.photographs.shelf.get(key)
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(found.content))), pixels)


def test_the_colour_profile_stays_with_a_download(controls):
  profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
  key = controls.taken(sent(content(drawn(), icc_profile=profile)))
  session = controls.begun().with_photograph(controls.engine.photographs.inverted(key, '', ''))
  found = controls.engine.photographs.shelf.get(controls.download(session)[0])
  assert Image.open(io.BytesIO(found.content)).info['icc_profile'] == profile


def test_nothing_is_on_disk_before_it_is_saved(controls):
  inverted(controls)
  assert not list(controls.engine.opened.folder.iterdir())
