"""Error against seconds: evaluated on all samples, compared, drawn."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np


@dataclass
class Curve:
  """One method on one case.

  Attributes:
    seconds: (T,) of the method's own clock, compilation excluded.
    errors: (T,) relative error over all samples.
    iterations: (T,) or empty.
    steps: the curve is constant until the next point (a best so far), not interpolated.
    notes: further entries of the JSON file.
  """

  seconds: list[float]
  errors: list[float]
  iterations: list[int] = field(default_factory=list)
  steps: bool = False
  notes: dict = field(default_factory=dict)

  @property
  def final(self) -> float:
    return self.errors[-1]

  def reaches(self, error: float) -> float | None:
    """Seconds of the first point at or below `error`."""
    return next((t for t, e in zip(self.seconds, self.errors, strict=True) if e <= error), None)

  def at(self, seconds: np.ndarray) -> np.ndarray:
    """Error at these times, infinite before the first point."""
    own, errors, seconds = np.asarray(self.seconds), np.asarray(self.errors), np.asarray(seconds)
    if self.steps:
      values = errors[np.maximum(np.searchsorted(own, seconds, side='right') - 1, 0)]
    else:
      values = np.interp(np.log(seconds), np.log(own), errors)
    return np.where(seconds < own[0], np.inf, values)

  def data(self) -> dict:
    return {'seconds': self.seconds, 'errors': self.errors, 'iterations': self.iterations, **self.notes}


@jax.jit
def _sample_sums(Z: jax.Array, W: jax.Array, P: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Per sample of Z (n, S, C): ||Z||^2 (n,), and for each (W, P) <Z, W Z P P'> and ||W Z P P'||^2, both (T, n)."""
  dot = partial(jnp.einsum, precision='highest')

  def one(pair):
    W, P = pair
    Y = dot('nsc,sr->nrc', Z, P)
    V = dot('nrc,cd->nrd', Y, W)
    mixed = dot('rq,nqc->nrc', dot('sr,sq->rq', P, P), V)
    return jnp.sum(Y * V, (1, 2)), jnp.sum(V * mixed, (1, 2))

  return jnp.sum(Z * Z, (1, 2)), *jax.lax.map(one, (W, P))


def relative_errors(features: np.ndarray, factors: list[tuple[np.ndarray, np.ndarray]], chunk: int = 64) -> list[float]:
  """sum ||Z - W Z P P'||^2 / sum ||Z||^2 over features (N, S, C), for each (W, P) of `factors`.

  W = A A' (C, C) is symmetric, P is (S, R). All pairs are evaluated in one pass over the features: float32 within a
  sample, float64 across samples.
  """
  if not factors:
    return []
  W = jnp.asarray(np.stack([w for w, _ in factors]), jnp.float32)
  P = jnp.asarray(np.stack([p for _, p in factors]), jnp.float32)
  total, cross, square = 0.0, np.zeros(len(factors)), np.zeros(len(factors))
  for i in range(0, len(features), chunk):
    parts = _sample_sums(jnp.asarray(features[i : i + chunk]), W, P)
    sums = [np.asarray(x, np.float64).sum(axis=-1) for x in parts]
    total, cross, square = total + sums[0], cross + sums[1], square + sums[2]
  return (1 - (2 * cross - square) / total).tolist()


def stretches_above(ours: Curve, theirs: Curve, slack: float = 1e-6) -> list[list[float]]:
  """Intervals [from, to] in seconds where our curve is above theirs by more than `slack` (float32 rounding).

  They are compared on a fine logarithmic grid from our first point to the later of the two ends. Our curve is constant
  after each point, theirs is interpolated, which favours theirs.
  """
  start, end = ours.seconds[0], max(ours.seconds[-1], theirs.seconds[-1])
  grid = np.geomspace(start, end, 400)
  held = Curve(ours.seconds, ours.errors, steps=True)
  above = held.at(grid) > theirs.at(grid) + slack
  stretches, open_at = [], None
  for t, bad in zip(grid, above, strict=True):
    if bad and open_at is None:
      open_at = t
    elif not bad and open_at is not None:
      stretches.append([round(float(open_at), 4), round(float(t), 4)])
      open_at = None
  if open_at is not None:
    stretches.append([round(float(open_at), 4), round(float(end), 4)])
  return stretches


STYLE = {
  'published': ('#c2410c', 'published rule, as published'),
  'thin': ('#b58a00', 'published rule, thin products'),
  'lbfgsb': ('#6b7280', 'L-BFGS-B with restarts, W = I'),
  'ours': ('#1d4ed8', 'panda_jax.fit'),
}


def draw(curves: dict[str, Curve], others: dict[str, list[Curve]], title: str, path: Path) -> None:
  """Draws error against seconds (log): each method at its best setting, and its `others` pale behind it."""
  import matplotlib

  matplotlib.use('Agg')
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(figsize=(7.5, 4.6), layout='constrained')
  for name, curve in curves.items():
    colour, label = STYLE[name]
    for other in others.get(name, []):
      axes.plot(other.seconds, other.errors, color=colour, alpha=0.25, linewidth=0.8)
    style = 'steps-post' if curve.steps else 'default'
    capped = ' (stopped early)' if curve.notes.get('status') == 'capped' else ''
    axes.plot(
      curve.seconds,
      curve.errors,
      color=colour,
      drawstyle=style,
      marker='o',
      markersize=3,
      linewidth=1.8,
      label=f'{label}{capped}: {curve.final:.4f}',
    )
  finals = [curve.final for curve in curves.values()]
  least = min(finals)
  # The published rule starts at an error near 1; on this scale the relevant differences would be invisible.
  axes.set_ylim(least - 0.03 * (1 - least), max(max(finals), least + 0.2 * (1 - least)) + 0.02)
  axes.set(xscale='log', xlabel='seconds (compilation excluded)', ylabel='relative error, all samples', title=title)
  axes.grid(alpha=0.25, which='both', linewidth=0.5)
  axes.legend(frameon=False, fontsize=8)
  figure.savefig(path, dpi=150)
  plt.close(figure)
