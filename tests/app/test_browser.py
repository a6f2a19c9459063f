"""The explorer as a person meets it, in headless chromium: clicks, strokes, slides, files, two users, a restart."""

import base64
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from panda_jax.catalog import Settings, catalog_into
from panda_jax.editing.zoo import read_zoo
from panda_jax.factors import Factors
from panda_jax.workdir.finished_fit import open_workdir
from tests.app.servers import SECONDS, Server
from tests.browser import DESKTOP, PHONE, Browser, need, need_chromium, until

pytestmark = pytest.mark.slow
FEW = Settings(screened=4, measured=4, heldout=4, unedited=4, pairs=1, top=1, random=1)


@pytest.fixture(scope='module')
def server(fitted, tmp_path_factory):
  """Of a fit with a catalog, and of another one that has fewer parts."""
  need('gradio')
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
    super().open(url, size)
    until(lambda: self.all('#panda-original img') and 'click a part' in self.text('original').lower())

  def one(self, name):
    return self.all(f'#panda-{name}')[0]

  def text(self, name):
    return self.one(name).text

  def source(self, panel):
    return self.script(f"return document.querySelector('#panda-{panel} img').src")

  def changed(self, panel, act, seconds=60):
    """Does something, and waits until a picture has become another one."""
    before = self.source(panel)
    act()
    return until(lambda: self.source(panel) != before, seconds)

  def click_at(self, x, y):
    """On the original, at fractions of its width and height."""
    self.move_to(self.all('#panda-original img')[0], x, y).click().perform()

  def slide(self, steps):
    from selenium.webdriver import Keys

    self.all('#panda-alpha input[type=range]')[0].send_keys(
      (Keys.ARROW_RIGHT if steps > 0 else Keys.ARROW_LEFT) * abs(steps)
    )

  def press(self, name):
    self.script('arguments[0].click()', self.one(name))

  def field(self, name):
    return self.all(f'#panda-{name} input, #panda-{name} textarea')[0]

  def write(self, name, text):
    self.type_over(self.field(name), text)

  def options(self, name):
    """Opens a list; its options by their texts."""
    self.script("arguments[0].scrollIntoView({block: 'center'})", self.one(name))
    self.field(name).click()
    found = until(lambda: self.all(f'#panda-{name} [role=option]') or self.all('ul[role=listbox] [role=option]'))
    return {option.get_attribute('aria-label') or option.text: option for option in found}

  def choose(self, name, text):
    self.options(name)[text].click()

  def strength(self):
    return float(self.all('#panda-alpha input[type=range]')[0].get_attribute('value'))

  def upload(self, path):
    self.all('#panda-upload input[type=file]')[0].send_keys(str(path))

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

  def listen(self):
    """What is said from now on, for `heard`."""
    self.script("""
      const status = document.querySelector('#panda-status');
      window.heard = [];
      new MutationObserver(() => window.heard.push(status.textContent)).observe(
        status, {subtree: true, childList: true, characterData: true});
    """)

  def heard(self):
    return ' | '.join(self.script('return window.heard'))

  def says(self, words):
    return until(lambda: words in self.text('status') and self.text('status'))


@pytest.fixture(scope='module')
def drivers():
  need('gradio')
  need_chromium()
  made = []
  yield made
  for browser in made:
    browser.driver.quit()


@pytest.fixture(scope='module')
def browsers(drivers):
  """Two browsers that know nothing of each other."""
  drivers += [Explorer(), Explorer()]
  return drivers


@pytest.fixture
def browser(browsers, server):
  browsers[0].open(server.url)
  return browsers[0]


def test_click_slide_and_save(browser, server):
  assert 'nothing is changed' in browser.text('difference')
  browser.changed('edited', lambda: browser.click_at(0.9, 0.1))
  assert 'part 1' in browser.text('original')
  first = browser.strength()
  assert first > 0
  browser.changed('edited', lambda: browser.slide(10))
  assert browser.strength() > first
  until(lambda: f'= {browser.strength():.3g}' in browser.text('edited').replace('\N{MINUS SIGN}', '-'))
  browser.write('name', 'mine')
  browser.press('save')
  assert 'app/mine' in browser.says('Saved as')
  browser.press('save')
  browser.says('app/mine-2')
  saved = read_zoo(server.workdir / 'app' / 'mine' / 'edit.json')['mine']
  assert saved.terms[0].part == (1,)
  assert saved.terms[0].alpha == pytest.approx(browser.strength())
  link = browser.all('#panda-status a')[0].get_attribute('href')
  assert link.startswith(f'{server.url}saved/0/mine-2/')
  fetched = browser.driver.execute_async_script(
    'fetch(arguments[0]).then((r) => r.blob()).then((b) => arguments[1](b.size))', link
  )
  assert fetched == (server.workdir / 'app' / 'mine-2' / 'strip.png').stat().st_size


def test_what_takes_long_says_so_and_then_what_it_did(browser):
  browser.changed('edited', lambda: browser.click_at(0.9, 0.1))
  for name, busy, done in (('remove', 'Removing the part', 'Background is'), ('save', 'Saving', 'Saved as')):
    browser.listen()
    browser.press(name)
    browser.says(done)
    assert busy in browser.heard()
    assert busy not in browser.text('status')
    assert not browser.all('#panda-status .panda-busy')


def test_undo_goes_back_to_the_same_pictures(browser):
  start = browser.source('edited')
  browser.changed('edited', lambda: browser.click_at(0.1, 0.9))
  clicked = browser.source('edited')
  browser.changed('edited', lambda: browser.slide(-20))
  time.sleep(0.5)  # the last of the slide
  browser.press('undo')
  until(lambda: browser.source('edited') == clicked)
  browser.press('undo')
  until(lambda: browser.source('edited') == start)
  browser.press('undo')
  browser.says('nothing to undo')


def test_paint_remove_refine_and_seeds(browser):
  from selenium.webdriver import ActionChains

  browser.all('#panda-mode input')[1].click()
  until(lambda: 'paint' in browser.text('original'))
  picture = browser.all('#panda-original img')[0]
  chain = ActionChains(browser.driver).move_to_element_with_offset(picture, -100, -100).click_and_hold()
  browser.changed('edited', lambda: chain.move_by_offset(120, 0).move_by_offset(0, 60).release().perform())
  assert 'your mask' in browser.text('original')
  browser.press('remove')
  browser.says('only parts can be removed')
  browser.all('#panda-mode input')[0].click()
  until(lambda: 'click a part' in browser.text('original'))
  browser.changed('original', lambda: browser.click_at(0.9, 0.9))
  browser.changed('edited', lambda: browser.press('remove'))
  browser.says('Background is appearance')
  browser.all('#panda-refine input')[0].click()
  browser.says('refined for each picture')
  browser.changed('original', lambda: browser.write('seeds', '4-7\n'))
  browser.write('seeds', 'many\n')
  browser.says('give some such as 3 or 0-3')
  browser.changed('original', lambda: browser.press('next'))
  until(lambda: browser.all('#panda-seeds input, #panda-seeds textarea')[0].get_attribute('value') == '8,9,10,11')


def test_wrong_uploads_are_sentences_and_a_right_one_a_mask(browser, tmp_path):
  (tmp_path / 'a.png').write_text('no picture')
  Image.new('L', (17, 16), 255).save(tmp_path / 'b.png')
  Image.new('L', (16, 16), 0).save(tmp_path / 'c.png')
  (tmp_path / 'd.png').write_bytes(bytes(9 << 20))
  wrong = {'a': 'it is not a PNG', 'b': 'it has 17x16 pixels', 'c': 'it is black everywhere', 'd': 'larger than 8 MB'}
  for name, said in wrong.items():
    browser.upload(tmp_path / f'{name}.png')
    assert str(tmp_path) not in browser.says(said)
  drawn = np.zeros((8, 8), np.uint8)
  drawn[2:5] = 255
  Image.fromarray(drawn).save(tmp_path / 'e.png')
  browser.changed('edited', lambda: browser.upload(tmp_path / 'e.png'))
  assert 'your mask' in browser.text('original')


def test_a_photograph_from_the_drop_to_the_download(browser, browsers, server, tmp_path):
  def files():
    return sorted(str(path) for path in server.workdir.rglob('*'))

  def on_photograph(x, y):
    return browser.move_to(browser.all('#panda-marks img')[0], x, y)

  def value(name):
    return browser.field(name).get_attribute('value')

  before = files()
  small = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
  pixels = np.asarray(Image.fromarray(small).resize((200, 160), Image.Resampling.BICUBIC))
  Image.fromarray(pixels).save(tmp_path / 'mine.png')
  browser.drop(b'%PDF-1.7', 'paper.pdf')
  browser.says('photograph: it is no photograph')
  assert not [found for found in browser.all('#panda-marks img') if found.is_displayed()]
  browser.drop((tmp_path / 'mine.png').read_bytes(), 'mine.png')
  browser.says('Click the left eye')
  until(lambda: browser.all('#panda-marks img'))
  browser.changed(
    'marks', lambda: on_photograph(0.3, 0.25).click_and_hold().move_by_offset(90, 110).release().perform()
  )
  x, y, width, height = map(float, value('box').split(','))
  assert width == height
  assert (x, y) == pytest.approx((60, 40), abs=2)  # pixels of the screen are larger than those of the photograph
  browser.changed('marks', lambda: browser.press('clear'))
  until(lambda: not value('box'))
  browser.changed('marks', lambda: on_photograph(0.4, 0.4).click().perform())
  browser.says('Now the right eye')
  browser.changed('marks', lambda: on_photograph(0.6, 0.4).click().perform())
  assert np.array(value('points').split(','), float) == pytest.approx([80, 64, 120, 64], abs=2)
  browser.listen()
  browser.changed('original', lambda: browser.press('invert'), SECONDS)  # it is compiled meanwhile
  browser.says('Inverted: PSNR')
  assert 'Inverting: features' in browser.heard()
  assert f'--points={value("points")}' in browser.text('inverted')
  assert len(browser.all('#panda-inverted img')) == 2
  browser.changed('edited', lambda: browser.click_at(0.9, 0.1))
  assert 'part 1' in browser.text('original')
  browser.save_downloads_to(tmp_path / 'fetched')
  browser.press('download')
  browser.says('The whole photograph')
  until((tmp_path / 'fetched' / 'mine-edited.png').exists)
  edited = np.asarray(Image.open(tmp_path / 'fetched' / 'mine-edited.png'))
  assert edited.shape == pixels.shape
  np.testing.assert_array_equal(edited[:, :55], pixels[:, :55])  # left of the frame
  assert (edited != pixels).any()
  assert files() == before
  other = browsers[1]
  other.open(server.url)
  assert 'seeds' in other.all('#panda-original img')[0].get_attribute('alt')
  browser.changed('original', lambda: browser.press('next'))
  assert 'seeds' in browser.all('#panda-original img')[0].get_attribute('alt')
  assert browser.complaints() == []


def test_two_users_do_not_meet(browser, browsers, server):
  other = browsers[1]
  other.open(server.url)
  browser.changed('edited', lambda: browser.click_at(0.1, 0.1))
  other.changed('edited', lambda: other.click_at(0.9, 0.9))
  assert 'part 0' in browser.text('original')
  assert 'part 3' in other.text('original')
  mine = browser.source('edited')
  other.changed('edited', lambda: other.slide(-30))
  browser.press('keep')
  browser.says('Kept')
  assert browser.source('edited') == mine


def test_on_a_phone(browser, server):
  browser.open(server.url, PHONE)
  assert browser.fits_its_width()
  for name in ('original', 'alpha', 'part', 'catalog', 'mode', 'remove', 'upload', 'refine', 'fit', 'seeds', 'save'):
    box = browser.one(name).rect
    assert box['width'] > 80, name
    assert box['x'] >= 0, name
    assert box['x'] + box['width'] <= PHONE[0], name
  assert browser.all('#panda-original img')[0].size['width'] > 250
  browser.changed('edited', lambda: browser.click_at(0.9, 0.9))
  assert 'part 3' in browser.text('original')
  browser.changed('edited', lambda: browser.slide(5))
  browser.script("arguments[0].scrollIntoView({block: 'end'})", browser.one('save'))
  browser.press('save')
  browser.says('Saved as')
  box = "const box = document.querySelector('#panda-status').getBoundingClientRect();"
  assert browser.script(f'{box} return box.top >= 0 && box.bottom <= window.innerHeight')


def test_nothing_is_loaded_from_elsewhere_and_nothing_complains(browser, server):
  browser.complaints()  # of other tests
  browser.asked_for()
  browser.open(server.url)
  browser.changed('edited', lambda: browser.click_at(0.9, 0.9))
  asked = browser.asked_for()
  assert any(address.startswith(server.url) for address in asked)
  assert [a for a in asked if not a.startswith((server.url, 'data:', 'blob:'))] == []
  assert browser.complaints() == []


def test_entries_of_the_catalog_are_there_to_choose(browser, server):
  zoo = read_zoo(server.workdir / 'catalog' / 'catalog.json')
  options = browser.options('catalog')
  assert list(options) == list(zoo)
  name, entry = next(iter(zoo.items()))
  (term,) = entry.terms
  browser.changed('edited', options[name].click)
  until(lambda: f'= {term.alpha:.3g}' in browser.text('edited').replace('\N{MINUS SIGN}', '-'))
  assert f'part {term.part[0]}' in browser.text('original')
  assert f'appearance {term.appearance}' in browser.text('edited')
  assert int(browser.field('part').get_attribute('value')) == term.part[0]
  browser.changed('edited', lambda: browser.press('undo'))


def test_another_fit_has_its_own_parts_and_no_entries(browser, server):
  browser.write('seeds', '3\n')
  until(lambda: 'seeds 3;' in browser.all('#panda-original img')[0].get_attribute('alt'))
  browser.changed('edited', lambda: browser.click_at(0.9, 0.9))
  assert 'part 3' in browser.text('original')
  browser.choose('fit', 'other')
  until(lambda: 'no part chosen' in browser.text('original'))
  until(lambda: 'explorer: other' in browser.text('head') and '2 parts' in browser.text('head'))
  assert 'seeds 3;' in browser.all('#panda-original img')[0].get_attribute('alt')
  assert not [found for found in browser.all('#panda-catalog') if found.is_displayed()]
  browser.changed('edited', lambda: browser.click_at(0.9, 0.9))
  assert 'part 0' in browser.text('original')
  browser.press('save')
  browser.says('other/app/part0')
  saved = list((server.others[0] / 'app').glob('part0*/edit.json'))
  assert len(saved) == 1
  link = browser.all('#panda-status a')[0].get_attribute('href')
  assert link.startswith(f'{server.url}saved/1/part0')


def test_a_page_left_open_goes_on_after_a_restart(browser, server):
  browser.choose('fit', 'other')
  until(lambda: 'explorer: other' in browser.text('head'))
  browser.changed('edited', lambda: browser.click_at(0.9, 0.9))
  browser.changed('edited', lambda: browser.slide(10))
  time.sleep(0.5)  # the last of the slide
  strength, picture = browser.strength(), browser.source('edited')
  assert server.stop() == 0
  server.start()
  browser.changed('edited', lambda: browser.slide(-5))
  assert 'part 0' in browser.text('original')
  assert strength != browser.strength()
  assert picture != browser.source('edited')
  time.sleep(0.5)
  browser.changed('edited', lambda: browser.press('undo'))  # what was before the restart is not forgotten
  browser.press('undo')
  until(lambda: 'nothing is changed' in browser.text('difference'))
