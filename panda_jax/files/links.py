"""Symbolic links inside a folder: nothing is written or deleted through one."""

import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path

from panda_jax.errors import InputError


def check_no_link(folder: str | os.PathLike, name: str | os.PathLike = '', argument: str = 'workdir') -> None:
  """Raises InputError where `name`, or a folder between, is a symbolic link inside `folder`, which may itself be one.

  A link could lead what is written or deleted to any place, and who made the folder may be somebody else.
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
  """Raises InputError where a folder inside `folder` is a symbolic link or has one in it, at any depth."""
  check_no_link(folder, name, argument)
  for place, folders, files in os.walk(Path(folder) / name):
    for inner in (*folders, *files):
      check_no_link(folder, (Path(place) / inner).relative_to(folder), argument)
