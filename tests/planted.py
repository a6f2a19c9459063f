"""Feature maps made from known factors, and how to compare factors."""

import numpy as np


def disjoint(N=40, grid=(6, 8), C=12, parts=4, rank=None, noise=0.0, seed=0):
  """Features (N, H, W, C) = core times disjoint unit parts, spread over range `rank` of channels; and the parts (S, R).

  Every sample has its own core, so parts and the range of A are identified by the objective.
  """
  rng = np.random.default_rng(seed)
  S = grid[0] * grid[1]
  owner = rng.permutation(np.arange(S) % parts)
  P = np.zeros((S, parts))
  P[np.arange(S), owner] = rng.uniform(0.5, 1.5, S)
  P /= np.linalg.norm(P, axis=0)
  basis = np.linalg.qr(rng.standard_normal((C, rank or C)))[0]
  core = rng.standard_normal((N, parts, rank or C)) * np.linspace(1, 2, parts)[:, None]
  Z = np.einsum('sr,nrk,ck->nsc', P, core, basis)
  Z = Z + noise * Z.std() * rng.standard_normal(Z.shape)
  return Z.reshape(N, *grid, C).astype(np.float32), P, basis


def structured(N=48, grid=(8, 8), C=16, seed=0):
  """Features without planted factors: smooth fields through random channel mixes and a rectifier, like a network's."""
  rng = np.random.default_rng(seed)
  y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in grid), indexing='ij')
  centres = rng.uniform(0, 1, (10, 2))
  bumps = np.exp(-((y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2) / 0.03)
  mix = rng.standard_normal((10, C)) * 1.5
  strength = rng.uniform(0.2, 2, (N, 10))
  raw = np.einsum('hwb,nb,bc->nhwc', bumps, strength, mix) + 0.1 * rng.standard_normal((N, *grid, C))
  return np.where(raw > 0, raw, 0.2 * raw).astype(np.float32)


def matched(P, Q):
  """Columns of Q reordered to the columns of P they resemble most, both with unit columns, and the cosines."""
  P, Q = (x / np.maximum(np.linalg.norm(x, axis=0), 1e-30) for x in (P, Q))
  cosine = P.T @ Q
  order = np.argmax(cosine, axis=1)
  return P, Q[:, order], cosine[np.arange(P.shape[1]), order]


def assert_same_factors(one, two, parts=1e-3, outer=1e-2):
  """Equal up to rounding. 1e-3 of a part's largest entry: float32 sums in another order move the stopping point by
  some 1e-5. 1e-2 of the largest entry of W: its weakly determined directions have 1e-6 of the energy, so that the
  rounding of sums, 1e-7, changes their second digit."""
  assert one.parts.shape == two.parts.shape
  largest = np.maximum(one.parts.max(axis=0), 1e-30)
  np.testing.assert_array_less(np.abs(one.parts - two.parts).max(axis=0) / largest, parts)
  W, V = (f.appearances.astype(np.float64) @ f.appearances.T.astype(np.float64) for f in (one, two))
  assert np.abs(W - V).max() <= outer * np.abs(W).max()
