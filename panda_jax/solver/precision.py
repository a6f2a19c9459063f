"""Small matrices, R x R, S x S or C x C: their dtype and their products."""

import jax
import jax.numpy as jnp

HIGHEST = jax.lax.Precision.HIGHEST


def small_dtype() -> jnp.dtype:
  """The dtype of the small matrices: float64 where the caller has enabled it, else float32."""
  return jax.dtypes.canonicalize_dtype(jnp.float64)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """Matrix product at full precision: rounding small matrices would save too little."""
  return jnp.matmul(a, b, precision=HIGHEST)


def vdot(a: jax.Array, b: jax.Array) -> jax.Array:
  """Inner product of arrays of one shape; the compiler would make four kernels of a sum of products."""
  return jnp.vdot(a, b, precision=HIGHEST)
