"""`run.py compare` as a user runs it: on the embedded generator, each discovery in its own process."""

import json

import pytest

from tests.commands.calls import run


@pytest.mark.slow
def test_smoke_and_again(tmp_path):
  arguments = '--config=configs/compare_cats64.py:smoke', f'--workdir={tmp_path / "run"}'
  done = run('compare', *arguments)
  assert done.returncode == 0, done.stderr[-2000:]
  table = json.loads((tmp_path / 'run' / 'table.json').read_text())
  assert [cell['method'] for cell in table['cells']] == ['sefa', 'panda', 'random_part']
  assert table['methods']['panda']['peak_bytes'] > 10e6  # a process of its own can tell
  assert all(said['milliseconds']['1'] > 0 for said in table['methods'].values())
  again = run('compare', *arguments)
  assert again.returncode == 0
  assert 'discovery' not in again.stderr
  other = run('compare', *arguments, '--config.target=0.2')
  assert other.returncode == 2
  assert other.stderr.splitlines()[-1].startswith('error: --workdir=')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('--config.heldouts=3',), 'config.heldouts=3: there is no such key; did you mean heldout?'),
    (("--config.methods=('panda', 'pandas')",), 'config.methods=pandas: no such method'),
    (('--config.generator=nowhere',), 'generator=nowhere'),
  ],
)
def test_a_mistake_costs_one_line(arguments, message, tmp_path):
  done = run('compare', '--config=configs/compare_cats64.py:smoke', f'--workdir={tmp_path / "run"}', *arguments)
  assert done.returncode == 2
  assert message in done.stderr
  assert 'Traceback' not in done.stderr
