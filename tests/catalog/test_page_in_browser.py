"""catalog.html as a user sees it, opened from a folder in headless chromium: pointer, keys, copies, a phone."""

import json
import shlex

import pytest

from panda_jax.catalog import Settings, catalog_into
from panda_jax.editing.zoo import read_zoo
from panda_jax.pictures.strips import ALPHA
from tests.browser import DESKTOP, PHONE, Browser, need_chromium, until
from tests.catalog.test_catalog import CHANNELS, PLANTED, SILENT, opened_with
from tests.planted_generators import PairsGenerator

pytestmark = pytest.mark.slow
SETTINGS = Settings(screened=8, measured=6, heldout=6, unedited=8, pairs=3, top=3, random=1)
LAST = 8  # the number of the last of the frames


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """In a folder whose name a shell would split."""
  need_chromium()
  out = tmp_path_factory.mktemp('made') / "a cat's fit" / 'catalog'
  generator = PairsGenerator(PLANTED, CHANNELS, silent=(SILENT,), size=16)
  return out, catalog_into(out, opened_with(generator), SETTINGS)


class Catalog(Browser):
  """A browser with the page."""

  def cards(self):
    return [card for card in self.all('.card') if card.is_displayed()]

  def choose(self, name, value):
    from selenium.webdriver.support.select import Select

    Select(self.all(f'#{name}')[0]).select_by_value(value)

  def frame(self, card):
    """Which of the frames is shown, by where the picture is cut, and the strength that is told."""
    view = card.find_element('css selector', '.edited')
    percent = self.script('return getComputedStyle(arguments[0]).backgroundPositionY', view)
    told = card.find_element('css selector', 'output').text.replace('\N{MINUS SIGN}', '-')
    return round(float(percent.removesuffix('%')) / 100 * LAST), float(told)

  def copied(self, card, what):
    """What a button puts into the clipboard, as it is pasted."""
    from selenium.webdriver import Keys

    self.move_to(card.find_element('css selector', f'button[data-copy={what}]'), 0.5, 0.5).click().perform()
    until(lambda: 'Copied' in self.all('#said')[0].text)
    self.script("document.body.append(Object.assign(document.createElement('textarea'), {id: 'pasted'}))")
    area = self.all('#pasted')[0]
    area.send_keys(Keys.CONTROL + 'v')
    text = until(lambda: area.get_attribute('value'))
    self.script('arguments[0].remove()', area)
    return text


@pytest.fixture(scope='module')
def shared():
  need_chromium()
  browser = Catalog()
  yield browser
  browser.driver.quit()


@pytest.fixture
def page(shared, made):
  shared.open((made[0] / 'catalog.html').as_uri(), DESKTOP)
  return shared


def test_pictures_follow_the_pointer_and_go_back(page, made):
  card, one = page.cards()[0], made[1].found.edits[0]
  assert page.frame(card) == (LAST, pytest.approx(one.alpha))
  pictures = card.find_element('css selector', '.pics')
  page.move_to(pictures, 0.02, 0.9).perform()
  assert page.frame(card) == (0, 0)
  page.move_to(pictures, 0.5, 0.9).perform()
  assert page.frame(card) == (LAST // 2, pytest.approx(one.alpha / 2, rel=1e-2))
  page.move_to(page.all('h1')[0], 0.5, 0.5).perform()
  assert page.frame(card) == (LAST, pytest.approx(one.alpha))


def test_keys_reach_and_move_every_slider(page):
  from selenium.webdriver import ActionChains, Keys

  first, *others = page.cards()
  page.script('document.activeElement.blur()')
  for _ in range(30):  # to the first card, past what is above it
    ActionChains(page.driver).send_keys(Keys.TAB).perform()
    focused = page.driver.switch_to.active_element
    if page.script('return arguments[0].contains(arguments[1])', first, focused):
      break
  assert focused.get_attribute('aria-label').startswith('strength of part')
  focused.send_keys(Keys.ARROW_LEFT * 3)
  assert page.frame(first)[0] == LAST - 3
  assert page.frame(others[0])[0] == LAST
  everything = page.all('#all')[0]
  everything.send_keys(Keys.HOME)
  assert {page.frame(card) for card in page.cards()} == {(0, 0.0)}
  everything.send_keys(Keys.END)
  assert {page.frame(card)[0] for card in page.cards()} == {LAST}


def test_parts_are_chosen_and_scores_sorted_by(page, made):
  found = made[1].found
  page.choose('part', '2')
  assert {card.get_attribute('data-part') for card in page.cards()} == {'2'}
  assert page.all('#count')[0].text == f'{len(page.cards())} shown'
  page.choose('part', '')
  page.all('#grouped')[0].click()
  for key, best in (('locality', max), ('change', max), ('appearance', min)):
    page.choose('sort', key)
    values = [float(card.get_attribute(f'data-{key}')) for card in page.cards()]
    assert len(values) == len(found.edits) + 4
    assert values == sorted(values, reverse=best is max)
    assert len(set(values)) > 1
  assert not [heading for heading in page.all('h2') if heading.is_displayed()]
  page.all('#grouped')[0].click()
  assert len([heading for heading in page.all('h2') if heading.is_displayed()]) == 4


def test_what_is_copied_is_what_is_shown(page, made):
  from selenium.webdriver import Keys

  out, written = made
  card, one = page.cards()[0], written.found.edits[0]
  words = shlex.split(page.copied(card, 'command'))
  assert words[:2] == ['panda-jax', 'edit']
  assert f'--zoo={out / "catalog.json"}' in words
  assert f'--name={one.name}' in words
  card.find_element('css selector', 'input').send_keys(Keys.ARROW_LEFT)
  strength = page.frame(card)[1]
  words = shlex.split(page.copied(card, 'command'))
  assert words[3:] == [f'--part={one.part}', f'--appearance={one.appearance}', f'--alpha={strength:g}']
  copied = out / 'copied.json'
  copied.write_text(page.copied(card, 'json'))
  assert json.loads(copied.read_text())['format'] == 1
  (named,) = read_zoo(copied).values()
  named.check(written.record['settings']['factors'])
  assert (named.terms[0].part, named.terms[0].alpha) == ((one.part,), strength)


def test_on_a_phone_nothing_is_cut_off_and_a_finger_moves_strengths(shared, made):
  shared.open((made[0] / 'catalog.html').as_uri(), PHONE)
  assert shared.fits_its_width()
  card = shared.cards()[0]
  assert card.size['width'] > 280
  assert shared.all('label.strength')[0].text.startswith(ALPHA)
  box = {'bubbles': True, 'pointerType': 'touch'}
  shared.script(
    'const r = arguments[0].getBoundingClientRect();'
    "arguments[0].dispatchEvent(new PointerEvent('pointermove', {...arguments[1], clientX: r.left, clientY: r.top}))",
    card.find_element('css selector', '.pics'),
    box,
  )
  assert shared.frame(card)[0] == 0


def test_nothing_is_asked_for_and_nothing_complains(shared, made):
  shared.complaints()
  shared.asked_for()
  shared.open((made[0] / 'catalog.html').as_uri())
  assert len(shared.cards()) == len(made[1].found.edits) + 4
  assert [address for address in shared.asked_for() if not address.startswith(('file:', 'data:'))] == []
  assert shared.complaints() == []
