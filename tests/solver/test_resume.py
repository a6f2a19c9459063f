"""A resumed fit ends as an uninterrupted one, to the last bit, wherever it was stopped."""

import signal
import sys

import numpy as np
import pytest

import panda_jax
from panda_jax.runtime.environment import small_matrices_in_float64
from panda_jax.workdir.checkpoints import Checkpoints, packed, unpacked
from tests import planted
from tests.processes import ended, start

FEATURES = planted.structured(150, (12, 12), 8)  # wide maps of few channels: all phases have something to do
CASES = {
  'held': ({'parts': 4}, {'search', 'joint', 'gram', 'valley'}),
  'streamed': ({'parts': 4, 'store': 'source', 'budget': 400_000, 'batch': 40}, {'search', 'joint', 'gram', 'valley'}),
  'few appearances': ({'parts': 3, 'appearances': 4, 'center': 'position'}, {'search', 'valley'}),
  'parts only': ({'parts': 3, 'joint': False}, {'search'}),
}


@pytest.mark.parametrize('case', CASES)
def test_resumed_from_any_state_it_is_the_uninterrupted_fit(case, tmp_path):
  options, phases = CASES[case]
  states = []
  whole = panda_jax.fit(FEATURES, **options, on_state=lambda state: states.append((state.phase, packed(state))))
  assert {phase for phase, _ in states} == phases
  # The first and the last state of each phase, those around the middle, where memories are full, and some at random.
  last = {phase: k for k, (phase, _) in enumerate(states)}
  first = {phase: k for k, (phase, _) in reversed([*enumerate(states)])}
  chosen = {*last.values(), *first.values(), len(states) // 3, len(states) // 2}
  chosen |= {*np.random.default_rng(0).integers(len(states), size=3).tolist()}
  for k in sorted(chosen):
    resumed = panda_jax.fit(FEATURES, **options, resume=lambda sha256, k=k: unpacked(states[k][1]))
    np.testing.assert_array_equal(resumed.factors.parts, whole.factors.parts, err_msg=f'state {k}, {states[k][0]}')
    np.testing.assert_array_equal(resumed.factors.appearances, whole.factors.appearances)
    assert (resumed.reason, resumed.relative_error, resumed.gap) == (whole.reason, whole.relative_error, whole.gap)
    errors = [[entry['relative_error'] for entry in found.history] for found in (resumed, whole)]
    assert errors[0] == errors[1]


def test_checkpoints_keep_every_bit(tmp_path):
  states = []
  with small_matrices_in_float64():
    panda_jax.fit(FEATURES, parts=4, on_state=lambda state: states.append((state.phase, packed(state))))
    for k, phase in enumerate(['search', 'joint', 'gram', 'valley']):
      kept = [data for name, data in states if name == phase][-1]
      checkpoints = Checkpoints(tmp_path / str(k), 0, 1 << 30)
      checkpoints.save(unpacked(kept))
      assert packed(checkpoints.restore()) == kept
      checkpoints.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from panda_jax.commands.program import main
from panda_jax.workdir.autosave import Saving
plain = Saving.on_state
def on_state(self, state):
  plain(self, state)
  if state.phase == sys.argv[1]:
    os.kill(os.getpid(), signal.SIGKILL)
Saving.on_state = on_state
sys.exit(main(['run.py', *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_killed_in_one_phase_after_another_it_ends_with_the_same_bits(tmp_path):
  np.save(tmp_path / 'z.npy', FEATURES)

  def fitted(phase=''):
    arguments = 'fit', f'--features={tmp_path / "z.npy"}', '--parts=4', f'--workdir={tmp_path / "w"}'
    command = [sys.executable, '-c', KILLED, phase, *arguments, '--config.checkpoint_seconds=0']
    [(status, text)] = ended([start(command)])
    assert status == (-signal.SIGKILL if phase else 0), text
    return text

  for phase in ('search', 'gram'):
    fitted(phase)
  assert 'going on from gram phase' in fitted()
  whole, killed = panda_jax.fit(FEATURES, parts=4), panda_jax.Factors.load(tmp_path / 'w' / 'factors.npz')
  np.testing.assert_array_equal(killed.parts, whole.factors.parts)
  np.testing.assert_array_equal(killed.appearances, whole.factors.appearances)
  assert killed.provenance['reason'] == whole.reason
