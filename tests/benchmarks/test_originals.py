"""Ours and original PyTorch code in turn, with a clone and a PyTorch that are a few lines here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from absl import app

from benchmarks import generators, originals, reference
from panda_jax.generators.stylegan3_geometry import published_widths

ROOT = Path(__file__).parents[2]
TORCH = """
from types import SimpleNamespace as S
__version__ = '0.1'
backends = S(cudnn=S(), cuda=S(matmul=S()))
class no_grad:
  def __enter__(self): pass
  def __exit__(self, *error): pass
class randn:
  def __init__(self, *shape, device): self.shape = shape
def set_num_threads(n): pass
def manual_seed(seed): pass
"""
NETWORKS = """
import os, time, torch
from pathlib import Path
class Weight:
  def numel(self): return 7
class Generator:
  def __init__(self, img_resolution, img_channels, **more):
    self.shape, self.hooks, self.calls = (img_channels, img_resolution, img_resolution), [], 0
  def eval(self): return self
  def to(self, device): return self
  def modules(self): return [self]
  def parameters(self, recurse): return [Weight()]
  def register_forward_hook(self, hook):
    self.hooks.append(hook)
    return self
  def remove(self): self.hooks = []
  def __call__(self, z, c, noise_mode):
    assert c is None and noise_mode == 'const'
    for hook in self.hooks: hook(self)
    self.calls += 1
    if self.calls == 2:  # the last, if seconds is 0
      with (Path(__file__).parent / 'log').open('a') as log: log.write('theirs\\n')
    z.shape = (z.shape[0], *self.shape)
    return z
"""
OPTIONS = generators.options_of('stylegan2', 256)[1]


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'torch.py').write_text(TORCH)
  (tmp_path / 'training').mkdir()
  (tmp_path / 'training' / 'networks_stylegan2.py').write_text(NETWORKS)
  return tmp_path


@pytest.fixture
def clone(folder):
  return originals.Clone.checked(folder, sys.executable)


def measured(clone, **changes):
  """The rows that are kept of two rounds of two batches, and the number that failed."""
  log, kept, seconds = clone.folder / 'training' / 'log', [], iter((4.0, 2.0, 6.0, 8.0))

  def ours(run):
    with log.open('a') as file:
      file.write('ours\n')
    shape = [run.batch, run.resolution, run.resolution, 3]
    return {'seconds': next(seconds), 'device': 'cpu', 'weights': 7, 'shape': shape} | changes

  runs = [originals.Run('stylegan2', 256, OPTIONS, batch) for batch in (1, 4)]
  return kept, originals.compare(clone, runs, ours, seconds=0, rounds=2, keep=kept.append), log.read_text().split()


def test_ours_and_theirs_alternate_and_the_best_counts(clone, capsys):
  kept, failed, log = measured(clone)
  assert failed == 0
  assert log == ['ours', 'theirs'] * 4
  assert [(row['case'], row['batch'], row['dtype']) for row in kept] == [
    ('stylegan2', 1, 'float32'),
    ('stylegan2', 4, 'float32'),
  ]
  assert [row['ours']['ms_per_image'] for row in kept] == [2000, 1500]
  for row in kept:
    assert len(row['theirs']['seconds']) == 2
    assert row['theirs']['ms_per_image'] == pytest.approx(1e3 * min(row['theirs']['seconds']) / row['batch'])
    assert row['ratio'] == pytest.approx(row['theirs']['ms_per_image'] / row['ours']['ms_per_image'])
    assert row['reference_versions']['torch'] == '0.1'
    assert row['versions']['jax']
    assert row['processor']
  json.dumps(kept)
  assert not [*clone.folder.rglob('__pycache__')]
  said = capsys.readouterr()
  lines = [line.split() for line in said.out.splitlines()]
  assert [line[:3] for line in lines[1:]] == [['stylegan2-256', '1', '2000.0'], ['stylegan2-256', '4', '1500.0']]
  assert 'theirs / ours' in said.out
  assert ('load average' in said.err) == (kept[0]['load_average_before'][0] > originals.QUIET)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [({'weights': 8}, 'weights: ours 8, theirs 7'), ({'shape': [1, 128, 128, 3]}, 'image: ours')],
)
def test_other_networks_are_not_compared(clone, capsys, changes, said):
  kept, failed, _ = measured(clone, **changes)
  assert (kept, failed) == ([], 2)
  assert capsys.readouterr().out.count(f'failed: {said}') == 2


def test_a_network_that_fails_is_one_line(clone, capsys):
  path = clone.folder / 'training' / 'networks_stylegan2.py'
  path.write_text(NETWORKS.replace('def eval(self): return self', "def eval(self): raise ValueError('broken')"))
  kept, failed, _ = measured(clone)
  assert (kept, failed) == ([], 2)
  assert capsys.readouterr().out.count('failed: ValueError: broken\n') == 2


@pytest.mark.parametrize('case', reference.NETWORKS)
@pytest.mark.parametrize('which', generators.SETS)
def test_theirs_are_asked_for_our_sizes(case, which):
  resolution = generators.CASES[case][generators.SETS.index(which)]
  _, options = generators.options_of(case, resolution)
  asked = json.loads(reference.request(case, options, 2, 1.0, 3, 'cpu'))
  arguments = asked['arguments']
  assert (asked['z'], asked['threads'], asked['device']) == ([2, options.z_dim], 3, 'cpu')
  assert resolution in (arguments.get('resolution'), arguments.get('img_resolution'))
  if case.startswith('stylegan3'):
    base, most = arguments['channel_base'], arguments['channel_max']
    assert published_widths(resolution, channel_base=base, channel_max=most) == options.widths
  elif case == 'biggan-plain':
    assert arguments['dim_z'] == options.z_dim
  else:
    base, most = (arguments[name] for name in arguments if name.endswith(('_base', '_max')))
    assert generators.widths(resolution, base, most) == options.widths


def test_what_cannot_be_compared_is_named_with_a_remedy(folder):
  def refused(match, *arguments):
    with pytest.raises(app.UsageError, match=match):
      originals.Clone.checked(*arguments)

  refused(r'--reference=.*nowhere: there is no such folder; give a clone of NVlabs', folder / 'nowhere', sys.executable)
  refused(r'has none of BigGAN\.py.*networks_stylegan3\.py; give a clone', folder / 'training', sys.executable)
  refused(r'--reference_python=nothing: it does not run \(.*\); give the path', folder, 'nothing')
  (folder / 'broken').write_text('#!/bin/sh\necho bad luck >&2\nexit 3\n')
  (folder / 'broken').chmod(0o755)
  refused(r'--reference_python=.*broken: it does not run \(bad luck\)', folder, str(folder / 'broken'))
  (folder / 'training' / 'networks_stylegan3.py').write_text('import of_the_clone\n')
  refused(
    r"networks_stylegan3\.py cannot be imported \(ModuleNotFoundError: .*of_the_clone'\); install",
    folder,
    sys.executable,
  )
  (folder / 'torch.py').write_text("raise ImportError('no\\nlibrary')\n")
  refused(r'cannot import PyTorch \(ImportError: no library\); install torch there', folder, sys.executable)


def test_cases_that_the_clone_lacks_are_refused(clone):
  assert clone.chosen(None) == clone.chosen(['stylegan2']) == ['stylegan2']
  with pytest.raises(app.UsageError, match=r'--cases=progan: --reference=.* cannot run this; give any of stylegan2'):
    clone.chosen(['stylegan2', 'progan'])


def test_their_side_does_not_import_ours():
  code = 'import sys, benchmarks.reference; print(*sorted({name.partition(".")[0] for name in sys.modules}))'
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
  assert not {'jax', 'flax', 'numpy', 'absl', 'panda_jax', 'torch'} & set(done.stdout.split())


@pytest.mark.parametrize(
  ('flag', 'said'),
  [
    ('--reference=nowhere', '--reference=nowhere: there is no such folder'),
    ('--dtypes=bfloat16', '--dtypes=bfloat16: --reference compares float32; leave --dtypes out'),
    ('--batches=1,x', "--batches: 'x' is not a number of images; give numbers such as 1,8"),
  ],
)
def test_errors_of_the_command_have_no_traceback(folder, flag, said):
  command = [sys.executable, '-m', 'benchmarks.generators', f'--reference={folder}', flag]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert done.returncode != 0
  assert said in done.stdout + done.stderr
  assert 'Traceback' not in done.stdout + done.stderr
