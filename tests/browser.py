"""Pages as a user sees them: headless chromium, and waiting for its content."""

import importlib.util
import json
import shutil
import time

import pytest

DESKTOP, PHONE = (1280, 1000), (390, 844)


def need(*modules: str) -> None:
  """Skips the test if a module is not installed."""
  for name in modules:
    if importlib.util.find_spec(name) is None:
      pytest.skip(f"{name} is not installed: pip install -e '.[app,browser]'")


def need_chromium() -> None:
  need('selenium')
  if not shutil.which('chromium') or not shutil.which('chromedriver'):
    pytest.skip('chromium is not installed: apt-get install chromium chromium-driver')


def until(found, seconds: float = 60):
  """Waits until `found()` is true, and returns its result."""
  end = time.monotonic() + seconds
  while not (result := found()):
    assert time.monotonic() < end, 'it did not come about'
    time.sleep(0.05)
  return result


class Browser:
  """A browser with its own profile."""

  def __init__(self):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium')
    for argument in ('headless=new', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', 'disable-component-update'):
      options.add_argument(f'--{argument}')
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL', 'browser': 'ALL'})
    service = webdriver.ChromeService(shutil.which('chromedriver'))
    self.driver = webdriver.Chrome(options=options, service=service)

  def open(self, url: str, size: tuple[int, int] = DESKTOP) -> None:
    self.driver.set_window_size(*size)
    self.driver.get(url)

  def all(self, selector: str) -> list:
    return self.driver.find_elements('css selector', selector)

  def script(self, code: str, *arguments):
    return self.driver.execute_script(code, *arguments)

  def type_over(self, field, text: str) -> None:
    from selenium.webdriver import Keys

    field.send_keys(Keys.CONTROL + 'a')
    field.send_keys(text)

  def move_to(self, element, x: float, y: float):
    """A chain of actions that begins with the pointer at fractions of an element's width and height."""
    from selenium.webdriver import ActionChains

    self.script("arguments[0].scrollIntoView({block: 'center'})", element)
    size = element.size
    offset = round((x - 0.5) * size['width']), round((y - 0.5) * size['height'])
    return ActionChains(self.driver).move_to_element_with_offset(element, *offset)

  def fits_its_width(self) -> bool:
    wide, shown = self.script('return [document.documentElement.scrollWidth, window.innerWidth]')
    return wide <= shown

  def asked_for(self) -> list[str]:
    """Addresses of all requests since the last call."""
    messages = [json.loads(entry['message'])['message'] for entry in self.driver.get_log('performance')]
    return [m['params']['request']['url'] for m in messages if m['method'] == 'Network.requestWillBeSent']

  def complaints(self) -> list[dict]:
    """Errors in the browser's console since the last call."""
    return [entry for entry in self.driver.get_log('browser') if entry['level'] == 'SEVERE']
