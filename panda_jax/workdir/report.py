"""report.html: everything in a workdir on a page that needs no other file, no network and no script."""

import datetime
import os
from pathlib import Path

import numpy as np

from panda_jax.errors import InputError
from panda_jax.files.access import write_atomically
from panda_jax.files.records import read_json
from panda_jax.pictures import pages
from panda_jax.runtime import notebook
from panda_jax.solver.factors import Factors, digest_of
from panda_jax.workdir import suggestions
from panda_jax.workdir.config import FLAGS, config_form, default_config
from panda_jax.workdir.finished_fit import SUMMARY
from panda_jax.workdir.report_folders import (
  folders,
  left_out,
  made_from,
  number,
  read_record,
  records,
  short,
  told_apart,
)

REPORT = 'report.html'
MOST_PARTS = 144  # tiles of parts
TILE = 96  # least pixels of a part's tile
PLOT, SPECTRUM = 760, 960  # widths of plots in pixels


def write_report(workdir: str | os.PathLike) -> Path:
  """Writes report.html about a finished fit, and about all results made from it below the same folder.

  Args:
    workdir: of `panda-jax fit`; the page has the edits, removals, refinements and saliency maps in its folders.

  Returns:
    The path of the page, one file with its pictures in it.

  Raises:
    InputError: there is no finished fit in the folder, or the page cannot be written.
  """
  workdir = Path(workdir)
  if not os.path.isfile(workdir / 'summary.json'):
    problem = 'there is no finished fit in it' if os.path.isdir(workdir) else 'there is no such folder'
    raise InputError('workdir', workdir, problem, 'give the folder that `panda-jax fit` wrote')
  anew = 'run the fit again with --overwrite'
  summary = read_json(workdir / 'summary.json', 'workdir', SUMMARY, anew)
  config = read_record(workdir / 'config.json', config_form()) or {}
  factors = Factors.load(workdir / 'factors.npz')
  found, stale = told_apart(folders(workdir), digest_of(factors))
  edits = [folder for folder in found if folder.parent.name == 'edits']
  others = [folder for folder in found if folder not in edits]
  sections = [
    ('fit', 'Settings', settings(summary, config, factors)),
    ('error', 'Error curve', error_curve(workdir, summary)),
    ('parts', 'Parts', parts(workdir, summary, factors)),
    ('appearances', 'Appearances', appearances(workdir, factors)),
    ('edits', 'Edits', made_from(edits, workdir)),
    ('maps', 'Refinement, saliency and more', made_from(others, workdir) + left_out(stale, workdir)),
    ('commands', 'Commands', commands(workdir, config, factors, found, summary.get('strength'))),
  ]
  path = workdir / REPORT
  page = pages.page(title_of(workdir, config, factors), heading(summary, factors), sections, foot())
  write_atomically(path, page.encode())
  return path


def title_of(workdir: Path, config: dict, factors: Factors) -> str:
  made = config.get('generator') or config.get('features') or factors.provenance.get('source') or workdir.name
  layer = factors.provenance.get('layer')
  name = Path(str(made)).stem if str(made).endswith('.npy') else Path(str(made)).name
  return f'{name}: parts and appearances' + ('' if layer is None else f' at layer {layer}')


def heading(summary: dict, factors: Factors) -> str:
  counts, error = summary.get('counts', {}), summary.get('relative_error')
  pairs = [
    ('relative error', number(error)),
    ('held-out error', number(summary.get('held_out', {}).get('relative_error'))),
    ('energy explained', '' if error is None else f'{100 * (1 - error):.1f} %'),
    ('parts', factors.parts.shape[1]),
    ('appearances', factors.appearances.shape[1]),
    ('feature maps', ' by '.join(map(str, (*factors.grid, factors.appearances.shape[0])))),
    ('samples', counts.get('samples', '')),
    ('stopped', str(summary.get('reason', '')).replace('_', ' ')),
    ('seconds in all', number(summary.get('seconds', {}).get('total'), 3)),
  ]
  return pages.facts([(name, value) for name, value in pairs if value != ''])


def foot() -> str:
  today = datetime.date.today().isoformat()
  return pages.paragraph(
    f'Written on {today} by panda-jax. Indices count from 0; rows and columns are of feature maps.'
  )


def settings(summary: dict, config: dict, factors: Factors) -> str:
  """The features and settings of the fit; settings that differ from the defaults stand out."""
  defaults = default_config().to_dict()
  rows = [[key, short(value), short(defaults[key])] for key, value in config.items() if key in defaults]
  changed = [config[key] != defaults[key] for key in config if key in defaults]
  rows = [row for _, row in sorted(zip(changed, rows, strict=True), key=lambda pair: not pair[0])]
  changed.sort(reverse=True)
  seconds = [[name, f'{value:.3g}'] for name, value in summary.get('seconds', {}).items()]
  versions = [[name, value] for name, value in summary.get('versions', {}).items()]
  origin = [
    ['factors, SHA-256', digest_of(factors)],
    ['data, SHA-256', factors.provenance.get('sha256', '')],
    ['devices', ', '.join(summary.get('devices', []))],
  ]
  said = summary.get('warnings', [])
  shown, left = rows[: sum(changed)], [row[:2] for row in rows[sum(changed) :]]
  chosen = [pages.table(shown, ('setting', 'value', 'default'), [True] * len(shown)) if shown else '']
  if left:
    chosen.append(pages.details('What was left at its default', pages.table(left, ('setting', 'default'))))
  if said:
    chosen += ['<h3>Notes of the fit</h3>', pages.notes(said)]
  spent = [pages.table(seconds, ('seconds', '')) if seconds else '']
  spent.append(pages.details('Versions and hashes', pages.table(origin + versions)))
  return pages.columns(''.join(chosen), ''.join(spent))


def error_curve(workdir: Path, summary: dict) -> str:
  error = number(summary.get('relative_error'))
  return pages.figure(
    workdir / 'convergence.png',
    f'Relative error against seconds, ending at {error}',
    'Relative error against seconds, without compilation. Errors on subsets, with which fits begin, are drawn apart.',
    PLOT,
  )


def part_tile(part: np.ndarray) -> bytes:
  """A PNG of one part (H, W), several pixels for each position; exact zeros are white."""
  return notebook.png(notebook.heat(part, TILE))


def parts(workdir: Path, summary: dict, factors: Factors) -> str:
  """A tile for each part, and all parts over samples."""
  energy = summary.get('part_energy') or []
  tiles = []
  for k, part in enumerate(factors.part_maps()[:MOST_PARTS]):
    name = f'part {k}'
    if part.max() > 0:
      row, column = np.unravel_index(int(part.argmax()), part.shape)
      share = f'energy {100 * energy[k]:.1f} %' if k < len(energy) else ''
      said = [share, f'peak at {row}, {column}']
    else:
      said = ['dead: all zero']
    source = pages.address(part_tile(part), 'png')
    lines = '<br>'.join(pages.text(line) for line in said if line)
    tiles.append(
      f'<div><img src="{source}" alt="{pages.text(name)}, {part.shape[0]} by {part.shape[1]} positions">'
      f'<span><strong>{name}</strong><br>{lines}</span></div>'
    )
  count = factors.parts.shape[1]
  more = '' if count <= MOST_PARTS else f' The first {MOST_PARTS} of {count} are shown.'
  said = (
    'Where: each part divided by its largest entry; darker is larger, white exactly zero. Peaks are at row, column.'
  )
  return ''.join(
    [
      pages.paragraph(said + more),
      f'<div class=tiles>{"".join(tiles)}</div>',
      pages.figure(
        workdir / 'overlay.png',
        'Parts in colour over samples, with their numbers',
        "Parts over the first samples of the fit, a few to a row. Outlines run at half of a part's largest entry.",
      ),
    ]
  )


def appearances(workdir: Path, factors: Factors) -> str:
  A = factors.appearances
  dead = np.flatnonzero(~np.any(A != 0, axis=0)).tolist()
  said = f'What: {A.shape[1]} directions in {A.shape[0]} channels, most energy first.'
  said += f' Dead: {short(dead)}.' if dead else ''
  return ''.join(
    [
      pages.paragraph(said),
      pages.figure(
        workdir / 'spectrum.png',
        'Energy of each appearance, and the eigenvalues of W',
        'Left: the share of the energy that each appearance carries. Right: 1 leaves its direction as it is.',
        SPECTRUM,
      ),
      pages.figure(
        workdir / 'saliency.png',
        'Coordinates of the first appearances over samples',
        'Where on samples each of the first appearances is above (red) or below (blue) its mean over them.',
      ),
    ]
  )


def fit_command(workdir: Path, config: dict) -> str:
  """The command that repeats the fit."""
  defaults = default_config().to_dict()
  words = []
  for key, value in config.items():
    if key in defaults and value != defaults[key]:
      flag = key if key in FLAGS else f'config.{key}'
      words.append(f'--{flag}={value}')
  return suggestions.typed('fit', [*words, f'--workdir={workdir}'])


def commands(workdir: Path, config: dict, factors: Factors, found: list[Path], strength: object) -> str:
  """The commands that make everything on the page again, and further commands."""
  usable = isinstance(strength, int | float) and strength is not True and 0 < strength < np.inf
  strength = strength if usable else suggestions.USUAL
  lines = [fit_command(workdir, config)]
  lines += [str(said['command']) for said in map(records, found) if said.get('command')]
  following = suggestions.commands(workdir, factors, strength)
  report = following.pop('report')
  again = pages.paragraph('To make what is on this page again:') + pages.command([*lines, report])
  if factors.provenance.get('generator') is None:
    return again
  return again + pages.paragraph('To go on from here:') + pages.command([*following.values()])
