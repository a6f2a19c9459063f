"""The final messages of commands, and their output folders."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from panda_jax.errors import printable
from panda_jax.files.links import check_no_link


def inside(workdir: str, name: str | Path) -> Path:
  """A folder to write, below a workdir; it must not be a link."""
  check_no_link(workdir, name)
  return Path(workdir) / name


def print_written(folder: Path, shapes: Mapping[str, tuple[int, ...]], *more: str) -> None:
  """Prints a line for each file: its path, and the shape of an array."""
  for name, shape in {**shapes, **dict.fromkeys(more, ())}.items():
    print(printable(f'{folder / name}  {" x ".join(map(str, shape))}'.rstrip()))


def notes_to(progress) -> partial:
  """A function that prints notes, for example on edits that change nothing."""
  return partial(_noted, progress)


def _noted(progress, text: str) -> None:
  progress.say(f'note: {text}')
