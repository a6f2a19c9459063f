"""Damages every kind of file that the tool reads: the result must be an InputError or correct.

Checkpoints have their own fuzzer, `tests/converters/fuzz.py`. To run it by hand, with any number (use `nice`):

    nice python -m tests.fuzz --count=100000 --seed=1 [--only=factors,zoo]
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections
import ml_dtypes
import numpy as np
from flax import nnx
from PIL import Image

from panda_jax.app import messages
from panda_jax.app.choices import Choice, Offered
from panda_jax.compare import cells, discovery
from panda_jax.compare.run import checked
from panda_jax.compare.settings import default_config as comparison
from panda_jax.editing import annotations, masks, zoo
from panda_jax.editing.zoo import NamedEdit, Spec
from panda_jax.errors import LONGEST, InputError
from panda_jax.features.sources import NpySource
from panda_jax.files.arrays import npy_bytes, npz_bytes, read_npy, read_npz
from panda_jax.files.lock import LOCK, locked
from panda_jax.files.records import read_json
from panda_jax.generators import disk, registry
from panda_jax.generators.labels import parsed_labels
from panda_jax.generators.source import weights_digest
from panda_jax.inversion.encoder import Encoder, EncoderOptions, load_encoder, save_encoder
from panda_jax.inversion.files import Inverted, load_inverted, save_inverted
from panda_jax.inversion.inversion import Curve, Inversion
from panda_jax.inversion.photographs import read_photograph
from panda_jax.inversion.placement import whole
from panda_jax.pictures import pages
from panda_jax.rivals import directions
from panda_jax.solver.factors import Factors
from panda_jax.solver.fit import check_settings
from panda_jax.workdir import report, report_folders
from panda_jax.workdir.config import check_values, config_form, default_config
from panda_jax.workdir.finished_fit import SUMMARY, open_workdir
from panda_jax.workdir.fit_features import source_of
from tests.mutations import json_or_bytes, literal_or_bytes, npy_or_bytes, npz_or_bytes, of_bytes, other_json, run

GRID, CHANNELS = (4, 3), 5
WHOLE = Factors(
  np.linspace(-1, 1, CHANNELS * 3).reshape(CHANNELS, 3),
  np.linspace(0, 1, 24).reshape(12, 2),
  GRID,
  {
    'layer': 3,
    'sha256': 'a' * 64,
    'source': 'generator',
    'samples': 10,
    'history': [{'iteration': 1, 'error': 0.5}],
    'generator': {'path': None, 'layer': 3, 'seed': 0, 'samples': 10, 'labels': [1, 2], 'truncation': 0.7},
  },
  np.ones((1, CHANNELS), np.float32),
)


@dataclasses.dataclass(frozen=True)
class Format:
  """A kind of file.

  Attributes:
    originals: undamaged files.
    damage: makes a damaged file from an original.
    read: reads a file as a command would.
  """

  originals: tuple[bytes, ...]
  damage: Callable[[bytes, random.Random], bytes]
  read: Callable[[Path], Any]


def placed(path: Path, name: str) -> Path:
  """A folder in which the case has the name that its reader needs."""
  folder = path.parent / 'placed'
  if not (folder / name).exists():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    os.link(path, folder / name)  # the next case is written to the same file
  return folder


def read_workdir(path: Path) -> None:
  opened = open_workdir(placed(path, 'factors.npz'))
  opened.factors.part_maps()
  opened.labels_of([0, 3])
  report.title_of(path.parent, {}, opened.factors)


def read_published(path: Path) -> None:
  other = path.parent / 'placed' / 'other.npy'
  other.parent.mkdir(exist_ok=True)
  other.write_bytes(npy_bytes(WHOLE.appearances))
  for pair in ((other, path), (path, other)):
    with contextlib.suppress(InputError):
      Factors.load_published(*pair, grid=GRID)
  Factors.load_published(other, path, grid=GRID)


def read_features(path: Path) -> None:
  source = NpySource(path, GRID)
  source.take(np.arange(source.samples)[:2])
  assert sum(map(len, source.blocks(3))) == source.samples


def read_fit_record(path: Path) -> None:
  config = read_json(path, 'workdir', config_form())
  report.fit_command(path.parent, config)
  report.title_of(path.parent, config, WHOLE)


def read_summary(path: Path) -> None:
  summary = read_json(path, 'workdir', SUMMARY)
  report.heading(summary, WHOLE)
  report.settings(summary, {}, WHOLE)


def read_edit_record(path: Path) -> None:
  folder = placed(path, 'edit.json')
  report_folders.told_apart([folder], 'a')
  report_folders.made_from([folder], folder.parent)


def read_picture(path: Path) -> None:
  shown = pages.figure(path, 'a')
  if shown and 'cannot be read' not in shown:
    assert '<img' in shown


def read_zoo(path: Path) -> None:
  for name, named in zoo.read_zoo(path).items():
    try:
      edit = named.edit(WHOLE, named.factors, name)
      assert np.isfinite(edit.mask).all()
    except InputError:
      pass
    assert all(Spec.from_json(spec.to_json()) == spec for spec in named.terms)


def read_annotated(path: Path) -> None:
  for entry in annotations.read_annotated(path).values():
    entry.named('a')
    with contextlib.suppress(InputError):
      entry.factors(path.parent)


def read_choice(path: Path) -> None:
  choice = Choice.from_json(messages.checked(path.read_bytes()))
  choice.check(Offered.of(WHOLE))
  assert Choice.from_json(choice.to_json()) == choice


def read_directions(path: Path) -> None:
  folder = placed(path, directions.RECORD)
  (folder / directions.ARRAY).write_bytes(npy_bytes(np.eye(3, 4)))
  directions.load(folder)


def read_cost(path: Path) -> None:
  folder = placed(path, discovery.COST)
  if discovery.is_done(folder, {}):
    discovery.cost_of(folder)
    discovery.weights_of(folder)


def read_cell(path: Path) -> None:
  folder = placed(path, 'cell.json')
  (folder / 'cell.npz').write_bytes(npz_bytes(**dict.fromkeys(('roir', 'leakage', 'edited'), np.zeros(2))))
  cells.load_cell(folder, 'cell')


def read_description(path: Path) -> None:
  folder = placed(path, disk.DESCRIPTION)
  if not (folder / disk.WEIGHTS).exists():
    (folder / disk.WEIGHTS).symlink_to(disk.folder_of('cats64') / disk.WEIGHTS)
  disk.load_generator(folder)


def read_lock(path: Path) -> None:
  folder = path.parent / 'placed'
  folder.mkdir(exist_ok=True)
  (folder / LOCK).write_bytes(path.read_bytes())
  with locked(folder):
    pass


def values_of(path: Path) -> dict:
  """The values that a user's configuration file, which is Python, could give."""
  try:
    values = json.loads(path.read_bytes())
  except (ValueError, RecursionError):
    values = None
  return values if isinstance(values, dict) else {}


def read_config(path: Path) -> None:
  values = values_of(path)
  check_values(values, default_config())
  config = ml_collections.ConfigDict(values | {'features': str(path.parent / 'placed' / 'features.npy')})
  if not os.path.exists(config.features):
    np.save(config.features, np.ones((2, 4, 3, 5), np.float32))
  source = source_of(config)
  names = 'parts', 'appearances', 'restarts', 'batch', 'rotation', 'precision', 'max_iterations'
  check_settings(source, *(config[name] for name in names))


def read_comparison(path: Path) -> None:
  checked(values_of(path))


@functools.cache
def generator():
  """A small generator, for files that belong to one."""
  options = {'resolution': 8, 'widths': (2, 2, 2, 2), 'z_dim': 2, 'w_dim': 2, 'mapping_widths': (2,)}
  return registry.create('stylegan2', registry.options_class('stylegan2')(**options), nnx.Rngs(0))


def inversion(layer: int | None) -> bytes:
  """The latents.npz of two photographs."""
  C, H, W = generator().layers[2]
  images = np.zeros((2, 8, 8, 3), np.float32)
  found = Inversion(
    space='features' if layer else 'wplus',
    array=np.zeros((2, 4, 2), np.float32),
    labels=None,
    layer=layer,
    features=np.zeros((2, H, W, C), np.float32) if layer else None,
    rgb=np.zeros((2, H, W, 3), np.float32) if layer else None,
    skips=(),
    noise='none',
    weights=weights_digest(generator()).hexdigest(),
    images=images,
    photographs=images,
    reasons=('steps', 'converged'),
    curve=Curve(np.zeros(3), np.zeros((3, 2))),
  )
  with tempfile.TemporaryDirectory() as folder:
    save_inverted(Path(folder) / 'x', Inverted(found, ('a.png', 'b.png'), (whole((9, 9), (8, 8)),) * 2))
    return (Path(folder) / 'x').read_bytes()


def encoder() -> bytes:
  with tempfile.TemporaryDirectory() as folder:
    save_encoder(Encoder(EncoderOptions((8, 8), 3, (2,), 3, (4, 2)), nnx.Rngs(0)), Path(folder) / 'x', 'hash')
    return (Path(folder) / 'x').read_bytes()


def read_inversion(path: Path) -> None:
  inverted = load_inverted(path, generator())
  inverted.inversion.latents(generator())
  inverted.chosen([0]).inversion.psnr  # noqa: B018
  assert all(np.isfinite(placement.matrix).all() for placement in inverted.placements or ())


def read_photograph_file(path: Path) -> None:
  pixels = read_photograph(path)
  assert pixels.dtype == np.uint8
  assert whole(pixels.shape[:2], (8, 8)).crop(pixels).shape == (8, 8, 3)


def text(value: Any) -> bytes:
  return json.dumps(value).encode()


def png(mode: str, size: tuple[int, int]) -> bytes:
  buffer = io.BytesIO()
  Image.new(mode, size, 1).save(buffer, 'PNG')
  return buffer.getvalue()


def picture(kind: str) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(buffer, kind)
  return buffer.getvalue()


def formats() -> dict[str, Format]:
  """All kinds of files by name."""
  with tempfile.TemporaryDirectory() as folder:
    WHOLE.save(Path(folder) / 'f.npz')
    factors = (Path(folder) / 'f.npz').read_bytes()
    edits = (
      Spec((0, 1), 1, 2.5, threshold=0.5),
      Spec((), 0, (1.0, -1.0), mask=(1.0,) * 12),
      Spec((1,), None, 1.0, direction=(0.5,) * 5),
    )
    zoo.write_zoo(Path(folder) / 'z.json', {f'edit{i}': NamedEdit('a', 3, (x,), 'note') for i, x in enumerate(edits)})
    edits_file = (Path(folder) / 'z.json').read_bytes()
    directions.Directions('sefa', 'w', (1, 2), np.eye(3, 4), np.ones(3), 'length', {'value': np.ones(3)}).save(folder)
    found = (Path(folder) / directions.RECORD).read_bytes()
  floats = [npy_bytes(np.ones(shape, dtype)) for shape in ((2, 12, 5), (2, 4, 3, 5)) for dtype in ('f2', 'f4', 'f8')]
  small = tuple(npy_bytes(np.ones(shape)) for shape in ((3, 4), (2,), (2, 2, 2), ()))
  literal = {'parameters': [1, 2, 10.0], 'layer': 5, 'ranks': [5, 2], 'checkpoints_path': ['Us.npy', 'Uc.npy']}
  annotated = (
    f'annotated = { ({"ffhq": {"smile": literal, "eyes": literal | {"parameters": [[0, 1], [1, 2], [3, 4]]}}})!r}'
  )
  annotated = annotated.replace('[[0, 1], [1, 2], [3, 4]]', '[[0, 1], [1, 2], [3.0, 4.0]]')
  choice = Choice((0, 5), (Spec((0,), 1, 2.0), Spec((), 1, 1.0, mask=(1.0,) * 12)), truncation=0.7)
  cell = {
    'region': 'eyes',
    'label': 'a',
    'alpha': 1.0,
    'reached': True,
    'heldout': {'change': 1.0},
    'test': {'change': 1},
  }
  cell |= {'roir': dict.fromkeys(('n', 'flagged', 'mean', 'std', 'median', 'low', 'high'), 1), 'realism': None}
  cell |= {'untrimmed': {'change': 1.0, 'roir': None}, 'curve': [{'change': 1.0, 'roir': 2.0}], 'settings': {}}
  cost = {'seconds': 1.0, 'compile_seconds': 0.5, 'peak_bytes': 7, 'device_peak_bytes': None}
  cost = {'settings': {}, 'weights': 'a', 'undefined': None, 'cost': cost}
  summary = {'relative_error': 0.5, 'reason': 'converged', 'warnings': ['a'], 'seconds': {'total': 1.0}}
  summary |= {'counts': {'samples': 3}, 'part_energy': [0.5, 0.5], 'versions': {'jax': '1'}, 'devices': ['cpu']}
  record = {'settings': {'factors': 'a', 'kind': 'removal', 'edits': {'x': [{'part': [0], 'alpha': [1, -2.5]}]}}}
  record |= {'removal': {'appearance': 0, 'alpha': 2.5, 'covered_before': 0.1, 'covered_after': 0.8}, 'command': 'x'}
  record |= {'relative_error': {'global': 0.5, 'refined': 0.4}, 'arrays': {'a': [1, 2]}}
  owner = {'process': 1, 'host': 'a', 'kernel': 'b', 'since': '2026-01-01'}
  description = (disk.folder_of('cats64') / disk.DESCRIPTION).read_bytes()
  compared = json.loads(json.dumps(comparison().to_dict() | {'regions': {'eyes': [1, 2, 3, 4]}, 'generator': 'x'}))
  archive = npz_bytes(w=np.ones((1, 4, 3), np.float32)), npz_bytes(packed=True, w=np.ones(50), b=np.arange(3))
  return {
    'factors': Format((factors,), npz_or_bytes, read_workdir),
    'published': Format((npy_bytes(WHOLE.parts),), npy_or_bytes, read_published),
    'features': Format((*floats, npy_bytes(np.ones((2, 12, 5), ml_dtypes.bfloat16))), npy_or_bytes, read_features),
    'latents': Format(small, npy_or_bytes, lambda path: read_npy(path, 'latents', (2, 3))),
    'labels': Format(small, npy_or_bytes, lambda path: parsed_labels(str(path))),
    'archive': Format(archive, npz_or_bytes, lambda path: read_npz(path, 'latents')),
    'mask': Format(
      tuple(png(mode, GRID[::-1]) for mode in ('L', 'RGBA', 'P', 'I;16', '1', 'LA')),
      of_bytes,
      lambda path: masks.read_mask(path, GRID, (8, 6)),
    ),
    'picture': Format(tuple(map(picture, ('PNG', 'GIF', 'JPEG', 'WEBP'))), of_bytes, read_picture),
    'config.json': Format((text(default_config().to_dict() | {'sha256': 'a'}),), json_or_bytes, read_fit_record),
    'summary.json': Format((text(summary),), json_or_bytes, read_summary),
    'edit.json': Format((text(record),), json_or_bytes, read_edit_record),
    'zoo': Format((edits_file,), json_or_bytes, read_zoo),
    'annotated': Format((annotated.encode(),), literal_or_bytes, read_annotated),
    'choice': Format((json.dumps(choice.to_json()).encode(),), json_or_bytes, read_choice),
    'directions': Format((found,), json_or_bytes, read_directions),
    'cost': Format((text(cost),), json_or_bytes, read_cost),
    'cell': Format((text(cell),), json_or_bytes, read_cell),
    'generator.json': Format((description,), json_or_bytes, read_description),
    'lock': Format((text(owner),), json_or_bytes, read_lock),
    'config': Format((text(default_config().to_dict() | {'parts': 2}),), other_json, read_config),
    'comparison': Format((text(compared),), other_json, read_comparison),
    'inversion': Format((inversion(None), inversion(2)), npz_or_bytes, read_inversion),
    'encoder': Format((encoder(),), npz_or_bytes, load_encoder),
    'photograph': Format(tuple(map(picture, ('PNG', 'JPEG', 'WEBP', 'BMP', 'TIFF'))), of_bytes, read_photograph_file),
  }


def outcome_of(name: str, read: Callable[[Path], Any]) -> Callable[[Path], str]:
  def outcome(path: Path) -> str:
    try:
      read(path)
      return f'{name}: read'
    except InputError as error:
      said = str(error)
      assert len(said) <= LONGEST, said
      assert said.isprintable(), said
      return f'{name}: refused'

  return outcome


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--count', type=int, default=10_000, help='of all kinds together')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--only', default='', help='kinds, with commas between')
  options = parser.parse_args()
  kinds = {name: kind for name, kind in formats().items() if name in (options.only or name).split(',')}
  for name, kind in kinds.items():
    figures = fuzz(name, kind, options.count // len(kinds), options.seed)
    shown = dataclasses.asdict(figures) | {'outcomes': dict(figures.outcomes.most_common())}
    print(json.dumps(shown), flush=True)


def fuzz(name: str, kind: Format, count: int, seed: int):
  """Damages and reads `count` files of a kind, in their own folder."""
  rng = random.Random(f'{name} {seed}')
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / 'case' / 'case.npy'
    (path.parent / 'placed').mkdir(parents=True)
    return run(count, path, lambda: kind.damage(rng.choice(kind.originals), rng), outcome_of(name, kind.read))


if __name__ == '__main__':
  main()
