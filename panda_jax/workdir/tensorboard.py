"""A fit for TensorBoard: the errors of each phase during the fit, and at the end parts, settings and results.

The files are in WORKDIR/tensorboard, one run for each fit, so that TensorBoard shows a sweep by the names of its runs.
The writer is tensorboardX, of the extra `tensorboard`: it needs neither TensorFlow nor PyTorch.
"""

import importlib.util
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from panda_jax.errors import InputError, refusal
from panda_jax.files.links import check_no_links_below
from panda_jax.runtime import notebook
from panda_jax.solver.fit import FitResult
from panda_jax.solver.state import SolverState

FOLDER, EVENTS = 'tensorboard', 'events.out.tfevents.*'
SIDE = 160  # pixels of a part's longer side, about
MOST_PARTS = 64  # written as images


def check_installed() -> None:
  """Raises InputError unless the extra is installed."""
  if importlib.util.find_spec('tensorboardX') is None:
    remedy = "pip install tensorboardX, or this package with its extra 'tensorboard'"
    raise InputError('tensorboard', True, 'its writer is not installed', remedy)


class Events:
  """The TensorBoard files of a fit.

  Args:
    workdir: of the fit, locked.
    settings: its configuration.

  Raises:
    InputError: they cannot be written, or a link is in their place.
  """

  def __init__(self, workdir: Path, settings: Mapping[str, Any]):
    check_no_links_below(workdir, FOLDER)
    self._folder, self._settings, self._told, self._writer = workdir / FOLDER, settings, 0, None

  def begin(self, told: int) -> None:
    """Begins, or resumes after `told` iterations; later ones in the files are dropped."""
    from tensorboardX import SummaryWriter

    try:
      if not told:
        for old in self._folder.glob(EVENTS):
          old.unlink()
      self._writer, self._told = SummaryWriter(str(self._folder), purge_step=told), told
    except OSError as error:
      raise refusal('workdir', self._folder, 'it cannot be written', error) from error

  def state(self, state: SolverState) -> None:
    """Writes the errors of the iterations since the last call."""
    for step, entry in enumerate(state.history[self._told :], start=self._told):
      self._writer.add_scalar(f'relative_error/{entry["phase"]}', entry['relative_error'], step)
      self._writer.add_scalar('samples', entry['samples'], step)
    self._told = max(self._told, len(state.history))

  def end(self, result: FitResult, summary: Mapping[str, Any]) -> None:
    """Writes parts as images, and settings and final numbers, by which TensorBoard compares runs."""
    from tensorboardX import summary as records

    for k, part in enumerate(result.factors.part_maps()[:MOST_PARTS]):
      self._writer.add_image(f'parts/{k:02}', notebook.heat(part, SIDE), self._told, dataformats='HWC')
    final = {'final/relative_error': result.relative_error}
    if 'held_out' in summary:
      final['final/held_out'] = summary['held_out']['relative_error']
    final |= {f'seconds/{name}': value for name, value in summary['seconds'].items()}
    for name, value in final.items():
      self._writer.add_scalar(name, value, self._told)
    given = {
      key: value if isinstance(value, numbers.Real | str) else str(value) for key, value in self._settings.items()
    }
    shown = {name: value for name, value in final.items() if name.startswith('final/')}
    for record in records.hparams(given, shown):
      self._writer.file_writer.add_summary(record)

  def close(self) -> None:
    """Writes the remaining events."""
    if self._writer is not None:
      self._writer.close()
