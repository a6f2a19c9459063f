"""The TensorBoard files of a fit, read by TensorBoard's own reader; and the plain callback for other programs."""

import sys

import numpy as np
import pytest

import panda_jax
from tests import planted
from tests.commands.calls import run

ARGUMENTS = '--parts=2', '--held_out=6', '--config.restarts=2', '--config.max_iterations=4'


@pytest.fixture(scope='module')
def features(tmp_path_factory):
  path = tmp_path_factory.mktemp('features') / 'z.npy'
  np.save(path, planted.structured(30, (4, 4), 6))
  return path


def read(folder):
  """TensorBoard's own reader, with all that a folder holds."""
  module = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
  reader = module.EventAccumulator(str(folder), size_guidance={module.SCALARS: 0, module.IMAGES: 0})
  return reader.Reload()


# What protobuf says of its own future is not ours to mend.
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_tensorboard_finds_scalars_images_and_settings(features, tmp_path):
  pytest.importorskip('tensorboardX')
  call = 'fit', f'--features={features}', *ARGUMENTS, '--tensorboard', f'--workdir={tmp_path / "w"}'
  for more in ((), ('--overwrite',)):  # the second replaces the first
    done = run(*call, *more)
    assert done.returncode == 0, done.stderr
  found = read(tmp_path / 'w' / 'tensorboard')
  factors = panda_jax.Factors.load(tmp_path / 'w' / 'factors.npz')
  history = factors.provenance['history']
  phases = {entry['phase'] for entry in history}
  scalars = found.Tags()['scalars']
  assert {f'relative_error/{phase}' for phase in phases} <= {*scalars}
  events = [event for phase in phases for event in found.Scalars(f'relative_error/{phase}')]
  by_step = {event.step: event.value for event in events}
  assert len(events) == len(history)
  # TensorBoard keeps float32
  assert [by_step[k] for k in range(len(history))] == pytest.approx([e['relative_error'] for e in history], rel=1e-6)
  [final] = found.Scalars('final/relative_error')
  assert final.value == pytest.approx(factors.provenance['relative_error'], rel=1e-6)
  assert {'final/held_out', 'seconds/compile', 'samples'} <= {*scalars}
  assert found.Tags()['images'] == ['parts/00', 'parts/01']
  [image] = found.Images('parts/01')
  assert image.encoded_image_string.startswith(b'\x89PNG')
  assert any(
    'hparams' in name for name in found.SummaryMetadata('_hparams_/session_start_info').plugin_data.plugin_name.split()
  )


def test_without_the_extra_it_costs_one_line(features, tmp_path, monkeypatch):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  done = run('fit', f'--features={features}', *ARGUMENTS, '--tensorboard', f'--workdir={tmp_path / "w"}')
  assert done.returncode == 2
  assert done.stderr.startswith('error: --tensorboard=True: its writer is not installed; pip install tensorboardX')
  assert not (tmp_path / 'w').exists()


def test_other_programs_watch_by_a_callback(features):
  """As docs/how-to/sweeps.md tells it for wandb, here with a stand-in."""

  class Run:
    def __init__(self):
      self.logged = []

    def log(self, values):
      self.logged.append(values)

  watching = Run()
  result = panda_jax.fit(
    features, parts=2, restarts=2, max_iterations=4, on_state=lambda state: watching.log(state.history[-1])
  )
  assert watching.logged[-1] == result.history[-1]
  assert {entry['phase'] for entry in watching.logged} == {entry['phase'] for entry in result.history}
  assert 'wandb' not in sys.modules
