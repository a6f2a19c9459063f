"""The objective of an inversion in each of its two stages, and the compiled steps.

    latents    the difference of the picture from the photograph; x are the coordinates of the latents
    features   the same; the picture continues a state at a layer, changed by X; the latents of later layers vary too

To the distance of the pictures a prior is added, times the regulariser. It is 0 for samples: coordinates inside the
ball that samples fill cost nothing, nor do equal rows of w+, nor features as the layers before make them. If features
are free, the prior of the latents has far more weight: the latents need not explain the photograph any more, and with
rows of w+ that no sample has, edits of the features act differently than on samples. Letters as in coordinates.py and
feature_range.py.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from panda_jax.generators.protocol import State
from panda_jax.generators.structure import Structure
from panda_jax.inversion import minimiser
from panda_jax.inversion.coordinates import Coordinates, Draws
from panda_jax.inversion.feature_range import FeatureRange
from panda_jax.inversion.kronecker import Kronecker

SPREAD = 0.1  # weight of the differences between rows of w+ relative to the length beyond the ball
Loss = Callable[[jax.Array, jax.Array], jax.Array]  # pictures and photographs (N, h, w, channels) to (N,)


@dataclasses.dataclass(frozen=True)
class Kind:
  """The static part of an inversion: another kind needs another compilation.

  Attributes:
    structure: of the generator.
    noise: 'const' or 'none'.
    loss: between pictures and photographs.
    latents: shape of the coordinates of one photograph.
    layer: in the features stage; None in the latents stage.
    features, rgb: their shapes for one photograph at the layer; rgb is None if there is none.
  """

  structure: Structure
  noise: str
  loss: Loss
  latents: tuple[int, ...]
  layer: int | None = None
  features: tuple[int, ...] = ()
  rgb: tuple[int, ...] | None = None

  @property
  def before(self) -> 'Kind':
    """The kind of the latents stage before this one."""
    return dataclasses.replace(self, layer=None, features=(), rgb=None)

  def start(self, count: int) -> jax.Array:
    """Unknowns (N, d) of zero, which change nothing."""
    more = math.prod(self.features) + math.prod(self.rgb or ()) * (self.rgb is not None) if self.layer else 0
    return jnp.zeros((count, math.prod(self.latents) + more))

  def parts(self, unknowns: jax.Array) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """The unknowns of the coordinates, of the features and of the RGB."""
    N, first = len(unknowns), math.prod(self.latents)
    x = unknowns[:, :first].reshape(N, *self.latents)
    if self.layer is None:
      return x, None, None
    second = first + math.prod(self.features)
    X = unknowns[:, first:second].reshape(N, *self.features)
    return x, X, None if self.rgb is None else unknowns[:, second:].reshape(N, *self.rgb)


class Preconditioner(NamedTuple):
  """Linear maps from unknowns to changes: of coordinates as (rows, D), of X as (S, C), and of RGB."""

  latents: Kronecker
  features: Kronecker | None = None
  rgb: jax.Array | None = None


class Given(NamedTuple):
  """The arrays of an inversion.

  Attributes:
    arrays: of the generator.
    where: maps coordinates to latents.
    start: (N, *latents) coordinates if the unknowns are zero.
    labels: class rows (N, num_classes), or None.
    photographs: (N, h, w, channels).
    latents_weight, changes_weight: of the prior of coordinates, and of the mean squares of X.
    preconditioner: see there.
    probing: if true, the value is not the error but the sum of pictures times `photographs`, see preconditioner.py.
    range, state: of the features stage.
  """

  arrays: Any
  where: Coordinates | Draws
  start: jax.Array
  labels: jax.Array | None
  photographs: jax.Array
  latents_weight: jax.Array
  changes_weight: jax.Array
  preconditioner: Preconditioner
  probing: jax.Array
  range: FeatureRange | None = None
  state: State | None = None


def prior(x: jax.Array) -> jax.Array:
  """(N,): 0 for samples; see the module docstring. x is (N, rows, D) or (N, D).

  The root mean square of D standard normal numbers is 1, with a standard deviation of 1 / sqrt(2 D): up to two of these
  above 1 the prior is 0.
  """
  rows = x.reshape(len(x), -1, x.shape[-1])
  length = jnp.sqrt(jnp.mean(jnp.square(rows), axis=-1) + 1e-12)
  beyond = jnp.mean(jnp.square(jnp.maximum(length - 1 - math.sqrt(2 / x.shape[-1]), 0)), axis=1)
  spread = jnp.mean(jnp.square(rows - rows.mean(axis=1, keepdims=True)), axis=(1, 2))
  return beyond + SPREAD * spread


def changed(kind: Kind, given: Given, unknowns: jax.Array) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
  """Coordinates (N, *latents), X (N, H, W, C) of the features and X of the RGB; None for those that are not free."""
  x, X, rgb = kind.parts(unknowns)
  maps = given.preconditioner
  x = given.start + maps.latents(x.reshape(len(x), -1, x.shape[-1])).reshape(x.shape)
  if X is not None:
    X = maps.features(X.reshape(len(X), -1, X.shape[-1])).reshape(X.shape)
  return x, X, None if rgb is None else maps.rgb * rgb


def state_of(kind: Kind, given: Given, unknowns: jax.Array) -> State:
  """The state at the layer, including the changes."""
  _, X, rgb = changed(kind, given, unknowns)
  state: Any = given.state
  state = state.replace(features=state.features + given.range.change(X))
  return state if rgb is None else state.replace(rgb=state.rgb + given.range.rgb * rgb)


def pictures(kind: Kind, given: Given, unknowns: jax.Array) -> jax.Array:
  """The images (N, h, w, channels) that the unknowns (N, d) make."""
  run = kind.structure.generator(given.arrays)
  latents = given.where.latents(run, changed(kind, given, unknowns)[0], given.labels)
  if kind.layer is None:
    return run(latents, noise=kind.noise)
  return run.run_from(latents, state_of(kind, given, unknowns), kind.layer, noise=kind.noise)


def evaluation(kind: Kind, given: Given) -> minimiser.Evaluation:
  """The function from unknowns (N, d) to values (N,) and gradients (N, d)."""

  def values(unknowns):
    x, X, rgb = changed(kind, given, unknowns)
    images = pictures(kind, given, unknowns)
    error = kind.loss(images, given.photographs) + given.latents_weight * prior(x)
    for change in (X, rgb):
      if change is not None:
        error = error + given.changes_weight * jnp.mean(jnp.square(change), axis=(1, 2, 3))
    return jnp.where(given.probing, jnp.sum(images * given.photographs, axis=(1, 2, 3)), error)

  def evaluate(unknowns):
    found, back = jax.vjp(values, unknowns)
    return found, back(jnp.ones_like(found))[0]

  return evaluate


@functools.partial(jax.jit, static_argnames='kind', donate_argnames='search')
def advance(kind: Kind, given: Given, search: minimiser.Search, tolerance: jax.Array) -> minimiser.Search:
  """One more evaluation, compiled."""
  return minimiser.advance(evaluation(kind, given), search, tolerance)


@functools.partial(jax.jit, static_argnames='kind')
def draw(kind: Kind, given: Given, unknowns: jax.Array) -> tuple[jax.Array, jax.Array, State | None]:
  """Pictures, coordinates, and the state at the layer if features are free."""
  state = None if kind.layer is None else state_of(kind, given, unknowns)
  return pictures(kind, given, unknowns), changed(kind, given, unknowns)[0], state


@functools.partial(jax.jit, static_argnames=('kind', 'layer'))
def state_at(kind: Kind, layer: int, given: Given, x: jax.Array) -> State:
  """The state at a layer from coordinates (N, *latents)."""
  run = kind.structure.generator(given.arrays)
  return run.run_to(given.where.latents(run, x, given.labels), layer, noise=kind.noise)
