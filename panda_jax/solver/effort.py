"""How much the compiler works on the programs of a fit: on a CPU it takes longer than most fits run.

Nothing here changes what is computed, only how soon it begins and how fast it runs.
"""

import dataclasses

import jax

from panda_jax.runtime.compatibility import simple_kernels

# Problems up to these sizes run for less time, without any optimisation, than optimising them takes: some 2000 steps on
# so many entries of the parts, and some 50 on so many of the parts' products with the data.
SMALL_PARTS, SMALL_PRODUCTS = 1000, 100_000


@dataclasses.dataclass(frozen=True)
class Effort:
  """Compiler options, by what a program works on.

  Attributes:
    matrices: small matrices alone. What XLA's newer kernels gain on them is less than the time to make them.
    samples: the data.
  """

  matrices: dict[str, str | bool]
  samples: dict[str, str | bool]


def effort_for(samples: int, positions: int, channels: int, parts: int) -> Effort:
  """What suits N, S, C and R_S on the devices that there are."""
  if jax.default_backend() != 'cpu':
    return Effort({}, {})
  if positions * parts <= SMALL_PARTS and samples * channels * parts <= SMALL_PRODUCTS:
    least = simple_kernels() | {'xla_backend_optimization_level': '0'}
    return Effort(least, least)
  return Effort(simple_kernels(), {})
