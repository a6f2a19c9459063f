"""How much the compiler optimises the programs of a fit: on CPUs full optimisation takes longer than most fits run.

The options do not change what is computed, only how soon it begins and how fast it runs.
"""

import jax

from panda_jax.runtime.compatibility import simple_kernels

# Without optimisation, problems up to these sizes run for less time than the optimisation takes: about 2000 steps with
# this many entries of the parts, and about 50 with this many entries of the parts' products with the data.
SMALL_PARTS, SMALL_PRODUCTS = 1000, 100_000


def compiler_options(samples: int, positions: int, channels: int, parts: int) -> dict[str, str | bool]:
  """Compiler options for the programs of a fit of N, S, C and R_S on the devices that there are.

  On CPUs nearly all time goes into matrix products, which are library calls and not compiled. XLA's newer kernels and
  optimisation above the first level take half of the compiler's time and gain nothing.
  """
  if jax.default_backend() != 'cpu':
    return {}
  small = positions * parts <= SMALL_PARTS and samples * channels * parts <= SMALL_PRODUCTS
  return simple_kernels() | {'xla_backend_optimization_level': '0' if small else '1'}
