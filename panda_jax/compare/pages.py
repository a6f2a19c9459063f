"""The pages of a comparison for readers: the table, the curves, the strips, the regions and the maps of leakage.

Letters: N samples, h, w image.
"""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from panda_jax.compare.cells import Cell
from panda_jax.compare.differences import MATCHED
from panda_jax.compare.methods import uses_fit
from panda_jax.compare.settings import ABLATIONS, CONTROLS
from panda_jax.files.access import write_atomically
from panda_jax.pictures import colours
from panda_jax.pictures.figures import middling, saved_figure, to_bytes
from panda_jax.pictures.overlays import outlined
from panda_jax.pictures.sheets import Bar, Row, draw_rows, ramp, resized, tile_size

BOLD = (
  'Bold: not distinguishable from the best of the column, at 95 % (paired bootstrap over samples), or by less than the '
  f'{100 * MATCHED:g} % to which strengths are matched can make.'
)
CHANGE_RANGE = 4  # times the target: this change has full colour on the strips

Cells = Mapping[tuple[str, str], Cell | None]


def write_pages(
  folder: Path, table: dict, found: Cells, originals: np.ndarray, mean: np.ndarray, masks: Mapping[str, np.ndarray]
) -> None:
  """Writes table.md, curves.png, strips.png, regions.png and leakage.png.

  Args:
    table: the content of table.json.
    found: {(region, method): cell or None}.
    originals: (n, h, w, channels), the unedited samples of the strips.
    mean: (h, w, channels), of many samples.
    masks: {region: (h, w) bool}.
  """
  write_atomically(folder / 'table.md', written_table(table).encode())
  draw_curves(folder / 'curves.png', table)
  draw_regions(folder / 'regions.png', originals, mean, masks)
  draw_strips(folder / 'strips.png', table, found, originals, masks)
  draw_leakage(folder / 'leakage.png', table, found, masks)


def written_table(table: dict) -> str:
  """table.md: ROIR, changes outside, realism and cost, with the meaning of the numbers."""
  regions = list(table['config']['regions'])
  by_place = {(cell['region'], cell['method']): cell for cell in table['cells']}
  target, n = table['config']['target'], table['config']['test']
  lines = [
    '# ROIR: change outside a region per change inside',
    '',
    f'Mean ± standard deviation (median) over {n} test samples, lower is better. Every edit is as strong as it takes '
    f'for a median change of {target:g} inside the region (root mean square; black to white is 2). Of each method the '
    f'best of at most {table["config"]["candidates"]} candidates and both signs is shown, chosen on '
    f'{table["config"]["heldout"]} held-out samples at the strengths that match there. "not reached": no strength of '
    f'any candidate changes the region that much. {BOLD}',
    '',
  ]
  bold = _bold(table)
  lines += _by_region(
    table, regions, lambda region, method: _roir(by_place.get((region, method)), (region, method, 'roir') in bold)
  )
  undefined = [f'{said["name"]}: {said["undefined"]}' for said in table['methods'].values() if said['undefined']]
  lines += ['', *(f'Not defined here: {line}' for line in undefined)]
  lines += _intervals(table, regions, by_place)
  lines += _outside(table, regions, by_place, bold)
  lines += _realism(table, regions, by_place)
  lines += _costs(table)
  device = table['device']
  lines += [
    '',
    f'{table["date"]}, {device["kind"]} ({device["cores"]} cores), jax {table["versions"].get("jax")}.',
    f'`{table["command"]}`' if table['command'] else '',
  ]
  return '\n'.join(lines).rstrip() + '\n'


def _bold(table: dict) -> set[tuple[str, str, str]]:
  """(region, method, measure) of each number that does not differ clearly from the best."""
  return {(said['region'], said['method'], said['measure']) for said in table['differences'] if said['same']}


def emphasised(text: str, bold: bool) -> str:
  return f'**{text}**' if bold else text


def _roir(cell: dict | None, bold: bool) -> str:
  if cell is None:
    return '-'
  roir = cell['roir']
  if not cell['reached']:
    return f'not reached ({cell["heldout"]["change"]:.3g})'
  mean = emphasised(f'{roir["mean"]:.2f}', bold)
  said = f'{mean} ± {roir["std"]:.2f} ({roir["median"]:.2f})'
  return said + (f', {roir["flagged"]} unchanged' if roir['flagged'] else '')


def _intervals(table: dict, regions: list[str], by_place: dict) -> list[str]:
  lines = [
    '',
    '## How sure, and how well matched',
    '',
    'Bootstrap interval of the mean (95 %); that of the difference from the best, on the same samples; median change '
    'inside on the test samples; that change and ROIR at the strength that the held-out samples gave, before it was '
    'brought to the target on the test samples; what was chosen.',
    '',
    '| method | region | interval | from the best | change | at the held-out strength: change, ROIR | chosen | alpha |',
    '|---|---|---|---|---|---|---|---|',
  ]
  apart = {(d['method'], d['region']): d for d in table['differences'] if d['measure'] == 'roir'}
  for method, said in table['methods'].items():
    for region in regions:
      cell = by_place.get((region, method))
      if cell is None or not cell['reached']:
        continue
      low, high = cell['roir']['low'], cell['roir']['high']
      before, difference = cell['untrimmed'], apart.get((method, region))
      is_best = difference is None or difference['best'] == method
      further = 'best' if is_best else f'{difference["low"]:+.2f} to {difference["high"]:+.2f}'
      lines.append(
        f'| {said["name"]} | {region} | {low:.2f} to {high:.2f} | {further} | {cell["test"]["change"]:.4f} | '
        f'{before["change"]:.4f}, {before["roir"]:.2f} | {cell["label"]} | {cell["alpha"]:.3g} |'
      )
  return lines


def _by_region(table: dict, regions: list[str], words: Callable[[str, str], str]) -> list[str]:
  """A row for each method, with the text `words(region, method)` for each region."""
  lines = ['| method | ' + ' | '.join(regions) + ' |', '|---|' + '---|' * len(regions)]
  for method, said in table['methods'].items():
    lines.append(f'| {said["name"]} | ' + ' | '.join(words(region, method) for region in regions) + ' |')
  return lines


def _outside(table: dict, regions: list[str], by_place: dict, bold: set) -> list[str]:
  lines = [
    '',
    '## Outside the region',
    '',
    'PSNR in decibels, SSIM, and the realism distance (below) of edited samples to the same unedited ones, at the same '
    'strength as above, with the pixels inside the region put back: what is left is what an edit does elsewhere. Means '
    'over the test samples; PSNR and SSIM are higher, the distance is lower for less change. '
    + BOLD
    + ' The distance is one number for all samples, without an interval.',
    '',
  ]

  def words(region: str, method: str) -> str:
    cell = by_place.get((region, method))
    if cell is None or not cell['reached']:
      return '-'
    found = cell['outside']
    numbers = [
      emphasised(f'{found[name]:.{digits}f}', (region, method, name) in bold)
      for name, digits in (('psnr', 1), ('ssim', 3))
      if found[name] is not None
    ]
    numbers += [] if found['realism'] is None else [f'{found["realism"]:.4f}']
    return ', '.join(numbers) or '-'

  return lines + _by_region(table, regions, words)


def _realism(table: dict, regions: list[str], by_place: dict) -> list[str]:
  if all(cell['realism'] is None for cell in table['cells']):
    return ['', 'No realism distance: the images are too small, or too few.']
  lines = [
    '',
    '## Realism',
    '',
    'panda_jax/regions/realism.py (random convolutions, principal components of unedited images, total variance 1); '
    '0 means no change. It grows with any change that all samples share, and more where they leave what the generator '
    'makes.',
    '',
  ]

  def words(region: str, method: str) -> str:
    cell = by_place.get((region, method))
    return '-' if cell is None or cell['realism'] is None else f'{cell["realism"]:.4f}'

  return lines + _by_region(table, regions, words)


def _costs(table: dict) -> list[str]:
  batch = str(table['config']['batch'])
  lines = [
    '',
    '## Cost',
    '',
    'Discovery is for all regions together: seconds of wall time, how many of them were compilation, and peak memory '
    'above that after loading. "+ PandA" needs the factors of PandA, whose cost is added to its own. An edit is given '
    'in milliseconds per image, one at a time and in batches; for edits of features, the features are given.',
    '',
    f'| method | discovery, s | of it compiling, s | peak memory, MB | edit, ms | in {batch}s, ms |',
    '|---|---|---|---|---|---|',
  ]
  for method, said in table['methods'].items():
    if said['undefined']:
      continue
    times = said['milliseconds']
    held = said['device_peak_bytes'] or said['peak_bytes']
    memory = '-' if held is None else f'{held / 1e6:,.0f}'
    seconds = f'{said["seconds"]:.1f}' + (' + PandA' if uses_fit(method) else '')
    lines.append(
      f'| {said["name"]} | {seconds} | {said["compile_seconds"]:.1f} | {memory} | {times["1"]:.2f} | '
      f'{times[batch]:.2f} |'
    )
  return lines


def draw_curves(path: Path, table: dict) -> None:
  """Mean ROIR against the median change inside, a panel for each region; ablations and controls in grey."""
  from matplotlib.ticker import LogLocator

  regions, methods = list(table['config']['regions']), list(table['methods'])
  styles = _line_styles(methods)
  columns = min(3, len(regions))
  rows = -(-len(regions) // columns)
  with saved_figure(path, 4.2 * columns, 3.4 * rows + 1.3, layout='constrained') as figure:
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axis, region in zip(axes, regions, strict=False):
      for cell in table['cells']:
        points = sorted((p['change'], p['roir']) for p in cell['curve'] if p['roir'] is not None)
        if cell['region'] == region and points:
          name = table['methods'][cell['method']]['name']
          axis.plot(*zip(*points, strict=True), label=name, **styles[cell['method']])
      axis.axvline(table['config']['target'], color=colours.FAINT, linewidth=0.8, linestyle=':')
      axis.set(title=region, xlabel='median change inside (RMS)', ylabel='ROIR, mean', yscale='log')
      for ticks, formatter, digits in (
        (axis.yaxis.set_major_locator, axis.yaxis.set_major_formatter, (1,)),
        (axis.yaxis.set_minor_locator, axis.yaxis.set_minor_formatter, (2, 3, 5)),
      ):
        ticks(LogLocator(subs=digits))
        formatter('{x:g}')
    for axis in axes[len(regions) :]:
      axis.set_axis_off()
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
      handles.values(), handles.keys(), loc='outside lower center', ncols=columns, fontsize=9, frameon=False
    )


def _line_styles(methods: list[str]) -> dict[str, dict]:
  """Colours and markers: distinct for methods, grey for ablations and controls."""
  styles, series, greys = {}, itertools.cycle(colours.MORE_SERIES), itertools.cycle('os^Dv<>')
  for method in methods:
    if method in ABLATIONS or method in CONTROLS:
      line = '--' if method in CONTROLS else '-'
      styles[method] = {
        'color': colours.FAINT,
        'marker': next(greys),
        'markersize': 3,
        'linewidth': 0.7,
        'linestyle': line,
      }
    else:
      colour, marker = next(series)
      styles[method] = {'color': colour, 'marker': marker, 'markersize': 5, 'linewidth': 1.5}
  return styles


def draw_regions(path: Path, originals: np.ndarray, mean: np.ndarray, masks: Mapping[str, np.ndarray]) -> None:
  """Every region's outline on the mean of many samples and on a few samples."""
  pictures = to_bytes(np.concatenate([mean[None], originals]))
  size = tile_size(pictures.shape[1:3], len(pictures))
  rows = []
  for name, mask in masks.items():
    big = resized(pictures, size)
    shape = resized(np.repeat((mask * np.uint8(255))[None, ..., None], 3, axis=-1), size)[0, ..., 0] > 127
    rows.append(Row(name, list(outlined(big, np.repeat(shape[None], len(big), axis=0)))))
  heads = ['mean', *(f'sample {i}' for i in range(len(originals)))]
  draw_rows(path, rows, heads, title='Regions', breaks=[1])


def draw_strips(path: Path, table: dict, found: Cells, originals: np.ndarray, masks: Mapping[str, np.ndarray]) -> None:
  """One test sample with every method, a row for each; for each region the edited image and the change."""
  regions = list(masks)
  shown = middling(originals)
  original = originals[shown]
  size = tile_size(originals.shape[1:3], 2 * len(regions))
  gain = 1 / (CHANGE_RANGE * table['config']['target'])

  def tile(image: np.ndarray) -> np.ndarray:
    return resized(to_bytes(image[None]), size)[0]

  heads, first = [], []
  for region in regions:
    shape = resized(np.repeat((masks[region] * np.uint8(255))[None, ..., None], 3, axis=-1), size)[0, ..., 0] > 127
    first += [outlined(tile(original)[None], shape[None])[0], None]
    heads += [region, 'change']
  rows = [Row('original', first)]
  for method, said in table['methods'].items():
    if said['undefined']:
      continue
    tiles: list[np.ndarray | None] = []
    for region in regions:
      cell = found[region, method]
      if cell is None:
        tiles += [None, None]
      else:
        edited = cell.arrays['edited'][shown]
        tiles += [tile(edited), tile(np.clip(gain * (edited - original), -1, 1))]
    rows.append(Row(said['name'], tiles))
  target = table['config']['target']
  note = (
    f'All edits change their region by the same amount (median {target:g}), where they reach it. Change: edited less '
    f'original, grey for none, in full from {CHANGE_RANGE * target:g}.'
  )
  draw_rows(
    path, rows, heads, title='The same sample, edited by every method', note=note, breaks=list(range(2, len(heads), 2))
  )


def draw_leakage(path: Path, table: dict, found: Cells, masks: Mapping[str, np.ndarray]) -> None:
  """Maps of the mean change by edits, a row for each method and a column for each region."""
  from matplotlib import colormaps

  regions = list(masks)
  top = max(2 * table['config']['target'], 1e-6)
  size = tile_size(next(iter(masks.values())).shape, len(regions))
  palette = ramp(colormaps[colours.DIFFERENCES])
  rows = []
  for method, said in table['methods'].items():
    if said['undefined']:
      continue
    tiles: list[np.ndarray | None] = []
    for region in regions:
      cell = found[region, method]
      if cell is None:
        tiles.append(None)
        continue
      place = np.clip(cell.arrays['leakage'] / top, 0, 1)
      big = resized(palette[np.rint(place * 255).astype(int)][None], size)
      shape = resized(np.repeat((masks[region] * np.uint8(255))[None, ..., None], 3, axis=-1), size)[0, ..., 0] > 127
      tiles.append(outlined(big, shape[None])[0])
    rows.append(Row(said['name'], tiles))
  bar = Bar('mean change (RMS over channels)', palette, {0.0: '0', 0.5: f'{top / 2:g}', 1.0: f'{top:g} or more'})
  draw_rows(path, rows, regions, title='Where each edit changes the image', bars=[bar])
