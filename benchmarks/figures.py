"""Makes every committed picture of docs/ and every table of runs again, from the embedded generator.

python -m benchmarks.figures                       10 minutes on two cores: all but the comparison
python -m benchmarks.figures --only=parts,edits    some of them
python -m benchmarks.figures --only=compare        13 minutes more
python -m benchmarks.figures --only=card --data=cats64.zip

Each figure runs a few commands, as a user would, in one folder (`--runs`), and keeps some of their files. Finished
results in the folder are not made again; `--fresh` starts with an empty folder. Pictures are stored with 256 colours.
For other files in benchmarks/results, the docstrings of the other benchmarks have the commands.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags
from PIL import Image

import panda_jax
from panda_jax.catalog.names import BETWEEN, OTHER, of_the_picture
from panda_jax.compare.settings import METHODS
from panda_jax.editing.editor import Editor
from panda_jax.editing.zoo import NamedEdit, read_zoo
from panda_jax.files.access import write_atomically
from panda_jax.pictures.figures import to_bytes
from panda_jax.pictures.sheets import Row, draw_rows, resized

_ONLY = flags.DEFINE_list('only', None, 'Names of figures; all but compare and card if left out.')
_RUNS = flags.DEFINE_string('runs', 'runs/figures', 'Folder of the runs.')
_FRESH = flags.DEFINE_bool('fresh', False, 'Delete the runs that are there first.')
_DATA = flags.DEFINE_string('data', None, 'Zip file or folder of the photographs that the generator was trained on.')

ROOT = Path(__file__).parents[1]
DOCS, CARD = ROOT / 'docs' / 'cats64', ROOT / 'panda_jax' / 'assets' / 'cats64.md'
COMPARED = ROOT / 'benchmarks' / 'results' / 'compare_cats64'
SIDE, SAMPLES, EDITS = 160, 6, 5  # pixels of a tile; columns and rows of the picture of edits
WIDTH = 1348  # pixels of the picture of the comparison
COLOURS = 256


def command(*words: str) -> None:
  """Runs a command of panda-jax or, with -m first, a module; the figures end if one fails."""
  given = [*words] if words[0] == '-m' else ['run.py', *words]
  print('$ python', *given, flush=True)
  subprocess.run([sys.executable, *given], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def fitted(runs: Path, parts: int = 12) -> Path:
  """The fit of configs/cats64.py; a finished fit is not repeated."""
  folder = runs / f'cats{parts}'
  command('fit', '--config=configs/cats64.py', f'--parts={parts}', f'--workdir={folder}')
  return folder


def catalogued(runs: Path, parts: int = 12) -> Path:
  """The folder of the catalog of that fit."""
  folder = fitted(runs, parts) / 'catalog'
  if not (folder / 'record.json').exists():
    command('catalog', f'--workdir={folder.parent}')
  return folder


def stored(source: Path, to: Path) -> None:
  """Stores a picture with 256 colours, including white, dithered: at most half of its bytes, with the same look."""
  with Image.open(source) as opened:
    if opened.mode == 'P':  # it has 256 colours already
      shutil.copyfile(source, to)
      return
    picture = opened.convert('RGB')
  # Means over 5x5 pixels differ by 0.6 of 255, root mean square; with median cut by 2 to 3.
  palette = picture.quantize(COLOURS - 1, method=Image.Quantize.MAXCOVERAGE)
  palette.putpalette([*(palette.getpalette() or [])[: 3 * (COLOURS - 1)], 255, 255, 255])
  buffer = io.BytesIO()
  picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, 'PNG', optimize=True)
  write_atomically(to, buffer.getvalue())


def parts(runs: Path) -> None:
  """The twelve parts on samples."""
  stored(fitted(runs) / 'overlay.png', DOCS / 'parts.png')


def eyes(runs: Path) -> None:
  """The first edit of the README, by its command."""
  folder, out = fitted(runs), runs / 'eyes'
  how = ('--part=2,3', '--appearance=2', '--alpha=-2,-1,0,1,2', '--seeds=0-3')
  command('edit', f'--workdir={folder}', *how, f'--out={out}', '--overwrite')
  stored(out / 'strip.png', DOCS / 'eyes.png')


def best(zoo: dict[str, NamedEdit], count: int) -> list[NamedEdit]:
  """The edits with the best scores and a word for their change, one for each place.

  Places with names of the generator come first; the others surround its object.
  """
  around = {name for name, _ in of_the_picture((6, 6))}
  kept: dict[str, NamedEdit] = {}
  for entry in sorted(zoo.values(), key=lambda entry: -(entry.scores or {}).get('score', 0)):
    place, _, what = entry.title.partition(BETWEEN)
    if not what.startswith(OTHER):
      kept.setdefault(place, entry)
  return [kept[place] for place in sorted(kept, key=around.__contains__)][:count]


def edits(runs: Path) -> None:
  """The best edits of the catalog with their names, on samples that did not choose them."""
  catalog = catalogued(runs)
  opened = panda_jax.open_workdir(catalog.parent)
  first = int(json.loads((catalog / 'record.json').read_text())['seeds']['heldout'].split()[0])
  latents = opened.latents(range(first, first + SAMPLES))
  editor, rows = Editor(opened.needed_generator(), opened.layer, opened.noise), []
  for entry in best(read_zoo(catalog / 'catalog.json'), EDITS):
    made = editor.images(latents, entry.edit(opened.factors, opened.digest_factors))
    rows = rows or [Row('samples', _tiles(made.original))]
    rows.append(Row(entry.title.replace(BETWEEN, ',\n', 1), _tiles(made.edited)))
  draw_rows(runs / 'edits.png', rows, note='Each edit at its largest useful strength, on samples it was not chosen on.')
  stored(runs / 'edits.png', DOCS / 'edits.png')


def _tiles(images) -> list[np.ndarray]:
  return list(resized(to_bytes(np.asarray(images)), (SIDE, SIDE)))


def catalog(runs: Path) -> None:
  """The sheet of a catalog of sixteen parts."""
  stored(catalogued(runs, 16) / 'catalog.png', DOCS / 'catalog.png')


def photographs(runs: Path) -> None:
  """The photographs of docs/photographs with the edit of the tutorial, by its commands."""
  folder, inverted, out = fitted(runs), runs / 'photographs', runs / 'photographs-edited'
  command('invert', f'--workdir={folder}', '--images=docs/photographs', f'--out={inverted}')
  how = ('--part=9', '--appearance=25', '--alpha=2')
  command('edit', f'--workdir={folder}', f'--latents={inverted}', *how, f'--out={out}', '--overwrite')
  stored(out / 'strip.png', DOCS / 'photographs.png')


def explorer(runs: Path) -> None:
  """The page of the explorer, in chromium, on a fit without a catalog, as new users see it."""
  folder, picture = runs / 'explorer' / 'cats64', runs / 'app.png'
  command('fit', '--config=configs/cats64.py', f'--workdir={folder}')
  command('-m', 'benchmarks.page', f'--workdir={folder}', f'--out={picture.absolute()}')
  stored(picture, DOCS / 'app.png')


def compare(runs: Path) -> None:
  """The comparison with other methods: its tables and pictures."""
  folder = runs / 'compare_cats64'
  # The table has this command: the folder as seen from the repository.
  command('compare', '--config=configs/compare_cats64.py', f'--workdir={os.path.relpath(folder, ROOT)}')
  for name in ('config.json', 'table.json', 'table.md', 'curves.png', 'leakage.png', 'regions.png', 'strips.png'):
    (stored if name.endswith('.png') else shutil.copyfile)(folder / name, COMPARED / name)
  with Image.open(folder / 'strips.png') as opened:
    first = first_rows(opened.convert('RGB'), 1 + len(METHODS))
  first.resize((WIDTH, round(first.height * WIDTH / first.width)), Image.Resampling.LANCZOS).save(runs / 'compare.png')
  stored(runs / 'compare.png', DOCS / 'compare.png')


def first_rows(sheet: Image.Image, count: int) -> Image.Image:
  """The top of a sheet of tiles, to the end of so many rows; these are separated by white."""
  drawn = (np.asarray(sheet)[:, sheet.width // 8 :] < 255).any(axis=(1, 2))  # without the names at the left
  ends = np.flatnonzero(drawn[:-1] & ~drawn[1:]) + 1
  starts = np.flatnonzero(~drawn[:-1] & drawn[1:]) + 1
  tall = [end for start, end in zip(starts, ends, strict=False) if end - start > sheet.width // 20]
  return sheet.crop((0, 0, sheet.width, tall[count - 1]))


def card(runs: Path, data: str | None) -> None:
  """The rows of cats64 and of the training pictures in the card's table."""
  if data is None:
    raise app.UsageError('the card needs --data, the photographs that cats64 was trained on')
  out = runs / 'evaluation'
  command('-m', 'examples.train_generator.evaluate', '--generator=cats64', f'--data={data}', f'--out={out}')
  found = json.loads((out / 'evaluation.json').read_text())
  rows = {'| training pictures, as many as are held out | |': found['training images']}
  rows |= {f'| cats64 | {t} |': row for t, row in found['generators']['cats64']['truncation'].items()}
  lines = CARD.read_text().splitlines()
  for start, row in rows.items():
    (place,) = (i for i, line in enumerate(lines) if line.startswith(start))
    lines[place] = f'{start} {row["frechet"]:.4f} | {row["precision"]:.3f} | {row["recall"]:.3f} |'
  CARD.write_text('\n'.join(lines) + '\n')


class Figure(NamedTuple):
  """A function of the folder of runs, and whether it runs by default."""

  made: Callable[[Path], None]
  among_all: bool = True


FIGURES = {
  'parts': Figure(parts),
  'eyes': Figure(eyes),
  'edits': Figure(edits),
  'catalog': Figure(catalog),
  'photographs': Figure(photographs),
  'explorer': Figure(explorer),
  'compare': Figure(compare, False),
  'card': Figure(lambda runs: card(runs, _DATA.value), False),
}


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  names = _ONLY.value or [name for name, figure in FIGURES.items() if figure.among_all]
  if unknown := [name for name in names if name not in FIGURES]:
    raise app.UsageError(f'no figure is called {unknown[0]!r}; there are {", ".join(FIGURES)}')
  runs = Path(_RUNS.value).absolute()
  if _FRESH.value:
    shutil.rmtree(runs, ignore_errors=True)
  runs.mkdir(parents=True, exist_ok=True)
  for name in names:
    FIGURES[name].made(runs)
    print(f'made {name}', flush=True)


if __name__ == '__main__':
  app.run(main)
