"""One cell of the comparison: a method on a region, chosen on held-out samples and measured on test samples.

Letters: N samples, h, w image.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from panda_jax.compare.differences import MATCHED
from panda_jax.compare.protocol import Bench, Candidate, Samples
from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.files.arrays import npz_bytes, read_npz
from panda_jax.files.records import read_json, write_json
from panda_jax.regions import fidelity, metrics
from panda_jax.regions.realism import Embedding, frechet_distance

SHOWN = 6  # number of samples with edited images on the strips
SIGNS = 1, -1
# The form of a cell's record.
CELL = {
  'settings?': dict,
  'region': str,
  'label': str,
  'alpha': float,
  'reached': bool,
  'heldout': {'change': float},
  'test': {'change': float},
  'roir': {'flagged': int, **dict.fromkeys(('mean', 'std', 'median', 'low', 'high'), (float, None))},
  'untrimmed': {'change': float, 'roir': (float, None)},
  'realism': (float, None),
  'outside': dict.fromkeys(('psnr', 'ssim', 'realism'), (float, None)),
  'curve': [{'change': float, 'roir': (float, None)}],
}
ARRAYS = ('roir', 'psnr', 'ssim', 'leakage', 'edited')


@dataclasses.dataclass(frozen=True)
class Guard:
  """The distance of edited images from unedited ones: a Fréchet distance in the space of realism.py.

  Attributes:
    embedding: of unedited images of other seeds.
    rows: (N, dimensions), the unedited test samples in this space.
  """

  embedding: Embedding
  rows: np.ndarray

  def distance(self, rows: np.ndarray) -> float:
    """Distance of the edited test samples, as rows in the space, from the unedited ones; 0 if nothing changes."""
    return frechet_distance(self.rows, rows)


@dataclasses.dataclass(frozen=True)
class Setting:
  """The settings of a cell.

  Attributes:
    region: its name.
    mask: (h, w) bool.
    target: the median change inside that strengths are matched to.
    curve: multiples of the matched strength at which the curve is taken.
    bootstrap: number of resamples for an interval.
  """

  region: str
  mask: np.ndarray
  target: float
  curve: tuple[float, ...]
  bootstrap: int


@dataclasses.dataclass(frozen=True)
class Chosen:
  """The candidate chosen on held-out samples: its place, sign and strength; whether it reaches the target."""

  index: int
  alpha: float
  reached: bool
  change: float
  tried: list[dict]


def choose(bench: Bench, heldout: Samples, offered: list[Candidate], setting: Setting) -> Chosen:
  """The candidate and sign of the lowest mean ROIR on held-out samples, each at the strength that matches the target.

  If no candidate reaches the target, the nearest one is chosen.
  """
  tried: list[dict[str, Any]] = []
  start = 1.0  # candidates of one method need similar strengths
  for index, candidate in enumerate(offered):
    for sign in SIGNS:

      def change_at(alpha: float, candidate=candidate, sign=sign) -> np.ndarray:
        return bench.change(heldout, candidate, sign * alpha, setting.mask).rms

      match = metrics.match_strength(change_at, setting.target, start=start)
      start = match.alpha if match.reached else start
      record = {'candidate': index, 'label': candidate.label, 'sign': sign, 'alpha': sign * match.alpha}
      record |= {'change': match.change, 'reached': match.reached}
      if match.reached:
        change = bench.change(heldout, candidate, record['alpha'], setting.mask)
        record |= {'roir': _mean(change.roir), 'changed': int(np.isfinite(change.roir).sum())}
      tried.append(record)
  reached = [record for record in tried if record['reached'] and record['roir'] is not None]
  best = min(reached, key=lambda record: record['roir']) if reached else max(tried, key=lambda r: r['change'])
  return Chosen(best['candidate'], best['alpha'], best['reached'], best['change'], tried)


@dataclasses.dataclass(frozen=True)
class Cell:
  """The results of a cell: its record (JSON values) and its arrays.

  The arrays are roir, psnr and ssim (N,) of the test samples, leakage (h, w), edited (shown, h, w, channels).
  """

  record: dict[str, Any]
  arrays: dict[str, np.ndarray]

  def save(self, folder: Path, name: str) -> None:
    """Writes the record last, so that a cell with a record is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f'{name}.npz', npz_bytes(packed=True, **self.arrays))
    write_json(folder / f'{name}.json', self.record)


def load_cell(folder: Path, name: str) -> Cell | None:
  """A saved cell; None if it is missing or not complete."""
  try:
    record = read_json(folder / f'{name}.json', 'workdir', CELL)
    return Cell(record, read_npz(folder / f'{name}.npz', 'workdir', ARRAYS))
  except InputError:
    return None


def measure(
  bench: Bench, heldout: Samples, test: Samples, offered: list[Candidate], setting: Setting, guard: Guard | None
) -> Cell:
  """Chooses on held-out samples, then measures on test samples, which decide neither direction nor sign.

  The median over a few held-out samples is uncertain by some per cent. So the strength is matched to the target again
  on the test samples, and all methods are compared at the same change of the reported samples. The record also has the
  results at the held-out strength.
  """
  began = time.perf_counter()
  chosen = choose(bench, heldout, offered, setting)
  candidate = offered[chosen.index]
  untrimmed = bench.change(test, candidate, chosen.alpha, setting.mask)
  alpha, reached, at_match = chosen.alpha, chosen.reached, untrimmed
  if reached:
    sign = np.sign(chosen.alpha)

    def change_at(strength: float) -> np.ndarray:
      return bench.change(test, candidate, sign * strength, setting.mask).rms

    match = metrics.match_strength(change_at, setting.target, start=abs(chosen.alpha), tolerance=MATCHED)
    alpha, reached = sign * match.alpha, match.reached
    at_match = bench.change(test, candidate, alpha, setting.mask)
  summary = metrics.summary(at_match.roir, resamples=setting.bootstrap, seed=0)
  curve = []
  for factor in setting.curve:
    change = at_match if factor == 1 else bench.change(test, candidate, factor * alpha, setting.mask)
    curve.append(
      {
        'factor': float(factor),
        'alpha': factor * alpha,
        'change': float(np.median(change.rms)),
        'roir': _mean(change.roir),
        'roir_median': metrics.summary(change.roir, resamples=1).median,
      }
    )
  seen = _looked_at(bench, test, candidate, alpha, setting.mask, guard)
  record = {
    'region': setting.region,
    'target': setting.target,
    'candidate': chosen.index,
    'label': candidate.label,
    'alpha': alpha,
    'reached': reached,
    'heldout': {'n': len(heldout), 'alpha': chosen.alpha, 'change': chosen.change},
    'test': {'n': len(test), 'change': float(np.median(at_match.rms))},
    'roir': dataclasses.asdict(summary),
    'untrimmed': {'change': float(np.median(untrimmed.rms)), 'roir': _mean(untrimmed.roir)},
    'realism': seen.realism,
    'outside': {'psnr': _mean(seen.outside[0]), 'ssim': _mean(seen.outside[1]), 'realism': seen.realism_outside},
    'curve': curve,
    'tried': chosen.tried,
    'seconds': time.perf_counter() - began,
  }
  values = zip(ARRAYS, (at_match.roir, *seen.outside, seen.leakage), strict=False)
  return Cell(record, {name: x.astype(np.float32) for name, x in values} | {'edited': seen.edited})


def _mean(values: np.ndarray) -> float | None:
  """Mean of the values that are not NaN; None if there are none."""
  kept = values[np.isfinite(values)]
  return float(kept.mean()) if len(kept) else None


class _Seen(NamedTuple):
  """Measurements of the edited test samples.

  Attributes:
    realism: Fréchet distance to the unedited samples; None without a guard.
    realism_outside: the same, with the region's original pixels.
    outside: (2, N), see `fidelity.outside`.
    leakage: (h, w), the mean change of each pixel.
    edited: (shown, h, w, channels), a few edited samples.
  """

  realism: float | None
  realism_outside: float | None
  outside: np.ndarray
  leakage: np.ndarray
  edited: np.ndarray


def _looked_at(
  bench: Bench, test: Samples, candidate: Candidate, alpha: float, mask: np.ndarray, guard: Guard | None
) -> _Seen:
  rows: dict[str, list[np.ndarray]] = {'whole': [], 'outside': []}
  total, shown, outside = 0.0, [], []
  for first, latents in test.batches():
    count = min(test.size, len(test) - first)
    original, edited = test.original(first, latents), bench.applier.images(test, first, latents, candidate, alpha)
    outside.append(fidelity.outside(original, edited, mask, bench.size)[:, :count])
    original, edited = (np.asarray(images, np.float32)[:count] for images in (original, edited))
    total = total + np.sqrt(np.mean(np.square(edited - original), axis=-1)).sum(axis=0)
    if guard is not None:
      rows['whole'].append(guard.embedding(edited))
      rows['outside'].append(guard.embedding(fidelity.restored(original, edited, mask)))
    if sum(map(len, shown)) < SHOWN:
      shown.append(edited)
  whole, beyond = (None if guard is None else guard.distance(np.concatenate(some)) for some in rows.values())
  edited = np.concatenate(shown)[:SHOWN].astype(np.float16)
  return _Seen(whole, beyond, np.concatenate(outside, axis=1), np.float32(total / len(test)), edited)
