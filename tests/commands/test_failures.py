"""A failure in one of two processes of a fit: both end, with a sentence, and the fit can be resumed."""

import signal
import socket
import sys

import numpy as np
import pytest

import panda_jax
from benchmarks import kills
from panda_jax.runtime import supervision
from tests import planted
from tests.commands.calls import run
from tests.processes import ended, fit_command, run_processes, start, start_fits

pytestmark = pytest.mark.slow

SMOKE = '--config=configs/demo.py:smoke'
LOST = 'lost the others', 'broke off'  # found by JAX's runtime, or by the sum in which the process waited


def assert_one_sentence(text: str, *expected: str) -> None:
  errors = [line for line in text.splitlines() if line.startswith('error: ')]
  assert len(errors) == 1, text
  assert any(some in errors[0] for some in expected), text
  assert 'Traceback' not in text
  assert '***' not in text  # a dump contains it


@pytest.fixture(scope='module')
def features(tmp_path_factory):
  """The arguments of a fit with some steps after its first checkpoint, and its factors from one process."""
  path = tmp_path_factory.mktemp('failures') / 'z.npy'
  np.save(path, planted.structured())
  arguments = [f'--features={path}', '--parts=5', '--config.checkpoint_seconds=0.1']
  return arguments, panda_jax.fit(path, parts=5).factors


@pytest.mark.parametrize('victim', [0, 1])
def test_a_process_that_dies_ends_the_other_and_the_rerun_goes_on(features, tmp_path, victim):
  arguments, expected = features
  command = [*arguments, f'--workdir={tmp_path / "w"}']
  status, text = ended(start_fits([command, command], signals={victim: signal.SIGKILL}))[1 - victim]
  assert status == 1, text
  assert_one_sentence(text, *LOST)
  assert not (tmp_path / 'w' / 'summary.json').exists()
  # One process alone continues from the checkpoint of two, and recognises the features.
  again = run('fit', *command)
  assert again.returncode == 0, again.stderr
  assert 'going on from' in again.stderr
  planted.assert_same_factors(expected, panda_jax.Factors.load(tmp_path / 'w' / 'factors.npz'))


def test_ctrl_c_in_the_terminals_of_both_saves_and_stops_both(features, tmp_path):
  command = [*features[0], f'--workdir={tmp_path / "w"}']
  for status, text in ended(start_fits([command, command], signals={0: signal.SIGINT, 1: signal.SIGINT})):
    assert status == 130, text
    assert 'stopped by Ctrl-C; the same command goes on from the last checkpoint' in text
    assert 'Traceback' not in text
  assert not (tmp_path / 'w' / 'summary.json').exists()


def test_sigterm_to_one_process_saves_and_stops_both(features, tmp_path):
  arguments, expected = features
  command = [*arguments, f'--workdir={tmp_path / "w"}']
  done = ended(start_fits([command, command], signals={1: signal.SIGTERM}))
  assert [status for status, _ in done] == [143, 143], done
  assert not (tmp_path / 'w' / 'summary.json').exists()
  (status, text), (other, silent) = ended(start_fits([command, command]))
  assert (status, other) == (0, 0), text + silent
  assert 'going on from' in text
  assert silent == ''  # process 0 alone says something
  planted.assert_same_factors(expected, panda_jax.Factors.load(tmp_path / 'w' / 'factors.npz'))


# Seconds before the kill, at most: about the time of a fit on an idle machine, and of the rest of a fit.
@pytest.mark.parametrize(('processes', 'since', 'seconds'), [(1, 'start', 5), (2, 'checkpoint', 1)])
def test_killed_at_any_moment_the_rerun_ends_with_the_same_factors(features, tmp_path, processes, since, seconds):
  # For more kills: python -m benchmarks.kills
  arguments, expected = features
  moment, victim = np.random.default_rng().uniform(0, seconds), processes - 1
  found = kills.killed(arguments, tmp_path / 'w', processes, since, moment, victim)
  planted.assert_same_factors(expected, found['factors'])


def test_other_configurations_are_refused_by_all(tmp_path):
  commands = [[SMOKE, f'--workdir={tmp_path / "w"}', f'--parts={parts}'] for parts in (4, 5)]
  for status, text in ended(start_fits(commands)):
    assert status == 2, text
    assert_one_sentence(text, 'parts=5: process 1 has this, process 0 has 4; start all processes with the same command')
  assert not (tmp_path / 'w').exists()


def test_what_one_process_cannot_do_is_said_by_all(tmp_path):
  bad = planted.structured(30, (4, 4), 6)
  bad[25, 2, 1, 3] = np.nan  # process 1 reads this sample
  np.save(tmp_path / 'z.npy', bad)
  said = run_processes(
    2,
    """
    import resource, sys
    import jax
    from tests.commands.calls import run
    folder, me = sys.argv[1], jax.process_index()
    features = f'--features={folder}/z.npy'
    print(run('fit', features, '--parts=3', f'--workdir={folder}/nan').stderr)
    missing = f'--features={folder}/none.npy' if me else features
    print(run('fit', missing, '--parts=3', f'--workdir={folder}/none').stderr)
    if not me:  # as on a disk that has 20 kB left
      resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    print(run('fit', sys.argv[2], f'--workdir={folder}/full').stderr)
    """,
    str(tmp_path),
    SMOKE,
  )
  for text in said:
    errors = [line for line in text.splitlines() if line.startswith('error: ')]
    for error, expected in zip(
      errors, ('in sample 25: at position 9, channel 3', 'none.npy: there is no such file', 'workdir='), strict=True
    ):
      assert expected in error


def test_what_cannot_be_joined_says_so(tmp_path):
  code = "from panda_jax.runtime import processes\nprocesses.JOIN_SECONDS = 4\nprocesses.join('127.0.0.1:9', 1, 2)\n"
  fit = [*fit_command(), SMOKE, f'--workdir={tmp_path / "w"}', '--distributed']
  with socket.create_server(('', 0)) as taken:
    port = taken.getsockname()[1]
    mistakes = {
      '--coordinator=127.0.0.1:9: not all processes met there within 4 s': [sys.executable, '-c', code],
      'its port cannot be opened': [*fit, f'--coordinator=127.0.0.1:{port}', '--processes=2', '--process_id=0'],
      '--coordinator=HOST:PORT --process_id=I --processes=N': fit,
      'flag=--distributed: info has no such flag': [sys.executable, 'run.py', 'info', '--distributed'],
    }
    done = ended([start(command) for command in mistakes.values()])
  for expected, (status, text) in zip(mistakes, done, strict=True):
    assert status == 2, text
    assert_one_sentence(text, expected)


@pytest.mark.parametrize(
  ('flags', 'expected'),
  [
    (['--distributed', '--coordinator=here'], 'coordinator=here: it is not an address'),
    (
      ['--distributed', '--coordinator=a:1', '--processes=2', '--process_id=2'],
      'process_id=2: there is no such process',
    ),
    (['--processes=2'], 'processes=2: it needs --distributed'),
  ],
)
def test_flags_that_do_not_join_are_named(flags, expected, tmp_path):
  done = run('fit', SMOKE, f'--workdir={tmp_path / "w"}', *flags)
  assert done.returncode == 2
  assert_one_sentence(done.stderr, expected)


def test_decisions_are_taken_together():
  said = run_processes(
    2,
    """
    import jax, numpy as np
    from panda_jax.errors import InputError
    me = jax.process_index()
    assert processes.any_of(me == 1, False, True) == (True, False, True)
    assert processes.gathered(b'ab' * me) == [b'', b'abab'[:2]]
    own = np.arange(3 * me, dtype=np.float64).reshape(me, 3) + 1e-12  # which float32 would round
    np.testing.assert_array_equal(processes.gathered_array(own), np.arange(3.0).reshape(1, 3) + 1e-12)
    assert processes.from_first(b'x' if me == 0 else None) == b'x'
    assert processes.least(5 - me) == 4
    assert processes.on_first(lambda: me) == (0 if me == 0 else None)
    processes.agree({'jax': '0.10.2', 'parts': None})
    def fails():
      if me == 1:
        raise InputError('features', 'f.npy', 'gone', 'bring it back')
    for attempt, text in (
      (lambda: processes.together(fails), 'features=f.npy: gone'),
      (lambda: processes.agree({'jax': f'0.10.{2 + me}'}), 'jax=0.10.3: process 1 has this, process 0 has 0.10.2'),
    ):
      try:
        attempt()
      except InputError as error:
        assert text in str(error), error
        assert error.shared
      else:
        raise AssertionError(text)
    print('all well')
    """,
  )
  assert all('all well' in text for text in said)


def test_a_dump_becomes_a_sentence():
  dump = b'F1123 08:02:06.3 1 client.h:80] Terminating. absl::Status: UNAVAILABLE: gone\nmore\n*** Check failure\n'
  said = supervision._sentence('process 1 of 2', -signal.SIGABRT, dump)
  assert 'process 1 of 2 lost the others' in said
  assert '(UNAVAILABLE: gone)' in said
  assert supervision._sentence('process 1 of 2', 1, dump) == said  # some dumps end with an exit, not with a signal
  assert said.endswith('then start all processes again')
  kept = 'there is no checkpoint yet'
  assert supervision._sentence('process 1 of 2', 1, dump, kept).endswith(f'start all processes again: {kept}')
  assert 'runs out of memory' in supervision._sentence('process 1 of 2', -signal.SIGKILL, b'')
  assert '11 (SIGSEGV)' in supervision._sentence('this process', -signal.SIGSEGV, b'')
