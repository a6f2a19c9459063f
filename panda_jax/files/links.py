"""Symbolic links inside a folder: nothing is written or deleted through one."""

import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path

from panda_jax.errors import InputError


def check_no_link(folder: str | os.PathLike, name: str | os.PathLike = '', argument: str = 'workdir') -> None:
  """Raises InputError if `name`, or a folder on the way to it, is a symbolic link inside `folder`; `folder` may be one.

  A link could redirect writing or deleting to any place, and somebody else may have made the folder.
  """
  path = Path(folder)
  for piece in Path(name).parts:
    path = path / piece
    if os.path.islink(path):
      shown = path.relative_to(folder)
      raise InputError(
        argument,
        folder,
        f'{shown} in it is a symbolic link, and nothing is written or deleted through one',
        'remove the link, or choose another folder',
      )


def check_no_links(folder: str | os.PathLike, names: Iterable[str], argument: str = 'workdir') -> None:
  """`check_no_link` for every entry of a folder that matches one of the patterns."""
  try:
    there = sorted(os.listdir(folder))
  except OSError:
    return
  patterns = tuple(names)
  for name in there:
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
      check_no_link(folder, name, argument)


def check_no_links_below(folder: str | os.PathLike, name: str, argument: str = 'workdir') -> None:
  """Raises InputError if a folder inside `folder` is a symbolic link or contains one at any depth."""
  check_no_link(folder, name, argument)
  for place, folders, files in os.walk(Path(folder) / name):
    for inner in (*folders, *files):
      check_no_link(folder, (Path(place) / inner).relative_to(folder), argument)
