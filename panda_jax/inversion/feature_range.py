"""How feature maps of a generator's own samples vary at a layer, and changes of features in that unit.

The features of samples minus their mean, (S, C), are taken as matrix-normal: covariance between positions times
covariance between channels, U (S, S) and V (C, C), from the two moments that a fit of parts and appearances uses too.
A change is `root(U) X root(V)'`; under the model X is standard normal, so the mean square of X measures how far a
change goes beyond the range of samples. Letters: N samples, H, W grid, S = H W positions, C channels.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.generators.protocol import State
from panda_jax.generators.seeds import draws
from panda_jax.generators.structure import Compiled
from panda_jax.inversion.kronecker import Kronecker, moments, root

SAMPLES = 256
BATCH = 16
RIDGE = 1e-3  # fraction of the mean variance, added to each variance, since few samples do not vary in every direction


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FeatureRange:
  """Roots of the covariances at a layer.

  Attributes:
    root: maps X (N, S, C) to root(U) X root(V)'.
    rgb: standard deviation of the image accumulated before the layer, or None if there is none.
  """

  root: Kronecker
  rgb: jax.Array | None

  def change(self, x: jax.Array) -> jax.Array:
    """X (N, H, W, C) to a change of features (N, H, W, C)."""
    N, H, W, C = x.shape
    return self.root(x.reshape(N, H * W, C)).reshape(x.shape)


def feature_range(generator: Any, layer: int, noise: str) -> FeatureRange:
  """The range of seeds 0 to 255, with all classes in turn if there are classes.

  Args:
    generator: see the protocol.
    layer: the split point.
    noise: 'const' or 'none'.
  """
  run = generator if isinstance(generator, Compiled) else Compiled(generator)
  C, H, W = generator.layers[layer]
  maps, images = [], []
  for first in range(0, SAMPLES, BATCH):
    number = np.arange(first, first + BATCH)
    labels = number % generator.num_classes if generator.num_classes else None
    state: State = run.run_to(run.map(draws(generator, number), labels), layer, noise=noise)
    maps.append(np.asarray(state.features, np.float32).reshape(BATCH, H * W, C))
    if state.rgb is not None:
      images.append(np.asarray(state.rgb, np.float32))
  Z = np.concatenate(maps)
  Z = Z - Z.mean(axis=0, keepdims=True)
  found = moments(Z)
  positions, channels = root(found.rows, RIDGE), root(found.columns, RIDGE) * np.sqrt(found.scale)
  rgb = jnp.asarray(np.concatenate(images).std(axis=0).mean(), jnp.float32) if images else None
  return FeatureRange(Kronecker(jnp.asarray(positions, jnp.float32), jnp.asarray(channels, jnp.float32)), rgb)
