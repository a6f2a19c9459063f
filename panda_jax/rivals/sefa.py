"""SeFa (Shen and Zhou 2021, Closed-Form Factorization of Latent Semantics in GANs): directions from weights alone.

A generator first applies an affine map y = A' x + b to its latents, with A (d, m) the weights of m outputs. The unit
vectors n that move y most, with the largest |A' n|, are the eigenvectors of A A', the largest eigenvalue first
(equation 4 of the paper). Before that, each of the m columns is scaled to unit length, as in the published code, so
that the scale of its weights does not matter.

The columns of each family:

  StyleGAN, 2, 3  the style of every layer that a chosen row of w+ drives. In StyleGAN2 the last row stands for the last
                  ToRGB, and the other ToRGBs are left out, as published; in StyleGAN3 and StyleGAN-XL row 0 drives the
                  Fourier input, which is not a layer of the synthesis and is chosen only by name.
  ProGAN, FastGAN the first layer, which gives each of its 16 positions a matrix of its own.
  R3GAN           the scales of its basis.
  BigGAN          the first linear map (0), and the gains and offsets of the conditional batch norms of its l-th block
                  (l; the attention counts, and has none): their columns on z, not on the class. A map that sees only
                  its own piece of z moves only that piece.
  any other       its own `affine_weights()` {name: (d, m)}; without that, the features of its first layer, if a test
                  shows that they are an affine map of the latents.

Letters: d latent size, m columns, k directions.
"""

import functools
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.errors import InputError, NonFiniteError
from panda_jax.generators.structure import plain, split
from panda_jax.rivals.directions import Directions
from panda_jax.rivals.draws import Report, silent
from panda_jax.rivals.movement import checked_rows
from panda_jax.rivals.spectra import first, oriented

# Relative to the largest eigenvalue: smaller ones are rounding, and their directions move nothing.
NOTHING = 1e-10
AFFINE = 1e-4  # relative difference of two Jacobians of an affine map, in float32
COLUMNS = 1 << 22  # most entries of the Jacobian of a user's first layer


def discover(
  generator,
  *,
  layers: Sequence[int] | None = None,
  k: int | None = None,
  normalise: bool = True,
  published: bool = False,
  on_progress: Report = silent,
) -> Directions:
  """The directions that move the first affine maps of a generator most.

  Args:
    generator: of one of our families, or a user's; see the module.
    layers: rows of w+ whose styles are used, and that the directions move; of BigGAN, the maps that are used, while z
      moves in all of them. None for all.
    k: number of directions at most.
    normalise: scale each column to unit length; without it, weights are used at their own scale, gains included. A
      column of zeros, an output that does not depend on the latents, stays zero (the published code divides by zero).
    published: follow the published code: float32, and an eigendecomposition that assumes no symmetry, with the order
      and signs that it returns (the "top k" of that code). Without it, the order is decreasing, and directions that
      move nothing are left out, since their order and sign are arbitrary.
    on_progress: called once.

  Returns:
    Directions of unit length, with strengths in that unit; their score is 'eigenvalue', the squared length of A' n.

  Raises:
    InputError: no such layer, or the generator does not apply an affine map to its latents first.
  """
  generator = plain(generator)
  on_progress('weights', 0, 1)
  weights, space, moved, chosen = _consumers(generator, layers)
  weight = columns(weights, normalise)
  if published:
    values, vectors = np.linalg.eig(weight @ weight.T)
    values, vectors = values.real, vectors.real.T
  else:
    values, vectors = np.linalg.eigh(weight.astype(np.float64) @ weight.astype(np.float64).T)
    values, vectors = values[::-1], oriented(vectors[:, ::-1].T)
    kept = values > NOTHING * values[0]
    values, vectors = values[kept], vectors[kept]
  count = first(k, len(values))
  on_progress('weights', 1, 1)
  provenance = {
    'family': getattr(generator, 'family', type(generator).__name__),
    'weights': chosen,
    'columns': int(weight.shape[1]),
    'normalise': bool(normalise),
    'published': bool(published),
  }
  return Directions(
    method='sefa',
    space=space,
    layers=moved,
    vectors=vectors[:count],
    units=np.ones(count),
    unit='length',
    scores={'eigenvalue': values[:count]},
    provenance=provenance,
  )


def columns(weights: Sequence[np.ndarray], normalise: bool = True) -> np.ndarray:
  """Weights (d, m_i) side by side, (d, m) float32, each column of unit length or zero.

  Raises:
    NonFiniteError: a weight is NaN or infinity.
    InputError: all weights are zero.
  """
  weight = np.concatenate([np.asarray(w, np.float32) for w in weights], axis=1)
  if not np.isfinite(weight).all():
    column = int(np.argwhere(~np.isfinite(weight))[0][1])
    raise NonFiniteError('generator', f'column {column} of its weights', 'not finite', 'check the checkpoint')
  norms = np.linalg.norm(weight, axis=0, keepdims=True)
  if not norms.any():
    raise InputError('generator', 'weights', 'they are all zero, so no direction moves anything', 'train it first')
  return weight / np.where(norms > 0, norms, 1) if normalise else weight


def _consumers(generator, layers):
  """The weights (d, m_i) of the first maps of the latents, their space, the rows that move, and the maps' names."""
  family = getattr(generator, 'family', '')
  if family == 'biggan':
    named = biggan_weights(generator)
    chosen = checked_maps(layers, named)
    return [named[i] for i in chosen], 'z', None, [f'block {i}' if i else 'linear' for i in chosen]
  if not hasattr(generator, 'affine_weights'):
    if layers is not None:
      raise InputError('layers', tuple(layers), 'this generator has one kind of latents for all layers', 'leave it out')
    weight, layer = first_layer(generator)
    return [weight], 'z', None, [f'features of layer {layer}']
  affine = generator.affine_weights()
  if not getattr(generator, 'w_dim', 0):
    names = [list(affine)[i] for i in checked_maps(layers, range(len(affine)))]
    # A label may follow z in the latents; directions must not move it.
    return [affine[name][: generator.z_dim] for name in names], 'z', None, names
  names = _styles_of_rows(affine, family)
  moved = checked_rows(layers, len(names))
  if moved is None and family in ('stylegan3', 'stylegan_xl'):
    moved = tuple(range(1, len(names)))
  picked = [names[row] for row in (range(len(names)) if moved is None else moved)]
  return [affine[name] for name in picked], 'w', moved, picked


def _styles_of_rows(affine: dict, family: str) -> list[str]:
  """For each row of w+ the style that stands for it."""
  names = list(affine)
  if family != 'stylegan2':
    return names
  return [name for name in names if name.startswith('conv')] + [name for name in names if name.startswith('rgb')][-1:]


def checked_maps(layers: Sequence[int] | None, available: Iterable[int]) -> tuple[int, ...]:
  """The maps that are used; all of the available ones for None.

  Raises:
    InputError: there is no such map.
  """
  available = tuple(available)
  if layers is None:
    return available
  wrong = [i for i in layers if i not in available]
  if wrong or not len(layers):
    known = ', '.join(map(str, available))
    raise InputError('layers', wrong[0] if wrong else '()', 'no such map takes the latents', f'give some of {known}')
  return tuple(int(i) for i in layers)


def biggan_weights(generator) -> dict[int, np.ndarray]:
  """{0: (d, m), ...}: the columns on z of the first linear map, 0, and of the batch norms of each block.

  A map that sees only a piece of z has zeros in the other rows; a map that sees no part of z is left out.
  """
  pieces = generator.options.pieces
  weights = {0: (pieces[0], [generator.gen_z[...]])}
  for i, (entry, part) in enumerate(zip(generator.entries, generator.options.parts(), strict=True), 1):
    if part.block is not None and pieces[part.block + 1].stop:
      norms = [getattr(entry, f'bn_{j}') for j in range(4) if hasattr(entry, f'bn_{j}')]
      weights[i] = pieces[part.block + 1], [weight[...] for norm in norms for weight in (norm.scale, norm.offset)]
  found = {}
  for i, (piece, maps) in weights.items():
    seen = np.concatenate([np.asarray(w)[: piece.stop - piece.start] for w in maps], axis=1)
    found[i] = np.zeros((generator.z_dim, seen.shape[1]), seen.dtype)
    found[i][piece] = seen
  return found


def first_layer(generator) -> tuple[np.ndarray, int]:
  """The matrix (d, m) from the latents to the features of the first layer, and the layer, of a user's generator.

  An affine map has the same Jacobian everywhere; two points are compared.

  Raises:
    InputError: the map is not affine, or the latents are not arrays (N, d).
  """
  structure, arrays = split(generator)
  layer = min(generator.layers)
  entries = generator.z_dim * int(np.prod(generator.layers[layer]))
  remedy = 'give its class a method affine_weights() -> {name: (d, m)}: the matrices that the latents go through first'
  name = type(generator).__name__
  if entries > COLUMNS:
    raise InputError('generator', name, f'its layer {layer} is too large to be looked at', remedy)
  latents = generator.map(np.random.RandomState(0).standard_normal((2, generator.z_dim)).astype(np.float32))
  if not hasattr(latents, 'shape') or latents.ndim != 2:
    raise InputError('generator', name, 'it has no weights that latents go through first', remedy)
  here, there = np.asarray(_first_jacobians(structure, arrays, latents, layer))
  if np.abs(here - there).max() > AFFINE * np.abs(here).max():
    raise InputError(
      'generator', name, f'features of its first layer, {layer}, are not an affine map of latents', remedy
    )
  return here.T, layer


@functools.partial(jax.jit, static_argnames=('structure', 'layer'))
def _first_jacobians(structure, arrays, latents: jax.Array, layer: int) -> jax.Array:
  """Jacobians (2, m, d) at two latents (2, d)."""

  def features(x):
    return structure.generator(arrays).run_to(x[None], layer).features.reshape(-1)

  return jnp.stack([jax.jacfwd(features)(x) for x in latents])
