"""The families by name, and their options to and from JSON. A family's module is imported when first used."""

import dataclasses
import importlib
from typing import Any, NamedTuple

import jax
from flax import nnx

from panda_jax.errors import InputError
from panda_jax.generators import bounds
from panda_jax.runtime.compatibility import enable_x64


class Family(NamedTuple):
  """Where the code of a family is: its module, its generator class, and the dataclass of its options."""

  module: str
  generator: str
  options: str


FAMILIES = {
  'progan': Family('panda_jax.generators.progan', 'ProGAN', 'ProGANOptions'),
  'stylegan': Family('panda_jax.generators.stylegan', 'StyleGAN', 'StyleGANOptions'),
  'stylegan2': Family('panda_jax.generators.stylegan2', 'StyleGAN2', 'StyleGAN2Options'),
  'stylegan3': Family('panda_jax.generators.stylegan3', 'StyleGAN3', 'StyleGAN3Options'),
  'stylegan_xl': Family('panda_jax.generators.stylegan_xl', 'StyleGANXL', 'StyleGANXLOptions'),
  'biggan': Family('panda_jax.generators.biggan', 'BigGAN', 'BigGANOptions'),
  'r3gan': Family('panda_jax.generators.r3gan', 'R3GAN', 'R3GANOptions'),
  'fastgan': Family('panda_jax.generators.fastgan', 'FastGAN', 'FastGANOptions'),
}


def _imported(family: str, attribute: str) -> type:
  if not isinstance(family, str) or family not in FAMILIES:
    raise InputError('family', family, 'no such family is known', f'give one of {", ".join(FAMILIES)}')
  entry = FAMILIES[family]
  return getattr(importlib.import_module(entry.module), getattr(entry, attribute))


def generator_class(family: str) -> type:
  """The generator class of a family; raises InputError for an unknown one."""
  return _imported(family, 'generator')


def options_class(family: str) -> type:
  """The options dataclass of a family; raises InputError for an unknown one."""
  return _imported(family, 'options')


def options_to_json(options: Any) -> dict[str, Any]:
  """The options as a dict for json.dumps; tuples become lists."""

  def plain(value):
    return [plain(item) for item in value] if isinstance(value, tuple) else value

  return {field.name: plain(getattr(options, field.name)) for field in dataclasses.fields(options)}


def options_from_json(family: str, values: dict[str, Any]) -> Any:
  """The options from the result of `options_to_json`; lists become tuples.

  Raises:
    InputError: unknown family; keys that are not exactly the family's (only newer ones have defaults, bounds.LATER); a
      value of another type, or outside the range of published networks.
  """
  cls = options_class(family)
  if not isinstance(values, dict):
    raise InputError('options', type(values).__name__, 'hyper-parameters are a dict', 'give {name: value}')
  names = [field.name for field in dataclasses.fields(cls)]
  later = [field.name for field in dataclasses.fields(cls) if field.metadata == bounds.LATER]
  missing = [name for name in names if name not in values and name not in later]
  unknown = [name for name in values if name not in names]
  if missing or unknown:
    problems = [f'{", ".join(missing)} missing'] * bool(missing)
    problems += [f'{", ".join(map(str, unknown))} unknown'] * bool(unknown)
    raise InputError('options', family, ' and '.join(problems), f'{cls.__name__} has {", ".join(names)}')

  def frozen(value, depth=2):  # options are no deeper; deeper values stay lists, which the check refuses
    return tuple(frozen(item, depth - 1) for item in value) if depth and isinstance(value, list | tuple) else value

  options = cls(**{name: frozen(value) for name, value in values.items()})
  bounds.check(options)
  return options


def _made(family: str, options: Any, rngs: nnx.Rngs) -> Any:
  if isinstance(options, dict):
    options = options_from_json(family, options)
  with enable_x64(False):  # weights and draws are those of float32, also in a program that has switched x64 on
    return generator_class(family)(options, rngs=rngs)


def create(family: str, options: Any, rngs: nnx.Rngs | None = None) -> Any:
  """A generator with random weights, float32.

  Args:
    family: a key of `FAMILIES`.
    options: the family's options dataclass, or the dict of `options_to_json`.
    rngs: where the random weights come from; seed 0 by default.

  Raises:
    InputError: unknown family, wrong option names, or options that the family refuses.
  """
  return _made(family, options, nnx.Rngs(0) if rngs is None else rngs)


class _Keys:
  """Stands for nnx.Rngs where no number is drawn: counting draws takes time quadratic in their number."""

  def params(self) -> jax.Array:
    return jax.random.key(0)


def abstract(family: str, options: Any) -> Any:
  """The generator with shapes in place of arrays, at no cost: `nnx.eval_shape` of `create`."""
  return nnx.eval_shape(lambda: _made(family, options, _Keys()))
