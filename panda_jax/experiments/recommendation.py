"""A recommended number of parts with its reason, or why it cannot be known.

The error on held-out samples falls with every further part, even if nothing is left to find. So the size of the fall
counts. If only noise is left after R parts, it has the same energy in each of the S - R remaining directions of
positions. One more part then removes one direction: 1 / (S - R) of the error. A part that finds structure removes
several times as much (our derivation; compare Wold 1978 on the same question for principal components). So the number
is the smallest beyond which no larger number that was tried removes more than `PAYS` times its share of noise. It is
known if the last parts clearly pay (`CLEAR`), since the fall fades slowly where parts overlap, and if other seeds and
both halves give the same parts.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from panda_jax.experiments.agreement import between_halves, mutual
from panda_jax.experiments.runs import Run, series

PAYS = (
  1.5  # times the share of a part under noise; on planted features it is 0.9 to 1.1 for noise, 5 to 40 for real parts
)
CLEAR = 2.5  # times this share: a smaller last gain shows that the fall fades slowly
SAME = 0.9  # runs with this mean cosine of matched parts or more found the same parts
USUAL = '8 to 16 are usual for edits'
UNKNOWN = 'No best number is known'
ALONE = f'{UNKNOWN}: no runs differ in parts alone; sweep several, such as sweep --parts=4,8,12,16 --held_out=200.'


@dataclasses.dataclass(frozen=True)
class Level:
  """The runs with one number of parts; they differ only in seed and half.

  Attributes:
    parts: R_S.
    error, held_out: of the run on all samples that fits best; `held_out` is None where it was not measured.
    seeds, halves: agreement of the parts over seeds, and of the two halves; None without runs to compare.
  """

  parts: int
  error: float
  held_out: float | None
  seeds: float | None
  halves: float | None


@dataclasses.dataclass(frozen=True)
class Recommendation:
  """A number of parts, None if it cannot be known, and the reason."""

  parts: int | None
  reason: str

  def __str__(self) -> str:
    return self.reason if self.parts is None else f'{self.parts} parts. {self.reason}'


def levels(runs: Iterable[Run]) -> list[Level]:
  """Finished runs that differ only in parts, seed and half, grouped by number of parts."""
  by_parts: dict[int, list[Run]] = {}
  for run in runs:
    by_parts.setdefault(run.parts.shape[1], []).append(run)
  found = []
  for parts, some in sorted(by_parts.items()):
    whole = [run for run in some if run.config['half'] == 'none']
    if whole:
      best = min(whole, key=lambda run: run.summary['relative_error'])
      seeds = mutual([run.parts for run in whole])
      found.append(Level(parts, best.summary['relative_error'], best.held_out, seeds, between_halves(some)))
  return found


def by_number(found: Sequence[Level], positions: int) -> tuple[list[str], list[list[str]]]:
  """A table with a row for each number of parts, as (columns, cells); see `Level`, and `gain` for the last column."""
  columns = ['parts', 'error', 'held out', 'seeds', 'halves', 'times noise']
  rows = []
  for i, level in enumerate(found):
    known = i > 0 and None not in (found[i - 1].held_out, level.held_out)
    paid = gain(found[i - 1], level, positions) if known else None
    values = [(level.error, 5), (level.held_out, 5), (level.seeds, 3), (level.halves, 3), (paid, 1)]
    rows.append([str(level.parts), *('' if value is None else f'{value:.{digits}f}' for value, digits in values)])
  return columns, rows


def gain(one: Level, more: Level, positions: int) -> float:
  """The fall of the held-out error by the further parts of `more`, divided by their fall under noise."""
  assert one.held_out is not None
  assert more.held_out is not None
  noise = one.held_out * (more.parts - one.parts) / max(1, positions - one.parts)
  return (one.held_out - more.held_out) / noise if noise else 0.0


def recommended(found: Sequence[Level], positions: int) -> Recommendation:
  """The number of parts.

  Args:
    found: by increasing numbers of parts.
    positions: S.
  """
  measured = [level for level in found if level.held_out is not None]
  if len(measured) < 2:
    missing = 'held-out samples were measured with fewer than two numbers of parts'
    return Recommendation(None, f'{UNKNOWN}: {missing}; sweep several with --held_out=N.')
  beyond = [[gain(one, more, positions) for more in measured[i + 1 :]] for i, one in enumerate(measured)]
  place = next(i for i, gains in enumerate(beyond) if max(gains, default=0.0) <= PAYS)
  chosen, numbers = measured[place], [level.parts for level in measured]
  if place == len(measured) - 1:
    before, most = numbers[-2:]
    further = min(2 * most - before, positions)
    paid = f'from {before} to {most} they explain {beyond[place - 1][0]:.1f} times what they would explain of noise'
    reason = f'{UNKNOWN} up to {most}: parts still pay, {paid}'
    return Recommendation(None, f'{reason}. {_where_they_hold(measured)}{USUAL}; or sweep --parts={further} too.')
  if place == 0 and numbers[0] > 1:
    said = f'no number beyond {numbers[0]}, the fewest that were tried, explains more than it would of noise'
    return Recommendation(None, f'{UNKNOWN}: {said}; try fewer.')
  last = beyond[place - 1][0] if place else None
  if last is not None and last < CLEAR:
    fades = f'{last:.1f} times from {numbers[place - 1]} to {chosen.parts}, {max(beyond[place]):.1f} at most beyond'
    reason = f'what parts explain falls slowly to what they would explain of noise ({fades}), as for parts that overlap'
    return Recommendation(None, f'{UNKNOWN}: {reason}. {_where_they_hold(measured)}{USUAL}.')
  held = {'with other seeds': chosen.seeds, 'in both halves of the samples': chosen.halves}
  told = {f'{where} (agreement {value:.2f})': value for where, value in held.items() if value is not None}
  weak = [words for words, value in told.items() if value < SAME]
  if weak:
    gap = place > 0 and numbers[place] - numbers[place - 1] > 1
    between = f', or are fewer: try those between {numbers[place - 1]} and {numbers[place]}' if gap else ''
    reason = f'beyond {chosen.parts} parts only noise is left, but they do not come back {" and ".join(weak)}'
    return Recommendation(None, f'{UNKNOWN}: {reason}: they overlap{between}.')
  reason = f'Further parts explain at most {max(beyond[place]):.1f} times what they would explain of noise'
  if last is not None:
    reason = f'{reason}; from {numbers[place - 1]} to {chosen.parts} they explain {last:.1f} times as much'
  holds = (
    f'The same parts come back {" and ".join(told)}.'
    if told
    else 'With one seed it is not known whether they are stable.'
  )
  return Recommendation(chosen.parts, f'{reason}. {holds}')


def of_series(runs: Iterable[Run]) -> dict[str, Recommendation]:
  """The recommendation for each series of runs, by its label."""
  return {
    label: recommended(levels(some), some[0].parts.shape[0]) for label, some in series(runs).items() if several(some)
  }


def several(runs: Iterable[Run]) -> bool:
  """Whether runs have different numbers of parts, so that a number can be chosen."""
  return len({run.config['parts'] for run in runs}) > 1


def sentences(runs: Iterable[Run]) -> list[str]:
  """The recommendation in one or more sentences for each series."""
  found = of_series(runs).items()
  return [f'{label}: {said}'.removeprefix(': ') for label, said in found] or [ALONE]


def _where_they_hold(measured: Sequence[Level]) -> str:
  """A sentence on the numbers of parts for which runs agree, for users who must choose anyway; '' if unknown."""
  told = {level.parts: [x for x in (level.seeds, level.halves) if x is not None] for level in measured}
  worst = {parts: min(values) for parts, values in told.items() if values}
  if not worst:
    return ''
  again = {'with other seeds': 'seeds', 'in both halves of the samples': 'halves'}
  where = ' and '.join(words for words, name in again.items() if any(getattr(x, name) is not None for x in measured))
  holding = [parts for parts, value in worst.items() if value >= SAME]
  if not holding:
    return f'None of them come back {where} (mean agreement {max(worst.values()):.2f} at best). '
  if len(holding) == len(worst):
    return f'All of them come back {where} (mean agreement {min(worst.values()):.2f} or more). '
  up_to = f'{holding[-1]} parts come back {where} (mean agreement {worst[holding[-1]]:.2f})'
  after = [parts for parts in worst if parts > holding[-1]]
  return f'{up_to}, {after[0]} do not ({worst[after[0]]:.2f}). ' if after else f'{up_to}. '
