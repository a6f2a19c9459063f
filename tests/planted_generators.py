"""Tiny generators with known Jacobians, parts, leaks, and saturation of edits.

Each has the methods of panda_jax/generators/protocol.py and can be traced by JAX. Same letters; d is the latent size.
"""

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.generators.base import WPlus
from panda_jax.generators.protocol import State


class LinearGenerator:
  """X = X0 + sum_l J_l w_l, with w = z Q on every row: the image's Jacobian and the covariance Q'Q of w are known.

  Layer 1 is the image itself, with its channels.

  Args:
    jacobian: (h, w, channels, d) for latents that are arrays (N, d) (a generator without mapping network, w = z), or
      (L, h, w, channels, d) for w+ latents of L rows.
    offset: X0 (h, w, channels), 0 if left out.
    mapping: Q (d, d), the identity if left out; w+ latents only.
  """

  family, num_classes = 'planted', 0

  def __init__(self, jacobian, offset=None, mapping=None):
    self.jacobian = np.asarray(jacobian, np.float32)
    self.rows = len(self.jacobian) if self.jacobian.ndim == 5 else 0
    h, w, self.image_channels, self.z_dim = self.jacobian.shape[-4:]
    self.w_dim = self.z_dim if self.rows else 0
    self.resolution = h
    self.layers = {1: (self.image_channels, h, w)}
    self.offset = (
      np.zeros((h, w, self.image_channels), np.float32) if offset is None else np.asarray(offset, np.float32)
    )
    self.mapping_matrix = np.eye(self.z_dim, dtype=np.float32) if mapping is None else np.asarray(mapping, np.float32)

  def mapping(self, z, labels=None):
    return jnp.asarray(z, jnp.float32) @ self.mapping_matrix

  def map(self, z, labels=None, truncation=1.0, truncation_layers=None):
    if not self.rows:
      return jnp.asarray(z, jnp.float32)
    w = self.mapping(z) * truncation
    return WPlus(jnp.broadcast_to(w[:, None], (len(w), self.rows, self.w_dim)))

  def __call__(self, latents, noise='const'):
    if self.rows:
      X = jnp.einsum('lhwcd,nld->nhwc', self.jacobian, latents.wplus)
    else:
      X = jnp.einsum('hwcd,nd->nhwc', self.jacobian, latents)
    return X + self.offset[None]

  def run_to(self, latents, layer, noise='const'):
    return State(self(latents))

  def run_from(self, latents, state, layer, noise='const', drop_rgb=False):
    return state.features

  def sample(self, key, n):
    return jax.random.normal(key, (n, self.z_dim)), None


def random_jacobian(size=8, d=6, rows=0, seed=0):
  """A Jacobian (size, size, 3, d), or with rows in front, whose singular values are apart."""
  rng = np.random.default_rng(seed)
  values = np.linspace(2, 1, d)
  return rng.standard_normal((*((rows,) if rows else ()), size, size, 3, d)) * values / size


class PartsGenerator:
  """Parts of a grid in colours: layer 1 has features Z = P core(z), and channel c paints with a spread of its own.

  The four parts are the quadrants of the grid, the latents are the core (parts x channels, flattened), and

    X = f( sum_c gain_c(z) (K_c Z[:, c]) colour_c' ),

  where K_c (h*w, S) is nearest up-sampling followed by a Gaussian blur of width `spreads[c]` pixels. A channel of
  spread 0 changes nothing outside of the part it is added to; the wider, the more leaks.

  Args:
    spreads: (C,), one width per channel.
    colours: (C, 3); random unit vectors if left out.
    uneven: strength of the gains exp(uneven z_c), c-th entry of the latents: 0 makes all samples alike.
    saturation: f is limit tanh(x / limit), or the identity for None.
    cells, size: H = W of the grid and h = w of the image, a multiple.
  """

  family, num_classes, w_dim = 'planted', 0, 0

  def __init__(self, spreads, colours=None, uneven=0.0, saturation=None, cells=8, size=16, seed=0):
    rng = np.random.default_rng(seed)
    C = len(spreads)
    self.colours = rng.standard_normal((C, 3)) if colours is None else np.asarray(colours, np.float64)
    self.colours /= np.linalg.norm(self.colours, axis=1, keepdims=True)
    self.uneven, self.saturation = uneven, saturation
    self.resolution, self.image_channels, self.z_dim = size, 3, 4 * C
    self.layers = {1: (C, cells, cells)}
    half = np.arange(cells) >= cells // 2
    quadrants = 2 * half[:, None] + half[None, :]
    self.parts = (quadrants.reshape(-1, 1) == np.arange(4)[None]).astype(np.float64)
    times = size // cells
    up = np.kron(np.eye(cells), np.ones((times, 1)))
    self.painters = np.stack([np.kron(*2 * (_blur(size, width) @ up,)) for width in spreads])

  def region(self, part):
    """(h, w) bool: the pixels of a part."""
    times = self.resolution // int(np.sqrt(len(self.parts)))
    cells = self.parts[:, part].reshape(self.resolution // times, -1) > 0
    return np.kron(cells, np.ones((times, times))) > 0

  def jacobian(self, mask):
    """(h, w, 3, C) float64: what mask (S,) times a unit vector adds to the image, at gain 1 and no saturation."""
    painted = self.painters @ np.asarray(mask, np.float64)
    h = self.resolution
    return np.einsum('cx,ck->xkc', painted, self.colours).reshape(h, h, 3, -1)

  def gains(self, latents):
    return jnp.exp(self.uneven * latents[:, : self.layers[1][0]])

  def map(self, z, labels=None, truncation=1.0, truncation_layers=None):
    return jnp.asarray(z, jnp.float32)

  def run_to(self, latents, layer, noise='const'):
    C, H, W = self.layers[1]
    core = latents.reshape(-1, 4, C)
    return State(jnp.einsum('sk,nkc->nsc', self.parts.astype(np.float32), core).reshape(-1, H, W, C))

  def run_from(self, latents, state, layer, noise='const', drop_rgb=False):
    C, H, W = self.layers[1]
    Z = state.features.reshape(-1, H * W, C) * self.gains(latents)[:, None]
    painters, colours = (x.astype(np.float32) for x in (self.painters, self.colours))
    X = jnp.einsum('cxs,nsc,ck->nxk', painters, Z, colours)
    if self.saturation is not None:
      X = self.saturation * jnp.tanh(X / self.saturation)
    return X.reshape(len(X), self.resolution, self.resolution, 3)

  def __call__(self, latents, noise='const'):
    return self.run_from(latents, self.run_to(latents, 1), 1)

  def sample(self, key, n):
    return jax.random.normal(key, (n, self.z_dim)), None


def _blur(size, width):
  """(size, size), rows that sum to 1: a Gaussian of this width in pixels."""
  if not width:
    return np.eye(size)
  distance = np.arange(size)[:, None] - np.arange(size)[None]
  weights = np.exp(-0.5 * (distance / width) ** 2)
  return weights / weights.sum(axis=1, keepdims=True)


class PairsGenerator(PartsGenerator):
  """Planted pairs of a part and a channel act inside the part, alike in all samples; other pairs leak and vary in sign.

  Channel c added at part k paints its colour inside the part alone for planted pairs (k, c). Elsewhere it paints half
  as strongly with a blur of width `leak`, with the sign of the c-th latent. Channels in `silent` paint nothing.

  Args:
    planted: pairs (k, c).
    channels: C.
    silent: channels.
    leak: pixels.
    cells, size, seed: as of PartsGenerator.
  """

  def __init__(self, planted, channels=6, silent=(), leak=6.0, cells=8, size=32, seed=0):
    super().__init__([0.0] * channels, saturation=1.5, cells=cells, size=size, seed=seed)
    leaking = PartsGenerator([leak] * channels, cells=cells, size=size).painters / 2
    alike = np.zeros((channels, 1, len(self.parts)), bool)
    for k, c in planted:
      alike[c, 0] |= self.parts[:, k] > 0
    heard = ~np.isin(np.arange(channels), list(silent)).reshape(-1, 1, 1)
    self.own, self.others = self.painters * (alike & heard), leaking * (~alike & heard)

  def run_from(self, latents, state, layer, noise='const', drop_rgb=False):
    C, H, W = self.layers[1]
    Z = state.features.reshape(-1, H * W, C)
    signs = jnp.where(latents[:, :C] > 0, 1.0, -1.0)
    own, others, colours = (x.astype(np.float32) for x in (self.own, self.others, self.colours))
    X = jnp.einsum('cxs,nsc,ck->nxk', own, Z, colours)
    X = X + jnp.einsum('cxs,nsc,nc,ck->nxk', others, Z, signs, colours)
    X = self.saturation * jnp.tanh(X / self.saturation)
    return X.reshape(len(X), self.resolution, self.resolution, 3)
