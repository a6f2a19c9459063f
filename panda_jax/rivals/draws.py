"""The samples that a method uses: z of one stream of random numbers, as published codes draw them, and labels."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from panda_jax.errors import InputError
from panda_jax.generators.base import label_rows
from panda_jax.generators.labels import checked, in_turn
from panda_jax.generators.registry import FAMILIES
from panda_jax.generators.structure import plain

Report = Callable[[str, int, int], None]  # name of the step, amount done, total amount


class Block(NamedTuple):
  """Some samples. The last block of a stream is padded with its last sample, so that one program serves all.

  Attributes:
    z: (n, z_dim) float32.
    labels: rows (n, num_classes), or None.
    count: number of samples without the padding.
  """

  z: np.ndarray
  labels: jax.Array | None
  count: int


class Blocks:
  """z and labels of N samples in blocks. Every pass gives the same samples; in our families, any block size does too.

  For our families z is rows of one stream of `numpy.random.RandomState(seed)`: standard normal, or truncated normal
  where the prior is. Other generators draw z by `sample(key, n)`, with a key folded from the seed for each block.

  Args:
    generator: of one of our families, plain or compiled, or with the methods of the protocol.
    samples: N.
    seed: of the stream.
    labels: class indices; sample i has labels[i mod len(labels)].
    size: samples in a block.

  Raises:
    InputError: there are no samples, the seed is not valid, or labels do not fit.
  """

  def __init__(self, generator, samples: int, seed: int, labels: Sequence[int] | None = None, size: int = 1024):
    if samples < 1:
      raise InputError('samples', samples, 'it must be positive', 'give the number of samples to draw')
    if not 0 <= seed < 2**32:
      raise InputError('seed', seed, 'a seed is a number from 0 to 2**32 - 1', 'give another')
    self.generator, self.samples, self.seed = plain(generator), int(samples), int(seed)
    self.size = min(self.samples, size)
    self._labels = None if labels is None else checked(labels)
    self._ours = getattr(self.generator, 'family', None) in FAMILIES
    if self._ours or labels is not None:
      self._rows(0, 1 if labels is None else len(self._labels))  # labels that do not fit raise before anything runs

  def _rows(self, first: int, count: int) -> jax.Array | None:
    labels = in_turn(self._labels, range(first, first + count))
    return label_rows(labels, self.generator.num_classes, count)

  def _drawn(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """z (n, z_dim) and their labels."""
    counts = [min(self.size, self.samples - first) for first in range(0, self.samples, self.size)]
    if not self._ours:
      for i, count in enumerate(counts):
        z, labels = self.generator.sample(jax.random.fold_in(jax.random.key(self.seed), i), count)
        own = labels is not None and self._labels is None
        yield np.asarray(z, np.float32), label_rows(labels, self.generator.num_classes, count) if own else None
      return
    state = np.random.RandomState(self.seed)
    for count in counts:
      shape = (count, self.generator.z_dim)
      if getattr(self.generator, 'prior', 'normal') == 'truncated_normal':
        from scipy.stats import truncnorm  # an import of half a second, which only this prior needs

        yield truncnorm.rvs(-2, 2, size=shape, random_state=state).astype(np.float32), None
      else:
        yield state.standard_normal(shape).astype(np.float32), None

  def __iter__(self) -> Iterator[Block]:
    first = 0
    for z, labels in self._drawn():
      count = len(z)
      if labels is None and (self._ours or self._labels is not None):
        labels = self._rows(first, count)
      short = self.size - count
      if short:
        z = np.concatenate([z, np.repeat(z[-1:], short, axis=0)])
        labels = None if labels is None else np.concatenate([labels, np.repeat(labels[-1:], short, axis=0)])
      yield Block(z, labels, count)
      first += count


def silent(name: str, done: int, of: int) -> None:
  """The `Report` that shows nothing."""
