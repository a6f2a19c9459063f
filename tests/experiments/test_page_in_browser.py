"""runs.html as a reader sees it, at the width of a desktop and of a phone."""

import pytest

from tests.browser import DESKTOP, PHONE, Browser, need_chromium
from tests.commands.calls import run


@pytest.fixture
def browser():
  need_chromium()
  browser = Browser()
  yield browser
  browser.driver.quit()


@pytest.mark.slow
def test_the_page_fits_and_shows_all_parts(folder, browser):
  assert run('runs', folder).returncode == 0
  for size in (DESKTOP, PHONE):
    browser.open((folder / 'runs.html').as_uri(), size)
    assert browser.script('return document.documentElement.scrollWidth <= innerWidth')
    images = browser.all('#parts img')
    assert len(images) == 8 + 2 * 2 * (2 + 3)  # all parts of a run together, and each part alone
    for image in images:
      browser.script('arguments[0].scrollIntoView()', image)
    assert all(browser.script('return arguments[0].complete && arguments[0].naturalWidth > 0', one) for one in images)
  assert [heading.text for heading in browser.all('h3')] == ['layer=3', 'layer=5']
