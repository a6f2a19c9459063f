"""Folders that commands write: their names, and how a process claims one. Nothing is written through a link."""

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from panda_jax.errors import InputError, refusal
from panda_jax.files.links import check_no_links
from panda_jax.files.lock import locked
from panda_jax.files.records import read_json
from panda_jax.runtime import signals


class Taken(InputError):
  """The folder has results of other settings."""


# Files that commands write into their folders.
RESULTS = ('*.npy', '*.npz', '*.png', '*.gif', '*.json', '*.html', '.*.tmp', '.*.partial')


def folder_name(command: str, numbers: Sequence[int] | None = None) -> str:
  """The default folder below the workdir for the results of a command: 'refine-19', 'saliency-0+3'."""
  if not numbers:
    return command
  return f'{command}-{_few(numbers)}'


def _few(numbers: Sequence[int]) -> str:
  """A short text for numbers, different for different numbers."""
  if len(numbers) <= 4:
    return '+'.join(map(str, numbers))
  row = f'{numbers[0]}-to-{numbers[-1]}'
  if list(numbers) == list(range(numbers[0], numbers[0] + len(numbers))):
    return row
  return f'{row}-{hashlib.sha256(",".join(map(str, numbers)).encode()).hexdigest()[:8]}'


@contextlib.contextmanager
def claimed(
  out: Path,
  record: str,
  settings: dict[str, Any],
  what: str,
  overwrite: bool,
  *,
  marker: str,
  keys: Iterable[str] = ('settings',),
  beside: Collection[str] = (),
  replaced: Iterable[str] = (),
) -> Iterator[None]:
  """Makes and locks a folder that a command writes into, unless it has results of other settings.

  If the block fails, a new folder that is still empty is deleted.

  Args:
    out: folder.
    record: name of the JSON file that is written last, with the settings of the results.
    settings: JSON values that identify these results.
    what: other results with their verb, for the message.
    overwrite: take the folder even if it has other results.
    marker: a file that is a result too; without a record its settings are unknown.
    keys: nested keys in the record that lead to its settings.
    beside: keys among the settings that do not identify results.
    replaced: patterns of files to delete when results are overwritten: the record, and files that may not be rewritten.

  Raises:
    Taken: the folder has other results.
    InputError: a result is a link, another process writes there, or the block cannot write.
  """
  new = not os.path.lexists(out)
  dropped = 'nothing of it is kept: the same command starts from the beginning'
  try:
    with locked(out, 'out'), signals.keeping(lambda: dropped, f'the results are in {out}'):
      check_no_links(out, (*(Path(x).parts[0] for x in (record, marker, *replaced)), *RESULTS), 'out')
      there = any(os.path.lexists(out / name) for name in (record, marker))
      if there and _settings_in(out / record, keys, beside) != json.loads(json.dumps(settings)):
        if not overwrite:
          raise Taken('out', out, f'{what} there', 'choose another folder with --out, or use --overwrite')
        for pattern in replaced:
          for old in out.glob(pattern):
            _remove(old, out)
      yield
  except BaseException:
    if new:
      with contextlib.suppress(OSError):  # the folder is not empty
        out.rmdir()
    raise


def claim(out: Path, record: str, settings: dict, overwrite: bool, marker: str):
  """Claims the folder of refinements or saliency maps; see `claimed`."""
  replaced = record, 'cutouts*.png'
  return claimed(out, record, settings, 'other results are', overwrite, marker=marker, replaced=replaced)


def _remove(old: Path, out: Path) -> None:
  try:
    old.unlink()
  except OSError as error:
    raise refusal('out', out, f'{old.relative_to(out)} could not be removed', error) from error


def _settings_in(path: Path, keys: Iterable[str], beside: Collection[str]) -> Any:
  """The settings in a record; None, which differs from all settings, if they cannot be read."""
  try:
    found = read_json(path, 'out')
    for key in keys:
      found = found[key]
  except (InputError, KeyError, TypeError):
    return None
  return {key: value for key, value in found.items() if key not in beside} if isinstance(found, dict) else found
