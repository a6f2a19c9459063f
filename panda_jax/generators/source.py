"""Feature maps that a generator makes from seeds, again at each pass."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from panda_jax.errors import InputError
from panda_jax.features.sources import FeatureSource, limited
from panda_jax.generators import seeds
from panda_jax.generators.base import checked_layer, label_rows
from panda_jax.generators.bounds import written
from panda_jax.generators.compatibility import value_of
from panda_jax.generators.labels import checked, in_turn
from panda_jax.generators.structure import Compiled

BATCH_BYTES = 32 << 20  # of feature maps at the layer; the layers before it hold a few times that at once


class Draws(NamedTuple):
  """The inputs of a generator for a batch: z (n, z_dim), and labels (n,) or None."""

  z: np.ndarray
  labels: np.ndarray | None


def weights_digest(generator):
  """A hash object updated with the options and every array of an NNX generator; of another one only with its type."""
  digest = hashlib.sha256(f'{type(generator).__name__} {written(getattr(generator, "options", None))}'.encode())
  if isinstance(generator, nnx.Module):
    for path, variable in nnx.to_flat_state(nnx.state(generator)):
      digest.update('.'.join(map(str, path)).encode())
      digest.update(np.ascontiguousarray(value_of(variable)).reshape(-1).view(np.uint8).data)
  return digest


class GeneratorSource(FeatureSource):
  """The feature maps of seeds seed .. seed + samples - 1 at a layer.

  Its hash is that of weights, layer, seeds, labels and truncation, not of the features: made again, or in batches of
  another size, these may differ in their last digits. Where the generator is not an NNX module, its weights cannot be
  seen, and the features are hashed.

  Args:
    generator: of one of our families, or any object with the methods of the protocol.
    layer: the split point.
    samples: how many, N.
    seed: that of the first sample.
    labels: class indices or rows; sample i has labels[i mod len(labels)].
    truncation, truncation_layers: see the generator's `map`.
    batch: samples at a time; by size if left out.
    name: for the provenance.

  Raises:
    InputError: the layer, a label or the truncation does not fit the generator.

  Example:
    >>> from panda_jax.generators.source import GeneratorSource
    >>> source = GeneratorSource(quarters, layer=1, samples=1000, name='quarters')
    >>> source.samples, source.grid, source.channels
    (1000, (4, 4), 3)
    >>> source.name(), source.description()['truncation']
    ('quarters', 1.0)
    >>> source.draws(np.arange(2)).z.shape, source.latents(np.arange(2)).shape
    ((2, 12), (2, 12))
    >>> source.made(np.arange(source.step)).shape[1:]
    (16, 3)
  """

  kind = 'generator'

  def __init__(
    self,
    generator,
    layer: int,
    samples: int,
    seed: int = 0,
    labels: Sequence[int] | None = None,
    truncation: float = 1.0,
    truncation_layers: int | None = None,
    batch: int | None = None,
    name: str = 'generator',
  ):
    if not samples or samples < 1:
      raise InputError('samples', samples, 'it must be positive', 'give a number, such as 1000')
    self.layer = checked_layer(layer, generator.layers)
    self.generator = Compiled(generator) if isinstance(generator, nnx.Module) else generator
    self.defined = isinstance(generator, nnx.Module)
    self.samples, self.seed = samples, seed
    self.labels = None if labels is None else checked(labels)
    if self.labels is not None:
      label_rows(self.labels, generator.num_classes, len(self.labels))  # all labels are checked before anything is run
    self._options = {'truncation': truncation, 'truncation_layers': truncation_layers}
    self._name, self._first = name, 0
    channels, height, width = generator.layers[self.layer]
    self.grid, self.channels, self.dtype = (height, width), channels, np.dtype(np.float32)
    # How many samples a device makes at a time, and the program with which all devices of this process make theirs.
    count = jax.local_device_count() if self.defined else 1
    wanted = int(np.clip(BATCH_BYTES // self.sample_bytes, 1, 64)) if batch is None else -(-batch // count)
    self._batch, self._make = min(wanted, -(-samples // count)), None
    self.latents(np.arange(1))  # finds arguments that do not fit before anything is run

  def name(self) -> str:
    return self._name

  def description(self) -> dict:
    """What the features are made of, JSON values: for the provenance of factors."""
    labels = None if self.labels is None else self.labels.tolist()
    return {'layer': self.layer, 'seed': self.seed, 'samples': self.samples, 'labels': labels, **self._options}

  def digest(self):
    if not self.defined:
      return super().digest()
    digest = weights_digest(self.generator.generator)
    digest.update(json.dumps(self.description(), sort_keys=True).encode())
    return digest

  def part(self, first, last):
    return limited(self, last - first, _first=self._first + first)

  def window(self, first, last):
    labels = None if self.labels is None else in_turn(self.labels, first + np.arange(len(self.labels)))
    return limited(self, last - first, seed=self.seed + first, labels=labels)

  def draws(self, indices: np.ndarray) -> Draws:
    """z and labels of samples by number."""
    indices = self._first + indices
    z = seeds.draws(self.generator, (self.seed + int(i) for i in indices))
    return Draws(z, in_turn(self.labels, indices))

  def latents(self, indices: np.ndarray):
    """The generator's latents of samples by number."""
    z, labels = self.draws(indices)
    return self.generator.map(z, labels, **self._options)

  @property
  def step(self) -> int:
    """How many samples are made at a time, by all devices of this process."""
    return self._batch * (jax.local_device_count() if self.defined else 1)

  def made(self, indices: np.ndarray) -> jax.Array:
    """The `step` samples at `indices`, (step, S, C) float32: each device makes, and keeps, an equal part in order."""
    if not self.defined:  # a user's generator may do anything
      features = self.generator.run_to(self.latents(indices), self.layer).features
      return jnp.asarray(features, jnp.float32).reshape(len(indices), self.positions, self.channels)
    if self._make is None:
      mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()), ('own',))
      self._make = self.generator.over(mesh, self._features)
    z, labels = self.draws(indices)
    labels = None if labels is None else np.asarray(label_rows(labels, self.generator.num_classes, len(indices)))
    return self._make(z, labels)

  def _features(self, generator, z, labels) -> jax.Array:
    state = generator.run_to(generator.map(z, labels, **self._options), self.layer)
    return state.features.astype(jnp.float32).reshape(len(z), self.positions, self.channels)

  def _in_order(self, indices: np.ndarray) -> Iterator[np.ndarray]:
    # The devices make the next batch while the last one is copied to the host. Short batches are filled up, so that one
    # program serves all.
    waiting, count = None, 0
    for first in range(0, len(indices), self.step):
      wanted = indices[first : first + self.step]
      following = self.made(np.resize(wanted, self.step)), len(wanted)
      if waiting is not None:
        yield np.asarray(waiting)[:count]
      waiting, count = following
    if waiting is not None:
      yield np.asarray(waiting)[:count]

  def blocks(self, size):
    size = max(1, size)
    held, count = [], 0
    for batch in self._in_order(np.arange(self.samples)):
      held.append(batch)
      count += len(batch)
      while count >= size:
        joined = held[0] if len(held) == 1 else np.concatenate(held)
        yield joined[:size]
        held, count = ([joined[size:]], count - size) if count > size else ([], 0)
    if count:
      yield held[0] if len(held) == 1 else np.concatenate(held)

  def take(self, indices):
    none = np.zeros((0, self.positions, self.channels), np.float32)
    return np.concatenate([none, *self._in_order(np.asarray(indices))])
