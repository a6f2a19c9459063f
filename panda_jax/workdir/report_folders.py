"""The part of a report about results of a fit: folders below its own, with their records and pictures."""

import json
from pathlib import Path
from typing import Any

from panda_jax.errors import InputError
from panda_jax.files.records import read_json
from panda_jax.pictures import pages
from panda_jax.pictures.sheets import written
from panda_jax.pictures.strips import ALPHA

MOST_FOLDERS = 40  # on the page, with their pictures
TOLD = ('command', 'edits', 'versions', 'pictures', 'arrays')  # keys of a record that its table leaves out
LONG = ('mask', 'direction')  # keys of an edit that only the record has
MOST_ROWS = 80  # in the table of one record
PICTURES = ('.png', '.gif', '.jpg', '.webp')


def read_record(path: Path, form: Any = dict) -> dict[str, Any] | None:
  """A JSON object of a form from a file; None if the file is missing or has another form."""
  try:
    return read_json(path, 'workdir', form)
  except InputError:
    return None


def number(value: Any, digits: int = 5) -> str:
  return f'{value:.{digits}g}' if isinstance(value, int | float) and not isinstance(value, bool) else str(value or '')


def _numbers(value: Any) -> str:
  """A number, or several, with proper minus signs."""
  values = value if isinstance(value, list) else [value]
  return ', '.join(written(x) if isinstance(x, int | float) else short(x) for x in values)


def short(value: Any, most: int = 200) -> str:
  """A JSON value as text for readers."""
  if value is None:
    return 'not set'
  words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
  if isinstance(value, list) and not any(isinstance(x, dict | list) for x in value):
    words = ', '.join(short(x) for x in value)
  elif isinstance(value, float):
    words = f'{value:.6g}'
  elif isinstance(value, bool):
    words = 'yes' if value else 'no'
  return words if len(words) <= most else words[: most - 1] + '…'


def folders(workdir: Path) -> list[Path]:
  """Folders below a workdir that a command wrote: those with a record and a picture, by name."""
  candidates = sorted((*workdir.glob('*/'), *workdir.glob('*/*/')))
  return [
    folder
    for folder in candidates
    if 'checkpoints' not in folder.parts[len(workdir.parts) :]
    and not folder.name.startswith('.')
    and any(folder.glob('*.json'))
    and any(file.suffix in PICTURES for file in folder.iterdir())
  ]


def told_apart(found: list[Path], digest: str) -> tuple[list[Path], list[Path]]:
  """Folders with the hash of these factors, or without a hash; and folders with the hash of other factors."""
  stale = [folder for folder in found if _child(records(folder), 'settings').get('factors', digest) != digest]
  return [folder for folder in found if folder not in stale], stale


def left_out(stale: list[Path], workdir: Path) -> str:
  """A sentence on folders that are not on the page, since they have other factors, of an earlier fit."""
  if not stale:
    return ''
  names = ', '.join(str(folder.relative_to(workdir)) for folder in stale[:MOST_FOLDERS])
  return pages.paragraph(f'Made with the factors of an earlier fit, and therefore not shown: {names}.')


def records(folder: Path) -> dict[str, Any]:
  """The keys of the folder's JSON files, read in the order of their names; of equal keys the last one counts."""
  said: dict[str, Any] = {}
  for path in sorted(folder.glob('*.json')):
    said |= read_record(path) or {}
  return said


def _rows(said: dict[str, Any]) -> list[list[str]]:
  """Rows of a table for a record: long lists and texts are shortened; settings have a row each."""
  rows = []
  for key, value in said.items():
    if key in TOLD:
      continue
    if isinstance(value, dict):
      rows += [[name if key == 'settings' else f'{key}: {name}', shown] for name, shown in _rows(value)]
    else:
      rows.append([key.replace('_', ' '), short(value)])
  return rows


def _child(said: dict[str, Any], key: str) -> dict[str, Any]:
  value = said.get(key)
  return value if isinstance(value, dict) else {}


def sentences(said: dict[str, Any]) -> list[str]:
  """Sentences that summarise a record, such as 'eyes: part 1, appearance 0, alpha 10'."""
  lines = []
  for name, terms in _child(_child(said, 'settings'), 'edits').items():
    told = []
    for term in terms if isinstance(terms, list) else ():
      if not isinstance(term, dict):
        continue
      words = [
        f'{ALPHA} = {_numbers(value)}' if key == 'alpha' else f'{key.replace("_", " ")} {short(value)}'
        for key, value in term.items()
        if key not in LONG
      ]
      told.append(', '.join(words))
    lines.append(f'{name}: {"; plus ".join(told)}')
  found = _child(said, 'removal')
  before, after = (found.get(f'covered_{when}') for when in ('before', 'after'))
  if isinstance(before, int | float) and isinstance(after, int | float):
    what = 'mask' if _child(said, 'settings').get('part', []) is None else 'part'
    lines.append(
      f'Background appearance {found.get("appearance")}, {ALPHA} = {_numbers(found.get("alpha"))}: background covers '
      f'{100 * after:.0f} % of the {what}, {100 * before:.0f} % before.'
    )
  error = _child(said, 'relative_error')
  if all(isinstance(error.get(key), int | float) for key in ('global', 'refined')):
    lines.append(f'Relative error {number(error["global"], 4)}, refined {number(error["refined"], 4)}.')
  return lines


CAPTIONS = {
  'strip.png': 'The original first, then the edit.',
  'difference.png': 'Before, after, and the change of each pixel.',
  'sweep.gif': 'All strengths, one after the other.',
  'refined.png': 'Parts of all samples, and as refined for each; the parts that change most.',
  'saliency.png': 'Coordinates: red above, blue below the threshold.',
  'masks.png': 'Where coordinates reach the threshold.',
  'catalog.png': 'A row for each part: where it is, its edits at full strength, and a random pair.',
  'cutouts.png': 'The samples inside the masks, and outside.',
}


def caption(picture: Path, said: dict[str, Any]) -> str:
  """The caption of a picture with a known name."""
  removed = _child(said, 'settings').get('kind') == 'removal'
  name = picture.stem.partition('-')[0] + picture.suffix  # of 'cutouts-3.png', one of several
  return CAPTIONS.get('difference.png' if removed and name == 'strip.png' else name, '')


def made_from(found: list[Path], workdir: Path) -> str:
  """Each folder with its pictures, its record, and the command that makes it again."""
  pieces = []
  for folder in found[:MOST_FOLDERS]:
    said = records(folder)
    pictures = sorted((f for f in folder.iterdir() if f.suffix in PICTURES), key=_order)
    pieces.append(f'<h3>{pages.text(folder.relative_to(workdir))}</h3>')
    pieces += [pages.paragraph(line) for line in sentences(said)]
    pieces += [pages.figure(f, f'{f.name} of {folder.name}', caption(f, said)) for f in pictures]
    if said.get('command'):
      pieces.append(pages.command(str(said['command'])))
    rows = _rows(said)
    if rows:
      pieces.append(pages.details('Everything on record', pages.table(rows[:MOST_ROWS])))
  if len(found) > MOST_FOLDERS:
    names = ', '.join(str(folder.relative_to(workdir)) for folder in found[MOST_FOLDERS:])
    pieces.append(pages.paragraph(f'Not shown, since there are so many: {names}.'))
  return ''.join(pieces)


def _order(path: Path) -> tuple[int, str]:
  known = list(CAPTIONS)
  return (known.index(path.name) if path.name in known else len(known), path.name)
