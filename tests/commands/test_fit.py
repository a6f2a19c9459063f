"""`run.py fit` as a user runs it: files, messages, exit codes, resuming after a kill, a full disk."""

import json
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import panda_jax
from panda_jax.commands import program
from panda_jax.errors import Interrupted
from panda_jax.features.sources import NpySource
from panda_jax.workdir.config import default_config
from panda_jax.workdir.fit import fit_into
from tests import planted
from tests.commands.calls import ROOT, process, run
from tests.processes import ended, fit_command, start


def test_help_names_every_command_and_the_flags_of_one():
  done = run('--help')
  assert done.returncode == 0
  for command in ('fit', 'edit', 'saliency', 'discover', 'compare'):
    assert f'\n  {command} ' in done.stdout
  done = run('fit', '--help')
  assert done.returncode == 0
  assert '--parts ' in done.stdout
  assert 'restarts' in done.stdout  # a key of the configuration
  assert '--part ' not in done.stdout  # of edits


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('cli') / 'smoke'
  done = process('fit', '--config=demo:smoke', f'--workdir={workdir}', '--published=faces', '--layer=5')
  assert done.returncode == 0, done.stderr
  return workdir, done


def test_fit_writes_every_file(finished):
  workdir, done = finished
  names = {path.name for path in workdir.iterdir()}
  assert names == {
    *('factors.npz', 'appearances.npy', 'parts.npy', 'summary.json', 'history.jsonl', 'checkpoints', 'config.json'),
    *('parts.png', 'convergence.png', 'spectrum.png'),
    *('Uc-name_faces-layer_5-rank_48.npy', 'Us-name_faces-layer_5-rank_4.npy'),
  }
  summary = json.loads((workdir / 'summary.json').read_text())
  assert set(summary['seconds']) >= {'import', 'compile', 'features', 'moments', 'solve', 'checkpoint', 'draw', 'total'}
  assert summary['reason'] in {'converged', 'stalled'}
  factors = panda_jax.Factors.load(workdir / 'factors.npz')
  np.testing.assert_array_equal(factors.parts, np.load(workdir / 'parts.npy'))
  features = np.load(ROOT / 'tests' / 'data' / 'features.npy')[:24]
  assert factors.relative_error(features) == pytest.approx(summary['relative_error'], rel=1e-5)
  assert factors.provenance['layer'] == 5
  assert factors.provenance['source'] == 'features.npy'
  history = [json.loads(line) for line in (workdir / 'history.jsonl').read_text().splitlines()]
  assert history == factors.provenance['history']
  assert re.search(
    r'features of \d+ samples, \d+ x \d+ positions, \d+ channels, held on the devices, 1 MB\n', done.stderr
  )
  assert 'budget' not in done.stderr
  assert str(ROOT) not in (workdir / 'summary.json').read_text()


def test_a_finished_fit_says_so(finished):
  workdir, _ = finished
  before = (workdir / 'factors.npz').stat().st_mtime_ns
  done = run('fit', '--config=configs/demo.py:smoke', f'--workdir={workdir}', '--layer=5')
  assert (done.returncode, done.stdout) == (0, '')
  assert 'is finished' in done.stderr
  assert (workdir / 'factors.npz').stat().st_mtime_ns == before


def test_another_configuration_is_refused_and_nothing_lost(finished, tmp_path):
  workdir, _ = finished
  before = {path.name: path.stat().st_mtime_ns for path in workdir.iterdir()}
  other = tmp_path / 'other.npy'
  np.save(other, np.load(ROOT / 'tests' / 'data' / 'features.npy')[::-1])
  for change in ('--parts=5', f'--features={other}'):
    done = run('fit', '--config=configs/demo.py:smoke', f'--workdir={workdir}', '--layer=5', change)
    assert done.returncode == 2
    assert 'another configuration' in done.stderr
    assert '--overwrite' in done.stderr
    assert 'Traceback' not in done.stderr
  assert {path.name: path.stat().st_mtime_ns for path in workdir.iterdir()} == before


MISTAKES = [
  ([], 'command: not given'),
  (['fot'], 'did you mean fit?'),
  (['fit'], 'workdir: not given'),
  (['fit', '--workdir=W'], 'features: not given'),
  (['fit', '--workdir=W', '--features=missing.npy', '--parts=2'], 'features=missing.npy: there is no such file'),
  (['fit', '--workdir=W', '--features=tests/data/features.npy'], 'parts: not given'),
  (['fit', '--workdir=W', '--features=tests/data/features.npy', '--parts=257'], 'parts=257: there are 256 positions'),
  (['fit', '--workdir=W', '--features=tests/data/features.npy', '--parts=two'], 'parts'),
  (['fit', '--workdir=W', '--center=position'], '--center=position: fit has no such flag; give --config.center=VALUE'),
  (['fit', '--workdir=W', '--partz=2'], '--partz=2: fit has no such flag; did you mean --parts?'),
  (['fit', '--workdir=W', '--config.partz=2'], 'config.partz=2: there is no such key; did you mean parts?'),
  (['fit', '--workdir=W', '--config.parts=many'], 'parts'),
  (['fit', '--workdir=W', '--config=configs/none.py'], 'configs/none.py'),
  (['fit', '--workdir=W', '--config=configs/demo.py:huge'], 'unknown size'),
  (['fit', '--workdir=/proc/nowhere', '--config=configs/demo.py:smoke'], 'workdir=/proc/nowhere: it cannot be written'),
  (['fit', '--workdir=W', '--features=tests/data/features.npy', '--parts=2', '--grid=16'], 'give --grid=H,W'),
  (['fit', 'features.npy'], 'write --name=value'),
]


@pytest.mark.parametrize(('arguments', 'text'), MISTAKES, ids=[' '.join(a) or 'nothing' for a, _ in MISTAKES])
def test_a_mistake_costs_one_line(arguments, text, tmp_path):
  done = run(*(a.replace('=W', f'={tmp_path / "w"}') for a in arguments))
  assert done.returncode == 2, done.stderr
  last = done.stderr.strip().splitlines()
  assert [line for line in last if line.startswith('error: ')] == [last[-1]]
  assert text in last[-1]
  assert 'Traceback' not in done.stderr
  assert not (tmp_path / 'w' / 'factors.npz').exists()


@pytest.mark.slow
@pytest.mark.parametrize(('number', 'code'), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_killed_or_terminated_goes_on_to_the_same_factors(number, code, tmp_path):
  np.save(tmp_path / 'z.npy', planted.structured())
  arguments = [f'--features={tmp_path / "z.npy"}', '--parts=5', '--config.checkpoint_seconds=0']
  [(status, said)] = ended([start([*fit_command(number), *arguments, f'--workdir={tmp_path / "w"}'])])
  assert status == code, said
  assert not (tmp_path / 'w' / 'summary.json').exists()
  again = run('fit', *arguments, f'--workdir={tmp_path / "w"}')
  assert again.returncode == 0, again.stderr
  assert 'going on from' in again.stderr
  expected = panda_jax.fit(planted.structured(), parts=5).factors
  planted.assert_same_factors(expected, panda_jax.Factors.load(tmp_path / 'w' / 'factors.npz'))


@pytest.mark.parametrize('code', [0, 2, 130])
def test_what_threads_die_of_is_shown_unless_a_sentence_explains(code, monkeypatch, capsys):
  def main(argv, started):
    thread = threading.Thread(target=lambda: {}['gone'])
    thread.start()
    thread.join()
    assert not capsys.readouterr().err
    return code

  for module, hook in ((threading, 'excepthook'), (sys, 'unraisablehook')):
    monkeypatch.setattr(module, hook, getattr(module, hook))  # restored after the test
  left = []
  for module, name, fake in (
    (program, 'main', main),
    (program.signals, 'ignore', lambda: None),
    (os, 'dup2', lambda *given: None),
    (os, '_exit', left.append),
  ):
    monkeypatch.setattr(module, name, fake)
  program.end([])
  assert left == [code] * (code != 0)
  assert ("KeyError: 'gone'" in capsys.readouterr().err) == (code != 2)


def test_sigterm_while_features_are_scanned_stops_at_once_and_leaves_the_way_free(tmp_path, monkeypatch):
  config = default_config()
  config.features, config.parts = str(tmp_path / 'z.npy'), 3
  np.save(config.features, planted.structured(30, (4, 4), 6))
  plain, blocks = NpySource._read, []

  def terminated(self, file, count):
    blocks.append(count)
    os.kill(os.getpid(), signal.SIGTERM)
    return plain(self, file, count)

  with monkeypatch.context() as patched:
    patched.setattr(NpySource, '_read', terminated)
    with pytest.raises(Interrupted):
      fit_into(tmp_path / 'w', config)
  assert len(blocks) <= 2  # one may have been read ahead
  assert not (tmp_path / 'w' / 'checkpoints').exists()
  assert fit_into(tmp_path / 'w', config)['counts']['samples'] == 30


@pytest.mark.slow
@pytest.mark.parametrize('kilobytes', [1, 20])
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, kilobytes):
  workdir = tmp_path / 'w'
  arguments = ('fit', '--config=configs/demo.py:smoke', f'--workdir={workdir}')
  # A limit to the size of files acts like a full disk.
  shell = f'trap "" XFSZ; ulimit -f {kilobytes}; exec "$@"'
  done = subprocess.run(
    ['bash', '-c', shell, 'bash', sys.executable, 'run.py', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 2, done.stderr
  assert done.stderr.strip().splitlines()[-1].startswith('error: --workdir=')
  assert 'Traceback' not in done.stderr
  assert not [name for name in os.listdir(workdir) if name.endswith('.tmp')]
  assert run(*arguments).returncode == 0  # with space, the same command succeeds


def test_a_source_larger_than_the_budget_is_streamed(tmp_path):
  features = tmp_path / 'z.npy'
  np.save(features, planted.structured(60, (8, 8), 16))
  options = ('--config.store=source', '--config.batch=16', '--parts=5', '--verbose')
  done = run('fit', f'--features={features}', f'--workdir={tmp_path / "w"}', *options)
  assert done.returncode == 0, done.stderr
  assert 'chosen: one batch at a time (read again for each pass)' in done.stderr
