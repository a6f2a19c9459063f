"""Compiled programs of tests, kept for later runs on this machine, of any checkout.

JAX's keys contain the program, the flags and the versions, so changed code is compiled again. Processes that tests kill
may leave incomplete entries in the folder of a run; only complete entries are kept.
"""

import contextlib
import os
import shutil
from pathlib import Path

from jax._src import compilation_cache

from panda_jax.commands.compilation import machine

LARGEST = 1 << 30  # bytes, ten times those of one run; above it, all entries are deleted
ENTRIES = '*-cache'


def kept() -> Path:
  """The folder for this machine and for the compression of entries, which depends on the installed packages."""
  packing = compilation_cache.compress_executable(b'')[:2].hex()
  home = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
  return home / 'panda-jax' / 'tests' / f'{machine()}-{packing}'


def take(folder: Path) -> None:
  """Links kept entries into the folder of this run. No process writes to an existing entry, so links are safe."""
  for path in kept().glob(ENTRIES):
    with contextlib.suppress(FileNotFoundError):  # another run may empty the folder
      try:
        os.link(path, folder / path.name)
      except OSError:  # no links to another file system
        shutil.copyfile(path, folder / path.name)


def keep(folder: Path) -> None:
  """Keeps the new entries of this run."""
  target = kept()
  with contextlib.suppress(OSError):  # a full disk, or no right to write
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sum(path.stat().st_size for path in target.glob(ENTRIES)) > LARGEST:
      shutil.rmtree(target)
      target.mkdir(mode=0o700)
    for path in folder.glob(ENTRIES):
      if not (target / path.name).exists() and whole(path):
        copy = target / f'{path.name}.{os.getpid()}.tmp'
        shutil.copyfile(path, copy)
        copy.replace(target / path.name)


def whole(path: Path) -> bool:
  try:
    return bool(compilation_cache.decompress_executable(path.read_bytes()))
  except Exception:  # zlib's error or zstandard's
    return False
