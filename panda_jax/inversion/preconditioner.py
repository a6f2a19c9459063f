"""Unknowns of an inversion, scaled by their effect on the picture.

J'WJ, with J the derivative of the picture and W the weights of its error, is the effect of each direction of the
unknowns. It hardly differs between samples (Wang and Ponce 2021), so its mean over samples serves for all photographs.
It is the second moment of J'E, where E is noise of covariance W. A block of unknowns is taken as matrices, and the
moment as the Kronecker product of one over rows and one over columns (as Gupta, Koren and Singer 2018 do for gradients
in training). In unknowns divided by its root all directions have the same effect, so a minimiser needs a fraction of
the evaluations: on held-out cats a third for w+, a sixth for features.
Letters as in coordinates.py and feature_range.py.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.inversion import minimiser, objective
from panda_jax.inversion.kronecker import MOST_ROWS, Kronecker, inverse_root, moments
from panda_jax.inversion.losses import noise

PROBES = 64  # samples
DAMPING = 0.1  # fraction of the mean effect, added to each: few samples do not cover all directions


def identity(kind: objective.Kind) -> objective.Preconditioner:
  """The unknowns are the changes themselves."""

  def unit(shape):
    rows = math.prod(shape[:-1])
    return Kronecker(jnp.eye(rows) if rows <= MOST_ROWS else jnp.ones(rows), jnp.eye(shape[-1]))

  features = None if kind.layer is None else unit(kind.features)
  return objective.Preconditioner(unit(kind.latents), features, None if kind.rgb is None else jnp.float32(1))


def estimated(
  kind: objective.Kind, given: objective.Given, x: np.ndarray, labels: np.ndarray | None
) -> objective.Preconditioner:
  """The preconditioner of a kind of inversion, from samples.

  Args:
    kind: of the inversion.
    given: of a batch; samples replace its photographs, so that the same program serves.
    x: (PROBES, *latents) coordinates of samples.
    labels: (PROBES, num_classes), or None.
  """
  gradients = []
  given = given._replace(preconditioner=identity(kind), probing=jnp.bool_(True))
  size, *shape = given.photographs.shape
  for first in range(0, PROBES, size):
    rows = np.minimum(first + np.arange(size), PROBES - 1)
    given = given._replace(
      start=jnp.asarray(x[rows]),
      labels=None if labels is None else jnp.asarray(labels[rows]),
      photographs=jnp.asarray(np.stack([noise(np.random.RandomState(i), shape) for i in rows])),
    )
    if kind.layer is not None:
      given = given._replace(state=objective.state_at(kind.before, kind.layer, given, given.start))
    probe = objective.advance(kind, given, minimiser.begin(kind.start(size)), jnp.float32(0))
    gradients.append(np.asarray(probe.gradient)[: PROBES - first])
  found = np.concatenate(gradients)
  if not np.isfinite(found).all():  # the minimisation reports which photograph has the error
    return identity(kind)
  latents, features, rgb = kind.parts(found)
  return objective.Preconditioner(
    _inverse(latents),
    None if features is None else _inverse(features),
    None if rgb is None else jnp.float32(1 / np.sqrt(moments(_matrices(rgb)).scale)),
  )


def _matrices(x: Any) -> np.ndarray:
  return np.asarray(x, np.float64).reshape(len(x), -1, x.shape[-1])


def _inverse(gradients: Any) -> Kronecker:
  found = moments(_matrices(gradients))
  left, right = (inverse_root(moment, DAMPING) for moment in (found.rows, found.columns))
  return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), Kronecker(left, right / np.sqrt(found.scale)))
