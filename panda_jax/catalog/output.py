"""The files of `panda-jax catalog`: edits and their names, scores of all pairs, a sheet, a page and a record."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from panda_jax.catalog import measurement, screening
from panda_jax.catalog.measurement import Scores
from panda_jax.catalog.page import page
from panda_jax.catalog.search import DEFAULTS, SIMILAR, Candidate, Found, Settings, find
from panda_jax.catalog.sheet import draw_sheet
from panda_jax.editing.zoo import CATALOG, NAMES, NamedEdit, Spec, own_names, write_names, write_zoo
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import npz_bytes
from panda_jax.files.records import write_json
from panda_jax.runtime.environment import versions
from panda_jax.workdir.finished_fit import FinishedFit
from panda_jax.workdir.folders import claimed

RECORD, SCREENED, SHEET, PAGE = 'record.json', 'screened.npz', 'catalog.png', 'catalog.html'


class Written(NamedTuple):
  """The content of the folder.

  Attributes:
    found: the edits.
    record: the content of record.json.
    files: their names.
  """

  found: Found
  record: dict[str, Any]
  files: tuple[str, ...]


def catalog_into(
  out: str | os.PathLike,
  opened: FinishedFit,
  settings: Settings = DEFAULTS,
  *,
  overwrite: bool = False,
  command: str = '',
  on_progress: Callable[[str], None] = lambda text: None,
) -> Written:
  """Finds edits of a fit; writes catalog.json, names.json, screened.npz, catalog.png, catalog.html and record.json.

  Names that somebody changed in the names.json that is there are kept.

  Args:
    out: folder. One that holds a catalog with other settings is refused without `overwrite`.
    opened: a fit with a generator.
    settings: how much is looked at.
    command: for the record.
    on_progress: told what is being done.

  Raises:
    InputError: as of `find`; or another catalog is there, its names.json is damaged, or files cannot be written.

  Example:
    >>> from panda_jax.catalog import Settings, catalog_into
    >>> from panda_jax.workdir.finished_fit import FinishedFit
    >>> opened = FinishedFit(factors, quarters, layer=1)
    >>> few = Settings(screened=4, measured=4, heldout=4, unedited=4, pairs=2, top=1, random=1)
    >>> catalog_into('catalog', opened, few).files
    ('catalog.json', 'names.json', 'catalog.html', 'catalog.png', 'screened.npz', 'record.json')
  """
  out, started = Path(out), time.perf_counter()
  fixed = {
    'factors': opened.digest_factors,
    'weights': opened.digest_weights(),
    'layer': opened.layer,
    **dataclasses.asdict(settings),
    'levels': list(measurement.LEVELS),
    'limit': measurement.LIMIT,
    'flat': measurement.FLAT,
    'similar': SIMILAR,
    'region': screening.REGION,
    'probes': screening.PROBES,
  }
  with claimed(out, RECORD, fixed, 'another catalog is', overwrite, marker=CATALOG, replaced=(RECORD,)):
    own = own_names(out, opened.digest_factors)
    found = find(opened, settings, on_progress)
    on_progress('writing')
    zoo = {one.name: _named(one, found, opened) for one in found.edits}
    names = {name: entry.title for name, entry in zoo.items()} | own
    R_S, R_C = found.screened.score.shape
    record = {
      'settings': fixed,
      'pairs': R_S * R_C,
      'measured_edits': found.measured,
      'kept_edits': len(found.edits),
      'dead_parts': sorted({*range(R_S)} - {*opened.factors.live_parts}),
      'compilations': found.compilations,
      'seeds': {name: f'{first} to {first + count - 1}' for name, (first, count) in found.seeds.items()},
      'random': {one.name: _scores(one, found) for one in found.random},
      'seconds': round(time.perf_counter() - started, 1),
      'command': command,
      'versions': versions(),
    }
    write_zoo(out / CATALOG, zoo)
    write_names(out / NAMES, names)
    screened = {name: x.astype(np.float32) for name, x in found.screened._asdict().items()}
    write_atomically(out / SCREENED, npz_bytes(**screened))
    draw_sheet(out / SHEET, found, opened)
    write_atomically(out / PAGE, page(found, opened, record, names, out / CATALOG).encode())
    write_json(out / RECORD, record)
    return Written(found, record, (CATALOG, NAMES, PAGE, SHEET, SCREENED, RECORD))


def _named(one: Candidate, found: Found, opened: FinishedFit) -> NamedEdit:
  spec = Spec((one.part,), one.appearance, one.alpha)
  note = 'found by panda-jax catalog'
  return NamedEdit(opened.digest_factors, opened.layer, (spec,), note, _scores(one, found), one.title)


def _scores(one: Candidate, found: Found) -> dict[str, Any]:
  """Scores on held-out samples, then on the samples that set the strength, then those of screening."""
  pair = one.part, one.appearance
  return {
    **_plain(one.heldout),
    'largest_useful_alpha': abs(one.alpha),
    'ended_by': one.turned.reach,
    'effects': {name: _digits(x) for name, x in (one.effects or {}).items()},
    'when_chosen': _plain(one.measured),
    'screened': {name: _digits(x[pair]) for name, x in found.screened._asdict().items()},
  }


def _plain(scores: Scores) -> dict[str, float | None]:
  return {name: _digits(x) for name, x in {**scores._asdict(), 'score': scores.score}.items()}


def _digits(x: float | None) -> float | None:
  return None if x is None else float(f'{float(x):.4g}')
