"""report.html: one file with everything in a workdir, also if some results are missing."""

import base64
import html.parser
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panda_jax.errors import InputError
from panda_jax.pictures import figures, overlays, strips
from panda_jax.solver.factors import Factors, digest_of
from panda_jax.workdir.config import FLAGS, default_config
from panda_jax.workdir.report import fit_command, write_report
from tests.commands.calls import run

EMPTY = {'meta', 'link', 'img', 'br'}


class Reader(html.parser.HTMLParser):
  """Collects what a page shows and points to, and checks that its tags are closed in order."""

  def __init__(self, page: str):
    super().__init__()
    self.open, self.words, self.images, self.links, self.ids, self.tags = [], [], [], [], [], set()
    self.feed(page)
    self.close()
    assert self.open == []
    self.said = ' '.join(' '.join(self.words).split())

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.tags.add(tag)
    if tag not in EMPTY:
      self.open.append(tag)
    if tag == 'img':
      self.images.append(attrs)
    self.links += [value for key, value in attrs.items() if key in ('src', 'href', 'srcset', 'action', 'data')]
    self.ids += [attrs['id']] if 'id' in attrs else []
    assert not [key for key in attrs if key.startswith('on')]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open[-1:] != ['style']:
      self.words.append(data)


def read(path) -> Reader:
  page = path.read_text()
  reader = Reader(page)
  assert reader.tags.isdisjoint({'script', 'iframe', 'object', 'embed', 'base', 'form'})
  for link in reader.links:  # nothing from anywhere else
    assert link.startswith('data:') or (link.startswith('#') and link[1:] in reader.ids), link[:80]
  assert 'url(' not in page
  assert '@import' not in page
  for image in reader.images:
    assert image['alt']
    kind, data = re.fullmatch(r'data:image/(\w+);base64,(.+)', image['src']).groups()
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
      assert picture.format.lower() == kind
      picture.load()
      if 'width' in image:
        assert picture.size == (int(image['width']), int(image['height']))
  return reader


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A finished fit on a generator, as `run.py fit` leaves it."""
  folder = tmp_path_factory.mktemp('finished') / 'a fit'
  (folder / 'checkpoints').mkdir(parents=True)
  random = np.random.default_rng(0)
  parts = random.random((48, 5)) * (random.random((48, 5)) > 0.5)
  parts[:, 4] = 0
  provenance = {'layer': 5, 'sha256': 'ab' * 32, 'generator': {'path': 'generators/cats'}, 'samples': 30}
  Factors(random.standard_normal((7, 6)), parts, (6, 8), provenance).save(folder / 'factors.npz')
  config = default_config().to_dict() | {'generator': 'generators/my cats', 'layer': 5, 'samples': 30, 'parts': 5}
  (folder / 'config.json').write_text(json.dumps(config | {'restarts': 8, 'sha256': 'ab' * 32}))
  summary = {
    'relative_error': 0.25,
    'reason': 'max_iterations',
    'warnings': ['dead parts (all zero): 4; fewer parts explain as much'],
    'seconds': {'compile': 1.5, 'total': 12.345},
    'counts': {'samples': 30},
    'part_energy': [0.4, 0.3, 0.2, 0.1, 0.0],
    'versions': {'jax': '0.10.2'},
    'devices': ['cpu'],
  }
  (folder / 'summary.json').write_text(json.dumps(summary))
  images = random.uniform(-1, 1, (2, 48, 64, 3))
  row = {'iteration': 1, 'phase': 'joint', 'samples': 30, 'seconds': 0.1, 'relative_error': 0.25}
  figures.draw_convergence(folder / 'convergence.png', [row])
  figures.draw_spectrum(folder / 'spectrum.png', [2.0, 1.0], [1.0, 0.5])
  overlays.draw_overlay(folder / 'overlay.png', images, parts, (6, 8))
  return folder


@pytest.fixture
def workdir(finished, tmp_path):
  """A copy of it."""
  return Path(shutil.copytree(finished, tmp_path / finished.name))


def add_edit(workdir, name: str, record: dict, place: str = 'edits', file: str = 'edit.json'):
  folder = workdir / place / name
  folder.mkdir(parents=True)
  images = np.random.default_rng(1).uniform(-1, 1, (2, 32, 32, 3))
  strips.draw_strip(folder / 'strip.png', images, -images, 10.0)
  (folder / file).write_text(json.dumps(record))
  return folder


EDIT = {
  'settings': {
    'kind': 'edit',
    'seeds': [0, 1],
    'edits': {'eyes': [{'part': [1], 'appearance': 2, 'alpha': [-10.0, 10.0], 'mask': 'A' * 999}]},
  },
  'command': 'python run.py edit --workdir=DIR --part=1 --appearance=2 --alpha=-10,10',
  'arrays': {'edited.npy': [2, 2, 32, 32, 3]},
}


def test_everything_is_on_the_page(workdir):
  add_edit(workdir, 'eyes', EDIT)
  add_edit(workdir, 'saliency', {'threshold': 0.25, 'command': 'python run.py saliency --x'}, '.', 'statistics.json')
  path = write_report(workdir)
  assert path == workdir / 'report.html'
  reader = read(path)
  for words in (
    'my cats: parts and appearances at layer 5',
    '75.0 %',
    'max iterations',
    'restarts 8 64',
    'dead parts (all zero): 4; fewer parts explain as much',
    'part 3 energy 10.0 %',
    'part 4 dead: all zero',
    'edits/eyes',
    'eyes: part 1, appearance 2, \N{GREEK SMALL LETTER ALPHA} = \N{MINUS SIGN}10, 10',
    'python run.py edit --workdir=DIR --part=1 --appearance=2 --alpha=-10,10',
    'threshold 0.25',
    'python run.py saliency --x',
    'panda-jax report',
    'ab' * 32,
  ):
    assert words in reader.said, words
  assert 'AAAA' not in reader.said
  assert len(reader.images) == 5 + 3 + 2
  assert reader.ids == ['fit', 'error', 'parts', 'appearances', 'edits', 'maps', 'commands']


def test_the_same_again_replaces_it(workdir):
  first = write_report(workdir).read_bytes()
  add_edit(workdir, 'eyes', EDIT)
  assert len(write_report(workdir).read_bytes()) > len(first)
  assert [path.name for path in workdir.glob('*report*')] == ['report.html']


def test_the_command_makes_the_same_fit(workdir):
  config = json.loads((workdir / 'config.json').read_text())
  words = shlex.split(fit_command(workdir, config))
  assert words[:2] == ['panda-jax', 'fit']
  flags = dict(word.lstrip('-').split('=', 1) for word in words[2:])
  assert flags == {
    'generator': 'generators/my cats',
    'layer': '5',
    'samples': '30',
    'parts': '5',
    'config.restarts': '8',
    'workdir': str(workdir),
  }
  assert {name for name in flags if not name.startswith('config.')} <= {'workdir', *FLAGS}


def test_a_fit_on_arrays_has_less_to_say(workdir):
  factors = Factors.load(workdir / 'factors.npz')
  Factors(factors.appearances, factors.parts, (6, 8), {'source': 'features.npy'}).save(workdir / 'factors.npz')
  config = default_config().to_dict() | {'features': 'data/features.npy', 'parts': 5}
  (workdir / 'config.json').write_text(json.dumps(config))
  (workdir / 'overlay.png').unlink()
  reader = read(write_report(workdir))
  assert 'features: parts and appearances' in reader.said
  assert 'To go on from here' not in reader.said
  assert 'edits' not in reader.ids


def test_text_of_files_stays_text(workdir):
  evil = '<script>alert(1)</script><img src=x onerror=alert(1)>"\'&'
  add_edit(workdir, 'a&b <i>', {'settings': {'edits': {evil: [{'part': evil}]}}, evil: evil, 'command': evil})
  summary = json.loads((workdir / 'summary.json').read_text())
  (workdir / 'summary.json').write_text(json.dumps(summary | {'reason': evil, 'warnings': [evil], 'devices': [evil]}))
  config = json.loads((workdir / 'config.json').read_text())
  (workdir / 'config.json').write_text(json.dumps(config | {'generator': evil, 'labels': evil}))
  reader = read(write_report(workdir))
  assert evil in reader.said
  assert 'edits/a&b <i>' in reader.said


@pytest.mark.parametrize(
  'record', ['', '[1]', '{"settings": 3}', '{"settings": {"edits": [1]}}', '{"settings": {"edits": {"a": [[1], 2]}}}']
)
def test_records_that_make_no_sense_are_left_out(workdir, record):
  folder = add_edit(workdir, 'eyes', {})
  (folder / 'edit.json').write_text(record)
  (folder / 'strip.png').write_bytes(b'no picture')
  (workdir / 'config.json').write_text(record)
  reader = read(write_report(workdir))
  assert 'strip.png cannot be read' in reader.said


def test_results_of_an_earlier_fit_are_left_out_and_named(workdir):
  add_edit(workdir, 'old', {'settings': {'factors': 64 * '0'}, 'command': 'python run.py edit --name=old'})
  add_edit(workdir, 'new', {'settings': {'factors': digest_of(Factors.load(workdir / 'factors.npz'))}})
  reader = read(write_report(workdir))
  assert 'of an earlier fit, and therefore not shown: edits/old' in reader.said
  assert '--name=old' not in reader.said
  assert any('new' in image['alt'] for image in reader.images)


def test_many_edits_and_parts_are_told_of(workdir, monkeypatch):
  monkeypatch.setattr('panda_jax.workdir.report_folders.MOST_FOLDERS', 2)
  monkeypatch.setattr('panda_jax.workdir.report.MOST_PARTS', 3)
  for i in range(4):
    add_edit(workdir, f'edit{i}', EDIT)
  reader = read(write_report(workdir))
  assert 'Not shown, since there are so many: edits/edit2, edits/edit3.' in reader.said
  assert 'The first 3 of 5 are shown.' in reader.said


def test_large_pictures_are_made_smaller(workdir):
  random = np.random.default_rng(0)
  smooth = np.kron(random.integers(0, 255, (60, 60, 3)), np.ones((16, 16, 1))).astype(np.int64)
  noisy = np.clip(smooth + random.integers(-6, 6, smooth.shape), 0, 255).astype(np.uint8)
  Image.fromarray(noisy).save(workdir / 'saliency.png')
  size = (workdir / 'saliency.png').stat().st_size
  before = write_report(workdir)
  assert before.stat().st_size < size
  assert any(image['src'].startswith('data:image/webp') for image in read(before).images)


@pytest.mark.parametrize('name', ['summary.json', 'factors.npz'])
def test_no_finished_fit(workdir, name):
  (workdir / name).write_text('not one')
  with pytest.raises(InputError):
    write_report(workdir)
  (workdir / name).unlink()
  with pytest.raises(InputError):
    write_report(workdir)
  assert not (workdir / 'report.html').exists()
  with pytest.raises(InputError, match='no such folder'):
    write_report(workdir / 'nowhere')


def test_the_command_says_where_the_page_is(workdir):
  done = run('report', f'--workdir={workdir}')
  assert (done.returncode, done.stdout, done.stderr) == (0, f'{workdir / "report.html"}\n', '')
  done = run('report', f'--workdir={workdir.parent}')
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
  assert 'there is no finished fit in it' in done.stderr
