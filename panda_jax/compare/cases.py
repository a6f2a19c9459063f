"""Several comparisons with one protocol: generators, layers or regions that a configuration lists, in one table.

Each case is a whole comparison in a folder of its own, see run.py. It has the configuration's values, except those that
the case changes. The table has a column for each case, since results may differ between generators.
"""

import itertools
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from panda_jax.compare.cells import load_cell
from panda_jax.compare.differences import MATCHED, MEASURES, differences
from panda_jax.compare.pages import BOLD, emphasised
from panda_jax.compare.run import CELLS, OURS, RECORD, TABLE, check_fits, checked, compare_into
from panda_jax.errors import InputError, nearest, refusal
from panda_jax.files.access import write_atomically
from panda_jax.files.links import check_no_links
from panda_jax.files.lock import LOCK
from panda_jax.files.records import write_json

CASES = 'cases'
NAME = re.compile(r'\w[\w.+=, -]{0,79}')
FILES = (TABLE, 'table.md')
TITLES = {  # and number of digits
  'roir': ('ROIR', 2),
  'psnr': ('PSNR outside the region, decibels', 1),
  'ssim': ('SSIM outside the region', 3),
}
# For differences of means over regions. For ROIR they are differences of its logarithm.
OF_MEANS = {**MEASURES, 'roir': MEASURES['roir']._replace(slack=lambda best: math.log1p(MATCHED))}


def cases_of(config: dict) -> dict[str, dict]:
  """The checked configuration of each case; {} if there are no cases.

  Raises:
    InputError: the name of a case is not a folder name, or a case changes an unknown key or gives a wrong value.
  """
  base, found = {key: value for key, value in config.items() if key != CASES}, {}
  for name, changes in config[CASES].items():
    if not NAME.fullmatch(name):
      raise InputError(
        f'config.{CASES}', name, 'it cannot be the name of a folder', 'give letters, digits, spaces and -_.+=,'
      )
    if not isinstance(changes, Mapping):
      raise InputError(f'config.{CASES}', name, 'it is not a dict of keys', "give {'layer': 3}, for example")
    for key in changes:
      if key not in base:
        raise InputError(f'config.{CASES}', f'{name}: {key}', 'there is no such key', nearest(str(key), base))
    found[name] = checked({**base, **changes, CASES: {}})
  return found


def compare_cases(
  workdir: str | os.PathLike,
  config,
  *,
  generators: Mapping[str, Any] | None = None,
  overwrite: bool = False,
  command: str = '',
) -> dict[str, dict]:
  """Runs the comparison of each case into a folder of its name, and writes table.md and table.json of all.

  Args:
    workdir: folder; earlier work with the same settings in it continues.
    config: as of `default_config`, with `cases`.
    generators: {case: an object}, in place of a generator's folder.
    overwrite, command: as of `compare_into`.

  Returns:
    {case: the content of its table.json}.

  Raises:
    InputError: there are no cases, one does not fit, or the folder holds other work.
    Interrupted: by Ctrl-C or SIGTERM; the same call continues the work.
  """
  workdir, generators = Path(workdir), generators or {}
  config = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
  cases = cases_of(config)
  if not cases:
    raise InputError(f'config.{CASES}', '{}', 'there is nothing to compare', 'see configs/compare_cats64.py')
  for name, case in cases.items():
    check_fits(case, generators.get(name))  # before another case runs for hours
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    check_no_links(workdir, (*FILES, RECORD, '.*.tmp'))
    there = sorted({*os.listdir(workdir)} - {LOCK, *cases})
    own = os.path.lexists(workdir / RECORD) and not {*OURS} & {*there}
    if not overwrite and there and not own:
      problem = f'{there[0]} is there, and is not of a comparison of several cases'
      raise InputError('workdir', workdir, problem, 'choose another folder or use --overwrite')
    write_json(workdir / RECORD, {**config, CASES: {name: dict(changes) for name, changes in config[CASES].items()}})
  except OSError as error:
    raise refusal('workdir', workdir, 'it cannot be written', error) from error
  tables = {
    name: compare_into(workdir / name, case, generator=generators.get(name), overwrite=overwrite, command=command)
    for name, case in cases.items()
  }
  joined = joined_of(workdir, tables)
  write_json(workdir / TABLE, {'command': command, 'cases': joined})
  write_atomically(workdir / FILES[1], written(joined, command).encode())
  return tables


def joined_of(workdir: Path, tables: Mapping[str, dict]) -> dict[str, dict]:
  """For each case its generator, layer, regions and target, and for each method the means over regions.

  For ROIR the mean is geometric, since regions differ by factors. A method that misses the target in some region has no
  means. `same` lists the measures in which the method and the best do not differ clearly, by these means.
  """
  return {name: _case(workdir / name / CELLS, table) for name, table in tables.items()}


def _case(folder: Path, table: dict) -> dict:
  config, methods = table['config'], table['methods']
  reached = {(cell['region'], cell['method']) for cell in table['cells'] if cell['reached']}
  missing = {method: [r for r in config['regions'] if (r, method) not in reached] for method in methods}
  values: dict[str, dict[str, np.ndarray]] = {measure: {} for measure in MEASURES}
  for method in methods:
    cells = [] if missing[method] else [load_cell(folder, f'{method}-{region}') for region in config['regions']]
    for measure in MEASURES if cells else ():
      rows = np.stack([np.float64(cell.arrays[measure]) for cell in cells if cell is not None])
      with np.errstate(divide='ignore'):  # samples without change outside are left out, as those without change inside
        values[measure][method] = (np.log(rows) if measure == 'roir' else rows).mean(axis=0)
  apart = {measure: differences(values[measure], OF_MEANS[measure], config['bootstrap']) for measure in MEASURES}
  rows = {}
  for method, said in methods.items():
    row = {'name': said['name'], 'undefined': said['undefined'], 'not_reached': missing[method]}
    row |= {measure: _mean(values[measure].get(method), measure) for measure in MEASURES}
    row['same'] = [measure for measure in MEASURES if method in apart[measure] and apart[measure][method].same]
    rows[method] = row
  return {**{key: config[key] for key in ('generator', 'layer', 'regions', 'target')}, 'methods': rows}


def _mean(values: np.ndarray | None, measure: str) -> float | None:
  if values is None or not np.isfinite(values).any():
    return None
  mean = float(values[np.isfinite(values)].mean())
  return math.exp(mean) if measure == 'roir' else mean


def written(joined: Mapping[str, dict], command: str = '') -> str:
  """table.md of several cases."""
  names = {method: row['name'] for case in joined.values() for method, row in case['methods'].items()}
  lines = [
    '# Several generators, layers or regions',
    '',
    'Means over regions, and of ROIR the geometric one, at the same median change inside. The folder of each column '
    f'has its whole table, and what the numbers mean. {BOLD} "-": not defined there, or a region where no strength '
    'reaches the change.',
  ]
  for measure, (title, digits) in TITLES.items():
    lines += ['', f'## {title}', '', f'| method | {" | ".join(joined)} |', '|---|' + '---|' * len(joined)]
    for method, name in names.items():
      rows = [case['methods'].get(method, {}) for case in joined.values()]
      known = [row.get(measure) is not None for row in rows]
      texts = [
        emphasised(f'{row[measure]:.{digits}f}', measure in row['same']) if there else '-'
        for row, there in zip(rows, known, strict=True)
      ]
      lines.append(f'| {name} | {" | ".join(texts)} |')
  lines += _order(joined)
  lines += ['', f'`{command}`'] if command else []
  return '\n'.join(lines) + '\n'


def _order(joined: Mapping[str, dict]) -> list[str]:
  """Sentences on whether methods have the same order in two cases: rank correlation of their ROIR (Spearman)."""
  from scipy.stats import spearmanr

  lines = []
  for one, other in itertools.combinations(joined, 2):
    rows = [joined[case]['methods'] for case in (one, other)]
    pairs = [[some.get(method, {}).get('roir') for some in rows] for method in rows[0]]
    pairs = [pair for pair in pairs if None not in pair]
    if len(pairs) > 2:
      rank = spearmanr(*zip(*pairs, strict=True)).statistic
      lines.append(f'- {one} and {other}: {rank:.2f}, of {len(pairs)} methods.')
  return ['', '## Whether methods come in the same order', '', 'Rank correlation of ROIR.', '', *lines] * bool(lines)
