"""Arrays that are written a batch at a time; several files together appear all or not at all."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np


class Rows:
  """A .npy file (N, ...) float32 that is written a batch at a time and appears when it is complete.

  `header` replaces numpy's plain one. The file is not mapped into memory: with a mapped file, a full disk kills the
  process without a message.
  """

  def __init__(self, path: Path, shape: tuple[int, ...], header: bytes | None = None):
    self._path, self._partial = path, path.with_name(f'.{path.name}.partial')
    self._shape, self._header = shape, header
    self._file: BinaryIO | None = None

  def _begin(self) -> BinaryIO:
    file = self._file = open(self._partial, 'wb')  # noqa: SIM115  closed by `finish` or `discard`
    if self._header is not None:
      file.write(self._header)
    else:
      np.lib.format.write_array_header_1_0(file, {'descr': '<f4', 'fortran_order': False, 'shape': self._shape})
    return file

  def add(self, batch: np.ndarray) -> None:
    file = self._begin() if self._file is None else self._file
    file.write(np.ascontiguousarray(batch, '<f4').tobytes())

  def finish(self) -> None:
    assert self._file is not None  # `add` was called
    self._file.close()
    os.replace(self._partial, self._path)

  def discard(self) -> None:
    with contextlib.suppress(OSError):  # from data that the disk refused before
      if self._file is not None:
        self._file.close()
    self._partial.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(out: Path) -> Iterator[Callable[..., Rows]]:
  """Creates files under `out`; all of them appear, or none."""
  files: list[Rows] = []

  def create(name: str, shape: tuple[int, ...], header: bytes | None = None) -> Rows:
    files.append(Rows(out / name, shape, header))
    return files[-1]

  try:
    yield create
    for file in files:
      file.finish()
  finally:
    for file in files:
      file.discard()
