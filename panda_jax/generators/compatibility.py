"""What flax calls otherwise in older versions, as runtime/compatibility.py has it for jax."""

import jax
from flax import nnx

List = getattr(nnx, 'List', list)  # before flax 0.11 plain lists hold modules


def value_of(variable: nnx.Variable) -> jax.Array:
  """The array of a variable."""
  return variable.get_value() if hasattr(variable, 'get_value') else variable.value
