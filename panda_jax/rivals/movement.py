"""Moves a generator's latents along a direction, in the spaces of Directions, in compiled calls.

Letters: N samples, d latent size, L rows of w+.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from panda_jax.errors import InputError
from panda_jax.generators.base import WPlus
from panda_jax.generators.structure import plain, split
from panda_jax.generators.stylegan2 import Styles


def style_sizes(generator) -> list[tuple[str, int]]:
  """[('conv0', C), ('rgb0', C), ...]: name and length of each style, in the order in which space 's' holds them."""
  if not hasattr(generator, 'styles'):
    family = getattr(generator, 'family', type(generator).__name__)
    raise InputError('space', 's', f'{family} has no style space', 'use a StyleGAN2')
  return [(name, weight.shape[1]) for name, weight in generator.affine_weights().items()]


def latent_space(generator) -> tuple[str, int]:
  """The space that the generator's latents are in and its size d: ('w', w_dim) or ('z', z_dim)."""
  if getattr(generator, 'w_dim', 0):
    return 'w', generator.w_dim
  return 'z', generator.z_dim


def flat_styles(generator, styles: Styles) -> jax.Array:
  """Styles as rows (N, d), in the order of `style_sizes`."""
  kinds = {'c': iter(styles.convs), 'r': iter(styles.rgbs)}
  return jnp.concatenate([next(kinds[name[0]]) for name, _ in style_sizes(generator)], axis=1)


def styles_from(generator, rows: jax.Array) -> Styles:
  """The inverse of `flat_styles`."""
  sizes = style_sizes(generator)
  pieces = jnp.split(rows, np.cumsum([size for _, size in sizes])[:-1].tolist(), axis=1)
  named = list(zip(sizes, pieces, strict=True))
  convs, rgbs = (tuple(piece for (name, _), piece in named if name[0] == kind) for kind in 'cr')
  return Styles(convs, rgbs)


def checked_rows(rows: Sequence[int] | None, count: int) -> tuple[int, ...] | None:
  """Rows of w+ that exist; None for all.

  Raises:
    InputError: a row does not exist.
  """
  if rows is None:
    return None
  wrong = [row for row in rows if not 0 <= int(row) < count]
  if wrong or not len(rows):
    problem = f'there are {count} rows of w+' if wrong else 'no row would move'
    raise InputError('layers', wrong[0] if wrong else '()', problem, f'give rows from 0 to {count - 1}')
  return tuple(int(row) for row in rows)


def moved(generator, latents, space: str, layers: Sequence[int] | None, step: jax.Array):
  """Latents of N samples plus a step (d,) or (N, d) in a space; traceable.

  Args:
    latents: as of `generator.map`.
    space: 'w', 'z' or 's'.
    layers: the rows of w+ that move; None for all.

  Raises:
    InputError: the generator's latents are not in that space.
  """
  step = jnp.atleast_2d(jnp.asarray(step))
  if space == 's':
    rows = flat_styles(generator, generator.styles(latents))
    return styles_from(generator, rows + step.astype(rows.dtype))
  if space == 'w':
    if not isinstance(latents, WPlus):
      raise InputError('space', 'w', f'latents are {type(latents).__name__}, not w+', "move in 'z'")
    wplus = latents.wplus
    chosen = checked_rows(layers, wplus.shape[1])
    moves = np.zeros(wplus.shape[1], np.float32)
    moves[list(chosen) if chosen is not None else slice(None)] = 1
    return latents.replace(wplus=wplus + (moves[None, :, None] * step[:, None, :]).astype(wplus.dtype))
  if isinstance(latents, WPlus):
    raise InputError('space', 'z', 'a mapping network follows z', "move in 'w', or map other z")
  if hasattr(latents, 'z'):  # BigGAN
    return latents.replace(z=latents.z + step.astype(latents.z.dtype))
  columns = latents.shape[1] - step.shape[1]  # a labelled ProGAN has its label after z
  return latents + jnp.pad(step.astype(latents.dtype), ((0, 0), (0, columns)))


class Mover:
  """Images of latents moved along a direction; step and strength are arguments of the compiled call.

  Args:
    generator: of one of our families, plain or `Compiled`, or any object with the methods of the protocol that JAX can
      trace.
    space, layers: as in Directions.
    noise: 'const' or 'none'.
  """

  def __init__(self, generator, space: str, layers: Sequence[int] | None = None, noise: str = 'const'):
    self.generator = plain(generator)
    self.space, self.layers = space, layers
    structure, self._arrays = split(self.generator)

    def images(arrays, latents, step, alpha):
      generator = structure.generator(arrays)
      steps = jnp.atleast_1d(alpha)[:, None] * jnp.atleast_2d(step)
      return generator(moved(generator, latents, space, layers, steps), noise=noise)

    self._images = jax.jit(images)

  def images(self, latents, step: np.ndarray, alpha) -> jax.Array:
    """(N, h, w, channels) of latents moved by alpha step.

    Args:
      latents: of N samples, as of `generator.map`.
      step: (d,), or (N, d).
      alpha: a number, or (N,).
    """
    alpha = np.asarray(alpha, np.float32)
    return self._images(self._arrays, latents, np.asarray(step, np.float32), alpha)

  def compilations(self) -> int:
    """Number of compilations so far."""
    return self._images._cache_size()
