"""Checkpoints of a training by Orbax. They are atomic, so that a killed training resumes from the last one."""

import logging
from pathlib import Path

import jax
import numpy as np

from examples.train_generator.steps import TrainState
from panda_jax.errors import refusal
from panda_jax.files.stores import silent_threads

KEPT = 2


class Checkpoints:
  """The last `KEPT` states in a folder, numbered by the images seen."""

  def __init__(self, folder: Path):
    import orbax.checkpoint as ocp

    self._folder = folder.absolute()
    logging.getLogger('absl').setLevel(logging.CRITICAL)  # errors are raised, and shown once
    options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True, enable_async_checkpointing=False)
    self._manager = ocp.CheckpointManager(self._folder, options=options)

  def save(self, state: TrainState) -> None:
    """Writes the state.

    Raises:
      InputError: there is no space or no permission; the last complete checkpoint is kept.
    """
    import orbax.checkpoint as ocp

    if self._manager.latest_step() == int(state.images):
      return  # the training had already ended
    arrays = {name: np.asarray(leaf) for name, leaf in _named(state).items()}
    try:
      with silent_threads():
        self._manager.save(int(state.images), args=ocp.args.PyTreeSave(arrays), force=True)
        self._manager.wait_until_finished()
    except Exception as error:  # Orbax and TensorStore raise any error of their file layer
      raise refusal('workdir', self._folder.parent, 'the checkpoint could not be written', error) from error

  def restore(self, like: TrainState) -> TrainState | None:
    """The last state, with the structure and the devices of `like`; None if there is none.

    Raises:
      InputError: it cannot be read, or is of other networks.
    """
    import orbax.checkpoint as ocp

    step = self._manager.latest_step()
    if step is None:
      return None
    leaves, treedef = jax.tree.flatten(like)
    names = list(_named(like))
    as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
    try:
      with silent_threads():
        arrays = self._manager.restore(step, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
      saved = [arrays[name] for name in names]
      if any(array.shape != leaf.shape for array, leaf in zip(saved, leaves, strict=True)):
        raise ValueError('it is of another size')
    except Exception as error:
      remedy = 'use --overwrite to start anew'
      raise refusal('workdir', self._folder.parent, f'checkpoint {step} cannot be read', error, remedy) from error
    placed = [
      jax.device_put(array.astype(leaf.dtype), leaf.sharding) for array, leaf in zip(saved, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, placed)

  def close(self) -> None:
    self._manager.close()


def _named(state: TrainState) -> dict[str, jax.Array]:
  paths, _ = jax.tree_util.tree_flatten_with_path(state)
  return {jax.tree_util.keystr(path, simple=True, separator='.'): leaf for path, leaf in paths}
