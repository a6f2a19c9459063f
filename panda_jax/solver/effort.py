"""How much the compiler works on the programs of a fit: on CPUs that takes longer than most fits run.

Nothing here changes what is computed, only how soon it begins and how fast it runs.
"""

import jax

from panda_jax.runtime.compatibility import simple_kernels

# Problems up to these sizes run, without any optimisation, for less time than optimising them takes: some 2000 steps on
# so many entries of the parts, and some 50 on so many of the parts' products with the data.
SMALL_PARTS, SMALL_PRODUCTS = 1000, 100_000


def compiler_options(samples: int, positions: int, channels: int, parts: int) -> dict[str, str | bool]:
  """What suits the programs of a fit of N, S, C and R_S on the devices that there are.

  On CPUs nearly all time goes into matrix products, which are not compiled but called. XLA's newer kernels and more
  than the first level of optimisation take half of the compiler's time and gain nothing.
  """
  if jax.default_backend() != 'cpu':
    return {}
  small = positions * parts <= SMALL_PARTS and samples * channels * parts <= SMALL_PRODUCTS
  return simple_kernels() | {'xla_backend_optimization_level': '0' if small else '1'}
