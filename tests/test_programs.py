"""Compiled programs of tests: later runs get the complete ones, and no others."""

import pytest
from jax._src import compilation_cache

from tests import programs

WHOLE = compilation_cache.compress_executable(b'program')


@pytest.fixture
def run(tmp_path, monkeypatch):
  """The folder of a run in which one process was killed."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'home'))
  folder = tmp_path / 'run'
  folder.mkdir()
  for name, content in (('a-cache', WHOLE), ('half-cache', WHOLE[:-1]), ('empty-cache', b''), ('other', WHOLE)):
    (folder / name).write_bytes(content)
  return folder


def taken(folder) -> dict[str, bytes]:
  folder.mkdir()
  programs.take(folder)
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_next_run_has_what_is_whole(run, tmp_path, monkeypatch):
  assert taken(tmp_path / 'before') == {}
  programs.keep(run)
  programs.keep(run)
  assert taken(tmp_path / 'next') == {'a-cache': WHOLE}

  def refused(*given):
    raise OSError('of another file system')

  monkeypatch.setattr(programs.os, 'link', refused)
  assert taken(tmp_path / 'elsewhere') == {'a-cache': WHOLE}


def test_what_has_grown_too_large_is_begun_anew(run, monkeypatch):
  programs.keep(run)
  (run / 'a-cache').rename(run / 'b-cache')
  monkeypatch.setattr(programs, 'LARGEST', len(WHOLE) - 1)
  programs.keep(run)
  assert [path.name for path in programs.kept().iterdir()] == ['b-cache']


def test_where_nothing_can_be_written_nothing_is_kept(run, tmp_path):
  (tmp_path / 'home').touch()
  programs.keep(run)
  assert taken(tmp_path / 'next') == {}
