"""Compiled programs, kept between commands, since compilation is most of the time of a short command.

JAX's persistent compilation cache decides which programs are kept and under which keys; our folder stores them. JAX's
own folder returns a damaged program if it can be unpacked, never deletes a truncated one, and only warns of both.
"""

import functools
import hashlib
import os
import platform
import stat
import sys
import warnings
from pathlib import Path

from panda_jax.errors import InputError
from panda_jax.files.cache import Cache

OFF = 'off'
OF_JAX = 'JAX_COMPILATION_CACHE_DIR'  # environment variable that names a cache of JAX
OF_XLA = 'jax_persistent_cache_enable_xla_caches'
CPUINFO = '/proc/cpuinfo'
FEATURES = 'model name', 'flags', 'Features', 'CPU implementer', 'CPU part'  # in it


class Programs:
  """A folder of programs with the interface that JAX needs. Only programs of machines like this one are found."""

  def __init__(self, folder: str | os.PathLike):
    self._path, self._cache = folder, Cache(folder)  # JAX names `_path` in its log

  def get(self, key: str) -> bytes | None:
    return self._cache.get(f'{key}-{machine()}')

  def put(self, key: str, value: bytes) -> None:
    self._cache.put(f'{key}-{machine()}', value)


def keep(where: str | None, alone: bool = True, computes: bool = True) -> None:
  """Keeps the programs that this process compiles from now on, and reuses those that were compiled before.

  Args:
    where: a folder, or 'off'. None for the folder in the user's cache. If the environment names a cache of JAX, None
      leaves everything to JAX.
    alone: False for one of several processes that compute together, which may have no common folder. On GPUs they tune
      programs together: if one finds a program that another must compile, the other waits. So they need a given folder.
    computes: False for a command that compiles nothing: the folder is only checked, since importing JAX takes long.

  Raises:
    InputError: it is not a folder.
  """
  if where is None and OF_JAX in os.environ:
    return
  folder = _folder(where, alone)
  if not computes:
    return
  import jax
  from jax.experimental.compilation_cache.compilation_cache import reset_cache

  if folder is not None and not _held_by_us():
    folder = None
  if folder is not None:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    if hasattr(jax.config, OF_XLA):  # files that XLA writes there have no size limit
      jax.config.update(OF_XLA, 'none')
    # For programs that cannot be loaded, such as those of another build of the same version: they are compiled again.
    warnings.filterwarnings('ignore', 'Error reading persistent compilation cache entry')
  jax.config.update('jax_compilation_cache_dir', None if folder is None else str(folder))
  reset_cache()  # of an earlier command in this process


def _held_by_us() -> bool:
  """Makes JAX use `Programs`, by its private interface; False if this version of JAX has no such interface."""
  try:
    from jax._src import compilation_cache
  except ImportError:
    return False
  if not hasattr(compilation_cache, 'get_file_cache'):
    return False
  compilation_cache.get_file_cache = lambda path: (Programs(path), path)
  return True


def _folder(where: str | None, alone: bool) -> Path | None:
  """The folder for the arguments of `keep`; None for no folder."""
  if where == OFF:
    return None
  if where is None:
    return _private(_default()) if alone else None
  if not where or (os.path.lexists(where) and not os.path.isdir(where)):
    raise InputError('compilation_cache', where, 'it is not a folder', f'give a folder, or {OFF}')
  return Path(where).absolute()


def _default() -> Path | None:
  """Our folder in the user's cache, at the place of the system."""
  try:
    home = Path.home()
  except RuntimeError:  # the user has no home folder
    return None
  if sys.platform == 'darwin':
    caches = home / 'Library' / 'Caches'
  elif os.name == 'nt':
    caches = Path(os.environ.get('LOCALAPPDATA') or home / 'AppData' / 'Local')
  else:
    named = Path(os.environ.get('XDG_CACHE_HOME', ''))
    caches = named if named.is_absolute() else home / '.cache'
  return caches / 'panda-jax' / 'programs' if caches.is_absolute() else None


def _private(folder: Path | None) -> Path | None:
  """The folder; None if it is another user's or others can write into it, since we would run their code."""
  if folder is None or not hasattr(os, 'getuid'):
    return folder
  try:
    found = os.stat(folder)
  except OSError:  # it does not exist yet, or cannot be made
    return folder
  others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
  return folder if found.st_uid == os.getuid() and not others else None


@functools.cache
def machine() -> str:
  """A hash of the machine that JAX's keys leave out, since different machines may share a home folder.

  XLA chooses instructions by the features and the name of the CPU, and divides work by the number of CPUs. The packing
  of programs depends on Python.
  """
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  told = [platform.system(), platform.machine(), platform.processor(), str(cores), *map(str, sys.version_info[:2])]
  try:
    with open(CPUINFO, errors='replace') as file:
      first = file.read(1 << 16).split('\n\n')[0]  # all CPUs are alike
    told += [line for line in first.splitlines() if line.split(':')[0].strip() in FEATURES]
  except OSError:
    pass
  return hashlib.sha256('\n'.join(told).encode()).hexdigest()[:16]
