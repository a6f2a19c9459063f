"""Saved edits: complete, with unique names, inside the workdir, and repeatable by the command."""

import errno

import numpy as np
import pytest
from PIL import Image

from panda_jax.app import saves
from panda_jax.app.choices import Choice
from panda_jax.app.saves import FILES, checked_name, name_of, readable, save
from panda_jax.editing.zoo import Spec, read_zoo
from panda_jax.errors import InputError

CHOICE = Choice((3, 7), (Spec((2,), 0, -2.0), Spec((1,), 2, 3.0)))


def test_what_is_saved_is_what_was_chosen(engine):
  saved = save(engine, CHOICE, 'mine')
  assert saved.folder == engine.opened.folder / 'app' / 'mine'
  assert {path.name for path in saved.folder.iterdir()} == set(FILES)
  entry = read_zoo(saved.folder / 'edit.json')['mine']
  assert entry.terms == CHOICE.terms
  edit = entry.edit(engine.factors, engine.opened.digest_factors)
  assert len(edit.terms) == 2
  with Image.open(saved.folder / 'sweep.gif') as moving:
    assert moving.n_frames > 2
    first = np.asarray(moving.convert('RGB'), int)
    moving.seek(8)
    assert np.abs(np.asarray(moving.convert('RGB'), int) - first).max() > 20
  assert '--name=mine --seeds=3,7' in saved.command


def test_a_name_is_not_taken_twice(engine):
  names = [save(engine, CHOICE, 'mine').name for _ in range(3)]
  assert names == ['mine', 'mine_2', 'mine_3']
  for name in names:
    assert list(read_zoo(engine.opened.folder / 'app' / name / 'edit.json')) == [name]


def test_names_that_are_made_up(engine):
  assert save(engine, CHOICE, words=['Augen · größer']).name == 'seed-3-augen-groer'
  assert save(engine, Choice((3,), (Spec((1,), 2, -3.0),))).name == 'seed-3'
  three = ['bridge of the nose · less contrast', 'eyes · larger dark area', 'chin · removed']
  assert name_of('seed 12', three) == 'seed-12-bridge-of-the-nose-less-contrast-and-2-more'
  assert name_of('seed 12', three[:0:-1]) == 'seed-12-chin-removed-and-1-more'
  assert name_of('seed 12', ['eyes · darker', *three[2:]]) == 'seed-12-eyes-darker-chin-removed'
  long = 'x' * 500
  for shown, words in (('é', []), ('☃', ['…']), (long, []), (long, [long, 'y']), ('seed 1', [long] * 8), ('-', [])):
    assert checked_name(name_of(shown, words)) == name_of(shown, words)


@pytest.mark.parametrize(
  'name',
  [
    '../x',
    '/etc/x',
    'a/b',
    '..',
    '.hidden',
    'a\\b',
    'a b',
    'a\0',
    'ü',
    'x' * 61,
    'a\n',
    'a.',
    'con',
    'NUL.txt',
    'com1',
  ],
)
def test_no_name_leads_elsewhere(engine, name):
  with pytest.raises(InputError, match='name='):
    save(engine, CHOICE, name)
  assert not (engine.opened.folder / 'app').exists()


def test_nothing_chosen_is_nothing_saved(engine):
  with pytest.raises(InputError, match='nothing is edited'):
    save(engine, Choice(), 'mine')
  assert not (engine.opened.folder / 'app').exists()


def test_a_link_is_not_followed(engine, tmp_path):
  (tmp_path / 'elsewhere').mkdir()
  (engine.opened.folder / 'app').symlink_to(tmp_path / 'elsewhere')
  with pytest.raises(InputError, match='is a link'):
    save(engine, CHOICE, 'mine')
  assert not any((tmp_path / 'elsewhere').iterdir())


def test_a_workdir_takes_so_many_edits_and_bytes_and_no_more(engine, monkeypatch):
  folder = engine.opened.folder / 'app'
  monkeypatch.setattr(saves, 'MOST_SAVED', 2)
  save(engine, CHOICE, 'mine')
  (folder / '.hidden').mkdir()  # not a saved edit
  save(engine, CHOICE, 'mine')
  with pytest.raises(InputError, match=r'it holds 2 edits of .*; move some elsewhere, or delete them, and save again'):
    save(engine, CHOICE, 'mine')
  monkeypatch.setattr(saves, 'MOST_SAVED', 9)
  monkeypatch.setattr(saves, 'MOST_BYTES', 1000)
  with pytest.raises(InputError, match='move some elsewhere'):
    save(engine, CHOICE, 'mine')
  assert sorted(path.name for path in folder.iterdir()) == ['.hidden', 'mine', 'mine_2']


def test_of_a_save_that_fails_nothing_is_left(engine, monkeypatch):
  wild = Choice((3,), (Spec((1,), 2, 1.0, mask=(3e38,) * 64),))
  with pytest.raises(InputError, match='gives no finite picture'):
    save(engine, Choice((3,), (*wild.terms, Spec((1,), 2, 1e30, mask=(3e38,) * 64))), 'mine')

  def full(*_, **__):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(saves.strips, 'save_gif', full)
  with pytest.raises(InputError, match=r'could not be saved \(No space left on device\); free space there'):
    save(engine, CHOICE, 'mine')
  assert not list((engine.opened.folder / 'app').iterdir())


def test_only_saved_files_can_be_read(engine):
  saved, workdir = save(engine, CHOICE, 'mine'), engine.opened.folder
  assert readable(workdir, 'mine', 'edit.json') == saved.folder / 'edit.json'
  (saved.folder / 'secret.txt').write_text('x')
  (saved.folder / 'strip.png').unlink()
  (saved.folder / 'strip.png').symlink_to('/etc/passwd')
  wrong = [('mine', 'secret.txt'), ('mine', 'strip.png'), ('..', 'edit.json'), ('.', 'edit.json'), ('no', 'edit.json')]
  assert [readable(workdir, *names) for names in wrong] == [None] * len(wrong)
