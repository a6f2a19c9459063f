"""How feature maps of a generator's own samples vary at a layer, and changes of them in that unit.

The features of samples less their mean, (S, C), are taken as matrix-normal: covariance between positions times
covariance between channels, U (S, S) and V (C, C), from the two moments that a fit of parts and appearances rests on.
A change is `root(U) X root(V)'`; under the model X is standard normal, so the mean square of X says how far from the
range of samples a change leads. Letters: N samples, H, W grid, S = H W positions, C channels.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.generators.protocol import State
from panda_jax.generators.seeds import draws
from panda_jax.generators.structure import Compiled
from panda_jax.runtime.compatibility import register_dataclass

SAMPLES = 256
BATCH = 16
MOST_POSITIONS = 1024  # with more, positions vary each on its own: the root of U would take longer than the inversion
RIDGE = 1e-3  # of the mean variance, added to each: directions in which the few samples do not vary


@register_dataclass
@dataclasses.dataclass(frozen=True)
class FeatureRange:
  """Roots of the covariances at a layer.

  Attributes:
    positions: (S, S), or (S,) where positions vary each on their own.
    channels: (C, C).
    rgb: standard deviation of the image accumulated before the layer, or None where there is none.
  """

  positions: jax.Array
  channels: jax.Array
  rgb: jax.Array | None

  def change(self, x: jax.Array) -> jax.Array:
    """X (N, H, W, C) to a change of features (N, H, W, C)."""
    N, H, W, C = x.shape
    flat = jnp.matmul(x.reshape(N, H * W, C), self.channels.T, precision='highest')
    if self.positions.ndim == 1:
      flat = flat * self.positions.reshape(1, -1, 1)
    else:
      flat = jnp.einsum('st,ntc->nsc', self.positions, flat, precision='highest')
    return flat.reshape(x.shape)


def feature_range(generator: Any, layer: int, noise: str) -> FeatureRange:
  """That of seeds 0 to 255, of all classes in turn where there are classes.

  Args:
    generator: see the protocol.
    layer: of it.
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
  variance = max(float(np.mean(np.square(Z), dtype=np.float64)), 1e-30)
  channels = _root(np.einsum('nsc,nsd->cd', Z, Z, optimize=True) / (len(Z) * H * W))
  if H * W <= MOST_POSITIONS:
    positions = _root(np.einsum('nsc,ntc->st', Z, Z, optimize=True) / (len(Z) * C * variance))
  else:
    positions = np.sqrt(np.mean(np.square(Z), axis=(0, 2)) / variance + RIDGE)
  rgb = jnp.asarray(np.concatenate(images).std(axis=0).mean(), jnp.float32) if images else None
  return FeatureRange(jnp.asarray(positions, jnp.float32), jnp.asarray(channels, jnp.float32), rgb)


def _root(covariance: np.ndarray) -> np.ndarray:
  covariance = covariance.astype(np.float64)
  floor = max(RIDGE * float(np.diag(covariance).mean()), 1e-30)
  return np.linalg.cholesky(covariance + floor * np.eye(len(covariance)))
