"""Checkpoints of the solver's state, by Orbax. They are atomic, so that a killed run resumes from the last one."""

import dataclasses
import json
import logging
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.errors import refusal
from panda_jax.files import stores
from panda_jax.files.access import read_bytes
from panda_jax.files.records import LARGEST_JSON, parsed_json
from panda_jax.runtime import processes
from panda_jax.solver import joint, secant
from panda_jax.solver.state import MEMORY, SolverState

COPIES = 64  # of P in a state: P, earlier ones, and the memory of extrapolation
ANEW = 'use --overwrite to start again'
INFO = {  # the form of the values saved beside the arrays
  'level': int,
  'phase': str,
  'samples': int,
  'mode': str,
  'seconds': float,
  'store': str,
  'budget': int,
  'remembered': int,
  'history': [{'iteration': int, 'phase': str, 'samples': int, 'seconds': float, 'relative_error': float}],
}


def _fields(inner: joint.JointState) -> dict:
  found = {field.name: getattr(inner, field.name) for field in dataclasses.fields(inner)}
  return found | {'memory': inner.memory._asdict()}


def _parts(state: SolverState) -> tuple[dict, dict]:
  """The arrays of a state, and the rest of it as JSON values."""
  info = {
    'level': state.level,
    'phase': state.phase,
    'samples': state.samples,
    'mode': state.mode,
    'seconds': state.seconds,
    'history': state.history,
    'store': state.store,
    'budget': state.budget,
    'remembered': 0 if state.tried is None else len(state.tried),
  }
  arrays = jax.tree.map(np.asarray, _fields(state.inner))
  memory = np.zeros((2, MEMORY, *arrays['P'].shape), arrays['P'].dtype)  # the shape does not depend on their number
  if info['remembered']:
    memory[:, : info['remembered']] = state.tried, state.mapped
  return arrays | {'remembered': memory}, info


def _joined(arrays: dict, info: dict) -> SolverState:
  tried, mapped = np.asarray(arrays.pop('remembered'))[:, : info.pop('remembered')]
  arrays = jax.tree.map(jnp.asarray, arrays)
  inner = joint.JointState(**arrays | {'memory': secant.Memory(**arrays['memory'])})
  return SolverState(inner=inner, tried=tried, mapped=mapped, **info)


def packed(state: SolverState) -> bytes:
  """A state as bytes, to send to other processes."""
  from flax import serialization

  inner, info = _parts(state)
  return serialization.msgpack_serialize({'inner': inner, 'info': json.dumps(info)})


def unpacked(data: bytes) -> SolverState:
  """The inverse of `packed`. Enable float64 if it was enabled in `packed`."""
  from flax import serialization

  found = serialization.msgpack_restore(data)
  return _joined(found['inner'], json.loads(found['info']))


def largest(positions: int, channels: int, parts: int) -> int:
  """Largest number of bytes of all arrays of a state: some copies of P and X, and numbers."""
  return 8 * (COPIES * positions * parts + 4 * channels * channels) + (1 << 20)


def load() -> None:
  """Imports Orbax, so that the first checkpoint is written without delay."""
  import orbax.checkpoint  # noqa: F401


class Checkpoints:
  """Writes and reads checkpoints, and tells when the next is due; keeps the last two.

  Orbax is imported at the first use, since its import takes most of a second.
  """

  def __init__(self, folder: Path, seconds: float, largest: int):
    """`seconds`: between checkpoints. `largest`: bytes of the arrays of a state."""
    self._folder, self._seconds, self._largest = folder, seconds, largest
    self._manager, self._last = None, None

  def _open(self):
    if self._manager is None:
      import orbax.checkpoint as ocp

      logging.getLogger('absl').setLevel(logging.CRITICAL)  # errors are raised, and shown once
      self._folder.mkdir(parents=True, exist_ok=True)
      # The state is small and equal in every process, so only process 0 saves it. Others may not see the disk.
      alone = ocp.options.MultiprocessingOptions(primary_host=0)
      if processes.several():
        alone = ocp.options.MultiprocessingOptions(
          primary_host=0, active_processes={0}, barrier_sync_key_prefix='panda_jax'
        )
      options = ocp.CheckpointManagerOptions(
        max_to_keep=2, create=False, enable_async_checkpointing=False, multiprocessing_options=alone
      )
      handlers = {
        'inner': ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
        'info': ocp.JsonCheckpointHandler(multiprocessing_options=alone),
      }
      self._manager = ocp.CheckpointManager(self._folder.absolute(), options=options, item_handlers=handlers)
    return self._manager

  def due(self) -> bool:
    """Whether a save is due: the first, or the next one."""
    return self._last is None or time.monotonic() - self._last >= self._seconds

  def save(self, state: SolverState) -> None:
    """Writes the state. A failure (no space, no permission) does not change the last checkpoint."""
    import orbax.checkpoint as ocp

    inner, info = _parts(state)
    try:
      with stores.silent_threads():
        manager = self._open()
        step = (manager.latest_step() or 0) + 1
        manager.save(step, args=ocp.args.Composite(inner=ocp.args.PyTreeSave(inner), info=ocp.args.JsonSave(info)))
        manager.wait_until_finished()
    except Exception as error:  # Orbax and TensorStore raise any error of their file layer
      raise refusal('workdir', self._folder.parent, 'the checkpoint could not be written', error) from error
    self._last = time.monotonic()

  def restore(self) -> SolverState | None:
    """The last complete state, or None. Enable float64 if it was enabled when the state was saved."""
    if not self._folder.is_dir():
      return None
    import orbax.checkpoint as ocp

    try:
      manager = self._open()
      step = manager.latest_step()
    except Exception as error:  # for example for names that are not steps
      raise refusal('workdir', self._folder.parent, 'its checkpoints cannot be read', error, ANEW) from error
    if step is None:
      return None
    empty = joint.begin(np.zeros((1, 1)), np.zeros((1, 1)))  # sizes come from the file
    structure = _fields(empty) | {'remembered': 0}
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), structure)
    try:
      stores.stored(self._folder / str(step) / 'inner', self._largest)  # else Orbax trusts the sizes in the files
      parsed_json(read_bytes(self._folder / str(step) / 'info' / 'metadata', 'workdir', ANEW, LARGEST_JSON), INFO)
      saved = manager.restore(
        step,
        args=ocp.args.Composite(inner=ocp.args.PyTreeRestore(restore_args=as_numpy), info=ocp.args.JsonRestore()),
      )
      state = _joined(saved['inner'], saved['info'])
    except Exception as error:
      raise refusal('workdir', self._folder.parent, f'checkpoint {step} cannot be read', error, ANEW) from error
    self._last = time.monotonic()
    return state

  def close(self):
    if self._manager is not None:
      self._manager.close()
