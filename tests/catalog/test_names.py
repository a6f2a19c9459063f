"""Names of edits: planted changes get their words, others do not; places; names that a user changed are kept."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from panda_jax.catalog import Settings, catalog_into, find, names
from panda_jax.catalog.deformation import deformation
from panda_jax.editing import zoo
from panda_jax.editing.zoo import NamedEdit, Spec
from panda_jax.errors import InputError
from panda_jax.generators.disk import read_description
from tests.catalog.test_catalog import opened_with
from tests.planted_generators import PairsGenerator

SIDE = 32
REGION = np.zeros((SIDE, SIDE), bool)
REGION[8:24, 10:22] = True


@pytest.fixture(scope='module')
def pictures():
  """(24, 32, 32, 3) smooth random colours that differ from sample to sample, far from black and white."""
  rng = np.random.default_rng(0)
  levels = rng.normal(0, 0.15, (24, 1, 1, 3))
  return np.clip(levels + gaussian_filter(rng.normal(0, 0.6, (24, SIDE, SIDE, 3)), (0, 1, 1, 0)), -0.7, 0.7)


def inside(pictures, change):
  """Changed in the region, and in the reverse sense outside of it, which must not matter."""
  return np.where(REGION[None, :, :, None], pictures + change, pictures - change)


def around_mean(pictures, factor):
  mean = pictures[:, REGION].mean(axis=1).reshape(-1, 1, 1, 3)
  return np.where(REGION[None, :, :, None], mean + factor * (pictures - mean), pictures)


def around_grey(pictures, factor):
  luma = (pictures @ np.array([0.2126, 0.7152, 0.0722]))[..., None]
  return luma + factor * (pictures - luma)


def grained(pictures):
  grain = np.where((np.indices((SIDE, SIDE)).sum(axis=0) % 2)[None, :, :, None], 0.12, -0.12)
  return inside(pictures, grain)


def blurred(pictures):
  """As bright and with as much contrast as before."""
  found = gaussian_filter(pictures, (0, 1, 1, 0))
  before, after = (x[:, REGION].std(axis=(1, 2)).reshape(-1, 1, 1, 1) for x in (pictures, found))
  return around_mean(found, before / after)


PLANTED = {
  'lighter': lambda x: inside(x, 0.3),
  'darker': lambda x: inside(x, -0.3),
  'warmer': lambda x: inside(x, np.array([0.06, 0.01, -0.35])),
  'colder': lambda x: inside(x, np.array([-0.06, 0.0, 0.35])),
  'redder': lambda x: inside(x, np.array([0.3, -0.13, 0.05])),
  'greener': lambda x: inside(x, np.array([-0.3, 0.12, -0.05])),
  'more saturated': lambda x: around_grey(x, 2.0),
  'less saturated': lambda x: around_grey(x, 0.3),
  'more contrast': lambda x: around_mean(x, 1.35),
  'less contrast': lambda x: around_mean(x, 0.5),
  'sharper': grained,
  'softer': blurred,
}


@pytest.mark.parametrize('word', PLANTED)
def test_a_planted_effect_gets_its_word(pictures, word):
  found = names.effects(pictures, PLANTED[word](pictures), REGION)
  assert names.what(found).split(' and ')[0] == word, found


def discs(centre=(15.5, 15.5), radii=(1.0, 1.0)):
  """(24, 32, 32, 3) pictures with a dark disc each; radii are in units of each disc's own."""
  rng = np.random.default_rng(1)
  y, x = np.indices((SIDE, SIDE))
  level, depth, radius = (rng.uniform(low, high, (24, 1, 1)) for low, high in ((0.1, 0.5), (0.3, 0.9), (3.0, 4.0)))
  away = np.hypot((y - centre[0]) / radii[0], (x - centre[1]) / radii[1])
  return np.repeat((level - depth / (1 + np.exp(2 * (away - radius))))[..., None], 3, axis=3)


DEFORMED = {
  'larger': {'radii': (1.25, 1.25)},
  'smaller': {'radii': (0.8, 0.8)},
  'wider': {'radii': (1, 1.3)},
  'narrower': {'radii': (1, 0.75)},
  'taller': {'radii': (1.3, 1)},
  'flatter': {'radii': (0.75, 1)},
  'higher': {'centre': (14.5, 15.5)},
  'lower': {'centre': (16.5, 15.5)},
  'further left': {'centre': (15.5, 14.5)},
  'further right': {'centre': (15.5, 16.5)},
}


@pytest.mark.parametrize('reduced', [1, 4])
@pytest.mark.parametrize('word', DEFORMED)
def test_what_grows_or_moves(word, reduced):
  """In pictures of any size, and whether or not the light changes too."""
  before, after = (x.repeat(reduced, axis=1).repeat(reduced, axis=2) for x in (discs(), discs(**DEFORMED[word])))
  region = REGION.repeat(reduced, axis=0).repeat(reduced, axis=1)
  for changed in (after, 0.9 * after + 0.02):
    assert names.what(names.effects(before, changed, region)).split(' and ')[0] == word


def test_sizes_and_motions_are_right():
  """Within a quarter: one linear step finds them a little too small, and a region cuts off what leaves it."""
  colours = [np.moveaxis(names.lab(x), -1, 0) for x in (discs(), discs((15.0, 16.0), (1.15, 0.9)))]
  found = {name: x.mean() for name, x in deformation(*colours, REGION).items()}
  side = np.sqrt(REGION.sum())
  expected = {'across': 0.5 / side, 'down': -0.5 / side, 'width': -0.1, 'height': 0.15}
  for name, value in expected.items():
    assert found[name] == pytest.approx(value, rel=0.25)
  assert found['size'] == pytest.approx((found['width'] + found['height']) / 2)


def test_two_pieces_grow_each_about_its_middle():
  before, after = (np.concatenate([x, x[:, ::-1]], axis=2) for x in (discs(), discs(radii=(1, 1.3))))
  region = np.concatenate([REGION, REGION], axis=1)
  assert names.what(names.effects(before, after, region)) == 'wider'


def test_other_changes_are_no_motion(pictures):
  def moved(before, after, region=REGION):
    return any(
      x.any() for x in deformation(*(np.moveaxis(names.lab(x), -1, 0) for x in (before, after)), region).values()
    )

  others = np.random.default_rng(4).permutation(len(pictures))
  for changed in (pictures[others], PLANTED['darker'](pictures), grained(pictures), pictures):
    assert not moved(pictures, changed)
  few = np.zeros_like(REGION)
  few[3:5, 3:6] = True
  assert not moved(discs(), discs((15, 15)), few)
  assert moved(discs(), discs((15, 15)))


def test_a_dark_area_that_grows_by_itself():
  """Other spots in every sample: nothing moves."""
  rng = np.random.default_rng(5)
  noise = gaussian_filter(rng.normal(0, 1, (24, SIDE, SIDE)), (0, 1.5, 1.5))

  def spots(share):
    return np.repeat(np.where(noise < np.quantile(noise, share), -0.3, 0.4)[..., None], 3, axis=3)

  found = names.effects(spots(0.2), spots(0.5), REGION)
  assert found['dark area'] > names.LEAST
  assert 'dark area' in names.what(found)


def test_changes_that_are_not_alike_have_no_word(pictures):
  rng = np.random.default_rng(2)
  signs = np.where(np.arange(24) % 2, 1, -1).reshape(-1, 1, 1, 1)
  for changed in (
    pictures,
    inside(pictures, 0.3 * signs),
    pictures + rng.normal(0, 0.002, pictures.shape),
    np.where(REGION[None, :, :, None], pictures, -pictures),
  ):
    assert names.what(names.effects(pictures, changed, REGION)) == names.OTHER
  assert names.what({}) == names.OTHER


def test_pictures_without_colours(pictures):
  grey = pictures.mean(axis=3, keepdims=True)
  found = names.effects(grey, inside(grey, -0.3), REGION)
  assert names.what(found).split(' and ')[0] == 'darker'
  assert 'warmth' not in found
  one = np.zeros((SIDE, SIDE), bool)
  one[3, 3] = True  # a region of a pixel
  flat = np.full((4, SIDE, SIDE, 3), 0.2)
  assert names.what(names.effects(flat, flat + 0.4, one)) == 'lighter'


def test_lab():
  white, black, red = (names.lab(np.array(x, float)) for x in ([1, 1, 1], [-1, -1, -1], [1, -1, -1]))
  np.testing.assert_allclose(white, [100, 0, 0], atol=0.01)  # by definition
  np.testing.assert_allclose(black, [0, 0, 0], atol=0.01)
  np.testing.assert_allclose(red, [53.24, 80.09, 67.20], atol=0.05)  # of sRGB's primary, in tables of two decimals


def test_a_second_word_only_where_it_is_almost_as_large():
  assert names.what({'lightness': -2.0, 'sharpness': 1.5, 'contrast': 1.45}) == 'darker and sharper'
  assert names.what({'lightness': -2.0, 'sharpness': 1.3}) == 'darker'
  assert names.what({'lightness': -0.29}) == names.OTHER
  alike = {'height': 2.0, 'size': 1.9, 'dark area': 1.8, 'lightness': 1.7}
  assert names.what(alike) == 'taller and lighter'
  assert names.what({'sharpness': 2.5} | alike) == 'taller and sharper'  # the shape first
  for place in ('left eye', 'eyes', 'mouth'):
    assert names.what({'height': 2.0}, place) == 'more open'
    assert names.what({'lightness': 2.5, 'height': -2.0}, place) == 'more closed and lighter'
  assert names.what({'height': 2.0}, 'bridge of the nose') == 'taller'


def box(left, top, right, bottom, size=(60, 60)):
  region = np.zeros(size, bool)
  region[top:bottom, left:right] = True
  return region


@pytest.mark.parametrize(
  ('region', 'word'),
  [
    (box(2, 2, 15, 15), 'top left'),
    (box(0, 0, 30, 30), 'top left'),
    (box(0, 0, 60, 60), 'picture'),
    (box(25, 25, 35, 35), 'centre'),
    (box(25, 2, 35, 12), 'top'),
    (box(0, 0, 60, 25), 'top'),
    (box(0, 45, 60, 60), 'bottom'),
    (box(32, 0, 60, 60), 'right'),
    (~box(8, 8, 52, 52), 'border'),
    (box(0, 0, 9, 60) | box(51, 0, 60, 60), 'sides'),
    (box(100, 21, 110, 29, (30, 120)), 'bottom right'),
  ],
)
def test_places_of_any_picture(region, word):
  assert names.where(region, {}) == word


FACE = {
  'left eye': (0.2, 0.3, 0.4, 0.5),
  'right eye': (0.6, 0.3, 0.8, 0.5),
  'nose': (0.4, 0.5, 0.6, 0.7),
  'muzzle': (0.3, 0.5, 0.7, 0.9),
}


@pytest.mark.parametrize(
  ('region', 'word'),
  [
    (box(13, 19, 22, 28), 'left eye'),
    (box(13, 19, 22, 28) | box(38, 19, 47, 28), 'eyes'),
    (box(25, 31, 35, 41), 'nose'),
    (box(20, 31, 40, 52), 'muzzle'),
    (box(2, 50, 12, 60), 'bottom left'),  # outside of all
    (box(0, 0, 60, 60), 'picture'),  # holds them all, and none holds it
  ],
)
def test_places_of_a_generator(region, word):
  assert names.where(region, FACE) == word


def test_places_that_a_generator_names():
  assert names.known_places({}, (64, 64)) == {}
  assert names.known_places({'places': {'nose': [0, 8, 16, 32]}}, (32, 64)) == {'nose': (0, 0.25, 0.25, 1)}
  of_cats = names.known_places(read_description('cats64'), (64, 64))
  assert of_cats['nose'] == pytest.approx((25 / 64, 36 / 64, 39 / 64, 47 / 64))


@pytest.mark.parametrize(
  'places',
  [
    [1],
    {'nose': [0, 0, 10]},
    {'nose': [0, 0, 65, 10]},
    {'nose': [10, 0, 10, 10]},
    {'nose': ['a', 0, 10, 10]},
    {'': [0, 0, 10, 10]},
    {'a\nb': [0, 0, 10, 10]},
    {'x' * 41: [0, 0, 10, 10]},
    {str(i): [0, 0, 10, 10] for i in range(65)},
  ],
)
def test_places_that_are_none_are_refused(places):
  with pytest.raises(InputError, match=r'places that it names cannot be used .*correct generator\.json'):
    names.known_places({'places': places}, (64, 64))


def test_titles_of_a_change_of_size():
  of_size = [
    'eyes · larger',
    'wider and lower 2',
    'nose · redder and narrower',
    'eyes · more open',
    'chin · flatter 12',
  ]
  others = [
    'eyes · larger dark area',
    'nose · lower',
    'my larger edit',
    'eyes · darker and smaller dark area',
    '',
    'larger ears · redder',
  ]
  assert [title for title in (*of_size, *others) if names.is_of_size(title)] == of_size


def test_titles_are_told_apart():
  assert names.distinct(['a', 'b', 'a', 'a']) == ['a', 'b', 'a 2', 'a 3']


SETTINGS = Settings(screened=8, measured=6, heldout=6, unedited=8, pairs=2, top=3, random=1)


@pytest.fixture(scope='module')
def opened():
  """Channel 0 paints white, 1 yellow against blue; at the quadrants."""
  generator = PairsGenerator({(0, 0), (1, 1), (3, 0)}, 3, silent=(2,), size=16)  # too small for realism
  generator.colours = np.array([[0.58, 0.58, 0.58], [0.2, 0.0, -0.98], [1.0, 0.0, 0.0]])
  return opened_with(generator)


def test_planted_pairs_are_called_what_they_do(opened):
  found = find(opened, SETTINGS)
  assert found.places == ['top left', 'top right', 'bottom left', 'bottom right', '']
  called = {(one.part, one.appearance, one.sign): one.title for one in found.edits}
  assert called[0, 0, 1].startswith('top left · lighter')
  assert called[0, 0, -1].startswith('top left · darker')
  assert called[3, 0, 1].startswith('bottom right · lighter')
  assert 'warmer' in called[1, 1, 1]
  assert 'colder' in called[1, 1, -1]
  assert len({one.title for one in found.edits}) == len(found.edits)


def test_names_are_changed_and_kept(opened, tmp_path):
  out = tmp_path / 'catalog'
  written = catalog_into(out, opened, SETTINGS)
  path, first = out / 'names.json', written.found.edits[0]
  content = json.loads(path.read_text())
  assert content['names'] == {one.name: one.title for one in written.found.edits}
  entries = zoo.read_zoo(out / 'catalog.json')
  assert entries[first.name].title == first.title
  assert set(entries[first.name].scores['effects']) == set(names.MEASURES)

  content['names'][first.name] = 'Bright & early'
  content['names']['part 9 · appearance 9 · +'] = 'one that comes back'
  path.write_text(json.dumps(content))
  assert zoo.chosen(zoo.read_zoo(out / 'catalog.json'), 'Bright & early').terms == entries[first.name].terms
  catalog_into(out, opened, Settings(**(vars(SETTINGS) | {'top': 2})), overwrite=True)
  kept = json.loads(path.read_text())['names']
  assert kept[first.name] == 'Bright & early'
  assert kept['part 9 · appearance 9 · +'] == 'one that comes back'
  assert kept[written.found.edits[1].name] == written.found.edits[1].title
  assert 'Bright &amp; early' in (out / 'catalog.html').read_text()
  assert zoo.own_names(out, '0' * 64) == {}  # of other factors: the same numbers mean another edit

  path.write_text('{"format": 1, "names": {"a": "x, y"}}')
  for read in (lambda: zoo.read_zoo(out / 'catalog.json'), lambda: catalog_into(out, opened, SETTINGS, overwrite=True)):
    with pytest.raises(InputError, match=r'names=.*comma.*delete it'):
      read()


@pytest.mark.parametrize(
  'content', ['no json', '[]', '{"names": {}}', '{"format": 1, "names": {"a": 3}}', '{"format": 1, "names": {"a": ""}}']
)
def test_damaged_names_are_refused(tmp_path, content):
  (tmp_path / 'names.json').write_text(content)
  with pytest.raises(InputError, match=r'names=.*delete it'):
    zoo.read_names(tmp_path / 'names.json')


def test_an_edit_is_found_by_its_title(tmp_path):
  def edit(title):
    return NamedEdit('ab', 1, (Spec((0,), 0),), title=title)

  found = {'part 0': edit('nose · darker'), 'part 1': edit('nose · lighter'), 'part 2': edit('nose · lighter')}
  zoo.write_zoo(tmp_path / 'zoo.json', found)
  assert zoo.read_zoo(tmp_path / 'zoo.json') == found
  for name in ('nose · darker', 'nose darker', 'Nose  Darker', 'part 0'):
    assert zoo.chosen(found, name) is found['part 0']
  with pytest.raises(InputError, match=r'several edits have this title.*part 1, part 2'):
    zoo.chosen(found, 'nose lighter')
  with pytest.raises(InputError, match='did you mean nose · darker'):
    zoo.chosen(found, 'nose · darkr')
