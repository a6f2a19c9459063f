"""What the explorer writes: a folder for each saved edit, in WORKDIR/app and nowhere else.

Everybody who can open the page can save. So the number of edits and bytes in a workdir is limited.
"""

import dataclasses
import os
import re
import shutil
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from panda_jax.app.choices import Choice
from panda_jax.app.engine import Engine
from panda_jax.app.photographs import Held
from panda_jax.editing.zoo import NamedEdit, write_zoo
from panda_jax.errors import InputError, refusal
from panda_jax.files.access import read_bytes, write_atomically
from panda_jax.files.arrays import npy_bytes
from panda_jax.generators import latent_files
from panda_jax.inversion import files as inversions
from panda_jax.inversion.files import Inverted
from panda_jax.inversion.photographs import LARGEST_FILE
from panda_jax.pictures import strips
from panda_jax.pictures.figures import draw_images, save_pixels
from panda_jax.workdir.samples import Samples
from panda_jax.workdir.suggestions import typed

FOLDER = 'app'
LATENTS, LABELS = 'latents.npy', 'labels.npy'
EDITED = 'edited.png'
FILES = ('strip.png', EDITED, 'sweep.gif', 'edit.json')
WHOLE = 'photograph.png'  # the whole photograph with the edit in it
LONGEST_NAME, SHORT_NAME = 60, 40
_NAME = re.compile(r'[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?')
_DEVICE = re.compile(r'(con|prn|aux|nul|(com|lpt)\d)(\..*)?', re.IGNORECASE)  # reserved on Windows
MOST_SAVED = 1000  # folders in WORKDIR/app
MOST_BYTES = 2 << 30  # of all folders together
REMEDY = 'put the photographs of the inversion back, or invert again'
FRAMES = 9  # of sweep.gif
MOVING = 4  # samples in sweep.gif


class Saved(NamedTuple):
  """A folder that `save` wrote.

  Attributes:
    name: of the folder and of the edit in edit.json.
    folder: in WORKDIR/app.
    files: in the folder, for the user to open.
    command: that makes the same pictures.
  """

  name: str
  folder: Path
  files: tuple[str, ...]
  command: str


def folder_of(workdir: Path) -> Path:
  """WORKDIR/app.

  Raises:
    InputError: it is a link to another place.
  """
  folder = Path(workdir).resolve() / FOLDER
  if folder.resolve() != folder:
    raise InputError('workdir', workdir, f'its folder {FOLDER} is a link', 'remove the link')
  return folder


def checked_name(name: str) -> str:
  """A name for a folder.

  Raises:
    InputError: it is empty, too long, has other characters than letters, digits, dot, dash and underscore, or is one
      that some system cannot have.
  """
  if not isinstance(name, str) or not _NAME.fullmatch(name) or _DEVICE.fullmatch(name) or len(name) > LONGEST_NAME:
    shown = str(name)[:LONGEST_NAME]
    remedy = (
      f'give letters, digits, dots, dashes and underscores, {LONGEST_NAME} at most, a letter or digit first and no dot '
      'last; con, nul and the like are taken by Windows'
    )
    raise InputError('name', shown, 'it cannot be the name of a folder', remedy)
  return name


def name_of(shown: str, words: Sequence[str]) -> str:
  """A name for a folder that can be read, such as seed-3-eyes-darker.

  Args:
    shown: name of the sample.
    words: names of its edits. If the name would be too long, the last ones are counted: seed-3-eyes-darker-and-2-more.
  """
  plain = [unicodedata.normalize('NFKD', word.lower()).encode('ascii', 'ignore').decode() for word in (shown, *words)]
  pieces = [found for word in plain if (found := re.sub(r'[^a-z0-9]+', '-', word).strip('-'))]
  for count in range(len(pieces), 1, -1):
    left = len(pieces) - count
    more = f'-and-{left}-more' if left else ''
    name = '-'.join(pieces[:count])
    if len(name + more) <= SHORT_NAME or count == 2:
      return name[: LONGEST_NAME - len(more)].strip('-') + more
  return '-'.join(pieces)[:LONGEST_NAME].strip('-') or 'edit'


def save(engine: Engine, choice: Choice, name: str = '', words: Sequence[str] = (), note: str = '') -> Saved:
  """Writes strip.png (before, after, difference), edited.png, sweep.gif and edit.json (a zoo of one edit).

  For samples of a file, of given classes or of another truncation it also writes latents.npy or labels.npy. For
  photographs it writes the inversion, as `invert` does, and for a single one photograph.png, see `Engine.whole`.

  Args:
    engine: of the fit.
    choice: with one edit or more; sweep.gif increases the strength of the last one.
    name: of the folder; if empty, made from the sample's name and `words`, see `name_of`. A taken name gets a number.
    words: names of the edits.
    note: kept in edit.json.

  Raises:
    InputError: there is nothing to save, the name is not possible, WORKDIR/app is full, or the disk refuses. Then
      no files are left.
  """
  if not choice.terms:
    raise InputError('edit', None, 'nothing is edited yet', 'click on the picture first')
  last = choice.terms[-1]
  shown, files = engine.chosen(choice.keys), FILES
  given = name or name_of(Path(engine.names(choice.keys)[0]).stem, words)
  folder = _claimed(folder_of(engine.opened.folder), checked_name(given))
  try:
    original, edited = engine.originals(choice.keys), engine.edited(choice)
    strips.draw_difference(
      folder / 'strip.png',
      original,
      edited,
      region=engine.regions(choice),
      margin=engine.margin,
      names=engine.names(choice.keys),
      title=folder.name,
    )
    draw_images(folder / EDITED, edited)
    alphas = np.linspace(0, float(last.alpha), FRAMES)
    moving = choice if choice.photograph else dataclasses.replace(choice, seeds=choice.seeds[:MOVING])
    frames = engine.edited(moving, alphas)
    strips.save_gif(folder / 'sweep.gif', frames, labels=[strips.strength(float(f'{alpha:.3g}')) for alpha in alphas])
    named = NamedEdit(engine.opened.digest_factors, engine.opened.layer, choice.terms, note)
    write_zoo(folder / 'edit.json', {folder.name: named})
    whole = engine.whole(choice)
    if whole is not None:
      save_pixels(folder / WHOLE, whole, shown.photographs.profile(0))
      files = *FILES, WHOLE
    if shown.photographs is not None:
      _save_photographs(folder, shown.photographs)
    elif shown.given is not None:
      write_atomically(folder / LATENTS, latent_files.npy_bytes(shown.given))
    if shown.labels is not None:
      write_atomically(folder / LABELS, npy_bytes(shown.labels))
  except BaseException as error:
    shutil.rmtree(folder, ignore_errors=True)
    if isinstance(error, OSError):
      raise refusal('workdir', folder, 'the edit could not be saved', error) from error
    raise
  return Saved(folder.name, folder, files, _command(engine, choice, shown, folder))


def _save_photographs(folder: Path, photographs: Inverted) -> None:
  """Writes an inversion and its photographs, as `load_inverted` reads them."""
  inversions.save_inverted(folder / inversions.LATENTS, photographs)
  (folder / inversions.PHOTOGRAPHS).mkdir()
  for name in photographs.names if photographs.placements else ():
    if isinstance(photographs, Held):
      content = photographs.content
    else:
      content = read_bytes(photographs.folder / inversions.PHOTOGRAPHS / name, 'latents', REMEDY, LARGEST_FILE)
    write_atomically(folder / inversions.PHOTOGRAPHS / name, content)


_claiming = threading.Lock()


def _claimed(parent: Path, name: str) -> Path:
  """A new folder of this name, or of this name and a number. Two saves cannot get the same: the folder is made here.

  Raises:
    InputError: the parent is full, or cannot be written to.
  """
  try:
    with _claiming:
      parent.mkdir(exist_ok=True)
      _check_room(parent)
      for number in range(1, MOST_SAVED + 2):  # at most MOST_SAVED are taken
        folder = parent / (name if number == 1 else f'{name}_{number}')
        try:
          folder.mkdir()
          return folder
        except FileExistsError:
          continue
  except OSError as error:
    raise refusal('workdir', parent, 'it cannot be written', error) from error
  raise InputError('name', name, f'it is taken {MOST_SAVED} times', 'choose another')


def _check_room(parent: Path) -> None:
  """Raises InputError if a folder holds `MOST_SAVED` edits or `MOST_BYTES` bytes."""
  folders = [entry for entry in os.scandir(parent) if not entry.name.startswith('.') and entry.is_dir()]
  paths = (Path(at) / file for folder in folders for at, _, files in os.walk(folder) for file in files)
  used = sum(path.lstat().st_size for path in paths)
  if len(folders) >= MOST_SAVED or used >= MOST_BYTES:
    said = f'it holds {len(folders)} edits of {used >> 20} MB; {MOST_SAVED} and {MOST_BYTES >> 20} MB are the most'
    raise InputError('workdir', parent, said, 'move some elsewhere, or delete them, and save again')


def _command(engine: Engine, choice: Choice, shown: Samples, folder: Path) -> str:
  arguments = [f'--workdir={engine.opened.folder}', f'--zoo={folder / "edit.json"}', f'--name={folder.name}']
  seeds = f'--seeds={",".join(map(str, choice.seeds))}'
  latents = f'--latents={folder if shown.photographs else folder / LATENTS}'
  arguments += [seeds if shown.given is None else latents]
  arguments += [f'--labels={folder / LABELS}'] * (shown.labels is not None) + ['--refined'] * choice.refined
  return typed('edit', arguments)


def readable(workdir: Path, name: str, file: str) -> Path | None:
  """A saved file that may be shown, or None."""
  try:
    path = folder_of(workdir) / checked_name(name) / file
  except InputError:
    return None
  return path if file in (*FILES, WHOLE) and path.is_file() and path.resolve() == path else None
