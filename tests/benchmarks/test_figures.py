"""The figures of the documentation: the choice of edits, the stored pictures, the text of the card."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter

from benchmarks import figures
from panda_jax.editing.zoo import NamedEdit, Spec


def entry(title, score):
  return NamedEdit('ab', 5, (Spec((0,), 0),), scores={'score': score}, title=title)


def test_one_edit_of_each_place_that_has_a_word():
  zoo = {
    'a': entry('nose · darker', 0.2),
    'b': entry('nose · lighter', 0.3),
    'c': entry('eyes · other change 2', 0.9),
    'd': entry('chin · softer', 0.1),
    'e': entry('eyes · softer', 0.25),
    'f': entry('bottom left · darker', 0.8),  # of what is around the face
  }
  assert [one.title for one in figures.best(zoo, 3)] == ['nose · lighter', 'eyes · softer', 'chin · softer']
  assert figures.best(zoo, 4)[3] is zoo['f']
  assert [one.title for one in figures.best(zoo, 1)] == ['nose · lighter']


def test_stored_pictures_are_small_and_alike(tmp_path):
  ramp = np.linspace(0, 255, 200)
  pixels = np.stack(np.broadcast_arrays(ramp[None], ramp[:, None], 128), axis=-1)
  pixels = pixels + np.random.default_rng(0).normal(0, 6, pixels.shape)
  pixels[:, 120:] = 255
  Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / 'a.png')
  figures.stored(tmp_path / 'a.png', tmp_path / 'b.png')
  assert (tmp_path / 'b.png').stat().st_size < 0.6 * (tmp_path / 'a.png').stat().st_size
  before, after = (np.asarray(Image.open(tmp_path / name).convert('RGB'), int) for name in ('a.png', 'b.png'))
  assert (after[:, 124:] == 255).all()  # white stays white; the error of dithering is carried a few pixels on
  means = [uniform_filter(x[:, :116].astype(float), (9, 9, 0)) for x in (before, after)]
  assert np.sqrt(np.mean(np.square(means[0] - means[1]))) < 2  # of 255; dithering keeps the means
  figures.stored(tmp_path / 'b.png', tmp_path / 'c.png')
  assert (tmp_path / 'c.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


def test_every_picture_of_the_documentation_is_made():
  source = (figures.ROOT / 'benchmarks' / 'figures.py').read_text()
  for path in figures.DOCS.glob('*.png'):
    assert f"DOCS / '{path.name}'" in source, path.name


def test_the_card_has_the_figures_of_the_evaluation(tmp_path, monkeypatch):
  row = {'frechet': 0.02, 'precision': 0.9, 'recall': 0.7}
  truncations = {t: row for t in ('0.5', '0.7', '0.85', '1.0')}
  (tmp_path / 'evaluation').mkdir()
  found = {'training images': row | {'nearest': 0.5}, 'generators': {'cats64': {'truncation': truncations}}}
  (tmp_path / 'evaluation' / 'evaluation.json').write_text(json.dumps(found))
  card = tmp_path / 'cats64.md'
  card.write_text(figures.CARD.read_text())
  monkeypatch.setattr(figures, 'CARD', card)
  monkeypatch.setattr(figures, 'command', lambda *words: None)
  with pytest.raises(figures.app.UsageError, match='--data'):
    figures.card(tmp_path, None)
  figures.card(tmp_path, 'cats64.zip')
  before, after = figures.DOCS.parents[1].joinpath('panda_jax/assets/cats64.md').read_text(), card.read_text()
  assert after.count('| 0.0200 | 0.900 | 0.700 |') == 5
  changed = [new for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
  assert len(changed) == 5
