"""The environment of a computation: versions, the precision of small matrices and the threads of LAPACK."""

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterator

import jax
import scipy.linalg  # noqa: F401  loads the LAPACK that JAX calls on a CPU, so that `one_blas_thread` finds it
from threadpoolctl import threadpool_limits

from panda_jax.runtime.compatibility import enable_x64


@contextlib.contextmanager
def small_matrices_in_float64() -> Iterator[None]:
  """Enables float64 in this thread only, and only if the platform has it in hardware or software."""
  if jax.default_backend() == 'tpu':
    yield
  else:
    with enable_x64(True):
      yield


def one_blas_thread() -> contextlib.AbstractContextManager:
  """Keeps LAPACK, which computes JAX's eigendecompositions on a CPU, to one thread.

  Its own threads compete with those of XLA by spinning: on two cores a 96 x 96 eigendecomposition inside a compiled
  loop takes 80 ms with them and 1 ms without.
  """
  return threadpool_limits(1, user_api='blas')


def versions() -> dict[str, str]:
  """Versions on which a result depends."""
  names = ('panda-jax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'orbax-checkpoint')
  found = {'python': platform.python_version()}
  for name in names:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  return found
