"""Builds a generator from the arrays of a family's converter, or lists everything that is wrong with them."""

import dataclasses

import ml_dtypes
import numpy as np

from panda_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Conversion:
  """The result of a family's converter.

  Attributes:
    family: a key of panda_jax.generators.registry.FAMILIES.
    dialect: the code that wrote the file, such as 'genforce'.
    options: the family's options, inferred from the file; None if `problems` prevent that.
    tensors: {target: array}, in the generator's layout; targets are dotted paths in its NNX state.
    sources: {target: key in the file}.
    unused: {key in the file: why it may be left out}.
    problems: everything that is missing, left over or of the wrong shape, each with its key.
    notes: what the user should know about this conversion.
    lacking: what the file does not have, and what replaces it: {'noise': a sentence}.
    mean: how the mean of w was estimated; None if it was not.
  """

  family: str
  dialect: str
  options: object
  tensors: dict[str, np.ndarray]
  sources: dict[str, str]
  unused: dict[str, str] = dataclasses.field(default_factory=dict)
  problems: list[str] = dataclasses.field(default_factory=list)
  notes: list[str] = dataclasses.field(default_factory=list)
  lacking: dict[str, str] = dataclasses.field(default_factory=dict)
  mean: dict | None = None


def type_problem(array: np.ndarray) -> str | None:
  """What is wrong with the type of a stored weight; None if it is floating point."""
  if array.dtype.kind == 'f' or array.dtype == ml_dtypes.bfloat16:
    return None
  return f'numbers of type {array.dtype} where floating point is expected'


def assemble(conversion: Conversion, source: object = 'checkpoint'):
  """The generator with the converted weights, float32.

  Args:
    conversion: from a family's converter.
    source: for the error.

  Raises:
    InputError: lists the first problems of the conversion, and arrays of the generator that are missing, unknown, of
      another shape, not of floating point or not finite, with their keys in the file; and counts the rest.
  """
  import jax
  from flax import nnx

  from panda_jax.generators import registry
  from panda_jax.generators.compatibility import value_of

  problems = list(conversion.problems)
  if conversion.options is None:
    raise _unfit(conversion, source, problems)
  graphdef, state = nnx.split(registry.abstract(conversion.family, conversion.options))
  leaves = {'.'.join(map(str, path)): (path, variable) for path, variable in nnx.to_flat_state(state)}
  # A key with a problem also leaves its target unset; that is not reported again.
  if not conversion.problems:
    problems += [f'nothing sets {target}' for target in leaves if target not in conversion.tensors]
  problems += [f'the generator has no {target}' for target in conversion.tensors if target not in leaves]
  values = {}
  for target, tensor in conversion.tensors.items():
    if target in leaves:
      problem, values[target] = _checked(tensor, value_of(leaves[target][1]).shape)
      if problem:
        key = conversion.sources.get(target, 'of no known source')
        problems.append(f'{key}: {problem} (for {target})')
  if problems:
    raise _unfit(conversion, source, problems)
  flat = [(path, variable.replace(jax.device_put(values.pop(target)))) for target, (path, variable) in leaves.items()]
  return nnx.merge(graphdef, nnx.from_flat_state(flat))


def _unfit(conversion: Conversion, source: object, problems: list[str]) -> InputError:
  return InputError(
    'source',
    source,
    f'not a complete {conversion.family} of the {conversion.dialect} layout',
    'give an unaltered checkpoint of a supported network',
    problems,
  )


def _checked(tensor: np.ndarray, shape: tuple[int, ...]) -> tuple[str | None, np.ndarray | None]:
  """The problem of an array, or the array in float32."""
  problem = type_problem(tensor)
  if problem:
    return problem, None
  if tensor.shape != tuple(shape):
    return f'expected {tuple(shape)}, found {tensor.shape}', None
  with np.errstate(over='ignore', invalid='ignore'):
    value = np.array(tensor, np.float32, order='C')
  wrong = value.size - np.count_nonzero(np.isfinite(value))
  return (f'{wrong} of {value.size} values are not finite' if wrong else None), value
