"""Names that differ in older versions of flax; runtime/compatibility.py has those of jax."""

import jax
from flax import nnx

List = getattr(nnx, 'List', list)  # before flax 0.11 plain lists hold modules


def value_of(variable: nnx.Variable) -> jax.Array:
  """The array of a variable."""
  return variable.get_value() if hasattr(variable, 'get_value') else variable.value
