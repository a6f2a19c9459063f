"""From a command to its result: seconds of the clock and of the processor, imports, and every program compiled.

    python -m benchmarks.startup [--commands=fit_toy,edit] [--repeats=5] [--reference=FOLDER]     two hours on two cores

Each command runs as a user runs it, in its own process, first with an empty folder of compiled programs and then with
those of the first run; `fit_rank` with those of a fit of another number of parts. Yardstick: the same commands in a
clone of another commit, alternating. XLA_FLAGS is the same for all. Then each command runs twice more, observed, for
its programs (`benchmarks.programs`), and once for its imports. On a busy machine, compare processor seconds. Prints a
table, writes startup.json.
"""

import collections
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from benchmarks.machine import machine, written
from benchmarks.programs import KEYS

CLONE = Path(__file__).parents[1]
# Configurations are named by file, as commits of any age understand.
COMMANDS = {  # {TOY}, {FEATURES}: files; {FIT}, {FEW}: finished fits; {OUT}: a new folder
  'help': '--help',
  'info': 'info --generator=cats64',
  'mistake': 'fit --features={TOY} --part=3 --workdir={OUT}',
  'fit_toy': 'fit --features={TOY} --parts=3 --workdir={OUT}',
  'fit_file': 'fit --features={FEATURES} --parts=8 --workdir={OUT}',
  'fit_generator': 'fit --config=configs/cats64.py --workdir={OUT}',
  'fit_rank': 'fit --config=configs/cats64.py --parts=10 --workdir={OUT}',
  'edit': 'edit --workdir={FIT} --part=2,3 --appearance=2 --alpha=-2,0,2 --seeds=0-3 --out={OUT}',
  'remove': 'remove --workdir={FIT} --part=3 --seeds=0-3 --out={OUT}',
  'refine': 'refine --workdir={FIT} --seeds=0-3 --out={OUT}',
  'saliency': 'saliency --workdir={FIT} --appearance=0,1,2 --seeds=0-5 --out={OUT}',
  'report': 'report --workdir={FIT}',
  'catalog': 'catalog --workdir={FEW} --out={OUT}',
  'discover': 'discover --method=sefa --generator=cats64 --out={OUT}',
  'invert': f'invert --workdir={{FIT}} --images={CLONE}/docs/photographs/cat0.jpg --out={{OUT}}',
  'app': 'app --workdir={FIT} --port=0',
}
FILLED_BY = {'fit_rank': 'fit_generator'}
MISTAKES = ('mistake',)
STATES = 'empty', 'filled'
IMPORT = re.compile(r'import time: +(\d+) \|')
MOST_SHOWN = 12  # printed programs of a command; the file has all

_COMMANDS = flags.DEFINE_list('commands', list(COMMANDS), f'Which of {", ".join(COMMANDS)}.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Runs of which medians are taken.', lower_bound=1)
_REFERENCE = flags.DEFINE_string('reference', '', 'Clone of the repository at another commit.')
_OUT = flags.DEFINE_string('out', 'benchmarks/results', 'Folder of the JSON file.')


def log(text: str) -> None:
  print(text, flush=True)


class Runs:
  """Runs commands in a folder with their inputs."""

  def __init__(self, folder: Path):
    self._folder, self._count = folder, 0
    self._places = {name: str(folder / file) for name, file in (('TOY', 'toy.npy'), ('FIT', 'fit'), ('FEW', 'few'))}
    self._places['FEATURES'] = str(folder / 'sampled' / 'features.npy')

  def prepare(self, commands: list[str]) -> None:
    """Makes the input files and fits of these commands; measured runs do not use the programs compiled for them."""
    draw = np.random.RandomState(0)
    parts, shape = draw.rand(64, 3) ** 4, (32, 8, 8, 12)
    Z = np.einsum('ncr,sr->nsc', draw.randn(32, 12, 3), parts) + 0.05 * draw.randn(32, 64, 12)
    np.save(self._places['TOY'], Z.reshape(shape).astype(np.float32))
    kept = self.new()
    for place, words in (
      ('FEATURES', f'sample --generator=cats64 --seeds=0-255 --layer=5 --out={self._folder / "sampled"}'),
      ('FIT', 'fit --config=cats64 --workdir={FIT}'),
      ('FEW', 'fit --generator=cats64 --layer=5 --samples=64 --parts=2 --workdir={FEW}'),
    ):
      if any(f'{{{place}}}' in COMMANDS[name] for name in commands):
        self.timed(words, CLONE, kept)

  def new(self) -> Path:
    """The path of a new folder."""
    self._count += 1
    return self._folder / str(self._count)

  def timed(self, words: str, clone: Path, kept: Path, before: list[str] | None = None) -> tuple[float, float, str]:
    """Seconds of the clock and of the processor, and the text on stderr.

    Args:
      words: of `COMMANDS`.
      clone: the folder of the package to run.
      kept: the folder of its compiled programs.
      before: the command in place of run.py.
    """
    command = [sys.executable, *(before or ['run.py']), *words.format(OUT=self.new(), **self._places).split()]
    environment = {name: text for name, text in os.environ.items() if not name.startswith('JAX_')}
    environment |= {'PYTHONPATH': str(clone), 'XDG_CACHE_HOME': str(kept)}
    with tempfile.TemporaryFile('w+') as said:
      started = time.perf_counter()
      child = subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=said, text=True)
      serves = words.startswith('app ')
      for line in child.stdout:
        if serves and line.startswith('http'):
          seconds = time.perf_counter() - started
          child.send_signal(signal.SIGINT)
      _, status, usage = os.wait4(child.pid, 0)
      child.returncode = os.waitstatus_to_exitcode(status)
      if not serves:
        seconds = time.perf_counter() - started
      said.seek(0)
      text = said.read()
    if child.returncode != 2 * (words in map(COMMANDS.get, MISTAKES)):
      raise RuntimeError(f'{" ".join(command)} ended with {child.returncode}: {text[-500:]}')
    return seconds, usage.ru_utime + usage.ru_stime, text

  def programs(self, words: str, kept: Path) -> list[dict]:
    """The programs that one run compiles, reads and runs."""
    record = self.new()
    self.timed(words, CLONE, kept, ['-P', str(CLONE / 'benchmarks' / 'programs.py'), str(record)])
    return json.loads(record.read_text())

  def importing(self, words: str, kept: Path) -> float:
    """Seconds of imports in one run, as Python reports them."""
    said = self.timed(words, CLONE, kept, ['-X', 'importtime', 'run.py'])[2]
    return sum(int(found[1]) for found in IMPORT.finditer(said)) / 1e6


def measured(runs: Runs, name: str, clones: dict[str, Path], repeats: int) -> dict:
  """Seconds of each clone and state, and the imports and programs of this clone."""
  words, fills = COMMANDS[name], COMMANDS[FILLED_BY.get(name, name)]
  found: dict = {'command': words}
  for which, clone in [*clones.items()] * repeats:
    kept, own = runs.new(), fills == words
    for state in STATES if own else STATES[1:]:
      if not own:
        runs.timed(fills, clone, kept)
      seconds, processor, _ = runs.timed(words, clone, kept)
      row = found.setdefault(which, {}).setdefault(state, {'seconds': [], 'processor_seconds': []})
      row['seconds'].append(round(seconds, 3))
      row['processor_seconds'].append(round(processor, 3))
  kept = runs.new()
  if fills != words:
    runs.timed(fills, CLONE, kept)
  if words.startswith('-') or name in MISTAKES:
    observed = {}
  else:
    observed = {state: runs.programs(words, kept) for state in (STATES if fills == words else STATES[1:])}
  return found | {'import_seconds': round(runs.importing(words, kept), 3), 'programs': observed}


def table(name: str, found: dict, clones: dict[str, Path]) -> list[str]:
  """Lines for readers: medians, and the slowest programs."""
  lines = [f'{name}: {found["command"]}', f'  imports {found["import_seconds"]:.2f} s']
  for which in clones:
    for state, row in found[which].items():
      seconds, processor = (statistics.median(row[key]) for key in ('seconds', 'processor_seconds'))
      lines.append(f'  {which:9} {state:6} {seconds:8.2f} s  {processor:8.2f} s of the processor')
  for state, rows in found['programs'].items():
    total: dict = collections.Counter()
    for row in rows:
      total.update({key: row[key] for key in KEYS})
    lines += [f'  {state:28}' + ''.join(f'{key:>10}' for key in KEYS)]
    for row in [{'name': 'all', **total}, *rows[:MOST_SHOWN]]:
      cells = (f'{row[key]:10}' if key in ('programs', 'runs') else f'{row[key]:10.2f}' for key in KEYS)
      lines.append(f'    {row["name"][:26]:26}{"".join(cells)}')
  return lines


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  unknown = {*_COMMANDS.value} - {*COMMANDS}
  if unknown:
    raise app.UsageError(f'unknown commands {", ".join(sorted(unknown))}')
  clones = {'here': CLONE} | ({'reference': Path(_REFERENCE.value).resolve()} if _REFERENCE.value else {})
  record = machine() | {'xla_flags': os.environ.get('XLA_FLAGS', ''), 'clones': {}, 'commands': {}}
  for which, clone in clones.items():
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=clone, capture_output=True, text=True)
    record['clones'][which] = commit.stdout.strip()
  with tempfile.TemporaryDirectory() as folder:
    runs = Runs(Path(folder))
    runs.prepare(_COMMANDS.value)
    for name in _COMMANDS.value:
      found = record['commands'][name] = measured(runs, name, clones, _REPEATS.value)
      log('\n'.join(table(name, found, clones)))
      path = written(record, Path(_OUT.value) / 'startup.json')  # each time: two hours may be interrupted
  log(f'wrote {path}')


if __name__ == '__main__':
  app.run(main)
