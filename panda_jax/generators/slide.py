"""Sliding a small filter over maps: a primitive, so that both kinds of derivative are as fast as the filter itself.

XLA makes one loop of a plain sum of shifted slices. But the transpose that JAX derives for that sum is a sum of padded
arrays, which XLA stores one by one: for the filters of StyleGAN3 at (1, 148, 148, 256) on two CPU cores the gradient
took 2300 ms against 210 for the value. A custom_jvp written with padded arrays has the opposite fault: gradient 290,
Jacobian-vector product 1390. The transpose is a sum of shifted slices too, and this primitive defines it so.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def slide(x: jax.Array, taps: jax.Array, size: tuple[int, int]) -> jax.Array:
  """The sum over a, b of taps[a, b] x[..., a : a + size[0], b : b + size[1], :].

  Args:
    x: (..., H, W, C), at least size + (A - 1, B - 1) large.
    taps: (A, B).
    size: (height, width) of the result.

  Returns:
    (..., *size, C).
  """
  A, B = taps.shape
  if (A, B) == (1, 1):
    return _window(x, 0, 0, size) * taps[0, 0]
  return slide_p.bind(x, taps, size=tuple(map(int, size)))


def _window(x: jax.Array, a: int, b: int, size: tuple[int, int]) -> jax.Array:
  rows = lax.slice_in_dim(x, a, a + size[0], axis=x.ndim - 3)
  return lax.slice_in_dim(rows, b, b + size[1], axis=x.ndim - 2)


def _sum(x, taps, *, size):
  total = None
  for a in range(taps.shape[0]):
    for b in range(taps.shape[1]):
      term = _window(x, a, b, size) * taps[a, b]
      total = term if total is None else total + term
  return total


def _abstract(x, taps, *, size):
  return x.update(shape=(*x.shape[:-3], *size, x.shape[-1]), dtype=np.result_type(x.dtype, taps.dtype))


def _transpose_x(ct, x, taps, *, size):
  A, B = taps.shape
  H, W = x.aval.shape[-3:-1]
  edges = [(0, 0, 0)] * (ct.ndim - 3) + [(A - 1, H - size[0], 0), (B - 1, W - size[1], 0), (0, 0, 0)]
  return slide(lax.pad(ct, jnp.zeros((), ct.dtype), edges), taps[::-1, ::-1], (H, W))


def _transpose_taps(ct, x, taps, *, size):
  A, B = taps.aval.shape
  return jnp.stack([jnp.stack([jnp.sum(_window(x, a, b, size) * ct) for b in range(B)]) for a in range(A)])


def _batched(args, dims, *, size):
  (x, taps), (x_dim, taps_dim) = args, dims
  if taps_dim is None:
    return slide(jnp.moveaxis(x, x_dim, 0), taps, size), 0
  return jax.vmap(lambda x, taps: _sum(x, taps, size=size), in_axes=dims)(x, taps), 0


slide_p = Primitive('slide')
slide_p.def_impl(jax.jit(_sum, static_argnames='size'))
slide_p.def_abstract_eval(_abstract)
ad.defbilinear(slide_p, _transpose_x, _transpose_taps)
batching.primitive_batchers[slide_p] = _batched
mlir.register_lowering(slide_p, mlir.lower_fun(_sum, multiple_results=False))
