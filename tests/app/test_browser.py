"""The explorer as a user sees it, in headless chromium: clicks, sliders, keys, files, two users, a restart."""

import base64
import contextlib
import importlib.resources
import io
import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from panda_jax.catalog import Settings, catalog_into
from panda_jax.catalog.names import is_of_size
from panda_jax.editing.zoo import Spec, read_zoo
from panda_jax.solver.factors import Factors
from panda_jax.workdir.finished_fit import open_workdir
from tests.app.servers import SECONDS, Server
from tests.browser import DESKTOP, PHONE, Browser, need, need_chromium, until

pytestmark = pytest.mark.slow
PARTS = 'top left', 'top right', 'bottom left', 'bottom right'  # their names
LOW = 640, 400  # a desktop's window of 1280 x 800 at twice the size of everything
FEW = Settings(screened=4, measured=4, heldout=4, unedited=4, pairs=2, top=2, random=1)


@pytest.fixture(scope='module')
def server(fitted, tmp_path_factory):
  """A server of a fit with a catalog, and of another fit with fewer parts and without a catalog."""
  need('uvicorn')
  need_chromium()
  folder = tmp_path_factory.mktemp('browsed')
  workdir, other = folder / 'fit', folder / 'other'
  for copy in (workdir, other):
    shutil.copytree(fitted, copy)
  factors = Factors.load(other / 'factors.npz')
  parts = np.ascontiguousarray(factors.parts[:, [3, 1]])
  Factors(factors.appearances, parts, factors.grid, factors.provenance).save(other / 'factors.npz')
  catalog_into(workdir / 'catalog', open_workdir(workdir), FEW)
  running = Server(workdir, other)
  running.start()
  yield running
  running.stop()


class Explorer(Browser):
  """A browser with the page of the explorer."""

  def open(self, url, size=DESKTOP):
    """Opens the page as a new user."""
    self.driver.get(f'{url}favicon.ico')  # a page stores its choice when it is left
    self.script('sessionStorage.clear()')
    super().open(url, size)
    until(
      lambda: (
        self.all('body.ready') and self.source() and self.script("return document.querySelector('#after').complete")
      )
    )

  def one(self, selector):
    return self.all(selector)[0]

  def text(self, selector):
    return self.script('return document.querySelector(arguments[0]).textContent', selector)

  def source(self, picture='after'):
    return self.script('return document.getElementById(arguments[0]).src', picture)

  def changed(self, act, seconds=60):
    """Does something, and waits until the picture has changed."""
    before = self.source()
    act()
    return until(lambda: self.source() != before, seconds)

  def seed(self):
    """The seed of the sample in view."""
    return int(re.match(r'seed (\d+):', self.one('#after').get_attribute('alt'))[1])

  def click(self, selector):
    self.script("arguments[0].scrollIntoView({block: 'nearest'})", self.one(selector))
    self.one(selector).click()

  def click_at(self, x, y):
    """Clicks on the picture, at fractions of its width and height."""
    self.move_to(self.one('#stage'), x, y).click().perform()

  def keys(self, *keys):
    from selenium.webdriver import ActionChains

    ActionChains(self.driver).send_keys(*keys).perform()

  def film(self):
    """Waits for the frames of the chosen place."""
    until(lambda: self.all('#film button') and not self.all('#film.waiting'))
    return self.all('#film button')

  def choose_part(self, part):
    x, y = part % 2 * 0.8 + 0.1, part // 2 * 0.8 + 0.1  # in the corner, where no other part is as strong
    self.click_at(x, y)
    until(lambda: self.text('#film-title') == f'Try on {PARTS[part]}')
    return self.film()

  def take(self, part=1, frame=0):
    """Takes an edit of a part from the film."""
    frames = self.choose_part(part)
    count = len(self.edits())
    self.changed(lambda: self.script('arguments[0].click()', frames[frame]))
    until(lambda: len(self.edits()) > count)

  def edits(self):
    """Names and strengths of the edits in the stack."""
    rows = self.script(
      "return [...document.querySelectorAll('#edits li')].map((e) => "
      "[e.querySelector('.name').textContent, e.querySelector('input[type=text]').value])"
    )
    return [(name, float(strength)) for name, strength in rows]

  def slide(self, steps, edit=0):
    from selenium.webdriver import Keys

    slider = self.all('#edits input[type=range]')[edit]
    slider.send_keys((Keys.ARROW_RIGHT if steps > 0 else Keys.ARROW_LEFT) * abs(steps))

  def select(self, selector, value):
    from selenium.webdriver.support.ui import Select

    Select(self.one(selector)).select_by_value(value)

  def drop(self, content, name):
    self.script(
      """
      const given = new DataTransfer();
      given.items.add(new File([Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0))], arguments[1]));
      document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true}));
      """,
      base64.b64encode(content).decode(),
      name,
    )

  def save_downloads_to(self, folder):
    folder.mkdir()
    self.driver.execute_cdp_cmd('Browser.setDownloadBehavior', {'behavior': 'allow', 'downloadPath': str(folder)})

  @contextlib.contextmanager
  def sized(self, size, mobile=True):
    """The page in a window of this size."""
    metrics = {'width': size[0], 'height': size[1], 'deviceScaleFactor': 1, 'mobile': mobile}
    self.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
    try:
      yield
    finally:
      self.driver.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})

  def box(self, selector):
    """Left, top, right and bottom of an element in the window."""
    return self.script(
      'const box = document.querySelector(arguments[0]).getBoundingClientRect();'
      'return [box.left, box.top, box.right, box.bottom]',
      selector,
    )

  def scroll_to(self, selector, block='center'):
    """Scrolls, and waits until the page has drawn itself there."""
    self.script('document.querySelector(arguments[0]).scrollIntoView({block: arguments[1]})', selector, block)
    self.settle()

  def settle(self):
    self.driver.execute_async_script('requestAnimationFrame(() => requestAnimationFrame(arguments[0]))')

  def colours(self, scheme):
    features = [{'name': 'prefers-color-scheme', 'value': scheme}]
    self.driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})

  def says(self, words, seconds=60):
    return until(lambda: words in self.text('#status') and self.text('#status'), seconds)


@pytest.fixture(scope='module')
def browsers():
  """Two browsers with separate profiles."""
  need_chromium()
  made = [Explorer(), Explorer()]
  yield made
  for browser in made:
    browser.driver.quit()


@pytest.fixture
def browser(browsers, server):
  browsers[0].open(server.url)
  return browsers[0]


def test_pointing_shows_an_edit_and_a_click_takes_it(browser, server):
  zoo = read_zoo(server.workdir / 'catalog' / 'catalog.json')
  first = browser.source()
  frames = browser.choose_part(1)
  entries = [entry for entry in zoo.values() if entry.terms[0].part == (1,)]
  entries.sort(key=lambda entry: not is_of_size(entry.title))
  names = [entry.title for entry in entries]
  assert [frame.get_attribute('title') for frame in frames] == names
  assert browser.edits() == []
  browser.changed(lambda: browser.move_to(frames[0], 0.5, 0.5).perform())
  seen = browser.source()
  assert browser.text('#tag') == f'Trying: {names[0].partition(" · ")[2]}'
  browser.changed(lambda: browser.move_to(browser.one('#tools'), 0.01, 0.5).perform())
  assert browser.text('#tag') == PARTS[1]
  assert browser.source() == first
  browser.changed(frames[0].click)
  ((name, strength),) = browser.edits()
  assert name == names[0]
  assert strength == pytest.approx(abs(entries[0].terms[0].alpha), rel=0.01)
  browser.move_to(browser.one('#tools'), 0.01, 0.5).perform()
  assert browser.source() == seen
  assert browser.one('#save').is_enabled()
  assert browser.source('before') == first
  browser.changed(browser.film()[1].click)  # replaces the first edit
  assert [name for name, _ in browser.edits()] == [names[1]]
  browser.film()[1].click()  # a second click drops it
  until(lambda: browser.edits() == [])


def test_the_stack_of_edits(browser):
  first = browser.source()
  browser.take(1)
  one = browser.source()
  browser.take(2)
  both = browser.source()
  names = [name for name, _ in browser.edits()]
  browser.changed(lambda: browser.all('#edits .eye')[1].click())
  assert browser.source() == one
  browser.changed(lambda: browser.all('#edits .eye')[1].click())
  assert browser.source() == both
  browser.changed(lambda: browser.type_over(browser.all('#edits input[type=text]')[0], '0.5\t'))
  assert browser.edits()[0] == (names[0], 0.5)
  browser.type_over(browser.all('#edits input[type=text]')[0], 'x\t')
  assert browser.edits()[0] == (names[0], 0.5)
  browser.changed(lambda: browser.click('#do-undo'))
  assert browser.source() == both
  strength = browser.edits()[0][1]
  browser.changed(lambda: browser.slide(10))
  until(lambda: browser.edits()[0][1] > strength)
  assert PARTS[1] in browser.text('#film-title')  # the place of the edit whose slider moves
  assert 'The picture stays the same' in browser.all('#edits .down')[0].get_attribute('title')
  browser.all('#edits .down')[0].click()
  assert [name for name, _ in browser.edits()] == names[::-1]
  browser.changed(lambda: browser.all('#edits .bin')[0].click())
  assert [name for name, _ in browser.edits()] == names[:1]
  browser.changed(lambda: browser.click('#do-reset'))
  until(lambda: browser.source() == first)
  for expected in (names[:1], names[::-1], names):  # undo everything, then redo
    browser.click('#do-undo')
    until(lambda expected=expected: [name for name, _ in browser.edits()] == expected)
  assert browser.edits()[0][1] > strength
  browser.click('#do-undo')
  until(lambda: browser.edits()[0][1] == strength)  # a slider's move is one step
  until(lambda: browser.source() == both)
  for _ in range(4):
    browser.click('#do-redo')
  until(lambda: browser.source() == first and not browser.edits())
  assert not browser.one('#do-redo').is_enabled()


def test_before_and_after(browser):
  from selenium.webdriver import ActionChains, Keys

  browser.take(1)
  clip = "return getComputedStyle(document.querySelector('#before')).clipPath"
  divider = "return Number(document.querySelector('#divider').value)"
  assert browser.source('before') != browser.source()
  hidden = browser.script(clip)
  ActionChains(browser.driver).click_and_hold(browser.one('#hold')).perform()
  assert browser.script(clip) == 'none'
  ActionChains(browser.driver).release().perform()
  assert browser.script(clip) == hidden
  browser.click('#views label:nth-of-type(2)')
  half = browser.script(clip)
  assert half != hidden
  browser.one('#divider').send_keys(Keys.ARROW_LEFT * 10)
  assert browser.script(clip) not in (half, hidden)
  browser.move_to(browser.one('#stage'), 0.2, 0.8).click().perform()  # far from the divider
  assert browser.script(divider) == pytest.approx(17, abs=2)  # of 100; half of the slider's thumb is left out
  browser.move_to(browser.one('#stage'), 0.2, 0.8).click_and_hold().move_by_offset(150, 0).release().perform()
  assert browser.script(divider) > 30
  assert browser.text('#film-title') == f'Try on {PARTS[1]}'  # the click chooses no part
  browser.move_to(browser.one('#stage'), 0.2, 0.2).perform()
  outlines = "return getComputedStyle(document.querySelector('#parts')).opacity"
  until(lambda: browser.script(outlines) == '0')
  assert not browser.one('#tag').is_displayed()
  after = browser.source()
  browser.changed(lambda: browser.click('#views label:nth-of-type(3)'))
  assert 'brightest' in browser.text('#tag')
  browser.changed(lambda: browser.click('#views label:nth-of-type(1)'))
  assert browser.source() == after


def test_a_strength_stops_at_0_and_says_when_it_is_reversed(browser):
  def state():
    return browser.text('#edits .state')

  def at(x):
    browser.move_to(browser.one('#edits input[type=range]'), x, 0.5).click().perform()
    return browser.edits()[0][1]

  browser.take(1)
  assert state() == ''
  strengths = [browser.edits()[0][1]]
  while strengths[-1] > 0:
    browser.keys('-')
    strengths.append(browser.edits()[0][1])
    assert strengths[-1] < strengths[-2]
  assert strengths[-1] == 0
  assert state() == 'no effect at 0'
  assert not browser.one('#save').is_enabled()
  assert 'off or at 0' in browser.text('#save-said')
  browser.keys('-')
  assert browser.edits()[0][1] < 0
  assert state() == 'reversed'
  until(lambda: browser.one('#after').get_attribute('alt').endswith(', reversed'))
  assert browser.one('#save').is_enabled()
  assert at(0.8) == 0  # it was below 0
  assert at(0.8) > 0
  assert state() == ''
  assert at(0.52) == 0
  browser.slide(1)
  assert browser.edits()[0][1] > 0  # keys continue in small steps
  browser.slide(-3)
  assert browser.edits()[0][1] < 0
  browser.type_over(browser.all('#edits input[type=text]')[0], 'much\t')
  browser.says('“much” is not a strength')


def test_paint_remove_and_refine(browser, tmp_path):
  from selenium.webdriver import ActionChains

  browser.click('#views label:nth-of-type(2)')
  browser.click('#paint')
  assert not browser.one('#divider').is_displayed()  # a stroke would move it
  assert browser.text('#tag') == 'Draw where to edit'
  assert 'Draw on the picture' in browser.text('#film-said')
  browser.move_to(browser.one('#stage'), 0.5, 0.5).perform()
  small = browser.one('#brush').rect['width']
  sized = "const one = document.querySelector('#brush-size'); one.value = {}; one.dispatchEvent(new Event('input'))"
  browser.script(sized.format(6))
  assert browser.one('#brush').rect['width'] == pytest.approx(2 * small, rel=0.05)
  browser.script(sized.format(3))
  chain = ActionChains(browser.driver).move_to_element_with_offset(browser.one('#stage'), -100, -100).click_and_hold()
  chain.move_by_offset(120, 0).move_by_offset(0, 60).release().perform()
  until(lambda: browser.text('#film-title') == 'Try on the painted area')
  browser.click('#do-undo')  # a stroke is one step
  until(lambda: browser.text('#film-title') == 'Try')
  browser.click('#do-redo')
  until(lambda: browser.text('#film-title') == 'Try on the painted area')
  browser.changed(lambda: browser.film()[0].click())
  assert browser.edits()[0][0].startswith('painted area · ')
  browser.changed(lambda: browser.move_to(browser.one('#stage'), 0.9, 0.9).click().perform())
  browser.says('acts on the new area now.')
  tiles = {f'painted area · {one.get_attribute("title")}' for one in browser.film()}
  called, taken = browser.edits()[0][0], browser.all('#film button[aria-pressed=true]')
  until(lambda: not taken or browser.edits()[0][0] in tiles)
  assert taken or browser.edits()[0][0] == called
  count = len(browser.edits())
  browser.changed(lambda: browser.click('#remove'))  # what is painted over
  assert browser.edits()[-1][0] == 'painted area · removed'
  browser.changed(lambda: browser.click('#do-undo'))
  assert len(browser.edits()) == count
  wrong = {'no picture': 'it is not a PNG', bytes(9 << 20): 'larger than 8 MB'}
  for content, said in wrong.items():
    (tmp_path / 'x.png').write_bytes(content if isinstance(content, bytes) else content.encode())
    browser.one('#mask-file').send_keys(str(tmp_path / 'x.png'))
    assert str(tmp_path) not in browser.says(said)
  drawn = np.zeros((8, 8), np.uint8)
  drawn[2:5] = 255
  Image.fromarray(drawn).save(tmp_path / 'e.png')
  browser.changed(lambda: browser.one('#mask-file').send_keys(str(tmp_path / 'e.png')))
  browser.select('#part', '3')
  browser.film()
  browser.changed(lambda: browser.click('#remove'))
  browser.says('Removed. If something is left, paint over it')
  browser.film()
  assert not browser.all('#film button[aria-pressed=true]')  # the edit that removes is none of those to try
  assert browser.edits()[1][0] == 'bottom right · removed'
  assert browser.all('#edits .state')[1].text == ''
  browser.slide(-2, 1)
  assert browser.all('#edits .state')[1].text == 'only partly'
  browser.changed(lambda: browser.click('#refine'))
  until(lambda: browser.all('#stage.hinted'))  # the parts show their outlines
  browser.changed(lambda: browser.click('#refine'))
  browser.click('#paint')
  browser.move_to(browser.one('#stage'), 0.5, 0.5).click().perform()
  until(lambda: browser.text('#film-title') == 'Try on the painted area')
  browser.click('#views label:nth-of-type(2)')
  assert browser.one('#paint').get_attribute('aria-pressed') == 'false'
  browser.click('#views label:nth-of-type(1)')
  browser.changed(lambda: browser.click('#do-reset'))
  assert browser.text('#film-title') == 'Try'


def test_what_needs_an_edit_is_off_before_the_first(browser):
  assert not browser.one('#hold').is_enabled()
  assert not browser.one('#views input').is_enabled()
  assert not browser.one('#save').is_enabled()
  assert 'act on all pictures' in browser.text('#stack h2')
  browser.take(1)
  assert browser.one('#hold').is_enabled()
  assert browser.one('#sizing').is_displayed()
  browser.click('#views label:nth-of-type(2)')
  assert browser.one('#divider').is_displayed()
  browser.click('#do-reset')
  until(lambda: not browser.one('#divider').is_displayed())  # there is nothing to compare any more
  assert not browser.one('#views input').is_enabled()


@pytest.mark.parametrize('width', [1280, PHONE[0]])
def test_frames_are_as_high_as_what_keeps_their_place(browser, server, width):
  size = {'width': width, 'height': PHONE[1], 'deviceScaleFactor': 1, 'mobile': width == PHONE[0]}
  browser.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
  try:
    browser.open(server.url)
    blank = browser.one('#film .blank').rect['height']
    browser.choose_part(1)
    assert browser.one('#film button').rect['height'] == pytest.approx(blank, abs=0.5)  # pixels are whole
  finally:
    browser.driver.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


def test_fitting_says_when_it_is_done(browser):
  top = browser.box('#stack')[1]
  browser.click('#refine')
  browser.says('Fitted: outlines and edits are where the parts are')
  assert browser.box('#stack')[1] == top  # nothing moves
  browser.click('#status')
  browser.keys('.')
  until(lambda: browser.all('#stage.hinted'))  # the next sample too, without a word
  assert browser.text('#status') == ''
  browser.click('#refine')
  assert not browser.one('#refine').is_selected()


def test_parts_follow_each_other_from_the_top_of_the_picture_to_its_bottom(browser):
  found = browser.driver.execute_async_script("""
    const done = arguments[0];
    Promise.all([import('/static/maps.js'), import('/static/session.js')]).then(([maps, {session}]) => {
      const {fit, maps: own} = session;
      session.fit = {...fit, parts: [0, 2, 5, 7], names: {0: 'bottom left', 2: 'chin', 5: 'eyes'}};
      const rows = [[0, 0, 9], [0, 9, 9], [9, 1, 0], [9, 0, 0]].map((heights) => heights.flatMap((x) => [x, 0]));
      session.maps = {rows: 3, columns: 2, maps: rows.map((row) => Uint8Array.from(row))};
      const order = maps.inOrder();
      Object.assign(session, {fit, maps: own});
      done(order);
    });
  """)
  assert found == [5, 2, 7, 0]


def test_a_note_goes_at_a_click(browser):
  browser.choose_part(1)
  browser.changed(lambda: browser.click('#remove'))
  browser.says('Removed')
  browser.click('#status')
  assert browser.text('#status') == ''


def test_masks_are_of_the_whole_grid_and_drawn_where_the_picture_is(browser):
  """A StyleGAN3's grid reaches beyond the picture."""
  found = browser.driver.execute_async_script("""
    const done = arguments[0];
    Promise.all([import('/static/maps.js'), import('/static/session.js')]).then(([maps, {session}]) => {
      const fit = session.fit, mask = new Float32Array(24);
      session.fit = {...fit, grid: [4, 6], margin: [1, 2]};
      mask[0] = 1;
      mask[1 * 6 + 2] = 0.5;
      const shown = maps.mapsOfMask(mask), part = maps.partAt({rows: 1, columns: 2, maps: [[9, 0], [8, 0]]}, 0.4, 0.9);
      const none = maps.partAt({rows: 1, columns: 2, maps: [[9, 0], [8, 0]]}, 1, 1);
      session.fit = fit;
      done([shown.rows, shown.columns, [...shown.maps[0]], maps.packedMask(mask), part, none]);
    });
  """)
  rows, columns, shown, packed, part, none = found
  assert (rows, columns, shown) == (2, 2, [127, 0, 0, 0])  # half of the maximum, which lies beyond the picture
  expected = np.zeros(24, np.float32)
  expected[[0, 8]] = 1, 0.5
  assert packed == Spec(mask=tuple(expected.tolist())).to_json()['mask']
  assert (part, none) == (0, None)


def test_samples(browser):
  from selenium.webdriver import Keys

  browser.changed(lambda: browser.all('#samples button')[2].click())
  assert 'seed 2' in browser.one('#after').get_attribute('alt')
  browser.take(1)
  browser.type_over(browser.one('#seeds'), '4-6, 9\n')
  browser.says('Your edits act on every picture.')
  until(lambda: [button.text for button in browser.all('#samples button')] == [f'seed {t}' for t in (4, 5, 6, 9)])
  until(lambda: 'seed 4' in browser.one('#after').get_attribute('alt'))
  shown = browser.source()
  until(lambda: all(browser.script("return [...document.querySelectorAll('#samples img')].map((i) => i.src)")))
  for typed, said in {
    'many': '“many” is not a seed. Type whole numbers, such as 3 or 0-7.',
    '4, -1': '“-1” is not a seed. Type whole numbers, such as 3 or 0-7.',
    '7-3': '“7-3” goes backwards. Type 3-7.',
    '5000000000': '“5000000000” is too large: 4294967295 is the last.',
    '9' * 25: f'“{"9" * 25}” is too large: 4294967295 is the last.',
    '0-99999999999': 'Too many: 9 samples are shown at most.',
    ','.join(map(str, range(30))): 'Too many: 9 samples are shown at most.',
  }.items():
    browser.type_over(browser.one('#seeds'), f'{typed}\n')
    until(lambda said=said: browser.text('#seeds-wrong') == said)
    assert browser.one('#seeds').get_attribute('aria-invalid') == 'true'
  browser.changed(lambda: browser.one('#truncation').send_keys(Keys.ARROW_LEFT * 10))
  until(lambda: browser.text('#psi') == '0.50')
  browser.changed(lambda: browser.click('#do-undo'))
  until(lambda: browser.source() == shown)
  browser.changed(lambda: browser.click('#random'))
  assert len(browser.all('#samples button')) == 8
  assert re.fullmatch(r'\d+-\d+', browser.one('#seeds').get_attribute('value'))  # the field shows all of them
  assert browser.text('#seeds-wrong') == ''


def test_a_save_is_a_download_with_its_command(browser, server, tmp_path):
  browser.save_downloads_to(tmp_path / 'fetched')
  browser.take(1)
  browser.type_over(browser.one('#name'), 'mine')
  for name in ('mine', 'mine_2'):
    browser.click('#save')
    browser.says(f'Saved to your downloads: {name}.png, 16x16')
    until((tmp_path / 'fetched' / f'{name}.png').exists)
  browser.changed(lambda: browser.click('#do-undo'))
  assert not browser.one('#saved').is_displayed()  # it is about another picture
  browser.changed(lambda: browser.click('#do-redo'))
  assert browser.one('#saved').is_displayed()
  edited = np.asarray(Image.open(tmp_path / 'fetched' / 'mine.png'))
  shown = base64.b64decode(browser.source().partition(',')[2])
  (tmp_path / 'shown.png').write_bytes(shown)
  np.testing.assert_array_equal(edited, np.asarray(Image.open(tmp_path / 'shown.png')))
  assert f'--zoo={server.workdir}/app/mine_2/edit.json --name=mine_2 --seeds={browser.seed()}' in browser.text(
    '#saved code'
  )
  saved = read_zoo(server.workdir / 'app' / 'mine' / 'edit.json')['mine']
  assert saved.terms[0].part == (1,)
  assert not browser.one('#saved code').is_displayed()
  browser.click('#saved summary')
  assert [link.text for link in browser.all('#saved a')] == ['strip.png', 'edited.png', 'sweep.gif', 'edit.json']
  browser.type_over(browser.one('#name'), '../x')
  browser.click('#save')
  until(lambda: 'cannot be the name of a folder' in browser.text('#name-wrong'))


def test_a_picture_is_saved_as_made_or_enlarged(browser, tmp_path):
  browser.save_downloads_to(tmp_path / 'fetched')
  browser.take(1)
  made = np.asarray(Image.open(io.BytesIO(base64.b64decode(browser.source().partition(',')[2]))))
  browser.type_over(browser.one('#name'), 'large')
  assert [one.text for one in browser.all('#size option')] == ['16x16, as made', '512x512, enlarged']
  browser.select('#size', '32')
  browser.click('#save')
  browser.says('Saved to your downloads: large.png, 512x512')
  until((tmp_path / 'fetched' / 'large.png').exists)
  large = Image.open(tmp_path / 'fetched' / 'large.png').convert('RGB')
  assert large.size == (512, 512)
  small = np.asarray(large.resize((16, 16), Image.Resampling.BOX), np.float32)
  # Means of a smoothly enlarged pixel: its neighbours take part, so single pixels differ and the picture does not.
  assert np.corrcoef(small.ravel(), made.astype(np.float32).ravel())[0, 1] > 0.95


def test_everything_by_keys_alone(browser, server):
  from selenium.webdriver import ActionChains, Keys

  first = browser.source()
  browser.keys(']')
  until(lambda: PARTS[0] in browser.text('#film-title'))
  browser.keys(']')
  until(lambda: PARTS[1] in browser.text('#film-title'))
  browser.film()
  browser.move_to(browser.one('#help'), 0.5, 0.5).perform()
  outline = "return getComputedStyle(document.querySelector('#parts')).opacity"
  until(lambda: browser.script(outline) == '1')  # without edits, the chosen place is outlined
  browser.changed(lambda: browser.keys('1'))
  until(lambda: browser.script(outline) == '0')
  ((name, strength),) = browser.edits()
  taken = browser.source()
  browser.changed(lambda: browser.keys('-'))
  until(lambda: browser.edits()[0][1] < strength)
  browser.changed(lambda: browser.keys('h'))
  until(lambda: browser.source() == first)
  browser.changed(lambda: browser.keys('h'))
  ActionChains(browser.driver).key_down(Keys.CONTROL).send_keys('zzz').key_up(Keys.CONTROL).perform()
  until(lambda: browser.source() == taken)
  browser.keys('c')
  assert browser.one('#divider').is_displayed()
  browser.keys(Keys.ARROW_LEFT)
  assert browser.one('#divider').get_attribute('value') == '49'
  browser.keys('c')
  seed = browser.seed()
  browser.changed(lambda: browser.keys('.'))
  assert browser.seed() == seed + 1
  browser.changed(lambda: browser.keys(','))
  browser.keys('?')
  until(lambda: browser.one('#helping').is_displayed())
  browser.keys(Keys.ESCAPE)
  until(lambda: not browser.one('#helping').is_displayed())
  browser.keys('s')
  browser.says(f'Saved to your downloads: seed-{seed}-top-right-')
  browser.changed(lambda: browser.keys(Keys.DELETE))
  assert browser.edits() == []
  browser.changed(lambda: browser.keys('x'))
  assert browser.edits()[0][0] == 'top right · removed'
  browser.changed(lambda: browser.keys('n'))
  assert browser.edits() == []
  browser.keys('c')
  browser.says('Choose an edit first')
  assert not browser.one('#divider').is_displayed()
  browser.changed(lambda: browser.keys('1'))
  # Tab reaches every control, and the focus is visible.
  browser.script("document.querySelector('#help').focus()")
  reached = set()
  for _ in range(60):
    browser.keys(Keys.TAB)
    found = browser.script(
      "const e = document.activeElement; return [e.id || e.title || e.tagName, e.matches(':focus-visible')]"
    )
    assert found[1] or found[0] == 'BODY', found
    reached.add(found[0])
  assert {'stage', 'do-undo', 'hold', 'part', 'paint', 'refine', 'name', 'random', 'seeds', 'truncation'} <= reached
  assert {'photo-file', name} <= reached  # a frame of the film shows its edit at focus, with its name
  # Each list of pictures is one stop of Tab; arrow keys move in it.
  titles = [one.get_attribute('title') for one in browser.film()]
  focused = 'return document.activeElement.title'
  browser.keys('t')
  assert browser.script(focused) == titles[0]
  browser.keys(Keys.ARROW_RIGHT)
  assert browser.script(focused) == titles[1]
  browser.keys(Keys.TAB)
  ActionChains(browser.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
  assert browser.script(focused) == titles[1]
  browser.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
  assert browser.script(focused) == titles[0]
  stops = "return [...document.querySelectorAll('#samples button')].filter((one) => one.tabIndex === 0).length"
  assert browser.script(stops) == 1


def test_a_photograph_from_the_drop_to_the_download(browser, browsers, server, tmp_path):
  def files():
    return sorted(str(path) for path in server.workdir.rglob('*'))

  def on_photograph(x, y):
    return browser.move_to(browser.one('#photo'), x, y)

  def value(name):
    return browser.one(f'#{name}').get_attribute('value')

  before = files()
  small = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
  pixels = np.asarray(Image.fromarray(small).resize((200, 160), Image.Resampling.BICUBIC))
  Image.fromarray(pixels).save(tmp_path / 'mine.png')
  browser.drop(b'%PDF-1.7', 'paper.pdf')
  browser.says('paper.pdf: it is not a photograph')
  assert not browser.one('#photograph').is_displayed()
  browser.drop((tmp_path / 'mine.png').read_bytes(), 'mine.png')
  until(lambda: 'Mark the left eye, as you see it, then the right eye' in browser.text('#photo-said'))
  still = browser.one('#photo').rect
  on_photograph(0.3, 0.25).click_and_hold().move_by_offset(90, 110).release().perform()
  until(lambda: value('box'))
  x, y, width, height = map(float, value('box').split(','))
  assert width == height
  assert (x, y) == pytest.approx((60, 40), abs=2)  # a pixel of the screen is larger than one of the photograph
  browser.click('#photo-clear')
  until(lambda: not value('box'))
  on_photograph(0.4, 0.4).click().perform()
  until(lambda: 'Now the right eye' in browser.text('#photo-said'))
  on_photograph(0.6, 0.4).click().perform()
  until(lambda: value('points').count(',') == 3)
  assert np.array(value('points').split(','), float) == pytest.approx([80, 64, 120, 64], abs=2)
  points = value('points')
  browser.script("""
    const said = document.querySelector('#photo-said');
    window.heard = [];
    new MutationObserver(() => window.heard.push(said.textContent)).observe(
      said, {subtree: true, childList: true, characterData: true});
  """)
  assert browser.one('#photo').rect == still  # the text below did not move it
  assert browser.one('#invert').text == 'Use this photo'
  browser.changed(lambda: browser.click('#invert'), SECONDS)  # includes compilation
  until(lambda: 'The photograph is ready' in browser.text('#photo-said'))
  assert 'Matching the photograph: features' in ' | '.join(browser.script('return window.heard'))
  assert 'PSNR' in browser.text('#near')
  assert f'--points={points}' in browser.text('#photo-command')
  browser.click('#photo-close')
  assert 'mine.png' in browser.one('#after').get_attribute('alt')
  assert not browser.one('#save').is_enabled()
  browser.take(1)
  assert files() == before
  browser.save_downloads_to(tmp_path / 'fetched')
  browser.click('#save')
  name = browser.says('Saved to your downloads: mine-').split()[4].strip(',')
  until((tmp_path / 'fetched' / name).exists)
  edited = np.asarray(Image.open(tmp_path / 'fetched' / name))
  assert edited.shape == pixels.shape
  np.testing.assert_array_equal(edited[:, :55], pixels[:, :55])  # left of the frame
  assert (edited != pixels).any()
  other = browsers[1]
  other.open(server.url)
  assert 'mine.png' not in other.text('#samples')
  for _ in range(2):
    assert browser.all('#samples button')[0].text == 'mine.png'
    browser.changed(lambda: browser.click('#do-undo' if browser.edits() else '#random'))
  browser.changed(lambda: browser.all('#samples button')[0].click())
  assert 'mine.png' in browser.one('#after').get_attribute('alt')  # it stays after undo and after a change of seeds


def test_two_users_do_not_meet(browser, browsers, server):
  other = browsers[1]
  other.open(server.url)
  browser.take(0)
  other.take(3)
  mine, name = browser.source(), browser.edits()[0][0]
  other.changed(lambda: other.slide(-30))
  assert (browser.source(), browser.edits()[0][0]) == (mine, name)
  assert other.edits()[0][0] != name


def test_another_fit_has_its_own_parts(browser, server):
  seed = browser.seed() + 1
  browser.changed(lambda: browser.all('#samples button')[seed].click())
  browser.take(3)
  browser.changed(lambda: browser.select('#fit', 'other'))
  until(lambda: len(browser.all('#part option')) == 3)
  assert browser.edits() == []
  assert browser.seed() == seed
  browser.click_at(0.9, 0.9)
  until(lambda: PARTS[3] in browser.text('#film-title'))
  browser.changed(lambda: browser.film()[0].click())
  name, strength = browser.edits()[0]
  assert name == f'bottom right · {browser.text("#film button span")}'  # without a catalog, the frame has the same name
  assert strength > 0  # positive in the direction of its name
  browser.take(1)
  browser.changed(lambda: browser.all('#edits .eye')[1].click())
  browser.all('#edits .name')[0].click()
  until(lambda: PARTS[3] in browser.text('#film-title'))
  browser.film()
  browser.changed(lambda: browser.all('#samples button')[2].click())
  browser.film()
  tiles = [frame.get_attribute('title') for frame in browser.all('#film button[aria-pressed=true]')]
  assert [f'bottom right · {tile}' for tile in tiles] == [name]  # whatever else is chosen, it keeps its name
  browser.all('#edits .bin')[1].click()
  browser.changed(lambda: browser.all('#samples button')[0].click())
  browser.click('#save')
  browser.says('Saved to your downloads: seed-0-bottom-right-')
  assert len(list((server.others[0] / 'app').glob('seed-0-bottom-right-*/edit.json'))) == 1


def test_a_page_left_open_goes_on_after_a_restart_and_after_it_is_loaded_again(browser, server):
  browser.take(1)
  picture, edits = browser.source(), browser.edits()
  assert server.stop() == 0
  browser.slide(-5)
  browser.says('The server does not answer')
  server.start()
  until(lambda: browser.source() != picture)
  browser.changed(lambda: browser.click('#do-undo'))  # undo works across the restart
  until(lambda: browser.source() == picture)
  browser.driver.refresh()
  until(lambda: browser.all('body.ready') and browser.source() == picture)
  assert browser.edits() == edits
  browser.changed(lambda: browser.click('#do-redo'))  # and redo after a reload
  assert browser.edits() != edits
  browser.click('#do-undo')
  browser.click('#do-undo')
  until(lambda: browser.edits() == [])


def test_what_takes_long_says_so(browser):
  browser.script("""
    const fetched = window.fetch;
    window.fetch = async (...given) => { await new Promise((r) => setTimeout(r, 900)); return fetched(...given); };
    window.heard = [];
    const status = document.querySelector('#status');
    new MutationObserver(() => window.heard.push([document.body.className, status.textContent])).observe(
      document.body, {attributes: true, subtree: true, childList: true, characterData: true});
  """)
  browser.choose_part(1)
  browser.changed(lambda: browser.click('#remove'))
  browser.says('Removed')
  heard = browser.script('return window.heard')
  assert any('working' in classes for classes, _ in heard)
  assert {'Trying edits …', 'Removing top right …'} <= {words for _, words in heard}
  until(lambda: not browser.all('body.working'))
  browser.select('#fit', 'other')
  until(lambda: 'Asking the server' in browser.text('#waiting-for') and browser.one('#waiting').is_displayed())
  until(lambda: not browser.one('#waiting').is_displayed())
  assert 'Making the first picture' in browser.text('#waiting-for')


def test_parts_are_outlined_until_the_first_choice(browser):
  outlines = "return getComputedStyle(document.querySelector('#parts')).opacity"
  drawn = """
    const {width, height} = document.querySelector('#parts');
    const {data} = document.querySelector('#parts').getContext('2d').getImageData(0, 0, width, height);
    return data.some((x) => x > 0);
  """
  browser.move_to(browser.one('#help'), 0.5, 0.5).perform()
  time.sleep(3)  # longer than any hint
  assert browser.script(outlines) == '1'
  assert browser.script(drawn)
  assert re.match(r'(Click|Tap) the top left, the top right or another part', browser.text('#film-said'))
  browser.take(1)
  browser.move_to(browser.one('#help'), 0.5, 0.5).perform()
  until(lambda: browser.script(outlines) == '0')


def test_an_edit_below_a_resting_mouse_is_not_tried(browser, server):
  from selenium.webdriver import ActionChains

  with browser.sized((1280, 500), mobile=False):
    browser.open(server.url)
    browser.select('#fit', 'other')
    until(lambda: len(browser.all('#part option')) == 3)
    browser.select('#part', '1')
    until(lambda: len(browser.film()) > 4)  # more than a row
    browser.move_to(browser.all('#film button')[0], 0.5, 0.5).perform()
    until(lambda: browser.all('#stage.trying'))
    browser.script('scrollBy(0, arguments[0])', browser.box('#film button:nth-of-type(5)')[1] - browser.box('#film')[1])
    until(lambda: browser.all('#film button:nth-of-type(5):hover'))
    browser.settle()
    assert not browser.all('#stage.trying')
    browser.changed(lambda: ActionChains(browser.driver).move_by_offset(3, 3).perform())
    assert browser.all('#stage.trying')


def test_a_low_window_has_a_small_square_picture_and_its_tools_in_rows(browser, server):
  with browser.sized(LOW, mobile=False):
    browser.open(server.url)
    browser.take(1)
    browser.scroll_to('#edits')
    left, top, right, bottom = browser.box('#stage')
    assert right - left == pytest.approx(bottom - top, abs=1)
    assert browser.box('#shown')[3] <= 0.4 * LOW[1]
    assert len({browser.box(f'#views label:nth-of-type({k})')[1] for k in (1, 2, 3)}) == 1
    assert browser.box('#save')[3] <= browser.box('#shown')[3]


@pytest.mark.parametrize('size', [PHONE, (320, 568), (1280, 800)])
def test_save_is_in_sight_after_the_first_edit(browser, server, size):
  with browser.sized(size, mobile=size[0] < 800):
    browser.open(server.url)
    browser.take(1)
    for y in range(0, 700, 50):
      browser.script(f'scrollTo(0, {y})')
      browser.settle()
      left, top, right, bottom = browser.box('#save')
      assert left >= 0
      assert right <= size[0]
      assert bottom <= size[1]
      assert top >= 0
      if size[0] < 800:  # the page goes on directly below the picture
        assert browser.box('#try')[1] - browser.box('#shown')[3] < 45


def test_on_a_phone_what_is_touched_stays_under_the_finger(browser, server):
  def stays(selector, element, changed):
    browser.scroll_to(selector)
    top = browser.box(selector)[1]
    assert top > browser.box('#shown')[3]
    browser.changed(element.click) if changed else element.click()
    browser.settle()
    until(lambda: not browser.all('#film.waiting'))
    browser.settle()
    assert browser.box(selector)[1] == pytest.approx(top, abs=1), selector

  with browser.sized(PHONE):
    browser.open(server.url)
    browser.choose_part(1)
    stays('#film button', browser.one('#film button'), changed=True)
    stays('#remove', browser.one('#remove'), changed=True)
    stays('#paint', browser.one('#paint'), changed=False)


def test_on_a_phone_edits_to_try_come_into_view(browser, server):
  from selenium.webdriver import Keys

  def in_view():
    return browser.box('#shown')[3] <= browser.box('#film-title')[1] < browser.box('#film')[3] <= PHONE[1]

  with browser.sized(PHONE):
    browser.open(server.url)
    browser.take(1)
    browser.scroll_to('#keep', 'end')
    assert not in_view()
    browser.script(
      """
      const {left, top, width, height} = arguments[0].getBoundingClientRect();
      const at = {clientX: left + 0.1 * width, clientY: top + 0.9 * height, bubbles: true};
      arguments[0].dispatchEvent(new MouseEvent('click', at));
      """,
      browser.one('#stage'),
    )
    until(lambda: browser.text('#film-title') == f'Try on {PARTS[2]}')
    browser.film()
    until(in_view)
    browser.keys('t')
    for _ in range(5):
      left, _, right, bottom = browser.script(
        'const box = document.activeElement.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]'
      )
      first, _, last, _ = browser.box('#film')
      assert first <= left < right <= last
      assert bottom <= PHONE[1]
      browser.keys(Keys.TAB)
      browser.settle()
    browser.scroll_to('#keep', 'end')
    browser.one('#save').click()
    browser.says('Saved to your downloads')
    until(lambda: browser.one('#saved').is_displayed())
    browser.settle()
    assert browser.box('#saved')[1] >= browser.box('#status')[3]  # the status does not lie over it


def test_on_a_phone(browser, server):
  size = {'width': PHONE[0], 'height': PHONE[1], 'deviceScaleFactor': 2, 'mobile': True}
  browser.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
  try:
    browser.open(server.url)
    assert browser.fits_its_width()
    browser.click('#help')
    assert browser.one('#help-close').is_displayed()
    table = browser.script("const one = document.querySelector('#words'); return [one.scrollWidth, one.clientHeight]")
    assert table[0] <= PHONE[0]
    assert table[1] < 2 * PHONE[1]  # the words are side by side
    browser.click('#help-close')
    picture = browser.one('#stage').rect
    assert picture['y'] < 120
    assert picture['width'] > 350
    first = browser.seed()
    for button, seed in (('#after-sample', first + 1), ('#before-sample', first)):
      browser.changed(lambda button=button: browser.click(button))
      assert browser.seed() == seed
    browser.choose_part(1)
    frame = browser.one('#film button').rect
    assert browser.script('return scrollY') == 0
    assert frame['y'] + frame['width'] < PHONE[1]  # the frames are visible
    browser.take(1)
    browser.changed(lambda: browser.slide(5))
    for selector in (
      '#do-undo',
      '#hold',
      '#part',
      '#remove',
      '#paint',
      '#film button',
      '#edits .bin',
      '#save',
      '#random',
    ):
      box = browser.one(selector).rect
      assert box['x'] >= 0, selector
      assert box['x'] + box['width'] <= PHONE[0], selector
      assert box['height'] >= 26, selector
    browser.script("document.querySelector('#edits').scrollIntoView({block: 'center'})")
    until(lambda: browser.one('#shown').rect['height'] < 0.45 * PHONE[1])  # smaller, with its tools beside it
    tops = browser.script(
      "return ['#shown', '#edits .eye', '#edits .bin', '#edits input', '#do-undo', '#hold'].map((one) => {"
      'const box = document.querySelector(one).getBoundingClientRect(); return [box.top, box.bottom]})'
    )
    scrolled = browser.script('return scrollY')
    assert scrolled > 100
    for selector in (
      '#views label:nth-of-type(2)',
      '#views label:nth-of-type(1)',
      '#do-undo',
      '#do-redo',
      '#edits .eye',
    ):
      browser.one(selector).click()
      assert browser.script('return scrollY') == scrolled, selector
    browser.one('#edits .eye').click()
    (top, bottom), *tools = tops
    assert top == 0
    assert all(bottom <= first < last <= PHONE[1] for first, last in tools[:3])  # below the picture, in sight
    assert all(0 <= first < last <= bottom for first, last in tools[3:])
    browser.click('#save')
    browser.says('Saved to your downloads')
    box = "const box = document.querySelector('{}').getBoundingClientRect();"
    assert browser.script(f'{box.format("#status")} return box.top >= 0 && box.bottom <= window.innerHeight')
    assert browser.script(f'{box.format("#stage")} return box.top >= 0 && box.bottom <= window.innerHeight')  # it stays
    assert browser.fits_its_width()
  finally:
    browser.driver.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


def test_nothing_is_loaded_from_elsewhere_and_nothing_complains(browser, server):
  browser.complaints()  # drops those of other tests
  browser.asked_for()
  browser.open(server.url)
  browser.take(3)
  asked = browser.asked_for()
  assert any(address.startswith(server.url) for address in asked)
  assert [a for a in asked if not a.startswith((server.url, 'data:', 'blob:'))] == []
  assert browser.complaints() == []


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_names_roles_and_contrast(browser, scheme):
  """axe-core finds elements without a name, with a wrong role, or with too little contrast."""
  need('selenium_axe_python')
  axe = (importlib.resources.files('selenium_axe_python') / 'axe-core' / 'axe.min.js').read_text()
  browser.colours(scheme)
  browser.take(1)
  browser.take(2)
  browser.click('#paint')
  browser.click('#save')
  browser.says('Saved to your downloads')
  browser.script(axe)
  for opened in (None, 'helping', 'photograph'):
    if opened:
      browser.script('document.getElementById(arguments[0]).showModal()', opened)
    found = browser.driver.execute_async_script(
      "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}).then(arguments[0])"
    )
    said = [
      f'{one["id"]}: {node["html"]} {node["failureSummary"]}' for one in found['violations'] for node in one['nodes']
    ]
    assert said == []
    if opened:
      browser.script('document.getElementById(arguments[0]).close()', opened)
  assert re.search('contrast', str([one['id'] for one in found['passes']]))
