"""What an inversion minimises, in each of its two stages, and the compiled steps.

    latents    the picture of x against the photograph, x the coordinates of the latents
    features   the picture that goes on from the state at a layer, changed by X; the latents of later layers go on too

To the distance of the pictures comes a prior times the regulariser. Samples pay nothing: coordinates inside the ball
that samples fill (|x|^2 up to D, where nearly all of a normal distribution is) are free, rows of w+ that are alike are
free, and so are features as the layers before make them. Letters as in coordinates.py and feature_range.py.
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

SPREAD = 0.1  # weight of the differences between rows of w+ against what is beyond the ball
Loss = Callable[[jax.Array, jax.Array], jax.Array]  # pictures and photographs (N, h, w, channels) to (N,)


@dataclasses.dataclass(frozen=True)
class Kind:
  """What is compiled anew when it changes.

  Attributes:
    structure: of the generator.
    noise: 'const' or 'none'.
    loss: between pictures and photographs.
    latents: shape of the coordinates of one photograph.
    layer: of the features stage, else None.
    features, rgb: shapes of one photograph's at the layer; rgb is None where there is none.
  """

  structure: Structure
  noise: str
  loss: Loss
  latents: tuple[int, ...]
  layer: int | None = None
  features: tuple[int, ...] = ()
  rgb: tuple[int, ...] | None = None

  def start(self, x: jax.Array) -> jax.Array:
    """The unknowns (N, d) of coordinates (N, *latents); features and RGB unchanged."""
    more = math.prod(self.features) + math.prod(self.rgb or ()) * (self.rgb is not None) if self.layer else 0
    flat = x.reshape(len(x), -1)
    return jnp.concatenate([flat, jnp.zeros((len(x), more), x.dtype)], axis=1)

  def parts(self, unknowns: jax.Array) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Coordinates, X of the features, X of the RGB."""
    N, first = len(unknowns), math.prod(self.latents)
    x = unknowns[:, :first].reshape(N, *self.latents)
    if self.layer is None:
      return x, None, None
    second = first + math.prod(self.features)
    X = unknowns[:, first:second].reshape(N, *self.features)
    return x, X, None if self.rgb is None else unknowns[:, second:].reshape(N, *self.rgb)


class Given(NamedTuple):
  """The arrays of an inversion; every leaf but those of the generator, the coordinates and the range has an axis N."""

  arrays: Any  # of the generator
  where: Coordinates | Draws
  labels: jax.Array | None
  photographs: jax.Array
  regulariser: jax.Array
  range: FeatureRange | None = None
  state: State | None = None


def prior(x: jax.Array) -> jax.Array:
  """(N,): 0 for samples; see the module. x is (N, rows, D) or (N, D)."""
  rows = x.reshape(len(x), -1, x.shape[-1])
  length = jnp.sqrt(jnp.mean(jnp.square(rows), axis=-1) + 1e-12)
  beyond = jnp.mean(jnp.square(jnp.maximum(length - 1, 0)), axis=1)
  spread = jnp.mean(jnp.square(rows - rows.mean(axis=1, keepdims=True)), axis=(1, 2))
  return beyond + SPREAD * spread


def state_of(kind: Kind, given: Given, unknowns: jax.Array) -> State:
  """The state at the layer, with the changes in it."""
  _, X, rgb = kind.parts(unknowns)
  state: Any = given.state
  state = state.replace(features=state.features + given.range.change(X))
  return state if rgb is None else state.replace(rgb=state.rgb + given.range.rgb * rgb)


def pictures(kind: Kind, given: Given, unknowns: jax.Array) -> jax.Array:
  """The images (N, h, w, channels) that the unknowns (N, d) make."""
  run = kind.structure.generator(given.arrays)
  latents = given.where.latents(run, kind.parts(unknowns)[0], given.labels)
  if kind.layer is None:
    return run(latents, noise=kind.noise)
  return run.run_from(latents, state_of(kind, given, unknowns), kind.layer, noise=kind.noise)


def evaluation(kind: Kind, given: Given) -> minimiser.Evaluation:
  """Values (N,) and gradients (N, d)."""

  def values(unknowns):
    x, X, rgb = kind.parts(unknowns)
    cost = prior(x)
    for change in (X, rgb):
      if change is not None:
        cost = cost + jnp.mean(jnp.square(change), axis=(1, 2, 3))
    return kind.loss(pictures(kind, given, unknowns), given.photographs) + given.regulariser * cost

  def evaluate(unknowns):
    found, back = jax.vjp(values, unknowns)
    return found, back(jnp.ones_like(found))[0]

  return evaluate


@functools.partial(jax.jit, static_argnames='kind', donate_argnames='search')
def advance(kind: Kind, given: Given, search: minimiser.Search, tolerance: jax.Array) -> minimiser.Search:
  """One evaluation more, compiled."""
  return minimiser.advance(evaluation(kind, given), search, tolerance)


draw = functools.partial(jax.jit, static_argnames='kind')(pictures)


@functools.partial(jax.jit, static_argnames=('kind', 'layer'))
def state_at(kind: Kind, layer: int, given: Given, unknowns: jax.Array) -> State:
  """The state at a layer that coordinates of the latents stage lead to."""
  run = kind.structure.generator(given.arrays)
  return run.run_to(given.where.latents(run, kind.parts(unknowns)[0], given.labels), layer, noise=kind.noise)


@functools.partial(jax.jit, static_argnames='kind')
def held_state(kind: Kind, given: Given, unknowns: jax.Array) -> State:
  """`state_of`, compiled."""
  return state_of(kind, given, unknowns)
