"""catalog.html and the command: one file without requests that works in a browser; its edits run."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from panda_jax.catalog import Settings, catalog_into, page
from tests.catalog.test_catalog import CHANNELS, DEAD, PLANTED, SILENT, opened_with
from tests.commands.calls import call
from tests.commands.test_edit import fitted, folder, workdir  # noqa: F401, fixtures
from tests.planted_generators import PairsGenerator

SETTINGS = Settings(screened=8, measured=6, heldout=6, unedited=8, pairs=2, top=3, random=1)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  out = tmp_path_factory.mktemp('made') / "a cat's fit" / 'catalog'
  generator = PairsGenerator(PLANTED, CHANNELS, silent=(SILENT,), size=16)  # too small for realism
  return out, catalog_into(out, opened_with(generator), SETTINGS)


class Reader(HTMLParser):
  """Attributes of every element, and what scripts and styles say."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.texts, self._open = [], {'script': [], 'style': []}, ''
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self._open = tag
    self.elements.append((tag, dict(attrs)))

  def handle_data(self, data):
    if self._open in self.texts:
      self.texts[self._open].append(data)


def test_the_page_is_one_file_that_asks_for_nothing(made):
  out, written = made
  text = (out / 'catalog.html').read_text()
  reader = Reader(text)
  for tag, attributes in reader.elements:
    assert tag not in ('iframe', 'object', 'embed', 'base', 'form', 'link') or attributes.get('href') == 'data:,'
    for name in ('src', 'href', 'srcset', 'action', 'data'):
      assert (attributes.get(name) or 'data:').startswith('data:'), (tag, name)
    assert not [name for name in attributes if name.startswith('on')]
  for address in re.findall(r'url\((.{0,12})', text):
    assert address.startswith('data:image')
  assert '@import' not in text
  assert not re.search(r'fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(', ''.join(reader.texts['script']))
  ids = [attributes['id'] for _, attributes in reader.elements if 'id' in attributes]
  assert len(ids) == len(set(ids))
  cards = [a for tag, a in reader.elements if tag == 'article']
  names = [one.name for one in written.found.edits]
  assert [a['data-name'] for a in cards if 'random' not in a['class']] == names
  assert {a['data-part'] for a in cards if 'random' in a['class']} == {'0', '1', '2', '3'}
  assert str(DEAD) not in {a['data-part'] for a in cards}
  assert 'Dead parts, all zero, have no edits: 4' in text
  for slider in (a for tag, a in reader.elements if tag == 'input' and a['type'] == 'range' and a.get('id') != 'all'):
    assert slider['aria-label'].startswith('strength of part')
  about = json.loads(reader.texts['script'][0])
  assert about['factors'] == written.record['settings']['factors']


def test_frames_go_from_the_original_to_the_edit(made):
  out, written = made
  text = (out / 'catalog.html').read_text()
  sprite = base64.b64decode(re.search(r'--s: url\(data:image/webp;base64,([^)]+)\)', text)[1])
  with Image.open(io.BytesIO(sprite)) as picture:
    pixels = np.asarray(picture.convert('RGB'), np.float32) / 127.5 - 1
  one = written.found.edits[0]
  frames = pixels.reshape(9, 16, 3, 16, 3).swapaxes(1, 2)
  for number in (0, 8):  # lossy pictures, on average within a few grey levels
    assert np.abs(frames[number] - np.clip(one.frames[number], -1, 1)).mean() < 0.08
  assert np.abs(frames[8] - frames[0]).mean() > 0.1


def test_pages_of_many_edits_stay_small(monkeypatch):
  frames = [np.random.default_rng(i).uniform(-1, 1, (9, 3, 128, 128, 3)) for i in range(2)]
  sprites, side, samples = page.packed(frames)
  assert (side, samples) == (128, 3)
  monkeypatch.setattr(page, 'LARGEST', sum(map(len, sprites)) // 3)
  smaller, side, _ = page.packed(frames)
  assert side < 128
  assert sum(map(len, smaller)) <= page.LARGEST


def test_the_command_and_its_edits(workdir, capsys):  # noqa: F811
  assert call('catalog', f'--workdir={workdir}') == 0
  out = workdir / 'catalog'
  assert str(out / 'catalog.html') in capsys.readouterr().out
  content = json.loads((out / 'catalog.json').read_text())
  name, entry = next(iter(content['edits'].items()))
  zoo = f'--zoo={out / "catalog.json"}'
  assert call('edit', f'--workdir={workdir}', zoo, f'--name={name}', '--seeds=0', '--out=' + str(out / 'by-name')) == 0
  (term,) = entry['terms']
  given = (f'--part={term["part"][0]}', f'--appearance={term["appearance"]}', f'--alpha={term["alpha"]}', '--seeds=0')
  assert call('edit', f'--workdir={workdir}', *given, '--out=' + str(out / 'by-hand')) == 0
  by_name, by_hand = (np.load(out / which / 'edited.npy') for which in ('by-name', 'by-hand'))
  np.testing.assert_array_equal(by_name, by_hand)

  content['edits'] = {'brighter nose' if key == name else key: value for key, value in content['edits'].items()}
  (out / 'catalog.json').write_text(json.dumps(content))
  assert call('edit', f'--workdir={workdir}', zoo, '--name=brighter nose', '--seeds=0') == 0
  first = next(iter(content['edits'].values()))
  first['factors'] = '0' * 64
  (out / 'catalog.json').write_text(json.dumps(content))
  assert call('edit', f'--workdir={workdir}', zoo, '--name=brighter nose', '--seeds=0', '--overwrite') == 2
  assert 'other factors' in capsys.readouterr().err
