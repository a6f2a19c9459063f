"""The fits that a user of the explorer can choose: only those that were named at its start."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panda_jax.app.engine import Engine
from panda_jax.app.film import prepare
from panda_jax.app.shelf import Shelf
from panda_jax.errors import InputError
from panda_jax.workdir.finished_fit import FinishedFit
from panda_jax.workdir.samples import Samples


class Fits:
  """Fits by name; each loads its generator when it is first chosen.

  Args:
    opened: one or more, of different folders.
    samples: the samples to show, see `Engine`; with one fit only.

  Attributes:
    folders: {name: folder}; a fit is named by its folder, or by the whole path where that is not enough.
    shelf: with the photographs of all fits.

  Raises:
    InputError: a folder is given twice, or the first fit cannot be explored.
  """

  def __init__(self, opened: Sequence[FinishedFit], samples: Samples | None = None):
    self._samples = samples
    folders = [Path(one.folder).resolve() for one in opened]
    for number, folder in enumerate(folders):
      if folder in folders[:number]:
        raise InputError('workdir', folder, 'it is given twice', 'give it once')
    bare = [folder.name for folder in folders]
    names = [str(folder) if bare.count(folder.name) > 1 else folder.name for folder in folders]
    self.folders = dict(zip(names, folders, strict=True))
    self._opened = dict(zip(names, opened, strict=True))
    self._engines: dict[str, Engine] = {}
    self.shelf = Shelf()
    self._lock, self._preparing = threading.Lock(), threading.Lock()
    self._prepared: set[str] = set()
    self.engine(self.names[0])

  @property
  def names(self) -> list[str]:
    return list(self.folders)

  def engine(self, name: Any) -> Engine:
    """The engine of a fit.

    Raises:
      InputError: there is no such fit, or it cannot be explored.
    """
    if not isinstance(name, str) or name not in self._opened:
      raise InputError(
        'fit', str(name)[:200], 'it is not one of those that this server was started with', 'load the page again'
      )
    with self._lock:
      if name not in self._engines:
        self._engines[name] = Engine(self._opened[name], self._samples, self.shelf)
      return self._engines[name]

  def prepared(self, name: Any) -> Engine:
    """The engine of a fit, after compilation of what the first edits need.

    Raises:
      InputError: as of `engine`.
    """
    engine = self.engine(name)
    with self._preparing:
      if name not in self._prepared:
        prepare(engine)
        self._prepared.add(name)
    return engine

  def number(self, name: str) -> int:
    """The number of a fit in addresses."""
    return self.names.index(name)
