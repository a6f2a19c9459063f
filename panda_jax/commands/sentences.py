"""What commands say at the end, and where they write."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from panda_jax.errors import printable
from panda_jax.files.links import check_no_link


def inside(workdir: str, name: str | Path) -> Path:
  """A folder below a workdir, to be written into."""
  check_no_link(workdir, name)
  return Path(workdir) / name


def print_written(folder: Path, shapes: Mapping[str, tuple[int, ...]], *more: str) -> None:
  """A line for each file: its path, and the shape of an array."""
  for name, shape in {**shapes, **dict.fromkeys(more, ())}.items():
    print(printable(f'{folder / name}  {" x ".join(map(str, shape))}'.rstrip()))


def notes_to(progress) -> partial:
  """Says what was asked for and comes to nothing."""
  return partial(_noted, progress)


def _noted(progress, text: str) -> None:
  progress.say(f'note: {text}')
