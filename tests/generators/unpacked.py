"""Reference checkpoints, compressed in tests/data, and the outputs of their original code.

Stored outputs are those of the original code, NCHW float32, lossless: images at every second pixel, and of feature
maps some channels of one sample.
"""

import atexit
import functools
import lzma
import shutil
import tempfile
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent.parent / 'data'


@functools.cache
def checkpoint(name: str) -> Path:
  """The folder of a reference checkpoint, unpacked, deleted at exit."""
  folder = Path(tempfile.mkdtemp(prefix='panda-jax-test-'))
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  for source in (DATA / name).iterdir():
    if source.suffix == '.xz':
      (folder / source.stem).write_bytes(lzma.decompress(source.read_bytes()))
    elif source.suffix == '.json':
      shutil.copy(source, folder / source.name)
  return folder


@functools.cache
def outputs(name: str) -> dict[str, np.ndarray]:
  """{key: array} of the reference outputs."""
  with np.load(DATA / name / 'reference.npz') as stored:
    return dict(stored)


def assert_image(ours, theirs: np.ndarray, tolerance: float) -> None:
  """Checks all stored pixels."""
  np.testing.assert_allclose(np.moveaxis(np.asarray(ours), -1, 1)[:, :, ::2, ::2], theirs, rtol=0, atol=tolerance)


def assert_features(ours, theirs: np.ndarray, tolerance: float) -> None:
  """Checks the stored sample and channels, with a tolerance relative to their standard deviation."""
  mine = np.moveaxis(np.asarray(ours), -1, 1)[: theirs.shape[0], : theirs.shape[1]]
  np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * theirs.std())
