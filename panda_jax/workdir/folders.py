"""Folders that commands write: their names, and how one process claims one. Nothing is written through a link."""

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
  """Results of other settings are in the folder."""


# Files that commands write into their folders.
RESULTS = ('*.npy', '*.npz', '*.png', '*.gif', '*.json', '*.html', '.*.tmp', '.*.partial')


def folder_name(command: str, numbers: Sequence[int] | None = None) -> str:
  """Where the results of a command go below the workdir unless the user says: 'refine-19', 'saliency-0+3'."""
  if not numbers:
    return command
  return f'{command}-{_few(numbers)}'


def _few(numbers: Sequence[int]) -> str:
  """Numbers in a few characters, others for others."""
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
  """Makes and locks a folder that a command writes into, unless results of other settings are there already.

  One that is made for nothing goes away again.

  Args:
    out: folder.
    record: name of the JSON file that is written last and tells whose results are there.
    settings: JSON values that tell these results from others.
    what: such other results, with their verb.
    overwrite: take the folder nevertheless.
    marker: a file that is a result too, of nobody knows what settings where there is no record.
    keys: of the record, one inside the other, that lead to its settings.
    beside: keys beside the settings there, of what tells no results from others.
    replaced: patterns of files that go when others are overwritten: the record, and what may not be written again.

  Raises:
    Taken: other results are there.
    InputError: a link is in place of a result, another process writes there, or what the block writes cannot be
      written.
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
      with contextlib.suppress(OSError):  # where something was kept
        out.rmdir()
    raise


def claim(out: Path, record: str, settings: dict, overwrite: bool, marker: str):
  """The folder, for refinements and saliency maps; see `claimed`."""
  replaced = record, 'cutouts*.png'
  return claimed(out, record, settings, 'other results are', overwrite, marker=marker, replaced=replaced)


def _remove(old: Path, out: Path) -> None:
  try:
    old.unlink()
  except OSError as error:
    raise refusal('out', out, f'{old.relative_to(out)} could not be removed', error) from error


def _settings_in(path: Path, keys: Iterable[str], beside: Collection[str]) -> Any:
  """None where nothing can be read, which equals no settings."""
  try:
    found = read_json(path, 'out')
    for key in keys:
      found = found[key]
  except (InputError, KeyError, TypeError):
    return None
  return {key: value for key, value in found.items() if key not in beside} if isinstance(found, dict) else found
