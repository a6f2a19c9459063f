"""A picture of the explorer's page with an edit, in headless chromium.

python -m benchmarks.page --workdir=DIR --seed=2 --part=3 --edit=0 --out=docs/cats64/app.png      a minute
"""

import time
from pathlib import Path

from absl import app, flags
from selenium.webdriver.support.ui import Select

from tests.app.servers import Server
from tests.browser import Browser, until

_WORKDIR = flags.DEFINE_string('workdir', None, 'Of a finished fit through a generator.', required=True)
_SEED = flags.DEFINE_integer('seed', 2, 'Of the sample that is looked at.', lower_bound=0)
_PART = flags.DEFINE_integer('part', 3, 'That is edited.', lower_bound=0)
_EDIT = flags.DEFINE_integer('edit', 0, 'Of those to try on it, by its place.', lower_bound=0)
_OUT = flags.DEFINE_string('out', None, 'PNG that is written.', required=True)

SIZE = 1280, 800
SECONDS = 4  # until samples are drawn and temporary messages are gone


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  server, browser = Server(Path(_WORKDIR.value)), Browser()
  server.start()
  try:
    size = {'width': SIZE[0], 'height': SIZE[1], 'deviceScaleFactor': 1, 'mobile': False}
    browser.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
    browser.driver.get(server.url)
    until(lambda: browser.all('body.ready'))
    browser.type_over(browser.all('#seeds')[0], f'{_SEED.value}-{_SEED.value + 7}\n')
    Select(browser.all('#part')[0]).select_by_value(str(_PART.value))
    until(lambda: browser.all('#film button') and not browser.all('#film.waiting'))
    browser.all('#film button')[_EDIT.value].click()
    browser.script("document.querySelector('#views input[value=compare]').click(); document.activeElement.blur()")
    time.sleep(SECONDS)
    browser.driver.save_screenshot(_OUT.value)
  finally:
    browser.driver.quit()
    server.stop()
  print(f'wrote {_OUT.value}')


if __name__ == '__main__':
  app.run(main)
