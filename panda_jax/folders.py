"""Folders that commands write into: whose results are there is told by a record, the JSON file that is written last."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from panda_jax.errors import InputError


def claim(
  out: Path,
  record: str,
  settings: dict[str, Any],
  what: str,
  overwrite: bool,
  *,
  marker: str,
  keys: Iterable[str] = ('settings',),
  replaced: Iterable[str] = (),
) -> None:
  """Makes the folder, unless results of other settings are there already.

  Args:
    out: folder.
    record: name of its record.
    settings: JSON values that tell these results from others.
    what: such other results, with their verb.
    overwrite: take the folder nevertheless.
    marker: a file that is a result too, of nobody knows what settings where there is no record.
    keys: of the record, one inside the other, that lead to its settings.
    replaced: patterns of files that go when others are overwritten: the record, and what may not be written again.

  Raises:
    InputError: other results are there, or the folder cannot be written.
  """
  path = out / record
  try:
    out.mkdir(parents=True, exist_ok=True)
    text = path.read_text() if path.exists() else None
    there = text is not None or (out / marker).exists()
  except OSError as error:
    raise InputError('out', out, f'it cannot be written ({error.strerror})', 'choose another folder') from error
  if there and _settings_in(text, keys) != json.loads(json.dumps(settings)):
    if not overwrite:
      raise InputError('out', out, f'{what} there', 'choose another folder with --out, or use --overwrite')
    for pattern in replaced:
      for old in out.glob(pattern):
        old.unlink()


def _settings_in(text: str | None, keys: Iterable[str]) -> Any:
  """None where nothing can be read, which equals no settings."""
  try:
    found = json.loads(text or '')
    for key in keys:
      found = found[key]
  except (ValueError, KeyError, TypeError):
    return None
  return found
