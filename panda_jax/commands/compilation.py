"""Compiled programs, kept between commands: most of a short command is compilation.

JAX's persistent compilation cache decides what is kept and under which key; our folder holds it. JAX's own folder gives
back a damaged program as long as it can be unpacked, keeps a cut one for good, and tells of both in warnings.
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
OF_JAX = 'JAX_COMPILATION_CACHE_DIR'  # in the environment: a cache of JAX's own
OF_XLA = 'jax_persistent_cache_enable_xla_caches'
CPUINFO = '/proc/cpuinfo'
FEATURES = 'model name', 'flags', 'Features', 'CPU implementer', 'CPU part'  # in it


class Programs:
  """A folder of programs, as JAX asks for it: only those of machines like this one are found in it."""

  def __init__(self, folder: str | os.PathLike):
    self._path, self._cache = folder, Cache(folder)  # JAX names `_path` in its log

  def get(self, key: str) -> bytes | None:
    return self._cache.get(f'{key}-{machine()}')

  def put(self, key: str, value: bytes) -> None:
    self._cache.put(f'{key}-{machine()}', value)


def keep(where: str | None, alone: bool = True, computes: bool = True) -> None:
  """Keeps what this process compiles from now on, and takes from there what was compiled before.

  Args:
    where: a folder, or 'off'. None for the folder in the user's cache, unless the environment names one to JAX, which
      then uses it in its own way.
    alone: False for one of several processes that compute together, which may have no folder in common. On GPUs they
      tune programs together: where one finds what another has to compile, that one waits. So a folder must be given.
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
    if hasattr(jax.config, OF_XLA):  # files that XLA writes there itself know no bounds
      jax.config.update(OF_XLA, 'none')
    # Of what can be unpacked and yet not be loaded, as that of another build of the same version: it is compiled again.
    warnings.filterwarnings('ignore', 'Error reading persistent compilation cache entry')
  jax.config.update('jax_compilation_cache_dir', None if folder is None else str(folder))
  reset_cache()  # of an earlier command in this process


def _held_by_us() -> bool:
  """Lets JAX keep programs in `Programs`, for which it has no public way; False where a version has no place for it."""
  try:
    from jax._src import compilation_cache
  except ImportError:
    return False
  if not hasattr(compilation_cache, 'get_file_cache'):
    return False
  compilation_cache.get_file_cache = lambda path: (Programs(path), path)
  return True


def _folder(where: str | None, alone: bool) -> Path | None:
  """The folder that is meant by what `keep` is given; None for none."""
  if where == OFF:
    return None
  if where is None:
    return _private(_default()) if alone else None
  if not where or (os.path.lexists(where) and not os.path.isdir(where)):
    raise InputError('compilation_cache', where, 'it is not a folder', f'give a folder, or {OFF}')
  return Path(where).absolute()


def _default() -> Path | None:
  """Our folder in the user's cache, wherever the system has that."""
  try:
    home = Path.home()
  except RuntimeError:  # there is none
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
  """The folder, unless others can write into it: whoever can, decides what we run."""
  if folder is None or not hasattr(os, 'getuid'):
    return folder
  try:
    found = os.stat(folder)
  except OSError:  # it is made at the first program, or cannot be
    return folder
  others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
  return folder if found.st_uid == os.getuid() and not others else None


@functools.cache
def machine() -> str:
  """What a program was compiled for beyond what JAX has in its keys: homes are shared between unlike machines.

  XLA chooses instructions by the features and the name of the CPU, and how finely to divide work by their number. How
  programs are packed depends on Python.
  """
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  told = [platform.system(), platform.machine(), platform.processor(), str(cores), *map(str, sys.version_info[:2])]
  try:
    with open(CPUINFO, errors='replace') as file:
      first = file.read(1 << 16).split('\n\n')[0]  # all are alike
    told += [line for line in first.splitlines() if line.split(':')[0].strip() in FEATURES]
  except OSError:
    pass
  return hashlib.sha256('\n'.join(told).encode()).hexdigest()[:16]
